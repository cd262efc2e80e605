"""Reads a run directory into tidy tables of candidates and learning curves."""

import json
import logging
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from analysis.data.outcomes import mark_outcomes
from analysis.data.protocol import list_declared
from analysis.data.proxies import list_proxies, read_proxies
from nas.records.database import STUDY_NAME, TESTED, Kind, read_attributes, read_kind, reading, storage_url
from nas.records.metrics import IMAGE_METRICS, Metrics, read_metrics
from nas.records.plan import read_cell, read_plan
from nas.records.shown import name_program, quote
from nas.records.trial import RESTORE, Strengths, Trial, check_trials
from search_spaces.distance import describe
from search_spaces.errors import ConflictError, InputError
from search_spaces.measures.registry import ALWAYS_SHOWN, list_brought, measure, measure_brought
from search_spaces.pattern import ConnectionPattern
from search_spaces.wiring.blocks import classifier_reads

# Nullable types: a missing seed or name must not turn its column into floats or the text "nan".
COLUMNS = {
    "number": "Int64",
    "state": "string",
    "key": "string",
    "template": "string",
    "strategy": "string",
    "regime": "string",
    "cell": "string",
    "matched": "string",
    "seed": "Int64",
    "budget": "string",
    "layers": "Int64",
    "connections": "Int64",
    "mean_bd": "float64",
    "max_bd": "Int64",
    "span": "float64",
    "from_output_mean": "float64",
    "to_input_mean": "float64",
    "max_in_degree": "Int64",
    "max_out_degree": "Int64",
    "random_walk_depth": "float64",
    "out_degree_sd": "float64",
    "mean_inverse_bd": "float64",
    **dict.fromkeys(ALWAYS_SHOWN, "float64"),
    "nn_mass": "float64",
    "params": "Int64",
    "flops": "Int64",
    **dict.fromkeys((metric.name for metric in IMAGE_METRICS), "float64"),
    "epochs": "Int64",
    "seconds": "float64",
    "error": "string",
    "sources": "string",
}
NETWORK_COLUMNS = {"growth": "Int64", "global_mean_bd": "float64"}  # only where the networks of a run differ in them
CURVE_COLUMNS = {"number": "Int64", "epoch": "Int64", "metric": "string", "value": "float64"}
STRATUM = ["budget", "layers", "regime"]  # only patterns that share these compare fairly
RIVALS = ("random_walk_depth", "out_degree_sd", "mean_inverse_bd")  # computed from the connections, as the distances
DESIGN = ("cell", "matched")  # a pattern's place in a study; a cell is as "2,0,1", its bin of each crossed measure
FIXED_BY_PATTERN = (
    "connections", "mean_bd", "max_bd", "span", "from_output_mean", "to_input_mean", "max_in_degree", "max_out_degree",
    *RIVALS, *ALWAYS_SHOWN, "params", "flops", "nn_mass", "sources",
)  # fmt: skip
RECORDED = ("regime", "matched", "params", "flops", "nn_mass")
MEASURED = ("epochs", "seconds", "error")


@dataclass(frozen=True, slots=True)
class Run:
    """The content of a run directory.

    Args:
        path: the run directory.
        candidates: one row a candidate, columns COLUMNS with the metrics of the run's task in the place of those of
            images, in order of number; then NETWORK_COLUMNS, measures of other packages and zero-cost proxies where the
            run has them.
        curves: one row a measurement, columns CURVE_COLUMNS: metric is what the task reports of an epoch, for images
            train_loss (nats), validation_loss (nats) or validation_accuracy (0..1).
        asked: number of candidates asked for; None where the study does not say.
        config, environment, data: the study's attributes of these names; empty where it has none.
        plan: the plan of a study or a final measurement, as nas.studies lays it out; None for others.
        plan_sha256: hash of the plan that the trainings were entered by.
        tested_at: when its test images were first looked at, ISO 8601; None where they were not.
        largest_class: share of the validation images that belong to their largest class; None where it is not recorded.
        strengths: mean absolute weight of each connection, in the order of `ConnectionPattern.connections`, by number
            of the candidate, where there are any.
        kept: of condensed networks, likewise, the share of each connection's channels that condensation kept.
        details: what the task kept of each finished training for the report, by number, where it keeps anything.
        examples: what these are shown by, such as images; empty for most tasks.
        driver_deaths: how often the driver died while a candidate was in training, by its number, where it did.
        kind: what the run was made for.
        metrics: metrics of its task, the primary one first.
        plugins: plug-ins of other packages that were installed, and whether the run uses them; empty in older runs.
        table: where earlier outcomes come from that its model was seeded with; empty for most runs. They are no rows of
            the candidates.
    """

    path: Path
    candidates: pd.DataFrame
    curves: pd.DataFrame
    asked: int | None
    config: dict[str, Any]
    environment: dict[str, Any]
    data: dict[str, Any]
    plan: dict[str, Any] | None = None
    plan_sha256: str | None = None
    tested_at: str | None = None
    largest_class: float | None = None
    strengths: Mapping[int, Strengths] = field(default_factory=dict)
    kept: Mapping[int, Strengths] = field(default_factory=dict)
    details: Mapping[int, Mapping[str, Any]] = field(default_factory=dict)
    examples: dict[str, Any] = field(default_factory=dict)
    driver_deaths: Mapping[int, int] = field(default_factory=dict)
    kind: Kind = "search"
    metrics: Metrics = IMAGE_METRICS
    plugins: tuple[dict[str, Any], ...] = ()
    table: dict[str, Any] = field(default_factory=dict)


