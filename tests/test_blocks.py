"""What a transition reads, and distances through it: every policy against a second definition."""

import itertools
import math

import networkx as nx
import pytest
from test_distance import by_layer_order, random_pattern
from test_pattern import every_pattern

from search_spaces.blocks import POLICIES, GlobalDistance, global_distance, transition_inputs
from search_spaces.distance import backprop_distance
from search_spaces.errors import InputError
from search_spaces.pattern import ConnectionPattern
from search_spaces.templates import TEMPLATES, find_template

DEPTHS = [1, 2, 3, 5, 7, 8, 12, 15, 16, 24, 52]
# These rules ask for L beside the layer, so a block one layer longer is another pattern.
NEED_DEPTH = {"nearest_log_L", "evenly_log_L"}


@pytest.mark.parametrize("depth", DEPTHS)
def test_log_reads_the_layers_at_powers_of_two_below_the_next_one(depth: int) -> None:
    expected = tuple(node for node in range(depth + 1) if math.log2(depth + 1 - node).is_integer())
    assert transition_inputs("log", depth) == expected
    assert depth in expected


@pytest.mark.parametrize("depth", DEPTHS)
def test_all_reads_every_node_and_last_the_last_layer(depth: int) -> None:
    assert transition_inputs("all", depth) == tuple(range(depth + 1))
    assert transition_inputs("last", depth) == (depth,)


@pytest.mark.parametrize("policy", ["log", "all", "last"])
def test_a_template_changes_nothing_but_under_rule(policy: str) -> None:
    assert transition_inputs(policy, 12, "midpoint") == transition_inputs(policy, 12)


@pytest.mark.parametrize("depth", DEPTHS)
@pytest.mark.parametrize("name", sorted({*TEMPLATES, "log:b=3,c=1", "log:b=2,c=1"} - NEED_DEPTH))
def test_rule_reads_what_the_next_layer_of_a_longer_block_reads(name: str, depth: int) -> None:
    assert transition_inputs("rule", depth, name) == find_template(name).build(depth + 1).sources[-1]


@pytest.mark.parametrize("depth", DEPTHS)
@pytest.mark.parametrize("name", sorted(NEED_DEPTH))
def test_rule_keeps_the_number_of_inputs_of_the_block(name: str, depth: int) -> None:
    m = math.floor(math.log2(depth + 1)) + 1
    layer = depth + 1
    near = {layer - 1 - k for k in range(m)}
    even = {layer - 1 - math.floor(k * layer / m) for k in range(m)}
    expected = {node for node in (near if name == "nearest_log_L" else even) if node >= 0}
    assert transition_inputs("rule", depth, name) == tuple(sorted(expected))


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("chain", (12,)),
        ("dense", tuple(range(13))),
        ("log", (5, 9, 11, 12)),
        ("nearest_log_i", (9, 10, 11, 12)),
        ("nearest_log_L", (9, 10, 11, 12)),
        ("nearest_4", (9, 10, 11, 12)),
        ("nearest_half", (6, 7, 8, 9, 10, 11, 12)),
        ("evenly_log_i", (3, 6, 9, 12)),
        ("evenly_log_L", (3, 6, 9, 12)),
        ("odd_even", (0, 2, 4, 6, 8, 10, 12)),
        ("half_and_log", (0, 2, 6, 7, 8, 9, 10, 11, 12)),
        ("harmonic", (12,)),
        ("midpoint", (6, 10, 12)),
        # keys 0, 1, 4, 7, 10, 13 of 0..13, then 10, 11, 13 of 10..13, then 11, 12, 13 of 11..13
        ("loglog", (0, 1, 4, 7, 10, 11, 12)),
        ("log:b=4,c=1", (9, 12)),
        ("log:b=2,c=1/2", (6, 10, 12)),
    ],
)
def test_rule_after_twelve_layers_by_hand(name: str, expected: tuple[int, ...]) -> None:
    assert transition_inputs("rule", 12, name) == expected


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("depth", DEPTHS)
def test_every_policy_reads_distinct_nodes_of_the_block_in_order(policy: str, depth: int) -> None:
    read = transition_inputs(policy, depth, "midpoint")
    assert list(read) == sorted(set(read))
    assert read
    assert read[0] >= 0
    assert read[-1] == depth


def test_refusals_name_what_was_given_and_what_there_is() -> None:
    with pytest.raises(InputError, match="no transition policy 'first'; there are log, all, last, rule"):
        transition_inputs("first", 12)
    with pytest.raises(InputError, match="no named template; use log, all or last"):
        transition_inputs("rule", 12)
    with pytest.raises(InputError, match="no template is named 'lag'"):
        transition_inputs("rule", 12, "lag")


# --- distances through the whole network -------------------------------------------------------------------------


