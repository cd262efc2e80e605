"""Regularised evolution of patterns by moves that keep the budget."""

import math
from collections.abc import Sequence
from statistics import fmean

from nas.search.space import Space
from nas.search.strategy import Proposal, Training, complete_seeds, group_by_pattern, train_again
from search_spaces.seeds import derive_generator

POPULATION = 20  # patterns, the youngest; fewer than the 100 of arXiv:1802.01548, for searches of fewer trainings
TOURNAMENT = 5  # patterns of the population that are drawn; the best of them is the parent
RETRAIN_EVERY = 5  # one proposal in so many trains the best pattern again
MAX_STEPS = 100  # mutations, each of the last, without a new pattern before one is drawn instead


class EvolveStrategy:
    """Regularised evolution (Real et al., arXiv:1802.01548): the oldest pattern leaves the population, not the worst.

    It starts from whatever patterns the history begins with. A child is a mutant of its parent, or a mutant of that,
    and so on until the pattern is new. One proposal in RETRAIN_EVERY instead trains the pattern of least mean cost
    with a fresh seed, so that one lucky training does not make it the best for ever.

    Args:
        space: the patterns that may be proposed.
        seed: seed of the draws.
        seeds: number of trainings of each pattern before the next; the best one gets more.
        seeds_at_most: most trainings of one pattern; None: any number.
    """

    learns = True

    def __init__(self, space: Space, seed: int, seeds: int, seeds_at_most: int | None = None) -> None:
        self._space = space
        self._seed = seed
        self._seeds = seeds
        self._seeds_at_most = math.inf if seeds_at_most is None else seeds_at_most

    def propose(self, history: Sequence[Training]) -> Proposal | None:
        tried = group_by_pattern(history)
        unfinished = complete_seeds(tried, self._seeds)
        if unfinished is not None:
            return unfinished
        costs = {pattern: _mean_cost(trainings) for pattern, trainings in tried.items()}
        means = {pattern: cost for pattern, cost in costs.items() if cost is not None}  # no children of failures
        number = len(history) - len(tried) * (self._seeds - 1)  # every proposal but complete_seeds' counts 1
        if means and number % RETRAIN_EVERY == RETRAIN_EVERY - 1:
            champion = min(means, key=lambda pattern: means[pattern])
            if len(tried[champion]) < self._seeds_at_most:
                return train_again(champion, tried[champion])
        generator = derive_generator(self._seed, "evolve", number)
        known = {pattern.key for pattern in tried}
        population = list(means)[-POPULATION:]
        if population:
            places = generator.choice(len(population), min(TOURNAMENT, len(population)), replace=False).tolist()
            child = min((population[place] for place in places), key=lambda pattern: means[pattern])
            for _ in range(MAX_STEPS):
                child = self._space.mutate(child, generator)
                if child.key not in known:
                    return Proposal(child, 0)
        # A space of listed patterns may draw some of them wide only.
        drawn = self._space.draw(generator, known) or self._space.draw_wide(generator, known)
        return None if drawn is None else Proposal(drawn, 0)


def _mean_cost(trainings: Sequence[Training]) -> float | None:
    """Return the mean over the finished trainings of a pattern; None if there is none."""
    costs = [training.cost for training in trainings if training.state == "finished" and training.cost is not None]
    return fmean(costs) if costs else None
