"""The only training loop."""

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nas.candidate import Candidate, TrainingConfig
from nas.checkpoints import Checkpoint, Slot
from nas.data import Split, augment_images
from nas.network import build_network
from nas.strengths import measure_strengths
from search_spaces.errors import InputError
from search_spaces.sampling import derive_seed

MOMENTUM = 0.9
DROP = 0.1  # of the learning rate, in the schedules of the papers
WARM_UP_SHARE = 0.1  # of all steps: the learning rate rises linearly, then falls as a cosine to 0
EVALUATION_BATCH = 256
N_STATISTICS_IMAGES = 2048  # training images that batch statistics are taken over: more change them little


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one training gave.

    Args:
        validation_accuracy: share of validation images classified right, or None if the training failed.
        validation_loss: mean cross-entropy on validation images, in nats, or None.
        epochs: passes finished.
        seconds: wall-clock time of the training and its evaluation, that of lost attempts up to their checkpoint
            included.
        curve: one row an epoch: epoch, train_loss (mean over its steps); validation_loss and validation_accuracy
            in the last, and where the training paused.
        error: why there is no value, or None.
        paused: whether it was measured before its last epoch, and can go on.
        resumed_epoch: the epoch whose checkpoint this training went on from, 0 for none.
        checkpoint_error: why there was a checkpoint and it was not used, or None.
        strengths: of connections, block by block, once the training is done: see strengths.py.
    """

    validation_accuracy: float | None
    validation_loss: float | None
    epochs: int
    seconds: float
    curve: tuple[dict[str, float], ...] = ()
    error: str | None = None
    paused: bool = False
    resumed_epoch: int = 0
    checkpoint_error: str | None = None
    strengths: tuple[tuple[float, ...], ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON and for other processes."""
        return {**asdict(self), "curve": list(self.curve), "strengths": [list(one) for one in self.strengths]}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "Outcome":
        """The inverse of to_dict."""
        strengths = tuple(map(tuple, values.get("strengths", ())))
        return cls(**{**values, "curve": tuple(values["curve"]), "strengths": strengths})


class NonFiniteLossError(ArithmeticError):
    """The loss of a step, or of validation, is infinite or not a number."""


def train_candidate(
    candidate: Candidate,
    split: Split,
    config: TrainingConfig,
    check_stop: Callable[[], None] = lambda: None,
    slot: Slot | None = None,
    pause_after: int | None = None,
    keep_trained: Callable[[nn.Module], None] = lambda _: None,
    memory_efficient: bool = False,
    is_fused: bool = False,
) -> Outcome:
    """Train a candidate and measure it on validation images.

    The candidate's seed fixes initial weights, order and augmentation; with the same device and number of threads
    the same seed gives the same numbers, whether the training was interrupted or not.

    Args:
        candidate: what to train.
        split: its data; the network goes to the same device.
        config: epochs, learning rate, batch size, weight decay.
        check_stop: called before every step; raises to end the training at once.
        slot: where checkpoints go, and one may lie to go on from; None: nowhere.
        pause_after: the epoch to stop at and be measured, with a checkpoint to go on from; None: the last.
        keep_trained: called with the network, its batch statistics taken, once its training is done and measured.
        memory_efficient: whether activations are made anew in the backward pass.
        is_fused: whether a block's layers run as one operation, and the optimiser as one too: equal but for rounding.

    Returns:
        An outcome, with an error and no value if a loss was not finite.
    """
    started = time.perf_counter()
    device = split.train_images.device
    network = build_network(candidate).to(device)
    network.recompute_activations(memory_efficient)
    if is_fused:
        network.fuse_layers()
    optimizer = torch.optim.SGD(
        network.parameters(),
        lr=config.lr,
        momentum=MOMENTUM,
        weight_decay=config.weight_decay,
        nesterov=True,
        fused=is_fused or None,
    )
    last = min(pause_after or config.epochs, config.epochs)
    held, problem = _take_up(slot, network, optimizer, str(device), last)
    curve = [] if held is None else list(held.curve)
    if held is not None:
        started -= held.seconds
    n_resumed = len(curve)
    error = loss = accuracy = None
    strengths: tuple[tuple[float, ...], ...] = ()

    def keep() -> None:
        if slot is not None:
            seconds = time.perf_counter() - started
            slot.write(Checkpoint(network.state_dict(), optimizer.state_dict(), curve, seconds))

    try:
        for epoch in range(n_resumed, last):
            train_loss = _run_epoch(network, optimizer, epoch, candidate.seed, split, config, check_stop)
            curve.append({"epoch": epoch + 1, "train_loss": train_loss})
            if slot is not None and slot.is_due and epoch + 1 < last:
                keep()
        refresh_statistics(network, split.train_images)
        loss, accuracy = evaluate(network, split.validation_images, split.validation_labels)
        curve[-1].update(validation_loss=loss, validation_accuracy=accuracy)
        if last < config.epochs:
            keep()
        else:
            strengths = measure_strengths(network, candidate)
            keep_trained(network)
    except NonFiniteLossError as reason:
        error = str(reason)
    seconds = time.perf_counter() - started
    paused = error is None and last < config.epochs
    return Outcome(accuracy, loss, len(curve), seconds, tuple(curve), error, paused, n_resumed, problem, strengths)


