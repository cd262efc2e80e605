"""Uniform, and spread over distance x span cells, under an exact budget."""

import itertools
import math
from collections.abc import Set
from dataclasses import dataclass

import numpy as np

from search_spaces.budget import Budget
from search_spaces.errors import InputError
from search_spaces.pattern import ConnectionPattern
from search_spaces.seeds import derive_generator

MAX_REJECTED = 10_000  # uniform draws in a row that break a cap
MAX_STALE = 30  # chains in a row that find nothing new
FARTHEST_MOVES = 300_000
WALK_MOVES = 50  # tried for every skip once inside a cell: enough to forget the way in
TARGET_MOVES = 2_000  # for every skip, towards a target or an end of what a budget reaches: more came hardly nearer
MAX_TARGET_MOVES = 200_000  # a second at 100 layers


def sample_uniform(budget: Budget, generator: np.random.Generator) -> ConnectionPattern:
    """A pattern drawn uniformly from all that meet the budget.

    Without caps in closed form; with caps by drawing until one meets them.

    Raises:
        InputError: MAX_REJECTED draws in a row broke a cap.

    >>> pattern = sample_uniform(Budget(6, total=10), derive_generator(0))
    >>> pattern.n_connections
    10
    """
    for _ in range(MAX_REJECTED):
        pattern = _draw_uncapped(budget, generator)
        if budget.is_met_by(pattern):
            return pattern
    raise InputError(
        f"{MAX_REJECTED} uniform draws in a row broke a cap of budget {budget}: give larger caps, or sample a cell, "
        "which needs no rejection"
    )


