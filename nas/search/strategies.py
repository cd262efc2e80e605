"""The strategies by name."""

from nas.search.strategy import RandomStrategy, Strategy
from search_spaces.budget import Budget
from search_spaces.errors import InputError

STRATEGIES = ("random", "tpe", "evolve")


def create_strategy(name: str, budget: Budget, seed: int) -> Strategy:
    """The strategy of that name for a budget, its draws fixed by the run's seed.

    Raises:
        InputError: no such strategy.
    """
    if name == "random":
        return RandomStrategy(budget, seed)
    if name == "evolve":
        from nas.search.evolution import EvolveStrategy

        return EvolveStrategy(budget, seed)
    if name == "tpe":
        from nas.search.tpe import TpeStrategy  # optuna: half a second

        return TpeStrategy(budget, seed)
    raise InputError(f"there is no strategy {name!r}; there are {', '.join(STRATEGIES)} and templates")
