"""Sampling: exact budgets, uniform draws, streams that depend on their seed alone."""

import hashlib
import math
from collections import Counter

import numpy as np
import pytest
from scipy import stats

from search_spaces.budget import Budget, log_budget
from search_spaces.distance import describe
from search_spaces.errors import InputError
from search_spaces.sampling.cells import Cell, find_reach, sample_towards
from search_spaces.sampling.draw import sample_uniform
from search_spaces.sampling.kernels import batch_distances
from search_spaces.seeds import derive_generator, derive_seed
from search_spaces.templates import build_named, find_template
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


@pytest.mark.parametrize("parts", [(0,), (0, "proposal", 1), (10**30, "", -1), ("a",)])
def test_seeds_are_the_top_63_bits_of_the_hash(parts: tuple[int | str, ...]) -> None:
    digest = hashlib.sha256("/".join(str(part) for part in parts).encode()).hexdigest()
    assert derive_seed(*parts) == int(digest, 16) >> (256 - 63)


def test_seeds_are_many_and_fit_in_63_bits() -> None:
    seeds = [derive_seed(run, "trial", number) for run in range(10) for number in range(100)]
    assert len(set(seeds)) == 1000
    assert 0 <= min(seeds) < 2**56
    assert 2**62 < max(seeds) < 2**63


@pytest.mark.parametrize(("depth", "share"), [(12, 0.59), (24, 0.86), (52, 0.97)])
def test_a_uniform_draw_beats_log_as_often_as_known(depth: int, share: float) -> None:
    n_draws = 2000
    generator = derive_generator("beats log", depth)
    draws = [sample_uniform(log_budget(depth), generator) for _ in range(n_draws)]
    mean_bd = batch_distances([find_template("log").build(depth), *draws]).mean
    standard_error = math.sqrt(share * (1 - share) / n_draws)
    beating = float(np.mean(mean_bd[1:] < mean_bd[0] - 1e-9))
    assert beating == pytest.approx(share, abs=3 * standard_error + 0.005)  # the share is known to a percent


@pytest.mark.parametrize("budget", [log_budget(24), Budget(24, total=60)], ids=str)
def test_random_names_spend_the_budget_and_differ_by_seed(budget: Budget) -> None:
    patterns = [build_named(f"random:{seed}", budget) for seed in range(20)]
    assert all(budget.is_met_by(pattern) for pattern in patterns)
    assert len(set(patterns)) == 20
    assert build_named("random:7", budget) == patterns[7]


def test_other_names_are_templates_at_the_depth_of_the_budget() -> None:
    for name in ("dense", "log:b=3,c=2"):
        assert build_named(name, Budget(9, total=12)) == find_template(name).build(9)


@pytest.mark.parametrize(
    ("name", "said"), [("random:", "as in random:7"), ("random:x", "'random:x'"), ("rand", "rand")]
)
def test_a_name_of_nothing_is_refused(name: str, said: str) -> None:
    with pytest.raises(InputError, match=said):
        build_named(name, log_budget(4))


@pytest.mark.parametrize("budget", [log_budget(5), Budget(4, total=6), Budget(5, total=8, max_out=3)], ids=str)
def test_the_reach_of_a_small_budget_is_that_of_all_its_patterns(budget: Budget) -> None:
    rows = [describe(pattern) for pattern in patterns_of(budget)]
    assert len(rows) > 5
    reach = find_reach(budget)
    for name, column in (("mean_bd", "mean_bd"), ("span", "span"), ("from_output", "from_output_mean")):
        values = [row[column] for row in rows]
        assert getattr(reach, name) == pytest.approx((min(values), max(values)))


def test_towards_a_cell_that_exists_a_pattern_in_it_is_found() -> None:
    cell = Cell(mean_bd=(1.95, 2.05), span=(5.0, 5.4), from_output=(1.9, 2.3))
    for seed in range(5):
        row = describe(sample_towards(log_budget(24), cell, derive_generator(seed)))
        assert 1.95 <= row["mean_bd"] <= 2.05
        assert 5.0 <= row["span"] <= 5.4
        assert 1.9 <= row["from_output_mean"] <= 2.3


def test_towards_a_cell_beyond_all_patterns_the_nearest_is_found() -> None:
    """No mean BD is as low as 1: of all patterns of six layers the shortest is the nearest."""
    least = find_reach(log_budget(6)).mean_bd
    assert least is not None
    for seed in range(5):
        pattern = sample_towards(log_budget(6), Cell(mean_bd=(1.0, 1.0)), derive_generator(seed))
        assert log_budget(6).is_met_by(pattern)
        assert describe(pattern)["mean_bd"] == pytest.approx(least[0])
