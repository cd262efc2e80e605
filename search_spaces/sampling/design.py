"""A design that crosses up to three measures under one budget, with the controls that a comparison needs."""

import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from typing import NamedTuple

from search_spaces.budget import Budget
from search_spaces.distance import backprop_distance
from search_spaces.errors import InputError
from search_spaces.measures.registry import find_measure, measure
from search_spaces.pattern import ConnectionPattern
from search_spaces.sampling.bounds import certify
from search_spaces.sampling.cells import Cell, Crossed, choose_bins, choose_cell, sample_cell, sample_distinct, tile
from search_spaces.sampling.draw import sample_uniform
from search_spaces.sampling.goals import Band, measure_spreads
from search_spaces.sampling.optimal import optimize
from search_spaces.seeds import derive_generator, derive_seed

MAX_CROSSED = 3  # measures
MAX_BINS = 100  # of each
MAX_PARTS = 4  # of each side of a cell, over which its patterns are spread
PART_MOVES = 200_000
CONTROL_DISTANCES = (1.6, 1.5, 1.4, 1.3, 1.07)  # multiples of an optimum's mean BD between which its control's lies
CONTROL_SPAN = 0.02  # half width of a control's span, as a share of the optimum's
CONTROL_EVENNESS = 0.1  # half width of its visit evenness, in standard deviations
CONTROL_MOVES = 400_000
MAX_DRAWS = 10_000  # uniform draws in a row that give a known pattern


@dataclass(frozen=True, slots=True)
class Layout:
    """What a design contains."""

    crossed: tuple[Crossed, ...] = (Crossed("walk_length", 3), Crossed("visit_evenness", 3), Crossed("mean_bd", 2))
    per_cell: int = 4  # patterns
    optima: int = 6  # shortest patterns to look for, each with a control of equal span and visit evenness
    uniform: int = 12  # patterns drawn uniformly from the budget
    reversals: bool = False  # whether each cell's first pattern comes with its reversal; budgets by layer have none
    seed: int = 0  # of all draws
    optimum_seconds: float = 10.0  # time limit of the search for each optimum


@dataclass(frozen=True, slots=True)
class Member:
    """A pattern of a design, and why it is in it."""

    pattern: ConnectionPattern
    strategy: str  # templates, optimum, control, design, reversal or random
    template: str | None = None  # name of its rule
    cell: tuple[int, ...] | None = None  # bin of each crossed measure, from 0, of a designed pattern
    matched: str | None = None  # key of the pattern that a control or a reversal is matched to


class Lack(NamedTuple):
    """A cell for which n patterns were not found."""

    cell: tuple[int, ...]
    n: int


@dataclass(frozen=True, slots=True)
class Design:
    """Patterns of one budget laid out for a study.

    Args:
        measures: names of the crossed measures.
        bins: for each of them its bins, ascending.
        members: no pattern twice.
        lacking: cells that are not full.
    """

    budget: Budget
    measures: tuple[str, ...]
    bins: tuple[tuple[Band, ...], ...]
    members: tuple[Member, ...]
    lacking: tuple[Lack, ...]


def choose_numbers(cross: str) -> str:
    """Return the bins of crossed measures where none are given: three, and two of a third measure.

    >>> choose_numbers("mean_bd"), choose_numbers("mean_bd,span,walk_length")
    ('3', '3,3,2')
    """
    return ",".join(("3", "3", "2")[: len(cross.split(","))])


def parse_crossing(cross: str, bins: str) -> tuple[Crossed, ...]:
    """Read the command line's lists of measures and of their bins.

    Raises:
        InputError: a measure or its bins cannot be used, or there are more of one than of the other.

    >>> parse_crossing("mean_bd", "1.8:2.2:3")
    (Crossed(name='mean_bd', n_bins=3, window=Band(low=1.8, high=2.2)),)
    """
    names, texts = cross.split(","), bins.split(",")
    if len(names) > MAX_CROSSED or len(set(names)) < len(names):
        raise InputError(f"cross {cross!r}: give one to {MAX_CROSSED} different measures, separated by commas")
    for name in names:
        find_measure(name)
    if len(texts) != len(names):
        raise InputError(
            f"bins {bins!r} are for {len(texts)} measures, but cross names {len(names)}: give one entry for each, "
            "separated by commas"
        )
    return tuple(map(_parse_bins, names, texts))


