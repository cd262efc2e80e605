"""The loop of a search: ask for a pattern, train it, report its outcome."""

import logging
import math
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from nas.model.cost import Cost
from nas.records.database import read_attributes
from nas.records.metrics import Metric, find_objective
from nas.records.shown import describe_seeding
from nas.records.trial import Outcome, Trial
from nas.run.directory import find_task, hold_run, open_ledger, prepare_data, train_all
from nas.run.ledger import Ledger
from nas.run.source import Assignment, LedgerSource, Listener
from nas.search.halving import Halving
from nas.search.stratum import TEMPLATES, Arrival, Stratum, check_patterns, count_trainings, list_budgets
from nas.settings.own_task import find_metrics
from nas.settings.search import SearchConfig
from nas.settings.table import EarlierTable, Matched, keep_table, match_budgets, read_earlier
from nas.workers.trainer import Material, Trainer
from search_spaces.errors import ConflictError
from search_spaces.surrogate.target import find_cost

logger = logging.getLogger(__name__)


class Search(LedgerSource):
    """All candidates of a search: the trainings of each budget in order; budgets take turns.

    Args:
        config: the run's settings, resolved.
        data: what is trained on, from prepare_data.
        ledger, listener: see LedgerSource.
        matched: what the run learns from a table of earlier outcomes; None without one.

    Raises:
        ConflictError: the ledger has a training that the settings do not ask for, or that cannot be resumed.
    """

    def __init__(
        self,
        config: SearchConfig,
        data: Material,
        ledger: Ledger,
        listener: Listener,
        matched: Matched | None = None,
    ) -> None:
        super().__init__(ledger, listener, count_asked(config), config.attempts)
        self._config = config
        self._task = find_task(config, data)
        self._strata = {
            str(budget): Stratum(
                budget,
                config,
                self._task.n_validation,
                ledger.metrics,
                matched.by_budget.get(budget, ()) if matched is not None else (),
            )
            for budget in list_budgets(config)
        }
        self._costs: dict[str, Cost | None] = {}
        self._deadline = math.inf if config.hours is None else time.monotonic() + 3600 * config.hours
        self._is_late = False
        self._load_history()
        self._plan = self._iterate_plan()

    def _load_history(self) -> None:
        entries = self._read_entries()
        self._check_given_up(entries)
        self._entered = {(e.budget, e.pattern.key, e.seed) for e in entries}
        for name, stratum in self._strata.items():
            stratum.load(entry for entry in entries if entry.budget == name)
        foreign = [entry.number for entry in entries if not self._is_asked_for(entry)]
        if foreign:
            raise ConflictError(
                f"the settings do not ask for trial {foreign[0]} of {self._ledger.run}: restore the pattern files and "
                "the version of skipsearch that it was made with, give more --trainings if there are more --seeds now, "
                "or give another --run"
            )
        self._resume(
            (e, self._assign(self._strata[e.budget], Arrival(e.pattern, e.seed, e.strategy, e.template)))
            for e in entries
        )
        self._advance()

    def _is_asked_for(self, entry: Trial) -> bool:
        stratum = self._strata.get(entry.budget)
        return stratum is not None and stratum.asks_for(entry)

    def _check_given_up(self, entries: list[Trial]) -> None:
        """Refuse to train a candidate again once halving has decided without it."""
        for entry in entries:
            is_taken_up = entry.running and entry.attempts.given_up_after > 0
            if self._config.halving and is_taken_up and entry.strategy != TEMPLATES:
                n = entry.attempts.given_up_after
                raise ConflictError(
                    f"trial {entry.number} was given up after {n} attempts, and halving has decided without it, so "
                    f"{self._config.attempts} attempts come too late for it: give --attempts {n}, or another --run"
                )

    def _assign(self, stratum: Stratum, arrival: Arrival) -> Assignment:
        own = str(stratum.budget)
        names = (own, *(name for name in self._strata if name != own)) if len(self._strata) > 1 else ()
        candidate = self._task.candidate(arrival.pattern, arrival.seed, arrival.template)
        return Assignment(candidate, arrival.strategy, stratum.budget, strata=names)

    def _iterate_plan(self) -> Iterator[Assignment | None]:
        """Yield each training that is not in the ledger yet, or None while every budget waits for outcomes."""
        for stratum, arrival in self._iterate_arrivals():
            if arrival is None:
                yield None
                continue
            if (str(stratum.budget), arrival.pattern.key, arrival.seed) not in self._entered:
                yield self._assign(stratum, arrival)
        self._advance()  # halving now decides about a last bracket that is not full

    def _iterate_arrivals(self) -> Iterator[tuple[Stratum, Arrival | None]]:
        turns = deque((stratum, stratum.arrivals()) for stratum in self._strata.values())
        n_waiting = 0
        while turns:
            stratum, arrivals = turns.popleft()
            try:
                arrival = next(arrivals)
            except StopIteration:
                continue
            turns.append((stratum, arrivals))
            n_waiting = n_waiting + 1 if arrival is None else 0
            if arrival is not None or n_waiting >= len(turns):
                yield stratum, arrival

    def _halving_of(self, assignment: Assignment) -> Halving | None:
        return self._strata[str(assignment.budget)].halving_of(assignment.strategy)

    def _next_assignment(self) -> Assignment | None:
        if time.monotonic() > self._deadline:
            self._is_late = self.n_finished < self.n_asked
            return None
        assignment = next(self._plan, None)
        if assignment is not None and self._task.has_equal_cost:
            cost = self._find_cost(assignment)
            expected = self._costs.setdefault(str(assignment.budget), cost)
            assert cost == expected, f"candidates of one stratum cost {cost} and {expected}"
        return assignment

    def _find_cost(self, assignment: Assignment) -> Cost | None:
        return self._task.find_cost(assignment.candidate, assignment.budget)

    def _pause_after(self, assignment: Assignment) -> int | None:
        halving = self._halving_of(assignment)
        return None if halving is None else halving.pause_after(assignment.candidate.pattern.key)

    def _measured(self, assignment: Assignment, outcome: Outcome) -> None:
        halving, key, seed = self._halving_of(assignment), assignment.candidate.pattern.key, assignment.candidate.seed
        if halving is not None and outcome.paused:
            cost = self._strata[str(assignment.budget)].find_cost(outcome.metrics)
            halving.report(key, seed, outcome.epochs, math.inf if cost is None else cost)
        elif halving is not None and not outcome.metrics:
            halving.fail(key, seed)
        self._advance()

    def _advance(self) -> None:
        """Continue or end the candidates that wait at a rung, where halving has decided."""
        for number, outcome in sorted(self._waiting.items()):
            assignment = self._unfinished[number]
            halving = self._halving_of(assignment)
            if halving is not None and not halving.is_alive(assignment.candidate.pattern.key):
                self._prune(number)
            elif self._pause_after(assignment) != outcome.epochs:
                self._go_on(number)

    def say_end(self) -> None:
        """Log why the search ended before all that was asked for, if it did, and record that no more is asked."""
        if self._is_late and self.n_finished < self.n_asked:  # not if what was in training was the last
            logger.warning("the %g hours are over: the same command goes on from here", self._config.hours)
            return
        for name, stratum in self._strata.items():
            if stratum.ended is not None:
                logger.warning("budget %s: the search ended early, because %s", name, stratum.ended)
        if self.n_finished < self.n_asked:
            self._ledger.record(asked=self.n_finished)

    def _end(self, trial: Trial) -> None:
        assignment = self._unfinished[trial.number]
        super()._end(trial)
        assert trial.outcome is not None, "it has ended"
        self._strata[str(assignment.budget)].note(
            assignment.candidate.pattern.key, assignment.candidate.seed, trial.outcome
        )


