"""Connection strengths -> averages by pattern, and whether they fall with span or with detour."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd
from scipy.special import ndtri  # scipy.stats would take half a second to import

from analysis.data.averages import average_patterns
from analysis.data.protocol import CONFIDENCE, MIN_PATTERNS, SAMPLED
from analysis.data.results import STRATUM, parse_sources
from analysis.stats.intervals import percentile_interval, student_quantile
from analysis.stats.resampling import Groups, Vector, bootstrap, design_cells, draw_weights
from nas.records.trial import Strengths as Recorded
from search_spaces.distance import detours
from search_spaces.pattern import ConnectionPattern
from search_spaces.sampling.strongest import average_relative

Relative = Mapping[tuple[int, int], float]  # (source, target) -> strength over the mean of its layer's
Status = Literal["falls", "rises", "not_detected", "too_few"]

MIN_LAYERS = 5  # that read two skips or more
STRENGTH, SPAN, DETOUR = range(3)  # rows and columns of sum_products
PLACES = {"span": SPAN, "detour": DETOUR}
TRENDS = (("span", None), ("detour", None), ("span", "detour"), ("detour", "span"))  # measure, and what is held


@dataclass(frozen=True, slots=True)
class Trend:
    """How strength goes with span or with detour among the skips that end at the same layer.

    Args:
        measure: span or detour.
        given: the other one where it is held, else None.
        value: mean over patterns of the rank correlation inside layers; None where it is defined in no pattern.
        low, high: CONFIDENCE interval; None below MIN_PATTERNS patterns or MIN_LAYERS layers.
        n_patterns: patterns in which it is defined; n_undefined: those left out, for in none of their layers do skips
            differ in strength and in the measure.
        n_layers: layers in which it is defined in some pattern.
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
    def status(self) -> Status:
        """falls or rises where the interval is without 0."""
        if self.low is None or self.high is None:
            return "too_few"
        return "falls" if self.high < 0 else "rises" if self.low > 0 else "not_detected"


@dataclass(frozen=True, slots=True)
class Strengths:
    """Connection strengths of one stratum.

    Args:
        by_pattern: key -> relative strengths, means over blocks and seeds; at least one.
        n_seeds: key -> seeds behind them.
        sampled: keys of the patterns behind the trends; those chosen by name or by outcome are no sample.
        trends: in the order of TRENDS.
        collinearity: rank correlation of span with detour inside layers, mean over these patterns.
    """

    by_pattern: Mapping[str, Relative]
    n_seeds: Mapping[str, int]
    sampled: tuple[str, ...]
    trends: tuple[Trend, ...]
    collinearity: float | None


def analyse_strengths(
    complete: pd.DataFrame, recorded: Mapping[int, Recorded], generator: np.random.Generator
) -> Strengths | None:
    """Strengths by pattern and their trends; None where no training has strengths.

    Args:
        complete: complete candidates of one stratum, rows of read_run.
        recorded: of read_run, by number.
        generator: of the bootstrap.
    """
    measured = complete[complete["number"].isin(list(recorded))].drop_duplicates([*STRATUM, "key", "seed"])
    if measured.empty:
        return None
    by_pattern = average_strengths(measured, recorded)
    patterns = average_patterns(measured)
    sample = patterns[patterns["strategy"].isin(SAMPLED)]
    each = [sum_products(parse_sources(row["sources"]), by_pattern[row["key"]]) for _, row in sample.iterrows()]
    sums = np.stack(each) if each else np.zeros((0, 1, 3, 3))
    overlap = correlate_ranks(sums.sum(axis=1), SPAN, DETOUR)
    return Strengths(
        by_pattern=by_pattern,
        n_seeds=dict(zip(patterns["key"], map(int, patterns["n_seeds"]), strict=True)),
        sampled=tuple(sample["key"]),
        trends=_measure_trends(sums, design_cells(sample), generator),
        collinearity=float(np.nanmean(overlap)) if np.isfinite(overlap).any() else None,
    )


def average_strengths(measured: pd.DataFrame, recorded: Mapping[int, Recorded]) -> dict[str, Relative]:
    """Each pattern's relative strengths, averaged over its blocks and candidates.

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
    """Sums over each layer's skips of products of the ranks inside that layer of strength, span and detour.

    Only skips that end at one layer compare: a layer's strengths have mean 1 by definition, so that skips beside a
    strong chain look weak, the more so the fewer they are, and layers near the input have few and short ones. A layer
    counts in proportion to its skips.

    Returns:
        Shape (L, 3, 3), of ranks less their mean, divided by the layer's number of skips; 0 for layers of fewer than
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
    """Rank correlation inside layers, and the partial one given a third column; where that is constant the plain one.

    Args:
        sums: of sum_products, over a pattern's layers, shape (..., 3, 3).

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
    """All of TRENDS; sums of all patterns, shape (n, L, 3, 3), and the groups of patterns to draw in.

    Patterns trained at one seed begin with the same weights, so noise in a layer is common to them, and patterns alone
    drawn again would take it for a trend. So layers, which begin with weights of their own, are drawn again too (Owen,
    Annals of Applied Statistics 1, 2007: both ways, weights multiplied), and as they are few the interval is widened as
    Student's t is against the normal (Cameron, Gelbach and Miller, J. Business & Economic Statistics 29, 2011).
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
    """Mean over patterns of those defined; shapes (draws, patterns) -> (draws,)."""
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