def _take_up(
    slot: Slot | None, network: nn.Module, optimizer: torch.optim.Optimizer, device: str, last: int
) -> tuple[Checkpoint | None, str | None]:
    """Go on from a checkpoint if there is one; else why it was not used, if there is one that cannot be."""
    if slot is None:
        return None, None
    try:
        held = slot.read(device)
    except InputError as error:
        return None, str(error)  # the training starts anew, and its outcome says so
    if held is not None and len(held.curve) > last:  # an older ledger was put back
        return None, f"{slot.path} is of epoch {len(held.curve)}, beyond the {last} asked for"
    if held is not None:
        network.load_state_dict(held.network)
        optimizer.load_state_dict(held.optimizer)
    return held, None


def _run_epoch(
    network: nn.Module,
    optimizer: torch.optim.Optimizer,
    epoch: int,
    seed: int,
    split: Split,
    config: TrainingConfig,
    check_stop: Callable[[], None],
) -> float:
    """One pass over the training set; gives its mean loss."""
    n_steps = max(1, len(split.train_labels) // config.batch_size)  # the incomplete last batch is dropped
    network.train()
    losses = torch.empty(n_steps, device=split.train_images.device)
    for step, (images, labels) in enumerate(_batches(split, config.batch_size, n_steps, seed, epoch)):
        check_stop()
        for group in optimizer.param_groups:
            group["lr"] = config.lr * _rate(epoch * n_steps + step, n_steps * config.epochs, config.lr_drops)
        loss: Tensor = F.cross_entropy(network(images), labels)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        losses[step] = loss.detach()
    # Looked at once an epoch: a look at every step would make a GPU wait for each.
    finite = losses.isfinite()
    if not finite.all():
        step = epoch * n_steps + int(finite.logical_not().nonzero()[0]) + 1
        raise NonFiniteLossError(f"training loss not finite at step {step} of {n_steps * config.epochs}")
    return float(losses.mean())


def _rate(step: int, n_steps: int, drops: tuple[float, ...] | None) -> float:
    """Share of the largest learning rate at a step.

    To a tenth at each of the drops, shares of all steps; without them linear warm-up, then half a cosine
    (arXiv:1608.03983) to 0.
    """
    if drops is not None:
        return float(DROP ** sum(step >= round(share * n_steps) for share in drops))
    n_warm_up = max(1, round(WARM_UP_SHARE * n_steps))
    if step < n_warm_up:
        return (step + 1) / n_warm_up
    return 0.5 * (1 + math.cos(math.pi * (step - n_warm_up) / max(1, n_steps - n_warm_up)))


def _batches(split: Split, batch_size: int, n_steps: int, seed: int, epoch: int) -> Iterator[tuple[Tensor, Tensor]]:
    """The batches of one epoch, in an order that seed and epoch fix."""
    generator = torch.Generator().manual_seed(derive_seed(seed, "order", epoch))
    order = torch.randperm(len(split.train_labels), generator=generator).to(split.train_labels.device)
    images, labels = split.train_images[order], split.train_labels[order]
    if split.augment:
        images = augment_images(images, generator)
    for step in range(n_steps):
        batch = slice(step * batch_size, (step + 1) * batch_size)
        yield images[batch], labels[batch]


@torch.no_grad()
def refresh_statistics(network: nn.Module, images: Tensor) -> None:
    """Take the batch statistics of every normalisation anew, over training images, in one pass.

    Running averages lag behind after few steps; these do not. The average over batches of EVALUATION_BATCH of each
    batch's mean and variance, the earlier layers normalised by the same batch.
    """
    images = images[:N_STATISTICS_IMAGES]
    normalisations = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    for module in normalisations:
        module.reset_running_stats()
        module.momentum = None  # torch's word for a cumulative average
    network.train()
    # Batches as equal as can be: each counts the same in the average.
    for batch in images.tensor_split(max(1, math.ceil(len(images) / EVALUATION_BATCH))):
        network(batch)


@torch.no_grad()
def evaluate(network: nn.Module, images: Tensor, labels: Tensor) -> tuple[float, float]:
    """Mean cross-entropy in nats and accuracy, by the statistics that the network holds.

    Args:
        images: (n, channels, height, width).
        labels: (n,).

    Raises:
        NonFiniteLossError: the loss is infinite or not a number.
    """
    network.eval()
    logits = torch.cat([network(batch) for batch in torch.split(images, EVALUATION_BATCH)])  # (n, classes)
    loss = float(F.cross_entropy(logits, labels))
    if not math.isfinite(loss):
        raise NonFiniteLossError(f"validation loss is {loss} after the last step")
    return loss, float((logits.argmax(dim=1) == labels).double().mean())
