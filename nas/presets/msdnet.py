"""MSDNet's networks for 32x32 images."""

from collections.abc import Iterator

from nas.layouts.multiscale import MsdNet
from nas.model.config import NetworkConfig
from nas.presets.preset import CIFAR, Preset
from search_spaces.templates import find_template

MSDNET = "MSDNet, arXiv:1703.09844"


def list_msdnets() -> Iterator[Preset]:
    """Yield MSDNet of 22 layers and 10 exits (CIFAR-10), and of 16 layers and 7 exits (CIFAR-100)."""
    yield _msdnet("msdnet-22", 22, classes=10)
    yield _msdnet("msdnet-16", 16, classes=100)


def _msdnet(name: str, layers: int, classes: int) -> Preset:
    """Return an MSDNet of three scales, the finest of which is dropped after each third of the layers."""
    surroundings = MsdNet()
    third = -(-layers // len(surroundings.widths))
    # A layer that drops a scale is the first of its third, and the last that reads the maps before the reduction.
    block_layers = (third + 1, third, layers - 2 * third - 1)
    network = NetworkConfig(
        layers=third + 1,
        blocks=len(block_layers),
        block_layers=block_layers,
        growth=6,
        stem_channels=16,
        transition="all",
        surroundings=surroundings,
        **{**CIFAR, "classes": classes},
    )
    return Preset(name, MSDNET, network, find_template("dense").build(network.layers), "dense")
