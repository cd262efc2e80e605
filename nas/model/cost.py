"""Params, FLOPs, activation bytes and NN-Mass of a candidate, analytic."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from nas.layouts.layout import trace
from nas.layouts.merges import CONCAT, MERGE_NAMES, SUM
from nas.model.candidate import Candidate
from nas.model.config import BOTTLENECK, DEPTHWISE, NetworkConfig
from search_spaces.budget import Budget
from search_spaces.measures.registry import measure
from search_spaces.pattern import ConnectionPattern
from search_spaces.wiring.blocks import Wiring

KERNEL = 3
LARGE_KERNEL = 7  # ImageNet's stem
BOTTLENECK_FACTOR = 4
FLOAT_BYTES = 4


@dataclass(frozen=True, slots=True)
class Cost:
    """The cost of a whole network.

    Args:
        params: number of trained parameters.
        flops: FLOPs of one image's forward pass, a multiply-add counted as two; only convolutions and matrix products
            count, as in torch's FlopCounterMode.
    """

    params: int
    flops: int

    def __add__(self, other: "Cost") -> "Cost":
        return Cost(self.params + other.params, self.flops + other.flops)


def predict_cost(candidate: Candidate) -> Cost:
    """Return the cost of the network that `build_network` builds, without building it."""
    network = candidate.network
    if network.has_layout:
        layout = candidate.layout
        cost = Cost(layout.count_params(network.image), 2 * layout.count_macs(network.image))
        return sum((_merge(node.reads, node.merge) for node in layout.nodes[1:]), cost)
    wiring = candidate.wiring
    height, width = network.resolution
    cost = _stem(network)
    for number, block in enumerate(wiring.blocks):
        for reads in block.sources:
            cost += _merge(reads, network.merge) + _layer(wiring.channels(number, reads), network, height, width)
        for transition in block.transitions:
            n_read = wiring.channels(number, transition.reads)
            cost += _merge(transition.reads, network.merge) + _batch_norm(n_read)
            cost += _convolution(n_read, transition.channels, 1, height, width)
        height, width = height // 2, width // 2
    n_read = wiring.channels(-1, wiring.read)
    cost += _merge(wiring.read, network.merge)
    return cost + _batch_norm(n_read) + Cost((n_read + 1) * network.classes, 2 * n_read * network.classes)


def predict_nn_mass(candidate: Candidate) -> float:
    """Return NN-Mass (Bhardwaj et al., CVPR 2021): the sum over blocks of skip density x width x depth.

    For one size and number of connections it is the same for every placement.
    """
    masses = {
        pattern: measure(pattern, ["skip_density"])["skip_density"] * pattern.depth
        for pattern in set(candidate.patterns)
    }
    return candidate.network.growth * sum(masses[pattern] for pattern in candidate.patterns)


def predict_activation_bytes(candidate: Candidate, memory_efficient: bool) -> int:
    """Return the bytes that a training step keeps for its backward pass, for each image of the batch, in float32.

    Naively every layer keeps the concatenation that it reads twice, before and after BN-ReLU, so a node is kept each
    time it is read: the bytes grow with the connections. The efficient form keeps every node that is read once, and
    repeats concatenation and BN-ReLU (arXiv:1707.06990): they grow with the layers. Both keep what bottlenecks and
    transitions write. BN's statistics of each channel and temporary memory of operations are not counted.

    A sum of nodes keeps none of them, a sum with factors all of them, once. So for merges other than concat the bytes
    grow with the layers in both forms. Dropped layers and inputs are not counted off.

    Of a network with a layout it is what every merge and every operation writes: an estimate.
    """
    network = candidate.network
    if network.has_layout:
        steps = trace(candidate.layout, network.image)
        return FLOAT_BYTES * sum(math.prod(shape) for step in steps for shape in (step.read, *step.between))
    wiring = candidate.wiring
    height, width = network.resolution
    n_values = _stem_values(network)
    for number, block in enumerate(wiring.blocks):
        reads = [*block.sources, *(transition.reads for transition in block.transitions)]
        reads += [wiring.read] if number == len(wiring.blocks) - 1 else []
        if memory_efficient:
            kept = _count_nodes(wiring, number, reads)
        elif network.is_concat:
            kept = sum(2 * wiring.channels(number, nodes) for nodes in reads)
        elif network.has_scalars:
            kept = 2 * network.growth * len(reads) + _count_nodes(wiring, number, reads)
        else:  # the sum of a single node is the node itself, however many read it
            single = [nodes for nodes in reads if len(nodes) == 1]
            kept = network.growth * (2 * len(reads) - len(single)) + _count_nodes(wiring, number, single)
        kept += sum(_inner_channels(wiring.channels(number, nodes), network) for nodes in block.sources)
        kept += sum(transition.channels for transition in block.transitions)
        n_values += kept * height * width
        height, width = height // 2, width // 2
    n_values += wiring.channels(-1, wiring.read) + network.classes  # the classifier's input, the loss's log-softmax
    return FLOAT_BYTES * n_values


def _count_nodes(wiring: Wiring, number: int, reads: Sequence[Sequence[int]]) -> int:
    """Return the channels of all nodes of a block that are read, each counted once."""
    inputs = wiring.blocks[number].inputs
    return sum(inputs[node] if node < len(inputs) else wiring.growth for node in set().union(*reads))


def _inner_channels(n_read: int, network: NetworkConfig) -> int:
    """Return the channels that a layer keeps between its convolutions: a bottleneck's before and after its BN-ReLU."""
    return {BOTTLENECK: 2 * BOTTLENECK_FACTOR * network.growth, DEPTHWISE: n_read}.get(network.layer, 0)


