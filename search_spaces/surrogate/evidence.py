"""The variances of a cost's parts, as trainings show them: those of most evidence."""

from collections.abc import Mapping
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from scipy.linalg import cho_solve, cholesky, lapack

from search_spaces.surrogate.posterior import (
    Earlier,
    Floats,
    Observations,
    Posterior,
    Rows,
    Variances,
    square_distances,
)

MEAN_VARIANCE = 100.0  # of the mean, in units of the costs' variance
LEAST_SCALE = 1e-4  # variance of costs that do not vary: that of losses 1 % apart
MIN_CURVED = 50  # patterns before a curved part is tried
LENGTHS = (0.5, 1.0, 2.0)  # of the curved part, in units of the root mean squared distance of two patterns
MAX_FIT_STEPS = 40
TOLERANCE = 1e-4  # nats that one more step is expected to gain, at which the fit is good enough
CLIP = 3.0  # robust standard deviations above the median at which a cost is cut off
# Priors of the logarithms of variances: medians and standard deviations. The noise is in units of the costs' variance,
# the other parts in units of the noise. Twenty tables of digits and Fashion-MNIST lie within one standard deviation.
PRIORS = {"noise": (0.5, 0.7), "own": (0.1, 0.7), "seed": (0.35, 0.7), "linear": (0.6, 1.0), "curved": (0.5, 1.0)}


class MostLikely(NamedTuple):
    """Where evidence and prior are largest together.

    Args:
        logs: logarithms of the parts' variances, each in units of the one that PRIORS measures it by.
        loss: minus the logarithm of evidence times prior, up to a constant.
    """

    logs: Floats
    loss: float


class Slope(NamedTuple):
    """Evidence and prior at some variances.

    Args:
        loss: minus the logarithm of evidence times prior, up to a constant.
        gradient: its gradient by the logarithms of the variances; shape (parts,).
        curvature: an estimate of its second derivatives that is always positive definite; shape (parts, parts).
    """

    loss: float
    gradient: Floats
    curvature: Floats


class _Factored(NamedTuple):
    variances: Floats
    root: Floats  # lower triangle whose product with its transpose is the covariance of the costs
    weights: Floats  # the inverse covariance times the costs
    deviations: Floats  # of the logarithms from their prior, in its standard deviations
    loss: float


class _Arguments(NamedTuple):
    """The arguments of `lose`, in its order."""

    logs: Floats
    costs: Floats
    parts: Floats
    medians: Floats
    sds: Floats
    level: Floats | float


def fit(observations: Observations) -> Posterior:
    """Fit the model to trainings: outliers are cut off, and the variances are those of most evidence and prior.

    A curved part is mixed in once MIN_CURVED patterns are known, where the evidence prefers it. Earlier outcomes are
    brought to the level of the finished trainings, and how far they lie from it is left open: see `earlier`.

    Args:
        observations: what is known, at least one finished training or earlier outcome.
    """
    clipped = clip_costs(observations.costs) if len(observations.costs) else observations.costs
    level = float(clipped.mean()) if len(clipped) else 0.0
    observations = replace(observations, costs=clipped, earlier=_level(observations.earlier, level))
    costs, rows, earlier = observations.known_costs, observations.known_rows, observations.earlier
    scale = max(float(costs.var()), LEAST_SCALE)
    standard = (costs - costs.mean()) / np.sqrt(scale)
    points = observations.points[rows]
    parts = {
        "noise": np.eye(len(standard)),
        "own": _equal(rows),
        "seed": _equal(observations.known_seeds),
        "linear": points @ points.T / max(points.shape[1], 1),
    }
    prior_level: Floats | float = MEAN_VARIANCE
    n_earlier = len(earlier.rows)
    if n_earlier:
        place = slice(n_earlier), slice(n_earlier)
        parts["noise"][place] = np.diag(1 / earlier.counts)
        parts["own"][place] += earlier.same_pattern
        prior_level = np.full(parts["own"].shape, MEAN_VARIANCE)
        prior_level[place] += MEAN_VARIANCE * earlier.same_setting
    best = maximise_evidence(standard, parts, level=prior_level)
    length = 1.0
    if len(np.unique(rows)) >= MIN_CURVED:
        distances = square_distances(points, points)
        lengths = [factor * max(float(np.sqrt(distances.mean())), 1e-9) for factor in LENGTHS]
        mixtures = [parts | {"curved": np.exp(-distances / (2 * tried**2))} for tried in lengths]
        # One length is optimised, the best before that: less than a nat worse than the best of all three, optimised.
        losses = [_factor(*_start(standard, mixture, best.logs, prior_level)).loss for mixture in mixtures]
        chosen = int(np.argmin(losses))
        mixed = maximise_evidence(standard, mixtures[chosen], best.logs, prior_level)
        if mixed.loss < best.loss:
            best, length = mixed, lengths[chosen]
    logs = dict(zip(PRIORS, best.logs.tolist(), strict=False))
    noise = scale * np.exp(logs.pop("noise"))
    values = {name: float(noise * np.exp(log)) for name, log in logs.items()}
    variances = Variances(mean=MEAN_VARIANCE * scale, noise=float(noise), length=length, **values)
    return Posterior(observations, variances)


