"""What the command line says before it does anything: versions, and what a shell completes."""

import json
import os
import platform
import re
import subprocess
import sys
from importlib.metadata import version

import pytest

import run_search
from nas.data.readers import DATA_SETS
from nas.presets.recipes import RECIPES
from nas.presets.registry import PRESETS
from nas.settings.environment import describe_versions
from search_spaces.templates import TEMPLATES
from tests.support.small import ROOT, CommandLine

HEAVY = {"torch", "scipy", "pandas", "optuna", "ray", "matplotlib", "sklearn", "numba"}


def _complete(capsys: pytest.CaptureFixture[str], *words: str) -> list[str]:
    """What bash completes after these words, of which the last is not finished."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COMP_WORDS", " ".join(["skipsearch", *words]))
        patch.setenv("COMP_CWORD", str(len(words)))
        patch.setenv("_SKIPSEARCH_COMPLETE", "complete_bash")
        with pytest.raises(SystemExit) as end:
            run_search.app([], prog_name="skipsearch")
    assert not end.value.code
    return capsys.readouterr().out.split()


@pytest.mark.parametrize(
    ("words", "completed"),
    [
        (["s"], ["search", "study", "status", "score", "sample", "strengths"]),
        (["search", "--tr"], ["--transition", "--trainings", "--trials", "--train-examples", "--trial-timeout"]),
        (["search", "--run", "x", "--no-t"], ["--no-templates"]),
        (["search", "--dataset", ""], list(DATA_SETS)),
        (["study", "--device", "c"], ["cpu", "cuda"]),
        (["study", "--tune"], ["--tune-lr"]),
        (["compare-networks", "--network", "l"], ["log-densenet-v1", "log-densenet-v2", "log", "learned"]),
        (["export", "--layer", ""], ["bn-relu-conv", "bottleneck", "depthwise"]),
        (["search", "--recipe", ""], list(RECIPES)),
        (["search", "--train-examples", ""], ["all"]),
        (["score", "--network", "densenet-b"], [name for name in PRESETS if name.startswith("densenet-b")]),
        (["score", "--template", "l"], [name for name in TEMPLATES if name.startswith("l")]),
        (["optimize", "--measure", "visit"], ["visit_evenness"]),
        (["score", "--measures", "al"], ["all"]),
        (["search", "--layers", ""], []),
        (["search", "--run", ""], []),  # which a shell takes for a file
    ],
    ids=" ".join,
)
def test_a_shell_completes(words: list[str], completed: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert _complete(capsys, *words) == completed


def test_completion_loads_no_large_library() -> None:
    code = (
        "import sys, json; sys.argv = ['skipsearch']\nimport run_search\ntry:\n    run_search.main()\n"
        "except SystemExit as end:\n    assert not end.code\n"
        f"print(json.dumps(sorted({HEAVY} & set(sys.modules))))"
    )
    environment = {"COMP_WORDS": "skipsearch study --tune", "COMP_CWORD": "2", "_SKIPSEARCH_COMPLETE": "complete_bash"}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env={**os.environ, **environment}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    completed, loaded = done.stdout.splitlines()
    assert completed == "--tune-lr"
    assert json.loads(loaded) == []


def test_version_names_what_figures_depend_on(command_line: CommandLine) -> None:
    done = command_line("--version")
    assert (done.returncode, done.stderr) == (0, "")
    said = re.fullmatch(r"skipsearch (.+?)( at (\S+))?, Python (\S+), torch (\S+)\n", done.stdout)
    assert said is not None
    assert (said[1], said[4], said[5]) == (
        describe_versions(())["skipsearch"],
        platform.python_version(),
        version("torch"),
    )
    commit = subprocess.run(
        ["git", "rev-parse", "HEAD"],  # noqa: S607
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    if commit.returncode == 0:
        assert commit.stdout.startswith(str(said[3]).removesuffix("-dirty"))
