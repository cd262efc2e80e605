"""Cells of distance crossed with span: patterns lie in them, at the exact budget, distinct, fixed by their seed."""

import math
import signal
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

import networkx as nx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from search_spaces.budget import Budget, log_budget
from search_spaces.distance import describe
from search_spaces.errors import InputError
from search_spaces.measures.compiled import measure_batch
from search_spaces.measures.registry import measure
from search_spaces.pattern import ConnectionPattern
from search_spaces.sampling.cells import Cell, find_reach, sample_cell, sample_distinct
from search_spaces.sampling.draw import sample_uniform
from search_spaces.sampling.goals import Band
from search_spaces.seeds import derive_generator
from tests.support.budgets import assert_spent, budgets
from tests.support.patterns import patterns_of

NAMES = ("mean_bd", "span", "from_output_mean")


def cell_of(
    mean_bd: tuple[float, float] | None = None,
    span: tuple[float, float] | None = None,
    from_output: tuple[float, float] | None = None,
    **others: tuple[float, float],
) -> Cell:
    """A cell of these bands."""
    bands = {"mean_bd": mean_bd, "span": span, "from_output_mean": from_output, **others}
    return Cell({name: Band(*band) for name, band in bands.items() if band is not None})


def lies_in(pattern: ConnectionPattern, cell: Cell) -> bool:
    row = measure(pattern, cell.bands)
    return all(low - 1e-6 <= row[name] <= high + 1e-6 for name, (low, high) in cell.bands.items())


@contextmanager
def ends() -> Iterator[None]:
    """Fail, rather than hang, where a loop has no end."""

    def fail(number: int, frame: FrameType | None) -> None:
        raise AssertionError(f"no end of it: signal {number} in {frame}")

    before = signal.signal(signal.SIGALRM, fail)
    signal.alarm(5)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def assert_good(patterns: list[ConnectionPattern], budget: Budget, cell: Cell) -> None:
    assert len(set(patterns)) == len(patterns)
    for pattern in patterns:
        assert_spent(pattern, budget)
        assert lies_in(pattern, cell)


NINE = [(round(1.8 + 0.1 * k, 1), round(1.9 + 0.1 * k, 1)) for k in range(9)]
SPANS = [(3.4, 3.6), (4.5, 4.7), (5.9, 6.1)]


@pytest.mark.parametrize(("count", "seed"), [(3, 0), pytest.param(40, 1, marks=pytest.mark.slow)])
@pytest.mark.parametrize("mean_bd", NINE, ids=str)
@pytest.mark.parametrize("span", SPANS, ids=str)
def test_every_cell_of_the_crossed_window_is_filled(
    mean_bd: tuple[float, float], span: tuple[float, float], count: int, seed: int
) -> None:
    cell = cell_of(mean_bd, span)
    patterns = sample_distinct(log_budget(24), cell, count, seed)
    assert len(patterns) == count
    assert_good(patterns, log_budget(24), cell)


@pytest.mark.parametrize(
    ("budget", "cell"),
    [
        (log_budget(24), cell_of()),
        (log_budget(24), cell_of(mean_bd=(1.9, 2.0))),
        (log_budget(24), cell_of(span=(4.0, 4.2))),
        (log_budget(24), cell_of(from_output=(1.8, 2.0))),
        (log_budget(24), cell_of((1.9, 2.1), (4.4, 4.8), (1.9, 2.1))),
        (Budget(24, total=94), cell_of((2.0, 2.1), (4.4, 4.8))),
        (Budget(24, total=60), cell_of((2.4, 2.6), (3.0, 5.0), (2.2, 2.6))),
        (Budget(24, total=94, max_in=6, max_out=7), cell_of((2.0, 2.2), (4.0, 5.0))),
        (Budget(24, per_layer=log_budget(24).per_layer, max_out=6), cell_of((1.9, 2.1), (4.0, 5.0))),
        (Budget(24, per_layer=log_budget(24).per_layer, max_in=5), cell_of(mean_bd=(1.9, 2.1))),
    ],
    ids=str,
)
def test_patterns_lie_in_their_cell_at_the_exact_budget(budget: Budget, cell: Cell) -> None:
    patterns = sample_distinct(budget, cell, 5, 3)
    assert len(patterns) == 5
    assert_good(patterns, budget, cell)


