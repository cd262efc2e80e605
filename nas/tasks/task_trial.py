"""What an objective gets of its training: the pattern, the seed, and where to report, save and load."""

import math
import time
from collections.abc import Callable, Mapping
from typing import Any

import torch

from nas.model.config import TrainingConfig
from nas.records.metrics import Metrics
from nas.tasks.candidate import TaskPattern
from nas.training.checkpoints import Checkpoint, Slot
from search_spaces.errors import InputError


class TaskError(Exception):
    """A training has no outcome because of what its task did, which the text says."""


class Pruned(BaseException):
    """A training is measured where patterns are compared, and ends for now: a task lets it pass.

    It is no Exception, so that a task that catches those does not catch it.
    """


class TaskTrial:
    """One training, as a task of the user's own sees it.

    Attributes:
        pattern: the connections: depth, sources, reads, adjacency().
        seed: seed of the training, the same for all patterns of a repeat.
        device: cpu or cuda.
        training: what the flags say: epochs, lr, batch_size, weight_decay, lr_drops.

    Args:
        metrics: metrics of the task.
        pause_after: epoch after which patterns are compared; None: it trains to its end.
        slot: place of its checkpoint; None: nothing is kept.
        check_stop: function that raises where the user has ended the run.
    """

    def __init__(
        self,
        pattern: TaskPattern,
        seed: int,
        device: str,
        training: TrainingConfig,
        metrics: Metrics,
        pause_after: int | None = None,
        slot: Slot | None = None,
        check_stop: Callable[[], None] = lambda: None,
    ) -> None:
        self.pattern = pattern
        self.seed = seed
        self.device = device
        self.training = training
        self.check_stop = check_stop
        self.curve: list[dict[str, float]] = []
        self.measured: dict[str, float] = {}  # where it paused
        self.fault: str | None = None  # kept: the task may catch the exception that says it
        self.details: Mapping[str, Any] = {}  # for the report, of a training that has ended
        self.resumed_epoch = 0
        self.checkpoint_error: str | None = None
        self._metrics = metrics
        self._pause_after = pause_after if pause_after is not None and pause_after < training.epochs else None
        self._slot = slot
        self._started = time.perf_counter()
        self._before = 0.0  # seconds of the training that it continues
        self._has_saved = False
        self._has_saved_since_report = False

    @property
    def epochs(self) -> int:
        """Number of epochs asked for by --epochs."""
        return self.training.epochs

    @property
    def stops_after(self) -> int:
        """The epoch at which this training ends for now: the last, or the one where patterns are compared."""
        return self._pause_after or self.training.epochs

    @property
    def seconds(self) -> float:
        """Seconds of training so far, with those of the training that it continues."""
        return time.perf_counter() - self._started + self._before

    def report(self, epoch: int, /, **metrics: float) -> None:
        """Report what was measured after an epoch, counted from 1: a row of the curve, and maybe the end for now.

        Raises:
            Pruned: patterns are compared here; what was saved last is what goes on, if it does.
            TaskError: a metric is not finite, or missing where patterns are compared.
        """
        self.finish_epoch(epoch, metrics, None)

    def finish_epoch(self, epoch: int, metrics: Mapping[str, float], state: Callable[[], Any] | None) -> None:
        """Do what report does, and save a state where one is due."""
        self.check_stop()
        row = {name: self._check(name, value, epoch) for name, value in metrics.items()}
        self.curve = [*(earlier for earlier in self.curve if earlier["epoch"] < epoch), {"epoch": epoch, **row}]
        ends_here = self._pause_after is not None and epoch >= self._pause_after
        if state is not None and epoch < self.training.epochs and (ends_here or self._is_due):
            self._write(state(), is_reported=True)
        elif ends_here and self._has_saved_since_report:
            self._add_report()
        self._has_saved_since_report = False
        if not ends_here:
            return
        missing = [metric.name for metric in self._metrics if metric.name not in row]
        if missing:
            raise self._fail(
                f"trial.report of epoch {epoch} has no {missing[0]}, and --halving compares patterns there"
            )
        self.measured = {metric.name: row[metric.name] for metric in self._metrics}
        raise Pruned

    def save(self, state: Any) -> None:
        """Keep a state to continue from, in place of the one before.

        It is of tensors, numbers, texts, and lists or dicts of them. It is written if
        --checkpoint-seconds have passed, and before patterns are compared: call it before report.

        Raises:
            TaskError: the state contains something else.
        """
        self.check_stop()
        n_reported = int(self.curve[-1]["epoch"]) if self.curve else 0
        is_last_chance = self._pause_after is not None and n_reported + 1 >= self._pause_after
        if self._is_due or is_last_chance:
            self._write(state, is_reported=False)
            self._has_saved_since_report = True

    def load(self) -> Any:
        """Return the state that was saved last, its tensors on the device, or None to begin from the start."""
        if self._slot is None:
            return None
        try:
            checkpoint = self._slot.read(self.device)
        except InputError as error:
            self.checkpoint_error = str(error)  # the training starts again, and its outcome says so
            return None
        if checkpoint is None:
            return None
        epoch = int(checkpoint.curve[-1]["epoch"]) if checkpoint.curve else 0
        if epoch > self.stops_after:  # an older ledger was put back
            self.checkpoint_error = f"{self._slot.path} is of epoch {epoch}, beyond the {self.stops_after} asked for"
            return None
        is_reported = checkpoint.optimizer["is_reported"]
        if self._pause_after is not None and epoch + 1 >= self._pause_after and not is_reported:
            return None  # perhaps of an epoch at which patterns are compared, and it was not measured then
        self.curve, self._before, self.resumed_epoch = list(checkpoint.curve), checkpoint.seconds, epoch
        if self._pause_after == epoch:  # killed after that, before its outcome was written
            self.measured = {metric.name: self.curve[-1][metric.name] for metric in self._metrics}
            raise Pruned
        return checkpoint.network["state"]

    @property
    def _is_due(self) -> bool:
        return self._slot is not None and self._slot.is_due

    def _add_report(self) -> None:
        """Add what was reported since to the checkpoint, whose state stays."""
        checkpoint = None if self._slot is None else self._slot.read(self.device)
        if self._slot is not None and checkpoint is not None:
            self._slot.write(Checkpoint(checkpoint.network, {"is_reported": True}, self.curve, self.seconds))

    def _write(self, state: Any, is_reported: bool) -> None:
        if self._slot is None:
            return
        try:
            self._slot.write(Checkpoint({"state": state}, {"is_reported": is_reported}, self.curve, self.seconds))
            if not self._has_saved:
                self._slot.read("cpu")  # what cannot be read back would be missed only when it is needed
                self._has_saved = True
        except OSError:
            raise
        except Exception as error:
            self._slot.clear()
            text = str(error).splitlines()[0] if str(error) else ""
            raise self._fail(
                "trial.save takes tensors, numbers, texts, and lists or dicts of them, such as state_dict() gives "
                f"({type(error).__name__}: {text:.200})"
            ) from None

    def _check(self, name: str, value: Any, epoch: int) -> float:
        try:
            number = float(value.detach() if isinstance(value, torch.Tensor) else value)
        except (TypeError, ValueError):
            raise self._fail(f"{name} of epoch {epoch} is {value!r:.60}, and not a number") from None
        if not math.isfinite(number):
            raise self._fail(f"{name} is {number} after epoch {epoch}, which is not finite")
        return number

    def _fail(self, reason: str) -> TaskError:
        self.fault = self.fault or reason
        return TaskError(reason)
