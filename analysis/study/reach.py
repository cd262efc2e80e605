"""how much of the reachable mean BD a set of patterns covers."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from search_spaces.budget import Budget
from search_spaces.distance import backprop_distance
from search_spaces.sampling.bounds import bound_mean
from search_spaces.sampling.cells import farthest_pattern
from search_spaces.sampling.draw import sample_uniform
from search_spaces.sampling.kernels import batch_distances
from search_spaces.seeds import derive_generator

N_UNIFORM = 2000
CENTRAL = (0.01, 0.99)


@dataclass(frozen=True, slots=True)
class Reach:
    """Which part of the reachable mean BD a set of patterns covers, in hops.

    Args:
        low, high: its 1 % and 99 % quantiles.
        bound: below which no pattern of the budget can be; see search_spaces.sampling.bounds.
        farthest: the largest mean BD at these in-degrees; None for a total budget.
        share: (high - low) / (farthest - bound), 0..1.
    """

    n_patterns: int
    low: float
    high: float
    bound: float
    farthest: float | None
    share: float | None


def measure_reach(mean_bd: NDArray[np.float64], budget: Budget) -> Reach:
    """The reach of patterns of that budget whose mean BDs, shape (n,), n >= 1, are given."""
    low, high = np.quantile(mean_bd, CENTRAL).tolist()
    bound = bound_mean(budget)
    farthest = share = None
    if budget.per_layer is not None:
        farthest = backprop_distance(farthest_pattern(budget)).mean
        share = (high - low) / (farthest - bound) if farthest > bound + 1e-12 else None
    return Reach(len(mean_bd), low, high, bound, farthest, share)


def measure_uniform_reach(budget: Budget, run_seed: int = 0) -> Reach:
    """The reach of N_UNIFORM patterns drawn uniformly under the budget: what a random search would see."""
    generator = derive_generator(run_seed, "uniform reach")
    return measure_reach(batch_distances([sample_uniform(budget, generator) for _ in range(N_UNIFORM)]).mean, budget)
