"""The only training loop."""

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from nas.data.splits import Split, augment_images
from nas.model.candidate import Candidate, TrainingConfig
from nas.model.strengths import measure_strengths
from nas.records.trial import Outcome
from nas.training.checkpoints import Checkpoint, Slot
from nas.training.evaluation import NonFiniteLossError, predict, score, take_statistics
from nas.training.stepping import Engine, KeptStepper, Stepper
from search_spaces.errors import InputError
from search_spaces.seeds import derive_seed

EAGER = Engine()
DROP = 0.1  # of the learning rate, in the schedules of the papers
WARM_UP_SHARE = 0.1  # of all steps: the learning rate rises linearly, then falls as a cosine to 0


@dataclass(frozen=True, slots=True)
class Member:
    """One candidate of a cohort.

    Args:
        candidate: what to train.
        split: its data; the network goes to the same device.
        slot: where checkpoints go, and one may lie to go on from; None: nowhere.
        keep_trained: called with the network, its batch statistics taken, once its training is done and measured.
    """

    candidate: Candidate
    split: Split
    slot: Slot | None = None
    keep_trained: Callable[[nn.Module], None] = lambda _: None


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
    """Train a candidate and measure it on validation images: a cohort of one, see train_cohort and Member."""
    member = Member(candidate, split, slot, keep_trained)
    engine = Engine(is_fused=is_fused, memory_efficient=memory_efficient)
    (outcome,) = train_cohort([member], config, check_stop, pause_after, engine)
    return outcome


def train_cohort(
    members: Sequence[Member],
    config: TrainingConfig,
    check_stop: Callable[[], None] = lambda: None,
    pause_after: int | None = None,
    engine: Engine = EAGER,
    kept: KeptStepper | None = None,
) -> list[Outcome]:
    """Train candidates together, each as if it were alone but for rounding, and measure them on validation images.

    A candidate's seed fixes initial weights, order and augmentation; with the same device, number of threads and
    cohort the same seed gives the same numbers, whether the training was interrupted or not.

    Args:
        members: of equal structure (see cohort.py), with splits of equal sizes.
        config: epochs, learning rate, batch size, weight decay.
        check_stop: called before every step; raises to end the training at once.
        pause_after: the epoch to stop at and be measured, with a checkpoint to go on from; None: the last.
        engine: how it is computed; memory-efficient for a cohort of one.
        kept: of earlier cohorts of this process; None: nothing is kept.

    Returns:
        An outcome a member, with an error and no value if a loss of its own was not finite.
    """
    last = min(pause_after or config.epochs, config.epochs)
    device = members[0].split.train_images.device
    found = [_read_checkpoint(member.slot, str(device), last) for member in members]
    kept = kept or KeptStepper()
    outcomes: dict[int, Outcome] = {}
    # Members whose checkpoints are of different epochs go on apart: in a cohort all take the same step.
    for n_done in sorted({len(held.curve) if held else 0 for held, _ in found}):
        chosen = [k for k, (held, _) in enumerate(found) if n_done == (len(held.curve) if held else 0)]
        started = time.perf_counter()
        candidates = [members[k].candidate for k in chosen]
        batch = min(config.batch_size, len(members[0].split.train_labels))
        with kept.lend(candidates, batch, config.weight_decay, device, engine) as stepper:
            training = _Training(stepper, [(members[k], *found[k]) for k in chosen], config, last, started)
            outcomes |= zip(chosen, training.run(check_stop), strict=True)
    return [outcomes[k] for k in range(len(members))]


def _read_checkpoint(slot: Slot | None, device: str, last: int) -> tuple[Checkpoint | None, str | None]:
    """What there is to go on from; else why it cannot be used, if there is something."""
    if slot is None:
        return None, None
    try:
        held = slot.read(device)
    except InputError as error:
        return None, str(error)  # the training starts anew, and its outcome says so
    if held is not None and len(held.curve) > last:  # an older ledger was put back
        return None, f"{slot.path} is of epoch {len(held.curve)}, beyond the {last} asked for"
    return held, None


