"""The README: its tree is the one on the disk, its clauses the modules' own, its pictures what the tool draws."""

import ast
import re

import pytest
from conftest import ROOT

from search_spaces.arcs import draw_arcs
from search_spaces.templates import find_template

README = (ROOT / "README.md").read_text()


def _tree() -> dict[str, str]:
    """Path -> clause, of every file the README's tree names."""
    (tree,) = re.findall(r"```\n(run_search\.py .*?)```", README, flags=re.DOTALL)
    found, folder = {}, ""
    for line in tree.splitlines():
        match = re.fullmatch(r"( *)(\S+) +(.+)", line)
        assert match is not None, line
        indent, name, clause = match.groups()
        if name.endswith("/"):
            folder = name
        else:
            found[folder + name if indent else name] = clause
    return found


def test_the_tree_is_the_one_on_the_disk() -> None:
    folders = ("search_spaces", "nas", "analysis")
    on_disk = {path.relative_to(ROOT).as_posix() for folder in folders for path in (ROOT / folder).glob("*.py")}
    named = set(_tree())
    assert named - {"run_search.py", ".ci/run"} == {name for name in on_disk if not name.endswith("__init__.py")}
    assert all((ROOT / name).exists() for name in named)


@pytest.mark.parametrize("name", [name for name in _tree() if name.endswith(".py")])
def test_a_files_clause_is_its_docstring(name: str) -> None:
    docstring = ast.get_docstring(ast.parse((ROOT / name).read_text()))
    assert docstring is not None
    first = docstring.splitlines()[0].removesuffix(".")
    assert first[0].lower() + first[1:] == _tree()[name][0].lower() + _tree()[name][1:]


def test_there_are_two_commands_that_search_and_test() -> None:
    search, test = re.findall(r"```sh\n(.*?)\n```", README)
    assert ".venv/bin/python run_search.py search --run runs/first " in search
    assert test.endswith("&& .venv/bin/python -m pytest -q")
    assert all(command.startswith("python3 -m venv .venv && ") for command in (search, test))


@pytest.mark.parametrize("name", ["log", "midpoint"])
def test_its_pictures_are_what_the_tool_draws(name: str) -> None:
    assert f"(docs/{name}.svg)" in README
    assert (ROOT / "docs" / f"{name}.svg").read_text() == draw_arcs(find_template(name).build(24), name)
