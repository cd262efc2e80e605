"""Tests of columns beyond others: by permutation with a robust covariance, and by Student's t."""

from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy.special import stdtr  # scipy.stats would take half a second to import

from analysis.data.outcomes import OutcomeName, list_outcomes
from analysis.data.protocol import N_RESAMPLES
from analysis.stats.resampling import Groups, Vector, centre_inside, permute, share_as_large

TINY = 1e-12  # p-value below which no distribution is trusted


def choose_outcome(patterns: pd.DataFrame, distance: str) -> tuple[OutcomeName, pd.DataFrame]:
    """Return the primary outcome, or the other one where no pattern has it, and the patterns that have it."""
    outcomes = list_outcomes(patterns)
    for outcome in outcomes:
        rows = patterns.dropna(subset=[f"{outcome}_centred", distance, "span"])
        if len(rows):
            return outcome, rows
    return outcomes[0], patterns.iloc[:0]


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
    nuisance = orthogonalise(nuisance, 1e-9)
    residual = y - nuisance @ (nuisance.T @ y)
    left = tested / np.linalg.norm(tested, axis=0).clip(1e-300)
    left = orthogonalise(left - nuisance @ (nuisance.T @ left), 1e-6)
    if left.shape[1] == 0:
        return None, None
    residual = centre_inside(residual, groups)
    if np.linalg.norm(residual) <= 1e-9 * max(1.0, float(np.linalg.norm(y))):
        return None, None
    residual /= np.linalg.norm(residual)
    orders = permute(groups, N_RESAMPLES, generator)
    observed = float(_wald(residual[None], left, nuisance)[0])
    return observed, share_as_large(observed, _wald(residual[orders], left, nuisance))


def permute_slope(x: Vector, nuisance: Vector, y: Vector, generator: np.random.Generator) -> float | None:
    """Return the p-value of a column's slope beyond nuisance columns and the constant, by permute_wald.

    Where no permutation comes as far, they cannot say how small p is. Student's t of the same statistic can, which
    many tests adjusted for one another need.

    Returns:
        None where nothing is left of x or y.
    """
    n = len(y)
    columns = np.concatenate([np.ones((n, 1)), nuisance], axis=1)
    wald, p_value = permute_wald(x[:, None], columns, y, np.zeros(n, dtype=np.int64), generator)
    if wald is None or p_value is None or p_value > 1.5 / (1 + N_RESAMPLES):
        return p_value
    by_student = float(2 * stdtr(n - columns.shape[1] - 1, -(wald**0.5)))
    return min(p_value, max(by_student, TINY))


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


def orthogonalise(columns: Vector, tolerance: float = 1e-9) -> Vector:
    """Return orthonormal columns that span the given ones."""
    left, sizes, _ = np.linalg.svd(columns, full_matrices=False)
    basis: Vector = left[:, sizes > tolerance * max(1.0, float(sizes.max(initial=0.0)))]
    return basis


class Slope(NamedTuple):
    """A least squares slope, the HC3 variance of it and its degrees of freedom."""

    value: float
    variance: float
    freedom: int


def regress(x: Vector, nuisance: Vector, y: Vector) -> Slope:
    """Return the slope of y on x beyond nuisance columns and the constant; 0 of variance 0 where nothing of x is left.

    The covariance is HC3 (MacKinnon and White, J. Econometrics 29, 1985).

    Args:
        x, y: shape (n,).
        nuisance: shape (n, m).
    """
    basis = orthogonalise(np.concatenate([np.ones((len(y), 1)), nuisance], axis=1))
    left = x - basis @ (basis.T @ x)
    square, freedom = float(left @ left), len(y) - basis.shape[1] - 1
    if square <= 1e-10 * float(x @ x) or freedom < 1:
        return Slope(0.0, 0.0, freedom)
    value = float(left @ y) / square
    errors = y - basis @ (basis.T @ y) - value * left
    errors /= (1 - (basis**2).sum(axis=1) - left**2 / square).clip(1e-6)
    return Slope(value, float((left * errors) @ (left * errors)) / square**2, freedom)
