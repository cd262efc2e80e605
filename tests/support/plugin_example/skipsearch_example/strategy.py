from collections.abc import Sequence

from nas.search.space import Space
from nas.search.strategy import Proposal, Training
from search_spaces.seeds import derive_generator


class BestChild:
    """Propose a child of the best pattern so far, and of that child while it is known."""

    def __init__(self, space: Space, seed: int, seeds: int, seeds_at_most: int | None) -> None:
        self.space, self.seed = space, seed

    def propose(self, history: Sequence[Training]) -> Proposal | None:
        generator = derive_generator(self.seed, "best child", len(history))
        known = {training.pattern.key for training in history}
        costs = {training.pattern: training.cost for training in history if training.cost is not None}
        child = min(costs, key=lambda pattern: costs[pattern]) if costs else None
        for _ in range(100):
            if child is not None and child.key not in known:
                return Proposal(child, 0)
            child = self.space.mutate(child, generator) if child else self.space.draw(generator, known)
        return None
