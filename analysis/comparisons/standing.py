"""Networks trained side by side -> accuracies with intervals, each compared with the reference seed by seed."""

from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from analysis.data.protocol import ALPHA
from analysis.data.results import Run, parse_sources
from analysis.stats.correlations import adjust_holm
from analysis.stats.intervals import SHARE, SHARES_APART, student_interval
from search_spaces.pattern import ConnectionPattern

REFERENCE = "log"
ACCURACY = "validation_accuracy"


@dataclass(frozen=True, slots=True)
class Standing:
    """One network of a comparison.

    Args:
        name: of the network.
        pattern: its connections, within a block or, where they cross the borders of blocks, over all of them.
        growth, params, flops: of the whole network; flops_ratio: over those of the reference, None without one.
        mean_bd: of the pattern; global_mean_bd: through all blocks and transitions.
        n_seeds, n_failed: trainings that ended with a measurement, and without.
        accuracy, loss: means over seeds on validation images, None where none is complete; low, high: interval of
            the former by student_interval, None for fewer than two seeds and for seeds that gave the same.
        difference: of accuracy to the reference's, mean over the seeds that both have, with its interval and the
            p-value of a paired t-test, adjusted by Holm over all networks; None for the reference itself.
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
    """The networks of a comparison, the most accurate first, those without a measurement last."""
    by_name = {str(name): rows for name, rows in run.candidates.groupby("regime", sort=False)}
    accuracies = {name: _by_seed(rows) for name, rows in by_name.items()}
    reference = by_name.get(REFERENCE)
    flops = None if reference is None else int(reference["flops"].iloc[0])
    found = [_stand(name, rows, accuracies[name], flops) for name, rows in by_name.items()]
    if REFERENCE in by_name:
        found = _compare(found, accuracies)
    return tuple(sorted(found, key=lambda one: -1.0 if one.accuracy is None else one.accuracy, reverse=True))


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
        one.name: (accuracies[one.name] - accuracies[REFERENCE]).dropna() for one in standings if one.name != REFERENCE
    }
    adjusted = dict(zip(differences, adjust_holm([_test(one) for one in differences.values()]), strict=True))
    compared = []
    for one in standings:
        own = differences.get(one.name)
        if own is None or own.empty:
            compared.append(one)
            continue
        low, high = student_interval(own, SHARES_APART)
        compared.append(
            replace(
                one,
                difference=float(own.mean()),
                difference_low=low,
                difference_high=high,
                p_holm=adjusted[one.name],
            )
        )
    return compared


def _test(differences: "pd.Series[float]") -> float | None:
    """P-value of a paired t-test; None where all differences are equal, or there are fewer than two."""
    from scipy.stats import ttest_1samp  # a second

    if len(differences) < 2 or np.ptp(differences.to_numpy()) == 0:
        return None
    return float(ttest_1samp(differences, 0).pvalue)
