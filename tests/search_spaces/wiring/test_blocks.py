"""What a transition reads, and distances through it: every policy against a second definition."""

import itertools
import math
from fractions import Fraction
from typing import Any

import networkx as nx
import pytest

from nas.model.candidate import Candidate
from nas.model.config import NetworkConfig
from search_spaces.distance import backprop_distance
from search_spaces.errors import InputError
from search_spaces.pattern import ConnectionPattern
from search_spaces.templates import TEMPLATES, find_template
from search_spaces.wiring.blocks import (
    WITHIN,
    GlobalDistance,
    Widths,
    classifier_reads,
    global_distance,
    transition_inputs,
    wire_across,
    wire_summaries,
    wire_within,
)
from tests.support.patterns import by_closed_formula, by_whole_graph, every_pattern, random_pattern

DEPTHS = [1, 2, 3, 5, 7, 8, 12, 15, 16, 24, 52]
# These rules ask for L beside the layer, so a block one layer longer is another pattern.
NEED_DEPTH = {"nearest_log_L", "evenly_log_L"}


@pytest.mark.parametrize("policy", [*WITHIN, "v1", "v2"])
@pytest.mark.parametrize("name", ["log", "midpoint", "nearest_log_i"])
def test_what_the_classifier_reads_of_a_pattern_is_what_it_reads_of_the_network(policy: str, name: str) -> None:
    network = NetworkConfig.model_validate({"layers": 9, "blocks": 3, "transition": policy})
    pattern = find_template(name).build(network.pattern_depth)
    candidate = Candidate(pattern, network, 0, name)
    last = candidate.wiring.blocks[-1]
    by_places = {last.places[node] for node in candidate.wiring.read}
    if policy == "v2":  # the summary, which is node 0, is read by every layer, whatever the pattern
        by_places = by_places - {0} | ({0} & set(pattern.sources[-1]))
    assert candidate.reads == classifier_reads(policy, pattern, name) == tuple(sorted(by_places))


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
@pytest.mark.parametrize("name", sorted({*TEMPLATES, "log:b=3,c=1", "log:b=2,c=1", "denseformer:k=2,p=3"} - NEED_DEPTH))
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
        ("mini_dense", (6, 11, 12)),
        ("harmonic", (12,)),
        ("midpoint", (6, 10, 12)),
        # keys 0, 1, 4, 7, 10, 13 of 0..13, then 10, 11, 13 of 10..13, then 11, 12, 13 of 11..13
        ("loglog", (0, 1, 4, 7, 10, 11, 12)),
        ("log:b=4,c=1", (9, 12)),
        ("log:b=2,c=1/2", (6, 10, 12)),
        ("denseformer:k=4,p=3", (0, 4, 8, 12)),
        ("denseformer:k=4,p=5", (12,)),
    ],
)
def test_rule_after_twelve_layers_by_hand(name: str, expected: tuple[int, ...]) -> None:
    assert transition_inputs("rule", 12, name) == expected


@pytest.mark.parametrize("policy", WITHIN)
@pytest.mark.parametrize("depth", DEPTHS)
def test_every_policy_reads_distinct_nodes_of_the_block_in_order(policy: str, depth: int) -> None:
    read = transition_inputs(policy, depth, "midpoint")
    assert list(read) == sorted(set(read))
    assert read
    assert read[0] >= 0
    assert read[-1] == depth


def test_refusals_name_what_was_given_and_what_there_is() -> None:
    with pytest.raises(InputError, match=r"'first'.*log, all, last, rule"):
        transition_inputs("first", 12)
    with pytest.raises(InputError, match="no named template"):
        transition_inputs("rule", 12)
    with pytest.raises(InputError, match="'lag'"):
        transition_inputs("rule", 12, "lag")


# --- distances through the whole network -------------------------------------------------------------------------


def through(pattern: ConnectionPattern, n_blocks: int, read: tuple[int, ...]) -> GlobalDistance:
    """What the tool finds for blocks of one pattern whose transitions and classifier read the same nodes."""
    return global_distance(wire_within([pattern] * n_blocks, [read] * n_blocks, Widths(stem=1, growth=1)))


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
        found = through(pattern, n_blocks, read)
        assert_same(found, by_whole_graph(pattern, n_blocks, read))
        assert_same(found, by_closed_formula(pattern, n_blocks, read))


