"""Searches in processes of their own, with a trainer that takes no time, to be killed anywhere."""

import errno
import functools
import hashlib
import multiprocessing
import os
import signal
import sqlite3
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import optuna
import sqlalchemy

import nas.search.loop
from nas.model.candidate import Candidate
from nas.records.database import STUDY_NAME, check_database
from nas.records.metrics import image_metrics
from nas.records.trial import Outcome, Trial
from nas.settings.resume import settle_config
from nas.settings.search import SearchConfig
from nas.training.checkpoints import Checkpoint
from nas.workers.jobs import Job
from nas.workers.trainer import Trainer
from search_spaces.errors import MachineError

# Children are forked from a process without threads that has the libraries loaded already: 0.1 s instead of 3.
CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["nas.search.loop", "nas.studies.study"])
TINY: dict[str, Any] = {
    "strategy": "random",
    "layers": 6,
    "train_examples": 64,
    "workers": 1,
    "device": "cpu",
    "checkpoint_seconds": 0.0,
}
HALVING = {**TINY, "trials": 3, "seeds": 1, "epochs": 3, "templates": False, "halving": True, "attempts": 9}
Acknowledged = dict[tuple[str, int], tuple[str, float | None]]  # (key, seed) -> state and value
WRITES = {"os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate", "shutil.rmtree", "fcntl.flock"}


def accuracy_of(candidate: Candidate, epochs: int) -> float:
    """What training gives here: fixed by the candidate and the epochs alone."""
    digest = hashlib.sha256(f"{candidate.pattern.key} {candidate.seed} {epochs}".encode()).digest()
    return int.from_bytes(digest[:6], "big") / 2**48


@dataclass(frozen=True)
class FakeTrainer(Trainer):
    """Trains nothing and writes a checkpoint an epoch, as real training does."""

    def train(self, job: Job, check_stop: Callable[[], None] = lambda: None) -> Outcome:
        outcome: Outcome
        (outcome,) = self.train_cohort([job], check_stop)
        return outcome

    def train_cohort(self, jobs: Sequence[Job], check_stop: Callable[[], None] = lambda: None) -> list[Any]:
        """Train a cohort together, epoch by epoch, each member from where its checkpoint ends."""
        last = jobs[0].pause_after or self.config.epochs
        slots = [self._slot(job) for job in jobs]
        curves = []
        for slot in slots:
            assert slot is not None
            held = slot.read("cpu")
            curves.append([] if held is None else list(held.curve))
        assert max(map(len, curves)) <= last
        for epoch in range(last):
            for job, slot, curve in zip(jobs, slots, curves, strict=True):
                if slot is not None and len(curve) == epoch:
                    check_stop()
                    accuracy = accuracy_of(job.candidate, epoch + 1)
                    curve.append({"epoch": epoch + 1.0, "train_loss": 1.0, "validation_loss": 1 - accuracy})
                    slot.write(Checkpoint({}, {}, curve, 0.0))
        return [
            Outcome(
                image_metrics(accuracy_of(job.candidate, last), 1 - accuracy_of(job.candidate, last)),
                last,
                0.0,
                tuple(curve),
                None,
                last < self.config.epochs,
            )
            for job, curve in zip(jobs, curves, strict=True)
        ]


