"""Measures of the random walk back from what the classifier reads.

The walk starts at a node drawn with equal chances from those that the classifier reads, takes each input of the layer
it is at with equal chance, and ends at node 0. Each layer on its way counts, the one it starts at included; a walk that
starts at node 0 visits no layer. At initialisation the gradient's energy splits alike over a layer's inputs, so that
the chance of a visit is the layer's share of it.
"""

import math

from search_spaces.measures.measure import PROJECT, Measure, Reads
from search_spaces.pattern import ConnectionPattern


def visit_chances(pattern: ConnectionPattern, reads: Reads) -> list[float]:
    """Return the chance v_j that the walk visits layer j, for j = 1..L.

    >>> visit_chances(ConnectionPattern(3, ((0,), (1,), (0, 2))), (2, 3))
    [0.75, 0.75, 0.5]
    """
    chances = [0.0] * (pattern.depth + 1)
    for node in reads:
        chances[node] += 1 / len(reads)
    for layer in range(pattern.depth, 0, -1):  # every reader of a layer lies above it
        inputs = pattern.sources[layer - 1]
        for source in inputs:
            chances[source] += chances[layer] / len(inputs)
    return chances[1:]


def hops_to_input(pattern: ConnectionPattern) -> list[float]:
    """Return the mean number of hops of the walk from each layer 1..L to node 0: as many as it visits layers."""
    hops = [0.0]
    for inputs in pattern.sources:
        hops.append(1 + math.fsum(hops[source] for source in inputs) / len(inputs))
    return hops[1:]


def _walk_length(pattern: ConnectionPattern, reads: Reads) -> float:
    return math.fsum(visit_chances(pattern, reads))


def _visit_evenness(pattern: ConnectionPattern, reads: Reads) -> float:
    chances = visit_chances(pattern, reads)
    total = math.fsum(chances)
    return max(0.0, -math.fsum(v / total * math.log(v / total) for v in chances))  # -0.0 for one layer


def _ntk_trace(pattern: ConnectionPattern, reads: Reads) -> float:
    return math.fsum(v * n for v, n in zip(visit_chances(pattern, reads), pattern.in_degrees, strict=True))


WALK = "a random walk back from what the classifier reads"

WALKS = (
    Measure(
        "walk_length",
        f"Mean number of layers that {WALK} visits: W.",
        PROJECT,
        "layers",
        0,
        math.inf,
        _walk_length,
    ),
    Measure(
        "visit_evenness",
        f"Entropy of the layers' shares of the visits of {WALK}: H.",
        PROJECT,
        "nats",
        0,
        math.inf,
        _visit_evenness,
    ),
    Measure(
        "ntk_trace",
        f"Sum over the layers of the number of inputs times the chance that {WALK} visits the layer: T.",
        PROJECT + "; after the trace of the neural tangent kernel",
        "inputs",
        0,
        math.inf,
        _ntk_trace,
    ),
    Measure(
        "least_visit",
        f"Smallest chance of a layer to be visited by {WALK}.",
        PROJECT,
        "chance",
        0,
        1,
        lambda pattern, reads: min(visit_chances(pattern, reads)),
    ),
    Measure(
        "layer_walk",
        "Mean over the layers of the mean number of hops of a random walk from that layer back to node 0.",
        PROJECT,
        "hops",
        1,
        math.inf,
        lambda pattern, reads: math.fsum(hops_to_input(pattern)) / pattern.depth,
    ),
    Measure(
        "random_walk_depth",
        "Mean number of hops of a random walk from the last layer back to node 0.",
        PROJECT,
        "hops",
        1,
        math.inf,
        lambda pattern, reads: hops_to_input(pattern)[-1],
    ),
    Measure(
        "log_paths",
        "Natural logarithm of the number of paths from the last layer back to node 0.",
        "Veit et al., NeurIPS 2016",
        "nats",
        0,
        math.inf,
        lambda pattern, reads: math.log(_count_paths(pattern)),
    ),
)


def _count_paths(pattern: ConnectionPattern) -> int:
    counts = [1]
    for inputs in pattern.sources:
        counts.append(sum(counts[source] for source in inputs))
    return counts[-1]
