"""What TensorBoard itself reads in the files of a run; without it, as in an installation to train only, nothing."""

from pathlib import Path
from typing import Any

import pytest

from nas.loggers.logger import show_training
from nas.loggers.tensorboard import TensorBoardLogger
from search_spaces.wiring.pixels import draw_pixels
from tests.support.logged import SETTINGS, TRIALS, make_trial, show_all, write_ending

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of what TensorBoard imports


def read(folder: Path) -> Any:
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    events = accumulator.EventAccumulator(str(folder), dict.fromkeys(("scalars", "tensors", "images"), 0))
    return events.Reload()


def read_text(events: Any, tag: str) -> str:
    (event,) = events.Tensors(tag)
    return str(event.tensor_proto.string_val[0].decode())


def read_scalars(events: Any) -> dict[str, Any]:
    return {
        tag: [(event.step, pytest.approx(event.value)) for event in events.Scalars(tag)]
        for tag in events.Tags()["scalars"]
    }


def test_a_folder_for_each_training_and_one_for_the_run(tmp_path: Path) -> None:
    show_all(TensorBoardLogger, tmp_path, write_ending(tmp_path))
    folders = sorted(path.name for path in (tmp_path / "tensorboard").iterdir())
    assert folders == ["0000-log-seed-0", "0001-nearest_4-seed-1", "0002-midpoint-seed-2", "run"]


def test_curves_outcomes_and_hyperparameters_are_read_back(tmp_path: Path) -> None:
    show_all(TensorBoardLogger, tmp_path)
    events = read(tmp_path / "tensorboard" / "0002-midpoint-seed-2")
    assert read_scalars(events) == {
        "train_loss": [(1, 2.0), (2, 1.0), (3, 2 / 3)],
        "validation_accuracy": [(3, 0.52)],
        "validation_loss": [(3, 1.48)],
    }
    metadata = pytest.importorskip("tensorboard.plugins.hparams.metadata")
    content = events.SummaryMetadata("_hparams_/session_start_info").plugin_data.content
    hparams = metadata.parse_session_start_info_plugin_data(content).hparams
    assert hparams["walk_length"].number_value == 2.5
    assert hparams["proxies_synflow"].number_value == 3.0
    assert hparams["template"].string_value == "midpoint"
    experiment = metadata.parse_experiment_plugin_data(
        events.SummaryMetadata("_hparams_/experiment").plugin_data.content
    )
    assert {info.name.tag for info in experiment.metric_infos} == {"validation_accuracy", "validation_loss"}


def test_the_picture_is_that_of_the_pattern(tmp_path: Path) -> None:
    show_all(TensorBoardLogger, tmp_path, write_ending(tmp_path))
    (of_training,) = read(tmp_path / "tensorboard" / "0002-midpoint-seed-2").Images("pattern")
    height, width, _ = draw_pixels(TRIALS[2].pattern).shape
    assert (of_training.height, of_training.width) == (height, width)
    run = read(tmp_path / "tensorboard" / "run")
    (best,) = run.Images("best_pattern")
    assert best.encoded_image_string == of_training.encoded_image_string  # the best is of template midpoint too


def test_settings_report_and_errors_are_texts(tmp_path: Path) -> None:
    show_all(TensorBoardLogger, tmp_path, write_ending(tmp_path))
    run = read(tmp_path / "tensorboard" / "run")
    assert "It found one." in read_text(run, "report/text_summary")
    settings = read_text(run, "settings/text_summary")
    assert "| lr | 0.1 |" in settings
    assert "data" not in settings
    failed = read(tmp_path / "tensorboard" / "0001-nearest_4-seed-1")
    assert read_text(failed, "error/text_summary") == "ValueError: it went wrong"


def test_a_training_that_is_shown_again_has_its_points_once(tmp_path: Path) -> None:
    show_all(TensorBoardLogger, tmp_path)
    logger = TensorBoardLogger()
    logger.start(tmp_path, SETTINGS)
    logger.finish(show_training(make_trial(0)))
    scalars = read_scalars(read(tmp_path / "tensorboard" / "0000-log-seed-0"))
    assert [step for step, _ in scalars["train_loss"]] == [1, 2, 3]


def test_the_environment_says_where(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TENSORBOARD_LOGGING_DIR", str(tmp_path / "elsewhere"))
    show_all(TensorBoardLogger, tmp_path / "first")
    (own,) = (tmp_path / "elsewhere").iterdir()
    assert own.name.startswith("first ")
    assert len(list(own.iterdir())) == 4
