"""All statistics of a stratum, and its verdict."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis.data.averages import average_patterns
from analysis.data.outcomes import OUTCOMES, list_outcomes
from analysis.data.protocol import DISTANCES, MEASURES, MIN_PATTERNS, SAMPLED
from analysis.data.results import STRATUM, find_brought
from analysis.stats.correlations import METHODS, Estimate, Method, adjust_holm, correlate, weighted_spearman
from analysis.stats.guessing import UNKNOWN, Guessing, Learning, measure_learning
from analysis.stats.inference import outcome_of
from analysis.stats.prediction import Baseline, Fit, Precision, fit_parabolas, learn_baselines, measure_precision
from analysis.stats.resampling import design_bands, design_cells
from analysis.study.levels import PairedDifference, compare_pairs
from analysis.study.verdict import Verdict, word_judgement
from analysis.verdict.noise import Resolution, measure_resolution
from analysis.verdict.pooled import Pooled
from analysis.verdict.rules import Evidence, Judgement, gather_evidence, judge_strata
from analysis.verdict.sample import Sample, build_samples
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
        measures: the declared measures, the one of the verdict first.
        used, left_out: number of patterns by strategy, in the statistics and not. Templates were chosen by name and an
            optimiser's proposals by their outcomes, so neither is a sample.
        n_seeds, n_incomplete: seeds of a fully trained pattern, and number of patterns used that lack some of them.
        judgements: one a declared measure, adjusted over all strata.
        effects: the secondary family.
        constant, absent: measures that are equal in all patterns, and that some patterns lack.
        resolution: by outcome, whether the seeds tell patterns apart; None where that is not known.
        collinearity: Spearman correlation of the first declared measure with COLLINEAR among the patterns used.
        learning: accuracy of all complete candidates, next to what guessing reaches; None without an accuracy.
        is_exploratory: whether the study did not declare it.
        fault: undertrained or overheated, where its learning rate is far from the best one; otherwise empty.
        verdict: the first declared measure's judgement in words.
    """

    budget: str
    layers: int
    regime: str | None
    measures: tuple[str, ...]
    used: dict[str, int]
    left_out: dict[str, int]
    n_patterns: int
    n_seeds: int
    n_incomplete: int
    judgements: tuple[Judgement, ...]
    effects: tuple[MeasureEffect, ...]
    constant: tuple[str, ...]
    absent: tuple[str, ...]
    fits: tuple[Fit, ...]
    precision: tuple[Precision, ...]
    baselines: tuple[Baseline, ...]
    pairs: tuple[PairedDifference, ...]
    resolution: dict[str, Resolution | None]
    collinearity: dict[str, float | None]
    reach: Reach | None
    learning: Learning | None
    is_exploratory: bool
    fault: str
    verdict: Verdict

    @property
    def name(self) -> str:
        """Its name in a sentence over several strata."""
        return f"{self.layers} layers at {self.budget}" + (f", {self.regime}" if self.regime is not None else "")

    @property
    def primary(self) -> str:
        """The outcome that it is judged by, where any pattern has it."""
        return next(iter(self.resolution), OUTCOMES[0])

    def ceiling(self, outcome: str) -> float | None:
        """Return the largest correlation with an outcome that seed noise leaves; None where it is not known."""
        resolution = self.resolution.get(outcome)
        return None if resolution is None else resolution.ceiling


@dataclass(frozen=True, slots=True)
class Analysis:
    """The strata of a run, and what they say together.

    Args:
        strata: the largest first, then fewer layers, then in the table's order.
        pooled: one a declared measure; empty where fewer than two strata can be pooled.
        n_tests: number of declared tests that p-values are adjusted over.
    """

    strata: tuple[Stratum, ...]
    pooled: tuple[Pooled, ...]
    n_tests: int


def analyse_candidates(
    candidates: pd.DataFrame,
    run_seed: int = 0,
    measures: Sequence[str] = ("mean_bd",),
    checks: Collection[str] = (),
    guessing: Guessing = UNKNOWN,
    exploratory: Collection[str] = (),
    faults: Mapping[tuple[int, str | None], str] | None = None,
) -> Analysis:
    """Analyse what the declared measures have to do with the outcomes, in every budget, depth and regime.

    Args:
        candidates: rows of read_run or read_table.
        run_seed: seed of the bootstrap and the permutations.
        measures: columns that the study declared, by which it is judged.
        checks: regimes that only check others; they are left out, from Holm's family too.
        guessing: accuracy reached without a look at the images; where a stratum is no better, that is its verdict.
        exploratory: regimes that the study did not declare, such as single rates where it judges patterns at their best
            one: their tests are adjusted for one another only, and not pooled.
        faults: by number of layers and regime, why a stratum's learning rate is far from the best one.

    Returns:
        Of each budget, depth and regime that has a complete candidate.

    Raises:
        InputError: a measure is no column of numbers.
    """
    complete = candidates[(candidates["state"] == "complete").fillna(False)]
    complete = complete[~complete["regime"].isin(list(checks))]
    complete = complete.assign(strategy=complete["strategy"].fillna("unknown"))
    unknown = [name for name in measures if name not in complete]
    if unknown:
        raise InputError(f"the table has no column {unknown[0]!r} to judge; it has {', '.join(map(str, complete))}")
    groups = [rows for _, rows in complete.groupby(STRATUM, dropna=False, sort=False)]
    groups.sort(key=lambda rows: (-len(rows), int(rows["layers"].iloc[0])))  # stable: then the order of appearance
    sampled = {str(place): _choose_sample(rows) for place, rows in enumerate(groups)}
    samples = build_samples(sampled, tuple(measures), run_seed)
    strata: list[Stratum] = []
    evidence: dict[str, Evidence] = {}
    explored: dict[str, Evidence] = {}
    for place, rows in enumerate(groups):
        stratum = _analyse_stratum(rows, run_seed, tuple(measures), guessing)
        is_exploratory, fault = stratum.regime in exploratory, (faults or {}).get((stratum.layers, stratum.regime), "")
        strata.append(replace(stratum, is_exploratory=is_exploratory, fault=fault))
        (explored if is_exploratory else evidence)[stratum.name] = _gather(stratum, samples.get(str(place)), run_seed)
    judged = judge_strata(evidence)
    judgements = {**judged.strata, **judge_strata(explored).strata}
    worded = (
        replace(
            stratum,
            judgements=judgements[stratum.name],
            verdict=word_judgement(judgements[stratum.name][0], stratum.learning, stratum.primary),
        )
        for stratum in strata
    )
    return Analysis(tuple(worded), judged.pooled, judged.n_tests)


