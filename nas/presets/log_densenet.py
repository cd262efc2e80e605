"""The networks of Log-DenseNet's paper."""

from collections.abc import Iterator

from nas.model.candidate import BOTTLENECK, NetworkConfig
from nas.presets.preset import CIFAR, N_BLOCKS, Preset
from search_spaces.rules import loglog_across
from search_spaces.templates import find_template

LOG_DENSENET = "Log-DenseNet, arXiv:1711.00002"
ANYTIME = "the paper's networks predict at many layers, this one only at the last"
PADDED = "the authors' code leaves layers 4 to 7 with three inputs where powers of two run out"
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
