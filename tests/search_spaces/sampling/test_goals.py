"""Annealing towards goals: any measure at the exact budget, by compiled code or by definitions alone."""

import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from search_spaces.budget import Budget, log_budget, parse_budget
from search_spaces.errors import InputError
from search_spaces.measures.compiled import COMPILED, measure_batch
from search_spaces.measures.registry import list_measures, measure
from search_spaces.pattern import ConnectionPattern
from search_spaces.sampling.annealing import Connections
from search_spaces.sampling.bounds import find_extreme_walk
from search_spaces.sampling.draw import sample_uniform
from search_spaces.sampling.goals import Band, Goal, anneal_towards, measure_spread, measure_spreads, wander_within
from search_spaces.sampling.optimal import PROVEN_MEASURES, optimize_measure, shortest_walk
from search_spaces.seeds import derive_generator
from search_spaces.templates import build_named, find_template, iterate_templates
from tests.support.budgets import assert_spent, budgets
from tests.support.patterns import patterns_of

SMALL = [log_budget(5), Budget(5, total=8), Budget(5, total=8, max_out=3)]


def draw(budget: Budget, n: int) -> list[ConnectionPattern]:
    return [sample_uniform(budget, derive_generator("draw", number)) for number in range(n)]


@pytest.mark.parametrize("name", ["mean_bd", "visit_evenness", "log_paths"])
def test_a_spread_is_that_of_uniform_draws(name: str) -> None:
    values = measure_batch(draw(log_budget(12), 400), [name])[name]
    spread = measure_spread(log_budget(12), name)
    assert spread.mean == pytest.approx(values.mean(), abs=0.35 * values.std())
    assert spread.sd == pytest.approx(values.std(), rel=0.35)
    assert spread.unit >= spread.sd


def test_a_measure_that_the_budget_fixes_has_no_spread_but_a_unit() -> None:
    spread = measure_spread(Budget(8, total=15), "skip_density")
    assert spread.mean == pytest.approx(7 / 28)
    assert (round(spread.sd, 12), spread.unit) == (0, 1)


@settings(max_examples=40, deadline=None, derandomize=True)
@given(budgets(), st.sampled_from([each.name for each in list_measures()]), st.integers(0, 2**32), st.booleans())
def test_any_measure_of_any_budget_is_moved_towards_its_ends(
    budget: Budget, name: str, seed: int, raises: bool
) -> None:
    generator = derive_generator(seed)
    connections = Connections.of(budget.example(), budget)
    before = measure(connections.pattern(), [name])[name]
    sign = -1.0 if raises else 1.0
    anneal_towards(connections, Goal(measure_spreads(budget, [name]), pulls={name: sign}), 400, (0.0, 0.0), generator)
    pattern = connections.pattern()
    assert_spent(pattern, budget)
    assert sign * measure(pattern, [name])[name] <= sign * before + 1e-9


@pytest.mark.parametrize("name", ["walk_length", "log_paths"])
def test_a_walk_inside_bands_is_uniform(name: str) -> None:
    """By the compiled loop and by the other one."""
    budget = log_budget(5)
    space = patterns_of(budget)
    values = measure_batch(space, [name])[name]
    low, high = np.quantile(values, [0.15, 0.85])
    inside = {pattern for pattern, value in zip(space, values, strict=True) if low - 1e-9 <= value <= high + 1e-9}
    goal = Goal(measure_spreads(budget, [name]), {name: Band(float(low), float(high))})
    connections = Connections.of(min(inside, key=lambda pattern: pattern.key), budget)
    generator = derive_generator("inside")
    n_moves = 20 if name in COMPILED else 20 * 100
    counts: Counter[ConnectionPattern] = Counter()
    for _ in range(30 * len(inside)):
        wander_within(connections, goal, n_moves, generator)
        counts[connections.pattern()] += 1
    assert set(counts) <= inside
    assert len(counts) >= 0.9 * len(inside)
    assert stats.chisquare(list(counts.values())).pvalue > 0.001


def test_energy_is_the_distance_outside_in_units_and_the_pulls() -> None:
    goal = Goal(
        measure_spreads(log_budget(8), ["span", "walk_length"]), {"span": Band(2.0, 3.0)}, {"walk_length": -2.0}
    )
    span, walk = goal.spreads["span"].unit, goal.spreads["walk_length"].unit
    assert goal.weigh({"span": 3.5, "walk_length": 4.0}) == pytest.approx(0.5 / span - 8.0 / walk)
    assert goal.weigh({"span": 1.0, "walk_length": 0.0}) == pytest.approx(1.0 / span)
    assert goal.weigh({"span": 2.5, "walk_length": 0.0}) == 0


