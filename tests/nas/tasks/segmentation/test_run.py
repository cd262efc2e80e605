"""A search of the segmentation task: what its ledger holds, how it is continued, and what its report shows."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from analysis.data.results import Run, read_run
from analysis.segmentation.answers import analyse_segmentation
from nas.data.pixel_labels import VOID
from nas.records.database import read_attributes
from nas.search.loop import run_search
from nas.settings.resume import settle_config
from nas.settings.search import SearchConfig
from search_spaces.errors import InputError

SETTINGS = ("blocks=3", "growth=2")
FLAGS: dict[str, Any] = {
    "task": "segmentation",
    "layers": 3,
    "budget": "total:5",
    "epochs": 1,
    "strategy": "random",
    "trials": 2,
    "seeds": 1,
    "templates": False,
    "workers": 1,
    "device": "cpu",
}


def search(run: Path, **flags: Any) -> Run:
    config = settle_config(run, None, {**FLAGS, **flags}, SearchConfig)
    run_search(run, config, lambda *_: None)
    return read_run(run)


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    arrays: dict[str, Any] = {"names": ["red", "green", "blue"]}
    for part in ("train", "val", "test"):
        images = np.random.default_rng([*part.encode()]).integers(0, 256, (8, 3, 8, 12), dtype=np.uint8)
        masks = images.argmax(axis=1).astype(np.uint8)
        masks[:, 0] = VOID
        arrays |= {f"x_{part}": images, f"y_{part}": masks}
    path = tmp_path_factory.mktemp("photos") / "photos.npz"
    np.savez(path, **arrays)
    return path


def test_a_run_keeps_its_pictures_and_every_trainings_answers(photos: Path, tmp_path: Path) -> None:
    run = search(tmp_path / "run", set=(*SETTINGS, f"file={photos}"))
    assert run.candidates["state"].tolist() == ["complete"] * 2
    assert run.examples["classes"] == ["red", "green", "blue"]
    assert set(run.details) == {0, 1}
    segmentation = analyse_segmentation(run, run.candidates)
    assert segmentation is not None
    (best, *_) = segmentation.patterns
    assert best.miou.value == pytest.approx(run.candidates["miou"].max())
    assert best.masks[0].shape == (8, 12)
    raw = np.load(photos)
    assert np.array_equal(segmentation.truth[3], raw["y_val"][7])
    assert np.array_equal(segmentation.images[3], raw["x_val"][7].transpose(1, 2, 0))
    assert not any(test.tobytes() in {image.tobytes() for image in segmentation.images} for test in raw["x_test"])


def test_settings_that_do_not_fit_the_layers_are_refused_before_anything_is_written(tmp_path: Path) -> None:
    run = tmp_path / "run"
    with pytest.raises(InputError, match="3 layers spans 5 blocks"):
        search(run, set=("scenes=1",))
    assert not (run / "study.db").exists()


def test_a_run_is_extended_with_the_same_pictures_and_the_test_part_stays_out(photos: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    first = search(run, set=(*SETTINGS, f"file={photos}"), trials=1)
    more = search(run, trials=2)
    assert more.details[0] == first.details[0]
    assert len(more.details) == 2
    attributes = read_attributes(run / "study.db")
    assert attributes["examples"] == first.examples
    assert set(attributes["task"]["data"]) == {"name", "sha256"}
    assert attributes["task"]["settings"]["blocks"] == 3
