"""A crossed design of distance x span under one budget, with the controls that a comparison needs."""

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from search_spaces.budget import Budget
from search_spaces.distance import backprop_distance
from search_spaces.errors import InputError
from search_spaces.pattern import ConnectionPattern
from search_spaces.sampling.annealing import FROM_OUTPUT, SUM_BD, SUM_SPAN, Bands, State, anneal
from search_spaces.sampling.bounds import certify
from search_spaces.sampling.draw import Cell, sample_cell, sample_distinct, sample_uniform
from search_spaces.sampling.optimal import optimize
from search_spaces.seeds import derive_generator, derive_seed

NEAREST = 1.07  # the window of distances starts this far above the least found: nearer, few patterns are left
FARTHEST = (1.6, 1.5, 1.4, 1.3)  # and ends at the first of these where spans can be crossed with it
MIN_SPAN_RATIO = 1.25  # of the widest to the narrowest span, from which crossing is worth it
TRIMMED = 0.1  # of the range of spans at each end: the last patterns there are are odd ones
BAND_HALF_WIDTH = 0.02  # of a span band, as a share of its centre
REACH_MOVES = 400_000
OPTIMUM_SECONDS = 10.0
MAX_DRAWS = 10_000  # uniform draws in a row that were known already
Band = tuple[float, float]
MEASURES = {"mean_bd": SUM_BD, "from_output": FROM_OUTPUT}


@dataclass(frozen=True, slots=True)
class Layout:
    """What a design is to hold.

    Args:
        distance: the measure crossed with span: mean_bd or from_output.
        n_distance_bins, n_span_bins: of the two.
        distance_window, span_window: lowest and highest value; None: from what the budget allows.
        per_cell: patterns of each cell.
        optima: shortest patterns to look for, each with a control of equal span.
        uniform: patterns drawn uniformly from the budget.
        reversals: whether each cell's first pattern comes with its reversal; budgets by layer have none.
        seed: of all draws.
        optimum_seconds: limit of the search for each optimum.
    """

    distance: str = "mean_bd"
    n_distance_bins: int = 9
    n_span_bins: int = 3
    distance_window: Band | None = None
    span_window: Band | None = None
    per_cell: int = 3
    optima: int = 6
    uniform: int = 12
    reversals: bool = False
    seed: int = 0
    optimum_seconds: float = OPTIMUM_SECONDS


@dataclass(frozen=True, slots=True)
class Member:
    """A pattern of a design and why it is in it.

    Args:
        strategy: templates, optimum, control, design, reversal or random.
        template: the rule's name, or None.
        distance_bin, span_bin: the place of a designed pattern in the crossing, from 0.
        matched: key of the pattern that a control or a reversal is matched to.
    """

    pattern: ConnectionPattern
    strategy: str
    template: str | None = None
    distance_bin: int | None = None
    span_bin: int | None = None
    matched: str | None = None


@dataclass(frozen=True, slots=True)
class Design:
    """Patterns of one budget laid out for a study.

    Args:
        distance_bins: (low, high) of the crossed distance, in hops.
        span_bands: (low, high) of span, in layers.
        members: no pattern twice.
        lacking: (distance_bin, span_bin, n) of cells that n patterns were not found for.
    """

    budget: Budget
    distance_bins: tuple[Band, ...]
    span_bands: tuple[Band, ...]
    members: tuple[Member, ...]
    lacking: tuple[tuple[int, int, int], ...]


