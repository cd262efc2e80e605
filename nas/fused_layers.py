"""A block's modules -> its layers in one call of the layer operation, the modules' running statistics kept."""

from collections.abc import Sequence
from itertools import accumulate
from typing import cast

import torch
from torch import Tensor, nn

from nas.layer_operation import run_layers


class FusedLayers:
    """Layers that are each BN-ReLU-conv3x3, run as one.

    The parameters and running statistics stay those of the modules, which may have a leading cohort axis.

    Args:
        widths: channels of the block's inputs.
        sources: the nodes that each layer reads, for each member of the cohort; in-degrees and channels are the same.
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
        read = [[node for nodes in member for node in nodes] for member in sources]
        self._sources = torch.tensor(read)  # (cohort, connections)
        self._degrees = [len(nodes) for nodes in sources[0]]
        self._wanted = list(wanted)
        self._written = [node for node in wanted if node >= len(widths)]
        self._normalisations = list(normalisations)
        self._scales = [one.weight for one in normalisations]
        self._shifts = [one.bias for one in normalisations]
        self._weights = [one.weight for one in convolutions]
        n_members = len(sources)
        self._means = [cast(Tensor, one.running_mean).view(n_members, -1) for one in normalisations]
        self._variances = [cast(Tensor, one.running_var).view(n_members, -1) for one in normalisations]
        self._counts = [cast(Tensor, one.num_batches_tracked) for one in normalisations]
        firsts = list(accumulate([*widths, *(one.out_channels for one in convolutions)], initial=0))
        channels = [[c for node in nodes for c in range(firsts[node], firsts[node + 1])] for nodes in read]
        self._channels = torch.tensor(channels)  # (cohort, read by layer 1, then by layer 2, and so on)
        self._n_read = [one.shape[1] for one in self._means]

    def __call__(self, inputs: Sequence[Tensor], is_training: bool) -> dict[int, Tensor]:
        """The block's inputs, each (cohort, batch, channels, height, width) -> the nodes wanted."""
        held = ([], []) if is_training else (self._means, self._variances)
        nodes, mean, variance = run_layers(
            inputs,
            self._sources,
            self._degrees,
            self._written,
            self._scales,
            self._shifts,
            self._weights,
            *held,
            self._normalisations[0].eps,
        )
        if is_training:
            _, batch, _, height, width = inputs[0].shape
            self._track(mean, variance, batch * height * width)
        written = dict(zip(self._written, nodes, strict=True))
        return {number: written[number] if number in written else inputs[number] for number in self._wanted}

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
