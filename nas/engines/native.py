"""The cache of what this machine builds or measures once: the compiled layers and the advice of `bench`."""

import fcntl
import hashlib
import json
import logging
import os
import platform
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path

import torch

from nas.records.safe_files import naming, write_atomic

SOURCES = Path(__file__).with_name("cpp")
UNITS = tuple(sorted(SOURCES.glob("*.cpp")))
LIBRARY_SOURCES = (*UNITS, *sorted(SOURCES.glob("*.h")))
KERNELS = tuple(Path(__file__).with_name(name) for name in ("triton_kernels.py", "triton_layers.py"))
# No -ffast-math: a loss that is NaN must stay NaN.
FLAGS = ("-std=c++20", "-O3", "-march=native", "-fno-math-errno", "-fno-trapping-math", "-fPIC", "-w")
ADVICE = "advice-{}.json"
BUILD_SECONDS = 600.0  # time limit; 30 to 60 are usual
logger = logging.getLogger(__name__)


class BuildError(Exception):
    """No library can be had on this machine; the text says why."""


def cache_folder() -> Path:
    """Return the folder of what this machine built or measured once: `skipsearch` in the user's cache folder."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "skipsearch"


@cache
def load_library() -> bool:
    """Load the compiled operators, built first if needed; return whether it worked, and log why if it did not."""
    try:
        torch.ops.load_library(_find_library(FLAGS))  # type: ignore[no-untyped-call]
    except (BuildError, OSError, RuntimeError) as reason:
        logger.warning("warning: compiled layers are not available (%s): the same in plain torch, slower", reason)
        return False
    return True


def has_bfloat16() -> bool:
    """Return whether the compiled operators can multiply in bfloat16 on this machine."""
    return load_library() and bool(torch.ops.skipsearch.has_bfloat16())


def _find_library(flags: Sequence[str]) -> Path:
    """Return the library of these sources for this machine, built if the cache lacks it."""
    folder = cache_folder()
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    # Its content is executed: nobody else may write there.
    if folder.stat().st_uid != os.getuid() or folder.stat().st_mode & 0o022:
        raise BuildError(f"{folder} can be written by others: chmod 700 it")
    library = folder / f"layers-{_describe_build(flags)}.so"
    if not library.exists():
        with _alone(folder):
            if not library.exists():  # a process that was waited for may have built it
                _build(library, flags)
    return library


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Let one process at a time build in a folder; a file system that knows no locks lets all of them."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        with suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def read_advice(device: str) -> tuple[str, int] | None:
    """Return the engine and cohort that `bench` advised for a device and this version of everything, or None."""
    try:
        advice = json.loads((cache_folder() / ADVICE.format(device)).read_text())
        return (str(advice["engine"]), int(advice["cohort"])) if advice["build"] == _describe_advised(device) else None
    except (OSError, RuntimeError, ValueError, TypeError, KeyError):  # no home folder, no advice, or none of ours
        return None


def write_advice(device: str, engine: str, cohort: int) -> None:
    """Keep the advice of `bench`."""
    advice = {"engine": engine, "cohort": cohort, "build": _describe_advised(device)}
    write_atomic(cache_folder() / ADVICE.format(device), json.dumps(advice))


def _describe_advised(device: str) -> str:
    """Return a hash of all that advice depends on."""
    parts = [_describe_build(FLAGS)]
    if device == "cuda":
        parts += [source.read_text() for source in KERNELS]
        parts += [torch.cuda.get_device_name()] if torch.cuda.is_available() else []
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]


def _describe_build(flags: Sequence[str]) -> str:
    """Return a hash of all that the library depends on: sources, flags, torch and processor."""
    parts = [source.read_bytes() for source in LIBRARY_SOURCES]
    parts += [" ".join(flags).encode(), torch.__version__.encode(), _describe_processor().encode()]
    return hashlib.sha256(b"\0".join(parts)).hexdigest()[:16]


def _describe_processor() -> str:
    """Return the instructions that it has."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return f"{platform.machine()} {platform.processor()}"
    own = {line for line in lines if line.lower().startswith(("flags", "features", "cpu part"))}
    return " ".join([platform.machine(), *sorted(own)])


def _build(library: Path, flags: Sequence[str]) -> None:
    compiler = shutil.which(os.environ.get("CXX", "c++")) or shutil.which("g++")
    if compiler is None:
        raise BuildError("there is no C++ compiler; apt-get install g++, or set CXX")
    torch_folder = Path(torch.__file__).parent
    include = torch_folder / "include"
    settings = [
        *flags,
        f"-D_GLIBCXX_USE_CXX11_ABI={int(torch.compiled_with_cxx11_abi())}",
        f"-I{include}",
        f"-I{include / 'torch/csrc/api/include'}",
    ]
    logger.warning("building the compiled layers for this machine, once: about half a minute")
    # Next to the library, then renamed: a process that is killed or builds at the same time leaves no partial one.
    with tempfile.TemporaryDirectory(dir=library.parent, prefix=".build-") as folder:
        objects = [Path(folder) / f"{unit.stem}.o" for unit in UNITS]
        _run_together(
            [compiler, *settings, "-c", str(unit), "-o", str(to)] for unit, to in zip(UNITS, objects, strict=True)
        )
        built = Path(folder) / library.name
        libraries = [f"-L{torch_folder / 'lib'}", "-ltorch", "-ltorch_cpu", "-lc10"]
        _run_together([[compiler, *settings, "-shared", *map(str, objects), "-o", str(built), *libraries]])
        with built.open("rb") as stream, naming(library):
            os.fsync(stream.fileno())  # a power cut must not leave a name without its content
        built.replace(library)


def _run_together(commands: Iterable[Sequence[str]]) -> None:
    """Run compilers at the same time; all have ended when this returns or raises."""
    running = [
        subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) for command in commands
    ]
    deadline = time.monotonic() + BUILD_SECONDS
    try:
        for process in running:
            assert isinstance(process.args, list)
            _, output = process.communicate(timeout=deadline - time.monotonic())
            if process.returncode:
                errors = [line for line in output.splitlines() if "error" in line] or output.splitlines()
                raise BuildError(f"{process.args[0]} gave exit status {process.returncode}: {' '.join(errors[:1])}")
    except subprocess.TimeoutExpired:
        raise BuildError(f"the compiler took more than {BUILD_SECONDS:g} s") from None
    finally:
        for process in running:
            process.kill()
            process.wait()
            assert process.stderr is not None
            process.stderr.close()
