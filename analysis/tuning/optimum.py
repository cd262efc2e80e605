"""Each pattern's best learning rate, and its outcomes there."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd

from analysis.stats.guessing import ACCURACY
from analysis.stats.intervals import RANGES
from analysis.stats.resampling import Groups, Vector
from analysis.tuning.rates import TUNED, Rates

Edge = Literal["lowest", "highest", "diverged"]
LOSS = "validation_loss"
FLAT_BEND = 1e-9  # curvature at or below which a parabola has no least
LEAST = 1e-12  # nats; a loss may be 0, and its logarithm may not
OF_TRAINING = ("number", "seconds", "error", "lr")  # of a single training, and not of a pattern and seed at all rates
DIVERGED = "not finite"  # what the error of a diverged training says


@dataclass(frozen=True, slots=True)
class Optimum:
    """Where the loss of one pattern is least, as all of its seeds together see it.

    Args:
        lr: the best learning rate.
        edge: where the best is the lowest or the highest rate that was tried, or the last one before a training
            diverged: it may lie beyond. None where it is inside.
        weights: share of each rate in a value at the best rate, shape (rates,); they sum to 1.
        seed_lrs: the best rate as each seed sees it, shape (seeds,); its geometric mean is lr.
    """

    lr: float
    edge: Edge | None
    weights: Vector
    seed_lrs: Vector


def find_optimum(rates: Vector, losses: Vector) -> Optimum | None:
    """Find the least of a parabola in the logarithm of the rate, fitted to the logarithm of the loss.

    The logarithm, because a parabola through losses that differ tenfold would bend below zero. Each rate's misfit is
    multiplied by the least loss over its own, so that a rate near divergence, where no loss is parabolic, hardly bends
    the rest. It was chosen on 22 patterns of 24 layers trained at nine rates with four seeds: from every other rate and
    two seeds it ranked patterns as all nine rates did with the other two by .81, a parabola without weights by .82, one
    through the best rate and its neighbours by .79, the best rate that was tried by .80. The logarithms of their best
    rates had standard deviations of .39, .39, .50 and .56 about those of the nine rates. With the rates' loss near that
    of guessing at the top, the parabola without weights is half a step off.

    Args:
        rates: rising, shape (rates,).
        losses: shape (seeds, rates); nan where a training diverged. A rate at which one seed diverges counts for none.

    Returns:
        None where every rate diverged at some seed.
    """
    usable = np.flatnonzero(np.isfinite(losses).all(axis=0))
    if not len(usable):
        return None
    heights = np.log(np.maximum(losses[:, usable], LEAST))
    means = heights.mean(axis=0)
    least = usable[means.argmin()]
    x = np.log(rates / rates[least])
    weights, place, shifts = np.zeros(len(rates)), 0.0, np.zeros(len(losses))
    weights[least] = 1  # where there is no valley in sight: the best rate that was tried
    scale = np.exp(means.min() - means)
    # From heights at the usable rates to the coefficients of 1, x and x squared: a row each, a column a rate.
    fit = np.linalg.pinv(np.vander(x[usable], 3, increasing=True) * scale[:, None]) * scale
    _, slopes, bends = fit @ heights.T  # of each seed
    slope, bend = slopes.mean(), bends.mean()
    if len(usable) > 2 and bend > FLAT_BEND:
        place = float(np.clip(-slope / (2 * bend), x[usable[0]], x[usable[-1]]))
        weights[usable] = [1, place, place**2] @ fit
        # To first order: a seed's slope at the best rate, which is 0 over all seeds, says how far off its own best is.
        shifts = -(slopes + 2 * bends * place) / (2 * bend)
    edge = _name_edge(place, x, usable)
    lr = float(rates[least] * np.exp(place))
    return Optimum(lr, edge, weights, lr * np.exp(shifts) if edge is None else np.full(len(losses), lr))


def _name_edge(place: float, x: Vector, usable: Groups) -> Edge | None:
    """Say at which end of the usable rates a place is, if at one."""
    if place <= x[usable[0]] + 1e-12:
        return "lowest" if usable[0] == 0 else "diverged"
    if place >= x[usable[-1]] - 1e-12:
        return "highest" if usable[-1] == len(x) - 1 else "diverged"
    return None


def tune_candidates(candidates: pd.DataFrame, rates: Rates) -> pd.DataFrame:
    """Return the outcomes of patterns at their own best learning rates, one row a pattern and seed.

    A seed counts for a pattern where it was tried at every rate. Its outcomes at the best rate are the same weighted
    means of its outcomes at the rates, of the logarithm for the loss, whichever rate would be that seed's own best: so
    the seeds differ by their noise only, not by a choice.

    Args:
        candidates: rows of read_run.

    Returns:
        Columns of read_run, best_lr (the best rate as that seed sees it) and edge (as in Optimum); the regime is
        TUNED, the state complete, and what belongs to single trainings is missing.
    """
    trained = select_rates(candidates, rates)
    rows = [row for _, own in trained.groupby("key", sort=False) for row in _tune_pattern(own, rates)]
    kinds = {**candidates.dtypes.to_dict(), "best_lr": "float64", "edge": "string"}
    return pd.DataFrame(rows, columns=list(kinds)).astype(kinds)


def select_rates(candidates: pd.DataFrame, rates: Rates) -> pd.DataFrame:
    """Return the finished candidates at these rates, complete or diverged, each once, with their rate as `lr`."""
    is_own = (candidates["layers"] == rates.layers) & (candidates["budget"] == rates.budget)
    is_own &= candidates["regime"].isin(rates.regimes)
    own = candidates[is_own.fillna(False)]
    own = own[(own["state"] == "complete").fillna(False) | is_diverged(own)]
    lr = own["regime"].map(dict(zip(rates.regimes, rates.rates, strict=True))).astype("float64")
    return own.assign(lr=lr).drop_duplicates(["regime", "key", "seed"])


def is_diverged(candidates: pd.DataFrame) -> "pd.Series[bool]":
    """Return whether each training failed because its loss was no longer finite."""
    diverged: pd.Series[bool] = (candidates["state"] == "failed") & candidates["error"].str.contains(DIVERGED)
    return diverged.fillna(False).astype(bool)


def _tune_pattern(own: pd.DataFrame, rates: Rates) -> list[dict[str, object]]:
    """Return a pattern's rows, one a seed."""
    n_tried = own.groupby("seed")["lr"].nunique()
    seeds = sorted(n_tried.index[n_tried == len(rates.rates)])
    if not seeds:
        return []
    tables = (own.pivot(index="seed", columns="lr", values=name) for name in (LOSS, ACCURACY))  # noqa: PD010
    losses, accuracies = (table.loc[seeds, list(rates.rates)].to_numpy(np.float64) for table in tables)
    optimum = find_optimum(np.array(rates.rates), losses)
    if optimum is None:
        return []
    used = optimum.weights != 0
    at_best = np.exp(np.log(np.maximum(losses[:, used], LEAST)) @ optimum.weights[used])
    accuracy = np.clip(accuracies[:, used] @ optimum.weights[used], *RANGES[ACCURACY])
    fixed = own.drop_duplicates("seed").set_index("seed").drop(columns=list(OF_TRAINING))
    return [
        {
            **fixed.loc[seed].to_dict(),
            "state": "complete",
            "regime": TUNED,
            "seed": seed,
            LOSS: at_best[place],
            ACCURACY: accuracy[place],
            "best_lr": optimum.seed_lrs[place],
            "edge": optimum.edge,
        }
        for place, seed in enumerate(seeds)
    ]
