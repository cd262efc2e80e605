"""Networks: the built module against a second forward pass, who reads whom, initial weights a seed fixes."""

import itertools
from collections.abc import Callable
from typing import Any, cast

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nas.model.candidate import Candidate
from nas.model.config import NetworkConfig
from nas.model.network import Block, SkipNetwork, build_skip_network
from search_spaces.budget import Budget, log_budget
from search_spaces.errors import InputError
from search_spaces.sampling.draw import sample_uniform
from search_spaces.seeds import derive_generator
from search_spaces.templates import find_template

pytestmark = pytest.mark.usefixtures("one_thread")


def draw_candidate(budget: Budget, number: int = 0, seed: int = 0, **values: Any) -> Candidate:
    pattern = sample_uniform(budget, derive_generator("network", number))
    return Candidate(pattern, NetworkConfig(layers=budget.depth, **values), seed)


def build_random(candidate: Candidate) -> SkipNetwork:
    """The network in float64 with every scale, shift and running statistic away from its start."""
    network = build_skip_network(candidate).double()
    generator = torch.Generator().manual_seed(5)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            for tensor in (module.weight, module.bias, module.running_mean, module.running_var):
                assert tensor is not None
                drawn = torch.rand(tensor.shape, generator=generator, dtype=torch.float64)
                tensor.data.copy_(drawn - 0.2 if tensor is not module.running_var else drawn + 0.5)
    network.classifier.bias.data.normal_(generator=generator)
    return network


def draw_images(candidate: Candidate, n_images: int = 5) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(n_images, *candidate.network.image, generator=generator, dtype=torch.float64)


def forward_by_hand(candidate: Candidate, state: dict[str, Tensor], images: Tensor, training: bool) -> Tensor:
    """The network once more, from the definition: plain functions on the module's own weights, in one loop."""

    def norm_relu(x: Tensor, name: str) -> Tensor:
        if training:
            mean, variance = x.mean(dim=(0, 2, 3)), x.var(dim=(0, 2, 3), correction=0)
        else:
            mean, variance = state[f"{name}.running_mean"], state[f"{name}.running_var"]
        scale = state[f"{name}.weight"] / (variance + 1e-5).sqrt()
        x = (x - mean[:, None, None]) * scale[:, None, None] + state[f"{name}.bias"][:, None, None]
        return x.clamp(min=0)

    def read(nodes: list[Tensor], sources: tuple[int, ...]) -> Tensor:
        return torch.cat([nodes[source] for source in sorted(sources)], dim=1)

    def last_of(prefix: str) -> str:
        return max(name for name in state if name.startswith(prefix)).rpartition(".")[0]

    nodes: list[Tensor] = []
    x = F.conv2d(images, state["stem.weight"], padding=1)
    for block in range(candidate.network.blocks):
        nodes = [x]
        for index, sources in enumerate(candidate.pattern.sources):
            prefix = f"blocks.{block}.layers.{index}."
            y = norm_relu(read(nodes, sources), f"{prefix}1")
            if candidate.network.layer == "bottleneck":
                y = norm_relu(F.conv2d(y, state[f"{prefix}3.weight"]), f"{prefix}4")
            nodes.append(F.conv2d(y, state[f"{last_of(prefix)}.weight"], padding=1))
        if block < candidate.network.blocks - 1:
            y = norm_relu(read(nodes, candidate.wiring.read), f"transitions.{block}.1")
            y = F.conv2d(y, state[f"transitions.{block}.3.weight"])
            rows, columns = y.shape[2] // 2, y.shape[3] // 2
            y = y[:, :, : 2 * rows, : 2 * columns].reshape(*y.shape[:2], rows, 2, columns, 2)
            x = y.sum(dim=(3, 5)) / 4
    pooled = norm_relu(read(nodes, candidate.wiring.read), "head.1").flatten(2).mean(dim=2)
    return pooled @ state["classifier.weight"].T + state["classifier.bias"]


