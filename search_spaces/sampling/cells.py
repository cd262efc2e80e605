"""Draws from cells of distance crossed with span, and the ends of what a budget reaches, all by annealing."""

import itertools
import math
from collections.abc import Set
from dataclasses import dataclass

import numpy as np

from search_spaces.budget import Budget
from search_spaces.errors import InputError
from search_spaces.pattern import ConnectionPattern
from search_spaces.sampling.annealing import FROM_OUTPUT, SUM_BD, SUM_SPAN, Bands, State, anneal, count_summed, wander
from search_spaces.seeds import derive_generator

MAX_STALE = 30  # chains in a row that find nothing new
FARTHEST_MOVES = 300_000
WALK_MOVES = 50  # tried for every skip once inside a cell: enough to forget the way in
TARGET_MOVES = 2_000  # for every skip, towards a target or an end of what a budget reaches: more came hardly nearer
MAX_TARGET_MOVES = 200_000  # a second at 100 layers
REACH_TEMPERATURES = (3.0, 0.1)  # on the way to an end of what a budget reaches


@dataclass(frozen=True, slots=True)
class Cell:
    """Bands that a sampled pattern's descriptors must lie in, bounds included; None where all is allowed."""

    mean_bd: tuple[float, float] | None = None  # band of the mean BD, in hops
    span: tuple[float, float] | None = None  # band of the mean span, in layers
    from_output: tuple[float, float] | None = None  # band of the mean BD from the output, in hops

    def __post_init__(self) -> None:
        for name in ("mean_bd", "span", "from_output"):
            band = getattr(self, name)
            if band is not None and not band[0] <= band[1]:
                raise InputError(f"band {name} {band[0]}:{band[1]} is empty: give LO:HI with LO at most HI")


def sample_cell(
    budget: Budget, cell: Cell, generator: np.random.Generator, max_moves: int = 1_000_000
) -> ConnectionPattern | None:
    """Draw a pattern of the budget from a cell: anneal into it, then walk inside it.

    The walk's moves are symmetric and stay inside, so in the long run every pattern that it can get to is equally
    likely; WALK_MOVES a skip are tried. Each call is an independent chain.

    Returns:
        The pattern, or None if max_moves did not lead into the cell: it may be empty, or hard to get to.
    """
    pattern, is_inside = _anneal_into(budget, cell, generator, max_moves)
    return pattern if is_inside else None


def sample_towards(budget: Budget, cell: Cell, generator: np.random.Generator) -> ConnectionPattern:
    """Draw a pattern from a cell or, where annealing does not get there, return the one near it that it ended at.

    Near is by the sums that the descriptors are means of, so a hop of mean BD counts L (L + 1) / 2 times, a layer of
    span E times and a hop from the output L times.
    """
    return _anneal_into(budget, cell, generator, _count_target_moves(budget))[0]


def _count_target_moves(budget: Budget) -> int:
    return min(TARGET_MOVES * (budget.n_connections - budget.depth), MAX_TARGET_MOVES)


def _anneal_into(
    budget: Budget, cell: Cell, generator: np.random.Generator, max_moves: int
) -> tuple[ConnectionPattern, bool]:
    """Anneal towards a cell and walk inside it; return the pattern, and whether it is inside."""
    n_summed = count_summed(budget)
    bands = Bands()
    for measure, band in ((SUM_BD, cell.mean_bd), (SUM_SPAN, cell.span), (FROM_OUTPUT, cell.from_output)):
        if band is not None:
            # A hair's width: the measures are whole numbers, and 0.1 x 3 must not fall out of a band that ends at 0.3.
            low, high = band[0] * n_summed[measure] - 1e-6, band[1] * n_summed[measure] + 1e-6
            bands = bands.limit(measure, low, high, 1.0)
    state = State.draw(budget, generator)
    for first in (3.0, 1.0, 1.0, 1.0):  # another rise of the temperature gets out of corners that a fall froze in
        energy, _ = anneal(state, bands, max_moves // 4, (first, 0.3), generator)
        if energy == 0:
            wander(state, bands, WALK_MOVES * len(state.skips), generator)
            return state.pattern(), True
    return state.pattern(), False


def find_reach(budget: Budget) -> Cell:
    """Return the least and the largest mean BD, span and from-output distance that annealing finds, one at a time.

    The seed is fixed, and there may be patterns a little beyond.

    >>> find_reach(Budget(4, total=6)).mean_bd
    (1.4, 1.5)
    """
    bands = []
    for measure, n in count_summed(budget).items():
        ends = []
        for low, high in ((-math.inf, 0.0), (budget.depth * n, math.inf)):  # beyond all sums
            generator = derive_generator("reach", str(budget), budget.depth, measure, str(low))
            state = State.draw(budget, generator)
            beyond = Bands().limit(measure, low, high, 1.0)
            anneal(state, beyond, _count_target_moves(budget), REACH_TEMPERATURES, generator)
            ends.append(state.measure()[measure] / n)
        bands.append((ends[0], ends[1]))
    return Cell(*bands)


def sample_distinct(
    budget: Budget, cell: Cell, count: int, seed: int, known: Set[str] = frozenset()
) -> list[ConnectionPattern]:
    """Draw up to `count` different patterns of a cell, none of a known key, by independent chains.

    A small cell gives fewer: it ends once MAX_STALE chains in a row find nothing new.
    """
    patterns: dict[str, ConnectionPattern] = {}
    n_stale = 0
    for number in itertools.count():
        if len(patterns) == count or n_stale == MAX_STALE:
            break
        pattern = sample_cell(budget, cell, derive_generator(seed, "cell", number))
        if pattern is None and not patterns:
            break
        if pattern is None or pattern.key in known or pattern.key in patterns:
            n_stale += 1
        else:
            patterns[pattern.key] = pattern
            n_stale = 0
    return list(patterns.values())


def farthest_pattern(budget: Budget) -> ConnectionPattern:
    """Return the pattern of largest mean BD known: with the lower bound, it frames what can be sampled.

    Under a budget by layer N(i) = {i-1, 0..d_i-2}; under a total, or with caps, what annealing upwards finds with a
    fixed seed, and there may be one farther still.

    >>> farthest_pattern(Budget(4, per_layer=(1, 2, 2, 3))).sources
    ((0,), (0, 1), (0, 2), (0, 1, 3))
    """
    if budget.per_layer is not None and budget.max_out is None:
        return ConnectionPattern.from_sources([*range(degree - 1), i] for i, degree in enumerate(budget.per_layer))
    generator = derive_generator("farthest", str(budget), budget.depth)
    upwards = Bands().limit(SUM_BD, budget.depth**3, math.inf, 1.0)  # beyond all sums
    state = State.of(budget.example(), budget)
    anneal(state, upwards, FARTHEST_MOVES, REACH_TEMPERATURES, generator)
    return state.pattern()
