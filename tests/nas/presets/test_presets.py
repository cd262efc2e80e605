"""The papers' networks: published counts, counts by hand, a plain reference's logits under torchvision's names."""

import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from nas.model.candidate import Candidate, NetworkConfig
from nas.model.cost import Cost, predict_cost
from nas.model.network import build_skip_network
from nas.presets.densenet import rename_densenet
from nas.presets.recipes import RECIPES
from nas.presets.registry import PRESETS, expand_names, find_preset
from search_spaces.errors import InputError
from search_spaces.rules import loglog_across
from search_spaces.templates import find_template
from search_spaces.wiring.blocks import global_distance

# DenseNet's paper in millions; those of ImageNet exactly, as everybody's implementation has them.
MILLIONS = {
    "densenet-40-12": "1.0",
    "densenet-100-12": "7.0",
    "densenet-bc-100-12": "0.8",
    "densenet-bc-250-24": "15.3",
    "densenet-bc-190-40": "25.6",
}
EXACT = {
    "densenet-bc-100-12": 769_162,
    "densenet-121": 7_978_856,
    "densenet-169": 14_149_480,
    "densenet-201": 20_013_928,
}


def count_densenet(
    block_layers: tuple[int, ...], growth: int, stem: tuple[int, int], bottleneck: bool, classes: int
) -> int:
    """Parameters of a DenseNet with three input channels, in one loop over the paper's table 1.

    Args:
        stem: channels and kernel; the large one has a normalisation.
    """
    channels, kernel = stem
    n = 3 * channels * kernel**2 + (2 * channels if kernel == 7 else 0)
    for block, layers in enumerate(block_layers):
        for _ in range(layers):
            if bottleneck:
                n += 2 * channels + channels * 4 * growth + 2 * 4 * growth + 9 * 4 * growth * growth
            else:
                n += 2 * channels + 9 * channels * growth
            channels += growth
        if block < len(block_layers) - 1:
            written = channels // 2 if bottleneck else channels
            n += 2 * channels + channels * written
            channels = written
    return n + 2 * channels + (channels + 1) * classes


DENSENETS: dict[str, tuple[Any, ...]] = {
    "densenet-40-12": ((12,) * 3, 12, (16, 3), False, 10),
    "densenet-100-12": ((32,) * 3, 12, (16, 3), False, 10),
    "densenet-bc-100-12": ((16,) * 3, 12, (24, 3), True, 10),
    "densenet-bc-250-24": ((41,) * 3, 24, (48, 3), True, 10),
    "densenet-bc-190-40": ((31,) * 3, 40, (80, 3), True, 10),
    "densenet-121": ((6, 12, 24, 16), 32, (64, 7), True, 1000),
    "densenet-169": ((6, 12, 32, 32), 32, (64, 7), True, 1000),
    "densenet-201": ((6, 12, 48, 32), 32, (64, 7), True, 1000),
}


def test_the_presets_are_those_of_the_papers_grids() -> None:
    placed = {(n, g) for n in (12, 32, 52) for g in (16, 24, 32)}
    assert {f"log-densenet-{v}-{n}-{g}" for v in ("v1", "v2") for n, g in placed} <= PRESETS.keys()
    assert {f"loglog-densenet-{n}-{g}" for n, g in placed} <= PRESETS.keys()
    assert len(PRESETS) == len(DENSENETS) + 3 * len(placed)


@pytest.mark.parametrize("name", DENSENETS)
def test_densenets_have_the_published_number_of_parameters(name: str) -> None:
    params = predict_cost(find_preset(name).candidate).params
    assert params == count_densenet(*DENSENETS[name])
    assert params == EXACT.get(name, params)
    if name in MILLIONS:
        assert f"{params / 1e6:.1f}" == MILLIONS[name]


