"""The rank correlation of a measure with the outcome under every control."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from analysis.data.protocol import ALPHA, CONTROL_SETS, MARGIN, STAND_IN
from analysis.stats.correlations import Estimate, weighted_ranks
from analysis.stats.inference import orthogonalise, permute_slope, regress
from analysis.stats.resampling import Vector
from analysis.verdict.noise import Resolution, measure_resolution, square_ranks
from analysis.verdict.sample import Sample
from analysis.verdict.seeds import MeanTest, SeedSlopes, compare_mean, compare_seeds, rank_seeds

Given = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Equivalence:
    """A partial correlation over its ceiling, against +-MARGIN.

    Args:
        value: correlation that would be seen without noise.
        low, high: its 90 % interval: the two one-sided tests at ALPHA that it lies inside the margin (Schuirmann, J.
            Pharmacokinet. Biopharm. 15, 1987). The ceiling counts as known, which is right to first order at 0.
    """

    value: float
    low: float
    high: float

    @property
    def is_negligible(self) -> bool:
        """Whether both tests reject: the correlation lies inside the margin."""
        return self.low > -MARGIN and self.high < MARGIN


@dataclass(frozen=True, slots=True)
class ControlledEffect:
    """The partial rank correlation of a measure with the outcome while other measures are held.

    Args:
        given: measures held, each with the square of its rank.
        partial: correlation; its p-value is two-sided, not adjusted.
        p_holm: p-value adjusted over all declared tests of all strata; None before that.
        resolution: how well the seeds tell patterns apart beyond what is held, which bounds the correlation.
        equivalence: correlation over that ceiling, against the margin; None where the ceiling is 0 or not known.
        seeds: the slopes of single seeds; None where there is one seed.
        seed_share: share of the correlation's variance that is the spread between seeds; 0 where they count as fixed.
    """

    given: Given
    partial: Estimate
    p_holm: float | None
    resolution: Resolution | None
    equivalence: Equivalence | None
    seeds: SeedSlopes | None
    seed_share: float = 0.0

    @property
    def is_detected(self) -> bool:
        """Whether test and interval agree that the correlation is not 0."""
        low, high = self.partial.low, self.partial.high
        if self.p_holm is None or low is None or high is None:
            return False
        return self.p_holm <= ALPHA and (low > 0 or high < 0)

    @property
    def sign(self) -> int:
        """1 where more of the measure goes with more of the outcome, -1 where with less, otherwise 0."""
        return int(np.sign(self.partial.value or 0.0))

    @property
    def has_nothing_left(self) -> bool:
        """Whether the seeds see no difference between patterns beyond what is held, and the measure none either."""
        return self.resolution is not None and self.resolution.p_value > ALPHA and not self.is_detected


@dataclass(frozen=True, slots=True)
class Resampled:
    """A measure's effects in one stratum, with the correlations of the resamples, by what is held, shape (draws,)."""

    measure: str
    effects: tuple[ControlledEffect, ...]
    draws: Mapping[Given, Vector]


def list_controls(measure: str, available: Sequence[str]) -> tuple[Given, ...]:
    """Return what is held in turn: CONTROL_SETS with STAND_IN in the place of the measure itself.

    Sets with a column that the table lacks are left out.

    >>> list_controls("walk_length", ("walk_length", "span", "mean_bd"))
    (('span',), ('mean_bd',), ('span', 'mean_bd'))
    """
    chosen = (tuple(STAND_IN if name == measure else name for name in names) for names in CONTROL_SETS)
    return tuple(given for given in chosen if set(given) <= set(available))


def measure_effects(sample: Sample, measures: Sequence[str], generator: np.random.Generator) -> tuple[Resampled, ...]:
    """Estimate and test the effects of several measures under all of their controls.

    Args:
        measures: columns of the sample.
        generator: for the permutations.
    """
    available = tuple(sample.columns)
    tested = [(measure, given) for measure in measures for given in list_controls(measure, available)]
    return estimate_effects(sample, tested, generator)


