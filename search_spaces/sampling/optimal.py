"""Shortest patterns of a budget: constructions, a greedy rule and annealing until a proven bound is met."""

import itertools
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

import numpy as np

from search_spaces.budget import Budget, log_budget
from search_spaces.errors import InputError
from search_spaces.measures.registry import find_measure, measure
from search_spaces.pattern import ConnectionPattern
from search_spaces.rules import MAX_SEARCHED_DEPTH, midpoint
from search_spaces.sampling.annealing import FROM_OUTPUT, MAX_OUT_DEGREE, SUM_BD, Bands, Connections, State, anneal
from search_spaces.sampling.bounds import Certificate, bound_max, bound_sum, certify, find_extreme_walk
from search_spaces.sampling.cooling import LONGEST, Neighbours
from search_spaces.sampling.goals import HAIR, Goal, Meter, Spread, anneal_to_end, anneal_towards
from search_spaces.seeds import derive_generator

TEMPERATURES = (0.5, 0.15)  # in hops of the summed distance: hotter or colder starts and ends gave longer patterns
FIRST_ROUND = 2**20  # moves
GROWTH = 8  # a round's length over the last one's
MAX_SECONDS = 10**6  # eleven days
MOVES_A_LOOK = 2**16  # moves between looks at the clock, some 5 ms
QUENCHES = 4  # such moves at temperature 0 after a round
POLISH_MOVES = 500_000
MAX_POLISHED_DEPTH = 254
TEMPLATE_MOVES = 300_000
TEMPLATE_TEMPERATURES = (0.6, 0.15)
WALK_TEMPERATURES = (0.1, 0.001)  # in layers of the walk length
MEASURE_ROUND = 300_000  # moves of a round for any measure
MAX_AGREEING = 8  # such rounds in a row that find nothing better
PROVEN_MEASURES = ("walk_length", "layer_walk", "random_walk_depth")  # under a budget by layer


@dataclass(frozen=True, slots=True)
class Optimum:
    """The shortest pattern found for a budget, and what is proven of it."""

    pattern: ConnectionPattern  # spends the budget
    certificate: Certificate  # by bounds.certify
    n_moves: int  # tried by annealing; 0 where a construction meets the bound
    by_clock: bool  # whether the clock shaped the search; if not, the same call gives the same pattern


def optimize(budget: Budget, seed: int = 0, seconds: float = 20.0, max_rounds: int | None = None) -> Optimum:
    """Search for the pattern of least mean BD that spends a budget, until a proven bound is met or time is up.

    Constructions come first, then annealing from random patterns: short rounds of fixed length, then one whose
    temperature falls slowly enough to take the rest of the time. Among patterns of equal mean BD it prefers a smaller
    distance from the output, then a smaller largest out-degree.

    Args:
        budget: budget to spend, within its caps.
        seed: seed of the draws.
        seconds: time limit, without that for compiling at first use; may be infinite where max_rounds is given.
        max_rounds: number of rounds of annealing, none of them paced by the clock; None for as many as time allows.

    Raises:
        InputError: seconds is not above 0, or is above MAX_SECONDS and nothing else ends the search.
    """
    if not 0 < seconds <= (MAX_SECONDS if max_rounds is None else math.inf):
        raise InputError(f"a search of {seconds} seconds cannot be: give more than 0, and at most {MAX_SECONDS:,}")
    bound = bound_sum(budget)
    _Round(budget, bound, derive_generator(seed, "compile")).move(0, 0.0)  # seconds that are not the search's
    deadline = time.monotonic() + seconds
    best = min((State.of(start, budget) for start in _starts(budget)), key=State.measure_distances)
    n_moves, by_clock, length = 0, False, float(FIRST_ROUND)
    rounds = itertools.count() if max_rounds is None else range(max_rounds)
    for number in rounds if len(best.skips) > 0 else ():
        if best.measure().sum_bd == bound or by_clock:
            break
        started = time.monotonic()
        round_ = _Round(budget, bound, derive_generator(seed, "anneal", number))
        by_clock = round_.cool(length, deadline)
        n_moves += round_.n_tried
        best = min(best, State.of(round_.pattern(), budget), key=State.measure_distances)
        length *= GROWTH
        now = time.monotonic()
        # One more round must leave the last, which the clock paces, most of the time.
        if max_rounds is None and (now - started) * GROWTH**2 > deadline - now:
            length = math.inf
    if budget.depth <= MAX_POLISHED_DEPTH:
        best = _polish(best, derive_generator(seed, "polish"))
    pattern = best.pattern()
    return Optimum(pattern, certify(pattern, budget), n_moves, by_clock)


