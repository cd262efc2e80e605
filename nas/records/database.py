"""A run's database as a file: its pages and hashes checked, its study's attributes read without Optuna."""

import contextlib
import json
import sqlite3
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple
from urllib.parse import quote

from nas.records.safe_files import check_utf8
from nas.records.trial import HASH, RESTORE, hash_plain
from search_spaces.errors import ConflictError, MachineError

FINAL = "final"  # folder of a run directory with the final measurement on the test images
STUDY_NAME = "skipsearch"
TESTED = "test_looked_at"  # attribute of a run whose test images were looked at
Kind = Literal["search", "study", "comparison", "final"]  # of a run
COMMANDS: Mapping[Kind, str] = {  # that continue a run, by its kind
    "search": "search",
    "study": "study",
    "comparison": "compare-networks",
    "final": "export --final",
}


def read_kind(attributes: Mapping[str, Any]) -> Kind:
    """Return the kind of a run by its study's attributes, which in runs of older versions only imply it.

    >>> read_kind({"kind": "study"}), read_kind({"config": {"per_cell": 3}}), read_kind({})
    ('study', 'study', 'search')
    """
    for kind in COMMANDS:
        if attributes.get("kind") == kind:
            return kind
    config = attributes.get("config")
    settings = config if isinstance(config, Mapping) else {}
    if "networks" in settings:
        return "comparison"
    if "measured_on" in attributes:
        return "final"
    return "study" if "plan" in attributes or "per_cell" in settings else "search"


def hash_attributes(attributes: Mapping[str, Any]) -> dict[str, str]:
    """Return the hashes of a study's attributes by name."""
    return {name: hash_plain(value) for name, value in attributes.items() if name != HASH}


def check_attributes(attributes: Mapping[str, Any], path: Path) -> None:
    """Check a study's attributes against their hashes; a study of an older run has none.

    Raises:
        ConflictError: one is not what was written.
    """
    hashes = attributes.get(HASH, {})
    if not isinstance(hashes, dict):
        raise ConflictError(f"{path} is damaged: the hashes of the study's attributes are missing; {RESTORE}")
    for name, digest in hashes.items():
        if name not in attributes or hash_plain(attributes[name]) != digest:
            raise ConflictError(f"{path} is damaged: the study's {name!r:.40} is not what was written; {RESTORE}")


def check_data(run: Path, data_sha256: str) -> None:
    """Check that a run was trained on a data set.

    Raises:
        ConflictError: it was trained on another, or its ledger is damaged.
    """
    if read_attributes(run / "study.db")["data"]["sha256"] != data_sha256:
        raise ConflictError(
            f"{run} was trained on data that are not those of now, so its test images are others: restore the data"
        )


@contextlib.contextmanager
def _open_database(path: Path) -> Iterator[sqlite3.Connection]:
    """Open an existing database; damaged pages raise as in check_database."""
    try:
        # Mode rw makes no file; ro could not roll back what a killed run left half written, and would fail.
        with contextlib.closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=rw", uri=True)) as connection:
            yield connection
    except sqlite3.OperationalError as error:
        raise MachineError(f"{path} cannot be opened ({error})") from None
    except (sqlite3.DatabaseError, UnicodeDecodeError) as error:
        raise ConflictError(f"{path} is damaged or no SQLite database ({error}): {RESTORE}") from None


def check_database(path: Path) -> None:
    """Check an SQLite file's pages, indexes and links: SQLite itself would load some damaged ones silently.

    Raises:
        ConflictError: the file is damaged.
        MachineError: it is not damaged, but cannot be opened.
    """
    with _open_database(path) as connection:
        verdict = connection.execute("PRAGMA integrity_check(1)").fetchone()[0]
        # Without it a row whose link is damaged would belong to no trial, and be missing from what Optuna loads.
        orphan = None if verdict != "ok" else connection.execute("PRAGMA foreign_key_check").fetchone()
    if verdict != "ok":
        raise ConflictError(f"{path} is damaged or no SQLite database ({verdict}): {RESTORE}")
    if orphan is not None:
        raise ConflictError(f"{path} is damaged: a row of {orphan[0]} belongs to nothing; {RESTORE}")


