"""Draws from cells of crossed measures, and the ends of what a budget reaches, all by annealing."""

import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from search_spaces.budget import Budget
from search_spaces.errors import InputError
from search_spaces.measures.registry import find_measure, measure
from search_spaces.pattern import ConnectionPattern
from search_spaces.sampling.annealing import SUM_BD, Bands, Connections, State, anneal
from search_spaces.sampling.goals import (
    HAIR,
    Band,
    Goal,
    Meter,
    anneal_to_end,
    anneal_towards,
    measure_spreads,
    wander_within,
)
from search_spaces.seeds import derive_generator

MAX_STALE = 30  # chains in a row that find nothing new
MAX_FAILED = 3  # chains in a row that do not get into a cell
MAX_MOVES = 1_000_000  # of a chain on its way into a cell
FARTHEST_MOVES = 300_000
WALK_MOVES = 50  # tried for every skip once inside a cell: enough to forget the way in
TARGET_MOVES = 2_000  # for every skip, towards a target or an end of what a budget reaches: more came hardly nearer
MAX_TARGET_MOVES = 200_000  # a second at 100 layers
FALLS = (1 / 16, 1 / 8, 1 / 4, 1 / 2)  # shares of the moves: most cells take few; a new rise gets out of frozen corners
FALL_TEMPERATURES = (1.0, 0.02)
FARTHEST_TEMPERATURES = (3.0, 0.1)  # the same in summed hops
TRIMMED = 0.1  # of the way from the mean to each end of a measure's reach, where only odd patterns are left
FIRST_STEP = 0.3  # of the windows' growth
LAST_STEP = 10.0  # up to which a first one is looked for
GROWTHS = (1.25, 1.1)  # of a window's side at a time: first all sides together by the first, then one by one
SAFE_SHARE = 0.95  # of the sides found, so that cells at the corners can be filled
CORNER = 1 / 3  # of the outermost bins: the part at the corner of the windows that must be reached
CORNER_MOVES = 90_000
MIN_WINDOW = 0.5  # standard deviations, from which crossing is worth it


@dataclass(frozen=True, slots=True)
class Cell:
    """Bands that measures of a sampled pattern must lie in, bounds included, by name; none where all is allowed."""

    bands: Mapping[str, Band] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, (low, high) in self.bands.items():
            find_measure(name)
            if not low <= high:
                raise InputError(f"band {name} {low}:{high} is empty: give LO:HI with LO at most HI")

    def contains(self, pattern: ConnectionPattern) -> bool:
        """Return whether the pattern's measures, by their definitions, lie in the bands, but for rounding."""
        values = measure(pattern, self.bands)
        return all(
            low - 2 * HAIR * max(1.0, abs(low)) <= values[name] <= high + 2 * HAIR * max(1.0, abs(high))
            for name, (low, high) in self.bands.items()
        )


def sample_cell(
    budget: Budget, cell: Cell, generator: np.random.Generator, max_moves: int = MAX_MOVES
) -> ConnectionPattern | None:
    """Draw a pattern of the budget from a cell: anneal into it, then walk inside it.

    The walk's moves are symmetric and stay inside, so in the long run every pattern that it can get to is equally
    likely; WALK_MOVES a skip are tried. Each call is an independent chain.

    Returns:
        The pattern, or None if max_moves did not lead into the cell: it may be empty, or hard to get to.
    """
    connections, goal = _enter(budget, cell, generator, max_moves)
    if not _is_inside(connections, goal):
        return None
    wander_within(connections, goal, WALK_MOVES * len(connections.skips), generator)
    pattern = connections.pattern()
    assert cell.contains(pattern), "the compiled measures are those of the registry"
    return pattern


def _enter(budget: Budget, cell: Cell, generator: np.random.Generator, max_moves: int) -> tuple[Connections, Goal]:
    """Anneal from a random pattern towards a cell."""
    goal = Goal(measure_spreads(budget, cell.bands), cell.bands)
    connections = Connections.draw(budget, generator)
    for share in FALLS:
        if anneal_towards(connections, goal, int(share * max_moves), FALL_TEMPERATURES, generator) == 0:
            break
    return connections, goal


def _is_inside(connections: Connections, goal: Goal) -> bool:
    return goal.weigh(Meter(connections.budget, goal.names).read(connections)) == 0


