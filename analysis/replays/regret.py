"""The regret of replayed searches with its intervals, the verdict on each strategy, and the table's noise."""

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from scipy.special import fdtrc

from analysis.data.protocol import ALPHA
from analysis.replays.searches import JudgedSearches, Searches, count_distinct, judge_searches
from analysis.stats.intervals import TAILS, percentile_interval
from analysis.stats.reliability import measure_reliability
from analysis.stats.resampling import Vector
from search_spaces.seeds import derive_generator

RANDOM = "random"
BETTER, WORSE, NOT_TOLD_APART = "better than random", "worse than random", "not told apart from random"


class Measured(NamedTuple):
    """An estimate and its interval, whose ends are None where they are not defined or out of reach."""

    value: float | None
    low: float | None
    high: float | None


@dataclass(frozen=True, slots=True)
class StrategyComparison:
    """A strategy against random search, over its whole curve.

    Args:
        difference: its mean regret over all numbers of trainings less random's; below 0 it is better.
        verdict: BETTER, WORSE or NOT_TOLD_APART, by the interval of the difference.
        match: number of trainings after which its mean regret is down to random's last; Nones unless it is better.
    """

    strategy: str
    difference: Measured
    verdict: str
    match: Measured


class Proposals(NamedTuple):
    """What a strategy's proposals are like by single judging seeds.

    Args:
        rank: their mean rank in the table, 0 the best and 1 the worst.
        median: their median value.
    """

    rank: Measured
    median: Measured


@dataclass(frozen=True, slots=True)
class Noise:
    """How much there is to find in a table, by two-way analysis of variance; a seed's own level is not noise.

    Args:
        pattern_sd: standard deviation of the patterns' true values; 0 where seeds explain all differences.
        training_sd: standard deviation of one training about its pattern's value.
        visible, judges: reliability of the mean over the seeds that a search sees, and over those that judge it.
        p_value: p of the F test that all patterns are equally good.
    """

    pattern_sd: float
    training_sd: float
    visible: float
    judges: float
    p_value: float

    @property
    def is_all(self) -> bool:
        """Whether the seeds cannot distinguish the patterns, so that no search can be seen to do well."""
        return self.p_value > ALPHA


@dataclass(frozen=True, slots=True)
class Regrets:
    """Regret and gain of strategies.

    Args:
        curves: one row for each strategy and number of trainings: strategy, trainings, patterns (mean number of
            distinct ones), and regret, gain, difference_to_random and random_needs, each with _low and _high; missing
            for random's difference and needs, and for a need that no random search replayed came to.
        comparisons: one for every strategy but random.
        proposals: by strategy.
        noise: None where all patterns have the same mean.
        n_random: number of trainings in each random search, the most that random_needs can be.
    """

    curves: pd.DataFrame
    comparisons: tuple[StrategyComparison, ...]
    proposals: dict[str, Proposals]
    noise: Noise | None
    n_random: int


def measure_regret(searches: Searches, run_seed: int = 0) -> Regrets:
    """Measure regret, gain and the difference to random search after every number of trainings, and judge strategies.

    *Regret* is the value of a search's pick less that of the table's best pattern, *gain* the mean value of uniform
    draws less the pick's, all by the judging seeds, which the search has not seen; values are lower where better. The
    table's best is the best of noisy means, which flatters it: every regret is too large by the same offset. Gain and
    differences between strategies are free of it. `random_needs` is the number of trainings after which random's mean
    regret is down to the strategy's.

    Intervals (CONFIDENCE) come from drawing both replays and judging seeds again, as judge_searches does: replays are
    unlimited, and drawing only them would take a chance of the table's few seeds for a fact. They hold for this table's
    patterns, data and training only.

    Verdict: BETTER or WORSE than random where the interval of the difference in mean regret over the whole curve, with
    equal weights, excludes 0; otherwise NOT_TOLD_APART.

    Args:
        run_seed: seed of the resamples.
    """
    judged = judge_searches(searches, derive_generator(run_seed, "regret"))
    n = searches.n_trainings
    of_random = judged.picked[RANDOM]
    curves = []
    for name, picked in judged.picked.items():
        of_strategy = picked[:, :n]
        columns: dict[str, Any] = {"strategy": name, "trainings": np.arange(1, n + 1)}
        columns["patterns"] = count_distinct(searches.by_strategy[name])[:n]
        columns |= _describe("regret", of_strategy - judged.best) | _describe("gain", judged.average - of_strategy)
        if name != RANDOM:
            columns |= _describe("difference_to_random", of_strategy - of_random[:, :n])
            needs = [find_first(of_random, of_strategy[:, place]) for place in range(n)]
            columns |= _as_columns("random_needs", needs)
        curves.append(pd.DataFrame(columns))
    frame = pd.concat(curves, ignore_index=True)
    comparisons = tuple(_compare(name, judged, n) for name in judged.picked if name != RANDOM)
    proposals = {name: Proposals(_measure(judged.ranks[name]), _measure(judged.medians[name])) for name in judged.ranks}
    noise = measure_noise(searches.values, int(searches.is_visible[0].sum()))
    return Regrets(frame, comparisons, proposals, noise, of_random.shape[1])