@pytest.mark.parametrize("n_blocks", [1, 3])
@pytest.mark.parametrize("name", sorted(TEMPLATES))
def test_global_distances_under_the_templates_own_rule_equal_those_on_the_graph(name: str, n_blocks: int) -> None:
    pattern, read = find_template(name).build(9), transition_inputs("rule", 9, name)
    found = through(pattern, n_blocks, read)
    assert_same(found, by_whole_graph(pattern, n_blocks, read))
    assert_same(found, by_closed_formula(pattern, n_blocks, read))


def test_global_distances_of_every_pattern_of_four_layers_and_every_choice_of_what_is_read() -> None:
    for pattern in every_pattern(4):
        for size in range(5):
            for lower in itertools.combinations(range(4), size):
                read = (*lower, 4)
                assert_same(through(pattern, 2, read), by_whole_graph(pattern, 2, read))


@pytest.mark.parametrize("depth", [1, 5, 12])
def test_one_block_has_the_distances_within_it(depth: int) -> None:
    for seed in range(3):
        pattern = random_pattern(depth, seed)
        within = backprop_distance(pattern)
        for policy in ("log", "all", "last"):
            found = through(pattern, 1, transition_inputs(policy, depth))
            assert found.mean == pytest.approx(within.mean, rel=1e-12)
            assert found.max == within.max
        # The last policy reads layer L alone, one hop below the loss.
        assert found.from_loss_mean == pytest.approx(1 + within.from_output_mean * depth / (depth + 1), rel=1e-12)


@pytest.mark.parametrize("n_blocks", [1, 2, 4])
def test_where_transitions_read_all_the_loss_is_equally_far_for_every_pattern(n_blocks: int) -> None:
    found = {through(pattern, n_blocks, transition_inputs("all", 4)).from_loss_mean for pattern in every_pattern(4)}
    assert found == {(n_blocks + 1) / 2}


@pytest.mark.parametrize("read", [(), (0, 1), (3,)])
def test_a_transition_that_leaves_out_the_last_layer_is_refused(read: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match="cut some nodes off"):
        through(find_template("dense").build(4), 2, read)


# --- networks whose connections or summaries cross the borders of blocks -------------------------------------------


def by_recurrence_across(pattern: ConnectionPattern, depths: list[int]) -> GlobalDistance:
    """V1 in layer order: D(i, j) = min over inputs u of 1 + borders between u and i + D(u, j), D(j, j) = 0."""
    block = [0] + [number for number, depth in enumerate(depths) for _ in range(depth)]
    hops: dict[tuple[int, int], int] = {}

    def reach(reader_block: int, inputs: tuple[int, ...], j: int) -> int:
        return min(
            1 + reader_block - block[u] + (0 if u == j else hops[u, j]) for u in inputs if u == j or (u, j) in hops
        )

    for i, inputs in enumerate(pattern.sources, start=1):
        for j in range(i):
            hops[i, j] = reach(block[i], inputs, j)
    last = (*pattern.sources[-1], pattern.depth)
    from_loss = [reach(block[-1], last, j) for j in range(pattern.depth + 1)]
    return GlobalDistance(sum(hops.values()) / len(hops), max(hops.values()), sum(from_loss) / len(from_loss))


@pytest.mark.parametrize("depths", [[12], [4, 4, 4], [1, 7, 4], [6, 6]])
def test_v1_distances_equal_a_recurrence_over_its_layers(depths: list[int]) -> None:
    for pattern in [
        *(find_template(name).build(12) for name in ("dense", "log", "midpoint", "harmonic")),
        *(random_pattern(12, seed) for seed in range(6)),
    ]:
        wiring = wire_across(pattern, depths, Widths(stem=2, growth=1))
        if any(len(block.inputs) == 1 for block in wiring.blocks[1:]):
            continue  # such a border's one transition counts as a node of its own, as under the other policies
        assert_same(global_distance(wiring), by_recurrence_across(pattern, depths))


