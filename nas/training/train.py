"""The training loop."""

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from nas.data.splits import Split, augment_images
from nas.model.candidate import Candidate
from nas.model.config import TrainingConfig
from nas.model.proxies import Batch
from nas.model.strengths import measure_kept, measure_strengths
from nas.records.metrics import image_metrics
from nas.records.trial import Outcome
from nas.training.checkpoints import Checkpoint, Slot
from nas.training.evaluation import NonFiniteLossError, predict, score, take_statistics
from nas.training.exits import measure_exits
from nas.training.stepping import Engine, KeptStepper, Stepper
from search_spaces.errors import InputError
from search_spaces.seeds import derive_seed

_EAGER = Engine()
DROP = 0.1  # factor of the learning rate in the papers' schedules
WARM_UP_SHARE = 0.1  # share of all steps in which the learning rate rises linearly, before it falls as a cosine


@dataclass(frozen=True, slots=True)
class Member:
    """One candidate of a cohort.

    Args:
        candidate: what to train.
        split: its data; the network goes to the same device.
        slot: place of its checkpoints, one of which it may continue from; None: no checkpoints.
        keep_trained: function called with the network, its batch statistics computed, after a whole training.
    """

    candidate: Candidate
    split: Split
    slot: Slot | None = None
    keep_trained: Callable[[nn.Module], None] = lambda _: None


def train_cohort(
    members: Sequence[Member],
    config: TrainingConfig,
    check_stop: Callable[[], None] = lambda: None,
    pause_after: int | None = None,
    engine: Engine = _EAGER,
    kept: KeptStepper | None = None,
) -> list[Outcome]:
    """Train candidates together, each as if separately up to rounding, and measure them on validation images.

    A candidate's seed fixes initial weights, order and augmentation; with the same device, number of threads and
    cohort the same seed gives the same numbers, whether the training was interrupted or not.

    Args:
        members: candidates of equal structure (see cohort.py), with splits of equal sizes.
        config: epochs, learning rate, batch size, weight decay.
        check_stop: function called before every step, which raises to end the training at once.
        pause_after: epoch after which to stop, measure and write a checkpoint; None: the last.
        engine: the way it is computed; memory-efficient only for a cohort of one.
        kept: stepper of earlier cohorts of this process; None: nothing is kept.

    Returns:
        One outcome a member, with an error and no value if one of its losses was not finite.
    """
    last = min(pause_after or config.epochs, config.epochs)
    device = members[0].split.train_images.device
    resumed = [_Resumed(member, *_read_checkpoint(member.slot, str(device), last)) for member in members]
    kept = kept or KeptStepper()
    outcomes: dict[int, Outcome] = {}
    n_done = [0 if each.checkpoint is None else len(each.checkpoint.curve) for each in resumed]
    # Members with checkpoints of different epochs continue separately: in a cohort all take the same step.
    for n in sorted(set(n_done)):
        chosen = [k for k in range(len(members)) if n_done[k] == n]
        started = time.perf_counter()
        candidates = [members[k].candidate for k in chosen]
        batch = min(config.batch_size, len(members[0].split.train_labels))
        with kept.lend(candidates, batch, config.weight_decay, device, engine) as stepper:
            training = _Training(stepper, [resumed[k] for k in chosen], config, last, started)
            outcomes |= zip(chosen, training.run(check_stop), strict=True)
    return [outcomes[k] for k in range(len(members))]


def _read_checkpoint(slot: Slot | None, device: str, last: int) -> tuple[Checkpoint | None, str | None]:
    """Read the checkpoint to continue from, or the reason why an existing one cannot be used."""
    if slot is None:
        return None, None
    try:
        checkpoint = slot.read(device)
    except InputError as error:
        return None, str(error)  # the training starts again, and its outcome says so
    if checkpoint is not None and len(checkpoint.curve) > last:  # an older ledger was put back
        return None, f"{slot.path} is of epoch {len(checkpoint.curve)}, beyond the {last} asked for"
    return checkpoint, None


class _Resumed(NamedTuple):
    """A member, the checkpoint that it continues from, and the reason why an existing one cannot be used."""

    member: Member
    checkpoint: Checkpoint | None
    problem: str | None