def test_the_first_patterns_do_not_depend_on_how_many_are_asked_for() -> None:
    cell = cell_of((1.9, 2.0), (4.5, 4.7))
    eight = sample_distinct(log_budget(24), cell, 8, 5)
    for count in (1, 3, 8):
        assert sample_distinct(log_budget(24), cell, count, 5) == eight[:count]
    assert sample_distinct(log_budget(24), cell, 0, 5) == []
    assert not set(sample_distinct(log_budget(24), cell, 8, 6)) & set(eight)


def test_a_generator_fixes_its_pattern() -> None:
    cell = cell_of((1.9, 2.0), (4.5, 4.7))
    one, again, other = (sample_cell(log_budget(24), cell, derive_generator(seed)) for seed in (1, 1, 2))
    assert one is not None
    assert one == again != other


SMALL_CELLS = [
    (log_budget(5), cell_of()),
    (log_budget(6), cell_of(mean_bd=(1.4, 1.45))),
    (log_budget(6), cell_of((1.35, 1.45), (1.9, 2.1))),
    (log_budget(6), cell_of((1.35, 1.5), (1.8, 2.3), (1.4, 1.6))),
    (Budget(5, total=8), cell_of(mean_bd=(1.4, 1.5))),
    (Budget(5, total=9), cell_of(span=(1.6, 2.0))),
    (Budget(5, total=8, max_out=2), cell_of(span=(1.4, 1.7))),
]


@pytest.mark.parametrize(("budget", "cell"), SMALL_CELLS, ids=str)
def test_a_small_cell_gives_all_its_patterns_and_no_more(budget: Budget, cell: Cell) -> None:
    space = {pattern for pattern in patterns_of(budget) if lies_in(pattern, cell)}
    assert len(space) > 3
    found = sample_distinct(budget, cell, len(space) + 5, 0)
    assert_good(found, budget, cell)
    assert len(found) >= 0.85 * len(space)  # chains that find nothing new end it before the last ones are met
    assert set(found) <= space


def test_draws_from_a_cell_are_uniform_where_the_walk_reaches_all_of_it() -> None:
    budget, cell = log_budget(5), cell_of(mean_bd=(1.2, 1.27))
    space = [pattern for pattern in patterns_of(budget) if lies_in(pattern, cell)]
    assert len(space) == 33
    drawn = (sample_cell(budget, cell, derive_generator("cell draws", number)) for number in range(33 * 40))
    counts = Counter(pattern for pattern in drawn if pattern is not None)
    assert set(counts) == set(space)
    p_value = stats.chisquare([counts[pattern] for pattern in space]).pvalue
    assert 0.001 < p_value < 0.999


def test_a_band_includes_both_its_bounds() -> None:
    budget = log_budget(5)
    for pattern in patterns_of(budget):
        row = describe(pattern)
        at = Cell({name: Band(row[name], row[name]) for name in NAMES})
        found = sample_cell(budget, at, derive_generator("at", pattern.key))
        assert found is not None
        assert lies_in(found, at)


# --- nothing there -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "cell",
    [
        cell_of(mean_bd=(1.0, 1.1)),
        cell_of(mean_bd=(8.0, 9.0)),
        cell_of(span=(20.0, 22.0)),
        cell_of(from_output=(0.0, 0.5)),
        cell_of(mean_bd=(1.9001, 1.9002)),  # between two values of the mean
        cell_of((1.6, 1.69), (1.5, 2.0)),
    ],
    ids=str,
)
def test_an_empty_cell_is_said_to_be_not_found(cell: Cell) -> None:
    with ends():
        assert sample_cell(log_budget(24), cell, derive_generator(0), max_moves=4_000) is None


def test_a_list_from_an_empty_cell_is_empty() -> None:
    with ends():
        assert sample_distinct(log_budget(8), cell_of(mean_bd=(6.0, 7.0)), 4, 0) == []


