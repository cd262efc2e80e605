"""The report of a run with several budgets: the answer, the picture and the table, each where it belongs."""

import dataclasses
import json
import re
from pathlib import Path

import pandas as pd
import pytest

from analysis.data.results import CURVE_COLUMNS, Run
from analysis.page.captions import name_file
from analysis.page.document import Block, Heading, format_html, format_markdown
from analysis.report.findings import Findings, find, summarise
from analysis.report.report import write_report
from analysis.report.sections import build_blocks, title
from analysis.tradeoff.points import Answer, Status, Tradeoff, measure_tradeoffs
from analysis.tradeoff.section import answer, build_tradeoff
from nas.records.written import RECORD
from tests.analysis.tradeoff.test_points import BUDGETS, OF_BUDGET, PROPOSALS, planted
from tests.support.synthetic_run import DEPTH, make_candidates, make_run, propose


@pytest.fixture(scope="module")
def findings() -> Findings:
    """Three budgets at three seeds; evenly loses at 12 connections, nearest at 21, geometric nowhere."""
    candidates = make_candidates(PROPOSALS, planted(0.0005), OF_BUDGET, (0, 1, 2))
    curves = pd.DataFrame({name: pd.Series(dtype=dtype) for name, dtype in CURVE_COLUMNS.items()})
    config = {"budget": [*BUDGETS], "seed": 0, "epochs": 2}
    return find(Run(Path("run"), candidates, curves, len(candidates), config, {}, {}))


