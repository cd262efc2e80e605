"""Backprop distance: networkx against two other computations, identities and bounds."""

import math
from collections import Counter

import networkx as nx
import numpy as np
import pytest

from search_spaces.distance import backprop_distance, describe, detours
from search_spaces.pattern import ConnectionPattern
from search_spaces.templates import TEMPLATES, find_template
from tests.support.patterns import Pairs, by_layer_order, every_pattern, random_pattern


def by_floyd_warshall(pattern: ConnectionPattern) -> Pairs:
    """All-pairs shortest paths by relaxing through one node at a time."""
    distances = np.full((pattern.depth + 1, pattern.depth + 1), np.inf)
    np.fill_diagonal(distances, 0)
    for source, target in pattern.connections:
        distances[target, source] = 1
    for k in range(pattern.depth + 1):
        distances = np.minimum(distances, distances[:, [k]] + distances[[k], :])
    return {(i, j): int(distances[i, j]) for i in range(1, pattern.depth + 1) for j in range(i)}


def assert_agrees(pattern: ConnectionPattern, pairs: Pairs) -> None:
    distance = backprop_distance(pattern)
    depth, counts = pattern.depth, Counter(pairs.values())
    assert distance.mean == pytest.approx(sum(pairs.values()) / len(pairs), rel=1e-12)
    assert distance.max == max(pairs.values())
    assert distance.histogram == tuple(counts[k] for k in range(distance.max + 1))
    assert distance.from_output_mean == pytest.approx(sum(pairs[depth, j] for j in range(depth)) / depth, rel=1e-12)
    assert distance.to_input_mean == pytest.approx(sum(pairs[i, 0] for i in range(1, depth + 1)) / depth, rel=1e-12)


@pytest.mark.parametrize("depth", [1, 2, 3, 4])
def test_three_computations_agree_on_every_small_pattern(depth: int) -> None:
    for pattern in every_pattern(depth):
        pairs = by_layer_order(pattern)
        assert by_floyd_warshall(pattern) == pairs
        assert_agrees(pattern, pairs)


@pytest.mark.parametrize("depth", [5, 13, 24, 40])
@pytest.mark.parametrize("seed", range(5))
def test_three_computations_agree_on_random_patterns(depth: int, seed: int) -> None:
    pattern = random_pattern(depth, seed)
    pairs = by_layer_order(pattern)
    assert by_floyd_warshall(pattern) == pairs
    assert_agrees(pattern, pairs)


@pytest.mark.parametrize("depth", [1, 2, 3, 7, 8, 15, 24, 31, 52])
def test_log_distance_is_the_number_of_one_bits_of_the_gap(depth: int) -> None:
    pairs = {(i, j): (i - j).bit_count() for i in range(1, depth + 1) for j in range(i)}
    log = find_template("log").build(depth)
    assert_agrees(log, pairs)
    assert backprop_distance(log).max == math.floor(math.log2(depth + 1))