def drive(run: Path, settings: dict[str, Any], sender: Connection, step: int | None, action: str) -> None:
    """Search with the fake trainer; sends (key, seed, state, value) once a candidate's end is acknowledged.

    At its end it sends how many steps it took, or as text why it failed, and leaves with the command line's code.

    Args:
        step: the one of its writes and SQL statements, counted from 1, before which something happens; None: nothing.
        action: what happens: `kill`, SIGKILL, or `deny`, the operating system's refusal.
    """
    n_steps = 0

    def count(deny: Callable[[], Exception]) -> None:
        nonlocal n_steps
        n_steps += 1
        if n_steps != step:
            return
        if action == "deny":
            raise deny()
        os.kill(os.getpid(), signal.SIGKILL)

    def audit(event: str, arguments: tuple[Any, ...]) -> None:
        is_write = event == "open" and (arguments[2] or 0) & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
        if is_write or event in WRITES:
            count(lambda: PermissionError(errno.EACCES, "Permission denied", str(arguments[0])))

    def listen(trial: Trial | None, *_: int) -> None:
        if trial is not None and trial.outcome is not None:
            outcome = trial.outcome
            state = "FAIL" if not outcome.metrics else "PRUNED" if outcome.paused else "COMPLETE"
            sender.send((trial.pattern.key, trial.seed, state, outcome.metrics.get("validation_accuracy")))

    full = sqlite3.OperationalError("database or disk is full")
    for name in ("before_cursor_execute", "commit"):
        sqlalchemy.event.listen(
            sqlalchemy.Engine, name, lambda *_: count(lambda: sqlalchemy.exc.OperationalError(None, None, full))
        )
    sys.addaudithook(audit)
    vars(nas.search.loop)["Trainer"] = FakeTrainer  # in this process alone
    if settings["workers"] > 1:
        import ray

        cloudpickle: Any = ray.cloudpickle
        cloudpickle.register_pickle_by_value(sys.modules[__name__])  # workers cannot import this file
    try:
        nas.search.loop.run_search(run, settle_config(run, None, settings, SearchConfig), listen)
    except (MachineError, OSError) as error:
        sender.send(str(error))
        sys.exit(3)
    sender.send(n_steps)


@dataclass(slots=True)
class Driver:
    """A driver's process, and what it has acknowledged so far."""

    process: Any
    receiver: Connection
    acknowledged: Acknowledged
    n_steps: int | None = None
    error: str | None = None

    def wait(self) -> int:
        """Until its end; gives the exit code, negative for a signal."""
        while self._receive():
            pass
        self.process.join()
        return int(self.process.exitcode)

    def kill_after(self, n_acknowledged: int, seconds: float) -> int:
        """SIGKILL it so many seconds after so many acknowledgements, or after its start for none."""
        while len(self.acknowledged) < n_acknowledged and self._receive():
            pass
        time.sleep(seconds)
        self.process.kill()
        return self.wait()

    def _receive(self) -> bool:
        try:
            self._take(self.receiver.recv())
        except EOFError:
            return False
        return True

    def _take(self, message: Any) -> None:
        if isinstance(message, int):
            self.n_steps = message
            return
        if isinstance(message, str):
            self.error = message
            return
        key, seed, state, value = message
        assert (key, seed) not in self.acknowledged, "acknowledged twice"
        self.acknowledged[key, seed] = (state, value)


def start(run: Path, settings: dict[str, Any], step: int | None = None, action: str = "kill") -> Driver:
    """Start a driver, or one that goes on with a run: see drive."""
    receiver, sender = CONTEXT.Pipe(duplex=False)
    process = CONTEXT.Process(target=drive, args=(run, settings, sender, step, action))
    process.start()
    sender.close()
    return Driver(process, receiver, {})


def load_trials(run: Path) -> list[optuna.trial.FrozenTrial]:
    """A run's trials; nothing of its ledger stays open."""
    storage = optuna.storages.RDBStorage(f"sqlite:///{run / 'study.db'}")
    trials = optuna.load_study(study_name=STUDY_NAME, storage=storage).get_trials()
    storage.remove_session()
    storage.engine.dispose()
    return trials


def load_results(run: Path) -> Acknowledged:
    """Every candidate of a run's ledger, once."""
    trials = load_trials(run)
    results = {
        (t.user_attrs["~candidate"]["key"], t.user_attrs["~candidate"]["seed"]): (t.state.name, t.value) for t in trials
    }
    assert len(results) == len(trials), "a candidate is there twice"
    return results


def list_leftovers(run: Path) -> list[str]:
    """What a finished run's directory holds beside what it should."""
    check_database(run / "study.db")
    held = {str(path.relative_to(run)) for path in run.rglob("*")}
    assert held >= {"config.toml", "study.db"}
    return sorted(held - {"checkpoints", "config.toml", "study.db"})


@functools.cache
def search_undisturbed() -> tuple[Acknowledged, int]:
    """What an undisturbed search with halving holds, and in how many steps it was written."""
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "run"
        driver = start(run, HALVING)
        assert driver.wait() == 0
        results = load_results(run)
        assert not list_leftovers(run)
    assert sorted(state for state, _ in results.values()) == ["COMPLETE", "PRUNED", "PRUNED"]
    assert results == driver.acknowledged
    assert driver.n_steps is not None
    return results, driver.n_steps
