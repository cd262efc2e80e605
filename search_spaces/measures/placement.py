"""Measures of where the skips lie and of how many connections meet at a node."""

import itertools
import math
import statistics
from collections.abc import Iterable, Sequence

from search_spaces.measures.measure import PROJECT, Measure
from search_spaces.pattern import ConnectionPattern


def skip_lengths(pattern: ConnectionPattern) -> list[int]:
    """Return target - source of every skip, at least 2."""
    return [target - source for source, target in pattern.connections if target - source > 1]


def skip_middles(pattern: ConnectionPattern) -> list[float]:
    """Return where the middle of every skip lies, from 0 at the block's input to 1 at its last layer."""
    depth = pattern.depth
    return [(source + target) / (2 * depth) for source, target in pattern.connections if target - source > 1]


def chain_cover(pattern: ConnectionPattern) -> list[int]:
    """Return for each chain connection i-1 -> i, i = 1..L, how many skips pass it: source < i <= target.

    >>> chain_cover(ConnectionPattern(4, ((0,), (0, 1), (2,), (1, 3))))
    [1, 2, 1, 1]
    """
    changes = [0] * (pattern.depth + 2)
    for source, target in pattern.connections:
        if target - source > 1:
            changes[source + 1] += 1
            changes[target + 1] -= 1
    return list(itertools.accumulate(changes[1:-1]))


def _longest_run(flags: Iterable[bool]) -> int:
    return max((len(list(run)) for flag, run in itertools.groupby(flags) if flag), default=0)


def _mean(values: Sequence[float], default: float) -> float:
    return statistics.fmean(values) if values else default


def _sd(values: Sequence[float]) -> float:
    return statistics.pstdev(values) if values else 0.0


def _share(pattern: ConnectionPattern, low: float, high: float) -> float:
    """Return the share of the skips whose length is in (low, high]."""
    return _mean([low < length <= high for length in skip_lengths(pattern)], 0.0)


def _skip_density(pattern: ConnectionPattern) -> float:
    n_possible = pattern.depth * (pattern.depth - 1) // 2
    return (pattern.n_connections - pattern.depth) / n_possible if n_possible else 0.0


PLACEMENT = (
    Measure(
        "span",
        "Mean of target - source over all connections, the chain included.",
        PROJECT,
        "layers",
        1,
        math.inf,
        lambda pattern, reads: pattern.span,
    ),
    Measure(
        "longest_skip",
        "Length (target - source) of the longest skip; 0 without skips.",
        PROJECT,
        "layers",
        0,
        math.inf,
        lambda pattern, reads: max(skip_lengths(pattern), default=0),
    ),
    Measure(
        "mean_log_skip",
        "Mean over the skips of the natural logarithm of their length; 0 without skips.",
        PROJECT,
        "nats",
        0,
        math.inf,
        lambda pattern, reads: _mean([math.log(length) for length in skip_lengths(pattern)], 0.0),
    ),
    Measure(
        "skip_length_sd",
        "Standard deviation of the lengths of the skips; 0 without skips.",
        PROJECT,
        "layers",
        0,
        math.inf,
        lambda pattern, reads: _sd(skip_lengths(pattern)),
    ),
    Measure(
        "short_skip_share",
        "Share of the skips that are at most a quarter of the block long; 0 without skips.",
        PROJECT,
        "share",
        0,
        1,
        lambda pattern, reads: _share(pattern, 0, pattern.depth / 4),
    ),
    Measure(
        "long_skip_share",
        "Share of the skips that are more than half of the block long; 0 without skips.",
        PROJECT,
        "share",
        0,
        1,
        lambda pattern, reads: _share(pattern, pattern.depth / 2, math.inf),
    ),
    Measure(
        "skip_place_mean",
        "Mean place of the middle of a skip, from 0 at the block's input to 1 at its last layer; 0.5 without skips.",
        PROJECT,
        "share of the depth",
        0,
        1,
        lambda pattern, reads: _mean(skip_middles(pattern), 0.5),
    ),
    Measure(
        "skip_place_sd",
        "Standard deviation of the places of the middles of the skips, as shares of the depth; 0 without skips.",
        PROJECT,
        "share of the depth",
        0,
        0.5,
        lambda pattern, reads: _sd(skip_middles(pattern)),
    ),
    Measure(
        "skip_density",
        "Skips used over skips possible, the density of NN-Mass; 0 where none is possible.",
        "Bhardwaj et al., CVPR 2021",
        "share",
        0,
        1,
        lambda pattern, reads: _skip_density(pattern),
    ),
    Measure(
        "bare_chain_share",
        "Share of the chain's connections that no skip passes.",
        PROJECT,
        "share",
        0,
        1,
        lambda pattern, reads: chain_cover(pattern).count(0) / pattern.depth,
    ),
    Measure(
        "longest_bare_run",
        "Longest run of the chain's connections that no skip passes.",
        PROJECT,
        "connections",
        0,
        math.inf,
        lambda pattern, reads: _longest_run(cover == 0 for cover in chain_cover(pattern)),
    ),
    Measure(
        "least_cover",
        "Smallest number of skips that pass a connection of the chain.",
        PROJECT,
        "skips",
        0,
        math.inf,
        lambda pattern, reads: min(chain_cover(pattern)),
    ),
    Measure(
        "longest_single_run",
        "Longest run of layers with one input.",
        PROJECT,
        "layers",
        1,
        math.inf,
        lambda pattern, reads: _longest_run(degree == 1 for degree in pattern.in_degrees),
    ),
    Measure(
        "in_degree_sd",
        "Standard deviation of the numbers of inputs of the layers 1 to L.",
        PROJECT,
        "inputs",
        0,
        math.inf,
        lambda pattern, reads: statistics.pstdev(pattern.in_degrees),
    ),
    Measure(
        "out_degree_sd",
        "Standard deviation of the numbers of readers of the nodes 0 to L - 1.",
        PROJECT,
        "readers",
        0,
        math.inf,
        lambda pattern, reads: statistics.pstdev(pattern.out_degrees[:-1]),
    ),
    Measure(
        "max_in_degree",
        "Largest number of inputs of a layer.",
        PROJECT,
        "inputs",
        1,
        math.inf,
        lambda pattern, reads: max(pattern.in_degrees),
    ),
    Measure(
        "max_out_degree",
        "Largest number of readers of a node.",
        PROJECT,
        "readers",
        1,
        math.inf,
        lambda pattern, reads: max(pattern.out_degrees),
    ),
)
