"""Which patterns a strategy may propose: draws, the pool that a model chooses from, and neighbours."""

from collections.abc import Iterator, Sequence, Set
from functools import lru_cache
from typing import TYPE_CHECKING, Protocol

import numpy as np

from search_spaces.budget import Budget
from search_spaces.errors import InputError
from search_spaces.pattern import ConnectionPattern
from search_spaces.sampling.draw import sample_uniform, sample_wide
from search_spaces.seeds import derive_generator

if TYPE_CHECKING:
    from search_spaces.sampling.annealing import Connections

N_UNIFORM, N_WIDE, N_SPREAD = 250, 300, 100  # patterns of a pool
MAX_MOVES = 4  # connections that differ between a pattern and its mutant
MAX_DRAWS = 100_000  # uniform draws without a new pattern before a space counts as used up
MAX_WIDE_DRAWS = 300  # wide draws without a new pattern before it is drawn uniformly
SPREAD_MEASURES = ("walk_length", "visit_evenness", "mean_bd")
SPREAD_BEYOND = 0.15  # share by which targets lie outside what was drawn: the ends are reached by annealing only
SPREAD_HALF_WIDTH = 0.02  # of the band around a target, as a share of its range
SPREAD_MOVES = 2_000  # on the way to a target; more came hardly nearer at 24 layers
SPREAD_TEMPERATURES = (0.5, 0.02)  # first and last, in units of energy


class Space(Protocol):
    """Patterns of one budget that a strategy may propose. All draws come from the generator or the seed given."""

    budget: Budget

    def draw(self, generator: np.random.Generator, known: Set[str]) -> ConnectionPattern | None:
        """Draw a pattern uniformly from those whose key is not known; None if none comes up."""

    def draw_wide(self, generator: np.random.Generator, known: Set[str]) -> ConnectionPattern | None:
        """Draw a pattern of unknown key by sample_wide; None if none comes up."""

    def pool(self, seed: int) -> tuple[ConnectionPattern, ...]:
        """Return the different patterns that a model chooses from, the same for the same seed."""

    def mutate(self, pattern: ConnectionPattern, generator: np.random.Generator) -> ConnectionPattern:
        """Return a pattern 1 to MAX_MOVES moves away; the pattern itself where no move is possible."""


@lru_cache(maxsize=8)  # the model changes a few parents many times
def _lay_out(pattern: ConnectionPattern, budget: Budget) -> "Connections":
    from search_spaces.sampling.annealing import Connections  # numba: 0.5 s

    return Connections.of(pattern, budget)


class OpenSpace:
    """Every pattern of a budget."""

    def __init__(self, budget: Budget) -> None:
        self.budget = budget
        self._pools: dict[int, tuple[ConnectionPattern, ...]] = {}  # by seed: one takes a second at 24 layers

    def draw(self, generator: np.random.Generator, known: Set[str]) -> ConnectionPattern | None:
        """Draw a pattern uniformly from those whose key is not known; None if none comes up.

        Raises:
            InputError: caps refuse nearly all draws.
        """
        # The last pattern left of n escapes 30 n draws with probability e^-30.
        for _ in range(min(30 * self.budget.count_up_to(MAX_DRAWS), MAX_DRAWS)):
            pattern = sample_uniform(self.budget, generator)
            if pattern.key not in known:
                return pattern
        return None

    def draw_wide(self, generator: np.random.Generator, known: Set[str]) -> ConnectionPattern | None:
        """Draw a pattern of unknown key by sample_wide or, where only known ones come up, uniformly."""
        for _ in range(MAX_WIDE_DRAWS):
            pattern = sample_wide(self.budget, generator)
            if pattern.key not in known:
                return pattern
        return self.draw(generator, known)

    def draw_several(self, count: int, seed: int) -> list[ConnectionPattern]:
        """Draw different patterns widely, fewer where the budget has fewer."""
        patterns: dict[str, ConnectionPattern] = {}
        for number in range(count):
            pattern = self.draw_wide(derive_generator(seed, "wide", number), patterns.keys())
            if pattern is None:
                break
            patterns[pattern.key] = pattern
        return [*patterns.values()]

    def pool(self, seed: int) -> tuple[ConnectionPattern, ...]:
        """Return N_UNIFORM uniform, N_WIDE wide and N_SPREAD spread patterns, or fewer where the budget has fewer.

        Caps that refuse nearly all uniform draws leave only wide and spread ones.
        """
        if seed not in self._pools:
            self._pools[seed] = tuple(self._fill_pool(seed))
        return self._pools[seed]

    def _fill_pool(self, seed: int) -> Iterator[ConnectionPattern]:
        patterns: dict[str, ConnectionPattern] = {}
        for draw, count, name in ((self.draw, N_UNIFORM, "uniform"), (self.draw_wide, N_WIDE, "wide")):
            generator = derive_generator(seed, "pool", name)
            for _ in range(count):
                try:
                    pattern = draw(generator, patterns.keys())
                except InputError:
                    break
                if pattern is None:
                    break
                patterns[pattern.key] = pattern
        drawn = list(patterns.values())
        spread = spread_out(self.budget, drawn, N_SPREAD, derive_generator(seed, "pool", "spread"))
        yield from (patterns | {pattern.key: pattern for pattern in spread}).values()

    def mutate(self, pattern: ConnectionPattern, generator: np.random.Generator) -> ConnectionPattern:
        """Return a pattern 1 to MAX_MOVES random moves of a connection away, of the same budget."""
        from search_spaces.sampling.goals import make_moves  # numba: 0.5 s

        connections = _lay_out(pattern, self.budget).copy()
        make_moves(connections, int(generator.integers(1, MAX_MOVES + 1)), generator)
        return connections.pattern()


def spread_out(
    budget: Budget, drawn: Sequence[ConnectionPattern], count: int, generator: np.random.Generator
) -> list[ConnectionPattern]:
    """Anneal patterns towards targets that fill the reach of walk length, visit evenness and mean BD evenly.

    The targets are a Latin hypercube over the range of the drawn patterns and a little beyond. Each chain starts from
    the drawn pattern nearest to its target, and where the target is out of reach it ends near it.

    Returns:
        Up to count patterns, which may have come up before.
    """
    from search_spaces.measures.compiled import measure_batch  # numba: 0.5 s
    from search_spaces.sampling.annealing import Connections
    from search_spaces.sampling.goals import Band, Goal, anneal_towards, measure_spreads

    if not drawn:
        return []
    spreads = measure_spreads(budget, SPREAD_MEASURES)
    values = measure_batch(drawn, SPREAD_MEASURES)
    centres, halves, distances = {}, {}, np.zeros((count, len(drawn)))  # squared, in units of each measure
    for name in SPREAD_MEASURES:
        low, high = float(values[name].min()), float(values[name].max())
        places = (generator.permutation(count) + generator.random(count)) / count
        centres[name] = low + (high - low) * ((1 + 2 * SPREAD_BEYOND) * places - SPREAD_BEYOND)
        halves[name] = SPREAD_HALF_WIDTH * (high - low)
        distances += ((centres[name][:, None] - values[name][None, :]) / spreads[name].unit) ** 2
    patterns = []
    for number, nearest in enumerate(distances.argmin(axis=1).tolist()):
        bands = {
            name: Band(centres[name][number] - halves[name], centres[name][number] + halves[name])
            for name in SPREAD_MEASURES
        }
        connections = Connections.of(drawn[nearest], budget)
        anneal_towards(connections, Goal(spreads, bands), SPREAD_MOVES, SPREAD_TEMPERATURES, generator)
        patterns.append(connections.pattern())
    return patterns
