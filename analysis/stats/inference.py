"""The primary tests: distance given span, curvature, and span given distance."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import NamedTuple

import numpy as np
import pandas as pd

from analysis.data.protocol import LOWER_IS_BETTER, MIN_PATTERNS, N_RESAMPLES, OUTCOMES, TESTS
from analysis.stats.correlations import Estimate, adjust_holm, estimate, weighted_partial, weighted_ranks
from analysis.stats.resampling import (
    Groups,
    Vector,
    centre_inside,
    design_bands,
    design_cells,
    permute,
    share_as_large,
)

INNER = (0.10, 0.90)  # quantiles of distance between which a turning point counts as inside the sample


@dataclass(frozen=True, slots=True)
class PrimaryTest:
    """One declared test.

    Args:
        name: one of protocol.TESTS.
        statistic: Wald statistic with HC3 covariance; None, as is p_value, where the test is not defined.
        p_value: two-sided, by permutation.
        p_holm: p_value adjusted over all tests of all strata.
    """

    name: str
    statistic: float | None
    p_value: float | None
    p_holm: float | None


@dataclass(frozen=True, slots=True)
class Primary:
    """The primary tests of one stratum.

    Args:
        outcome, distance: columns of average_patterns.
        tests: tests in the order of protocol.TESTS.
        partial: rank correlation of distance with outcome given span and span squared; positive: more distance, more
            outcome. Its p-value is that of the test `distance`.
        span_partial: rank correlation of span with outcome given distance and distance squared.
        turning_point: where the quadratic in the rank of distance turns, in hops; None if outside the sample.
        is_inside: whether it lies between the 10 % and 90 % quantiles of distance.
        middle_is_best: whether the middle of the quadratic is better than its ends; None for a straight line.
        span_turning_point, span_is_inside, middle_span_is_best: the same for the quadratic in the rank of span, given
            distance and its square.
    """

    outcome: str
    distance: str
    n_patterns: int
    tests: tuple[PrimaryTest, ...]
    partial: Estimate
    span_partial: float | None
    turning_point: float | None
    is_inside: bool
    middle_is_best: bool | None
    span_turning_point: float | None = None
    span_is_inside: bool = False
    middle_span_is_best: bool | None = None

    def test(self, name: str) -> PrimaryTest:
        """Return the test of that name."""
        return self.tests[TESTS.index(name)]


def measure_primary(patterns: pd.DataFrame, distance: str, generator: np.random.Generator) -> Primary | None:
    """Run the primary tests, not yet adjusted for one another; None below MIN_PATTERNS.

    Args:
        patterns: rows of average_patterns, the sampled patterns of one stratum.
        distance: column of the primary distance.
    """
    outcome, rows = choose_outcome(patterns, distance)
    if len(rows) < MIN_PATTERNS:
        return None
    x, span = (rows[name].to_numpy(np.float64) for name in (distance, "span"))
    y = outcome_of(rows, outcome)
    ones = np.ones((1, len(y)))
    rank_x, rank_span, rank_y = (weighted_ranks(column, ones)[0] / len(y) for column in (x, span, y))
    constant, square_x, square_span = ones[0], rank_x**2, rank_span**2
    bands = design_bands(rows, "span", 1)
    distance_bands = design_bands(rows, distance, 0)
    designs: dict[str, tuple[list[Vector], list[Vector], Groups]] = {  # tested, nuisance, permuted inside
        "distance": ([rank_x], [constant, rank_span, square_span], bands),
        "curvature": ([square_x], [constant, rank_span, square_span, rank_x], bands),
        "span": ([rank_span, square_span], [constant, rank_x, square_x], distance_bands),
    }
    tests = []
    for name in TESTS:
        tested, nuisance, groups = designs[name]
        statistic, p_value = permute_wald(np.stack(tested, 1), np.stack(nuisance, 1), rank_y, groups, generator)
        tests.append(PrimaryTest(name, statistic, p_value, None))
    turn = _find_turn(x, [constant, rank_span, square_span, rank_x, square_x], rank_y, outcome)
    span_turn = _find_turn(span, [constant, rank_x, square_x, rank_span, square_span], rank_y, outcome)
    return Primary(
        outcome=outcome,
        distance=distance,
        n_patterns=len(rows),
        tests=tuple(tests),
        partial=estimate(partial(weighted_partial, x, y, span), design_cells(rows), generator, tests[0].p_value),
        span_partial=_finite(weighted_partial(span, y, x, ones)[0]),
        turning_point=turn.point,
        is_inside=turn.is_inside,
        middle_is_best=turn.middle_is_best,
        span_turning_point=span_turn.point,
        span_is_inside=span_turn.is_inside,
        middle_span_is_best=span_turn.middle_is_best,
    )


def adjust_primary(primaries: Sequence[Primary | None]) -> list[Primary | None]:
    """Adjust by Holm over all tests of all strata; a test that is not defined counts as one with p = 1."""
    tests = [test for primary in primaries if primary for test in primary.tests]
    p_values: list[float | None] = [1.0 if test.p_value is None else test.p_value for test in tests]
    p_values += [1.0] * (len(TESTS) * len(primaries) - len(tests))
    p_holm = adjust_holm(p_values)
    adjusted = (replace(test, p_holm=test.p_value and p) for test, p in zip(tests, p_holm, strict=False))
    return [primary and replace(primary, tests=tuple(next(adjusted) for _ in primary.tests)) for primary in primaries]


def choose_outcome(patterns: pd.DataFrame, distance: str) -> tuple[str, pd.DataFrame]:
    """Return the primary outcome, or the other one where no pattern has it, and the patterns that have it."""
    for outcome in OUTCOMES:
        rows = patterns.dropna(subset=[f"{outcome}_centred", distance, "span"])
        if len(rows):
            return outcome, rows
    return OUTCOMES[0], patterns.iloc[:0]


def outcome_of(rows: pd.DataFrame, outcome: str) -> Vector:
    """Return the outcome centred by seed, shape (n,), rounded so that averaging does not separate ties by 1e-17."""
    return rows[f"{outcome}_centred"].to_numpy(np.float64).round(12)


def permute_wald(
    tested: Vector, nuisance: Vector, y: Vector, groups: Groups, generator: np.random.Generator
) -> tuple[float | None, float | None]:
    """Test whether the tested columns explain y beyond the nuisance columns: Wald statistic and permutation p-value.

    Residuals of y on the nuisance columns are permuted (Freedman and Lane, J. Bus. Econ. Stat. 1, 1983) and the
    statistic is studentised by a heteroscedasticity-robust covariance (DiCiccio and Romano, J. Am. Stat. Assoc. 112,
    2017): a plain coefficient would take patterns whose outcomes are noisier at one end for an effect. Permuting
    inside groups keeps the differences between groups, which would shift the null away from 0 and hide slopes of one
    sign. So the residuals' group means are subtracted first; in a single group they are 0 already.

    Args:
        tested, nuisance: shapes (n, k) and (n, m); columns that follow from the others drop out.
        y: shape (n,).
        groups: groups inside which permutations stay, shape (n,).

    Returns:
        (None, None) where nothing is left of the tested columns beyond the nuisance, or of y inside groups.
    """
    nuisance = _basis(nuisance, 1e-9)
    residual = y - nuisance @ (nuisance.T @ y)
    left = tested / np.linalg.norm(tested, axis=0).clip(1e-300)
    left = _basis(left - nuisance @ (nuisance.T @ left), 1e-6)
    if left.shape[1] == 0:
        return None, None
    residual = centre_inside(residual, groups)
    if np.linalg.norm(residual) <= 1e-9 * max(1.0, float(np.linalg.norm(y))):
        return None, None
    residual /= np.linalg.norm(residual)
    orders = permute(groups, N_RESAMPLES, generator)
    observed = float(_wald(residual[None], left, nuisance)[0])
    return observed, share_as_large(observed, _wald(residual[orders], left, nuisance))


def _wald(y: Vector, left: Vector, nuisance: Vector) -> Vector:
    """Return b' V^-1 b of the tested columns' coefficients b, V of kind HC3 (MacKinnon and White, J. Econom. 29, 1985).

    By Frisch, Waugh and Lovell the coefficients are those on `left`, the tested columns' orthonormal residuals.

    Args:
        y: shape (draws, n).
        left, nuisance: orthonormal columns, orthogonal to each other; shapes (n, k) and (n, m).
    """
    full = np.concatenate([nuisance, left], axis=1)
    leverage = (full**2).sum(axis=1)
    errors = (y - (y @ full) @ full.T) / (1 - leverage).clip(1e-6)
    products = left[:, :, None] * left[:, None, :]  # (n, k, k)
    k = left.shape[1]
    meat = (errors**2 @ products.reshape(len(left), k * k)).reshape(-1, k, k)
    meat += 1e-12 * np.eye(k)  # a perfect fit leaves no error, where y has length 1
    score = y @ left  # (draws, k)
    value: Vector = (score * np.linalg.solve(meat, score[:, :, None])[:, :, 0]).sum(axis=1)
    return value


def _basis(columns: Vector, tolerance: float) -> Vector:
    """Return orthonormal columns that span the given ones."""
    left, sizes, _ = np.linalg.svd(columns, full_matrices=False)
    basis: Vector = left[:, sizes > tolerance * max(1.0, float(sizes.max(initial=0.0)))]
    return basis


class _Turn(NamedTuple):
    """Where a quadratic turns, as Primary gives it; no point where that is outside the sample."""

    point: float | None
    is_inside: bool
    middle_is_best: bool | None


def _find_turn(x: Vector, columns: list[Vector], y: Vector, outcome: str) -> _Turn:
    """Find where the quadratic in the rank of x turns; the last two columns are that rank and its square."""
    coefficients = np.linalg.lstsq(np.stack(columns, axis=1), y, rcond=None)[0]
    linear, square = float(coefficients[-2]), float(coefficients[-1])
    if abs(square) < 1e-9:
        return _Turn(None, False, None)
    middle_is_best = (square > 0) == LOWER_IS_BETTER[outcome]
    rank, turning_rank = columns[-2], -linear / (2 * square)
    if not rank.min() <= turning_rank <= rank.max():
        return _Turn(None, False, middle_is_best)
    point = float(np.interp(turning_rank, np.sort(rank), np.sort(x)))
    low, high = np.quantile(x, INNER)
    return _Turn(point, bool(low <= point <= high), middle_is_best)


def _finite(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
