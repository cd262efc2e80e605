"""A block's layers run by one call of the layer operation, with the parameters and statistics of its modules."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from itertools import accumulate
from typing import cast

import torch
from torch import Tensor, nn

from nas.engines.layer_operation import (
    Index,
    LayerOutputs,
    Parameters,
    RunningStatistics,
    Sources,
    can_pack,
    index_sources,
    run_layers,
    run_packed_layers,
)

MAX_NODE_CHANNELS = 32  # for Triton's kernels
MAX_MAP_WIDTH = 64  # pixels, for Triton's kernels
logger = logging.getLogger(__name__)


def uses_triton(device: torch.device) -> bool:
    """Return whether layers run as Triton kernels on a device; see triton_layers.py."""
    return device.type == "cuda"


@cache
def _triton_runs(device: torch.device) -> bool:
    """Return whether Triton can compile and run a kernel on a device; if not, log why."""
    try:
        from nas.engines.triton_layers import run_probe

        run_probe(device)
    except (torch.OutOfMemoryError, torch.AcceleratorError):
        raise
    except Exception as reason:  # no Triton, no C compiler, or a GPU that is too old: each raises something else
        logger.warning(
            "warning: Triton's kernels do not run here (%s): torch's own operations are used, which are slower", reason
        )
        return False
    return True


def can_fuse(
    sources: Sequence[Sequence[Sequence[int]]],
    widths: Sequence[int],
    growth: int,
    map_width: int,
    device: torch.device,
    has_bottlenecks: bool = False,
) -> bool:
    """Return whether layers that are each BN-ReLU-conv3x3 can run as one operation on a device.

    Args:
        sources: nodes that each layer reads, for each member of the cohort.
        widths: channels of the block's inputs.
        map_width: width of its maps in pixels.
        has_bottlenecks: whether BN-ReLU-conv1x1 comes first in each layer; Triton's kernels have no such form.
    """
    if uses_triton(device):
        if has_bottlenecks or not _triton_runs(device):
            return False
        # Nodes of one width, and tiles that fit a multiprocessor.
        return set(widths) == {growth} and growth <= MAX_NODE_CHANNELS and map_width <= MAX_MAP_WIDTH
    # Members are padded by reading node 0 again, so either all nodes have one width or no
    # member is padded.
    n_channels = [*widths, *[growth] * len(sources[0])]
    profiles = {tuple((len(nodes), sum(n_channels[node] for node in nodes)) for nodes in reads) for reads in sources}
    return set(widths) == {growth} or len(profiles) == 1


@dataclass(frozen=True, slots=True)
class Packed:
    """What a block's layers have, each as one tensor: layer after layer, in it member after member.

    Args:
        parameters: all scales, then all shifts, then all weights; a leaf, which has their gradient.
        parts: views of it by layer, in this order.
        means, variances: running statistics of all BNs.
        counts: number of batches in these, of each layer.
        channels: for each running statistic its place in a batch's statistics, (cohort * channels,).
    """

    parameters: Tensor
    parts: list[Tensor]
    means: Tensor
    variances: Tensor
    counts: Tensor
    channels: Tensor


def _pack(tensors: Sequence[Tensor]) -> Tensor:
    """Return the numbers of tensors as one tensor, whose views they become."""
    packed = torch.cat([tensor.detach().reshape(-1) for tensor in tensors])
    for tensor, part in zip(tensors, _split_like(packed, tensors), strict=True):
        tensor.data = part
    return packed


def _split_like(packed: Tensor, tensors: Sequence[Tensor]) -> list[Tensor]:
    """Return views of a packed tensor in the shapes of the tensors that it is packed from."""
    parts = torch.split(packed, [tensor.numel() for tensor in tensors])
    return [part.view(tensor.shape) for part, tensor in zip(parts, tensors, strict=True)]


class FusedLayers:
    """A block's layers, with or without bottlenecks, run as one operation where `can_fuse` allows it.

    Parameters and running statistics stay those of the modules, which may have a leading cohort axis.

    Args:
        widths: channels of the block's inputs.
        sources: nodes that each layer reads, for each member of the cohort. Where a member reads fewer channels than
            the modules have, the rest has weights, scales and shifts of zero.
        outputs: nodes that are read after the block; only these are returned.
        norms, convs: modules of each layer; with bottlenecks those of all 1x1 convolutions, then those of all 3x3 ones.
    """

    def __init__(
        self,
        widths: Sequence[int],
        sources: Sequence[Sequence[Sequence[int]]],
        outputs: Sequence[int],
        norms: Sequence[nn.BatchNorm2d],
        convs: Sequence[nn.Conv2d],
    ) -> None:
        n_members = len(sources)
        n_layers = len(sources[0])
        self._degrees = [max(len(reads[k]) for reads in sources) for k in range(n_layers)]
        self._outputs = list(outputs)
        self._written = [node for node in outputs if node >= len(widths)]
        self._first_norm = norms[0]  # its momentum changes while fresh statistics are computed
        self._epsilon = norms[0].eps
        self._parameters = Parameters(
            [norm.weight for norm in norms], [norm.bias for norm in norms], [conv.weight for conv in convs]
        )
        self._norms = list(norms)
        self._running = self._view_statistics(n_members)
        self._counts = [cast(Tensor, norm.num_batches_tracked) for norm in norms]
        self._packed: Packed | None = None
        nodes, bottlenecks = convs[-n_layers:], convs[:-n_layers]
        n_channels = [*widths, *(conv.out_channels for conv in (*nodes, *bottlenecks))]
        self._first_channels = list(accumulate(n_channels, initial=0))
        self._n_nodes = len(widths) + n_layers
        self._n_read = [mean.shape[1] for mean in self._running.means]
        device = convs[0].weight.device
        self._index = index_sources(sources, device) if uses_triton(device) else None
        # Both (cohort, read by layer 1, then by layer 2, and so on).
        self._sources = torch.tensor([self._list_nodes(reads) for reads in sources])
        self._channels = torch.tensor([self._list_channels(reads) for reads in sources], device=device)

    def _view_statistics(self, n_members: int) -> RunningStatistics:
        return RunningStatistics(
            [cast(Tensor, norm.running_mean).view(n_members, -1) for norm in self._norms],
            [cast(Tensor, norm.running_var).view(n_members, -1) for norm in self._norms],
        )

    def pack(self) -> Tensor | None:
        """Let the parameters be views of one tensor, which gets the gradient from now on; return it.

        Autograd then has one tensor to care for, not three a layer. The gradients of the parameters are views of its
        gradient, so nobody may set any of them to None. The running statistics are packed too. None, and nothing
        changes, where the compiled operator does not run.
        """
        if not can_pack(self._channels.device):
            return None
        parts = [tensor for kind in self._parameters for tensor in kind]
        n_members = len(self._sources)
        parameters = _pack(parts).requires_grad_()
        parameters.grad = torch.zeros_like(parameters)
        for tensor, gradient in zip(parts, _split_like(parameters.grad, parts), strict=True):
            tensor.grad = gradient
        n_channels = self._first_channels[-1]
        by_layer = torch.split(self._channels + n_channels * torch.arange(n_members)[:, None], self._n_read, dim=1)
        self._packed = Packed(
            parameters,
            [part.detach() for part in parts],
            _pack([cast(Tensor, norm.running_mean) for norm in self._norms]),
            _pack([cast(Tensor, norm.running_var) for norm in self._norms]),
            _pack(self._counts),
            torch.cat([channels.flatten() for channels in by_layer]),
        )
        self._running = self._view_statistics(n_members)
        return parameters

    def take_packed(self) -> tuple[Packed, Sources]:
        """Return what is packed, and the nodes that each layer reads."""
        assert self._packed is not None, "the layers are packed"
        return self._packed, Sources(self._sources, self._degrees)

    def read_others(self, sources: Sequence[Sequence[Sequence[int]]]) -> None:
        """Let members read other nodes, as many in each layer as before; in place, as a captured graph requires."""
        self._sources.copy_(torch.tensor([self._list_nodes(reads) for reads in sources]))
        self._channels.copy_(torch.tensor([self._list_channels(reads) for reads in sources]))
        if self._index is not None:
            self._index.sources.copy_(index_sources(sources, torch.device("cpu")).sources)

    def _list_nodes(self, reads: Sequence[Sequence[int]]) -> list[int]:
        """Return the nodes that a member's layers read, padded with node 0."""
        pairs = zip(reads, self._degrees, strict=True)
        return [node for nodes, degree in pairs for node in (*nodes, *[0] * (degree - len(nodes)))]

    def _list_channels(self, reads: Sequence[Sequence[int]]) -> list[int]:
        """Return the channels that a member's layers read, padded with channel 0, and those of its bottlenecks."""
        channels: list[int] = []
        for nodes, n_read in zip(reads, self._n_read, strict=False):
            own = [c for node in nodes for c in range(self._first_channels[node], self._first_channels[node + 1])]
            channels += [*own, *[0] * (n_read - len(own))]
        return [*channels, *range(self._first_channels[self._n_nodes], self._first_channels[-1])]

    def __call__(self, inputs: Sequence[Tensor], is_training: bool, keep: bool = True) -> dict[int, Tensor]:
        """The block's inputs, each (cohort, batch, channels, height, width) -> its outputs by node; see run_layers."""
        running = None if is_training else self._running
        sources, in_bfloat16 = Sources(self._sources, self._degrees), False
        if self._index is None and torch.is_autocast_enabled("cpu"):
            inputs, in_bfloat16 = [x.float() for x in inputs], True  # those of autocast are bfloat16
        if self._packed is not None and is_training and torch.is_grad_enabled():
            packed, parts = self._packed.parameters, self._packed.parts
            outputs = run_packed_layers(inputs, sources, self._written, packed, parts, self._epsilon, in_bfloat16)
            nodes, mean, variance = outputs
        elif self._index is None:
            nodes, mean, variance = run_layers(
                inputs, sources, self._written, self._parameters, running, self._epsilon, keep, in_bfloat16
            )
        else:
            nodes, mean, variance = self._run_in_triton(self._index, inputs, running)
        if is_training:
            _, batch, _, height, width = inputs[0].shape
            self.track(mean, variance, batch * height * width)
        written = dict(zip(self._written, nodes, strict=True))
        return {number: written[number] if number in written else inputs[number] for number in self._outputs}

    def _run_in_triton(self, index: Index, inputs: Sequence[Tensor], running: RunningStatistics | None) -> LayerOutputs:
        from nas.engines.triton_layers import run_layers_in_triton

        scales, shifts, weights = self._parameters
        n_members = len(self._sources)
        parameters = Parameters(
            [scale.view(n_members, -1) for scale in scales],
            [shift.view(n_members, -1) for shift in shifts],
            [weight.view(n_members, -1, *weight.shape[-3:]) for weight in weights],
        )
        return run_layers_in_triton(inputs, index, self._written, parameters, running, self._epsilon)

    @torch.no_grad()
    def track(self, mean: Tensor, variance: Tensor, n_values: int) -> None:
        """Update the running statistics as nn.BatchNorm2d does.

        Args:
            mean, variance: statistics of every channel of the block, (cohort, channels), over n_values.
        """
        if n_values < 2:
            raise ValueError("expected more than 1 value per channel when training")
        momentum = self._first_norm.momentum
        variance = variance * (n_values / (n_values - 1))
        packed = self._packed
        if packed is not None:
            packed.counts.add_(1)
            share = 1 / float(packed.counts[0]) if momentum is None else momentum
            packed.means.lerp_(mean.flatten()[packed.channels], share)
            packed.variances.lerp_(variance.flatten()[packed.channels], share)
            return
        torch._foreach_add_(self._counts, 1)
        share = 1 / float(self._counts[0]) if momentum is None else momentum
        for running, batch in zip(self._running, (mean, variance), strict=True):
            torch._foreach_lerp_(running, torch.split(batch.gather(1, self._channels), self._n_read, dim=1), share)
