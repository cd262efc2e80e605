"""Moves of connections under a budget, towards bands of any measures or towards their ends."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from search_spaces.budget import Budget
from search_spaces.measures.compiled import COMPILED, choose_groups, evaluate, make_scratch, walk_measured
from search_spaces.measures.measure import log_reads
from search_spaces.measures.registry import find_measure
from search_spaces.sampling.annealing import Connections
from search_spaces.seeds import derive_generator

HAIR = 1e-9  # share by which a value may lie outside its band: sums in another order differ by 1e-16
SLOWNESS = 100  # of a measure that is not compiled: moves are fewer by this factor
SPREAD_DRAWS = 200
END_TEMPERATURES = (0.3, 0.003)  # on the way to an end of what a budget reaches
SPREAD_MOVES = 10  # of each skip between two of these draws
MAX_TRIED = 1_000  # moves tried for each one made: few are possible where a budget leaves little choice
Temperatures = tuple[float, float]  # first and last, in units of energy


class Band(NamedTuple):
    """Lowest and highest value of a measure, both included."""

    low: float
    high: float


class Spread(NamedTuple):
    """How a measure varies over all patterns that spend a budget."""

    mean: float
    sd: float  # standard deviation
    unit: float  # of energy: the standard deviation or, where it is larger, what one move changes, if it changes it


@dataclass(frozen=True, slots=True)
class Goal:
    """What patterns are wanted: the energy is the sum over bands of how far a measure lies outside, plus the pulls.

    Args:
        spreads: how each measure varies, which gives its unit of energy.
        bands: bands wanted, by name of the measure.
        pulls: energy of one unit of a measure, by name: above 0 to lower it, below 0 to raise it.
    """

    spreads: Mapping[str, Spread]
    bands: Mapping[str, Band] = field(default_factory=dict)
    pulls: Mapping[str, float] = field(default_factory=dict)

    @property
    def names(self) -> tuple[str, ...]:
        """Return the names of the measures that it asks for, the compiled ones first, in their own order."""
        wanted = {**self.bands, **self.pulls}
        slow = [name for name in wanted if name not in COMPILED]
        return (*(name for name in COMPILED if name in wanted), *slow)

    def weigh(self, values: Mapping[str, float]) -> float:
        """Return the energy of measured values."""
        energy = 0.0
        for name, (low, high) in self.bands.items():
            slack = HAIR * max(1.0, abs(values[name]))
            outside = max(values[name] - high, low - values[name], 0.0)
            energy += (outside if outside > slack else 0.0) / self.spreads[name].unit
        return energy + sum(pull * values[name] / self.spreads[name].unit for name, pull in self.pulls.items())


@cache
def measure_spread(budget: Budget, name: str) -> Spread:
    """Return how a measure varies on a long walk among the patterns of a budget, which a fixed seed draws."""
    generator = derive_generator("spread", str(budget), budget.depth)
    connections = Connections.draw(budget, generator)
    meter, values, steps = Meter(budget, (name,)), [], []
    n_draws = SPREAD_DRAWS if name in COMPILED else SPREAD_DRAWS // 4
    for _ in range(n_draws):
        _walk(connections, Goal({}), SPREAD_MOVES * len(connections.skips), (0.0, 0.0), False, generator)
        values.append(meter.read(connections)[name])
        _walk(connections, Goal({}), 1, (0.0, 0.0), False, generator)
        steps.append(abs(meter.read(connections)[name] - values[-1]))
    mean, sd = float(np.mean(values)), float(np.std(values))
    changes = [step for step in steps if step > HAIR * max(1.0, abs(mean))]
    unit = max(sd, float(np.mean(changes)) if changes else 0.0)
    return Spread(mean, sd, unit if changes else 1.0)


def measure_spreads(budget: Budget, names: Iterable[str]) -> dict[str, Spread]:
    """Return the spreads of measures by name."""
    return {name: measure_spread(budget, name) for name in names}


def anneal_towards(
    connections: Connections, goal: Goal, n_moves: int, temperatures: Temperatures, generator: np.random.Generator
) -> float:
    """Move connections one at a time towards a goal, by Metropolis' rule at a temperature that falls geometrically.

    A move replaces one skip's source under a budget by layer, and one skip by any other under a total; each is as
    likely as its reverse. A goal without pulls ends it at energy 0. At temperature 0 no move raises the energy.

    Args:
        connections: left at their last place, not their best.
        n_moves: largest number of moves tried; where a measure is not compiled SLOWNESS times fewer.

    Returns:
        The energy at the end.
    """
    return _walk(connections, goal, n_moves, temperatures, not goal.pulls, generator)


def anneal_to_end(connections: Connections, name: str, sign: int, n_moves: int, generator: np.random.Generator) -> None:
    """Move connections towards the largest (sign 1) or the least (sign -1) value of a measure, in the end downhill."""
    goal = Goal(measure_spreads(connections.budget, [name]), pulls={name: -float(sign)})
    anneal_towards(connections, goal, n_moves, END_TEMPERATURES, generator)
    anneal_towards(connections, goal, n_moves // 10, (0.0, 0.0), generator)


def wander_within(connections: Connections, goal: Goal, n_moves: int, generator: np.random.Generator) -> None:
    """Walk inside bands: every symmetric move that stays inside is made, so all patterns there are equally likely."""
    energy = _walk(connections, goal, n_moves, (0.0, 0.0), False, generator)
    assert energy == 0, "a walk starts and stays inside its bands"


def make_moves(connections: Connections, n_moves: int, generator: np.random.Generator) -> None:
    """Make that many moves of one connection, whatever they lead to; fewer where MAX_TRIED each find none."""
    for _ in range(MAX_TRIED * n_moves if len(connections.skips) else 0):
        proposal = _propose(connections, generator)
        if proposal is None:
            continue
        _replace(connections, connections.skips[proposal.skip].tolist(), [proposal.target, proposal.source])
        connections.skips[proposal.skip] = proposal.target, proposal.source
        n_moves -= 1
        if n_moves == 0:
            break


def _walk(
    connections: Connections,
    goal: Goal,
    n_moves: int,
    temperatures: Temperatures,
    stops: bool,
    generator: np.random.Generator,
) -> float:
    budget = connections.budget
    if not set(goal.names) <= set(COMPILED):
        return _walk_slowly(connections, goal, math.ceil(n_moves / SLOWNESS), temperatures, stops, generator)
    meter = Meter(budget, goal.names)
    energy, _ = walk_measured(
        (connections.sources, connections.degrees, connections.members, connections.readers, connections.skips),
        (meter.reads, meter.groups, meter.scratch, meter.values),
        _to_arrays(goal),
        (budget.per_layer is not None, budget.most_in, budget.most_out),
        (n_moves, *map(float, temperatures), stops),
        generator.integers(1, 2**63, dtype=np.uint64),
    )
    return float(energy)


def _to_arrays(goal: Goal) -> tuple[NDArray[np.float64], ...]:
    low, high = np.full(len(COMPILED), -math.inf), np.full(len(COMPILED), math.inf)
    weights, pulls = np.zeros(len(COMPILED)), np.zeros(len(COMPILED))
    for name in goal.names:
        place, unit = COMPILED.index(name), goal.spreads[name].unit
        weights[place] = 1 / unit
        pulls[place] = goal.pulls.get(name, 0.0) / unit
        if name in goal.bands:
            bottom, top = goal.bands[name]
            low[place] = bottom - HAIR * max(1.0, abs(bottom))
            high[place] = top + HAIR * max(1.0, abs(top))
    return low, high, weights, pulls


class Meter:
    """Measures connections as the classifier of transition `log` reads them."""

    def __init__(self, budget: Budget, names: Iterable[str]) -> None:
        reads = log_reads(budget.depth)
        self.reads = np.array(reads, np.int64)
        self.scratch = make_scratch(budget.depth)
        self.values = np.zeros(len(COMPILED))
        self._quick = [name for name in names if name in COMPILED]
        self.groups = choose_groups(self._quick)
        self._slow = {name: find_measure(name).function for name in names if name not in COMPILED}
        self._nodes = reads

    def read(self, connections: Connections) -> dict[str, float]:
        """Return the measures by name."""
        evaluate(connections.sources, connections.degrees, self.reads, self.groups, self.scratch, self.values)
        measured = {name: float(self.values[COMPILED.index(name)]) for name in self._quick}
        if self._slow:
            pattern = connections.pattern()
            measured |= {name: function(pattern, self._nodes) for name, function in self._slow.items()}
        return measured


def _walk_slowly(
    connections: Connections,
    goal: Goal,
    n_moves: int,
    temperatures: Temperatures,
    stops: bool,
    generator: np.random.Generator,
) -> float:
    """Do what compiled.walk_measured does, for measures that have only their definition."""
    first, last = temperatures
    meter = Meter(connections.budget, goal.names)
    energy = goal.weigh(meter.read(connections))
    for move in range(n_moves if len(connections.skips) else 0):
        if stops and energy == 0:
            break
        proposal = _propose(connections, generator)
        if proposal is None:
            continue
        temperature = first * (last / first) ** (move / n_moves) if first > 0 else 0.0
        most = energy - temperature * math.log(1.0 - generator.random())
        before = connections.skips[proposal.skip].tolist()
        _replace(connections, before, [proposal.target, proposal.source])
        changed = goal.weigh(meter.read(connections))
        if changed <= most:
            energy = changed
            connections.skips[proposal.skip] = proposal.target, proposal.source
        else:
            _replace(connections, [proposal.target, proposal.source], before)
    return energy


class _Proposal(NamedTuple):
    """A skip, by its place, and the connection that would replace it."""

    skip: int
    target: int
    source: int


def _propose(connections: Connections, generator: np.random.Generator) -> _Proposal | None:
    """Propose a move, each as likely as its reverse; None where the draw is impossible or breaks the budget."""
    budget = connections.budget
    skip = int(generator.integers(len(connections.skips)))
    target, source = connections.skips[skip].tolist()
    new_target = target if budget.per_layer is not None else 2 + int(generator.integers(budget.depth - 1))
    new_source = int(generator.integers(target - 1 if budget.per_layer is not None else budget.depth - 1))
    if new_source > new_target - 2 or connections.members[new_target, new_source]:
        return None
    if connections.readers[new_source] >= budget.most_out and new_source != source:
        return None
    if new_target != target and connections.degrees[new_target] >= budget.most_in:
        return None
    return _Proposal(skip, new_target, new_source)


def _replace(connections: Connections, old: list[int], new: list[int]) -> None:
    """Replace one connection, (target, source), by another."""
    (target, source), (new_target, new_source) = old, new
    row = connections.sources[target]
    place = row[: connections.degrees[target]].tolist().index(source)
    connections.degrees[target] -= 1
    row[place] = row[connections.degrees[target]]
    connections.members[target, source] = False
    connections.readers[source] -= 1
    connections.sources[new_target, connections.degrees[new_target]] = new_source
    connections.degrees[new_target] += 1
    connections.members[new_target, new_source] = True
    connections.readers[new_source] += 1
