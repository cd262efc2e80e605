"""Rank correlations inside groups, pooled over them: a difference between groups counts for nothing.

Columns have shape (n,), as do groups; weights have shape (draws, n), as in analysis.stats.correlations.
"""

from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from numpy.typing import NDArray
from scipy.special import chdtrc  # scipy.stats would take half a second to import

from analysis.stats.correlations import FLAT, UNDEFINED, Estimate, estimate, weighted_ranks, weighted_spearman
from analysis.stats.resampling import Groups, Vector, permute, share_as_far, split_resamples

# The variance of atanh(Spearman's rho) is 1.06 / (n - 3) (Fieller, Hartley and Pearson, Biometrika 44, 1957).
RANK_VARIANCE, LOST = 1.06, 3


@dataclass(frozen=True, slots=True)
class GroupEstimates:
    """The correlation of each group by itself.

    Args:
        groups: numbers of the groups whose correlation is defined, shape (m,).
        values: Spearman's rho of each.
        q_p_value: p-value of Cochran's Q for "all groups have one correlation"; None for fewer than two groups of more
            than LOST rows.
    """

    groups: Groups
    values: Vector
    q_p_value: float | None


def rank_inside(x: Vector, weights: Vector, groups: Groups) -> Vector:
    """Rank rows inside their groups as weighted_ranks does, divided by the group's weight: each spans -1/2..1/2.

    >>> rank_inside(np.array([5.0, 1, 5, 7, 9]), np.ones((1, 5)), np.array([0, 0, 1, 1, 1])).round(3).tolist()
    [[0.25, -0.25, -0.333, 0.0, 0.333]]
    """
    keys, groups = order_inside(x, groups), np.unique(groups, return_inverse=True)[1]
    starts_of = np.flatnonzero(np.diff(np.sort(groups), prepend=-1))  # first row of each group, sorted by group
    sorted_weights = weights[:, np.argsort(groups, kind="stable")]
    totals = np.add.reduceat(sorted_weights, starts_of, axis=1)  # (draws, groups)
    before = totals.cumsum(axis=1) - totals
    ranks = weighted_ranks(keys, weights) + weights.sum(axis=1)[:, None] / 2  # from 0, over the groups in turn
    inside: Vector = (ranks - (before + totals / 2)[:, groups]) / totals.clip(1e-300)[:, groups]
    return inside


def order_inside(x: Vector, groups: Groups) -> Vector:
    """Number distinct pairs of group and value, group by group: their ranks are ranks inside groups, shifted.

    >>> order_inside(np.array([5.0, 1, 5, 1]), np.array([0, 0, 1, 1])).tolist()
    [1.0, 0.0, 3.0, 2.0]
    """
    order = np.lexsort((x, groups))
    is_new = (np.diff(x[order], prepend=np.nan) != 0) | (np.diff(groups[order], prepend=-1) != 0)
    keys = np.empty(len(x))
    keys[order] = is_new.cumsum() - 1
    return keys


def pooled_spearman(x: Vector, y: Vector, groups: Groups, weights: Vector) -> Vector:
    """Return Spearman's rho inside groups, pooled by Fisher's z with weights n - LOST; shape (draws,).

    A group in which x or y is constant adds nothing, and neither does one of LOST rows or fewer. Of few rows, rho may
    be 1, whose z is infinite: it is cut off half a step of rho below 1. With one group it is weighted_spearman.

    >>> x, y = np.array([1.0, 2, 3, 4, 1, 2, 3, 4]), np.array([4.0, 3, 2, 1, 9, 8, 7, 6])
    >>> pooled_spearman(x, y, np.array([0, 0, 0, 0, 1, 1, 1, 1]), np.ones((1, 8))).tolist()
    [-1.0]
    """
    if (groups == groups[0]).all():
        return weighted_spearman(x, y, weights)  # twice as fast
    rho, sizes = _correlate_each(x, y, groups, weights)
    ends = _find_ends(sizes)
    counted = np.where(np.isfinite(rho), (sizes - LOST).clip(0), 0.0)
    total = counted.sum(axis=1)
    z = (counted * np.where(counted > 0, _transform(rho, ends), 0.0)).sum(axis=1)
    furthest = (counted * np.arctanh(ends)).sum(axis=1)
    pooled = np.full(len(weights), np.nan)
    np.divide(z, total, out=pooled, where=total > 0)
    # Where every group is as far as it can be, so are they together.
    together: Vector = np.where((abs(z) >= furthest * (1 - 1e-12)) & (total > 0), np.sign(z), np.tanh(pooled))
    is_one_group = (sizes > 0).sum(axis=1) == 1  # a draw may miss all rows of the others
    return np.where(is_one_group, np.where(sizes > 0, rho, 0.0).sum(axis=1), together)


def compare_groups(x: Vector, y: Vector, groups: Groups) -> GroupEstimates:
    """Return the correlation of each group, and test whether they differ, by Cochran's Q against chi-square."""
    rho, sizes = (each[0] for each in _correlate_each(x, y, groups, np.ones((1, len(x)))))
    defined = np.isfinite(rho)
    counted = defined & (sizes > LOST)
    q_p_value = None
    if counted.sum() > 1:
        z, weights = _transform(rho, _find_ends(sizes))[counted], (sizes[counted] - LOST) / RANK_VARIANCE
        q = float(weights @ (z - weights @ z / weights.sum()) ** 2)
        q_p_value = float(chdtrc(int(counted.sum()) - 1, q))
    return GroupEstimates(np.unique(groups)[defined], rho[defined], q_p_value)


