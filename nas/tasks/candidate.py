"""A candidate of a task that is not ours to look into: a pattern, what the output reads of it, and a seed."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from nas.model.candidate import Candidate
from nas.model.config import NetworkConfig, TrainingConfig
from search_spaces.pattern import ConnectionPattern
from search_spaces.wiring.blocks import classifier_reads

Transition = Literal["log", "all", "last", "rule", "v1", "v2"]  # of which a task has the first three


@dataclass(frozen=True, slots=True)
class TaskPattern(ConnectionPattern):
    """A connection pattern as a task gets it, with the nodes that the network's output reads.

    Args:
        depth, sources: see ConnectionPattern.
        reads: nodes that the output reads, ascending, in 0..depth.
    """

    reads: tuple[int, ...] = ()

    @classmethod
    def of(cls, pattern: ConnectionPattern, transition: str = "log") -> "TaskPattern":
        """Return a pattern with what the output reads of it by a policy: log, all or last.

        >>> TaskPattern.of(ConnectionPattern(3, ((0,), (1,), (0, 2)))).reads
        (0, 2, 3)
        """
        return cls(pattern.depth, pattern.sources, classifier_reads(transition, pattern))

    def adjacency(self) -> NDArray[np.bool_]:
        """Return a matrix (depth + 1, depth + 1): whether node `row` reads node `column`; row 0 is empty.

        >>> TaskPattern(2, ((0,), (0, 1))).adjacency().astype(int).tolist()
        [[0, 0, 0], [1, 0, 0], [1, 1, 0]]
        """
        matrix = np.zeros((self.depth + 1, self.depth + 1), dtype=bool)
        for source, target in self.connections:
            matrix[target, source] = True
        return matrix


@dataclass(frozen=True, slots=True)
class TaskCandidate(Candidate):
    """One training of a task of the user's own; the run knows which task.

    Of `network` only layers and transition count: the task builds its own.
    """

    @classmethod
    def of(
        cls,
        pattern: ConnectionPattern,
        transition: Transition,
        seed: int,
        template: str | None = None,
        training: TrainingConfig | None = None,
    ) -> "TaskCandidate":
        """Return the training of a pattern whose nodes the output reads by a policy: log, all or last."""
        return cls(pattern, NetworkConfig(layers=pattern.depth, transition=transition), seed, template, training)
