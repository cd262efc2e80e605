"""scripts/gpu.py: its table, its deadline, and all its way on a CPU."""

import csv
import json
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import pytest
import torch

from nas.bench.shapes import Shape
from tests.support.small import ROOT

SCRIPTS = str(ROOT / "scripts")


def run_script(to: Path, *flags: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, f"{SCRIPTS}/gpu.py", "--device", "cpu", "--quick", "--to", str(to), *flags]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_ratios_are_paired_by_round_and_to_the_same_precision(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.syspath_prepend(SCRIPTS)
    from gpu_race import Seen, read_seen, tabulate

    def see(name: str, rates: list[float], eager: list[float], precision: str = "float32") -> Seen:
        return Seen(name, precision, 1, (2.3,), gate=True, rates=tuple(rates), eager=tuple(eager))

    seen = [
        see("eager", [10, 10, 10], [10, 10, 10]),
        see("torch.compile", [20, 60, 40], [10, 30, 10]),  # 2, 2, 4: median 2
        see("skipsearch-fused-cohort-4", [80, 60, 70], [10, 10, 14]),  # 8, 6, 5: median 6
        see("eager", [5, 5, 5], [5, 5, 5], "bfloat16"),
        see("skipsearch-fused-cohort-4", [80, 60, 70], [10, 10, 14], "bfloat16"),
        Seen("grouped fusion", "float32", 4, (9.9,)),
        Seen("grouped fusion", "bfloat16", 4),
    ]
    shape = Shape("digits", (1, 8, 8), layers=4, growth=4, batch=16)
    rows = tabulate(shape, seen)
    assert [row.to_eager for row in rows] == [1, 2, 6, 1, 6, None, None]
    assert [row.to_strongest for row in rows] == [0.5, 1, 3, 1, 6, None, None]
    assert [row.outcome for row in rows] == ["measured"] * 5 + ["other losses", "out of memory"]
    assert (rows[2].steps_per_second, rows[2].least, rows[2].largest) == (70, 60, 80)
    path = tmp_path / "seen"
    assert read_seen(path) == []
    path.write_text("".join(json.dumps(asdict(one)) + "\n" for one in seen))
    assert read_seen(path) == seen


@pytest.mark.slow
def test_what_there_is_no_time_for_is_said_and_what_was_measured_stays(tmp_path: Path) -> None:
    result = run_script(tmp_path, "--minutes", "0.1", "--part", "precision")
    assert (result.returncode, list(tmp_path.iterdir())) == (0, [])
    assert "nothing was measured: give more --minutes" in result.stdout
    assert run_script(tmp_path, "--part", "precision").returncode == 0
    before = json.loads((tmp_path / "gpu.json").read_text())
    assert "trained in bfloat16 and in float32: mean difference" in before["precision"]["text"]
    result = run_script(tmp_path, "--minutes", "0.36", "--part", "study", "--part", "search")
    found = json.loads((tmp_path / "gpu.json").read_text())
    assert found.keys() == {"precision", "study"}
    assert found["precision"] == before["precision"]
    assert "unfinished" in found["study"]["text"]
    page = (tmp_path / "gpu.md").read_text()
    assert "Not measured: speed in bfloat16, a search by several workers on one card, speed in float32." in page
    assert page in result.stdout


@pytest.mark.parametrize(("flags", "value"), [(["--device", "cpu"], "--to FOLDER"), ([], "no CUDA device")])
def test_docs_are_for_what_a_gpu_has_measured(flags: list[str], value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(SCRIPTS)
    import gpu

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(sys, "argv", ["gpu.py", *flags])
    with pytest.raises(SystemExit, match=value):
        gpu.main()


@pytest.mark.slow
def test_all_of_it_runs_without_a_gpu(tmp_path: Path) -> None:
    result = run_script(tmp_path)
    assert result.returncode == 0, result.stderr
    with (tmp_path / "gpu.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) == 11
    assert {row["outcome"] for row in rows} == {"measured"}
    page = (tmp_path / "gpu.md").read_text()
    assert "Not measured" not in page
    assert "60 of 60 trainings complete" in page
    assert "8 of 8 trainings complete" in page
