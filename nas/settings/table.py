"""A table of earlier outcomes for a search's model: checked, matched with the budgets, kept in the run directory."""

import csv
import hashlib
import io
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nas.model.config import ShapeConfig, TrainingConfig
from nas.records.database import read_attributes
from nas.records.safe_files import decode_csv, open_regular, read_json, write_atomic
from nas.records.shown import restore
from nas.settings.search import SearchConfig
from search_spaces.budget import Budget, parse_budget
from search_spaces.errors import ConflictError, InputError, MachineError
from search_spaces.pattern import ConnectionPattern
from search_spaces.surrogate.earlier import EarlierTraining
from search_spaces.templates import build_named

TABLE_COPY = "table.csv"  # in the run directory
COMPLETE = "complete"
MAX_TABLE_BYTES = 10**8
_NEEDED = ("state", "sources", "template", "seed", "layers", "budget", "regime", "key")
# Settings that outcomes depend on; how many seeds or trainings there are is none of them.
_OF_OUTCOMES = (
    *(name for name in (*TrainingConfig.model_fields, *ShapeConfig.model_fields) if name != "layers"),
    *("dataset", "train_examples", "validation_examples", "precision", "task", "set"),
)
_MOST_NAMED = 4  # settings that a warning names


@dataclass(frozen=True, slots=True)
class _Row:
    """A finished training in the file; texts are empty where it does not say.

    Args:
        pattern: the pattern, where its sources are given; else `template` names it.
    """

    pattern: ConnectionPattern | None
    template: str
    layers: str
    budget: str
    setting: str
    seed: int | None
    outcome: float | None


@dataclass(frozen=True, slots=True)
class EarlierTable:
    """A table that was read.

    Args:
        content: the file's bytes, of this sha256.
        outcome: column that is the search's objective.
    """

    path: Path
    sha256: str
    content: bytes
    outcome: str
    rows: tuple[_Row, ...]


@dataclass(frozen=True, slots=True)
class Matched:
    """What of a table a run learns from.

    Args:
        by_budget: trainings of each of the run's budgets.
        described: attribute `table` of the run's study: where the outcomes come from, and how many there are.
    """

    by_budget: Mapping[Budget, Sequence[EarlierTraining]]
    described: dict[str, Any]


def settle_table(
    run: Path,
    stored: Mapping[str, Any],
    flags: Mapping[str, Any],
    asked: Mapping[str, Any],
    find_table: Callable[[Path], Path],
) -> dict[str, Any]:
    """Return the settings asked for with the table's absolute path and hash.

    A run keeps its table by the hash: the file itself may be gone, for the run has a copy.

    Args:
        run: run directory.
        stored: settings that the run has already.
        flags: settings of the command line, part of
        asked: all settings that are given now.
        find_table: function that returns the path of a table's file, given that or a name.

    Raises:
        InputError: the file cannot be read.
        ConflictError: the run was begun with another table, or the file has changed since.
    """
    is_new = flags.get("from_table") is not None or not asked.get("table_sha256")
    given = asked.get("from_table")
    if given is None or not is_new or flags.get("table_sha256"):
        return dict(asked)
    path = find_table(Path(str(given))).resolve()
    if not path.exists() and stored.get("table_sha256") and (run / TABLE_COPY).exists():
        return {**asked, "from_table": stored.get("from_table"), "table_sha256": stored["table_sha256"]}
    sha256 = hashlib.sha256(_read(path)).hexdigest()
    before = stored.get("table_sha256")
    if stored and sha256 != before:
        was = f"a table of sha256 {before:.12}" if before else "no table"
        raise ConflictError(
            f"{run} was begun with {was}, and {path} has {sha256:.12}: drop --from-table to continue with what the run "
            "was begun with, or give another --run"
        )
    return {**asked, "from_table": str(path), "table_sha256": sha256}


def _read(path: Path) -> bytes:
    try:
        with open_regular(path, MAX_TABLE_BYTES) as stream:
            return stream.read(MAX_TABLE_BYTES)
    except OSError as error:
        raise InputError(f"--from-table {path} cannot be read: {error.strerror}") from None


def read_earlier(run: Path, config: SearchConfig, outcome: str) -> EarlierTable | None:
    """Read the run's copy of its table, or the file where there is no copy yet; None for a run without one.

    Raises:
        InputError: it is no table of trainings.
        ConflictError: it is not the table of the settings.
    """
    if config.from_table is None:
        return None
    copy, path = run / TABLE_COPY, Path(config.from_table)
    source = copy if copy.exists() else path
    content = _read(source)
    sha256 = hashlib.sha256(content).hexdigest()
    if sha256 != config.table_sha256:
        raise ConflictError(
            f"{source} has the sha256 {sha256:.12}, and the table of this run has {config.table_sha256!s:.12}: restore "
            "it, or give another --run"
        )
    return EarlierTable(path, sha256, content, outcome, _parse(path, content, outcome))


def _parse(path: Path, content: bytes, outcome: str) -> tuple[_Row, ...]:
    try:
        table = decode_csv(io.BytesIO(content), (*_NEEDED, outcome))
        reader = csv.DictReader(table.lines, delimiter=table.separator)
        header = [name.strip() for name in reader.fieldnames or ()]
        reader.fieldnames = header
        _check_header(path, header, outcome)
        records = [
            {name: restore((value or "").strip()) for name, value in record.items() if name in header}
            for record in reader
        ]
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"--from-table {path} is not a CSV table: {error}") from None
    finished = [
        (number, record) for number, record in enumerate(records, start=1) if record.get("state", COMPLETE) == COMPLETE
    ]
    patterns: dict[str, ConnectionPattern] = {}
    return tuple(_parse_row(path, number, record, outcome, patterns) for number, record in finished)


