"""A design that crosses distance with span under one budget, with the controls that a comparison needs."""

import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from search_spaces.budget import Budget
from search_spaces.distance import backprop_distance
from search_spaces.errors import InputError
from search_spaces.pattern import ConnectionPattern
from search_spaces.sampling.annealing import FROM_OUTPUT, SUM_BD, SUM_SPAN, Bands, State, anneal, count_summed
from search_spaces.sampling.bounds import certify
from search_spaces.sampling.cells import REACH_TEMPERATURES, Cell, sample_cell, sample_distinct
from search_spaces.sampling.draw import sample_uniform
from search_spaces.sampling.optimal import optimize
from search_spaces.seeds import derive_generator, derive_seed

NEAREST = 1.07  # the window of distances starts at this multiple of the least: nearer, few patterns are left
FARTHEST = (1.6, 1.5, 1.4, 1.3)  # and ends at the first of these multiples where spans can be crossed with it
MIN_SPAN_RATIO = 1.25  # of the widest to the narrowest span, from which crossing is worth it
TRIMMED = 0.1  # of the range of spans at each end, where only odd patterns are left
BAND_HALF_WIDTH = 0.02  # of a span band, as a share of its centre
REACH_MOVES = 400_000
MAX_DRAWS = 10_000  # uniform draws in a row that give a known pattern
MEASURES = {"mean_bd": SUM_BD, "from_output": FROM_OUTPUT}
Band = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Layout:
    """What a design contains."""

    distance: str = "mean_bd"  # crossed with span: mean_bd or from_output
    n_distance_bins: int = 9
    n_span_bins: int = 3
    distance_window: Band | None = None  # lowest and highest value; None for what the budget allows
    span_window: Band | None = None
    per_cell: int = 3  # patterns
    optima: int = 6  # shortest patterns to look for, each with a control of equal span
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
    distance_bin: int | None = None  # place of a designed pattern in the crossing, from 0
    span_bin: int | None = None
    matched: str | None = None  # key of the pattern that a control or a reversal is matched to


class Lack(NamedTuple):
    """A cell for which n patterns were not found."""

    distance_bin: int
    span_bin: int
    n: int