SURROUNDINGS: list[dict[str, Any]] = [
    {},
    {"blocks": 3, "image": (3, 9, 7), "growth": 3},
    {"blocks": 2, "bottleneck": True, "transition": "all", "stem_channels": 6},
    {"blocks": 2, "transition": "last", "compression": 0.5, "classes": 3},
    {"blocks": 2, "bottleneck": True, "compression": 0.5, "growth": 5, "stem_channels": 2, "image": (2, 5, 8)},
]


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("values", SURROUNDINGS)
@pytest.mark.parametrize("budget", [Budget(1, total=1), log_budget(9), Budget(6, total=14)], ids=str)
def test_the_module_computes_the_definition(budget: Budget, values: dict[str, Any], training: bool) -> None:
    candidate = draw_candidate(budget, **values)
    network = build_random(candidate).train(training)
    state = {name: tensor.detach().clone() for name, tensor in network.state_dict().items()}
    images = draw_images(candidate)
    logits = network(images)
    assert logits.shape == (5, candidate.network.classes)
    expected = forward_by_hand(candidate, state, images, training)
    assert (logits - expected).abs().max() < 1e-10 * expected.abs().max()
    assert expected.std() > 1e-3


Functions = tuple[Callable[[Tensor, str], Tensor], dict[str, Tensor]]


def evaluated(network: SkipNetwork) -> Functions:
    """BN-ReLU by running statistics, as a plain function of a map and a module's name, and the weights."""
    state = {name: tensor.detach() for name, tensor in network.state_dict().items()}

    def norm_relu(x: Tensor, name: str) -> Tensor:
        scale = state[f"{name}.weight"] / (state[f"{name}.running_var"] + 1e-5).sqrt()
        shift = state[f"{name}.bias"] - state[f"{name}.running_mean"] * scale
        return F.relu(x * scale[:, None, None] + shift[:, None, None])

    return norm_relu, state


def pass_on(x: Tensor, number: int, functions: Functions) -> Tensor:
    """Transition `number` of a network, on the concatenation that it reads."""
    norm_relu, state = functions
    y = F.conv2d(norm_relu(x, f"transitions.{number}.1"), state[f"transitions.{number}.3.weight"])
    return F.avg_pool2d(y, 2)


def apply_layer(x: Tensor, name: str, functions: Functions) -> Tensor:
    """A bottleneck layer on the concatenation that it reads."""
    norm_relu, state = functions
    y = F.conv2d(norm_relu(x, f"{name}.1"), state[f"{name}.3.weight"])
    return F.conv2d(norm_relu(y, f"{name}.4"), state[f"{name}.6.weight"], padding=1)


def classify(x: Tensor, functions: Functions) -> Tensor:
    norm_relu, state = functions
    return F.linear(norm_relu(x, "head.1").mean(dim=(2, 3)), state["classifier.weight"], state["classifier.bias"])


CROSSING: dict[str, Any] = {"layers": 3, "blocks": 3, "growth": 2, "bottleneck": True, "stem_channels": 5}


@pytest.mark.parametrize("number", range(4))
def test_v1_computes_its_definition(number: int) -> None:
    """Node j in a later block is node j one block before, passed on by a transition of its own."""
    pattern = sample_uniform(Budget(9, total=22), derive_generator("v1", number))
    candidate = Candidate(pattern, NetworkConfig(**CROSSING, transition="v1", image=(3, 9, 12)), 0)
    network = build_random(candidate).eval()
    functions, images = evaluated(network), draw_images(candidate)
    nodes = {0: F.conv2d(images, functions[1]["stem.weight"], padding=1)}
    n_transitions = 0
    for block in range(3):
        for layer in range(3 * block + 1, 3 * block + 4):
            read = torch.cat([nodes[j] for j in pattern.sources[layer - 1]], dim=1)
            nodes[layer] = apply_layer(read, f"blocks.{block}.layers.{(layer - 1) % 3}", functions)
        if block < 2:
            needed = {j for inputs in pattern.sources[3 * block + 3 :] for j in inputs if j <= 3 * block + 3}
            for j in sorted(needed):
                nodes[j] = pass_on(nodes[j], n_transitions, functions)
                n_transitions += 1
    expected = classify(torch.cat([nodes[j] for j in (*pattern.sources[-1], 9)], dim=1), functions)
    assert n_transitions == len(network.transitions)
    assert (network(images) - expected).abs().max() < 1e-10 * expected.abs().max()
    assert expected.std() > 1e-3


