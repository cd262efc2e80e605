"""The example of the page, really installed by pip: found, used and named in the report by the command line."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.plugins import EXAMPLE, write_metadata
from tests.support.small import ROOT

pytestmark = pytest.mark.slow
Run = Callable[..., subprocess.CompletedProcess[str]]
TASK = (
    *("--task", "short_spans", "--set", "weight=2", "--strategy", "best_child", "--pattern", "every_third"),
    *("--layers", "9", "--budget", "total:12", "--seeds", "1", "--trials", "5", "--no-templates"),
)
IMAGES = (
    *("--dataset", "stripes", "--merge", "softmax", "--strategy", "optuna:tpe", "--layers", "6", "--budget", "total:8"),
    *("--growth", "3", "--epochs", "1", "--train-examples", "60", "--seeds", "1", "--trials", "3", "--no-templates"),
)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Install the example, and next to it a package whose plug-ins are broken; return the command line with both."""
    folder = tmp_path_factory.mktemp("installed")
    source = folder / "source"
    shutil.copytree(EXAMPLE, source, ignore=shutil.ignore_patterns("__pycache__"))  # pip builds where it lies
    site = folder / "site"
    options = ("--no-deps", "--no-build-isolation", "--no-index", "--target", site)
    subprocess.run([sys.executable, "-m", "pip", "install", "-q", *options, source], check=True)
    write_metadata(site, {kind: {"lost": "no_such_module:lost"} for kind in ("templates", "merges")}, "broken", "9.9")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(site), str(ROOT)])}

    def call(*arguments: object) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, str(ROOT / "run_search.py"), *map(str, arguments)]
        return subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, check=False)

    return call


def _read_provenance(run: Path) -> str:
    return (run / "report" / "report.md").read_text().replace("\\", "")


@pytest.mark.ci
def test_a_task_a_strategy_and_a_template_are_found_used_and_named(run: Run, tmp_path: Path) -> None:
    rows = json.loads(run("plugins", "--json").stdout)
    problems = {(row["kind"], row["name"], row["distribution"], row["version"]): row["problem"] for row in rows}
    assert sum(key[2:] == ("skipsearch-example", "0.1") and said is None for key, said in problems.items()) == 7
    assert "ModuleNotFoundError" in problems["merges", "lost", "broken", "9.9"]
    done = run("search", "--run", tmp_path / "run", "--workers", 1, "--log", "plain_text", *TASK)
    assert done.returncode == 0, done.stderr
    assert len((tmp_path / "run" / "plain.txt").read_text().splitlines()) == 6
    report = _read_provenance(tmp_path / "run")
    for name in (
        "tasks: short_spans",
        "strategies: best_child",
        "templates: every_third",
        "measures: n_twos",
        "loggers: plain_text",
    ):
        assert f"{name} | skipsearch-example 0.1; used by this run" in report
    assert "merges: lost | broken 9.9; installed, not used by this run" in report
    refused = run("search", "--run", tmp_path / "other", "--merge", "lost")
    assert refused.returncode == 2
    assert "package broken 9.9" in refused.stderr


def test_a_reader_and_a_merge_are_used_by_workers_of_ray(run: Run, tmp_path: Path) -> None:
    done = run("search", "--run", tmp_path / "run", "--workers", 2, *IMAGES)
    assert done.returncode == 0, done.stderr
    report = _read_provenance(tmp_path / "run")
    for name in ("readers: stripes", "merges: softmax"):
        assert f"{name} | skipsearch-example 0.1; used by this run" in report
    (model, *_) = (tmp_path / "run" / "templates").glob("*/model.py")
    assert "from skipsearch_example.merge import Softmax as create_merge" in model.read_text()
