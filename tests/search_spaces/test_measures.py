"""The rivals of mean backprop distance, against other ways to compute them."""

import math
import statistics

import networkx as nx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nas.model.candidate import Candidate, NetworkConfig
from nas.model.cost import predict_nn_mass
from search_spaces.measures import describe_rivals
from search_spaces.pattern import ConnectionPattern
from search_spaces.templates import TEMPLATES, find_template


@st.composite
def patterns(draw: st.DrawFn) -> ConnectionPattern:
    depth = draw(st.integers(1, 14))
    sources = [
        (*sorted(draw(st.sets(st.integers(0, layer - 2)) if layer > 1 else st.just(set()))), layer - 1)
        for layer in range(1, depth + 1)
    ]
    return ConnectionPattern.from_sources(sources)


def walk_depth(pattern: ConnectionPattern) -> float:
    """Steps to absorption of a Markov chain: (I - Q) t = 1 over the layers, node 0 absorbing."""
    steps = nx.to_numpy_array(pattern.gradient_graph(), nodelist=range(pattern.depth + 1))[1:]
    transient = (steps / steps.sum(axis=1, keepdims=True))[:, 1:]
    return float(np.linalg.solve(np.eye(pattern.depth) - transient, np.ones(pattern.depth))[-1])


def efficiency(pattern: ConnectionPattern) -> float:
    """Shortest paths by Floyd and Warshall."""
    hops = nx.floyd_warshall_numpy(pattern.gradient_graph(), nodelist=range(pattern.depth + 1))
    below = hops[np.tril_indices(pattern.depth + 1, -1)]
    return float((1 / below).mean())


def assert_right(pattern: ConnectionPattern) -> None:
    row = describe_rivals(pattern)
    assert list(row) == ["random_walk_depth", "out_degree_sd", "mean_inverse_bd", "skip_density"]
    assert row["random_walk_depth"] == pytest.approx(walk_depth(pattern))
    assert row["mean_inverse_bd"] == pytest.approx(efficiency(pattern))
    out_degrees = [degree for node, degree in pattern.graph().out_degree() if node != pattern.depth]
    assert row["out_degree_sd"] == pytest.approx(statistics.pstdev(out_degrees))
    skips = {(i, j) for i in range(pattern.depth + 1) for j in range(i - 1)}
    used = {(target, source) for source, target in pattern.connections} & skips
    assert row["skip_density"] == pytest.approx(len(used) / len(skips) if skips else 0)


@settings(max_examples=150, deadline=None, derandomize=True)
@given(patterns())
def test_measures_of_any_pattern_agree_with_other_computations(pattern: ConnectionPattern) -> None:
    assert_right(pattern)


@pytest.mark.parametrize("name", TEMPLATES)
def test_measures_of_the_templates_agree_with_other_computations(name: str) -> None:
    assert_right(find_template(name).build(12))


@pytest.mark.parametrize("depth", [1, 2, 5, 24])
def test_dense_and_chain_have_closed_forms(depth: int) -> None:
    dense = describe_rivals(find_template("dense").build(depth))
    # From layer i each of 0..i-1 is as likely: the i-th harmonic number.
    assert dense["random_walk_depth"] == pytest.approx(math.fsum(1 / i for i in range(1, depth + 1)))
    assert dense["mean_inverse_bd"] == 1
    assert dense["skip_density"] == (depth > 1)
    assert dense["out_degree_sd"] == pytest.approx(math.sqrt((depth**2 - 1) / 12))  # out-degrees 1..depth
    chain = describe_rivals(find_template("chain").build(depth))
    assert chain["random_walk_depth"] == depth
    assert chain["out_degree_sd"] == chain["skip_density"] == 0
    n_pairs = depth * (depth + 1) // 2
    sum_inverse = math.fsum((depth + 1 - hops) / hops for hops in range(1, depth + 1))
    assert chain["mean_inverse_bd"] == pytest.approx(sum_inverse / n_pairs)


def test_a_random_walk_is_what_a_simulation_gives() -> None:
    pattern = find_template("log").build(10)
    generator = np.random.default_rng(0)
    lengths = []
    for _ in range(4000):
        node, n_hops = 10, 0
        while node:
            node, n_hops = int(generator.choice(pattern.sources[node - 1])), n_hops + 1
        lengths.append(n_hops)
    standard_error = statistics.stdev(lengths) / math.sqrt(len(lengths))
    assert abs(statistics.mean(lengths) - describe_rivals(pattern)["random_walk_depth"]) < 4 * standard_error


def test_nn_mass_by_hand() -> None:
    """5 layers with 3 of the 10 possible skips, 4 channels a layer: 0.3 x 4 x 5 a block."""
    pattern = ConnectionPattern(5, ((0,), (0, 1), (1, 2), (3,), (0, 4)))
    assert predict_nn_mass(Candidate(pattern, NetworkConfig(layers=5, growth=4), 0)) == pytest.approx(6)
    two_blocks = NetworkConfig(layers=5, growth=8, blocks=2)
    assert predict_nn_mass(Candidate(pattern, two_blocks, 0)) == pytest.approx(2 * 0.3 * 8 * 5)
    assert predict_nn_mass(Candidate(find_template("chain").build(1), NetworkConfig(layers=1), 0)) == 0


@settings(max_examples=50, deadline=None, derandomize=True)
@given(patterns())
def test_nn_mass_is_blind_to_placement(pattern: ConnectionPattern) -> None:
    network = NetworkConfig(layers=pattern.depth)
    masses = {predict_nn_mass(Candidate(each, network, 0)) for each in (pattern, pattern.reversed())}
    assert max(masses) == pytest.approx(min(masses))
