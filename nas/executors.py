"""Where trainings run: what every executor shares, and the serial one."""

import contextlib
import gc
import hashlib
import json
import os
import signal
import socket
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Protocol

import torch
from torch import nn

from nas.candidate import Candidate, TrainingConfig
from nas.checkpoints import Slot, slot_path, weights_path, write_weights
from nas.cohort import describe_structure
from nas.config import SearchConfig
from nas.data import DataSet, Split, split_data, split_final
from nas.machine import resolve_cohort
from nas.stepping import Engine, KeptStepper
from nas.train import Member, Outcome, train_cohort
from search_spaces.errors import Interrupted, MachineError


class StopFlag:
    """Set by the first SIGINT or SIGTERM and looked at between steps; the second signal ends the process at once."""

    def __init__(self) -> None:
        self.signal_number: int | None = None
        self._at_once = False

    def __call__(self) -> None:
        """Raise Interrupted if a signal came."""
        if self.signal_number is not None:
            raise Interrupted(self.signal_number)

    def _receive(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002  the signal module's form
        self.signal_number = number
        signal.signal(number, signal.SIG_DFL)
        if self._at_once:
            raise Interrupted(number)

    @contextmanager
    def installed(self) -> Iterator[None]:
        """Receive the two signals within the block."""
        previous = {number: signal.signal(number, self._receive) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in previous.items():
                # Inside another block of this flag's, the second signal still ends the process.
                is_spent = handler == self._receive and number == self.signal_number
                signal.signal(number, signal.SIG_DFL if is_spent else handler)

    @contextmanager
    def overheard(self) -> Iterator[None]:
        """Note a signal within the block whatever its handler does: Ray's raises, and C code may drop that."""
        ear, mouth = socket.socketpair()
        ear.setblocking(False)
        mouth.setblocking(False)
        previous = signal.set_wakeup_fd(mouth.fileno(), warn_on_full_buffer=False)
        try:
            yield
        finally:
            signal.set_wakeup_fd(previous)
            with contextlib.suppress(BlockingIOError):
                heard = {signal.SIGINT, signal.SIGTERM}.intersection(ear.recv(100))
                self.signal_number = self.signal_number or next(iter(heard), None)
            ear.close()
            mouth.close()

    @contextmanager
    def at_once(self) -> Iterator[None]:
        """Within the block a signal raises Interrupted there and then: for what takes long and writes nothing."""
        self()
        self._at_once = True
        try:
            yield
        finally:
            self._at_once = False


@dataclass(frozen=True, slots=True)
class Job:
    """One training as an executor is handed it.

    Args:
        number: the candidate's in the ledger.
        candidate: what to train.
        pause_after: the epoch to stop at and be measured, to go on later or never; None: the last.
        is_alone: whether it is in no cohort: an earlier training was lost, or drivers died with it, which may be this
            candidate's fault.
    """

    number: int
    candidate: Candidate
    pause_after: int | None = None
    is_alone: bool = False


class Source(Protocol):
    """Where an executor gets jobs and brings outcomes."""

    def ask(self) -> Job | None:
        """The next job, or None when there is none to hand out, for now or for good."""

    def tell(self, number: int, outcome: Outcome) -> None:
        """The outcome of the candidate of that number."""

    def lose(self, number: int, reason: str) -> None:
        """The candidate's training ended without an outcome, by no fault that it tells of: it may be asked again."""

    def put_back(self, number: int) -> None:
        """The candidate's training ended without an outcome, and not by its fault: it is asked again."""

    def give_back(self) -> None:
        """The executor ends at the user's wish, with candidates that have no outcome yet."""


class Cohorts:
    """A source's jobs, put together to cohorts: those of equal structure, training and next pause.

    Args:
        source: gives the jobs.
        size: of a cohort at most.
    """

    def __init__(self, source: Source, size: int) -> None:
        self._source = source
        self._size = size
        self._pools: dict[Hashable, list[Job]] = {}

    def ask(self) -> list[Job]:
        """The next cohort, full if the source has as many that fit among twice as many; none: as Source.ask."""
        while not any(len(pool) >= self._size for pool in self._pools.values()):
            if sum(map(len, self._pools.values())) >= 2 * self._size:
                break  # of many strata in turn: what is handed out and not in training must stay little
            job = self._source.ask()
            if job is None:
                break
            candidate = job.candidate
            kind = (describe_structure(candidate), candidate.training, job.pause_after)
            self._pools.setdefault(job.number if job.is_alone else kind, []).append(job)
        if not self._pools:
            return []
        return self._pools.pop(max(self._pools, key=lambda kind: len(self._pools[kind])))


# As torch says it of a CPU, of a GPU, and as cuBLAS and Triton do; in small letters.
OUT_OF_MEMORY = ("can't allocate memory", "out of memory", "alloc_failed")


class LostError(Exception):
    """A training ended without an outcome and may be tried again; its text says why."""


class LostDeviceError(MachineError):
    """CUDA takes no call of this process any more; another process may have more luck."""


@dataclass(frozen=True, slots=True)
class Trainer:
    """All that a worker needs beside the job.

    Args:
        data: the whole data set.
        config: the run's settings, device resolved.
        run: the run directory, for checkpoints; None for none.
        is_final: whether candidates are trained on all but the test images, measured on those, and their weights kept.
        kept: what this process may use again of the cohort before.
    """

    data: DataSet
    config: SearchConfig
    run: Path | None = None
    is_final: bool = False
    kept: KeptStepper = field(default_factory=KeptStepper, compare=False)

    def train(self, job: Job, check_stop: Callable[[], None] = lambda: None) -> Outcome:
        """Train a candidate on this process's device, one thread on a CPU; what goes wrong is in the outcome.

        Raises:
            LostError: the memory was full, which may be others' fault.
            OSError: a checkpoint cannot be written.
            MachineError: this process cannot use the GPU, for this candidate or any other; LostDeviceError: any more.
        """
        (outcome,) = self._train([job], check_stop)
        return outcome

    def train_cohort(
        self, jobs: Sequence[Job], check_stop: Callable[[], None] = lambda: None
    ) -> list[Outcome | LostError]:
        """Train candidates together, as `train` does one, or by halves where the memory does not hold them all.

        Returns:
            Of each its outcome, or why it has none.

        Raises:
            OSError, MachineError: see train.
        """
        try:
            return [self.train(jobs[0], check_stop)] if len(jobs) == 1 else [*self._train(jobs, check_stop)]
        except LostError as error:
            reason = LostError(str(error))  # that one's traceback holds what filled the memory
        gc.collect()
        if self.config.device == "cuda":
            torch.cuda.empty_cache()
        if len(jobs) == 1:
            return [reason]
        half = len(jobs) // 2
        return [*self.train_cohort(jobs[:half], check_stop), *self.train_cohort(jobs[half:], check_stop)]

    def _train(self, jobs: Sequence[Job], check_stop: Callable[[], None]) -> list[Outcome]:
        """See train."""
        torch.set_num_threads(1)
        share = self.config.gpus_per_worker or 1.0
        if self.config.device == "cuda" and share < 1:
            torch.cuda.set_per_process_memory_fraction(share)  # others have the rest of the card
        if self.config.deterministic:
            # Read by cuBLAS when it is first used.
            os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
            torch.use_deterministic_algorithms(True)
        try:
            splits = {seed: self._split(seed) for seed in dict.fromkeys(job.candidate.seed for job in jobs)}
            return train_cohort(
                [self._member(job, splits[job.candidate.seed]) for job in jobs],
                jobs[0].candidate.training or self.config,
                check_stop,
                jobs[0].pause_after,
                self._engine,
                self.kept,
            )
        except (RuntimeError, MemoryError) as error:  # torch's own among them
            reason = f"{type(error).__name__}: {error}"
            if isinstance(error, MemoryError) or any(words in str(error).lower() for words in OUT_OF_MEMORY):
                raise LostError(f"out of memory: {reason}") from None
            if isinstance(error, torch.AcceleratorError):
                told = f"the GPU failed: {reason.splitlines()[0]}; the same command in a new process goes on"
                raise LostDeviceError(told) from None
            if len(jobs) > 1:  # whose fault it is shows when each is trained by itself
                raise LostError(reason) from None
            return [failed(reason)]
        except Exception as error:
            if type(error).__module__.partition(".")[0] != "triton":
                raise
            reason = f"{type(error).__name__}: {error}"
            raise MachineError(f"--engine fused does not run on this GPU: {reason}; use --engine graph") from None

    @property
    def cohort(self) -> int:
        """Candidates that are trained together at most."""
        return resolve_cohort(self.config.cohort, self.config.device, self.config.memory_efficient)

    @property
    def _engine(self) -> Engine:
        config = self.config
        return Engine(
            is_fused=config.engine == "fused",
            is_captured=config.device == "cuda" and config.engine in ("graph", "fused"),
            is_bfloat16=config.precision == "bfloat16",
            memory_efficient=config.memory_efficient,
        )

    def _member(self, job: Job, split: Split) -> Member:
        slot = self._slot(job)

        def keep(network: nn.Module) -> None:
            if self.is_final and slot is not None:  # a slot: the run directory is there to write to
                normalisation = {"mean": split.mean, "deviation": split.deviation}
                write_weights(weights_path(slot.path.parents[1], job.number), network, normalisation)

        return Member(job.candidate, split, slot, keep)

    def _split(self, seed: int) -> Split:
        config = self.config
        if self.is_final:
            return split_final(self.data, seed, config.train_examples, config.device)
        return split_data(self.data, seed, config.train_examples, config.device, config.validation_examples)

    def _slot(self, job: Job) -> Slot | None:
        """Where a job's checkpoints go; nowhere on a node of a cluster that does not share the run directory."""
        if self.run is None or not self.run.is_dir():
            return None
        candidate = job.candidate
        training = candidate.training or self.config
        trained = {
            "key": candidate.pattern.key,
            "network": candidate.network.model_dump(mode="json"),
            "seed": candidate.seed,
            "training": {name: getattr(training, name) for name in TrainingConfig.model_fields},
            "train_examples": self.config.train_examples,
            "data": self.data.sha256,
            **({"measured_on": "test"} if self.is_final else {}),
        }
        identity = hashlib.sha256(json.dumps(trained, sort_keys=True).encode()).hexdigest()
        return Slot(slot_path(self.run, job.number), identity, self.config.checkpoint_seconds)


def failed(reason: str) -> Outcome:
    """The outcome of a training that gave no value."""
    return Outcome(None, None, 0, 0.0, (), reason)


def run_serial(source: Source, trainer: Trainer, check_stop: StopFlag) -> None:
    """Train the source's candidates one after the other in this process.

    Raises:
        Interrupted: a signal came; the candidate being trained has no outcome.
    """
    cohorts = Cohorts(source, trainer.cohort)
    while jobs := cohorts.ask():
        for job, result in zip(jobs, trainer.train_cohort(jobs, check_stop), strict=True):
            if isinstance(result, LostError):
                source.lose(job.number, str(result))
            else:
                source.tell(job.number, result)
        check_stop()
