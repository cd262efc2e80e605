"""From a plan into the ledger and to the executor; what is lost on the way is handed out again."""

from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from nas.config import Candidate
from nas.cost import predict_cost
from nas.executors import failed
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
    """

    candidate: Candidate
    strategy: str
    budget: Budget
    details: Mapping[str, Any] = field(default_factory=dict)
    strata: tuple[str, ...] = ()


class LedgerSource:
    """A source for an executor: tasks in their order, first those that an interrupted run left running.

    A subclass says by `_next_task` what comes next.

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
        self._running: dict[int, Task] = {}
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
                continue
            self._running[entry.number] = task
            self._lost[entry.number] = entry.lost
            left.append(entry)
        for entry in left:
            if entry.returned:  # the run was asked to end, which is no fault of the candidate's
                self._again.append(entry.number)
            else:
                self.lose(entry.number, DRIVER_ENDED)

    def _next_task(self) -> Task | None:
        raise NotImplementedError

    def ask(self) -> tuple[int, Candidate] | None:
        """See executors.Source."""
        if self._again:
            number = self._again.popleft()
            self._ledger.restart(number, self._lost.get(number, ()))
            return number, self._running[number].candidate
        task = self._next_task()
        if task is None:
            return None
        cost = predict_cost(task.candidate)
        number = self._ledger.enter(task.candidate, task.strategy, task.budget, cost, task.details, task.strata)
        self._running[number] = task
        return number, task.candidate

    def tell(self, number: int, outcome: Outcome) -> None:
        """See executors.Source."""
        self._ledger.finish(number, outcome)
        task = self._running.pop(number)
        self.n_finished += 1
        self._listener(task.candidate, outcome, self.n_finished, self.n_asked)

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
        """Record that what is running was returned, not lost: the run is asked to end."""
        for number in self._running:
            self._ledger.give_back(number, self._lost.get(number, ()))