def estimate_effects(
    sample: Sample, tested: Sequence[tuple[str, Given]], generator: np.random.Generator
) -> tuple[Resampled, ...]:
    """Estimate and test effects, each of a measure while others are held, that share their ranks and resamples."""
    measures = dict.fromkeys(measure for measure, _ in tested)
    seed_ranks = rank_seeds(sample.values[sample.is_full])
    seeds = {(measure, given): _compare_seeds(sample, measure, given, seed_ranks) for measure, given in tested}
    is_random = [key for key, each in seeds.items() if each is not None and each.are_random]
    values = correlate_given(sample, tested, np.ones((1, len(sample.keys))), None)
    draws = _resample(sample, [key for key in tested if key not in is_random], draw_seeds=False)
    draws |= _resample(sample, is_random, draw_seeds=True)
    effects = {key: _describe(sample, key, float(values[key][0]), draws[key], seeds[key], generator) for key in tested}
    return tuple(
        Resampled(
            measure,
            tuple(effect for (name, _), effect in effects.items() if name == measure),
            {given: draws[name, given] for name, given in tested if name == measure},
        )
        for measure in measures
    )


def compare_with_margin(value: float, interval: tuple[float, float] | None, ceiling: float) -> Equivalence | None:
    """Compare a correlation with the margin; None where its ceiling is 0 or it has no interval.

    Args:
        interval: quantiles ALPHA and 1 - ALPHA of its resamples.
    """
    if ceiling <= 0 or interval is None:
        return None
    return Equivalence(value / ceiling, interval[0] / ceiling, interval[1] / ceiling)


def _describe(
    sample: Sample,
    key: tuple[str, Given],
    value: float,
    draws: Vector,
    seeds: SeedSlopes | None,
    generator: np.random.Generator,
) -> ControlledEffect:
    measure, given = key
    held = _hold(sample, given, np.ones(len(sample.keys), np.bool_))
    resolution = measure_resolution(sample.values, held)
    if not np.isfinite(value):
        return ControlledEffect(given, Estimate(None, None, None, None, 0), None, resolution, None, seeds)
    test = _test(sample, measure, held, seeds, generator)
    ceiling = 0.0 if resolution is None else resolution.ceiling
    usable = draws[np.isfinite(draws)]
    interval = tuple(np.quantile(usable, (ALPHA, 1 - ALPHA)).tolist()) if len(usable) else None
    return ControlledEffect(
        given=given,
        partial=Estimate.from_resamples(value, draws, None if test is None else test.p_value),
        p_holm=None,
        resolution=resolution,
        equivalence=compare_with_margin(value, interval, ceiling),
        seeds=seeds,
        seed_share=0.0 if test is None else test.seed_share,
    )


def _test(
    sample: Sample, measure: str, held: Vector, seeds: SeedSlopes | None, generator: np.random.Generator
) -> MeanTest | None:
    """Test a slope: by permutation, or where seeds are random by Student's t over them; None where nothing is left."""
    n = len(sample.keys)
    ones = np.ones((1, n))
    x, y = (weighted_ranks(column, ones)[0] / n for column in (sample.columns[measure], sample.means))
    if seeds is not None and seeds.are_random:
        _, variance, freedom = regress(x, held, y)
        return compare_mean(float(np.mean(seeds.slopes)), variance, seeds, freedom)
    p_value = permute_slope(x, held, y, generator)
    return None if p_value is None else MeanTest(p_value, 0.0)


def _compare_seeds(sample: Sample, measure: str, given: Given, ranks: Vector) -> SeedSlopes | None:
    full, n = sample.is_full, len(ranks)
    if n < 2 * len(given) + 5:
        return None
    held = _hold(sample, given, full)
    x = weighted_ranks(sample.columns[measure][full], np.ones((1, n)))[0] / n
    nuisance = orthogonalise(np.concatenate([np.ones((n, 1)), held], axis=1))
    return compare_seeds(ranks, x - nuisance @ (nuisance.T @ x))


def _hold(sample: Sample, given: Given, rows: NDArray[np.bool_]) -> Vector:
    """Return what is held of some patterns, shape (patterns, columns); without columns where nothing is held."""
    columns = [sample.columns[name][rows] for name in given]
    return square_ranks(columns) if columns else np.zeros((int(rows.sum()), 0))


