"""Connection strengths averaged by pattern, and whether they fall with span or with detour."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd
from scipy.special import ndtri  # scipy.stats would take half a second to import

from analysis.data.averages import average_patterns
from analysis.data.protocol import CONFIDENCE, MIN_PATTERNS, SAMPLED
from analysis.data.results import STRATUM, parse_sources
from analysis.picks.found import Found
from analysis.picks.order import sort_found
from analysis.stats.intervals import percentile_interval, student_quantile
from analysis.stats.resampling import Groups, Vector, bootstrap, design_cells, draw_weights
from nas.records.trial import Strengths as Recorded
from search_spaces.distance import detours
from search_spaces.pattern import ConnectionPattern
from search_spaces.wiring.strongest import average_relative

Relative = Mapping[tuple[int, int], float]  # (source, target) -> strength over the mean of its layer's
TrendStatus = Literal["falls", "rises", "not_detected", "too_few"]

MIN_LAYERS = 5  # that read two skips or more
SHOWN = ("log", "dense")  # templates whose strengths are drawn next to the best pattern's
STRENGTH, SPAN, DETOUR = range(3)  # rows and columns of sum_products
PLACES = {"span": SPAN, "detour": DETOUR}
TRENDS = (("span", None), ("detour", None), ("span", "detour"), ("detour", "span"))  # measure, and what is given


@dataclass(frozen=True, slots=True)
class Trend:
    """How strength goes with span or with detour among the skips that end at the same layer.

    Args:
        measure: span or detour.
        given: the other one where it is kept constant, else None.
        value: mean over patterns of the rank correlation inside layers; None where it is defined in no pattern.
        low, high: CONFIDENCE interval; None below MIN_PATTERNS patterns or MIN_LAYERS layers.
        n_patterns, n_layers: number of patterns and of layers in which it is defined.
        n_undefined: number of patterns left out, where the skips of no layer differ in both strength and measure.
    """

    measure: str
    given: str | None
    value: float | None
    low: float | None
    high: float | None
    n_patterns: int
    n_undefined: int
    n_layers: int

    @property
    def status(self) -> TrendStatus:
        """Whether strength falls or rises: only where the interval excludes 0."""
        if self.low is None or self.high is None:
            return "too_few"
        return "falls" if self.high < 0 else "rises" if self.low > 0 else "not_detected"


@dataclass(frozen=True, slots=True)
class ConnectionStrengths:
    """Connection strengths of one stratum.

    Args:
        by_pattern: key -> relative strengths, means over blocks and seeds; at least one.
        sampled: keys of the patterns behind the trends; those chosen by name or by outcome are no sample.
        trends: in the order of TRENDS.
        collinearity: rank correlation of span with detour inside layers, mean over the sampled patterns.
        shown: patterns to draw, rows of average_patterns: the best one that has strengths, then templates of SHOWN.
        best: key of the stratum's best pattern, which may have no strengths.
    """

    by_pattern: Mapping[str, Relative]
    n_seeds: Mapping[str, int]
    sampled: tuple[str, ...]
    trends: tuple[Trend, ...]
    collinearity: float | None
    shown: pd.DataFrame
    best: str


def analyse_strengths(
    candidates: pd.DataFrame,
    recorded: Mapping[int, Recorded],
    generator: np.random.Generator,
    picks: Sequence[Found] = (),
) -> ConnectionStrengths | None:
    """Return a stratum's strengths by pattern and their trends; None where no training has strengths.

    Args:
        candidates: rows of read_run, all of one stratum.
        recorded: strengths by number, as read_run gives them.
        picks: what a search found, by which its patterns are ranked.
    """
    complete = candidates[(candidates["state"] == "complete").fillna(False)]
    measured = complete[complete["number"].isin(list(recorded))].drop_duplicates([*STRATUM, "key", "seed"])
    if measured.empty:
        return None
    by_pattern = average_strengths(measured, recorded)
    patterns = average_patterns(measured)
    sample = patterns[patterns["strategy"].isin(SAMPLED)]
    each = [sum_products(parse_sources(row["sources"]), by_pattern[row["key"]]) for _, row in sample.iterrows()]
    sums = np.stack(each) if each else np.zeros((0, 1, 3, 3))
    overlap = correlate_ranks(sums.sum(axis=1), SPAN, DETOUR)
    n_seeds = dict(zip(patterns["key"], map(int, patterns["n_seeds"]), strict=True))
    ranked = sort_found(average_patterns(complete), picks)
    shown = ranked[ranked["key"].isin(list(by_pattern))]
    shown = shown[(shown.index == shown.index[0]) | shown["template"].isin(SHOWN)]
    return ConnectionStrengths(
        by_pattern=by_pattern,
        n_seeds=n_seeds,
        sampled=tuple(sample["key"]),
        trends=_measure_trends(sums, design_cells(sample), generator),
        collinearity=float(np.nanmean(overlap)) if np.isfinite(overlap).any() else None,
        shown=shown.assign(n_seeds=shown["key"].map(n_seeds)),
        best=str(ranked["key"].iloc[0]),
    )


def summarise_trends(strengths: ConnectionStrengths | None) -> list[dict[str, Any]] | None:
    """Return the trends as JSON values; None where no training has strengths."""
    if strengths is None:
        return None
    return [{**asdict(trend), "status": trend.status} for trend in strengths.trends]


def average_strengths(measured: pd.DataFrame, recorded: Mapping[int, Recorded]) -> dict[str, Relative]:
    """Return each pattern's relative strengths, averaged over its blocks and candidates.

    Args:
        measured: rows of read_run whose numbers are all in `recorded`.
    """
    averages: dict[str, Relative] = {}
    for key, rows in measured.groupby("key", sort=False):
        pattern = parse_sources(rows["sources"].iloc[0])
        means = average_relative(pattern, [block for number in rows["number"] for block in recorded[number]])
        averages[str(key)] = dict(zip(pattern.connections, means, strict=True))
    return averages


def sum_products(pattern: ConnectionPattern, relative: Relative) -> Vector:
    """Return for each layer the sums, over its skips, of products of their ranks by strength, span and detour.

    Only skips that end at the same layer compare. A layer's strengths have mean 1 by definition, so skips next to a
    strong chain look weak, the more so the fewer they are, and layers near the input have few and short ones. A layer
    counts in proportion to its skips.

    Returns:
        Shape (L, 3, 3), from ranks less their mean, divided by the layer's number of skips; 0 for layers of fewer than
        two skips.
    """
    apart = detours(pattern)
    sums = np.zeros((pattern.depth, 3, 3))
    for target, inputs in enumerate(pattern.sources, start=1):
        sources = [source for source in inputs if target - source > 1]
        if len(sources) < 2:
            continue
        columns = np.array(
            [
                [round(relative[source, target], 12) for source in sources],  # sums in another order are ties as well
                [target - source for source in sources],
                [apart[source, target] for source in sources],
            ]
        )
        above = np.sign(columns[:, :, None] - columns[:, None, :]).sum(axis=2)  # twice the mid-ranks less their mean
        ranks = above / (2 * len(sources))
        sums[target - 1] = ranks @ ranks.T
    return sums


def correlate_ranks(sums: Vector, one: int, other: int, given: int | None = None) -> Vector:
    """Return the rank correlation inside layers, or the partial one given a third column.

    Where the third column is constant, the partial correlation is the plain one.

    Args:
        sums: result of sum_products, summed over a pattern's layers, shape (..., 3, 3).
        one, other, given: columns, of STRENGTH, SPAN and DETOUR.

    Returns:
        Shape (...,); nan where a column, or what `given` leaves of it, is constant inside every layer.
    """
    plain = _divide(sums[..., one, other], sums[..., one, one] * sums[..., other, other])
    if given is None:
        return plain
    with_one, with_other = (np.nan_to_num(correlate_ranks(sums, column, given)) for column in (one, other))
    partial = _divide(plain - with_one * with_other, (1 - with_one**2) * (1 - with_other**2))
    return np.clip(partial, -1, 1)


def _divide(numerator: Vector, squared_denominator: Vector) -> Vector:
    result: Vector = np.full(numerator.shape, np.nan)
    np.divide(numerator, np.sqrt(abs(squared_denominator)), out=result, where=squared_denominator > 1e-9)
    return result


def _measure_trends(sums: Vector, groups: Groups, generator: np.random.Generator) -> tuple[Trend, ...]:
    """Measure all of TRENDS.

    Patterns trained at one seed begin with the same weights, so noise in a layer is common to them, and a bootstrap
    over patterns only would take it for a trend. So layers, which begin with weights of their own, are drawn again too
    (Owen, Annals of Applied Statistics 1, 2007: both ways, weights multiplied). As they are few, the interval is
    widened as Student's t is against the normal (Cameron, Gelbach and Miller, J. Business & Economic Statistics 29,
    2011).

    Args:
        sums: results of sum_products, shape (n, L, 3, 3).
        groups: group of each pattern, inside which patterns are drawn.
    """
    sums = sums[:, (sums[:, :, STRENGTH, STRENGTH] > 0).any(axis=0)]
    n_patterns, n_layers = sums.shape[:2]

    def average(weights: Vector, layers: Vector) -> Vector:
        drawn = np.tensordot(layers, sums, (1, 1))  # (draws, patterns, 3, 3)
        return np.stack([_average(_correlate(drawn, trend), weights) for trend in TRENDS], axis=1)

    def statistic(weights: Vector) -> Vector:
        layers = draw_weights(np.zeros(n_layers, dtype=np.int64), len(weights), generator)
        return average(weights, layers)

    values = average(np.ones((1, n_patterns)), np.ones((1, n_layers)))[0]
    resampled = bootstrap(statistic, groups, generator)
    return tuple(_judge(sums, trend, float(values[place]), resampled[:, place]) for place, trend in enumerate(TRENDS))


def _correlate(sums: Vector, trend: tuple[str, str | None]) -> Vector:
    measure, given = trend
    return correlate_ranks(sums, STRENGTH, PLACES[measure], None if given is None else PLACES[given])


def _average(values: Vector, weights: Vector) -> Vector:
    """Return the mean over the patterns where the value is defined; shapes (draws, patterns) -> (draws,)."""
    total = (weights * np.isfinite(values)).sum(axis=1)
    mean: Vector = np.full(len(values), np.nan)
    np.divide((weights * np.nan_to_num(values)).sum(axis=1), total, out=mean, where=total > 0)
    return mean


def _judge(sums: Vector, trend: tuple[str, str | None], value: float, resampled: Vector) -> Trend:
    place = PLACES[trend[0]]
    n_patterns = int(np.isfinite(_correlate(sums.sum(axis=1), trend)).sum())
    n_layers = int((sums[:, :, STRENGTH, STRENGTH] * sums[:, :, place, place] > 0).any(axis=0).sum())
    low, high = percentile_interval(resampled)
    if n_patterns < MIN_PATTERNS or n_layers < MIN_LAYERS or low is None or high is None:
        low = high = None
    else:
        wider = float(student_quantile(min(n_patterns, n_layers) - 1) / ndtri((1 + CONFIDENCE) / 2))
        low, high = (min(max(value + wider * (end - value), -1.0), 1.0) for end in (low, high))
    return Trend(
        *trend,
        value=value if n_patterns else None,
        low=low,
        high=high,
        n_patterns=n_patterns,
        n_undefined=len(sums) - n_patterns,
        n_layers=n_layers,
    )
