"""Which pattern next: templates, random (ask/tell)."""

from collections.abc import Iterator, Set
from typing import Protocol

from search_spaces.budget import Budget
from search_spaces.errors import InputError
from search_spaces.pattern import ConnectionPattern
from search_spaces.sampling import derive_generator, sample_uniform
from search_spaces.templates import TEMPLATES, list_templates

MAX_DRAWS = 100_000  # until a strategy gives up finding a pattern that was not proposed before


class Strategy(Protocol):
    """Proposes patterns one at a time and may learn from what they gave."""

    def ask(self, number: int, known: Set[str]) -> ConnectionPattern | None:
        """Proposal number 0, 1, ...: a pattern whose key is not known, or None where there is none left to find.

        The same number and known keys give the same pattern, so that a resumed search goes on where it was.
        """

    def tell(self, pattern: ConnectionPattern, seed: int, validation_accuracy: float | None) -> None:
        """A training of the pattern ended; no accuracy means that it failed."""


class RandomStrategy:
    """Patterns drawn uniformly from the budget, none twice."""

    def __init__(self, budget: Budget, seed: int) -> None:
        self._budget = budget
        self._seed = seed

    def ask(self, number: int, known: Set[str]) -> ConnectionPattern | None:
        """See Strategy."""
        generator = derive_generator(self._seed, "random", number)
        # The last pattern left of n escapes 30 n draws with probability e^-30.
        for _ in range(min(30 * self._budget.n_patterns_at_most, MAX_DRAWS)):
            pattern = sample_uniform(self._budget, generator)
            if pattern.key not in known:
                return pattern
        return None

    def tell(self, pattern: ConnectionPattern, seed: int, validation_accuracy: float | None) -> None:
        """Random search learns nothing."""


def create_strategy(name: str, budget: Budget, seed: int) -> Strategy:
    """The strategy of that name for a budget, its draws fixed by the run's seed.

    Raises:
        InputError: no such strategy.
    """
    if name == "random":
        return RandomStrategy(budget, seed)
    raise InputError(f"there is no strategy {name!r}; there are random and templates")


def iterate_templates(budget: Budget) -> Iterator[tuple[str, ConnectionPattern]]:
    """The named templates that spend exactly this budget; of two that give one pattern, the first name.

    >>> [name for name, _ in iterate_templates(Budget(24, total=94))]
    ['log', 'nearest_log_i', 'evenly_log_i', 'greedy', 'annealed']
    """
    seen = set()
    for name in list_templates(budget.depth):
        pattern = TEMPLATES[name].build(budget.depth)
        if budget.is_met_by(pattern) and pattern.key not in seen:
            seen.add(pattern.key)
            yield name, pattern
