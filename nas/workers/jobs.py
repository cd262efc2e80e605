"""Jobs and where an executor gets them."""

from collections.abc import Hashable
from dataclasses import dataclass
from typing import Protocol

from nas.model.candidate import Candidate
from nas.model.cohort import describe_structure
from nas.training.train import Outcome
from search_spaces.errors import MachineError


@dataclass(frozen=True, slots=True)
class Job:
    """One training as an executor is handed it.

    Args:
        number: the candidate's in the ledger.
        candidate: what to train.
        pause_after: the epoch to stop at and be measured, to go on later or never; None: the last.
        is_alone: whether it is in no cohort: an earlier training was lost, or drivers died with it, which may be this
            candidate's fault.
    """

    number: int
    candidate: Candidate
    pause_after: int | None = None
    is_alone: bool = False


class Source(Protocol):
    """Where an executor gets jobs and brings outcomes."""

    def ask(self) -> Job | None:
        """The next job, or None when there is none to hand out, for now or for good."""

    def tell(self, number: int, outcome: Outcome) -> None:
        """The outcome of the candidate of that number."""

    def lose(self, number: int, reason: str) -> None:
        """The candidate's training ended without an outcome, by no fault that it tells of: it may be asked again."""

    def put_back(self, number: int) -> None:
        """The candidate's training ended without an outcome, and not by its fault: it is asked again."""

    def give_back(self) -> None:
        """The executor ends at the user's wish, with candidates that have no outcome yet."""


class Cohorts:
    """A source's jobs, put together to cohorts: those of equal structure, training and next pause.

    Args:
        source: gives the jobs.
        size: of a cohort at most.
    """

    def __init__(self, source: Source, size: int) -> None:
        self._source = source
        self._size = size
        self._pools: dict[Hashable, list[Job]] = {}

    def ask(self) -> list[Job]:
        """The next cohort, full if the source has as many that fit among twice as many; none: as Source.ask."""
        while not any(len(pool) >= self._size for pool in self._pools.values()):
            if sum(map(len, self._pools.values())) >= 2 * self._size:
                break  # of many strata in turn: what is handed out and not in training must stay little
            job = self._source.ask()
            if job is None:
                break
            candidate = job.candidate
            kind = (describe_structure(candidate), candidate.training, job.pause_after)
            self._pools.setdefault(job.number if job.is_alone else kind, []).append(job)
        if not self._pools:
            return []
        return self._pools.pop(max(self._pools, key=lambda kind: len(self._pools[kind])))


class LostError(Exception):
    """A training ended without an outcome and may be tried again; its text says why."""


class LostDeviceError(MachineError):
    """CUDA takes no call of this process any more; another process may have more luck."""


def failed(reason: str) -> Outcome:
    """The outcome of a training that gave no value."""
    return Outcome(None, None, 0, 0.0, (), reason)