class _Round:
    """One cooling from a random pattern, by whichever of both kernels suits the budget."""

    def __init__(self, budget: Budget, bound: int, generator: np.random.Generator) -> None:
        self.n_tried = 0
        self._bound, self._generator = bound, generator
        start = State.draw(budget, generator)
        # Neighbours count no farther than LONGEST hops: enough where less than that suffices for all pairs.
        is_near = budget.per_layer is not None and bound_max(budget) < LONGEST
        self._state = Neighbours.of(start.pattern(), budget) if is_near else start
        self._look = MOVES_A_LOOK if is_near else math.ceil(1e7 / budget.depth**1.5)  # moves that take about 50 ms

    def cool(self, n_moves: float, deadline: float) -> bool:
        """Let the temperature fall as moves or time run out, whichever is sooner; return whether time ever was."""
        started = time.monotonic()
        by_clock = False
        while not self._is_at_bound():
            by_moves = self.n_tried / n_moves
            by_time = (time.monotonic() - started) / max(deadline - started, 1e-9)
            by_clock |= self.n_tried > 0 and by_time > by_moves
            progress = max(by_moves, by_time)
            if progress >= 1 and self.n_tried > 0:
                self.move(QUENCHES * self._look, 0.0)
                break
            first, last = TEMPERATURES
            temperature = first * (last / first) ** min(progress, 1.0)
            self.n_tried += self.move(int(min(self._look, n_moves - self.n_tried)), temperature)
        return by_clock

    def move(self, n_moves: int, temperature: float) -> int:
        """Try so many moves at one temperature; return how many were tried."""
        if isinstance(self._state, Neighbours):
            return self._state.move(n_moves, temperature, self._bound, self._generator)
        bands = Bands().limit(SUM_BD, -math.inf, self._bound, 1.0)
        return anneal(self._state, bands, n_moves, (temperature, temperature), self._generator)[1]

    def _is_at_bound(self) -> bool:
        state = self._state
        return (state.total if isinstance(state, Neighbours) else state.measure().sum_bd) <= self._bound

    def pattern(self) -> ConnectionPattern:
        return self._state.pattern()


def _polish(state: State, generator: np.random.Generator) -> State:
    """Lower the distance from the output, then the largest out-degree, at the same mean BD."""
    bands = Bands().limit(SUM_BD, -math.inf, state.measure().sum_bd, 1e6)
    bands = bands.limit(FROM_OUTPUT, -math.inf, state.budget.depth, 1.0).limit(MAX_OUT_DEGREE, -math.inf, 1, 1e-3)
    polished = State.of(state.pattern(), state.budget)
    anneal(polished, bands, min(POLISH_MOVES, int(2e8 / state.budget.depth**1.5)), (0.5, 1e-4), generator)
    return min(state, polished, key=State.measure_distances)


def _starts(budget: Budget) -> Iterator[ConnectionPattern]:
    """Yield patterns that spend the budget, from constructions where they fit."""
    yield budget.example()
    if budget.per_layer is not None:
        if budget.max_out is None and budget.depth <= MAX_SEARCHED_DEPTH:
            yield row_greedy(budget)
        return
    for hops in (2, 3, 4, 5, 6):
        pattern = spanner(budget.depth, hops)
        padded = None if pattern.n_connections > budget.n_connections else _pad(pattern, budget)
        if padded is not None:
            yield padded
            return


