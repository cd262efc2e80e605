"""DataFrame -> numbers with intervals, and the verdict."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from analysis.correlations import Estimate, Method, adjust_holm, correlate, correlate_given
from analysis.correlations import weighted_spearman as spearman
from analysis.reach import Reach, measure_reach
from analysis.results import STRATUM, average_patterns
from search_spaces.budget import parse_budget
from search_spaces.errors import InputError
from search_spaces.sampling import derive_generator

SAMPLED = ("random", "design")  # drawn without looking at outcomes; an optimiser's proposals are no sample
MIN_PATTERNS = 5
ADVISED = "40 patterns x 3 seeds"
CORRELATED = ("mean_bd", "span", "from_output_mean", "max_bd")
OUTCOMES = ("validation_loss", "validation_accuracy")  # primary first: one seed's loss says more than its accuracy
CONFOUNDED = 0.3  # |Spearman| of mean BD and span from which the one stands for the other too much to tell apart


@dataclass(frozen=True, slots=True)
class Correlation:
    """A distance against an outcome, over patterns: means over seeds, centred by seed.

    Args:
        distance, outcome: columns of average_patterns.
        given: the column held fixed, for a partial correlation.
        p_holm: the p-value, adjusted for all tests of the stratum by the same method.
    """

    distance: str
    outcome: str
    given: str | None
    method: Method
    n_patterns: int
    estimate: Estimate
    p_holm: float | None


@dataclass(frozen=True, slots=True)
class Reliability:
    """How much of an outcome's variance lies between patterns, over the patterns complete at every seed.

    Args:
        single_seed: ICC(1), one-way: of one training, the seeds' own level counted as noise; may come out below 0.
        paired_mean: ICC(3, k), two-way: of the mean over the k seeds, which shift all patterns together.
        ceiling: sqrt(paired_mean), the largest correlation that a perfect predictor would show on average.
    """

    outcome: str
    n_patterns: int
    n_seeds: int
    single_seed: float | None
    paired_mean: float | None
    ceiling: float | None


@dataclass(frozen=True, slots=True)
class Verdict:
    """status: detected | not detected | too few | not defined; sentence: for a reader."""

    status: str
    sentence: str


@dataclass(frozen=True, slots=True)
class Stratum:
    """All that the candidates of one budget and depth say.

    Args:
        used, left_out: patterns by strategy, in the correlations and not; templates were chosen by name and an
            optimiser's proposals by their outcomes, so neither is a sample.
        n_seeds: seeds that a fully trained pattern has; n_incomplete: patterns used that lack some of them.
        collinearity: Spearman correlation of mean BD with span and max_out_degree among the patterns used.
    """

    budget: str
    layers: int
    used: dict[str, int]
    left_out: dict[str, int]
    n_patterns: int
    n_seeds: int
    n_incomplete: int
    correlations: tuple[Correlation, ...]
    reliability: tuple[Reliability, ...]
    collinearity: dict[str, float | None]
    reach: Reach | None
    verdict: Verdict


def analyse_candidates(candidates: pd.DataFrame, run_seed: int = 0) -> tuple[Stratum, ...]:
    """What distance has to do with the outcomes, for every budget and depth apart.

    Args:
        candidates: rows of read_run or read_table.
        run_seed: of the bootstrap and the permutations.

    Returns:
        One Stratum for each budget and depth that has a complete candidate, the largest first.
    """
    complete = candidates[candidates["state"] == "complete"]
    groups = [rows for _, rows in complete.groupby(STRATUM, dropna=False)]
    return tuple(_analyse_stratum(rows, run_seed) for rows in sorted(groups, key=len, reverse=True))


def _analyse_stratum(complete: pd.DataFrame, run_seed: int) -> Stratum:
    complete = complete.assign(strategy=complete["strategy"].fillna("unknown"))
    everything = average_patterns(complete)
    is_sampled = everything["strategy"].isin(SAMPLED)
    used, left_out = (
        {str(name): int(n) for name, n in everything.loc[rows, "strategy"].value_counts().items()}
        for rows in (is_sampled, ~is_sampled)
    )
    # Averaged again without the others, whose numbers of seeds may differ.
    sample = complete[complete["key"].isin(everything.loc[is_sampled, "key"])]
    patterns = average_patterns(sample)
    layers, budget = int(everything["layers"].iloc[0]), str(everything["budget"].iloc[0])
    correlations = _correlate_all(patterns, (run_seed, "statistics", budget, layers))
    collinearity = {name: _plain_spearman(patterns, "mean_bd", name) for name in ("span", "max_out_degree")}
    return Stratum(
        budget=budget,
        layers=layers,
        used=used,
        left_out=left_out,
        n_patterns=len(patterns),
        n_seeds=int(patterns["n_seeds"].max()) if len(patterns) else 0,
        n_incomplete=int((~patterns["all_seeds"]).sum()),
        correlations=correlations,
        reliability=tuple(measure_reliability(sample, outcome) for outcome in OUTCOMES),
        collinearity=collinearity,
        reach=_reach_of(patterns, budget, layers),
        verdict=judge(correlations, collinearity["span"], len(patterns)),
    )


def _correlate_all(patterns: pd.DataFrame, seed: tuple[int | str, ...]) -> tuple[Correlation, ...]:
    """Every distance against every outcome, by both methods, then mean BD with span held; none below MIN_PATTERNS."""
    found = []
    for outcome in OUTCOMES:
        rows = patterns.dropna(subset=[f"{outcome}_centred", *CORRELATED])
        if len(rows) < MIN_PATTERNS:
            continue
        columns = {name: rows[name].to_numpy(np.float64) for name in CORRELATED}
        # Equal accuracies must stay ties: averaging leaves differences of 1e-17 between them.
        y = rows[f"{outcome}_centred"].to_numpy(np.float64).round(12)
        for distance, x in columns.items():
            for method in ("spearman", "kendall"):
                estimate = correlate(x, y, method, derive_generator(*seed, outcome, distance, method))
                found.append(Correlation(distance, outcome, None, method, len(rows), estimate, None))
        generator = derive_generator(*seed, outcome, "mean_bd given span")
        partial = correlate_given(columns["mean_bd"], y, columns["span"], generator)
        found.append(Correlation("mean_bd", outcome, "span", "spearman", len(rows), partial, None))
    return _adjust(found)


def _adjust(found: list[Correlation]) -> tuple[Correlation, ...]:
    adjusted: dict[int, float | None] = {}
    for method in ("spearman", "kendall"):
        positions = [position for position, one in enumerate(found) if one.method == method]
        p_values = adjust_holm([found[position].estimate.p_value for position in positions])
        adjusted |= dict(zip(positions, p_values, strict=True))
    return tuple(
        Correlation(one.distance, one.outcome, one.given, one.method, one.n_patterns, one.estimate, adjusted[position])
        for position, one in enumerate(found)
    )


def _plain_spearman(patterns: pd.DataFrame, one: str, other: str) -> float | None:
    x, y = (patterns[name].to_numpy(np.float64) for name in (one, other))
    if len(x) < 2:
        return None
    value = float(spearman(x, y, np.ones((1, len(x))))[0])
    return value if np.isfinite(value) else None


def measure_reliability(complete: pd.DataFrame, outcome: str) -> Reliability:
    """Share of an outcome's variance that lies between patterns (Shrout and Fleiss, Psychol. Bull. 86, 1979).

    Args:
        complete: complete candidates of one stratum.
        outcome: the column to judge; patterns that lack it at a seed are left out.
    """
    table = complete.pivot_table(index="key", columns="seed", values=outcome).dropna().to_numpy(np.float64)
    n, k = table.shape  # (patterns, seeds)
    if n < 2 or k < 2:
        return Reliability(outcome, n, k, None, None, None)
    between = k * table.mean(axis=1).var(ddof=1)
    within = table.var(axis=1, ddof=1).mean()
    residual_sum = within * n * (k - 1) - n * (k - 1) * table.mean(axis=0).var(ddof=1)
    residual = residual_sum / ((n - 1) * (k - 1))
    if between <= 1e-15:
        return Reliability(outcome, n, k, None, None, None)
    single_seed = float((between - within) / (between + (k - 1) * within))
    paired_mean = float((between - residual) / between)
    return Reliability(outcome, n, k, single_seed, paired_mean, max(paired_mean, 0.0) ** 0.5)


def _reach_of(patterns: pd.DataFrame, budget: str, layers: int) -> Reach | None:
    try:
        parsed = parse_budget(budget, layers)
    except InputError:  # a foreign table's word for its budget
        return None
    return measure_reach(patterns["mean_bd"].to_numpy(np.float64), parsed) if len(patterns) else None


def judge(correlations: tuple[Correlation, ...], span_rho: float | None, n_patterns: int) -> Verdict:
    """The verdict on mean BD against the primary outcome, the first of OUTCOMES that was measured.

    Detected takes both an interval that leaves out 0 and a permutation p of at most 0.05: with few patterns the
    percentile interval alone is too narrow.
    """
    if n_patterns < MIN_PATTERNS:
        return Verdict(
            "too few",
            f"too few patterns to say: {n_patterns} sampled at random or by design, at least {MIN_PATTERNS} are needed "
            f"for any correlation and about {ADVISED} for a useful one",
        )
    wanted = [one for one in correlations if (one.distance, one.given, one.method) == ("mean_bd", None, "spearman")]
    if not wanted:
        return Verdict("not defined", "not defined: fewer than 5 patterns have an outcome comparable across seeds")
    primary, estimate = wanted[0], wanted[0].estimate
    outcome = primary.outcome.replace("_", " ")
    if estimate.value is None or estimate.low is None or estimate.high is None or estimate.p_value is None:
        return Verdict("not defined", f"not defined: all {primary.n_patterns} patterns have one mean BD or {outcome}")
    n, interval = primary.n_patterns, f"95 % interval {estimate.low:+.2f} to {estimate.high:+.2f}"
    if estimate.low <= 0 <= estimate.high or estimate.p_value > 0.05:
        excluded = max(abs(estimate.low), abs(estimate.high))
        return Verdict(
            "not detected",
            f"a rank correlation of mean BD with {outcome} was not detected at n={n} patterns: correlations stronger "
            f"than \u00b1{excluded:.2f} are excluded (rho = {estimate.value:+.2f}, {interval})",
        )
    direction = "higher" if estimate.value > 0 else "lower"
    return Verdict(
        "detected",
        f"detected: longer mean BD goes with {direction} {outcome} in this sample (rho = {estimate.value:+.2f}, "
        f"{interval}, n={n} patterns); {_describe_confounding(span_rho)}",
    )


def _describe_confounding(span_rho: float | None) -> str:
    if span_rho is None:
        return "span does not vary here"
    if abs(span_rho) >= CONFOUNDED:
        return f"confounded with span (rho={span_rho:+.2f}), so it may be span that matters"
    return f"span varies nearly apart from it (rho={span_rho:+.2f})"
