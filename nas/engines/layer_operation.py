"""The layers of a block as one operator: gather, BN-ReLU, convolution; in C++ on a CPU, else in plain torch."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from itertools import accumulate
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.nn.grad import conv2d_input, conv2d_weight

from nas.engines.native import load_library

EPSILON = 1e-5  # added to variances, as nn.BatchNorm2d does by default
KEPT_BYTES = 1 << 26  # of a block's bottlenecks: as measured, more takes longer to store than to compute again


class Sources(NamedTuple):
    """Nodes that the layers read; the block's inputs are its first nodes, then comes one node a layer.

    Args:
        nodes: (cohort, sum of degrees) int64, the nodes that layer 1 reads, then those of layer 2, and so on.
        degrees: in-degree of each layer.
    """

    nodes: Tensor
    degrees: Sequence[int]


@dataclass(frozen=True, slots=True)
class Index:
    """Nodes that each layer of each member reads, on a device: the sources of Triton's kernels.

    A slot is one node that a layer may read: a layer has as many as the member that reads most. All patterns of these
    degrees have the same shapes.

    Args:
        sources: node of each slot, layer by layer, (cohort, slots) int32; -1 where a member reads fewer.
        firsts: first slot of each layer, then the number of slots, (layers + 1,) int32.
        degrees: number of slots of each layer.
    """

    sources: Tensor
    firsts: Tensor
    degrees: tuple[int, ...]


def index_sources(sources: Sequence[Sequence[Sequence[int]]], device: torch.device) -> Index:
    """Return the index of the nodes that each layer reads, given for each member."""
    degrees = tuple(max(map(len, reads)) for reads in zip(*sources, strict=True))
    padded = [
        [node for nodes, degree in zip(reads, degrees, strict=True) for node in (*nodes, *[-1] * (degree - len(nodes)))]
        for reads in sources
    ]
    firsts = list(accumulate(degrees, initial=0))
    slots, begins = (torch.tensor(values, dtype=torch.int32, device=device) for values in (padded, firsts))
    return Index(slots, begins, degrees)


class Parameters(NamedTuple):
    """Parameters of each convolution and the BN before it. The cohort axis may be left out where there is one member.

    There is one 3x3 convolution a layer; with bottlenecks those of all layers' 1x1 convolutions come first, then those
    of all layers' 3x3 convolutions.

    Args:
        scales, shifts: BN's parameters, (cohort, channels read).
        weights: kernels, (cohort, channels written, channels read, 3, 3) or (..., 1, 1).
    """

    scales: Sequence[Tensor]
    shifts: Sequence[Tensor]
    weights: Sequence[Tensor]


class RunningStatistics(NamedTuple):
    """Running mean and variance of each convolution's BN, (cohort, channels read)."""

    means: list[Tensor]
    variances: list[Tensor]


class LayerOutputs(NamedTuple):
    """Results of the operator.

    Args:
        nodes: requested nodes, each (cohort, batch, channels, height, width).
        mean, variance: batch statistics over batch and pixels, (cohort, channels of all nodes, then of all
            bottlenecks); the variance divided by n. They carry no gradient; zeros where running statistics were given.
    """

    nodes: list[Tensor]
    mean: Tensor
    variance: Tensor


def run_layers(
    inputs: Sequence[Tensor],
    sources: Sources,
    outputs: Sequence[int],
    parameters: Parameters,
    running: RunningStatistics | None = None,
    epsilon: float = EPSILON,
    keep: bool = True,
    in_bfloat16: bool = False,
) -> LayerOutputs:
    """Run every layer of a block: concatenate its sources, BN-ReLU, 3x3 convolution with zero padding.

    With bottlenecks BN-ReLU and a 1x1 convolution come before that; see Parameters. The cohort axis comes first:
    members of a cohort share shapes and in-degrees, and differ in sources and numbers. Batch statistics are computed
    once a node, however many layers read it, and the backward pass recomputes activations: a training step keeps one
    map a node, and what the 1x1 convolutions give if that is small. In C++ on a CPU, if it can be built; else in plain
    torch.

    Args:
        inputs: the block's inputs, each (cohort, batch, channels, height, width).
        sources: nodes that each layer reads.
        outputs: nodes to return.
        parameters: parameters of each layer.
        running: statistics to normalise by, which allow no gradient; None: the batch's own.
        epsilon: number added to variances.
        keep: whether to keep bottlenecks for the backward pass if they are small, which else recomputes them: the
            same results.
        in_bfloat16: whether products of convolutions are computed from operands rounded to bfloat16; sums, maps and
            statistics stay in the inputs' type, which is float32.

    Raises:
        RuntimeError: shapes do not fit, a source is no earlier node, or the library cannot multiply in bfloat16.
    """
    if inputs[0].device.type == "cpu" and _is_compiled():
        tensors = (*parameters, *(running or RunningStatistics([], [])))
        is_training = running is None and torch.is_grad_enabled()
        keep = keep and is_training and are_small(parameters.weights, len(sources.degrees), inputs[0])
        results = torch.ops.skipsearch.layers(inputs, *sources, outputs, *tensors, epsilon, keep, in_bfloat16)
        return LayerOutputs(*results[:3])
    return run_layers_in_torch(inputs, sources, outputs, parameters, running, epsilon, in_bfloat16)


