"""RUN/optuna: the patterns of a run as an Optuna database, made again with every report."""

import json
import sqlite3
import tempfile
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from analysis.report.patterns import PatternStudy, PatternTrial, list_sources
from nas.records.database import Times, read_times
from nas.records.written import write_files
from search_spaces.wiring.arcs import draw_arcs

if TYPE_CHECKING:
    import optuna

FOLDER, FILE, ARTIFACTS = "optuna", "patterns.db", "artifacts"
WRITER = "optuna"  # in the records of the folders' files
SOURCES = "sources"  # a system attribute: as one of the user's it would widen the dashboard's page of a trial
N_PICTURES = 3  # best patterns of a study with an arc diagram
N_NAMED = 30  # trials with a note: Optuna takes some milliseconds for each
STATEMENTS = {
    "trials": "INSERT INTO trials (trial_id, number, study_id, state, datetime_start, datetime_complete) "
    "VALUES (?, ?, ?, ?, ?, ?)",
    "trial_values": "INSERT INTO trial_values (trial_id, objective, value, value_type) VALUES (?, 0, ?, 'FINITE')",
    "trial_params": "INSERT INTO trial_params (trial_id, param_name, param_value, distribution_json) "
    "VALUES (?, ?, ?, ?)",
    "trial_user_attributes": 'INSERT INTO trial_user_attributes (trial_id, "key", value_json) VALUES (?, ?, ?)',
    "trial_system_attributes": 'INSERT INTO trial_system_attributes (trial_id, "key", value_json) VALUES (?, ?, ?)',
    "trial_intermediate_values": "INSERT INTO trial_intermediate_values "
    "(trial_id, step, intermediate_value, intermediate_value_type) VALUES (?, ?, ?, 'FINITE')",
}


def write_studies(run: Path, studies: Sequence[PatternStudy]) -> Path:
    """Write RUN/optuna/: patterns.db with the studies, and the pictures of their best trials as Optuna's artifacts.

    A pattern's times come from the trainings in RUN/study.db. That file is only read. A database that somebody wrote
    a note into is kept under another name.

    Returns:
        The database's path.

    Raises:
        ConflictError: a user's file is in the way.
    """
    folder = run / FOLDER
    database, pictures = build_database(studies, read_times(run / "study.db"))
    # Pictures first: after a kill in between, the old database lacks pictures, and the next report mends it.
    write_files(folder / ARTIFACTS, pictures, WRITER)
    write_files(folder, {FILE: database}, WRITER)
    return find_database(run)


def find_database(run: Path) -> Path:
    """Return where a run's report puts the study of its patterns."""
    return run / FOLDER / FILE


def build_database(studies: Sequence[PatternStudy], times: Mapping[int, Times]) -> tuple[bytes, dict[str, bytes]]:
    """Return an SQLite database with the studies, the first of them first, and the pictures by their artifacts' ids.

    Args:
        times: when each training of the ledger began and ended, by its number.
    """
    import optuna  # half a second, so not at the top
    from sqlalchemy import StaticPool

    level = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    pictures = _Pictures()
    try:
        with closing(sqlite3.connect(":memory:", check_same_thread=False)) as connection:
            storage = optuna.storages.RDBStorage(
                "sqlite://", {"creator": lambda: connection, "poolclass": StaticPool}, skip_compatibility_check=True
            )
            for study in studies:
                _add_study(storage, connection, study, times, pictures)
            connection.commit()
            connection.execute("VACUUM")
            return connection.serialize(), pictures.contents
    finally:
        optuna.logging.set_verbosity(level)


@dataclass(frozen=True, slots=True)
class _Pictures:
    """An artifact store in memory, of Optuna's protocol."""

    contents: dict[str, bytes] = field(default_factory=dict)

    def open_reader(self, artifact_id: str) -> BinaryIO:
        raise NotImplementedError

    def write(self, artifact_id: str, content_body: BinaryIO) -> None:
        self.contents[artifact_id] = content_body.read()

    def remove(self, artifact_id: str) -> None:
        raise NotImplementedError


