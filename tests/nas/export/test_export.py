"""Exported templates: read back equal, every number recomputed, and nothing is written that disagrees."""

import json
import math
import sys
from pathlib import Path
from typing import Any, cast

import networkx as nx
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from nas.export.export import export_folder, export_pattern
from nas.export.manifest import FILES, MANIFEST, read_manifest
from nas.export.verify import verify_folder
from nas.model.candidate import Candidate
from nas.model.config import NetworkConfig
from nas.model.cost import predict_cost
from nas.model.network import build_skip_network
from nas.records.template import read_pattern
from search_spaces.budget import Budget
from search_spaces.distance import describe
from search_spaces.errors import ConflictError, InputError, NothingUsableError
from search_spaces.pattern import ConnectionPattern
from search_spaces.sampling.draw import sample_uniform
from search_spaces.seeds import derive_generator
from search_spaces.templates import find_template
from tests.support import exported

NETWORK = NetworkConfig(layers=7, blocks=2, growth=6, layer="bottleneck", image=(3, 16, 12), classes=5)
PROVENANCE = {"name": None, "run": "näme", "trial": 3, "value": 0.5}
RANDOM = sample_uniform(Budget(7, total=13), derive_generator("export"))


def export(folder: Path, pattern: ConnectionPattern = RANDOM, **changes: Any) -> dict[str, Any]:
    """Export with some arguments changed; the JSON that was written."""
    arguments: dict[str, Any] = {"network": NETWORK, "budget": "total:13", "provenance": PROVENANCE, **changes}
    path, *_ = export_pattern(pattern, folder=folder, **arguments)
    return cast("dict[str, Any]", json.loads(path.read_text(encoding="utf-8")))


def test_four_files_in_a_folder_named_by_the_key(tmp_path: Path) -> None:
    paths = export_pattern(RANDOM, NETWORK, "total:13", PROVENANCE, tmp_path / "templates")
    folder = tmp_path / "templates" / RANDOM.key[:12]
    assert paths == [folder / f"template.{ending}" for ending in ("json", "graphml", "dot", "svg")]
    assert sorted(tmp_path.rglob("*.*")) == sorted(paths)
    assert all(path.stat().st_size > 0 for path in paths)


def test_json_holds_exactly_the_agreed_parts(tmp_path: Path) -> None:
    written = export(tmp_path)
    assert set(written) == {
        "schema",
        "version",
        "key",
        "layers",
        "sources",
        "budget",
        "network",
        "distances",
        "costs",
        "certificate",
        "provenance",
        "graph",
    }
    assert (written["schema"], written["version"]) == ("skipsearch/template", 1)
    assert (written["key"], written["layers"], written["budget"]) == (RANDOM.key, 7, "total:13")
    assert written["sources"] == [list(inputs) for inputs in RANDOM.sources]
    assert written["provenance"] == PROVENANCE


@pytest.mark.parametrize("name", ["chain", "log", "dense", "midpoint"])
@pytest.mark.parametrize("depth", [1, 7, 24])
def test_what_is_written_reads_back_equal(name: str, depth: int, tmp_path: Path) -> None:
    pattern = find_template(name).build(depth)
    budget = f"total:{pattern.n_connections}"
    paths = export_pattern(pattern, NetworkConfig(layers=depth), budget, {"name": name}, tmp_path)
    assert read_pattern(paths[0]) == pattern


def test_distances_and_costs_are_recomputed_under_their_names(tmp_path: Path) -> None:
    written = export(tmp_path)
    cost = predict_cost(Candidate(RANDOM, NETWORK, seed=0))
    assert written["costs"] == {"params": cost.params, "flops": cost.flops}
    assert {"layers": 7, **written["distances"]} == describe(RANDOM)
    assert written["distances"]["connections"] == 13


def test_the_network_is_written_whole(tmp_path: Path) -> None:
    written = export(tmp_path)["network"]
    # Left out where they are as older versions knew them.
    new = {"layer", "merge", "drop_layers", "drop_path", "surroundings", "exits", "exit_loss"}
    assert set(written) == set(NetworkConfig.model_fields) - new | {"bottleneck"}
    assert NetworkConfig.model_validate(written) == NETWORK


