"""DenseNet's networks: published counts, and a plain reference's logits under torchvision's names."""

import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from nas.model.cost import predict_cost
from nas.model.network import build_skip_network
from nas.presets.densenet import list_densenets, rename_densenet
from nas.presets.registry import find_preset
from search_spaces.errors import InputError

# DenseNet's paper in millions; those of ImageNet exactly, as torchvision has them, 264 as other implementations do.
MILLIONS = {
    "densenet-40-12": "1.0",
    "densenet-100-12": "7.0",
    "densenet-100-24": "27.2",
    "densenet-bc-100-12": "0.8",
    "densenet-bc-250-24": "15.3",
    "densenet-bc-190-40": "25.6",
}
EXACT = {
    "densenet-bc-100-12": 769_162,
    "densenet-100-24": 27_249_082,
    "densenet-121": 7_978_856,
    "densenet-161": 28_681_000,
    "densenet-169": 14_149_480,
    "densenet-201": 20_013_928,
    "densenet-264": 33_337_704,
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
    "densenet-100-24": ((32,) * 3, 24, (16, 3), False, 10),
    "densenet-bc-100-12": ((16,) * 3, 12, (24, 3), True, 10),
    "densenet-bc-250-24": ((41,) * 3, 24, (48, 3), True, 10),
    "densenet-bc-190-40": ((31,) * 3, 40, (80, 3), True, 10),
    "densenet-121": ((6, 12, 24, 16), 32, (64, 7), True, 1000),
    "densenet-161": ((6, 12, 36, 24), 48, (96, 7), True, 1000),
    "densenet-169": ((6, 12, 32, 32), 32, (64, 7), True, 1000),
    "densenet-201": ((6, 12, 48, 32), 32, (64, 7), True, 1000),
    "densenet-264": ((6, 12, 64, 48), 32, (64, 7), True, 1000),
}


def test_the_networks_are_the_papers() -> None:
    assert {preset.name for preset in list_densenets()} == set(DENSENETS)


@pytest.mark.parametrize("name", DENSENETS)
def test_densenets_have_the_published_number_of_parameters(name: str) -> None:
    params = predict_cost(find_preset(name).candidate).params
    assert params == count_densenet(*DENSENETS[name])
    assert params == EXACT.get(name, params)
    if name in MILLIONS:
        assert f"{params / 1e6:.1f}" == MILLIONS[name]


# --- a plain DenseNet, and its names --------------------------------------------------------------------------------


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
