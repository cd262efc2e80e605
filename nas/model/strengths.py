"""Trained network -> how strongly each connection is used: the mean absolute weight that reads it."""

from collections.abc import Iterator
from typing import cast

import torch
from torch import Tensor, nn

from nas.model.candidate import Candidate
from nas.model.network import Gather, Reader, SkipNetwork
from search_spaces.wiring.blocks import Block

MAX_CONNECTIONS = 20_000  # of all blocks together; of larger networks none are measured, to keep the ledger small
N_DIGITS = 5


def measure_strengths(network: SkipNetwork, candidate: Candidate) -> tuple[tuple[float, ...], ...]:
    """Mean absolute weight of each connection in the convolution that reads it (DenseNet, arXiv:1608.06993, figure 5).

    Args:
        network: of the candidate.

    Returns:
        For each block of the whole pattern, or once where the pattern spans all blocks (transitions v1), one number a
        connection, in the order of `pattern.connections`. Blocks of fewer layers are left out. Under transitions v2 a
        connection from node 0 is one from the summary. Empty for networks of more than MAX_CONNECTIONS.
    """
    pattern = candidate.pattern
    if sum(one.n_connections for one in candidate.patterns) > MAX_CONNECTIONS:
        return ()
    by_block = [
        list(_measure_layers(cast(nn.ModuleList, module.layers), block))
        for module, block in zip(network.blocks, candidate.wiring.blocks, strict=True)
    ]
    if candidate.network.transition == "v1":
        by_block = [[layer for layers in by_block for layer in layers]]
    return tuple(
        tuple(float(f"{layers[target - 1][source]:.{N_DIGITS}g}") for source, target in pattern.connections)
        for layers in by_block
        if len(layers) == pattern.depth
    )


def _measure_layers(layers: nn.ModuleList, block: Block) -> Iterator[dict[int, float]]:
    """For each layer of a block the mean absolute weight by the node of the pattern that is read."""
    for layer, nodes in zip(layers, block.sources, strict=True):
        reader = cast(Reader, layer)
        assert cast(Gather, reader[0]).nodes == nodes, "network.py and blocks.py disagree"
        by_channel = cast(nn.Conv2d, reader[3]).weight.detach().abs().mean(dim=(0, 2, 3))  # (channels read,)
        n_growth = cast(nn.Conv2d, reader[-1]).out_channels
        widths = [block.inputs[node] if node < len(block.inputs) else n_growth for node in nodes]
        by_place: dict[int, list[Tensor]] = {}
        for node, weights in zip(nodes, torch.split(by_channel, widths), strict=True):
            by_place.setdefault(block.places[node], []).append(weights)
        # Channels of several inputs that stand for one node count alike.
        yield {
            place: float(sum(weights.sum() for weights in parts)) / sum(map(len, parts))
            for place, parts in by_place.items()
        }
