"""What to expect of every pattern of one budget at a new seed, by a Gaussian model of all of its trainings."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

from analysis.data.outcomes import Objective
from search_spaces.measures.measure import Reads
from search_spaces.pattern import ConnectionPattern
from search_spaces.seeds import derive_generator
from search_spaces.surrogate.choice import Z_95
from search_spaces.surrogate.evidence import clip_costs, fit
from search_spaces.surrogate.features import Measured, Scale
from search_spaces.surrogate.posterior import Observations, Posterior

Floats = NDArray[np.float64]

MAX_FITTED = 400  # trainings that the variances are found from: the time grows with the third power
LEAST_CHANGE = 0.01  # of a measure, in logarithms of the outcome, from which it is worth a sentence


class Costs(NamedTuple):
    """Costs of finished trainings, one entry each.

    Args:
        rows: number of the training's pattern.
        seeds: its seed.
        values: its cost, by search_spaces.surrogate.target.
    """

    rows: NDArray[np.int64]
    seeds: NDArray[np.int64]
    values: Floats


@dataclass(frozen=True, slots=True)
class Scales:
    """How costs are told in the outcome's own unit.

    Args:
        objective: the outcome that the search improved.
        n_validation: number of validation images; used for accuracy only.
    """

    objective: Objective
    n_validation: int = 1

    def tell(self, cost: float) -> float:
        """Return the outcome of a cost, as search_spaces.surrogate.target has costs: an accuracy is a share of 1.

        >>> from analysis.data.outcomes import OUTCOMES
        >>> loss, accuracy = map(Objective, OUTCOMES)
        >>> Scales(loss).tell(0.0), round(Scales(accuracy, 100).tell(math.log(0.105)), 12)
        (1.0, 0.9)
        """
        if self.objective.is_loss:
            return math.exp(cost)
        if not self.objective.is_share:
            return -cost if self.objective.outcome.maximize else cost
        return min(max(1 + 0.5 / self.n_validation - math.exp(cost), 0.0), 1.0)


@dataclass(frozen=True, slots=True)
class Expected:
    """The outcome to expect at a new seed, a loss in nats or an accuracy as a share of 1, with its 95 % interval.

    It is the mean of costs: for a loss, whose cost is its logarithm, the geometric mean over seeds.
    """

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Gain:
    """How the pick compares with something else.

    Args:
        change: relative change of the loss, or of the share of errors; -0.1: lower by 10 %. Of another metric the
            change itself, turned so that less is better.
        low, high: its 95 % interval.
        chance: chance that the pick is the better one.
        expected: what is expected of the other.
    """

    change: float
    low: float
    high: float
    chance: float
    expected: Expected

    @property
    def is_shown(self) -> bool:
        """Whether the interval leaves out that there is no difference."""
        return not self.low <= 0 <= self.high


class Expectations:
    """Expected costs of patterns, and how they compare.

    Args:
        posterior: posterior over the trained patterns, and after them any drawn without a training.
        n_trained: number of trained patterns.
        scales: how costs are told.
        names: names of the columns of the posterior's points.
    """

    def __init__(self, posterior: Posterior, n_trained: int, scales: Scales, names: Sequence[str]) -> None:
        self._mean = posterior.mean
        self._covariance = posterior.covariance
        self._scales = scales
        self.n_trained = n_trained
        self.n_drawn = len(self._mean) - n_trained
        changes = posterior.tell(names)
        unit = 1.0 if scales.objective.is_ratio else abs(float(np.mean(posterior.observations.costs)))
        self.telling = {name: change for name, change in changes.items() if abs(change) >= LEAST_CHANGE * unit}

    def cost(self, row: int) -> float:
        """Return the expected cost of a pattern."""
        return float(self._mean[row])

    def expect(self, row: int) -> Expected:
        """Return what is expected of a pattern."""
        return self._expect(self.cost(row), float(self._covariance[row, row]))

    def compare(self, row: int, other: int) -> Gain:
        """Compare a pattern with another."""
        mean, variance = self._subtract(row, self._weigh([other]))
        return self._describe(mean, variance, self.expect(other))

    def compare_with_mean(self, row: int, others: Sequence[int]) -> Gain:
        """Compare a pattern with what is expected of a draw from the space of which others are a random sample.

        That such a sample is finite adds its patterns' variance over their number to what is uncertain.
        """
        weights = self._weigh(others)
        scatter = self._scatter(others) / len(others)
        mean, variance = self._subtract(row, weights)
        expected = float(weights @ self._mean)
        own = float(weights @ self._covariance @ weights)
        return self._describe(mean, variance + scatter, self._expect(expected, own + scatter))

    def _weigh(self, rows: Sequence[int]) -> Floats:
        weights = np.zeros(len(self._mean))
        weights[list(rows)] = 1 / len(rows)
        return weights

    def _subtract(self, row: int, weights: Floats) -> tuple[float, float]:
        """Return mean and variance of a pattern's expected cost less a weighted mean of expected costs."""
        difference = self._weigh([row]) - weights
        return float(difference @ self._mean), max(float(difference @ self._covariance @ difference), 0.0)

    def _scatter(self, rows: Sequence[int]) -> float:
        """Return the expected sample variance of true expected costs: that of their means, and what those shrank by."""
        own, places = len(rows), list(rows)
        if own < 2:
            return 0.0
        covariance = self._covariance[np.ix_(places, places)]
        hidden = float(np.trace(covariance) - covariance.sum() / own) / (own - 1)
        return float(self._mean[places].var(ddof=1)) + max(hidden, 0.0)

    def _expect(self, cost: float, variance: float) -> Expected:
        half = Z_95 * math.sqrt(max(variance, 0.0))
        ends = sorted(self._scales.tell(end) for end in (cost - half, cost + half))
        return Expected(self._scales.tell(cost), *ends)

    def _describe(self, mean: float, variance: float, expected: Expected) -> Gain:
        """Describe a difference of costs: where these are logarithms it is a ratio."""
        half = Z_95 * math.sqrt(variance)
        ends = (mean, mean - half, mean + half)
        change, low, high = map(math.expm1, ends) if self._scales.objective.is_ratio else ends
        return Gain(change, low, high, _chance_below_zero(mean, variance), expected)


