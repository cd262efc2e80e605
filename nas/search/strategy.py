"""What a search strategy is: a function of the trainings asked for so far; and the random ones."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Literal, Protocol

from nas.search.space import Space
from search_spaces.pattern import ConnectionPattern
from search_spaces.seeds import derive_generator

TrainingState = Literal["pending", "finished", "failed"]


@dataclass(frozen=True, slots=True)
class Training:
    """A training that was asked for earlier.

    Args:
        cost: what the search minimises; None: not known yet, or the training failed.
    """

    pattern: ConnectionPattern
    seed: int
    cost: float | None
    state: TrainingState


@dataclass(frozen=True, slots=True)
class Proposal:
    """A training that is to be done next."""

    pattern: ConnectionPattern
    seed: int


class Strategy(Protocol):
    """Proposes one training at a time.

    A proposal depends on nothing but the space, the strategy's seed and the history, which is in the order of asking:
    so it is the same in whatever order trainings end, and after any kill.
    """

    learns: bool  # whether costs change the proposals

    def propose(self, history: Sequence[Training]) -> Proposal | None:
        """Return the next training, no pattern and seed of the history; None if no pattern is left."""


class RandomStrategy:
    """Draws patterns uniformly or wide, none twice, and has each trained with all seeds before the next.

    Args:
        space: the patterns to draw from.
        seed: seed of the draws.
        seeds: number of trainings of each pattern.
        wide: whether draws are those of sample_wide.
    """

    learns = False

    def __init__(self, space: Space, seed: int, seeds: int, wide: bool = False) -> None:
        self._draw = space.draw_wide if wide else space.draw
        self._stream = (seed, "random:wide" if wide else "random")
        self._seeds = seeds

    def propose(self, history: Sequence[Training]) -> Proposal | None:
        tried = group_by_pattern(history)
        unfinished = complete_seeds(tried, self._seeds)
        if unfinished is not None:
            return unfinished
        pattern = self._draw(derive_generator(*self._stream, len(tried)), {pattern.key for pattern in tried})
        return None if pattern is None else Proposal(pattern, 0)


def group_by_pattern(history: Sequence[Training]) -> dict[ConnectionPattern, list[Training]]:
    """Return the trainings of each pattern; patterns and trainings in the order of asking."""
    tried: dict[ConnectionPattern, list[Training]] = {}
    for training in history:
        tried.setdefault(training.pattern, []).append(training)
    return tried


def complete_seeds(tried: Mapping[ConnectionPattern, Sequence[Training]], seeds: int) -> Proposal | None:
    """Return the next training of the first pattern that was asked for fewer than `seeds` times; None if none was."""
    for pattern, trainings in tried.items():
        if len(trainings) < seeds:
            return train_again(pattern, trainings)
    return None


def train_again(pattern: ConnectionPattern, trainings: Sequence[Training]) -> Proposal:
    """Return a training of a pattern with the lowest seed that it was not asked for with."""
    asked = {training.seed for training in trainings}
    return Proposal(pattern, next(seed for seed in count() if seed not in asked))
