import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from analysis.data.averages import summarise_status
from analysis.data.results import read_run, read_table
from analysis.page.document import Block, Code, Heading, Paragraph, Picture, Table, format_html, format_markdown
from analysis.report.report import write_report
from nas.records.written import RECORD
from search_spaces.errors import ConflictError, InputError, NothingUsableError
from tests.support.synthetic_run import Proposal, Score, describe_proposal, make_run, propose

EVIL = '<script>alert("1")</script> | `x`'
ATTRIBUTES: dict[str, Any] = {
    "config": {"epochs": 2, "seed": 3, "dataset": EVIL},
    "environment": {"device": "cpu (1 thread)", "commit": "abc123"},
    "data": {"name": EVIL, "n_train": 300},
}


class _Collector(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.links: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.links += [value or "" for name, value in attrs if name in ("src", "href")]


def _write(tmp_path: Path, score: Score, **attributes: Any) -> tuple[Path, dict[str, str]]:
    run = make_run(tmp_path / "run", propose(6, ["log", "nearest_log_i"]), score, **attributes)
    paths = write_report(run)
    assert sorted([*paths, run / "report" / RECORD]) == sorted((run / "report").iterdir())
    return run, _read_texts(paths)


def _read_texts(paths: list[Path]) -> dict[str, str]:
    for path in paths:
        assert path.suffix != ".png" or path.read_bytes().startswith(b"\x89PNG")
    return {path.name: path.read_text(encoding="utf-8") for path in paths if path.suffix != ".png"}


def test_a_complete_run_says_everything_twice(tmp_path: Path) -> None:
    run, texts = _write(tmp_path, lambda p, s: 0.5 + 0.02 * p + 0.01 * s, asked=16, **ATTRIBUTES)
    page = _Collector()
    page.feed(texts["index.html"])
    assert "script" not in page.tags
    assert "img" not in page.tags
    assert page.links
    assert not any(re.match(r"[a-zA-Z]+:|/", link) for link in page.links)  # parts of the page, or files near it
    assert not re.search(r"@import|url\((?!#)", texts["index.html"])
    linked = re.findall(r"!\[.*?\]\((.*?)\)", texts["report.md"])
    assert set(linked) == {name for name in texts if name.endswith(".svg")}
    assert len(linked) == page.tags.count("svg")
    for text in (texts["index.html"], texts["report.md"]):
        assert "Incomplete" not in text
        assert "Templates at equal budget" in text
        assert "abc123" in text
        assert f"python run_search.py search --run {run}" in text
        assert f"optuna-dashboard sqlite:///{run}/study.db" in text
        assert json.loads(texts["summary.json"])["verdict"]["sentence"][1:] in text.replace("\\", "")
    pd.testing.assert_frame_equal(read_table(run / "report" / "candidates.csv"), read_run(run).candidates)


def test_summary_is_strict_json_and_agrees_with_the_run(tmp_path: Path) -> None:
    run, texts = _write(tmp_path, lambda p, _s: 0.5 + 0.02 * p, **ATTRIBUTES)

    def refuse(name: str) -> None:
        raise AssertionError(f"{name} is no JSON")

    summary = json.loads(texts["summary.json"], parse_constant=refuse)
    status = summarise_status(read_run(run))
    assert summary["status"] == status
    (stratum,) = summary["strata"]
    assert stratum["best_patterns"][0]["key"] == status["best"]["key"]
    assert summary["environment"] == ATTRIBUTES["environment"]
    assert stratum["uniform_reach"]["n_patterns"] == 2000
    assert summary["adherence"] is None
    assert [one["name"] for one in stratum["templates"]] == ["nearest_log_i", "log", "random (mean of 6)"]


def test_unequal_cost_is_said_first_and_only_then(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _, texts = _write(tmp_path / "equal", lambda p, s: 0.5 + 0.02 * p + 0.01 * s, asked=16)
    assert "differ in cost" not in texts["report.md"]

    def with_params(proposal: Proposal, seed: int) -> dict[str, Any]:
        return {**describe_proposal(proposal, seed), "params": 2000 if proposal[0] == "log" else 1000}

    monkeypatch.setattr("tests.support.synthetic_run.describe_proposal", with_params)
    _, texts = _write(tmp_path / "unequal", lambda p, s: 0.5 + 0.02 * p + 0.01 * s, asked=16)
    for text in (texts["report.md"], texts["index.html"]):
        assert text.index("differ in cost, 1,000 to 2,000 parameters") < text.index("Best pattern")


def test_an_incomplete_run_says_so_first(tmp_path: Path) -> None:
    scores: dict[tuple[int, int], str | None] = {(2, 0): EVIL, (7, 1): None}
    _, texts = _write(tmp_path, lambda p, s: scores.get((p, s), 0.5 + 0.01 * p), asked=20)
    notice = "Incomplete: 14 candidates of 20 asked for are complete (1 failed, 1 running, 4 not begun)"
    for text in (texts["index.html"], texts["report.md"]):
        assert notice in text
        assert text.index(notice) < text.index("Trained:")
        assert "Failures" in text
    assert "&lt;script&gt;alert" in texts["index.html"]
    assert "<script" not in texts["index.html"]
    assert r"\<script\>" in texts["report.md"]


def test_a_study_without_attributes_is_reported(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", propose(1), lambda _p, _s: 0.5, seeds=(0,))
    page = write_report(run)[0].read_text()
    assert "too few patterns to say: 1 sampled" in page
    assert "Templates at equal budget" not in page


def test_nothing_complete_gives_the_reasons(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", propose(2), lambda p, _s: f"exploded at {p}")
    with pytest.raises(NothingUsableError, match=r"4 failed.*trial 0: exploded at 0") as caught:
        write_report(run)
    assert caught.value.exit_code == 5
    assert not (run / "report").exists()
    with pytest.raises(InputError):
        write_report(tmp_path / "absent")


def test_a_second_report_is_the_same_and_a_users_files_stay(tmp_path: Path) -> None:
    run, texts = _write(tmp_path, lambda p, _s: 0.5 + 0.02 * p, **ATTRIBUTES)
    mine = {name: run / "report" / name for name in ("distance_mine.png", "arcs_0123456789ab.svg", "levels.txt")}
    for path in mine.values():
        path.write_text("mine")
    (run / "report" / "report.md").write_text("my remarks")
    paths = write_report(run)
    assert _read_texts(paths) == texts
    assert {path.read_text() for path in mine.values()} == {"mine"}
    assert (run / "report" / "report.md.kept").read_text() == "my remarks"


def test_a_diagram_of_the_last_report_goes_and_a_users_of_its_name_stays(tmp_path: Path) -> None:
    proposals = propose(6, ["log", "nearest_log_i"])
    run = make_run(tmp_path / "run", proposals, lambda p, _s: 0.5 + 0.02 * p)
    first = {path.name for path in write_report(run) if path.name.startswith("arcs_")}
    again = make_run(tmp_path / "again", proposals, lambda p, _s: 0.9 - 0.02 * p)
    changed, *stale = sorted(first - {path.name for path in write_report(again)})
    (again / "study.db").replace(run / "study.db")
    assert stale
    (run / "report" / changed).write_text("mine")
    write_report(run)
    assert (run / "report" / changed).read_text() == "mine"
    assert not any((run / "report" / name).exists() for name in stale)


def test_a_users_file_in_the_way_of_a_report_is_not_replaced(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", propose(6, ["log"]), lambda p, _s: 0.5 + 0.02 * p)
    (run / "report").mkdir()
    (run / "report" / RECORD).write_text('{"schema": "skipsearch/files", "files": {}}')
    mine = run / "report" / "report.md"
    mine.write_text("mine")
    with pytest.raises(ConflictError, match=re.escape(str(mine))):
        write_report(run)
    assert sorted(path.name for path in (run / "report").iterdir()) == [RECORD, "report.md"]
    assert mine.read_text() == "mine"


def test_the_report_of_a_version_without_a_record_is_kept_beside_the_new(tmp_path: Path) -> None:
    run, texts = _write(tmp_path, lambda p, _s: 0.5 + 0.02 * p, **ATTRIBUTES)
    (run / "report" / RECORD).unlink()
    (run / "report" / "index.html").write_text("of an older version")
    (run / "report" / "arcs_0123456789ab.svg").write_text("of an older version")
    paths = write_report(run)
    assert _read_texts(paths) == texts
    for name in ("index.html.kept", "arcs_0123456789ab.svg"):
        assert (run / "report" / name).read_text() == "of an older version"
    kept = {path.name for path in (run / "report").iterdir()} - {RECORD}
    assert len(kept) == len(paths) + 2


def test_documents_escape_every_block() -> None:
    blocks: list[Block] = [
        Heading(1, EVIL),
        Paragraph(EVIL),
        Table((EVIL,), ((EVIL,),)),
        Picture("a.svg", "<svg/>", EVIL),
        Code("a < b"),
    ]
    page = _Collector()
    page.feed(format_html(EVIL, blocks))
    assert "script" not in page.tags
    markdown = format_markdown(blocks)
    assert "<script" not in markdown.replace(r"\<script", "")
    assert markdown.count(r"\|") == 5