def by_whole_graph(pattern: ConnectionPattern, n_blocks: int, read: tuple[int, ...]) -> GlobalDistance:
    """networkx on one graph of all blocks: node (b, 0) is the stem's output or that of the transition after b - 1."""
    graph: nx.DiGraph[tuple[int, int]] = nx.DiGraph()
    for block in range(n_blocks):
        graph.add_edges_from(((block, target), (block, source)) for source, target in pattern.connections)
        graph.add_edges_from(((block + 1, 0), (block, node)) for node in read)
    classifier = (n_blocks, 0)
    rows = dict(nx.all_pairs_shortest_path_length(graph))
    nodes = sorted(set(graph) - {classifier})
    assert len(nodes) == n_blocks * (pattern.depth + 1)
    distances = [rows[late][early] for early, late in itertools.combinations(nodes, 2)]
    from_loss = [rows[classifier][node] for node in nodes]
    return GlobalDistance(sum(distances) / len(distances), max(distances), sum(from_loss) / len(from_loss))


def by_closed_formula(pattern: ConnectionPattern, n_blocks: int, read: tuple[int, ...]) -> GlobalDistance:
    """BD((b,i),(a,j)) = BD(i,0) + sum over a < c < b of out(0) + out(j), pair by pair."""
    pairs = by_layer_order(pattern)
    hops = {**pairs, **{(i, i): 0 for i in range(pattern.depth + 1)}}

    def out(j: int) -> int:
        return 1 + min(hops[t, j] for t in read if t >= j)

    nodes = list(itertools.product(range(n_blocks), range(pattern.depth + 1)))
    distances = [
        hops[i, j] if a == b else hops[i, 0] + sum(out(0) for _ in range(a + 1, b)) + out(j)
        for (a, j), (b, i) in itertools.combinations(nodes, 2)
    ]
    from_loss = [sum(out(0) for _ in range(a + 1, n_blocks)) + out(j) for a, j in nodes]
    return GlobalDistance(sum(distances) / len(distances), max(distances), sum(from_loss) / len(from_loss))


def assert_same(found: GlobalDistance, expected: GlobalDistance) -> None:
    assert found.mean == pytest.approx(expected.mean, rel=1e-12)
    assert found.max == expected.max
    assert found.from_loss_mean == pytest.approx(expected.from_loss_mean, rel=1e-12)


@pytest.mark.parametrize("n_blocks", [1, 2, 3, 5])
@pytest.mark.parametrize("policy", ["log", "all", "last"])
@pytest.mark.parametrize("depth", [1, 2, 3, 7, 12])
def test_global_distances_equal_those_on_the_whole_network_s_graph(depth: int, policy: str, n_blocks: int) -> None:
    read = transition_inputs(policy, depth)
    for pattern in [
        *(find_template(name).build(depth) for name in ("chain", "dense", "log", "midpoint")),
        *(random_pattern(depth, seed) for seed in range(3)),
    ]:
        found = global_distance(pattern, n_blocks, read)
        assert_same(found, by_whole_graph(pattern, n_blocks, read))
        assert_same(found, by_closed_formula(pattern, n_blocks, read))


@pytest.mark.parametrize("n_blocks", [1, 3])
@pytest.mark.parametrize("name", sorted(TEMPLATES))
def test_global_distances_under_the_templates_own_rule_equal_those_on_the_graph(name: str, n_blocks: int) -> None:
    pattern, read = find_template(name).build(9), transition_inputs("rule", 9, name)
    found = global_distance(pattern, n_blocks, read)
    assert_same(found, by_whole_graph(pattern, n_blocks, read))
    assert_same(found, by_closed_formula(pattern, n_blocks, read))


def test_global_distances_of_every_pattern_of_four_layers_and_every_choice_of_what_is_read() -> None:
    for pattern in every_pattern(4):
        for size in range(5):
            for lower in itertools.combinations(range(4), size):
                read = (*lower, 4)
                assert_same(global_distance(pattern, 2, read), by_whole_graph(pattern, 2, read))


@pytest.mark.parametrize("depth", [1, 5, 12])
def test_one_block_has_the_distances_within_it(depth: int) -> None:
    for seed in range(3):
        pattern = random_pattern(depth, seed)
        within = backprop_distance(pattern)
        for policy in ("log", "all", "last"):
            found = global_distance(pattern, 1, transition_inputs(policy, depth))
            assert found.mean == pytest.approx(within.mean, rel=1e-12)
            assert found.max == within.max
        # The last policy reads layer L alone, one hop below the loss.
        assert found.from_loss_mean == pytest.approx(1 + within.from_output_mean * depth / (depth + 1), rel=1e-12)


@pytest.mark.parametrize("n_blocks", [1, 2, 4])
def test_where_transitions_read_all_the_loss_is_equally_far_for_every_pattern(n_blocks: int) -> None:
    found = {
        global_distance(pattern, n_blocks, transition_inputs("all", 4)).from_loss_mean for pattern in every_pattern(4)
    }
    assert found == {(n_blocks + 1) / 2}


@pytest.mark.parametrize("read", [(), (0, 1), (3,)])
def test_a_transition_that_leaves_out_the_last_layer_is_refused(read: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match="not layer 4"):
        global_distance(find_template("dense").build(4), 2, read)
