"""Intervals of means and of resampled values, and standard errors."""

import math
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import stdtrit  # scipy.stats would take half a second to import

from analysis.data.protocol import CONFIDENCE
from analysis.stats.resampling import Vector

Range = tuple[float, float]
UNBOUNDED: Range = (-math.inf, math.inf)
SHARE: Range = (0.0, 1.0)  # an accuracy
SHARES_APART: Range = (-1.0, 1.0)  # one accuracy less another
RANGES: dict[str, Range] = {"validation_accuracy": SHARE, "validation_loss": (0.0, math.inf)}
TAILS = ((1 - CONFIDENCE) / 2, 1 - (1 - CONFIDENCE) / 2)  # quantiles at which a percentile interval ends


def range_of(outcome: str) -> Range:
    """Return between which values an outcome lies: of one that is not of images nothing is known."""
    return RANGES.get(outcome, UNBOUNDED)


def student_interval(
    values: "pd.Series[float] | Vector", bounds: Range = UNBOUNDED, centre: float | None = None, widen: float = 1.0
) -> tuple[float | None, float | None]:
    """Return the CONFIDENCE interval of a mean by Student's t, cut off where the mean cannot lie.

    What is cut off cannot contain the true mean, so the interval covers it as often as before.

    Args:
        values: shape (n,).
        bounds: least and greatest possible mean.
        centre: middle of the interval before it is cut; None: the values' mean.
        widen: factor of the half width.

    Returns:
        (None, None) for fewer than two values, and for values that are all equal: they show no spread, and an interval
        without width would claim that nothing is uncertain.

    >>> [round(end, 3) for end in student_interval(np.array([0.98, 0.99, 1.0]), SHARE)]
    [0.965, 1.0]
    >>> student_interval(np.array([0.5, 0.5]), SHARE)
    (None, None)
    """
    values = np.asarray(values, np.float64)
    n = len(values)
    # Equal outcomes may differ by 1e-17 after averaging or subtracting.
    if n < 2 or np.ptp(values) <= 1e-12 * max(1.0, float(abs(values).max())):
        return None, None
    half = widen * student_quantile(n - 1) * float(values.std(ddof=1)) / math.sqrt(n)
    middle = float(values.mean()) if centre is None else centre
    return clip(middle - half, bounds), clip(middle + half, bounds)


def student_quantile(freedom: int) -> float:
    """Return how many standard errors a CONFIDENCE interval reaches to each side, at these degrees of freedom.

    >>> round(student_quantile(3), 3)
    3.182
    """
    return float(stdtrit(freedom, (1 + CONFIDENCE) / 2))


def percentile_interval(resampled: Vector) -> tuple[float | None, float | None]:
    """Return the CONFIDENCE interval of resampled values, those that are not finite left out; None without any.

    >>> percentile_interval(np.array([np.nan, 1.0, 1.0]))
    (1.0, 1.0)
    """
    usable = resampled[np.isfinite(resampled)]
    low, high = np.quantile(usable, TAILS).tolist() if len(usable) else (None, None)
    return low, high


def share_error(share: float, n: int) -> float:
    """Return the standard error of a share counted on n independent cases.

    >>> share_error(0.5, 100)
    0.05
    """
    return math.sqrt(share * (1 - share) / n)


def seed_error(patterns: "pd.DataFrame | pd.Series[Any]", deviation: str) -> Any:
    """Return the standard error of a mean over seeds, NaN for one seed.

    Args:
        patterns: rows of average_patterns, or one of them, which gives one number.
        deviation: column of the standard deviation between seeds.
    """
    return patterns[deviation] / patterns["n_seeds"] ** 0.5


def clip(value: float, bounds: Range) -> float:
    """Return the possible value that is nearest to the given one."""
    return min(max(value, bounds[0]), bounds[1])