def read_run(run: Path) -> Run:
    """Read a run directory, which may be in use, without changing it.

    Raises:
        InputError: there is no folder or no ledger, or its records contradict themselves.
        ConflictError: the ledger is lost, empty, damaged or foreign, or its plan is not its own.
        MachineError: the ledger cannot be opened.
    """
    ledger = run / "study.db"
    _check_ledger(run, ledger)
    trials, attributes = _load_study(ledger)
    metrics = read_metrics(attributes.get("metrics"))
    asked = attributes.get("asked")
    plan, sha256 = _read_own_plan(run, attributes.get("plan"))
    tested_at = _as_dict(attributes.get(TESTED)).get("at")
    largest = attributes.get("largest_class")
    config, kind = _as_dict(attributes.get("config")), read_kind(attributes)
    # The networks of a comparison differ in what their classifiers read.
    transition = None if kind == "comparison" else str(config.get("transition", "log"))
    declared = tuple(name for name in list_declared(plan) if name not in _list_columns(metrics))
    return Run(
        path=run,
        candidates=mark_outcomes(_tabulate_candidates(trials, ledger, transition, declared, metrics), metrics),
        curves=pd.DataFrame(
            [row for trial in trials for row in _curve_rows(trial)], columns=list(CURVE_COLUMNS)
        ).astype(CURVE_COLUMNS),
        asked=asked if isinstance(asked, int) else None,
        config=config,
        environment=_as_dict(attributes.get("environment")),
        data=_as_dict(attributes.get("data")),
        plan=plan,
        plan_sha256=sha256,
        tested_at=tested_at if isinstance(tested_at, str) else None,
        largest_class=float(largest) if isinstance(largest, float | int) and 0 < largest <= 1 else None,
        strengths={trial.number: trial.strengths for trial in trials if trial.strengths},
        kept={trial.number: trial.kept for trial in trials if trial.kept},
        details={trial.number: trial.details for trial in trials if trial.details},
        examples=_as_dict(attributes.get("examples")),
        driver_deaths={trial.number: n for trial in trials if (n := trial.attempts.driver_deaths) > 0},
        kind=kind,
        metrics=metrics,
        plugins=tuple(map(_as_dict, attributes["plugins"])) if isinstance(attributes.get("plugins"), list) else (),
        table=_as_dict(attributes.get("table")),
    )


def _read_own_plan(run: Path, sha256: object) -> tuple[dict[str, Any] | None, str | None]:
    if not isinstance(sha256, str):
        return None, None
    existing = read_plan(run)
    if existing is None or existing[1] != sha256:
        problem = "is missing" if existing is None else f"is another one ({existing[1][:12]})"
        raise ConflictError(
            f"the trainings of {run} were planned by plan.json {sha256[:12]}, and it {problem}: restore it from a copy"
        )
    return existing


def _check_ledger(run: Path, ledger: Path) -> None:
    """Check that there is a ledger: Optuna makes its tables in whatever file it is given."""
    if not run.is_dir():
        raise InputError(
            f"no run directory at {run}: check the path, or make a run there by `{name_program()} search --run "
            f"{quote(run)}`"
        )
    if not ledger.is_file():
        if (run / "config.toml").is_file():
            raise ConflictError(f"{run} has lost its study.db, which contained all of its results: {RESTORE}")
        raise InputError(
            f"{run} has no study.db, so it is not a run directory; `{name_program()} search --run {quote(run)}` makes "
            "one"
        )
    read_attributes(ledger)


def _read_trial(trial: object, metrics: Metrics, ledger: Path) -> Trial:
    try:
        return Trial.from_optuna(trial, metrics)
    except InputError as error:
        raise InputError(f"{ledger}: {error}") from None


def _load_study(ledger: Path) -> tuple[list[Trial], dict[str, Any]]:
    import optuna  # half a second, so not at the top

    level = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(logging.ERROR)  # what is wrong is raised
    storage = None
    try:
        with reading(ledger):
            storage = optuna.storages.RDBStorage(storage_url(ledger))
            study = optuna.load_study(study_name=STUDY_NAME, storage=storage)
            trials = study.get_trials(deepcopy=False)
            check_trials(trials, ledger)
            attributes = study.user_attrs
        metrics = read_metrics(attributes.get("metrics"))
        return [_read_trial(trial, metrics, ledger) for trial in trials], attributes
    except optuna.exceptions.OptunaError as error:
        raise ConflictError(
            f"{ledger} cannot be read by optuna {optuna.__version__} ({error!s:.300}): {RESTORE}"
        ) from None
    finally:
        if storage is not None:
            storage.remove_session()
            storage.engine.dispose()
        optuna.logging.set_verbosity(level)


