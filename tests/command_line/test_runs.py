"""Commands that train, and those that read a run."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from analysis.data.results import Run
from analysis.page.document import Heading
from analysis.report.conclusion import Conclusion
from analysis.report.report import Report
from tests.support.driving import FakeTrainer
from tests.support.small import ROOT, CommandLine


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Train and draw nothing: an outcome follows from its pattern, and a report is one line."""

    def save_report(run: Run, _report: Report) -> list[Path]:
        path = run.path / "report" / "report.md"
        path.parent.mkdir(exist_ok=True)
        path.write_text("# One line\n")
        return [path]

    report = Report((Heading(1, "One line"),), {}, Conclusion("It is so.", (), (), "nothing"))
    monkeypatch.setattr("nas.search.loop.Trainer", FakeTrainer)
    monkeypatch.setattr("analysis.report.report.compose_report", lambda _run: report)
    monkeypatch.setattr("analysis.report.report.save_report", save_report)


def _check_search(command_line: CommandLine, run: Path, flags: list[str], n_trainings: int) -> dict[str, Any]:
    """Search, look at the run, and go on with it; returns what status says."""
    done = command_line("search", "--run", run, *flags, "--json")
    assert done.returncode == 0, done.stderr
    status: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    assert set(status) == {"complete", "failed", "pruned", "running", "asked", "patterns", "best"}
    assert (status["complete"], status["asked"], status["running"]) == (n_trainings, n_trainings, 0)
    assert f"{n_trainings}/{n_trainings}" in done.stderr
    undriven: dict[str, Any] = {"driver": None, "driver_deaths": {}}
    assert json.loads(command_line("status", "--run", run, "--json").stdout) == status | undriven
    assert f"report --run {run}" in command_line("status", "--run", run).stdout.replace("\n", "")
    best = run / "templates" / status["best"]["key"][:12] / "template.json"
    texts = {"template.json", "template.graphml", "template.dot", "template.svg", "model.py", "README.md"}
    assert {path.name for path in best.parent.iterdir()} == texts | {"manifest.json"}
    assert json.loads(best.read_text())["provenance"]["measured"]["n_seeds"] == 2
    (row,) = json.loads(command_line("score", "--pattern", best, "--json").stdout)
    assert row["mean_bd"] == status["best"]["mean_bd"]
    again = command_line("search", "--run", run)  # nothing left to train: report and templates only
    assert again.returncode == 0
    assert f"{n_trainings - 1}/{n_trainings}" not in again.stdout
    changed = command_line("search", "--run", run, "--layers", 6)
    assert changed.returncode == 4
    assert "layers 5 there, 6 now" in changed.stderr
    return status


@pytest.mark.usefixtures("quick")
def test_a_search_and_what_follows_it(command_line: CommandLine, small_flags: list[str], tmp_path: Path) -> None:
    status = _check_search(command_line, tmp_path / "run", [*small_flags, "--no-templates"], 4)
    assert status["patterns"] == 2


@pytest.mark.slow
def test_a_search_that_trains_and_reports(command_line: CommandLine, small_flags: list[str], tmp_path: Path) -> None:
    assert _check_search(command_line, tmp_path / "run", small_flags, 18)["patterns"] == 9
    for name in ("index.html", "report.md", "candidates.csv", "summary.json"):
        assert (tmp_path / "run" / "report" / name).stat().st_size > 0
    assert command_line("report", "--run", tmp_path / "run").returncode == 0


