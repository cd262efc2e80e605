"""What a report says of exits: means over seeds with their intervals, a figure, and nothing where there is one exit."""

import math
import statistics
from typing import Any

import pandas as pd
import pytest
from scipy.stats import t as student

from analysis.data.results import read_run
from analysis.exits.anytime import Exits, analyse_exits, summarise_exits
from analysis.exits.plot import plot_anytime
from analysis.exits.section import answer_exits, build_exits
from analysis.page.document import Fold, Heading, Picture, Table, walk_blocks
from analysis.page.figure_style import draw_svg, name_marks
from search_spaces.errors import InputError
from tests.support.synthetic_run import make_run, propose

SEEDS = (0, 1, 2)
N_EXITS = 3


def keep(accuracy: float, seed: int) -> dict[str, Any]:
    """Details of a training whose last exit has this accuracy."""
    shares = [0.5, 0.9, 1.0]
    exits = [
        {"macs": 1000 * (place + 1), "accuracy": accuracy * share + 0.01 * seed, "loss": 2 - accuracy * share}
        for place, share in enumerate(shares)
    ]
    adaptive = [
        {"ratio": ratio, "macs": 1500.0 + 500 * ratio + 10 * seed, "accuracy": accuracy * 0.95 - 0.01 * seed}
        for ratio in (0.5, 1.0, 2.0)
    ]
    return {"exits": exits, "adaptive": adaptive}


@pytest.fixture(scope="module")
def candidates(tmp_path_factory: pytest.TempPathFactory) -> pd.DataFrame:
    proposals = propose(1, ["log", "nearest_log_i", "evenly_log_i"])
    order = [0.8, 0.7, 0.6, 0.9]
    run = make_run(
        tmp_path_factory.mktemp("run") / "r", proposals, lambda place, seed: order[place] + 0.01 * seed, SEEDS
    )
    return read_run(run).candidates


@pytest.fixture(scope="module")
def details(candidates: pd.DataFrame) -> dict[int, dict[str, Any]]:
    return {
        int(row["number"]): keep(float(row["validation_accuracy"]) - 0.01 * int(row["seed"]), int(row["seed"]))
        for _, row in candidates.iterrows()
    }


@pytest.fixture(scope="module")
def exits(candidates: pd.DataFrame, details: dict[int, dict[str, Any]]) -> Exits:
    analysed = analyse_exits(candidates, details)
    assert analysed is not None
    return analysed


def test_the_best_pattern_stands_next_to_log_and_nearest(exits: Exits) -> None:
    best, *named = exits.patterns
    assert [pattern.name for pattern in named] == ["log", "nearest_log_i"]
    assert best.exits[-1].accuracy == pytest.approx(0.91)
    assert list(exits.shown["key"]) == [pattern.key for pattern in exits.patterns]


def test_each_exit_has_the_mean_over_seeds_and_students_interval(exits: Exits) -> None:
    """The interval a second way, by scipy's distribution."""
    log = exits.patterns[1]
    for place, share in enumerate([0.5, 0.9, 1.0]):
        values = [0.8 * share + 0.01 * seed for seed in SEEDS]
        half = float(student.ppf(0.975, len(SEEDS) - 1)) * statistics.stdev(values) / math.sqrt(len(SEEDS))
        spot = log.exits[place]
        assert spot.macs == 1000 * (place + 1)
        assert spot.accuracy == pytest.approx(statistics.fmean(values))
        assert (spot.low, spot.high) == pytest.approx((spot.accuracy - half, spot.accuracy + half))
        assert spot.loss == pytest.approx(2 - 0.8 * share)
    assert [spot.ratio for spot in log.adaptive] == [0.5, 1.0, 2.0]
    assert log.equal_shares is log.adaptive[1]
    assert log.adaptive[1].macs == pytest.approx(2010)


def test_one_seed_has_no_interval(candidates: pd.DataFrame, details: dict[int, dict[str, Any]]) -> None:
    analysed = analyse_exits(candidates[candidates["seed"] == 0], details)
    assert analysed is not None
    assert all(spot.low is None and spot.high is None for spot in analysed.patterns[0].exits)
    assert "[" not in answer_exits(analysed.patterns[0])


