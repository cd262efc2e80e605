"""How well measures choose and predict patterns: precision at the top, parabolas, and a learned baseline."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import gammaln  # scipy.stats would take half a second to import

from analysis.data.outcomes import is_lower_better, list_outcomes
from analysis.data.protocol import MIN_PATTERNS, TOP_LEAST, TOP_SHARE
from analysis.stats.correlations import Estimate, estimate, weighted_spearman
from analysis.stats.inference import choose_outcome, outcome_of
from analysis.stats.resampling import Vector, design_cells

PENALTIES = np.logspace(-3, 3, 13)


@dataclass(frozen=True, slots=True)
class Precision:
    """How many of the n_top patterns that a measure calls best (the lowest) are among the n_top best by outcome.

    Args:
        n_hits, share: their number, and their share of n_top.
        chance: mean share of a blind choice.
        p_value: one-sided hypergeometric probability of as many hits or more by a blind choice.
    """

    measure: str
    outcome: str
    n_patterns: int
    n_top: int
    n_hits: int
    share: float
    chance: float
    p_value: float


@dataclass(frozen=True, slots=True)
class Baseline:
    """The rank correlation of an outcome with its prediction by a ridge regression on all other patterns.

    Args:
        name: name of the set of measures.
        measures: columns that it learned from.
        estimate: correlation without p_value; its interval takes the predictions as fixed.
    """

    name: str
    outcome: str
    measures: tuple[str, ...]
    n_patterns: int
    estimate: Estimate


@dataclass(frozen=True, slots=True)
class Fit:
    """The shares of an outcome's variance, 0..1, that a line and a parabola in one measure explain."""

    measure: str
    outcome: str
    n_patterns: int
    linear_r2: float
    quadratic_r2: float


def measure_precision(
    patterns: pd.DataFrame, measures: Sequence[str], outcomes: Sequence[str], generator: np.random.Generator
) -> tuple[Precision, ...]:
    """Measure every measure's precision at the top, less being better, for every outcome.

    Args:
        patterns: rows of average_patterns, one stratum.
        generator: source of the order of equal values, which are otherwise in the table's order, the best first.
    """
    precisions: list[Precision] = []
    for outcome in outcomes:
        rows = patterns.dropna(subset=[f"{outcome}_centred", *measures])
        if len(rows) < MIN_PATTERNS:
            continue
        y = outcome_of(rows, outcome) * (1 if is_lower_better(outcome) else -1)
        columns = {name: rows[name].to_numpy(np.float64) for name in measures}
        precisions += [_measure_precision(name, outcome, x, y, generator) for name, x in columns.items()]
    return tuple(precisions)


def predict_left_out(features: Vector, y: Vector) -> Vector:
    """Predict each row from all others by ridge, less the mean of the others; shapes (n, k), (n,) -> (n,).

    The mean of the others falls as the left-out value rises: (sum - y_i) / (n - 1). Predicting it, as ridge does where
    features say nothing, would show a rank correlation of -1 with the outcome. Subtracting it leaves what the features
    add.
    """
    predicted = np.empty(len(y))
    for row in range(len(y)):
        others, y_others = np.delete(features, row, axis=0), np.delete(y, row)
        mean, scale = others.mean(axis=0), others.std(axis=0)
        scale[scale <= len(others) * np.finfo(float).eps * abs(mean)] = 1.0  # constant, apart from rounding
        slopes = _fit_ridge((others - mean) / scale, y_others - y_others.mean())
        predicted[row] = (features[row] - mean) / scale @ slopes
    return predicted


def _fit_ridge(x: Vector, y: Vector) -> Vector:
    """Return the slopes (k,) of centred y on centred columns x, at the penalty that predicts left-out rows best.

    It has the least mean square of residual / (1 - leverage), with the intercept's share of the leverage (Golub, Heath
    and Wahba, Technometrics 21, 1979); the first of equal ones. scikit-learn's RidgeCV finds the same, and its checks
    take 30 times as long.
    """
    eigenvalues, axes = np.linalg.eigh(x.T @ x)
    turned = x @ axes  # (n, k)
    shrunk = 1 / (eigenvalues[:, None] + PENALTIES)  # (k, penalties)
    slopes = shrunk * (turned.T @ y)[:, None]
    leverages = turned**2 @ shrunk + 1 / len(y)  # (n, penalties)
    left_out = (y[:, None] - turned @ slopes) / (1 - leverages)
    chosen: Vector = axes @ slopes[:, (left_out**2).mean(axis=0).argmin()]
    return chosen


