"""The jobs of an executor and the source that it gets them from."""

from collections.abc import Hashable
from dataclasses import dataclass
from typing import Protocol

from nas.model.candidate import Candidate
from nas.model.cohort import describe_structure
from nas.records.trial import Outcome
from nas.tasks.candidate import TaskCandidate
from search_spaces.errors import MachineError


@dataclass(frozen=True, slots=True)
class Job:
    """One training for an executor.

    Args:
        number: the candidate's number in the ledger.
        candidate: the network to train.
        pause_after: epoch after which it is measured and may end; None: it trains to its last.
        is_alone: whether it joins no cohort, because it may have killed an earlier worker or driver.
    """

    number: int
    candidate: Candidate
    pause_after: int | None = None
    is_alone: bool = False


class Source(Protocol):
    """Gives jobs to an executor and takes the outcomes."""

    def ask(self) -> Job | None:
        """Return the next job, or None if there is none, for now or for good."""

    def tell(self, number: int, outcome: Outcome) -> None:
        """Take a candidate's outcome."""

    def lose(self, number: int, reason: str) -> None:
        """Take note that a training ended without an outcome, maybe through its own fault: it may be tried again."""

    def put_back(self, number: int) -> None:
        """Take note that a training ended without an outcome through no fault of its own: it is tried again."""

    def give_back(self) -> None:
        """Take note that the user ended the run while candidates had no outcome yet."""


class Cohorts:
    """Groups a source's jobs into cohorts of equal structure, training and next pause.

    Args:
        size: largest number of jobs in a cohort.
    """

    def __init__(self, source: Source, size: int) -> None:
        self._source = source
        self._size = size
        self._pools: dict[Hashable, list[Job]] = {}

    def ask(self) -> list[Job]:
        """Return the next cohort, full if enough of 2 x size jobs fit together; empty if there is none for now."""
        while not any(len(pool) >= self._size for pool in self._pools.values()):
            if sum(map(len, self._pools.values())) >= 2 * self._size:
                break  # jobs of many strata come in turn, and few may wait here untrained
            job = self._source.ask()
            if job is None:
                break
            candidate = job.candidate
            kind: Hashable = job.number
            if not (job.is_alone or isinstance(candidate, TaskCandidate) or candidate.network.trains_alone):
                kind = (describe_structure(candidate), candidate.training, job.pause_after)
            self._pools.setdefault(kind, []).append(job)
        if not self._pools:
            return []
        return self._pools.pop(max(self._pools, key=lambda kind: len(self._pools[kind])))


class LostError(Exception):
    """A training ended without an outcome, for the reason in the text, and may be tried again."""


class LostDeviceError(MachineError):
    """CUDA refuses all further calls of this process; another process may still train."""


def failed(reason: str) -> Outcome:
    """Return the outcome of a training that gave no value."""
    return Outcome({}, 0, 0.0, (), reason)


def report(source: Source, number: int, result: Outcome | LostError) -> None:
    """Bring a candidate's outcome to its source, or the reason why it has none."""
    if isinstance(result, LostError):
        source.lose(number, str(result))
    else:
        source.tell(number, result)
