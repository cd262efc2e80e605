"""A block's modules -> its layers in one call of the layer operation, the modules' running statistics kept."""

from collections.abc import Sequence
from importlib.util import find_spec
from itertools import accumulate
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor, nn

from nas.engines.layer_operation import run_layers

if TYPE_CHECKING:
    from nas.engines.triton_layers import Index  # Triton is imported where it is used alone


def uses_triton(device: torch.device) -> bool:
    """Whether layers run there as Triton's kernels: see triton_layers.py."""
    return device.type == "cuda"


def can_fuse(
    sources: Sequence[Sequence[Sequence[int]]], widths: Sequence[int], growth: int, map_width: int, device: torch.device
) -> bool:
    """Whether layers that are each BN-ReLU-conv3x3 can run as one operation on a device.

    Args:
        sources: the nodes that each layer reads, for each member of the cohort.
        widths: channels of the block's inputs.
        map_width: of its maps, in pixels.
    """
    if uses_triton(device):
        if not find_spec("triton"):  # torch brings it along where it has CUDA, but for Windows
            return False
        from nas.engines.triton_layers import takes

        return takes(widths, growth, map_width)
    # Members are filled up by reading node 0 again: so all nodes must be of one width, or nothing is filled up.
    n_channels = [*widths, *[growth] * len(sources[0])]
    profiles = {tuple((len(nodes), sum(n_channels[node] for node in nodes)) for nodes in own) for own in sources}
    return set(widths) == {growth} or len(profiles) == 1


class FusedLayers:
    """Layers that are each BN-ReLU-conv3x3, run as one.

    The parameters and running statistics stay those of the modules, which may have a leading cohort axis. For what
    `can_fuse` says yes to.

    Args:
        widths: channels of the block's inputs.
        sources: the nodes that each layer reads, for each member of the cohort. Where a member reads fewer channels
            than the modules have, what is beyond has weights, scales and shifts of zero.
        wanted: the nodes that are read after the block; no others are given.
        normalisations, convolutions: of each layer.
    """

    def __init__(
        self,
        widths: Sequence[int],
        sources: Sequence[Sequence[Sequence[int]]],
        wanted: Sequence[int],
        normalisations: Sequence[nn.BatchNorm2d],
        convolutions: Sequence[nn.Conv2d],
    ) -> None:
        n_members = len(sources)
        self._degrees = [max(len(own[k]) for own in sources) for k in range(len(convolutions))]
        self._wanted = list(wanted)
        self._written = [node for node in wanted if node >= len(widths)]
        self._normalisations = list(normalisations)
        self._epsilon = normalisations[0].eps
        self._scales = [one.weight for one in normalisations]
        self._shifts = [one.bias for one in normalisations]
        self._weights = [one.weight for one in convolutions]
        self._means = [cast(Tensor, one.running_mean).view(n_members, -1) for one in normalisations]
        self._variances = [cast(Tensor, one.running_var).view(n_members, -1) for one in normalisations]
        self._counts = [cast(Tensor, one.num_batches_tracked) for one in normalisations]
        self._firsts = list(accumulate([*widths, *(one.out_channels for one in convolutions)], initial=0))
        self._n_read = [one.shape[1] for one in self._means]
        device = self._weights[0].device
        self._index: Index | None = None
        if uses_triton(device):
            from nas.engines.triton_layers import index_sources

            self._index = index_sources(sources, device)
        # Both (cohort, read by layer 1, then by layer 2, and so on).
        self._sources = torch.tensor([self._list_nodes(own) for own in sources])
        self._channels = torch.tensor([self._list_channels(own) for own in sources], device=device)

    def read_others(self, sources: Sequence[Sequence[Sequence[int]]]) -> None:
        """Let members read other nodes, each layer as many as before; in place, as a captured graph asks for."""
        self._sources.copy_(torch.tensor([self._list_nodes(own) for own in sources]))
        self._channels.copy_(torch.tensor([self._list_channels(own) for own in sources]))
        if self._index is not None:
            from nas.engines.triton_layers import index_sources

            self._index.sources.copy_(index_sources(sources, torch.device("cpu")).sources)

    def _list_nodes(self, own: Sequence[Sequence[int]]) -> list[int]:
        """What a member's layers read, with node 0 again where it reads fewer than others."""
        pairs = zip(own, self._degrees, strict=True)
        return [node for nodes, degree in pairs for node in (*nodes, *[0] * (degree - len(nodes)))]

    def _list_channels(self, own: Sequence[Sequence[int]]) -> list[int]:
        """What a member's layers read, with channel 0 again where it reads fewer than others."""
        listed: list[int] = []
        for nodes, n_read in zip(own, self._n_read, strict=True):
            read = [c for node in nodes for c in range(self._firsts[node], self._firsts[node + 1])]
            listed += [*read, *[0] * (n_read - len(read))]
        return listed

    def __call__(self, inputs: Sequence[Tensor], is_training: bool) -> dict[int, Tensor]:
        """The block's inputs, each (cohort, batch, channels, height, width) -> the nodes wanted."""
        held = ([], []) if is_training else (self._means, self._variances)
        if self._index is None:
            parameters = (self._scales, self._shifts, self._weights)
            nodes, mean, variance = run_layers(
                inputs, self._sources, self._degrees, self._written, *parameters, *held, self._epsilon
            )
        else:
            nodes, mean, variance = self._run_in_triton(self._index, inputs, *held)
        if is_training:
            _, batch, _, height, width = inputs[0].shape
            self._track(mean, variance, batch * height * width)
        written = dict(zip(self._written, nodes, strict=True))
        return {number: written[number] if number in written else inputs[number] for number in self._wanted}

    def _run_in_triton(
        self, index: "Index", inputs: Sequence[Tensor], means: Sequence[Tensor], variances: Sequence[Tensor]
    ) -> tuple[list[Tensor], Tensor, Tensor]:
        from nas.engines.triton_layers import run_layers_in_triton

        n_members = len(self._sources)
        scales, shifts = ([one.view(n_members, -1) for one in ours] for ours in (self._scales, self._shifts))
        weights = [one.view(n_members, -1, *one.shape[-3:]) for one in self._weights]
        parameters = (scales, shifts, weights)
        return run_layers_in_triton(inputs, index, self._written, *parameters, means, variances, self._epsilon)

    @torch.no_grad()
    def _track(self, mean: Tensor, variance: Tensor, n_values: int) -> None:
        """Bring the running statistics forward as nn.BatchNorm2d does.

        Args:
            mean, variance: of every channel of the block, (cohort, channels), over n_values.
        """
        if n_values < 2:
            raise ValueError("expected more than 1 value per channel when training")
        torch._foreach_add_(self._counts, 1)
        momentum = self._normalisations[0].momentum
        share = 1 / float(self._counts[0]) if momentum is None else momentum
        variance = variance * (n_values / (n_values - 1))
        for held, batch in ((self._means, mean), (self._variances, variance)):
            torch._foreach_lerp_(held, torch.split(batch.gather(1, self._channels), self._n_read, dim=1), share)
