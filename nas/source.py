"""From a plan into the ledger and to the executor; what is lost on the way is handed out again."""

from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from nas.candidate import Candidate
from nas.checkpoints import slot_path
from nas.cost import predict_cost
from nas.executors import Job, failed
from nas.ledger import Entry, Ledger
from nas.train import Outcome
from search_spaces.budget import Budget

Listener = Callable[[Candidate | None, Outcome | None, int, int], None]
DRIVER_ENDED = "the run ended while it was training"


@dataclass(frozen=True, slots=True)
class Task:
    """One training, and what the ledger is to say of it.

    Args:
        strategy: who proposed the pattern, or its part in a study.
        budget: that the pattern spends.
        details: attributes of its trial beside the usual ones.
        strata: names of the run's strata, its own first, where there are several.
        label: what the listener is told as the candidate's template, where that alone would mislead.
    """

    candidate: Candidate
    strategy: str
    budget: Budget
    details: Mapping[str, Any] = field(default_factory=dict)
    strata: tuple[str, ...] = ()
    label: str | None = None


class LedgerSource:
    """A source for an executor: tasks in their order, first those that an interrupted run left running.

    A subclass says by `_next_task` what comes next, and by `_pause_after` and `_measured` where a task pauses and
    what follows.

    Args:
        ledger: open.
        listener: called as (candidate, outcome, n_finished, n_asked) after every outcome.
        n_asked: candidates that the run ends with.
        max_attempts: trainings of one candidate that may be lost before it counts as failed.
    """

    def __init__(self, ledger: Ledger, listener: Listener, n_asked: int, max_attempts: int) -> None:
        self._ledger = ledger
        self._listener = listener
        self._max_attempts = max_attempts
        self._unfinished: dict[int, Task] = {}
        self._waiting: dict[int, Outcome] = {}  # at a rung, with what was measured there
        self._lost: dict[int, tuple[str, ...]] = {}
        self._again: deque[int] = deque()
        self.n_asked = n_asked
        self.n_finished = 0

    def _resume(self, entered: Iterable[tuple[Entry, Task]]) -> None:
        """Take over what the ledger holds."""
        left = []
        for entry, task in entered:
            if not entry.running:
                self.n_finished += 1
                self._checkpoint(entry.number).unlink(missing_ok=True)
                continue
            self._unfinished[entry.number] = task
            self._lost[entry.number] = entry.lost
            left.append(entry)
        for entry in left:
            reached = max(entry.rungs, default=0)
            if entry.paused is not None and entry.pause_after is not None and reached >= entry.pause_after:
                self._waiting[entry.number] = entry.paused
            elif entry.returned:  # the run was asked to end, which is no fault of the candidate's
                self._again.append(entry.number)
            else:
                self.lose(entry.number, DRIVER_ENDED)

    def _next_task(self) -> Task | None:
        raise NotImplementedError

    def _pause_after(self, task: Task) -> int | None:
        """The epoch that a task is trained to next; None: its last."""

    def _measured(self, task: Task, outcome: Outcome) -> None:
        """A task has paused, with a measurement, or has ended, with or without one."""

    def ask(self) -> Job | None:
        """See executors.Source."""
        new = None if self._again else self._next_task()
        if new is not None:
            cost = predict_cost(new.candidate)
            number = self._ledger.enter(new.candidate, new.strategy, new.budget, cost, new.details, new.strata)
            self._unfinished[number] = new
            return Job(number, new.candidate, self._pause_after(new))
        if not self._again:
            return None
        number = self._again.popleft()
        task = self._unfinished[number]
        pause_after = self._pause_after(task)
        lost = self._lost.get(number, ())
        self._ledger.restart(number, lost, pause_after)
        return Job(number, task.candidate, pause_after, is_alone=bool(lost))

    def tell(self, number: int, outcome: Outcome) -> None:
        """See executors.Source."""
        task = self._unfinished[number]
        if outcome.paused:
            self._ledger.pause(number, outcome)
            self._waiting[number] = outcome
        else:
            self._ledger.finish(number, outcome)
            self._end(number, outcome)
        self._measured(task, outcome)

    def _go_on(self, number: int) -> None:
        """Let a candidate that waits at a rung be trained further."""
        del self._waiting[number]
        self._again.append(number)

    def _prune(self, number: int) -> None:
        """End a candidate at the rung where it waits."""
        self._ledger.prune(number)
        self._end(number, self._waiting.pop(number))

    def _end(self, number: int, outcome: Outcome) -> None:
        task = self._unfinished.pop(number)
        self._checkpoint(number).unlink(missing_ok=True)
        self.n_finished += 1
        told = task.candidate if task.label is None else replace(task.candidate, template=task.label)
        self._listener(told, outcome, self.n_finished, self.n_asked)

    def _checkpoint(self, number: int) -> Path:
        return slot_path(self._ledger.run, number)

    def lose(self, number: int, reason: str) -> None:
        """See executors.Source: hand the candidate out again, or give it up."""
        lost = (*self._lost.get(number, ()), reason)
        self._lost[number] = lost
        if len(lost) < self._max_attempts:
            self._again.append(number)
        else:
            attempts = f"{len(lost)} attempt{'s' if len(lost) > 1 else ''}"
            self.tell(number, failed(f"{reason}; given up after {attempts}"))

    def give_back(self) -> None:
        """Record that what is in training was returned, not lost: the run is asked to end."""
        for number, task in self._unfinished.items():
            if number not in self._waiting:
                self._ledger.give_back(number, self._lost.get(number, ()), self._pause_after(task))
