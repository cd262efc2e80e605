"""Flags: one for each field of the settings, its help, its values, and what is refused."""

import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import typer

import run_search
from commands.flags import list_flags
from nas.model.config import NetworkConfig
from nas.records.checked import Settings
from nas.settings.comparison import LineupConfig
from nas.settings.search import SearchConfig
from nas.settings.study import StudyConfig
from nas.settings.toml import format_toml
from tests.support.small import ROOT, CommandLine

COMMANDS = vars(typer.main.get_command(run_search.app))["commands"]
MODELS: dict[str, type[Settings]] = {
    "search": SearchConfig, "study": StudyConfig, "compare-networks": LineupConfig,
    "score": NetworkConfig, "export": NetworkConfig,
}  # fmt: skip
WITHOUT_A_FLAG = {"block_layers", "large_stem", "surroundings"}


def _flags(command: str) -> dict[str, Any]:
    """The command's parameters by flag."""
    parameters = COMMANDS[command].get_params(typer.Context(COMMANDS[command]))
    return {flag: parameter for parameter in parameters for flag in parameter.opts}


@pytest.mark.parametrize("command", MODELS)
def test_every_field_is_a_flag_with_a_help_that_says_the_default(command: str) -> None:
    flags, model = _flags(command), MODELS[command]
    without = WITHOUT_A_FLAG | set(getattr(model, "without_flags", ()))
    assert {name for name, _ in list_flags(model)} == set(model.model_fields) - without
    for name, field in list_flags(model):
        flag = flags["--network" if name == "networks" else f"--{name.replace('_', '-')}"]
        assert flag.help.startswith(field.description)
        default = re.search(r"\[default: ([^]]+)\]", flag.help)
        if isinstance(field.default, bool):
            assert default is not None and default[1] == ("yes" if field.default else "no")
            assert flag.secondary_opts == [f"--no-{name.replace('_', '-')}"]
        elif isinstance(field.default, int | float | str):
            assert default is not None and default[1] == str(field.default).removesuffix(".0")
        elif name not in ("data", "pattern", "also_layers", "set"):
            assert default is not None


def test_engine_graph_of_older_runs_is_read_but_not_offered() -> None:
    assert _flags("search")["--engine"].metavar == "<auto|eager|fused>"
    assert SearchConfig(engine="graph").engine == "graph"


