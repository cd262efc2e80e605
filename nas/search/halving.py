"""Successive halving: which proposed patterns are trained beyond a rung."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from nas.settings.search import ETA


@dataclass(slots=True)
class _Bracket:
    """Patterns that are compared with each other: the best third of them continues at each rung."""

    size: int
    alive: list[str] = field(default_factory=list)
    n_members: int = 0
    stage: int = 0  # index of the rung that the bracket waits for


class Halving:
    """Synchronous successive halving (arXiv:1502.07943) in brackets of consecutive proposals.

    A bracket decides once all of its patterns are measured, so the order of completion does not matter.

    Args:
        rungs: epochs at whose end patterns are compared, in order.
        n_patterns: number of proposals in the run.
        n_seeds: number of trainings of each pattern.
    """

    def __init__(self, rungs: Sequence[int], n_patterns: int, n_seeds: int) -> None:
        self.rungs = tuple(rungs)
        self.bracket_size = ETA ** len(self.rungs)
        self._left = n_patterns
        self._n_seeds = n_seeds
        self._placed: dict[str, set[int]] = {}  # seeds by key
        self._is_closed = False
        self._brackets: list[_Bracket] = []
        self._bracket_of: dict[str, _Bracket] = {}
        self._costs: dict[tuple[str, int], dict[int, float | None]] = {}  # (key, rung) -> by seed; None: failed

    def place(self, key: str, seed: int) -> None:
        """Put the next proposal into a bracket, unless its pattern is in one already."""
        self._placed.setdefault(key, set()).add(seed)
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
        """Return the epoch after which the pattern is measured next; None: its last."""
        stage = self._bracket_of[key].stage
        return self.rungs[stage] if stage < len(self.rungs) else None

    def is_alive(self, key: str) -> bool:
        """Return whether the pattern was not dropped."""
        return key in self._bracket_of[key].alive

    def report(self, key: str, seed: int, epoch: int, cost: float) -> None:
        """Take what a candidate costs at a rung; lower is better."""
        self._costs.setdefault((key, epoch), {})[seed] = cost
        self._decide(self._bracket_of[key])

    def fail(self, key: str, seed: int) -> None:
        """Take note that a candidate failed: its other seeds decide about its pattern."""
        bracket = self._bracket_of[key]
        for rung in self.rungs[bracket.stage :]:
            self._costs.setdefault((key, rung), {}).setdefault(seed, None)
        self._decide(bracket)

    def close(self) -> None:
        """Take note that there are no more proposals."""
        self._is_closed = True
        if self._brackets:
            self._brackets[-1].size = self._brackets[-1].n_members
            self._decide(self._brackets[-1])

    def _decide(self, bracket: _Bracket) -> None:
        """Keep the best third of a bracket once all of its patterns have reached the rung."""
        if bracket.n_members < bracket.size or bracket.stage == len(self.rungs):
            return
        reached = {key: self._costs.get((key, self.rungs[bracket.stage]), {}) for key in bracket.alive}
        for key, by_seed in reached.items():
            # The last pattern of a run may lack seeds: a strategy may have trained an earlier one more often.
            if len(by_seed) < (len(self._placed[key]) if self._is_closed else self._n_seeds):
                return
        # sorted is stable: of equal means the earlier proposal continues.
        ranked = sorted(bracket.alive, key=lambda key: _mean(reached[key]))
        best = {key for key in ranked[: math.ceil(len(ranked) / ETA)] if _mean(reached[key]) < math.inf}
        bracket.alive = [key for key in bracket.alive if key in best]
        bracket.stage += 1


def _mean(by_seed: dict[int, float | None]) -> float:
    """Return the mean cost of the seeds that did not fail; inf if all failed."""
    values = [value for value in by_seed.values() if value is not None]
    return math.fsum(values) / len(values) if values else math.inf
