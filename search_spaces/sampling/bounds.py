"""Proven lower bounds on distance, and the certificate of a pattern that they give."""

from dataclasses import dataclass
from functools import cache
from typing import Literal

from search_spaces.budget import Budget
from search_spaces.distance import backprop_distance
from search_spaces.errors import InputError
from search_spaces.pattern import ConnectionPattern

Status = Literal["optimal", "max-optimal", "bounded"]

# The fewest connections that bring all pairs of n nodes within 2 hops, n = 1..8: by trying all patterns (tests do).
SMALLEST_WITHIN_2 = (0, 1, 2, 4, 6, 8, 10, 13)


@dataclass(frozen=True, slots=True)
class Certificate:
    """What is proven of a pattern's distances, compared with all patterns that spend the same budget.

    Args:
        status: `optimal`, no pattern of the budget has a lower mean BD; `max-optimal`, none has a lower MBD, and the
            mean is within the gap; `bounded`, the mean is within the gap.
        bound: mean BD, in hops, that no pattern of the budget is below.
        gap: share by which the pattern's mean BD lies above the bound, at least 0.
    """

    status: Status
    bound: float
    gap: float


def certify(pattern: ConnectionPattern, budget: Budget) -> Certificate:
    """Return the certificate of a pattern, from nothing but its connections and the bounds below.

    Raises:
        InputError: the pattern does not spend this budget.

    >>> from search_spaces.templates import find_template
    >>> certify(find_template("midpoint").build(12), Budget(12, total=28))
    Certificate(status='optimal', bound=1.641025641025641, gap=0.0)
    """
    if not budget.is_met_by(pattern):
        raise InputError(f"a pattern of {pattern.n_connections} connections does not spend budget {budget}: no claim")
    distance = backprop_distance(pattern)
    total = sum(hops * n_pairs for hops, n_pairs in enumerate(distance.histogram))
    bound = bound_sum(budget)
    assert total >= bound, f"distances of {pattern.key} sum to {total}, below the proven {bound}"
    status: Status = "bounded"
    if total == bound:
        status = "optimal"
    elif distance.max == bound_max(budget):
        status = "max-optimal"
    n_pairs = sum(distance.histogram)
    return Certificate(status, bound / n_pairs, (total - bound) / bound)


def bound_sum(budget: Budget) -> int:
    """Return a lower bound on the sum of BD over all P = L(L+1)/2 pairs: the best of those proven here."""
    return max(_bound_by_count(budget), _bound_by_reach(budget))


