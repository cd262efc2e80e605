"""The Optuna storage of a run's study: created, opened, and written in whole transactions.

Optuna's own transactions take four fsyncs each. To join several, `commit_once`, `write_shown` and `revive` use
parts of RDBStorage that are not documented; tests/nas/run/test_storage.py names them all.
"""

import contextlib
import json
import sqlite3
import warnings
from collections.abc import Iterator, Mapping
from os import fsync
from pathlib import Path
from types import MappingProxyType
from typing import Any

import optuna
from optuna.storages import RDBStorage
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError

from nas.records.database import STUDY_NAME, check_database, reading, storage_url
from nas.records.metrics import Metric
from nas.records.safe_files import name_temporary, naming, sweep_temporaries
from nas.records.trial import RESTORE
from search_spaces.errors import ConflictError, MachineError

SET_ATTRIBUTES = (
    "INSERT INTO trial_user_attributes (trial_id, key, value_json) VALUES (?, ?, ?) "
    "ON CONFLICT (trial_id, key) DO UPDATE SET value_json = excluded.value_json"
)
SET_VALUES = (
    "INSERT INTO trial_intermediate_values (trial_id, step, intermediate_value, intermediate_value_type) "
    "VALUES (?, ?, ?, 'FINITE') ON CONFLICT (trial_id, step) DO UPDATE SET intermediate_value = "
    "excluded.intermediate_value"
)


@contextlib.contextmanager
def using(path: Path) -> Iterator[None]:
    """Report what SQLite could not read or write as the machine's trouble: what was committed before stays.

    Raises:
        MachineError: the database cannot be read or written.
    """
    try:
        yield
    except (optuna.exceptions.StorageInternalError, SQLAlchemyError) as error:
        reason = error.__cause__ or error
        raise MachineError(f"{path} cannot be read or written ({getattr(reason, 'orig', reason)})") from error


def open_study(path: Path, metric: Metric) -> tuple[RDBStorage, optuna.Study]:
    """Return the study in a database, made if missing, and its storage.

    Args:
        metric: a trial's value in a new study.

    Raises:
        ConflictError: the file is damaged, or holds no study of a run.
        MachineError: it cannot be read or written.
    """
    is_new = not path.exists() or not path.stat().st_size
    if not is_new:
        check_database(path)
    with using(path), reading(path):
        if is_new:
            _create_study(path, metric)
        try:
            storage = RDBStorage(storage_url(path))
            return storage, optuna.load_study(study_name=STUDY_NAME, storage=storage)
        except (KeyError, RuntimeError) as error:
            raise ConflictError(f"{path} holds no study of a run ({error}): {RESTORE}") from None


class _UnsyncedConnection(sqlite3.Connection):
    """A connection to a file that nobody needs before it is whole: Optuna's tables take 70 fsyncs otherwise."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self.execute("PRAGMA synchronous = OFF")


def _create_study(path: Path, metric: Metric) -> None:
    """Make an empty study elsewhere and rename it: Optuna cannot open what a kill halfway through its tables leaves."""
    sweep_temporaries(path.parent, path.name)  # including SQLite's own journal of it
    temporary = name_temporary(path)
    storage = RDBStorage(storage_url(temporary), {"connect_args": {"factory": _UnsyncedConnection}})
    direction = optuna.study.StudyDirection.MAXIMIZE if metric.maximize else optuna.study.StudyDirection.MINIMIZE
    study = optuna.create_study(study_name=STUDY_NAME, storage=storage, direction=direction)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        study.set_metric_names([metric.name])
    storage.remove_session()
    storage.engine.dispose()
    with temporary.open("rb") as stream, naming(path):
        fsync(stream.fileno())
    temporary.replace(path)


@contextlib.contextmanager
def commit_once(storage: RDBStorage) -> Iterator[None]:
    """Make one transaction of all that a storage writes within the block."""
    storage.remove_session()
    with storage.engine.begin() as connection:
        storage.scoped_session.configure(bind=connection)  # whose transaction a session's commit leaves open
        try:
            yield
        finally:
            storage.remove_session()
            storage.scoped_session.configure(bind=storage.engine)


def write_shown(
    storage: RDBStorage,
    trial_id: int,
    attributes: Mapping[str, Any],
    values: Mapping[int, float] = MappingProxyType({}),
) -> None:
    """Write many attributes of a trial and its values by epoch: Optuna looks each of them up, a millisecond each."""
    connection = storage.scoped_session.connection()
    if attributes:
        rows = [(trial_id, name, json.dumps(value)) for name, value in attributes.items()]
        connection.exec_driver_sql(SET_ATTRIBUTES, rows)
    if values:
        connection.exec_driver_sql(SET_VALUES, [(trial_id, epoch, value) for epoch, value in values.items()])
    storage.scoped_session.commit()


def revive(storage: RDBStorage, trial_id: int) -> None:
    """Set a trial that has ended running again, without its outcome: Optuna lets nobody change such a trial."""
    for statement in (
        "DELETE FROM trial_user_attributes WHERE trial_id = :trial "
        "AND key IN ('outcome', '~outcome', 'epochs', 'seconds', 'error')",  # of older schemas and of this one
        "UPDATE trials SET state = 'RUNNING', datetime_complete = NULL WHERE trial_id = :trial",
    ):
        storage.scoped_session.execute(text(statement), {"trial": trial_id})
    storage.scoped_session.commit()
