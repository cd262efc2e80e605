"""Whether seeds can tell patterns apart at all, and what that leaves a perfect predictor."""

import math
from dataclasses import dataclass

import numpy as np
from scipy.special import fdtrc, fdtri  # scipy.stats would take half a second to import

from analysis.stats.correlations import weighted_ranks
from analysis.stats.intervals import TAILS
from analysis.stats.resampling import Groups, Vector

ROUNDING = 1e-12  # share of an outcome's variance that is rounding


@dataclass(frozen=True, slots=True)
class Resolution:
    """How well the seeds tell patterns apart, beyond what is held.

    Args:
        n_seeds: mean number of trainings of a pattern.
        f: mean square of the patterns over that of the noise, with these degrees of freedom; infinite without noise.
        p_value: chance of such an f where patterns do not differ.
        single_seed: share of the variance of one training that is the pattern's, ICC(3, 1); may come out below 0.
        reliability: share of the variance of a pattern's mean that is the pattern's, ICC(3, k) = 1 - 1 / f.
        ceiling: sqrt(reliability), the correlation that a perfect predictor would reach; 0 where that is negative.
        low, high: interval of the ceiling, from quantiles of the F distribution.
    """

    n_patterns: int
    n_seeds: float
    f: float
    freedom: int
    noise_freedom: int
    p_value: float
    single_seed: float
    reliability: float
    ceiling: float
    low: float
    high: float


def measure_resolution(values: Vector, held: Vector | None = None) -> Resolution | None:
    """Test whether patterns differ beyond what is held, in a table of patterns by seeds (Shrout and Fleiss 1979).

    The mean square of the patterns is k RSS / (n - q), RSS that of their means on the q columns held, the constant
    among them. Where trainings are missing, sums of squares are what the patterns' own levels take off the residual of
    a least squares fit of seeds and held columns (type III); in a full table both are the same.

    Args:
        values: outcome of each pattern at each seed, shape (n, k); nan where a training is missing.
        held: columns that the patterns are compared beyond, shape (n, m); None: only the constant.

    Returns:
        None without repeats, without patterns beyond those held, or where outcomes do not vary.
    """
    present = np.isfinite(values)
    rows, seeds = np.nonzero(present)
    if len(rows) == 0 or present.sum() <= present.any(axis=1).sum():
        return None
    y = values[rows, seeds]
    scale = float(np.ptp(y))
    if scale <= ROUNDING * float(np.abs(y).max()):
        return None
    y = (y - y.mean()) / scale
    by_seed = (seeds[:, None] == np.unique(seeds)).astype(np.float64)
    _, patterns = np.unique(rows, return_inverse=True)
    sizes = np.bincount(patterns)
    noise, rank = _fit(_take_means(by_seed, patterns, sizes), _take_means(y[:, None], patterns, sizes)[:, 0])
    columns = by_seed if held is None else np.concatenate([by_seed, held[rows]], axis=1)
    total, rank_held = _fit(columns, y)
    noise_freedom = len(y) - len(sizes) - rank
    freedom = len(y) - rank_held - noise_freedom
    if freedom < 1 or noise_freedom < 1:
        return None
    between, within = max(total - noise, 0.0) / freedom, noise / noise_freedom
    if between + within <= ROUNDING:
        return None
    return _describe(between, within, (freedom, noise_freedom), (len(sizes), len(y) / len(sizes)))


def square_ranks(columns: list[Vector]) -> Vector:
    """Return the centred ranks of columns and their squares, which is what "held" means, shape (n, 2 m)."""
    n = len(columns[0])
    ranks = [weighted_ranks(column, np.ones((1, n)))[0] / n for column in columns]
    return np.stack([*ranks, *(rank**2 for rank in ranks)], axis=1)


def _describe(between: float, within: float, freedoms: tuple[int, int], size: tuple[int, float]) -> Resolution:
    f = between / within if within > ROUNDING * between else math.inf
    n_patterns, n_seeds = size
    low, high = (1 - float(fdtri(*freedoms, tail)) / f if f > 0 else -math.inf for tail in reversed(TAILS))
    reliability = 1 - 1 / f if f > 0 else -math.inf
    return Resolution(
        n_patterns=n_patterns,
        n_seeds=n_seeds,
        f=f,
        freedom=freedoms[0],
        noise_freedom=freedoms[1],
        p_value=0.0 if math.isinf(f) else float(fdtrc(*freedoms, f)),
        single_seed=(between - within) / (between + (n_seeds - 1) * within),
        reliability=reliability,
        ceiling=max(reliability, 0.0) ** 0.5,
        low=max(low, 0.0) ** 0.5,
        high=max(high, 0.0) ** 0.5,
    )


def _take_means(columns: Vector, patterns: Groups, sizes: Groups) -> Vector:
    """Subtract from each row the mean of its pattern's rows."""
    means = np.stack([np.bincount(patterns, column) / sizes for column in columns.T], axis=1)
    left: Vector = columns - means[patterns]
    return left


def _fit(columns: Vector, y: Vector) -> tuple[float, int]:
    """Return the residual sum of squares of y on columns, and their rank."""
    basis, sizes, _ = np.linalg.svd(columns, full_matrices=False)
    basis = basis[:, sizes > 1e-9 * max(1.0, float(sizes.max(initial=0.0)))]
    left = y - basis @ (basis.T @ y)
    return float(left @ left), basis.shape[1]
