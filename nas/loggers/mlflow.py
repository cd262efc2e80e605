"""MLflow: one parent run for the whole, and a nested run for each training."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from nas.loggers.logger import ShownTraining, find_page, flatten_settings, name_run
from nas.loggers.shown import read_id
from search_spaces.wiring.arcs import draw_arcs

EXPERIMENT = "skipsearch"
RUN, NUMBER = "skipsearch.run", "skipsearch.number"  # tags by which a run is found again
STATUS = {"complete": "FINISHED", "failed": "FAILED", "pruned": "KILLED"}
MOST_PARAMS, MOST_METRICS = 100, 1000  # of one request


class MlflowLogger:
    """Writes to $MLFLOW_TRACKING_URI, or to a database of its own in RUN/mlflow.

    Its experiment is $MLFLOW_EXPERIMENT_NAME, or skipsearch.
    """

    def start(self, run: Path, settings: Mapping[str, Any]) -> None:
        from mlflow import MlflowClient

        place = (run / "mlflow").resolve()
        uri = os.environ.get("MLFLOW_TRACKING_URI")
        if uri is None:
            place.mkdir(parents=True, exist_ok=True)
            uri = f"sqlite:///{place}/mlflow.db"
        self._client = MlflowClient(tracking_uri=uri)
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME", EXPERIMENT)
        existing = self._client.get_experiment_by_name(name)
        own = None if "MLFLOW_TRACKING_URI" in os.environ else f"file://{place}/artifacts"
        self._experiment = (
            self._client.create_experiment(name, artifact_location=own) if existing is None else existing.experiment_id
        )
        self._id = read_id(run)
        self._run = self._find("run")
        if self._run is None:
            self._run = self._create("run", name_run(run), {})
            self._log(self._run, flatten_settings(settings), [])
        self._client.update_run(self._run, status="RUNNING")  # also one that was interrupted, and now goes on

    def finish(self, training: ShownTraining) -> None:
        from mlflow.entities import Metric

        older = self._find(str(training.number))
        if older is not None:
            self._client.delete_run(older)
        shown = self._create(str(training.number), training.name, {"mlflow.parentRunId": str(self._run)})
        last = max(epoch for epoch, _ in training.list_values())
        metrics = [
            Metric(name, value, 0, epoch) for epoch, values in training.list_values() for name, value in values.items()
        ]
        metrics += [Metric(name, value, 0, last) for name, value in training.measures.items()]
        self._log(shown, training.settings, metrics)
        self._client.log_text(shown, draw_arcs(training.pattern, training.name), "arcs.svg")
        if training.error:
            self._client.set_tag(shown, "error", training.error[:5000])
        self._client.set_terminated(shown, STATUS[training.state])

    def end(self, run: Path, report: Sequence[Path]) -> None:
        for path in report:
            inside = path.resolve().relative_to(run.resolve()).parent if path.is_relative_to(run) else Path("report")
            self._client.log_artifact(str(self._run), str(path), inside.as_posix())
        if page := find_page(report):
            self._client.set_tag(str(self._run), "mlflow.note.content", page.partition("\n## ")[0][:5000])
        self._client.set_terminated(str(self._run), "FINISHED" if report else "KILLED")

    def _find(self, number: str) -> str | None:
        """Return MLflow's name of a run that was created before; None where there is none."""
        rule = f"tags.`{RUN}` = '{self._id}' and tags.`{NUMBER}` = '{number}'"
        existing = self._client.search_runs([self._experiment], rule, max_results=1)
        return existing[0].info.run_id if existing else None

    def _create(self, number: str, name: str, tags: Mapping[str, str]) -> str:
        tags = {"mlflow.runName": name, RUN: self._id, NUMBER: number, **tags}
        created: str = self._client.create_run(self._experiment, tags=tags).info.run_id
        return created

    def _log(self, run: str, settings: Mapping[str, Any], metrics: Sequence[Any]) -> None:
        from mlflow.entities import Param

        params = [Param(name, str(value)[:5000]) for name, value in settings.items()]
        for first in range(0, len(params), MOST_PARAMS):
            self._client.log_batch(run, params=params[first : first + MOST_PARAMS])
        for first in range(0, len(metrics), MOST_METRICS):
            self._client.log_batch(run, metrics=metrics[first : first + MOST_METRICS])
