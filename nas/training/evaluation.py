"""Batch statistics, validation loss and accuracy of a trained network."""

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

EVALUATION_BATCH = 256
N_STATISTICS_IMAGES = 2048  # training images for batch statistics: more change them little


class NonFiniteLossError(ArithmeticError):
    """The validation loss is infinite or not a number."""


@torch.no_grad()
def take_statistics(network: nn.Module, run: Callable[[Tensor], Tensor], images: Sequence[Tensor]) -> None:
    """Replace the statistics of every BN by averages over training images, computed in one pass.

    Running averages lag behind after few steps; these do not. They average the mean and variance of each batch of
    EVALUATION_BATCH images, the earlier layers normalised by the same batch. Nothing is dropped meanwhile.

    Args:
        network: module with all BNs.
        run: the network as a function of a batch, (cohort, batch, channels, height, width).
        images: training images of each member.
    """
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # a cumulative average, in torch
    network.train()
    for module in network.modules():
        if isinstance(module, nn.Dropout):
            module.eval()
    batches = (_split_evenly(own[:N_STATISTICS_IMAGES]) for own in images)
    for batch in zip(*batches, strict=True):
        run(torch.stack(batch))
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum


def _split_evenly(images: Tensor) -> tuple[Tensor, ...]:
    """Split images into batches as equal as possible, since each counts the same in the average."""
    return images.tensor_split(max(1, math.ceil(len(images) / EVALUATION_BATCH)))


@torch.no_grad()
def predict(network: nn.Module, run: Callable[[Tensor], Tensor], images: Sequence[Tensor]) -> Tensor:
    """Return logits of each member's images by the network's running statistics.

    Args:
        network, run, images: see take_statistics.

    Returns:
        (cohort, n, classes); of networks with exits (cohort, n, exits, classes).
    """
    network.eval()
    batches = zip(*(torch.split(own, EVALUATION_BATCH) for own in images), strict=True)
    return torch.cat([run(torch.stack(batch)) for batch in batches], dim=1)


def score(logits: Tensor, labels: Tensor) -> tuple[float, float]:
    """Return mean cross-entropy in nats and accuracy of logits (n, classes).

    Raises:
        NonFiniteLossError: the loss is infinite or not a number.
    """
    loss = float(F.cross_entropy(logits, labels))
    if not math.isfinite(loss):
        raise NonFiniteLossError(f"validation loss is {loss} after the last step")
    return loss, float((logits.argmax(dim=1) == labels).double().mean())