def _list_columns(metrics: Metrics) -> dict[str, str]:
    """Return the columns of a table of candidates with these metrics."""
    own = dict.fromkeys((metric.name for metric in metrics), "float64")
    fixed = {name: kind for name, kind in COLUMNS.items() if name not in {metric.name for metric in IMAGE_METRICS}}
    place = [*fixed].index("epochs")
    columns = [*fixed.items()]
    return dict([*columns[:place], *own.items(), *columns[place:]])


def _tabulate_candidates(
    trials: list[Trial], ledger: Path, transition: str | None, declared: tuple[str, ...], metrics: Metrics
) -> pd.DataFrame:
    """Return the table of candidates.

    Args:
        transition: what the classifier reads; None where it is not known: measures of the walk are as recorded.
        declared: measures of the plan that are no columns by themselves.
    """
    described: dict[Any, dict[str, Any]] = {}  # networkx once a pattern, not a seed
    rows = []
    for trial in trials:
        place = (trial.pattern, trial.template) if transition == "rule" else trial.pattern
        if place not in described:
            described[place] = _describe_pattern(trial, transition, declared)
        rows.append(_candidate_row(trial, described[place], ledger))
    recorded = {name for trial in trials for name in trial.facts}
    columns = _list_columns(metrics) | {name: kind for name, kind in NETWORK_COLUMNS.items() if name in recorded}
    present = list(dict.fromkeys(name for row in rows for name in row))
    columns |= dict.fromkeys([*declared, *find_brought(present), *list_proxies(present)], "float64")
    return pd.DataFrame(rows, columns=list(columns)).astype(columns)


def _describe_pattern(trial: Trial, transition: str | None, declared: tuple[str, ...]) -> dict[str, Any]:
    pattern = trial.pattern
    own = {**describe(pattern), **measure(pattern, RIVALS), "key": pattern.key}
    if transition is None:
        return own
    reads = classifier_reads(transition, pattern, trial.template)
    return {**own, **measure(pattern, (*ALWAYS_SHOWN, *declared), reads), **measure_brought(pattern, reads, COLUMNS)}


def find_brought(columns: Iterable[object]) -> list[str]:
    """Return those columns that are measures of other packages."""
    present = set(columns) - set(COLUMNS)
    return [each.name for each in list_brought() if each.name in present]


def _candidate_row(trial: Trial, descriptors: dict[str, Any], ledger: Path) -> dict[str, Any]:
    for name, value in {**trial.facts, **trial.descriptors}.items():
        if value is not None and name in descriptors and not _agree(value, descriptors[name]):
            raise InputError(
                f"{ledger} contradicts itself: trial {trial.number} records {name} {value}, but its connections give "
                f"{descriptors[name]}; the file was edited or written by another program"
            )
    outcome = trial.outcome
    measured = {} if outcome is None else {name: getattr(outcome, name) for name in MEASURED}
    return {
        **{name: trial.facts.get(name) for name in (*RECORDED, *ALWAYS_SHOWN, *NETWORK_COLUMNS)},
        "cell": None if (cell := read_cell(trial.facts)) is None else ",".join(map(str, cell)),
        **descriptors,
        **measured,
        **({} if outcome is None else outcome.metrics),
        trial.declared[0].name: trial.value,  # a trial that paused has one in its outcome too
        **read_proxies(trial, ledger),
        "number": trial.number,
        "state": trial.state,
        "template": trial.template,
        "strategy": trial.strategy,
        "seed": trial.seed,
        "budget": trial.budget,
        "sources": json.dumps([list(inputs) for inputs in trial.pattern.sources], separators=(",", ":")),
    }


def _agree(recorded: object, computed: object) -> bool:
    if isinstance(recorded, float | int) and isinstance(computed, float | int):
        return math.isclose(recorded, computed, rel_tol=1e-9)
    return recorded == computed


def _curve_rows(trial: Trial) -> Iterator[dict[str, Any]]:
    for point in () if trial.outcome is None else trial.outcome.curve:
        for metric, value in point.items():
            if metric != "epoch" and value is not None:
                yield {"number": trial.number, "epoch": point.get("epoch"), "metric": metric, "value": value}


def parse_sources(text: str) -> ConnectionPattern:
    """Return the pattern of a row's `sources`.

    >>> parse_sources("[[0], [0, 1]]").sources
    ((0,), (0, 1))
    """
    sources = json.loads(text)
    return ConnectionPattern.from_sources(sources)


def _as_dict(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}