def count_asked(config: SearchConfig) -> int:
    """Return the number of candidates that a run of these settings trains.

    Raises:
        InputError: see count_trainings.
    """
    return sum(count_trainings(budget, config) for budget in list_budgets(config))


def _match(run: Path, table: EarlierTable, config: SearchConfig, data: Material, objective: Metric) -> Matched:
    """Return what a run learns from its table, as it was described when the run began; say it then."""
    name, n_validation = objective.name, find_task(config, data).n_validation
    matched = match_budgets(
        table,
        config,
        list_budgets(config),
        lambda outcome: find_cost({name: outcome}, name, n_validation, maximize=objective.maximize),
    )
    ledger = run / "study.db"
    known = read_attributes(ledger).get("table") if ledger.exists() else None
    if isinstance(known, dict):  # what lay next to the file, and said its settings, may be gone
        return replace(matched, described={**matched.described, "setting": known.get("setting")})
    logger.info("%s", describe_seeding(matched.described))
    return matched


def run_search(run: Path, config: SearchConfig, listener: Listener) -> None:
    """Start or continue a search in a run directory and train all that its settings ask for.

    Args:
        run: the run directory, made if missing.
        config: settings from settle_config.
        listener: see LedgerSource; also called once at the start with no training.

    Raises:
        InputError: the data or a table cannot be used, or contradict the settings.
        ConflictError: another process or another run uses the directory, or its table was changed.
        Interrupted: a signal came; the same call continues the search.
    """
    data = prepare_data(config, (config.pattern_depth,))
    check_patterns(config)
    n_asked = count_asked(config)
    objective = find_objective(config.objective, find_metrics(config))
    with hold_run(run, config) as check_stop:
        table = read_earlier(run, config, objective.name)
        matched = None if table is None else _match(run, table, config, data, objective)
        ledger = open_ledger(run, config, data, n_asked, **({} if matched is None else {"table": matched.described}))
        search = Search(config, data, ledger, listener, matched)
        if table is not None:
            keep_table(run, table)
        train_all(ledger, search, Trainer(data, config, run.resolve()), check_stop)
        search.say_end()