@pytest.mark.parametrize(
    "budget",
    [Budget(5, total=5), Budget(1, total=1), log_budget(2), Budget(6, total=21), Budget(7, per_layer=(1,) * 7)],
    ids=lambda b: f"{b.depth}-{b}",
)
def test_a_space_of_one_pattern_gives_it_or_nothing(budget: Budget) -> None:
    only = budget.example()
    with ends():
        assert sample_cell(budget, cell_of(), derive_generator(0)) == only
        assert sample_distinct(budget, cell_of(), 3, 0) == [only]
        assert sample_cell(budget, cell_of(mean_bd=(40, 50)), derive_generator(0), max_moves=4_000) is None


@pytest.mark.parametrize("max_moves", [0, 1, 3, 4, 5])
def test_any_cap_on_moves_is_an_end(max_moves: int) -> None:
    with ends():
        assert sample_cell(log_budget(12), cell_of(mean_bd=(1.0, 1.1)), derive_generator(0), max_moves) is None


@pytest.mark.parametrize("band", [(2.0, 1.9), (math.nan, 2.0), (1.0, math.nan)], ids=str)
@pytest.mark.parametrize("name", [*NAMES, "walk_length"])
def test_a_band_that_holds_nothing_is_refused(name: str, band: tuple[float, float]) -> None:
    with pytest.raises(InputError, match=rf"band {name} .* is empty: give LO:HI with LO at most HI"):
        Cell({name: Band(*band)})


@pytest.mark.parametrize("band", [(-math.inf, 2.0), (1.9, math.inf), (-math.inf, math.inf)], ids=str)
def test_a_band_without_end_is_open_or_refused_by_name(band: tuple[float, float]) -> None:
    try:
        cell = cell_of(mean_bd=band)
    except InputError as refusal:
        assert "mean_bd" in str(refusal)
        return
    pattern = sample_cell(log_budget(12), cell, derive_generator(0), max_moves=10_000)
    assert pattern is None or lies_in(pattern, cell)


# --- every budget ------------------------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None, derandomize=True)
@given(budgets(), st.integers(0, 2**32))
def test_uniform_draws_spend_any_budget_and_repeat_for_a_seed(budget: Budget, seed: int) -> None:
    try:
        pattern = sample_uniform(budget, derive_generator(seed))
    except InputError as refusal:
        assert "broke a cap" in str(refusal)
        assert budget.max_in or budget.max_out
        return
    assert_spent(pattern, budget)
    assert sample_uniform(budget, derive_generator(seed)) == pattern


@settings(max_examples=60, deadline=None, derandomize=True)
@given(budgets(), st.integers(0, 2**32), st.sampled_from(NAMES), st.floats(0, 0.3))
def test_draws_from_a_cell_spend_any_budget_and_repeat_for_a_seed(
    budget: Budget, seed: int, name: str, width: float
) -> None:
    middle = measure(budget.example(), [name])[name]
    cell = Cell({name: Band(middle - width / 2, middle + width / 2)})
    pattern = sample_cell(budget, cell, derive_generator(seed), max_moves=40_000)
    assert sample_cell(budget, cell, derive_generator(seed), max_moves=40_000) == pattern
    if pattern is not None:
        assert_spent(pattern, budget)
        assert lies_in(pattern, cell)


def test_paths_from_the_output_are_what_from_output_bands_are_of() -> None:
    cell = cell_of(from_output=(2.5, 2.6))
    pattern = sample_cell(log_budget(24), cell, derive_generator(0))
    assert pattern is not None
    hops = nx.single_source_shortest_path_length(pattern.gradient_graph(), 24)
    assert 2.5 <= sum(hops.values()) / 24 <= 2.6


@pytest.mark.parametrize("budget", [log_budget(5), Budget(4, total=6), Budget(5, total=8, max_out=3)], ids=str)
def test_the_reach_of_a_small_budget_is_that_of_all_its_patterns(budget: Budget) -> None:
    patterns = patterns_of(budget)
    assert len(patterns) > 5
    names = (*NAMES, "walk_length", "visit_evenness", "ntk_trace", "log_paths")
    reach = find_reach(budget, names)
    for name, own in reach.items():
        values = measure_batch(patterns, [name])[name]
        assert own == pytest.approx((min(values), max(values)))
