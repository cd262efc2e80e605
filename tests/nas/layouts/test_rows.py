"""Blocks in a row, laid out node by node, are the network that SkipNetwork is: sizes, costs, distances and logits."""

import re
from typing import Any

import pytest
import torch

from nas.layouts.layout import Layout, measure_layout
from nas.layouts.rows import RowForm, lay_out_rows
from nas.model.candidate import Candidate
from nas.model.config import NetworkConfig
from nas.model.cost import predict_cost
from nas.model.layout_network import LayoutNetwork
from nas.model.network import SkipNetwork, build_network, build_skip_network
from search_spaces.budget import parse_budget
from search_spaces.sampling.draw import sample_uniform
from search_spaces.seeds import derive_generator
from search_spaces.templates import find_template

CASES = [
    (NetworkConfig(layers=6, blocks=2, growth=3, stem_channels=5, compression=0.5, image=(3, 8, 10)), "log"),
    (NetworkConfig(layers=5, blocks=3, growth=2, transition="v1", layer="bottleneck"), "nearest_4"),
    (NetworkConfig(layers=4, blocks=2, growth=3, transition="v2"), "log"),
    (NetworkConfig(layers=5, growth=4, merge="gated"), "dense"),
    (NetworkConfig(layers=4, blocks=2, growth=3, layer="depthwise", drop_layers=0.4), "log"),
    (NetworkConfig(layers=4, blocks=2, growth=3, large_stem=True, image=(3, 32, 36)), "midpoint"),
]


def lay_out(candidate: Candidate, exit_step: int | None = None) -> Layout:
    network = candidate.network
    form = RowForm(
        network.layer, network.classes, network.merge, network.drop_layers, network.drop_path, network.large_stem,
        exit_step,
    )  # fmt: skip
    return lay_out_rows(candidate.wiring, form)


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


@pytest.mark.parametrize(("network", "template"), CASES)
def test_distances_are_those_of_the_wiring(network: NetworkConfig, template: str) -> None:
    pattern = find_template(template).build(network.pattern_depth)
    candidate = Candidate(pattern, network, 0, template)
    assert measure_layout(lay_out(candidate)) == candidate.global_distance


WITH_EXITS = [(network, template, step) for (network, template), step in zip(CASES, (4, 7, 3, 2, 5, 3), strict=True)]


@pytest.mark.parametrize(("network", "template", "step"), WITH_EXITS)
def test_the_last_exit_is_the_classifier_of_the_network_without_exits(
    network: NetworkConfig, template: str, step: int
) -> None:
    pattern = find_template(template).build(network.pattern_depth)
    plain = Candidate(pattern, network, 3, template)
    candidate = Candidate(pattern, network.model_copy(update={"exits": f"every:{step}"}), 3, template)
    ours, theirs = build_network(candidate).double().eval(), build_skip_network(plain).double().eval()
    state = theirs.state_dict()
    own = {name: x for name, x in ours.state_dict().items() if "exit" not in name}
    ours.load_state_dict({name: state.pop(rename(name, plain)) for name in own}, strict=False)
    assert state == {}, "weights that the layout lacks"
    images = torch.randn(2, *network.image, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    logits = ours(images)
    assert logits.shape == (2, 1 + (sum(network.block_depths) - 1) // step, network.classes)
    torch.testing.assert_close(logits[:, -1], theirs(images), rtol=0, atol=1e-12)


@pytest.mark.parametrize(("network", "template", "step"), WITH_EXITS)
def test_an_exit_is_a_classifier_of_a_layer_and_its_inputs(network: NetworkConfig, template: str, step: int) -> None:
    """Count each exit by the channels of what the wiring says that a layer reads."""
    pattern = find_template(template).build(network.pattern_depth)
    plain = Candidate(pattern, network, 0, template)
    candidate = Candidate(pattern, network.model_copy(update={"exits": f"every:{step}"}), 0, template)
    wiring, params, macs = candidate.wiring, 0, 0
    places = [(number, layer) for number, block in enumerate(wiring.blocks) for layer in range(len(block.sources))]
    for number, layer in places[step - 1 : -1 : step]:
        block = wiring.blocks[number]
        reads = (*block.sources[layer], len(block.inputs) + layer)
        n_read = wiring.channels(number, reads)
        params += 2 * n_read + (n_read + 1) * network.classes + (len(reads) if network.merge == "gated" else 0)
        macs += n_read * network.classes
    without, cost = predict_cost(plain), predict_cost(candidate)
    assert (cost.params - without.params, cost.flops - without.flops) == (params, 2 * macs)
    by_exit = candidate.layout.count_macs_by_exit(network.image)
    assert list(by_exit) == sorted(by_exit) and len(by_exit) == len(candidate.layout.outputs)
    assert by_exit[-1] <= cost.flops // 2


@pytest.mark.parametrize(
    ("budget", "changes", "is_equal"),
    [
        ("log", {}, True),
        ("log", {"blocks": 2, "layer": "bottleneck", "merge": "gated"}, True),
        ("total:20", {"merge": "sum"}, True),
        ("total:20", {}, False),
    ],
)
def test_patterns_with_exits_cost_the_same_where_the_settings_say_so(
    budget: str, changes: dict[str, Any], is_equal: bool
) -> None:
    network = NetworkConfig(layers=8, exits="every:3", **changes)
    generator = derive_generator(0, "test", budget)
    patterns = [sample_uniform(parse_budget(budget, 8), generator) for _ in range(12)]
    costs = {predict_cost(Candidate(pattern, network, 0)) for pattern in patterns}
    assert (len(costs) == 1) == is_equal
    assert network.has_equal_cost == ("sum" in changes.values())
    assert network.has_equal_cost_by_degree


def test_distance_from_the_loss_is_to_the_nearest_exit() -> None:
    pattern = find_template("chain").build(6)
    network = NetworkConfig(layers=6, exits="every:2", transition="last")
    # Exits read layers 1 and 2, 3 and 4, and layer 6: the stem is two hops from the first, all others one or two.
    assert Candidate(pattern, network, 0).global_distance.from_loss_mean == (2 + 1 + 1 + 1 + 1 + 2 + 1) / 7
    without = Candidate(pattern, NetworkConfig(layers=6, transition="last"), 0).global_distance
    assert without.from_loss_mean == (7 + 6 + 5 + 4 + 3 + 2 + 1) / 7
    assert Candidate(pattern, network, 0).global_distance.mean == without.mean


def test_with_the_last_exit_only_the_network_is_what_it_was() -> None:
    candidate = Candidate(find_template("log").build(4), NetworkConfig(layers=4, exits="last"), 0)
    assert isinstance(build_network(candidate), SkipNetwork)
    assert not candidate.network.has_layout
    assert candidate.network.identify() == NetworkConfig(layers=4).identify()
    assert "exits" not in candidate.network.identify()
