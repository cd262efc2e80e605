"""A Gaussian model of what trainings cost, given measures of their patterns.

A training costs

    mean + linear part + curved part + the pattern's own deviation + the seed's effect + noise.

The mean may be anything; the others are Gaussian around zero and independent. The linear part is a regression on the
measures whose coefficients share one variance (ridge). The curved part is a Gaussian process over the measures with a
squared exponential kernel. Conditioning is that of Rasmussen and Williams, Gaussian Processes for Machine Learning,
2006, equations 2.23 and 2.24.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cholesky, solve_triangular

Floats = NDArray[np.float64]
Rows = NDArray[np.int64]

N_TELLING = 3  # measures that are named


@dataclass(frozen=True, slots=True)
class Earlier:
    """Outcomes of before; see `earlier` for what they are taken for. All arrays have shape (outcomes,).

    Args:
        rows: pattern of each outcome, as a row of the points.
        settings: number of the setting that each is of, counted from 0.
        costs: mean cost of each.
        counts: number of trainings that each is the mean of.
    """

    rows: Rows
    settings: Rows
    costs: Floats
    counts: Rows

    @property
    def same_setting(self) -> Floats:
        """1 for outcomes of the same setting, else 0; shape (outcomes, outcomes)."""
        return np.asarray(self.settings[:, None] == self.settings, np.float64)

    @property
    def same_pattern(self) -> Floats:
        """1 for outcomes of the same pattern in the same setting, else 0; shape (outcomes, outcomes)."""
        return np.asarray(self.same_setting * (self.rows[:, None] == self.rows), np.float64)


_NOTHING = np.empty(0, np.int64)
NO_EARLIER = Earlier(_NOTHING, _NOTHING, np.empty(0), _NOTHING)


@dataclass(frozen=True, slots=True)
class Observations:
    """What is known about the patterns of one budget.

    Args:
        points: standardised measures of the patterns; shape (patterns, measures).
        rows: pattern of each finished training, as a row of points; shape (trainings,).
        seeds: seed of each finished training; shape (trainings,).
        costs: cost of each finished training, lower is better; shape (trainings,).
        pending_rows, pending_seeds: pattern and seed of each training without a result; shape (pending,).
        earlier: outcomes of before.
    """

    points: Floats
    rows: Rows
    seeds: Rows
    costs: Floats
    pending_rows: Rows
    pending_seeds: Rows
    earlier: Earlier = NO_EARLIER

    @property
    def is_own(self) -> NDArray[np.bool_]:
        """Whether each pattern has a training here, so that it can be chosen; shape (patterns,)."""
        if not len(self.earlier.rows):
            return np.ones(len(self.points), np.bool_)
        return np.isin(np.arange(len(self.points)), np.concatenate([self.rows, self.pending_rows]))

    @property
    def known_rows(self) -> Rows:
        """Pattern of each known cost: of earlier outcomes, then of finished trainings."""
        return np.concatenate([self.earlier.rows, self.rows])

    @property
    def known_seeds(self) -> Rows:
        """Seed of each known cost; an earlier outcome has a negative number, which its setting shares."""
        return np.concatenate([-1 - self.earlier.settings, self.seeds])

    @property
    def known_costs(self) -> Floats:
        """Each known cost."""
        return np.concatenate([self.earlier.costs, self.costs])


@dataclass(frozen=True, slots=True)
class Variances:
    """Variances of the parts of a cost, in squared units of cost.

    Args:
        mean: prior variance of the mean, so large that it says nothing.
        linear: variance of the linear part of a pattern whose standardised measures are all 1 or -1.
        own: variance of a pattern's own deviation.
        seed: variance of a seed's effect, which all patterns share.
        noise: variance of a training's own noise.
        curved: variance of the curved part.
        length: distance in measures over which the curved part changes.
    """

    mean: float
    linear: float
    own: float
    seed: float
    noise: float
    curved: float = 0.0
    length: float = 1.0


class Marginal(NamedTuple):
    """Means and standard deviations of expected costs; shape (patterns,) each."""

    mean: Floats
    sd: Floats


class Response(NamedTuple):
    """How far one more training would move the means of expected costs, per standard deviation of its result.

    Args:
        trained: of the observed patterns; shape (patterns, trainings).
        itself: of the pattern that it trains; shape (trainings,).
    """

    trained: Floats
    itself: Floats


class Posterior:
    """Costs that are to be expected of patterns at a seed not used yet, given what is known.

    A pending training counts as one that will end at its expected cost (a fantasy of constant mean; Ginsbourger, Le
    Riche and Carraro, 2010): it lowers what is uncertain, and moves no mean.

    Args:
        observations: what is known, at least one finished training or earlier outcome.
        variances: variances of the parts; `fit` finds them.
    """

    def __init__(self, observations: Observations, variances: Variances) -> None:
        self.observations = observations
        self.variances = variances
        self._rows = np.concatenate([observations.known_rows, observations.pending_rows])
        self._seeds = np.concatenate([observations.known_seeds, observations.pending_seeds])
        costs, earlier = observations.known_costs, observations.earlier
        points = observations.points
        self._prior = covary(points, points, variances) + variances.own * np.eye(len(points))
        covariance = self._prior[np.ix_(self._rows, self._rows)]
        covariance += variances.seed * (self._seeds[:, None] == self._seeds)
        covariance += variances.noise * np.eye(len(self._rows))
        n_earlier = len(earlier.rows)
        if n_earlier:  # means of several trainings, with a level and a deviation of their setting
            of_setting = variances.mean * earlier.same_setting + variances.own * earlier.same_pattern
            covariance[:n_earlier, :n_earlier] += of_setting + variances.noise * np.diag(1 / earlier.counts - 1)
        self._root = cholesky(covariance, lower=True, check_finite=False)
        # The root of what is known is the first part of the root of all.
        known = self._root[: len(costs), : len(costs)]
        self._centre = float(costs.mean())
        halved = solve_triangular(known, costs - self._centre, lower=True, check_finite=False)
        self._weights = solve_triangular(known, halved, lower=True, trans="T", check_finite=False)

    @cached_property
    def mean(self) -> Floats:
        """Means of the expected costs of the observed patterns, their own deviations included; shape (patterns,)."""
        return self._expect(self._prior[self._rows])

    @cached_property
    def covariance(self) -> Floats:
        """Covariance of the expected costs of the observed patterns; shape (patterns, patterns)."""
        halved = self._halve(self._prior[self._rows])
        return np.asarray(self._prior - halved.T @ halved, np.float64)

    def predict(self, points: Floats) -> Marginal:
        """Return what patterns not observed are expected to cost; points has shape (patterns, measures)."""
        shared = self._share(points)
        halved = self._halve(shared)
        variance = self._prior_variance(points) - np.square(halved).sum(axis=0)
        return Marginal(self._expect(shared), np.sqrt(np.maximum(variance, 0.0)))

    def respond(self, points: Floats, seed: int) -> Response:
        """Return how trainings of patterns not observed, at one seed, would move the means."""
        shared = self._share(points)
        prior = covary(self.observations.points, points, self.variances)
        return self._respond(shared, prior, self._prior_variance(points), np.full(len(points), seed))

    def respond_again(self, seeds: Sequence[int]) -> Response:
        """Return how one more training of each observed pattern, at a seed of its own, would move the means."""
        shared = self._prior[self._rows]
        return self._respond(shared, self._prior, np.diag(self._prior), np.asarray(seeds, np.int64))

    def tell(self, names: Sequence[str]) -> dict[str, float]:
        """Return the measures that explain most, by how much cost changes per standard deviation over the patterns.

        Args:
            names: names of the columns of points.
        """
        points, variances = self.observations.points, self.variances
        slopes = variances.linear / max(points.shape[1], 1) * points[self.observations.known_rows].T @ self._weights
        changes = slopes * points.std(axis=0)
        order = np.argsort(-np.abs(changes), kind="stable")[:N_TELLING]
        return {names[place]: float(changes[place]) for place in order.tolist() if changes[place] != 0}

    def _respond(self, shared: Floats, prior: Floats, prior_variance: Floats, seeds: Rows) -> Response:
        halved = self._halve(shared)
        result = shared + self.variances.seed * (self._seeds[:, None] == seeds)
        halved_result = self._halve(result)
        variance = prior_variance + self.variances.seed + self.variances.noise - np.square(halved_result).sum(axis=0)
        sd = np.sqrt(variance)
        trained = prior - self._halve(self._prior[self._rows]).T @ halved_result
        return Response(trained / sd, (prior_variance - (halved * halved_result).sum(axis=0)) / sd)

    def _share(self, points: Floats) -> Floats:
        """Return the prior covariance of the results so far with the costs of patterns not observed."""
        return np.asarray(covary(self.observations.points, points, self.variances)[self._rows], np.float64)

    def _prior_variance(self, points: Floats) -> Floats:
        variances = self.variances
        linear = variances.linear / max(points.shape[1], 1) * np.square(points).sum(axis=1)
        return np.asarray(variances.mean + linear + variances.curved + variances.own, np.float64)

    def _halve(self, shared: Floats) -> Floats:
        return np.asarray(solve_triangular(self._root, shared, lower=True, check_finite=False), np.float64)

    def _expect(self, shared: Floats) -> Floats:
        return np.asarray(self._centre + shared[: len(self._weights)].T @ self._weights, np.float64)


def covary(left: Floats, right: Floats, variances: Variances) -> Floats:
    """Return the prior covariance of the costs of patterns, without their own deviations; shape (left, right)."""
    linear = left @ right.T / max(left.shape[1], 1)
    covariance = variances.mean + variances.linear * linear
    if variances.curved > 0:
        covariance += variances.curved * np.exp(-square_distances(left, right) / (2 * variances.length**2))
    return np.asarray(covariance, np.float64)


def square_distances(left: Floats, right: Floats) -> Floats:
    """Return the squared distances of points; shape (left, right)."""
    squares = np.square(left).sum(axis=1)[:, None] + np.square(right).sum(axis=1)
    return np.asarray(np.maximum(squares - 2 * left @ right.T, 0.0), np.float64)