def lay_out(
    budget: Budget,
    layout: Layout,
    named: Sequence[tuple[str, ConnectionPattern]],
    check_stop: Callable[[], None] = lambda: None,
) -> Design:
    """Templates, shortest patterns with controls, the crossed cells and a uniform sample, in this order.

    Args:
        named: templates of the budget.
        check_stop: called between steps; raises to end at once.

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
    for place in itertools.product(range(len(bins)), range(len(bands))):
        cell = _cell(layout, bins[place[0]], bands[place[1]])
        seed = derive_seed(layout.seed, "cell", *place)
        found = sample_distinct(budget, cell, layout.per_cell, seed, members.keys())
        members |= {one.key: Member(one, "design", distance_bin=place[0], span_bin=place[1]) for one in found}
        lacking += [(*place, layout.per_cell - len(found))] if len(found) < layout.per_cell else []
        check_stop()
    if layout.reversals and budget.per_layer is None:
        members |= {one.pattern.key: one for one in list(_reverse_each_cell(budget, members))}
    members |= {pattern.key: Member(pattern, "random") for pattern in _draw_uniform(budget, layout, set(members))}
    return Design(budget, bins, bands, tuple(members.values()), tuple(lacking))


def _find_optima(budget: Budget, layout: Layout, check_stop: Callable[[], None]) -> Iterator[ConnectionPattern]:
    """Different patterns of the least mean BD found; the first is always there, for the window starts from it."""
    found: list[ConnectionPattern] = []
    for number in range(max(1, layout.optima)):
        seed = derive_seed(layout.seed, "optimum", number)
        found.append(_draw_certified(budget, found, seed) or optimize(budget, seed, layout.optimum_seconds).pattern)
        check_stop()
    least = min(certify(pattern, budget).gap for pattern in found)
    # Where the bound is met only such patterns count; elsewhere each is the best of its own search.
    yield from dict.fromkeys(pattern for pattern in found if least > 0 or certify(pattern, budget).gap == 0)


def _draw_certified(budget: Budget, found: Sequence[ConnectionPattern], seed: int) -> ConnectionPattern | None:
    """Another pattern as short as a certified one: a construction would give the same again."""
    if not found or certify(found[0], budget).gap > 0:
        return None
    least = Cell(mean_bd=(1.0, backprop_distance(found[0]).mean))
    return sample_cell(budget, least, derive_generator(seed, "plateau"))


def _choose_bins(
    budget: Budget, layout: Layout, shortest: ConnectionPattern, check_stop: Callable[[], None]
) -> tuple[tuple[Band, ...], tuple[Band, ...]]:
    """Bins that tile the window of distances, and narrow span bands that all of them can be crossed with."""
    least = _least_distance(budget, layout, shortest)
    windows = [layout.distance_window] if layout.distance_window else [(NEAREST * least, f * least) for f in FARTHEST]
    reached: tuple[float, float] = (math.inf, 0.0)
    for low, high in windows:
        edges = [low + (high - low) * k / layout.n_distance_bins for k in range(layout.n_distance_bins + 1)]
        bins = tuple(itertools.pairwise(edges))
        if layout.span_window:
            return bins, _span_bands(layout.span_window, layout.n_span_bins)
        # The bins at the ends of the window bound the spans most: all that are reachable there are between.
        ends = [_reach_spans(budget, layout, one) for one in dict.fromkeys((bins[0], bins[len(bins) // 2], bins[-1]))]
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
        anneal(state, downwards, REACH_MOVES, (3.0, 0.1), derive_generator(layout.seed, "least"))
    return state.measure()[MEASURES[layout.distance]] / _n_averaged(budget, layout.distance)


def _n_averaged(budget: Budget, distance: str) -> float:
    return budget.depth * (budget.depth + 1) / 2 if distance == "mean_bd" else budget.depth


def _reach_spans(budget: Budget, layout: Layout, distances: Band) -> Band:
    """The least and the largest span found among patterns of these distances."""
    n_averaged = _n_averaged(budget, layout.distance)
    inside = Bands().limit(MEASURES[layout.distance], distances[0] * n_averaged, distances[1] * n_averaged, 5.0)
    n = budget.n_connections
    ends = []
    for low, high in ((-math.inf, n), (n * budget.depth, math.inf)):
        generator = derive_generator(layout.seed, "spans", *(f"{bound:.6f}" for bound in distances), str(low))
        state = State.of(budget.example() if budget.is_capped else sample_uniform(budget, generator), budget)
        anneal(state, inside.limit(SUM_SPAN, low, high, 1.0), REACH_MOVES, (3.0, 0.1), generator)
        ends.append(state.measure()[SUM_SPAN] / n)
    return ends[0], ends[1]


def _span_bands(window: Band, n_bands: int) -> tuple[Band, ...]:
    """Narrow bands, their centres in equal ratios from end to end of the window; one: in its middle."""
    low, high = window
    shares = [k / (n_bands - 1) for k in range(n_bands)] if n_bands > 1 else [0.5]
    centres = [low * (high / low) ** share for share in shares]
    return tuple((centre * (1 - BAND_HALF_WIDTH), centre * (1 + BAND_HALF_WIDTH)) for centre in centres)


def _cell(layout: Layout, distances: Band, spans: Band) -> Cell:
    if layout.distance == "mean_bd":
        return Cell(mean_bd=distances, span=spans)
    return Cell(from_output=distances, span=spans)


def _find_control(budget: Budget, layout: Layout, optimum: ConnectionPattern) -> ConnectionPattern | None:
    """A pattern of an optimum's span and much longer mean BD: the longest that is easily found."""
    least = backprop_distance(optimum).mean
    spans = optimum.span * (1 - BAND_HALF_WIDTH), optimum.span * (1 + BAND_HALF_WIDTH)
    for low, high in itertools.pairwise((*FARTHEST, NEAREST)):
        generator = derive_generator(layout.seed, "control", optimum.key, f"{low}")
        pattern = sample_cell(budget, Cell(mean_bd=(high * least, low * least), span=spans), generator)
        if pattern is not None:
            return pattern
    return None


def _reverse_each_cell(budget: Budget, members: dict[str, Member]) -> Iterator[Member]:
    seen = set()
    for one in members.values():
        place = one.distance_bin, one.span_bin
        turned = one.pattern.reversed()
        if one.strategy == "design" and place not in seen and turned.key not in members and budget.is_met_by(turned):
            seen.add(place)
            yield Member(turned, "reversal", matched=one.pattern.key)


def _draw_uniform(budget: Budget, layout: Layout, known: set[str]) -> Iterator[ConnectionPattern]:
    generator = derive_generator(layout.seed, "uniform")
    n_stale = n_drawn = 0
    while n_drawn < layout.uniform and n_stale < MAX_DRAWS:
        pattern = sample_uniform(budget, generator)
        n_stale += 1
        if pattern.key not in known:
            known.add(pattern.key)
            n_stale, n_drawn = 0, n_drawn + 1
            yield pattern
