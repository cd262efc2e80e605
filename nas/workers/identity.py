"""The software and hardware of a worker, and whether a run may take its outcomes."""

import hashlib
import platform
from collections.abc import Mapping
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

import search_spaces
from search_spaces.errors import MachineError
from search_spaces.plugins import list_plugins

_SUFFIXES = (".py", ".cpp", ".h")  # no others: Python and numba write caches next to them during a run
# The key in describe_worker -> its name in messages. All workers of a run must have the same of the first.
_REQUIRED = {
    "sources": "skipsearch's sources of hash",
    "python": "Python",
    "torch": "torch",
    "plugins": "tasks and merges of other packages",
}
_REPORTED = {"build": "torch", "processor": "processor", "gpu": "GPU"}  # figures differ by rounding only


@cache
def describe_worker(device: str) -> dict[str, str]:
    """Return what this process computes with, as far as a run's figures depend on it, as of the first call.

    Args:
        device: the device that the run trains on.
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
        "plugins": _list_plugins(),
        "device": "cuda" if has_gpu else "cpu",
        "build": torch.__version__,
        "processor": _name_processor(),
        "gpu": torch.cuda.get_device_name() if has_gpu and device == "cuda" else "",
    }


def check_worker(node: str, theirs: Mapping[str, str] | None, own: Mapping[str, str], device: str) -> list[str]:
    """Compare what a worker computes with to what the driver has.

    Args:
        node: the worker's node, as the user knows it.
        theirs: the worker's describe_worker; None if it returned none, so it is of another version.
        own: the driver's describe_worker.
        device: the device that the run trains on.

    Returns:
        Sentences about differences that change figures by rounding only.

    Raises:
        MachineError: the worker would not train what the run asks for.
    """
    if theirs is None:
        wrong = [f"a skipsearch that does not say its version, and this driver has {own['skipsearch']}"]
    else:
        wrong = [
            f"{name} {theirs.get(key)}, and this driver has {own[key]}"
            for key, name in _REQUIRED.items()
            if theirs.get(key) != own[key]
        ]
    if wrong:
        raise MachineError(
            f"node {node} has {'; it has '.join(wrong)}: install the same version of skipsearch and its libraries on "
            "all nodes, change none of its files during a run, restart Ray on the nodes, and give the same command "
            "again. No outcome of that worker was recorded"
        )
    assert theirs is not None
    if device == "cuda" and theirs["device"] != "cuda":
        raise MachineError(
            f"node {node} is asked for --device cuda, and its torch {theirs['build']} finds no CUDA device: install a "
            "CUDA build of torch there, or take the node out of the cluster"
        )
    reported = {key: name for key, name in _REPORTED.items() if key != "gpu" or device == "cuda"}
    if own["device"] != device:  # the driver trains nothing itself, and has another build
        reported = {"processor": reported["processor"]}
    return [
        f"node {node} has {name} {theirs[key]}, and the driver has {own[key]}: their figures differ by rounding"
        for key, name in reported.items()
        if theirs[key] != own[key]
    ]


def _list_plugins() -> str:
    """Return the plug-ins that workers load, which have to be the driver's."""
    trained = (plugin for plugin in list_plugins() if plugin.kind in ("tasks", "merges"))
    return ", ".join(f"{plugin.name} ({plugin.origin})" for plugin in trained) or "none"


def _hash_sources() -> str:
    """Hash the source files of the two packages that train, as this process imports them."""
    digest = hashlib.sha256()
    for package in (Path(__file__).parents[1], Path(search_spaces.__file__).parent):
        for path in sorted(package.rglob("*")):
            if path.suffix in _SUFFIXES:
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