def _resample(sample: Sample, tested: list[tuple[str, Given]], draw_seeds: bool) -> dict[tuple[str, Given], Vector]:
    if not tested:
        return {}
    parts = [
        correlate_given(sample, tested, drawn.patterns, drawn.seeds if draw_seeds else None) for drawn in sample.draw()
    ]
    return {key: np.concatenate([part[key] for part in parts]) for key in tested}


def correlate_given(
    sample: Sample, tested: Sequence[tuple[str, Given]], weights: Vector, seed_weights: Vector | None
) -> dict[tuple[str, Given], Vector]:
    """Return partial rank correlations of weighted patterns, ranking each column once a draw, shape (draws,) each."""
    n = len(sample.keys)
    names = list(dict.fromkeys(name for measure, given in tested for name in (measure, *given)))
    ranks = [weighted_ranks(sample.columns[name], weights) / n for name in names]
    if seed_weights is None:
        outcome = weighted_ranks(sample.means, weights) / n
    else:
        outcome = _rank_each(_average_drawn(sample, seed_weights), weights) / n
    columns = np.stack([*ranks, *(rank**2 for rank in ranks), outcome], axis=1)  # (draws, 2 names + 1, n)
    columns -= (columns * weights[:, None]).sum(axis=2, keepdims=True) / weights.sum(axis=1)[:, None, None]
    cross = (columns * weights[:, None]) @ columns.transpose(0, 2, 1)
    place = {name: number for number, name in enumerate(names)}
    return {
        (measure, given): _partial(
            cross, place[measure], [place[name] for name in given] + [len(names) + place[name] for name in given]
        )
        for measure, given in tested
    }


def _partial(cross: Vector, tested: int, held: list[int]) -> Vector:
    """Return the correlation of a column with the last one after sweeping the held ones out; nan where none is left.

    Args:
        cross: sums of products of all columns, shape (draws, columns, columns).
    """
    chosen = [*held, tested, cross.shape[1] - 1]
    left = cross[:, chosen][:, :, chosen]
    own = np.diagonal(left, axis1=1, axis2=2).copy()
    for place in range(len(held)):
        pivot = left[:, place, place]
        is_used = pivot > 1e-9 * own[:, place] + 1e-15
        row = np.where(is_used[:, None], left[:, place] / np.where(is_used, pivot, 1.0)[:, None], 0.0)
        left = left - left[:, :, place, None] * row[:, None]
    squares = left[:, [-2, -1], [-2, -1]]
    is_flat = (squares <= 1e-9 * own[:, -2:] + 1e-15).any(axis=1)
    scale = np.sqrt(np.where(is_flat, np.nan, squares.prod(axis=1)))
    return np.clip(left[:, -2, -1] / scale, -1, 1)


def _average_drawn(sample: Sample, seed_weights: Vector) -> Vector:
    """Return each pattern's mean over the drawn seeds that it has, over all its seeds where it has none of them."""
    centred = sample.centred
    present = np.isfinite(centred)
    sums, counts = seed_weights @ np.where(present, centred, 0.0).T, seed_weights @ present.T
    means: Vector = np.where(counts > 0, sums / np.where(counts > 0, counts, 1.0), sample.means).round(12)
    return means


def _rank_each(values: Vector, weights: Vector) -> Vector:
    """Return what weighted_ranks does, of values that differ from draw to draw, shape (draws, n) both.

    The mean of two orders, of which one has the rows of equal values reversed, is their mid-rank.
    """
    total = weights.sum(axis=1, keepdims=True)
    ranks = np.zeros_like(values)
    for turned in (slice(None), slice(None, None, -1)):
        order = np.argsort(values[:, turned], axis=1, kind="stable")
        sorted_weights = np.take_along_axis(weights[:, turned], order, axis=1)
        through = sorted_weights.cumsum(axis=1) - sorted_weights / 2 - total / 2
        placed = np.empty_like(values)
        np.put_along_axis(placed, order, through, axis=1)
        ranks += placed[:, turned] / 2
    return ranks
