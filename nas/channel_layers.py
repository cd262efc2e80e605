"""The layers of a block in plain torch for a GPU: sources as an index on the device, no host synchronisation."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

aten = torch.ops.aten


def run_layers_by_channel(
    inputs: Tensor,
    channels: Tensor,
    scales: Sequence[Tensor],
    shifts: Sequence[Tensor],
    weights: Sequence[Tensor],
    running_means: Sequence[Tensor] = (),
    running_variances: Sequence[Tensor] = (),
    epsilon: float = 1e-5,
    memory_format: torch.memory_format | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Every layer of a block: gather the channels that it reads, BN-ReLU, 3x3 convolution with zeros around.

    As nas.layer_operation.run_layers, for a GPU and CUDA graphs: the host never waits for a number, and no shape
    depends on one. Batch statistics are taken once a channel, whoever reads it, and the backward pass makes activations
    anew: what a training step keeps is one map a channel. Members of a cohort do not touch each other.

    Inputs in bfloat16 are convolved in bfloat16; statistics, factors and their gradients are then float32. Parameters
    may be float32 all the same, and each gradient is of its parameter's type.

    Args:
        inputs: the block's input nodes side by side, (batch, cohort, channels in, height, width).
        channels: (cohort, sum of channels read) int64, which of the block's channels (those of the inputs, then those
            of layer 1, and so on) layer 1 reads, then layer 2, and so on. One may come twice: with scale, shift and
            weights of zero it is padding, and these keep gradients of zero. That each is of an earlier node is not
            checked, for that the host would have to wait: what another gives is undefined.
        scales, shifts: of each layer's BN, (cohort, channels read).
        weights: of each layer, (cohort, growth, channels read, 3, 3).
        running_means, running_variances: of each layer's BN, as scales; none: the batch's own. Without gradient.
        epsilon: added to variances.
        memory_format: of the maps; by default torch.channels_last on a GPU, torch.contiguous_format elsewhere.

    Returns:
        maps: of all nodes, inputs first, (batch, cohort, channels, height, width).
        mean, variance: of every channel over batch and pixels, (cohort, channels); the variance divided by n. They
            carry no gradient; zeros where running statistics were given.

    Raises:
        ValueError: shapes that do not fit; a gradient asked for by running statistics.
    """
    running = [*running_means, *running_variances]
    _check_inputs(inputs, channels, weights)
    for name, values in {"scales": scales, "shifts": shifts}.items():
        _check_normalisation(name, values, weights)
    if running:
        _check_normalisation("running means", running_means, weights)
        _check_normalisation("running variances", running_variances, weights)
    if memory_format is None:
        memory_format = torch.channels_last if inputs.device.type == "cuda" else torch.contiguous_format
    index, parameters = _offset_channels(channels, inputs, weights), (*scales, *shifts, *weights)
    if not running:
        apply = cast(Callable[..., tuple[Tensor, Tensor]], _ChannelLayers.apply)
        maps, statistics = apply(inputs, index, epsilon, memory_format, *parameters)
    elif torch.is_grad_enabled() and any(one.requires_grad for one in (inputs, *parameters, *running)):
        raise ValueError("by running statistics there is no gradient, and one is asked for: use torch.no_grad()")
    else:
        maps, statistics = _run_forward(inputs, index, epsilon, memory_format, *parameters, running=running)
    mean, variance = statistics.unbind()
    return maps, mean, variance


