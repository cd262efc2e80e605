"""Whether seeds agree on the slope of a measure, or are a sample of seeds themselves."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy.special import chdtrc, stdtr  # scipy.stats would take half a second to import

from analysis.data.protocol import SEEDS_RANDOM
from analysis.stats.correlations import weighted_ranks
from analysis.stats.resampling import Vector


@dataclass(frozen=True, slots=True)
class SeedSlopes:
    """The slope of an outcome's rank on a measure's rank at each seed, what is held taken out.

    Args:
        slopes: one a seed, in the order of the sample's seeds.
        q, p_value: Cochran's Q of the slopes against chi-square with one degree of freedom less than there are seeds.
        spread: estimated variance of the true slopes between seeds, at least 0.
    """

    slopes: tuple[float, ...]
    q: float
    p_value: float
    spread: float

    @property
    def are_random(self) -> bool:
        """Whether seeds differ so much that another seed could show another slope."""
        return self.p_value <= SEEDS_RANDOM


def rank_seeds(values: Vector) -> Vector:
    """Return the centred ranks of the patterns at each seed, divided by their number, shape (n, k).

    Args:
        values: outcomes of patterns that are complete at every seed, shape (n, k).
    """
    n = len(values)
    if n == 0:
        return values
    ones = np.ones((1, n))
    return np.stack([weighted_ranks(column, ones)[0] / n for column in values.T], axis=1)


def compare_seeds(ranks: Vector, left: Vector) -> SeedSlopes | None:
    """Compare the slopes that single seeds show.

    What a pattern does at every seed cancels in the difference of two seeds' slopes, so its variance comes from how
    each pattern's outcomes vary between seeds, pattern by pattern: noise may grow along the measure.

    Args:
        ranks: from rank_seeds, shape (n, k).
        left: the measure's rank with all that is held taken out, shape (n,), of mean 0.

    Returns:
        None for a single seed, or where nothing is left of the measure or the outcome.
    """
    n, k = ranks.shape
    square = float(left @ left)
    if k < 2 or n < 4 or square <= 1e-12:
        return None
    slopes = left @ ranks / square
    apart = slopes - slopes.mean()
    errors = ranks - ranks.mean(axis=1, keepdims=True) - ranks.mean(axis=0) + ranks.mean() - np.outer(left, apart)
    kept = (1 - 1 / n - left**2 / square).clip(1e-6)  # HC3 (MacKinnon and White, J. Econometrics 29, 1985)
    variance = float((left**2 * ((errors / kept[:, None]) ** 2).sum(axis=1)).sum()) / (k - 1) / square**2
    if variance <= 1e-18:
        return None
    q = float(apart @ apart) / variance
    spread = max(float(apart @ apart) / (k - 1) - variance, 0.0)
    return SeedSlopes(tuple(slopes.tolist()), q, float(chdtrc(k - 1, q)), spread)


class MeanTest(NamedTuple):
    """The test of a mean slope.

    Args:
        p_value: two-sided.
        seed_share: share of the mean's variance that is the spread between seeds; 0 where seeds count as fixed.
    """

    p_value: float
    seed_share: float


def compare_mean(mean: float, variance: float, seeds: SeedSlopes | None, freedom: int) -> MeanTest:
    """Test whether a mean slope is 0, by Student's t.

    Where seeds are random, their spread is added to the variance. Only this part has as few degrees of freedom as one
    less than there are seeds, so that the sum has more (Satterthwaite, Biometrics Bull. 2, 1946): seeds that were taken
    for random by chance cost little.

    Args:
        variance: variance of the mean over patterns, the seeds as they are.
        seeds: single seeds' slopes; None where they are not known.
        freedom: degrees of freedom of the variance over patterns.
    """
    if seeds is None or not seeds.are_random:
        return MeanTest(_test(mean, variance, freedom), 0.0)
    k = len(seeds.slopes)
    total = variance + seeds.spread / k
    seed_share = seeds.spread / k / total if total > 0 else 0.0
    return MeanTest(_test(mean, total, min((k - 1) / max(seed_share, 1e-6) ** 2, freedom)), seed_share)


def _test(mean: float, variance: float, freedom: float) -> float:
    if variance <= 0:
        return 1.0 if mean == 0 else 0.0
    return float(2 * stdtr(freedom, -abs(mean) / variance**0.5))
