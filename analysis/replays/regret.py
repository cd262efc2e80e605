"""The regret of replayed searches with its intervals, the verdict on each strategy, and the table's noise."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import fdtrc

from analysis.data.protocol import ALPHA
from analysis.page.wording import format_interval, format_signed
from analysis.replays.searches import Searches, judge_picks
from analysis.stats.intervals import TAILS, percentile_interval
from analysis.stats.reliability import Reliability
from analysis.stats.resampling import Vector
from search_spaces.seeds import derive_generator

RANDOM = "random"
GRID = (10, 20, 30, 60, 90, 120, 180, 240, 300)  # numbers of patterns in a printed table, before the last
BETTER, WORSE, NOT_TOLD_APART = "better than random", "worse than random", "not told apart from random"


@dataclass(frozen=True, slots=True)
class StrategyComparison:
    """A strategy against random search, over its whole curve.

    Args:
        difference: its mean regret over all numbers of patterns less random's; below 0 it is better.
        low, high: interval of the difference; None where it is not defined.
        verdict: BETTER, WORSE or NOT_TOLD_APART, by the interval.
        match: number of trainings after which its mean regret is down to random's last; None unless it is better.
        match_low, match_high: interval of match; None for an end that is never reached.
    """

    strategy: str
    difference: float
    low: float | None
    high: float | None
    verdict: str
    match: int | None = None
    match_low: int | None = None
    match_high: int | None = None


@dataclass(frozen=True, slots=True)
class Noise:
    """How much there is to find in a table, by two-way analysis of variance; a seed's own level is not noise.

    Args:
        pattern_sd: standard deviation of the patterns' true accuracies; 0 where seeds explain all differences.
        training_sd: standard deviation of one training about its pattern's accuracy.
        visible, judges: reliability of the mean over the seeds that a search sees, and over those that judge it.
        p_value: p of the F test that all patterns are equally accurate.
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
        curves: one row for each strategy and number of patterns: strategy, patterns, trainings (patterns x visible
            seeds), and regret, gain and difference_to_random, each with _low and _high; shares of 1, missing for
            random's difference.
        comparisons: one for every strategy but random.
        noise: None where all patterns have the same mean.
    """

    curves: pd.DataFrame
    comparisons: tuple[StrategyComparison, ...]
    noise: Noise | None


def measure_regret(searches: Searches, reliability: Reliability, run_seed: int = 0) -> Regrets:
    """Measure regret, gain and the difference to random search after every number of patterns, and judge strategies.

    After n patterns a search picks the one with the best visible mean. *Regret* is the accuracy of the table's best
    pattern less the pick's, *gain* the pick's less the mean of all patterns, all by the judging seeds, which the search
    has not seen. The table's best is the best of noisy means, which flatters it: every regret is too large by the same
    offset. Gain and differences between strategies are free of it.

    Intervals (CONFIDENCE) come from drawing both replays and judging seeds again, as judge_picks does: replays are
    unlimited, and drawing only them would take a chance of the table's few seeds for a fact. They hold for this table's
    patterns, data and training only.

    Verdict: BETTER or WORSE than random where the interval of the difference in mean regret over the whole curve, with
    equal weights, excludes 0; otherwise NOT_TOLD_APART.

    Args:
        reliability: reliability of the table's accuracies over all its seeds.
        run_seed: seed of the resamples.
    """
    n_visible = int(searches.is_visible[0].sum())
    picked, best, average = judge_picks(searches, derive_generator(run_seed, "regret"))
    of_random = picked[searches.strategies.index(RANDOM)]
    counts = np.arange(1, searches.proposed.shape[2] + 1)
    curves, comparisons = [], []
    for name, of_strategy in zip(searches.strategies, picked, strict=True):
        columns: dict[str, Any] = {"strategy": name, "patterns": counts, "trainings": counts * n_visible}
        columns |= _describe("regret", best - of_strategy) | _describe("gain", of_strategy - average)
        columns |= _describe("difference_to_random", of_random - of_strategy)
        if name != RANDOM:
            comparisons.append(_compare(name, best - of_strategy, best - of_random, n_visible))
        curves.append(pd.DataFrame(columns))
    frame = pd.concat(curves, ignore_index=True)
    frame.loc[frame["strategy"] == RANDOM, [f"difference_to_random{end}" for end in ("", "_low", "_high")]] = np.nan
    return Regrets(frame, tuple(comparisons), measure_noise(searches.accuracies, reliability, n_visible))


def _describe(name: str, draws: Vector) -> dict[str, Vector]:
    """Return a curve and its interval, from draws of shape (1 + N_RESAMPLES, patterns proposed)."""
    low, high = np.nanquantile(draws[1:], TAILS, axis=0)
    return {name: draws[0], f"{name}_low": low, f"{name}_high": high}


def _compare(name: str, regret: Vector, of_random: Vector, n_visible: int) -> StrategyComparison:
    """Compare a strategy with random search by draws of their regrets, shape (1 + N_RESAMPLES, patterns proposed)."""
    difference = (regret - of_random).mean(axis=1)
    low, high = percentile_interval(difference[1:])
    is_better, is_worse = high is not None and high < 0, low is not None and low > 0
    verdict = BETTER if is_better else WORSE if is_worse else NOT_TOLD_APART
    if not is_better:
        return StrategyComparison(name, float(difference[0]), low, high, verdict)
    is_down = regret <= of_random[:, -1:]
    first = np.where(is_down.any(axis=1), 1.0 + is_down.argmax(axis=1), np.inf) * n_visible
    ends = np.quantile(first[1:], TAILS, method="inverted_cdf")  # no mean of a number and infinity
    match, match_low, match_high = (int(count) if np.isfinite(count) else None for count in (first[0], *ends))
    return StrategyComparison(name, float(difference[0]), low, high, verdict, match, match_low, match_high)


def measure_noise(accuracies: Vector, reliability: Reliability, n_visible: int) -> Noise | None:
    """Measure how much of a table's spread comes from its patterns; by Spearman and Brown for fewer seeds.

    Args:
        accuracies: shape (patterns, seeds).
        reliability: reliability of these accuracies.
    """
    n, k = accuracies.shape
    of_mean = reliability.paired_mean
    if of_mean is None:
        return None
    variance = float(accuracies.mean(axis=1).var(ddof=1))  # of means: patterns, and noise / k
    noise = max(1 - of_mean, 0.0) * variance * k
    true = max(of_mean, 0.0) * variance
    visible, judges = (true / (true + noise / count) for count in (n_visible, k - n_visible))
    ratio = variance * k / noise if noise > 0 else np.inf
    p_value = float(fdtrc(n - 1, (n - 1) * (k - 1), ratio))  # scipy.stats would take 2 seconds to import
    return Noise(true**0.5, noise**0.5, visible, judges, p_value)


def choose_grid(n_patterns: int) -> tuple[int, ...]:
    """Return the numbers of patterns that a printed table shows.

    >>> choose_grid(100), choose_grid(7)
    ((10, 20, 30, 60, 90, 100), (7,))
    """
    return (*(count for count in GRID if count < n_patterns), n_patterns)


def tabulate_regret(regrets: Regrets) -> list[dict[str, Any]]:
    """Return the curves' rows at choose_grid, with each strategy's verdict and the noise; None where missing."""
    comparisons = {comparison.strategy: comparison for comparison in regrets.comparisons}
    noise = regrets.noise
    rows = []
    grid = choose_grid(int(regrets.curves["patterns"].max()))
    for row in regrets.curves[regrets.curves["patterns"].isin(grid)].to_dict("records"):
        comparison = comparisons.get(row["strategy"])
        rows.append(
            {str(name): None if pd.isna(value) else value for name, value in row.items()}
            | {
                "verdict": comparison and comparison.verdict,
                "mean_difference": comparison and comparison.difference,
                "mean_difference_low": comparison and comparison.low,
                "mean_difference_high": comparison and comparison.high,
                "trainings_to_match_random": comparison and comparison.match,
                "reliability_visible": noise and noise.visible,
                "reliability_judges": noise and noise.judges,
                "p_value_patterns": noise and noise.p_value,
            }
        )
    return rows


def describe_noise(noise: Noise | None, n_visible: int, n_judges: int) -> str:
    """Say how well the seeds distinguish the patterns, in a sentence without its full stop."""
    if noise is None:
        return "all patterns have the same mean accuracy: no search can do better than another"
    if noise.is_all:
        return (
            f"these seeds do not tell the patterns apart (F test, p = {noise.p_value:.2f}): no search can be seen to "
            "do well on this table"
        )
    return (
        f"the patterns' accuracies differ by {noise.pattern_sd:.4f} (standard deviation without noise), and one "
        f"training is off by {noise.training_sd:.4f}; a mean over visible seeds ({n_visible}) has reliability "
        f"{noise.visible:.2f}, over judging seeds ({n_judges}) {noise.judges:.2f}"
    )


def describe_comparison(comparison: StrategyComparison, n_trainings: int) -> str:
    """Return a strategy's verdict as a sentence without its full stop.

    Args:
        n_trainings: number of trainings of a whole search.

    >>> describe_comparison(StrategyComparison("tpe", 0.002, -0.001, 0.004, NOT_TOLD_APART), 360)
    "tpe: not told apart from random, mean regret less random's +0.0020 (-0.0010 to +0.0040)"
    """
    ends = "" if comparison.low is None else f" ({format_interval(comparison.low, comparison.high, 4)})"
    difference = format_signed(comparison.difference, 4)
    text = f"{comparison.strategy}: {comparison.verdict}, mean regret less random's {difference}{ends}"
    if comparison.match is None:
        return text
    low, high = (
        f"over {n_trainings}" if end is None else str(end) for end in (comparison.match_low, comparison.match_high)
    )
    return f"{text}; {comparison.match} trainings ({low} to {high}) do as well as random's {n_trainings}"
