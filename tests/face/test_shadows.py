"""Folders of the user's own that have our names: said, and what to do; and what an import loads."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from skipsearch.shadows import OURS
from tests.support.small import ROOT


def _start(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": f"{folder}{os.pathsep}{ROOT}"}
    command = [sys.executable, *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, env=environment)


@pytest.mark.parametrize("name", OURS)
def test_a_package_of_the_users_own_is_named(tmp_path: Path, name: str) -> None:
    (tmp_path / name).mkdir()
    (tmp_path / name / "__init__.py").touch()
    for arguments in (("-c", "import skipsearch"), ("-m", "skipsearch", "--help"), ("-m", "run_search", "--help")):
        done = _start(tmp_path, *arguments)
        assert done.returncode == (2 if "run_search" in arguments else 1)
        assert ("Traceback" in done.stderr) == (done.returncode == 1)
        assert str(tmp_path / name) in done.stderr and "rename it" in done.stderr


def test_a_module_is_named_too_and_a_folder_without_code_is_none(tmp_path: Path) -> None:
    (tmp_path / "nas").mkdir()
    assert _start(tmp_path, "-c", "import skipsearch").returncode == 0
    (tmp_path / "analysis.py").touch()
    assert str(tmp_path / "analysis.py") in _start(tmp_path, "-c", "import skipsearch").stderr


def test_an_import_loads_no_large_library(tmp_path: Path) -> None:
    heavy = (
        "torch",
        "ray",
        "optuna",
        "numpy",
        "pandas",
        "networkx",
        "matplotlib",
        "pydantic",
        "scipy",
        "typer",
        "rich",
    )
    code = f"import skipsearch, sys; print(sorted({set(heavy)!r} & set(sys.modules)), len(sys.modules))"
    done = _start(tmp_path, "-c", code)
    assert done.stdout.startswith("[] "), done.stderr


def test_what_is_loaded_later_has_the_names_that_are_listed() -> None:
    import skipsearch

    assert all(getattr(skipsearch, name) is not None for name in skipsearch.__all__)
    assert dir(skipsearch) == skipsearch.__all__
    with pytest.raises(AttributeError, match="searhc"):
        _ = skipsearch.searhc  # type: ignore[attr-defined]