def _pad(pattern: ConnectionPattern, budget: Budget) -> ConnectionPattern | None:
    """Add connections up to a total budget, those of the last layers first; return None where caps forbid it."""
    inputs = [set(sources) for sources in pattern.sources]
    readers = list(pattern.out_degrees)
    n_lacking = budget.n_connections - pattern.n_connections
    for target in range(budget.depth, 0, -1):
        for source in sorted(set(range(target)) - inputs[target - 1], key=lambda node: readers[node]):
            if n_lacking and len(inputs[target - 1]) < budget.most_in and readers[source] < budget.most_out:
                inputs[target - 1].add(source)
                readers[source] += 1
                n_lacking -= 1
    padded = ConnectionPattern.from_sources(inputs)
    return padded if budget.is_met_by(padded) else None


def row_greedy(budget: Budget) -> ConnectionPattern:
    """Give each layer, one after the other, the inputs that lower its summed distance most.

    Args:
        budget: budget by layer, without a cap on readers.

    >>> from search_spaces.distance import backprop_distance
    >>> round(backprop_distance(row_greedy(log_budget(12))).mean, 3)
    1.538
    """
    assert budget.per_layer is not None
    assert budget.max_out is None
    n_nodes = budget.depth + 1
    rows = np.full((n_nodes, n_nodes), n_nodes, np.int64)  # rows[i, j] = BD(i, j); unreached: above any path
    np.fill_diagonal(rows, 0)
    sources = []
    for layer, degree in enumerate(budget.per_layer, start=1):
        inputs = [layer - 1]
        row = rows[layer - 1] + 1
        for _ in range(degree - 1):
            sums = np.minimum(row, rows[: layer - 1] + 1)[:, :layer].sum(axis=1)  # (layer - 1,)
            sums[[source for source in inputs if source < layer - 1]] = sums.max() + 1
            inputs.append(int(sums.argmin()))
            row = np.minimum(row, rows[inputs[-1]] + 1)
        rows[layer, :layer] = row[:layer]
        sources.append(inputs)
    return ConnectionPattern.from_sources(sources)


def anneal_template(depth: int) -> ConnectionPattern:
    """Build the template `annealed`: budget log, a fixed seed and number of moves."""
    budget = log_budget(depth)
    generator = derive_generator("annealed", depth)
    state = State.draw(budget, generator)
    bands = Bands().limit(SUM_BD, -math.inf, bound_sum(budget), 1.0)
    anneal(state, bands, TEMPLATE_MOVES, TEMPLATE_TEMPERATURES, generator)
    return state.pattern()


@dataclass(frozen=True, slots=True)
class Extreme:
    """The pattern of least or largest measure found for a budget.

    Args:
        value: the measure.
        n_rounds: rounds of annealing; 0 where the pattern is constructed.
        by_clock: whether the time limit ended the search; if not, the same call gives the same pattern.
        is_proven: whether no pattern of the budget has a better value.
    """

    pattern: ConnectionPattern
    value: float
    n_rounds: int
    by_clock: bool
    is_proven: bool


