"""Where trainings run: what every executor shares, and the serial one."""

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import Literal, Protocol

import torch

from nas.config import Candidate, SearchConfig
from nas.data import DataSet, split_data
from nas.train import Outcome, train_candidate
from search_spaces.errors import Interrupted, MachineError


class StopFlag:
    """Set by the first SIGINT or SIGTERM and looked at between steps; the second signal ends the process at once."""

    def __init__(self) -> None:
        self.signal_number: int | None = None

    def __call__(self) -> None:
        """Raise Interrupted if a signal came."""
        if self.signal_number is not None:
            raise Interrupted(self.signal_number)

    def _receive(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002  the signal module's form
        self.signal_number = number
        signal.signal(number, signal.SIG_DFL)

    @contextmanager
    def installed(self) -> Iterator[None]:
        """Receive the two signals within the block."""
        previous = {number: signal.signal(number, self._receive) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)


class Source(Protocol):
    """Where an executor gets candidates and brings outcomes."""

    def ask(self) -> tuple[int, Candidate] | None:
        """The next candidate and its number, or None when there is none left."""

    def tell(self, number: int, outcome: Outcome) -> None:
        """The outcome of the candidate of that number."""

    def lose(self, number: int, reason: str) -> None:
        """The candidate's training ended without an outcome, by no fault that it tells of: it may be asked again."""

    def give_back(self) -> None:
        """The executor ends at the user's wish, with candidates that have no outcome yet."""


@dataclass(frozen=True, slots=True)
class Trainer:
    """All that a worker needs beside the candidate.

    Args:
        data: the whole data set.
        config: the run's settings, device resolved.
    """

    data: DataSet
    config: SearchConfig

    def train(self, candidate: Candidate, check_stop: Callable[[], None] = lambda: None) -> Outcome:
        """Train a candidate on this process's device, one thread on a CPU; what goes wrong is in the outcome."""
        torch.set_num_threads(1)
        try:
            config = self.config
            split = split_data(
                self.data, candidate.seed, config.train_examples, config.device, config.validation_examples
            )
            return train_candidate(candidate, split, candidate.training or self.config, check_stop)
        except (RuntimeError, MemoryError) as error:  # torch's own, out of memory among them
            return failed(f"{type(error).__name__}: {error}")


def failed(reason: str) -> Outcome:
    """The outcome of a training that gave no value."""
    return Outcome(None, None, 0, 0.0, (), reason)


def run_serial(source: Source, trainer: Trainer, check_stop: StopFlag) -> None:
    """Train the source's candidates one after the other in this process.

    Raises:
        Interrupted: a signal came; the candidate being trained has no outcome.
    """
    while (task := source.ask()) is not None:
        number, candidate = task
        source.tell(number, trainer.train(candidate, check_stop))
        check_stop()


def resolve_device(name: str) -> Literal["cpu", "cuda"]:
    """The device that a setting means on this machine.

    Raises:
        MachineError: cuda where there is none.
    """
    if name == "cuda" and not torch.cuda.is_available():
        raise MachineError("--device cuda: torch finds no CUDA device here; use --device cpu or auto")
    return "cuda" if name == "cuda" or (name == "auto" and torch.cuda.is_available()) else "cpu"


def resolve_workers(workers: int | Literal["auto"], device: str) -> int:
    """How many trainings run at a time: the number given, or for auto one a GPU or core that this process may use."""
    if workers != "auto":
        return workers
    if device == "cuda":
        return torch.cuda.device_count()
    # macOS has no affinity to ask for.
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
