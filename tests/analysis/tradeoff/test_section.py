"""The report's part on several budgets: the answer, the picture and the table."""

import dataclasses
import json
import re

import pytest

from analysis.page.document import format_html, format_markdown
from analysis.tradeoff.points import Answer, BudgetStatus, Tradeoff, measure_tradeoffs
from analysis.tradeoff.section import answer_tradeoff, build_tradeoff
from tests.support.synthetic_budgets import OF_BUDGET, PROPOSALS, plant_losses
from tests.support.synthetic_run import DEPTH, make_candidates


@pytest.fixture(scope="module")
def tradeoff() -> Tradeoff:
    """Three budgets at three seeds; evenly loses at 12 connections, nearest at 21, geometric nowhere."""
    (tradeoff,) = measure_tradeoffs(make_candidates(PROPOSALS, plant_losses(0.0005), OF_BUDGET, (0, 1, 2)))
    return tradeoff


@pytest.fixture(scope="module")
def report(tradeoff: Tradeoff) -> str:
    return format_markdown([*build_tradeoff(tradeoff, "a caption", strategies=["random", "templates"])])


def test_it_answers_how_few_connections_keep_the_accuracy(tradeoff: Tradeoff, report: str) -> None:
    expected = (
        "Within 1 percentage point of the accuracy at the largest budget (30 connections): geometric down to 12 "
        "connections; evenly and what was found down to 21 connections. Lower by more than 1 percentage point: evenly "
        "and what was found at 12 connections; nearest at 21 connections."
    )
    opened = f"## Accuracy against connections\n\n**{expected}**\n\n![Line plot with intervals](tradeoff.svg)\n\n*Mean"
    assert report.startswith(opened)
    assert f'<p class="finding">{expected}</p>' in format_html("", [*build_tradeoff(tradeoff, "")])
    without = format_markdown([*build_tradeoff(tradeoff, "", is_in_head=True)])
    assert expected not in without
    assert "tradeoff.svg" not in without


def test_the_table_has_the_numbers_of_the_tradeoff(tradeoff: Tradeoff, report: str) -> None:
    table = report.split("| family | connections |")[1].split("\n\n")[0].splitlines()[2:]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in table]
    assert len(rows) == len(tradeoff.points) == 16
    gains = [point.difference for point in tradeoff.points if point.difference is not None]
    halves = [((each.high or 0.0) - (each.low or 0.0)) / 2 for each in tradeoff.points]
    apart = [((each.high or 0.0) - (each.low or 0.0)) / 2 for each in gains]
    for row, point in zip(rows, tradeoff.points, strict=True):
        family, connections, accuracy, difference, kept, pattern, _ = row
        assert (family, connections) == (point.family, str(point.connections))
        assert point.low is not None
        assert point.high is not None
        assert _read(accuracy) == _round((point.accuracy, point.low, point.high), halves)
        assert ("best of" in pattern) == (point.picked is not None)
        if point.difference is None:
            assert (difference, kept) == ("-", "-")
        else:
            gain = point.difference
            assert gain.low is not None
            assert gain.high is not None
            assert _read(difference) == _round((gain.mean, gain.low, gain.high), apart)
            assert kept == {"kept": "yes", "lost": "no", "unsettled": "unsettled"}[point.difference.status]
    assert sum("(best of 6)" in line for line in table) == 3
    assert json.loads(json.dumps(dataclasses.asdict(tradeoff)))["points"][0]["family"] == rows[0][0]


def _read(cell: str) -> list[float]:
    return [float(number) for number in re.findall(r"[-+]?[\d.]+", cell)]


def _round(numbers: tuple[float, ...], halves: list[float]) -> list[float]:
    """Round as half of a column's middle interval is worth, by the wider of two middle ones."""
    half = 100 * sorted(halves)[len(halves) // 2]
    digits = next(few for few in range(9) if 10.0**-few <= half / 2)
    return [float(f"{100 * number:.{digits}f}") for number in numbers]


def test_where_what_was_found_comes_from_is_said(report: str) -> None:
    assert "The mean it was picked by is raised by its own noise" in report
    assert "selection may remain" not in report
    proposals = [(name, "evolve halved" if name is None else strategy, made) for name, strategy, made in PROPOSALS]
    (tradeoff,) = measure_tradeoffs(make_candidates(proposals, plant_losses(0.01), OF_BUDGET, (0,)))
    report = format_markdown([*build_tradeoff(tradeoff, "", strategies=["templates", "evolve halved"])])
    assert "A little of the selection may remain, for evolve halved chose what to train by outcomes at" in report
    assert "with one, the number it was picked by is all there is" in report
    assert "Random (mean)" not in report
    assert "Not settled at 1 seed: evenly, geometric, nearest and what was found at 21 connections" in report
    assert "No smaller budget is shown to keep the accuracy of the largest (30 connections)" in report


def test_of_several_depths_each_has_its_own_picture(tradeoff: Tradeoff) -> None:
    report = format_markdown([*build_tradeoff(tradeoff, "", "9 layers")])
    assert "## Accuracy against connections, 9 layers" in report
    assert "](tradeoff_9-layers.svg)" in report


def _answer(
    family: str, fewest: int, stopped: int | None, status: BudgetStatus | None, largest: int = 36, n_seeds: int = 3
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
    assert answer_tradeoff(Tradeoff(DEPTH, 0.01, (), answers)) == expected
