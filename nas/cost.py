"""Params, FLOPs and NN-Mass of a candidate, analytic."""

import math
from dataclasses import dataclass
from decimal import Decimal

from nas.config import Candidate
from search_spaces.measures import describe_rivals

KERNEL = 3
BOTTLENECK_FACTOR = 4


@dataclass(frozen=True, slots=True)
class Cost:
    """What a whole network costs.

    Args:
        params: number of trained parameters.
        flops: of the forward pass of one image, a multiply-add counted as two, as torch's FlopCounterMode counts:
            convolutions and matrix products alone.
    """

    params: int
    flops: int

    def __add__(self, other: "Cost") -> "Cost":
        return Cost(self.params + other.params, self.flops + other.flops)


def predict_cost(candidate: Candidate) -> Cost:
    """The cost of the network that `build_network` builds, without building it."""
    network, pattern = candidate.network, candidate.pattern
    image_channels, height, width = network.image
    cost = _convolution(image_channels, network.stem, KERNEL, height, width)
    first = network.stem  # channels of the block's node 0
    for block in range(network.blocks):
        for inputs in pattern.sources:
            cost += _layer(_channels(inputs, first, network.growth), candidate, height, width)
        read = _channels(candidate.transition_inputs, first, network.growth)
        if block < network.blocks - 1:
            first = transition_channels(candidate, read)
            cost += _batch_norm(read) + _convolution(read, first, 1, height, width)
            height, width = height // 2, width // 2
    return cost + _batch_norm(read) + Cost((read + 1) * network.classes, 2 * read * network.classes)


def predict_nn_mass(candidate: Candidate) -> float:
    """NN-Mass (Bhardwaj et al., CVPR 2021): the sum over blocks of skip density x width x depth.

    At one size and number of connections it is the same for every placement.
    """
    network = candidate.network
    return network.blocks * describe_rivals(candidate.pattern)["skip_density"] * network.growth * network.layers


def transition_channels(candidate: Candidate, n_read: int) -> int:
    """Channels that a transition writes when it reads n_read channels."""
    network = candidate.network
    if network.compression is None:
        return network.growth
    return max(1, math.floor(Decimal(str(network.compression)) * n_read))  # 0.29 of 100 is 29, in floats 28


def _channels(nodes: tuple[int, ...], first: int, growth: int) -> int:
    return sum(first if node == 0 else growth for node in nodes)


def _layer(n_channels: int, candidate: Candidate, height: int, width: int) -> Cost:
    growth = candidate.network.growth
    cost = _batch_norm(n_channels)
    if candidate.network.bottleneck:
        wide = BOTTLENECK_FACTOR * growth
        cost += _convolution(n_channels, wide, 1, height, width) + _batch_norm(wide)
        n_channels = wide
    return cost + _convolution(n_channels, growth, KERNEL, height, width)


def _batch_norm(n_channels: int) -> Cost:
    return Cost(2 * n_channels, 0)


def _convolution(n_in: int, n_out: int, kernel: int, height: int, width: int) -> Cost:
    weights = n_in * n_out * kernel * kernel
    return Cost(weights, 2 * weights * height * width)
