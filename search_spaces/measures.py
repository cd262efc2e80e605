"""Measures that rival mean backprop distance: what else a placement may act through."""

from search_spaces.distance import backprop_distance
from search_spaces.pattern import ConnectionPattern


def describe_rivals(pattern: ConnectionPattern) -> dict[str, float]:
    """Return the measures of a pattern that `describe` leaves out, under the names that every table uses.

    - random_walk_depth: mean number of hops of a walk from the last layer to node 0 that takes one of each layer's
      inputs with equal chance;
    - out_degree_sd: standard deviation of the out-degrees of nodes 0..L-1 (node L has no reader in the block);
    - mean_inverse_bd: mean of 1/BD over all pairs, in (0, 1]: the efficiency of the directed graph;
    - skip_density: skips used over skips possible, the density of NN-Mass (Bhardwaj et al., CVPR 2021); 0 where none
      is possible.

    >>> from search_spaces.templates import find_template
    >>> row = describe_rivals(find_template("dense").build(4))
    >>> row["mean_inverse_bd"], row["skip_density"], round(row["random_walk_depth"], 3)
    (1.0, 1.0, 2.083)
    """
    depth = pattern.depth
    walks = [0.0]  # walks[i]: mean number of hops from node i to node 0
    for inputs in pattern.sources:
        walks.append(1 + sum(walks[source] for source in inputs) / len(inputs))
    readers = pattern.out_degrees[:depth]
    mean = sum(readers) / depth
    histogram = backprop_distance(pattern).histogram
    n_possible = depth * (depth - 1) // 2
    return {
        "random_walk_depth": walks[depth],
        "out_degree_sd": (sum((count - mean) ** 2 for count in readers) / depth) ** 0.5,
        "mean_inverse_bd": sum(n / hops for hops, n in enumerate(histogram) if hops) / sum(histogram),
        "skip_density": (pattern.n_connections - depth) / n_possible if n_possible else 0.0,
    }
