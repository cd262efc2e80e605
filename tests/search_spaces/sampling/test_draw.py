"""Sampling: exact budgets, uniform draws, streams that depend on their seed alone."""

import math
from collections import Counter

import numpy as np
import pytest
from scipy import stats

from search_spaces.budget import Budget, log_budget
from search_spaces.sampling.draw import sample_uniform
from search_spaces.sampling.kernels import batch_distances
from search_spaces.seeds import derive_generator
from search_spaces.templates import find_template
from tests.support.patterns import patterns_of


@pytest.mark.parametrize("depth", [1, 2, 3, 12, 40])
def test_every_draw_spends_its_budget_exactly(depth: int) -> None:
    most = depth * (depth + 1) // 2
    generator = derive_generator("exact", depth)
    budgets = [Budget(depth, total=total) for total in {depth, (depth + most) // 2, most}]
    budgets += [
        log_budget(depth),
        Budget(depth, per_layer=(1,) * depth),
        Budget(depth, per_layer=tuple(range(1, depth + 1))),
        Budget(depth, per_layer=tuple(int(generator.integers(1, layer + 1)) for layer in range(1, depth + 1))),
    ]
    for budget in budgets:
        for _ in range(20):
            pattern = sample_uniform(budget, generator)
            assert pattern.depth == depth
            if budget.per_layer is None:
                assert pattern.n_connections == budget.total
            else:
                assert pattern.in_degrees == budget.per_layer


def test_the_smallest_and_largest_budgets_leave_no_choice() -> None:
    generator = derive_generator(0)
    assert sample_uniform(Budget(9, total=9), generator) == find_template("chain").build(9)
    assert sample_uniform(Budget(9, total=45), generator) == find_template("dense").build(9)


@pytest.mark.parametrize(
    "budget",
    [
        Budget(5, per_layer=(1, 2, 2, 3, 3)),
        Budget(4, per_layer=(1, 1, 2, 2)),
        Budget(5, total=8),
        Budget(5, total=13),
        Budget(4, total=7),
    ],
    ids=str,
)
def test_draws_are_uniform_over_the_whole_enumeration(budget: Budget) -> None:
    space = patterns_of(budget)
    generator = derive_generator("uniform", str(budget))
    counts = Counter(sample_uniform(budget, generator) for _ in range(50 * len(space)))
    assert set(counts) == set(space)
    p_value = stats.chisquare([counts[pattern] for pattern in space]).pvalue
    assert 0.001 < p_value < 0.999  # neither lopsided nor evener than chance


@pytest.mark.parametrize("budget", [log_budget(24), Budget(24, total=94)], ids=str)
def test_a_seed_fixes_its_draws_and_other_numbers_give_other_streams(budget: Budget) -> None:
    draws = [sample_uniform(budget, derive_generator(7, "proposal", number)) for number in range(50)]
    again = [sample_uniform(budget, derive_generator(7, "proposal", number)) for number in range(50)]
    other = [sample_uniform(budget, derive_generator(8, "proposal", number)) for number in range(50)]
    assert draws == again
    assert len({*draws, *other}) == 100


def test_one_generator_moves_on_from_draw_to_draw() -> None:
    generator = derive_generator(0)
    assert len({sample_uniform(log_budget(24), generator) for _ in range(50)}) == 50


def test_the_global_generator_is_neither_read_nor_moved() -> None:
    np.random.seed(1)  # noqa: NPY002 - the state under test
    before = np.random.get_state(legacy=False)  # noqa: NPY002
    one = sample_uniform(log_budget(24), derive_generator(3))
    np.testing.assert_equal(np.random.get_state(legacy=False), before)  # noqa: NPY002
    np.random.seed(2)  # noqa: NPY002
    assert sample_uniform(log_budget(24), derive_generator(3)) == one


@pytest.mark.parametrize(("depth", "share"), [(12, 0.59), (24, 0.86), (52, 0.97)])
def test_a_uniform_draw_beats_log_as_often_as_known(depth: int, share: float) -> None:
    n_draws = 2000
    generator = derive_generator("beats log", depth)
    draws = [sample_uniform(log_budget(depth), generator) for _ in range(n_draws)]
    mean_bd = batch_distances([find_template("log").build(depth), *draws]).mean
    standard_error = math.sqrt(share * (1 - share) / n_draws)
    beating = float(np.mean(mean_bd[1:] < mean_bd[0] - 1e-9))
    assert beating == pytest.approx(share, abs=3 * standard_error + 0.005)  # the share is known to a percent
