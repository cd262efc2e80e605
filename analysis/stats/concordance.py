"""Concordant less discordant pairs of two columns, counted by compiled code in n log n steps a draw."""

# The compiled functions here call no other: numba's cache would not see changes there.

import itertools
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from analysis.stats.resampling import Vector

Places = NDArray[np.int64]

LANES = 16  # draws counted at once: what a processor's vector instructions take in two steps


def sum_concordances(x: Vector, y: Vector, weights: Vector) -> Vector:
    """Return twice Kendall's numerator: the sum of w_i w_j sign(x_i - x_j) sign(y_i - y_j) over ordered pairs of rows.

    Args:
        x, y: shape (n,).
        weights: shape (draws, n), at least 0.

    Returns:
        Shape (draws,); exact where the weights are whole numbers.

    >>> sum_concordances(np.array([1.0, 2, 3]), np.array([2.0, 9, 5]), np.ones((1, 3))).tolist()
    [2.0]
    """
    n_draws, n = weights.shape
    lanes = np.zeros((-(-n_draws // LANES), LANES, n))
    lanes.reshape(-1, n)[:n_draws] = weights
    distinct, ranks = np.unique(y, return_inverse=True)
    totals: Vector = _sum_weighted(*_find_ties(x), ranks, len(distinct), lanes.transpose(0, 2, 1).copy())
    return totals.ravel()[:n_draws]


def permute_concordances(x: Vector, y: Vector, orders: Places) -> Vector:
    """Return the same sum for x and y[order] without weights, for orders of shape (draws, n)."""
    distinct, ranks = np.unique(y, return_inverse=True)
    totals: Vector = _sum_permuted(*_find_ties(x), ranks, len(distinct), orders)
    return totals


def expect_concordances(x: Vector, y: Vector, groups: Places) -> float:
    """Return the mean of permute_concordances over all orders that keep rows inside their groups.

    Pairs inside a group cancel. A pair across two groups keeps its sign in x, and its sign in y becomes the mean over
    all pairs across the same two groups.

    >>> x, groups = np.array([1.0, 2, 3, 4]), np.array([0, 0, 1, 1])
    >>> orders = np.array([[0, 1, 2, 3], [1, 0, 2, 3], [0, 1, 3, 2], [1, 0, 3, 2]])
    >>> expect_concordances(x, x, groups), permute_concordances(x, x, orders).mean().item()
    (8.0, 8.0)
    """
    members = [np.flatnonzero(groups == group) for group in np.unique(groups)]
    total = 0.0
    for first, second in itertools.combinations(members, 2):
        total += 2 * _sum_signs(x[first], x[second]) * _sum_signs(y[first], y[second]) / (len(first) * len(second))
    return total


def _sum_signs(first: Vector, second: Vector) -> float:
    """Return the sum of sign(a - b) over all pairs of a in `first` and b in `second`."""
    ordered = np.sort(second)
    below, above = np.searchsorted(ordered, first, "left"), len(second) - np.searchsorted(ordered, first, "right")
    return float((below - above).sum())


def sum_untied(x: Vector, weights: Vector) -> Vector:
    """Return the sum of w_i w_j over ordered pairs of rows whose x differ; shapes (n,) and (draws, n) -> (draws,).

    It only adds products, so that it is 0, not nearly 0, where the rows that occur share one x.

    >>> sum_untied(np.array([1.0, 1, 3]), np.ones((1, 3))).tolist()
    [4.0]
    """
    order, bounds = _find_ties(x)
    tied = np.add.reduceat(weights[:, order], bounds[:-1], axis=1)  # (draws, distinct values)
    below = tied.cumsum(axis=1)[:, :-1]
    total: Vector = 2 * (below * tied[:, 1:]).sum(axis=1)
    return total


def _find_ties(x: Vector) -> tuple[Places, Places]:
    """Return the order of x, and the places in it where another value begins, with the end."""
    order = np.argsort(x, kind="stable")
    starts = np.flatnonzero(np.diff(x[order], prepend=np.nan) != 0)
    return order, np.append(starts, len(x))


@njit(cache=True, nogil=True)
def _sum_permuted(
    order: Places, bounds: Places, ranks: Places, n_ranks: int, orders: Places
) -> Any:  # pragma: no cover, compiled
    """Count as Knight does (JASA 61, 1966), by a Fenwick tree over y's ranks, filled in the order of x."""
    totals = np.zeros(orders.shape[0])
    tree = np.zeros(n_ranks + 1, np.int64)  # tree[k]: number of rows with ranks k - (k & -k) .. k - 1
    tied = np.zeros(n_ranks, np.int64)  # number of rows with each rank
    for draw in range(orders.shape[0]):
        tree[:], tied[:] = 0, 0
        total = 0
        for group in range(bounds.shape[0] - 1):  # rows of one x
            for place in range(bounds[group], bounds[group + 1]):
                k = ranks[orders[draw, order[place]]]
                total += tied[k] - bounds[group]  # subtract all rows before, except equal ones
                while k > 0:
                    total += 2 * tree[k]  # add those below twice, so that they count as concordant
                    k -= k & -k
            for place in range(bounds[group], bounds[group + 1]):
                k = ranks[orders[draw, order[place]]]
                tied[k] += 1
                k += 1
                while k <= n_ranks:
                    tree[k] += 1
                    k += k & -k
        totals[draw] = 2.0 * total
    return totals


@njit(cache=True, nogil=True)
def _sum_weighted(
    order: Places, bounds: Places, ranks: Places, n_ranks: int, weights: Vector
) -> Any:  # pragma: no cover, compiled
    """Count weighted rows in the same way; weights of shape (blocks, n, LANES) -> (blocks, LANES)."""
    totals = np.zeros((weights.shape[0], LANES))
    for block in range(weights.shape[0]):
        weight, total = weights[block], totals[block]
        tree = np.zeros((n_ranks + 1, LANES))  # tree[k]: weight of the ranks k - (k & -k) .. k - 1
        tied = np.zeros((n_ranks, LANES))  # weight of each rank
        entered, own = np.zeros(LANES), np.zeros(LANES)
        for group in range(bounds.shape[0] - 1):
            for place in range(bounds[group], bounds[group + 1]):
                row = order[place]
                k = ranks[row]
                for lane in range(LANES):
                    own[lane] = tied[k, lane] - entered[lane]
                while k > 0:
                    for lane in range(LANES):
                        own[lane] += 2.0 * tree[k, lane]
                    k -= k & -k
                for lane in range(LANES):
                    total[lane] += 2.0 * weight[row, lane] * own[lane]
            for place in range(bounds[group], bounds[group + 1]):
                row = order[place]
                k = ranks[row]
                for lane in range(LANES):
                    entered[lane] += weight[row, lane]
                    tied[k, lane] += weight[row, lane]
                k += 1
                while k <= n_ranks:
                    for lane in range(LANES):
                        tree[k, lane] += weight[row, lane]
                    k += k & -k
    return totals
