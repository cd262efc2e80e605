"""Blocks in a row, laid out node by node, are the network that SkipNetwork is: sizes, costs, distances and logits."""

import re

import pytest
import torch

from nas.layouts.layout import Layout, measure_layout
from nas.layouts.operations import BN_RELU, Convolution, Operation
from nas.layouts.rows import lay_out_rows
from nas.model.candidate import Candidate, NetworkConfig
from nas.model.cost import predict_cost
from nas.model.layout_network import LayoutNetwork
from nas.model.network import build_skip_network
from search_spaces.pattern import ConnectionPattern
from search_spaces.templates import find_template

CASES = [
    (NetworkConfig(layers=6, blocks=2, growth=3, stem_channels=5, compression=0.5, image=(3, 8, 10)), "log"),
    (NetworkConfig(layers=5, blocks=3, growth=2, transition="v1", layer="bottleneck"), "nearest_4"),
    (NetworkConfig(layers=4, blocks=2, growth=3, transition="v2"), "log"),
    (NetworkConfig(layers=5, growth=4, merge="gated"), "dense"),
    (NetworkConfig(layers=4, blocks=2, growth=3, large_stem=True, image=(3, 32, 36)), "midpoint"),
]


def lay_out(candidate: Candidate) -> Layout:
    network = candidate.network
    layer: tuple[Operation, ...] = (Convolution(network.growth),)
    if network.layer == "bottleneck":
        layer = (Convolution(4 * network.growth, 1), *BN_RELU, *layer)
    return lay_out_rows(candidate.wiring, layer, network.classes, network.merge, network.large_stem)


def rename(name: str, candidate: Candidate) -> str:
    """Return the name in SkipNetwork's state_dict of a parameter of the layout's network."""
    node, inside = re.fullmatch(r"nodes\.(\w+?)\.(.*)", name).groups()  # type: ignore[union-attr]
    if node == "stem":
        return f"stem.{inside.removeprefix('operations.')}" if candidate.network.large_stem else "stem.weight"
    if node == "head" and inside.startswith("operations.3"):
        return inside.replace("operations.3", "classifier")
    place, rest = re.fullmatch(r"(?:operations\.(\d+)|merge)\.(.*)", inside).groups()  # type: ignore[union-attr]
    at = f"{0 if place is None else int(place) + 1}.{rest}"
    if node == "head":
        return f"head.{at}"
    kind, first, second = re.fullmatch(r"(block|passage)(\d+)_(?:layer)?(\d+)", node).groups()  # type: ignore[union-attr]
    if kind == "block":
        return f"blocks.{first}.layers.{second}.{at}"
    before = sum(len(block.transitions) for block in candidate.wiring.blocks[: int(first)])
    return f"transitions.{before + int(second)}.{at}"


@pytest.mark.parametrize(("network", "template"), CASES)
def test_it_is_the_same_network(network: NetworkConfig, template: str) -> None:
    pattern = find_template(template).build(network.pattern_depth)
    candidate = Candidate(pattern, network, 3, template)
    ours = LayoutNetwork(lay_out(candidate), network.image).double().eval()
    theirs = build_skip_network(candidate).double().eval()
    state = theirs.state_dict()
    ours.load_state_dict({name: state.pop(rename(name, candidate)) for name in ours.state_dict()})
    assert state == {}, "weights that the layout lacks"
    images = torch.randn(2, *network.image, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(ours(images), theirs(images), rtol=0, atol=1e-12)
    cost = predict_cost(candidate)
    layout = lay_out(candidate)
    n_factors = sum(name.endswith("merge.weight") * x.numel() for name, x in ours.named_parameters())
    assert layout.count_params(network.image) + n_factors == cost.params
    assert 2 * layout.count_macs(network.image) == cost.flops


def test_distances_of_one_block_are_those_of_its_pattern() -> None:
    pattern = ConnectionPattern(4, ((0,), (0, 1), (2,), (0, 3)))
    candidate = Candidate(pattern, NetworkConfig(layers=4, transition="last"), 0)
    assert measure_layout(lay_out(candidate)) == candidate.global_distance
