"""Networks of sums: against networks written by hand, their costs, strengths and proxies."""

import itertools
from typing import Any, cast

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from nas.model.candidate import Candidate
from nas.model.config import NetworkConfig
from nas.model.cost import Cost, predict_cost
from nas.model.network import SkipNetwork, build_skip_network
from nas.model.proxies import PROXIES, Batch, measure_proxies
from nas.model.strengths import measure_strengths
from search_spaces.budget import Budget, log_budget
from search_spaces.sampling.draw import sample_uniform
from search_spaces.seeds import derive_generator
from search_spaces.templates import find_template
from search_spaces.wiring.blocks import global_distance

pytestmark = pytest.mark.usefixtures("one_thread")
SUMS = ("sum", "gated", "dwa")


def make_candidate(template: str, layers: int, **values: Any) -> Candidate:
    network = NetworkConfig.model_validate({"layers": layers, **values})
    return Candidate(find_template(template).build(network.pattern_depth), network, 0, template)


def draw_images(candidate: Candidate, n: int = 6) -> Tensor:
    generator = torch.Generator().manual_seed(2)
    return torch.randn(n, *candidate.network.image, generator=generator, dtype=torch.float64)


def normalise(x: Tensor) -> Tensor:
    """BN of a training step with scale 1 and shift 0, then ReLU."""
    mean, variance = x.mean(dim=(0, 2, 3), keepdim=True), x.var(dim=(0, 2, 3), correction=0, keepdim=True)
    return ((x - mean) / (variance + 1e-5).sqrt()).relu()


def run_residual(network: SkipNetwork, images: Tensor) -> Tensor:
    """A pre-activation residual stage (arXiv:1603.05027): x + conv(ReLU(BN(x))), by the network's weights."""
    weights = dict(network.named_parameters())
    x = F.conv2d(images, weights["stem.weight"], padding=1)
    for number in itertools.count():
        name = f"blocks.0.layers.{number}.3.weight"
        if name not in weights:
            break
        x = x + F.conv2d(normalise(x), weights[name], padding=1)
    return F.linear(normalise(x).mean(dim=(2, 3)), weights["classifier.weight"], weights["classifier.bias"])


def test_dense_with_sum_is_a_pre_activation_residual_stage() -> None:
    candidate = make_candidate("dense", 9, merge="sum", growth=6, transition="all", image=(3, 8, 7))
    network = build_skip_network(candidate).double().train()
    images = draw_images(candidate)
    residual = run_residual(network, images)
    assert float(residual.detach().std()) > 0.1
    torch.testing.assert_close(network(images), residual, rtol=0, atol=1e-12)
    plain = build_skip_network(
        make_candidate("chain", 9, merge="sum", growth=6, transition="all", image=(3, 8, 7))
    ).double()
    assert float((plain(images) - residual).detach().abs().max()) > 0.1  # the connections matter


def test_a_gradient_is_that_of_the_residual_stage() -> None:
    candidate = make_candidate("dense", 5, merge="sum", transition="all")
    network = build_skip_network(candidate).double().train()
    images = draw_images(candidate)
    gradients = [
        torch.autograd.grad(logits.square().sum(), list(network.stem.parameters()))[0]
        for logits in (network(images), run_residual(network, images))
    ]
    torch.testing.assert_close(gradients[0], gradients[1], rtol=1e-10, atol=1e-12)


def test_dwa_starts_as_the_chain_of_plain_layers() -> None:
    candidate = make_candidate("dense", 6, merge="dwa", transition="all")
    network = build_skip_network(candidate).double().train()
    weights, images = dict(network.named_parameters()), draw_images(candidate)
    x = F.conv2d(images, weights["stem.weight"], padding=1)
    for layer in range(6):
        x = F.conv2d(normalise(x), weights[f"blocks.0.layers.{layer}.3.weight"], padding=1)
    expected = F.linear(normalise(x).mean(dim=(2, 3)), weights["classifier.weight"], weights["classifier.bias"])
    torch.testing.assert_close(network(images), expected, rtol=0, atol=1e-12)


def test_with_sum_chain_log_and_dense_have_equal_parameters_and_flops() -> None:
    costs = {predict_cost(make_candidate(name, 24, merge="sum")) for name in ("chain", "log", "dense")}
    assert len(costs) == 1
    other = {predict_cost(make_candidate(name, 24)) for name in ("chain", "log", "dense")}
    assert len(other) == 3