def _parse_bins(name: str, text: str) -> Crossed:
    parts = text.split(":")
    try:
        n_bins = 1 if len(parts) == 2 else int(parts[-1])
        low, high = map(float, parts[:2]) if len(parts) > 1 else (0.0, 1.0)
        is_readable = len(parts) <= 3
    except ValueError:
        is_readable = False
    if not is_readable:
        raise InputError(f"bins {text!r} of {name}: expected N, LO:HI or LO:HI:N, as 3 or 1.8:2.7:3")
    if not 1 <= n_bins <= MAX_BINS or not -math.inf < low < high < math.inf:
        raise InputError(f"bins {text!r} of {name}: give 1 to {MAX_BINS} bins, and LO below HI")
    return Crossed(name, n_bins, Band(low, high) if len(parts) > 1 else None)


def lay_out(
    budget: Budget,
    layout: Layout,
    named: Sequence[tuple[str, ConnectionPattern]],
    check_stop: Callable[[], None] = lambda: None,
) -> Design:
    """Lay out templates, shortest patterns with controls, the crossed cells and a uniform sample, in this order.

    Args:
        budget: budget to spend.
        layout: what the design contains.
        named: templates that spend the budget, with their names.
        check_stop: function called between steps, which raises to end at once.

    Raises:
        InputError: the measures cannot be crossed at this budget.
    """
    members = {pattern.key: Member(pattern, "templates", template=name) for name, pattern in named}
    bins = choose_bins(budget, layout.crossed, layout.seed, check_stop)
    optima = list(_find_optima(budget, layout, check_stop)) if layout.optima else []
    for pattern in optima:
        members.setdefault(pattern.key, Member(pattern, "optimum"))
    for pattern in optima:
        control = _find_control(budget, layout, pattern)
        if control is not None and control.key not in members:
            members[control.key] = Member(control, "control", matched=pattern.key)
        check_stop()
    names = tuple(crossed.name for crossed in layout.crossed)
    lacking = []
    for cell in itertools.product(*(range(len(own)) for own in bins)):
        seed = derive_seed(layout.seed, "cell", *cell)
        patterns = _fill_cell(budget, choose_cell(names, bins, cell), layout.per_cell, seed, members.keys())
        members |= {pattern.key: Member(pattern, "design", cell=cell) for pattern in patterns}
        if len(patterns) < layout.per_cell:
            lacking.append(Lack(cell, layout.per_cell - len(patterns)))
        check_stop()
    if layout.reversals and budget.per_layer is None:
        members |= _reverse_each_cell(budget, members)
    members |= {pattern.key: Member(pattern, "random") for pattern in _draw_uniform(budget, layout, set(members))}
    return Design(budget, names, bins, tuple(members.values()), tuple(lacking))


def _fill_cell(budget: Budget, cell: Cell, count: int, seed: int, known: Set[str]) -> list[ConnectionPattern]:
    """Draw patterns spread over a cell, as a Latin hypercube; parts that are not reached give way to the whole cell.

    Draws from a whole cell lie at its side towards most patterns, which ties its measures together.
    """
    n_parts = min(count, MAX_PARTS)
    orders = [derive_generator(seed, "order", name).permutation(n_parts) for name in cell.bands]
    patterns: dict[str, ConnectionPattern] = {}
    for number in range(count):
        places = [order[number % n_parts] for order in orders]
        parts = {
            name: tile(band, n_parts)[place]
            for (name, band), place in zip(cell.bands.items(), places, strict=True)
        }  # fmt: skip
        pattern = sample_cell(budget, Cell(parts), derive_generator(seed, "part", number), PART_MOVES)
        if pattern is not None and pattern.key not in known:
            patterns[pattern.key] = pattern
    missing = count - len(patterns)
    more = sample_distinct(budget, cell, missing, seed, known | patterns.keys()) if missing else []
    return [*patterns.values(), *more]