def test_costs_follow_the_network_and_the_rule_of_the_named_template(tmp_path: Path) -> None:
    pattern = find_template("midpoint").build(7)
    ruled = NETWORK.model_copy(update={"transition": "rule"})
    written = [
        export(tmp_path / str(number), pattern, network=network, provenance={"name": "midpoint"})["costs"]
        for number, network in enumerate((NETWORK, ruled, NETWORK.model_copy(update={"growth": 7})))
    ]
    assert len({costs["params"] for costs in written}) == 3
    cost = predict_cost(Candidate(pattern, ruled, seed=0, template="midpoint"))
    assert written[1] == {"params": cost.params, "flops": cost.flops}


def test_the_graph_is_node_link_data_of_the_pattern(tmp_path: Path) -> None:
    written = export(tmp_path)["graph"]
    graph = nx.node_link_graph(written, edges="edges")
    assert graph.is_directed()
    assert not graph.is_multigraph()
    assert list(graph.nodes) == list(range(8))
    assert set(graph.edges) == {(s, t) for t, inputs in enumerate(RANDOM.sources, start=1) for s in inputs}
    assert nx.utils.graphs_equal(graph, RANDOM.graph())
    assert all(edge["source"] < edge["target"] for edge in written["edges"])


def test_companions_hold_the_same_connections(tmp_path: Path) -> None:
    _, graphml, dot, svg = export_pattern(RANDOM, NETWORK, "total:13", {"name": "my name"}, tmp_path)
    expected = set(RANDOM.connections)
    assert {(int(s), int(t)) for s, t in nx.read_graphml(graphml).edges} == expected
    lines = [line.strip(" ;").split(" -> ") for line in dot.read_text(encoding="utf-8").splitlines() if "->" in line]
    assert {(int(source), int(target)) for source, target in lines} == expected
    assert "my name" in svg.read_text(encoding="utf-8")


def test_exporting_again_writes_the_same_bytes(tmp_path: Path) -> None:
    first = [path.read_bytes() for path in export_pattern(RANDOM, NETWORK, "total:13", PROVENANCE, tmp_path)]
    again = [path.read_bytes() for path in export_pattern(RANDOM, NETWORK, "total:13", PROVENANCE, tmp_path)]
    assert first == again
    assert len(list(tmp_path.rglob("*.*"))) == 4


# --- folders -----------------------------------------------------------------------------------------------------


def test_a_folder_holds_all_forms_and_says_what_is_known(exported_folder: Path) -> None:
    assert {path.name for path in exported_folder.iterdir()} == {*FILES, MANIFEST}
    assert len({path.stat().st_mode for path in exported_folder.iterdir()}) == 1  # whoever reads one reads all
    manifest = read_manifest(exported_folder)
    assert set(manifest.files) == set(FILES)
    assert manifest.measured == exported.MEASURED
    assert (manifest.weights, manifest.key[:12]) == ("trained", exported_folder.name)
    assert {"python", "torch", "onnx", "onnxruntime", "skipsearch", "commit"} <= set(manifest.versions)
    readme = (exported_folder / "README.md").read_text()
    for word in ("model.py", "model.safetensors", "model.onnx", "model.pt2", "verify", "test_accuracy 0.875"):
        assert word in readme


def test_the_probe_is_what_another_network_library_user_would_compute(exported_folder: Path) -> None:
    probe = read_manifest(exported_folder).probe
    network = build_skip_network(exported.CANDIDATE)
    network.load_state_dict(load_file(exported_folder / "model.safetensors"))
    images = torch.tensor(exported.make_images_again(probe.seed, probe.shape)).reshape(probe.shape)
    with torch.no_grad():
        logits = network.eval()(images)
    torch.testing.assert_close(logits, torch.tensor(probe.logits), rtol=0, atol=1e-6)


def test_without_archives_and_weights_it_is_the_initial_network(tmp_path: Path) -> None:
    done = exported.export(tmp_path, weights=None, archives=False, measured=None)
    assert done.folder == tmp_path / exported.CANDIDATE.pattern.key[:12]
    assert sorted(done.paths) == sorted(done.folder.iterdir())
    assert {path.name for path in done.paths} == {*FILES, MANIFEST} - {"model.safetensors", "model.onnx", "model.pt2"}
    assert done.paths[0].name == "template.json"
    assert read_manifest(done.folder).weights == "initial"
    assert "No trained weights" in (done.folder / "README.md").read_text()


