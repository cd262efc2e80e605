"""The Optuna study in the run directory: the only writer of it."""

import contextlib
import math
import re
import sqlite3
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, replace
from os import fsync
from pathlib import Path
from types import MappingProxyType
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution
from optuna.storages import RDBStorage
from optuna.trial import FrozenTrial, TrialState, create_trial
from sqlalchemy import text as sql
from sqlalchemy.exc import SQLAlchemyError

from nas.model.candidate import Candidate
from nas.model.cost import Cost, predict_nn_mass
from nas.records.database import (
    STUDY_NAME,
    check_attributes,
    check_database,
    hash_attributes,
    read_attributes,
    reading,
    storage_url,
)
from nas.records.safe_files import name_temporary, naming, sweep_temporaries
from nas.records.trial import HASH, check_numbers, check_trial, covered_by_outcome, seal
from nas.run.lock import lock_run
from nas.training.train import Outcome
from search_spaces.budget import Budget
from search_spaces.distance import describe
from search_spaces.errors import ConflictError, MachineError
from search_spaces.pattern import ConnectionPattern

METRIC = "validation_accuracy"
TESTED = "test_looked_at"  # attribute of a run whose test images were looked at
# Of the study's and the trials' attributes. 2 has no hashes: a version that writes it would break those of 3, so it
# must refuse them. 1 has what a candidate is in many attributes of its trial.
SCHEMA = 3
OLDER_SCHEMAS = (1, 2)  # read, and gone on with
DRIVER_ENDED = "the run ended while it was training"  # a reason in older runs, where a driver's death cost an attempt
_GIVEN_UP = re.compile(r"(.*); given up after (\d+) attempts?", re.DOTALL)  # what an outcome of ours ends with then


@dataclass(frozen=True, slots=True)
class Attempts:
    """What became of a candidate's trainings that gave no outcome.

    Args:
        lost: why they were lost by no fault of the driver's, as by a worker's death, one reason each.
        driver_deaths: how often the driver died while it was in training.
        n_stuck: how many drivers died since its checkpoint last moved on.
        checkpoint: hash of its checkpoint when it was last handed out; None: there was none.
        given_up_after: number of attempts after which it was given up; 0: it was not.
    """

    lost: tuple[str, ...] = ()
    driver_deaths: int = 0
    n_stuck: int = 0
    checkpoint: str | None = None
    given_up_after: int = 0


@dataclass(frozen=True, slots=True)
class Entry:
    """One candidate as the ledger holds it.

    Args:
        number: the trial's number in the study.
        running: whether it still lacks an outcome.
        pattern, template, strategy, seed, budget: what was entered.
        regime: the name of its training regime in a study, or None.
        attempts: its trainings that gave no outcome.
        returned: whether the last one was given back by a run that was asked to end.
        pause_after: the epoch that it was last handed out to be trained to; None: the last; 0: handed out only once.
        paused: its measurement at the last rung that it reached, or None.
        rungs: validation accuracy by epoch, where it paused.
        validation_accuracy: the trial's value, or None.
        strengths: of connections, as in its outcome; empty where there are none.
    """

    number: int
    running: bool
    pattern: ConnectionPattern
    template: str | None
    strategy: str
    seed: int
    budget: str
    regime: str | None
    attempts: Attempts
    returned: bool
    pause_after: int | None
    paused: Outcome | None
    rungs: Mapping[int, float]
    validation_accuracy: float | None
    strengths: tuple[tuple[float, ...], ...] = ()


