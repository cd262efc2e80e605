"""how well named templates, optima, controls and samples do, each with an interval."""

from dataclasses import dataclass

import pandas as pd

from analysis.averages import average_patterns
from analysis.intervals import RANGES, clip, student_interval
from analysis.protocol import OUTCOMES, SAMPLED

GROUPS = ("optimum", "control", "random", "design", "reversal")


@dataclass(frozen=True, slots=True)
class Level:
    """The mean of the primary outcome over a template's seeds, or over a group's patterns.

    Args:
        name: a template's, or a strategy's for all its patterns together.
        n_patterns: 1 for a template; n_seeds: that its patterns have.
        mean_bd: mean over its patterns, in hops.
        value: in the outcome's unit and range; low, high: interval by student_interval, or None. A template's is over
            its seeds, each seed's own mean over the sampled patterns taken out; a group's is over its patterns.
    """

    name: str
    outcome: str
    n_patterns: int
    n_seeds: int
    mean_bd: float
    value: float
    low: float | None
    high: float | None


def measure_levels(complete: pd.DataFrame) -> tuple[Level, ...]:
    """Templates, then groups of patterns; none without a seed at which sampled patterns are complete too.

    Args:
        complete: complete candidates of one stratum.
    """
    outcome = next((name for name in OUTCOMES if complete[name].notna().any()), None)
    if outcome is None:
        return ()
    sampled = complete[complete["strategy"].isin(SAMPLED)]
    reference = sampled if len(sampled) else complete
    by_seed = reference.groupby("seed")[outcome].mean()
    centred = complete.assign(centred=complete[outcome] - complete["seed"].map(by_seed)).dropna(subset=["centred"])
    level = float(by_seed.mean())
    patterns = average_patterns(complete)
    levels = []
    for name, key in patterns.dropna(subset=["template"])[["template", "key"]].itertuples(index=False):
        rows = centred[centred["key"] == key]
        levels.append(_measure(str(name), outcome, rows, rows["centred"], level))
    for strategy in GROUPS:
        rows = centred[centred["strategy"] == strategy]
        levels.append(_measure(strategy, outcome, rows, rows.groupby("key")["centred"].mean(), level))
    return tuple(one for one in levels if one is not None)


def _measure(name: str, outcome: str, rows: pd.DataFrame, values: "pd.Series[float]", level: float) -> Level | None:
    if values.empty:
        return None
    mean = clip(level + float(values.mean()), RANGES[outcome])  # seeds that a pattern lacks may have moved it outside
    low, high = student_interval(values, RANGES[outcome], centre=mean)
    return Level(
        name=name,
        outcome=outcome,
        n_patterns=int(rows["key"].nunique()),
        n_seeds=int(rows["seed"].nunique()),
        mean_bd=float(rows.drop_duplicates("key")["mean_bd"].mean()),
        value=mean,
        low=low,
        high=high,
    )