@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_help_fits_80_columns(command: str, command_line: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    done = command_line(*([command] if command else []), "--help")
    assert (done.returncode, done.stderr) == (0, "")
    assert max(map(len, done.stdout.splitlines())) <= 80
    said = " ".join(done.stdout.split())
    assert "None" not in said and "list[" not in said
    for name in () if command else COMMANDS:
        assert f" {name} {COMMANDS[name].help.splitlines()[0]}" in said
    words = {word.strip(",") for line in done.stdout.splitlines() for part in line.split() for word in part.split("/")}
    for name, flag in _flags(command).items() if command else ():
        assert name in words or not name.startswith("-"), name
        if flag.default not in (None, False) and not flag.required:
            assert re.search(rf"{re.escape(name)}\b[^[]*(\[(?!default)[^[]*)*\[default: ", said), name


class _AskedError(Exception):
    pass


def _ask(command: str, *arguments: object) -> dict[str, Any]:
    """The settings that a command is given, by name."""
    with pytest.MonkeyPatch.context() as patch, pytest.raises(_AskedError) as asked:

        def settle(*given: Any) -> None:
            raise _AskedError(given)

        patch.setattr("nas.settings.resume.settle_config", settle)
        run_search.app([command, *map(str, arguments)])
    ((_, file, flags, model, *_),) = asked.value.args
    assert model is MODELS[command]
    assert file is None or isinstance(file, Path)
    return {name: value for name, value in flags.items() if value is not None}


def test_a_flag_gives_its_fields_value(tmp_path: Path) -> None:
    run = ["--run", tmp_path / "run"]
    assert _ask("search", *run) == {}
    given = _ask(
        "search", *run, "--layers", 5, "--lr", 0.5, "--no-templates", "--halving", "--lr-drops", "0.5,0.75",
        "--budget", "log", "--budget", "total:9", "--pattern", "a b.json", "--workers", "auto", "--cohort", 3,
        "--trial-timeout", "1e3", "--data", "x.npz", "--engine", "graph", "--recipe", "short",
    )  # fmt: skip
    assert given == {
        "layers": 5, "lr": 0.5, "templates": False, "halving": True, "lr_drops": (0.5, 0.75),
        "budget": ("log", "total:9"), "pattern": ("a b.json",), "workers": "auto", "cohort": 3,
        "trial_timeout": 1000.0, "data": "x.npz", "engine": "graph", "recipe": "short",
    }  # fmt: skip
    assert all(type(value) is not str for name, value in given.items() if name in ("layers", "cohort", "lr"))
    regimes = ["--regime", "a=lr:0.1", "--regime", "b=lr:0.2", "--also-layers", 6, "--bins", "1:2:3,2,1"]
    assert _ask("study", *run, *regimes) == {
        "regime": ("a=lr:0.1", "b=lr:0.2"), "also_layers": (6,), "bins": "1:2:3,2,1"
    }  # fmt: skip
    networks = ["--network", "log", "--network", "dense", "--layer", "depthwise"]
    assert _ask("compare-networks", *run, *networks) == {"networks": ("log", "dense"), "layer": "depthwise"}


def test_flags_win_over_the_file_of_settings(tmp_path: Path, command_line: CommandLine) -> None:
    file = tmp_path / "mine.toml"
    file.write_text('lr = -1\ntransition = "no"\n')
    done = command_line("search", "--run", tmp_path / "run", "--config", file, "--lr", 0.5)
    assert done.returncode == 2
    assert "transition: expected" in done.stderr
    assert "lr:" not in done.stderr


def test_values_of_the_wrong_type_are_refused_all_at_once(tmp_path: Path, command_line: CommandLine) -> None:
    wrong = {"--layers": "x", "--seeds": "nan", "--lr": "fast", "--transition": "no", "--lr-drops": "0.5;0.75"}
    wrong |= {"--workers": "many", "--trials": "-1", "--device": "tpu", "--batch-size": "1.5"}
    done = command_line("search", "--run", tmp_path / "run", *(part for pair in wrong.items() for part in pair))
    assert (done.returncode, done.stdout) == (2, "")
    head, *lines = done.stderr.splitlines()
    assert head == "error: these settings cannot be used:"
    refused = {f"--{line[4:].partition(':')[0]}": line for line in lines}
    assert set(refused) == set(wrong)
    assert all("expected" in refused[flag] and value.strip("05;.") in refused[flag] for flag, value in wrong.items())
    assert not (tmp_path / "run").exists()


def test_a_flag_that_is_nearly_right_is_named(tmp_path: Path, command_line: CommandLine) -> None:
    done = command_line("search", "--run", tmp_path / "run", "--epoch", 3)
    assert done.returncode == 2
    assert "--epochs" in done.stderr
    file = tmp_path / "mine.toml"
    file.write_text("epoch = 3\n")
    done = command_line("search", "--run", tmp_path / "run", "--config", file)
    assert done.returncode == 2
    assert "did you mean epochs?" in done.stderr


def test_a_written_config_has_the_flags_names() -> None:
    names = {f"--{name}" for name in tomllib.loads(format_toml(SearchConfig()))}
    assert names - set(_flags("search")) == {"--large-stem"}


def test_the_list_of_commands_loads_no_settings() -> None:
    code = (
        "import sys, run_search\ntry:\n    run_search.app(['--help'])\nexcept SystemExit:\n    pass\n"
        "import json; print(json.dumps([name for name in sys.modules if name.startswith(('nas.', 'pydantic'))]))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert set(json.loads(done.stdout.splitlines()[-1])) <= {"nas.records", "nas.records.metrics", "nas.records.shown"}
