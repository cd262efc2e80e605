"""How reliable outcomes are: between seeds, between short and long trainings, and what a study can detect."""

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import ndtri  # scipy.stats would take half a second to import

from analysis.data.averages import average_patterns
from analysis.data.protocol import ALPHA, OUTCOMES, SAMPLED, TESTS
from analysis.stats.correlations import Estimate, correlate_spearman
from analysis.stats.resampling import Groups, Vector, centre_inside, design_cells
from search_spaces.seeds import derive_generator

POWER = 0.80
RANK_VARIANCE = 1.06  # of atanh(Spearman's rho) times n - 3 (Fieller, Hartley and Pearson, Biometrika 44, 1957)
N_NUISANCE = 2  # span and its square, each of which costs one pattern
RELIABILITIES = (0.1, 0.3)  # of one seed's validation loss, seen in short trainings


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
        for outcome in OUTCOMES:
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


def detectable_correlation(n_patterns: int, n_tests: int = 1) -> float | None:
    """Return the smallest |rank correlation| of pattern means that is found with POWER, two-sided at ALPHA.

    None where so few patterns cannot show any correlation.

    >>> round(detectable_correlation(93), 2), detectable_correlation(5)
    (0.3, None)
    """
    n_free = n_patterns - 3 - N_NUISANCE
    if n_free < 1:
        return None
    wanted = float(ndtri(1 - ALPHA / (2 * n_tests)) + ndtri(POWER))  # Holm's first step is Bonferroni's
    return math.tanh(wanted * math.sqrt(RANK_VARIANCE / n_free))


def correct_attenuation(correlation: float, reliability: float, n_seeds: int) -> float | None:
    """Return the true correlation that noise reduces to this one (Spearman-Brown, then Spearman's attenuation).

    Args:
        correlation: correlation with means over n_seeds.
        reliability: share of one training's variance that lies between patterns, in (0, 1].

    Returns:
        In [0, 1]; None where not even a true correlation of 1 would show so much.

    >>> round(correct_attenuation(0.25, 0.1, 3), 2), correct_attenuation(0.9, 0.1, 3)
    (0.5, None)
    """
    mean_reliability = n_seeds * reliability / (1 + (n_seeds - 1) * reliability)
    true = correlation / math.sqrt(mean_reliability)
    return true if true <= 1 else None


def describe_power(plan: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Describe what each stratum of a study's plan trains and can detect.

    Returns:
        One dict for each stratum, in the plan's order: stratum, trainings, patterns by strategy, a sentence, and except
        for checks n_sampled and detectable (by detectable_correlation, over all main strata's primary tests).
    """
    n_tests = len(TESTS) * sum(stratum["checks"] is None for stratum in plan["strata"])
    n_seeds = plan["settings"]["seeds"]
    described = []
    for place, stratum in enumerate(plan["strata"]):
        numbers = [number for stratum_place, number, _ in plan["order"] if stratum_place == place]
        strategies = Counter(plan["patterns"][number]["strategy"] for number in sorted(set(numbers)))
        row = {
            "stratum": f"{stratum['layers']} layers, {stratum['regime']}",
            "trainings": len(numbers),
            "patterns": dict(strategies),
        }
        if stratum["checks"] is None:
            n_sampled = sum(strategies[name] for name in SAMPLED)
            detectable = detectable_correlation(n_sampled, n_tests)
            row |= {"n_sampled": n_sampled, "detectable": detectable, "sentence": _word(detectable, n_seeds)}
        else:
            row["sentence"] = f"checks {stratum['checks']}"
        described.append(row)
    return described


def _word(detectable: float | None, n_seeds: int) -> str:
    if detectable is None:
        return "too few patterns to detect any correlation"
    parts = []
    for reliability in RELIABILITIES:
        true = correct_attenuation(detectable, reliability, n_seeds)
        parts.append(f"{'none' if true is None else f'{true:.2f}'} where one seed's reliability is {reliability:g}")
    return (
        f"detects a correlation of {detectable:.2f} between pattern means with {100 * POWER:.0f} % chance: a true one "
        f"of {', '.join(parts)}"
    )
