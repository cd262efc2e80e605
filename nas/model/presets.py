"""The papers' networks and training recipes, by name."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from nas.model.candidate import (
    BOTTLENECK,
    LAYER,
    Candidate,
    NetworkConfig,
    ShapeConfig,
    TrainingConfig,
    check_depth,
)
from nas.records.checked import Settings, validate
from search_spaces.errors import InputError
from search_spaces.pattern import ConnectionPattern
from search_spaces.rules import loglog_across
from search_spaces.templates import find_template

DENSENET = "DenseNet, arXiv:1608.06993"
LOG_DENSENET = "Log-DenseNet, arXiv:1711.00002"
CIFAR: dict[str, Any] = {"classes": 10, "image": (3, 32, 32)}
IMAGENET: dict[str, Any] = {"classes": 1000, "image": (3, 224, 224), "large_stem": True}
ANYTIME = "the paper's networks predict at many layers, this one only at the last"
PADDED = "the authors' code leaves layers 4 to 7 with three inputs where powers of two run out"
N_BLOCKS = 3  # networks for 32x32 images
GRID = [(layers, growth) for layers in (12, 32, 52) for growth in (16, 24, 32)]  # Log-DenseNet's sizes


@dataclass(frozen=True, slots=True)
class Preset:
    """A published network.

    Args:
        name: its name on the command line.
        paper: publication.
        network: network around its pattern, which can take any pattern of the same depth.
        pattern: its own pattern.
        template: name of the rule that gives the pattern, or None.
        differs: known differences from the publication; empty if there are none.
    """

    name: str
    paper: str
    network: NetworkConfig
    pattern: ConnectionPattern
    template: str | None
    differs: str = ""

    @property
    def candidate(self) -> Candidate:
        """The network itself; its seed plays no part."""
        return Candidate(self.pattern, self.network, seed=0, template=self.template)


def _densenet(name: str, layers: int, growth: int, bottleneck: bool) -> Preset:
    """Return a DenseNet for 32x32 images; the L of its name counts every convolution and the classifier."""
    bc: dict[str, Any] = {"stem_channels": 2 * growth, "compression": 0.5}
    own = bc if bottleneck else {"stem_channels": 16, "compression": 1.0}
    network = NetworkConfig(
        layers=layers,
        blocks=N_BLOCKS,
        growth=growth,
        layer=BOTTLENECK if bottleneck else LAYER,
        transition="all",
        **own,
        **CIFAR,
    )
    return Preset(name, DENSENET, network, find_template("dense").build(layers), "dense")


def _densenet_imagenet(name: str, block_layers: tuple[int, ...]) -> Preset:
    layers, growth = max(block_layers), 32
    network = NetworkConfig(
        layers=layers,
        blocks=len(block_layers),
        block_layers=block_layers,
        growth=growth,
        layer=BOTTLENECK,
        transition="all",
        stem_channels=2 * growth,
        compression=0.5,
        **IMAGENET,
    )
    return Preset(name, DENSENET, network, find_template("dense").build(layers), "dense")


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


def _list_presets() -> Iterator[Preset]:
    yield _densenet("densenet-40-12", 12, 12, bottleneck=False)
    yield _densenet("densenet-100-12", 32, 12, bottleneck=False)
    yield _densenet("densenet-bc-100-12", 16, 12, bottleneck=True)
    yield _densenet("densenet-bc-250-24", 41, 24, bottleneck=True)
    yield _densenet("densenet-bc-190-40", 31, 40, bottleneck=True)
    yield _densenet_imagenet("densenet-121", (6, 12, 24, 16))
    yield _densenet_imagenet("densenet-169", (6, 12, 32, 32))
    yield _densenet_imagenet("densenet-201", (6, 12, 48, 32))
    for version in ("v1", "v2"):
        yield from (_log_densenet(version, layers, growth) for layers, growth in GRID)
    yield from (_loglog_densenet(layers, growth) for layers, growth in GRID)


PRESETS = {preset.name: preset for preset in _list_presets()}


def find_preset(name: str) -> Preset:
    """Return the published network of a name.

    Raises:
        InputError: there is none.
    """
    if name not in PRESETS:
        raise InputError(f"there is no network {name!r:.100}; `networks` lists them: {', '.join(PRESETS)}")
    return PRESETS[name]


def read_network(pattern: ConnectionPattern | None, network: str | None, values: Mapping[str, Any]) -> NetworkConfig:
    """Return the network that flags and a published network's name describe, around a pattern if there is one.

    Raises:
        InputError: there is no such network, or the pattern does not fit it.
    """
    if network is not None:
        published = find_preset(network).network
        values = {name: getattr(published, name) for name in NetworkConfig.model_fields} | dict(values)
    elif pattern is not None and "layers" not in values:
        n_blocks = values.get("blocks", 1) if values.get("transition") == "v1" else 1
        values = {**values, "layers": pattern.depth // n_blocks}
    config = validate(NetworkConfig, values)
    if pattern is not None:
        check_depth(pattern, config)
    return config


# All with momentum 0.9 and Nesterov's correction, as DenseNet; Log-DenseNet's paper only mentions momentum.
RECIPES: dict[str, TrainingConfig] = {
    "densenet": TrainingConfig(epochs=300, lr=0.1, batch_size=64, weight_decay=1e-4, lr_drops=(0.5, 0.75)),
    "log-densenet": TrainingConfig(
        epochs=300, lr=0.1, batch_size=64, weight_decay=1e-4, lr_drops=(140 / 300, 210 / 300, 250 / 300)
    ),
    "short": TrainingConfig(),
}


def find_recipe(name: str) -> TrainingConfig:
    """Return the training schedule of a name.

    Raises:
        InputError: there is none.
    """
    if name not in RECIPES:
        raise InputError(f"there is no recipe {name!r:.100}; there are {', '.join(RECIPES)}")
    return RECIPES[name]


def expand_names(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings with `network` and `recipe` replaced by their content; settings given explicitly win.

    Raises:
        InputError: there is no network or recipe of that name.

    >>> expand_names({"recipe": "densenet", "epochs": 30})["lr_drops"]
    (0.5, 0.75)
    """
    named: dict[str, Any] = {}
    if values.get("network") is not None:
        named |= _fields(ShapeConfig, find_preset(str(values["network"])).network)
    if values.get("recipe") is not None:
        named |= _fields(TrainingConfig, find_recipe(str(values["recipe"])))
    return named | {name: value for name, value in values.items() if name not in ("network", "recipe")}


def _fields(model: type[Settings], values: Settings) -> dict[str, Any]:
    return {name: getattr(values, name) for name in model.model_fields}


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
