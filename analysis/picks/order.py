"""Patterns in the order in which a run recommends them, and how far the run is."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from analysis.data.averages import average_patterns
from analysis.data.outcomes import is_of_images, list_shown
from analysis.data.results import Run
from analysis.picks.found import Found, Place, RankedPattern, judge_search
from analysis.picks.words import answer_found

N_TOLD = 10
DIGITS = 5


def order_patterns(run: Run, picks: Sequence[Found] | None = None) -> pd.DataFrame:
    """Return the rows of average_patterns, the recommended pattern first.

    A search recommends by what is expected at a new seed, where the model could say it; the other kinds of run by
    average_patterns. All commands and the report take this order.

    Args:
        picks: what judge_search gave, if it is known already.
    """
    return sort_found(average_patterns(run.candidates), judge_search(run) if picks is None else picks)


def sort_found(patterns: pd.DataFrame, picks: Sequence[Found]) -> pd.DataFrame:
    """Sort rows of average_patterns as a search ranks them; they stay as they are without picks."""
    if not picks:
        return patterns
    by_place = index_places(picks)
    orders = [by_place[find_place(row)].order for _, row in patterns.iterrows()]
    return patterns.iloc[sorted(range(len(orders)), key=orders.__getitem__)].reset_index(drop=True)


def index_places(picks: Sequence[Found]) -> dict[Place, RankedPattern]:
    """Return every ranked pattern of a search by its place."""
    return {place: ranked for found in picks for place, ranked in found.places.items()}


def find_place(row: "Mapping[str, Any] | pd.Series[Any]") -> Place:
    """Return the budget, layers, regime and key of a row, which no other row of its run has."""
    regime = None if pd.isna(row["regime"]) else str(row["regime"])
    return str(row["budget"]), int(row["layers"]), regime, str(row["key"])


def describe_expected(ranked: RankedPattern) -> dict[str, Any]:
    """Return what a search expects of a pattern as values for JSON: null where the model could not say it."""
    expected = ranked.expected
    values = {
        "objective": ranked.objective,
        "n_trainings": ranked.n_trainings,
        "expected": None if expected is None else expected.value,
        "interval": None if expected is None else {"low": expected.low, "high": expected.high},
        "chance_better_than_log": ranked.chance_better_than_log,
    }
    rounded: dict[str, Any] = round_values(values)
    return rounded


def summarise_found(found: Found) -> dict[str, Any]:
    """Return what a search found at one budget as values for JSON, with the N_TOLD best patterns."""
    values = dataclasses.asdict(dataclasses.replace(found, ranked=found.ranked[:N_TOLD]))
    for ranked in (*values["ranked"], *([values["template"]] if found.template else [])):
        ranked.pop("order")
        over_log = ranked["over_log"]
        ranked["chance_better_than_log"] = None if over_log is None else over_log["chance"]
    return {"sentence": answer_found(found), **round_values(values)}


def round_values(value: Any) -> Any:
    """Return JSON values with DIGITS digits: what the model says differs beyond them between processors."""
    if isinstance(value, dict):
        return {name: round_values(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [round_values(inner) for inner in value]
    return float(f"{value:.{DIGITS}g}") if isinstance(value, float) else value


def summarise_status(run: Run, picks: Sequence[Found] | None = None) -> dict[str, Any]:
    """Return how many candidates of a run are in which state, and the recommended pattern, as plain numbers.

    Args:
        picks: what judge_search gave, if it is known already.
    """
    states = run.candidates["state"].value_counts()
    picks = judge_search(run) if picks is None else picks
    patterns = order_patterns(run, picks)
    best = None
    if len(patterns):
        row = patterns.iloc[0]
        outcome = list_shown(patterns)[0]
        best = {"key": row["key"], "mean_bd": float(row["mean_bd"]), "value": float(row[outcome])}
        if not is_of_images(patterns):
            best["metric"] = str(outcome)
        if picks:
            best |= describe_expected(index_places(picks)[find_place(row)])
    return {
        **{state: int(states.get(state, 0)) for state in ("complete", "failed", "pruned", "running")},
        "asked": run.asked,
        "patterns": int(run.candidates["key"].nunique()),
        "best": best,
    }
