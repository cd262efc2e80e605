"""Successive halving: which proposed patterns go on after a rung."""

import math
from dataclasses import dataclass, field

from nas.settings.search import ETA, list_rungs


@dataclass(slots=True)
class _Bracket:
    """Patterns that are compared with each other: at each rung the best third of them goes on."""

    size: int
    alive: list[str] = field(default_factory=list)
    n_members: int = 0
    stage: int = 0  # the rung awaited, as an index


class Halving:
    """Synchronous successive halving (arXiv:1502.07943) in brackets of consecutive proposals.

    A bracket's decision waits for all of its patterns, so it is the same whatever the order of completion.

    Args:
        epochs: of a whole training.
        n_patterns: that are proposed.
        n_seeds: trainings of each pattern.
    """

    def __init__(self, epochs: int, n_patterns: int, n_seeds: int) -> None:
        self.rungs = list_rungs(epochs)
        self.bracket_size = ETA ** len(self.rungs)
        self._left = n_patterns
        self._n_seeds = n_seeds
        self._brackets: list[_Bracket] = []
        self._bracket_of: dict[str, _Bracket] = {}
        self._accuracies: dict[tuple[str, int], dict[int, float | None]] = {}  # (key, rung) -> by seed; None: failed

    def place(self, key: str) -> None:
        """Take the next proposal into a bracket; a pattern that is in one already stays there."""
        if key in self._bracket_of:
            return
        if not self._brackets or self._brackets[-1].n_members == self._brackets[-1].size:
            self._brackets.append(_Bracket(min(self.bracket_size, self._left)))
        bracket = self._brackets[-1]
        bracket.alive.append(key)
        bracket.n_members += 1
        self._bracket_of[key] = bracket
        self._left -= 1

    def pause_after(self, key: str) -> int | None:
        """The epoch at whose end the pattern is measured next; None: the last."""
        stage = self._bracket_of[key].stage
        return self.rungs[stage] if stage < len(self.rungs) else None

    def is_alive(self, key: str) -> bool:
        """Whether the pattern was not dropped."""
        return key in self._bracket_of[key].alive

    def report(self, key: str, seed: int, epoch: int, accuracy: float) -> None:
        """Take a candidate's validation accuracy at a rung."""
        self._accuracies.setdefault((key, epoch), {})[seed] = accuracy
        self._decide(self._bracket_of[key])

    def fail(self, key: str, seed: int) -> None:
        """Take note that a candidate failed: its pattern is judged by its other seeds."""
        bracket = self._bracket_of[key]
        for rung in self.rungs[bracket.stage :]:
            self._accuracies.setdefault((key, rung), {}).setdefault(seed, None)
        self._decide(bracket)

    def close(self) -> None:
        """Take note that no more proposals come."""
        if self._brackets:
            self._brackets[-1].size = self._brackets[-1].n_members
            self._decide(self._brackets[-1])

    def _decide(self, bracket: _Bracket) -> None:
        """Let the better third go on, once all of a bracket's patterns have reached the rung."""
        if bracket.n_members < bracket.size or bracket.stage == len(self.rungs):
            return
        found = {key: self._accuracies.get((key, self.rungs[bracket.stage]), {}) for key in bracket.alive}
        if any(len(by_seed) < self._n_seeds for by_seed in found.values()):
            return
        # sorted is stable: of equal means the earlier proposal goes on.
        ranked = sorted(bracket.alive, key=lambda key: -_mean(found[key]))
        best = {key for key in ranked[: math.ceil(len(ranked) / ETA)] if _mean(found[key]) > -math.inf}
        bracket.alive = [key for key in bracket.alive if key in best]
        bracket.stage += 1


def _mean(by_seed: dict[int, float | None]) -> float:
    """Mean accuracy of the seeds that did not fail; below all others if all did."""
    values = [value for value in by_seed.values() if value is not None]
    return math.fsum(values) / len(values) if values else -math.inf
