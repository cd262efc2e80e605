"""Networks that add what a layer reads: ResNet, stochastic depth, a highway network, FractalNet."""

from collections.abc import Iterator

from nas.layouts.fractal import FractalNet, expand_fractal
from nas.layouts.merges import SUM
from nas.layouts.residual import HighwayNet, ResNet
from nas.model.config import NetworkConfig
from nas.presets.preset import CIFAR, N_BLOCKS, Preset
from search_spaces.templates import find_template

PRE_ACTIVATION = (
    "BN and ReLU stand before each convolution (arXiv:1603.05027), in the paper after it; the number of parameters is "
    "the same"
)
HIGHWAY = (
    "a layer has an identity path of its own, so a distance in layers is not the one that the gradient goes; blocks, "
    "widths and dropout are those of the authors' code, whose initial weights, input and learning rates of biases "
    "are other ones"
)
FRACTAL = (
    "the paper's global drop-path, a single column in half of the batches, is left out; its pattern here also has the "
    "chain connections 2-3, 5-6 and 6-7, which distances and the number of connections count and the network lacks; "
    "any other pattern has its own connections, and blocks that are left by what transition says"
)


def list_residual_networks() -> Iterator[Preset]:
    """Yield ResNet's networks for 32x32 images, ResNet-110 with stochastic depth, Highway-19 and FractalNet."""
    for depth in (20, 32, 44, 56, 110):
        yield _resnet(f"resnet-{depth}", "ResNet, arXiv:1512.03385", depth, drop_layers=0.0)
    yield _resnet("stochastic-depth-110", "Stochastic depth, arXiv:1603.09382", 110, drop_layers=0.5)
    yield _highway()
    yield _fractalnet()


def _resnet(name: str, paper: str, depth: int, drop_layers: float) -> Preset:
    """Return a ResNet of 6n + 2 convolutions and linear maps: n layers of two in each of three blocks."""
    layers = (depth - 2) // (2 * N_BLOCKS)
    network = NetworkConfig(
        layers=layers,
        blocks=N_BLOCKS,
        growth=16,
        merge=SUM,
        transition="all",
        drop_layers=drop_layers,
        surroundings=ResNet(),
        **CIFAR,
    )
    return Preset(name, paper, network, find_template("dense").build(layers), "dense", PRE_ACTIVATION)


def _highway() -> Preset:
    network = NetworkConfig(
        layers=5,
        blocks=N_BLOCKS,
        block_layers=(4, 5, 5),
        growth=16,
        merge=SUM,
        transition="last",
        surroundings=HighwayNet(),
        **CIFAR,
    )
    pattern = find_template("chain").build(network.layers)
    return Preset("highway-19", "Highway networks, arXiv:1505.00387", network, pattern, "chain", HIGHWAY)


def _fractalnet() -> Preset:
    fractal = expand_fractal(3)
    network = NetworkConfig(
        layers=fractal.pattern.depth,
        blocks=5,
        growth=64,
        merge=SUM,
        drop_path=0.15,
        surroundings=FractalNet(),
        **CIFAR,
    )
    return Preset(
        "fractalnet",
        "FractalNet, arXiv:1605.07648",
        network,
        fractal.pattern,
        None,
        FRACTAL,
        own_options={"leaves_chain_out": True},
    )
