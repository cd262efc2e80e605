"""From a plan into the ledger and to the executor; what is lost on the way is handed out again."""

from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from nas.model.candidate import Candidate
from nas.model.cost import predict_cost
from nas.records.trial import Attempts, Outcome, Trial
from nas.run.ledger import Ledger
from nas.training.checkpoints import read_digest, slot_path
from nas.workers.jobs import Job, failed
from search_spaces.budget import Budget

Listener = Callable[[Candidate | None, Outcome | None, int, int], None]
SUSPECT_AFTER = 2  # drivers that died with a candidate whose checkpoint did not move on: it may be what kills them


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

    A driver's death costs a candidate nothing. One that may be what kills the driver comes after all others, and alone.

    A subclass says by `_next_task` what comes next, and by `_pause_after` and `_measured` where a task pauses and
    what follows.

    Args:
        ledger: open.
        listener: called as (candidate, outcome, n_finished, n_asked) after every outcome.
        n_asked: candidates that the run ends with.
        max_attempts: trainings of one candidate that may be lost, other than by the driver's death, before it counts as
            failed. Who was given up after fewer is taken up again.
    """

    def __init__(self, ledger: Ledger, listener: Listener, n_asked: int, max_attempts: int) -> None:
        self._ledger = ledger
        self._listener = listener
        self._max_attempts = max_attempts
        self._unfinished: dict[int, Task] = {}
        self._waiting: dict[int, Outcome] = {}  # at a rung, with what was measured there
        self._attempts: dict[int, Attempts] = {}
        self._again: deque[int] = deque()
        self._suspects: deque[int] = deque()
        self._suspect: int | None = None  # the one that is handed out: what it breaks is not held against another
        self._given_up: set[int] = set()  # their checkpoints stay
        self.n_asked = n_asked
        self.n_finished = 0

    def _read_entries(self) -> list[Trial]:
        """What the ledger holds; who was given up after fewer attempts than there may be now is running again."""
        entries = []
        for entry in self._ledger.entries():
            if entry.attempts.given_up_after:
                self._given_up.add(entry.number)
                if entry.attempts.given_up_after < self._max_attempts:
                    entry = replace(entry, state="running", returned=True)
            entries.append(entry)
        return entries

    def _resume(self, entered: Iterable[tuple[Trial, Task]]) -> None:
        """Take over what the ledger holds: entries from _read_entries, each with its task."""
        left = []
        for entry, task in entered:
            if not entry.running:
                self.n_finished += 1
                if entry.number not in self._given_up:
                    self._checkpoint(entry.number).unlink(missing_ok=True)
                continue
            self._unfinished[entry.number] = task
            self._attempts[entry.number] = entry.attempts
            left.append(entry)
        for entry in left:
            outcome, pause_after = entry.outcome, entry.pause_after
            if outcome is not None and entry.rungs and pause_after is not None and max(entry.rungs) >= pause_after:
                self._waiting[entry.number] = outcome
            else:
                self._take_up(entry)
        # What is trained alone comes later, so that it does not cut cohorts short.
        self._again = deque(sorted(self._again, key=lambda number: bool(self._attempts[number].lost)))
        self._suspects = deque(sorted(self._suspects, key=lambda number: (self._attempts[number].n_stuck, number)))

    def _take_up(self, entry: Trial) -> None:
        """Put a candidate in its place in the order: it was in training when the run ended."""
        held = entry.attempts
        n_deaths = 0 if entry.returned else 1  # returned: the run was asked to end
        has_moved = read_digest(self._checkpoint(entry.number)) != held.checkpoint
        n_stuck = 0 if has_moved else held.n_stuck + n_deaths
        self._attempts[entry.number] = replace(held, driver_deaths=held.driver_deaths + n_deaths, n_stuck=n_stuck)
        (self._suspects if n_stuck >= SUSPECT_AFTER else self._again).append(entry.number)

    def _next_task(self) -> Task | None:
        raise NotImplementedError

    def _pause_after(self, task: Task) -> int | None:
        """The epoch that a task is trained to next; None: its last."""

    def _measured(self, task: Task, outcome: Outcome) -> None:
        """A task has paused, with a measurement, or has ended, with or without one."""

    def report_start(self) -> None:
        """Tell the listener how many candidates are finished before any is trained."""
        self._listener(None, None, self.n_finished, self.n_asked)

    def ask(self) -> Job | None:
        """See executors.Source."""
        new = None if self._again else self._next_task()
        if new is not None:
            cost = predict_cost(new.candidate)
            number = self._ledger.enter(new.candidate, new.strategy, new.budget, cost, new.details, new.strata)
            self._unfinished[number] = new
            return Job(number, new.candidate, self._pause_after(new))
        if self._again:
            number = self._again.popleft()
        elif self._suspects and self._suspect is None:
            number = self._suspect = self._suspects.popleft()
        else:
            return None
        task = self._unfinished[number]
        pause_after = self._pause_after(task)
        held = self._attempts.get(number, Attempts())
        attempts = replace(held, checkpoint=read_digest(self._checkpoint(number)), given_up_after=0)
        self._attempts[number] = attempts
        if number in self._given_up:
            self._ledger.reopen(number, attempts, pause_after)
            self._given_up.remove(number)
        else:
            self._ledger.restart(number, attempts, pause_after)
        is_alone = bool(attempts.lost) or attempts.n_stuck >= SUSPECT_AFTER
        return Job(number, task.candidate, pause_after, is_alone)

    def tell(self, number: int, outcome: Outcome) -> None:
        """See executors.Source."""
        task = self._unfinished[number]
        self._suspect = None if self._suspect == number else self._suspect
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
        if number not in self._given_up:
            self._checkpoint(number).unlink(missing_ok=True)
        self.n_finished += 1
        told = task.candidate if task.label is None else replace(task.candidate, template=task.label)
        self._listener(told, outcome, self.n_finished, self.n_asked)

    def _checkpoint(self, number: int) -> Path:
        return slot_path(self._ledger.run, number)

    def lose(self, number: int, reason: str) -> None:
        """See executors.Source: hand the candidate out again, or give it up."""
        self._suspect = None if self._suspect == number else self._suspect
        held = self._attempts.get(number, Attempts())
        attempts = replace(held, lost=(*held.lost, reason))
        self._attempts[number] = attempts
        n_lost = len(attempts.lost)
        if n_lost < self._max_attempts:
            self._again.append(number)
            return
        task = self._unfinished[number]
        outcome = failed(f"{reason}; given up after {n_lost} attempt{'s' if n_lost > 1 else ''}")
        self._given_up.add(number)
        given_up = replace(attempts, given_up_after=n_lost)
        self._ledger.give_up(number, outcome, given_up, self._pause_after(task))
        self._end(number, outcome)
        self._measured(task, outcome)

    def put_back(self, number: int) -> None:
        """See executors.Source: hand the candidate out again; it costs it no attempt."""
        self._suspect = None if self._suspect == number else self._suspect
        self._again.append(number)

    def give_back(self) -> None:
        """Record that what is in training was returned, not lost: the run is asked to end."""
        for number, task in self._unfinished.items():
            if number not in self._waiting and number not in self._given_up:
                attempts = self._attempts.get(number, Attempts())
                self._ledger.give_back(number, attempts, self._pause_after(task))
