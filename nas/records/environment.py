"""Which software figures were measured with: versions and commit."""

import platform
import subprocess
from collections.abc import Iterable
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path


def describe_versions(packages: Iterable[str]) -> dict[str, str]:
    """Versions of Python, of these packages as far as they are installed, and of skipsearch with its commit."""
    found = {"python": platform.python_version()}
    for package in packages:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return {**found, "skipsearch": _own_version(), "commit": _own_commit()}


def _own_version() -> str:
    try:
        return version("skipsearch")
    except PackageNotFoundError:
        return "not installed"


@cache
def _own_commit() -> str:
    """The commit of the checkout that this file lies in, `-dirty` with changes; `unknown` outside a checkout."""
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
