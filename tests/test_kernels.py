"""Compiled distances equal networkx's, pattern by pattern, and reproduce the small exhaustive counts."""

import itertools
from collections.abc import Sequence

import numpy as np
import pytest
from test_distance import random_pattern
from test_pattern import every_pattern

from search_spaces.budget import Budget, log_budget
from search_spaces.distance import backprop_distance
from search_spaces.errors import InputError
from search_spaces.kernels import MAX_DEPTH, batch_distances
from search_spaces.pattern import ConnectionPattern
from search_spaces.sampling import derive_generator, sample_uniform
from search_spaces.templates import TEMPLATES, find_template


def assert_equals_networkx(patterns: Sequence[ConnectionPattern]) -> None:
    batch = batch_distances(patterns)
    references = [backprop_distance(pattern) for pattern in patterns]
    assert batch.mean.tolist() == [reference.mean for reference in references]
    assert batch.max.tolist() == [reference.max for reference in references]
    assert batch.from_output_mean.tolist() == [reference.from_output_mean for reference in references]
    assert batch.to_input_mean.tolist() == [reference.to_input_mean for reference in references]


@pytest.mark.parametrize(("depth", "n_patterns"), [(1, 1), (2, 2), (3, 8), (4, 64), (5, 1024)])
def test_every_pattern_of_a_small_depth_equals_networkx(depth: int, n_patterns: int) -> None:
    patterns = list(every_pattern(depth))
    assert len(set(patterns)) == n_patterns
    assert_equals_networkx(patterns)


@pytest.mark.parametrize("depth", [6, 12, 24, 52, 100])
def test_random_patterns_equal_networkx(depth: int) -> None:
    most = depth * (depth + 1) // 2
    budgets = [
        log_budget(depth),
        Budget(depth, per_layer=tuple((layer + 2) // 3 for layer in range(1, depth + 1))),
        *(Budget(depth, total=depth + (most - depth) * percent // 100) for percent in (1, 10, 60)),
    ]
    generator = derive_generator("test_kernels", depth)
    drawn = [sample_uniform(budget, generator) for budget in budgets for _ in range(2)]
    assert_equals_networkx([*drawn, *(random_pattern(depth, seed) for seed in range(4))])


@pytest.mark.parametrize("depth", [1, 2, 17, 63])
def test_templates_equal_networkx(depth: int) -> None:
    assert_equals_networkx([template.build(depth) for template in TEMPLATES.values()])


def test_entries_do_not_depend_on_what_else_is_in_the_batch() -> None:
    patterns = [find_template(name).build(20) for name in ("dense", "chain", "dense", "log", "chain")]
    together = batch_distances(patterns)
    alone = [batch_distances([pattern]) for pattern in patterns]
    assert together.mean.tolist() == [one.mean[0] for one in alone]
    assert together.max.tolist() == [1, 20, 1, 4, 20]
    assert together.mean.shape == together.max.shape == together.from_output_mean.shape == (5,)
    assert (str(together.mean.dtype), str(together.max.dtype)) == ("float64", "int64")


def test_distances_above_a_byte_are_exact() -> None:
    batch = batch_distances([find_template("chain").build(600)])
    assert batch.max.tolist() == [600]
    assert batch.mean.tolist() == [pytest.approx(602 / 3, rel=1e-12)]
    assert batch.from_output_mean.tolist() == batch.to_input_mean.tolist() == [601 / 2]


def test_batches_of_nothing_mixed_depths_or_too_deep_patterns_are_refused() -> None:
    with pytest.raises(InputError, match="patterns of one depth"):
        batch_distances([])
    with pytest.raises(InputError, match=r"not of depths \[3, 5\]"):
        batch_distances([find_template("log").build(depth) for depth in (5, 3, 5)])
    with pytest.raises(InputError, match=rf"up to {MAX_DEPTH}, not of depths \[{MAX_DEPTH + 1}\]"):
        batch_distances([find_template("chain").build(MAX_DEPTH + 1)])
    assert np.iinfo(np.int16).max >= MAX_DEPTH + 1  # row + 1 is formed before the minimum


def patterns_of_log_budget(depth: int) -> list[ConnectionPattern]:
    choices = [
        [(*skips, layer - 1) for skips in itertools.combinations(range(layer - 1), layer.bit_length() - 1)]
        for layer in range(1, depth + 1)
    ]
    return [ConnectionPattern(depth, sources) for sources in itertools.product(*choices)]


@pytest.mark.parametrize(("depth", "n_patterns", "n_optimal"), [(5, 36, 33), (6, 360, 245), (7, 5_400, 1_931)])
def test_optima_of_the_log_budget_are_as_many_as_known(depth: int, n_patterns: int, n_optimal: int) -> None:
    batch = batch_distances(patterns_of_log_budget(depth))
    assert batch.mean.shape == (n_patterns,)
    optimal = batch.mean == batch.mean.min()
    assert optimal.sum() == n_optimal
    assert set(batch.max[optimal].tolist()) == {2}
    assert batch.max[~optimal].min() == 3


def test_six_layers_with_ten_connections_have_two_optima() -> None:
    skips = [(source, target) for target in range(2, 7) for source in range(target - 1)]
    chain = [(layer - 1, layer) for layer in range(1, 7)]
    patterns = [
        ConnectionPattern.from_connections(6, [*chain, *chosen]) for chosen in itertools.combinations(skips, 10 - 6)
    ]
    batch = batch_distances(patterns)
    assert batch.mean.shape == (1_365,)
    assert (batch.mean == batch.mean.min()).sum() == 2
