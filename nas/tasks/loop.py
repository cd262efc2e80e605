"""The training loop of a task class: its network and data, by its own loss, optimiser and evaluation or ours."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nas.model.config import TrainingConfig
from nas.tasks.task_trial import TaskError, TaskTrial
from nas.training.evaluation import EVALUATION_BATCH
from nas.training.sgd import SGD
from nas.training.stepping import MOMENTUM
from nas.training.train import find_rate
from search_spaces.seeds import derive_seed

_Batch = Sequence[Tensor]


@dataclass(frozen=True)
class DataPart:
    """One part of a task's data, as batches.

    Args:
        source: tensors of equal first dimension, or a function of the epoch that gives batches.
        device: device that batches are put on.
    """

    source: Any
    device: str

    def __post_init__(self) -> None:
        if callable(self.source):
            return
        tensors = self.source if isinstance(self.source, tuple | list) else ()
        if not tensors or not all(isinstance(tensor, Tensor) for tensor in tensors):
            raise TaskError(
                "data(seed) gives (training, validation), each a tuple of tensors or a function of the epoch"
            )
        if len({len(tensor) for tensor in tensors}) > 1 or not len(tensors[0]):
            raise TaskError(
                f"data(seed) gives tensors of {[len(tensor) for tensor in tensors]} examples: give as many each"
            )
        object.__setattr__(self, "source", tuple(tensor.to(self.device) for tensor in tensors))

    def count_steps(self, batch_size: int) -> int:
        """Return the number of batches in an epoch; the incomplete last one of tensors is dropped."""
        if not callable(self.source):
            return max(1, len(self.source[0]) // batch_size)
        batches = self.source(0)
        return len(batches) if hasattr(batches, "__len__") else sum(1 for _ in batches)

    def train(self, epoch: int, batch_size: int, seed: int) -> Iterator[_Batch]:
        """Yield the batches of an epoch, in an order that seed and epoch fix."""
        if callable(self.source):
            yield from self._put(self.source(epoch))
            return
        generator = torch.Generator().manual_seed(derive_seed(seed, "order", epoch))
        order = torch.randperm(len(self.source[0]), generator=generator).to(self.device)
        for step in range(self.count_steps(batch_size)):
            chosen = order[step * batch_size : (step + 1) * batch_size]
            yield tuple(tensor[chosen] for tensor in self.source)

    def evaluate(self) -> Iterator[_Batch]:
        """Yield all examples in order."""
        if callable(self.source):
            yield from self._put(self.source(0))
            return
        yield from zip(*(torch.split(tensor, EVALUATION_BATCH) for tensor in self.source), strict=True)

    def _put(self, batches: Iterable[Any]) -> Iterator[_Batch]:
        for batch in batches:
            yield tuple(part.to(self.device) if isinstance(part, Tensor) else part for part in batch)


def take_data(task: Any, seed: int, device: str) -> tuple[DataPart, DataPart]:
    """Return a task's training and validation data.

    Raises:
        TaskError: its data(seed) gives something else.
    """
    given = task.data(seed)
    if not isinstance(given, tuple | list) or len(given) != 2:
        raise TaskError("data(seed) gives (training, validation), each a tuple of tensors or a function of the epoch")
    return DataPart(given[0], device), DataPart(given[1], device)


def build_own(task: Any, pattern: Any, seed: int, device: str) -> nn.Module:
    """Return a task's network for a pattern, its weights drawn from the seed.

    Raises:
        TaskError: its build gives no module.
    """
    torch.manual_seed(derive_seed(seed, "weights"))
    network = task.build(pattern, seed)
    if not isinstance(network, nn.Module):
        raise TaskError(f"build(pattern, seed) gives a torch.nn.Module, not {type(network).__name__}")
    return network.to(device)


def train_network(task: Any, trial: TaskTrial, names: Sequence[str]) -> dict[str, float]:
    """Train a task's network and return its metrics.

    The same seed gives the same numbers on a CPU, whether the training was interrupted or not.

    Args:
        names: names of the task's metrics.

    Raises:
        Pruned, TaskError: see TaskTrial.
    """
    config = trial.training
    training, validation = take_data(task, trial.seed, trial.device)
    network = build_own(task, trial.pattern, trial.seed, trial.device)
    n_steps = training.count_steps(config.batch_size)
    optimizer, scheduler = _make_optimizer(task, network, config, n_steps * config.epochs)
    kept = {"network": network, "optimizer": optimizer, **({} if scheduler is None else {"scheduler": scheduler})}
    state = trial.load()
    for name, values in (state or {}).items():
        kept[name].load_state_dict(values)
    measured: dict[str, float] = {}
    for epoch in range(trial.resumed_epoch, config.epochs):
        torch.manual_seed(derive_seed(trial.seed, "epoch", epoch))  # dropout is the same after an interruption
        network.train()
        losses = []
        generator = torch.Generator().manual_seed(derive_seed(trial.seed, "augment", epoch))
        for batch in training.train(epoch, config.batch_size, trial.seed):
            trial.check_stop()
            if callable(getattr(task, "augment_batch", None)):
                batch = task.augment_batch(batch, generator)
            optimizer.zero_grad(set_to_none=True)
            loss = find_loss(task, network, batch)
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            if scheduler is not None:
                scheduler.step()
            losses.append(loss.detach())
        if not losses:
            raise TaskError("the training data have no batch")
        _check_losses(torch.stack(losses), epoch * n_steps, n_steps * config.epochs)
        row = {"train_loss": float(torch.stack(losses).mean())}
        if epoch + 1 in (trial.stops_after, config.epochs):
            measured = evaluate(task, network, validation, names)
            row |= measured
        trial.finish_epoch(epoch + 1, row, lambda: {name: each.state_dict() for name, each in kept.items()})
    measured = measured or evaluate(task, network, validation, names)
    if callable(getattr(task, "describe_training", None)):
        with torch.no_grad():
            network.eval()
            trial.details = task.describe_training(network, validation.evaluate())
    return measured


def find_loss(task: Any, network: nn.Module, batch: _Batch) -> Tensor:
    """Return a task's loss of a batch: its own, or the cross-entropy of network(batch[0]) and batch[1]."""
    if hasattr(task, "loss"):
        loss: Tensor = task.loss(network, batch)
        return loss
    return F.cross_entropy(network(batch[0]), batch[1])


