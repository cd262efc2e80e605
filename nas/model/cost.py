"""Params, FLOPs, activation bytes and NN-Mass of a candidate, analytic."""

import math
from dataclasses import dataclass

from nas.model.candidate import Candidate, NetworkConfig
from search_spaces.budget import Budget
from search_spaces.measures.registry import measure
from search_spaces.pattern import ConnectionPattern

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
    network, wiring = candidate.network, candidate.wiring
    height, width = network.resolution
    cost = _stem(network)
    for number, block in enumerate(wiring.blocks):
        for reads in block.sources:
            cost += _layer(wiring.channels(number, reads), network, height, width)
        for transition in block.transitions:
            n_read = wiring.channels(number, transition.reads)
            cost += _batch_norm(n_read) + _convolution(n_read, transition.channels, 1, height, width)
        height, width = height // 2, width // 2
    n_read = wiring.channels(-1, wiring.read)
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
    """
    network, wiring = candidate.network, candidate.wiring
    height, width = network.resolution
    n_values = _stem_values(network)
    wide = 2 * BOTTLENECK_FACTOR * network.growth if network.bottleneck else 0  # before and after its BN-ReLU
    for number, block in enumerate(wiring.blocks):
        reads = [*block.sources, *(transition.reads for transition in block.transitions)]
        reads += [wiring.read] if number == len(wiring.blocks) - 1 else []
        if memory_efficient:
            kept = wiring.channels(number, sorted(set().union(*reads)))
        else:
            kept = sum(2 * wiring.channels(number, nodes) for nodes in reads)
        kept += wide * len(block.sources) + sum(transition.channels for transition in block.transitions)
        n_values += kept * height * width
        height, width = height // 2, width // 2
    n_values += wiring.channels(-1, wiring.read) + network.classes  # the classifier's input, the loss's log-softmax
    return FLOAT_BYTES * n_values


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


def _layer(n_channels: int, network: NetworkConfig, height: int, width: int) -> Cost:
    growth = network.growth
    cost = _batch_norm(n_channels)
    if network.bottleneck:
        wide = BOTTLENECK_FACTOR * growth
        cost += _convolution(n_channels, wide, 1, height, width) + _batch_norm(wide)
        n_channels = wide
    return cost + _convolution(n_channels, growth, KERNEL, height, width)


def _batch_norm(n_channels: int) -> Cost:
    return Cost(2 * n_channels, 0)


def _convolution(n_in: int, n_out: int, kernel: int, height: int, width: int) -> Cost:
    weights = n_in * n_out * kernel * kernel
    return Cost(weights, 2 * weights * height * width)
