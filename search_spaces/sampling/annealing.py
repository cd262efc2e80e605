"""Moves of connections under a budget, towards bands of distance, span and degree."""

import math
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from search_spaces.budget import Budget
from search_spaces.pattern import ConnectionPattern
from search_spaces.sampling.draw import sample_uniform
from search_spaces.sampling.kernels import FROM_OUTPUT, MAX_OUT_DEGREE, SUM_BD, SUM_SPAN, rescore, walk

__all__ = ["FROM_OUTPUT", "MAX_OUT_DEGREE", "SUM_BD", "SUM_SPAN", "Bands", "Connections", "State", "anneal", "wander"]


class Measures(NamedTuple):
    """What annealing measures a state by, in the order of SUM_BD, SUM_SPAN, FROM_OUTPUT and MAX_OUT_DEGREE."""

    sum_bd: int  # sum of BD over all pairs
    sum_span: int  # sum of spans over connections
    from_output: int  # sum of BD from the output over the nodes below it
    max_out_degree: int  # largest out-degree


@dataclass(frozen=True, slots=True)
class Bands:
    """Where a state's measures are wanted: its energy is the weighted sum of how far they lie outside."""

    low: tuple[float, ...] = (-math.inf,) * 4  # bounds of the four measures, both included
    high: tuple[float, ...] = (math.inf,) * 4
    weights: tuple[float, ...] = (1.0,) * 4  # energy of one unit outside

    def limit(self, measure: int, low: float, high: float, weight: float) -> "Bands":
        """Return these bands with one measure's band and weight set."""

        def put(values: tuple[float, ...], value: float) -> tuple[float, ...]:
            return (*values[:measure], value, *values[measure + 1 :])

        return replace(self, low=put(self.low, low), high=put(self.high, high), weights=put(self.weights, weight))


@dataclass(slots=True)
class Connections:
    """A pattern's connections as arrays, which moves change in place."""

    budget: Budget  # what every move spends
    sources: NDArray[np.int16]  # (L + 1, L) int16; sources[i, :degrees[i]] are layer i's inputs, the chain's first
    degrees: NDArray[np.int64]  # (L + 1,) int64
    members: NDArray[np.bool_]  # (L + 1, L + 1) bool; members[i, j]: layer i reads node j
    readers: NDArray[np.int64]  # (L + 1,) int64; out-degrees
    skips: NDArray[np.int16]  # (E - L, 2) int16; the movable connections as (target, source)

    @classmethod
    def of(cls, pattern: ConnectionPattern, budget: Budget) -> Self:
        """Return the connections of a pattern that spends the budget."""
        assert budget.is_met_by(pattern), "moves spend the budget from the start"
        n_nodes = pattern.depth + 1
        sources = np.zeros((n_nodes, pattern.depth), np.int16)
        members = np.zeros((n_nodes, n_nodes), np.bool_)
        for layer, inputs in enumerate(pattern.sources, start=1):
            sources[layer, : len(inputs)] = inputs[::-1]  # the chain's is the largest
            members[layer, list(inputs)] = True
        skips = [(target, source) for source, target in pattern.connections if target - source > 1]
        return cls(
            budget,
            sources,
            np.array([0, *pattern.in_degrees]),
            members,
            np.array(pattern.out_degrees),
            np.array(skips, np.int16).reshape(-1, 2),
        )

    @classmethod
    def draw(cls, budget: Budget, generator: np.random.Generator) -> Self:
        """Return those of a uniform draw or, under caps, which may refuse every draw, of the budget's example."""
        return cls.of(budget.example() if budget.is_capped else sample_uniform(budget, generator), budget)

    def copy(self) -> "Connections":
        """Return a copy, which moves may change."""
        return Connections(
            self.budget,
            self.sources.copy(),
            self.degrees.copy(),
            self.members.copy(),
            self.readers.copy(),
            self.skips.copy(),
        )

    def pattern(self) -> ConnectionPattern:
        """Return the pattern that the moves have led to."""
        layers = zip(self.sources.tolist()[1:], self.degrees.tolist()[1:], strict=True)
        return ConnectionPattern(self.budget.depth, tuple(tuple(sorted(row[:degree])) for row, degree in layers))


