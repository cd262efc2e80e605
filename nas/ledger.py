"""The Optuna study in the run directory: the only writer of it."""

import contextlib
import math
import sqlite3
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from os import fsync
from pathlib import Path
from types import MappingProxyType
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution
from optuna.storages import RDBStorage
from optuna.trial import FrozenTrial, TrialState, create_trial
from sqlalchemy.exc import SQLAlchemyError

from nas.candidate import Candidate
from nas.cost import Cost, predict_nn_mass
from nas.lock import lock_run
from nas.train import Outcome
from search_spaces.budget import Budget
from search_spaces.distance import describe
from search_spaces.errors import ConflictError, MachineError
from search_spaces.files import name_temporary, storage_url, sweep_temporaries
from search_spaces.pattern import ConnectionPattern

STUDY_NAME = "skipsearch"
METRIC = "validation_accuracy"
TESTED = "test_looked_at"  # attribute of a run whose test images were looked at
SCHEMA = 2  # of the study's and the trials' attributes; of 1, what a candidate is was many attributes of its trial
OLDER_SCHEMAS = (1,)  # read, and gone on with


@dataclass(frozen=True, slots=True)
class Entry:
    """One candidate as the ledger holds it.

    Args:
        number: the trial's number in the study.
        running: whether it still lacks an outcome.
        pattern, template, strategy, seed, budget: what was entered.
        regime: the name of its training regime in a study, or None.
        lost: why earlier trainings of it ended without an outcome, one reason an attempt.
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
    lost: tuple[str, ...]
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
        attributes: of the study. Those that a study already has must be equal, but for those in `renewed`.
        renewed: names of attributes that each opening writes anew.
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
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        if path.exists() and path.stat().st_size:
            check_database(path)
        with _using(path):
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
            if self._study.user_attrs.get("schema") in OLDER_SCHEMAS:
                renewed |= {"schema"}
            self._write_attributes({"schema": SCHEMA, **attributes}, renewed)
            self._n_entered = len(self._study.get_trials(deepcopy=False))
            self._trial_ids: dict[int, int] = {}  # of Optuna's storage, by a trial's number, as far as asked for

    def _write_attributes(self, attributes: Mapping[str, Any], renewed: frozenset[str]) -> None:
        held = self._study.user_attrs
        for name, value in attributes.items():
            if name in held and name not in renewed and held[name] != value:
                raise ConflictError(
                    f"this run was made with {name} {held[name]!r}, and now it is {value!r}: give another --run"
                )
        with self._one_commit():
            for name, value in attributes.items():
                if held.get(name) != value:
                    self._study.set_user_attr(name, value)

    def _one_commit(self) -> AbstractContextManager[None]:
        """All that is written within the block is on the disk when it ends, or nothing of it."""
        return _commit_once(self._storage)

    def entries(self) -> list[Entry]:
        """Every candidate entered so far, in order of entry."""
        with _using(self._path):
            trials = self._study.get_trials(deepcopy=False)
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
        trial = create_trial(
            state=TrialState.RUNNING,
            params=params,
            distributions=distributions,
            # One attribute: Optuna looks a trial up for each, which took half of a whole search's own time.
            user_attrs={
                "candidate": {
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
            },
        )
        number = self._n_entered  # nobody else writes: to ask Optuna would read back what was just written
        with _using(self._path):
            self._trial_ids[number] = self._storage.create_new_trial(self._study_id, trial)
        self._n_entered += 1
        return number

    def restart(self, number: int, lost: Sequence[str], pause_after: int | None) -> None:
        """Record that a candidate is being trained again or further, and why earlier trainings gave no outcome."""
        self._write_attempts(number, lost, pause_after, returned=False)

    def give_back(self, number: int, lost: Sequence[str], pause_after: int | None) -> None:
        """Record that a candidate's training was given back: the run was asked to end."""
        self._write_attempts(number, lost, pause_after, returned=True)

    def _write_attempts(self, number: int, lost: Sequence[str], pause_after: int | None, returned: bool) -> None:
        attempts = {"lost": list(lost), "returned": returned, "pause_after": pause_after}
        with _using(self._path):
            self._storage.set_trial_user_attr(self._trial_id(number), "attempts", attempts)

    def _trial_id(self, number: int) -> int:
        if number not in self._trial_ids:
            found = self._storage.get_trial_id_from_study_id_trial_number(self._study_id, number)
            self._trial_ids[number] = found
        return self._trial_ids[number]

    def finish(self, number: int, outcome: Outcome) -> None:
        """Record a candidate's outcome: COMPLETE with its validation accuracy, or FAIL with the reason."""
        with _using(self._path), self._one_commit():
            trial_id, accuracy = self._write_outcome(number, outcome)
            # Optuna takes an infinite value as COMPLETE, and it would win: only a finite one is told.
            # As study.tell would, which reads the trial before and after, and takes as long as all else here.
            if accuracy is None or not math.isfinite(accuracy):
                self._storage.set_trial_state_values(trial_id, TrialState.FAIL)
            else:
                self._storage.set_trial_state_values(trial_id, TrialState.COMPLETE, [float(accuracy)])

    def pause(self, number: int, outcome: Outcome) -> None:
        """Record a candidate's measurement at a rung; it stays RUNNING."""
        with _using(self._path), self._one_commit():
            trial_id, accuracy = self._write_outcome(number, outcome)
            assert accuracy is not None, "a training that failed does not pause"
            self._storage.set_trial_intermediate_value(trial_id, outcome.epochs, float(accuracy))

    def prune(self, number: int) -> None:
        """Record that a candidate goes no further than the rung where it paused: PRUNED, never COMPLETE."""
        with _using(self._path):
            self._study.tell(number, state=TrialState.PRUNED)

    def _write_outcome(self, number: int, outcome: Outcome) -> tuple[int, float | None]:
        """Of the trial Optuna's own number of it, and the accuracy, which is not in the attribute."""
        values = outcome.to_dict()
        accuracy: float | None = values.pop("validation_accuracy")
        trial_id = self._trial_id(number)
        self._storage.set_trial_user_attr(trial_id, "outcome", values)
        return trial_id, accuracy


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
    with temporary.open("rb") as stream:
        fsync(stream.fileno())
    temporary.replace(path)