def bound_mean(budget: Budget) -> float:
    """Return a lower bound on the mean BD: bound_sum over the number of pairs.

    >>> bound_mean(Budget(2, total=2))
    1.3333333333333333
    """
    return bound_sum(budget) / (budget.depth * (budget.depth + 1) // 2)


def bound_max(budget: Budget) -> int:
    """Return a lower bound on the largest BD (MBD).

    An MBD of 1 needs every pair connected; 2 needs at least `connections_within_2`; and k hops must suffice for every
    layer to reach all nodes below it, by `_reaches`.
    """
    n_nodes = budget.depth + 1
    if budget.n_connections == n_nodes * budget.depth // 2:
        return 1
    by_count = 2 if budget.n_connections >= connections_within_2(n_nodes) else 3
    return max(by_count, len(_reaches(budget)) - 1)


def _bound_by_count(budget: Budget) -> int:
    """Return 2P - E, and more where E connections are too few for 2 hops.

    Proof. E pairs have BD 1, all others at least 2: the sum is at least E + 2(P - E) = 2P - E, with equality iff MBD
    <= 2. Let x pairs have BD of 3 or more. Connecting each of them directly gives a pattern of E + x connections and
    MBD <= 2, so E + x >= connections_within_2, and each of these pairs adds at least 1 to the sum.
    """
    n_pairs = budget.depth * (budget.depth + 1) // 2
    n_lacking = connections_within_2(budget.depth + 1) - budget.n_connections
    return 2 * n_pairs - budget.n_connections + max(0, n_lacking)


@cache
def connections_within_2(n_nodes: int) -> int:
    """Return a lower bound S(n) on the connections of any pattern of n nodes with MBD <= 2.

    Proof. Up to 8 nodes: all patterns were tried. Beyond: cut the nodes into the lower m and the upper n - m. Paths go
    only through nodes in between, so each part is a pattern of MBD <= 2 too, with S(m) and S(n - m) connections.
    If some lower node a has no connection across the cut, a path of 2 hops between a and an upper node b passes a
    lower node that b reads: every upper node has a connection across. So at least min(m, n - m) connections cross.
    """
    if n_nodes <= len(SMALLEST_WITHIN_2):
        return SMALLEST_WITHIN_2[n_nodes - 1]
    # Every cut is sound; the best are in the middle, and trying all would cost n^2 for nothing.
    cuts = range(max(1, n_nodes // 2 - 4), n_nodes // 2 + 1)
    return max(connections_within_2(m) + connections_within_2(n_nodes - m) + m for m in cuts)


def _bound_by_reach(budget: Budget) -> int:
    """Return a Moore bound: sum of BD >= sum over k >= 0 and layers i of i - M_k(i).

    Proof. BD(i, j) is the number of k >= 0 with BD(i, j) > k. For one k, at least i - M_k(i) of layer i's pairs have
    BD > k, with M_k(i) of `_reaches`.
    """
    return sum(sum(layer - reached for layer, reached in enumerate(reach)) for reach in _reaches(budget))


def _reaches(budget: Budget) -> list[list[int]]:
    """Return M_k(i), k = 0, 1, ..., the most nodes within k hops of layer i, until M_k(i) = i for all i.

    Proof by induction on k. Within 0 hops there is no node but i: M_0 = 0. Within k hops of i lie its at most d_i
    inputs and what lies within k - 1 hops of them. One input is i - 1, the others are d_i - 1 at most of the nodes
    below: M_k(i) = min(i, d_i + M_(k-1)(i-1) + the d_i - 1 largest M_(k-1)(u), u < i-1). Overlaps only lower the true
    number. Where only a cap on inputs is known, d_i = min(i, cap): M grows with d.
    """
    degrees = budget.per_layer or tuple(min(layer, budget.most_in) for layer in range(1, budget.depth + 1))
    reaches = [[0] * (budget.depth + 1)]
    while reaches[-1] != list(range(budget.depth + 1)):
        last, reach, largest = reaches[-1], [0], list[int]()
        for layer, degree in enumerate(degrees, start=1):
            # largest: M_(k-1)(u) of u < layer - 1, descending; no degree needs more of them than max(degrees).
            reach.append(min(layer, degree + last[layer - 1] + sum(largest[: degree - 1])))
            largest = sorted([*largest, last[layer - 1]], reverse=True)[: max(degrees)]
        reaches.append(reach)
    return reaches


def find_extreme_walk(budget: Budget, sign: int) -> ConnectionPattern | None:
    """Return the pattern whose random walks are shortest (sign -1) or longest (sign 1), proven; None if none is known.

    Let h(i) be the mean number of layers on a walk from layer i, h(0) = 0 and h(i) = 1 + the mean of h over i's inputs.
    Where each layer's number of inputs is fixed, layer i reads layer i-1 and d_i - 1 others, and no choice of one layer
    limits another's, so h(i) >= 1 + (m(i-1) + the d_i - 1 least of m(0), ..., m(i-2)) / d_i =: m(i), by induction over
    i. The pattern that reads those others has h = m at every layer. Walk length, layer walk and random walk depth are
    means of h over some layers, so it has the least of all three. For the longest, greatest replaces least.

    >>> find_extreme_walk(Budget(5, per_layer=(1, 2, 2, 2, 3)), -1).sources
    ((0,), (0, 1), (0, 2), (0, 3), (0, 1, 4))
    """
    if budget.per_layer is None or budget.max_out is not None:
        return None
    hops = [0.0]
    sources = []
    for layer, degree in enumerate(budget.per_layer, start=1):
        others = sorted(range(layer - 1), key=lambda node: -sign * hops[node])[: degree - 1]
        inputs = sorted([*others, layer - 1])
        hops.append(1 + sum(hops[node] for node in inputs) / degree)
        sources.append(inputs)
    return ConnectionPattern.from_sources(sources)
