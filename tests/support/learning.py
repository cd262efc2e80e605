"""A strategy for tests: what it proposes depends on everything that it is shown."""

from collections.abc import Sequence

import pytest

from nas.search.strategy import Proposal, Training
from search_spaces.budget import Budget
from search_spaces.sampling.draw import sample_uniform
from search_spaces.seeds import derive_generator


class Learning:
    """Gives a new pattern all its seeds, then the next one, or, where seeds may be repeated, the cheapest once more."""

    learns = True

    def __init__(self, budget: Budget, seeds: int, repeats: bool) -> None:
        self._budget = budget
        self._seeds = seeds
        self._repeats = repeats
        self.shown: list[tuple[Training, ...]] = []  # the history at each proposal

    def propose(self, history: Sequence[Training]) -> Proposal | None:
        self.shown.append(tuple(history))
        n_trained: dict[str, int] = {}
        for training in history:
            n_trained[training.pattern.key] = n_trained.get(training.pattern.key, 0) + 1
        if history and n_trained[history[-1].pattern.key] < self._seeds:
            return Proposal(history[-1].pattern, n_trained[history[-1].pattern.key])
        generator = derive_generator("learning", *(f"{t.pattern.key} {t.seed} {t.cost} {t.state}" for t in history))
        known = [training for training in history if training.cost is not None]
        if self._repeats and known and generator.random() < 0.4:
            cheapest = min(known, key=lambda training: training.cost or 0.0).pattern
            return Proposal(cheapest, n_trained[cheapest.key])
        while True:
            pattern = sample_uniform(self._budget, generator)
            if pattern.key not in n_trained:
                return Proposal(pattern, 0)


def install_learning(monkeypatch: pytest.MonkeyPatch, repeats: bool = True) -> list[Learning]:
    """Put it in the place of every strategy; return the list to which each that is made is added."""
    made: list[Learning] = []

    def create(name: str, space: object, seed: int, seeds: int) -> Learning:  # noqa: ARG001
        made.append(Learning(space.budget, 1 if name == "model" else seeds, repeats))  # type: ignore[attr-defined]
        return made[-1]

    monkeypatch.setattr("nas.search.stratum.create_strategy", create)
    return made
