"""How the correlation of a measure with the loss turns as patterns are trained at higher learning rates."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from analysis.data.protocol import MIN_PATTERNS
from analysis.stats.correlations import UNDEFINED, Estimate, weighted_ranks, weighted_spearman
from analysis.stats.intervals import TAILS, student_quantile
from analysis.stats.resampling import Groups, Vector, bootstrap, draw_weights
from analysis.verdict.seeds import SeedSlopes, compare_seeds


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
        has_random_seeds: whether these differ so much that the intervals draw seeds again too.
        crossing: None where the correlation keeps its sign.
    """

    measure: str
    amounts: tuple[float, ...]
    effects: tuple[Estimate, ...]
    n_patterns: tuple[int, ...]
    slope: Estimate
    seed_slopes: tuple[float, ...]
    has_random_seeds: bool
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
        cells: groups inside which patterns are drawn again. Where the seeds' slopes differ, seeds are drawn too: in
            simulations of a turn of each seed's own and none on average, a turn was claimed in 4 to 10 of 100 draws,
            with the patterns only in 24 to 64.
    """
    if not measures:
        return ()
    logs, means = np.log2(np.asarray(amounts, np.float64)), average_seeds(losses)
    seeds = {measure: _compare_seeds(x, losses, logs) for measure, x in measures.items()}
    random = [measure for measure, own in seeds.items() if own is not None and own.are_random]

    def draw_patterns(weights: Vector) -> Vector:
        return np.stack([_correlate(x, means, weights) for x in measures.values()], axis=1)

    def draw_both(weights: Vector) -> Vector:
        of_seeds = draw_weights(np.zeros(len(losses), dtype=np.int64), len(weights), generator)
        return np.stack([_correlate_drawn(measures[name], losses, weights, of_seeds) for name in random], axis=1)

    resampled = dict(zip(measures, bootstrap(draw_patterns, cells, generator).swapaxes(0, 1), strict=True))
    if random:
        resampled |= zip(random, bootstrap(draw_both, cells, generator).swapaxes(0, 1), strict=True)
    once, n_patterns = np.ones((1, len(means))), tuple((~np.isnan(means)).sum(axis=0).tolist())
    turnings = []
    for measure, x in measures.items():
        of_seeds = np.concatenate([_correlate(x, seed, once) for seed in losses])  # (seeds, amounts)
        # Seeds are few: wider, as Student's t is against the normal (Cameron, Gelbach and Miller 2011).
        wider = student_quantile(len(losses) - 1) / student_quantile(10**6) if measure in random else 1.0
        turning = _describe(measure, logs, _correlate(x, means, once)[0], resampled[measure], wider)
        slopes = tuple(fit_slope(logs, of_seeds).tolist())
        turnings.append(replace(turning, n_patterns=n_patterns, seed_slopes=slopes, has_random_seeds=measure in random))
    return tuple(turnings)


def _compare_seeds(x: Vector, losses: Vector, logs: Vector) -> SeedSlopes | None:
    """Compare the seeds' slopes, over the patterns that were trained at every amount with every seed.

    A seed's slope of the correlation is its slope, over patterns, of each pattern's own slope in rank on the rank of x.
    """
    full = ~np.isnan(losses).any(axis=(0, 2))
    if full.sum() < MIN_PATTERNS:
        return None
    once = np.ones((1, int(full.sum())))
    ranks = np.stack([[weighted_ranks(column, once)[0] for column in seed[full].T] for seed in losses])
    own_slopes = fit_slope(logs, ranks.transpose(0, 2, 1).reshape(-1, len(logs))).reshape(len(losses), -1)
    return compare_seeds(own_slopes.T, weighted_ranks(x[full], once)[0])


def _correlate_drawn(x: Vector, losses: Vector, weights: Vector, of_seeds: Vector) -> Vector:
    """Return Spearman's rho of x with each amount's loss, over patterns and seeds drawn again, shape (draws, amounts).

    Args:
        weights, of_seeds: weights of patterns, shape (draws, n), and of seeds, shape (draws, seeds).
    """
    full = ~np.isnan(losses).any(axis=(0, 2))
    weights, ranks_x = weights[:, full], weighted_ranks(x[full], weights[:, full])
    columns = []
    for own in np.moveaxis(losses[:, full], 2, 0):  # (seeds, patterns)
        is_worst = (of_seeds @ np.isinf(own)) > 0
        means = of_seeds @ np.where(np.isinf(own), 0, own)
        ranks_y = rank_rows(np.where(is_worst, np.inf, means), weights)
        squares = (weights * ranks_x**2).sum(axis=1) * (weights * ranks_y**2).sum(axis=1)
        both = (weights * ranks_x * ranks_y).sum(axis=1)
        columns.append(np.divide(both, np.sqrt(squares), out=np.full(len(both), np.nan), where=squares > 1e-18))
    return np.stack(columns, axis=1)


def rank_rows(values: Vector, weights: Vector) -> Vector:
    """Return mid-ranks less their mean of each row, as weighted_ranks; ties are those at infinity only.

    >>> rank_rows(np.array([[3.0, 1, np.inf, np.inf]]), np.ones((1, 4))).tolist()
    [[-0.5, -1.5, 1.0, 1.0]]
    """
    order = np.argsort(values, axis=1, kind="stable")
    ordered = np.take_along_axis(weights, order, axis=1)
    ranks = np.empty_like(weights)
    np.put_along_axis(ranks, order, ordered.cumsum(axis=1) - ordered / 2, axis=1)
    total, is_worst = weights.sum(axis=1, keepdims=True), np.isinf(values)
    worst = (weights * is_worst).sum(axis=1, keepdims=True)
    centred: Vector = np.where(is_worst, total - worst / 2, ranks) - total / 2
    return centred


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


def _describe(measure: str, logs: Vector, values: Vector, resampled: Vector, wider: float) -> Turning:
    effects = tuple(_estimate(float(values[k]), resampled[:, k], wider, 1.0) for k in range(len(logs)))
    slope = _estimate(float(fit_slope(logs, values[None])[0]), fit_slope(logs, resampled), wider)
    return Turning(
        measure=measure,
        amounts=tuple((2**logs).tolist()),
        effects=effects,
        n_patterns=(),
        slope=slope,
        seed_slopes=(),
        has_random_seeds=False,
        crossing=None if slope.value is None else _find_crossing(logs, values, resampled, slope.value, wider),
    )


def _estimate(value: float, resampled: Vector, wider: float, largest: float = np.inf) -> Estimate:
    if not np.isfinite(value):
        return UNDEFINED
    estimate = Estimate.from_resamples(value, resampled, None)
    ends = (None if end is None else _widen(value, end, wider) for end in (estimate.low, estimate.high))
    low, high = (None if end is None else min(max(end, -largest), largest) for end in ends)
    return replace(estimate, low=low, high=high)


def _widen(value: float, end: float, wider: float) -> float:
    return value + wider * (end - value)


def fit_slope(x: Vector, y: Vector) -> Vector:
    """Return the least squares slopes of rows y, shape (draws, n), on x, shape (n,).

    >>> fit_slope(np.array([0.0, 1, 2]), np.array([[1.0, 3, 5]])).tolist()
    [2.0]
    """
    centred = x - x.mean()
    slopes: Vector = y @ centred / (centred @ centred)
    return slopes


def _find_crossing(logs: Vector, values: Vector, resampled: Vector, slope: float, wider: float) -> Crossing | None:
    sign = 1.0 if slope > 0 else -1.0
    value = float(cross_zero(logs, sign * values[None])[0])
    if not np.isfinite(value):
        return None
    usable = resampled[np.isfinite(resampled).all(axis=1)]
    # A resample that keeps its sign crosses beyond the range; between it and a finite one there is no value.
    ends = np.quantile(cross_zero(logs, sign * usable), TAILS, method="inverted_cdf").tolist()
    widened = (_widen(value, end, wider) for end in ends)
    low, high = (2**end if logs[0] <= end <= logs[-1] else None for end in widened)
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
