"""The JSON schemas of the reference: files of small runs are as they say, and changed ones are not."""

import copy
import csv
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from nas.records.template import describe_template
from search_spaces.templates import find_template
from tests.support.small import ROOT, CommandLine
from tests.support.small_study import TINY

sys.path.insert(0, str(ROOT / "docs" / "_ext"))
import reference

NAMES = (*reference.MODELS, *sorted(path.stem for path in reference.SCHEMAS.glob("*.json")))
TEXTS = {"key", "template", "strategy", "regime", "cell", "matched", "budget", "error", "sources", "state"}


def _check(name: str, value: Any) -> None:
    jsonschema.validate(value, reference.make_schema(name), jsonschema.Draft202012Validator)


@pytest.mark.parametrize("name", NAMES)
def test_a_schema_is_one_and_says_what_each_entry_is(name: str) -> None:
    schema = reference.make_schema(name)
    jsonschema.Draft202012Validator.check_schema(schema)
    assert schema["title"] and set(schema["required"]) <= set(schema["properties"])
    rows = [line.split(" | ") for line in reference.write_schema(name) if line.startswith("| `")]
    assert [row[0].strip("| `") for row in rows] == list(schema["properties"])
    assert all(row[2].strip(" |") for row in rows if "const" not in schema["properties"][row[0].strip("| `")])


def test_a_template_file_is_as_its_schema_says() -> None:
    file = describe_template(find_template("log").build(5), "log", {}, {"params": 3, "flops": 4}, {"name": "log"})
    value = file.model_dump(mode="json", by_alias=True)
    _check("template", value)
    for change in ({"layers": 0}, {"sources": 3}, {"version": 2}, {"more": 1}):
        with pytest.raises(jsonschema.ValidationError):
            _check("template", {**value, **change})


@pytest.mark.parametrize(
    "path", sorted((ROOT / "docs" / "placement").glob("*/plan.json")), ids=lambda path: path.parent.name
)
def test_the_committed_plans_are_as_their_schema_says(path: Path) -> None:
    plan = json.loads(path.read_text())["plan"]
    shorter = {**plan, "patterns": plan["patterns"][:5], "order": plan["order"][:5]}
    _check("plan", shorter)
    for name in ("strata", "order", "schema"):
        with pytest.raises(jsonschema.ValidationError):
            _check("plan", {**shorter, name: [{}]})


@pytest.mark.slow
def test_a_manifest_is_as_its_schema_says(exported_folder: Path) -> None:
    manifest = json.loads((exported_folder / "manifest.json").read_text())["manifest"]
    _check("manifest", manifest)
    broken = copy.deepcopy(manifest)
    broken["files"]["model.py"]["sha256"] = "0"
    with pytest.raises(jsonschema.ValidationError):
        _check("manifest", broken)


def _read_rows(path: Path) -> Iterator[dict[str, Any]]:
    with path.open() as stream:
        for row in csv.DictReader(stream):
            yield {
                name: (value if name in TEXTS else json.loads(value)) if value else None for name, value in row.items()
            }


def _check_run(run: Path, summary: str = "summary") -> None:
    import optuna

    _check(summary, json.loads((run / "report" / "summary.json").read_text()))
    rows = [*_read_rows(run / "report" / "candidates.csv")]
    for row in rows:
        _check("candidates", row)
    assert {*reference.make_schema("candidates")["properties"]} <= {*rows[0]}
    study = optuna.load_study(study_name="skipsearch", storage=f"sqlite:///{run / 'study.db'}")
    _check("study", study.user_attrs)
    for trial in study.trials:
        _check("trial", trial.user_attrs)


@pytest.mark.slow
def test_what_a_search_writes_is_as_the_schemas_say(
    tmp_path: Path, command_line: CommandLine, small_flags: list[str]
) -> None:
    run = tmp_path / "run"
    assert command_line("search", "--run", run, *small_flags).returncode == 0
    assert command_line("export", "--run", run, "--final", "--top", 1).returncode == 0
    _check_run(run)
    (folder, *_) = [path for path in sorted((run / "templates").iterdir()) if path.is_dir()]
    _check("template", json.loads((folder / "template.json").read_text()))
    _check("manifest", json.loads((folder / "manifest.json").read_text())["manifest"])
    _check("plan", json.loads((run / "final" / "plan.json").read_text())["plan"])


@pytest.mark.slow
def test_what_a_study_writes_is_as_the_schemas_say(tmp_path: Path, command_line: CommandLine) -> None:
    import tomli_w

    run, config = tmp_path / "run", tmp_path / "study.toml"
    settings = {
        name.replace("_", "-"): list(value) if isinstance(value, tuple) else value for name, value in TINY.items()
    }
    config.write_text(tomli_w.dumps(settings))
    done = command_line("study", "--run", run, "--config", config)
    assert done.returncode == 0, done.stderr
    _check_run(run)
    _check("plan", json.loads((run / "plan.json").read_text())["plan"])


@pytest.mark.slow
def test_what_networks_side_by_side_write_is_as_the_schemas_say(tmp_path: Path, command_line: CommandLine) -> None:
    flags = ("--network", "log", "--network", "dense", "--layers", 4, "--blocks", 1, "--seeds", 1, "--epochs", 1)
    more = ("--train-examples", 64, "--workers", 1, "--device", "cpu", "--growth", 4)
    run = tmp_path / "run"
    done = command_line("compare-networks", "--run", run, *flags, *more)
    assert done.returncode == 0, done.stderr
    _check_run(run, "networks")
