"""Verification with limits: what fills the memory or never ends is a false claim; folders of templates one by one."""

import json
import shutil
import zipfile
from pathlib import Path

import pytest

from nas.export.apart import find_verifiable, verify_all, verify_apart
from nas.export.export import export_pattern
from nas.export.verify import verify_folder
from nas.model.candidate import Candidate
from nas.model.config import NetworkConfig
from search_spaces.errors import InputError
from search_spaces.templates import find_template
from tests.support.command_line import run_command
from tests.support.exported import export, seal
from tests.support.made_onnx import make_doubling

BYTEARRAY = b"\x80\x02c__builtin__\nbytearray\n\x8a\x05\x00\x00\x00\x00\x05\x85R."  # of 20 GiB, which torch.load makes


@pytest.fixture
def folder(exported_folder: Path, tmp_path: Path) -> Path:
    copy = tmp_path / "stranger" / exported_folder.name
    shutil.copytree(exported_folder, copy)
    return copy


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Verification in this process, where the limits are not the subject."""
    monkeypatch.setattr("nas.export.apart.verify_apart", verify_folder)


def test_another_process_finds_what_this_one_finds(folder: Path) -> None:
    (folder / "stranger.txt").write_text("a note")
    (folder / "template.svg").write_text("forged")
    verified = verify_apart(folder)
    assert verified == verify_folder(folder)
    assert list(verified.false) == ["template.svg"]


@pytest.mark.slow
def test_a_true_folder_is_true_with_limits_too(folder: Path) -> None:
    assert verify_apart(folder) == verify_folder(folder)
    assert verify_apart(folder).false == {}


@pytest.mark.slow
@pytest.mark.ci
def test_what_takes_much_memory_or_long_is_a_false_claim(older_export: Path) -> None:
    folder = older_export
    with zipfile.ZipFile(folder / "weights.pt") as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(folder / "weights.pt", "w", zipfile.ZIP_STORED) as archive:
        for name, content in members.items():
            archive.writestr(name, BYTEARRAY if name.endswith("data.pkl") else content)
    seal(folder)
    assert list(verify_apart(folder).false) == ["memory"]
    assert list(verify_apart(folder, seconds=0).false) == ["time"]


def test_weights_that_count_the_same_bytes_twice_are_refused(older_export: Path) -> None:
    """Entries of an archive can share their bytes: a small file that is large in memory."""
    path = older_export / "weights.pt"
    with zipfile.ZipFile(path, "a", zipfile.ZIP_STORED) as archive:
        name = max(archive.namelist(), key=lambda name: archive.getinfo(name).file_size)
        first = archive.getinfo(name)
        archive.writestr("archive/last", b"")
        for number in range(40):
            twin = zipfile.ZipInfo(f"archive/data/{number + 1000}")
            twin.header_offset, twin.CRC = first.header_offset, first.CRC
            twin.file_size = twin.compress_size = first.file_size
            archive.filelist.append(twin)
    seal(older_export)
    assert list(verify_folder(older_export).false) == ["weights.pt"]


@pytest.mark.slow
def test_a_small_onnx_file_that_doubles_its_shape_is_refused(folder: Path) -> None:
    (folder / "model.onnx").write_bytes(make_doubling(40).SerializeToString())
    seal(folder)
    assert list(verify_apart(folder).false) == ["model.onnx"]


@pytest.mark.slow
@pytest.mark.parametrize("transition", ["all", "log", "last", "rule", "v1", "v2"])
@pytest.mark.parametrize("name", ["dense", "chain"])
def test_no_exported_network_is_taken_for_too_large(name: str, transition: str, tmp_path: Path) -> None:
    sizes = {"layers": 9, "blocks": 2, "growth": 24, "image": (3, 32, 32), "bottleneck": True}
    config = NetworkConfig.model_validate({**sizes, "transition": transition})
    candidate = Candidate(find_template(name).build(config.pattern_depth), config, 0, name)
    assert verify_apart(export(tmp_path, candidate, weights=None).folder).false == {}


@pytest.mark.usefixtures("here")
def test_a_folder_of_templates_is_checked_one_level_deeper(folder: Path) -> None:
    parent = folder.parent
    paths = export_pattern(find_template("chain").build(3), NetworkConfig(layers=3), "total:3", {"name": None}, parent)
    (parent / "notes.txt").write_text("mine")
    (parent / "pictures").mkdir()
    places = find_verifiable(parent)
    assert places == sorted([folder, paths[0].parent])
    found = verify_all(parent, places)
    assert found.false == {}
    assert [sum(name in note for note in found.notes) for name in ("notes.txt", "pictures")] == [1, 1]
    paths[0].write_text(paths[0].read_text().replace('"max_bd": 3', '"max_bd": 2'))
    (folder / "model.py").write_text("forged")
    assert set(verify_all(parent, places).false) == {
        f"{paths[0].parent.name}/distances.max_bd",
        f"{folder.name}/model.py",
    }
    paths[0].write_text("{")
    assert f"{paths[0].parent.name}/template.json" in verify_all(parent, places).false


@pytest.mark.usefixtures("here")
def test_an_exported_folder_without_its_manifest_is_no_folder_of_templates(folder: Path) -> None:
    (folder / "manifest.json").unlink()
    with pytest.raises(InputError, match=str(folder)):
        find_verifiable(folder)
    (name,) = verify_all(folder.parent, find_verifiable(folder.parent)).false
    assert name.startswith(folder.name)
    with pytest.raises(InputError, match=str(folder.parent.parent)):
        find_verifiable(folder.parent.parent)


def test_the_command_checks_a_folder_of_templates(tmp_path: Path) -> None:
    flags = ("--layers", 6, "--cross", "span", "--bins", 1, "--per-cell", 2, "--to", tmp_path / "drawn")
    assert run_command("sample", *flags).returncode == 0
    done = run_command("verify", tmp_path / "drawn")
    assert (done.returncode, done.stderr) == (0, "")
    first = sorted((tmp_path / "drawn").iterdir())[0]
    assert f"score --pattern {first / 'template.json'}" in done.stdout
    (first / "template.json").write_text("{")
    done = run_command("verify", tmp_path / "drawn", "--json")
    assert done.returncode == 2
    assert json.loads(done.stdout)["false_claims"] == [f"{first.name}/template.json"]
