"""The reference of the site, made from the code: it has every command, flag, setting, exit code and function."""

import re
import sys
import tomllib
from typing import Any

import pytest
import typer

import skipsearch
from nas.settings.comparison import LineupConfig
from nas.settings.search import SearchConfig
from nas.settings.study import StudyConfig
from run_search import app
from search_spaces import errors
from tests.support.small import ROOT

sys.path.insert(0, str(ROOT / "docs" / "_ext"))
import reference

COMMANDS = vars(typer.main.get_command(app))["commands"]
MODELS: dict[str, Any] = {"search": SearchConfig, "study": StudyConfig, "compare-networks": LineupConfig}
HIDDEN = {"--help", "-h"}


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_a_command_has_all_its_flags_and_their_help(name: str) -> None:
    text = "\n".join(reference.write_command(name))
    told = re.findall(r"^````\{option\} (.*)\n(.+)", text, re.MULTILINE)
    names = {flag for flags, _ in told for flag in re.findall(r"(?:^|, )(-[\w-]+)", flags)}
    context = typer.Context(COMMANDS[name])
    parameters = [one for one in COMMANDS[name].get_params(context) if one.param_type_name == "option"]
    assert names == {flag for one in parameters for flag in (*one.opts, *one.secondary_opts)} - HIDDEN
    assert all(len(help_text) > 8 for _, help_text in told)
    assert set(reference.SETTINGS) == set(MODELS)


def test_commands_without_a_page_of_their_own_are_on_one() -> None:
    text = "\n".join(reference.write_command("*"))
    assert set(re.findall(r"^\(command-(.*)\)=$", text, re.MULTILINE)) == set(COMMANDS) - set(MODELS)
    table = "\n".join(reference.write_commands(""))
    assert set(re.findall(r"<command-(.*)>", table)) == set(COMMANDS)


@pytest.mark.parametrize("name", MODELS)
def test_a_setting_of_a_file_is_told_with_its_default(name: str) -> None:
    text = "\n".join(reference.write_command(name))
    told: dict[str, Any] = {}
    for flags, line in re.findall(r"^````\{option\} (\S+).*\n.*\n\nIn a file: `([^`]*)`", text, re.MULTILINE):
        told |= tomllib.loads(line) if "=" in line else {line: None}
        assert flags.startswith("--")
    fields = {
        field_name.replace("_", "-"): list(field.default) if isinstance(field.default, tuple) else field.default
        for field_name, field in MODELS[name].model_fields.items()
        if field.json_schema_extra is not None and field_name not in getattr(MODELS[name], "without_flags", ())
    }
    assert told == fields and len(told) > 30


def test_the_exit_codes_are_those_of_the_errors() -> None:
    text = "\n".join(reference.write_exit_codes(""))
    codes = {int(code): said for code, said in re.findall(r"^\| `(\d+)` \| (.+) \|$", text, re.MULTILINE)}
    assert set(codes) == {0, 1, 2, 3, 4, 5, 130, 143}
    for error in (errors.InputError, errors.MachineError, errors.ConflictError, errors.NothingUsableError):
        assert error.__name__ in codes[error.exit_code]


def test_the_api_page_has_every_function() -> None:
    page = (ROOT / "docs" / "reference" / "api.md").read_text(encoding="utf-8")
    named = set(re.findall(r"auto(?:function|class):: (?:skipsearch\.)?(\w+)", page))
    public = {
        name for name in skipsearch.__all__ if "skipsearch" in getattr(getattr(skipsearch, name), "__module__", "")
    }
    assert public <= named and len(public) > 10


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("A rate. [default: 0.1]", "A rate. Default: `0.1`."),
        ("Needs --lr and `x --y`, * <a>", r"Needs `--lr` and `x --y`, \* \<a>"),
        ("A  folder\nof all. [required]", "A folder of all. Required."),
        ("One of [a, b]; drop-in", r"One of \[a, b\]; drop-in"),
    ],
)
def test_a_help_text_is_markdown(text: str, shown: str) -> None:
    assert reference.format_text(text) == shown
