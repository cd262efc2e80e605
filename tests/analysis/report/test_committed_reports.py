"""The committed reports are what the program says today, of ledgers that nobody changed."""

import lzma
import sys
from pathlib import Path

import pytest

from nas.records.database import read_attributes
from tests.support.small import ROOT

sys.path.insert(0, str(ROOT / "scripts"))
from publish import LEDGER, PACKED, SHORT_TABLE, compute, keep_ledger

FOLDERS = sorted(path.parent for path in (ROOT / "docs").rglob(PACKED))
by_folder = pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: str(folder.relative_to(ROOT / "docs")))


def _unpack(folder: Path, to: Path) -> Path:
    (to / LEDGER).write_bytes(lzma.decompress((folder / PACKED).read_bytes()))
    return to / LEDGER


def test_every_committed_report_has_its_ledger() -> None:
    reports = {path.parent for path in (ROOT / "docs").rglob("index.html")}
    assert reports == set(FOLDERS)
    assert len(FOLDERS) >= 8


@by_folder
def test_a_committed_report_is_of_a_clean_tree_and_says_nothing_of_the_machine(folder: Path, tmp_path: Path) -> None:
    attributes = read_attributes(_unpack(folder, tmp_path))
    commit = attributes["environment"]["commit"]
    assert len(commit) == 12 and "dirty" not in commit
    assert attributes["config"].get("data") is None
    for name in ("index.html", "report.md", "summary.json"):
        text = (folder / name).read_text(encoding="utf-8")
        assert not [place for place in ("tmp", "work", "home", "root") if f"/{place}/" in text], name
        assert commit in text or name == "summary.json"
    table = SHORT_TABLE if (folder / SHORT_TABLE).is_file() else "candidates.csv"
    assert f"]({table})" in (folder / "report.md").read_text(encoding="utf-8")


@pytest.mark.slow
@by_folder
def test_a_committed_report_is_what_the_program_says_today(folder: Path) -> None:
    for name, content in compute(folder).items():
        if not name.endswith((".svg", ".html")):  # with pictures, whose bytes may differ between versions of matplotlib
            assert content == (folder / name).read_bytes(), name


@by_folder
def test_a_ledger_that_is_kept_again_is_the_same(folder: Path, tmp_path: Path) -> None:
    ledger = _unpack(folder, tmp_path)
    if ledger.stat().st_size > 2_000_000:
        pytest.skip("packing it takes half a minute")
    keep_ledger(tmp_path, tmp_path / "kept")
    assert read_attributes(_unpack(tmp_path / "kept", tmp_path)) == read_attributes(ledger)
