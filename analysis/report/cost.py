"""What a run cost: trainings, patterns, time, and the size of a network."""

from collections.abc import Iterable
from datetime import datetime

import pandas as pd

from analysis.data.results import Run
from analysis.page.wording import count_nouns, format_count
from nas.records.database import Times, read_times


def describe_cost(run: Run) -> str:
    """Say what a run has cost so far, in a line without its full stop."""
    states = run.candidates["state"].value_counts()
    complete = int(states.get("complete", 0))
    asked = complete if run.asked is None else run.asked
    number = count_nouns(complete, "training") if complete == asked else f"{complete} of {asked} trainings"
    left = [
        f"{states[state]} {word}"
        for state, word in (("failed", "failed"), ("pruned", "dropped early"))
        if state in states
    ]
    is_lineup = run.kind == "comparison"
    different = run.candidates["regime" if is_lineup else "key"].nunique()
    text = f"{number} of {count_nouns(different, 'network' if is_lineup else 'pattern')}"
    text += f" ({', '.join(left)})" if left else ""
    if seconds := measure_time(run):
        text += f" in {format_seconds(seconds)}"
    size = _describe_size(run.candidates)
    return f"{text}; {size}" if size else text


def measure_time(run: Run) -> float:
    """Return for how many seconds at least one training of a run was going on; 0 where its ledger is not at hand."""
    ledger = run.path / "study.db"
    return sum_spans(read_times(ledger).values()) if ledger.is_file() else 0.0


def sum_spans(times: Iterable[Times]) -> float:
    """Return how many seconds are inside at least one training, each from its beginning to its end.

    >>> sum_spans([Times("2030-01-01 10:00:00", "2030-01-01 10:00:30"), Times("2030-01-01 10:00:20", None)])
    30.0
    """
    spans = sorted(
        (datetime.fromisoformat(began), datetime.fromisoformat(ended)) for began, ended in times if began and ended
    )
    total, reached = 0.0, None
    for began, ended in spans:
        start = began if reached is None else max(began, reached)
        total += max((ended - start).total_seconds(), 0.0)
        reached = ended if reached is None else max(reached, ended)
    return total


def format_seconds(seconds: float) -> str:
    """Return a time in words.

    >>> [format_seconds(each) for each in (0.4, 59.6, 150, 7260)]
    ['1 s', '1 min 0 s', '2 min 30 s', '2 h 1 min']
    """
    whole = max(round(seconds), 1)
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def _describe_size(candidates: pd.DataFrame) -> str:
    parts = [
        f"{_format_range(candidates[name].dropna())} {word}"
        for name, word in (("params", "parameters"), ("flops", "FLOPs"))
        if candidates[name].notna().any()
    ]
    return f"a network has {' and '.join(parts)}" if parts else ""


def _format_range(values: "pd.Series[int]") -> str:
    low, high = format_count(int(values.min())), format_count(int(values.max()))
    return low if low == high else f"{low} to {high}"
