"""How the correlation of a measure with the loss turns as patterns are trained at higher learning rates."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from analysis.stats.correlations import Estimate, weighted_spearman
from analysis.stats.intervals import TAILS
from analysis.stats.resampling import Groups, Vector, bootstrap


@dataclass(frozen=True, slots=True)
class Crossing:
    """The amount of training at which a correlation changes its sign.

    Args:
        value: learning rate times steps.
        low, high: interval; None where it reaches beyond the least or the largest amount that was trained.
    """

    value: float
    low: float | None
    high: float | None


@dataclass(frozen=True, slots=True)
class Turning:
    """How a measure goes with the loss at several amounts of training.

    Args:
        measure: column of the patterns.
        amounts: learning rate times steps of each rate, rising.
        effects: rank correlation of the measure with the loss at each; positive: more of it, more loss.
        n_patterns: number of patterns behind each.
        slope: change of the correlation for each doubling of the amount; its p-value is None.
        seed_slopes: slope that each seed shows by itself, nan where it is not defined.
        crossing: None where the correlation keeps its sign.
    """

    measure: str
    amounts: tuple[float, ...]
    effects: tuple[Estimate, ...]
    n_patterns: tuple[int, ...]
    slope: Estimate
    seed_slopes: tuple[float, ...]
    crossing: Crossing | None

    @property
    def is_shown(self) -> bool:
        """Whether the correlation changes with training: the interval of its slope excludes 0."""
        low, high = self.slope.low, self.slope.high
        return low is not None and high is not None and (low > 0 or high < 0)


def measure_turnings(
    measures: Mapping[str, Vector],
    losses: Vector,
    amounts: Sequence[float],
    cells: Groups,
    generator: np.random.Generator,
) -> tuple[Turning, ...]:
    """Correlate measures with the loss at each amount of training, and say how the correlation changes.

    The slope is that of a straight line through the correlations against the logarithm of the amount. The crossing is
    read from the correlations made monotone (Barlow, Bartholomew, Bremner and Brunk, 1972), in the direction of the
    slope, and joined by straight lines. In simulations of 72 patterns at five rates its interval covered the truth in
    94 to 95 of 100, whether the correlation was straight, bent, saturated or fell back at the highest rate; where the
    straight line crosses, in 81 to 96.

    Args:
        measures: columns of the patterns, shape (n,) each.
        losses: losses of each seed, its own level taken out, shape (seeds, n, amounts); inf where a training diverged,
            which counts as the worst; nan where a pattern was not trained.
        amounts: learning rate times steps, rising; at least 2.
        cells: groups inside which patterns are drawn again.
    """

    means = average_seeds(losses)

    def statistic(weights: Vector) -> Vector:
        return np.stack([_correlate(x, means, weights) for x in measures.values()], axis=1)

    if not measures:
        return ()
    logs = np.log2(np.asarray(amounts, np.float64))
    resampled = bootstrap(statistic, cells, generator)  # (draws, measures, amounts)
    turnings = []
    for place, (measure, x) in enumerate(measures.items()):
        once = np.ones((1, len(x)))
        own = np.concatenate([_correlate(x, seed, once) for seed in losses])  # (seeds, amounts)
        turnings.append(_describe(measure, logs, _correlate(x, means, once)[0], resampled[:, place], own))
    n_patterns = tuple((~np.isnan(means)).sum(axis=0).tolist())
    return tuple(replace(turning, n_patterns=n_patterns) for turning in turnings)


def average_seeds(losses: Vector) -> Vector:
    """Return the mean over the seeds that a pattern was trained with, shape (seeds, n, ...) -> (n, ...).

    >>> average_seeds(np.array([[1.0, np.nan, np.inf], [3, np.nan, 1]])).tolist()
    [2.0, nan, inf]
    """
    is_there = ~np.isnan(losses)
    counts = is_there.sum(axis=0)
    means: Vector = np.where(is_there, losses, 0).sum(axis=0) / np.where(counts == 0, np.nan, counts)
    return means.round(12)


def _correlate(x: Vector, losses: Vector, weights: Vector) -> Vector:
    """Return Spearman's rho of x with each column of losses, shape (draws, amounts)."""
    columns = []
    for column in losses.T:
        rows = ~np.isnan(column)
        is_enough = rows.sum() >= 3
        own = weighted_spearman(x[rows], column[rows], weights[:, rows]) if is_enough else np.full(len(weights), np.nan)
        columns.append(own)
    return np.stack(columns, axis=1)