@pytest.mark.parametrize("number", range(4))
def test_v2_computes_its_definition(number: int) -> None:
    """Every layer reads the summary of all finished blocks before the layers that its pattern names."""
    pattern = sample_uniform(Budget(3, total=4 + number % 3), derive_generator("v2", number))
    candidate = Candidate(pattern, NetworkConfig(**CROSSING, transition="v2", image=(3, 9, 12)), 0)
    network = build_random(candidate).eval()
    functions, images = evaluated(network), draw_images(candidate)
    summary = F.conv2d(images, functions[1]["stem.weight"], padding=1)
    for block in range(3):
        layers: dict[int, Tensor] = {}
        for layer, inputs in enumerate(pattern.sources, start=1):
            read = torch.cat([summary, *(layers[j] for j in inputs if j > 0)], dim=1)
            layers[layer] = apply_layer(read, f"blocks.{block}.layers.{layer - 1}", functions)
        if block < 2:
            old = pass_on(summary, 2 * block, functions)
            new = pass_on(torch.cat(list(layers.values()), dim=1), 2 * block + 1, functions)
            assert (old.shape[1], new.shape[1]) == (summary.shape[1], 2 * min(4, 3))
            summary = torch.cat([old, new], dim=1)
    read = torch.cat([summary, *(layers[j] for j in pattern.sources[-1] if j > 0), layers[3]], dim=1)
    expected = classify(read, functions)
    assert (network(images) - expected).abs().max() < 1e-10 * expected.abs().max()
    assert expected.std() > 1e-3


@pytest.mark.parametrize("template", ["dense", "midpoint", "chain"])
def test_the_module_computes_the_definition_under_the_rule_of_a_template(template: str) -> None:
    network_config = NetworkConfig(layers=6, blocks=2, transition="rule")
    candidate = Candidate(find_template(template).build(6), network_config, 0, template)
    network = build_random(candidate).eval()
    images = draw_images(candidate)
    expected = forward_by_hand(candidate, dict(network.state_dict()), images, training=False)
    assert (network(images) - expected).abs().max() < 1e-10 * expected.abs().max()


@pytest.mark.parametrize("bottleneck", [False, True])
@pytest.mark.parametrize("number", range(4))
def test_a_layer_reads_its_sources_and_no_other_node(number: int, bottleneck: bool) -> None:
    candidate = draw_candidate(Budget(8, total=19), number, bottleneck=bottleneck)
    block = cast(Block, build_random(candidate).train().blocks[0])
    for layer, sources in enumerate(candidate.pattern.sources, start=1):
        nodes = [torch.randn(3, 4, 5, 5, dtype=torch.float64, requires_grad=True) for _ in range(9)]
        (block.layers[layer - 1](nodes) ** 2).sum().backward()
        reached = {node for node, x in enumerate(nodes) if x.grad is not None and bool((x.grad != 0).any())}
        assert reached == set(sources)
        # What a layer does not read may be anything.
        hidden = [x.detach() if node in sources else torch.full_like(x, torch.nan) for node, x in enumerate(nodes)]
        assert torch.isfinite(block.layers[layer - 1](hidden)).all()


@pytest.mark.parametrize("number", range(3))
def test_cutting_a_nodes_readers_cuts_its_gradient(number: int) -> None:
    """With the weights of some connections at zero, gradients flow exactly along the paths that are left."""
    candidate = draw_candidate(Budget(7, total=16), number)
    block = cast(Block, build_random(candidate).eval().blocks[0])
    generator = derive_generator("cut", number)
    kept = {pair for pair in candidate.pattern.connections if generator.random() < 0.5}
    for layer, sources in enumerate(candidate.pattern.sources, start=1):
        *_, convolution = cast(nn.Sequential, block.layers[layer - 1])
        weight = cast(nn.Conv2d, convolution).weight.data
        for place, source in enumerate(sources):
            if (source, layer) not in kept:
                weight[:, 4 * place : 4 * place + 4] = 0
    x = torch.randn(2, 4, 6, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(2), requires_grad=True)
    features = block(x)
    connected = {(node, node) for node in range(8)}
    for layer in range(1, 8):
        sources = tuple(source for source, target in kept if target == layer)
        connected |= {(node, layer) for node in range(layer) if any((node, source) in connected for source in sources)}
    for node, layer in itertools.combinations(range(8), 2):
        (gradient,) = torch.autograd.grad(
            (features[layer] ** 2).sum(), features[node], retain_graph=True, allow_unused=True
        )
        assert (gradient is not None and bool((gradient != 0).any())) == ((node, layer) in connected)