def _as_entry(trial: FrozenTrial) -> Entry:
    attributes = {**trial.user_attrs, **trial.user_attrs.get("candidate", {})}
    sources = attributes["sources"]
    attempts = attributes.get("attempts", {})
    rungs = dict(sorted(trial.intermediate_values.items()))
    measured = {"validation_accuracy": rungs[max(rungs)], **attributes["outcome"]} if rungs else None
    return Entry(
        number=trial.number,
        running=trial.state == TrialState.RUNNING,
        pattern=ConnectionPattern(len(sources), tuple(map(tuple, sources))),
        template=attributes["template"],
        strategy=attributes["strategy"],
        seed=attributes["seed"],
        budget=attributes["budget"],
        regime=attributes.get("regime"),
        lost=tuple(attempts.get("lost", ())),
        returned=attempts.get("returned", False),
        pause_after=attempts.get("pause_after", 0),
        paused=None if measured is None else Outcome.from_dict(measured),
        rungs=rungs,
        validation_accuracy=trial.value if trial.state == TrialState.COMPLETE else None,
        strengths=tuple(map(tuple, attributes.get("outcome", {}).get("strengths", ()))),
    )


def check_database(path: Path) -> None:
    """Refuse an SQLite file with damaged pages: SQLite itself would load some of them silently.

    Raises:
        ConflictError: with what is wrong and what to do.
        MachineError: it is not damaged, and cannot be opened all the same.
    """
    try:
        # rw makes no file; ro could not roll back what a killed run left half written, and would fail.
        with contextlib.closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=rw", uri=True)) as connection:
            verdict = connection.execute("PRAGMA quick_check").fetchone()[0]
    except sqlite3.OperationalError as error:
        raise MachineError(f"{path} cannot be opened ({error})") from None
    except sqlite3.DatabaseError as error:
        verdict = str(error)
    if verdict != "ok":
        raise ConflictError(f"{path} is damaged or no SQLite database ({verdict}): restore it, or give another --run")


def record_test(run: Path, looked: Mapping[str, Any], data_sha256: str) -> None:
    """Record on a run's study, for good, that its test images were looked at, by what and when.

    Args:
        data_sha256: of the data set whose test images they are.

    Raises:
        ConflictError: the run was trained on other data, or another driver holds it.
        MachineError: the file cannot be written.
    """
    with lock_run(run), _using(run / "study.db"):
        study = optuna.load_study(study_name=STUDY_NAME, storage=storage_url(run / "study.db"))
        if study.user_attrs["data"]["sha256"] != data_sha256:
            raise ConflictError(
                f"{run} was trained on data that are not those of now, so its test images are others: restore the data"
            )
        if TESTED not in study.user_attrs:
            study.set_user_attr(TESTED, dict(looked))


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
