"""The Optuna study in the run directory: the only writer of it."""

import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution
from optuna.storages import RDBStorage
from optuna.trial import TrialState, create_trial

from nas.model.candidate import Candidate
from nas.model.cost import Cost, predict_nn_mass
from nas.records.database import (
    STUDY_NAME,
    TESTED,
    check_attributes,
    hash_attributes,
    read_attributes,
    reading,
    storage_url,
)
from nas.records.metrics import IMAGE_METRICS, Metric, Metrics, check_metrics, find_problem, read_metrics, write_metrics
from nas.records.trial import HASH, OLDER_SCHEMAS, SCHEMA, Attempts, Outcome, Trial, check_trials, show_records
from nas.run.lock import lock_run
from nas.run.storage import commit_once, open_study, revive, using, write_shown
from nas.tasks.candidate import TaskCandidate
from search_spaces.budget import Budget
from search_spaces.distance import describe
from search_spaces.errors import ConflictError
from search_spaces.measures.registry import ALWAYS_SHOWN, measure


class Ledger:
    """All candidates of a run, one Optuna trial each; every change is on the disk when the call returns.

    Args:
        path: the SQLite file in the run directory, made if missing.
        attributes: attributes of the study, which `accept` writes. Existing ones must be equal, but for those in
            `renewed`.
        renewed: names of attributes that may change from one opening to the next.
        deepest: the largest number of layers that the run has; None: each candidate's own.
        metrics: metrics of the run's task, the primary one first; an existing run must have the same.
        value_name: what the primary metric is called in Optuna; None: by its own name.
        describe: function that gives further facts of each candidate that is entered.

    Raises:
        InputError: a metric has the name of another column of every run's table.
        ConflictError: the file is damaged, not a ledger of this schema, or holds another study.
        MachineError: the file cannot be read or written; every method may raise it.
    """

    def __init__(
        self,
        path: Path,
        attributes: Mapping[str, Any],
        renewed: frozenset[str],
        deepest: int | None = None,
        metrics: Metrics = IMAGE_METRICS,
        value_name: str | None = None,
        describe: Callable[[Candidate], Mapping[str, Any]] = lambda _: {},
    ) -> None:
        self.run = path.parent
        self._path = path
        self._deepest = deepest
        self._describe = describe
        optuna.logging.set_verbosity(optuna.logging.ERROR)  # what is wrong is raised
        check_metrics(metrics)
        self.metrics = metrics
        primary = Metric(value_name or metrics[0].name, metrics[0].maximize)
        self._storage, self._study = open_study(path, primary)
        with using(path), reading(path):
            existing = self._study.user_attrs
            check_attributes(existing, path)
            if existing.get("schema") in OLDER_SCHEMAS:
                renewed |= {"schema"}
            self._accepted = {"schema": SCHEMA, "metrics": write_metrics(metrics), **attributes}
            _compare_attributes(existing, self._accepted, renewed)
            _compare_metrics(existing, metrics)
            self._study_id = self._storage.get_study_id_from_name(STUDY_NAME)
            self._n_entered = len(self._study.get_trials(deepcopy=False))
        self._trials: dict[int, Trial] = {}  # those that were written to and have not ended, by number
        self._trial_ids: dict[int, int] = {}  # of Optuna's storage, by a trial's number, as far as asked for

    def accept(self) -> None:
        """Write the study's attributes; call it after every check has passed."""
        existing = self._study.user_attrs
        names = {*existing.get(HASH, {}), *self._accepted}
        attributes = {**existing, **self._accepted}
        attributes[HASH] = hash_attributes({name: attributes[name] for name in names})
        with using(self._path), self._one_commit():
            for name in (*self._accepted, HASH):
                if existing.get(name) != attributes[name]:
                    self._study.set_user_attr(name, attributes[name])

    def record(self, **attributes: Any) -> None:
        """Write attributes of the study that are known at the end of a run only."""
        self._accepted |= attributes
        self.accept()

    def _one_commit(self) -> AbstractContextManager[None]:
        """Put all that the block writes on the disk when it ends, or nothing of it."""
        return commit_once(self._storage)

    def entries(self) -> list[Trial]:
        """Return every candidate entered so far, in order of entry."""
        with using(self._path), reading(self._path):
            trials = self._study.get_trials(deepcopy=False)
            check_trials(trials, self._path)
            return [Trial.from_optuna(trial, self.metrics) for trial in trials]

    def enter(
        self,
        candidate: Candidate,
        strategy: str,
        budget: Budget,
        cost: Cost | None,
        details: Mapping[str, Any] = MappingProxyType({}),
        strata: Sequence[str] = (),
    ) -> int:
        """Record that a candidate is being trained, and return its number.

        The trial's parameters are the pattern's achieved descriptors, whoever proposed it.

        Args:
            strategy: who proposed it, or its part in a study.
            cost: cost of its network; None: it is not known, and recorded as None.
            details: further facts of the trial.
            strata: names of the run's strata, the candidate's own first, where there are several: one more parameter.
        """
        pattern = candidate.pattern
        row = describe(pattern)
        reach = FloatDistribution(1, max(self._deepest or pattern.depth, 1 + 1e-9))  # Optuna wants room between
        descriptors: dict[str, Any] = {"mean_bd": row["mean_bd"], "span": row["span"]}
        distributions: dict[str, BaseDistribution] = dict.fromkeys(descriptors, reach)
        if strata:
            descriptors["stratum"], distributions["stratum"] = strata[0], CategoricalDistribution(sorted(strata))
        costs: dict[str, Any] = {"params": cost and cost.params, "flops": cost and cost.flops}
        if not isinstance(candidate, TaskCandidate):
            costs["nn_mass"] = predict_nn_mass(candidate)
        walked = measure(pattern, ALWAYS_SHOWN, candidate.reads)
        own = {"key": pattern.key, "max_bd": row["max_bd"], **walked, **costs, **self._describe(candidate)}
        trial = Trial(
            number=self._n_entered,  # nobody else writes: to ask Optuna would read back what was just written
            pattern=pattern,
            template=candidate.template,
            strategy=strategy,
            seed=candidate.seed,
            budget=str(budget),
            facts={**own, **details},
            descriptors=descriptors,
            declared=self.metrics,
        )
        records = trial.to_attributes()
        new = create_trial(
            state=TrialState.RUNNING,
            params=descriptors,
            distributions=distributions,
            user_attrs=records,  # one: Optuna looks a trial up for each, half of a search's own time
        )
        with using(self._path), reading(self._path), self._one_commit():
            trial_id = self._storage.create_new_trial(self._study_id, new)
            self._show(trial_id, records)
        self._trial_ids[trial.number] = trial_id
        self._trials[trial.number] = trial
        self._n_entered += 1
        return trial.number

    def restart(self, number: int, attempts: Attempts, pause_after: int | None) -> None:
        """Record that a candidate is being trained again or further, and what became of earlier trainings."""
        with using(self._path):
            self._write(self._with_attempts(number, attempts, pause_after), "attempts")

    def reopen(self, number: int, attempts: Attempts, pause_after: int | None) -> None:
        """Record that a candidate that was given up is being trained again; the outcome that said so is removed."""
        with using(self._path), self._one_commit():
            revive(self._storage, self._trial_id(number))
            self._write(self._with_attempts(number, attempts, pause_after), "attempts")

    def give_back(self, number: int, attempts: Attempts, pause_after: int | None) -> None:
        """Record that a candidate's training was given back: the run was asked to end."""
        with using(self._path):
            trial = self._with_attempts(number, attempts, pause_after)
            self._write(replace(trial, returned=True), "attempts")

    def give_up(self, number: int, outcome: Outcome, attempts: Attempts, pause_after: int | None) -> Trial:
        """Record a candidate as failed because its trainings were lost too often, and return it as it ended."""
        with using(self._path), self._one_commit():
            trial = self._with_attempts(number, attempts, pause_after)
            self._write(trial, "attempts")
            return self._end(trial, outcome)

    def finish(self, number: int, outcome: Outcome) -> Trial:
        """Record an outcome, COMPLETE with its primary metric or FAIL with the reason, and return how it ended."""
        with using(self._path), self._one_commit():
            return self._end(self._trial(number), outcome)

    def settle(self, outcome: Outcome) -> Outcome:
        """Return a training's outcome as it counts: failed where a metric is missing or not finite."""
        reason = outcome.error or find_problem(outcome.metrics, self.metrics)
        if reason is not None:
            return replace(outcome, metrics={}, error=reason, paused=False)
        return replace(outcome, metrics={name: float(value) for name, value in outcome.metrics.items()})

    def pause(self, number: int, outcome: Outcome) -> None:
        """Record a candidate's measurement at a rung; it stays RUNNING."""
        outcome = self.settle(outcome)
        assert outcome.paused, "a training that failed does not pause"
        primary, epoch = self.metrics[0].name, outcome.epochs
        value = outcome.metrics[primary]
        others = {name: each for name, each in outcome.metrics.items() if name != primary}
        with using(self._path):
            trial = self._trial(number)
            rungs, rung_metrics = {**trial.rungs, epoch: value}, {**trial.rung_metrics, epoch: others}
            trial = replace(trial, outcome=outcome, rungs=rungs, rung_metrics=rung_metrics)
            with self._one_commit():
                self._write(trial, "outcome")
        self._trials[number] = trial

    def prune(self, number: int) -> Trial:
        """Record that a candidate goes no further than the rung where it paused, PRUNED, and return how it ended."""
        with using(self._path):
            self._study.tell(number, state=TrialState.PRUNED)
            return replace(self._trial(number), state="pruned")

    def _end(self, trial: Trial, outcome: Outcome) -> Trial:
        # Optuna takes an infinite value as COMPLETE, and it would win: settled outcomes have none.
        outcome = self.settle(outcome)
        value = outcome.metrics.get(self.metrics[0].name)
        curve = {} if value is None else _read_curve(outcome, self.metrics[0].name)
        state: Any = "failed" if value is None else "complete"
        trial = replace(trial, outcome=outcome, state=state, rungs={**curve, **trial.rungs})
        trial_id = self._write(trial, "outcome")
        # As study.tell would, which reads the trial before and after, and takes as long as all else here.
        if value is None:
            self._storage.set_trial_state_values(trial_id, TrialState.FAIL)
        else:
            self._storage.set_trial_state_values(trial_id, TrialState.COMPLETE, [value])
        return trial

    def _write(self, trial: Trial, attribute: str) -> int:
        """Write one record of a trial, and return Optuna's own number of it."""
        trial_id, name, records = self._trial_id(trial.number), trial.name_record(attribute), trial.to_attributes()
        self._storage.set_trial_user_attr(trial_id, name, records[name])
        if attribute == "outcome":
            self._show(trial_id, records, trial.rungs)
        return trial_id

    def _show(
        self, trial_id: int, records: Mapping[str, Any], rungs: Mapping[int, float] = MappingProxyType({})
    ) -> None:
        """Write what people see of a trial with Optuna's own tools, and its primary metric by epoch."""
        write_shown(self._storage, trial_id, show_records(records), rungs)

    def _trial_id(self, number: int) -> int:
        if number not in self._trial_ids:
            trial_id = self._storage.get_trial_id_from_study_id_trial_number(self._study_id, number)
            self._trial_ids[number] = trial_id
        return self._trial_ids[number]

    def _trial(self, number: int) -> Trial:
        if number not in self._trials:
            self._trials[number] = Trial.from_optuna(self._storage.get_trial(self._trial_id(number)), self.metrics)
        return self._trials[number]

    def _with_attempts(self, number: int, attempts: Attempts, pause_after: int | None) -> Trial:
        return replace(self._trial(number), attempts=attempts, pause_after=pause_after, returned=False)