def _level(earlier: Earlier, level: float) -> Earlier:
    """Return earlier outcomes with outliers of each setting cut off, and each setting's mean at this level."""
    costs = earlier.costs.copy()
    for setting in np.unique(earlier.settings):
        is_of_it = earlier.settings == setting
        clipped = clip_costs(costs[is_of_it])
        costs[is_of_it] = clipped - clipped.mean() + level
    return replace(earlier, costs=costs)


def clip_costs(costs: Floats) -> Floats:
    """Cut off costs far above the others: how badly a training diverged says nothing about the good patterns.

    >>> round(float(clip_costs(np.array([1.0, 2.0, 3.0, 4.0, 5.0, 900.0])).max()), 2)
    10.17
    """
    median = float(np.median(costs))
    spread = 1.4826 * float(np.median(np.abs(costs - median)))  # the standard deviation of a Gaussian
    return np.minimum(costs, median + CLIP * spread) if spread > 0 else costs


def maximise_evidence(
    costs: Floats, parts: Mapping[str, Floats], start: Floats | None = None, level: Floats | float = MEAN_VARIANCE
) -> MostLikely:
    """Return the variances that make standardised costs and the prior most likely together.

    Args:
        costs: costs of mean 0 and variance 1; shape (trainings,).
        parts: covariance of the costs for a variance of 1, by part in the order of PRIORS; (trainings, trainings) each.
        start: where the search starts, for the first parts; None for the prior's medians.
        level: covariance of what the costs have in common, whatever it is; (trainings, trainings), or one for all.
    """
    best = _start(costs, parts, start, level)
    lowest, highest = best.medians - 5 * best.sds, best.medians + 5 * best.sds
    slope = lose(*best)
    damping = 0.0  # added to the curvature where a step leads uphill (Levenberg, 1944)
    for _ in range(MAX_FIT_STEPS):
        step = -np.linalg.solve(slope.curvature + damping * np.eye(len(best.logs)), slope.gradient)
        if -0.5 * slope.gradient @ step < TOLERANCE:
            break
        tried = best._replace(logs=np.clip(best.logs + step, lowest, highest))
        slope_there = lose(*tried)
        if slope_there.loss < slope.loss:
            best, slope, damping = tried, slope_there, damping / 10
        else:
            damping = max(10 * damping, 1.0)
    return MostLikely(best.logs, slope.loss)


def _start(costs: Floats, parts: Mapping[str, Floats], start: Floats | None, level: Floats | float) -> _Arguments:
    """Return the arguments of `lose` where a search for the variances starts."""
    medians, sds = np.array([PRIORS[name] for name in parts]).T
    first = np.log(medians)
    first[: 0 if start is None else len(start)] = start if start is not None else []
    return _Arguments(first, costs, np.stack(list(parts.values())), np.log(medians), sds, level)


def lose(
    logs: Floats, costs: Floats, parts: Floats, medians: Floats, sds: Floats, level: Floats | float = MEAN_VARIANCE
) -> Slope:
    """Return minus the logarithm of evidence times prior, up to a constant, with its gradient and curvature.

    Rasmussen and Williams, equations 5.8 and 5.9. The first part is the noise, and the others are in its units. The
    curvature of the evidence is its average information, which costs no product of matrices (Gilmour, Thompson and
    Cullis, Biometrics 51, 1995).

    Args:
        logs: logarithms of the variances; shape (parts,).
        costs, parts, level: see maximise_evidence; parts has shape (parts, trainings, trainings).
        medians, sds: Gaussian prior of logs.
    """
    variances, root, weights, deviations, loss = _factor(logs, costs, parts, medians, sds, level)
    flat = parts.reshape(len(parts), -1)
    inverse, _ = lapack.dpotri(root, lower=1)  # its lower triangle, and zeros
    pulled = parts @ weights  # (parts, trainings)
    diagonals = np.diagonal(parts, axis1=1, axis2=2) @ np.diag(inverse)
    traces = 2 * (flat @ inverse.ravel()) - diagonals - pulled @ weights  # a triangle twice has the diagonal twice
    slopes = 0.5 * variances * traces
    slopes[0] = slopes.sum()
    moves = variances[:, None] * pulled  # of the costs, by the logarithm of each part's variance
    moves[0] = moves.sum(axis=0)
    curvature = 0.5 * moves @ cho_solve((root, True), moves.T, check_finite=False) + np.diag(sds**-2.0)
    return Slope(loss, slopes + deviations / sds, curvature)


def _factor(
    logs: Floats, costs: Floats, parts: Floats, medians: Floats, sds: Floats, level: Floats | float
) -> _Factored:
    """Return what `lose` begins with: the loss takes a third of the time of its slope."""
    variances = np.exp(logs + np.append(0.0, np.full(len(logs) - 1, logs[0])))
    covariance = (variances @ parts.reshape(len(parts), -1)).reshape(parts.shape[1:]) + level
    root = cholesky(covariance, lower=True, check_finite=False)
    weights = lapack.dpotrs(root, costs, lower=1)[0]
    deviations = (logs - medians) / sds
    loss = 0.5 * costs @ weights + np.log(np.diag(root)).sum() + 0.5 * deviations @ deviations
    return _Factored(variances, root, weights, deviations, float(loss))


def _equal(labels: Rows) -> Floats:
    return np.asarray(labels[:, None] == labels, np.float64)