def test_a_later_export_replaces_the_folder_whole(tmp_path: Path) -> None:
    first = exported.export(tmp_path, archives=False)
    (first.folder / "notes.txt").write_text("mine")
    contents = {path.name: path.read_bytes() for path in first.paths}
    again = exported.export(tmp_path, archives=False)
    assert {path.name: path.read_bytes() for path in again.paths} == contents
    third = exported.export(tmp_path, weights=None, archives=False)
    assert {path.name for path in third.folder.iterdir()} == {path.name for path in third.paths} | {"notes.txt"}
    assert not (third.folder / "model.safetensors").exists()
    assert list(tmp_path.iterdir()) == [third.folder]


def test_what_a_user_changed_in_the_folder_and_hidden_folders_beside_it_are_kept(tmp_path: Path) -> None:
    photos = tmp_path / ".photos.2999998.new" / "one.jpg"
    photos.parent.mkdir()
    photos.write_text("mine")
    first = exported.export(tmp_path, weights=None, archives=False)
    (first.folder / "model.py").write_text("my changes")
    (first.folder / "model.safetensors").write_bytes(b"my weights")
    again = exported.export(tmp_path, archives=False)
    names = {path.name for path in again.paths}
    assert {path.name for path in again.folder.iterdir()} == names | {"model.py.kept", "model.safetensors.kept"}
    assert (again.folder / "model.py.kept").read_text() == "my changes"
    assert (again.folder / "model.safetensors.kept").read_bytes() == b"my weights"
    assert photos.read_text() == "mine"
    assert verify_folder(again.folder).false == {}


def test_a_patterns_files_do_not_replace_an_exported_network_or_a_users_files(tmp_path: Path) -> None:
    config = NetworkConfig(layers=2)
    pattern = exported.CANDIDATE.pattern
    done = exported.export(tmp_path / "network", archives=False)
    with pytest.raises(ConflictError, match=str(done.folder)):
        export_pattern(pattern, config, "log", {"name": None}, tmp_path / "network")
    assert verify_folder(done.folder).false == {}
    for name in ("template.json", "template.svg"):
        mine = tmp_path / name / pattern.key[:12] / name
        mine.parent.mkdir(parents=True)
        mine.write_text("mine")
        with pytest.raises(ConflictError, match=str(mine)):
            export_pattern(pattern, config, "log", {"name": None}, tmp_path / name)
        assert [path.read_text() for path in mine.parent.iterdir()] == ["mine"]


def test_without_onnx_all_else_is_exported_and_the_way_to_get_it_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    done = exported.export(tmp_path)
    assert done.notes == [
        "onnxscript is not installed, so there is no model.onnx: pip install onnx onnxruntime onnxscript"
    ]
    assert {path.name for path in done.folder.iterdir()} == {*FILES, MANIFEST} - {"model.onnx"}
    assert "model.onnx" not in (done.folder / "README.md").read_text()
    assert verify_folder(done.folder).false == {}


def test_the_command_without_onnx_exits_with_0_and_says_how_to_get_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from run_search import app

    monkeypatch.setitem(sys.modules, "onnx", None)
    arguments = ["export", "--template", "chain", "--layers", "2", "--to", str(tmp_path)]
    with pytest.raises(SystemExit) as ended:
        app(arguments)
    assert ended.value.code == 0
    said = capsys.readouterr().out
    assert "onnx is not installed, so there is no model.onnx: pip install onnx onnxruntime onnxscript" in said
    assert "model.pt2" in said


def wrong(images: Tensor) -> Tensor:
    """A form whose logits are another network."""
    return torch.zeros(len(images), exported.NETWORK.classes)


