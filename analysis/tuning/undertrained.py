"""Whether a learning rate is far from the best one of the patterns that it trained."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from analysis.data.protocol import UNDERTRAINED
from analysis.data.results import Run
from analysis.stats.resampling import Vector
from analysis.tuning.rates import Rates, describe_setting

Fault = Literal["undertrained", "overheated"]


@dataclass(frozen=True, slots=True)
class BestRate:
    """The best learning rates of the patterns of one depth.

    Args:
        rates: those at which they were tuned.
        median: median of the best rates.
        low, high: the quarter of the patterns with the lowest best rates lies below low, that with the highest above
            high.
        n_patterns: number of patterns.
        n_lowest, n_highest, n_diverged: number of patterns whose best rate is the lowest or the highest that was
            tried, or lies next to rates at which trainings diverged: it may be another one.
    """

    rates: Rates
    median: float
    low: float
    high: float
    n_patterns: int
    n_lowest: int
    n_highest: int
    n_diverged: int


@dataclass(frozen=True, slots=True)
class FarRate:
    """A regime whose learning rate is more than UNDERTRAINED times off.

    Args:
        factor: its rate over the median best rate.
        fault: undertrained where the rate is too low, overheated where it is too high.
    """

    layers: int
    regime: str
    factor: float
    fault: Fault


def summarise_rates(rates: Rates, best: Vector, edges: Sequence[str]) -> BestRate:
    """Summarise the best learning rates of patterns.

    Args:
        best: best rate of each pattern, shape (n,), n >= 1.
        edges: edge of each optimum, as Optimum has it, or any other word.
    """
    low, median, high = np.exp(np.quantile(np.log(best), (0.25, 0.5, 0.75))).tolist()
    counts = (sum(edge == name for edge in edges) for name in ("lowest", "highest", "diverged"))
    return BestRate(rates, median, low, high, len(best), *counts)


def list_far_rates(run: Run, best_rates: Sequence[BestRate]) -> tuple[FarRate, ...]:
    """Return the regimes of a study's plan that train its patterns far from their best learning rate.

    The best rates may come from another study, which tuned them: only regimes that differ from it in nothing but the
    rate are judged, and none where no study of their settings tuned it.
    """
    planned = run.plan["strata"] if run.plan else []
    far = []
    for stratum in planned:
        setting, lr = describe_setting(run, stratum), stratum["training"]["lr"]
        for best in best_rates:
            fault = judge_rate(lr, best) if best.rates.setting == setting else None
            if fault is not None:
                far.append(FarRate(stratum["layers"], stratum["regime"], lr / best.median, fault))
    return tuple(far)


def judge_rate(lr: float, best: BestRate) -> Fault | None:
    """Say whether a learning rate is more than UNDERTRAINED times below or above the best one; None where it is not.

    Where most patterns are best at the lowest or the highest rate tried, the best may lie beyond: then only a rate
    that is far from it whatever lies beyond is judged.
    """
    is_lowest, is_highest = (2 * n > best.n_patterns for n in (best.n_lowest, best.n_highest))
    if lr * UNDERTRAINED < best.median and not is_lowest:
        return "undertrained"
    return "overheated" if lr > UNDERTRAINED * best.median and not is_highest else None
