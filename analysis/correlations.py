"""rank correlations of two columns, with bootstrap intervals and permutation p-values."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Vector = NDArray[np.float64]
Method = Literal["spearman", "kendall"]

N_RESAMPLES = 2000
CONFIDENCE = 0.95


@dataclass(frozen=True, slots=True)
class Estimate:
    """A rank correlation with its uncertainty; None where it is not defined.

    Args:
        value: in -1..1; None if a column is constant.
        low, high: percentile bootstrap interval over rows, CONFIDENCE.
        p_value: two-sided, from permutations of one column; None for a partial correlation.
        n_degenerate: resamples left out of the interval because a column came out constant.
    """

    value: float | None
    low: float | None
    high: float | None
    p_value: float | None
    n_degenerate: int


def weighted_spearman(x: Vector, y: Vector, counts: Vector) -> Vector:
    """Spearman's rho of rows that occur `counts` times: ones give the sample's own, multinomial counts a bootstrap.

    Args:
        x, y: shape (n,).
        counts: shape (resamples, n), every row with sum n.

    Returns:
        Shape (resamples,); nan where x or y is constant among the rows that occur.

    >>> import numpy as np
    >>> weighted_spearman(np.array([1.0, 2, 3]), np.array([2.0, 9, 5]), np.ones((1, 3))).tolist()
    [0.5]
    """
    # Row i's mid-rank, less the mean rank, is half the sum over rows j of count_j * sign(x_i - x_j).
    ranks_x, ranks_y = counts @ _signs(x).T, counts @ _signs(y).T  # (resamples, n)
    covariance = (counts * ranks_x * ranks_y).sum(axis=1)
    return _divide(covariance, (counts * ranks_x**2).sum(axis=1) * (counts * ranks_y**2).sum(axis=1))


def weighted_kendall(x: Vector, y: Vector, counts: Vector) -> Vector:
    """Kendall's tau-b of rows that occur `counts` times; shapes as in weighted_spearman."""
    signs_x, signs_y = _signs(x), _signs(y)

    def sum_pairs(weights: Vector) -> Vector:
        total: Vector = ((counts @ weights) * counts).sum(axis=1)
        return total

    return _divide(sum_pairs(signs_x * signs_y), sum_pairs(abs(signs_x)) * sum_pairs(abs(signs_y)))


def correlate(x: Vector, y: Vector, method: Method, generator: np.random.Generator) -> Estimate:
    """Rank correlation of x and y, shape (n,), with its interval and p-value."""
    weighted = weighted_spearman if method == "spearman" else weighted_kendall
    estimate = _bootstrap(lambda counts: weighted(x, y, counts), len(x), generator)
    if estimate.value is None:
        return estimate
    permute = _permute_spearman if method == "spearman" else _permute_kendall
    observed, permuted = permute(x, y, generator)
    # The sample itself counts as one permutation, so that p is never 0; 1e-9 keeps ties from rounding apart.
    n_as_far = int((abs(permuted) >= abs(observed) * (1 - 1e-9)).sum())
    p_value = (1 + n_as_far) / (1 + N_RESAMPLES)
    return Estimate(estimate.value, estimate.low, estimate.high, p_value, estimate.n_degenerate)


def correlate_given(x: Vector, y: Vector, given: Vector, generator: np.random.Generator) -> Estimate:
    """Partial Spearman correlation of x and y with `given` held: what x says of y beyond `given`; shapes (n,)."""

    def partial(counts: Vector) -> Vector:
        xy = weighted_spearman(x, y, counts)
        xz, yz = weighted_spearman(x, given, counts), weighted_spearman(y, given, counts)
        return _divide(xy - xz * yz, np.clip((1 - xz**2) * (1 - yz**2), 0, None))

    return _bootstrap(partial, len(x), generator)


def adjust_holm(p_values: list[float | None]) -> list[float | None]:
    """Holm's step-down adjustment for testing all of them; None stays None.

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


def _bootstrap(statistic: Callable[[Vector], Vector], n: int, generator: np.random.Generator) -> Estimate:
    """Percentile bootstrap of a statistic of the rows' counts, over n rows."""
    value = float(statistic(np.ones((1, n)))[0])
    if not np.isfinite(value):
        return Estimate(None, None, None, None, 0)
    counts = generator.multinomial(n, np.full(n, 1 / n), size=N_RESAMPLES).astype(np.float64)
    resampled = statistic(counts)
    usable = resampled[np.isfinite(resampled)]
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(usable, [tail, 1 - tail]).tolist() if len(usable) else (None, None)
    return Estimate(value, low, high, None, N_RESAMPLES - len(usable))


def _permute_spearman(x: Vector, y: Vector, generator: np.random.Generator) -> tuple[float, Vector]:
    """The covariance of ranks, which permuting rescales by nothing, in the sample and in its permutations."""
    ranks_x, ranks_y = _signs(x).sum(axis=1), _signs(y).sum(axis=1)
    orders = generator.permuted(np.tile(np.arange(len(x)), (N_RESAMPLES, 1)), axis=1)
    return float(ranks_x @ ranks_y), ranks_y[orders] @ ranks_x


def _permute_kendall(x: Vector, y: Vector, generator: np.random.Generator) -> tuple[float, Vector]:
    """Concordant less discordant pairs, in the sample and in its permutations."""
    signs_x, signs_y = _signs(x).astype(np.float32), _signs(y).astype(np.float32)  # sums stay exact below 2^24
    permuted = np.empty(N_RESAMPLES)
    for resample in range(N_RESAMPLES):
        order = generator.permutation(len(x))
        permuted[resample] = np.vdot(signs_x, signs_y[order][:, order])
    return float(np.vdot(signs_x, signs_y)), permuted


def _signs(x: Vector) -> Vector:
    """signs[i, j] = sign(x_i - x_j), shape (n, n)."""
    return np.sign(x[:, None] - x[None, :])


def _divide(numerator: Vector, squared_denominator: Vector) -> Vector:
    """numerator / sqrt(squared_denominator), nan where the latter is 0."""
    result: Vector = np.full(len(numerator), np.nan)
    np.divide(numerator, np.sqrt(squared_denominator), out=result, where=squared_denominator > 1e-12)
    return result
