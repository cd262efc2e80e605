"""What to choose by a posterior: the next training, and the one pattern at the end."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import ndtr

from search_spaces.surrogate.posterior import Floats, Posterior

Z_95 = 1.959964  # standard deviations from the mean of a Gaussian to either end of its 95 % interval
N_CONTENDERS = 30  # observed patterns that one result may make the choice; the others lie too far behind
_SCORES = np.linspace(-6, 6, 61)  # standard scores of a result, and their chances: a quadrature by trapezoids
_CHANCES = np.exp(-(_SCORES**2) / 2) / np.exp(-(_SCORES**2) / 2).sum()


@dataclass(frozen=True, slots=True)
class Choice:
    """The pattern of least expected cost.

    Args:
        row: its row among the observed patterns.
        mean: its expected cost at a seed not used yet.
        low, high: 95 % interval of that.
    """

    row: int
    mean: float
    low: float
    high: float


def choose(posterior: Posterior) -> Choice:
    """Return the trained pattern of least expected cost; of equal ones, the first.

    The pattern of least cost observed would be the luckiest of many.
    """
    row = next(row for row in rank(posterior) if row in posterior.observations.rows)
    mean, sd = float(posterior.mean[row]), math.sqrt(max(float(posterior.covariance[row, row]), 0.0))
    return Choice(row, mean, mean - Z_95 * sd, mean + Z_95 * sd)


def rank(posterior: Posterior) -> list[int]:
    """Return the rows of the observed patterns by expected cost, the least first."""
    return [int(row) for row in np.argsort(posterior.mean, kind="stable")]


def find_chance(posterior: Posterior, row: int, other: int) -> float:
    """Return the chance that one observed pattern has a lower expected cost than another; 0.5 for the same."""
    covariance = posterior.covariance
    variance = float(covariance[row, row] + covariance[other, other] - 2 * covariance[row, other])
    difference = float(posterior.mean[other] - posterior.mean[row])
    if variance <= 0:
        return 0.5 + 0.5 * float(np.sign(difference))
    return float(ndtr(difference / math.sqrt(variance)))


def expect_improvement(posterior: Posterior, points: Floats) -> Floats:
    """Return how far patterns not observed are expected to lie below the least expected cost of the observed ones.

    Jones, Schonlau and Welch, Journal of Global Optimization 13, 1998, equation 15, for the cost without its noise.

    Args:
        points: standardised measures; shape (patterns, measures).

    Returns:
        Expected improvements, at least 0; shape (patterns,).
    """
    mean, sd = posterior.predict(points)
    gap = float(posterior.mean.min()) - mean
    score = gap / np.maximum(sd, 1e-12)
    return np.asarray(gap * ndtr(score) + sd * np.exp(-(score**2) / 2) / math.sqrt(2 * math.pi), np.float64)


def value_new(posterior: Posterior, points: Floats, seed: int) -> Floats:
    """Return by how much a training of each pattern not observed is expected to lower the cost of what is chosen.

    This is the knowledge gradient with correlated beliefs (Frazier, Powell and Dayanik, INFORMS Journal on Computing
    21, 2009): the least expected cost now, less the mean of the least after the result.

    Args:
        points: standardised measures; shape (patterns, measures).
        seed: seed of the training.
    """
    contenders = _list_contenders(posterior)
    response = posterior.respond(points, seed)
    least = _foresee(posterior.mean[contenders], response.trained[contenders])
    itself = posterior.predict(points).mean[:, None] + response.itself[:, None] * _SCORES
    return np.asarray(posterior.mean[contenders[0]] - np.minimum(least, itself) @ _CHANCES, np.float64)


def value_again(posterior: Posterior, seeds: Sequence[int]) -> Floats:
    """Return the same for one more training of each observed pattern, at a seed of its own; shape (patterns,).

    The first training here of a pattern with earlier outcomes also makes it one that can be chosen.
    """
    contenders = _list_contenders(posterior)
    response = posterior.respond_again(seeds)
    least = _foresee(posterior.mean[contenders], response.trained[contenders])
    new = np.flatnonzero(~posterior.observations.is_own)
    itself = posterior.mean[new][:, None] + response.itself[new][:, None] * _SCORES
    least[new] = np.minimum(least[new], itself)
    return np.asarray(posterior.mean[contenders[0]] - least @ _CHANCES, np.float64)


def _list_contenders(posterior: Posterior) -> list[int]:
    """Return the rows of the best patterns that could be chosen: those with trainings here, of which there must be."""
    is_own = posterior.observations.is_own
    return [row for row in rank(posterior) if is_own[row]][:N_CONTENDERS]


def _foresee(means: Floats, moves: Floats) -> Floats:
    """Return the least mean after each training at each score of its result; shape (trainings, scores).

    Args:
        means: means of the contenders; shape (contenders,).
        moves: how far a result of score 1 moves them; shape (contenders, trainings).
    """
    least = np.full((moves.shape[1], len(_SCORES)), np.inf)
    for mean, move in zip(means, moves, strict=True):  # all at once would not fit into a core's cache
        np.minimum(least, mean + np.multiply.outer(move, _SCORES), out=least)
    return least
