"""The arrows between packages, and what an import must not cost."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FORBIDDEN = {
    "search_spaces": {"nas", "analysis", "run_search", "torch", "optuna", "ray"},
    "nas": {"analysis", "run_search"},
    "analysis": {"nas", "run_search", "torch", "ray"},
}
RAY_ALONE = [ROOT / "nas" / "cluster.py", ROOT / "nas" / "ray_executor.py"]


def _imported(file: Path) -> set[str]:
    """Top-level names of everything a file imports, at any depth of its code."""
    names = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: imports are absolute"
            names.add((node.module or "").partition(".")[0])
    return names


@pytest.mark.parametrize("package", FORBIDDEN)
def test_packages_import_only_along_the_arrows(package: str) -> None:
    files = sorted((ROOT / package).glob("*.py"))
    assert len(files) > 3
    for file in files:
        assert not _imported(file) & FORBIDDEN[package], file


def test_two_files_import_ray() -> None:
    files = [*ROOT.glob("*.py"), *(file for package in FORBIDDEN for file in (ROOT / package).glob("*.py"))]
    assert [file for file in files if "ray" in _imported(file)] == RAY_ALONE


def _loaded_after(code: str) -> set[str]:
    program = f"import sys\n{code}\nprint('\\n'.join(sys.modules))"
    command = [sys.executable, "-c", program]
    return set(subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split())


@pytest.mark.parametrize(
    "code",
    [
        "; ".join(f"import search_spaces.{file.stem}" for file in sorted((ROOT / "search_spaces").glob("*.py"))),
        "; ".join(f"import analysis.{file.stem}" for file in sorted((ROOT / "analysis").glob("*.py"))),
        "import nas.config, nas.cost, nas.export, nas.verify",
        "import run_search",
    ],
    ids=["search_spaces", "analysis", "nas.cost", "run_search"],
)
def test_an_import_leaves_torch_ray_and_optuna_out(code: str) -> None:
    assert not _loaded_after(code) & {"torch", "ray", "optuna"}


COMMAND = "import run_search\ntry:\n    run_search.app({})\nexcept SystemExit:\n    pass"


def test_help_loads_typer_alone() -> None:
    heavy = {"torch", "ray", "optuna", "numpy", "pandas", "networkx", "matplotlib", "pydantic", "scipy", "sklearn"}
    loaded = _loaded_after(COMMAND.format(["--help"]))
    assert "typer" in loaded
    assert not loaded & heavy


def test_score_leaves_torch_out() -> None:
    loaded = _loaded_after(COMMAND.format(["score", "--layers", "4", "--json"]))
    assert "networkx" in loaded
    assert not loaded & {"torch", "ray", "optuna", "pandas", "matplotlib"}