def _gather(stratum: Stratum, sample: Sample | None, run_seed: int) -> Evidence:
    generator = derive_generator(run_seed, "tests", stratum.budget, stratum.layers, stratum.regime or "")
    return gather_evidence(sample, stratum.measures, stratum.learning, generator)


def _choose_sample(complete: pd.DataFrame) -> pd.DataFrame:
    return complete[complete["strategy"].isin(SAMPLED)]


def _analyse_stratum(complete: pd.DataFrame, run_seed: int, measures: tuple[str, ...], guessing: Guessing) -> Stratum:
    """Compute all that does not depend on other strata: there is no judgement and no verdict."""
    everything = average_patterns(complete)
    is_sampled = everything["strategy"].isin(SAMPLED)
    used, left_out = (
        {str(name): int(n) for name, n in everything.loc[rows, "strategy"].value_counts().items()}
        for rows in (is_sampled, ~is_sampled)
    )
    # Averaged again without the others, whose numbers of seeds may differ.
    sample = _choose_sample(complete)
    patterns = average_patterns(sample)
    budget, layers = str(everything["budget"].iloc[0]), int(everything["layers"].iloc[0])
    regime = None if pd.isna(everything["regime"].iloc[0]) else str(everything["regime"].iloc[0])
    seed = (run_seed, "statistics", budget, layers, regime or "")
    shown = (*MEASURES, *find_brought(patterns))
    absent = tuple(name for name in shown if patterns.empty or patterns[name].isna().any())
    constant = tuple(name for name in shown if name not in absent and _is_constant(patterns[name]))
    varying = [name for name in shown if name not in (*absent, *constant)]
    resolution: dict[str, Resolution | None] = {outcome: _resolve(sample, outcome) for outcome in list_outcomes(sample)}
    ceilings: dict[str, float | None] = {
        outcome: None if each is None else each.ceiling for outcome, each in resolution.items()
    }
    distances = [name for name in DISTANCES if name in varying]
    sets = {"distances": distances, "all measures": varying}
    is_enough = len(patterns) >= MIN_PATTERNS
    first = measures[0] if measures[0] in patterns else "mean_bd"
    return Stratum(
        budget=budget,
        layers=layers,
        regime=regime,
        measures=measures,
        used=used,
        left_out=left_out,
        n_patterns=len(patterns),
        n_seeds=int(patterns["n_seeds"].max()) if len(patterns) else 0,
        n_incomplete=int((~patterns["all_seeds"]).sum()),
        judgements=(),
        effects=_measure_effects(patterns, varying, ceilings, seed) if is_enough else (),
        constant=constant,
        absent=absent,
        fits=fit_parabolas(patterns, (first, "span")) if is_enough else (),
        precision=measure_precision(patterns, distances, list_outcomes(patterns), derive_generator(*seed, "precision")),
        baselines=learn_baselines(patterns, first, sets, derive_generator(*seed, "baseline")),
        pairs=compare_pairs(complete),
        resolution=resolution,
        collinearity={name: _correlate_plainly(patterns, first, name) for name in COLLINEAR},
        reach=_measure_sample_reach(patterns, budget, layers),
        learning=measure_learning(complete, guessing),
        is_exploratory=False,
        fault="",
        verdict=Verdict("inconclusive", ""),
    )


def _resolve(sample: pd.DataFrame, outcome: str) -> Resolution | None:
    rows = sample.dropna(subset=[outcome]).drop_duplicates(["key", "seed"])
    table = rows.set_index(["key", "seed"])[outcome].unstack("seed")  # noqa: PD010  no aggregation
    return measure_resolution(table.to_numpy(np.float64))


def _is_constant(column: "pd.Series[float]") -> bool:
    x = column.to_numpy(np.float64)
    return bool(np.ptp(x) <= 1e-12 * np.abs(x).max())


def _measure_effects(
    patterns: pd.DataFrame,
    measures: list[str],
    ceilings: dict[str, float | None],
    seed: tuple[int | str, ...],
) -> tuple[MeasureEffect, ...]:
    effects = []
    for outcome in list_outcomes(patterns):
        rows = patterns.dropna(subset=[f"{outcome}_centred"])
        if len(rows) < MIN_PATTERNS:
            continue
        # Sums over the same distances in another order differ by 1e-16, but they are ties.
        columns = {name: rows[name].to_numpy(np.float64).round(12) for name in measures}
        inside_span = design_bands(rows, "span", 1)
        bands = dict.fromkeys(measures, inside_span) | {"span": design_bands(rows, "mean_bd", 0)}
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
