"""TensorBoard: a folder of event files for each training, with its hyperparameters, and one for the whole run."""

import os
import re
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from nas.loggers.logger import ShownTraining, find_best, find_page, flatten_settings, name_run
from nas.loggers.shown import read_id
from search_spaces.wiring.pixels import draw_pixels


class TensorBoardLogger:
    """Writes into RUN/tensorboard, or into a folder of the run's own in $TENSORBOARD_LOGGING_DIR.

    Each folder is written at once: an event file that stays open would need a thread, whose errors nobody sees.
    """

    def start(self, run: Path, settings: Mapping[str, Any]) -> None:
        elsewhere = os.environ.get("TENSORBOARD_LOGGING_DIR")
        own = f"{name_run(run)} {read_id(run)[:6]}"
        self._folder = Path(elsewhere) / own if elsewhere else run / "tensorboard"
        rows = [f"| {name} | {value} |" for name, value in flatten_settings(settings).items()]
        self._write("run", "settings", self._summarise_text("settings", "\n".join(["| | |", "|---|---|", *rows])))

    def finish(self, training: ShownTraining) -> None:
        name = re.sub(r"[^\w.-]+", "-", training.name)
        shutil.rmtree(self._folder / name, ignore_errors=True)  # of the same training, cut short or of another state
        self._write(name, "training", self._summarise_training(training))

    def end(self, run: Path, report: Sequence[Path]) -> None:  # noqa: ARG002  the form of loggers
        from tensorboardX import summary

        if page := find_page(report):
            self._write("run", "report", self._summarise_text("report", page))
        if best := find_best(report):
            picture = summary.image("best pattern", draw_pixels(best), dataformats="HWC")
            self._write("run", "best", iter([(0, picture)]))

    def _summarise_text(self, tag: str, text: str) -> Iterator[tuple[int, Any]]:
        from tensorboardX import summary

        yield 0, summary.text(tag, text)

    def _summarise_training(self, training: ShownTraining) -> Iterator[tuple[int, Any]]:
        """Yield the step and the protocol buffer of all that is shown of a training."""
        from tensorboardX import summary

        for part in summary.hparams({**training.settings, **training.measures}, dict(training.metrics)):
            yield 0, part
        for epoch, values in training.list_values():
            for name, value in values.items():
                yield epoch, summary.scalar(name, value)
        yield 0, summary.image("pattern", draw_pixels(training.pattern), dataformats="HWC")
        if training.error:
            yield 0, summary.text("error", training.error)

    def _write(self, folder: str, suffix: str, summaries: Iterator[tuple[int, Any]]) -> None:
        from tensorboardX import RecordWriter
        from tensorboardX.proto.event_pb2 import Event

        place = self._folder / folder
        place.mkdir(parents=True, exist_ok=True)
        for older in place.glob(f"*.{suffix}"):
            older.unlink()
        writer = RecordWriter(str(place / f"events.out.tfevents.{int(time.time())}.{suffix}"))
        writer.write(Event(wall_time=time.time(), file_version="brain.Event:2").SerializeToString())
        for step, part in summaries:
            writer.write(Event(wall_time=time.time(), step=step, summary=part).SerializeToString())
        writer.close()