def _correlate_each(x: Vector, y: Vector, groups: Groups, weights: Vector) -> tuple[Vector, Vector]:
    """Return rho of every group, nan where undefined, and its weight, shape (draws, groups) both."""
    ranks_x, ranks_y = rank_inside(x, weights, groups), rank_inside(y, weights, groups)
    order = np.argsort(groups, kind="stable")
    starts = np.flatnonzero(np.diff(groups[order], prepend=-1))
    products = (weights * ranks_x * ranks_y, weights * ranks_x**2, weights * ranks_y**2, weights)
    both, square_x, square_y, sizes = (np.add.reduceat(each[:, order], starts, axis=1) for each in products)
    is_defined = (square_x > FLAT) & (square_y > FLAT)
    rho = np.full(both.shape, np.nan)
    np.divide(both, np.sqrt(square_x * square_y), out=rho, where=is_defined)
    return np.clip(rho, -1, 1), sizes


def _find_ends(sizes: Vector) -> Vector:
    """Return where rho is cut off: half a step of rho, whose steps are 12 / (n^3 - n), below 1."""
    ends: Vector = 1 - 6 / (sizes**3 - sizes).clip(24)
    return ends


def _transform(rho: Vector, ends: Vector) -> Vector:
    z: Vector = np.arctanh(np.clip(rho, -ends, ends))
    return z


def pooled_kendall(x: Vector, y: Vector, groups: Groups) -> float | None:
    """Return Kendall's tau-b over the pairs inside groups; None where x or y is constant in every group.

    A group in which x or y is constant adds nothing.

    >>> pooled_kendall(np.array([1.0, 2, 1, 2]), np.array([2.0, 1, 9, 8]), np.array([0, 0, 1, 1]))
    -1.0
    """
    from analysis.stats.concordance import sum_concordances, sum_untied  # numba: 0.5 s

    rows = varies_inside(x, groups) & varies_inside(y, groups)
    if not rows.any():
        return None
    keys_x, keys_y, sizes = order_inside(x[rows], groups[rows]), order_inside(y[rows], groups[rows]), groups[rows]
    ones = np.ones((1, int(rows.sum())))
    # The keys rise from group to group, so every pair across two groups is concordant and can be subtracted.
    across = float(rows.sum()) ** 2 - float((np.bincount(np.unique(sizes, return_inverse=True)[1]) ** 2).sum())
    both = float(sum_concordances(keys_x, keys_y, ones)[0]) - across
    untied = [float(sum_untied(keys, ones)[0]) - across for keys in (keys_x, keys_y)]
    return float(both / np.sqrt(untied[0] * untied[1]))


def varies_inside(x: Vector, groups: Groups) -> NDArray[np.bool_]:
    """Return whether x takes more than one value in each row's group, shape (n,).

    >>> varies_inside(np.array([1.0, 2, 1, 1]), np.array([0, 0, 1, 1])).tolist()
    [True, True, False, False]
    """
    _, groups = np.unique(groups, return_inverse=True)
    low, high = np.full(groups.max(initial=-1) + 1, np.inf), np.full(groups.max(initial=-1) + 1, -np.inf)
    np.minimum.at(low, groups, x)
    np.maximum.at(high, groups, x)
    varies: NDArray[np.bool_] = (low < high)[groups]
    return varies


def correlate_spearman(x: Vector, y: Vector, cells: Groups, groups: Groups, generator: np.random.Generator) -> Estimate:
    """Estimate Spearman's rho of x and y inside groups, pooled; nothing here grows with the square of n.

    Args:
        cells: groups inside which the bootstrap draws, as draw_weights.
        groups: groups inside which rows are ranked and permuted, as pooled_spearman.
    """
    if not (varies_inside(x, groups) & varies_inside(y, groups)).any():
        return UNDEFINED
    estimated = estimate(partial(pooled_spearman, x, y, groups), cells, generator)
    if estimated.value is None:
        return UNDEFINED
    ranks_x, ranks_y = (_standardise_inside(column, groups) for column in (x, y))
    if (groups != groups[0]).any():  # a permutation moves rho in proportion, so that its mean is exactly 0
        _, numbers = np.unique(groups, return_inverse=True)
        ranks_x *= (np.bincount(numbers) - LOST).clip(0)[numbers]
    permuted = np.concatenate([ranks_y[permute(groups, n, generator)] @ ranks_x for n in split_resamples(len(x))])
    return replace(estimated, p_value=share_as_far(float(ranks_x @ ranks_y), permuted, 0.0))


def _standardise_inside(column: Vector, groups: Groups) -> Vector:
    """Return ranks inside groups, of length 1 in each; 0 where they do not vary."""
    ranks = rank_inside(column, np.ones((1, len(column))), groups)[0]
    _, numbers = np.unique(groups, return_inverse=True)
    lengths = np.sqrt(np.bincount(numbers, ranks**2))[numbers]
    return np.where(lengths > FLAT, ranks / lengths.clip(FLAT), 0.0)