@pytest.mark.parametrize("name", ["densenet-40-12", "log-densenet-v1-12-16", "log-densenet-v2-12-16", "densenet-121"])
def test_what_is_built_has_what_is_predicted(name: str) -> None:
    candidate = find_preset(name).candidate
    network = build_skip_network(candidate)  # which asserts it, too
    assert sum(weights.numel() for weights in network.parameters()) == predict_cost(candidate).params
    assert network.eval()(torch.zeros(1, 3, 32, 32)).shape == (1, candidate.network.classes)


# --- small cases by hand -----------------------------------------------------------------------------------------

SMALL: dict[str, Any] = {"layers": 2, "blocks": 2, "growth": 3, "bottleneck": True, "stem_channels": 6, "classes": 5}


def layer(n_read: int) -> int:
    """Parameters of a bottleneck layer of growth 3: BN, 1x1 to 12, BN, 3x3 to 3."""
    return 2 * n_read + n_read * 12 + 2 * 12 + 12 * 3 * 9


def transition(n_read: int, n_written: int) -> int:
    return 2 * n_read + n_read * n_written


def test_v1_counted_by_hand() -> None:
    """Four layers over two blocks; N(1) = {0}, N(2) = {0, 1}, N(3) = {1, 2}, N(4) = {0, 2, 3}."""
    network = NetworkConfig(**SMALL, transition="v1", image=(1, 4, 4))
    candidate = Candidate(find_template("log").build(4), network, 0, "log")
    assert candidate.pattern.sources == ((0,), (0, 1), (1, 2), (0, 2, 3))
    params = (
        1 * 6 * 9  # stem
        + layer(6)  # layer 1 reads the stem
        + layer(6 + 3)  # layer 2
        + transition(6, 6)  # the stem's output is read by layer 4
        + transition(3, 3)  # layer 1 by layer 3
        + transition(3, 3)  # layer 2 by layers 3 and 4
        + layer(3 + 3)  # layer 3 reads 1 and 2, brought over
        + layer(6 + 3 + 3)  # layer 4 reads 0, 2 and 3
        + 2 * (6 + 3 + 3 + 3)  # classifier: layer 4 and what it reads
        + (6 + 3 + 3 + 3) * 5
        + 5
    )
    flops = (
        2 * 16 * (1 * 6 * 9 + (6 * 12 + 12 * 3 * 9) + (9 * 12 + 12 * 3 * 9) + 6 * 6 + 3 * 3 + 3 * 3)
        + 2 * 4 * ((6 * 12 + 12 * 3 * 9) + (12 * 12 + 12 * 3 * 9))
        + 2 * 15 * 5
    )
    assert (params, flops) == (2096, 37014)
    assert predict_cost(candidate) == Cost(params, flops)
    assert sum(weights.numel() for weights in build_skip_network(candidate).parameters()) == params


def test_v2_counted_by_hand() -> None:
    """Two layers a block; three summarised layers at most, floor(log2(4 + 1)) + 1, and a block has two."""
    network = NetworkConfig(**SMALL, transition="v2", image=(1, 4, 4))
    candidate = Candidate(find_template("log").build(2), network, 0, "log")
    params = (
        1 * 6 * 9  # stem, the first summary
        + layer(6)  # layer 1 reads the summary
        + layer(6 + 3)  # layer 2 the summary and layer 1
        + transition(6, 6)  # the old summary
        + transition(3 + 3, 6)  # the block's layers, compressed to min(3 x 3, 2 x 3) channels
        + layer(6 + 6)
        + layer(6 + 6 + 3)
        + 2 * (6 + 6 + 3 + 3)  # classifier: the last layer and what it reads
        + (6 + 6 + 3 + 3) * 5
        + 5
    )
    assert params == 2261
    assert predict_cost(candidate).params == params
    assert sum(weights.numel() for weights in build_skip_network(candidate).parameters()) == params


def test_v2_compresses_a_block_to_log_many_layers() -> None:
    network = find_preset("log-densenet-v2-52-24").network
    wiring = find_preset("log-densenet-v2-52-24").candidate.wiring
    n_summarised = math.floor(math.log2(3 * 52 + 1)) + 1
    assert [block.inputs for block in wiring.blocks] == [
        (48,), (48, 24 * n_summarised), (48 + 24 * n_summarised, 24 * n_summarised)
    ]  # fmt: skip
    assert network.stem_channels == 48


