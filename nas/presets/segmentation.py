"""Networks that give every pixel a class, and the public PyTorch FC-DenseNet's names of its weights."""

import re
from collections.abc import Iterator
from typing import Any

from nas.layouts.pyramid import FcDenseNet, LogDenseNetFcn
from nas.model.config import NetworkConfig
from nas.presets.log_densenet import LOG_DENSENET
from nas.presets.preset import Preset
from search_spaces.errors import InputError
from search_spaces.pattern import ConnectionPattern
from search_spaces.rules import log
from search_spaces.templates import find_template

FC_DENSENET = "FC-DenseNet, arXiv:1611.09326"
CAMVID: dict[str, Any] = {"classes": 11, "image": (3, 360, 480)}
N_DOWNS = 5  # blocks on the way down, and as many on the way up
# Layers of each block, and growth.
FC_DENSENETS: dict[int, tuple[tuple[int, ...], int]] = {
    56: ((4,) * 11, 12),
    67: ((5,) * 11, 16),
    103: ((4, 5, 7, 10, 12, 15, 12, 10, 7, 5, 4), 16),
}
UNMATCHED = "wired as in the authors' code, which gives 4.0 M parameters; HarDNet's paper (arXiv:1909.00948) says 4.7 M"


def list_segmentation_networks() -> Iterator[Preset]:
    """Yield FC-DenseNet's networks, then Log-DenseNet V1 with the blocks of FC-DenseNet-103."""
    for depth, (block_layers, growth) in FC_DENSENETS.items():
        network = NetworkConfig(
            growth=growth,
            stem_channels=48,
            transition="all",
            surroundings=FcDenseNet(),
            **_blocks(block_layers),
            **CAMVID,
        )
        pattern = find_template("dense").build(network.layers)
        yield Preset(f"fc-densenet-{depth}", FC_DENSENET, network, pattern, "dense")
    block_layers, _ = FC_DENSENETS[103]
    network = NetworkConfig(
        growth=24,
        stem_channels=72,
        transition="v1",
        surroundings=LogDenseNetFcn(moves="needed"),
        **_blocks(block_layers),
        **CAMVID,
    )
    pattern = log_with_hub(sum(block_layers), hub=block_layers[0])
    yield Preset("log-densenet-v1-fcn-103", LOG_DENSENET, network, pattern, None, UNMATCHED)


def _blocks(block_layers: tuple[int, ...]) -> dict[str, Any]:
    is_even = len(set(block_layers)) == 1
    sizes = {"layers": max(block_layers), "blocks": len(block_layers)}
    return sizes | ({} if is_even else {"block_layers": block_layers})


def log_with_hub(depth: int, hub: int) -> ConnectionPattern:
    """Build the pattern `log` with one layer that all after it read.

    Args:
        depth: number of layers.
        hub: that layer; Log-DenseNet's FCN has the last of the first block.

    >>> log_with_hub(7, hub=2).sources[-2:]
    ((2, 4, 5), (2, 3, 5, 6))
    """
    layers = range(1, depth + 1)
    return ConnectionPattern.from_sources({*log(layer, depth), *((hub,) if layer > hub else ())} for layer in layers)


def rename_fc_densenet(name: str, n_downs: int = N_DOWNS) -> str:
    """Return the name here of a parameter of the public PyTorch FC-DenseNet, whose shape is the same.

    | there | here |
    |---|---|
    | firstconv | nodes.stem.operations.0 |
    | denseBlocksDown.I.layers.J.norm, conv | nodes.blockI_layerJ.operations.0, 2 |
    | transDownBlocks.I.norm, conv | nodes.down(I+1).operations.0, 2 |
    | bottleneck.bottleneck.layers.J.norm, conv | nodes.blockD_layerJ.operations.0, 2 |
    | transUpBlocks.I.convTrans | nodes.up(D+1+I).operations.0 |
    | denseBlocksUp.I.layers.J.norm, conv | nodes.block(D+1+I)_layerJ.operations.0, 2 |
    | finalConv | nodes.head.operations.0 |

    Its network ends in a LogSoftmax, ours in the logits.

    Args:
        name: the name there.
        n_downs: number D of blocks on the way down.

    Raises:
        InputError: it has no such parameter.

    >>> rename_fc_densenet("denseBlocksUp.0.layers.11.norm.running_var")
    'nodes.block6_layer11.operations.0.running_var'
    """
    module, _, parameter = name.rpartition(".")
    place = _OUTSIDE.get(module)
    layer = re.fullmatch(r"(?:denseBlocks(Down|Up)\.(\d+)|bottleneck\.bottleneck)\.layers\.(\d+)\.(norm|conv)", module)
    passage = re.fullmatch(r"transDownBlocks\.(\d+)\.(norm|conv)|transUpBlocks\.(\d+)\.convTrans", module)
    if layer:
        before = {"Down": 0, None: n_downs, "Up": n_downs + 1}[layer[1]]
        place = f"block{before + int(layer[2] or 0)}_layer{layer[3]}.operations.{_OPERATIONS[layer[4]]}"
    elif passage and passage[1]:
        place = f"down{int(passage[1]) + 1}.operations.{_OPERATIONS[passage[2]]}"
    elif passage:
        place = f"up{n_downs + 1 + int(passage[3])}.operations.0"
    elif place is None:
        raise InputError(f"the public PyTorch FC-DenseNet has no parameter {name!r:.100}")
    return f"nodes.{place}.{parameter}"


_OUTSIDE = {"firstconv": "stem.operations.0", "finalConv": "head.operations.0"}
_OPERATIONS = {"norm": 0, "conv": 2}