def can_pack(device: torch.device) -> bool:
    """Return whether run_packed_layers runs on a device."""
    return device.type == "cpu" and _is_compiled()


def run_packed_layers(
    inputs: Sequence[Tensor],
    sources: Sources,
    outputs: Sequence[int],
    packed: Tensor,
    parts: Sequence[Tensor],
    epsilon: float = EPSILON,
    in_bfloat16: bool = False,
) -> LayerOutputs:
    """Compute `run_layers` by the batch's statistics, bit for bit, with one gradient for the parameters of all layers.

    Bottlenecks are kept for the backward pass if they are small.

    Args:
        packed: all scales, then all shifts, then all weights, each as the members of the cohort follow one another.
        parts: its views: scales of each layer, then shifts, then weights, as Parameters has them.
        in_bfloat16: see run_layers.

    Raises:
        RuntimeError: see run_layers; or the parts are not those of the packed tensor.
    """
    keep = are_small(parts[2 * len(parts) // 3 :], len(sources.degrees), inputs[0])
    operator = torch.ops.skipsearch.packed_layers
    return LayerOutputs(*operator(inputs, packed, *sources, outputs, parts, epsilon, keep, in_bfloat16))


def are_small(weights: Sequence[Tensor], n_layers: int, maps: Tensor) -> bool:
    """Return whether a block's bottlenecks are small enough to be kept for the backward pass.

    Args:
        weights: weights of all convolutions, as Parameters has them.
        maps: an input of the block, or images of its resolution, (..., batch, channels, height, width).
    """
    n_channels = sum(weight.shape[-4] for weight in weights[:-n_layers])
    return n_channels * maps[..., 0, :, :].numel() * maps.element_size() <= KEPT_BYTES


def run_layers_in_torch(
    inputs: Sequence[Tensor],
    sources: Sources,
    outputs: Sequence[int],
    parameters: Parameters,
    running: RunningStatistics | None = None,
    epsilon: float = EPSILON,
    in_bfloat16: bool = False,
) -> LayerOutputs:
    """Run every layer by torch's own operations; the reference for run_layers."""
    n_members, n_layers = len(inputs[0]), len(sources.degrees)
    nodes = list(inputs)
    statistics = [_measure(node) for node in nodes]
    of_bottlenecks: list[tuple[Tensor, Tensor]] = []

    def convolve(number: int, x: Tensor, mean: Tensor, variance: Tensor) -> Tensor:
        """BN-ReLU-convolution of x, (cohort, batch, channels, height, width); its statistics are (cohort, channels)."""
        if running:
            mean, variance = (part[number].reshape(n_members, -1) for part in running)
        scale, shift = (part[number].reshape(n_members, -1) for part in (parameters.scales, parameters.shifts))
        factor = scale / torch.sqrt(variance + epsilon)
        offset = shift - mean * factor
        x = F.relu(x * factor[:, None, :, None, None] + offset[:, None, :, None, None])
        weight = parameters.weights[number].flatten(0, -4)  # (cohort * channels written, channels read, taps)
        is_rounded = in_bfloat16 and weight.shape[-1] > 1
        x = (_RoundedConvolution.apply if is_rounded else _convolve)(x.transpose(0, 1).flatten(1, 2), weight, n_members)
        return x.reshape(len(x), n_members, -1, *x.shape[2:]).transpose(0, 1)

    for layer, read in enumerate(torch.split(sources.nodes, list(sources.degrees), dim=1)):
        x, mean, variance = (
            torch.stack([torch.cat([part[node][k] for node in own], dim) for k, own in enumerate(read.tolist())])
            for part, dim in ((nodes, 1), *((list(part), 0) for part in zip(*statistics, strict=True)))
        )
        x = convolve(layer, x, mean, variance)
        if len(parameters.weights) > n_layers:  # that was a bottleneck
            of_bottlenecks.append(_measure(x))
            x = convolve(n_layers + layer, x, *of_bottlenecks[-1])
        nodes.append(x)
        statistics.append(_measure(x))
    measured = zip(*statistics, *of_bottlenecks, strict=True)
    mean, variance = (torch.cat([part.detach() for part in parts], dim=1) for parts in measured)
    if running:
        mean, variance = torch.zeros_like(mean), torch.zeros_like(variance)
    return LayerOutputs([nodes[node] for node in outputs], mean, variance)


def _convolve(x: Tensor, weight: Tensor, groups: int) -> Tensor:
    return F.conv2d(x, weight, padding=weight.shape[-1] // 2, groups=groups)


class _RoundedConvolution(torch.autograd.Function):
    """A 3x3 convolution and its two gradients, with both operands of every product rounded to bfloat16."""

    @staticmethod
    def forward(context: Any, x: Tensor, weight: Tensor, groups: int) -> Tensor:
        x, weight = (operand.bfloat16().to(operand.dtype) for operand in (x, weight))
        context.save_for_backward(x, weight)
        context.groups = groups
        return _convolve(x, weight, groups)

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> tuple[Tensor, Tensor, None]:
        x, weight = context.saved_tensors
        gradient = gradient.bfloat16().to(gradient.dtype)
        options: dict[str, Any] = {"padding": 1, "groups": context.groups}
        by_x = conv2d_input(x.shape, weight, gradient, **options)  # type: ignore[no-untyped-call]
        by_weight = conv2d_weight(x, weight.shape, gradient, **options)  # type: ignore[no-untyped-call]
        return by_x, by_weight, None


@cache
def _is_compiled() -> bool:
    """Return whether layer_operation.cpp's operators are loaded; if so, tell torch the shapes of their results."""
    if not load_library():
        return False
    torch.library.register_fake("skipsearch::layers", _shape_layers)
    torch.library.register_fake("skipsearch::layers_backward", _shape_gradients)
    return True


def _shape_layers(
    inputs: list[Tensor],
    _sources: Tensor,
    degrees: list[int],
    outputs: list[int],
    *rest: Any,
    keep: bool = False,
    **_more: Any,
) -> tuple[list[Tensor], Tensor, Tensor, Tensor, Tensor]:
    _scales, _shifts, weights, _means, _variances, _epsilon, *further = rest  # `keep` comes first of these
    n_members, n_images, _, height, width = inputs[0].shape
    widths = [x.shape[2] for x in inputs] + [weights[-1].shape[-4]] * len(degrees)
    n_measured = sum(widths) + sum(weight.shape[-4] for weight in weights[: -len(degrees)])
    new = inputs[0].new_empty
    lanes = torch.ops.skipsearch.vector_bytes() // inputs[0].element_size()
    n_groups = -(-n_images // lanes)
    maps = new(n_members, n_groups, sum(widths), height, width, lanes)
    inner_maps = new(0)
    if (keep or any(further[:1])) and len(weights) > len(degrees):
        inner_maps = new(n_members * len(degrees), n_groups, weights[0].shape[-4], height, width, lanes)
    nodes = [new(n_members, n_images, widths[node], height, width) for node in outputs]
    return nodes, new(n_members, n_measured), new(n_members, n_measured), maps, inner_maps


def _shape_gradients(
    _gradients: list[Tensor], _outputs: list[int], widths: list[int], n_images: int, maps: Tensor, *rest: Any
) -> tuple[list[Tensor], ...]:
    _inner, _mean, _variance, _sources, _degrees, scales, shifts, weights, *_ = rest
    n_members, _, _, height, width, _ = maps.shape
    inputs = [maps.new_empty(n_members, n_images, n_channels, height, width) for n_channels in widths]
    return inputs, *([torch.empty_like(tensor) for tensor in like] for like in (scales, shifts, weights))


def _measure(node: Tensor) -> tuple[Tensor, Tensor]:
    """Return mean and variance of each channel, each (cohort, channels)."""
    variance, mean = torch.var_mean(node, dim=(1, 3, 4), correction=0)
    return mean, variance
