"""Optima against their controls and reversals against their originals, pair by pair."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from analysis.intervals import SHARES_APART, UNBOUNDED, student_interval
from analysis.protocol import OUTCOMES
from analysis.resampling import Vector


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