def test_every_block_but_the_last_halves_the_image_and_writes_growth() -> None:
    candidate = draw_candidate(log_budget(4), blocks=3, image=(3, 9, 14))
    network = build_skip_network(candidate)
    shapes = []
    for block in network.blocks:
        block.register_forward_hook(lambda _, inputs, __: shapes.append(tuple(inputs[0].shape)))
    assert network(torch.zeros(2, 3, 9, 14)).shape == (2, 10)
    assert shapes == [(2, 4, 9, 14), (2, 4, 4, 7), (2, 4, 2, 3)]
    assert len(network.transitions) == 2


def test_the_rule_needs_a_named_template() -> None:
    with pytest.raises(InputError, match="no named template"):
        build_skip_network(draw_candidate(log_budget(4), transition="rule"))


# --- initial weights ---------------------------------------------------------------------------------------------


def weights_of(candidate: Candidate) -> dict[str, Tensor]:
    return {name: weight.detach() for name, weight in build_skip_network(candidate).named_parameters()}


SHARED = {"blocks": 2, "bottleneck": True}


def test_one_seed_gives_every_pattern_of_a_per_layer_budget_the_same_weights() -> None:
    first, second = (draw_candidate(log_budget(9), number, seed=3, **SHARED) for number in (0, 1))
    assert first.pattern != second.pattern
    weights, others = weights_of(first), weights_of(second)
    assert weights.keys() == others.keys()
    assert all(torch.equal(weights[name], others[name]) for name in weights)


def test_one_seed_gives_the_same_weights_wherever_shapes_agree() -> None:
    """Neither the layers before nor other blocks move a layer's stream."""
    first, second = (draw_candidate(Budget(9, total=25), number, seed=3, **SHARED) for number in (0, 1))
    assert first.pattern.in_degrees != second.pattern.in_degrees
    weights, others = weights_of(first), weights_of(second)
    assert weights.keys() == others.keys()
    alike = {name for name in weights if weights[name].shape == others[name].shape}
    assert {"stem.weight", "transitions.0.3.weight", "classifier.weight", "blocks.1.layers.8.6.weight"} <= alike
    assert alike < weights.keys()
    assert all(torch.equal(weights[name], others[name]) for name in alike)


def test_another_seed_gives_other_weights_everywhere() -> None:
    first, second = (weights_of(draw_candidate(log_budget(9), seed=seed, **SHARED)) for seed in (3, 4))
    drawn = [name for name, weight in first.items() if weight.ndim > 1]
    assert len(drawn) == 1 + 2 * 9 * 2 + 1 + 1  # stem, two of each layer, transition, classifier
    assert not any((first[name] == second[name]).any() for name in drawn)


def test_no_two_modules_of_a_network_share_weights() -> None:
    weights = weights_of(draw_candidate(log_budget(9), **SHARED))
    starts = [tuple(weight.flatten()[:4].tolist()) for weight in weights.values() if weight.ndim > 1]
    assert len(set(starts)) == len(starts)


def test_building_again_gives_the_same_weights() -> None:
    candidate = draw_candidate(log_budget(5), seed=7)
    torch.manual_seed(1)
    first = weights_of(candidate)
    torch.manual_seed(2)
    again = weights_of(candidate)
    assert all(torch.equal(first[name], again[name]) for name in first)


def test_weights_have_the_variance_of_their_fan_in() -> None:
    candidate = draw_candidate(log_budget(5), growth=32, bottleneck=True, blocks=2, classes=100)
    network = build_skip_network(candidate)
    n_checked = 0
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            weight = module.weight.detach().double()
            if isinstance(module, nn.Conv2d):
                expected = 2 / (module.in_channels * module.kernel_size[0] * module.kernel_size[1])
            else:
                expected = 1 / module.in_features
            # The variance of n normal draws has a relative standard error of sqrt(2 / n), the mean sqrt(v / n).
            n = weight.numel()
            assert abs(float(weight.var()) / expected - 1) < 5 * (2 / n) ** 0.5
            assert abs(float(weight.mean())) < 5 * (expected / n) ** 0.5
            assert float(weight.abs().max()) > 2.5 * expected**0.5  # a uniform draw ends at sqrt(3)
            n_checked += 1
        elif isinstance(module, nn.BatchNorm2d):
            assert bool((module.weight == 1).all() and (module.bias == 0).all())
    assert n_checked == 1 + 2 * 5 * 2 + 1 + 1
    assert bool((network.classifier.bias == 0).all())


def test_building_leaves_the_global_generator_alone() -> None:
    before = torch.get_rng_state()
    build_skip_network(draw_candidate(log_budget(5)))
    assert torch.equal(torch.get_rng_state(), before)