def test_dense_dwa_of_48_layers_has_the_published_number_of_scalars() -> None:
    network = build_skip_network(make_candidate("dense", 48, merge="dwa", transition="all", growth=2))
    scalars = {name: weight.numel() for name, weight in network.named_parameters() if name.endswith(".0.weight")}
    # DenseFormer counts what each of its d blocks is followed by: i + 1 scalars after block i, the last of which the
    # classifier reads. Here they stand before layer i + 1; the one scalar of layer 1 has no counterpart there.
    assert scalars.pop("blocks.0.layers.0.0.weight") == 1
    assert len(scalars) == 48
    assert sum(scalars.values()) == 48 * 51 // 2


def test_scalars_are_one_a_connection_and_one_for_each_node_that_is_read_after() -> None:
    by_merge = {merge: predict_cost(make_candidate("log", 12, merge=merge)).params for merge in SUMS}
    candidate = make_candidate("log", 12)
    n_scalars = candidate.pattern.n_connections + len(candidate.reads)
    assert by_merge["gated"] == by_merge["dwa"] == by_merge["sum"] + n_scalars


SURROUNDINGS: list[dict[str, Any]] = [
    {"merge": "sum"},
    {"merge": "gated", "blocks": 3, "growth": 5, "layer": "bottleneck", "image": (3, 9, 7)},
    {"merge": "dwa", "blocks": 2, "transition": "all", "layer": "depthwise"},
    {"merge": "sum", "blocks": 2, "transition": "last", "drop_layers": 0.5},
    {"merge": "concat", "blocks": 2, "layer": "depthwise"},
    {"merge": "dwa", "blocks": 2, "transition": "v2"},
    {"merge": "sum", "blocks": 2, "transition": "v1", "layers": 6},
    {"merge": "gated", "large_stem": True, "image": (3, 32, 32), "blocks": 2, "block_layers": (12, 5)},
]


def measure_cost(candidate: Candidate) -> Cost:
    """Params counted on the built network, FLOPs by torch on one image."""
    network = build_skip_network(candidate).eval()
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        network(torch.zeros(1, *candidate.network.image))
    return Cost(sum(parameter.numel() for parameter in network.parameters()), counter.get_total_flops())


@pytest.mark.parametrize("values", SURROUNDINGS, ids=str)
def test_prediction_equals_what_torch_counts(values: dict[str, Any]) -> None:
    candidate = make_candidate("log", **{"layers": 12, **values})
    assert predict_cost(candidate) == measure_cost(candidate)
    assert global_distance(candidate.wiring).mean > 1


@pytest.mark.parametrize("values", SURROUNDINGS[:5], ids=str)
@pytest.mark.parametrize("budget", [log_budget(12), Budget(12, total=37)], ids=str)
def test_patterns_of_one_budget_cost_the_same(values: dict[str, Any], budget: Budget) -> None:
    generator = derive_generator("equal cost of sums", str(budget))
    network = NetworkConfig.model_validate({"layers": 12, **values})
    candidates = [Candidate(sample_uniform(budget, generator), network, 0) for _ in range(20)]
    assert network.has_equal_cost
    assert len({predict_cost(candidate) for candidate in candidates}) == 1


def test_a_depthwise_layer_counted_on_paper() -> None:
    network = NetworkConfig(layers=1, growth=2, layer="depthwise", image=(1, 3, 5), classes=2)
    candidate = Candidate(find_template("chain").build(1), network, 0)
    params = 1 * 2 * 9 + (2 * 2 + 2 * 9 + 2 * 2) + (2 * 4 + 4 * 2 + 2)  # stem, layer, classifier
    flops = 2 * 15 * (1 * 2 * 9 + 2 * 9 + 2 * 2) + 2 * 4 * 2
    assert predict_cost(candidate) == Cost(params, flops) == measure_cost(candidate)


