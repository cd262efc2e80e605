"""Moves of connections under a budget, towards bands of distance, span and degree, compiled."""

import math
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from search_spaces.budget import Budget
from search_spaces.kernels import rescore, undo
from search_spaces.pattern import ConnectionPattern

# What a state is measured by, in this order: sums over pairs, connections, nodes below the output; a maximum.
SUM_BD, SUM_SPAN, FROM_OUTPUT, MAX_OUT_DEGREE = range(4)


@dataclass(frozen=True, slots=True)
class Bands:
    """Where a state's measures are wanted: its energy is the weighted sum of how far they lie outside.

    Args:
        low, high: bounds of the four measures, both included; infinite where all is allowed.
        weights: of one unit outside.
    """

    low: tuple[float, float, float, float] = (-math.inf,) * 4
    high: tuple[float, float, float, float] = (math.inf,) * 4
    weights: tuple[float, float, float, float] = (1.0,) * 4

    def limit(self, measure: int, low: float, high: float, weight: float) -> "Bands":
        """The same with one measure's band and weight set."""

        def put(values: tuple[float, float, float, float], value: float) -> tuple[float, float, float, float]:
            a, b, c, d = (value if index == measure else old for index, old in enumerate(values))
            return a, b, c, d

        return replace(self, low=put(self.low, low), high=put(self.high, high), weights=put(self.weights, weight))


@dataclass(slots=True)
class State:
    """A pattern on its way, with all distances: changed in place by the functions below.

    Args:
        budget: what every move keeps.
        sources: (L + 1, L) int16; sources[i, :degrees[i]] are layer i's inputs, the chain's first.
        degrees: (L + 1,) int64.
        members: (L + 1, L + 1) bool; members[i, j]: layer i reads node j.
        readers: (L + 1,) int64, out-degrees.
        skips: (E - L, 2) int16, the movable connections as (target, source).
        rows: (L + 1, L + 1); rows[i, j] = BD(i, j).
        sums: (L + 1,) int64; sums[i] is the sum over j < i of rows[i, j].
    """

    budget: Budget
    sources: NDArray[np.int16]
    degrees: NDArray[np.int64]
    members: NDArray[np.bool_]
    readers: NDArray[np.int64]
    skips: NDArray[np.int16]
    rows: NDArray[np.integer]
    sums: NDArray[np.int64]
    scratch: tuple[NDArray[np.integer], NDArray[np.int64], NDArray[np.bool_]] = field(init=False)

    def __post_init__(self) -> None:
        n_nodes = self.budget.depth + 1
        self.scratch = (
            np.empty((n_nodes + 1, n_nodes), self.rows.dtype),  # rows before the move; the last: the one being made
            np.empty(2 * n_nodes, np.int64),  # the layers they are of, their sums
            np.zeros(n_nodes, np.bool_),  # layers whose row changed, or whose inputs did
        )

    @classmethod
    def of(cls, pattern: ConnectionPattern, budget: Budget) -> "State":
        """The state of a pattern that spends the budget."""
        assert budget.is_met_by(pattern), "a state spends its budget from the start"
        n_nodes = pattern.depth + 1
        sources = np.zeros((n_nodes, pattern.depth), np.int16)
        members = np.zeros((n_nodes, n_nodes), np.bool_)
        for layer, inputs in enumerate(pattern.sources, start=1):
            sources[layer, : len(inputs)] = inputs[::-1]  # the chain's is the largest
            members[layer, list(inputs)] = True
        skips = [(target, source) for source, target in pattern.connections if target - source > 1]
        kind = np.uint8 if pattern.depth < 255 else np.int16  # narrow rows are scored faster
        state = cls(
            budget,
            sources,
            np.array([0, *pattern.in_degrees]),
            members,
            np.array(pattern.out_degrees),
            np.array(skips, np.int16).reshape(-1, 2),
            np.zeros((n_nodes, n_nodes), kind),
            np.zeros(n_nodes, np.int64),
        )
        state.scratch[2][1:] = True
        rescore(1, state.sources, state.degrees, state.rows, state.sums, *state.scratch)
        return state

    def pattern(self) -> ConnectionPattern:
        """The pattern that the state is at."""
        inputs = (self.sources[layer, : self.degrees[layer]].tolist() for layer in range(1, self.budget.depth + 1))
        return ConnectionPattern(self.budget.depth, tuple(map(tuple, inputs)))

    def measure(self) -> tuple[int, int, int, int]:
        """The four measures."""
        spans = np.arange(self.budget.depth + 1) * self.degrees
        reached = sum(int(self.sources[i, : self.degrees[i]].sum()) for i in range(1, self.budget.depth + 1))
        return int(self.sums.sum()), int(spans.sum()) - reached, int(self.sums[-1]), int(self.readers.max())

    def measure_distances(self) -> tuple[int, int, int]:
        """What patterns are preferred by, in this order, less first."""
        sum_bd, _, from_output, max_out_degree = self.measure()
        return sum_bd, from_output, max_out_degree


