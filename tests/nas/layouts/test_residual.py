"""Residual and highway networks: a plain ResNet's logits, costs that no placement changes, distances, refusals."""

import itertools
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from nas.export.sources.layout import format_layout
from nas.layouts.fractal import FractalNet, expand_fractal
from nas.layouts.layout import measure_layout
from nas.layouts.residual import HighwayNet, ResNet
from nas.model.candidate import Candidate
from nas.model.config import NetworkConfig
from nas.model.cost import Cost, predict_cost
from nas.model.layout_network import build_layout_network
from nas.presets.registry import find_preset
from nas.records.checked import validate
from search_spaces.errors import InputError
from search_spaces.templates import find_template

pytestmark = pytest.mark.usefixtures("one_thread")
RESIDUAL = {"layers": 3, "blocks": 3, "growth": 4, "merge": "sum", "transition": "all", "image": (3, 8, 12)}
HIGHWAY = {**RESIDUAL, "transition": "last", "surroundings": HighwayNet()}


def make_candidate(template: str, **values: Any) -> Candidate:
    network = validate(NetworkConfig, {**RESIDUAL, "surroundings": ResNet(), **values})
    return Candidate(find_template(template).build(network.pattern_depth), network, 1, template)


def draw_weights(network: torch.nn.Module) -> dict[str, Tensor]:
    """Give a network random statistics and biases too, and return its weights."""
    generator = torch.Generator().manual_seed(0)
    for name, value in network.state_dict().items():
        if value.ndim == 1:  # scales, shifts, means, variances, biases
            value.copy_(torch.rand(len(value), generator=generator, dtype=value.dtype) + name.endswith("var"))
    return network.state_dict()


def rename_resnet(name: str) -> str:
    """Return the name here of a parameter of a plain residual network, whose shape is the same.

    | there | here |
    |---|---|
    | stem | nodes.stem.operations.0 |
    | S.U.norm1, conv1, norm2, conv2: unit U of stage S | nodes.blockS_layerU.operations.0, 2, 3, 5 |
    | norm | nodes.head.operations.0 |
    | classifier | nodes.head.operations.3 |
    """
    module, parameter = name.rsplit(".", 1)
    outside = {"stem": ("stem", 0), "norm": ("head", 0), "classifier": ("head", 3)}
    if module in outside:
        node, place = outside[module]
    else:
        stage, unit, part = module.split(".")
        node, place = f"block{stage}_layer{unit}", {"norm1": 0, "conv1": 2, "norm2": 3, "conv2": 5}[part]
    return f"nodes.{node}.operations.{place}.{parameter}"


def resnet_logits(weights: dict[str, Tensor], units: int, images: Tensor) -> Tensor:
    """A residual network with BN and ReLU first and shortcuts of option A, in plain functions: x + H(x)."""

    def get(name: str) -> Tensor:
        return weights[rename_resnet(name)]

    def norm_relu(x: Tensor, name: str) -> Tensor:
        parts = [get(f"{name}.{part}") for part in ("running_mean", "running_var", "weight", "bias")]
        return F.batch_norm(x, parts[0], parts[1], parts[2], parts[3]).relu()

    x = F.conv2d(images, get("stem.weight"), padding=1)
    for stage, unit in itertools.product(range(3), range(units)):
        name, stride = f"{stage}.{unit}", 2 if stage and not unit else 1
        y = F.conv2d(norm_relu(x, f"{name}.norm1"), get(f"{name}.conv1.weight"), stride=stride, padding=1)
        y = F.conv2d(norm_relu(y, f"{name}.norm2"), get(f"{name}.conv2.weight"), padding=1)
        if stride == 2:
            x = x[:, :, ::2, ::2]
            x = torch.cat([x, torch.zeros_like(x)], dim=1)
        x = x + y
    x = norm_relu(x, "norm").mean(dim=(2, 3))
    return F.linear(x, get("classifier.weight"), get("classifier.bias"))