@pytest.fixture(scope="module")
def blocks(findings: Findings) -> list[Block]:
    """The report, of each stratum its heading alone: the rest is that of a single budget."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("analysis.report.sections.build_stratum", lambda _, view: [Heading(2, view.name)])
        return [*build_blocks(findings)]


@pytest.fixture(scope="module")
def report(blocks: list[Block]) -> str:
    return format_markdown(blocks)


def test_the_part_comes_after_the_headline_and_before_the_strata(report: str) -> None:
    assert report.startswith("# Skip connections of 8 layers, budgets total:12, log and total:30\n")
    order = ["Trained: 28 patterns x 3 seeds, budgets total:12, log and total:30", "## Accuracy against connections"]
    order += [
        "![Mean validation accuracy over seeds",
        "## 8 layers, total:12",
        "## 8 layers, log",
        "## 8 layers, total:30",
    ]
    places = [report.index(text) for text in order]
    assert places == sorted(places)
    assert "never compare" not in report
    assert "This run has 3 budgets, whose networks differ in cost." in report
    assert "The networks of" not in report  # inside a budget all cost the same
    assert "](tradeoff.svg)" in report
    assert '| setting | budget | \\["total:12", "log", "total:30"\\] |' in report


def test_it_answers_how_few_connections_keep_the_accuracy(findings: Findings, blocks: list[Block], report: str) -> None:
    expected = (
        "Within 1 percentage point of the accuracy at the largest budget (30 connections): geometric down to 12 "
        "connections; evenly and what was found down to 21 connections. Lower by more than 1 percentage point: evenly "
        "and what was found at 12 connections; nearest at 21 connections."
    )
    assert f"> **{expected}**" in report
    assert f'<p class="answer">{expected}</p>' in format_html(title(findings), blocks)


def test_the_table_has_the_numbers_of_the_summary(findings: Findings, report: str) -> None:
    (tradeoff,) = findings.tradeoffs
    (told,) = summarise(findings)["tradeoffs"]
    assert told == json.loads(json.dumps(dataclasses.asdict(tradeoff)))
    table = report.split("| family | budget |")[1].split("\n\n")[0].splitlines()[2:]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in table]
    assert len(rows) == len(told["points"]) == 16
    for row, point in zip(rows, told["points"], strict=True):
        family, budget, connections, accuracy, range_, difference, interval, kept, params, flops, picked, *_ = row
        assert (family, budget) == (point["family"], point["budget"])
        assert (connections, params) == (str(point["connections"]), f"{point['params']:,}")
        assert flops == f"{point['flops'] / 1000:g}k"
        assert accuracy == f"{100 * point['accuracy']:.2f}"
        assert range_ == f"{100 * point['low']:.2f} to {100 * point['high']:.2f}"
        assert (picked == "-") == (point["picked"] is None)
        if point["difference"] is None:
            assert (difference, interval, kept) == ("-", "-", "-")
        else:
            one = point["difference"]
            assert difference == f"{100 * one['mean']:+.2f}"
            assert interval == f"{100 * one['low']:+.2f} to {100 * one['high']:+.2f}"
            assert kept == {"kept": "yes", "lost": "no", "unsettled": "unsettled"}[one["status"]]
    assert sum("(best of 6)" in line for line in table) == 3


def test_where_what_was_found_comes_from_is_said(findings: Findings, report: str) -> None:
    assert "The mean it was picked by is raised by its own noise" in report
    assert "selection may remain" not in report
    proposals = [(name, "evolve halved" if name is None else strategy, made) for name, strategy, made in PROPOSALS]
    candidates = make_candidates(proposals, planted(0.01), OF_BUDGET, (0,))
    (tradeoff,) = measure_tradeoffs(candidates)
    halved = dataclasses.replace(findings, run=dataclasses.replace(findings.run, candidates=candidates))
    report = format_markdown([*build_tradeoff(halved, tradeoff)])
    assert "A little of the selection may remain, for evolve halved chose what to train by outcomes at" in report
    assert "with one, the number it was picked by is all there is" in report
    assert "Random (mean)" not in report
    assert "Not settled at 1 seed: evenly, geometric, nearest and what was found at 21 connections" in report
    assert "No smaller budget is shown to keep the accuracy of the largest (30 connections)" in report


def test_of_several_depths_each_has_its_own_picture(findings: Findings) -> None:
    (tradeoff,) = findings.tradeoffs
    both = dataclasses.replace(findings, tradeoffs=(tradeoff, dataclasses.replace(tradeoff, layers=9)))
    report = format_markdown([*build_tradeoff(both, both.tradeoffs[1])])
    assert "## Accuracy against connections, 9 layers" in report
    assert "](tradeoff_9-layers.svg)" in report


@pytest.mark.slow
def test_the_whole_report_of_a_run_directory(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", PROPOSALS, planted(0.01), budgets=OF_BUDGET, config={"budget": [*BUDGETS]})
    paths = write_report(run)
    assert sorted([*paths, run / "report" / RECORD]) == sorted((run / "report").iterdir())
    assert {"tradeoff.svg", "tradeoff.png", "distance_8-layers-log.svg"} <= {path.name for path in paths}
    report = (run / "report" / "report.md").read_text()
    assert report.index("## Accuracy against connections") < report.index("## 8 layers, total:12")
    single = make_run(tmp_path / "single", propose(3, ["log"]), lambda p, _s: 0.5 + 0.01 * p)
    assert not any("tradeoff" in path.name for path in write_report(single))
    report = (single / "report" / "report.md").read_text()
    assert report.startswith("# Skip connections of 8 layers, budget log\n")
    assert "Accuracy against connections" not in report


def test_budgets_by_layer_have_names_that_files_may_have(findings: Findings) -> None:
    view = findings.views[0]
    assert name_file(view, "curves") == "curves_8-layers-total-12.svg"
    long = [dataclasses.replace(view, name=f"100 layers, layers:{','.join(['9'] * 99)},{last}") for last in (8, 9)]
    names = [name_file(one, "arcs_0123456789ab") for one in long]
    assert len(set(names)) == 2
    assert all(len(name) < 100 and re.fullmatch(r"[A-Za-z0-9_-]+\.svg", name) for name in names)


def _answer(
    family: str, fewest: int, stopped: int | None, status: Status | None, largest: int = 36, n_seeds: int = 3
) -> Answer:
    return Answer(family, largest, fewest, stopped, status, None if status is None else n_seeds)


@pytest.mark.parametrize(
    ("answers", "expected"),
    [
        ((), "No family of patterns was trained at two budgets, so none says how few connections keep the accuracy."),
        (
            (_answer("nearest", 36, 21, "unsettled"),),
            "No smaller budget is shown to keep the accuracy of the largest (36 connections) within 1 percentage "
            "point. Not settled at 3 seeds: nearest at 21 connections.",
        ),
        (
            (_answer("nearest", 36, 21, "unsettled"), _answer("found", 36, 28, "unsettled", n_seeds=2)),
            "No smaller budget is shown to keep the accuracy of the largest (36 connections) within 1 percentage "
            "point. Not settled at 2 to 3 seeds: nearest at 21 connections; what was found at 28 connections.",
        ),
        (
            (_answer("nearest", 21, None, None), _answer("found", 12, None, None, 21)),
            "Within 1 percentage point of the accuracy at the largest budget of the same family: what was found down "
            "to 12 connections; nearest down to 21 connections.",
        ),
    ],
)
def test_the_answer_in_words(answers: tuple[Answer, ...], expected: str) -> None:
    assert answer(Tradeoff(DEPTH, 0.01, (), answers)) == expected
