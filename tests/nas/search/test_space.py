"""Spaces: draws avoid what is known, a pool is fixed, distinct and wide, mutants are near."""

import math

import numpy as np
import pytest

from nas.search.space import MAX_MOVES, N_SPREAD, N_UNIFORM, N_WIDE, SPREAD_MEASURES, OpenSpace, spread_out
from search_spaces.budget import Budget, log_budget
from search_spaces.errors import InputError
from search_spaces.measures.registry import measure
from search_spaces.pattern import ConnectionPattern
from search_spaces.sampling.draw import sample_uniform
from search_spaces.seeds import derive_generator
from tests.support.patterns import patterns_of

BUDGETS = [Budget(9, total=18), log_budget(9), Budget(9, total=18, max_in=4, max_out=4)]


def _values(patterns: list[ConnectionPattern], name: str) -> list[float]:
    return [measure(pattern, [name])[name] for pattern in patterns]


@pytest.mark.parametrize("budget", BUDGETS, ids=str)
def test_a_pool_is_fixed_by_its_seed_and_names_nothing_twice(budget: Budget) -> None:
    space = OpenSpace(budget)
    pool = space.pool(3)
    assert all(map(budget.is_met_by, pool))
    assert len(set(pool)) == len(pool)
    assert N_UNIFORM + N_WIDE < len(pool) <= N_UNIFORM + N_WIDE + N_SPREAD
    assert OpenSpace(budget).pool(3) == pool
    assert space.pool(3) is pool  # computed once


def test_another_seed_gives_another_pool() -> None:
    space = OpenSpace(BUDGETS[0])
    assert len(set(space.pool(0)) & set(space.pool(1))) < 0.2 * len(space.pool(0))


def test_the_wide_and_spread_part_of_a_pool_reaches_further_than_the_uniform_one() -> None:
    pool = list(OpenSpace(Budget(16, total=28)).pool(0))
    uniform, wide, spread = pool[:N_UNIFORM], pool[N_UNIFORM : N_UNIFORM + N_WIDE], pool[N_UNIFORM + N_WIDE :]
    for name in SPREAD_MEASURES:
        deviation = np.std(_values(uniform, name))
        assert np.std(_values(wide, name)) > 1.4 * deviation, name
        assert np.std(_values(spread, name)) > 1.4 * deviation, name


def test_spread_patterns_lie_all_over_the_range_of_what_was_drawn_and_beyond() -> None:
    budget = Budget(16, total=28)
    drawn = [sample_uniform(budget, derive_generator("drawn", number)) for number in range(60)]
    spread = spread_out(budget, drawn, 60, derive_generator(0))
    for name in SPREAD_MEASURES:
        low, *_, high = sorted(_values(drawn, name))
        values = _values(spread, name)
        counts, _ = np.histogram(values, bins=np.linspace(low, high, 6))
        assert min(counts) >= 4, (name, counts)  # even: 9 of 60 in each fifth
        assert min(values) < low, name
        assert max(values) > high, name


@pytest.mark.parametrize("budget", [Budget(6, total=7), Budget(5, per_layer=(1, 2, 2, 2, 2))], ids=str)
def test_a_small_space_is_used_up(budget: Budget) -> None:
    space, everything = OpenSpace(budget), patterns_of(budget)
    assert set(space.pool(0)) == set(everything)
    for draw in (space.draw, space.draw_wide):
        known: set[str] = set()
        for _ in everything:
            pattern = draw(derive_generator(len(known)), known)
            assert pattern is not None
            assert pattern.key not in known
            known.add(pattern.key)
        assert draw(derive_generator(0), known) is None


def test_caps_that_refuse_uniform_draws_leave_the_rest_of_the_pool(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("search_spaces.sampling.draw.MAX_REJECTED", 20)
    budget = Budget(20, total=36, max_in=2, max_out=2)
    with pytest.raises(InputError, match="max-in:2"):
        OpenSpace(budget).draw(derive_generator(0), set())
    pool = OpenSpace(budget).pool(0)
    assert len(pool) >= N_WIDE - 5
    assert all(map(budget.is_met_by, pool))


@pytest.mark.parametrize("budget", [*BUDGETS, Budget(20, total=36, max_in=2, max_out=2)], ids=str)
def test_a_mutant_differs_by_one_to_four_connections(budget: Budget) -> None:
    space, pattern = OpenSpace(budget), budget.example()
    mutants = [space.mutate(pattern, derive_generator("mutant", number)) for number in range(100)]
    assert all(map(budget.is_met_by, mutants))
    n_moved = [len(set(mutant.connections) - set(pattern.connections)) for mutant in mutants]
    assert {1, MAX_MOVES} <= set(n_moved) <= set(range(MAX_MOVES + 1))  # a connection may have moved back
    assert n_moved.count(0) < 10
    assert len(set(mutants)) > 50


@pytest.mark.parametrize("total", [6, 21])
def test_without_a_choice_a_mutant_is_the_pattern(total: int) -> None:
    (pattern,) = patterns_of(Budget(6, total=total))
    assert OpenSpace(Budget(6, total=total)).mutate(pattern, derive_generator(0)) == pattern


def test_single_moves_lead_to_every_neighbour_alike() -> None:
    """Of 10 skips 3 are taken: each of the 3 goes to each of the 7 others with the same chance."""
    budget = Budget(5, total=8)
    space, pattern = OpenSpace(budget), budget.example()
    mutants = [space.mutate(pattern, derive_generator("neighbours", number)) for number in range(1500)]
    single = [mutant for mutant in mutants if len(set(mutant.connections) - set(pattern.connections)) == 1]
    counts = [single.count(mutant) for mutant in set(single)]
    assert len(counts) == 3 * 7
    assert max(counts) < 3 * min(counts)
    assert math.fsum(counts) > 300  # a quarter is meant to move one connection