def test_resnet_20_is_a_plain_residual_network() -> None:
    candidate = find_preset("resnet-20").candidate
    network = build_layout_network(candidate).double().eval()
    weights = draw_weights(network)
    images = torch.randn(2, 3, 32, 32, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        found, expected = network(images), resnet_logits(weights, 3, images)
    assert expected.std() > 1e-2
    assert float((found - expected).abs().max()) < 1e-10 * float(expected.abs().max())


def test_without_skips_and_shortcuts_it_is_plain() -> None:
    candidate = make_candidate("chain", transition="last")
    network = build_layout_network(candidate).double().eval()
    weights = draw_weights(network)
    images = torch.randn(2, 3, 8, 12, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    x = F.conv2d(images, weights["nodes.stem.operations.0.weight"], padding=1)
    nodes: Any = network.nodes
    for stage, unit in itertools.product(range(3), range(3)):
        x = nodes[f"block{stage}_layer{unit}"].operations(x)
    expected = nodes["head"].operations(x)
    # The shortcut, node 0, is read by nothing but layer 1, which enters from the block before instead.
    torch.testing.assert_close(network(images), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("values", [{}, HIGHWAY], ids=["resnet", "highway"])
@pytest.mark.parametrize("merge", ["sum", "dwa"])
def test_patterns_of_equal_budget_cost_the_same_and_sums_of_any(values: dict[str, Any], merge: str) -> None:
    costs = {
        name: predict_cost(make_candidate(name, **{**values, "layers": 5, "merge": merge}))
        for name in ("chain", "log", "nearest_log_i", "dense")
    }
    assert costs["log"] == costs["nearest_log_i"]
    assert len(set(costs.values())) == (1 if merge == "sum" else 3)
    assert make_candidate("log", **{**values, "merge": merge}).network.has_equal_cost


def test_the_highway_network_is_its_authors_own() -> None:
    """Layer for layer: 3x3 to 32, four highway layers, to 80, five, to 128, five, 1x1 to 100, and the classifier."""
    candidate = find_preset("highway-19").candidate
    network = build_layout_network(candidate).double().eval()
    gates = {name: value for name, value in network.named_parameters() if name.endswith("gate.bias")}
    assert len(gates) == 14
    assert all((value == -2).all() for value in gates.values())
    weights = iter(list(draw_weights(network).items()))
    images = torch.randn(2, 3, 32, 32, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    n_params = 0

    def take(*shape: int) -> Tensor:
        nonlocal n_params
        name, value = next(weights)
        assert tuple(value.shape) == shape, name
        n_params += value.numel()
        return value

    def convolve(x: Tensor, channels: int, kernel: int = 3) -> Tensor:
        return F.conv2d(x, take(channels, x.shape[1], kernel, kernel), take(channels), padding=kernel // 2)

    with torch.no_grad():
        x = images
        for width, n_layers in ((32, 4), (80, 5), (128, 5)):
            x = convolve(x if width == 32 else F.max_pool2d(x, 2), width).relu()
            for _ in range(n_layers):
                transformed, gate = convolve(x, width).relu(), convolve(x, width).sigmoid()
                x = transformed * gate + x * (1 - gate)
        x = convolve(x, 100, kernel=1).relu().mean(dim=(2, 3))
        expected = F.linear(x, take(10, 100), take(10))
        found = network(images)
    assert next(weights, None) is None
    assert n_params == predict_cost(candidate).params == 2_256_838  # the paper says about 2.3 million
    assert float((found - expected).abs().max()) < 1e-10 * float(expected.abs().max())
    assert expected.std() > 1e-2


def test_distances_are_applications_of_layers() -> None:
    candidate = make_candidate("chain", layers=2, blocks=2, transition="last")
    # stem, a1, a2; shortcut s reads a2; b1 reads a2, b2 reads b1; the head reads b2. b1 and b2 do not reach s.
    reads = {"a1": "stem", "a2": "a1", "s": "a2", "b1": "a2", "b2": "b1"}
    distances = []
    for name in reads:
        place, hops = name, 0
        while place in reads:
            place, hops = reads[place], hops + 1
            distances.append(hops)
    measured = measure_layout(candidate.layout)
    assert (measured.mean, measured.max) == (sum(distances) / len(distances), max(distances))
    assert measured.from_loss_mean == pytest.approx((1 + 2 + 3 + 4 + 5) / 5)  # b2, b1, a2, a1, stem; never s
    dense = measure_layout(make_candidate("dense", layers=2, blocks=1).layout)
    assert (dense.mean, dense.max, dense.from_loss_mean) == (1, 1, 1)


@pytest.mark.parametrize(
    ("values", "offending"),
    [
        ({"merge": "concat"}, "concat"),
        ({"stem_channels": 7}, "drop stem-channels"),
        ({"layer": "bottleneck"}, "drop layer"),
        ({"compression": 0.5}, "drop compression"),
        ({"transition": "v1"}, "transition v1"),
        ({"transition": "v2"}, "transition v2"),
        ({**HIGHWAY, "blocks": 4}, "4 blocks"),
    ],
)
def test_settings_that_do_not_go_together_are_refused(values: dict[str, Any], offending: str) -> None:
    with pytest.raises(InputError, match=offending):
        make_candidate("dense", **values)


def test_where_a_rule_says_how_many_nodes_leave_a_block_their_factors_cost_more() -> None:
    leftovers = set()
    for template, n_leaving in (("dense", 9), ("chain", 1)):
        candidate = make_candidate(template, layers=8, merge="gated", transition="rule")
        # Layer 1 of both later blocks and their shortcuts read what leaves; so does the head.
        n_factors = 3 * candidate.pattern.n_connections - 2 + 5 * n_leaving
        leftovers.add(predict_cost(candidate).params - n_factors)
        assert not candidate.network.has_equal_cost
        assert candidate.network.model_copy(update={"merge": "sum"}).has_equal_cost
    # What is left is the network of sums.
    plain = predict_cost(make_candidate("chain", layers=8, transition="rule")).params
    assert leftovers == {plain}


@pytest.mark.parametrize("surroundings", [ResNet(), HighwayNet(factors=(3, 4, 5), gate_bias=-1.0)])
def test_surroundings_survive_json(surroundings: Any) -> None:
    network = make_candidate("log", surroundings=surroundings).network
    assert validate(NetworkConfig, network.model_dump(mode="json")) == network


def test_an_image_that_halving_leaves_nothing_of_is_refused() -> None:
    candidate = make_candidate("chain", **{**HIGHWAY, "image": (3, 8, 2)})
    with pytest.raises(InputError, match="8x2"):
        predict_cost(candidate)


def test_model_py_is_the_same_network() -> None:
    candidates = [make_candidate("log", drop_layers=0.5), make_candidate("dense", **HIGHWAY)]
    fractal = FractalNet(leaves_chain_out=True)
    candidates.append(
        Candidate(expand_fractal(2).pattern, candidates[0].network.model_copy(update={"surroundings": fractal}), 0)
    )
    for candidate in candidates:
        program: dict[str, Any] = {"__file__": "model.py", "__name__": "model"}
        exec(format_layout(candidate), program)  # noqa: S102  the text is ours
        ours, theirs = build_layout_network(candidate).eval(), program["build_network"]().eval()
        theirs.load_state_dict(draw_weights(ours))
        images = torch.randn(2, *candidate.network.image, generator=torch.Generator().manual_seed(1))
        with torch.no_grad():
            assert torch.equal(theirs(images), ours(images))


def test_costs_are_those_of_torch() -> None:
    from torch.utils.flop_counter import FlopCounterMode

    for candidate in (make_candidate("log"), make_candidate("log", **HIGHWAY)):
        network = build_layout_network(candidate).eval()
        with FlopCounterMode(display=False) as counter:
            network(torch.zeros(1, *candidate.network.image))
        n_params = sum(value.numel() for value in network.parameters())
        assert Cost(n_params, counter.get_total_flops()) == predict_cost(candidate)
