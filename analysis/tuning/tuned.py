"""What a study that tunes the learning rate shows at one depth, and its runs with the tuned outcome as a regime."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from analysis.data.averages import average_patterns
from analysis.data.protocol import MEASURES, MIN_PATTERNS, SAMPLED, list_declared
from analysis.data.results import Run, find_brought
from analysis.stats.correlations import Estimate
from analysis.stats.grouped import correlate_spearman
from analysis.stats.guessing import measure_learning, read_guessing
from analysis.stats.resampling import Groups, Vector, design_cells
from analysis.tuning.optimum import LOSS, is_diverged, select_rates, tune_candidates
from analysis.tuning.rates import Rates, list_rates
from analysis.tuning.turning import Turning, measure_turnings
from analysis.tuning.undertrained import BestRate, FarRate, list_far_rates, summarise_rates
from search_spaces.seeds import derive_generator


@dataclass(frozen=True, slots=True)
class Driver:
    """The rank correlation of a measure with the patterns' best learning rates; its p-value is from permutations."""

    measure: str
    estimate: Estimate


@dataclass(frozen=True, slots=True)
class Tuning:
    """The patterns of one depth at several learning rates.

    Args:
        best: the best rates of the sampled patterns.
        patterns: rows of average_patterns, of every pattern's outcomes at its best rate, with best_lr and edge.
        losses: mean loss over seeds by key and rate, nan where a training diverged or is still to come.
        measures: measures that the study declared.
        drivers, turnings: over the sampled patterns, the declared measures first; empty below MIN_PATTERNS.
        unlearned: regimes whose networks learned nothing, which the turnings leave out.
        far: regimes whose rate is far from the best.
    """

    best: BestRate
    patterns: pd.DataFrame
    losses: pd.DataFrame
    measures: tuple[str, ...]
    drivers: tuple[Driver, ...]
    turnings: tuple[Turning, ...]
    unlearned: tuple[str, ...]
    far: tuple[FarRate, ...]


def add_tuned(run: Run) -> Run:
    """Return a run with one more regime, rates.TUNED: every pattern at its own best rate, one row a seed.

    It is the declared stratum of a study that tunes the rate; the regimes of single rates are exploratory.
    """
    tuned = [tune_candidates(run.candidates, rates) for rates in list_rates(run)]
    return replace(run, candidates=pd.concat([run.candidates, *tuned], ignore_index=True)) if tuned else run


def analyse_tunings(run: Run, run_seed: int) -> tuple[Tuning, ...]:
    """Analyse each depth at which a study tunes the learning rate; none where no pattern has a best rate yet."""
    tunings = (_analyse(run, rates, run_seed) for rates in list_rates(run))
    found = [tuning for tuning in tunings if tuning is not None]
    far = list_far_rates(run, [tuning.best for tuning in found])
    return tuple(
        replace(tuning, far=tuple(each for each in far if each.layers == tuning.best.rates.layers)) for tuning in found
    )


def _analyse(run: Run, rates: Rates, run_seed: int) -> Tuning | None:
    rows = tune_candidates(run.candidates, rates)
    own = rows.drop_duplicates("key").set_index("key")[["edge"]]
    best_lr = np.exp(np.log(rows["best_lr"]).groupby(rows["key"]).mean())
    patterns = average_patterns(rows).join(own.assign(best_lr=best_lr), on="key")
    sample = patterns[patterns["strategy"].isin(SAMPLED)].reset_index(drop=True)
    if sample.empty:
        return None
    trained = select_rates(run.candidates, rates)
    measures = list_declared(run.plan)
    columns = _list_columns(sample, measures) if len(sample) >= MIN_PATTERNS else {}
    unlearned = tuple(regime for regime in rates.regimes if not _has_learned(run, trained, regime))
    generator = derive_generator(run_seed, "tuning", rates.budget, rates.layers)
    cells = design_cells(sample)
    return Tuning(
        best=summarise_rates(rates, sample["best_lr"].to_numpy(np.float64), sample["edge"].fillna("inside").tolist()),
        patterns=patterns,
        losses=trained.pivot_table(index="key", columns="lr", values=LOSS, aggfunc=lambda own: own.mean(skipna=False)),
        measures=tuple(name for name in measures if name in columns),
        drivers=_measure_drivers(columns, sample, cells, generator),
        turnings=_measure_turnings(columns, sample["key"], trained, rates, unlearned, cells, generator),
        unlearned=unlearned,
        far=(),
    )


