"""Backprop distance of a pattern by networkx, which is its definition."""

from dataclasses import dataclass
from functools import lru_cache

import networkx as nx

from search_spaces.pattern import ConnectionPattern


@dataclass(frozen=True, slots=True)
class BackpropDistance:
    """Backprop distances within one block, in hops.

    BD(i, j), i > j, is the length of the shortest path from layer i back to node j, stepping from a layer to one of
    its inputs (Log-DenseNet, arXiv:1711.00002, section 3).
    """

    mean: float  # over all L(L+1)/2 pairs i > j, in [1, (L+2)/3]
    max: int  # MBD, in [1, L]
    from_output_mean: float  # over j < L of BD(L, j)
    to_input_mean: float  # over i >= 1 of BD(i, 0)
    histogram: tuple[int, ...]  # histogram[k] pairs have BD k; histogram[0] is 0


@lru_cache(maxsize=1024)  # a row, a file and a certificate each ask for it
def backprop_distance(pattern: ConnectionPattern) -> BackpropDistance:
    """Return the backprop distances of a pattern: networkx's shortest paths in its gradient graph.

    >>> from search_spaces.templates import find_template
    >>> backprop_distance(find_template("log").build(4))
    BackpropDistance(mean=1.2, max=2, from_output_mean=1.25, to_input_mean=1.25, histogram=(0, 8, 2))
    """
    depth = pattern.depth
    # BD(i, j) is finite for all pairs because every layer reads the one before it.
    rows = dict(nx.all_pairs_shortest_path_length(pattern.gradient_graph()))
    distances = [rows[i][j] for i in range(1, depth + 1) for j in range(i)]
    histogram = [0] * (max(distances) + 1)
    for distance in distances:
        histogram[distance] += 1
    return BackpropDistance(
        mean=sum(distances) / len(distances),
        max=max(distances),
        from_output_mean=sum(rows[depth][j] for j in range(depth)) / depth,
        to_input_mean=sum(rows[i][0] for i in range(1, depth + 1)) / depth,
        histogram=tuple(histogram),
    )


def detours(pattern: ConnectionPattern) -> dict[tuple[int, int], int]:
    """Return for each skip (source, target) the shortest path back without that skip, in hops, at least 2.

    BD(target, source) is 1 for every connection. The detour is what it would be without the connection, and so tells
    how much the connection shortens.

    >>> detours(ConnectionPattern(4, ((0,), (1,), (0, 2), (0, 3))))
    {(0, 3): 3, (0, 4): 2}
    """
    rows = dict(nx.all_pairs_shortest_path_length(pattern.gradient_graph()))
    # Such a path starts with another input and never returns to the target; from below the source it cannot get there.
    return {
        (source, target): 1 + min(rows[other][source] for other in pattern.sources[target - 1] if other > source)
        for source, target in pattern.connections
        if target - source > 1
    }


def describe(pattern: ConnectionPattern) -> dict[str, int | float]:
    """Return the size and the descriptors of a pattern under the names that every table and file uses.

    All are of one block, the chain included; distances are in hops, the span in layers.

    >>> from search_spaces.templates import find_template
    >>> row = describe(find_template("dense").build(4))
    >>> row["connections"], row["mean_bd"], row["span"], row["max_out_degree"]
    (10, 1.0, 2.0, 4)
    """
    distance = backprop_distance(pattern)
    return {
        "layers": pattern.depth,
        "connections": pattern.n_connections,
        "mean_bd": distance.mean,
        "max_bd": distance.max,
        "from_output_mean": distance.from_output_mean,
        "to_input_mean": distance.to_input_mean,
        "span": pattern.span,
        "max_in_degree": max(pattern.in_degrees),
        "max_out_degree": max(pattern.out_degrees),
    }
