"""How much of an outcome is the pattern and not the seed, and of a long run in a short one."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from analysis.averages import average_patterns
from analysis.correlations import Estimate, correlate_spearman
from analysis.protocol import OUTCOMES
from analysis.resampling import Groups, Vector, centre_inside, design_cells
from search_spaces.sampling import derive_generator


@dataclass(frozen=True, slots=True)
class Reliability:
    """How much of an outcome's variance lies between patterns, over the patterns complete at every seed.

    Args:
        single_seed: ICC(1), one-way: of one training, the seeds' own level counted as noise; may come out below 0.
        paired_mean: ICC(3, k), two-way: of the mean over the k seeds, which shift all patterns together.
        ceiling: sqrt(paired_mean), the largest correlation that a perfect predictor would show on average.
    """

    outcome: str
    n_patterns: int
    n_seeds: int
    single_seed: float | None
    paired_mean: float | None
    ceiling: float | None


@dataclass(frozen=True, slots=True)
class Fidelity:
    """Spearman correlation, over patterns trained in both regimes, of their means in the one with those in the other.

    Args:
        estimate: its p-value is from permutations of all patterns.
    """

    budget: str
    layers: int
    short_regime: str
    long_regime: str
    outcome: str
    n_patterns: int
    estimate: Estimate


def measure_reliability(complete: pd.DataFrame, outcome: str) -> Reliability:
    """Share of an outcome's variance that lies between patterns (Shrout and Fleiss, Psychol. Bull. 86, 1979).

    Args:
        complete: complete candidates of one stratum.
        outcome: the column to judge; patterns that lack it at a seed are left out.
    """
    table = complete.pivot_table(index="key", columns="seed", values=outcome).dropna().to_numpy(np.float64)
    n, k = table.shape  # (patterns, seeds)
    if n < 2 or k < 2:
        return Reliability(outcome, n, k, None, None, None)
    between = k * table.mean(axis=1).var(ddof=1)
    within = table.var(axis=1, ddof=1).mean()
    residual_sum = within * n * (k - 1) - n * (k - 1) * table.mean(axis=0).var(ddof=1)
    residual = residual_sum / ((n - 1) * (k - 1))
    if between <= 1e-15:
        return Reliability(outcome, n, k, None, None, None)
    single_seed = float((between - within) / (between + (k - 1) * within))
    paired_mean = float((between - residual) / between)
    return Reliability(outcome, n, k, single_seed, paired_mean, max(paired_mean, 0.0) ** 0.5)


def measure_mean_reliability(values: Vector, rows: Groups, groups: Groups | None = None) -> float | None:
    """Reliability of a pattern's mean over its repeats, one-way random effects, unequal numbers of repeats allowed.

    Between-pattern variance by the analysis of variance (Searle, Casella and McCulloch, Variance Components, 1992,
    section 3.6); the error of a mean is averaged over patterns. With k repeats each it is 1 - MS_within / MS_between.
    With groups both mean squares are inside groups, pooled: a difference between groups is none between patterns.

    Args:
        values: shape (n,), one a repeat.
        rows: shape (n,), the pattern's number of each.
        groups: shape (n,), the group's number of each; a pattern lies in one group.

    Returns:
        At most 1, below 0 where repeats differ more than patterns do; None without repeats or without variance.
    """
    _, firsts, rows = np.unique(rows, return_index=True, return_inverse=True)
    _, groups = np.unique(np.zeros_like(rows) if groups is None else groups, return_inverse=True)
    sizes, group_of = np.bincount(rows), groups[firsts]
    n, n_patterns, group_sizes = len(values), len(sizes), np.bincount(groups)
    freedom = n_patterns - len(group_sizes)  # of patterns inside groups
    if freedom < 1 or n == n_patterns:
        return None
    values = centre_inside(values, groups)
    means = np.bincount(rows, values) / sizes
    within = float(((values - means[rows]) ** 2).sum() / (n - n_patterns))
    between = float((sizes * means**2).sum() / freedom)
    typical_size = (n - (np.bincount(group_of, sizes**2) / group_sizes).sum()) / freedom
    variance = (between - within) / typical_size
    total = variance + within * float((1 / sizes).mean())
    scale = float(np.abs(values).max(initial=0.0)) ** 2
    return variance / total if total > 1e-24 * scale else None


def measure_fidelity(
    candidates: pd.DataFrame, short_regime: str, long_regime: str, run_seed: int = 0
) -> tuple[Fidelity, ...]:
    """Whether short trainings rank patterns as long ones do: of every strategy, for every budget, depth and outcome.

    Fewer than 3 patterns trained in both regimes give nothing.

    Args:
        candidates: rows of read_run or read_table.
    """
    complete = candidates[(candidates["state"] == "complete").fillna(False)]
    found = []
    for _, rows in complete.groupby(["budget", "layers"]):
        budget, layers = str(rows["budget"].iloc[0]), int(rows["layers"].iloc[0])
        keys_of = {name: set(rows.loc[_is_in(rows, name), "key"]) for name in (short_regime, long_regime)}
        keys = keys_of[short_regime] & keys_of[long_regime]
        # Over the same patterns in both, for a seed's mean is taken out over those that are there.
        short, long = (_average(rows, name, keys) for name in (short_regime, long_regime))
        for outcome in OUTCOMES:
            column = f"{outcome}_centred"
            x, y = short[column].dropna().align(long[column].dropna(), join="inner")
            if len(x) < 3:
                continue
            cells = design_cells(short.loc[x.index])
            generator = derive_generator(run_seed, "fidelity", budget, layers, outcome)
            first, second = (column.to_numpy(np.float64).round(12) for column in (x, y))
            estimate = correlate_spearman(first, second, cells, np.zeros_like(cells), generator)
            found.append(Fidelity(budget, layers, short_regime, long_regime, outcome, len(x), estimate))
    return tuple(found)


def _average(rows: pd.DataFrame, regime: str, keys: set[str]) -> pd.DataFrame:
    chosen = rows[_is_in(rows, regime) & rows["key"].isin(list(keys))]
    return average_patterns(chosen).set_index("key").sort_index()


def _is_in(rows: pd.DataFrame, regime: str) -> "pd.Series[bool]":
    return (rows["regime"] == regime).fillna(False).astype(bool)
