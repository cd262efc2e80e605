"""The software that figures are measured with: versions and commit."""

import platform
import subprocess
from collections.abc import Iterable
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path


def describe_versions(packages: Iterable[str]) -> dict[str, str]:
    """Return the versions of Python, of those packages that are installed, and of skipsearch with its commit."""
    versions = {"python": platform.python_version()}
    for package in packages:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            continue
    return {**versions, "skipsearch": _own_version(), "commit": _own_commit()}


def _own_version() -> str:
    try:
        return version("skipsearch")
    except PackageNotFoundError:
        return "not installed"


@cache
def _own_commit() -> str:
    """Return the commit of this file's checkout, with `-dirty` if changed; `unknown` outside a checkout."""
    try:
        described = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"],  # noqa: S607
            cwd=Path(__file__).parent,
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return described.stdout.strip()
