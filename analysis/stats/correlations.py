"""Rank correlations of columns, with bootstrap intervals and permutation p-values.

Columns have shape (n,). Weights, shape (draws, n), say how often each row occurs: ones for the sample, bootstrap
weights for a resample. A statistic of weighted rows has shape (draws,), nan where a column is constant among those that
occur.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal, Self

import numpy as np

from analysis.data.protocol import N_RESAMPLES
from analysis.stats.intervals import percentile_interval
from analysis.stats.resampling import Groups, Vector, bootstrap, centre_inside, permute, share_as_far

Method = Literal["spearman", "kendall"]
METHODS: tuple[Method, Method] = ("spearman", "kendall")
FLAT = 1e-12  # sum of squared ranks below which a column is constant, apart from rounding


@dataclass(frozen=True, slots=True)
class Estimate:
    """A rank correlation with its uncertainty; None where it is not defined.

    Args:
        value: in -1..1; None where a column is constant.
        low, high: percentile bootstrap interval over patterns.
        p_value: two-sided, from permutations; None where none were made.
        n_degenerate: number of resamples left out of the interval because a column came out constant.
    """

    value: float | None
    low: float | None
    high: float | None
    p_value: float | None
    n_degenerate: int

    @classmethod
    def from_resamples(cls, value: float, resampled: Vector, p_value: float | None) -> Self:
        """Return an estimate with the interval of its resamples, shape (n,), nan where undefined."""
        return cls(value, *percentile_interval(resampled), p_value, int((~np.isfinite(resampled)).sum()))


UNDEFINED = Estimate(None, None, None, None, 0)


def weighted_ranks(x: Vector, weights: Vector) -> Vector:
    """Return mid-ranks less their mean, of rows that occur `weights` times; shapes (n,) and (draws, n) -> (draws, n).

    >>> weighted_ranks(np.array([5.0, 1, 5]), np.ones((1, 3))).tolist()
    [[0.5, -1.0, 0.5]]
    """
    _, inverse = np.unique(x, return_inverse=True)
    order = np.argsort(inverse, kind="stable")
    starts = np.flatnonzero(np.diff(inverse[order], prepend=-1))
    tied = np.add.reduceat(weights[:, order], starts, axis=1)  # (draws, distinct values)
    through = tied.cumsum(axis=1)
    ranks: Vector = (through - tied / 2 - through[:, -1:] / 2)[:, inverse]
    return ranks


def weighted_spearman(x: Vector, y: Vector, weights: Vector) -> Vector:
    """Return Spearman's rho of weighted rows.

    >>> weighted_spearman(np.array([1.0, 2, 3]), np.array([2.0, 9, 5]), np.ones((1, 3))).tolist()
    [0.5]
    """
    return _correlate_ranks(weighted_ranks(x, weights), weighted_ranks(y, weights), weights)


def correlate(
    measures: Mapping[str, Vector],
    y: Vector,
    cells: Groups,
    bands: Mapping[str, Groups],
    generator: np.random.Generator,
) -> dict[tuple[str, Method], Estimate]:
    """Correlate several columns with y by both methods, each with its interval and p-value.

    Args:
        measures, y: columns; the correlation with a constant one is not defined.
        cells: groups inside which the bootstrap draws, as draw_weights.
        bands: by measure, groups inside which the permutations stay.
    """
    tested = [name for name, x in measures.items() if np.ptp(x) != 0 and np.ptp(y) != 0]
    estimates = {(name, method): UNDEFINED for name in measures for method in METHODS}
    if not tested:
        return estimates

    def statistic(weights: Vector) -> Vector:
        return np.stack(_statistics(measures, tested, y, weights), axis=1)

    values = statistic(np.ones((1, len(y))))[0]
    resampled = bootstrap(statistic, cells, generator)  # (resamples, 2 * tested)
    p_values = _test_all({name: measures[name] for name in tested}, y, bands, generator)
    for column, key in enumerate((name, method) for name in tested for method in METHODS):
        estimates[key] = Estimate.from_resamples(float(values[column]), resampled[:, column], p_values[key])
    return estimates


def estimate(
    statistic: Callable[[Vector], Vector], cells: Groups, generator: np.random.Generator, p_value: float | None = None
) -> Estimate:
    """Return a statistic of weighted rows with its bootstrap interval; UNDEFINED where it is nan."""
    value = float(statistic(np.ones((1, len(cells))))[0])
    if not np.isfinite(value):
        return UNDEFINED
    return Estimate.from_resamples(value, bootstrap(statistic, cells, generator), p_value)


def adjust_holm(p_values: list[float | None]) -> list[float | None]:
    """Adjust p-values for testing all of them, by Holm's step-down method; None stays None.

    >>> adjust_holm([0.01, None, 0.04, 0.03])
    [0.03, None, 0.06, 0.06]
    """
    ordered = sorted((p, position) for position, p in enumerate(p_values) if p is not None)
    adjusted: list[float | None] = [None] * len(p_values)
    largest = 0.0
    for rank, (p, position) in enumerate(ordered):
        largest = max(largest, min(1.0, p * (len(ordered) - rank)))
        adjusted[position] = largest
    return adjusted


def _statistics(measures: Mapping[str, Vector], names: list[str], y: Vector, weights: Vector) -> list[Vector]:
    """Return Spearman's rho and Kendall's tau-b of each measure in turn; what depends only on y is computed once."""
    from analysis.stats.concordance import sum_concordances, sum_untied  # numba: 0.5 s

    ranks_y, pairs_y = weighted_ranks(y, weights), sum_untied(y, weights)
    columns = []
    for name in names:
        x = measures[name]
        columns.append(_correlate_ranks(weighted_ranks(x, weights), ranks_y, weights))
        columns.append(_divide(sum_concordances(x, y, weights), sum_untied(x, weights) * pairs_y))
    return columns


def _test_all(
    measures: Mapping[str, Vector], y: Vector, bands: Mapping[str, Groups], generator: np.random.Generator
) -> dict[tuple[str, Method], float]:
    """Return permutation p-values; measures with the same bands share the permutations."""
    by_bands: dict[bytes, list[str]] = {}
    for name in measures:
        by_bands.setdefault(bands[name].tobytes(), []).append(name)
    p_values: dict[tuple[str, Method], float] = {}
    for names in by_bands.values():
        groups, columns = bands[names[0]], [measures[name] for name in names]
        orders = permute(groups, N_RESAMPLES, generator)
        for method, test in zip(METHODS, (_test_spearman, _test_kendall), strict=True):
            tested = test(columns, y, groups, orders)
            p_values |= {(name, method): p_value for name, p_value in zip(names, tested, strict=True)}
    return p_values


def _test_spearman(columns: list[Vector], y: Vector, bands: Groups, orders: Groups) -> list[float]:
    """Return p-values by the covariance of ranks, for permuting does not change their variance.

    Ranks are centred inside bands, so the centre is 0: what goes along with the bands is in every permutation.
    """
    ones = np.ones((1, len(y)))
    ranks = np.stack([centre_inside(weighted_ranks(x, ones)[0], bands) for x in columns], axis=1)  # (n, measures)
    ranks_y = centre_inside(weighted_ranks(y, ones)[0], bands)
    observed, permuted = ranks_y @ ranks, ranks_y[orders] @ ranks
    return [share_as_far(own, drawn, 0.0) for own, drawn in zip(observed, permuted.T, strict=True)]


def _test_kendall(columns: list[Vector], y: Vector, bands: Groups, orders: Groups) -> list[float]:
    """Return p-values by the number of concordant less discordant pairs."""
    from analysis.stats.concordance import expect_concordances, permute_concordances  # numba: 0.5 s

    own = np.arange(len(y))[None]
    return [
        share_as_far(
            permute_concordances(x, y, own)[0], permute_concordances(x, y, orders), expect_concordances(x, y, bands)
        )
        for x in columns
    ]


def _correlate_ranks(ranks_x: Vector, ranks_y: Vector, weights: Vector) -> Vector:
    weighted_x, weighted_y = weights * ranks_x, weights * ranks_y
    sums = [
        np.einsum("ij,ij->i", *pair) for pair in ((weighted_x, ranks_y), (weighted_x, ranks_x), (weighted_y, ranks_y))
    ]
    return _divide(sums[0], sums[1] * sums[2])


def _divide(numerator: Vector, squared_denominator: Vector) -> Vector:
    """Return numerator / sqrt(squared_denominator), nan where the latter is 0."""
    result: Vector = np.full(len(numerator), np.nan)
    np.divide(numerator, np.sqrt(squared_denominator), out=result, where=squared_denominator > 1e-18)
    return result
