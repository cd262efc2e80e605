"""What a page's script knows of the patterns in its pictures and tables: connections, measures, outcomes by seed."""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pandas as pd

from analysis.data.outcomes import OutcomeName, is_lower_better
from analysis.data.results import parse_sources
from analysis.page.wording import UNITS, choose_digits, label_outcome, name_measure
from analysis.picks.found import Found
from analysis.picks.words import format_outcome
from analysis.stats.intervals import range_of, student_quantile
from analysis.study.plots import select_marked
from analysis.study.view import View, is_seeded_by_outcomes

SHOWN_MEASURES = ("connections", "mean_bd", "max_bd", "span", "walk_length", "visit_evenness")
MOST_ARCS = 150_000  # characters of connections on a page: deep patterns beyond have none, the best come first
BASE_36 = "0123456789abcdefghijklmnopqrstuvwxyz"


def link_patterns(views: Sequence[View], picks: Sequence[Found] = ()) -> dict[str, Any]:
    """Return the page's data as JSON values, small enough for a page.

    Args:
        views: strata of a run.
        picks: what a search found.

    Returns:
        `measures`, the names of those that `patterns` has by key; `groups`, the outcomes of each stratum by its name
        in the pictures, of patterns by their place in `patterns`; `quantiles`, how many standard errors an interval of
        n + 2 values reaches to each side.
    """
    patterns: dict[str, dict[str, Any]] = {}
    groups = {}
    columns = [name for name in (*SHOWN_MEASURES, *_list_declared(views)) if _is_known(views, name)]
    left = MOST_ARCS
    places: dict[str, str] = {}
    for view in views:
        shown = select_marked(view.patterns)
        for _, row in shown.iterrows():
            if row["key"] in patterns:
                continue
            places[row["key"]] = str(len(patterns))
            skips = encode_skips(parse_sources(row["sources"]).sources)
            left -= len(skips)
            patterns[row["key"]] = {
                "name": None if pd.isna(row["template"]) else row["template"],
                "by": None if pd.isna(row["strategy"]) else row["strategy"],
                "layers": int(row["layers"]),
                "skips": skips if left >= 0 else None,
                "measures": [_format_measure(row[name]) for name in columns],
            }
        groups[view.name] = _group(view, shown, picks, places)
    largest = max((len(group["values"]) for group in groups.values()), default=0)
    return {
        "measures": [name_measure(name) for name in columns],
        "patterns": patterns,
        "groups": groups,
        "quantiles": [round(student_quantile(n - 1), 5) for n in range(2, largest + 1)],
    }


def encode_skips(sources: Sequence[Sequence[int]]) -> str:
    """Return the skips that every layer reads, layers apart by commas, each source in base 36 with one digit or two.

    Args:
        sources: sources of layers 1 to L, the chain's among them.

    >>> encode_skips([(0,), (0, 1), (1, 2)]), encode_skips([(0,)] * 37)[-5:]
    (',0,1', '00,00')
    """
    width = 1 if len(sources) <= len(BASE_36) else 2
    return ",".join(
        "".join(_write(source, width) for source in inputs if source < layer - 1)
        for layer, inputs in enumerate(sources, start=1)
    )


def _write(number: int, width: int) -> str:
    return (BASE_36[number // len(BASE_36)] if width == 2 else "") + BASE_36[number % len(BASE_36)]


def _list_declared(views: Sequence[View]) -> Iterator[str]:
    declared = dict.fromkeys(name for view in views for name in view.stratum.measures)
    return (name for name in declared if name not in SHOWN_MEASURES)


def _is_known(views: Sequence[View], measure: str) -> bool:
    return all(measure in view.patterns and bool(view.patterns[measure].notna().any()) for view in views)


def _format_measure(value: Any) -> str:
    if pd.isna(value):
        return "-"
    return str(value) if isinstance(value, int) or float(value).is_integer() else f"{float(value):.3f}"


def _group(view: View, shown: pd.DataFrame, picks: Sequence[Found], places: Mapping[str, str]) -> dict[str, Any]:
    """Return a stratum's outcomes: of every pattern, a list for each outcome with a value or null for each seed.

    Args:
        places: a pattern's number on the page, by its key, which is long.
    """
    complete = view.candidates[view.candidates["state"] == "complete"].drop_duplicates(["key", "seed"])
    complete = complete[complete["key"].isin(shown["key"])]
    seeds = sorted(int(seed) for seed in complete["seed"].dropna().unique())
    values: dict[str, list[list[float | None]]] = {key: [] for key in shown["key"]}
    for outcome in view.outcomes:
        table = complete.pivot_table(index="key", columns="seed", values=outcome, dropna=False)
        table = table.reindex(index=list(values), columns=seeds)
        digits = _choose_digits(complete, outcome)
        for own, row in zip(values.values(), table.to_numpy().tolist(), strict=True):
            own.append([None if math.isnan(value) else round(value, digits) for value in row])
    return {
        "layers": view.stratum.layers,
        "budget": view.stratum.budget,
        "regime": view.stratum.regime,
        "seeds": seeds,
        "levelled": not is_seeded_by_outcomes(view.patterns),
        "outcomes": [_describe_outcome(complete, outcome) for outcome in view.outcomes],
        "values": {places[key]: own for key, own in values.items()},
        "expected": {places[key]: text for key, text in _list_expected(view, picks) if key in values},
    }


def _choose_digits(complete: pd.DataFrame, outcome: OutcomeName) -> int:
    """Return how many decimals the page shows of an outcome."""
    return 4 if outcome in UNITS else choose_digits(float(complete[outcome].median()))


def _describe_outcome(complete: pd.DataFrame, outcome: OutcomeName) -> dict[str, Any]:
    low, high = (None if abs(end) == float("inf") else end for end in range_of(outcome))
    return {
        "name": str(outcome),
        "label": label_outcome(outcome),
        "digits": _choose_digits(complete, outcome),
        "bounds": [low, high],
        "lower": is_lower_better(outcome),
    }


def _list_expected(view: View, picks: Sequence[Found]) -> Iterator[tuple[str, str]]:
    """Yield what the search's model expects of a pattern at a new seed, with its interval."""
    for found in picks:
        if (found.budget, found.layers) != (view.stratum.budget, view.stratum.layers):
            continue
        unit = {"nats": " nats", "%": " %"}.get(UNITS.get(found.objective.outcome, ""), "")
        for ranked in found.ranked:
            if ranked.expected is not None and ranked.expected.low is not None and ranked.expected.high is not None:
                value, low, high = (
                    format_outcome(number, found.objective)
                    for number in (ranked.expected.value, ranked.expected.low, ranked.expected.high)
                )
                yield ranked.key, f"{value} [{low}, {high}]{unit}"