def _add_study(
    storage: "optuna.storages.RDBStorage",
    connection: sqlite3.Connection,
    study: PatternStudy,
    times: Mapping[int, Times],
    pictures: _Pictures,
) -> None:
    import optuna

    made = optuna.create_study(
        study_name=study.name, storage=storage, direction="maximize" if study.maximize else "minimize"
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        made.set_metric_names([study.value_name])
    for name, text in (("noise", study.noise), ("verdict", study.verdict)):
        made.set_user_attr(name, text)
    study_id = storage.get_study_id_from_name(study.name)
    first = _insert_trials(connection, study_id, study, times)
    drawn = [number for number, trial in enumerate(study.trials) if trial.is_ranked][:N_PICTURES]
    artifacts = {number: _add_picture(storage, first + number, study.trials[number], pictures) for number in drawn}
    addresses = [f"/artifacts/{study_id}/{first + number}/{artifact}" for number, artifact in artifacts.items()]
    states = [("COMPLETE" if trial.is_ranked else "PRUNED", number) for number, trial in enumerate(study.trials)]
    connection.executemany(f"UPDATE trials SET state = ? WHERE number = ? AND study_id = {study_id:d}", states)  # noqa: S608
    connection.commit()
    _save_notes(made, study, first, next(iter(addresses), ""))


def _save_notes(made: "optuna.Study", study: PatternStudy, first: int, picture: str) -> None:
    """Write the notes that optuna-dashboard shows of a study and of its first trials, if that is installed.

    Args:
        first: Optuna's own number of the first trial.
        picture: see PatternStudy.write_note.
    """
    import optuna

    try:
        from optuna_dashboard import save_note
    except ModuleNotFoundError:
        return
    save_note(made, study.write_note(picture))
    made.sampler = optuna.samplers.RandomSampler()  # asked for nothing, and the others read all trials first
    for number, trial in enumerate(study.trials[:N_NAMED]):
        save_note(optuna.trial.Trial(made, first + number), study.name_trial(trial))


def _insert_trials(
    connection: sqlite3.Connection, study_id: int, study: PatternStudy, times: Mapping[int, Times]
) -> int:
    """Insert a study's trials, and return Optuna's own number of the first.

    In bulk, for Optuna looks each attribute up before it writes it, which takes 15 ms or more for a pattern.
    """
    first = connection.execute("SELECT coalesce(max(trial_id), 0) + 1 FROM trials").fetchone()[0]
    rows: dict[str, list[tuple[Any, ...]]] = {table: [] for table in STATEMENTS}
    distributions = _describe_ranges(study.trials)
    for number, trial in enumerate(study.trials):
        own = first + number
        known = [times[each] for each in trial.numbers if each in times]
        began = min((each.began for each in known if each.began), default=None)
        ended = max((each.ended for each in known if each.ended), default=None)
        rows["trials"].append((own, number, study_id, "RUNNING", began, ended))  # Optuna refuses artifacts of others
        rows["trial_values"].append((own, trial.value))
        if study.has_parameters:
            rows["trial_params"] += [(own, name, value, distributions[name]) for name, value in trial.measures.items()]
        rows["trial_user_attributes"] += [(own, name, json.dumps(value)) for name, value in _list_attributes(trial)]
        rows["trial_system_attributes"].append((own, SOURCES, json.dumps(list_sources(trial.pattern))))
        rows["trial_intermediate_values"] += [(own, epoch, value) for epoch, value in trial.curve.items()]
    for table, statement in STATEMENTS.items():
        connection.executemany(statement, rows[table])
    connection.commit()
    return int(first)


def _list_attributes(trial: PatternTrial) -> Iterator[tuple[str, Any]]:
    yield "Name", trial.name  # a capital: the dashboard sorts it first
    yield from {**trial.attributes, **trial.measures}.items()
    yield "trainings", ", ".join(map(str, trial.numbers))


def _describe_ranges(trials: Sequence[PatternTrial]) -> dict[str, str]:
    """Return each measure's range over the trials, as Optuna stores it."""
    from optuna.distributions import FloatDistribution, distribution_to_json

    names = trials[0].measures if trials else ()
    columns = {name: [trial.measures[name] for trial in trials] for name in names}
    return {name: distribution_to_json(FloatDistribution(min(column), max(column))) for name, column in columns.items()}


def _add_picture(storage: "optuna.storages.RDBStorage", trial_id: int, trial: PatternTrial, pictures: _Pictures) -> str:
    """Store a pattern's arc diagram as its trial's artifact, and return the artifact's id."""
    from optuna.artifacts import upload_artifact

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"arcs_{trial.attributes['key'][:12]}.svg"
        path.write_text(draw_arcs(trial.pattern, trial.name), encoding="utf-8")
        frozen = storage.get_trial(trial_id)
        return upload_artifact(artifact_store=pictures, file_path=str(path), study_or_trial=frozen, storage=storage)