def anneal(
    state: State, bands: Bands, n_moves: int, temperatures: tuple[float, float], generator: np.random.Generator
) -> tuple[float, int]:
    """Move connections one at a time, by Metropolis' rule at a temperature that falls geometrically.

    A move replaces one skip's source under a budget by layer, and one skip by any other under a total; each is as
    likely as its reverse. It stops at energy 0. At temperature 0 only moves that do not raise the energy are made.

    Args:
        state: left at its last place, not its best.
        bands: what the energy is measured by.
        n_moves: tried at most.
        temperatures: first and last, in units of energy.
        generator: of the draws.

    Returns:
        The energy at the end and the number of moves tried.
    """
    seed = generator.integers(1, 2**63, dtype=np.uint64)
    energy, n_tried, _ = _walk(_arguments(state, bands), n_moves, *temperatures, True, seed)
    return float(energy), int(n_tried)


def wander(state: State, bands: Bands, n_moves: int, generator: np.random.Generator) -> int:
    """Walk inside the bands: every symmetric move that stays inside is made, so all patterns there are as likely.

    Returns:
        Number of moves made, of n_moves tried.
    """
    seed = generator.integers(1, 2**63, dtype=np.uint64)
    energy, _, n_made = _walk(_arguments(state, bands), n_moves, 0.0, 0.0, False, seed)
    assert energy == 0, "a walk starts and stays inside its bands"
    return int(n_made)


def _arguments(state: State, bands: Bands) -> tuple[Any, ...]:
    budget = state.budget
    depth = budget.depth
    return (
        (state.sources, state.degrees, state.members, state.readers, state.skips),
        (state.rows, state.sums, *state.scratch),
        (np.array(bands.low), np.array(bands.high), np.array(bands.weights)),
        np.array(state.measure(), np.int64),
        budget.per_layer is not None,
        budget.max_in or depth,
        budget.max_out or depth,
    )


@njit(cache=True, nogil=True)
def _next(seed: np.uint64) -> Any:  # pragma: no cover, compiled
    """Marsaglia's xorshift64: a generator that lives in one register."""
    seed ^= seed << np.uint64(13)
    seed ^= seed >> np.uint64(7)
    return seed ^ (seed << np.uint64(17))


@njit(cache=True, nogil=True)
def _below(n: Any, seed: np.uint64) -> Any:  # pragma: no cover, compiled
    """The upper 32 bits as a number in 0..n-1; the bias is below n / 2^32."""
    return np.int64(((seed >> np.uint64(32)) * np.uint64(n)) >> np.uint64(32))


