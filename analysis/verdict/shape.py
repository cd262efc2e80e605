"""Whether the outcome is best or worst at a middling value of a measure."""

from dataclasses import dataclass

import numpy as np

from analysis.data.protocol import ALPHA
from analysis.stats.correlations import weighted_ranks
from analysis.stats.inference import orthogonalise, regress
from analysis.stats.resampling import Vector
from analysis.verdict.controls import list_controls
from analysis.verdict.noise import square_ranks
from analysis.verdict.sample import Sample
from analysis.verdict.seeds import compare_mean, compare_seeds, rank_seeds

LEAST_SIDE = 6  # patterns on either side of a turning point


@dataclass(frozen=True, slots=True)
class Shape:
    """The slopes of an outcome's rank on a measure's rank on both sides of where a parabola turns.

    Args:
        turning_point: value of the measure there.
        below, above: slopes, under the control that speaks least for a turn.
        p_value: largest p-value of the two slopes under any control; 1 where both rise or both fall.
        p_holm: adjusted over all declared tests of all strata; None before that.
        middle_is_best: whether the outcome is best in the middle.
    """

    turning_point: float
    below: float
    above: float
    p_value: float
    p_holm: float | None
    middle_is_best: bool

    @property
    def is_u(self) -> bool:
        """Whether the outcome turns: the slopes are opposite, and both are detected under every control."""
        return self.p_holm is not None and self.p_holm <= ALPHA


def measure_shape(sample: Sample, measure: str) -> Shape | None:
    """Test whether the slopes on both sides of the turning point are opposite, under every control.

    A significant square does not show that anything turns: any convex rise has one (Lind and Mehlum, Oxford Bull. Econ.
    Stat. 72, 2010). Here each side has its own line and level, so that a rise of whatever form has no falling side on
    average (Simonsohn, Adv. Methods Pract. Psychol. Sci. 1, 2018).

    Returns:
        None where no parabola turns with LEAST_SIDE patterns on both sides, under one control at least.
    """
    shapes = []
    for given in list_controls(measure, tuple(sample.columns)):
        shape = _measure(sample, measure, square_ranks([sample.columns[name] for name in given]))
        if shape is None:
            return None
        shapes.append(shape)
    return max(shapes, key=lambda shape: shape.p_value, default=None)


def _measure(sample: Sample, measure: str, held: Vector) -> Shape | None:
    n = len(sample.keys)
    ones = np.ones((1, n))
    x = sample.columns[measure]
    rank, y = (weighted_ranks(column, ones)[0] / n for column in (x, sample.means))
    columns = np.concatenate([np.ones((n, 1)), held, rank[:, None], rank[:, None] ** 2], axis=1)
    *_, linear, square = np.linalg.lstsq(columns, y, rcond=None)[0].tolist()
    if abs(square) < 1e-9:
        return None
    turn = -linear / (2 * square)
    is_above = rank > turn
    if min(is_above.sum(), n - is_above.sum()) < LEAST_SIDE:
        return None
    sides = [np.where(chosen, rank - turn, 0.0) for chosen in (~is_above, is_above)]
    nuisance = np.concatenate([held, is_above[:, None].astype(np.float64)], axis=1)
    slopes, p_values = [], []
    for own, other in (sides, sides[::-1]):
        slope, p_value = _test_side(sample, own, np.concatenate([nuisance, other[:, None]], axis=1), y)
        slopes.append(slope)
        p_values.append(p_value)
    is_opposite = slopes[0] * slopes[1] < 0
    return Shape(
        turning_point=float(np.interp(turn, np.sort(rank), np.sort(x))),
        below=slopes[0],
        above=slopes[1],
        p_value=max(p_values) if is_opposite else 1.0,
        p_holm=None,
        middle_is_best=(slopes[0] < 0) == sample.lower_is_better,
    )


def _test_side(sample: Sample, side: Vector, nuisance: Vector, y: Vector) -> tuple[float, float]:
    """Return the slope of one side and its p-value, by Student's t with HC3; over seeds where they are random."""
    slope, variance, freedom = regress(side, nuisance, y)
    full = sample.is_full
    seeds = None
    if full.sum() > nuisance.shape[1] + 5:
        basis = orthogonalise(np.concatenate([np.ones((int(full.sum()), 1)), nuisance[full]], axis=1))
        left = side[full] - basis @ (basis.T @ side[full])
        seeds = compare_seeds(rank_seeds(sample.values[full]), left)
    return slope, compare_mean(slope, variance, seeds, freedom).p_value
