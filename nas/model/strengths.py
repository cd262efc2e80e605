"""How strongly a trained network uses each connection: the mean absolute weight, or the factor, that reads it."""

from collections.abc import Callable, Iterator, Sequence
from typing import cast

import torch
from torch import Tensor, nn

from nas.model.candidate import Candidate
from nas.model.layout_network import LayoutNetwork
from nas.model.network import Block, DepthwiseConv, Reader, SkipNetwork
from nas.modules.learned_convolution import LearnedGroupConv
from nas.modules.merges import Sum, Weighted
from search_spaces.pattern import ConnectionPattern
from search_spaces.wiring import blocks

MAX_CONNECTIONS = 20_000  # of all blocks together; larger networks are not measured, to keep the ledger small
N_SIGNIFICANT = 5


def measure_strengths(network: nn.Module, candidate: Candidate) -> tuple[tuple[float, ...], ...]:
    """Return the mean absolute weight by which each connection is read (DenseNet, arXiv:1608.06993, figure 5).

    For merges with factors it is the absolute factor. A weight that condensation dropped counts as 0. A plain sum reads
    all its connections by the same weights, so it has no strengths.

    Args:
        network: trained network of the candidate.

    Returns:
        For each block of the whole pattern, or once where the pattern spans all blocks (transitions v1), one number a
        connection, in the order of `pattern.connections`. Blocks of fewer layers are left out. Under transitions v2 a
        connection from node 0 is one from the summary. Empty for networks of more than MAX_CONNECTIONS, for networks
        with a layout that are not condensed, and for sums and merges of other packages.
    """
    pattern = candidate.pattern
    if isinstance(network, LayoutNetwork):
        return _measure_condensed(network, candidate, lambda learned: learned.masked_weight().abs().mean(dim=(0, 2, 3)))
    if not isinstance(network, SkipNetwork):
        return ()
    if isinstance(network.head.merge, Sum) or candidate.network.has_brought_merge:
        return ()
    if sum(pattern.n_connections for pattern in candidate.patterns) > MAX_CONNECTIONS:
        return ()
    by_block = [
        list(_measure_layers(cast(Block, module).readers, wiring, candidate.network.growth))
        for module, wiring in zip(network.blocks, candidate.wiring.blocks, strict=True)
    ]
    if candidate.network.transition == "v1":
        by_block = [[layer for layers in by_block for layer in layers]]
    return tuple(
        tuple(float(f"{layers[target - 1][source]:.{N_SIGNIFICANT}g}") for source, target in pattern.connections)
        for layers in by_block
        if len(layers) == pattern.depth
    )


def measure_kept(network: nn.Module, candidate: Candidate) -> tuple[tuple[float, ...], ...]:
    """Return for each connection the share of its channels that condensation kept, a mean over the reader's groups.

    Args:
        network: trained network of the candidate.

    Returns:
        As measure_strengths; empty for networks that are not condensed.
    """
    if not isinstance(network, LayoutNetwork):
        return ()
    return _measure_condensed(network, candidate, lambda learned: learned.mask.double().mean(dim=0))


@torch.no_grad()
def _measure_condensed(
    network: LayoutNetwork, candidate: Candidate, measure: Callable[[LearnedGroupConv], Tensor]
) -> tuple[tuple[float, ...], ...]:
    """Return the mean over each connection's channels of a measure of them, (channels read,), in one list."""
    pattern, layout = candidate.pattern, network.layout
    shapes = layout.shapes(network.image)
    strengths: list[float] = []
    for node in layout.nodes[1:]:
        learned = [module for module in network.nodes[node.name].modules() if isinstance(module, LearnedGroupConv)]
        if learned:  # its reads are those of the pattern, in the same order
            widths = [shapes[source].channels for source in node.reads]
            strengths += (float(channels.mean()) for channels in torch.split(measure(learned[0]), widths))
    if not 0 < len(strengths) <= MAX_CONNECTIONS:
        return ()
    by_connection = _sort_connections(pattern, strengths)
    return (tuple(float(f"{by_connection[connection]:.{N_SIGNIFICANT}g}") for connection in pattern.connections),)


def _sort_connections(pattern: ConnectionPattern, strengths: Sequence[float]) -> dict[tuple[int, int], float]:
    """Return strengths by source and target, given in the order of the layers and what they read."""
    ordered = [(source, layer) for layer, sources in enumerate(pattern.sources, start=1) for source in sources]
    return dict(zip(ordered, strengths, strict=True))


def _measure_layers(readers: Sequence[Reader], wiring: blocks.Block, growth: int) -> Iterator[dict[int, float]]:
    """Yield for each layer of a block the mean absolute weight by the node of the pattern that is read."""
    for reader, nodes in zip(readers, wiring.sources, strict=True):
        assert reader.nodes == nodes, "network.py and blocks.py disagree"
        by_place: dict[int, list[Tensor]] = {}
        for node, weights in zip(nodes, _split_weights(reader, nodes, wiring, growth), strict=True):
            by_place.setdefault(wiring.places[node], []).append(weights)
        # Channels of several inputs that stand for one node count alike.
        yield {
            place: float(sum(weights.sum() for weights in parts)) / sum(map(len, parts))
            for place, parts in by_place.items()
        }


def _split_weights(reader: Reader, nodes: Sequence[int], wiring: blocks.Block, growth: int) -> Sequence[Tensor]:
    """Return for each node that a layer reads its factor, (1,), or the mean absolute weights of its channels."""
    if isinstance(reader.merge, Weighted):
        return torch.split(reader.merge.factors.detach().abs(), 1)
    conv = reader.conv
    if isinstance(conv, DepthwiseConv):  # it mixes no channels; the one after it does
        conv = next(part for part in reversed(reader) if isinstance(part, nn.Conv2d))
    by_channel = conv.weight.detach().abs().mean(dim=(0, 2, 3))  # (channels read,)
    widths = [wiring.inputs[node] if node < len(wiring.inputs) else growth for node in nodes]
    return torch.split(by_channel, widths)
