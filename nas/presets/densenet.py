"""DenseNet's networks, and torchvision's names of their weights."""

import re
from collections.abc import Iterator, Mapping
from typing import Any, Literal

from nas.model.config import BOTTLENECK, NetworkConfig
from nas.presets.preset import CIFAR, IMAGENET, N_BLOCKS, Preset
from search_spaces.errors import InputError
from search_spaces.templates import find_template

DENSENET = "DenseNet, arXiv:1608.06993"
# Layers of each block, and growth; the number in a name counts every convolution and the classifier.
IMAGENET_SIZES: dict[int, tuple[tuple[int, ...], int]] = {
    121: ((6, 12, 24, 16), 32),
    161: ((6, 12, 36, 24), 48),
    169: ((6, 12, 32, 32), 32),
    201: ((6, 12, 48, 32), 32),
    264: ((6, 12, 64, 48), 32),
}


def list_densenets() -> Iterator[Preset]:
    """Yield DenseNet's networks: for 32x32 images, then for ImageNet."""
    yield _densenet("densenet-40-12", 12, 12, bottleneck=False)
    yield _densenet("densenet-100-12", 32, 12, bottleneck=False)
    yield _densenet("densenet-100-24", 32, 24, bottleneck=False)
    yield _densenet("densenet-bc-100-12", 16, 12, bottleneck=True)
    yield _densenet("densenet-bc-250-24", 41, 24, bottleneck=True)
    yield _densenet("densenet-bc-190-40", 31, 40, bottleneck=True)
    for depth, (block_layers, growth) in IMAGENET_SIZES.items():
        yield _densenet_imagenet(f"densenet-{depth}", block_layers, growth)


def _densenet(name: str, layers: int, growth: int, bottleneck: bool) -> Preset:
    """Return a DenseNet for 32x32 images; the L of its name counts every convolution and the classifier."""
    if bottleneck:
        network = make_bottleneck_network((layers,) * N_BLOCKS, growth, "all", CIFAR)
    else:
        network = NetworkConfig(
            layers=layers, blocks=N_BLOCKS, growth=growth, transition="all", stem_channels=16, compression=1.0, **CIFAR
        )
    return Preset(name, DENSENET, network, find_template("dense").build(layers), "dense")


def make_bottleneck_network(
    block_layers: tuple[int, ...], growth: int, transition: Literal["all", "log"], data: Mapping[str, Any]
) -> NetworkConfig:
    """Return the network around a pattern that DenseNet-BC and SparseNet share.

    Args:
        block_layers: number of layers of each block.
        growth: output channels of a layer; the stem has twice as many.
        transition: what a transition and the classifier read of a block.
        data: CIFAR or IMAGENET.
    """
    is_even = len(set(block_layers)) == 1
    return NetworkConfig(
        layers=max(block_layers),
        blocks=len(block_layers),
        block_layers=None if is_even else block_layers,
        growth=growth,
        layer=BOTTLENECK,
        transition=transition,
        stem_channels=2 * growth,
        compression=0.5,
        **data,
    )


def _densenet_imagenet(name: str, block_layers: tuple[int, ...], growth: int) -> Preset:
    network = make_bottleneck_network(block_layers, growth, "all", IMAGENET)
    return Preset(name, DENSENET, network, find_template("dense").build(network.layers), "dense")


def rename_densenet(name: str) -> str:
    """Return the name here of a parameter of torchvision's DenseNet, whose shape is the same.

    | there | here |
    |---|---|
    | features.conv0, features.norm0 | stem.0, stem.1 |
    | features.denseblockB.denselayerI.norm1, conv1, norm2, conv2 | blocks.(B-1).layers.(I-1).1, 3, 4, 6 |
    | features.transitionB.norm, conv | transitions.(B-1).1, 3 |
    | features.norm5 | head.1 |
    | classifier | classifier |

    Raises:
        InputError: torchvision has no such parameter.

    >>> rename_densenet("features.denseblock2.denselayer11.norm2.running_var")
    'blocks.1.layers.10.4.running_var'
    """
    module, _, parameter = name.rpartition(".")
    if module in _OUTSIDE:
        return f"{_OUTSIDE[module]}.{parameter}"
    layer = re.fullmatch(r"features\.denseblock(\d+)\.denselayer(\d+)\.(norm1|conv1|norm2|conv2)", module)
    if layer:
        place = {"norm1": 1, "conv1": 3, "norm2": 4, "conv2": 6}[layer[3]]
        return f"blocks.{int(layer[1]) - 1}.layers.{int(layer[2]) - 1}.{place}.{parameter}"
    transition = re.fullmatch(r"features\.transition(\d+)\.(norm|conv)", module)
    if transition:
        return f"transitions.{int(transition[1]) - 1}.{1 if transition[2] == 'norm' else 3}.{parameter}"
    raise InputError(f"torchvision's DenseNet has no parameter {name!r:.100}")


_OUTSIDE = {
    "features.conv0": "stem.0",
    "features.norm0": "stem.1",
    "features.norm5": "head.1",
    "classifier": "classifier",
}
