"""Exported templates: four files, read back equal, every number recomputed."""

import json
from pathlib import Path
from typing import Any, cast

import networkx as nx
import pytest

from nas.config import Candidate, NetworkConfig
from nas.cost import predict_cost
from nas.export import export_pattern
from search_spaces.budget import Budget
from search_spaces.distance import describe
from search_spaces.files import read_pattern
from search_spaces.pattern import ConnectionPattern
from search_spaces.sampling import derive_generator, sample_uniform
from search_spaces.templates import find_template

NETWORK = NetworkConfig(layers=7, blocks=2, growth=6, bottleneck=True, image=(3, 16, 12), classes=5)
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
    assert set(written) == set(NetworkConfig.model_fields)
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
