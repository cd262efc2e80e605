"""Measures of the chain and of the dense pattern in closed form, and walks by simulation."""

import math
import statistics

import numpy as np
import pytest

from search_spaces.measures.measure import log_reads
from search_spaces.measures.registry import measure
from search_spaces.measures.walks import visit_chances
from search_spaces.templates import find_template
from tests.support.patterns import random_pattern

DEPTHS = [1, 2, 5, 24]


def _harmonic(n: int) -> float:
    return math.fsum(1 / i for i in range(1, n + 1))


def _entropy(values: list[float]) -> float:
    return -math.fsum(v / sum(values) * math.log(v / sum(values)) for v in values)


@pytest.mark.parametrize("depth", DEPTHS)
def test_the_chain(depth: int) -> None:
    pattern = find_template("chain").build(depth)
    reads = log_reads(depth)
    layers = range(1, depth + 1)
    chances = [sum(node >= layer for node in reads) / len(reads) for layer in layers]
    expected = {
        "mean_bd": (depth + 2) / 3,
        "max_bd": depth,
        # A node is as far as the next that is read is above it.
        "from_loss_mean": statistics.fmean(1 + min(r - j for r in reads if r >= j) for j in range(depth + 1)),
        "mean_inverse_bd": math.fsum((depth + 1 - hops) / hops for hops in layers) / (depth * (depth + 1) / 2),
        "walk_length": statistics.fmean(reads),
        "visit_evenness": _entropy(chances),
        "ntk_trace": statistics.fmean(reads),
        "least_visit": 1 / len(reads),
        "layer_walk": (depth + 1) / 2,
        "random_walk_depth": depth,
        "log_paths": 0,
        "span": 1,
        "longest_skip": 0,
        "skip_density": 0,
        "out_degree_sd": 0,
        "in_degree_sd": 0,
        "bare_chain_share": 1,
        "longest_bare_run": depth,
        "longest_single_run": depth,
        "skip_place_mean": 0.5,
        "largest_eigenvalue": 2 * math.cos(math.pi / (depth + 2)),
        "second_eigenvalue": 2 * math.cos(2 * math.pi / (depth + 2)),
        "fiedler_value": 2 - 2 * math.cos(math.pi / (depth + 1)),
    }
    assert measure(pattern, expected) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("depth", DEPTHS)
def test_the_dense_pattern(depth: int) -> None:
    pattern = find_template("dense").build(depth)
    reads = log_reads(depth)
    layers = range(1, depth + 1)
    # From layer i each of 0..i-1 is as likely to be next, so that layer j is the first of 0..j met with chance
    # 1 / (j + 1), and a walk from i has the i-th harmonic number of hops.
    chances = [statistics.fmean((r == j) + (r > j) / (j + 1) for r in reads) for j in layers]
    degree_sd = math.sqrt((depth**2 - 1) / 12)  # of 1..L
    expected = {
        "mean_bd": 1,
        "max_bd": 1,
        "from_loss_mean": 2 - len(reads) / (depth + 1),
        "mean_inverse_bd": 1,
        "walk_length": statistics.fmean(_harmonic(r) for r in reads),
        "visit_evenness": _entropy(chances),
        "ntk_trace": sum(j * chance for j, chance in zip(layers, chances, strict=True)),
        "least_visit": min(chances),
        "layer_walk": statistics.fmean(_harmonic(i) for i in layers),
        "random_walk_depth": _harmonic(depth),
        "log_paths": (depth - 1) * math.log(2),
        "span": (depth + 2) / 3,
        "longest_skip": depth if depth > 1 else 0,
        "skip_density": float(depth > 1),
        "out_degree_sd": degree_sd,
        "in_degree_sd": degree_sd,
        "bare_chain_share": float(depth == 1),
        "longest_bare_run": int(depth == 1),
        "longest_single_run": 1,
        "skip_place_mean": 0.5,
        "largest_eigenvalue": depth,
        "second_eigenvalue": -1,
        "fiedler_value": depth + 1,
    }
    assert measure(pattern, expected) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("seed", [1, 2])
def test_walks_are_what_a_simulation_gives(seed: int) -> None:
    depth, n_walks = 9, 4000
    pattern, reads = random_pattern(depth, seed), log_reads(depth)
    generator = np.random.default_rng(seed)
    visited = np.zeros((n_walks, depth + 1))
    for walk in visited:
        node = reads[int(generator.integers(len(reads)))]
        while node:
            walk[node] = 1
            inputs = pattern.sources[node - 1]
            node = inputs[int(generator.integers(len(inputs)))]
    row = measure(pattern, ["walk_length", "ntk_trace"])
    weighted = visited[:, 1:] * np.array(pattern.in_degrees)
    for name, sample in {"walk_length": visited.sum(axis=1), "ntk_trace": weighted.sum(axis=1)}.items():
        assert abs(sample.mean() - row[name]) < 4 * sample.std() / math.sqrt(n_walks), name
    for layer, chance in enumerate(visit_chances(pattern, reads), start=1):
        assert abs(visited[:, layer].mean() - chance) < 4.5 * math.sqrt(chance * (1 - chance) / n_walks) + 1e-12


def test_a_walk_that_may_start_at_the_input_has_length_zero_there() -> None:
    """One layer: transition log reads nodes 0 and 1, so half of the walks visit nothing."""
    one = find_template("chain").build(1)
    assert measure(one, ["walk_length", "visit_evenness"]) == {"walk_length": 0.5, "visit_evenness": 0.0}