def _count_target_moves(budget: Budget) -> int:
    return min(TARGET_MOVES * (budget.n_connections - budget.depth), MAX_TARGET_MOVES)


def find_end(budget: Budget, name: str, sign: int) -> ConnectionPattern:
    """Return the pattern of largest (sign 1) or least (sign -1) measure that annealing finds with a fixed seed."""
    generator = derive_generator("reach", str(budget), budget.depth, name, sign)
    connections = Connections.draw(budget, generator)
    anneal_to_end(connections, name, sign, _count_target_moves(budget), generator)
    return connections.pattern()


def find_reach(budget: Budget, names: Iterable[str]) -> dict[str, Band]:
    """Return the least and the largest value of each measure that annealing finds, one at a time.

    The seed is fixed, and there may be patterns a little beyond.

    >>> {name: tuple(band) for name, band in find_reach(Budget(4, total=6), ["mean_bd"]).items()}
    {'mean_bd': (1.4, 1.5)}
    """
    reach = {}
    for name in names:
        find_measure(name)
        low, high = (measure(find_end(budget, name, sign), [name])[name] for sign in (-1, 1))
        reach[name] = Band(low, high)
    return reach


def sample_distinct(
    budget: Budget, cell: Cell, count: int, seed: int, known: Set[str] = frozenset()
) -> list[ConnectionPattern]:
    """Draw up to `count` different patterns of a cell, none of a known key, by independent chains.

    A small cell gives fewer: it ends once MAX_STALE chains in a row find nothing new, MAX_FAILED do not get in, or the
    first does not.
    """
    patterns: dict[str, ConnectionPattern] = {}
    n_stale = n_failed = 0
    for number in itertools.count():
        if len(patterns) == count or n_stale == MAX_STALE or n_failed == MAX_FAILED:
            break
        pattern = sample_cell(budget, cell, derive_generator(seed, "cell", number), MAX_MOVES)
        n_failed = n_failed + 1 if pattern is None else 0
        if n_failed and not patterns:
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
    anneal(state, upwards, FARTHEST_MOVES, FARTHEST_TEMPERATURES, generator)
    return state.pattern()


@dataclass(frozen=True, slots=True)
class Crossed:
    """A measure that a design crosses with others.

    Args:
        name: name in the registry.
        n_bins: number of bins.
        window: what the bins tile; None for a window that is searched for.
    """

    name: str
    n_bins: int
    window: Band | None = None


def choose_bins(
    budget: Budget, crossing: Sequence[Crossed], seed: int, check_stop: Callable[[], None] = lambda: None
) -> tuple[tuple[Band, ...], ...]:
    """Return the bins of each crossed measure: they tile windows as wide as all combinations of their ends allow.

    Windows start from the means of all patterns and grow together, each side at the rate of the geometric mean of the
    measure's standard deviation and what is left to the end of its reach, until a corner is out of reach; then one
    side at a time. Windows given stay as they are.

    Raises:
        InputError: a window would be too narrow.
    """
    sides = _Sides(budget, crossing, seed)
    for k in itertools.count():
        step = FIRST_STEP * GROWTHS[0] ** k
        is_reached = sides.try_step(dict.fromkeys(sides.free, step))
        check_stop()
        # Windows that are too narrow may lie between two values of a measure.
        if not is_reached and (sides.is_open or step > LAST_STEP):
            break
    for growth in GROWTHS:
        left = list(sides.free)
        while left:
            left = [place for place in left if sides.try_step({place: growth * sides.steps[place]})]
            check_stop()
    windows = sides.windows(SAFE_SHARE)
    for crossed, window in zip(crossing, windows, strict=True):
        least = MIN_WINDOW * sides.spreads[crossed.name].sd + HAIR * max(1.0, abs(window.high))
        if crossed.window is None and window.high - window.low <= least:
            reach = sides.reach[crossed.name]
            raise InputError(
                f"{crossed.name} cannot be crossed with {_join_others(crossing, crossed)} at budget {budget} and "
                f"{budget.depth} layers: it reaches {reach.low:.3f} to {reach.high:.3f}, but with all combinations of "
                f"the others only {window.low:.3f} to {window.high:.3f}. Cross fewer measures, give windows as "
                "LO:HI:N, or more layers or connections"
            )
    return tuple(tile(window, crossed.n_bins) for crossed, window in zip(crossing, windows, strict=True))


