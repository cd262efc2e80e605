"""Trained network -> batch statistics, validation loss and accuracy."""

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

EVALUATION_BATCH = 256
N_STATISTICS_IMAGES = 2048  # training images that batch statistics are taken over: more change them little


class NonFiniteLossError(ArithmeticError):
    """The loss of a step, or of validation, is infinite or not a number."""


@torch.no_grad()
def take_statistics(network: nn.Module, run: Callable[[Tensor], Tensor], images: Sequence[Tensor]) -> None:
    """Take the batch statistics of every normalisation anew, over training images, in one pass.

    Running averages lag behind after few steps; these do not. The average over batches of EVALUATION_BATCH of each
    batch's mean and variance, the earlier layers normalised by the same batch.

    Args:
        network: all that is normalised.
        run: the network as it takes a batch, (cohort, batch, channels, height, width).
        images: of each member.
    """
    normalisations = [one for one in network.modules() if isinstance(one, nn.BatchNorm2d)]
    momenta = [one.momentum for one in normalisations]
    for one in normalisations:
        one.reset_running_stats()
        one.momentum = None  # torch's word for a cumulative average
    network.train()
    batches = (_split_evenly(own[:N_STATISTICS_IMAGES]) for own in images)
    for batch in zip(*batches, strict=True):
        run(torch.stack(batch))
    for one, momentum in zip(normalisations, momenta, strict=True):
        one.momentum = momentum


def _split_evenly(images: Tensor) -> tuple[Tensor, ...]:
    """Batches as equal as can be: each counts the same in the average."""
    return images.tensor_split(max(1, math.ceil(len(images) / EVALUATION_BATCH)))


@torch.no_grad()
def predict(network: nn.Module, run: Callable[[Tensor], Tensor], images: Sequence[Tensor]) -> Tensor:
    """Logits of each member's images, (cohort, n, classes), by the statistics that the network holds.

    Args:
        network, run, images: see take_statistics.
    """
    network.eval()
    batches = zip(*(torch.split(own, EVALUATION_BATCH) for own in images), strict=True)
    return torch.cat([run(torch.stack(batch)) for batch in batches], dim=1)


def score(logits: Tensor, labels: Tensor) -> tuple[float, float]:
    """Mean cross-entropy in nats and accuracy of logits (n, classes).

    Raises:
        NonFiniteLossError: the loss is infinite or not a number.
    """
    loss = float(F.cross_entropy(logits, labels))
    if not math.isfinite(loss):
        raise NonFiniteLossError(f"validation loss is {loss} after the last step")
    return loss, float((logits.argmax(dim=1) == labels).double().mean())
