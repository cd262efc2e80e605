"""A training in this process, which every executor uses, and the serial executor."""

import gc
import hashlib
import json
import os
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from nas.data.data_set import DataSet
from nas.data.splits import Split, split_data, split_final
from nas.model.candidate import Candidate
from nas.model.config import TrainingConfig
from nas.records.trial import Outcome
from nas.settings.machine import resolve_cohort
from nas.settings.search import SearchConfig
from nas.tasks.candidate import TaskCandidate
from nas.tasks.reference import divert_output
from nas.tasks.task import OwnTask
from nas.training.checkpoints import Slot, slot_path, weights_path, write_weights
from nas.training.stepping import OUT_OF_MEMORY, Engine, KeptStepper
from nas.training.train import Member, train_cohort
from nas.workers.jobs import Cohorts, Job, LostDeviceError, LostError, Source, failed, report
from nas.workers.stop import StopFlag
from search_spaces.errors import MachineError

Material = DataSet | OwnTask  # what a run trains on: see prepare_data


@dataclass(frozen=True, slots=True)
class Trainer:
    """All that a worker needs in addition to a job.

    Args:
        data: the whole data set, or a task of the user's own.
        config: the run's settings, device resolved.
        run: the run directory, for checkpoints; None: none are written.
        is_final: whether candidates are trained on all but the test images, measured on those, and their weights kept.
        kept: parts of the previous cohort that this process may use again.
    """

    data: Material
    config: SearchConfig
    run: Path | None = None
    is_final: bool = False
    kept: KeptStepper = field(default_factory=KeptStepper, compare=False)

    def train(self, job: Job, check_stop: Callable[[], None] = lambda: None) -> Outcome:
        """Train a candidate on this process's device, one thread on a CPU; its own errors are in the outcome.

        Raises:
            LostError: the memory was full, which may be the fault of others.
            OSError: a checkpoint cannot be written.
            MachineError: this process cannot use the GPU for any candidate.
            LostDeviceError: this process could use the GPU until now.
        """
        (outcome,) = self._train([job], check_stop)
        return outcome

    def train_cohort(
        self, jobs: Sequence[Job], check_stop: Callable[[], None] = lambda: None
    ) -> list[Outcome | LostError]:
        """Train candidates together, as `train` does one, or in halves if they do not fit into the memory.

        Returns:
            For each its outcome, or why it has none.

        Raises:
            OSError, MachineError: see train.
        """
        try:
            return [self.train(jobs[0], check_stop)] if len(jobs) == 1 else [*self._train(jobs, check_stop)]
        except LostError as error:
            reason = LostError(str(error))  # the traceback of the error itself keeps what filled the memory
        gc.collect()
        if self.config.device == "cuda":
            torch.cuda.empty_cache()
        if len(jobs) == 1:
            return [reason]
        half = len(jobs) // 2
        return [*self.train_cohort(jobs[:half], check_stop), *self.train_cohort(jobs[half:], check_stop)]

    def _train(self, jobs: Sequence[Job], check_stop: Callable[[], None]) -> list[Outcome]:
        torch.set_num_threads(1)
        share = self.config.gpus_per_worker or 1.0
        if self.config.device == "cuda" and share < 1:
            torch.cuda.set_per_process_memory_fraction(share)  # other workers have the rest of the card
        if self.config.deterministic:
            os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS reads it at its first use
            torch.use_deterministic_algorithms(True)
        if isinstance(self.data, OwnTask):
            return [self._train_own(self.data, job, check_stop) for job in jobs]
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
        except (RuntimeError, MemoryError) as error:  # torch's own are RuntimeErrors
            reason = f"{type(error).__name__}: {error}"
            if isinstance(error, MemoryError) or any(words in str(error).lower() for words in OUT_OF_MEMORY):
                raise LostError(f"out of memory: {reason}") from None
            if isinstance(error, torch.AcceleratorError):
                raise LostDeviceError(
                    f"the GPU failed: {reason.splitlines()[0]}; the same command in a new process continues the run"
                ) from None
            if len(jobs) > 1:  # training each one separately shows whose fault it is
                raise LostError(reason) from None
            return [failed(reason)]
        except Exception as error:
            if type(error).__module__.partition(".")[0] != "triton":
                raise
            reason = f"{type(error).__name__}: {error}"
            raise MachineError(f"--engine fused does not run on this GPU: {reason}; use --engine eager") from None

    def _train_own(self, task: OwnTask, job: Job, check_stop: Callable[[], None]) -> Outcome:
        """Train a candidate of the user's own task, whose prints go where ours do not."""
        candidate, config = job.candidate, self.config
        assert isinstance(candidate, TaskCandidate), "a candidate of the task"
        training = candidate.training or config
        # Its code may run for long without a report, and a signal must not wait for it.
        at_once = check_stop.at_once() if isinstance(check_stop, StopFlag) else nullcontext()
        try:
            with divert_output(), at_once:
                return task.loaded.train(
                    candidate, training, config.device, job.pause_after, self._slot(job), check_stop
                )
        except (RuntimeError, MemoryError) as error:
            reason = f"{type(error).__name__}: {error}"
            if isinstance(error, torch.AcceleratorError):
                raise LostDeviceError(
                    f"the GPU failed: {reason.splitlines()[0]}; the same command in a new process continues the run"
                ) from None
            raise LostError(f"out of memory: {reason}") from None

    @property
    def cohort(self) -> int:
        """Largest number of candidates that are trained together."""
        return resolve_cohort(
            self.config.cohort, self.config.device, self.config.memory_efficient or self.config.trains_alone
        )

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
            if self.is_final and slot is not None:  # without a slot there is no run directory to write to
                normalisation = {"mean": split.mean, "deviation": split.deviation}
                write_weights(weights_path(slot.path.parents[1], job.number), network, normalisation)

        return Member(job.candidate, split, slot, keep)

    def _split(self, seed: int) -> Split:
        config = self.config
        assert isinstance(self.data, DataSet), "a task of its own splits its data itself"
        if self.is_final:
            return split_final(self.data, seed, config.train_examples, config.device)
        return split_data(self.data, seed, config.train_examples, config.device, config.validation_examples)

    def _slot(self, job: Job) -> Slot | None:
        """Return where a job's checkpoints go; None on a node of a cluster that does not share the run directory."""
        if self.run is None or not self.run.is_dir():
            return None
        candidate = job.candidate
        training = candidate.training or self.config
        trained = {
            "key": candidate.pattern.key,
            "seed": candidate.seed,
            "training": {
                name: value
                for name in TrainingConfig.model_fields
                if (value := getattr(training, name)) is not None or name != "warm_up"  # older checkpoints lack it
            },
            **self._describe_material(candidate),
            **({"measured_on": "test"} if self.is_final else {}),
        }
        identity = hashlib.sha256(json.dumps(trained, sort_keys=True).encode()).hexdigest()
        return Slot(slot_path(self.run, job.number), identity, self.config.checkpoint_seconds)

    def _describe_material(self, candidate: Candidate) -> dict[str, Any]:
        """Return what a checkpoint depends on in addition to pattern, seed and training."""
        if isinstance(self.data, OwnTask):
            return {"task": self.data.loaded.describe(), "transition": candidate.network.transition}
        assert isinstance(self.data, DataSet), "a candidate of the data"
        return {
            "network": candidate.network.identify(),
            "train_examples": self.config.train_examples,
            "data": self.data.sha256,
        }


def run_serial(source: Source, trainer: Trainer, check_stop: StopFlag) -> None:
    """Train the source's candidates in this process, one cohort after the other.

    Raises:
        Interrupted: a signal came; the candidate being trained has no outcome.
    """
    cohorts = Cohorts(source, trainer.cohort)
    while jobs := cohorts.ask():
        for job, result in zip(jobs, trainer.train_cohort(jobs, check_stop), strict=True):
            report(source, job.number, result)
        check_stop()
