"""Accuracies of networks trained side by side, each compared with the reference seed by seed."""

from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from analysis.data.protocol import ALPHA
from analysis.data.results import Run, parse_sources
from analysis.stats.correlations import adjust_holm
from analysis.stats.guessing import ACCURACY
from analysis.stats.intervals import SHARE, SHARES_APART, student_interval
from search_spaces.pattern import ConnectionPattern

REFERENCE = "log"


@dataclass(frozen=True, slots=True)
class Standing:
    """One network of a comparison.

    Args:
        pattern: its connections, within a block or, where they cross the borders of blocks, over all of them.
        growth, params, flops: numbers of the whole network.
        flops_ratio: its FLOPs over those of the reference; None without one.
        mean_bd: mean BD of the pattern.
        global_mean_bd: mean BD through all blocks and transitions.
        n_seeds, n_failed: number of trainings that ended with a measurement, and without.
        accuracy, loss: means over seeds on validation images; None where none is complete.
        low, high: interval of the accuracy by student_interval; None for fewer than two seeds and for seeds that gave
            the same.
        difference: accuracy less the reference's, mean over the seeds that both have; None for the reference itself.
        p_holm: p-value of a paired t-test of the difference, adjusted by Holm over all networks.
    """

    name: str
    pattern: ConnectionPattern
    growth: int
    params: int
    flops: int
    flops_ratio: float | None
    mean_bd: float
    global_mean_bd: float
    n_seeds: int
    n_failed: int
    accuracy: float | None
    low: float | None
    high: float | None
    loss: float | None
    difference: float | None = None
    difference_low: float | None = None
    difference_high: float | None = None
    p_holm: float | None = None

    @property
    def is_told_apart(self) -> bool:
        """Whether its accuracy differs from the reference's beyond what seeds do."""
        return self.p_holm is not None and self.p_holm < ALPHA


def rank_networks(run: Run) -> tuple[Standing, ...]:
    """Return the networks of a comparison, the most accurate first, those without a measurement last."""
    by_name = {str(name): rows for name, rows in run.candidates.groupby("regime", sort=False)}
    accuracies = {name: _by_seed(rows) for name, rows in by_name.items()}
    reference = by_name.get(REFERENCE)
    flops = None if reference is None else int(reference["flops"].iloc[0])
    standings = [_stand(name, rows, accuracies[name], flops) for name, rows in by_name.items()]
    if REFERENCE in by_name:
        standings = _compare(standings, accuracies)
    return tuple(
        sorted(standings, key=lambda standing: -1.0 if standing.accuracy is None else standing.accuracy, reverse=True)
    )


def _by_seed(rows: pd.DataFrame) -> "pd.Series[float]":
    return rows[(rows["state"] == "complete").fillna(False)].set_index("seed")[ACCURACY]


def _stand(name: str, rows: pd.DataFrame, accuracies: "pd.Series[float]", reference_flops: int | None) -> Standing:
    first = rows.iloc[0]
    low, high = student_interval(accuracies, SHARE)
    losses = rows["validation_loss"].dropna()
    return Standing(
        name=name,
        pattern=parse_sources(first["sources"]),
        growth=int(first["growth"]),
        params=int(first["params"]),
        flops=int(first["flops"]),
        flops_ratio=None if reference_flops is None else int(first["flops"]) / reference_flops,
        mean_bd=float(first["mean_bd"]),
        global_mean_bd=float(first["global_mean_bd"]),
        n_seeds=len(accuracies),
        n_failed=int((rows["state"] == "failed").sum()),
        accuracy=float(accuracies.mean()) if len(accuracies) else None,
        low=low,
        high=high,
        loss=float(losses.mean()) if len(losses) else None,
    )


def _compare(standings: list[Standing], accuracies: dict[str, "pd.Series[float]"]) -> list[Standing]:
    differences = {
        standing.name: (accuracies[standing.name] - accuracies[REFERENCE]).dropna()
        for standing in standings
        if standing.name != REFERENCE
    }
    adjusted = dict(zip(differences, adjust_holm([_test(each) for each in differences.values()]), strict=True))
    compared = []
    for standing in standings:
        own = differences.get(standing.name)
        if own is not None and len(own):
            low, high = student_interval(own, SHARES_APART)
            standing = replace(
                standing,
                difference=float(own.mean()),
                difference_low=low,
                difference_high=high,
                p_holm=adjusted[standing.name],
            )
        compared.append(standing)
    return compared


def _test(differences: "pd.Series[float]") -> float | None:
    """Return the p-value of a paired t-test; None where all differences are equal, or there are fewer than two."""
    from scipy.stats import ttest_1samp  # a second

    if len(differences) < 2 or np.ptp(differences.to_numpy()) == 0:
        return None
    return float(ttest_1samp(differences, 0).pvalue)