@pytest.mark.slow
def test_networks_are_compared_and_teach_a_pattern(command_line: CommandLine, tmp_path: Path) -> None:
    run, small = tmp_path / "run", ["--layers", 4, "--blocks", 2, "--growth", 4, "--train-examples", 64, "--epochs", 1]
    small += ["--network", "dense", "--network", "log", "--network", "learned", "--seeds", 2, "--workers", 1]
    done = command_line("compare-networks", "--run", run, *small, "--json")
    assert done.returncode == 0, done.stderr
    rows = {row["name"]: row for row in json.loads(done.stdout)}
    assert set(rows) == {"dense", "log", "learned"}
    assert all(row["n_seeds"] == 2 for row in rows.values())
    assert (run / "report" / "index.html").stat().st_size > 0
    again = command_line("compare-networks", "--run", run, "--json")
    assert json.loads(again.stdout) == json.loads(done.stdout)
    file = tmp_path / "learned.json"
    row = json.loads(command_line("pattern-from-strengths", "--run", run, "--to", file, "--json").stdout)
    assert row["sources"] == rows["learned"]["pattern"]
    assert command_line("verify", file).returncode == 0
    trained = tmp_path / "trained"
    flags = ["--run", trained, "--pattern", file, "--strategy", "templates", "--no-templates", *small[:2], *small[6:10]]
    assert command_line("search", *flags, "--seeds", 1, "--workers", 1).returncode == 0
    status = json.loads(command_line("search", "--run", trained, "--json").stdout.splitlines()[-1])
    assert (status["complete"], status["patterns"]) == (1, 1)
    assert command_line("strengths", "--run", run, "--to", tmp_path / "told").returncode == 0
    table = (tmp_path / "told" / "strengths.csv").read_text().splitlines()
    assert (table[0], len(table)) == ("source,target,relative_strength", 1 + 10)
    assert {path.name for path in (tmp_path / "told").iterdir()} >= {"heat_map.svg", "heat_map.png", "arcs.svg"}
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "arcs.svg").write_text("mine")
    refused = command_line("strengths", "--run", run, "--to", tmp_path / "mine")
    assert refused.returncode == 4
    assert [path.read_text() for path in (tmp_path / "mine").iterdir()] == ["mine"]
    for command, said in (("search", "holds a comparison, not a search"), ("export", "compares networks of several")):
        refused = command_line(command, "--run", run)
        assert refused.returncode in (2, 4)
        assert said in refused.stderr


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_search_says_how_to_continue_and_does(
    command_line: CommandLine, small_flags: list[str], tmp_path: Path, number: signal.Signals
) -> None:
    run = tmp_path / "run"
    command = [sys.executable, str(ROOT / "run_search.py"), "search", "--run", str(run), *small_flags, "--trials", "8"]
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith("2/30"):
            break
    process.send_signal(number)
    rest, _ = process.communicate(timeout=60)
    assert process.returncode == 128 + number
    assert f"to continue: python run_search.py search --run {run}" in rest
    status = json.loads(command_line("status", "--run", run, "--json").stdout)
    assert 2 <= status["complete"] < 30
    assert status["running"] <= 1
    done = command_line("search", "--run", run, "--json")
    status = json.loads(done.stdout.splitlines()[-1])
    assert (status["complete"], status["running"], status["asked"]) == (30, 0, 30)


@pytest.mark.slow
def test_a_killed_search_continues(command_line: CommandLine, small_flags: list[str], tmp_path: Path) -> None:
    run = tmp_path / "run"
    command = [sys.executable, str(ROOT / "run_search.py"), "search", "--run", str(run), *small_flags, "--trials", "8"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while not (run / "study.db").exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    time.sleep(1)
    process.kill()
    process.wait()
    done = command_line("search", "--run", run, *small_flags, "--trials", 8, "--json")
    status = json.loads(done.stdout.splitlines()[-1])
    assert (status["complete"], status["running"], status["asked"]) == (30, 0, 30)


def test_a_folder_that_is_no_run_is_left_alone(
    command_line: CommandLine, small_flags: list[str], tmp_path: Path
) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    done = command_line("search", "--run", tmp_path, *small_flags)
    assert done.returncode == 4
    assert "holds other files" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


@pytest.mark.slow
def test_an_exported_pattern_is_exported_again(
    command_line: CommandLine, exported_folder: Path, tmp_path: Path
) -> None:
    again = command_line("export", "--pattern", exported_folder / "template.json", "--to", tmp_path)
    assert (again.returncode, again.stderr) == (0, "")
    assert (tmp_path / exported_folder.name / "template.json").exists()


@pytest.mark.usefixtures("quick")
def test_a_run_says_its_data_first_and_takes_the_data_set_from_the_file(
    command_line: CommandLine, small_flags: list[str], tmp_path: Path
) -> None:
    images = np.random.default_rng(0).integers(0, 200, (90, 8, 8, 4)).astype(np.uint8)
    labels = np.arange(90) % 3
    np.savez(tmp_path / "mine.npz", x_train=images, y_train=labels, x_test=images[:30] // 2, y_test=labels[:30])
    flags = [*small_flags, "--train-examples", 30, "--strategy", "templates", "--seeds", 1, "--json"]
    done = command_line("search", "--run", tmp_path / "run", *flags, "--data", tmp_path / "mine.npz")
    assert done.returncode == 0, done.stderr
    first = done.stderr.splitlines()[0]
    assert (
        first
        == "data: mine.npz, 120 images of 4 x 8 x 8, 3 classes; 30 to train on, 30 for validation, 30 for the test"
    )
    refused = command_line("search", "--run", tmp_path / "other", *flags, "--dataset", "digits", "--data", "/nowhere")
    assert refused.returncode == 2
    assert "/nowhere" in refused.stderr
    assert not (tmp_path / "other").exists()