class Ledger:
    """All candidates of a run, one Optuna trial each; every change is on the disk when the call returns.

    Args:
        path: of the SQLite file in the run directory, made if missing.
        attributes: of the study, which `accept` writes. Those that it has must be equal, but for those in `renewed`.
        renewed: names of attributes that may change from one opening to the next.
        deepest: the largest number of layers that the run has; None: each candidate's own.
        metric: what a trial's value is called.

    Raises:
        ConflictError: the file is damaged, not a ledger of this schema, or holds another study.
        MachineError: the file cannot be read or written; every method may raise it.
    """

    def __init__(
        self,
        path: Path,
        attributes: Mapping[str, Any],
        renewed: frozenset[str],
        deepest: int | None = None,
        metric: str = METRIC,
    ) -> None:
        self.run = path.parent
        self._path = path
        self._deepest = deepest
        optuna.logging.set_verbosity(optuna.logging.ERROR)  # what is wrong is raised
        if path.exists() and path.stat().st_size:
            check_database(path)
        with _using(path), reading(path):
            if not path.exists() or not path.stat().st_size:
                _create_database(path, metric)
            try:
                self._storage = RDBStorage(storage_url(path))
                self._study = optuna.load_study(study_name=STUDY_NAME, storage=self._storage)
                self._study_id = self._storage.get_study_id_from_name(STUDY_NAME)
            except (KeyError, RuntimeError) as error:
                raise ConflictError(
                    f"{path} holds no study of a run ({error}): restore it, or give another --run"
                ) from None
            held = self._study.user_attrs
            check_attributes(held, path)
            if held.get("schema") in OLDER_SCHEMAS:
                renewed |= {"schema"}
            self._accepted = {"schema": SCHEMA, **attributes}
            _compare_attributes(held, self._accepted, renewed)
            self._n_entered = len(self._study.get_trials(deepcopy=False))
            self._trial_ids: dict[int, int] = {}  # of Optuna's storage, by a trial's number, as far as asked for
            self._covered: dict[int, _Covered] = {}  # what outcomes are sealed with, by number, as far as asked for

    def accept(self) -> None:
        """Write the study's attributes: to be called once nothing can refuse what this opening asks for any more."""
        held = self._study.user_attrs
        names = {*held.get(HASH, {}), *self._accepted}
        attributes = {**held, **self._accepted}
        attributes[HASH] = hash_attributes({name: attributes[name] for name in names})
        with _using(self._path), self._one_commit():
            for name in (*self._accepted, HASH):
                if held.get(name) != attributes[name]:
                    self._study.set_user_attr(name, attributes[name])

    def _one_commit(self) -> AbstractContextManager[None]:
        """All that is written within the block is on the disk when it ends, or nothing of it."""
        return _commit_once(self._storage)

    def entries(self) -> list[Entry]:
        """Every candidate entered so far, in order of entry."""
        with _using(self._path), reading(self._path):
            trials = self._study.get_trials(deepcopy=False)
            check_numbers(trials, self._path)
            for trial in trials:
                check_trial(trial, self._path)
            return [_as_entry(trial) for trial in trials]

    def enter(
        self,
        candidate: Candidate,
        strategy: str,
        budget: Budget,
        cost: Cost,
        details: Mapping[str, Any] = MappingProxyType({}),
        strata: Sequence[str] = (),
    ) -> int:
        """Record that a candidate is being trained; gives its number.

        The trial's parameters are the pattern's achieved descriptors, whoever proposed it.

        Args:
            strategy: who proposed it, or its part in a study.
            details: further attributes of the trial.
            strata: names of the run's strata, the candidate's own first, where there are several: one more parameter.
        """
        pattern = candidate.pattern
        row = describe(pattern)
        reach = FloatDistribution(1, max(self._deepest or pattern.depth, 1 + 1e-9))  # Optuna wants room between
        params: dict[str, Any] = {"mean_bd": row["mean_bd"], "span": row["span"]}
        distributions: dict[str, BaseDistribution] = dict.fromkeys(params, reach)
        if strata:
            params["stratum"], distributions["stratum"] = strata[0], CategoricalDistribution(sorted(strata))
        number = self._n_entered  # nobody else writes: to ask Optuna would read back what was just written
        entered = {
            "key": pattern.key,
            "template": candidate.template,
            "strategy": strategy,
            "seed": candidate.seed,
            "max_bd": row["max_bd"],
            "params": cost.params,
            "flops": cost.flops,
            "nn_mass": predict_nn_mass(candidate),
            "budget": str(budget),
            **details,
            "sources": [list(inputs) for inputs in pattern.sources],
        }
        covered = _Covered(seal(entered, number, params), params, {})
        # One attribute: Optuna looks a trial up for each, which took half of a whole search's own time.
        attributes = {"candidate": covered.candidate}
        trial = create_trial(
            state=TrialState.RUNNING, params=params, distributions=distributions, user_attrs=attributes
        )
        with _using(self._path), reading(self._path):
            self._trial_ids[number] = self._storage.create_new_trial(self._study_id, trial)
        self._covered[number] = covered
        self._n_entered += 1
        return number

    def restart(self, number: int, attempts: Attempts, pause_after: int | None) -> None:
        """Record that a candidate is being trained again or further, and what became of earlier trainings."""
        with _using(self._path):
            self._write_attempts(number, attempts, pause_after, returned=False)

    def reopen(self, number: int, attempts: Attempts, pause_after: int | None) -> None:
        """Record that a candidate that was given up is being trained again; the outcome that said so is taken away."""
        forget = sql("DELETE FROM trial_user_attributes WHERE trial_id = :trial AND key = 'outcome'")
        # Optuna lets nobody change a trial that has ended.
        revive = sql("UPDATE trials SET state = 'RUNNING', datetime_complete = NULL WHERE trial_id = :trial")
        with _using(self._path), self._one_commit():
            for statement in (forget, revive):
                self._storage.scoped_session.execute(statement, {"trial": self._trial_id(number)})
            self._storage.scoped_session.commit()
            self._write_attempts(number, attempts, pause_after, returned=False)

    def give_back(self, number: int, attempts: Attempts, pause_after: int | None) -> None:
        """Record that a candidate's training was given back: the run was asked to end."""
        with _using(self._path):
            self._write_attempts(number, attempts, pause_after, returned=True)

    def give_up(self, number: int, outcome: Outcome, attempts: Attempts, pause_after: int | None) -> None:
        """Record that a candidate failed because so many trainings of it were lost, so that it can be told apart."""
        with _using(self._path), self._one_commit():
            self._write_attempts(number, attempts, pause_after, returned=False)
            self._write_end(number, outcome)

    def _write_attempts(self, number: int, attempts: Attempts, pause_after: int | None, returned: bool) -> None:
        values = {
            **asdict(attempts),
            "lost": list(attempts.lost),
            "returned": returned,
            "pause_after": pause_after,
        }
        self._storage.set_trial_user_attr(self._trial_id(number), "attempts", seal(values, number))

    def _trial_id(self, number: int) -> int:
        if number not in self._trial_ids:
            found = self._storage.get_trial_id_from_study_id_trial_number(self._study_id, number)
            self._trial_ids[number] = found
        return self._trial_ids[number]

    def _covered_of(self, number: int) -> "_Covered":
        if number not in self._covered:
            trial = self._storage.get_trial(self._trial_id(number))
            candidate = trial.user_attrs.get("candidate")
            self._covered[number] = _Covered(candidate, trial.params, dict(trial.intermediate_values))
        return self._covered[number]

    def finish(self, number: int, outcome: Outcome) -> None:
        """Record a candidate's outcome: COMPLETE with its validation accuracy, or FAIL with the reason."""
        with _using(self._path), self._one_commit():
            self._write_end(number, outcome)

    def _write_end(self, number: int, outcome: Outcome) -> None:
        # Optuna takes an infinite value as COMPLETE, and it would win: only a finite one is told.
        accuracy = outcome.validation_accuracy
        value = None if accuracy is None or not math.isfinite(accuracy) else float(accuracy)
        trial_id = self._write_outcome(number, outcome, value, self._covered_of(number))
        # As study.tell would, which reads the trial before and after, and takes as long as all else here.
        if value is None:
            self._storage.set_trial_state_values(trial_id, TrialState.FAIL)
        else:
            self._storage.set_trial_state_values(trial_id, TrialState.COMPLETE, [value])

    def pause(self, number: int, outcome: Outcome) -> None:
        """Record a candidate's measurement at a rung; it stays RUNNING."""
        assert outcome.validation_accuracy is not None, "a training that failed does not pause"
        accuracy = float(outcome.validation_accuracy)
        held = self._covered_of(number)
        covered = replace(held, rungs={**held.rungs, outcome.epochs: accuracy})
        with _using(self._path), self._one_commit():
            trial_id = self._write_outcome(number, outcome, None, covered)
            self._storage.set_trial_intermediate_value(trial_id, outcome.epochs, accuracy)
        self._covered[number] = covered

    def prune(self, number: int) -> None:
        """Record that a candidate goes no further than the rung where it paused: PRUNED, never COMPLETE."""
        with _using(self._path):
            self._study.tell(number, state=TrialState.PRUNED)

    def _write_outcome(self, number: int, outcome: Outcome, value: float | None, held: "_Covered") -> int:
        """Write an outcome but for its accuracy, which is the trial's value; gives Optuna's own number of the trial."""
        values = outcome.to_dict()
        del values["validation_accuracy"]
        trial_id = self._trial_id(number)
        covered = covered_by_outcome(number, held.candidate, held.params, value, held.rungs)
        self._storage.set_trial_user_attr(trial_id, "outcome", seal(values, *covered))
        return trial_id


