"""A block's modules -> its layers in one call of the layer operation, the modules' running statistics kept."""

from collections.abc import Sequence
from itertools import accumulate
from typing import cast

import torch
from torch import Tensor, nn

from nas.layer_operation import run_layers


class FusedLayers:
    """Layers that are each BN-ReLU-conv3x3, run as one.

    The parameters and running statistics stay those of the modules.

    Args:
        widths: channels of the block's inputs.
        sources: the nodes that each layer reads.
        wanted: the nodes that are read after the block; no others are given.
        normalisations, convolutions: of each layer.
    """

    def __init__(
        self,
        widths: Sequence[int],
        sources: Sequence[Sequence[int]],
        wanted: Sequence[int],
        normalisations: Sequence[nn.BatchNorm2d],
        convolutions: Sequence[nn.Conv2d],
    ) -> None:
        self._sources = torch.tensor([[node for nodes in sources for node in nodes]])  # (1, connections)
        self._degrees = [len(nodes) for nodes in sources]
        self._wanted = list(wanted)
        self._written = [node for node in wanted if node >= len(widths)]
        self._normalisations = list(normalisations)
        self._scales = [one.weight for one in normalisations]
        self._shifts = [one.bias for one in normalisations]
        self._weights = [one.weight for one in convolutions]
        self._means = [cast(Tensor, one.running_mean) for one in normalisations]
        self._variances = [cast(Tensor, one.running_var) for one in normalisations]
        self._counts = [cast(Tensor, one.num_batches_tracked) for one in normalisations]
        firsts = list(accumulate([*widths, *(one.out_channels for one in convolutions)], initial=0))
        channels = [c for nodes in sources for node in nodes for c in range(firsts[node], firsts[node + 1])]
        self._channels = torch.tensor(channels)  # read by layer 1, then by layer 2, and so on
        self._n_read = [one.num_features for one in normalisations]

    def __call__(self, inputs: Sequence[Tensor], is_training: bool) -> dict[int, Tensor]:
        """The block's inputs, each (batch, channels, height, width) -> the nodes wanted."""
        held = ([], []) if is_training else (self._means, self._variances)
        nodes, mean, variance = run_layers(
            [x[None] for x in inputs],
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
            batch, _, height, width = inputs[0].shape
            self._track(mean[0], variance[0], batch * height * width)
        written = {number: node[0] for number, node in zip(self._written, nodes, strict=True)}
        return {number: written[number] if number in written else inputs[number] for number in self._wanted}

    @torch.no_grad()
    def _track(self, mean: Tensor, variance: Tensor, n_values: int) -> None:
        """Bring the running statistics forward as nn.BatchNorm2d does.

        Args:
            mean, variance: of every channel of the block, over n_values.
        """
        if n_values < 2:
            raise ValueError("expected more than 1 value per channel when training")
        torch._foreach_add_(self._counts, 1)
        momentum = self._normalisations[0].momentum
        share = 1 / float(self._counts[0]) if momentum is None else momentum
        variance = variance * (n_values / (n_values - 1))
        for held, batch in ((self._means, mean), (self._variances, variance)):
            torch._foreach_lerp_(held, torch.split(batch[self._channels], self._n_read), share)
