"""how well named templates, optima, controls and samples do, each with an interval."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from analysis.data.averages import average_patterns
from analysis.data.protocol import OUTCOMES, SAMPLED
from analysis.stats.intervals import RANGES, SHARES_APART, UNBOUNDED, clip, student_interval
from analysis.stats.resampling import Vector

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


@dataclass(frozen=True, slots=True)
class PairedDifference:
    """Mean difference of an outcome over pairs of patterns, each over the seeds that both were trained at.

    Args:
        name: `optimum - control` (a shortest pattern less the mean of those of its span and longer mean BD) or
            `reversal - original` (equal mean BD, max BD and span; in- and out-degrees swapped).
        mean, low, high: in the outcome's unit (nats, or accuracy 0..1); interval over pairs by student_interval,
            None for one pair and for pairs that differ by the same.
        p_wilcoxon: signed-rank test, two-sided; None where no pair differs.
    """

    name: str
    outcome: str
    n_pairs: int
    mean: float
    low: float | None
    high: float | None
    p_wilcoxon: float | None


def compare_pairs(complete: pd.DataFrame) -> tuple[PairedDifference, ...]:
    """Optima against controls and reversals against originals, for every outcome; without pairs nothing.

    Args:
        complete: complete candidates of one stratum, of every strategy.
    """
    found = []
    patterns = complete.drop_duplicates("key")
    for outcome in OUTCOMES:
        table = complete.pivot_table(index="key", columns="seed", values=outcome)  # (patterns, seeds)
        for name, strategy, sign in (("optimum - control", "control", -1), ("reversal - original", "reversal", 1)):
            made = patterns[(patterns["strategy"] == strategy).fillna(False)].dropna(subset=["matched"])
            differences = _differences(table, dict(zip(made["key"], made["matched"], strict=True)))
            if len(differences):
                found.append(_compare(name, outcome, sign * differences))
    return tuple(found)


def _differences(table: pd.DataFrame, matched: dict[str, str]) -> Vector:
    """Made less matched pattern, a mean for each matched one: several controls of one optimum are no several pairs."""
    by_match: dict[str, list[float]] = {}
    for key, match in matched.items():
        if key in table.index and match in table.index:
            shared = (table.loc[key] - table.loc[match]).dropna().to_numpy(np.float64)
            if len(shared):
                by_match.setdefault(match, []).append(float(shared.mean()))
    return np.array([np.mean(values) for values in by_match.values()])


def _compare(name: str, outcome: str, differences: Vector) -> PairedDifference:
    from scipy.stats import wilcoxon  # a second

    differences = differences.round(12)  # 1e-17 between equal outcomes is no difference
    low, high = student_interval(differences, SHARES_APART if outcome == "validation_accuracy" else UNBOUNDED)
    p_value = float(wilcoxon(differences).pvalue) if len(differences) > 1 and differences.any() else None
    return PairedDifference(name, outcome, len(differences), float(differences.mean()), low, high, p_value)


@dataclass(frozen=True, slots=True)
class Comparison:
    """One template, or all random patterns as one, against the best template.

    Args:
        name: the template's, or the strategy's for a sample.
        n_patterns: 1 for a template.
        mean, standard_error: validation accuracy over seeds, 0..1; standard_error is None for one seed.
        difference, difference_error: to the best template, mean and standard error over the seeds both have, which
            take out what a seed does to both; None for the best itself, and the error for fewer than two seeds.
    """

    name: str
    n_patterns: int
    n_seeds: int
    mean: float
    standard_error: float | None
    difference: float | None
    difference_error: float | None
    n_shared_seeds: int


def compare_templates(complete: pd.DataFrame) -> tuple[Comparison, ...]:
    """Every named template and the mean random pattern, the best template first and the sample last.

    Args:
        complete: complete candidates of one stratum.
    """
    patterns = average_patterns(complete)
    names = patterns.dropna(subset=["template"])
    pairs: list[tuple[str, str]] = list(zip(names["template"].tolist(), names["key"].tolist(), strict=True))
    by_seed = {name: _by_seed(complete, [key]) for name, key in pairs}
    n_patterns = dict.fromkeys(by_seed, 1)
    sampled = patterns.loc[(patterns["strategy"] == "random") & patterns["all_seeds"], "key"].tolist()
    if sampled:
        # Only patterns complete at every seed: the mean at each seed is then over the same patterns.
        label = f"random (mean of {len(sampled)})"
        by_seed[label], n_patterns[label] = _by_seed(complete, sampled), len(sampled)
    best = next(iter(by_seed)) if pairs else None
    return tuple(_compare_template(name, n_patterns[name], by_seed, best) for name in by_seed)


def _by_seed(complete: pd.DataFrame, keys: list[str]) -> "pd.Series[float]":
    rows = complete[complete["key"].isin(keys)]
    return rows.groupby("seed")["validation_accuracy"].mean()


def _compare_template(
    name: str, n_patterns: int, by_seed: dict[str, "pd.Series[float]"], best: str | None
) -> Comparison:
    own = by_seed[name]
    mean, error = _mean_and_error(own)
    differences = (own - by_seed[best]).dropna() if best is not None and best != name else own.iloc[:0]
    difference, difference_error = _mean_and_error(differences) if len(differences) else (None, None)
    return Comparison(name, n_patterns, len(own), mean, error, difference, difference_error, len(differences))


def _mean_and_error(values: "pd.Series[float]") -> tuple[float, float | None]:
    n = len(values)
    return float(values.mean()), float(values.std() / n**0.5) if n > 1 else None
