"""CondenseNet's network around a pattern: sizes, costs, what is read, and what is refused."""

from typing import Any

import pytest

from nas.layouts.condensed import ChannelIndex, ChannelShuffle, CondenseNet, convert_layout, count_kept
from nas.layouts.layout import Layout, measure_layout
from nas.layouts.operations import MapShape
from nas.model.candidate import Candidate
from nas.model.config import NetworkConfig
from nas.records.checked import validate
from search_spaces.distance import describe
from search_spaces.errors import InputError
from search_spaces.pattern import ConnectionPattern
from search_spaces.templates import find_template

SMALL: dict[str, Any] = {"layers": 3, "blocks": 3, "growth": 4, "transition": "all", "image": (3, 8, 8)}


def lay_out(pattern: ConnectionPattern, **values: Any) -> Layout:
    surroundings = values.pop("surroundings", CondenseNet())
    network = NetworkConfig(**{**SMALL, "surroundings": surroundings, **values})
    return Candidate(pattern, network, 0).layout


def describe_reads(layout: Layout, name: str) -> list[str]:
    nodes = layout.nodes
    (node,) = [node for node in nodes if node.name == name]
    return [nodes[source].name for source in node.reads]


def test_with_the_dense_pattern_a_layer_reads_all_earlier_maps_of_all_blocks_pooled() -> None:
    layout = lay_out(find_template("dense").build(9))
    assert describe_reads(layout, "block0_layer2") == ["stem", "block0_layer0", "block0_layer1"]
    assert describe_reads(layout, "block1_layer1") == [f"pool1_{place}" for place in range(4)] + ["block1_layer0"]
    assert describe_reads(layout, "block2_layer0") == [f"pool2_{place}" for place in range(7)]
    assert describe_reads(layout, "pool2_1") == ["pool1_1"]
    assert [node.place for node in layout.nodes if node.place is not None] == list(range(10))
    shapes = dict(zip([node.name for node in layout.nodes], layout.shapes((3, 8, 8)), strict=True))
    assert shapes["stem"] == (8, 8, 8)  # twice the growth of the first block
    assert [shapes[f"block{block}_layer0"] for block in range(3)] == [(4, 8, 8), (8, 4, 4), (16, 2, 2)]
    assert shapes["head"] == (10, 1, 1)


def test_another_pattern_says_what_is_read_and_only_maps_that_are_needed_are_pooled() -> None:
    sources = ((0,), (1,), (0, 2), (1, 3), (4,), (5,), (6,), (1, 7), (8,))
    layout = lay_out(ConnectionPattern(9, sources), transition="last")
    assert describe_reads(layout, "block1_layer0") == ["pool1_1", "pool1_3"]
    assert describe_reads(layout, "block2_layer1") == ["pool2_1", "block2_layer0"]
    assert describe_reads(layout, "head") == ["block2_layer2"]
    # Of the first block layer 1 goes on to the third, and layer 3 to the second only.
    pools = [node.name for node in layout.nodes if node.kind == "passage"]
    assert pools == ["pool1_1", "pool1_3", "pool2_1", "pool2_6"]


def test_distances_are_those_of_the_pattern_where_pooling_is_free() -> None:
    pattern = find_template("log").build(9)
    expected = describe(pattern)
    distance = measure_layout(lay_out(pattern), passage_hops=0)
    assert distance.mean == pytest.approx(expected["mean_bd"])
    assert distance.max == expected["max_bd"]


def test_options_change_growth_stem_and_layers() -> None:
    options = CondenseNet(groups=2, condensation=8, widening=1, bottleneck=2, stem_stride=2)
    layout = lay_out(find_template("dense").build(9), surroundings=options, growth=6, image=(3, 16, 16))
    shapes = dict(zip([node.name for node in layout.nodes], layout.shapes((3, 16, 16)), strict=True))
    assert [shapes[name] for name in ("stem", "block0_layer0", "block2_layer2")] == [(12, 8, 8), (6, 8, 8), (6, 2, 2)]
    (node,) = [node for node in layout.nodes if node.name == "block0_layer1"]  # reads 12 + 6 channels
    learned, second = node.operations[2], node.operations[5]
    assert learned.count_params(MapShape(18, 8, 8)) == 12 * 3  # 18 / 8, rounded up
    assert second.count_params(MapShape(12, 8, 8)) == 12 * 6 * 9 // 2


@pytest.mark.parametrize(("n_inputs", "condensation"), [(16, 4), (24, 8), (10, 4), (2, 4), (7, 1)])
def test_kept_inputs_fall_with_the_stages_to_at_least_one(n_inputs: int, condensation: int) -> None:
    kept = [count_kept(n_inputs, condensation, stage) for stage in range(condensation)]
    assert kept[0] == n_inputs
    assert kept == sorted(kept, reverse=True)
    assert all(0 <= n - n_inputs * (1 - stage / condensation) < 1 for stage, n in enumerate(kept))
    assert kept[-1] >= 1


def test_the_converted_network_has_the_layouts_cost_where_groups_and_condensation_agree() -> None:
    for groups, condensation, extra in ((4, 4, 0), (2, 4, -1), (4, 2, 1)):
        options = CondenseNet(groups=groups, condensation=condensation)
        layout = lay_out(find_template("dense").build(9), surroundings=options)
        plain = convert_layout(layout, (3, 8, 8))
        assert not [kind for node in plain.nodes for kind in node.operations if "Learned" in type(kind).__name__]
        assert plain.count_macs((3, 8, 8)) == layout.count_macs((3, 8, 8))
        difference = plain.count_params((3, 8, 8)) - layout.count_params((3, 8, 8))
        assert (difference > 0) - (difference < 0) == extra  # its BN has a scale for each channel of each group
        (node,) = [node for node in plain.nodes if node.name == "block0_layer1"]
        assert node.operations[0] == ChannelIndex(groups * 12 // condensation)
        assert node.operations[4] == ChannelShuffle(groups)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"growth": 6}, "growth 6"),
        ({"layer": "bottleneck"}, "drop layer"),
        ({"merge": "sum"}, "drop merge"),
        ({"stem_channels": 8, "compression": 0.5}, "drop stem-channels and compression"),
        ({"large_stem": True}, "drop large-stem"),
        ({"transition": "v1"}, "transition v1"),
        ({"surroundings": {"kind": "condensenet", "groups": 0}}, "surroundings"),
        ({"surroundings": {"kind": "condensenet", "density": 2}}, "surroundings"),
    ],
)
def test_settings_that_do_not_apply_are_refused(values: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        validate(NetworkConfig, {**SMALL, "surroundings": CondenseNet(), **values})


def test_an_image_that_pooling_would_leave_nothing_of_is_refused() -> None:
    layout = lay_out(find_template("dense").build(9), image=(3, 3, 8))
    with pytest.raises(InputError, match="3x8"):
        layout.shapes((3, 3, 8))


def test_drops_fall_on_layers_by_their_place_among_all() -> None:
    layout = lay_out(find_template("dense").build(9), drop_layers=0.5, drop_path=0.2)
    layers = [node for node in layout.nodes if node.kind == "layer"]
    assert [node.survival for node in layers] == pytest.approx([1 - place / 9 / 2 for place in range(1, 10)])
    assert {node.drop_path for node in layers} == {0.2}