def _read_curve(outcome: Outcome, primary: str) -> dict[int, float]:
    """Return a training's primary metric by epoch, finite ones; a single one says no more than the trial's value."""
    points = {int(row["epoch"]): float(row[primary]) for row in outcome.curve if row.get(primary) is not None}
    points = {epoch: value for epoch, value in points.items() if math.isfinite(value)}
    return points if len(points) > 1 else {}


def _compare_attributes(existing: Mapping[str, Any], asked: Mapping[str, Any], renewed: frozenset[str]) -> None:
    """Refuse attributes that contradict those of the study."""
    for name, value in asked.items():
        if name in existing and name not in renewed and existing[name] != value:
            raise ConflictError(
                f"this run was made with {name} {existing[name]!r}, and now it is {value!r}: give another --run"
            )


def _compare_metrics(existing: Mapping[str, Any], metrics: Metrics) -> None:
    """Refuse metrics that are not those of an older study, which does not name them."""
    if "schema" in existing and (own := read_metrics(existing.get("metrics"))) != metrics:
        raise ConflictError(
            f"this run was made with the metrics {_list(own)}, and now they are {_list(metrics)}: give another --run"
        )


def _list(metrics: Metrics) -> str:
    return ", ".join(metric.name for metric in metrics)


def record_test(run: Path, looked: Mapping[str, Any]) -> None:
    """Record on a run's study, for good, that its test images were looked at, by what and when.

    Raises:
        ConflictError: another driver holds the run, or its ledger is damaged.
        MachineError: the file cannot be written.
    """
    path = run / "study.db"
    with lock_run(run), using(path):
        existing = read_attributes(path)
        if TESTED in existing:
            return
        storage = RDBStorage(storage_url(path))
        study = optuna.load_study(study_name=STUDY_NAME, storage=storage)
        with commit_once(storage):
            study.set_user_attr(TESTED, dict(looked))
            if HASH in existing:
                study.set_user_attr(HASH, {**existing[HASH], **hash_attributes({TESTED: dict(looked)})})


def annotate(run: Path, text: str) -> None:
    """Put Markdown on a run's study as its note in optuna-dashboard, where that is installed.

    Raises:
        ConflictError: another driver holds the run.
    """
    try:
        from optuna_dashboard import save_note
    except ModuleNotFoundError:
        return
    with lock_run(run):
        save_note(optuna.load_study(study_name=STUDY_NAME, storage=storage_url(run / "study.db")), text)