def _check_inputs(inputs: Tensor, channels: Tensor, weights: Sequence[Tensor]) -> None:
    """Whether inputs, channels and weights are of one block."""
    if inputs.dim() != 5 or inputs.numel() == 0 or not inputs.is_floating_point():
        raise ValueError(
            f"inputs are numbers of shape (batch, cohort, channels, height, width), none of these 0; given "
            f"{tuple(inputs.shape)} in {inputs.dtype}"
        )
    n_members = inputs.shape[1]
    for layer, weight in enumerate(weights, start=1):
        if weight.dim() != 5 or weight.shape[0] != n_members or weight.shape[3:] != (3, 3):
            raise ValueError(
                f"weights are (cohort, growth, channels read, 3, 3) with a cohort of {n_members} as in the inputs; "
                f"those of layer {layer} are {tuple(weight.shape)}"
            )
    n_read = sum(weight.shape[2] for weight in weights)
    if channels.dtype != torch.int64 or channels.shape != (n_members, n_read):
        raise ValueError(
            f"channels are int64 (cohort, channels that all layers read), by inputs and weights {(n_members, n_read)}; "
            f"given {tuple(channels.shape)} in {channels.dtype}"
        )


def _check_normalisation(name: str, values: Sequence[Tensor], weights: Sequence[Tensor]) -> None:
    """Whether there is one value a channel that is read."""
    if len(values) != len(weights):
        raise ValueError(f"of {name} there is one tensor a layer: given {len(values)}, and weights of {len(weights)}")
    for layer, (value, weight) in enumerate(zip(values, weights, strict=True), start=1):
        if value.shape != (weight.shape[0], weight.shape[2]):
            raise ValueError(
                f"{name} are (cohort, channels read), by the weights of layer {layer} "
                f"{(weight.shape[0], weight.shape[2])}; given {tuple(value.shape)}"
            )


def _offset_channels(channels: Tensor, inputs: Tensor, weights: Sequence[Tensor]) -> Tensor:
    """The channels as counted through all members, one member's after the other's; (cohort, channels read)."""
    n_channels = inputs.shape[2] + sum(weight.shape[1] for weight in weights)
    return channels + n_channels * torch.arange(len(channels), device=channels.device)[:, None]


def _split_members(x: Tensor, n_members: int) -> Tensor:
    """A view of (batch, cohort * channels, height, width) as (batch, cohort, channels, height, width)."""
    return x.view(x.shape[0], n_members, -1, *x.shape[2:])


@dataclass(frozen=True)
class _Layer:
    """A layer of all members, one member's channels after the other's.

    Args:
        begin, end: of the channels of each member that it writes.
        index: channels that it reads, (cohort * channels read).
        scale, shift: of its BN, as the index, in the statistics' type.
        weight: (cohort * growth, channels read, 3, 3), in the maps' type.
    """

    begin: int
    end: int
    index: Tensor
    scale: Tensor
    shift: Tensor
    weight: Tensor