def _draw_uncapped(budget: Budget, generator: np.random.Generator) -> ConnectionPattern:
    if budget.per_layer is not None:
        return ConnectionPattern.from_sources(
            [*generator.choice(layer - 1, degree - 1, replace=False).tolist(), layer - 1]
            for layer, degree in enumerate(budget.per_layer, start=1)
        )
    depth = budget.depth
    n_skips = budget.n_connections - depth
    # Skip number s, counted layer by layer, belongs to the layer t with (t-1)(t-2)/2 <= s < t(t-1)/2.
    chosen = generator.choice(depth * (depth - 1) // 2, n_skips, replace=False)
    firsts = np.arange(depth + 1) * (np.arange(depth + 1) - 1) // 2  # firsts[t - 1]: first skip of layer t
    layers = np.searchsorted(firsts[1:], chosen, side="right") + 1
    skips = zip((chosen - firsts[layers - 1]).tolist(), layers.tolist(), strict=True)
    return ConnectionPattern.from_connections(depth, [*((i - 1, i) for i in range(1, depth + 1)), *skips])


@dataclass(frozen=True, slots=True)
class Cell:
    """Bands that a sampled pattern's descriptors must lie in, bounds included; None where all is allowed.

    Args:
        mean_bd: of mean BD, in hops.
        span: of the mean span, in layers.
        from_output: of the mean BD from the output, in hops.
    """

    mean_bd: tuple[float, float] | None = None
    span: tuple[float, float] | None = None
    from_output: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        for name in ("mean_bd", "span", "from_output"):
            band = getattr(self, name)
            if band is not None and not band[0] <= band[1]:
                raise InputError(f"band {name} {band[0]}:{band[1]} is empty: give LO:HI with LO at most HI")


def sample_cell(
    budget: Budget, cell: Cell, generator: np.random.Generator, max_moves: int = 1_000_000
) -> ConnectionPattern | None:
    """A pattern of the budget drawn from a cell of distance x span: into it by annealing, then a walk inside it.

    The walk's moves are symmetric and stay inside, so in the long run every pattern that it can get to is as likely;
    WALK_MOVES a skip are tried. Each call is an independent chain.

    Returns:
        The pattern, or None if max_moves did not lead into the cell: it may be empty, or hard to get to.
    """
    pattern, is_inside = _anneal_into(budget, cell, generator, max_moves)
    return pattern if is_inside else None


def sample_towards(budget: Budget, cell: Cell, generator: np.random.Generator) -> ConnectionPattern:
    """The same, or where the cell is not reached the pattern near it that annealing ended at.

    Near is by the sums that the descriptors are means of, so a hop of mean BD counts L (L + 1) / 2 times, a layer of
    span E times and a hop from the output L times.
    """
    return _anneal_into(budget, cell, generator, _count_target_moves(budget))[0]


def _count_target_moves(budget: Budget) -> int:
    return min(TARGET_MOVES * (budget.n_connections - budget.depth), MAX_TARGET_MOVES)


def _anneal_into(
    budget: Budget, cell: Cell, generator: np.random.Generator, max_moves: int
) -> tuple[ConnectionPattern, bool]:
    """Where annealing towards a cell ended, and whether that is inside it: then after a walk there."""
    from search_spaces.sampling.annealing import (  # numba: 0.5 s
        FROM_OUTPUT,
        SUM_BD,
        SUM_SPAN,
        Bands,
        State,
        anneal,
        wander,
    )

    units = (
        (SUM_BD, cell.mean_bd, budget.depth * (budget.depth + 1) / 2),
        (SUM_SPAN, cell.span, budget.n_connections),
        (FROM_OUTPUT, cell.from_output, budget.depth),
    )
    bands = Bands()
    for measure, band, n_averaged in units:
        if band is not None:
            # A hair's width: the measures are whole numbers, and 0.1 x 3 must not fall out of a band that ends at 0.3.
            bands = bands.limit(measure, band[0] * n_averaged - 1e-6, band[1] * n_averaged + 1e-6, 1.0)
    state = State.of(budget.example() if budget.is_capped else sample_uniform(budget, generator), budget)
    for first in (3.0, 1.0, 1.0, 1.0):  # another rise of the temperature gets out of corners that a fall froze in
        energy, _ = anneal(state, bands, max_moves // 4, (first, 0.3), generator)
        if energy == 0:
            wander(state, bands, WALK_MOVES * len(state.skips), generator)
            return state.pattern(), True
    return state.pattern(), False


def find_reach(budget: Budget) -> Cell:
    """The least and the largest mean BD, span and from-output distance that annealing finds, each by itself.

    With a fixed seed, so that there may be patterns a little beyond.

    >>> find_reach(Budget(4, total=6)).mean_bd
    (1.4, 1.5)
    """
    from search_spaces.sampling.annealing import FROM_OUTPUT, SUM_BD, SUM_SPAN, Bands, State, anneal  # numba: 0.5 s

    n_averaged = {
        SUM_BD: budget.depth * (budget.depth + 1) // 2,
        SUM_SPAN: budget.n_connections,
        FROM_OUTPUT: budget.depth,
    }
    found = []
    for measure, n in n_averaged.items():
        ends = []
        for low, high in ((-math.inf, 0.0), (budget.depth * n, math.inf)):  # beyond all sums
            generator = derive_generator("reach", str(budget), budget.depth, measure, str(low))
            state = State.of(budget.example() if budget.is_capped else sample_uniform(budget, generator), budget)
            beyond = Bands().limit(measure, low, high, 1.0)
            anneal(state, beyond, _count_target_moves(budget), (3.0, 0.1), generator)
            ends.append(state.measure()[measure] / n)
        found.append((ends[0], ends[1]))
    return Cell(*found)


def sample_distinct(
    budget: Budget, cell: Cell, count: int, seed: int, known: Set[str] = frozenset()
) -> list[ConnectionPattern]:
    """Up to `count` different patterns of a cell, none of a known key, from independent chains; fewer if it is small.

    It ends after as many chains in a row that found nothing new as a cell of few patterns deserves: MAX_STALE.
    """
    found: dict[str, ConnectionPattern] = {}
    n_stale = 0
    for number in itertools.count():
        if len(found) == count or n_stale == MAX_STALE:
            return list(found.values())
        pattern = sample_cell(budget, cell, derive_generator(seed, "cell", number))
        if pattern is None and not found:
            return []
        is_new = pattern is not None and pattern.key not in known and pattern.key not in found
        n_stale = 0 if is_new else n_stale + 1
        if pattern is not None and is_new:
            found[pattern.key] = pattern
    raise AssertionError("counting has no end")


def farthest_pattern(budget: Budget) -> ConnectionPattern:
    """The pattern of largest mean BD known: with the bound below, it frames what can be sampled.

    Under a budget by layer N(i) = {i-1, 0..d_i-2}; under a total, or with caps, what annealing upwards finds with a
    fixed seed, so that there may be one farther still.

    >>> farthest_pattern(Budget(4, per_layer=(1, 2, 2, 3))).sources
    ((0,), (0, 1), (0, 2), (0, 1, 3))
    """
    if budget.per_layer is not None and budget.max_out is None:
        return ConnectionPattern.from_sources([*range(degree - 1), i] for i, degree in enumerate(budget.per_layer))
    from search_spaces.sampling.annealing import SUM_BD, Bands, State, anneal  # numba: 0.5 s

    generator = derive_generator("farthest", str(budget), budget.depth)
    upwards = Bands().limit(SUM_BD, budget.depth**3, math.inf, 1.0)  # beyond all sums
    state = State.of(budget.example(), budget)
    anneal(state, upwards, FARTHEST_MOVES, (3.0, 0.1), generator)
    return state.pattern()
