"""accuracy against what connections cost: families of templates, and what a search found, over its budgets."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import pandas as pd

from analysis.data.results import STRATUM
from analysis.stats.guessing import UNKNOWN, Guessing, Learning, measure_learning
from analysis.stats.intervals import SHARE, SHARES_APART, clip, student_interval
from analysis.tradeoff.contenders import ACCURACY, FOUND, RANDOM, Contender, list_contenders

KEPT_MARGIN = 0.01  # accuracy, a share of 1: a loss below one percentage point keeps the accuracy
Status = Literal["kept", "lost", "unsettled"]


@dataclass(frozen=True, slots=True)
class Difference:
    """A budget's accuracy less that of the same family's largest budget, paired by seed.

    Args:
        mean, low, high: shares of 1; interval over n_seeds shared seeds by student_interval, None for one
            seed and where all seeds differ by the same.
        status: kept if the interval lies above -KEPT_MARGIN, lost if below it, unsettled if neither or without one.
    """

    mean: float
    low: float | None
    high: float | None
    n_seeds: int
    status: Status


@dataclass(frozen=True, slots=True)
class Point:
    """One family at one budget, measured.

    Args:
        family, budget, pattern, connections, params, flops, n_patterns, picked: of its Contender.
        accuracy: mean over its n_seeds seeds, a share of 1; low, high: interval over seeds by student_interval, each
            seed's own mean over all points taken out (Cousineau 2005, corrected as in Morey 2008).
        difference: to the family's largest budget; None for that budget itself, or without a shared seed.
    """

    family: str
    budget: str
    pattern: str
    connections: int
    params: int | None
    flops: int | None
    n_patterns: int
    n_seeds: int
    accuracy: float
    low: float | None
    high: float | None
    picked: float | None
    difference: Difference | None


@dataclass(frozen=True, slots=True)
class Answer:
    """How few connections keep a family's accuracy.

    Budgets are judged from the largest down, and the first that is not kept ends it: a fixed order, so that no
    interval needs widening for the number of budgets.

    Args:
        largest, fewest: connections of the family's largest budget, and of the smallest that still keeps its accuracy.
        stopped: connections of the budget that ended it, status and n_seeds those of its difference; None if all keep.
    """

    family: str
    largest: int
    fewest: int
    stopped: int | None
    status: Status | None
    n_seeds: int | None


@dataclass(frozen=True, slots=True)
class Tradeoff:
    """All budgets of one depth.

    Args:
        points: by family, those with several budgets first, FOUND and RANDOM after the templates; fewest connections
            first inside each.
        answers: of every family with several budgets but RANDOM, which is no pattern to build.
        learning: mean accuracy at the largest budget, which the others are compared with, next to what guessing
            reaches; where it is no better, no budget can be said to keep it.
    """

    layers: int
    margin: float
    points: tuple[Point, ...]
    answers: tuple[Answer, ...]
    learning: Learning | None = None


def measure_tradeoffs(candidates: pd.DataFrame, guessing: Guessing = UNKNOWN) -> tuple[Tradeoff, ...]:
    """Accuracy against connections at every depth that was trained at two budgets or more, outside any regime.

    Args:
        candidates: rows of read_run.
        guessing: accuracy without a look at the images.
    """
    complete = candidates[(candidates["state"] == "complete").fillna(False) & candidates["regime"].isna()]
    complete = complete.dropna(subset=[ACCURACY]).drop_duplicates([*STRATUM, "key", "seed"])
    return tuple(
        _measure_depth(int(rows["layers"].iloc[0]), rows, guessing)
        for _, rows in complete.groupby("layers")
        if len(rows["budget"].unique()) > 1
    )


def _measure_depth(layers: int, complete: pd.DataFrame, guessing: Guessing) -> Tradeoff:
    series = [one for _, rows in complete.groupby("budget") for one in list_contenders(rows, complete)]
    n_budgets = Counter(one.family for one in series)
    series.sort(key=lambda one: (n_budgets[one.family] == 1, _rank(one.family), one.connections, one.budget))
    largest = {one.family: one for one in series}  # the last of each
    points = tuple(
        _measure(one, place, None if one is largest[one.family] else _compare(one.by_seed, largest[one.family].by_seed))
        for one, place in zip(series, _locate(series), strict=True)
    )
    answers = tuple(
        _answer([point for point in points if point.family == family])
        for family in dict.fromkeys(point.family for point in points)
        if n_budgets[family] > 1 and family != RANDOM
    )
    at_largest = complete[complete["connections"] == complete["connections"].max()]
    return Tradeoff(layers, KEPT_MARGIN, points, answers, measure_learning(at_largest, guessing))


def _rank(family: str) -> tuple[int, str]:
    """Templates by name, then what was found, then the random mean."""
    return ({FOUND: 1, RANDOM: 2}.get(family, 0), family)


def _locate(series: Sequence[Contender]) -> list[tuple[float, float | None, float | None]]:
    """Mean over seeds and its interval, each seed's own mean over the series that have every seed taken out."""
    table = pd.DataFrame([one.by_seed for one in series]).reset_index(drop=True)  # (series, seeds)
    is_repeated = pd.Series(pd.MultiIndex.from_tuples([(one.budget, one.pattern) for one in series]).duplicated())
    full = table[table.notna().all(axis=1) & ~is_repeated]  # a pattern that stands for two families counts once
    scale = 1.0
    if len(full) > 1:
        table = table - (full.mean() - full.mean().mean())
        # What is taken out holds 1 / n of the point itself (Morey 2008, eq. 2).
        scale = (len(full) / (len(full) - 1)) ** 0.5
    places = []
    for _, own in table.iterrows():
        mean = clip(float(own.mean()), SHARE)  # seeds that a point lacks may have moved it outside
        places.append((mean, *student_interval(own.dropna(), SHARE, centre=mean, widen=scale)))
    return places


def _measure(one: Contender, place: tuple[float, float | None, float | None], difference: Difference | None) -> Point:
    mean, low, high = place
    return Point(
        family=one.family,
        budget=one.budget,
        pattern=one.pattern,
        connections=one.connections,
        params=one.params,
        flops=one.flops,
        n_patterns=one.n_patterns,
        n_seeds=len(one.by_seed),
        accuracy=mean,
        low=low,
        high=high,
        picked=one.picked,
        difference=difference,
    )


def _compare(own: "pd.Series[float]", largest: "pd.Series[float]") -> Difference | None:
    differences = (own - largest).dropna().round(12)  # 1e-17 between equal outcomes is none
    n = len(differences)
    if n == 0:
        return None
    low, high = student_interval(differences, SHARES_APART)
    status: Status = "unsettled"
    if low is not None and high is not None:
        status = "kept" if low > -KEPT_MARGIN else "lost" if high < -KEPT_MARGIN else "unsettled"
    return Difference(float(differences.mean()), low, high, n, status)


def _answer(points: Sequence[Point]) -> Answer:
    """Of one family's points, fewest connections first."""
    *smaller, reference = points
    fewest = reference.connections
    for point in reversed(smaller):
        status = "unsettled" if point.difference is None else point.difference.status
        if status != "kept":
            n_seeds = None if point.difference is None else point.difference.n_seeds
            return Answer(reference.family, reference.connections, fewest, point.connections, status, n_seeds)
        fewest = point.connections
    return Answer(reference.family, reference.connections, fewest, None, None, None)
