"""Weights & Biases and Trackio, which has its calls: a group for the whole, with a run for each training."""

import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from nas.loggers.logger import ShownTraining, find_best, flatten_settings, name_run
from nas.loggers.shown import read_id
from search_spaces.wiring.pixels import draw_pixels

PROJECT = "skipsearch"


class WandbLogger:
    """Writes to the project $WANDB_PROJECT, or skipsearch; $WANDB_MODE, $WANDB_DIR and others hold as everywhere.

    Files go to RUN/wandb unless $WANDB_DIR says otherwise.
    """

    def start(self, run: Path, settings: Mapping[str, Any]) -> None:
        import wandb

        self._wandb, self._folder, self._id, self._name = wandb, run, read_id(run), name_run(run)
        self._settings = flatten_settings(settings)

    def finish(self, training: ShownTraining) -> None:
        config = {**self._settings, **training.settings, **training.measures, "number": training.number}
        shown = self._begin(str(training.number), training.name, "training", config)
        for epoch, values in training.list_values():
            shown.log({"epoch": epoch, **values}, step=epoch)
        shown.summary.update({**training.metrics, "state": training.state, "seconds": training.seconds})
        if training.error:
            shown.summary["error"] = training.error
        shown.summary["pattern"] = self._wandb.Image(draw_pixels(training.pattern))
        shown.finish(exit_code=int(training.state == "failed"))

    def end(self, run: Path, report: Sequence[Path]) -> None:
        shown = self._begin("run", self._name, "run", self._settings)
        if best := find_best(report):
            shown.summary["best_pattern"] = self._wandb.Image(draw_pixels(best))
        if report:
            shown.log_artifact(_bundle(self._wandb, self._id, run, report))
        shown.finish(exit_code=int(not report))

    def _begin(self, number: str, name: str, kind: str, config: Mapping[str, Any]) -> Any:
        """Begin a run of the tracker, or go on with the one of the same number."""
        return self._wandb.init(
            project=os.environ.get("WANDB_PROJECT", PROJECT),
            group=f"{self._name} {self._id[:6]}",
            job_type=kind,
            id=f"{self._id}-{number}",
            name=name,
            config=dict(config),
            resume="allow",
            dir=os.environ.get("WANDB_DIR", str(self._folder)),
            settings=self._wandb.Settings(console="off", silent=True),
        )


class TrackioLogger:
    """Writes to Trackio's own folder, where `trackio show` looks, or to where its environment variables say."""

    def start(self, run: Path, settings: Mapping[str, Any]) -> None:
        import trackio

        self._trackio, self._id, self._group = trackio, read_id(run), f"{name_run(run)} {read_id(run)[:6]}"
        self._settings = flatten_settings(settings)
        self._older: dict[str, Any] = {}
        with suppress(ValueError):  # there is no such project yet
            self._older = {older.name: older for older in trackio.Api().runs(PROJECT)}

    def finish(self, training: ShownTraining) -> None:
        of_training = {"number": training.number, "state": training.state, "error": training.error or ""}
        config = {**self._settings, **training.settings, **training.measures, **of_training}
        shown = self._begin(training.name, config)
        values = dict(training.list_values())
        for epoch, of_epoch in values.items():
            shown.log(of_epoch, step=epoch)
        shown.log({"pattern": self._trackio.Image(draw_pixels(training.pattern))}, step=max(values) + 1)
        shown.finish()

    def end(self, run: Path, report: Sequence[Path]) -> None:
        shown = self._begin("run", self._settings)
        if best := find_best(report):
            shown.log({"best pattern": self._trackio.Image(draw_pixels(best))}, step=0)
        if report:
            shown.log_artifact(_bundle(self._trackio, self._id, run, report))
        shown.finish()

    def _begin(self, name: str, config: Mapping[str, Any]) -> Any:
        """Begin a run of the tracker, in place of one that an earlier process wrote."""
        name = f"{self._group} {name}"  # a name is a run's only mark here
        if name in self._older:
            self._older.pop(name).delete()
        return self._trackio.init(
            project=PROJECT,
            name=name,
            group=self._group,
            config=dict(config),
            embed=False,
            auto_log_gpu=False,
            auto_log_cpu=False,
        )


def _bundle(library: Any, own: str, run: Path, report: Sequence[Path]) -> Any:
    """Return the artifact of the files at a run's end."""
    artifact = library.Artifact(f"report-{own}", "report")
    for path in report:
        inside = path.relative_to(run) if path.is_relative_to(run) else Path(path.name)
        artifact.add_file(str(path), inside.as_posix())
    return artifact