def optimize_measure(budget: Budget, name: str, sign: int, seed: int = 0, seconds: float = 20.0) -> Extreme:
    """Search for the pattern of largest (sign 1) or least (sign -1) measure of a budget, by rounds of annealing.

    It ends when MAX_AGREEING rounds in a row find nothing better. The walks of a budget by layer need no search.

    Raises:
        InputError: nothing has that name, or seconds is not above 0.
    """
    find_measure(name)
    if not 0 < seconds <= MAX_SECONDS:
        raise InputError(f"a search of {seconds} seconds cannot be: give more than 0, and at most {MAX_SECONDS:,}")
    proven = find_extreme_walk(budget, sign) if name in PROVEN_MEASURES else None
    if proven is not None:
        return Extreme(proven, measure(proven, [name])[name], 0, by_clock=False, is_proven=True)
    deadline = time.monotonic() + seconds
    best: ConnectionPattern | None = None
    value, n_agreeing, n_rounds = -sign * math.inf, 0, 0
    while n_agreeing < MAX_AGREEING and (n_rounds == 0 or time.monotonic() < deadline):
        generator = derive_generator(seed, "measure", name, sign, n_rounds)
        connections = Connections.draw(budget, generator)
        anneal_to_end(connections, name, sign, MEASURE_ROUND, generator)
        reached = Meter(budget, (name,)).read(connections)[name]
        is_better = best is None or sign * (reached - value) > HAIR * max(1.0, abs(value))
        if is_better:
            best, value = connections.pattern(), reached
        n_agreeing = 0 if is_better else n_agreeing + 1
        n_rounds += 1
    assert best is not None
    return Extreme(best, measure(best, [name])[name], n_rounds, n_agreeing < MAX_AGREEING, is_proven=False)


@cache
def shortest_walk(budget: Budget) -> ConnectionPattern:
    """Build the template `shortest_walk` for a budget: proven by layer, otherwise annealed with fixed seed and moves.

    A walk's chances are summed in the order of the layers and without fused operations, so that all machines get the
    same numbers; only a draw within 1e-16 of the threshold of a move, or an ulp of another library's logarithm there,
    could part them.
    """
    proven = find_extreme_walk(budget, -1)
    if proven is not None:
        return proven
    generator = derive_generator("shortest walk", str(budget), budget.depth)
    connections = Connections.draw(budget, generator)
    goal = Goal({"walk_length": Spread(0.0, 1.0, 1.0)}, pulls={"walk_length": 1.0})
    anneal_towards(connections, goal, TEMPLATE_MOVES, WALK_TEMPERATURES, generator)
    anneal_towards(connections, goal, TEMPLATE_MOVES // 10, (0.0, 0.0), generator)
    return connections.pattern()


def spanner(depth: int, hops: int) -> ConnectionPattern:
    """Build a pattern of MBD at most `hops` with few connections, by recursion over blocks.

    2 hops: the midpoint template. More: border nodes every so often; each node reads the border below it, each border
    reads all nodes since the last one, and the borders are brought within hops - 2 of each other by the same means;
    then the same inside each block (Yao 1982; Alon and Schieber 1987; Bhattacharyya, Grigorescu, Jung, Raskhodnikova
    and Woodruff, SICOMP 41(6), 2012). Orders: n log n for 2, n log log n for 3, n log* n for 4.

    >>> [spanner(100, hops).n_connections for hops in (2, 3, 4, 100)]
    [486, 415, 334, 100]
    """
    connections = {(layer - 1, layer) for layer in range(1, depth + 1)}
    _span(list(range(depth + 1)), hops, connections)
    return ConnectionPattern.from_connections(depth, connections)


def _span(nodes: list[int], hops: int, connections: set[tuple[int, int]]) -> None:
    """Bring some nodes, ascending, within `hops` of each other; not even neighbours need be connected before."""
    connections.update(itertools.pairwise(nodes))
    if len(nodes) <= hops + 1:
        return
    if hops == 1:
        connections.update(itertools.combinations(nodes, 2))
        return
    if hops == 2:
        hubs = midpoint(len(nodes) - 1)
        connections.update((nodes[source], nodes[target]) for source, target in hubs.connections)
        return
    size = max(2, round(math.sqrt(len(nodes)) if hops == 3 else math.log2(len(nodes))))
    places = sorted({*range(0, len(nodes), size), len(nodes) - 1})
    for first, last in itertools.pairwise(places):
        for place in range(first + 1, last):
            connections.update([(nodes[first], nodes[place]), (nodes[place], nodes[last])])
        if last - first > 2:
            _span(nodes[first + 1 : last], hops, connections)
    _span([nodes[place] for place in places], hops - 2, connections)