def predict_training_bytes(network: NetworkConfig, budget: Budget, batch_size: int, is_efficient: bool) -> int:
    """Return the least memory of one training at a budget: weights, gradients, momenta, and what a step keeps.

    Args:
        network: network around the pattern, which may be any that spends the budget: costs do not depend on it.
        budget: budget, whose caps play no part.
        batch_size: number of images a step.
        is_efficient: whether the backward pass repeats activations; see predict_activation_bytes.
    """
    n_skips = budget.n_connections - budget.depth
    sources: list[tuple[int, ...]] = []
    for layer in range(budget.depth, 0, -1):
        n_own = budget.per_layer[layer - 1] - 1 if budget.per_layer else min(layer - 1, n_skips)
        n_skips -= n_own
        sources.insert(0, (*range(n_own), layer - 1))
    crossing = "log" if network.transition == "rule" else network.transition  # a rule needs a named pattern
    plain = network.model_copy(update={"transition": crossing})
    candidate = Candidate(ConnectionPattern.from_sources(sources), plain, 0)
    weights = 3 * FLOAT_BYTES * predict_cost(candidate).params
    return weights + batch_size * predict_activation_bytes(candidate, is_efficient)


def _stem(network: NetworkConfig) -> Cost:
    n_channels, height, width = network.image
    if not network.large_stem:
        return _convolution(n_channels, network.stem, KERNEL, height, width)
    half = -(-height // 2), -(-width // 2)
    return _convolution(n_channels, network.stem, LARGE_KERNEL, *half) + _batch_norm(network.stem)


def _stem_values(network: NetworkConfig) -> int:
    """Count the images' values; of a large stem also maps before and after BN-ReLU, and maxima's places of 8 bytes."""
    n_channels, height, width = network.image
    n_values = n_channels * height * width
    if network.large_stem:
        n_values += 2 * network.stem * -(-height // 2) * -(-width // 2)
        n_values += network.stem * 8 // FLOAT_BYTES * math.prod(network.resolution)
    return n_values


def _merge(reads: Sequence[int], merge: str) -> Cost:
    """Return the cost of a merge; matrix products of another package's merge are not counted."""
    if merge in (CONCAT, SUM):
        return Cost(0, 0)
    if merge in MERGE_NAMES:
        return Cost(len(reads), 0)  # a factor for each
    from nas.modules.merges import count_parameters  # torch: seconds

    return Cost(count_parameters(merge, len(reads)), 0)


def _layer(n_channels: int, network: NetworkConfig, height: int, width: int) -> Cost:
    growth = network.growth
    cost = _batch_norm(n_channels)
    if network.layer == DEPTHWISE:
        weights = KERNEL * KERNEL * n_channels
        cost += Cost(weights, 2 * weights * height * width)
        return cost + _convolution(n_channels, growth, 1, height, width)
    if network.layer == BOTTLENECK:
        wide = BOTTLENECK_FACTOR * growth
        cost += _convolution(n_channels, wide, 1, height, width) + _batch_norm(wide)
        n_channels = wide
    return cost + _convolution(n_channels, growth, KERNEL, height, width)


def _batch_norm(n_channels: int) -> Cost:
    return Cost(2 * n_channels, 0)


def _convolution(n_in: int, n_out: int, kernel: int, height: int, width: int) -> Cost:
    weights = n_in * n_out * kernel * kernel
    return Cost(weights, 2 * weights * height * width)
