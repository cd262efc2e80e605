"""Accuracy against what connections cost: families of templates, and what a search found, over its budgets."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from typing import Literal

import pandas as pd

from analysis.data.results import STRATUM
from analysis.picks.found import Found
from analysis.stats.guessing import ACCURACY, UNKNOWN, Guessing, Learning, measure_learning
from analysis.stats.intervals import SHARE, SHARES_APART, clip, student_interval
from analysis.tradeoff.contenders import FOUND, RANDOM, Contender, Member, list_contenders

KEPT_MARGIN = 0.01  # accuracy, a share of 1: a loss below one percentage point keeps the accuracy
BudgetStatus = Literal["kept", "lost", "unsettled"]


@dataclass(frozen=True, slots=True)
class Difference:
    """A budget's accuracy less that of the same family's largest budget, paired by seed.

    Args:
        mean, low, high: share of 1; interval by student_interval over the n_seeds seeds that both have, None for one
            seed and where all seeds differ by the same.
        status: kept if the interval lies above -KEPT_MARGIN, lost if below it, unsettled if neither or without one.
    """

    mean: float
    low: float | None
    high: float | None
    n_seeds: int
    status: BudgetStatus


@dataclass(frozen=True, slots=True)
class Point(Member):
    """One family at one budget, measured.

    Args:
        accuracy, low, high: mean over seeds, a share of 1, and its interval by student_interval, each seed's own mean
            over all points taken out (Cousineau 2005, corrected as in Morey 2008).
        picked, is_own_mean: those of its Contender.
        difference: to the family's largest budget; None for that budget itself, or without a shared seed.
    """

    n_seeds: int
    accuracy: float
    low: float | None
    high: float | None
    picked: float | None
    difference: Difference | None
    is_own_mean: bool = False


@dataclass(frozen=True, slots=True)
class Answer:
    """How few connections keep a family's accuracy.

    Budgets are judged from the largest down to the first that does not keep it. The order is fixed, so no interval
    needs widening for the number of budgets.

    Args:
        largest: connections of the family's largest budget.
        fewest: connections of the smallest budget that still keeps its accuracy.
        stopped: connections of the first budget that does not; None if all do.
        status, n_seeds: those of that budget's difference.
    """

    family: str
    largest: int
    fewest: int
    stopped: int | None
    status: BudgetStatus | None
    n_seeds: int | None


@dataclass(frozen=True, slots=True)
class Tradeoff:
    """All budgets of one depth.

    Args:
        margin: loss of accuracy, a share of 1, below which the accuracy counts as kept.
        points: by family, those with several budgets first, FOUND and RANDOM after the templates; fewest connections
            first inside each.
        answers: one for each family with several budgets but RANDOM, which is no pattern to build.
        learning: mean accuracy at the largest budget, which the others are compared with, next to what guessing
            reaches; where it is no better, no budget can be said to keep it.
    """

    layers: int
    margin: float
    points: tuple[Point, ...]
    answers: tuple[Answer, ...]
    learning: Learning | None = None


def measure_tradeoffs(
    candidates: pd.DataFrame, guessing: Guessing = UNKNOWN, picks: Sequence[Found] = ()
) -> tuple[Tradeoff, ...]:
    """Measure accuracy against connections at every depth trained at two budgets or more, outside any regime.

    Args:
        candidates: rows of read_run.
        guessing: accuracy reached without a look at the images.
        picks: what the search found at each budget.
    """
    complete = candidates[(candidates["state"] == "complete").fillna(False) & candidates["regime"].isna()]
    if ACCURACY not in complete:  # what counts as kept is known of a share of images only
        return ()
    complete = complete.dropna(subset=[ACCURACY]).drop_duplicates([*STRATUM, "key", "seed"])
    return tuple(
        _measure_depth(rows, guessing, picks)
        for _, rows in complete.groupby("layers")
        if len(rows["budget"].unique()) > 1
    )


def _measure_depth(complete: pd.DataFrame, guessing: Guessing, picks: Sequence[Found]) -> Tradeoff:
    series = [
        contender for _, rows in complete.groupby("budget") for contender in list_contenders(rows, complete, picks)
    ]
    n_budgets = Counter(contender.family for contender in series)
    series.sort(key=lambda each: (n_budgets[each.family] == 1, _rank(each.family), each.connections, each.budget))
    points = tuple(_list_points(series))
    answers = tuple(
        _answer([point for point in points if point.family == family])
        for family in dict.fromkeys(point.family for point in points)
        if n_budgets[family] > 1 and family != RANDOM
    )
    at_largest = complete[complete["connections"] == complete["connections"].max()]
    return Tradeoff(
        int(complete["layers"].iloc[0]), KEPT_MARGIN, points, answers, measure_learning(at_largest, guessing)
    )


def _rank(family: str) -> tuple[int, str]:
    return ({FOUND: 1, RANDOM: 2}.get(family, 0), family)  # templates by name come first


def _list_points(series: Sequence[Contender]) -> Iterator[Point]:
    """Measure each contender, each seed's own mean over the series that have every seed taken out of its interval."""
    largest = {contender.family: contender for contender in series}  # the last of each
    table = pd.DataFrame([contender.by_seed for contender in series]).reset_index(drop=True)  # (series, seeds)
    is_repeated = pd.Series(pd.MultiIndex.from_tuples([(each.budget, each.pattern) for each in series]).duplicated())
    full = table[table.notna().all(axis=1) & ~is_repeated]  # a pattern that stands for two families counts once
    scale = 1.0
    if len(full) > 1:
        table = table - (full.mean() - full.mean().mean())
        # What is taken out contains 1 / n of the point itself (Morey 2008, eq. 2).
        scale = (len(full) / (len(full) - 1)) ** 0.5
    for contender, (_, own) in zip(series, table.iterrows(), strict=True):
        mean = clip(float(own.mean()), SHARE)  # seeds that a point lacks may have moved it outside
        low, high = student_interval(own.dropna(), SHARE, centre=mean, widen=scale)
        reference = largest[contender.family]
        yield Point(
            **{field.name: getattr(contender, field.name) for field in fields(Member)},
            n_seeds=len(contender.by_seed),
            accuracy=mean,
            low=low,
            high=high,
            picked=contender.picked,
            is_own_mean=contender.is_own_mean,
            difference=None if contender is reference else _compare(contender.by_seed, reference.by_seed),
        )


def _compare(own: "pd.Series[float]", largest: "pd.Series[float]") -> Difference | None:
    differences = (own - largest).dropna().round(12)  # 1e-17 between equal outcomes is none
    n = len(differences)
    if n == 0:
        return None
    low, high = student_interval(differences, SHARES_APART)
    status: BudgetStatus = "unsettled"
    if low is not None and high is not None:
        status = "kept" if low > -KEPT_MARGIN else "lost" if high < -KEPT_MARGIN else "unsettled"
    return Difference(float(differences.mean()), low, high, n, status)


def _answer(points: Sequence[Point]) -> Answer:
    """Answer for one family; its points with the fewest connections first."""
    *smaller, reference = points
    fewest = reference.connections
    for point in reversed(smaller):
        status = "unsettled" if point.difference is None else point.difference.status
        if status != "kept":
            n_seeds = None if point.difference is None else point.difference.n_seeds
            return Answer(reference.family, reference.connections, fewest, point.connections, status, n_seeds)
        fewest = point.connections
    return Answer(reference.family, reference.connections, fewest, None, None, None)
