"""Wide draws: exact budgets and caps, chances as enumerated, reach beyond that of uniform draws."""

import itertools
import math
from collections import Counter
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from search_spaces.budget import Budget, log_budget
from search_spaces.measures.compiled import measure_batch
from search_spaces.pattern import ConnectionPattern
from search_spaces.sampling.draw import sample_uniform, sample_weighted, sample_wide
from search_spaces.seeds import derive_generator
from tests.support.budgets import assert_spent, budgets, most_connections
from tests.support.patterns import patterns_of

Skip = tuple[int, int]  # source, target


def _skips(depth: int) -> list[Skip]:
    return [(source, target) for target in range(2, depth + 1) for source in range(target - 1)]


@pytest.mark.parametrize(("max_in", "max_out"), [(2, None), (None, 2), (2, 2), (3, 2), (2, 4), (4, 3)])
def test_caps_hold_up_to_the_largest_total(max_in: int | None, max_out: int | None) -> None:
    """Greedy choices get stuck there, where a maximum flow says that there is a pattern."""
    generator = derive_generator("caps", str(max_in), str(max_out))
    for depth in range(2, 13):
        most = most_connections(depth, max_in, max_out)
        for total in {max(depth, most - 1), most}:
            budget = Budget(depth, total, None, max_in, max_out)
            for _ in range(10):
                assert_spent(sample_wide(budget, generator), budget)


@settings(max_examples=100, deadline=None, derandomize=True)
@given(budgets(), st.integers(0, 2**32))
def test_any_budget_is_spent_and_its_caps_hold(budget: Budget, seed: int) -> None:
    assert_spent(sample_wide(budget, np.random.default_rng(seed)), budget)


@pytest.mark.parametrize("budget", [Budget(5, total=8, max_in=2), Budget(6, total=9, max_in=2, max_out=2)], ids=str)
def test_every_pattern_under_caps_comes_up(budget: Budget) -> None:
    generator = derive_generator("all", str(budget))
    assert {sample_wide(budget, generator) for _ in range(3000)} == set(patterns_of(budget))


@pytest.mark.parametrize("budget", [Budget(5, total=8), Budget(5, per_layer=(1, 2, 2, 3, 3))], ids=str)
def test_equal_weights_give_uniform_draws(budget: Budget) -> None:
    space = patterns_of(budget)
    generator = derive_generator("equal weights", str(budget))
    zeros = np.zeros(len(_skips(budget.depth)))
    counts = Counter(sample_weighted(budget, zeros, generator) for _ in range(50 * len(space)))
    assert set(counts) == set(space)
    assert 0.001 < stats.chisquare([counts[pattern] for pattern in space]).pvalue < 0.999


def _chance(weights: dict[Skip, float], chosen: tuple[Skip, ...]) -> float:
    """The chance that draws one after another, by weight among those left, give a set of skips in any order."""
    chance = 0.0
    for order in itertools.permutations(chosen):
        left, product = math.fsum(weights.values()), 1.0
        for skip in order:
            product *= weights[skip] / left
            left -= weights[skip]
        chance += product
    return chance


def _split(budget: Budget, pattern: ConnectionPattern) -> Iterator[tuple[list[Skip], tuple[Skip, ...]]]:
    """Yield the skips to choose from and those chosen, of each choice that the budget leaves."""
    chosen = [skip for skip in pattern.connections if skip[1] - skip[0] > 1]
    if budget.per_layer is None:
        yield _skips(budget.depth), tuple(chosen)
        return
    for layer in range(2, budget.depth + 1):
        yield [s for s in _skips(budget.depth) if s[1] == layer], tuple(s for s in chosen if s[1] == layer)


@pytest.mark.parametrize("budget", [Budget(4, total=6), Budget(5, per_layer=(1, 2, 2, 3, 2))], ids=str)
def test_chances_are_those_of_draws_one_after_another(budget: Budget) -> None:
    skips = _skips(budget.depth)
    log_weights = 1.5 * derive_generator("weights", str(budget)).standard_normal(len(skips))
    weights = dict(zip(skips, np.exp(log_weights).tolist(), strict=True))
    space = patterns_of(budget)
    expected = np.array([
        math.prod(_chance({skip: weights[skip] for skip in possible}, chosen) for possible, chosen in _split(budget, p))
        for p in space
    ])  # fmt: skip
    assert expected.sum() == pytest.approx(1)
    assert expected.max() > 4 * expected.min()  # far from uniform
    generator = derive_generator("successive", str(budget))
    n_draws = 4000
    counts = Counter(sample_weighted(budget, log_weights, generator) for _ in range(n_draws))
    p_value = stats.chisquare([counts[pattern] for pattern in space], n_draws * expected).pvalue
    assert 0.001 < p_value < 0.999


@pytest.mark.parametrize("budget", [Budget(24, total=40), log_budget(24)], ids=str)
def test_wide_draws_vary_more_than_uniform_ones(budget: Budget) -> None:
    names = ["walk_length", "mean_bd", "span", "visit_evenness"]
    generator = derive_generator("reach", str(budget))
    uniform = measure_batch([sample_uniform(budget, generator) for _ in range(150)], names)
    wide = measure_batch([sample_wide(budget, generator) for _ in range(150)], names)
    for name in names:
        assert np.std(wide[name]) > 1.4 * np.std(uniform[name]), name


def test_a_seed_fixes_its_draws() -> None:
    budget = Budget(24, total=40)
    draws = [sample_wide(budget, derive_generator(7, number)) for number in range(20)]
    assert draws == [sample_wide(budget, derive_generator(7, number)) for number in range(20)]
    assert len({*draws, *(sample_wide(budget, derive_generator(8, number)) for number in range(20))}) >= 39
