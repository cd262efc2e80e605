"""What Weights & Biases and Trackio keep without a network. Skipped where they are not installed: they are large."""

import json
import os
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from nas.loggers.logger import show_training
from nas.loggers.wandb import WandbLogger
from tests.support.logged import SETTINGS, TRIALS, make_trial, write_ending
from tests.support.small import ROOT

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]
BLOCK = 32768  # bytes of a block of an offline file, which is a log as LevelDB writes it


def read_offline(file: Path) -> Iterator[Any]:
    """Yield the records of an offline run."""
    from wandb.proto import wandb_internal_pb2

    content, place, parts = file.read_bytes(), 7, b""
    while place + 7 <= len(content):
        if BLOCK - place % BLOCK < 7:  # the rest of a block is padding
            place += BLOCK - place % BLOCK
            continue
        length, kind = int.from_bytes(content[place + 4 : place + 6], "little"), content[place + 6]
        parts += content[place + 7 : place + 7 + length]
        place += 7 + length
        if kind in (1, 4):  # a whole record, or the last part of one
            yield wandb_internal_pb2.Record.FromString(parts)
            parts = b""


@pytest.fixture
def offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run that wandb was shown offline, killed and continued."""
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    for name in ("WANDB_DIR", "WANDB_PROJECT"):
        monkeypatch.delenv(name, raising=False)
    run = tmp_path / "first"
    for trials in (TRIALS, [make_trial(3)]):
        logger = WandbLogger()
        logger.start(run, SETTINGS)
        for trial in trials:
            logger.finish(show_training(trial))
    logger.end(run, write_ending(run))
    return run


def test_wandb_has_a_group_with_a_run_for_each_training(offline: Path) -> None:
    files = list((offline / "wandb").glob("offline-run-*/*.wandb"))
    records = {file: list(read_offline(file)) for file in files}
    begun = {file: next(r.run for r in records[file] if r.WhichOneof("record_type") == "run") for file in files}
    assert {run.project for run in begun.values()} == {"skipsearch"}
    assert len({run.run_group for run in begun.values()}) == 1
    names = {run.display_name for run in begun.values()}
    trainings = {"0000 log seed 0", "0001 nearest_4 seed 1", "0002 midpoint seed 2", "0003 log seed 3"}
    assert names == {"first", *trainings}
    assert len({run.run_id.partition("-")[0] for run in begun.values()}) == 1  # also after it was continued
    file = next(file for file in files if begun[file].display_name == "0003 log seed 3")
    config = {update.key: json.loads(update.value_json) for update in begun[file].config.update}
    assert [config[name] for name in ("walk_length", "template", "seed", "lr")] == [2.5, "log", 3, 0.1]
    rows = [
        {item.key or item.nested_key[0]: json.loads(item.value_json) for item in record.history.item}
        for record in records[file]
        if record.WhichOneof("record_type") == "history"
    ]
    assert [row["train_loss"] for row in rows] == [2.0, 1.0, pytest.approx(2 / 3)]
    assert rows[-1]["validation_loss"] == pytest.approx(1.47)
    kinds = {record.WhichOneof("record_type") for file in files for record in records[file]}
    assert "artifact" in kinds or "request" in kinds
    assert list((offline / "wandb").glob("offline-run-*/files/media/images/best_pattern*.png"))


SHOW_TWICE = """
import sys
from pathlib import Path

from nas.loggers.logger import show_training
from nas.loggers.wandb import TrackioLogger
from tests.support.logged import SETTINGS, make_trial, show_all, write_ending

run = Path(sys.argv[1])
show_all(TrackioLogger, run)
logger = TrackioLogger()
logger.start(run, SETTINGS)
logger.finish(show_training(make_trial(0)))  # a second time, as after a kill
logger.finish(show_training(make_trial(3)))
logger.end(run, write_ending(run))
"""


def test_trackio_has_a_group_with_a_run_for_each_training(tmp_path: Path) -> None:
    pytest.importorskip("trackio")
    run = tmp_path / "first"
    environment = {**os.environ, "TRACKIO_DIR": str(tmp_path / "trackio")}  # is read when trackio is imported
    subprocess.run([sys.executable, "-c", SHOW_TWICE, run], cwd=ROOT, env=environment, check=True)
    group = f"first {(run / 'trackers' / 'id.txt').read_text()[:6]}"
    with closing(sqlite3.connect(tmp_path / "trackio" / "skipsearch.db")) as database:
        configs = {name: json.loads(text) for name, text in database.execute("SELECT run_name, config FROM configs")}
        points = database.execute("SELECT run_name, step, metrics FROM metrics ORDER BY run_name, step").fetchall()
        artifacts = database.execute("SELECT count(*) FROM artifacts").fetchone()
    trainings = ["0000 log seed 0", "0001 nearest_4 seed 1", "0002 midpoint seed 2", "0003 log seed 3"]
    assert sorted(configs) == [f"{group} {name}" for name in [*trainings, "run"]]
    config = configs[f"{group} 0003 log seed 3"]
    assert (config["walk_length"], config["template"], config["_Group"]) == (2.5, "log", group)
    assert configs[f"{group} run"]["lr"] == 0.1
    for name in trainings:
        own = [(step, json.loads(text)) for shown, step, text in points if shown == f"{group} {name}"]
        assert [(step, values.get("train_loss")) for step, values in own] == [
            (1, 2.0),
            (2, 1.0),
            (3, pytest.approx(2 / 3)),
            (4, None),
        ]
        assert own[-1][1]["pattern"]["_type"] == "trackio.image"
    assert artifacts == (1,)
