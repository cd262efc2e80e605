"""The manifest: its own hash and form, and every way in which a listed file can be another."""

import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from nas.export.manifest import (
    FILES,
    MANIFEST,
    OPTIONAL,
    PROBE_INPUT,
    FileEntry,
    Manifest,
    Probe,
    describe_files,
    find_damage,
    format_manifest,
    read_manifest,
)
from search_spaces.errors import InputError

NEEDED = sorted(set(FILES) - OPTIONAL)


def make(folder: Path, **changes: Any) -> Manifest:
    """A folder of made-up files and its manifest, written."""
    for name in NEEDED:
        (folder / name).write_text(f"content of {name}")
    probe = Probe(seed=0, shape=[2, 1, 8, 8], input=PROBE_INPUT, logits=[[0.1, -1e-9], [3.0, 2.5]], tolerance=1e-5)
    held: dict[str, Any] = {
        "key": "0" * 64,
        "weights": "initial",
        "measured": {"accuracy": 0.5, "näme": [1, None, {"a": True}]},
        "probe": probe,
        "versions": {"python": "3"},
        "files": describe_files(folder, NEEDED),
    }
    manifest = Manifest(schema="skipsearch/export", **{**held, **changes})
    (folder / MANIFEST).write_text(format_manifest(manifest), encoding="utf-8")
    return manifest


def test_it_is_read_back_equal_and_its_hash_is_that_of_its_content(tmp_path: Path) -> None:
    manifest = make(tmp_path)
    assert read_manifest(tmp_path) == manifest
    raw = json.loads((tmp_path / MANIFEST).read_text(encoding="utf-8"))
    assert list(raw) == ["sha256", "manifest"]
    text = json.dumps(raw["manifest"], sort_keys=True, separators=(",", ":"))
    assert raw["sha256"] == hashlib.sha256(text.encode()).hexdigest()
    for name in NEEDED:
        entry = raw["manifest"]["files"][name]
        content = (tmp_path / name).read_bytes()
        assert entry == {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}
    assert find_damage(tmp_path, manifest.files) == {}


def test_a_flipped_bit_anywhere_in_it_is_refused(tmp_path: Path) -> None:
    make(tmp_path)
    path = tmp_path / MANIFEST
    content = path.read_bytes()
    for position in range(0, len(content), 5):
        path.write_bytes(
            content[:position] + bytes([content[position] ^ (1 << position % 8)]) + content[position + 1 :]
        )
        with pytest.raises(InputError, match=MANIFEST):
            read_manifest(tmp_path)


@pytest.mark.parametrize(
    "edit",
    [
        lambda text: text + "\n",
        lambda text: text.replace("  ", "\t"),
        lambda text: json.dumps(json.loads(text)),
        lambda text: text.replace('"accuracy": 0.5', '"accuracy": 0.50'),
        lambda text: text.replace('"accuracy": 0.5', '"accuracy": 0.6'),
        lambda text: text.replace('"bytes"', '"bytes": 3, "bytes"', 1),
        lambda text: text.replace('"weights": "initial"', '"weights": "secret"'),
        lambda text: text.replace('"version": 2', '"version": 3'),
        lambda text: text.replace('"python": "3"', '"python": "\\ud800"'),
        lambda text: text.replace('"accuracy": 0.5', '"accuracy": "\\ud800"'),
        lambda text: text[: text.index("manifest")] + 'manifest": 3}',
        lambda text: text[:0] + "[]",
        lambda text: text[:0] + "[" * 200,
    ],
)
def test_another_form_or_content_is_refused(edit: Callable[[str], str], tmp_path: Path) -> None:
    make(tmp_path)
    path = tmp_path / MANIFEST
    text = path.read_text(encoding="utf-8")
    assert edit(text) != text
    path.write_text(edit(text), encoding="utf-8")
    with pytest.raises(InputError, match=MANIFEST):
        read_manifest(tmp_path)


def test_only_a_file_of_its_own_is_a_manifest(tmp_path: Path) -> None:
    make(tmp_path)
    (tmp_path / MANIFEST).rename(tmp_path / "elsewhere.json")
    (tmp_path / MANIFEST).symlink_to("elsewhere.json")
    with pytest.raises(InputError, match="is a link"):
        read_manifest(tmp_path)
    (tmp_path / MANIFEST).unlink()
    with pytest.raises(InputError, match="`export` writes folders with one"):
        read_manifest(tmp_path)


def damage_link(path: Path) -> None:
    path.rename(path.with_name("aside"))
    path.symlink_to("aside")


def damage_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda path: path.unlink(), "is missing"),
        (lambda path: path.write_bytes(path.read_bytes()[:-1]), "bytes, manifest.json says"),
        (lambda path: path.write_bytes(path.read_bytes().swapcase()), "has hash"),
        (damage_link, "is a link"),
        (damage_pipe, "is a link, a folder or a device"),
        (lambda path: os.truncate(path, 2**42), "has 4,398,046,511,104 bytes"),
    ],
)
@pytest.mark.parametrize("name", ["template.json", "README.md"])
def test_a_file_that_is_another_is_named_alone(
    damage: Callable[[Path], None], said: str, name: str, tmp_path: Path
) -> None:
    manifest = make(tmp_path)
    damage(tmp_path / name)
    false = find_damage(tmp_path, manifest.files)
    assert list(false) == [name]
    assert said in false[name]


@pytest.mark.parametrize("name", ["../secret", "/etc/passwd", "a/../../b", "", ".", "notes.txt", MANIFEST, "x" * 9999])
def test_no_file_of_another_name_is_opened(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    manifest = make(tmp_path)
    opened: list[Path] = []
    monkeypatch.setattr("nas.export.manifest._hash_file", opened.append)
    listed = {name: FileEntry(sha256="0" * 64, bytes=0)}
    false = find_damage(tmp_path, listed)
    assert opened == []
    assert f"lists {name!r}"[:80] in false[name]
    assert len(false[name]) < 200
    assert set(false) - {name} == set(NEEDED)
    assert "does not list" in false["model.py"]
    assert manifest.files


def test_what_every_export_has_must_be_listed_and_what_is_there_too(tmp_path: Path) -> None:
    manifest = make(tmp_path)
    listed = {name: entry for name, entry in manifest.files.items() if name != "model.py"}
    assert list(find_damage(tmp_path, listed)) == ["model.py"]
    (tmp_path / "model.safetensors").write_bytes(b"foreign")
    (tmp_path / "model.pt2").symlink_to("nowhere")
    assert set(find_damage(tmp_path, manifest.files)) == {"model.safetensors", "model.pt2"}


def test_a_listed_file_larger_than_any_is_not_hashed(tmp_path: Path) -> None:
    manifest = make(tmp_path)
    size = FILES["template.svg"] + 1
    os.truncate(tmp_path / "template.svg", size)
    files = {**manifest.files, "template.svg": FileEntry(sha256="0" * 64, bytes=size)}
    assert "at most 100,000,000 are read" in find_damage(tmp_path, files)["template.svg"]
