"""Measures of many patterns at once: those of the registry."""

import numpy as np
import pytest

from search_spaces.budget import Budget
from search_spaces.measures.registry import measure
from search_spaces.pattern import ConnectionPattern
from search_spaces.sampling.draw import sample_uniform
from search_spaces.surrogate.features import PREDICTORS, Measured, measure_patterns


@pytest.mark.parametrize("budget", [Budget(1, total=1), Budget(6, total=6), Budget(9, total=17), Budget(4, total=10)])
@pytest.mark.parametrize("reads", [None, "last"])
def test_every_measure_is_the_registry_s(budget: Budget, reads: str | None) -> None:
    nodes = None if reads is None else (budget.depth,)
    generator = np.random.default_rng(3)
    patterns = [sample_uniform(budget, generator) for _ in range(4)]
    table = measure_patterns(patterns, nodes)
    for pattern, row in zip(patterns, table, strict=True):
        expected = measure(pattern, PREDICTORS, nodes)
        assert row == pytest.approx([expected[name] for name in PREDICTORS], abs=1e-12)


def test_a_table_measures_each_pattern_once(monkeypatch: pytest.MonkeyPatch) -> None:
    from search_spaces.surrogate import features

    measured: list[ConnectionPattern] = []

    def count(patterns: list[ConnectionPattern], _reads: None) -> np.ndarray:
        measured.extend(patterns)
        return np.arange(len(patterns) * len(PREDICTORS), dtype=float).reshape(len(patterns), -1)

    monkeypatch.setattr(features, "measure_patterns", count)
    generator = np.random.default_rng(0)
    first, second, third = (sample_uniform(Budget(7, total=12), generator) for _ in range(3))
    table = Measured()
    before = table.table([first, second])
    after = table.table([third, second, first])
    assert measured == [first, second, third]
    assert np.array_equal(after[1], before[1])
    assert np.array_equal(after[2], before[0])
    assert table.table([]).shape == (0, len(PREDICTORS))
