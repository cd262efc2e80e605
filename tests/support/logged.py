"""Trainings to be shown to loggers, and loggers that note what they are shown or fail in some way."""

import json
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from nas.loggers.logger import Logger, ShownTraining
from nas.records.metrics import image_metrics
from nas.records.trial import Outcome, Trial
from search_spaces.distance import describe
from search_spaces.templates import find_template

SETTINGS = {"layers": 6, "lr": 0.1, "lr_drops": [0.5, 0.75], "data": None, "log": []}
RELEASE = threading.Event()  # what a hung logger waits for: the test's end


def make_trial(number: int, template: str = "log", state: Any = "complete", error: str | None = None) -> Trial:
    """Return a training of three epochs, as the ledger stores it."""
    pattern = find_template(template).build(6)
    metrics = {} if error else image_metrics(0.5 + number / 100, 1.5 - number / 100)
    curve: list[dict[str, float]] = [{"epoch": epoch, "train_loss": 2.0 / epoch} for epoch in (1, 2, 3)]
    curve[-1].update(metrics)
    row = describe(pattern)
    return Trial(
        number=number,
        pattern=pattern,
        template=template,
        strategy="templates",
        seed=number,
        budget="log",
        facts={"key": pattern.key, "max_bd": row["max_bd"], "walk_length": 2.5, "proxies": {"synflow": 3.0}},
        descriptors={"mean_bd": row["mean_bd"], "span": row["span"]},
        state=state,
        outcome=Outcome(metrics, 3, 1.5, tuple(curve), error),
    )


TRIALS = (
    make_trial(0),
    make_trial(1, "nearest_4", "failed", error="ValueError: it went wrong"),
    make_trial(2, "midpoint", "pruned"),
)


def write_ending(run: Path) -> list[Path]:
    """Write what a run has at its end, made small, and return its files as loggers are shown them."""
    report, best = run / "report", run / "templates" / "abc"
    report.mkdir(parents=True)
    best.mkdir(parents=True)
    (report / "report.md").write_text("# A search\n\nIt found one.\n\n## Details\n")
    pattern = find_template("midpoint").build(6)
    (best / "template.json").write_text(
        json.dumps({"layers": 6, "sources": [list(inputs) for inputs in pattern.sources]})
    )
    (best / "arcs.svg").write_text("<svg/>")
    return [report / "report.md", best / "template.json", best / "arcs.svg"]


class NotingLogger:
    """Writes a line for each call of it into RUN/noted.txt."""

    def start(self, run: Path, settings: Mapping[str, Any]) -> None:
        self._file = run / "noted.txt"
        self._note(f"start {settings['layers']}")

    def finish(self, training: ShownTraining) -> None:
        self._note(f"finish {training.number} {training.state}")

    def end(self, run: Path, report: Sequence[Path]) -> None:
        self._note(f"end {run.name} {len(report)}")

    def _note(self, line: str) -> None:
        with self._file.open("a") as file:
            file.write(f"{line}\n")


class FailingLogger(NotingLogger):
    """Raises at its second training."""

    def finish(self, training: ShownTraining) -> None:
        if training.number == 1:
            raise ConnectionError("the server\nhas gone")
        super().finish(training)


class HangingLogger(NotingLogger):
    """Does not come back from its second training before RELEASE is set."""

    def finish(self, training: ShownTraining) -> None:
        if training.number == 1:
            print("a tracker may print", flush=True)  # noqa: T201
            RELEASE.wait(60)
        super().finish(training)


class EndlessLogger(NotingLogger):
    """Does not come back from its start."""

    def start(self, run: Path, settings: Mapping[str, Any]) -> None:
        super().start(run, settings)
        RELEASE.wait(60)


class PrintingLogger(NotingLogger):
    """Prints, as Trackio does."""

    def finish(self, training: ShownTraining) -> None:
        print("* View dashboard")  # noqa: T201
        super().finish(training)


def read_noted(run: Path) -> list[str]:
    """Return what a noting logger wrote."""
    return (run / "noted.txt").read_text().splitlines()


def show_all(make: Callable[[], Logger], run: Path, report: Sequence[Path] = ()) -> None:
    """Show a logger three trainings of a run and its end."""
    from nas.loggers.logger import show_training

    logger = make()
    logger.start(run, SETTINGS)
    for trial in TRIALS:
        logger.finish(show_training(trial))
    logger.end(run, report)


def wait_until(condition: Callable[[], bool]) -> None:
    """Wait until something is so."""
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)