def learn_baselines(
    patterns: pd.DataFrame, distance: str, sets: Mapping[str, Sequence[str]], generator: np.random.Generator
) -> tuple[Baseline, ...]:
    """Fit a leave-one-pattern-out ridge from each set of measures to the primary outcome.

    Args:
        patterns: rows of average_patterns, one stratum.
        sets: columns by name of the set, without missing values and not constant; an empty set is left out.
    """
    outcome, rows = choose_outcome(patterns, distance)
    y = outcome_of(rows, outcome)
    if len(rows) < MIN_PATTERNS or np.ptp(y) == 0:
        return ()
    cells = design_cells(rows)
    baselines = []
    for name, measures in sets.items():
        if measures:
            # y is scaled to 1 so that a penalty means the same for every unit of the outcome.
            predicted = predict_left_out(rows[list(measures)].to_numpy(np.float64), (y - y.mean()) / y.std())
            correlation = estimate(partial(weighted_spearman, predicted.round(12), y), cells, generator)
            baselines.append(Baseline(name, outcome, tuple(measures), len(rows), correlation))
    return tuple(baselines)


def _measure_precision(measure: str, outcome: str, x: Vector, y: Vector, generator: np.random.Generator) -> Precision:
    n = len(x)
    n_top = min(n, max(TOP_LEAST, math.ceil(TOP_SHARE * n)))
    tops = [set(np.lexsort((generator.random(n), values))[:n_top].tolist()) for values in (x, y)]
    n_hits = len(tops[0] & tops[1])
    hits = np.arange(n_hits, n_top + 1)
    logs = _log_ways(n_top, hits) + _log_ways(n - n_top, n_top - hits) - _log_ways(n, np.array(n_top))
    p_value = min(float(np.exp(logs).sum()), 1.0)
    return Precision(measure, outcome, n, n_top, n_hits, n_hits / n_top, n_top / n, p_value)


def _log_ways(n: int, k: NDArray[np.int64]) -> Vector:
    """Return the logarithm of the number of ways to choose k of n; minus infinity where there is none."""
    ways: Vector = gammaln(n + 1) - gammaln(k + 1) - gammaln(n - k + 1)
    return ways


def fit_parabolas(patterns: pd.DataFrame, measures: tuple[str, ...]) -> tuple[Fit, ...]:
    """Fit a line and a parabola in every measure to every outcome."""
    fits = []
    for outcome in list_outcomes(patterns):
        rows = patterns.dropna(subset=[f"{outcome}_centred", *measures])
        for measure in measures:
            linear, quadratic = explain(rows[measure].to_numpy(np.float64), outcome_of(rows, outcome))
            if linear is not None and quadratic is not None:
                fits.append(Fit(measure, outcome, len(rows), linear, quadratic))
    return tuple(fits)


def explain(x: Vector, y: Vector) -> tuple[float | None, float | None]:
    """Return R2 of y on x, and on x and its square; None where x or y is constant or no row would be left over.

    >>> x = np.arange(5.0)
    >>> [round(share, 6) for share in explain(x, (x - 2) ** 2)]
    [0.0, 1.0]
    """
    if len(x) < 4 or np.ptp(x) == 0 or np.ptp(y) == 0:
        return None, None
    x, y = _standardise(x), _standardise(y)
    powers = np.stack([np.ones(len(x)), x, x**2], axis=1)
    left = [y - powers[:, :k] @ np.linalg.lstsq(powers[:, :k], y, rcond=None)[0] for k in (2, 3)]
    linear, quadratic = (min(max(1 - float(residual @ residual) / len(y), 0.0), 1.0) for residual in left)
    return linear, quadratic


def _standardise(x: Vector) -> Vector:
    """Centre and divide by the standard deviation, scaling first, for the square of 1e200 is not a float."""
    scaled = x / np.abs(x).max()
    scaled = (scaled - scaled.mean()) / np.ptp(scaled)
    standard: Vector = scaled / scaled.std()
    return standard
