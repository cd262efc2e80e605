"""All statistics of a stratum, and its verdict."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis.data.averages import average_patterns
from analysis.data.protocol import DISTANCES, MEASURES, MIN_PATTERNS, OUTCOMES, SAMPLED, name_distance
from analysis.data.results import STRATUM, find_brought
from analysis.stats.correlations import METHODS, Estimate, Method, adjust_holm, correlate, weighted_spearman
from analysis.stats.guessing import UNKNOWN, Guessing, Learning, measure_learning
from analysis.stats.inference import Primary, adjust_primary, measure_primary, outcome_of
from analysis.stats.prediction import Baseline, Precision, learn_baselines, measure_precision
from analysis.stats.reliability import Reliability, measure_reliability
from analysis.stats.resampling import design_bands, design_cells
from analysis.stats.slopes import Fit, Slope, fit_parabolas, fit_slopes
from analysis.study.levels import PairedDifference, compare_pairs
from analysis.study.verdict import Verdict, judge
from search_spaces.budget import Budget, parse_budget
from search_spaces.distance import backprop_distance
from search_spaces.errors import InputError
from search_spaces.sampling.bounds import bound_mean
from search_spaces.sampling.cells import farthest_pattern
from search_spaces.sampling.draw import sample_uniform
from search_spaces.sampling.kernels import batch_distances
from search_spaces.seeds import derive_generator

N_UNIFORM = 2000
CENTRAL = (0.01, 0.99)
COLLINEAR = ("span", "max_out_degree", "out_degree_sd", "random_walk_depth")


@dataclass(frozen=True, slots=True)
class Reach:
    """The part of the reachable mean BD that a set of patterns covers, in hops.

    Args:
        low, high: 1 % and 99 % quantiles of the set.
        bound: proven lower bound on the mean BD of the budget's patterns.
        farthest: the largest mean BD at these in-degrees; None for a total budget.
        share: (high - low) / (farthest - bound), 0..1; None for a total budget.
    """

    n_patterns: int
    low: float
    high: float
    bound: float
    farthest: float | None
    share: float | None


@dataclass(frozen=True, slots=True)
class MeasureEffect:
    """A measure against an outcome, over patterns: means over seeds, centred by seed.

    Args:
        measure, outcome: columns of average_patterns.
        estimate: its p_value is from permutations inside bands of span, for span itself inside bands of distance.
        p_holm: p_value adjusted for all tests of the stratum by the same method.
        share_of_ceiling: estimate.value over the ceiling that seed noise puts on it; only for Spearman.
    """

    measure: str
    outcome: str
    method: Method
    n_patterns: int
    estimate: Estimate
    p_holm: float | None
    share_of_ceiling: float | None


@dataclass(frozen=True, slots=True)
class Stratum:
    """The statistics of the candidates that share budget, depth and regime.

    Args:
        regime: training regime; None in a plain search.
        distance: the primary distance.
        used, left_out: number of patterns by strategy, in the statistics and not. Templates were chosen by name and an
            optimiser's proposals by their outcomes, so neither is a sample.
        n_seeds, n_incomplete: seeds of a fully trained pattern, and number of patterns used that lack some of them.
        primary: the declared tests, adjusted over all strata; None below MIN_PATTERNS.
        effects: the secondary family.
        constant, absent: measures that are equal in all patterns, and that some patterns lack.
        collinearity: Spearman correlation of distance with COLLINEAR among the patterns used.
        learning: mean accuracy of all complete candidates, next to what guessing reaches; None without an accuracy.
    """

    budget: str
    layers: int
    regime: str | None
    distance: str
    used: dict[str, int]
    left_out: dict[str, int]
    n_patterns: int
    n_seeds: int
    n_incomplete: int
    primary: Primary | None
    effects: tuple[MeasureEffect, ...]
    constant: tuple[str, ...]
    absent: tuple[str, ...]
    slopes: tuple[Slope, ...]
    fits: tuple[Fit, ...]
    precision: tuple[Precision, ...]
    baselines: tuple[Baseline, ...]
    pairs: tuple[PairedDifference, ...]
    reliability: tuple[Reliability, ...]
    collinearity: dict[str, float | None]
    reach: Reach | None
    learning: Learning | None
    verdict: Verdict

    @property
    def name(self) -> str:
        """Its name in a sentence over several strata."""
        return f"{self.layers} layers at {self.budget}" + (f", {self.regime}" if self.regime is not None else "")

    def ceiling(self, outcome: str) -> float | None:
        """Return the largest correlation with an outcome that seed noise leaves; None where it is not known."""
        return next((each.ceiling for each in self.reliability if each.outcome == outcome), None)


def analyse_candidates(
    candidates: pd.DataFrame,
    run_seed: int = 0,
    distance: str = "mean_bd",
    checks: Sequence[str] = (),
    guessing: Guessing = UNKNOWN,
) -> tuple[Stratum, ...]:
    """Analyse what distance has to do with the outcomes, separately in every budget, depth and regime.

    Args:
        candidates: rows of read_run or read_table.
        run_seed: seed of the bootstrap and the permutations.
        distance: the primary distance, of protocol.PRIMARY_DISTANCES.
        checks: regimes that only check others; they are left out, from Holm's family too.
        guessing: accuracy reached without a look at the images; where a stratum is no better, that is its verdict.

    Returns:
        One Stratum for each budget, depth and regime that has a complete candidate: the largest first, then fewer
        layers, then in the table's order.

    Raises:
        InputError: another distance.
    """
    name_distance(distance)
    complete = candidates[(candidates["state"] == "complete").fillna(False)]
    complete = complete[~complete["regime"].isin(list(checks))]
    complete = complete.assign(strategy=complete["strategy"].fillna("unknown"))
    groups = [rows for _, rows in complete.groupby(STRATUM, dropna=False, sort=False)]
    groups.sort(key=lambda rows: (-len(rows), int(rows["layers"].iloc[0])))  # stable: then the order of appearance
    strata = [_analyse_stratum(rows, run_seed, distance, guessing) for rows in groups]
    adjusted = adjust_primary([stratum.primary for stratum in strata])
    return tuple(
        replace(stratum, primary=primary, verdict=_judge_stratum(stratum, primary))
        for stratum, primary in zip(strata, adjusted, strict=True)
    )


def _judge_stratum(stratum: Stratum, primary: Primary | None) -> Verdict:
    ceiling = None if primary is None else stratum.ceiling(primary.outcome)
    return judge(primary, stratum.n_patterns, stratum.n_seeds, ceiling, stratum.learning)


def _analyse_stratum(complete: pd.DataFrame, run_seed: int, distance: str, guessing: Guessing) -> Stratum:
    """Compute all that does not depend on other strata: the primary tests are not adjusted, and there is no verdict."""
    everything = average_patterns(complete)
    is_sampled = everything["strategy"].isin(SAMPLED)
    used, left_out = (
        {str(name): int(n) for name, n in everything.loc[rows, "strategy"].value_counts().items()}
        for rows in (is_sampled, ~is_sampled)
    )
    # Averaged again without the others, whose numbers of seeds may differ.
    sample = complete[complete["key"].isin(everything.loc[is_sampled, "key"])]
    patterns = average_patterns(sample)
    budget, layers = str(everything["budget"].iloc[0]), int(everything["layers"].iloc[0])
    regime = None if pd.isna(everything["regime"].iloc[0]) else str(everything["regime"].iloc[0])
    seed = (run_seed, "statistics", budget, layers, regime or "")
    measures = (*MEASURES, *find_brought(patterns))
    absent = tuple(name for name in measures if patterns.empty or patterns[name].isna().any())
    constant = tuple(name for name in measures if name not in absent and _is_constant(patterns[name]))
    varying = [name for name in measures if name not in (*absent, *constant)]
    reliability = tuple(measure_reliability(sample, outcome) for outcome in OUTCOMES)
    ceilings = {each.outcome: each.ceiling for each in reliability}
    distances = [name for name in DISTANCES if name in varying]
    sets = {"distances": distances, "all measures": varying}
    is_enough = len(patterns) >= MIN_PATTERNS
    return Stratum(
        budget=budget,
        layers=layers,
        regime=regime,
        distance=distance,
        used=used,
        left_out=left_out,
        n_patterns=len(patterns),
        n_seeds=int(patterns["n_seeds"].max()) if len(patterns) else 0,
        n_incomplete=int((~patterns["all_seeds"]).sum()),
        primary=measure_primary(patterns, distance, derive_generator(*seed, "primary", distance)),
        effects=_measure_effects(patterns, varying, distance, ceilings, seed) if is_enough else (),
        constant=constant,
        absent=absent,
        slopes=fit_slopes(patterns, distance) if is_enough else (),
        fits=fit_parabolas(patterns, (distance, "span")) if is_enough else (),
        precision=measure_precision(patterns, distances, OUTCOMES, derive_generator(*seed, "precision")),
        baselines=learn_baselines(patterns, distance, sets, derive_generator(*seed, "baseline")),
        pairs=compare_pairs(complete),
        reliability=reliability,
        collinearity={name: _correlate_plainly(patterns, distance, name) for name in COLLINEAR},
        reach=_measure_sample_reach(patterns, budget, layers),
        learning=measure_learning(complete, guessing),
        verdict=Verdict("inconclusive", ""),
    )


def _is_constant(column: "pd.Series[float]") -> bool:
    x = column.to_numpy(np.float64)
    return bool(np.ptp(x) <= 1e-12 * np.abs(x).max())


def _measure_effects(
    patterns: pd.DataFrame,
    measures: list[str],
    distance: str,
    ceilings: dict[str, float | None],
    seed: tuple[int | str, ...],
) -> tuple[MeasureEffect, ...]:
    effects = []
    for outcome in OUTCOMES:
        rows = patterns.dropna(subset=[f"{outcome}_centred"])
        if len(rows) < MIN_PATTERNS:
            continue
        # Sums over the same distances in another order differ by 1e-16, but they are ties.
        columns = {name: rows[name].to_numpy(np.float64).round(12) for name in measures}
        inside_span = design_bands(rows, "span", 1)
        bands = dict.fromkeys(measures, inside_span) | {"span": design_bands(rows, distance, 0)}
        generator = derive_generator(*seed, "effects", outcome)
        estimates = correlate(columns, outcome_of(rows, outcome), design_cells(rows), bands, generator)
        for (measure, method), estimate in estimates.items():
            ceiling = ceilings[outcome] if method == "spearman" else None
            share = estimate.value / ceiling if ceiling and estimate.value is not None else None
            effects.append(MeasureEffect(measure, outcome, method, len(rows), estimate, None, share))
    p_holm = {
        method: iter(adjust_holm([effect.estimate.p_value for effect in effects if effect.method == method]))
        for method in METHODS
    }
    return tuple(replace(effect, p_holm=next(p_holm[effect.method])) for effect in effects)


def _correlate_plainly(patterns: pd.DataFrame, distance: str, other: str) -> float | None:
    rows = patterns[[distance, other]].dropna()
    x, y = (rows[name].to_numpy(np.float64) for name in (distance, other))
    if len(x) < 2:
        return None
    value = float(weighted_spearman(x, y, np.ones((1, len(x))))[0])
    return value if np.isfinite(value) else None


def _measure_sample_reach(patterns: pd.DataFrame, budget: str, layers: int) -> Reach | None:
    try:
        parsed = parse_budget(budget, layers)
    except InputError:  # another program's word for its budget
        return None
    return measure_reach(patterns["mean_bd"].to_numpy(np.float64), parsed) if len(patterns) else None


def measure_reach(mean_bd: NDArray[np.float64], budget: Budget) -> Reach:
    """Return the reach of patterns of a budget from their mean BDs, shape (n,), n >= 1."""
    low, high = np.quantile(mean_bd, CENTRAL).tolist()
    bound = bound_mean(budget)
    farthest = share = None
    if budget.per_layer is not None:
        farthest = backprop_distance(farthest_pattern(budget)).mean
        share = (high - low) / (farthest - bound) if farthest > bound + 1e-12 else None
    return Reach(len(mean_bd), low, high, bound, farthest, share)


def measure_uniform_reach(budget: Budget, run_seed: int = 0) -> Reach:
    """Return the reach of N_UNIFORM patterns drawn uniformly under a budget: what a random search would see."""
    generator = derive_generator(run_seed, "uniform reach")
    return measure_reach(batch_distances([sample_uniform(budget, generator) for _ in range(N_UNIFORM)]).mean, budget)
