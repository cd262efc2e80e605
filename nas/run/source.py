"""Hands trainings from a plan to the executor by way of the ledger, and lost ones out again."""

from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from nas.model.candidate import Candidate
from nas.model.cost import Cost, predict_cost
from nas.records.trial import Attempts, Outcome, Trial
from nas.run.ledger import Ledger
from nas.training.checkpoints import read_digest, slot_path
from nas.workers.jobs import Job, failed
from search_spaces.budget import Budget

# Called with a training that has ended (None: before the first), the number of those that have, and of all.
Listener = Callable[[Trial | None, int, int], None]
SUSPECT_AFTER = 2  # deaths of drivers while a candidate's checkpoint did not change: the candidate may be the cause


@dataclass(frozen=True, slots=True)
class Assignment:
    """One training, and what the ledger records of it.

    Args:
        strategy: who proposed the pattern, or its part in a study.
        budget: the budget that the pattern spends.
        details: further facts of its trial.
        strata: names of the run's strata, its own first, where there are several.
        label: name for the listener in place of the template's, where that would mislead.
    """

    candidate: Candidate
    strategy: str
    budget: Budget
    details: Mapping[str, Any] = field(default_factory=dict)
    strata: tuple[str, ...] = ()
    label: str | None = None


class LedgerSource:
    """A source for an executor: assignments in their order, first those that an interrupted run left running.

    A driver's death costs a candidate no attempt. A candidate that may have caused it comes after
    all others, and is trained with no other at the same time.

    A subclass says in `_next_assignment` what comes next, in `_find_cost` what it costs, and in `_pause_after` and
    `_measured` where it pauses and what follows.

    Args:
        ledger: the run's ledger, open.
        listener: function called after every outcome.
        n_asked: number of candidates that the run ends with.
        max_attempts: a candidate fails when this many of its trainings were lost; the driver's deaths do not count. A
            candidate that was given up after fewer is trained again.
    """

    def __init__(self, ledger: Ledger, listener: Listener, n_asked: int, max_attempts: int) -> None:
        self._ledger = ledger
        self._listener = listener
        self._max_attempts = max_attempts
        self._unfinished: dict[int, Assignment] = {}
        self._waiting: dict[int, Outcome] = {}  # candidates that wait at a rung, with what was measured there
        self._attempts: dict[int, Attempts] = {}
        self._again: deque[int] = deque()
        self._suspects: deque[int] = deque()
        self._suspect: int | None = None  # now in training, with no other, so that no other is blamed
        self._given_up: set[int] = set()  # whose checkpoints stay
        self.n_asked = n_asked
        self.n_finished = 0

    def _read_entries(self) -> list[Trial]:
        """Return the ledger's candidates; one given up after fewer attempts than are allowed now counts as running."""
        entries = []
        for entry in self._ledger.entries():
            if entry.attempts.given_up_after:
                self._given_up.add(entry.number)
                if entry.attempts.given_up_after < self._max_attempts:
                    entry = replace(entry, state="running", returned=True)
            entries.append(entry)
        return entries

    def _resume(self, entered: Iterable[tuple[Trial, Assignment]]) -> None:
        """Take over candidates from _read_entries, each with its assignment."""
        left = []
        for entry, assignment in entered:
            if not entry.running:
                self.n_finished += 1
                if entry.number not in self._given_up:
                    self._checkpoint(entry.number).unlink(missing_ok=True)
                continue
            self._unfinished[entry.number] = assignment
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
        """Put a candidate that was in training when the run ended in its place in the order."""
        attempts = entry.attempts
        n_deaths = 0 if entry.returned else 1  # returned: the run was asked to end
        has_moved = read_digest(self._checkpoint(entry.number)) != attempts.checkpoint
        n_stuck = 0 if has_moved else attempts.n_stuck + n_deaths
        self._attempts[entry.number] = replace(
            attempts, driver_deaths=attempts.driver_deaths + n_deaths, n_stuck=n_stuck
        )
        (self._suspects if n_stuck >= SUSPECT_AFTER else self._again).append(entry.number)

    def _next_assignment(self) -> Assignment | None:
        raise NotImplementedError

    def _find_cost(self, assignment: Assignment) -> Cost | None:
        """Return the cost of an assignment's network; None where it is not known."""
        return predict_cost(assignment.candidate)

    def _pause_after(self, assignment: Assignment) -> int | None:
        """Return the epoch that an assignment is trained to next; None: its last."""

    def _measured(self, assignment: Assignment, outcome: Outcome) -> None:
        """Take note that an assignment has paused, with a measurement, or has ended, with or without one."""

    def report_start(self) -> None:
        """Tell the listener how many candidates are finished before any is trained."""
        self._listener(None, self.n_finished, self.n_asked)

    def ask(self) -> Job | None:
        new = None if self._again else self._next_assignment()
        if new is not None:
            cost = self._find_cost(new)
            number = self._ledger.enter(new.candidate, new.strategy, new.budget, cost, new.details, new.strata)
            self._unfinished[number] = new
            return Job(number, new.candidate, self._pause_after(new))
        if self._again:
            number = self._again.popleft()
        elif self._suspects and self._suspect is None:
            number = self._suspect = self._suspects.popleft()
        else:
            return None
        assignment = self._unfinished[number]
        pause_after = self._pause_after(assignment)
        attempts = self._attempts.get(number, Attempts())
        attempts = replace(attempts, checkpoint=read_digest(self._checkpoint(number)), given_up_after=0)
        self._attempts[number] = attempts
        if number in self._given_up:
            self._ledger.reopen(number, attempts, pause_after)
            self._given_up.remove(number)
        else:
            self._ledger.restart(number, attempts, pause_after)
        is_alone = bool(attempts.lost) or attempts.n_stuck >= SUSPECT_AFTER
        return Job(number, assignment.candidate, pause_after, is_alone)

    def tell(self, number: int, outcome: Outcome) -> None:
        assignment = self._unfinished[number]
        self._suspect = None if self._suspect == number else self._suspect
        outcome = self._ledger.settle(outcome)
        if outcome.paused:
            self._ledger.pause(number, outcome)
            self._waiting[number] = outcome
        else:
            self._end(self._ledger.finish(number, outcome))
        self._measured(assignment, outcome)

    def _go_on(self, number: int) -> None:
        """Let a candidate that waits at a rung be trained further."""
        del self._waiting[number]
        self._again.append(number)

    def _prune(self, number: int) -> None:
        """End a candidate at the rung where it waits."""
        trial = self._ledger.prune(number)
        del self._waiting[number]
        self._end(trial)

    def _end(self, trial: Trial) -> None:
        assignment = self._unfinished.pop(trial.number)
        if trial.number not in self._given_up:
            self._checkpoint(trial.number).unlink(missing_ok=True)
        self.n_finished += 1
        labelled = trial if assignment.label is None else replace(trial, template=assignment.label)
        self._listener(labelled, self.n_finished, self.n_asked)

    def _checkpoint(self, number: int) -> Path:
        return slot_path(self._ledger.run, number)

    def lose(self, number: int, reason: str) -> None:
        """Hand the candidate out again, or give it up."""
        self._suspect = None if self._suspect == number else self._suspect
        attempts = self._attempts.get(number, Attempts())
        attempts = replace(attempts, lost=(*attempts.lost, reason))
        self._attempts[number] = attempts
        n_lost = len(attempts.lost)
        if n_lost < self._max_attempts:
            self._again.append(number)
            return
        assignment = self._unfinished[number]
        outcome = failed(f"{reason}; given up after {n_lost} attempt{'s' if n_lost > 1 else ''}")
        self._given_up.add(number)
        given_up = replace(attempts, given_up_after=n_lost)
        self._end(self._ledger.give_up(number, outcome, given_up, self._pause_after(assignment)))
        self._measured(assignment, outcome)

    def put_back(self, number: int) -> None:
        """Hand the candidate out again, at the cost of no attempt."""
        self._suspect = None if self._suspect == number else self._suspect
        self._again.append(number)

    def give_back(self) -> None:
        """Record that what is in training was returned, not lost, because the run is asked to end."""
        for number, assignment in self._unfinished.items():
            if number not in self._waiting and number not in self._given_up:
                attempts = self._attempts.get(number, Attempts())
                self._ledger.give_back(number, attempts, self._pause_after(assignment))