@pytest.mark.parametrize("depth", [1, 2, 9, 24])
def test_chain_and_dense_are_the_two_extremes(depth: int) -> None:
    chain, dense = (backprop_distance(find_template(name).build(depth)) for name in ("chain", "dense"))
    assert chain.mean == pytest.approx((depth + 2) / 3, rel=1e-12)
    assert chain.max == depth
    assert chain.histogram == (0, *range(depth, 0, -1))
    assert (dense.mean, dense.max, dense.histogram) == (1, 1, (0, depth * (depth + 1) // 2))
    for seed in range(3):
        between = backprop_distance(random_pattern(depth, seed))
        assert dense.mean <= between.mean <= chain.mean
        assert 1 <= between.max <= depth


def test_mean_is_at_least_two_minus_density_with_equality_when_no_pair_is_above_two() -> None:
    random = [random_pattern(depth, seed) for depth in (9, 16, 24) for seed in range(10)]
    n_equal = 0
    for pattern in [*(p for depth in range(1, 6) for p in every_pattern(depth)), *random]:
        distance = backprop_distance(pattern)
        n_pairs = pattern.depth * (pattern.depth + 1) // 2
        total = sum(k * n for k, n in enumerate(distance.histogram))
        assert total >= 2 * n_pairs - pattern.n_connections
        assert (total == 2 * n_pairs - pattern.n_connections) == (distance.max <= 2)
        n_equal += distance.max <= 2
    assert 0 < n_equal < 1099


@pytest.mark.parametrize("name", [name for name in TEMPLATES if name != "chain"])
def test_the_histogram_counts_pairs_and_its_first_bin_connections(name: str) -> None:
    pattern = find_template(name).build(17)
    histogram = backprop_distance(pattern).histogram
    assert sum(histogram) == 17 * 18 // 2
    assert histogram[:2] == (0, pattern.n_connections)
    assert histogram[-1] > 0


def test_reversal_keeps_pair_distances_and_swaps_the_ends() -> None:
    for seed in range(20):
        pattern = random_pattern(14, seed)
        mirrored = ConnectionPattern.from_connections(14, [(14 - t, 14 - s) for s, t in pattern.connections])
        one, other = backprop_distance(pattern), backprop_distance(mirrored)
        assert (one.mean, one.max, one.histogram) == (other.mean, other.max, other.histogram)
        assert (one.from_output_mean, one.to_input_mean) == (other.to_input_mean, other.from_output_mean)
        assert mirrored.in_degrees == pattern.out_degrees[-2::-1]
        assert mirrored.span == pytest.approx(pattern.span, rel=1e-12)


def test_the_data_direction_would_give_other_ends() -> None:
    pattern = ConnectionPattern(4, ((0,), (1,), (2,), (0, 1, 2, 3)))
    distance = backprop_distance(pattern)
    assert distance.from_output_mean == 1
    assert distance.to_input_mean == (1 + 2 + 3 + 1) / 4
    assert distance.mean == (1 + 2 + 1 + 3 + 2 + 1 + 1 + 1 + 1 + 1) / 10


def test_describe_gives_every_descriptor_under_its_own_name() -> None:
    pattern = ConnectionPattern(4, ((0,), (0, 1), (0, 2), (1, 3)))
    graph = nx.DiGraph(list(pattern.connections))
    gaps = [t - s for s, t in graph.edges]
    pairs = by_floyd_warshall(pattern)
    row = describe(pattern)
    assert row == {
        "layers": 4,
        "connections": 7,
        "mean_bd": pytest.approx(sum(pairs.values()) / 10),
        "max_bd": max(pairs.values()),
        "from_output_mean": pytest.approx(sum(pairs[4, j] for j in range(4)) / 4),
        "to_input_mean": pytest.approx(sum(pairs[i, 0] for i in range(1, 5)) / 4),
        "span": pytest.approx(sum(gaps) / 7),
        "max_in_degree": 2,
        "max_out_degree": 3,
    }
    assert row["from_output_mean"] != row["to_input_mean"]


def without(pattern: ConnectionPattern, skip: tuple[int, int]) -> ConnectionPattern:
    return ConnectionPattern.from_connections(pattern.depth, [other for other in pattern.connections if other != skip])


def assert_detours_agree(pattern: ConnectionPattern) -> None:
    """The definition, networkx on the graph without the skip, and the other computation of distances there."""
    found = detours(pattern)
    assert list(found) == [(s, t) for s, t in pattern.connections if t - s > 1]
    for source, target in found:
        graph = pattern.gradient_graph()
        graph.remove_edge(target, source)
        assert found[source, target] == nx.shortest_path_length(graph, target, source)
        assert found[source, target] == by_layer_order(without(pattern, (source, target)))[target, source]


@pytest.mark.parametrize("depth", [1, 2, 3, 4])
def test_detours_of_every_small_pattern_are_distances_without_the_skip(depth: int) -> None:
    for pattern in every_pattern(depth):
        assert_detours_agree(pattern)


@pytest.mark.parametrize("depth", [9, 16, 24])
def test_detours_of_random_patterns_are_distances_without_the_skip(depth: int) -> None:
    found = set()
    for seed in range(5):
        pattern = random_pattern(depth, seed)
        assert_detours_agree(pattern)
        found |= set(detours(pattern).values())
    assert min(found) == 2
    assert max(found) > 2


def test_detours_of_lone_skips_are_their_spans_and_of_dense_all_two() -> None:
    for span in range(2, 9):
        pattern = ConnectionPattern.from_connections(12, [*((i, i + 1) for i in range(12)), (3, 3 + span)])
        assert detours(pattern) == {(3, 3 + span): span}
    dense = find_template("dense").build(52)
    assert set(detours(dense).values()) == {2}
    assert detours(find_template("chain").build(5)) == {}
