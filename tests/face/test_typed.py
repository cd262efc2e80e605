"""A user's project that imports skipsearch passes mypy --strict, and its mistakes do not."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.small import ROOT

pytestmark = pytest.mark.slow
PROJECT = """
from pathlib import Path
from typing import Any

import torch
from torch import nn

import skipsearch


class Own(skipsearch.Task):
    width: int = 3

    def build(self, pattern: skipsearch.TaskPattern, seed: int) -> nn.Module:
        torch.manual_seed(seed)
        return nn.Linear(len(pattern.sources), self.width)

    def data(self, seed: int) -> tuple[Any, Any]:
        return (torch.zeros(1),), (torch.zeros(1),)


def objective(trial: skipsearch.TaskTrial, *, width: int = 8) -> dict[str, float]:
    return {"loss": float(trial.seed + width)}


def work(run: Path) -> float:
    pattern: skipsearch.ConnectionPattern = skipsearch.template("log", 12)
    network: nn.Module = skipsearch.build_network(pattern, growth=4, image=(1, 8, 8))
    network.eval()
    found = skipsearch.search(Own, run=run, layers=8, budget=["total:12", "log"], set={"width": 2}, trainings=12)
    skipsearch.study(objective, run=run, per_cell=2)
    best = found.best
    assert best is not None
    losses: list[float] = found.candidates["loss"].tolist()
    skipsearch.correlate(skipsearch.tables.load("layers-12"), "mean_bd", "validation_loss")
    skipsearch.draw(best.pattern).save("a.svg")
    return skipsearch.optimize("total:28", 12).value + losses[0]
"""
MISTAKES = {
    "skipsearch.search(run='a', tarinings=3)": "tarinings",
    "skipsearch.search(run='a', engine='fast')": "engine",
    "skipsearch.searhc()": "searhc",
    "skipsearch.template(3)": "int",
    "skipsearch.build_network('log', epochs=3)": "epochs",
}


def _check(tree: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "mypy", "--strict", "--cache-dir", str(tree / "cache"), "work.py"]
    # As the installed packages are found: not as the user's own code.
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "MYPYPATH": ""}
    return subprocess.run(command, cwd=tree, capture_output=True, text=True, check=False, env=environment)


def test_a_users_project_is_checked(tmp_path: Path) -> None:
    (tmp_path / "work.py").write_text(PROJECT)
    done = _check(tmp_path)
    assert done.returncode == 0, done.stdout
    lines = "\n".join(f"    {mistake}" for mistake in MISTAKES)
    (tmp_path / "work.py").write_text(f"{PROJECT}\n\ndef wrong() -> None:\n{lines}\n")
    told = _check(tmp_path).stdout.splitlines()
    first = len(PROJECT.splitlines()) + 4
    for number, offender in enumerate(MISTAKES.values(), start=first):
        assert any(line.startswith(f"work.py:{number}:") and offender in line for line in told), (offender, told)
