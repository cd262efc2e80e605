"""The layers of a block as one operator: gather, BN-ReLU, 3x3 convolution; in C++ for the CPU, and in plain torch."""

from collections.abc import Sequence
from functools import cache
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from nas.engines.native import load_library


class Layers(NamedTuple):
    """What the operator gives.

    Args:
        nodes: those asked for, each (cohort, batch, channels, height, width).
        mean, variance: of every channel of the block over batch and pixels, (cohort, channels); the variance divided by
            n. They carry no gradient; zeros where running statistics were given.
    """

    nodes: list[Tensor]
    mean: Tensor
    variance: Tensor


def run_layers(
    inputs: Sequence[Tensor],
    sources: Tensor,
    degrees: Sequence[int],
    outputs: Sequence[int],
    scales: Sequence[Tensor],
    shifts: Sequence[Tensor],
    weights: Sequence[Tensor],
    running_means: Sequence[Tensor] = (),
    running_variances: Sequence[Tensor] = (),
    epsilon: float = 1e-5,
) -> Layers:
    """Every layer of a block: concatenate its sources, BN-ReLU, 3x3 convolution with zeros around; `growth` channels.

    The cohort axis comes first: members of a cohort share shapes and in-degrees, and differ in sources and numbers.
    Batch statistics are taken once a node, whoever reads it, and the backward pass makes activations anew: what a
    training step keeps is one map a node. On a CPU in C++ where that can be built; else the same in plain torch.

    Args:
        inputs: the block's inputs, its first nodes, each (cohort, batch, channels, height, width); layers follow.
        sources: (cohort, sum of degrees) int64, the nodes that layer 1 reads, then those of layer 2, and so on.
        degrees: in-degree of each layer.
        outputs: the nodes to give.
        scales, shifts: of each layer's BN, (cohort, channels read). Of these and the weights the cohort axis may be
            left out where there is one member.
        weights: of each layer, (cohort, growth, channels read, 3, 3).
        running_means, running_variances: of each layer's BN, as scales; none: the batch's own. Without gradient.
        epsilon: added to variances.

    Raises:
        RuntimeError: shapes that do not fit, a source that is no earlier node.
    """
    given = (inputs, sources, degrees, outputs, scales, shifts, weights, running_means, running_variances, epsilon)
    if inputs[0].device.type == "cpu" and _is_compiled():
        return Layers(*torch.ops.skipsearch.layers(*given)[:3])
    return run_layers_in_torch(*given)


def run_layers_in_torch(
    inputs: Sequence[Tensor],
    sources: Tensor,
    degrees: Sequence[int],
    outputs: Sequence[int],
    scales: Sequence[Tensor],
    shifts: Sequence[Tensor],
    weights: Sequence[Tensor],
    running_means: Sequence[Tensor] = (),
    running_variances: Sequence[Tensor] = (),
    epsilon: float = 1e-5,
) -> Layers:
    """The reference: see run_layers."""
    n_members, n_images, _, height, width = inputs[0].shape
    nodes = list(inputs)
    statistics = [_measure(node) for node in nodes]
    reads = torch.split(sources, list(degrees), dim=1)
    for layer, (read, weight) in enumerate(zip(reads, weights, strict=True)):
        scale, shift = (one.reshape(n_members, -1) for one in (scales[layer], shifts[layer]))
        activations = []
        for member, own in enumerate(read.tolist()):
            x = torch.cat([nodes[node][member] for node in own], dim=1)  # (batch, channels, height, width)
            if running_means:
                mean = running_means[layer].reshape(n_members, -1)[member]
                variance = running_variances[layer].reshape(n_members, -1)[member]
            else:
                mean, variance = (torch.cat([statistics[node][k][member] for node in own]) for k in range(2))
            factor = scale[member] / torch.sqrt(variance + epsilon)
            offset = shift[member] - mean * factor
            activations.append(F.relu(x * factor[:, None, None] + offset[:, None, None]))
        x = torch.cat(activations, dim=1)  # (batch, cohort * channels, height, width)
        n_read = weight.shape[-3]
        x = F.conv2d(x, weight.reshape(-1, n_read, 3, 3), padding=1, groups=n_members)
        nodes.append(x.reshape(n_images, n_members, -1, height, width).transpose(0, 1))
        statistics.append(_measure(nodes[-1]))
    mean, variance = (torch.cat([one[k].detach() for one in statistics], dim=1) for k in range(2))
    if running_means:
        mean, variance = torch.zeros_like(mean), torch.zeros_like(variance)
    return Layers([nodes[node] for node in outputs], mean, variance)


@cache
def _is_compiled() -> bool:
    """Whether the operators of layer_operation.cpp are there; if so, torch is told the shapes that they give."""
    if not load_library():
        return False
    torch.library.register_fake("skipsearch::layers", _shape_layers)
    torch.library.register_fake("skipsearch::layers_backward", _shape_gradients)
    return True


def _shape_layers(
    inputs: list[Tensor],
    sources: Tensor,  # noqa: ARG001  the operator's arguments
    degrees: list[int],
    outputs: list[int],
    scales: list[Tensor],  # noqa: ARG001
    shifts: list[Tensor],  # noqa: ARG001
    weights: list[Tensor],
    running_means: list[Tensor],  # noqa: ARG001
    running_variances: list[Tensor],  # noqa: ARG001
    epsilon: float,  # noqa: ARG001
) -> tuple[list[Tensor], Tensor, Tensor, Tensor]:
    n_members, n_images, _, height, width = inputs[0].shape
    widths = [x.shape[2] for x in inputs] + [weights[0].shape[-4]] * len(degrees)
    new = inputs[0].new_empty
    lanes = torch.ops.skipsearch.vector_bytes() // inputs[0].element_size()
    maps = new(n_members, -(-n_images // lanes), sum(widths), height, width, lanes)
    nodes = [new(n_members, n_images, widths[node], height, width) for node in outputs]
    return nodes, new(n_members, sum(widths)), new(n_members, sum(widths)), maps


def _shape_gradients(
    gradients: list[Tensor],  # noqa: ARG001  the operator's arguments
    outputs: list[int],  # noqa: ARG001
    widths: list[int],
    n_images: int,
    maps: Tensor,
    mean: Tensor,  # noqa: ARG001
    variance: Tensor,  # noqa: ARG001
    sources: Tensor,  # noqa: ARG001
    degrees: list[int],  # noqa: ARG001
    scales: list[Tensor],
    shifts: list[Tensor],
    weights: list[Tensor],
    epsilon: float,  # noqa: ARG001
) -> tuple[list[Tensor], ...]:
    n_members, _, _, height, width, _ = maps.shape
    inputs = [maps.new_empty(n_members, n_images, n_channels, height, width) for n_channels in widths]
    return inputs, *([torch.empty_like(one) for one in like] for like in (scales, shifts, weights))


def _measure(node: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and variance of each channel, each (cohort, channels)."""
    variance, mean = torch.var_mean(node, dim=(1, 3, 4), correction=0)
    return mean, variance
