"""Hands a run's trainings to one logger in a thread of its own, so that it can neither end the run nor hold it up."""

import queue
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, TextIO, cast

from nas.loggers.logger import Logger, show_training
from nas.loggers.shown import Shown
from nas.records.trial import Trial

PATIENCE = 120.0  # seconds after which a call counts as hung; MLflow's first one takes 10 to 50 on a busy machine
GRACE = 10.0  # seconds that an interrupted run waits for its loggers
SOON = 2.0  # seconds that are waited without a word

_state = threading.local()


class _Muted:
    """A stream that drops what quiet threads write, and is the given stream in all else."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        return len(text) if getattr(_state, "is_quiet", False) else self._stream.write(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextmanager
def mutable_outputs() -> Iterator[None]:
    """Let threads be quiet inside the block."""
    before = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = (cast(TextIO, _Muted(stream)) for stream in before)
    try:
        yield
    finally:
        sys.stdout, sys.stderr = before


@contextmanager
def quiet(is_quiet: bool = True) -> Iterator[None]:
    """Drop, or show, what this thread prints inside the block."""
    before = getattr(_state, "is_quiet", False)
    _state.is_quiet = is_quiet
    try:
        yield
    finally:
        _state.is_quiet = before


class Relay:
    """One logger of a run. It is dropped at its first exception, or when a call of it does not come back.

    What it was not shown is not lost: the ledger has it, and the next command on the run shows it.

    Args:
        name: the logger's name.
        make: function that makes the logger.
        run: the run directory.
        say: function that shows the user a sentence, from any thread.
        patience: seconds after which a call counts as hung.
    """

    def __init__(
        self,
        name: str,
        make: Callable[[], Logger],
        run: Path,
        say: Callable[[str], None],
        patience: float = PATIENCE,
    ) -> None:
        self.name = name
        self._make = make
        self._run = run
        self._say = say
        self._patience = patience
        self._calls: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._dropped = False
        self._began: float | None = None  # of the call that is being made, by the monotonic clock
        self._thread = threading.Thread(target=self._work, name=f"tracker {name}", daemon=True)

    def start(self, settings: Mapping[str, Any]) -> None:
        """Begin to show a run."""
        self._calls.put(partial(self._start, settings))
        self._thread.start()

    def take(self, trial: Trial) -> None:
        """Have a training that has ended shown, unless it was; return at once."""
        self._drop_if_hung()
        if not self._dropped:
            self._calls.put(partial(self._finish, trial))

    def end(self, report: Sequence[Path]) -> None:
        """Have a run's end shown, and wait until it is or the logger is dropped.

        Args:
            report: see Logger.end; without one, the wait is short.
        """
        if not self._thread.is_alive():
            return
        self._calls.put(partial(self._end, report))
        self._calls.put(None)
        self._thread.join(SOON)
        if self._thread.is_alive() and not self._dropped:
            self._say(f"waiting for {self.name}")
        deadline = None if report else time.monotonic() + GRACE
        while self._thread.is_alive() and not self._dropped:
            self._drop_if_hung()
            if deadline is not None and time.monotonic() > deadline:
                self._drop(f"{self.name} has not finished in {GRACE:g} seconds")
            self._thread.join(0.1)

    def _work(self) -> None:
        with quiet():
            while (call := self._calls.get()) is not None:
                self._began = time.monotonic()
                try:
                    call()
                except BaseException as error:  # of a stranger's library: anything
                    text = " ".join(f"{type(error).__name__}: {error}".split())
                    self._drop(f"{self.name} failed: {text:.300}")
                self._began = None
                if self._dropped:
                    return

    def _start(self, settings: Mapping[str, Any]) -> None:
        self._shown = Shown(self._run, self.name)
        self._logger = self._make()
        self._logger.start(self._run, settings)

    def _finish(self, trial: Trial) -> None:
        if self._shown.has(trial.number, trial.state):
            return
        self._logger.finish(show_training(trial))
        if not self._dropped:
            self._shown.note(trial.number, trial.state)

    def _end(self, report: Sequence[Path]) -> None:
        self._logger.end(self._run, report)

    def _drop_if_hung(self) -> None:
        began = self._began
        if began is not None and time.monotonic() > began + self._patience:
            self._drop(f"{self.name} has not answered for {self._patience:g} seconds")

    def _drop(self, why: str) -> None:
        """Show it nothing more, and say so once."""
        with self._lock:
            if self._dropped:
                return
            self._dropped = True
        self._say(f"warning: {why}. It is shown nothing more; the same command shows it later what is missing")