@pytest.mark.parametrize("merge", ["concat", "sum"])
def test_a_depthwise_layer_filters_each_channel_and_then_mixes(merge: str) -> None:
    candidate = make_candidate("dense", 3, layer="depthwise", growth=3, merge=merge)
    network = build_skip_network(candidate).double().train()
    layer = network.layers[2]
    nodes = {node: draw_images(candidate)[:, :1].expand(-1, 3, -1, -1) * (node + 1) + node for node in range(3)}
    nodes = {node: x + 0.1 * torch.sin(x * (node + 2)) for node, x in nodes.items()}
    parts = [nodes[node] for node in range(3)]
    x = normalise(torch.cat(parts, dim=1) if merge == "concat" else parts[0] + parts[1] + parts[2])
    first, second = (part.weight for part in layer if isinstance(part, nn.Conv2d))
    each = torch.cat([F.conv2d(x[:, c : c + 1], first[c : c + 1], padding=1) for c in range(x.shape[1])], dim=1)
    expected = torch.einsum("bchw,oc->bohw", each, second[:, :, 0, 0])
    torch.testing.assert_close(layer(nodes), expected, rtol=0, atol=1e-12)


def test_strengths_are_factors_and_a_sum_has_none() -> None:
    for merge in ("gated", "dwa"):
        candidate = make_candidate("log", 6, merge=merge, blocks=2)
        network = build_skip_network(candidate)
        generator = torch.Generator().manual_seed(0)
        expected: list[list[float]] = []
        for block in range(2):
            of_block = list[float]()
            for layer in range(6):
                weight = network.get_parameter(f"blocks.{block}.layers.{layer}.0.weight")
                weight.data.copy_(torch.randn(len(weight), generator=generator))
                of_block += (weight.sigmoid() if merge == "gated" else weight.abs()).tolist()
            expected.append(of_block)
        found = measure_strengths(network, candidate)
        assert [len(block) for block in found] == [candidate.pattern.n_connections] * 2
        for own, strengths in zip(found, expected, strict=True):
            assert own == pytest.approx(strengths, rel=1e-4)
    candidate = make_candidate("log", 6, merge="sum")
    assert measure_strengths(build_skip_network(candidate), candidate) == ()


def test_strengths_of_depthwise_layers_are_of_the_convolution_that_mixes() -> None:
    candidate = make_candidate("dense", 3, layer="depthwise", growth=3)
    network = build_skip_network(candidate)
    (found,) = measure_strengths(network, candidate)
    mixing = network.get_parameter("blocks.0.layers.2.4.weight").detach().abs().mean(dim=(0, 2, 3))
    assert found[-3:] == pytest.approx(mixing.reshape(3, 3).mean(dim=1).tolist(), rel=1e-4)


@pytest.mark.parametrize("merge", SUMS)
def test_proxies_are_finite_and_tell_patterns_apart_where_the_networks_differ(merge: str) -> None:
    values: dict[str, Any] = {"merge": merge, "growth": 3, "image": (1, 4, 4), "classes": 3}
    candidates = [make_candidate(name, 5, **values) for name in ("chain", "dense")]
    batch = Batch(draw_images(candidates[0]), torch.arange(6) % 3)
    rows = [measure_proxies(candidate, batch, 1) for candidate in candidates]
    assert all(value is not None for row in rows for value in row.values())
    for name in PROXIES:
        assert (rows[0][name] == pytest.approx(rows[1][name], rel=1e-9)) == (merge == "dwa")  # dwa starts as the chain


def test_synflow_of_a_sum_is_that_of_all_weights_by_hand() -> None:
    candidate = make_candidate("dense", 3, merge="sum", growth=2, image=(1, 4, 4), classes=3)
    network = build_skip_network(candidate).double()
    weights = {name: weight.detach().abs().requires_grad_() for name, weight in network.named_parameters()}
    nodes = [F.conv2d(torch.ones(1, 1, 4, 4, dtype=torch.float64), weights["stem.weight"], padding=1)]
    for layer in range(3):
        summed = sum(nodes[1:], start=nodes[0])
        nodes.append(F.conv2d(summed, weights[f"blocks.0.layers.{layer}.3.weight"], padding=1))
    read = sum((nodes[node] for node in candidate.reads), start=torch.zeros_like(nodes[0]))
    total = F.linear(read.mean(dim=(2, 3)), weights["classifier.weight"]).sum()
    used = [weight for name, weight in weights.items() if weight.ndim > 1]
    flows = torch.autograd.grad(total, used)
    expected = sum(float((flow * weight).detach().abs().sum()) for flow, weight in zip(flows, used, strict=True))
    batch = Batch(draw_images(candidate), torch.arange(6) % 3)
    value = cast(float, measure_proxies(candidate, batch, 0, ["synflow"])["synflow"])
    assert value == pytest.approx(float(torch.tensor(expected, dtype=torch.float64).log()), rel=1e-9)