@torch.no_grad()
def evaluate(task: Any, network: nn.Module, validation: DataPart, names: Sequence[str]) -> dict[str, float]:
    """Return a task's metrics on its validation data: by its own evaluate, or mean loss, and accuracy where named."""
    network.eval()
    if hasattr(task, "evaluate"):
        given: dict[str, float] = task.evaluate(network, validation.evaluate())
        return given
    sums, n_examples = dict.fromkeys(("loss", "accuracy"), 0.0), 0
    for batch in validation.evaluate():
        n_examples += len(batch[0])
        sums["loss"] += float(find_loss(task, network, batch)) * len(batch[0])
        if "accuracy" in names:
            sums["accuracy"] += float((network(batch[0]).argmax(dim=1) == batch[1]).sum())
    return {name: sums[name] / max(1, n_examples) for name in sums if name in names}


def _make_optimizer(task: Any, network: nn.Module, config: TrainingConfig, n_steps: int) -> tuple[Any, Any]:
    """Return a task's optimiser and scheduler, or None for a scheduler; or those that images are trained with."""
    if hasattr(task, "optimizer"):
        given = task.optimizer(network, config, n_steps)
        return (given[0], given[1]) if isinstance(given, tuple | list) else (given, None)
    # The scheduler multiplies the largest rate, and sets the first when it is made.
    optimizer = SGD(
        network.parameters(), lr=config.lr, momentum=MOMENTUM, weight_decay=config.weight_decay, nesterov=True
    )

    def rate(step: int) -> float:
        return find_rate(min(step, n_steps - 1), n_steps, config.lr_drops, config.warm_up)

    return optimizer, torch.optim.lr_scheduler.LambdaLR(optimizer, rate)


def _check_losses(losses: Tensor, n_before: int, n_steps: int) -> None:
    is_finite = losses.isfinite().tolist()
    if not all(is_finite):
        step = n_before + is_finite.index(False) + 1
        raise TaskError(f"training loss not finite at step {step} of {n_steps}")
