"""The strategies by name."""

from nas.search.evolution import EvolveStrategy
from nas.search.space import Space
from nas.search.strategy import RandomStrategy, Strategy
from search_spaces.errors import InputError

STRATEGIES = ("model", "random", "random:wide", "evolve")


def create_strategy(name: str, space: Space, seed: int, seeds: int, seeds_at_most: int | None = None) -> Strategy:
    """Return the strategy of that name for a space; the run's seed fixes its draws.

    Args:
        seeds: number of trainings of each pattern; the model decides itself.
        seeds_at_most: number of seeds that there are trainings with, in a table; None: any number.

    Raises:
        InputError: there is no such strategy.
    """
    if name in ("random", "random:wide"):
        return RandomStrategy(space, seed, seeds, wide=name == "random:wide")
    if name == "evolve":
        return EvolveStrategy(space, seed, seeds, seeds_at_most)
    if name == "model":
        from nas.search.model import ModelStrategy  # numba: 0.5 s

        return ModelStrategy(space, seed, seeds_at_most=seeds_at_most)
    raise InputError(f"there is no strategy {name!r}; there are {', '.join(STRATEGIES)} and templates")
