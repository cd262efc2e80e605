"""The tree one can see: a sentence for each folder, small folders, one home for each public name, cheap imports.

The arrows between folders are import-linter's contracts, in pyproject.toml.
"""

import ast
import re
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import pytest

from tests.support.small import ROOT

PACKAGES = ("skipsearch", "search_spaces", "nas", "analysis", "commands")
SUFFIXES = {".py", ".cpp", ".h", ".css", ".js"}
# Names that mean the same of different things, each read with its module: a file's own format and limits.
SHARED_NAMES = {"MAX_BYTES", "SCHEMA", "VERSION", "logger"}


def _tree() -> dict[str, str]:
    """Folder -> clause, of every folder of code that CONTRIBUTING's tree names."""
    page = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    (tree,) = re.findall(r"```text\n(run_search\.py .*?)```", page, flags=re.DOTALL)
    assert len(tree.splitlines()) <= 55
    found, package = {}, ""
    for line in tree.splitlines():
        match = re.fullmatch(r"( *)(\S+) +(.+)", line)
        assert match is not None, line
        indent, name, clause = match.groups()
        package = package if indent else name
        found[package + name if indent else name] = clause
    return found


def test_the_tree_names_every_folder_by_its_own_sentence() -> None:
    inits = [path for package in PACKAGES for path in (ROOT / package).rglob("__init__.py")]
    clauses = {
        path.parent.relative_to(ROOT).as_posix() + "/": ast.get_docstring(ast.parse(path.read_text())) for path in inits
    }
    tree = _tree()
    assert {name for name in tree if name.partition("/")[0] in PACKAGES} == set(clauses)
    for name, docstring in clauses.items():
        assert (docstring or "").removesuffix(".").lower() == tree[name].lower()
    assert all((ROOT / name).exists() for name in tree)


def _files(folder: Path) -> list[Path]:
    return [file for file in folder.iterdir() if file.suffix in SUFFIXES and file.name != "__init__.py"]


def _folders() -> list[Path]:
    inits = [path.parent for package in PACKAGES for path in sorted((ROOT / package).rglob("__init__.py"))]
    return [folder for folder in inits if _files(folder)]


@pytest.mark.parametrize("folder", _folders(), ids=lambda folder: folder.relative_to(ROOT).as_posix())
def test_a_folder_has_three_to_nine_files(folder: Path) -> None:
    assert 3 <= len(_files(folder)) <= 9


def _public_names(file: Path) -> set[str]:
    names = set()
    for node in ast.parse(file.read_text()).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            names |= {target.id for target in targets if isinstance(target, ast.Name)}
    return {name for name in names if not name.startswith("_")}


@pytest.mark.parametrize("package", PACKAGES)
def test_a_public_name_has_one_home_in_a_package(package: str) -> None:
    homes = defaultdict(list)
    for file in (ROOT / package).rglob("*.py"):
        for name in _public_names(file) - SHARED_NAMES:
            homes[name].append(file.relative_to(ROOT).as_posix())
    assert {name: files for name, files in homes.items() if len(files) > 1} == {}


def _loaded_after(code: str) -> set[str]:
    program = f"import sys\n{code}\nprint('\\n'.join(sys.modules))"
    command = [sys.executable, "-c", program]
    return set(subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split())


def _import_all(folder: str) -> str:
    files = sorted((ROOT / folder).rglob("*.py"))
    return "; ".join("import " + ".".join(file.relative_to(ROOT).with_suffix("").parts) for file in files)


def test_an_import_leaves_torch_ray_and_optuna_out() -> None:
    """One process imports all of them in turn, and says after which a library is there."""
    groups = [
        *map(_import_all, ("search_spaces", "nas/records", "analysis")),
        "import nas.settings.search, nas.model.cost, nas.export.export, nas.export.verify",
    ]
    told = "print('loaded', {'torch', 'ray', 'optuna'} & set(sys.modules) or 'none')"
    program = "\n".join(["import sys", *(f"{group}\n{told}" for group in groups)])
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["loaded none"] * len(groups)


def test_help_loads_typer_alone() -> None:
    heavy = {"torch", "ray", "optuna", "numpy", "pandas", "networkx", "matplotlib", "pydantic", "scipy", "sklearn"}
    loaded = _loaded_after("import run_search\ntry:\n    run_search.app(['--help'])\nexcept SystemExit:\n    pass")
    assert "typer" in loaded
    assert not loaded & heavy
