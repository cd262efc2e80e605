"""How much of an outcome a line or a parabola in one measure explains."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from analysis.data.protocol import OUTCOMES
from analysis.stats.inference import outcome_of
from analysis.stats.resampling import Vector


@dataclass(frozen=True, slots=True)
class Fit:
    """The shares of an outcome's variance, 0..1, that a line and a parabola in one measure explain."""

    measure: str
    outcome: str
    n_patterns: int
    linear_r2: float
    quadratic_r2: float


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
