"""Reads a table of every pattern of a budget, each trained with the same seeds, and checks that it is complete."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis.data.csv_files import read_table
from analysis.data.results import STRATUM
from nas.records.safe_files import open_regular, read_json
from search_spaces.budget import Budget, parse_budget
from search_spaces.errors import InputError
from search_spaces.pattern import ConnectionPattern

OUTCOME = "validation_accuracy"
MAX_BYTES = 100 * 10**6
REMEDY = "the table must contain every pattern of one budget, each trained once with every seed"


@dataclass(frozen=True, slots=True)
class ExhaustiveTable:
    """The validation accuracy of every pattern of a budget.

    Args:
        keys: keys of all patterns, ascending.
        seeds: seeds, ascending.
        accuracies: shape (patterns, seeds), shares of 1.
        complete: rows of read_table that they come from.
        provenance: content of the JSON file next to the table; None without one.
    """

    budget: Budget
    keys: tuple[str, ...]
    seeds: tuple[int, ...]
    accuracies: NDArray[np.float64]
    complete: pd.DataFrame
    provenance: dict[str, Any] | None


def read_exhaustive(path: Path) -> ExhaustiveTable:
    """Read a tidy CSV of all patterns of a budget, and the provenance next to it.

    Raises:
        InputError: not a table of read_table, several budgets or regimes, connections that are not a pattern of the
            budget or do not match the key, a pattern or a pattern's seed missing or there twice, or a CSV whose sha256
            differs from that of its provenance.
    """
    provenance = _read_provenance(path)
    table = read_table(path)
    complete = table[table["state"] == "complete"]
    if complete.empty:
        raise InputError(f"{path} has no complete training; {REMEDY}")
    if not complete[OUTCOME].between(0, 1).all():
        raise InputError(f"{path}: column {OUTCOME} should be a share of 1 for every complete training")
    budget = _read_budget(path, complete)
    _check_patterns(path, complete, budget)
    _check_seeds(path, complete, len(table))
    pivot = complete.pivot_table(index="key", columns="seed", values=OUTCOME)
    keys, seeds = tuple(map(str, pivot.index)), tuple(map(int, pivot.columns))
    return ExhaustiveTable(budget, keys, seeds, pivot.to_numpy(np.float64), complete, provenance)


def _read_budget(path: Path, complete: pd.DataFrame) -> Budget:
    for name in STRATUM:
        values = complete[name].unique().tolist()
        if len(values) > 1:
            raise InputError(f"{path} has several values of {name} ({', '.join(map(str, values))}); {REMEDY}")
    if complete[["budget", "layers"]].isna().any(axis=None):
        raise InputError(f"{path} does not say the budget and the layers of its patterns; {REMEDY}")
    return parse_budget(complete["budget"].iloc[0], int(complete["layers"].iloc[0]))


def _check_patterns(path: Path, complete: pd.DataFrame, budget: Budget) -> None:
    """Check that all patterns meet the budget and match their keys, and that none is missing."""
    for key, sources in complete[["key", "sources"]].drop_duplicates().itertuples(index=False):
        pattern = _parse_sources(path, sources)
        if pattern.key != key or not budget.is_met_by(pattern):
            what = f"is not a pattern of budget {budget}" if pattern.key == key else f"has the key {pattern.key:.12}"
            raise InputError(f"{path}: the pattern of key {key!s:.12} with sources {sources:.200} {what}")
    n_found = complete["key"].nunique()
    if n_found < budget.n_patterns:
        raise InputError(
            f"{path} lacks {budget.n_patterns - n_found:,} of the {budget.n_patterns:,} patterns of budget {budget} at "
            f"{budget.depth} layers: strategies would ask for them; {REMEDY}"
        )


def _parse_sources(path: Path, text: object) -> ConnectionPattern:
    try:
        sources = json.loads(str(text))
        return ConnectionPattern.from_sources(sources)
    except (ValueError, TypeError, RecursionError) as error:
        raise InputError(
            f"{path}: column sources has {text!s:.80}, which is not a list of each layer's inputs: {error}"
        ) from None


def _check_seeds(path: Path, complete: pd.DataFrame, n_rows: int) -> None:
    if complete["seed"].isna().any():
        raise InputError(f"{path} has trainings without a seed; {REMEDY}")
    n_twice = int(complete.duplicated(["key", "seed"]).sum())
    if n_twice:
        raise InputError(f"{path} has {n_twice} trainings of a pattern and seed that it has already; {REMEDY}")
    n_seeds = complete["seed"].nunique()
    n_short = int((complete.groupby("key").size() < n_seeds).sum())
    if n_short:
        lost = f" ({n_rows - len(complete)} rows are not complete)" if n_rows > len(complete) else ""
        raise InputError(
            f"{path}: {n_short} of {complete['key'].nunique()} patterns lack some of the {n_seeds} seeds{lost}; "
            f"{REMEDY}"
        )


def _read_provenance(path: Path) -> dict[str, Any] | None:
    try:
        provenance = read_json(path.with_suffix(".json"), MAX_BYTES)
    except OSError:
        return None
    if not isinstance(provenance, dict):
        raise InputError(f"{path.with_suffix('.json')} is not a JSON object, as a table's provenance must be")
    expected = provenance.get("sha256")
    if expected is not None and path.is_file():
        with open_regular(path, MAX_BYTES) as stream:
            actual = hashlib.sha256(stream.read(MAX_BYTES)).hexdigest()
        if actual != expected:
            raise InputError(
                f"{path} has the sha256 {actual:.12}, and {path.with_suffix('.json')} describes a table of "
                f"{expected!s:.12}: restore the table, or remove its provenance"
            )
    return provenance


def describe_provenance(provenance: dict[str, Any]) -> str:
    """Return where a table's numbers come from, as one line of what its provenance says.

    >>> describe_provenance({"config": {"dataset": "digits", "epochs": 9}, "environment": {"device": "cpu"}})
    'digits, epochs 9, on cpu'
    """
    config, environment = (_as_dict(provenance.get(name)) for name in ("config", "environment"))
    parts = [
        config.get("dataset"),
        *(f"{name.replace('_', ' ')} {config[name]}" for name in ("train_examples", "epochs") if config.get(name)),
        f"on {environment['device']}" if environment.get("device") else None,
        f"commit {environment['commit']!s:.12}" if environment.get("commit") else None,
    ]
    return ", ".join(str(part) for part in parts if part)


def _as_dict(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}