def _describe(name: str, draws: Vector) -> dict[str, Vector]:
    """Return a curve and its interval, from draws of shape (1 + N_RESAMPLES, trainings)."""
    low, high = np.nanquantile(draws[1:], TAILS, axis=0)
    return {name: draws[0], f"{name}_low": low, f"{name}_high": high}


def _as_columns(name: str, measured: list[Measured]) -> dict[str, Vector]:
    values = np.array(measured, dtype=np.float64)  # None becomes NaN
    return {f"{name}{end}": values[:, place] for place, end in enumerate(("", "_low", "_high"))}


def find_first(curve: Vector, level: Vector) -> Measured:
    """Return after how many trainings a curve is first down to a level, with its interval.

    Args:
        curve: values by number of trainings, shape (1 + N_RESAMPLES, trainings); the first row is the sample's own.
        level: a value for each row, shape (1 + N_RESAMPLES,).

    Returns:
        Numbers of trainings; None where the curve never comes down to the level.

    >>> find_first(np.array([[3.0, 2.0, 1.0]] * 4), np.array([2.0, 2.0, 2.0, 0.0]))
    Measured(value=2, low=2, high=None)
    """
    is_down = curve <= level[:, None]
    first = np.where(is_down.any(axis=1), 1.0 + is_down.argmax(axis=1), np.inf)
    ends = np.quantile(first[1:], TAILS, method="inverted_cdf")  # no mean of a number and infinity
    return Measured(*(int(count) if np.isfinite(count) else None for count in (first[0], *ends)))


def _compare(name: str, judged: JudgedSearches, n_trainings: int) -> StrategyComparison:
    """Compare a strategy with random search over n_trainings."""
    picked, of_random = (judged.picked[one][:, :n_trainings] for one in (name, RANDOM))
    difference = _measure((picked - of_random).mean(axis=1))
    is_better = difference.high is not None and difference.high < 0
    is_worse = difference.low is not None and difference.low > 0
    return StrategyComparison(
        strategy=name,
        difference=difference,
        verdict=BETTER if is_better else WORSE if is_worse else NOT_TOLD_APART,
        match=find_first(picked, of_random[:, -1]) if is_better else Measured(None, None, None),
    )


def _measure(draws: Vector) -> Measured:
    """Return the first of draws, the sample's own, and the interval that the others give."""
    value = float(draws[0])
    return Measured(value if np.isfinite(value) else None, *percentile_interval(draws[1:]))


def measure_noise(values: Vector, n_visible: int) -> Noise | None:
    """Measure how much of a table's spread comes from its patterns; by Spearman and Brown for fewer seeds.

    Args:
        values: shape (patterns, seeds).
    """
    n, k = values.shape
    table = pd.DataFrame({"key": np.repeat(np.arange(n), k), "seed": np.tile(np.arange(k), n), "value": values.ravel()})
    of_mean = measure_reliability(table, "value").paired_mean
    if of_mean is None:
        return None
    variance = float(values.mean(axis=1).var(ddof=1))  # of means: patterns, and noise / k
    noise = max(1 - of_mean, 0.0) * variance * k
    true = max(of_mean, 0.0) * variance
    visible, judges = (true / (true + noise / count) for count in (n_visible, k - n_visible))
    ratio = variance * k / noise if noise > 0 else np.inf
    p_value = float(fdtrc(n - 1, (n - 1) * (k - 1), ratio))  # scipy.stats would take 2 seconds to import
    return Noise(true**0.5, noise**0.5, visible, judges, p_value)
