"""What MLflow's client reads in a run's own store. Skipped where MLflow is not installed: it is large."""

from pathlib import Path
from typing import Any

import pytest

from nas.loggers.logger import show_training
from nas.loggers.mlflow import MlflowLogger
from tests.support.logged import SETTINGS, TRIALS, make_trial, show_all, write_ending

pytest.importorskip("mlflow")
# The store's first use makes some sixty tables: seconds.
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that MLflow was shown, and that was then continued by one training."""
    run = tmp_path_factory.mktemp("runs") / "first"
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        patch.delenv("MLFLOW_EXPERIMENT_NAME", raising=False)
        show_all(MlflowLogger, run)
        logger = MlflowLogger()
        logger.start(run, SETTINGS)
        assert [found.info.status for found in list_runs(run) if found.data.tags["skipsearch.number"] == "run"] == [
            "RUNNING"
        ]
        logger.finish(show_training(TRIALS[2]))  # a second time, as after a kill
        logger.finish(show_training(make_trial(3)))
        logger.end(run, write_ending(run))
    return run


def open_client(run: Path) -> Any:
    from mlflow import MlflowClient

    return MlflowClient(tracking_uri=f"sqlite:///{run}/mlflow/mlflow.db")


def list_runs(run: Path) -> list[Any]:
    client = open_client(run)
    return list(client.search_runs([client.get_experiment_by_name("skipsearch").experiment_id]))


def find(run: Path, number: str) -> Any:
    (found,) = (found for found in list_runs(run) if found.data.tags["skipsearch.number"] == number)
    return found


def test_one_parent_has_a_nested_run_for_each_training(run: Path) -> None:
    parent = find(run, "run")
    assert (parent.info.run_name, parent.info.status) == ("first", "FINISHED")
    assert parent.data.params["lr"] == "0.1"
    children = [found for found in list_runs(run) if found.info.run_id != parent.info.run_id]
    assert {found.data.tags["mlflow.parentRunId"] for found in children} == {parent.info.run_id}
    assert sorted((found.data.tags["skipsearch.number"], found.info.status) for found in children) == [
        ("0", "FINISHED"),
        ("1", "FAILED"),
        ("2", "KILLED"),
        ("3", "FINISHED"),
    ]


def test_curves_outcomes_and_measures_are_metrics(run: Path) -> None:
    training = find(run, "3")
    history = open_client(run).get_metric_history(training.info.run_id, "train_loss")
    assert [(point.step, point.value) for point in history] == [(1, 2.0), (2, 1.0), (3, pytest.approx(2 / 3))]
    assert training.data.metrics["validation_loss"] == pytest.approx(1.47)
    assert training.data.metrics["walk_length"] == 2.5
    assert training.data.params["template"] == "log"
    assert find(run, "1").data.tags["error"] == "ValueError: it went wrong"


def test_the_report_and_the_pictures_are_artifacts(run: Path) -> None:
    client, parent = open_client(run), find(run, "run")
    assert {file.path for file in client.list_artifacts(parent.info.run_id)} == {"report", "templates"}
    best = [file.path for file in client.list_artifacts(parent.info.run_id, "templates/abc")]
    assert best == ["templates/abc/arcs.svg", "templates/abc/template.json"]
    assert [file.path for file in client.list_artifacts(find(run, "0").info.run_id)] == ["arcs.svg"]
    assert "It found one." in parent.data.tags["mlflow.note.content"]
