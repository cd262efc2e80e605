"""Reads a table of patterns of one budget, each trained with the same seeds, and checks that it is complete."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis.data.csv_files import read_table
from analysis.data.results import STRATUM
from nas.records.safe_files import open_regular, read_json
from search_spaces.budget import Budget, parse_budget
from search_spaces.errors import InputError
from search_spaces.families import FAMILIES
from search_spaces.pattern import ConnectionPattern
from search_spaces.surrogate.target import find_cost
from search_spaces.templates import TEMPLATES

JudgedBy = Literal["loss", "accuracy"]  # what a search on a table goes by
MAX_BYTES = 100 * 10**6
REMEDY = "a table has patterns of one budget, each trained once with every seed"
UNIFORM, WIDE, ANY = "random", "random:wide", "all"  # strategies of rows that random searches draw from; any row
N_VALIDATION = 1000  # images that accuracies are taken to be of, where the provenance does not say


@dataclass(frozen=True, slots=True)
class TrainedTable:
    """Patterns of a budget, each trained with the same seeds.

    Args:
        patterns: all patterns, by ascending key.
        strategies: what each pattern was proposed by.
        templates: name of each pattern's template, or None.
        seeds: seeds, ascending.
        losses: validation losses in nats, shape (patterns, seeds); missing where the table has none.
        accuracies: validation accuracies, shares of 1, of the same shape; missing where the table has none.
        provenance: content of the JSON file next to the table; None without one.
        draws: strategies of the rows that uniform draws are taken from; ANY for all rows.
    """

    budget: Budget
    patterns: tuple[ConnectionPattern, ...]
    strategies: tuple[str, ...]
    templates: tuple[str | None, ...]
    seeds: tuple[int, ...]
    losses: NDArray[np.float64]
    accuracies: NDArray[np.float64]
    provenance: dict[str, Any] | None
    draws: tuple[str, ...] = (UNIFORM,)

    @property
    def is_exhaustive(self) -> bool:
        """Whether these are all patterns of the budget; with caps, where these are not counted, it is not known."""
        n = len(self.patterns)
        return not self.budget.is_capped and self.budget.count_up_to(n + 1) == n

    @property
    def is_uniform(self) -> NDArray[np.bool_]:
        """Whether each pattern counts as a uniform draw: those of `draws`, or all of an exhaustive table."""
        is_any = self.is_exhaustive or ANY in self.draws
        return np.array([strategy in self.draws for strategy in self.strategies]) | is_any

    @property
    def is_wide(self) -> NDArray[np.bool_]:
        """Whether each pattern was drawn widely."""
        return np.array([strategy == WIDE for strategy in self.strategies])

    def list_named(self) -> list[int]:
        """Return the rows of templates and families, in the order in which a search trains them."""
        places = {name: place for place, name in enumerate((*TEMPLATES, *FAMILIES))}
        rows = {places[name]: row for row, name in enumerate(self.templates) if name in places}
        return [rows[place] for place in sorted(rows)]

    def list_costs(self, objective: JudgedBy) -> NDArray[np.float64]:
        """Return the costs that a search sees, shape (patterns, seeds): log loss, or log share of errors."""
        n_validation = int(_as_dict((self.provenance or {}).get("data")).get("n_validation") or N_VALIDATION)
        name, outcomes = f"validation_{objective}", self.losses if objective == "loss" else self.accuracies
        costs = [find_cost({name: value}, name, n_validation) for value in outcomes.ravel().tolist()]
        return np.array(costs, np.float64).reshape(self.losses.shape)

    def list_judged(self, objective: JudgedBy) -> NDArray[np.float64]:
        """Return what a search is judged by, shape (patterns, seeds), lower is better: log loss, or share of errors."""
        return np.log(self.losses) if objective == "loss" else 1 - self.accuracies


def read_trained(path: Path, objective: JudgedBy, draws: tuple[str, ...] = (UNIFORM,)) -> TrainedTable:
    """Read a tidy CSV of trained patterns, and the provenance next to it.

    Args:
        objective: outcome that every training must have.
        draws: see TrainedTable.

    Raises:
        InputError: not a table of read_table, several budgets or regimes, connections that are not a pattern of the
            budget or do not match the key, a pattern proposed by two strategies, an outcome out of range, a pattern's
            seed missing or there twice, a CSV whose sha256 differs from that of its provenance, or no rows of `draws`.
    """
    provenance = read_provenance(path)
    table = read_table(path)
    complete = table[table["state"] == "complete"]
    if complete.empty:
        raise InputError(f"{path} has no complete training; {REMEDY}")
    _check_outcome(path, complete, objective)
    budget = _read_budget(path, complete)
    described = _read_patterns(path, complete, budget)
    _check_seeds(path, complete, len(table))
    losses, accuracies = (
        complete.pivot_table(index="key", columns="seed", values=name, dropna=False)
        for name in ("validation_loss", "validation_accuracy")
    )
    trained = TrainedTable(
        budget=budget,
        patterns=tuple(described["pattern"]),
        strategies=tuple(described["strategy"]),
        templates=tuple(None if pd.isna(name) else str(name) for name in described["template"]),
        seeds=tuple(map(int, losses.columns)),
        losses=losses.to_numpy(np.float64),
        accuracies=accuracies.to_numpy(np.float64),
        provenance=provenance,
        draws=draws,
    )
    if not trained.is_uniform.any():
        raise InputError(
            f"{path} has no rows of strategy {' or '.join(draws)} that random search could draw, only of "
            f"{', '.join(sorted({*trained.strategies}))}: give --draws with some of these, or {ANY}"
        )
    return trained


def _check_outcome(path: Path, complete: pd.DataFrame, objective: JudgedBy) -> None:
    if objective == "loss" and not (complete["validation_loss"] > 0).all():
        raise InputError(
            f"{path}: column validation_loss should be above 0 for every complete training: a loss has a logarithm; "
            "to judge by accuracy, give --objective accuracy"
        )
    if objective == "accuracy" and not complete["validation_accuracy"].between(0, 1).all():
        raise InputError(f"{path}: column validation_accuracy should be a share of 1 for every complete training")


def _read_budget(path: Path, complete: pd.DataFrame) -> Budget:
    for name in STRATUM:
        values = complete[name].unique().tolist()
        if len(values) > 1:
            raise InputError(f"{path} has several values of {name} ({', '.join(map(str, values))}); {REMEDY}")
    if complete[["budget", "layers"]].isna().any(axis=None):
        raise InputError(f"{path} does not say the budget and the layers of its patterns; {REMEDY}")
    return parse_budget(complete["budget"].iloc[0], int(complete["layers"].iloc[0]))


def _read_patterns(path: Path, complete: pd.DataFrame, budget: Budget) -> pd.DataFrame:
    """Return key, pattern, strategy and template of each pattern, by ascending key; check that they fit together."""
    patterns = {}
    for key, sources in complete[["key", "sources"]].drop_duplicates().itertuples(index=False):
        patterns[key] = pattern = _parse_sources(path, sources)
        if pattern.key != key or not budget.is_met_by(pattern):
            what = f"is not a pattern of budget {budget}" if pattern.key == key else f"has the key {pattern.key:.12}"
            raise InputError(f"{path}: the pattern of key {key!s:.12} with sources {sources:.200} {what}")
    described = complete[["key", "strategy", "template"]].drop_duplicates().sort_values("key")
    twice = described.loc[described["key"].duplicated(), "key"]
    if len(twice):
        raise InputError(
            f"{path}: the pattern of key {twice.iloc[0]!s:.12} has several strategies or templates: give all of its "
            "rows the same"
        )
    if described["strategy"].isna().any():
        raise InputError(f"{path} has patterns without a strategy: say what each was proposed by")
    return described.assign(pattern=described["key"].map(patterns))


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


def read_provenance(path: Path) -> dict[str, Any] | None:
    """Read what is recorded next to a table; None where nothing is.

    Raises:
        InputError: it is no JSON object, or the table is not the one that it is of, by its sha256.
    """
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