def _describe(measure: str, logs: Vector, values: Vector, resampled: Vector, of_seeds: Vector) -> Turning:
    effects = tuple(_estimate(float(values[k]), resampled[:, k]) for k in range(len(logs)))
    slopes = fit_slope(logs, resampled)
    slope = _estimate(float(fit_slope(logs, values[None])[0]), slopes)
    return Turning(
        measure=measure,
        amounts=tuple((2**logs).tolist()),
        effects=effects,
        n_patterns=(),
        slope=slope,
        seed_slopes=tuple(fit_slope(logs, of_seeds).tolist()),
        crossing=None if slope.value is None else _find_crossing(logs, values, resampled, slope.value),
    )


def _estimate(value: float, resampled: Vector) -> Estimate:
    if not np.isfinite(value):
        return Estimate(None, None, None, None, 0)
    return Estimate.from_resamples(value, resampled, None)


def fit_slope(x: Vector, y: Vector) -> Vector:
    """Return the least squares slopes of rows y, shape (draws, n), on x, shape (n,).

    >>> fit_slope(np.array([0.0, 1, 2]), np.array([[1.0, 3, 5]])).tolist()
    [2.0]
    """
    centred = x - x.mean()
    slopes: Vector = y @ centred / (centred @ centred)
    return slopes


def _find_crossing(logs: Vector, values: Vector, resampled: Vector, slope: float) -> Crossing | None:
    sign = 1.0 if slope > 0 else -1.0
    value = float(cross_zero(logs, sign * values[None])[0])
    if not np.isfinite(value):
        return None
    usable = resampled[np.isfinite(resampled).all(axis=1)]
    # A resample that keeps its sign crosses beyond the range; between it and a finite one there is no value.
    ends = np.quantile(cross_zero(logs, sign * usable), TAILS, method="inverted_cdf").tolist()
    low, high = (2**end if np.isfinite(end) else None for end in ends)
    return Crossing(2**value, low, high)


def cross_zero(x: Vector, y: Vector) -> Vector:
    """Return where rows y, shape (draws, n), made rising, cross zero; -inf or inf where that is before or after all x.

    >>> cross_zero(np.array([0.0, 1, 2]), np.array([[-1.0, 1, 3], [-1, -2, -3], [-3, 1, -1]])).tolist()
    [0.5, inf, 1.0]
    """
    rising = make_rising(y)
    below = (rising < 0).sum(axis=1)
    crossings: Vector = np.where(below == 0, -np.inf, np.inf)
    inside = (below > 0) & (below < len(x))
    after = below[inside]
    low, high = rising[inside, after - 1], rising[inside, after]
    crossings[inside] = x[after - 1] - low / (high - low) * (x[after] - x[after - 1])
    return crossings


def make_rising(y: Vector) -> Vector:
    """Return the nearest rows that never fall, by least squares; shape (draws, n).

    By the max-min formula: the k-th is the largest, over i up to k, of the least mean of rows i to j, over j from k.

    >>> make_rising(np.array([[1.0, 3, 2, 4]])).tolist()
    [[1.0, 2.5, 2.5, 4.0]]
    """
    n = y.shape[1]
    sums = np.concatenate([np.zeros((len(y), 1)), y.cumsum(axis=1)], axis=1)
    rising = np.full_like(y, -np.inf)
    for first in range(n):
        means = (sums[:, first + 1 :] - sums[:, first, None]) / np.arange(1, n - first + 1)
        least = np.minimum.accumulate(means[:, ::-1], axis=1)[:, ::-1]  # over all j from k on
        rising[:, first:] = np.maximum(rising[:, first:], least)
    return rising