@dataclass(slots=True)
class State(Connections):
    """Connections with all distances, which the functions below keep up to date."""

    rows: NDArray[np.integer] = field(init=False)  # (L + 1, L + 1); rows[i, j] = BD(i, j)
    sums: NDArray[np.int64] = field(init=False)  # (L + 1,) int64; sums[i] is the sum over j < i of rows[i, j]
    scratch: tuple[NDArray[np.integer], NDArray[np.int64], NDArray[np.bool_]] = field(init=False)

    def __post_init__(self) -> None:
        n_nodes = self.budget.depth + 1
        kind = np.uint8 if self.budget.depth < 255 else np.int16  # narrow rows are scored faster
        self.rows = np.zeros((n_nodes, n_nodes), kind)
        self.sums = np.zeros(n_nodes, np.int64)
        self.scratch = (
            np.empty((n_nodes + 1, n_nodes), kind),  # rows before the move; the last: the one being made
            np.empty(2 * n_nodes, np.int64),  # the layers they are of, their sums
            np.zeros(n_nodes, np.bool_),  # layers whose row changed, or whose inputs did
        )
        self.scratch[2][1:] = True
        rescore(1, self.sources, self.degrees, self.rows, self.sums, *self.scratch)

    def measure(self) -> Measures:
        """Return the four measures."""
        targets = np.arange(self.budget.depth + 1) * self.degrees
        reached = sum(int(self.sources[i, : self.degrees[i]].sum()) for i in range(1, self.budget.depth + 1))
        sum_span = int(targets.sum()) - reached
        return Measures(int(self.sums.sum()), sum_span, int(self.sums[-1]), int(self.readers.max()))

    def measure_distances(self) -> tuple[int, int, int]:
        """Return what patterns are preferred by, in this order, less first."""
        measures = self.measure()
        return measures.sum_bd, measures.from_output, measures.max_out_degree


def anneal(
    state: State, bands: Bands, n_moves: int, temperatures: tuple[float, float], generator: np.random.Generator
) -> tuple[float, int]:
    """Move connections one at a time, by Metropolis' rule at a temperature that falls geometrically.

    A move replaces one skip's source under a budget by layer, and one skip by any other under a total; each is as
    likely as its reverse. It stops at energy 0. At temperature 0 only moves that do not raise the energy are made.

    Args:
        state: left at its last place, not its best.
        bands: bands that the energy is measured by.
        n_moves: largest number of moves tried.
        temperatures: first and last, in units of energy.
        generator: source of the draws.

    Returns:
        The energy at the end and the number of moves tried.
    """
    seed = generator.integers(1, 2**63, dtype=np.uint64)
    energy, n_tried, _ = walk(_arguments(state, bands), n_moves, *temperatures, True, seed)
    return float(energy), int(n_tried)


def wander(state: State, bands: Bands, n_moves: int, generator: np.random.Generator) -> int:
    """Walk inside the bands: every symmetric move that stays inside is made, so all patterns there are equally likely.

    Returns:
        The number of moves made, of n_moves tried.
    """
    seed = generator.integers(1, 2**63, dtype=np.uint64)
    energy, _, n_made = walk(_arguments(state, bands), n_moves, 0.0, 0.0, False, seed)
    assert energy == 0, "a walk starts and stays inside its bands"
    return int(n_made)


def _arguments(state: State, bands: Bands) -> tuple[Any, ...]:
    budget = state.budget
    return (
        (state.sources, state.degrees, state.members, state.readers, state.skips),
        (state.rows, state.sums, *state.scratch),
        (np.array(bands.low), np.array(bands.high), np.array(bands.weights)),
        np.array(state.measure(), np.int64),
        budget.per_layer is not None,
        budget.most_in,
        budget.most_out,
    )
