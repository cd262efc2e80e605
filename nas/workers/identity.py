"""What a worker computes with, and whether a run may take its outcomes: one run, one version everywhere."""

import hashlib
import platform
from collections.abc import Mapping
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

import search_spaces
from search_spaces.errors import MachineError

SOURCES = (".py", ".cpp", ".h")  # alone: Python and numba write caches beside them while a run goes on
# In all workers of a run, by what they are called.
SAME = {"sources": "skipsearch's sources of hash", "python": "Python", "torch": "torch"}
TOLD = {"build": "torch", "processor": "processor", "gpu": "GPU"}  # figures then differ by rounding alone


@cache
def describe_worker(device: str) -> dict[str, str]:
    """What this process computes with, as far as a run's figures hang on it; as it is at the first call.

    Args:
        device: that trainings are asked for on.
    """
    try:
        own_version = version("skipsearch")
    except PackageNotFoundError:
        own_version = "not installed"
    has_gpu = torch.cuda.is_available()
    return {
        "skipsearch": own_version,
        "sources": _hash_sources(),
        "python": platform.python_version(),
        "torch": torch.__version__.partition("+")[0],
        "device": "cuda" if has_gpu else "cpu",
        "build": torch.__version__,
        "processor": _name_processor(),
        "gpu": torch.cuda.get_device_name() if has_gpu and device == "cuda" else "",
    }


def check_worker(node: str, found: Mapping[str, str] | None, own: Mapping[str, str], device: str) -> list[str]:
    """Compare what a worker computes with and what the driver has.

    Args:
        node: that the worker is on, as the user knows it.
        found: the worker's describe_worker; None: it has none to give, so it is another version.
        own: the driver's.
        device: that trainings are asked for on.

    Returns:
        What differs and moves no figure but by rounding, in words.

    Raises:
        MachineError: it would train another thing than what is asked for.
    """
    if found is None:
        wrong = [f"a skipsearch that does not say its version, and this driver has {own['skipsearch']}"]
    else:
        wrong = [
            f"{name} {found.get(key)}, and this driver has {own[key]}"
            for key, name in SAME.items()
            if found.get(key) != own[key]
        ]
    if wrong:
        raise MachineError(
            f"node {node} has {'; it has '.join(wrong)}: install the same version of skipsearch and its libraries on "
            "all nodes, change none of its files while a run goes on, start Ray on the nodes anew, and give the same "
            "command again. No outcome of that worker was recorded"
        )
    assert found is not None
    if device == "cuda" and found["device"] != "cuda":
        raise MachineError(
            f"node {node} is asked for --device cuda, and its torch {found['build']} finds no CUDA device: install a "
            "CUDA build of torch there, or take the node out of the cluster"
        )
    told = TOLD if device == "cuda" else {key: name for key, name in TOLD.items() if key != "gpu"}
    if own["device"] != device:  # the driver trains nothing itself, and has another build
        told = {"processor": told["processor"]}
    return [
        f"node {node} has {name} {found[key]}, and the driver has {own[key]}: their figures differ by rounding"
        for key, name in told.items()
        if found[key] != own[key]
    ]


def _hash_sources() -> str:
    """Of all source files of the two packages that a training runs through, as they are imported here."""
    digest = hashlib.sha256()
    for package in (Path(__file__).parents[1], Path(search_spaces.__file__).parent):
        for path in sorted(package.rglob("*")):
            if path.suffix in SOURCES:
                content = path.read_bytes()
                digest.update(f"{path.relative_to(package.parent).as_posix()} {len(content)}\n".encode() + content)
    return digest.hexdigest()[:12]


def _name_processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = {line.partition(":")[2].strip() for line in lines if line.startswith("model name")}
    return " and ".join(sorted(names)) or f"{platform.machine()} {platform.processor()}".strip()
