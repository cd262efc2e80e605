"""How reliable outcomes are: between seeds, and between short and long trainings."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from analysis.data.averages import average_patterns
from analysis.data.outcomes import list_outcomes
from analysis.stats.correlations import Estimate
from analysis.stats.grouped import correlate_spearman
from analysis.stats.resampling import Groups, Vector, centre_inside, design_cells
from search_spaces.seeds import derive_generator


@dataclass(frozen=True, slots=True)
class Reliability:
    """How much of an outcome's variance lies between the patterns that are complete at every seed.

    Args:
        single_seed: ICC(1), one-way, of one training, with the seeds' own levels as noise; may come out below 0.
        paired_mean: ICC(3, k), two-way, of the mean over the k seeds, which shift all patterns together.
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
    """The Spearman correlation of patterns' means in a short regime with those in a long one.

    Args:
        n_patterns: number of patterns trained in both regimes.
        estimate: correlation; its p-value is from permutations of all patterns.
    """

    budget: str
    layers: int
    short_regime: str
    long_regime: str
    outcome: str
    n_patterns: int
    estimate: Estimate


def measure_reliability(complete: pd.DataFrame, outcome: str) -> Reliability:
    """Measure the share of an outcome's variance between patterns (Shrout and Fleiss, Psychol. Bull. 86, 1979).

    Args:
        complete: complete candidates of one stratum.
        outcome: column to judge; patterns that lack it at a seed are left out.
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
    """Measure the reliability of a pattern's mean over its repeats, whose numbers may differ; one-way random effects.

    The variance between patterns comes from the analysis of variance (Searle, Casella and McCulloch, Variance
    Components, 1992, section 3.6); the error of a mean is averaged over patterns. With k repeats each, the result is
    1 - MS_within / MS_between. With groups, both mean squares are inside groups, pooled: a difference between groups is
    not one between patterns.

    Args:
        values: one value a repeat, shape (n,).
        rows: each repeat's pattern by number, shape (n,).
        groups: each repeat's group by number, shape (n,); a pattern lies in one group.

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
    """Measure whether short trainings rank patterns as long ones do, for every budget, depth and outcome.

    Fewer than 3 patterns trained in both regimes give nothing. Patterns of every strategy count.

    Args:
        candidates: rows of read_run or read_table.
    """
    complete = candidates[(candidates["state"] == "complete").fillna(False)]
    fidelities = []
    for _, rows in complete.groupby(["budget", "layers"]):
        budget, layers = str(rows["budget"].iloc[0]), int(rows["layers"].iloc[0])
        parts = [rows[rows["regime"].isin([name])] for name in (short_regime, long_regime)]
        keys = set(parts[0]["key"]) & set(parts[1]["key"])
        # Both average over the same patterns, for each seed's mean over them is subtracted.
        averages = (average_patterns(part[part["key"].isin(list(keys))]) for part in parts)
        short, long = (patterns.set_index("key").sort_index() for patterns in averages)
        for outcome in list_outcomes(candidates):
            column = f"{outcome}_centred"
            x, y = short[column].dropna().align(long[column].dropna(), join="inner")
            if len(x) < 3:
                continue
            cells = design_cells(short.loc[x.index])
            generator = derive_generator(run_seed, "fidelity", budget, layers, outcome)
            first, second = (column.to_numpy(np.float64).round(12) for column in (x, y))
            estimate = correlate_spearman(first, second, cells, np.zeros_like(cells), generator)
            fidelities.append(Fidelity(budget, layers, short_regime, long_regime, outcome, len(x), estimate))
    return tuple(fidelities)