def test_a_run_with_one_exit_has_no_section(candidates: pd.DataFrame) -> None:
    assert analyse_exits(candidates, {}) is None
    assert analyse_exits(candidates, {0: {"confusion": [[1]]}}) is None, "another task's details"


def test_the_section_says_the_numbers_that_it_shows(exits: Exits) -> None:
    blocks = list(build_exits(exits, "caption"))
    assert blocks[0] == Heading(2, "Accuracy by exit")
    answer = answer_exits(exits.patterns[0])
    assert answer.startswith(f"The last of 3 exits of {exits.patterns[0].name}, the best pattern, is right on 91 [")
    assert "with 33 % of the multiply-adds" in answer and answer.endswith("with 67 % of the multiply-adds.")
    shown, whole = (block for block in walk_blocks(blocks) if isinstance(block, Table))
    assert len(shown.rows) == 3 and len(whole.rows) == 9
    assert all(len(row) == len(table.header) for table in (shown, whole) for row in table.rows)
    assert any(isinstance(block, Picture) and block.file == "exits.svg" for block in blocks)
    assert isinstance(blocks[-1], Fold)
    assert next(iter(build_exits(exits, "caption", "8 layers"))) == Heading(3, "Accuracy by exit")


def test_the_figure_has_a_mark_for_each_exit_inside_its_axes(exits: Exits) -> None:
    figure = plot_anytime(exits.patterns, "caption")
    marks = name_marks(figure)
    assert len(marks) == 9
    assert "exit 3: accuracy 81.00 %" in marks["mark-1-2"]
    low, high = figure.axes[0].get_ylim()
    ends = [end for each in exits.patterns for spot in each.exits for end in (spot.low, spot.high) if end is not None]
    assert low < min(ends) and max(ends) < high
    assert draw_svg(figure) == draw_svg(plot_anytime(exits.patterns, "caption"))


def test_few_images_leave_the_dashed_line_out(candidates: pd.DataFrame, details: dict[int, dict[str, Any]]) -> None:
    analysed = analyse_exits(candidates, {number: {**kept, "adaptive": []} for number, kept in details.items()})
    assert analysed is not None
    assert analysed.patterns[0].equal_shares is None
    assert "confident" not in answer_exits(analysed.patterns[0])
    assert list(build_exits(analysed, ""))


def test_the_summary_has_all_numbers(exits: Exits) -> None:
    summary = summarise_exits(exits)
    assert [pattern["key"] for pattern in summary] == [pattern.key for pattern in exits.patterns]
    assert summary[1]["exits"][0]["macs"] == 1000


@pytest.mark.parametrize(
    "changed",
    [
        {"exits": []},
        {"exits": "none"},
        {"exits": [{"macs": 1, "accuracy": 1.5, "loss": 0.1}]},
        {"exits": [{"macs": 1, "accuracy": 0.5}]},
        {"exits": [{"macs": 1, "accuracy": math.nan, "loss": 0.1}]},
        {"exits": [{"macs": 10**400, "accuracy": 0.5, "loss": 0.1}] * N_EXITS},
        {"exits": [{"macs": -1, "accuracy": 0.5, "loss": 0.1}] * N_EXITS},
        {"exits": [{"macs": 1, "accuracy": 0.5, "loss": math.inf}] * N_EXITS},
        {"adaptive": [{"macs": 1, "accuracy": 0.5, "loss": 0.1}]},
        {"adaptive": 3},
        {"exits": [{"macs": 1, "accuracy": 0.5, "loss": 0.1}]},
    ],
    ids=lambda changed: f"{changed!s:.60}",
)
def test_details_of_another_program_are_refused(
    changed: dict[str, Any], candidates: pd.DataFrame, details: dict[int, dict[str, Any]]
) -> None:
    (number,) = candidates.loc[(candidates["template"] == "log").fillna(False) & (candidates["seed"] == 1), "number"]
    with pytest.raises(InputError, match=rf"trial {number} records|different numbers of exits"):
        analyse_exits(candidates, details | {int(number): {**details[int(number)], **changed}})
