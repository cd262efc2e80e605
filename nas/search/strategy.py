"""Which pattern next: templates, random, tpe, evolve (ask/tell)."""

from collections.abc import Set
from typing import Protocol

import numpy as np

from search_spaces.budget import Budget
from search_spaces.pattern import ConnectionPattern
from search_spaces.sampling.draw import sample_uniform
from search_spaces.seeds import derive_generator

MAX_DRAWS = 100_000  # until a strategy gives up finding a pattern that was not proposed before
MAX_STEPS = 1_000  # of a walk from a pattern until one is met that was not proposed before


class Strategy(Protocol):
    """Proposes patterns one at a time and may learn from what they gave.

    What it proposes depends on its budget and seed, on what it was told in which order, and on the arguments of ask:
    on nothing else, so that a resumed search goes on where it was.
    """

    learns: bool  # whether what it is told changes what it proposes

    def ask(self, number: int, known: Set[str]) -> ConnectionPattern | None:
        """Proposal number 0, 1, ...: a pattern whose key is not known, or None where there is none left to find."""

    def tell(self, pattern: ConnectionPattern, validation_accuracy: float | None) -> None:
        """All trainings of a pattern ended: the mean over its seeds, or None if all failed. Once a pattern."""


class RandomStrategy:
    """Patterns drawn uniformly from the budget, none twice."""

    learns = False

    def __init__(self, budget: Budget, seed: int) -> None:
        self._budget = budget
        self._seed = seed

    def ask(self, number: int, known: Set[str]) -> ConnectionPattern | None:
        """See Strategy."""
        return draw_unknown(self._budget, known, derive_generator(self._seed, "random", number))

    def tell(self, pattern: ConnectionPattern, validation_accuracy: float | None) -> None:
        """Random search learns nothing."""


def draw_unknown(budget: Budget, known: Set[str], generator: np.random.Generator) -> ConnectionPattern | None:
    """A pattern drawn uniformly from those of the budget whose key is not known; None if none was met."""
    # The last pattern left of n escapes 30 n draws with probability e^-30.
    for _ in range(min(30 * budget.count_up_to(MAX_DRAWS), MAX_DRAWS)):
        pattern = sample_uniform(budget, generator)
        if pattern.key not in known:
            return pattern
    return None


def walk_to_unknown(
    pattern: ConnectionPattern, budget: Budget, known: Set[str], generator: np.random.Generator
) -> ConnectionPattern | None:
    """The first pattern met that is not known, on a walk from a pattern by moves of one connection each.

    A move keeps the budget, its caps included. Where MAX_STEPS moves met none, one is drawn from the whole budget.
    """
    from search_spaces.sampling.annealing import Bands, State, wander  # numba: 0.5 s

    state = State.of(pattern, budget)
    for _ in range(MAX_STEPS if len(state.skips) else 0):
        if wander(state, Bands(), 1, generator):
            pattern = state.pattern()
            if pattern.key not in known:
                return pattern
    return draw_unknown(budget, known, generator)