# --- ends ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sign", [-1, 1])
@pytest.mark.parametrize("name", ["walk_length", "visit_evenness", "mean_bd", "span", "longest_skip"])
@pytest.mark.parametrize("budget", SMALL, ids=str)
def test_the_end_found_is_that_of_all_patterns(budget: Budget, name: str, sign: int) -> None:
    space = patterns_of(budget)
    extreme = optimize_measure(budget, name, sign)
    assert_spent(extreme.pattern, budget)
    assert extreme.value == pytest.approx(sign * max(sign * measure_batch(space, [name])[name]))
    assert extreme.value == measure(extreme.pattern, [name])[name]
    assert not extreme.by_clock


@pytest.mark.parametrize("sign", [-1, 1])
@pytest.mark.parametrize("name", ["walk_length", "visit_evenness", "mean_bd"])
def test_optimizing_beats_a_thousand_draws_both_ways(name: str, sign: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("search_spaces.sampling.optimal.MEASURE_ROUND", 30_000)
    budget = Budget(16, total=40)
    best = max(sign * measure_batch(draw(budget, 1000), [name])[name])
    extreme = optimize_measure(budget, name, sign, seed=3)
    assert sign * extreme.value > best
    assert not extreme.is_proven
    assert optimize_measure(budget, name, sign, seed=3) == extreme


def test_a_search_for_nothing_is_refused() -> None:
    with pytest.raises(InputError, match="walk_lenght"):
        optimize_measure(log_budget(5), "walk_lenght", 1)
    with pytest.raises(InputError, match="0 seconds"):
        optimize_measure(log_budget(5), "span", 1, seconds=0)


@pytest.mark.parametrize("sign", [-1, 1])
@pytest.mark.parametrize("name", PROVEN_MEASURES)
@pytest.mark.parametrize("degrees", [(1, 2, 2, 3, 2), (1, 1, 3, 1, 4), (1, 2, 3, 2, 1), (1, 2, 1, 3, 3)], ids=str)
def test_the_proven_walk_is_that_of_all_patterns(degrees: tuple[int, ...], name: str, sign: int) -> None:
    budget = Budget(5, per_layer=degrees)
    pattern = find_extreme_walk(budget, sign)
    assert pattern is not None
    assert budget.is_met_by(pattern)
    values = measure_batch(patterns_of(budget), [name])[name]
    assert measure(pattern, [name])[name] == pytest.approx(sign * max(sign * values))


def test_nothing_is_proven_of_a_total_or_where_readers_are_capped() -> None:
    assert find_extreme_walk(Budget(8, total=15), -1) is None
    assert find_extreme_walk(Budget(8, per_layer=log_budget(8).per_layer, max_out=4), -1) is None


# --- the template --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("layers", "text", "key", "walk"),
    [
        (24, "log", "c89735a6eed5", 2.280043),
        (24, "total:40", "327e85b9d8ee", 2.059134),
        (24, "log;max-out:6", "93cb0f23cba5", 3.191613),
        (52, "total:120", "545d0cf1fb88", 2.0),
    ],
)
def test_the_shortest_walk_is_the_same_pattern_everywhere(layers: int, text: str, key: str, walk: float) -> None:
    budget = parse_budget(text, layers)
    pattern = build_named("shortest_walk", budget)
    assert_spent(pattern, budget)
    assert pattern.key[:12] == key
    assert measure(pattern, ["walk_length"])["walk_length"] == pytest.approx(walk, abs=1e-6)
    shortest_walk.cache_clear()
    assert shortest_walk(budget) == pattern
    assert ("shortest_walk", pattern) in iterate_templates(budget)


@pytest.mark.parametrize("depth", [1, 2, 3, 8])
def test_the_template_at_a_depth_is_that_of_the_log_budget(depth: int) -> None:
    template = find_template("shortest_walk")
    assert template.build(depth) == shortest_walk(log_budget(depth))
    assert template.inputs_after(depth) == template.build(depth + 1).sources[-1]
    with pytest.raises(InputError, match="up to 256 layers"):
        template.build(257)


def test_its_walk_is_below_every_draw_and_template_of_its_budget() -> None:
    for budget in (log_budget(16), Budget(16, total=40)):
        shortest = measure(shortest_walk(budget), ["walk_length"])["walk_length"]
        others = [
            *draw(budget, 200),
            *(pattern for name, pattern in iterate_templates(budget) if name != "shortest_walk"),
        ]
        assert shortest < min(measure_batch(others, ["walk_length"])["walk_length"])
        assert math.isfinite(shortest)