class _Maps:
    """The channels of a block, and how a layer finds its own in them.

    Args:
        flat: (batch, cohort * channels, height, width).
        statistics: mean and variance of each channel, (2, cohort, channels).
    """

    def __init__(self, flat: Tensor, statistics: Tensor, epsilon: float, memory_format: torch.memory_format) -> None:
        self.flat, self.statistics = flat, statistics
        self.epsilon, self.memory_format = epsilon, memory_format
        self.n_members = statistics.shape[1]

    @property
    def by_member(self) -> Tensor:
        """A view, (batch, cohort, channels, height, width)."""
        return _split_members(self.flat, self.n_members)

    def flatten(self, node: Tensor) -> Tensor:
        """A node's (batch, cohort, channels, height, width) as (batch, cohort * channels, height, width)."""
        node = node.reshape(node.shape[0], -1, *node.shape[3:])
        return node.contiguous(memory_format=self.memory_format)  # as the operators give it: seldom a copy

    def gather(self, index: Tensor) -> Tensor:
        """Channels in the maps' memory format, which index_select itself would not keep."""
        if self.memory_format is torch.channels_last:
            return self.flat.permute(0, 2, 3, 1).index_select(3, index).permute(0, 3, 1, 2)
        return self.flat.index_select(1, index)

    def activate(self, x: Tensor, layer: _Layer, mean: Tensor, variance: Tensor) -> Tensor:
        """BN by these statistics, then ReLU, of the channels read."""
        x = torch.native_batch_norm(x, layer.scale, layer.shift, mean, variance, False, 0.0, self.epsilon)[0]
        return x.relu_()

    def measure(self, begin: int, end: int) -> None:
        """Keep mean and variance of the channels [begin, end) of each member."""
        node = self.by_member[:, :, begin:end].to(self.statistics.dtype)
        variance, mean = torch.var_mean(node, dim=(0, 3, 4), correction=0)
        self.statistics[0, :, begin:end] = mean
        self.statistics[1, :, begin:end] = variance

    def view_layers(self, n_inputs: int, index: Tensor, parameters: Sequence[Tensor], step: int) -> Iterator[_Layer]:
        """The layers, from the first (step 1) or from the last (step -1); each is made when it is its turn.

        Args:
            index: (cohort, channels that all layers read).
            parameters: all layers' scales, then their shifts, then their weights.
        """
        n_layers = len(parameters) // 3
        scales, shifts, weights = (parameters[k * n_layers : (k + 1) * n_layers] for k in range(3))
        growths = [weight.shape[1] for weight in weights]
        reads = torch.split(index, [weight.shape[2] for weight in weights], dim=1)
        for k in range(n_layers)[::step]:
            begin = n_inputs + sum(growths[:k])
            yield _Layer(
                begin=begin,
                end=begin + growths[k],
                index=reads[k].reshape(-1),
                scale=scales[k].reshape(-1).to(self.statistics.dtype),
                shift=shifts[k].reshape(-1).to(self.statistics.dtype),
                weight=weights[k].flatten(0, 1).to(self.flat.dtype),
            )


def _run_forward(
    inputs: Tensor,
    index: Tensor,
    epsilon: float,
    memory_format: torch.memory_format,
    *parameters: Tensor,
    running: Sequence[Tensor] = (),
) -> tuple[Tensor, Tensor]:
    """Maps (batch, cohort, channels, height, width) and statistics (2, cohort, channels).

    Args:
        running: all layers' means, then their variances; none: the batch's own.
    """
    n_images, n_members, n_inputs, *size = inputs.shape
    n_layers = len(parameters) // 3
    n_channels = n_inputs + sum(weight.shape[1] for weight in parameters[2 * n_layers :])
    shape = (n_images, n_members * n_channels, *size)
    flat = torch.empty(shape, dtype=inputs.dtype, device=inputs.device, memory_format=memory_format)
    statistics_dtype = torch.promote_types(inputs.dtype, torch.float32)
    statistics = inputs.new_zeros(2, n_members, n_channels, dtype=statistics_dtype)
    maps = _Maps(flat, statistics, epsilon, memory_format)
    maps.by_member[:, :, :n_inputs] = inputs
    if not running:
        maps.measure(0, n_inputs)
    for k, layer in enumerate(maps.view_layers(n_inputs, index, parameters, step=1)):
        if running:
            mean, variance = (one.reshape(-1).to(statistics_dtype) for one in (running[k], running[n_layers + k]))
        else:
            mean, variance = statistics.flatten(1).index_select(1, layer.index).unbind()
        x = maps.activate(maps.gather(layer.index), layer, mean, variance)  # (batch, cohort * read, height, width)
        x = F.conv2d(x, layer.weight, padding=1, groups=n_members)
        maps.by_member[:, :, layer.begin : layer.end] = _split_members(x, n_members)
        if not running:
            maps.measure(layer.begin, layer.end)
    return maps.by_member, statistics


