"""A wheel, made from a source distribution, installed and used outside the clone."""

import os
import shutil
import subprocess
import sys
import tarfile
import venv
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.small import ROOT

pytestmark = [pytest.mark.slow, pytest.mark.ci]
Program = Callable[..., subprocess.CompletedProcess[str]]
SEARCH = (
    *("--layers", 5, "--budget", "total:8", "--growth", 2),
    *("--train-examples", 60, "--epochs", 1, "--trainings", 8),
)


def _build(kind: str, tree: Path, to: Path) -> Path:
    code = f"from setuptools import build_meta; print(build_meta.build_{kind}({str(to)!r}))"
    done = subprocess.run([sys.executable, "-c", code], cwd=tree, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return to / done.stdout.splitlines()[-1]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    tree = folder / "tree"
    command = [str(shutil.which("git")), "ls-files", "-z"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for name in filter(None, listed.split("\0")):
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, tree / name, follow_symlinks=False)
    source = _build("sdist", tree, folder)
    with tarfile.open(source) as archive:
        archive.extractall(folder, filter="data")
    return _build("wheel", folder / source.name.removesuffix(".tar.gz"), folder)


@pytest.fixture(scope="module")
def program(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Program:
    """Run a program of an environment that has the wheel and this one's libraries, in an empty folder."""
    folder = tmp_path_factory.mktemp("elsewhere")
    venv.create(folder / "venv", with_pip=False)
    python = folder / "venv" / "bin" / "python"
    pip = [sys.executable, "-m", "pip", "--python", str(python), "install", "-q", "--no-deps", "--no-index", str(wheel)]
    subprocess.run(pip, check=True)
    (packages,) = (folder / "venv" / "lib").glob("python*/site-packages")
    # Folders that a .pth file names have no .pth files of their own read: not that of an editable install.
    (packages / "libraries.pth").write_text("\n".join(path for path in sys.path if "site-packages" in path))
    (folder / "empty").mkdir()
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}

    def run(name: str, *arguments: object) -> subprocess.CompletedProcess[str]:
        command = [str(folder / "venv" / "bin" / name), *map(str, arguments)]
        return subprocess.run(
            command, cwd=folder / "empty", capture_output=True, text=True, check=False, env=environment, timeout=600
        )

    return run


def test_the_wheel_has_what_is_not_code(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    assert {f"{package}/py.typed" for package in ("skipsearch", "search_spaces", "nas", "analysis")} <= names
    assert {
        "analysis/web/page.css",
        "analysis/web/page.js",
        "analysis/replays/committed/layers-12.csv",
        "run_search.py",
    } <= names
    assert "analysis/recommend/evidence.json" in names
    assert any(name.startswith("nas/engines/cpp/") and name.endswith(".cpp") for name in names)
    assert not any(name.startswith(("tests", "docs", "scripts")) for name in names)


def test_an_import_is_the_wheels(program: Program) -> None:
    code = (
        "import skipsearch, nas, commands, pathlib; print(*{pathlib.Path(m.__file__).parents[1] for m in "
        "(skipsearch, nas, commands)}); print(len(skipsearch.tables.load('layers-12')), "
        "skipsearch.score('log', layers=6)['mean_bd'])"
    )
    done = program("python", "-c", code)
    place, values = done.stdout.splitlines()
    assert "elsewhere" in place and place.endswith("site-packages")
    assert values.endswith(" 1.3333333333333333")


def test_a_search_is_made_in_one_process_and_by_ray(program: Program) -> None:
    for run, workers in (("serial", 1), ("ray", 2)):
        done = program("skipsearch", "search", "--run", run, *SEARCH, "--workers", workers)
        assert done.returncode == 0, done.stdout + done.stderr
        assert "8 trainings of" in done.stdout
    code = (
        "import skipsearch\n"
        "tables = [skipsearch.load_run(name).candidates for name in ('serial', 'ray')]\n"
        "a, b = (table.set_index(['key', 'seed']).validation_loss for table in tables)\n"
        "shared = a.index.intersection(b.index)\n"
        "print(len(shared), (a - b)[shared].abs().max())"
    )
    n_shared, difference = program("python", "-c", code).stdout.split()
    assert int(n_shared) >= 6 and float(difference) == 0
    told = program("skipsearch", "status", "--run", "serial").stdout
    assert "next: skipsearch report --run serial" in told
    told = program("python", "-m", "skipsearch", "status", "--run", "serial").stdout
    assert "next: python -m skipsearch report" in told
    where = "from pathlib import Path; print(Path('serial/report/report.md').read_text())"
    page = program("python", "-c", where).stdout
    assert "skipsearch search --run serial" in page and "run_search.py" not in page


def test_errors_name_the_program(program: Program) -> None:
    done = program("skipsearch", "status", "--run", "nowhere")
    assert done.returncode == 2 and "`skipsearch search --run nowhere`" in done.stderr
    code = "import skipsearch\ntry: skipsearch.load_run('nowhere')\nexcept skipsearch.InputError as error: print(error)"
    assert '`skipsearch.search(run="nowhere")`' in program("python", "-c", code).stdout
    for name in ("skipsearch", "python"):
        shown = program(name, *([] if name == "skipsearch" else ["-m", "skipsearch"]), "--help").stdout
        assert "Neural architecture search" in shown