def _check_header(path: Path, header: Sequence[str], outcome: str) -> None:
    lacking = [] if outcome in header else [f"the outcome {outcome}, which the search improves"]
    if "sources" not in header and "template" not in header:
        lacking.append("sources, the inputs of each layer, or template, its name")
    if lacking:
        raise InputError(
            f"--from-table {path} has no column of {' nor of '.join(lacking)}: give a run's report/candidates.csv, or "
            f"a table like it; this one has {', '.join(header)!s:.300}"
        )


def _parse_row(
    path: Path, number: int, record: Mapping[str, str], outcome: str, patterns: dict[str, ConnectionPattern]
) -> _Row:
    """Return a row; patterns holds those met before, by their sources."""
    sources = record.get("sources", "")
    try:
        if sources and sources not in patterns:
            patterns[sources] = ConnectionPattern.from_sources(json.loads(sources))
        seed = int(float(record["seed"])) if record.get("seed") else None
        value = float(record[outcome]) if record[outcome] else None
    except (ValueError, TypeError, RecursionError, OverflowError) as error:
        raise InputError(f"--from-table {path}: row {number} cannot be read: {error!s:.200}") from None
    pattern = patterns.get(sources)
    key = record.get("key", "")
    if pattern is not None and key and not pattern.key.startswith(key):
        raise InputError(f"--from-table {path}: row {number} has the key {key:.12}, and its sources {pattern.key:.12}")
    texts = {name: record.get(name, "") for name in ("template", "layers", "budget")}
    return _Row(pattern, **texts, setting=record.get("regime", ""), seed=seed, outcome=value)


def match_budgets(
    table: EarlierTable, config: SearchConfig, budgets: Sequence[Budget], find_cost: Callable[[float], float | None]
) -> Matched:
    """Return the table's trainings that a run learns from, by its budgets, and what is to be said of them.

    Args:
        find_cost: function that returns the cost of an outcome; None where it cannot be used.

    Raises:
        InputError: none of them is of the run's depth and budgets.
    """
    matched: dict[Budget, list[EarlierTraining]] = {budget: [] for budget in budgets}
    n_other = n_unusable = 0
    for row in table.rows:
        found = _find_place(row, budgets)
        cost = None if row.outcome is None else find_cost(row.outcome)
        if found is None:
            n_other += 1
        elif cost is None:
            n_unusable += 1
        else:
            budget, pattern = found
            matched[budget].append(EarlierTraining(pattern, row.setting, row.seed, cost))
    trainings = [training for of_budget in matched.values() for training in of_budget]
    if not trainings:
        raise InputError(
            f"--from-table {table.path}: of its {len(table.rows)} finished trainings {n_other} are of another depth or "
            f"budget than {' or '.join(map(str, budgets))} over {budgets[0].depth} layers, and {n_unusable} lack "
            f"{table.outcome}: none is left to learn from"
        )
    described = {
        "name": table.path.name,
        "sha256": table.sha256,
        "trainings": len(trainings),
        "patterns": len({training.pattern for training in trainings}),
        "other": n_other,
        "unusable": n_unusable,
        "setting": _compare_settings(table.path, config),
    }
    return Matched(matched, described)


def _find_place(row: _Row, budgets: Sequence[Budget]) -> tuple[Budget, ConnectionPattern] | None:
    """Return a row's pattern, and the budget of the run that it spends; None where it spends none."""
    for budget in budgets:
        pattern = row.pattern
        if pattern is None and row.layers in ("", str(budget.depth)) and _is_budget(row.budget, budget):
            try:
                pattern = build_named(row.template, budget)
            except InputError:  # a name that means nothing here
                continue
        if pattern is not None and pattern.depth == budget.depth and budget.is_met_by(pattern):
            return budget, pattern
    return None


def _is_budget(text: str, budget: Budget) -> bool:
    try:
        return not text or parse_budget(text, budget.depth) == budget
    except InputError:
        return False


def _compare_settings(path: Path, config: SearchConfig) -> str:
    """Say in how far a table's settings are known to be the run's."""
    theirs, ours = _find_settings(path), config.model_dump(mode="json")
    if theirs is None:
        return "the table does not say with which settings they were trained"
    both = [name for name in _OF_OUTCOMES if name in theirs and name in ours]
    differ = [
        f"{name} {theirs[name]!s:.40} there and {ours[name]!s:.40} here" for name in both if theirs[name] != ours[name]
    ]
    if not differ:
        return "they were trained with the settings of this run, as far as the table says them"
    more = f" and {len(differ) - _MOST_NAMED} more" if len(differ) > _MOST_NAMED else ""
    return f"they were trained with other settings: {', '.join(differ[:_MOST_NAMED])}{more}"


def _find_settings(path: Path) -> dict[str, Any] | None:
    """Return the settings recorded next to a table, or those of the run in whose report it lies."""
    try:
        ledger = path.parent.parent / "study.db"
        if path.parent.name == "report" and ledger.exists():
            config = read_attributes(ledger).get("config")
        else:
            recorded = read_json(path.with_suffix(".json"), MAX_TABLE_BYTES)
            config = recorded.get("config") if isinstance(recorded, dict) else None
    except (OSError, InputError, ConflictError, MachineError):
        return None
    return config if isinstance(config, dict) else None


def keep_table(run: Path, table: EarlierTable) -> None:
    """Keep a copy of the table in a locked run directory, so that the run no longer depends on the file."""
    if not (run / TABLE_COPY).exists():
        write_atomic(run / TABLE_COPY, table.content)