def read_attributes(path: Path) -> dict[str, Any]:
    """Return the checked attributes of a run's study, without loading Optuna, which takes half a second.

    Raises:
        ConflictError: the file is damaged, empty, or holds no study of a run.
        MachineError: it cannot be opened.
    """
    check_not_empty(path)
    check_database(path)
    with _open_database(path) as connection:
        tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        names: set[str] = set()
        if {"studies", "study_user_attributes"} <= tables:
            names = {name for (name,) in connection.execute("SELECT study_name FROM studies")}
        if STUDY_NAME not in names:
            raise ConflictError(f"{path} holds no study of a run: {RESTORE}")
        rows = connection.execute(
            "SELECT key, CAST(value_json AS BLOB) FROM study_user_attributes JOIN studies USING (study_id) "
            "WHERE study_name = ?",
            (STUDY_NAME,),
        ).fetchall()
    try:
        attributes = {name: json.loads(text) for name, text in rows}
    except (ValueError, TypeError) as error:
        raise ConflictError(f"{path} is damaged: the study's attributes are no JSON ({error}); {RESTORE}") from None
    check_attributes(attributes, path)
    return attributes


class Times(NamedTuple):
    """When a training began and ended, as the database has it; None where it has not."""

    began: str | None
    ended: str | None


def read_times(path: Path) -> dict[int, Times]:
    """Return when each training of a run began and ended, by its number; nothing else is read or checked.

    Raises:
        ConflictError: the file is damaged.
        MachineError: it cannot be opened.
    """
    with _open_database(path) as connection:
        rows = connection.execute(
            "SELECT number, datetime_start, datetime_complete FROM trials JOIN studies USING (study_id) "
            "WHERE study_name = ?",
            (STUDY_NAME,),
        ).fetchall()
    return {number: Times(began, ended) for number, began, ended in rows}


def check_not_empty(path: Path) -> None:
    """Check that a database is not empty: no run ever leaves an empty one.

    Raises:
        ConflictError: it is empty.
    """
    if path.stat().st_size == 0:
        raise ConflictError(f"{path} is empty, and it held all of the run's results: {RESTORE}")


@contextlib.contextmanager
def reading(path: Path) -> Iterator[None]:
    """Report what Optuna raises over content that it cannot decode as damage of the file, and name the trial.

    Raises:
        ConflictError: the block raised anything but an error that says what to do.
    """
    try:
        yield
    except (ConflictError, MachineError):
        raise
    except (ValueError, LookupError, TypeError, RuntimeError) as error:
        where = _name_undecodable(path)
        raise ConflictError(f"{path} is damaged: {where}{type(error).__name__}: {error!s:.200}; {RESTORE}") from None


def _name_undecodable(path: Path) -> str:
    """Return a message's beginning that names the first trial with an attribute that is no JSON, if any."""
    query = (
        "SELECT number, key, CAST(value_json AS BLOB) FROM trial_user_attributes JOIN trials USING (trial_id) "
        "ORDER BY number"
    )
    with contextlib.suppress(ConflictError, MachineError), _open_database(path) as connection:
        for number, key, text in connection.execute(query):
            try:
                json.loads(text)
            except (ValueError, TypeError):
                return f"trial {number} cannot be read ({key}), "
    return ""


def storage_url(ledger: Path) -> str:
    """Return the address of an SQLite file for Optuna, with ?, # and % of its name escaped.

    >>> storage_url(Path("runs/a b?/study.db"))
    'sqlite:///runs/a%20b%3F/study.db'
    """
    check_utf8(str(ledger), "a run's folder")
    return f"sqlite:///{quote(str(ledger))}"
