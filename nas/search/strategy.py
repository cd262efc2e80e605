"""What a search strategy is, and the random one."""

from collections.abc import Set
from typing import Protocol

import numpy as np

from search_spaces.budget import Budget
from search_spaces.pattern import ConnectionPattern
from search_spaces.sampling.draw import sample_uniform
from search_spaces.seeds import derive_generator

MAX_DRAWS = 100_000  # draws without a new pattern before a strategy gives up
MAX_STEPS = 1_000  # steps of a walk without a new pattern before one is drawn instead


class Strategy(Protocol):
    """Proposes patterns one at a time and may learn from their accuracies.

    A proposal depends on nothing but budget, seed, earlier calls of tell in their order, and the arguments of ask: so
    a resumed search continues where it was.
    """

    learns: bool  # whether tell changes the proposals

    def ask(self, number: int, known: Set[str]) -> ConnectionPattern | None:
        """Return proposal number 0, 1, ...: a pattern whose key is not known, or None if none is found."""

    def tell(self, pattern: ConnectionPattern, validation_accuracy: float | None) -> None:
        """Take a pattern's mean over its seeds, or None if all failed, once, after its last training."""


class RandomStrategy:
    """Draws patterns uniformly from the budget, none twice."""

    learns = False

    def __init__(self, budget: Budget, seed: int) -> None:
        self._budget = budget
        self._seed = seed

    def ask(self, number: int, known: Set[str]) -> ConnectionPattern | None:
        return draw_unknown(self._budget, known, derive_generator(self._seed, "random", number))

    def tell(self, pattern: ConnectionPattern, validation_accuracy: float | None) -> None:
        pass


def draw_unknown(budget: Budget, known: Set[str], generator: np.random.Generator) -> ConnectionPattern | None:
    """Draw a pattern uniformly from those of the budget whose key is not known; None if none comes up."""
    # The last pattern left of n escapes 30 n draws with probability e^-30.
    for _ in range(min(30 * budget.count_up_to(MAX_DRAWS), MAX_DRAWS)):
        pattern = sample_uniform(budget, generator)
        if pattern.key not in known:
            return pattern
    return None


def walk_to_unknown(
    pattern: ConnectionPattern, budget: Budget, known: Set[str], generator: np.random.Generator
) -> ConnectionPattern | None:
    """Return the first unknown pattern on a random walk whose steps move one connection and keep the budget.

    After MAX_STEPS steps without one, a pattern is drawn from the whole budget.
    """
    from search_spaces.sampling.annealing import Bands, State, wander  # numba: 0.5 s

    state = State.of(pattern, budget)
    for _ in range(MAX_STEPS if len(state.skips) else 0):
        if wander(state, Bands(), 1, generator):
            pattern = state.pattern()
            if pattern.key not in known:
                return pattern
    return draw_unknown(budget, known, generator)
