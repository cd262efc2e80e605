"""What a transition reads: every policy against a second definition."""

import math

import pytest

from search_spaces.blocks import POLICIES, transition_inputs
from search_spaces.errors import InputError
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
