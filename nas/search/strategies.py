"""The strategies by name."""

from nas.search.strategy import RandomStrategy, Strategy
from search_spaces.budget import Budget
from search_spaces.errors import InputError

STRATEGIES = ("random", "tpe", "evolve")


def create_strategy(name: str, budget: Budget, seed: int) -> Strategy:
    """Return the strategy of that name for a budget; the run's seed fixes its draws.

    Raises:
        InputError: there is no such strategy.
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