def test_v1_s_distances_go_through_its_transitions() -> None:
    """Layer 4 to layer 1 in the hand-made case: 4 -> 2 brought over -> 2 -> 1, or over 3 and 1 brought over: 3 hops."""
    candidate = Candidate(find_template("log").build(4), NetworkConfig(**SMALL, transition="v1", image=(1, 4, 4)), 0)
    # By hand, from layers 1..4 back to all before: 1; 1 1; to 2, 1, 0: 2 2 3; to 3, 2, 1, 0: 1 2 3 2.
    assert global_distance(candidate.wiring).mean == (1 + 1 + 1 + 2 + 2 + 3 + 1 + 2 + 3 + 2) / 10
    # The classifier reads 4, 3 and, brought over, 2 and 0: layer 1 is 3 hops away behind 3 or 2.
    assert global_distance(candidate.wiring).from_loss_mean == (1 + 1 + 2 + 2 + 3) / 5


# --- LogLog-DenseNet ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("layers", [12, 32, 52])
def test_loglog_forces_block_ends_and_four_inputs(layers: int) -> None:
    pattern = loglog_across((layers,) * 3)
    ends = [0, layers, 2 * layers, 3 * layers]
    for n_before, end in enumerate(ends[1:], start=1):
        assert set(ends[:n_before]) <= set(pattern.sources[end - 1])
    assert all(degree >= min(4, layer) for layer, degree in enumerate(pattern.in_degrees, start=1))
    candidate = find_preset(f"loglog-densenet-{layers}-16").candidate
    assert candidate.pattern == pattern
    assert candidate.network == find_preset(f"log-densenet-v1-{layers}-16").network


# --- a plain DenseNet, and its names ---------------------------------------------------------------------------


