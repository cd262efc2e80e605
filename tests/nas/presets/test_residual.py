"""ResNet, stochastic depth, Highway and FractalNet by name: counts, kept layers, and what surrounds other patterns."""

import math
from typing import Any

import pytest

from nas.layouts.fractal import expand_fractal
from nas.model.cost import predict_cost
from nas.model.layout_network import LayoutNetwork, build_layout_network
from nas.presets.registry import expand_names, find_preset, read_network
from nas.presets.residual import list_residual_networks
from search_spaces.templates import find_template

EXACT = {
    "resnet-20": 269_722,
    "resnet-32": 464_154,
    "resnet-110": 1_727_962,
    "stochastic-depth-110": 1_727_962,
    "highway-19": 2_256_838,
    "fractalnet": 33_724_618,
}
DEPTHS = {"resnet-20": 20, "resnet-32": 32, "resnet-44": 44, "resnet-56": 56, "resnet-110": 110}


def count_resnet(depth: int) -> int:
    """Parameters of the paper's network of 6n + 2 layers, whose BN follows each convolution."""
    n = (depth - 2) // 6
    channels, total = 3, 0
    for width in (16, *[16] * 2 * n, *[32] * 2 * n, *[64] * 2 * n):
        total += 9 * channels * width + 2 * width
        channels = width
    return total + 64 * 10 + 10


def test_every_network_has_the_number_of_parameters_of_its_paper() -> None:
    params = {preset.name: predict_cost(preset.candidate).params for preset in list_residual_networks()}
    assert params == EXACT | {name: count_resnet(depth) for name, depth in DEPTHS.items()}


def test_stochastic_depth_expects_as_many_layers_as_the_paper_says() -> None:
    network: LayoutNetwork = build_layout_network(find_preset("stochastic-depth-110").candidate)
    n, n_draws = 54, 200
    kept = [1 - layer / n * 0.5 for layer in range(1, n + 1)]  # the last layer survives with 0.5
    assert sum(kept) == pytest.approx(40.25, rel=1e-12)
    layers: list[Any] = [module for name, module in network.nodes.items() if name.startswith("block")]
    assert [module.survival for module in layers] == pytest.approx(kept, rel=1e-12)
    n_kept = 0
    for step in range(n_draws):
        network.draw_drops(1, step)
        n_kept += sum(module.drop.keeps_output for module in layers)
    error = math.sqrt(sum(p * (1 - p) for p in kept) / n_draws)  # independent draws
    assert abs(n_kept / n_draws - 40.25) < 4 * error


def test_other_patterns_get_fractalnet_s_surroundings_with_their_chain() -> None:
    preset = find_preset("fractalnet")
    assert preset.pattern == expand_fractal(3).pattern
    assert preset.candidate.layout.nodes[4].reads == (1,)  # the second column's first layer reads the input only
    assert not expand_names({"network": "fractalnet"})["surroundings"].leaves_chain_out
    network = read_network(find_template("log").build(7), "fractalnet", {"growth": 2})
    assert (network.growth, network.blocks, network.drop_path) == (2, 5, 0.15)
    assert network.has_equal_cost
