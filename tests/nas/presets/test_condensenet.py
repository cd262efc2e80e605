"""CondenseNet by name: the published sizes, counted a second way, and options in a name."""

from typing import Any

import pytest

from nas.layouts.condensed import CondenseNet
from nas.model.cost import predict_cost
from nas.presets.registry import expand_names, find_preset
from search_spaces.errors import InputError

CIFAR_GROWTH = (8, 16, 32)


def count(
    block_layers: tuple[int, ...], growth: tuple[int, ...], factor: int, classes: int, side: int, halve: bool = False
) -> tuple[int, int, int]:
    """Return parameters, multiply-adds, and what the authors count as well: ReLU and pooling.

    Args:
        factor: groups and condensation.
        side: of the stem's maps.
        halve: whether the classifier reads half of the channels.
    """
    n = 2 * growth[0]
    params, macs, others = 27 * n, 27 * n * side**2, 0
    for block, (layers, k) in enumerate(zip(block_layers, growth, strict=True)):
        for _ in range(layers):
            weights = n * 4 * k // factor + 4 * k * k * 9 // factor
            params += weights + 2 * n + 8 * k  # and the scales and shifts of BN
            macs += weights * side**2
            others += (n + 4 * k) * side**2
            n += k
        if block < len(block_layers) - 1:
            side //= 2
            others += n * side**2 * 4
    read = n // 2 if halve else n
    others += 2 * n * side**2  # the last ReLU and the mean
    return params + 2 * n + (read + 1) * classes, macs + read * classes, others


@pytest.mark.parametrize(
    ("name", "layers", "published"),
    [
        ("condensenet-50", 8, 216_506),
        ("condensenet-74", 12, 405_466),
        ("condensenet-86", 14, 520_202),
        ("condensenet-98", 16, None),
        ("condensenet-110", 18, None),
        ("condensenet-122", 20, None),
        ("condensenet-182", 30, None),
    ],
)
def test_cifar_sizes(name: str, layers: int, published: int | None) -> None:
    growth = (12, 24, 48) if name == "condensenet-182" else CIFAR_GROWTH
    params, macs, _ = count((layers,) * 3, growth, 4, 10, 32)
    cost = predict_cost(find_preset(name).candidate)
    assert (cost.params, cost.flops) == (params, 2 * macs)
    assert published in (None, params)
    assert int(name.rpartition("-")[2]) == 6 * layers + 2


@pytest.mark.parametrize(
    ("name", "factor", "published"),
    [
        ("condensenet-imagenet-74", 4, 4_773_944),
        ("condensenet-imagenet-74:groups=8,condensation=8", 8, 2_935_416),
    ],
)
def test_imagenet_sizes(name: str, factor: int, published: int) -> None:
    params, macs, others = count((4, 6, 8, 10, 8), (8, 16, 32, 64, 128), factor, 1000, 112, halve=True)
    cost = predict_cost(find_preset(name).candidate)
    assert cost.params == params == published
    assert cost.flops == 2 * macs
    assert round((macs + others) / 1e6) == {4: 529, 8: 274}[factor]  # published, with ReLU and pooling


def test_multiply_adds_of_86_are_the_published_ones_with_relu_and_pooling() -> None:
    _, _, others = count((14,) * 3, CIFAR_GROWTH, 4, 10, 32)
    assert predict_cost(find_preset("condensenet-86").candidate).flops // 2 + others == 65_816_384  # 65.8 M


def test_options_in_a_name_are_those_of_the_surroundings() -> None:
    preset = find_preset("condensenet-86:groups=8, condensation=2,lasso=1e-5,condensed_classifier=true")
    assert preset.network.surroundings == CondenseNet(groups=8, condensation=2, lasso=1e-5, condensed_classifier=True)
    assert preset.name.startswith("condensenet-86:groups=8")
    values = expand_names({"network": "condensenet-50:groups=2", "layers": 4, "growth": 6})
    assert (values["layers"], values["growth"], values["surroundings"].groups) == (4, 6, 2)


@pytest.mark.parametrize(
    "name",
    [
        "condensenet-87",
        "condensenet-86:",
        "condensenet-86:groups",
        "condensenet-86:groups=3",  # growth 8
        "condensenet-86:groups=0",
        "condensenet-86:groups=4,groups=8",
        "condensenet-86:groups=four",
        "condensenet-86:kind=condensenet",
        "condensenet-86:depth=3",
        "densenet-40-12:groups=4",
    ],
)
def test_names_of_no_network_are_refused(name: str) -> None:
    with pytest.raises(InputError, match=name.partition(":")[0]):
        find_preset(name)


def test_the_pattern_spans_all_blocks() -> None:
    preset = find_preset("condensenet-imagenet-74")
    values: dict[str, Any] = {"depth": preset.network.pattern_depth, "pattern": preset.pattern.depth}
    assert values == {"depth": 36, "pattern": 36}
    assert preset.candidate.patterns == (preset.pattern,)
