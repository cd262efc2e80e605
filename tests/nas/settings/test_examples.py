"""How many images are trained on: by default a part of digits, and what older runs and files left out."""

from pathlib import Path
from typing import Any

import pytest

from nas.data.readers import load_data
from nas.records.checked import validate
from nas.run.directory import accept, hold_run, open_ledger
from nas.settings.comparison import LineupConfig
from nas.settings.resume import settle_config
from nas.settings.search import SearchConfig
from nas.settings.study import StudyConfig
from nas.settings.toml import format_toml, merge_settings
from nas.studies.final import plan_final
from search_spaces.errors import ConflictError, InputError
from tests.support.small import SMALL

DIGITS = load_data("digits", None)
WITHOUT: dict[str, Any] = {name: value for name, value in SMALL.items() if name != "train_examples"}


def _settle(run: Path, **flags: Any) -> SearchConfig:
    return settle_config(run, None, flags, SearchConfig)


def _drop_line(text: str) -> str:
    """The settings as an older version wrote them of a run on all images."""
    lines = text.splitlines(keepends=True)
    kept = [line for line in lines if not line.startswith("train-examples =")]
    assert len(kept) == len(lines) - 1
    return "".join(kept)


@pytest.mark.parametrize("model", [SearchConfig, StudyConfig, LineupConfig])
@pytest.mark.parametrize(
    ("given", "examples"),
    [
        ({}, 300),
        ({"dataset": "digits"}, 300),
        ({"train_examples": "all"}, None),
        ({"train_examples": 958}, 958),
        ({"dataset": "fashion-mnist"}, None),
        ({"data": "mine.npz"}, None),
        ({"dataset": "npz", "data": "mine", "train_examples": 20}, 20),
    ],
    ids=str,
)
def test_digits_are_trained_on_in_part_and_other_data_whole(
    model: type[SearchConfig], given: dict[str, Any], examples: int | None
) -> None:
    assert validate(model, given).train_examples == examples


def test_a_task_of_ones_own_has_no_such_setting() -> None:
    config = SearchConfig(task="mine.py:Task")
    assert config.train_examples is None
    assert "train_examples" not in config.model_dump()
    assert "train-examples" not in format_toml(config)


@pytest.mark.parametrize("text", ["every", "", "300.5"])
def test_other_words_are_refused(text: str) -> None:
    with pytest.raises(InputError, match="train-examples: expected all or a whole number") as caught:
        validate(SearchConfig, {"train_examples": text})
    assert repr(text) in str(caught.value)


def test_all_is_written_and_read_again(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    for given in ("all", 80):
        config = SearchConfig(**WITHOUT, train_examples=given)  # type: ignore[arg-type]
        file.write_text(format_toml(config))
        assert validate(SearchConfig, merge_settings(file, {})) == config


def test_a_file_that_an_older_run_wrote_still_means_all(tmp_path: Path) -> None:
    file = tmp_path / "older.toml"
    file.write_text(_drop_line(format_toml(SearchConfig(**WITHOUT, train_examples="all"))))  # type: ignore[arg-type]
    assert validate(SearchConfig, merge_settings(file, {})).train_examples is None
    assert validate(SearchConfig, merge_settings(file, {"train_examples": 90})).train_examples == 90
    file.write_text('layers = 12\ndataset = "digits"\n')  # by hand
    assert validate(SearchConfig, merge_settings(file, {})).train_examples == 300


@pytest.mark.parametrize("has_ledger", [True, False])
def test_an_older_run_on_all_images_goes_on_with_all(tmp_path: Path, has_ledger: bool) -> None:
    config = _settle(tmp_path, **WITHOUT, train_examples="all")
    assert config.train_examples is None
    if has_ledger:
        with hold_run(tmp_path, config):
            accept(open_ledger(tmp_path, config, DIGITS, 2), config)
    (tmp_path / "config.toml").write_text(_drop_line(format_toml(config)))
    assert _settle(tmp_path).train_examples is None
    assert _settle(tmp_path, **WITHOUT, train_examples="all").train_examples is None
    with pytest.raises(ConflictError, match="train-examples"):
        _settle(tmp_path, train_examples=300)


def test_a_new_run_keeps_what_it_was_begun_with(tmp_path: Path) -> None:
    config = _settle(tmp_path, **WITHOUT)
    assert "train-examples = 300\n" in format_toml(config)
    (tmp_path / "config.toml").write_text(format_toml(config))
    assert _settle(tmp_path, train_examples=300) == config
    with pytest.raises(ConflictError, match="train-examples"):
        _settle(tmp_path, train_examples="all")


def test_the_final_measurement_of_digits_trains_on_all_but_the_test_images(tmp_path: Path) -> None:
    recorded = _settle(tmp_path / "run", **WITHOUT).model_dump(mode="json")
    assert plan_final(tmp_path / "run", recorded, None, [], {})[0].train_examples is None
    assert plan_final(tmp_path / "run", recorded, None, [], {"train_examples": 70})[0].train_examples == 70