@pytest.mark.parametrize("depths", [[5], [3, 3], [4, 1, 6, 2]])
def test_v2_distances_equal_a_closed_form(depths: list[int]) -> None:
    """A layer is a pattern's distance from those of its block, and b - a + 1 hops from those of block a before it."""
    for seed in range(4):
        patterns = [random_pattern(depth, seed) for depth in depths]
        layers = [(block, i) for block, depth in enumerate(depths) for i in range(1, depth + 1)]
        within = []
        for pattern in patterns:
            above = pattern.gradient_graph().subgraph(range(1, pattern.depth + 1))
            within.append(dict(nx.all_pairs_shortest_path_length(above)))
        hops = [block + 1 for block, _ in layers]  # back to the stem
        hops += [within[b][i][j] if a == b else b - a + 1 for (a, j), (b, i) in itertools.combinations(layers, 2)]
        last, end = len(depths) - 1, depths[-1]
        read = [end, *(j for j in patterns[-1].sources[-1] if j)]
        from_loss = [last + 1]
        from_loss += [
            1 + min(within[last][t][j] for t in read if j in within[last][t]) if a == last else last - a + 1
            for a, j in layers
        ]
        found = global_distance(wire_summaries(patterns, Widths(stem=2, growth=1)))
        expected = GlobalDistance(sum(hops) / len(hops), max(hops), sum(from_loss) / len(from_loss))
        assert_same(found, expected)


def test_the_chain_brings_one_node_over_a_border_as_the_last_policy_does() -> None:
    chain = find_template("chain")
    across = wire_across(chain.build(6), [3, 3], Widths(stem=4, growth=4))
    within = wire_within([chain.build(3)] * 2, [(3,), (2, 3)], Widths(stem=4, growth=4))
    assert [(block.inputs, block.sources, block.transitions) for block in across.blocks] == [
        (block.inputs, block.sources, block.transitions) for block in within.blocks
    ]
    assert global_distance(across) == global_distance(within)


@pytest.mark.parametrize("depths", [[3, 3, 3], [2, 6, 1]])
@pytest.mark.parametrize("number", range(4))
def test_v1_brings_over_just_what_is_read_further_on(depths: list[int], number: int) -> None:
    pattern = random_pattern(9, number)
    wiring = wire_across(pattern, depths, Widths(stem=5, growth=2))
    ends = list(itertools.accumulate(depths))
    for block, end in zip(wiring.blocks[:-1], ends, strict=False):
        needed = {j for i in range(end + 1, 10) for j in pattern.sources[i - 1] if j <= end}
        assert [block.places[transition.reads[0]] for transition in block.transitions] == sorted(needed)
        assert [transition.channels for transition in block.transitions] == [5 if j == 0 else 2 for j in sorted(needed)]
        assert all(len(transition.reads) == 1 for transition in block.transitions)
    for block, start in zip(wiring.blocks, [0, *ends], strict=False):
        for layer, nodes in enumerate(block.sources, start=start + 1):
            assert tuple(block.places[node] for node in nodes) == pattern.sources[layer - 1]
    last = wiring.blocks[-1]
    assert tuple(last.places[node] for node in wiring.read) == (*pattern.sources[-1], 9)


@pytest.mark.parametrize(
    ("compression", "n_read", "expected"),
    [(None, 20, 6), (None, 1, 6), ("1", 20, 20), ("0.5", 21, 10), ("0.3", 9, 2), ("0.01", 20, 1), ("0.29", 100, 29)],
)
def test_a_transition_writes_growth_or_a_share_rounded_down(
    compression: str | None, n_read: int, expected: int
) -> None:
    share = None if compression is None else Fraction(compression)
    assert Widths(stem=1, growth=6, compression=share).written(n_read) == expected


def test_blocks_of_fewer_layers_have_the_rule_s_own_pattern_or_the_first_layers() -> None:
    network = NetworkConfig(layers=7, blocks=2, block_layers=(4, 7), transition="last")
    midpoint, drawn = find_template("midpoint").build(7), random_pattern(7, 3)
    assert Candidate(midpoint, network, 0, "midpoint").patterns == (find_template("midpoint").build(4), midpoint)
    assert Candidate(drawn, network, 0).patterns == (ConnectionPattern(4, drawn.sources[:4]), drawn)
    dense = find_template("dense")
    assert Candidate(dense.build(7), network, 0).patterns == (dense.build(4), dense.build(7))


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"layers": 6}, "7 layers .* 6 layers"),
        ({"layers": 7, "blocks": 2, "transition": "v1"}, "7 layers .* 14 layers"),
    ],
)
def test_a_pattern_of_another_depth_is_refused(values: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        _ = Candidate(random_pattern(7, 0), NetworkConfig(**values), 0).wiring
