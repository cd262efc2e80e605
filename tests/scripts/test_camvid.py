"""The comparison of wirings on test images: matched parameters, and test metrics that are those of test images."""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.support.small import ROOT

sys.path.insert(0, str(ROOT / "scripts"))
import camvid

sys.path.pop(0)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Images whose class is their brightest channel; of the test images, every pixel is of class 0."""
    arrays: dict[str, Any] = {}
    for part in ("train", "val", "test"):
        images = np.random.default_rng([*part.encode()]).integers(0, 256, (6, 3, 8, 12), dtype=np.uint8)
        arrays |= {f"x_{part}": images, f"y_{part}": images.argmax(axis=1).astype(np.uint8)}
    arrays["y_test"] = np.zeros_like(arrays["y_test"])
    np.savez(tmp_path / "photos.npz", **arrays)
    return tmp_path / "photos.npz"


def test_contestants_have_about_as_many_parameters(photos: Path) -> None:
    log, nearest, paper = camvid.list_contestants(photos, 20, 6)
    assert log.pattern.n_connections == nearest.pattern.n_connections
    assert nearest.params == log.params
    assert abs(paper.params / log.params - 1) < 0.2
    assert (paper.pattern.depth, paper.transition) == (4, "all")


def test_every_training_is_measured_on_the_test_images(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    to = tmp_path / "out.json"
    arguments = [
        "--layers",
        "5",
        "--growth",
        "1",
        "--epochs",
        "1",
        "--batch-size",
        "3",
        "--seeds",
        "2",
        "--to",
        str(to),
    ]
    monkeypatch.setattr(sys, "argv", ["camvid.py", str(photos), *arguments])
    camvid.main()
    rows = json.loads(to.read_text())["rows"]
    assert len(rows) == 6
    for row in rows:  # only class 0 is present: its intersection over union is the share that is answered right
        assert row["test_miou"] == pytest.approx(row["test_global_accuracy"])
        assert row["miou"] != row["global_accuracy"]
    table = [line for line in capsys.readouterr().out.splitlines() if line.startswith("| ")]
    assert [line.split(" | ")[0] for line in table[2:]] == ["| log", "| nearest", f"| {rows[2]['name']}"]
    log = [row["test_miou"] for row in rows if row["name"] == "log"]
    nearest = [row["test_miou"] for row in rows if row["name"] == "nearest"]
    gain = float(table[3].split(" | ")[4].split()[0].replace("+", ""))
    assert gain == pytest.approx(sum(nearest) / 2 - sum(log) / 2, abs=0.051)


def test_a_training_that_failed_is_left_out_of_the_table() -> None:
    def row(name: str, seed: int, **more: Any) -> dict[str, Any]:
        return {"name": name, "params": 9, "seed": seed, **more}

    given = {"test_global_accuracy": 0.5, "miou": 0.5}
    rows = [row("log", 0, error="not finite"), *(row("log", seed, test_miou=0.5, **given) for seed in (1, 2))]
    rows += [row("nearest", seed, test_miou=miou, **given) for seed, miou in enumerate((0.9, 0.4, 0.4))]
    log, nearest = camvid.tabulate(rows)[2:]
    assert log.split(" | ")[2] == "2"
    assert nearest.split(" | ")[2] == "3"
    assert "0.10" in nearest.split(" | ")[4], "seed 0 has no log to compare with"
