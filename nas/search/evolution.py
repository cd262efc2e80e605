"""Regularised evolution of patterns by moves that keep the budget."""

from collections import deque
from collections.abc import Set

from nas.search.strategy import draw_unknown, walk_to_unknown
from search_spaces.budget import Budget
from search_spaces.pattern import ConnectionPattern
from search_spaces.seeds import derive_generator
from search_spaces.templates import iterate_templates

POPULATION = 20  # patterns, the youngest; fewer than the 100 of arXiv:1802.01548, for searches of fewer trainings
TOURNAMENT = 5  # patterns of the population that are drawn; the best of them is the parent
MAX_OPTIMISED_DEPTH = 100  # finding the optimum to start from takes seconds up to here, minutes beyond


class EvolveStrategy:
    """Regularised evolution (Real et al., arXiv:1802.01548): the oldest pattern leaves the population, not the worst.

    It starts from the named templates of the budget and the shortest pattern found for it. A child is its parent with
    one connection moved, or with as many as it takes to reach a new pattern.
    """

    learns = True

    def __init__(self, budget: Budget, seed: int) -> None:
        self._budget = budget
        self._seed = seed
        self._population: deque[tuple[float, ConnectionPattern]] = deque(maxlen=POPULATION)
        self._starts: list[ConnectionPattern] | None = None

    def ask(self, number: int, known: Set[str]) -> ConnectionPattern | None:
        if self._starts is None:
            self._starts = [pattern for _, pattern in iterate_templates(self._budget)]
            self._starts += [self._find_optimum()] if self._budget.depth <= MAX_OPTIMISED_DEPTH else []
        start = next((pattern for pattern in self._starts if pattern.key not in known), None)
        if start is not None:
            return start
        generator = derive_generator(self._seed, "evolve", number)
        if not self._population:
            return draw_unknown(self._budget, known, generator)
        size = min(TOURNAMENT, len(self._population))
        places = generator.choice(len(self._population), size, replace=False).tolist()
        _, parent = max((self._population[place] for place in places), key=lambda member: member[0])
        return walk_to_unknown(parent, self._budget, known, generator)

    def tell(self, pattern: ConnectionPattern, validation_accuracy: float | None) -> None:
        if validation_accuracy is not None:  # a pattern whose trainings all failed has no children
            self._population.append((validation_accuracy, pattern))

    def _find_optimum(self) -> ConnectionPattern:
        from search_spaces.sampling.optimal import optimize  # numba: 0.5 s

        # Limited by rounds and not by the clock, so that the result is always the same.
        return optimize(self._budget, self._seed, seconds=float("inf"), max_rounds=1).pattern