def _find_optima(budget: Budget, layout: Layout, check_stop: Callable[[], None]) -> Iterator[ConnectionPattern]:
    """Yield distinct shortest patterns."""
    shortest: list[ConnectionPattern] = []
    for number in range(layout.optima):
        seed = derive_seed(layout.seed, "optimum", number)
        drawn = _draw_certified(budget, shortest, seed)
        shortest.append(drawn or optimize(budget, seed, layout.optimum_seconds).pattern)
        check_stop()
    least = min(certify(pattern, budget).gap for pattern in shortest)
    # Where the bound is met only such patterns count; elsewhere each is the best of its own search.
    yield from dict.fromkeys(pattern for pattern in shortest if least > 0 or certify(pattern, budget).gap == 0)


def _draw_certified(budget: Budget, shortest: Sequence[ConnectionPattern], seed: int) -> ConnectionPattern | None:
    """Draw another pattern as short as a certified one, because a construction always gives the same pattern."""
    if not shortest or certify(shortest[0], budget).gap > 0:
        return None
    least = Cell({"mean_bd": Band(1.0, backprop_distance(shortest[0]).mean)})
    return sample_cell(budget, least, derive_generator(seed, "plateau"))


def _find_control(budget: Budget, layout: Layout, optimum: ConnectionPattern) -> ConnectionPattern | None:
    """Return a pattern of an optimum's span and visit evenness and much longer mean BD, the longest easily found."""
    least = backprop_distance(optimum).mean
    evenness = measure(optimum, ["visit_evenness"])["visit_evenness"]
    half = CONTROL_EVENNESS * measure_spreads(budget, ["visit_evenness"])["visit_evenness"].sd
    held = {
        "span": Band((1 - CONTROL_SPAN) * optimum.span, (1 + CONTROL_SPAN) * optimum.span),
        "visit_evenness": Band(evenness - half, evenness + half),
    }
    for farthest, nearest in itertools.pairwise(CONTROL_DISTANCES):
        generator = derive_generator(layout.seed, "control", optimum.key, f"{farthest}")
        cell = Cell({"mean_bd": Band(nearest * least, farthest * least), **held})
        pattern = sample_cell(budget, cell, generator, CONTROL_MOVES)
        if pattern is not None:
            return pattern
    return None


def _reverse_each_cell(budget: Budget, members: Mapping[str, Member]) -> dict[str, Member]:
    """Return the reversal of each cell's first pattern whose reversal spends the budget and is new."""
    reversals: dict[str, Member] = {}
    cells = set()
    for member in members.values():
        turned = member.pattern.reversed()
        if (
            member.strategy == "design"
            and member.cell not in cells
            and turned.key not in members
            and budget.is_met_by(turned)
        ):
            cells.add(member.cell)
            reversals[turned.key] = Member(turned, "reversal", matched=member.pattern.key)
    return reversals


def _draw_uniform(budget: Budget, layout: Layout, known: set[str]) -> Iterator[ConnectionPattern]:
    """Yield layout.uniform patterns of no known key; fewer after MAX_DRAWS draws in a row of known ones."""
    generator = derive_generator(layout.seed, "uniform")
    n_stale = n_drawn = 0
    while n_drawn < layout.uniform and n_stale < MAX_DRAWS:
        pattern = sample_uniform(budget, generator)
        n_stale += 1
        if pattern.key not in known:
            known.add(pattern.key)
            n_stale, n_drawn = 0, n_drawn + 1
            yield pattern