@njit(cache=True, nogil=True)
def _energy(measures, bands):  # type: ignore[no-untyped-def]  # pragma: no cover, compiled
    low, high, weights = bands
    energy = 0.0
    for m in range(4):
        if measures[m] > high[m]:
            energy += weights[m] * (measures[m] - high[m])
        elif measures[m] < low[m]:
            energy += weights[m] * (low[m] - measures[m])
    return energy


@njit(cache=True, nogil=True)
def _replace(layer, old, new, sources, degrees, members, readers):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Take input `old` from a layer and give it `new`; -1 for none."""
    if old >= 0:
        place = 1
        while sources[layer, place] != old:
            place += 1
        degrees[layer] -= 1
        sources[layer, place] = sources[layer, degrees[layer]]
        members[layer, old] = False
        readers[old] -= 1
    if new >= 0:
        sources[layer, degrees[layer]] = new
        degrees[layer] += 1
        members[layer, new] = True
        readers[new] += 1


@njit(cache=True, nogil=True)
def _walk(  # type: ignore[no-untyped-def]  # pragma: no cover, compiled
    arguments, n_moves, first, last, stops, seed
):
    connections, distances, bands, measures, by_layer, max_in, max_out = arguments
    sources, degrees, members, readers, skips = connections
    rows, sums, saved, layers, touched = distances
    depth = degrees.shape[0] - 1
    energy = _energy(measures, bands)
    n_made = 0
    if skips.shape[0] == 0:
        return energy, 0, 0
    counts_readers = bands[0][MAX_OUT_DEGREE] > 0 or bands[1][MAX_OUT_DEGREE] < depth
    before = measures.copy()
    temperature = first
    for move in range(n_moves):
        if stops and energy == 0.0:
            return energy, move, n_made
        if move % 256 == 0 and first > 0:
            temperature = first * (last / first) ** (move / n_moves)
        seed = _next(seed)
        skip = _below(skips.shape[0], seed)
        target, source = np.int64(skips[skip, 0]), np.int64(skips[skip, 1])
        new_target = target
        seed = _next(seed)
        if by_layer:
            new_source = _below(target - 1, seed)
        else:
            # Uniform over all pairs at 2 layers or more: target and source drawn alone, impossible ones refused.
            new_target = 2 + _below(depth - 1, seed)
            seed = _next(seed)
            new_source = _below(depth - 1, seed)
            if new_source > new_target - 2:
                continue
        if members[new_target, new_source] or (readers[new_source] >= max_out and new_source != source):
            continue
        if new_target != target and degrees[new_target] >= max_in:
            continue
        before[:] = measures
        if new_target == target:
            _replace(target, source, new_source, sources, degrees, members, readers)
        else:
            _replace(target, source, -1, sources, degrees, members, readers)
            _replace(new_target, -1, new_source, sources, degrees, members, readers)
        touched[target] = True
        touched[new_target] = True
        n_saved = rescore(min(target, new_target), sources, degrees, rows, sums, saved, layers, touched)
        for k in range(n_saved):
            measures[SUM_BD] += sums[layers[2 * k]] - layers[2 * k + 1]
        measures[SUM_SPAN] += (new_target - new_source) - (target - source)
        measures[FROM_OUTPUT] = sums[depth]
        if counts_readers:
            measures[MAX_OUT_DEGREE] = readers.max()
        new_energy = _energy(measures, bands)
        accepted = new_energy <= energy
        if not accepted and temperature > 0:
            seed = _next(seed)
            accepted = (seed >> np.uint64(11)) * 2.0**-53 < math.exp((energy - new_energy) / temperature)
        if accepted:
            energy = new_energy
            skips[skip, 0], skips[skip, 1] = new_target, new_source
            n_made += 1
            continue
        measures[:] = before
        undo(n_saved, rows, sums, saved, layers)
        if new_target == target:
            _replace(target, new_source, source, sources, degrees, members, readers)
        else:
            _replace(new_target, new_source, -1, sources, degrees, members, readers)
            _replace(target, -1, source, sources, degrees, members, readers)
    return energy, n_moves, n_made
