"""Networks with the pattern `log`: those of Log-DenseNet's paper, and SparseNet."""

from collections.abc import Iterator

from nas.model.config import BOTTLENECK, NetworkConfig
from nas.presets.densenet import IMAGENET_SIZES, make_bottleneck_network
from nas.presets.preset import CIFAR, IMAGENET, N_BLOCKS, Preset
from search_spaces.rules import loglog_across
from search_spaces.templates import find_template

LOG_DENSENET = "Log-DenseNet, arXiv:1711.00002"
SPARSENET = "SparseNet, arXiv:1801.05895"
ANYTIME = "the paper's networks predict at many layers, this one only at the last unless --exits says more"
PADDED = "the authors' code leaves layers 4 to 7 with three inputs where powers of two run out"
AS_DENSENET = "blocks and growth are DenseNet's of that depth; the paper's numbers of parameters were not compared"
GRID = [(layers, growth) for layers in (12, 32, 52) for growth in (16, 24, 32)]  # the paper's sizes


def list_log_densenets() -> Iterator[Preset]:
    """Yield Log-DenseNet V1, then V2, then LogLog-DenseNet, each in all the paper's sizes."""
    for version in ("v1", "v2"):
        yield from (_log_densenet(version, layers, growth) for layers, growth in GRID)
    yield from (_loglog_densenet(layers, growth) for layers, growth in GRID)


def _log_densenet(version: str, layers: int, growth: int) -> Preset:
    network = NetworkConfig(
        layers=layers,
        blocks=N_BLOCKS,
        growth=growth,
        layer=BOTTLENECK,
        transition="v1" if version == "v1" else "v2",
        stem_channels=2 * growth,
        **CIFAR,
    )
    pattern = find_template("log").build(network.pattern_depth)
    return Preset(f"log-densenet-{version}-{layers}-{growth}", LOG_DENSENET, network, pattern, "log", ANYTIME)


def _loglog_densenet(layers: int, growth: int) -> Preset:
    network = _log_densenet("v1", layers, growth).network
    pattern = loglog_across((layers,) * N_BLOCKS)
    return Preset(f"loglog-densenet-{layers}-{growth}", LOG_DENSENET, network, pattern, None, f"{ANYTIME}; {PADDED}")


def list_sparsenets() -> Iterator[Preset]:
    """Yield SparseNet's networks: for 32x32 images, then for ImageNet.

    They are DenseNets whose layers, transitions and classifier read the layers 1, 2, 4, 8, ... before. Their stem has
    twice the growth, which gives the paper's numbers of parameters also without bottlenecks.
    """
    for name, layers, growth in (("sparsenet-40-24", 12, 24), ("sparsenet-100-36", 32, 36)):
        network = NetworkConfig(
            layers=layers,
            blocks=N_BLOCKS,
            growth=growth,
            transition="log",
            stem_channels=2 * growth,
            compression=1.0,
            **CIFAR,
        )
        yield _sparsenet(name, network)
    yield _sparsenet("sparsenet-bc-100-24", make_bottleneck_network((16,) * N_BLOCKS, 24, "log", CIFAR))
    for depth, (block_layers, growth) in IMAGENET_SIZES.items():
        network = make_bottleneck_network(block_layers, growth, "log", IMAGENET)
        yield _sparsenet(f"sparsenet-{depth}", network, AS_DENSENET)


def _sparsenet(name: str, network: NetworkConfig, differs: str = "") -> Preset:
    return Preset(name, SPARSENET, network, find_template("log").build(network.layers), "log", differs)
