"""A training step's loss and gradients of a network of one block, in one call and without autograd."""

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn

from nas.engines.fused_layers import FusedLayers
from nas.engines.layer_operation import are_small


class NetworkGradients:
    """Computes the gradients of a small network, whose autograd takes as long as its convolutions.

    It calls the operations that autograd would, so all numbers are the same, bit for bit.

    Args:
        stem: a 3x3 convolution.
        layers: the layers of the block, packed; the stem is their only input.
        read: nodes that the classifier reads, ascending.
        norm: BN of their concatenation.
        classifier: what follows BN-ReLU and the average over pixels.
    """

    def __init__(
        self, stem: nn.Conv2d, layers: FusedLayers, read: Sequence[int], norm: nn.BatchNorm2d, classifier: nn.Linear
    ) -> None:
        self._layers, self._norm, self._read = layers, norm, list(read)
        self._stem = stem.weight
        self._classifier = [classifier.weight, classifier.bias]
        self._statistics = [cast(Tensor, norm.running_mean), cast(Tensor, norm.running_var)]
        self._count = cast(Tensor, norm.num_batches_tracked)

    @torch.no_grad()
    def take(self, images: Tensor, labels: Tensor) -> Tensor:
        """Set the gradients of all parameters, update the running statistics, and return the loss.

        Args:
            images: (batch, channels, height, width).
            labels: (batch,).

        Returns:
            The mean cross-entropy in nats, (1,).
        """
        norm = self._norm
        assert norm.momentum is not None, "a training step does not average cumulatively"
        head = [norm.weight, norm.bias, *self._statistics]
        packed, sources = self._layers.take_packed()
        loss, mean, variance, gradients = torch.ops.skipsearch.network_gradients(
            images,
            labels,
            self._stem,
            packed.parameters,
            *sources,
            self._read,
            packed.parts,
            head,
            norm.momentum,
            self._classifier,
            norm.eps,
            are_small(packed.parts[2 * len(packed.parts) // 3 :], len(sources.degrees), images),
            packed.parameters.grad,
        )
        self._count.add_(1)
        self._layers.track(mean, variance, images.shape[0] * images.shape[2] * images.shape[3])
        for parameter, gradient in zip((self._stem, *head[:2], *self._classifier), gradients, strict=True):
            parameter.grad = gradient
        return cast(Tensor, loss)