def reference_shapes(block_layers: tuple[int, ...], growth: int, classes: int) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the state dict of torchvision's DenseNet, counters of batches left out."""
    shapes: dict[str, tuple[int, ...]] = {}

    def norm(name: str, n: int) -> None:
        shapes.update({f"{name}.{part}": (n,) for part in ("weight", "bias", "running_mean", "running_var")})

    channels = 2 * growth
    shapes["features.conv0.weight"] = (channels, 3, 7, 7)
    norm("features.norm0", channels)
    for block, layers in enumerate(block_layers, start=1):
        for number in range(1, layers + 1):
            name = f"features.denseblock{block}.denselayer{number}"
            norm(f"{name}.norm1", channels)
            shapes[f"{name}.conv1.weight"] = (4 * growth, channels, 1, 1)
            norm(f"{name}.norm2", 4 * growth)
            shapes[f"{name}.conv2.weight"] = (growth, 4 * growth, 3, 3)
            channels += growth
        if block < len(block_layers):
            norm(f"features.transition{block}.norm", channels)
            shapes[f"features.transition{block}.conv.weight"] = (channels // 2, channels, 1, 1)
            channels //= 2
    norm("features.norm5", channels)
    shapes["classifier.weight"], shapes["classifier.bias"] = (classes, channels), (classes,)
    return shapes


def reference_logits(state: dict[str, Tensor], block_layers: tuple[int, ...], images: Tensor) -> Tensor:
    """DenseNet of the paper in plain functions on a state dict of torchvision's names."""

    def norm_relu(x: Tensor, name: str) -> Tensor:
        parts = [state[f"{name}.{part}"] for part in ("running_mean", "running_var", "weight", "bias")]
        return F.relu(F.batch_norm(x, parts[0], parts[1], parts[2], parts[3]))

    x = F.conv2d(images, state["features.conv0.weight"], stride=2, padding=3)
    x = F.max_pool2d(norm_relu(x, "features.norm0"), 3, stride=2, padding=1)
    for block, layers in enumerate(block_layers, start=1):
        for number in range(1, layers + 1):
            name = f"features.denseblock{block}.denselayer{number}"
            y = F.conv2d(norm_relu(x, f"{name}.norm1"), state[f"{name}.conv1.weight"])
            y = F.conv2d(norm_relu(y, f"{name}.norm2"), state[f"{name}.conv2.weight"], padding=1)
            x = torch.cat([x, y], dim=1)
        if block < len(block_layers):
            name = f"features.transition{block}"
            x = F.avg_pool2d(F.conv2d(norm_relu(x, f"{name}.norm"), state[f"{name}.conv.weight"]), 2)
    x = F.adaptive_avg_pool2d(norm_relu(x, "features.norm5"), 1).flatten(1)
    return F.linear(x, state["classifier.weight"], state["classifier.bias"])


@pytest.mark.parametrize("name", ["densenet-121", pytest.param("densenet-169", marks=pytest.mark.slow)])
def test_a_densenet_takes_torchvision_s_weights_and_gives_its_logits(name: str) -> None:
    block_layers = DENSENETS[name][0]
    generator = torch.Generator().manual_seed(0)
    state = {}
    for there, shape in reference_shapes(block_layers, 32, 1000).items():
        drawn = torch.randn(shape, generator=generator, dtype=torch.float64)
        fan_in = math.prod(shape[1:]) or 1
        state[there] = drawn.abs() + 0.5 if there.endswith("running_var") else drawn * (2 / fan_in) ** 0.5
    network = build_skip_network(find_preset(name).candidate).double().eval()
    ours = {rename_densenet(there): value for there, value in state.items()}
    counters = {here for here in network.state_dict() if here.endswith("num_batches_tracked")}
    assert {here: tuple(value.shape) for here, value in ours.items()} == {
        here: tuple(value.shape) for here, value in network.state_dict().items() if here not in counters
    }
    network.load_state_dict(ours, strict=False)
    images = torch.randn(2, 3, 64, 32, generator=generator, dtype=torch.float64)
    with torch.no_grad():
        expected, found = reference_logits(state, block_layers, images), network(images)
    assert expected.std() > 1e-3
    assert (found - expected).abs().max() < 1e-10 * expected.abs().max()


@pytest.mark.parametrize("name", ["features.conv1.weight", "classifier", "features.denseblock1.denselayer1.conv3"])
def test_other_names_are_refused(name: str) -> None:
    with pytest.raises(InputError, match="has no parameter"):
        rename_densenet(name)


# --- names as settings ------------------------------------------------------------------------------------------


def test_a_setting_beside_a_name_wins() -> None:
    values = expand_names({"network": "densenet-bc-100-12", "growth": 8, "recipe": "densenet", "epochs": 3})
    assert (values["layers"], values["growth"], values["compression"], values["transition"]) == (16, 8, 0.5, "all")
    assert (values["epochs"], values["lr"], values["batch_size"]) == (3, 0.1, 64)
    assert not {"network", "recipe", "image", "classes"} & values.keys()


@pytest.mark.parametrize(("values", "said"), [({"network": "x"}, "no network 'x'"), ({"recipe": "y"}, "no recipe 'y'")])
def test_unknown_names_are_told(values: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        expand_names(values)


@pytest.mark.parametrize(("name", "drops"), [("densenet", (150, 225)), ("log-densenet", (140, 210, 250))])
def test_the_papers_recipes_drop_the_learning_rate_at_the_papers_epochs(name: str, drops: tuple[int, ...]) -> None:
    from nas.training.train import find_rate

    recipe, n_steps = RECIPES[name], 781  # of an epoch of CIFAR-10 at 64 a batch
    assert (recipe.epochs, recipe.lr, recipe.batch_size) == (300, 0.1, 64)
    for epoch in range(300):
        expected = 0.1 ** sum(epoch >= drop for drop in drops)
        for step in (epoch * n_steps, (epoch + 1) * n_steps - 1):
            assert find_rate(step, 300 * n_steps, recipe.lr_drops) == pytest.approx(expected)
