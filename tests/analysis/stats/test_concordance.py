"""Kendall's pair sums against all pairs written out."""

import numpy as np
import pytest

from analysis.stats.concordance import LANES, permute_concordances, sum_concordances, sum_untied


def _signs(x: np.ndarray) -> np.ndarray:
    signs: np.ndarray = np.sign(x[:, None] - x[None, :])
    return signs


def _sum_pairs(pairs: np.ndarray, weights: np.ndarray) -> np.ndarray:
    return np.array([row @ pairs @ row for row in weights])


@pytest.mark.parametrize("n", [1, 2, 5, 33, 130])
@pytest.mark.parametrize("n_draws", [1, LANES, 2 * LANES + 3])
def test_sums_are_those_of_all_pairs(n: int, n_draws: int) -> None:
    generator = np.random.default_rng(n)
    x, y = generator.integers(0, 6, n).astype(float), generator.normal(size=n).round(1)
    counts = generator.multinomial(n, np.full(n, 1 / n), size=n_draws).astype(float)
    assert (sum_concordances(x, y, counts) == _sum_pairs(_signs(x) * _signs(y), counts)).all()
    assert (sum_untied(x, counts) == _sum_pairs(abs(_signs(x)), counts)).all()
    scaled = counts * generator.uniform(0.5, 1.5, n)
    assert sum_concordances(x, y, scaled) == pytest.approx(_sum_pairs(_signs(x) * _signs(y), scaled), abs=1e-9)
    assert sum_untied(x, scaled) == pytest.approx(_sum_pairs(abs(_signs(x)), scaled))


@pytest.mark.parametrize("n", [1, 2, 5, 33, 130])
def test_permuted_sums_are_those_of_all_pairs(n: int) -> None:
    generator = np.random.default_rng(n)
    x, y = generator.integers(0, 6, n).astype(float), generator.normal(size=n).round(1)
    orders = np.array([generator.permutation(n) for _ in range(20)])
    expected = [(_signs(x) * _signs(y[order])).sum() for order in orders]
    assert permute_concordances(x, y, orders).tolist() == expected


def test_rows_that_share_one_value_have_no_untied_pair_at_all() -> None:
    x = np.array([0.1, 0.1, 0.3, 0.3])
    assert sum_untied(x, np.array([[1.1, 0.3, 0.0, 0.0], [0.0, 0.0, 0.7, 1.3]])).tolist() == [0.0, 0.0]