def _list_columns(sample: pd.DataFrame, declared: tuple[str, ...]) -> dict[str, Vector]:
    """Return the measures that all patterns have and in which they differ, the declared ones first."""
    columns = {}
    for name in dict.fromkeys((*declared, *MEASURES, *find_brought(sample))):
        if name in sample and sample[name].notna().all():
            # Sums over the same distances in another order differ by 1e-16, but they are ties.
            column = sample[name].to_numpy(np.float64).round(12)
            if np.ptp(column) > 1e-12 * abs(column).max():
                columns[name] = column
    return columns


def _has_learned(run: Run, trained: pd.DataFrame, regime: str) -> bool:
    rows = trained[(trained["regime"] == regime) & (trained["state"] == "complete")]
    learning = measure_learning(rows, read_guessing(run))
    return learning is None or learning.is_better


def _measure_drivers(
    columns: Mapping[str, Vector], sample: pd.DataFrame, cells: Groups, generator: np.random.Generator
) -> tuple[Driver, ...]:
    best = sample["best_lr"].to_numpy(np.float64).round(12)
    everyone = np.zeros_like(cells)
    return tuple(Driver(name, correlate_spearman(x, best, cells, everyone, generator)) for name, x in columns.items())


def _measure_turnings(
    columns: Mapping[str, Vector],
    keys: "pd.Series[str]",
    trained: pd.DataFrame,
    rates: Rates,
    unlearned: tuple[str, ...],
    cells: Groups,
    generator: np.random.Generator,
) -> tuple[Turning, ...]:
    learned = [(rate, name) for rate, name in zip(rates.rates, rates.regimes, strict=True) if name not in unlearned]
    if rates.steps is None or len(learned) < 2:
        return ()
    seeds = sorted(trained["seed"].unique())
    losses = np.stack([_centre(trained[trained["regime"] == name], keys, seeds) for _, name in learned], axis=2)
    return measure_turnings(columns, losses, [rates.steps * rate for rate, _ in learned], cells, generator)


def _centre(rows: pd.DataFrame, keys: "pd.Series[str]", seeds: list[int]) -> Vector:
    """Return the losses at one rate, each seed's mean over fully trained patterns taken out: shape (seeds, keys).

    inf where a training diverged, nan where it is still to come.
    """
    trained = rows.assign(value=rows[LOSS].where(~is_diverged(rows), np.inf))
    table = trained.set_index(["key", "seed"])["value"].reindex(pd.MultiIndex.from_product([keys, seeds]))
    values = table.to_numpy(np.float64).reshape(len(keys), len(seeds))
    full = values[np.isfinite(values).all(axis=1)]
    level = full.mean(axis=0) if len(full) else np.full(len(seeds), np.nan)  # without one, nothing compares
    centred: Vector = (values - level).T
    return centred


def summarise_tuning(tuning: Tuning) -> dict[str, Any]:
    """Return a tuning's numbers as JSON values."""
    patterns = tuning.patterns[["key", "template", "strategy", "best_lr", "edge", LOSS]]
    return {
        "best": asdict(tuning.best),
        "patterns": patterns.to_dict("records"),
        "drivers": [asdict(driver) for driver in tuning.drivers],
        "turnings": [asdict(turning) for turning in tuning.turnings],
        "unlearned": list(tuning.unlearned),
        "far": [asdict(far) for far in tuning.far],
    }
