"""RUN/report: what its files say, and that a user's files among them stay."""

import json
import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from analysis.data.csv_files import read_table
from analysis.data.results import read_run
from analysis.page.document import Block, Code, Heading, Paragraph, Picture, Table, format_html, format_markdown
from analysis.picks.order import summarise_status
from analysis.report.conclusion import Conclusion
from analysis.report.report import Report, compose_report, write_report
from nas.records.written import RECORD
from search_spaces.errors import ConflictError, InputError, NothingUsableError
from search_spaces.pattern import ConnectionPattern
from search_spaces.wiring.arcs import draw_arcs
from tests.support.synthetic_budgets import BUDGETS, OF_BUDGET, PROPOSALS, plant_losses
from tests.support.synthetic_run import make_run, propose

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


def _read_texts(paths: list[Path]) -> dict[str, str]:
    for path in paths:
        assert path.suffix != ".png" or path.read_bytes().startswith(b"\x89PNG")
    return {path.name: path.read_text(encoding="utf-8") for path in paths if path.suffix != ".png"}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A complete search with its report; not to be changed."""
    path = tmp_path_factory.mktemp("report") / "run"
    score = lambda place, seed: 0.5 + 0.02 * place + 0.01 * seed  # noqa: E731
    return make_run(path, propose(6, ["log", "nearest_log_i"]), score, asked=16, **ATTRIBUTES)


@pytest.fixture(scope="module")
def texts(run: Path) -> dict[str, str]:
    paths = write_report(run)
    assert (run / "optuna" / "patterns.db").exists()
    assert sorted([*paths, run / "report" / RECORD]) == sorted((run / "report").iterdir())
    return _read_texts(paths)


def test_a_complete_run_says_everything_twice(run: Path, texts: dict[str, str]) -> None:
    page = _Collector()
    page.feed(texts["index.html"])
    assert page.tags.count("script") == 2  # the page's data and its own script
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
        assert "Connection strengths" not in text
        assert "Accuracy against connections" not in text
        assert "abc123" in text
        assert f"skipsearch search --run {run}" in text
        assert f"optuna-dashboard sqlite:///{run}/study.db" in text
        assert f"optuna-dashboard sqlite:///{run}/optuna/patterns.db --artifact-dir {run}/optuna/artifacts" in text
        assert json.loads(texts["summary.json"])["verdict"]["sentence"][1:] in text.replace("\\", "")
    pd.testing.assert_frame_equal(read_table(run / "report" / "candidates.csv"), read_run(run).candidates)


def test_summary_is_strict_json_and_agrees_with_the_run(run: Path, texts: dict[str, str]) -> None:
    def refuse(name: str) -> None:
        raise AssertionError(f"{name} is no JSON")

    summary = json.loads(texts["summary.json"], parse_constant=refuse)
    status = summarise_status(read_run(run))
    assert summary["status"] == status
    (stratum,) = summary["strata"]
    assert stratum["best_patterns"][0]["key"] == status["best"]["key"]
    assert summary["environment"] == ATTRIBUTES["environment"]
    assert stratum["uniform_reach"]["n_patterns"] == 2000
    assert stratum["strength_trends"] is None
    assert summary["adherence"] is None
    assert [one["name"] for one in stratum["templates"]] == ["nearest_log_i", "log", "random (mean of 6)"]


def test_a_study_without_attributes_is_reported(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", propose(1), lambda _p, _s: 0.5, seeds=(0,))
    report = format_markdown(compose_report(read_run(run)).blocks)
    assert "Too few patterns to say whether backprop distance matters: 1, " in report
    assert "Templates at equal budget" not in report


def test_nothing_complete_gives_the_reasons(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", propose(2), lambda p, _s: f"exploded at {p}")
    with pytest.raises(NothingUsableError, match=r"4 failed.*trial 0: exploded at 0") as caught:
        write_report(run)
    assert caught.value.exit_code == 5
    assert not (run / "report").exists()
    with pytest.raises(InputError):
        write_report(tmp_path / "absent")


@pytest.mark.slow
def test_a_second_report_is_the_same(run: Path) -> None:
    results = read_run(run)
    assert compose_report(results) == compose_report(results)


@pytest.mark.slow
def test_the_whole_report_of_a_search_at_several_budgets(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", PROPOSALS, plant_losses(0.01), budgets=OF_BUDGET, config={"budget": [*BUDGETS]})
    paths = write_report(run)
    assert sorted([*paths, run / "report" / RECORD]) == sorted((run / "report").iterdir())
    assert {"tradeoff.svg", "tradeoff.png", "distance_8-layers-log.svg"} <= {path.name for path in paths}


Compose = Callable[[list[str]], None]


@pytest.fixture
def compose(monkeypatch: pytest.MonkeyPatch) -> Compose:
    """Let a report have only its heading and arc diagrams of these names."""

    def set_names(names: list[str]) -> None:
        svg = draw_arcs(ConnectionPattern(2, ((0,), (0, 1))), "a pattern")
        blocks: list[Block] = [
            Heading(1, "a heading"),
            *(Picture(name, svg, "", "Plot", png=b"\x89PNG") for name in names),
        ]
        report = Report(tuple(blocks), {"n": 1}, Conclusion("It is so.", (), (), ""))
        monkeypatch.setattr("analysis.report.report.compose_report", lambda _run: report)

    return set_names


@pytest.fixture
def small_run(tmp_path: Path, compose: Compose) -> Path:
    """A run whose report is quickly written."""
    compose(["arcs_1.svg", "arcs_2.svg"])
    return make_run(tmp_path / "run", propose(1), lambda _p, _s: 0.5, seeds=(0,))


def test_a_users_files_stay_beside_a_second_report(small_run: Path) -> None:
    first = _read_texts(write_report(small_run))
    assert set(first) == {"index.html", "report.md", "candidates.csv", "summary.json", "arcs_1.svg", "arcs_2.svg"}
    folder = small_run / "report"
    mine = {name: folder / name for name in ("distance_mine.png", "arcs_0123456789ab.svg", "levels.txt")}
    for path in mine.values():
        path.write_text("mine")
    (folder / "report.md").write_text("my remarks")
    assert _read_texts(write_report(small_run)) == first
    assert {path.read_text() for path in mine.values()} == {"mine"}
    assert (folder / "report.md.kept").read_text() == "my remarks"


def test_a_diagram_of_the_last_report_goes_and_a_users_of_its_name_stays(small_run: Path, compose: Compose) -> None:
    write_report(small_run)
    compose(["arcs_3.svg"])
    (small_run / "report" / "arcs_1.svg").write_text("mine")
    write_report(small_run)
    diagrams = {path.name for path in (small_run / "report").glob("arcs_*")}
    assert diagrams == {"arcs_1.svg", "arcs_3.svg", "arcs_3.png"}
    assert (small_run / "report" / "arcs_1.svg").read_text() == "mine"


def test_a_users_file_in_the_way_of_a_report_is_not_replaced(small_run: Path) -> None:
    (small_run / "report").mkdir()
    (small_run / "report" / RECORD).write_text('{"schema": "skipsearch/files", "files": {}}')
    mine = small_run / "report" / "report.md"
    mine.write_text("mine")
    with pytest.raises(ConflictError, match=re.escape(str(mine))):
        write_report(small_run)
    assert sorted(path.name for path in (small_run / "report").iterdir()) == [RECORD, "report.md"]
    assert mine.read_text() == "mine"


def test_the_report_of_a_version_without_a_record_is_kept_beside_the_new(small_run: Path) -> None:
    folder = small_run / "report"
    first = _read_texts(write_report(small_run))
    (folder / RECORD).unlink()
    (folder / "index.html").write_text("of an older version")
    (folder / "arcs_0123456789ab.svg").write_text("of an older version")
    paths = write_report(small_run)
    assert _read_texts(paths) == first
    for name in ("index.html.kept", "arcs_0123456789ab.svg"):
        assert (folder / name).read_text() == "of an older version"
    assert len({path.name for path in folder.iterdir()} - {RECORD}) == len(paths) + 2


def test_a_study_has_the_checklist_with_it(study_run: Path, compose: Compose) -> None:
    compose([])
    texts = {path.name: path.read_text() for path in write_report(study_run)}
    assert texts["checklist.md"].startswith("# The checklist")


def test_documents_escape_every_block() -> None:
    blocks: list[Block] = [
        Heading(1, EVIL),
        Paragraph(EVIL),
        Table((EVIL,), ((EVIL,),)),
        Picture("a.svg", "<svg/>", EVIL, EVIL),
        Code("a < b"),
    ]
    page = _Collector()
    page.feed(format_html(EVIL, blocks))
    assert page.tags.count("script") == 2  # the page's data and its own script
    markdown = format_markdown(blocks)
    assert "<script" not in markdown.replace(r"\<script", "")
    assert markdown.count(r"\|") == 6


def test_a_final_measurement_is_reported_by_its_run(tmp_path: Path) -> None:
    final = make_run(tmp_path / "run" / "final", propose(2), lambda _p, _s: 0.5, kind="final")
    with pytest.raises(InputError, match=str(tmp_path / "run")):
        write_report(final)
    assert not (final / "report").exists()