@pytest.mark.parametrize("form", ["model.py", "model.pt2", "model.onnx"])
def test_a_form_that_disagrees_leaves_nothing(form: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old = exported.export(tmp_path, archives=False)
    contents = {path: path.read_bytes() for path in old.folder.iterdir()}
    monkeypatch.setattr("nas.export.archives.trace_network", lambda *_: None)
    for name in ("write_pt2", "write_onnx"):
        monkeypatch.setattr(f"nas.export.archives.{name}", lambda _, path: path.write_bytes(b"half"))
    right = build_skip_network(exported.CANDIDATE).eval()
    right.load_state_dict(exported.make_weights(exported.CANDIDATE))
    loaders = {"model.py": "agreement.load_model", "model.pt2": "archives.load_pt2", "model.onnx": "archives.load_onnx"}
    for name, loader in loaders.items():
        given = wrong if name == form else right
        monkeypatch.setattr(f"nas.export.{loader}", lambda *_, given=given: given)
    with pytest.raises(NothingUsableError, match=f"{form} as read back is not the exported network.*off by"):
        exported.export(tmp_path)
    assert {path: path.read_bytes() for path in old.folder.iterdir()} == contents
    assert list(tmp_path.iterdir()) == [old.folder]


@pytest.mark.parametrize(
    ("changes", "error", "said"),
    [
        ({"measured": {"accuracy": math.nan}}, InputError, "cannot be written as JSON"),
        ({"measured": {"accuracy": {1}}}, InputError, "cannot be written as JSON"),
        ({"weights": {}}, InputError, "another network"),
    ],
)
def test_what_cannot_be_exported_is_refused(
    changes: dict[str, Any], error: type[Exception], said: str, tmp_path: Path
) -> None:
    with pytest.raises(error, match=said):
        exported.export(tmp_path, **changes)
    assert list(tmp_path.iterdir()) == []


def test_weights_that_overflow_are_refused(tmp_path: Path) -> None:
    weights = exported.make_weights(exported.CANDIDATE)
    weights["classifier.weight"].fill_(3e38)
    with pytest.raises((InputError, NothingUsableError)):
        exported.export(tmp_path, weights=weights, archives=False)
    assert list(tmp_path.iterdir()) == []


def test_infinite_logits_are_refused_where_all_forms_agree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nas.export.agreement.find_disagreement", lambda *_: None)
    weights = exported.make_weights(exported.CANDIDATE)
    weights["classifier.weight"].fill_(3e38)
    with pytest.raises(InputError, match="logits that are not finite"):
        exported.export(tmp_path, weights=weights, archives=False)
    assert list(tmp_path.iterdir()) == []


def test_a_file_in_the_way_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / RANDOM.key[:12]).write_text("mine")
    with pytest.raises(ConflictError, match="is a file or a link"):
        export_folder(RANDOM, NETWORK, "total:13", PROVENANCE, tmp_path, archives=False)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "depth", "transition"),
    [("log", 1, "all"), ("midpoint", 24, "rule"), ("log", 24, "last"), ("log", 52, "all")],
)
def test_deep_networks_in_all_forms_agree(name: str, depth: int, transition: str, tmp_path: Path) -> None:
    network = {"layers": depth, "blocks": 3, "growth": 4, "bottleneck": True, "compression": 0.5}
    config = NetworkConfig.model_validate({**network, "transition": transition, "image": [3, 32, 32]})
    candidate = Candidate(find_template(name).build(depth), config, 0, name)
    done = exported.export(tmp_path, candidate, weights=None)
    assert done.notes == []
    assert verify_folder(done.folder, trust=True).false == {}


@pytest.mark.slow
@pytest.mark.parametrize(
    "around",
    [
        {"merge": "sum", "transition": "v1"},
        {"merge": "gated", "layer": "depthwise", "drop_layers": 0.5},
        {"merge": "dwa", "layer": "bottleneck", "transition": "all"},
        {"layer": "depthwise", "drop_path": 0.2},
    ],
    ids=str,
)
def test_networks_of_all_merges_and_layers_agree_in_all_forms(around: dict[str, object], tmp_path: Path) -> None:
    config = NetworkConfig.model_validate({"layers": 6, "blocks": 2, "growth": 4, **around})
    candidate = Candidate(find_template("log").build(config.pattern_depth), config, 0, "log")
    done = exported.export(tmp_path, candidate, weights=None)
    assert done.notes == []
    assert verify_folder(done.folder, trust=True).false == {}