def _join_others(crossing: Sequence[Crossed], crossed: Crossed) -> str:
    others = [each.name for each in crossing if each is not crossed]
    return " and ".join(others) if others else "nothing"


class _Side(NamedTuple):
    """An end of a measure's window, by the measure's place and -1 for the low end or 1 for the high one."""

    place: int
    sign: int


class _Sides:
    """Windows on their way: how far each of their ends is from the mean, in steps of its own rate."""

    def __init__(self, budget: Budget, crossing: Sequence[Crossed], seed: int) -> None:
        self._budget = budget
        self._crossing = crossing
        self._seed = seed
        names = [crossed.name for crossed in crossing]
        self.spreads = measure_spreads(budget, names)
        self.reach = find_reach(budget, [crossed.name for crossed in crossing if crossed.window is None])
        self._limits: dict[_Side, float] = {}
        self._rates: dict[_Side, float] = {}
        for place, crossed in enumerate(crossing):
            if crossed.window is not None:
                continue
            mean, sd, _ = self.spreads[crossed.name]
            for sign, end in zip((-1, 1), self.reach[crossed.name], strict=True):
                limit = max(0.0, (1 - TRIMMED) * sign * (end - mean))
                self._limits[_Side(place, sign)] = limit
                self._rates[_Side(place, sign)] = min(limit, (limit * sd) ** 0.5)
        self.steps = dict.fromkeys(self._limits, 0.0)

    @property
    def is_open(self) -> bool:
        """Return whether the windows have grown."""
        return any(self.steps.values())

    @property
    def free(self) -> list[_Side]:
        """Return the ends that may still move."""
        return [side for side in self.steps if self._length(side, self.steps) < self._limits[side]]

    def _length(self, side: _Side, steps: Mapping[_Side, float]) -> float:
        return min(self._limits[side], steps[side] * self._rates[side])

    def windows(self, share: float = 1.0, steps: Mapping[_Side, float] | None = None) -> list[Band]:
        """Return the windows, or those of other steps, with this share of the ends' distances from the mean."""
        steps = self.steps if steps is None else steps
        windows = []
        for place, crossed in enumerate(self._crossing):
            mean = self.spreads[crossed.name].mean
            low, high = (
                (sign * share * self._length(_Side(place, sign), steps) for sign in (-1, 1))
                if crossed.window is None
                else (crossed.window.low - mean, crossed.window.high - mean)
            )
            windows.append(Band(mean + low, mean + high))
        return windows

    def try_step(self, changes: Mapping[_Side, float]) -> bool:
        """Move some ends, if there are any, where all corners of the windows stay within reach; return whether so."""
        steps = {**self.steps, **changes}
        if not any(self._length(side, steps) > self._length(side, self.steps) for side in changes):
            return False
        if not all(self._is_reached(cell) for cell in self._corners(self.windows(1.0, steps))):
            return False
        self.steps = steps
        return True

    def _is_reached(self, cell: Cell) -> bool:
        """Return whether one chain gets into a cell."""
        generator = derive_generator(self._seed, "reached", str(cell))
        return _is_inside(*_enter(self._budget, cell, generator, CORNER_MOVES))

    def _corners(self, windows: Sequence[Band]) -> Iterator[Cell]:
        """Yield the outer part of each corner of the crossing."""
        ends = []
        for crossed, (low, high) in zip(self._crossing, windows, strict=True):
            width = (high - low) / crossed.n_bins
            whole = [Band(low, high)]
            ends.append(
                [Band(low, low + CORNER * width), Band(high - CORNER * width, high)] if crossed.n_bins > 1 else whole
            )
        for corner in itertools.product(*ends):
            yield Cell({crossed.name: band for crossed, band in zip(self._crossing, corner, strict=True)})


def tile(window: Band, n_bins: int) -> tuple[Band, ...]:
    low, high = window
    edges = [low + (high - low) * k / n_bins for k in range(n_bins + 1)]
    return tuple(itertools.starmap(Band, itertools.pairwise(edges)))


def choose_cell(names: Sequence[str], bins: Sequence[Sequence[Band]], cell: Sequence[int]) -> Cell:
    return Cell({name: own[place] for name, own, place in zip(names, bins, cell, strict=True)})