@dataclass(frozen=True, slots=True)
class _Covered:
    """What a trial's outcome is sealed with beside its number and value."""

    candidate: dict[str, Any] | None
    params: Mapping[str, Any]
    rungs: Mapping[int, float]


def _compare_attributes(held: Mapping[str, Any], asked: Mapping[str, Any], renewed: frozenset[str]) -> None:
    """Refuse attributes that contradict those of the study."""
    for name, value in asked.items():
        if name in held and name not in renewed and held[name] != value:
            raise ConflictError(
                f"this run was made with {name} {held[name]!r}, and now it is {value!r}: give another --run"
            )


@contextlib.contextmanager
def _commit_once(storage: RDBStorage) -> Iterator[None]:
    """Make one transaction of all that a storage writes within the block: each of its own takes four fsyncs."""
    storage.remove_session()
    with storage.engine.begin() as connection:
        storage.scoped_session.configure(bind=connection)  # whose transaction a session's commit leaves open
        try:
            yield
        finally:
            storage.remove_session()
            storage.scoped_session.configure(bind=storage.engine)


@contextlib.contextmanager
def _using(path: Path) -> Iterator[None]:
    """Tell what SQLite could not read or write as the machine's trouble: what was committed before stays."""
    try:
        yield
    except (optuna.exceptions.StorageInternalError, SQLAlchemyError) as error:
        reason = error.__cause__ or error
        raise MachineError(f"{path} cannot be read or written ({getattr(reason, 'orig', reason)})") from error


