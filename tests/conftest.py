"""What several tests share: a small run's settings and the command line."""

import gc
import os
import shutil
import subprocess
import sys
import types
from collections.abc import Iterator
from pathlib import Path

import alembic.util
import pytest

from nas.settings.search import SearchConfig
from tests.support.small import ROOT, SMALL, CommandLine

_load = alembic.util.load_python_file
_loaded: dict[Path, types.ModuleType] = {}


def _load_migration(dir_: str | os.PathLike[str], filename: str | os.PathLike[str]) -> types.ModuleType:
    """Run a file of Optuna's migrations once, where alembic runs all again for every database that is opened."""
    path = Path(dir_, filename)
    if path.name == "env.py":
        return _load(dir_, filename)
    if path not in _loaded:
        _loaded[path] = _load(dir_, filename)
    return _loaded[path]


alembic.util.load_python_file = _load_migration  # half of the time that opening a ledger takes


def pytest_configure() -> None:
    """Keep torch to one thread, and have Triton's kernels interpreted where there is no CUDA device."""
    import torch

    torch.set_num_threads(1)  # the tests run side by side, one process a core, and more threads would only wait
    if not torch.cuda.is_available():
        os.environ.setdefault("TRITON_INTERPRET", "1")  # read when the kernels are imported


def pytest_collection_finish() -> None:
    """Look for cyclic garbage seldom, and not among the thousands of tests."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip what needs a CUDA device where there is none."""
    marked = [item for item in items if item.get_closest_marker("gpu")]
    if marked:
        import torch

        if not torch.cuda.is_available():
            for item in marked:
                item.add_marker(pytest.mark.skip(reason="torch finds no CUDA device"))


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """Torch on one thread, as a worker has it: another number gives other sums."""
    import torch

    n_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(n_threads)


@pytest.fixture
def float64() -> Iterator[None]:
    """All networks and sums in double precision."""
    import torch

    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.fixture
def small_config() -> SearchConfig:
    """A search that trains in about a second."""
    return SearchConfig(**SMALL)


@pytest.fixture(scope="session")
def exported_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small trained network in all its forms; made once, so not to be changed."""
    from tests.support.exported import export

    return export(tmp_path_factory.mktemp("exported")).folder


@pytest.fixture
def older_export(tmp_path: Path) -> Path:
    """A small trained network as the version before exported it, its weights pickled."""
    folder = tmp_path / "older"
    shutil.unpack_archive(ROOT / "tests" / "nas" / "export" / "older_export.zip", folder)
    return folder


@pytest.fixture
def small_flags() -> list[str]:
    """The same search on the command line."""
    return [part for name, value in SMALL.items() for part in (f"--{name.replace('_', '-')}", str(value))]


@pytest.fixture
def command_line() -> CommandLine:
    """Run the command line in this process and capture what it prints."""
    from tests.support.command_line import run_command

    return run_command


@pytest.fixture
def command_process() -> CommandLine:
    """Run `python run_search.py ARGUMENTS` and capture what it prints."""

    def run(*arguments: object) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, str(ROOT / "run_search.py"), *map(str, arguments)]
        return subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)

    return run