class _Gradients:
    """Of a block's maps and statistics, as far as they are known: readers of a channel come before its own turn.

    Args:
        by_maps: those of the maps, (batch, cohort, channels, height, width).
    """

    def __init__(self, maps: _Maps, by_maps: Tensor) -> None:
        self.maps = maps
        self.flat = torch.empty_like(maps.flat)
        self.by_member = _split_members(self.flat, maps.n_members)
        self.by_member.copy_(by_maps)
        self.by_statistics = torch.zeros_like(maps.statistics)

    def finish_node(self, begin: int, end: int) -> Tensor:
        """The gradient of the channels [begin, end) of each member, that by their mean and variance with it."""
        node = self.maps.by_member[:, :, begin:end]
        n_values = node.shape[0] * node.shape[3] * node.shape[4]
        by_mean, by_variance = (self.by_statistics[:, :, begin:end, None, None] / n_values).unbind()
        deviation = node - self.maps.statistics[0, :, begin:end, None, None]
        by_node = self.by_member[:, :, begin:end] + (by_mean + 2 * by_variance * deviation)
        return by_node.to(node.dtype)

    def return_layer(self, layer: _Layer) -> tuple[Tensor, Tensor, Tensor]:
        """Add a layer's to those of what it reads; gives those of its scale, shift and weight, shaped as in it."""
        maps = self.maps
        mean, variance = maps.statistics.flatten(1).index_select(1, layer.index).unbind()
        x = maps.gather(layer.index)
        activation = maps.activate(x, layer, mean, variance)
        by_written = maps.flatten(self.finish_node(layer.begin, layer.end))
        convolution = (None, [1, 1], [1, 1], [1, 1], False, [0, 0], maps.n_members, [True, True, False])
        by_x, by_weight, _ = aten.convolution_backward(by_written, activation, layer.weight, *convolution)
        by_x = aten.threshold_backward(by_x, activation, 0)
        inverse = torch.rsqrt(variance + maps.epsilon)
        held = (mean, variance, mean, inverse, False, maps.epsilon)
        # The sums alone: the gradient to x is a product, and on a GPU it would come in another memory format.
        _, by_scale, by_shift = aten.native_batch_norm_backward(by_x, x, layer.scale, *held, [False, True, True])
        factor = layer.scale * inverse
        self.flat.index_add_(1, layer.index, by_x.mul_(factor[:, None, None]))  # a channel may be read twice
        by_statistics = torch.stack([-factor * by_shift, -0.5 * factor * inverse * by_scale])
        self.by_statistics.flatten(1).index_add_(1, layer.index, by_statistics)
        return by_scale, by_shift, by_weight


class _ChannelLayers(torch.autograd.Function):
    """run_layers_by_channel by the batch's statistics; keeps maps, statistics, the index and the parameters."""

    @staticmethod
    def forward(
        ctx: Any,
        inputs: Tensor,
        index: Tensor,
        epsilon: float,
        memory_format: torch.memory_format,
        *parameters: Tensor,
    ) -> tuple[Tensor, Tensor]:
        maps, statistics = _run_forward(inputs, index, epsilon, memory_format, *parameters)
        ctx.save_for_backward(maps, statistics, index, *parameters)
        ctx.mark_non_differentiable(statistics)
        ctx.set_materialize_grads(False)
        ctx.n_inputs, ctx.epsilon, ctx.memory_format = inputs.shape[2], epsilon, memory_format
        return maps, statistics

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, by_maps: Tensor | None, _: None) -> tuple[Tensor | None, ...]:
        by_member, statistics, index, *parameters = ctx.saved_tensors
        if by_maps is None:
            return (None,) * (4 + len(parameters))
        maps = _Maps(by_member.flatten(1, 2), statistics, ctx.epsilon, ctx.memory_format)
        known = _Gradients(maps, by_maps)
        of_layers = [known.return_layer(one) for one in maps.view_layers(ctx.n_inputs, index, parameters, step=-1)]
        by_parameters = [by for kind in zip(*reversed(of_layers), strict=True) for by in kind]
        pairs = zip(by_parameters, parameters, strict=True)
        by_inputs = known.finish_node(0, ctx.n_inputs) if ctx.needs_input_grad[0] else None
        return by_inputs, None, None, None, *(by.reshape(like.shape).to(like.dtype) for by, like in pairs)