class _UnsyncedConnection(sqlite3.Connection):
    """For a file that nobody needs before it is whole: Optuna's tables take 70 fsyncs otherwise."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self.execute("PRAGMA synchronous = OFF")


def _create_database(path: Path, metric: str) -> None:
    """An empty study, made aside and renamed: Optuna cannot open what a kill halfway through its tables leaves."""
    sweep_temporaries(path.parent, path.name)  # SQLite's own journal of it included
    temporary = name_temporary(path)
    storage = optuna.storages.RDBStorage(storage_url(temporary), {"connect_args": {"factory": _UnsyncedConnection}})
    study = optuna.create_study(study_name=STUDY_NAME, storage=storage, direction="maximize")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        study.set_metric_names([metric])
    storage.remove_session()
    storage.engine.dispose()
    with temporary.open("rb") as stream, naming(path):
        fsync(stream.fileno())
    temporary.replace(path)


def _as_entry(trial: FrozenTrial) -> Entry:
    attributes = {**trial.user_attrs, **trial.user_attrs.get("candidate", {})}
    sources = attributes["sources"]
    attempts = attributes.get("attempts", {})
    outcome = {name: value for name, value in attributes.get("outcome", {}).items() if name != HASH}
    rungs = dict(sorted(trial.intermediate_values.items()))
    measured = {"validation_accuracy": rungs[max(rungs)], **outcome} if rungs else None
    return Entry(
        number=trial.number,
        running=trial.state == TrialState.RUNNING,
        pattern=ConnectionPattern.from_sources(sources),
        template=attributes["template"],
        strategy=attributes["strategy"],
        seed=attributes["seed"],
        budget=attributes["budget"],
        regime=attributes.get("regime"),
        attempts=_read_attempts(attempts, outcome.get("error")),
        returned=attempts.get("returned", False),
        pause_after=attempts.get("pause_after", 0),
        paused=None if measured is None else Outcome.from_dict(measured),
        rungs=rungs,
        validation_accuracy=trial.value if trial.state == TrialState.COMPLETE else None,
        strengths=tuple(map(tuple, outcome.get("strengths", ()))),
    )


def _read_attempts(held: Mapping[str, Any], error: str | None) -> Attempts:
    """Read a trial's attempts; in older runs a driver's death was one, and only the error says who was given up."""
    reasons = list(held.get("lost", ()))
    after = held.get("given_up_after", 0)
    if "given_up_after" not in held and error is not None and (found := _GIVEN_UP.fullmatch(error)):
        reasons, after = [*reasons, found[1]], int(found[2])
    return Attempts(
        lost=tuple(reason for reason in reasons if reason != DRIVER_ENDED),
        driver_deaths=held.get("driver_deaths", 0) + reasons.count(DRIVER_ENDED),
        n_stuck=held.get("n_stuck", 0),
        checkpoint=held.get("checkpoint"),
        given_up_after=after,
    )


def check_data(run: Path, data_sha256: str) -> None:
    """Check that a run was trained on a data set.

    Raises:
        ConflictError: it was trained on another, or its ledger is damaged.
    """
    if read_attributes(run / "study.db")["data"]["sha256"] != data_sha256:
        raise ConflictError(
            f"{run} was trained on data that are not those of now, so its test images are others: restore the data"
        )


def record_test(run: Path, looked: Mapping[str, Any]) -> None:
    """Record on a run's study, for good, that its test images were looked at, by what and when.

    Raises:
        ConflictError: another driver holds the run, or its ledger is damaged.
        MachineError: the file cannot be written.
    """
    with lock_run(run), _using(run / "study.db"):
        held = read_attributes(run / "study.db")
        if TESTED in held:
            return
        storage = RDBStorage(storage_url(run / "study.db"))
        study = optuna.load_study(study_name=STUDY_NAME, storage=storage)
        with _commit_once(storage):
            study.set_user_attr(TESTED, dict(looked))
            if HASH in held:
                study.set_user_attr(HASH, {**held[HASH], **hash_attributes({TESTED: dict(looked)})})


def annotate(run: Path, text: str) -> bool:
    """Put Markdown on a run's study, which optuna-dashboard shows as its note; False where that is not installed.

    Raises:
        ConflictError: another driver holds the run.
    """
    try:
        from optuna_dashboard import save_note
    except ModuleNotFoundError:
        return False
    with lock_run(run):
        save_note(optuna.load_study(study_name=STUDY_NAME, storage=storage_url(run / "study.db")), text)
    return True
