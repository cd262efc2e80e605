"""Measures of backprop distance; networkx is their definition."""

import math
import statistics

import networkx as nx

from search_spaces.distance import backprop_distance
from search_spaces.measures.measure import PAPER, PROJECT, Measure, Reads
from search_spaces.pattern import ConnectionPattern


def measure_from_loss(pattern: ConnectionPattern, reads: Reads) -> list[int]:
    """Return the distance of each node 0..L from the classifier, in hops: 1 for a node that it reads.

    This is what wiring.blocks.global_distance counts for a network of one block.
    """
    graph = pattern.gradient_graph()
    classifier = pattern.depth + 1
    graph.add_edges_from((classifier, node) for node in reads)
    hops = nx.single_source_shortest_path_length(graph, classifier)
    return [hops[node] for node in range(classifier)]


def _mean_inverse_bd(pattern: ConnectionPattern) -> float:
    histogram = backprop_distance(pattern).histogram
    return sum(n_pairs / hops for hops, n_pairs in enumerate(histogram) if hops) / sum(histogram)


def _to_input_sd(pattern: ConnectionPattern) -> float:
    hops = nx.single_source_shortest_path_length(pattern.graph(), 0)
    return statistics.pstdev(hops[layer] for layer in range(1, pattern.depth + 1))


DISTANCES = (
    Measure(
        "mean_bd",
        "Mean backprop distance: the mean over all pairs i > j of the length of the shortest path from layer i back to "
        "node j.",
        PAPER,
        "hops",
        1,
        math.inf,
        lambda pattern, reads: backprop_distance(pattern).mean,
    ),
    Measure(
        "max_bd",
        "Largest backprop distance over all pairs of nodes.",
        PAPER,
        "hops",
        1,
        math.inf,
        lambda pattern, reads: backprop_distance(pattern).max,
    ),
    Measure(
        "from_output_mean",
        "Mean backprop distance from the last layer to the nodes before it.",
        PROJECT,
        "hops",
        1,
        math.inf,
        lambda pattern, reads: backprop_distance(pattern).from_output_mean,
    ),
    Measure(
        "to_input_mean",
        "Mean backprop distance from the layers to the block's input.",
        PROJECT,
        "hops",
        1,
        math.inf,
        lambda pattern, reads: backprop_distance(pattern).to_input_mean,
    ),
    Measure(
        "to_input_sd",
        "Standard deviation over the layers of the backprop distance to the block's input.",
        PROJECT,
        "hops",
        0,
        math.inf,
        lambda pattern, reads: _to_input_sd(pattern),
    ),
    Measure(
        "from_loss_mean",
        "Mean distance of the nodes 0 to L from the classifier, which is one hop from what it reads.",
        PROJECT,
        "hops",
        1,
        math.inf,
        lambda pattern, reads: statistics.fmean(measure_from_loss(pattern, reads)),
    ),
    Measure(
        "from_loss_max",
        "Largest distance of a node from the classifier, which is one hop from what it reads.",
        PROJECT,
        "hops",
        1,
        math.inf,
        lambda pattern, reads: max(measure_from_loss(pattern, reads)),
    ),
    Measure(
        "mean_inverse_bd",
        "Mean over all pairs of one over the backprop distance: the efficiency of the directed graph.",
        "Latora and Marchiori, Physical Review Letters 87, 2001",
        "1/hops",
        0,
        1,
        lambda pattern, reads: _mean_inverse_bd(pattern),
    ),
)
