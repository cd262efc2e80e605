"""Compares a study's plan with what was done: whether it was kept, and what is missing."""

from dataclasses import dataclass

import pandas as pd

from analysis.data.protocol import VERSION, describe_protocol, list_declared, read_version
from analysis.data.results import Run
from nas.records.plan import Missing, list_crossings, read_cell


@dataclass(frozen=True, slots=True)
class Progress:
    """How much of one stratum of a plan is done.

    Args:
        checks: the regime that it checks, or None.
        planned, complete, failed: numbers of trainings.
        planned_patterns, complete_patterns: numbers of patterns, complete at every seed.
        missing_cells: designed cells without any complete training, each the bin of every crossed measure.
        lacking_cells: cells for which the plan found fewer patterns than asked, with the number that it lacks.
    """

    layers: int
    regime: str
    checks: str | None
    planned: int
    complete: int
    failed: int
    planned_patterns: int
    complete_patterns: int
    missing_cells: tuple[tuple[int, ...], ...]
    lacking_cells: tuple[Missing, ...]


@dataclass(frozen=True, slots=True)
class Adherence:
    """Whether a study kept to its plan.

    Args:
        sha256: hash of the plan, recorded in the ledger before the first training.
        version: version of the rules that it was made under.
        deviations: differences from the plan, in words; empty where the plan was kept so far.
        n_missing: number of planned trainings without an outcome.
    """

    sha256: str
    version: int
    deviations: tuple[str, ...]
    n_missing: int
    progress: tuple[Progress, ...]


def check_adherence(run: Run) -> Adherence:
    """Compare a study's candidates with its plan."""
    assert run.plan is not None
    assert run.plan_sha256 is not None
    planned = _tabulate_plan(run)
    done = run.candidates[["regime", "key", "seed", "state"]]
    joined = planned.merge(done, how="outer", on=["regime", "key", "seed"], indicator=True)
    deviations = []
    extra = joined[joined["_merge"] == "right_only"]
    if len(extra):
        deviations.append(f"{len(extra)} trainings are in the ledger that were not planned")
    repeated = int(done.duplicated(["regime", "key", "seed"]).sum())
    if repeated:
        deviations.append(f"{repeated} trainings are in the ledger twice")
    protocol = run.plan["protocol"]
    version = read_version(protocol)
    # A plan of an earlier version is judged by the present rules, as exploratory: no other set of rules is kept.
    if version == VERSION and protocol != describe_protocol(list_declared(run.plan), run.metrics):
        deviations.append("this version of the program tests by another protocol than the plan's")
    wanted = joined[joined["_merge"] != "right_only"]
    n_missing = int((~wanted["state"].isin(["complete", "failed"])).sum())
    progress = tuple(_measure_progress(run, wanted, stratum) for stratum in run.plan["strata"])
    return Adherence(run.plan_sha256, version, tuple(deviations), n_missing, progress)


def _tabulate_plan(run: Run) -> pd.DataFrame:
    """Return a table with one row a planned training."""
    assert run.plan is not None
    strata, patterns = run.plan["strata"], run.plan["patterns"]
    rows = [
        {
            "place": place,
            "regime": strata[place]["regime"],
            "key": patterns[number]["key"],
            "seed": seed,
            "cell": None if (cell := read_cell(patterns[number])) is None else tuple(cell),
        }
        for place, number, seed in run.plan["order"]
    ]
    kinds = {"regime": "string", "key": "string", "seed": "Int64"}
    return pd.DataFrame(rows, columns=["place", *kinds, "cell"]).astype(kinds)


def _measure_progress(run: Run, wanted: pd.DataFrame, stratum: dict[str, object]) -> Progress:
    assert run.plan is not None
    rows = wanted[wanted["place"] == run.plan["strata"].index(stratum)]
    is_complete = (rows["state"] == "complete").fillna(False)
    by_pattern = is_complete.groupby(rows["key"]).all()
    cells = rows["cell"].dropna()
    by_cell = is_complete.loc[cells.index].groupby(cells).any()
    crossing = next(each for each in list_crossings(run.plan) if each.layers == stratum["layers"])
    layers, checks = stratum["layers"], stratum["checks"]
    assert isinstance(layers, int)
    return Progress(
        layers=layers,
        regime=str(stratum["regime"]),
        checks=None if checks is None else str(checks),
        planned=len(rows),
        complete=int(is_complete.sum()),
        failed=int((rows["state"] == "failed").sum()),
        planned_patterns=len(by_pattern),
        complete_patterns=int(by_pattern.sum()),
        missing_cells=tuple(by_cell.index[~by_cell]),
        lacking_cells=crossing.lacking,
    )
