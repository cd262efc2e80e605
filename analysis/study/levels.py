"""How well the templates and groups of one stratum do, and by how much they differ, each with an interval.

Everywhere `complete` is the stratum's complete candidates, of every strategy.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from analysis.data.averages import average_patterns
from analysis.data.outcomes import list_outcomes, list_shown
from analysis.data.protocol import SAMPLED
from analysis.stats.guessing import ACCURACY
from analysis.stats.intervals import SHARES_APART, UNBOUNDED, clip, range_of, student_interval
from analysis.stats.resampling import Vector

GROUPS = ("optimum", "control", "random", "design", "reversal")
SHARED = ("span", "visit_evenness")  # measures in which a pattern and the one made to match it should be equal


@dataclass(frozen=True, slots=True)
class OutcomeLevel:
    """The mean of the primary outcome over a template's seeds, or over a group's patterns.

    Each seed's own mean over the sampled patterns is taken out before, and the mean of these put back.

    Args:
        name: a template's name, or a strategy's for all its patterns together.
        n_patterns: number of patterns; 1 for a template.
        mean_bd: mean over the patterns, in hops.
        low, high: interval by student_interval, over a template's seeds or a group's patterns; None without one.
    """

    name: str
    outcome: str
    n_patterns: int
    n_seeds: int
    mean_bd: float
    value: float
    low: float | None
    high: float | None


def measure_levels(complete: pd.DataFrame) -> tuple[OutcomeLevel, ...]:
    """Measure every template, then every group of patterns, at the seeds that sampled patterns were trained at."""
    outcome = next((name for name in list_outcomes(complete) if complete[name].notna().any()), None)
    if outcome is None:
        return ()
    sampled = complete[complete["strategy"].isin(SAMPLED)]
    by_seed = (sampled if len(sampled) else complete).groupby("seed")[outcome].mean()
    centred = complete.assign(centred=complete[outcome] - complete["seed"].map(by_seed)).dropna(subset=["centred"])
    named = average_patterns(complete).dropna(subset=["template"])
    groups: list[tuple[str, pd.DataFrame, pd.Series[float]]] = []
    for name, key in zip(named["template"], named["key"], strict=True):
        rows = centred[centred["key"] == key]
        groups.append((str(name), rows, rows["centred"]))
    for strategy in GROUPS:
        rows = centred[centred["strategy"] == strategy]
        groups.append((strategy, rows, rows.groupby("key")["centred"].mean()))
    level = float(by_seed.mean())
    return tuple(_measure(name, outcome, rows, level, values) for name, rows, values in groups if len(rows))


def _measure(name: str, outcome: str, rows: pd.DataFrame, level: float, values: "pd.Series[float]") -> OutcomeLevel:
    mean = clip(level + float(values.mean()), range_of(outcome))  # seeds that a pattern lacks may have moved it outside
    low, high = student_interval(values, range_of(outcome), centre=mean)
    return OutcomeLevel(
        name=name,
        outcome=outcome,
        n_patterns=int(rows["key"].nunique()),
        n_seeds=int(rows["seed"].nunique()),
        mean_bd=float(rows.drop_duplicates("key")["mean_bd"].mean()),
        value=mean,
        low=low,
        high=high,
    )


@dataclass(frozen=True, slots=True)
class PairedDifference:
    """Mean difference of an outcome between paired patterns, over the seeds that both of a pair were trained at.

    Args:
        name: `optimum - control` (a shortest pattern less the mean of those of its span and longer mean BD) or
            `reversal - original` (equal mean BD, max BD and span; in- and out-degrees swapped).
        mean, low, high: in the outcome's unit, of an accuracy 0..1; the interval is over pairs by student_interval,
            None for one pair and for pairs that differ by the same.
        p_wilcoxon: signed-rank test, two-sided; None where no pair differs.
        apart: mean absolute difference of the pairs in the measures that they should share, by name.
    """

    name: str
    outcome: str
    n_pairs: int
    mean: float
    low: float | None
    high: float | None
    p_wilcoxon: float | None
    apart: dict[str, float]


def compare_pairs(complete: pd.DataFrame) -> tuple[PairedDifference, ...]:
    """Compare optima with controls and reversals with originals, for every outcome that has such pairs."""
    compared = []
    patterns = complete.drop_duplicates("key")
    for outcome in list_outcomes(complete):
        table = complete.pivot_table(index="key", columns="seed", values=outcome)  # (patterns, seeds)
        for name, strategy, sign in (("optimum - control", "control", -1), ("reversal - original", "reversal", 1)):
            made = patterns[(patterns["strategy"] == strategy).fillna(False)].dropna(subset=["matched"])
            matched = dict(zip(made["key"], made["matched"], strict=True))
            differences = sign * _list_differences(table, matched)
            if len(differences):
                apart = _measure_apart(patterns.set_index("key"), matched)
                compared.append(_compare_paired(name, outcome, differences.round(12), apart))
    return tuple(compared)


def _measure_apart(patterns: pd.DataFrame, matched: dict[str, str]) -> dict[str, float]:
    pairs = [(made, match) for made, match in matched.items() if {made, match} <= set(patterns.index)]
    made, match = (patterns.loc[[pair[side] for pair in pairs]] for side in (0, 1))
    return {
        name: float(np.abs(made[name].to_numpy(np.float64) - match[name].to_numpy(np.float64)).mean())
        for name in SHARED
        if name in patterns and made[name].notna().all() and match[name].notna().all()
    }


def _list_differences(table: pd.DataFrame, matched: dict[str, str]) -> Vector:
    """Return made less matched pattern: one mean for each matched one, since its several controls are one pair."""
    by_match: dict[str, list[float]] = {}
    for key, match in matched.items():
        if key in table.index and match in table.index:
            shared = (table.loc[key] - table.loc[match]).dropna().to_numpy(np.float64)
            if len(shared):
                by_match.setdefault(match, []).append(float(shared.mean()))
    return np.array([np.mean(values) for values in by_match.values()])


def _compare_paired(name: str, outcome: str, differences: Vector, apart: dict[str, float]) -> PairedDifference:
    """Compare pairs by their differences, rounded: 1e-17 between equal outcomes is none."""
    from scipy.stats import wilcoxon  # a second

    low, high = student_interval(differences, SHARES_APART if outcome == ACCURACY else UNBOUNDED)
    p_value = float(wilcoxon(differences).pvalue) if len(differences) > 1 and differences.any() else None
    return PairedDifference(name, outcome, len(differences), float(differences.mean()), low, high, p_value, apart)


@dataclass(frozen=True, slots=True)
class TemplateComparison:
    """One template, or the mean of all random patterns, against the best template.

    Args:
        name: the template's name, or the strategy's for the random patterns.
        n_patterns: number of patterns averaged; 1 for a template.
        mean, standard_error: of images the validation accuracy over seeds, 0..1, otherwise the primary outcome; the
            error is None for one seed.
        difference, difference_error: the same of the difference to the best template over the seeds both have, which
            takes out what a seed does to both; None for the best template itself.
    """

    name: str
    n_patterns: int
    n_seeds: int
    mean: float
    standard_error: float | None
    difference: float | None
    difference_error: float | None
    n_shared_seeds: int


def compare_templates(complete: pd.DataFrame) -> tuple[TemplateComparison, ...]:
    """Compare every named template and the mean random pattern: the best template first, the sample last."""
    patterns = average_patterns(complete)
    named = patterns.dropna(subset=["template"])
    by_seed = {
        name: _average_by_seed(complete, [key])
        for name, key in zip(named["template"].tolist(), named["key"].tolist(), strict=True)
    }
    best = next(iter(by_seed.values()), None)
    n_patterns = dict.fromkeys(by_seed, 1)
    sampled = patterns.loc[(patterns["strategy"] == "random") & patterns["all_seeds"], "key"].tolist()
    if sampled:
        # Only patterns complete at every seed: the mean at each seed is then over the same patterns.
        label = f"random (mean of {len(sampled)})"
        by_seed[label], n_patterns[label] = _average_by_seed(complete, sampled), len(sampled)
    compared = []
    for name, own in by_seed.items():
        differences = own.iloc[:0] if best is None or own is best else (own - best).dropna()
        mean, error = _average(own)
        difference, difference_error = _average(differences) if len(differences) else (None, None)
        compared.append(
            TemplateComparison(
                name=name,
                n_patterns=n_patterns[name],
                n_seeds=len(own),
                mean=mean,
                standard_error=error,
                difference=difference,
                difference_error=difference_error,
                n_shared_seeds=len(differences),
            )
        )
    return tuple(compared)


def _average_by_seed(complete: pd.DataFrame, keys: list[str]) -> "pd.Series[float]":
    return complete[complete["key"].isin(keys)].groupby("seed")[list_shown(complete)[0]].mean()


def _average(values: "pd.Series[float]") -> tuple[float, float | None]:
    """Return the mean and its standard error; None for a single value."""
    n = len(values)
    return float(values.mean()), float(values.std() / n**0.5) if n > 1 else None
