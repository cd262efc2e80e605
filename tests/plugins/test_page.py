"""The page on plug-ins: its example is the package that other tests install, file by file, and each file is short."""

import re
from pathlib import Path

import pytest

from tests.support.plugins import EXAMPLE, read_example_entries
from tests.support.small import ROOT

PAGE = (ROOT / "docs" / "howto" / "plugins.md").read_text()
FILES = sorted(path for path in EXAMPLE.rglob("*.py") if path.name != "__init__.py")


def test_the_package_is_that_of_the_page() -> None:
    assert re.findall(r"```toml\n(.*?)```", PAGE, re.DOTALL) == [(EXAMPLE / "pyproject.toml").read_text()]
    blocks = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    assert sorted(blocks) == sorted(path.read_text() for path in FILES)


def test_there_is_one_of_each_kind() -> None:
    kinds = {"tasks", "templates", "measures", "strategies", "merges", "loggers", "readers"}
    assert {kind: len(entries) for kind, entries in read_example_entries().items()} == dict.fromkeys(kinds, 1)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_each_is_about_ten_lines(path: Path) -> None:
    code = [
        line for line in path.read_text().splitlines() if line.strip() and not line.startswith(("import ", "from "))
    ]
    assert len(code) <= 14