class _Training:
    """One training of a stepper's candidates, all of which start from the same epoch.

    Args:
        stepper: stepper that has taken no step of this training.
        resumed: members, with checkpoints of the same epoch.
        config: see train_cohort.
        last: epoch to stop at.
        started: start time, by the performance counter.
    """

    def __init__(
        self,
        stepper: Stepper,
        resumed: Sequence[_Resumed],
        config: TrainingConfig,
        last: int,
        started: float,
    ) -> None:
        self._stepper = stepper
        self._trainee = stepper.trainee
        self._members = [each.member for each in resumed]
        self._checkpoints = [each.checkpoint for each in resumed]
        self._problems = [each.problem for each in resumed]
        self._config = config
        self._last = last
        self._started = started
        self._curves = [[] if checkpoint is None else list(checkpoint.curve) for checkpoint in self._checkpoints]
        self._errors: list[str | None] = [None] * len(resumed)
        self._details: dict[int, dict[str, Any]] = {}
        states = [(checkpoint.network, checkpoint.optimizer) for checkpoint in self._checkpoints if checkpoint]
        if states:
            self._trainee.put_back(states, stepper.optimizer)
        sizes = {len(member.split.train_labels) for member in self._members}
        assert len(sizes) == 1, "members take their steps together"
        self._n_steps = max(1, sizes.pop() // config.batch_size)  # the incomplete last batch is dropped

    def run(self, check_stop: Callable[[], None]) -> list[Outcome]:
        """Train and measure."""
        for epoch in range(len(self._curves[0]), self._last):
            self._run_epoch(epoch, check_stop)
            if None not in self._errors:
                break
            for place, member in enumerate(self._members):
                if member.slot is not None and member.slot.is_due and epoch + 1 < self._last:
                    self._keep(place)
        measured = self._measure() if None in self._errors else [(None, None)] * len(self._members)
        return [self._finish(place, *values) for place, values in enumerate(measured)]

    def _run_epoch(self, epoch: int, check_stop: Callable[[], None]) -> None:
        """Pass once over the training sets; a member with a loss that is not finite has an error from then on."""
        config, n_steps = self._config, self._n_steps
        self._trainee.module().train()
        losses = torch.empty(n_steps, len(self._members), device=self._members[0].split.train_images.device)
        for step, (images, labels) in enumerate(self._batches(epoch)):
            check_stop()
            number = epoch * n_steps + step
            self._trainee.begin_step(number, n_steps * config.epochs)
            rate = config.lr * find_rate(number, n_steps * config.epochs, config.lr_drops, config.warm_up)
            losses[step] = self._stepper.step(images, labels, rate)
        self._trainee.end_drops()
        # Checked once an epoch: a check at every step would make a GPU wait for each.
        is_finite = losses.isfinite().T.tolist()
        for place, mean in enumerate(losses.mean(dim=0).tolist()):
            if self._errors[place] is not None:
                continue
            if all(is_finite[place]):
                self._curves[place].append({"epoch": epoch + 1, "train_loss": mean})
            else:
                step = epoch * n_steps + is_finite[place].index(False) + 1
                self._errors[place] = f"training loss not finite at step {step} of {n_steps * config.epochs}"

    def _batches(self, epoch: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield images (cohort, batch, ...) and labels (cohort, batch) of each step of an epoch."""
        by_member = [(member.candidate.seed, member.split) for member in self._members]
        distinct = list(dict.fromkeys(by_member))  # what members share is made once
        size, n_steps = self._config.batch_size, self._n_steps
        streams = [_batches(split, size, n_steps, seed, epoch) for seed, split in distinct]
        for batches in zip(*streams, strict=True):
            batch_of = dict(zip(distinct, batches, strict=True))
            images, labels = zip(*(batch_of[source] for source in by_member), strict=True)
            yield torch.stack(images), torch.stack(labels)

    def _measure(self) -> list[tuple[float | None, float | None]]:
        """Return validation loss and accuracy of each member; None, and an error, if its loss is not finite."""
        splits = [member.split for member in self._members]
        network, run = self._trainee.module(), self._trainee.predict
        take_statistics(network, run, [split.train_images for split in splits])
        logits = predict(network, run, [split.validation_images for split in splits])
        measured: list[tuple[float | None, float | None]] = []
        for place, split in enumerate(splits):
            try:
                measured.append((None, None) if self._errors[place] else self._score(place, logits[place], split))
            except NonFiniteLossError as reason:
                self._errors[place] = str(reason)
                measured.append((None, None))
        return measured

    def _score(self, place: int, logits: Tensor, split: Split) -> tuple[float, float]:
        """Return loss and accuracy of a member's last exit; note what the others give, where there are any."""
        if self._trainee.exit_loss is None:
            return score(logits, split.validation_labels)
        candidate = self._members[place].candidate
        macs = candidate.layout.count_macs_by_exit(candidate.network.image)
        self._details[place] = measure_exits(logits, split.validation_labels, macs, candidate.seed)
        return score(logits[:, -1], split.validation_labels)

    def _finish(self, place: int, loss: float | None, accuracy: float | None) -> Outcome:
        """Return a member's outcome, given its measurements."""
        member, curve, error = self._members[place], self._curves[place], self._errors[place]
        is_paused = error is None and self._last < self._config.epochs
        strengths: tuple[tuple[float, ...], ...] = ()
        kept: tuple[tuple[float, ...], ...] = ()
        metrics = image_metrics(accuracy, loss)
        if metrics:
            curve[-1].update(reversed(metrics.items()))  # the loss first, as in older runs
        if is_paused:
            self._keep(place)
        elif error is None:
            network = self._trainee.network_of(place)
            strengths = measure_strengths(network, member.candidate)
            kept = measure_kept(network, member.candidate)
            member.keep_trained(network)
        checkpoint = self._checkpoints[place]
        return Outcome(
            metrics=metrics,
            epochs=len(curve),
            seconds=self._seconds(place),
            curve=tuple(curve),
            error=error,
            paused=is_paused,
            resumed_epoch=0 if checkpoint is None else len(checkpoint.curve),
            checkpoint_error=self._problems[place],
            strengths=strengths,
            kept=kept,
            details={} if is_paused or error is not None else self._details.get(place, {}),
        )

    def _keep(self, place: int) -> None:
        """Write a member's checkpoint, unless it has failed."""
        slot = self._members[place].slot
        if slot is not None and self._errors[place] is None:
            network, optimizer = self._trainee.take_out(place, self._stepper.optimizer)
            slot.write(Checkpoint(network, optimizer, self._curves[place], self._seconds(place)))

    def _seconds(self, place: int) -> float:
        checkpoint = self._checkpoints[place]
        before = 0.0 if checkpoint is None else checkpoint.seconds
        return (time.perf_counter() - self._started) / len(self._members) + before


def find_rate(step: int, n_steps: int, drops: tuple[float, ...] | None, warm_up: float | None = None) -> float:
    """Return the share of the largest learning rate at a step.

    It falls to a tenth at each of the drops, which are shares of all steps. Without drops: linear warm-up, then half a
    cosine (arXiv:1608.03983) to 0.

    Args:
        warm_up: share of all steps in which it rises linearly; None: WARM_UP_SHARE before a cosine, 0 before drops.
    """
    if warm_up is not None:
        n_warm_up = round(warm_up * n_steps)
    else:
        n_warm_up = max(1, round(WARM_UP_SHARE * n_steps)) if drops is None else 0
    if step < n_warm_up:
        return (step + 1) / n_warm_up
    if drops is not None:
        return float(DROP ** sum(step >= round(share * n_steps) for share in drops))
    return 0.5 * (1 + math.cos(math.pi * (step - n_warm_up) / max(1, n_steps - n_warm_up)))


def first_batch(split: Split, batch_size: int, seed: int) -> Batch:
    """Return the batch that a training with this seed begins with."""
    return Batch(*next(_batches(split, batch_size, 1, seed, 0)))


def _batches(split: Split, batch_size: int, n_steps: int, seed: int, epoch: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield the batches of one epoch, in an order that seed and epoch fix."""
    generator = torch.Generator().manual_seed(derive_seed(seed, "order", epoch))
    order = torch.randperm(len(split.train_labels), generator=generator).to(split.train_labels.device)
    images, labels = split.train_images[order], split.train_labels[order]
    if split.augment:
        images = augment_images(images, generator)
    for step in range(n_steps):
        batch = slice(step * batch_size, (step + 1) * batch_size)
        yield images[batch], labels[batch]
