"""CondenseNet's networks."""

from collections.abc import Iterator

from nas.layouts.condensed import CondenseNet
from nas.model.config import NetworkConfig
from nas.presets.preset import CIFAR, N_BLOCKS, Preset
from search_spaces.templates import find_template

CONDENSENET = "CondenseNet, arXiv:1711.09224"
COUNTED = "the paper's multiply-adds also count ReLU and pooling"


def list_condensenets() -> Iterator[Preset]:
    """Yield CondenseNet's networks: for 32x32 images, then for ImageNet, all with 4 groups and condensation 4.

    The number in a name counts every convolution and the classifier.
    """
    for layers in (8, 12, 14, 16, 18, 20):
        yield _condensenet(f"condensenet-{6 * layers + 2}", layers, 8)
    yield _condensenet("condensenet-182", 30, 12)
    block_layers = (4, 6, 8, 10, 8)
    network = NetworkConfig(
        layers=max(block_layers),
        blocks=len(block_layers),
        block_layers=block_layers,
        growth=8,
        transition="all",
        classes=1000,
        image=(3, 224, 224),
        surroundings=CondenseNet(stem_stride=2, condensed_classifier=True),
    )
    yield _make_preset("condensenet-imagenet-74", network)


def _condensenet(name: str, layers: int, growth: int) -> Preset:
    network = NetworkConfig(
        layers=layers, blocks=N_BLOCKS, growth=growth, transition="all", surroundings=CondenseNet(), **CIFAR
    )
    return _make_preset(name, network)


def _make_preset(name: str, network: NetworkConfig) -> Preset:
    pattern = find_template("dense").build(network.pattern_depth)
    return Preset(name, CONDENSENET, network, pattern, "dense", COUNTED)