@dataclass(frozen=True, slots=True)
class Design:
    """Patterns of one budget laid out for a study."""

    budget: Budget
    distance_bins: tuple[Band, ...]  # in hops
    span_bands: tuple[Band, ...]  # in layers
    members: tuple[Member, ...]  # no pattern twice
    lacking: tuple[Lack, ...]


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
        InputError: no span can be crossed with the distances wanted.
    """
    members = {pattern.key: Member(pattern, "templates", template=name) for name, pattern in named}
    optima = list(_find_optima(budget, layout, check_stop))
    bins, bands = _choose_bins(budget, layout, optima[0], check_stop)
    for pattern in optima[: layout.optima]:
        members.setdefault(pattern.key, Member(pattern, "optimum"))
    for pattern in optima[: layout.optima]:
        control = _find_control(budget, layout, pattern)
        if control is not None and control.key not in members:
            members[control.key] = Member(control, "control", matched=pattern.key)
        check_stop()
    lacking = []
    for (x, distances), (y, spans) in itertools.product(enumerate(bins), enumerate(bands)):
        cell = Cell(span=spans, **{layout.distance: distances})
        seed = derive_seed(layout.seed, "cell", x, y)
        patterns = sample_distinct(budget, cell, layout.per_cell, seed, members.keys())
        members |= {pattern.key: Member(pattern, "design", distance_bin=x, span_bin=y) for pattern in patterns}
        if len(patterns) < layout.per_cell:
            lacking.append(Lack(x, y, layout.per_cell - len(patterns)))
        check_stop()
    if layout.reversals and budget.per_layer is None:
        members |= _reverse_each_cell(budget, members)
    members |= {pattern.key: Member(pattern, "random") for pattern in _draw_uniform(budget, layout, set(members))}
    return Design(budget, bins, bands, tuple(members.values()), tuple(lacking))


def _find_optima(budget: Budget, layout: Layout, check_stop: Callable[[], None]) -> Iterator[ConnectionPattern]:
    """Yield distinct shortest patterns, at least one, because the window starts from it."""
    shortest: list[ConnectionPattern] = []
    for number in range(max(1, layout.optima)):
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
    least = Cell(mean_bd=(1.0, backprop_distance(shortest[0]).mean))
    return sample_cell(budget, least, derive_generator(seed, "plateau"))


def _choose_bins(
    budget: Budget, layout: Layout, shortest: ConnectionPattern, check_stop: Callable[[], None]
) -> tuple[tuple[Band, ...], tuple[Band, ...]]:
    """Return bins that tile the window of distances, and narrow span bands that all of them can be crossed with."""
    least = _least_distance(budget, layout, shortest)
    windows = [layout.distance_window] if layout.distance_window else [(NEAREST * least, f * least) for f in FARTHEST]
    reached: Band = (math.inf, 0.0)
    for low, high in windows:
        edges = [low + (high - low) * k / layout.n_distance_bins for k in range(layout.n_distance_bins + 1)]
        bins = tuple(itertools.pairwise(edges))
        if layout.span_window:
            return bins, _span_bands(layout.span_window, layout.n_span_bins)
        # The outer bins reach the narrowest range of spans, so they limit the others.
        outer = dict.fromkeys((bins[0], bins[len(bins) // 2], bins[-1]))
        ends = [_reach_spans(budget, layout, distances) for distances in outer]
        check_stop()
        reached = max(low for low, _ in ends), min(high for _, high in ends)
        margin = TRIMMED * (reached[1] - reached[0])
        trimmed = reached[0] + margin, reached[1] - margin
        if (layout.n_span_bins == 1 and trimmed[0] <= trimmed[1]) or trimmed[1] >= MIN_SPAN_RATIO * trimmed[0] > 0:
            return bins, _span_bands(trimmed, layout.n_span_bins)
    raise InputError(
        f"distances from {windows[-1][0]:.3f} to {windows[-1][1]:.3f} cannot be crossed with span at budget {budget} "
        f"and {budget.depth} layers: spans {reached[0]:.2f} to {reached[1]:.2f} are reached in all of them. Give a "
        "narrower window of distances, or more layers or connections"
    )


def _least_distance(budget: Budget, layout: Layout, shortest: ConnectionPattern) -> float:
    state = State.of(shortest, budget)
    if layout.distance == "from_output":
        downwards = Bands().limit(FROM_OUTPUT, -math.inf, budget.depth, 1.0)
        anneal(state, downwards, REACH_MOVES, REACH_TEMPERATURES, derive_generator(layout.seed, "least"))
    measure = MEASURES[layout.distance]
    return state.measure()[measure] / count_summed(budget)[measure]


def _reach_spans(budget: Budget, layout: Layout, distances: Band) -> Band:
    """Return the least and the largest span that annealing reaches when it is drawn towards these distances."""
    measure = MEASURES[layout.distance]
    n_summed = count_summed(budget)[measure]
    inside = Bands().limit(measure, distances[0] * n_summed, distances[1] * n_summed, 5.0)
    n = budget.n_connections
    ends = []
    for low, high in ((-math.inf, n), (n * budget.depth, math.inf)):
        generator = derive_generator(layout.seed, "spans", *(f"{bound:.6f}" for bound in distances), str(low))
        state = State.draw(budget, generator)
        anneal(state, inside.limit(SUM_SPAN, low, high, 1.0), REACH_MOVES, REACH_TEMPERATURES, generator)
        ends.append(state.measure().sum_span / n)
    return ends[0], ends[1]


def _span_bands(window: Band, n_bands: int) -> tuple[Band, ...]:
    """Return narrow bands with centres in equal ratios from end to end of the window; a single one is in its middle."""
    low, high = window
    shares = [k / (n_bands - 1) for k in range(n_bands)] if n_bands > 1 else [0.5]
    return tuple(_band_around(low * (high / low) ** share) for share in shares)


def _band_around(span: float) -> Band:
    return span * (1 - BAND_HALF_WIDTH), span * (1 + BAND_HALF_WIDTH)


def _find_control(budget: Budget, layout: Layout, optimum: ConnectionPattern) -> ConnectionPattern | None:
    """Return a pattern of an optimum's span and much longer mean BD, the longest that is easily found."""
    least = backprop_distance(optimum).mean
    spans = _band_around(optimum.span)
    for farthest, nearest in itertools.pairwise((*FARTHEST, NEAREST)):
        generator = derive_generator(layout.seed, "control", optimum.key, f"{farthest}")
        pattern = sample_cell(budget, Cell(mean_bd=(nearest * least, farthest * least), span=spans), generator)
        if pattern is not None:
            return pattern
    return None


def _reverse_each_cell(budget: Budget, members: Mapping[str, Member]) -> dict[str, Member]:
    """Return the reversal of each cell's first pattern whose reversal spends the budget and is new."""
    reversals: dict[str, Member] = {}
    places = set()
    for member in members.values():
        place = member.distance_bin, member.span_bin
        turned = member.pattern.reversed()
        if (
            member.strategy == "design"
            and place not in places
            and turned.key not in members
            and budget.is_met_by(turned)
        ):
            places.add(place)
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
