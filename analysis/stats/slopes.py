"""Slopes of the outcome on distance in each span band, and how much a line or a parabola explains."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd

from analysis.data.protocol import MIN_BAND, OUTCOMES
from analysis.stats.inference import outcome_of
from analysis.stats.intervals import student_quantile
from analysis.stats.resampling import Groups, Vector, design_bands, list_bins

UNITS = {"validation_accuracy": (100.0, "points"), "validation_loss": (1.0, "nats")}


@dataclass(frozen=True, slots=True)
class Slope:
    """The least squares slope of an outcome on distance.

    Args:
        band: bin of span of its patterns; None for the pooled slope and for patterns without a bin.
        span_low, span_high: range of their spans.
        x_low, x_mean, x_high: range and mean of their distances.
        is_pooled: whether it is over all bands, each with its own level.
        unit: unit of value, low, high and excluded: points or nats a hop.
        low, high: CONFIDENCE interval, from HC3 covariance and Student's t.
        excluded: steepest slope that the interval does not exclude, in either direction.
    """

    outcome: str
    band: int | None
    span_low: float
    span_high: float
    x_low: float
    x_mean: float
    x_high: float
    is_pooled: bool
    n_patterns: int
    unit: str
    value: float
    low: float
    high: float
    excluded: float


@dataclass(frozen=True, slots=True)
class Fit:
    """The shares of an outcome's variance, 0..1, that a line and a parabola in one measure explain."""

    measure: str
    outcome: str
    n_patterns: int
    linear_r2: float
    quadratic_r2: float


def fit_slopes(patterns: pd.DataFrame, distance: str) -> tuple[Slope, ...]:
    """Fit slopes in each span band and pooled, for every outcome; bands where they are not defined are left out.

    Args:
        patterns: rows of average_patterns, one stratum.
    """
    return tuple(slope for outcome in OUTCOMES for slope in _slopes_of(patterns, outcome, distance))


def fit_parabolas(patterns: pd.DataFrame, measures: tuple[str, ...]) -> tuple[Fit, ...]:
    """Fit a line and a parabola in every measure to every outcome."""
    fits = []
    for outcome in OUTCOMES:
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


def _slopes_of(patterns: pd.DataFrame, outcome: str, distance: str) -> Iterator[Slope]:
    rows = patterns.dropna(subset=[f"{outcome}_centred", distance, "span"])
    if rows.empty:
        return
    x, span = (rows[name].to_numpy(np.float64) for name in (distance, "span"))
    bands = design_bands(rows, "span", 1)
    scale, unit = UNITS[outcome]
    y = scale * outcome_of(rows, outcome)
    by_span = sorted(np.unique(bands).tolist(), key=lambda band: float(span[bands == band].mean()))
    sizes = np.bincount(bands)
    chosen = [(bands == band, len(by_span) == 1) for band in by_span]
    chosen += [(sizes[bands] > 1, True)] if len(by_span) > 1 else []  # a single pattern in its band has no slope
    for members, is_pooled in chosen:
        fit = _fit(x[members], y[members], bands[members])
        if fit is not None:
            slope, half = fit
            bins = list_bins(rows.loc[members], 1)
            band = None if is_pooled or bins.isna().any() else int(bins.iloc[0])
            spans = float(span[members].min()), float(span[members].max())
            reach = float(x[members].min()), float(x[members].mean()), float(x[members].max())
            low, high = slope - half, slope + half
            excluded = max(abs(low), abs(high))
            n = int(members.sum())
            yield Slope(outcome, band, *spans, *reach, is_pooled, n, unit, slope, low, high, excluded)


def _fit(x: Vector, y: Vector, bands: Groups) -> tuple[float, float] | None:
    """Return the slope of y on x with a level for each band, and half its interval's width.

    The covariance is HC3 (MacKinnon and White, J. Econometrics 29, 1985). None where x hardly varies or one pattern
    decides the slope.
    """
    levels = (bands[:, None] == np.unique(bands)).astype(np.float64)  # (n, bands)
    if len(x) < levels.shape[1] + MIN_BAND - 1:
        return None
    within, y_within = (column - levels @ (levels.T @ column / levels.sum(axis=0)) for column in (x, y))
    scatter = float(within @ within)
    if scatter <= 1e-12 * (x**2).sum() or np.ptp(y) == 0:
        return None
    leverage = within**2 / scatter + levels @ (1 / levels.sum(axis=0))
    if leverage.max() > 1 - 1e-9:  # HC3 divides by 1 - leverage
        return None
    slope = float(within @ y_within) / scatter
    left_out = (y_within - slope * within) / (1 - leverage)
    error = float(np.sqrt((within * left_out) @ (within * left_out))) / scatter
    return slope, error * student_quantile(len(x) - levels.shape[1] - 1)
