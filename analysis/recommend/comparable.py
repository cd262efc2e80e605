"""Measures of patterns on a scale that depths and budgets share, and a linear model of the loss over them."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from search_spaces.budget import Budget
from search_spaces.pattern import ConnectionPattern
from search_spaces.sampling.draw import sample_uniform
from search_spaces.seeds import derive_generator
from search_spaces.surrogate.features import LEAST_SPREAD, PREDICTORS, measure_patterns

N_OF_SCALE = 200  # draws that make the scale of a budget
FARTHEST = 6.0  # standard deviations beyond which a measure counts as this far: little was trained out there


def draw_uniform(budget: Budget) -> list[ConnectionPattern]:
    """Draw the patterns that make a budget's scale, the same each time; some may be equal.

    Raises:
        InputError: caps refuse nearly all draws.
    """
    generator = derive_generator("recommend", "uniform", str(budget), budget.depth)
    return [sample_uniform(budget, generator) for _ in range(N_OF_SCALE)]


def standardise(patterns: Sequence[ConnectionPattern], uniform: Sequence[ConnectionPattern]) -> NDArray[np.float64]:
    """Return PREDICTORS of patterns in standard deviations from the mean of uniform draws; shape (patterns, measures).

    A measure that does not vary over the draws is 0, and none is more than FARTHEST.

    Args:
        patterns, uniform: at least one of each, all of one budget.
    """
    own = measure_patterns(uniform)
    spread = own.std(axis=0)
    varies = spread > LEAST_SPREAD * (1 + np.abs(own).max(axis=0))
    deviations = np.where(varies, measure_patterns(patterns) - own.mean(axis=0), 0.0)
    return np.clip(deviations / np.where(varies, spread, 1.0), -FARTHEST, FARTHEST)


def expect_losses(
    patterns: Sequence[ConnectionPattern], uniform: Sequence[ConnectionPattern], weights: dict[str, float]
) -> NDArray[np.float64]:
    """Return what the model expects of patterns, lower is better; only differences mean anything; shape (patterns,).

    Args:
        weights: of each of PREDICTORS.
    """
    coefficients = np.array([weights[name] for name in PREDICTORS])
    return np.asarray(standardise(patterns, uniform) @ coefficients, np.float64)