def _chance_below_zero(mean: float, variance: float) -> float:
    if variance <= 0:
        return 0.5 - 0.5 * float(np.sign(mean))
    return float(ndtr(-mean / math.sqrt(variance)))


def learn_expectations(
    patterns: Sequence[ConnectionPattern],
    drawn: Sequence[ConnectionPattern],
    costs: Costs,
    scales: Scales,
    reads: Reads | None = None,
) -> Expectations:
    """Fit the model to trainings, and predict the patterns that were trained and those drawn without one.

    Args:
        patterns: different trained patterns of one depth and number of connections.
        drawn: patterns of the same budget, for comparison.
        costs: their finished trainings, at least one.
        scales: how costs are told.
        reads: nodes that the classifier reads; None for those of transition `log`.
    """
    table = Measured(reads).table([*patterns, *drawn])
    scale = Scale.of(table)
    nothing = np.empty(0, np.int64)
    observations = Observations(scale.standardise(table), *costs, nothing, nothing)
    return Expectations(_fit(observations), len(patterns), scales, scale.names)


def _fit(observations: Observations) -> Posterior:
    """Fit the model; where trainings are many, find its variances from those of some patterns."""
    rows = observations.rows
    if len(rows) <= MAX_FITTED:
        return fit(observations)
    order = derive_generator(len(rows), "patterns to fit").permutation(len(observations.points))
    counts = np.bincount(rows, minlength=len(observations.points))[order]
    is_kept = np.isin(rows, order[: max(int((counts.cumsum() <= MAX_FITTED).sum()), 1)])
    kept = {name: getattr(observations, name)[is_kept] for name in ("rows", "seeds", "costs")}
    variances = fit(replace(observations, **kept)).variances
    return Posterior(replace(observations, costs=clip_costs(observations.costs)), variances)