class _Training:
    """One training of a stepper's candidates, from one epoch for all of them.

    Args:
        stepper: as if no step had been taken.
        resumed: each member, the checkpoint that it goes on from, and why there is none.
        last: the epoch to stop at.
        started: when, by the performance counter.
    """

    def __init__(
        self,
        stepper: Stepper,
        resumed: Sequence[tuple[Member, Checkpoint | None, str | None]],
        config: TrainingConfig,
        last: int,
        started: float,
    ) -> None:
        self._stepper = stepper
        self._trainee = stepper.trainee
        self._members = [member for member, _, _ in resumed]
        self._found = [(held, problem) for _, held, problem in resumed]
        self._config = config
        self._last = last
        self._started = started
        self._curves = [[] if held is None else list(held.curve) for held, _ in self._found]
        self._errors: list[str | None] = [None] * len(resumed)
        states = [(held.network, held.optimizer) for held, _ in self._found if held is not None]
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
        """One pass over the training sets; a member of which a loss is not finite has an error from then on."""
        config, n_steps = self._config, self._n_steps
        self._trainee.module().train()
        losses = torch.empty(n_steps, len(self._members), device=self._members[0].split.train_images.device)
        for step, (images, labels) in enumerate(self._batches(epoch)):
            check_stop()
            rate = config.lr * _rate(epoch * n_steps + step, n_steps * config.epochs, config.lr_drops)
            losses[step] = self._stepper.step(images, labels, rate)
        # Looked at once an epoch: a look at every step would make a GPU wait for each.
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
        """Images (cohort, batch, ...) and labels (cohort, batch) of each step of an epoch."""
        whose = [(member.candidate.seed, member.split) for member in self._members]
        distinct = list(dict.fromkeys(whose))  # what members share is made once
        size, n_steps = self._config.batch_size, self._n_steps
        streams = [_batches(split, size, n_steps, seed, epoch) for seed, split in distinct]
        for batches in zip(*streams, strict=True):
            own = dict(zip(distinct, batches, strict=True))
            images, labels = zip(*(own[one] for one in whose), strict=True)
            yield torch.stack(images), torch.stack(labels)

    def _measure(self) -> list[tuple[float | None, float | None]]:
        """Validation loss and accuracy of each member; none, and an error, where its loss is not finite."""
        splits = [member.split for member in self._members]
        network, run = self._trainee.module(), self._trainee.predict
        take_statistics(network, run, [split.train_images for split in splits])
        logits = predict(network, run, [split.validation_images for split in splits])
        measured: list[tuple[float | None, float | None]] = []
        for place, split in enumerate(splits):
            try:
                measured.append((None, None) if self._errors[place] else score(logits[place], split.validation_labels))
            except NonFiniteLossError as reason:
                self._errors[place] = str(reason)
                measured.append((None, None))
        return measured

    def _finish(self, place: int, loss: float | None, accuracy: float | None) -> Outcome:
        """A member's outcome, once it is measured."""
        member, curve, error = self._members[place], self._curves[place], self._errors[place]
        is_paused = error is None and self._last < self._config.epochs
        strengths: tuple[tuple[float, ...], ...] = ()
        if loss is not None and accuracy is not None:
            curve[-1].update(validation_loss=loss, validation_accuracy=accuracy)
        if is_paused:
            self._keep(place)
        elif error is None:
            network = self._trainee.network_of(place)
            strengths = measure_strengths(network, member.candidate)
            member.keep_trained(network)
        held, problem = self._found[place]
        n_resumed = 0 if held is None else len(held.curve)
        seconds = self._seconds(place)
        return Outcome(
            accuracy, loss, len(curve), seconds, tuple(curve), error, is_paused, n_resumed, problem, strengths
        )

    def _keep(self, place: int) -> None:
        """Write a member's checkpoint, unless it has failed."""
        slot = self._members[place].slot
        if slot is not None and self._errors[place] is None:
            network, optimizer = self._trainee.take_out(place, self._stepper.optimizer)
            slot.write(Checkpoint(network, optimizer, self._curves[place], self._seconds(place)))

    def _seconds(self, place: int) -> float:
        held, _ = self._found[place]
        return (time.perf_counter() - self._started) / len(self._members) + (0.0 if held is None else held.seconds)


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
