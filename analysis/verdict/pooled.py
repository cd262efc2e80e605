"""One estimate of a measure's effect over several strata."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy.special import chdtrc, stdtr, stdtrit  # scipy.stats would take half a second to import

from analysis.data.protocol import ALPHA
from analysis.stats.resampling import Vector
from analysis.verdict.controls import ControlledEffect, Equivalence, Given, Resampled, compare_with_margin

EDGE = 0.9999  # |correlation| at which Fisher's z is cut off
MANY = 10**6  # degrees of freedom of a normal distribution


@dataclass(frozen=True, slots=True)
class PooledEffect:
    """The partial rank correlation of a measure with the outcome over strata, by Fisher's z and inverse variance.

    Args:
        given: measures held, each with the square of its rank.
        value, low, high: correlation, and its CONFIDENCE interval.
        p_value: two-sided; p_holm: adjusted over all declared tests of all strata, None before that.
        q, q_p_value: Cochran's Q for "the strata have one correlation", against chi-square, and its p-value.
        equivalence: value over the strata's mean ceiling, against the margin; None without a ceiling.
    """

    given: Given
    value: float
    low: float
    high: float
    p_value: float
    p_holm: float | None
    q: float
    q_p_value: float
    equivalence: Equivalence | None

    @property
    def is_detected(self) -> bool:
        """Whether the correlation is not 0."""
        return self.p_holm is not None and self.p_holm <= ALPHA

    @property
    def sign(self) -> int:
        """1 where more of the measure goes with more of the outcome, -1 where with less, otherwise 0."""
        return int(np.sign(self.value))


@dataclass(frozen=True, slots=True)
class Pooled:
    """What all strata together say of a measure.

    Args:
        status: one of protocol.STATUSES.
        strata: names of the strata pooled, those that learned something.
        effects: one for each control that all of them have.
        differs: whether strata contradict one another, or one of them the pooled sign.
    """

    measure: str
    status: str
    strata: tuple[str, ...]
    effects: tuple[PooledEffect, ...]
    differs: bool


def pool_effects(strata: Sequence[Resampled]) -> tuple[PooledEffect, ...]:
    """Pool one measure's effects under each control that all strata have.

    The weights are the inverse variances of the strata's Fisher z over resamples. The variance of the pooled z takes
    in their covariance: strata that share patterns drew them together. Where seeds are random in some stratum, the
    tests are Student's.
    """
    shared = [given for given in strata[0].draws if all(given in each.draws for each in strata)]
    pooled = (
        _pool(
            [next(effect for effect in each.effects if effect.given == given) for each in strata],
            [each.draws[given] for each in strata],
        )
        for given in shared
    )
    return tuple(effect for effect in pooled if effect is not None)


class Mean(NamedTuple):
    """A weighted mean of estimates, its variance, and the weights, which sum to 1."""

    value: float
    variance: float
    weights: Vector


def average_estimates(estimates: Vector, covariance: Vector) -> Mean:
    """Average estimates, shape (n,), by their inverse variances; their covariance has shape (n, n).

    >>> average_estimates(np.array([1.0, 4.0]), np.diag([1.0, 2.0])).value
    2.0
    """
    weights = 1 / np.diagonal(covariance)
    weights = weights / weights.sum()
    return Mean(float(weights @ estimates), float(weights @ covariance @ weights), weights)


class Heterogeneity(NamedTuple):
    """Cochran's Q of several estimates of one thing, and its p-value."""

    q: float
    p_value: float


def compare_estimates(estimates: Vector, covariance: Vector) -> Heterogeneity:
    """Test whether estimates differ, by the length of their differences to the first in those' own covariance.

    A single estimate differs from none.

    >>> round(compare_estimates(np.array([0.0, 2.0]), np.eye(2)).q, 6)
    2.0
    """
    n = len(estimates) - 1
    if n == 0:
        return Heterogeneity(0.0, 1.0)
    apart = np.concatenate([-np.ones((n, 1)), np.eye(n)], axis=1)
    difference, spread = apart @ estimates, apart @ covariance @ apart.T
    q = float(difference @ np.linalg.pinv(spread, rcond=1e-9, hermitian=True) @ difference)
    return Heterogeneity(q, float(chdtrc(n, q)))


def _pool(effects: Sequence[ControlledEffect], draws: Sequence[Vector]) -> PooledEffect | None:
    """Pool a measure's effects under one control; None where one of them is not defined."""
    values = [effect.partial.value for effect in effects]
    resampled = np.stack([_transform(each) for each in draws])  # (strata, draws)
    usable = np.isfinite(resampled).all(axis=0)
    if None in values or usable.sum() < 3:
        return None
    z = _transform(np.array(values, dtype=np.float64))
    covariance = np.atleast_2d(np.cov(resampled[:, usable]))
    if (np.diagonal(covariance) <= 1e-12).any():
        return None
    mean, heterogeneity = average_estimates(z, covariance), compare_estimates(z, covariance)
    error = mean.variance**0.5
    freedom = _count_freedom(effects, mean, covariance)
    ends = [math.tanh(mean.value + float(stdtrit(freedom, tail)) * error) for tail in (ALPHA / 2, 1 - ALPHA / 2)]
    inner = [math.tanh(mean.value + float(stdtrit(freedom, tail)) * error) for tail in (ALPHA, 1 - ALPHA)]
    ceiling = float(mean.weights @ [0.0 if each.resolution is None else each.resolution.ceiling for each in effects])
    return PooledEffect(
        given=effects[0].given,
        value=math.tanh(mean.value),
        low=ends[0],
        high=ends[1],
        p_value=float(2 * stdtr(freedom, -abs(mean.value) / error)),
        p_holm=None,
        q=heterogeneity.q,
        q_p_value=heterogeneity.p_value,
        equivalence=compare_with_margin(math.tanh(mean.value), (inner[0], inner[1]), ceiling),
    )


def _count_freedom(effects: Sequence[ControlledEffect], mean: Mean, covariance: Vector) -> float:
    """Return the degrees of freedom of the pooled variance (Satterthwaite, Biometrics Bull. 2, 1946).

    What is spread between random seeds has one less than there are seeds, all else as good as infinitely many.
    """
    own = mean.weights**2 * np.diagonal(covariance)
    of_seeds = float(own @ [effect.seed_share for effect in effects])
    least = min((len(each.seeds.slopes) - 1 for each in effects if each.seeds and each.seeds.are_random), default=MANY)
    return float(min(least * (mean.variance / of_seeds) ** 2, MANY)) if of_seeds > 0 else MANY


def _transform(correlations: Vector) -> Vector:
    """Return Fisher's z."""
    z: Vector = np.arctanh(np.clip(correlations, -EDGE, EDGE))
    return z
