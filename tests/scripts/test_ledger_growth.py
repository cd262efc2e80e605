"""What a training costs ledger and search, in counts: so many commits, and as much for the 110th as for the 20th."""

import gc
import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy

from nas.data.readers import load_data
from nas.records.metrics import image_metrics
from nas.records.trial import Outcome
from nas.run.directory import execute, hold_run, open_ledger
from nas.search.loop import Search
from nas.settings.search import SearchConfig
from nas.workers.jobs import Job
from nas.workers.trainer import Trainer
from tests.support.small import ROOT

FEW, MANY, WINDOW = 20, 110, 10  # trainings that costs are compared after, and how many of them are counted
FSYNCS_A_COMMIT = 4  # SQLite's rollback journal: the journal twice, the database, the directory


@dataclass(frozen=True)
class FakeTrainer(Trainer):
    """Trains nothing."""

    def train(self, job: Job, check_stop: Callable[[], None] = lambda: None) -> Outcome:  # noqa: ARG002
        accuracy = int(job.candidate.pattern.key[:6], 16) / 16**6
        curve = tuple({"epoch": epoch, "train_loss": 1 / epoch} for epoch in range(1, 10))
        return Outcome(image_metrics(accuracy, 1 - accuracy), 9, 1.0, curve, strengths=((0.5,) * 37,))


def search_fake(
    run: Path, n_candidates: int, strategy: str = "random", heard: Callable[[int], None] = lambda _: None
) -> None:
    """A search of so many trainings that take no time; each end is heard of by its place."""
    settings = {"layers": 12, "seeds": 1, "templates": False, "workers": 1, "device": "cpu"}
    config = SearchConfig.model_validate({**settings, "trials": n_candidates, "strategy": strategy})
    data = load_data("digits", None)
    with hold_run(run, config) as check_stop:
        ledger = open_ledger(run, config, data, n_candidates)
        search = Search(config, data, ledger, lambda _, place, __: heard(place))
        execute(search, FakeTrainer(data, config, run), check_stop, n_candidates)


def _n_commits(run: Path) -> int:
    """SQLite's own change counter, which every transaction that writes adds one to."""
    return int.from_bytes((run / "study.db").read_bytes()[24:28], "big")


@dataclass
class Counts:
    """What happened within the blocks that were counted.

    Args:
        statements: that were sent to SQLite.
        steps: of its virtual machine, of which reading a row takes some.
        calls: of Python functions.
    """

    statements: int = 0
    steps: int = 0
    calls: int = 0


class Counter:
    """Counts what this process asks of Python and of the database that was opened last, after it was made."""

    def __init__(self) -> None:
        self._counts = Counts()
        self._connection: sqlite3.Connection | None = None
        self._is_counting = False

    def opened(self, connection: sqlite3.Connection, _record: object) -> None:
        """Take note of the latest database, which waits for no disk from now on."""
        connection.execute("PRAGMA synchronous = OFF")
        self._connection = connection

    def sent(self, *_: Any) -> None:
        """Take note of a statement."""
        self._counts.statements += self._is_counting

    def start(self) -> None:
        """Count from now on."""
        self._counts, self._is_counting = Counts(), True
        assert self._connection is not None
        self._connection.set_progress_handler(self._step, 1)
        gc.collect()
        gc.disable()  # a collection calls the finalizers of whatever earlier tests left
        sys.setprofile(self._call)

    def stop(self) -> Counts:
        """What was counted since the start."""
        sys.setprofile(None)
        gc.enable()
        self._is_counting = False
        assert self._connection is not None
        self._connection.set_progress_handler(None, 1)
        self._counts.calls -= self._counts.steps  # each was a call of _step
        return self._counts

    def _step(self) -> None:
        self._counts.steps += 1

    def _call(self, _frame: object, event: str, _argument: object) -> None:
        self._counts.calls += event in ("call", "c_call")


@pytest.fixture
def counter() -> Iterator[Counter]:
    """Of all databases opened in the test."""
    found = Counter()
    listeners = [(sqlalchemy.Pool, "connect", found.opened), (sqlalchemy.Engine, "before_cursor_execute", found.sent)]
    for listener in listeners:
        sqlalchemy.event.listen(*listener)
    yield found
    for listener in listeners:
        sqlalchemy.event.remove(*listener)


@pytest.mark.parametrize("strategy", ["random", pytest.param("evolve", marks=pytest.mark.slow)])
def test_the_110th_training_costs_what_the_20th_did(tmp_path: Path, counter: Counter, strategy: str) -> None:
    found = []

    def hear(place: int) -> None:
        if place in (FEW, MANY):
            counter.start()
        elif place in (FEW + WINDOW, MANY + WINDOW):
            found.append(counter.stop())

    search_fake(tmp_path / "run", MANY + 2 * WINDOW, strategy, hear)
    few, many = found
    assert few.statements == many.statements <= 40 * WINDOW
    # Reading all trainings so far would take more than this, be it in Python or in SQLite. In these are the strategy's
    # look at each training of its history, 8 or 15 calls, and Optuna's count of the trials before: 5 steps a trial.
    n_more = (MANY - FEW) * WINDOW
    assert many.calls - few.calls < {"random": 9, "evolve": 16}[strategy] * n_more
    assert many.steps - few.steps < 7 * n_more


def test_a_training_takes_two_commits_and_synchronises_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synchronised: list[int] = []
    monkeypatch.setattr(os, "fsync", synchronised.append)
    found = []
    for n in (1, 21):
        synchronised.clear()
        search_fake(tmp_path / str(n), n)
        found.append((_n_commits(tmp_path / str(n)), len(synchronised)))
    (few, one), (many, other) = found
    assert many - few == 2 * 20
    assert one == other
    assert 2 * FSYNCS_A_COMMIT <= 12


@pytest.mark.slow
def test_a_search_makes_as_many_fsync_calls_as_its_commits_say(tmp_path: Path) -> None:
    strace = shutil.which("strace")
    if strace is None or subprocess.run([strace, "-o", os.devnull, sys.executable, "-c", ""], check=False).returncode:
        pytest.skip("strace is not installed, or may trace nothing here")
    log, n = tmp_path / "calls", 20
    program = f"import sys; from tests.scripts.test_ledger_growth import *; search_fake(Path(sys.argv[1]), {n})"
    counting = [strace, "-f", "-e", "trace=fsync,fdatasync", "-o", str(log), sys.executable, "-c", program]
    paths = {"PYTHONPATH": str(ROOT)}
    subprocess.run([*counting, str(tmp_path / "run")], check=True, env=os.environ | paths, timeout=120)
    n_calls = log.read_text().count("sync(")
    assert FSYNCS_A_COMMIT * 2 * n <= n_calls <= 12 * n
