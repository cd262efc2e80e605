"""Slopes of single seeds: their Q, and what random seeds do to a test."""

import numpy as np
import pytest
import scipy.stats

from analysis.verdict.seeds import SeedSlopes, compare_mean, compare_seeds, rank_seeds


def draw(seed: int, spread: float, n: int = 72, k: int = 4) -> tuple[np.ndarray, np.ndarray]:
    """A centred column of length n, and outcomes with a slope on it that each seed has of its own."""
    generator = np.random.default_rng(seed)
    x = generator.normal(size=n)
    x -= x.mean()
    values = (
        generator.normal(size=(n, 1)) + generator.normal(size=(n, k)) + spread * x[:, None] * generator.normal(size=k)
    )
    return values, x


def test_slopes_are_those_of_each_seeds_ranks() -> None:
    values, x = draw(0, 0.5)
    found = compare_seeds(rank_seeds(values), x)
    assert found is not None
    own = [scipy.stats.linregress(x, scipy.stats.rankdata(column) / 72).slope for column in values.T]
    assert found.slopes == pytest.approx(own)
    # Per pattern, by hand: how its ranks vary between seeds, beyond the seeds' slopes.
    ranks = np.stack([scipy.stats.rankdata(column) / 72 for column in values.T], axis=1)
    left = ranks - np.stack([np.polyval(np.polyfit(x, column, 1), x) for column in ranks.T], axis=1)
    kept = 1 - 1 / 72 - x**2 / (x @ x)
    apart = left - left.mean(axis=1, keepdims=True)
    variance = (x**2 * (apart**2).sum(axis=1) / 3 / kept**2).sum() / (x @ x) ** 2
    q = ((np.array(own) - np.mean(own)) ** 2).sum() / variance
    assert found.q == pytest.approx(q)
    assert found.p_value == pytest.approx(scipy.stats.chi2.sf(q, 3))
    assert found.spread == pytest.approx(max(np.var(own, ddof=1) - variance, 0))


def test_q_keeps_its_level_and_finds_slopes_of_half_a_residual() -> None:
    for spread, low, high in ((0.0, 0.04, 0.16), (0.5, 0.85, 1.0)):
        found = [compare_seeds(rank_seeds(values), x) for values, x in (draw(number, spread) for number in range(200))]
        assert low < np.mean([each is not None and each.are_random for each in found]) <= high


def test_random_seeds_widen_a_test_and_take_degrees_of_freedom() -> None:
    alike, apart = SeedSlopes((0.9, 1.0, 1.1, 1.0), 1.0, 0.8, 0.0), SeedSlopes((0.0, 1.0, 2.0, 1.0), 9.0, 0.03, 0.6)
    assert compare_mean(1.0, 0.1, alike, 60) == compare_mean(1.0, 0.1, None, 60)
    assert compare_mean(1.0, 0.1, alike, 60) == pytest.approx((2 * scipy.stats.t.sf(1 / 0.1**0.5, 60), 0.0))
    p_value = 2 * scipy.stats.t.sf(1 / (0.1 + 0.6 / 4) ** 0.5, 3 / 0.6**2)
    assert compare_mean(1.0, 0.1, apart, 60) == pytest.approx((p_value, 0.6))
    assert (compare_mean(0.0, 0.0, None, 9).p_value, compare_mean(1.0, 0.0, None, 9).p_value) == (1.0, 0.0)


def test_nothing_is_compared_where_there_is_nothing() -> None:
    values, x = draw(1, 0.0)
    assert compare_seeds(rank_seeds(values[:, :1]), x) is None
    assert compare_seeds(rank_seeds(values), 0 * x) is None
    assert compare_seeds(rank_seeds(values[:0]), x[:0]) is None
    assert compare_seeds(rank_seeds(np.repeat(values[:, :1], 3, axis=1)), x) is None
