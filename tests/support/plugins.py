"""A package that brings measures, as pip would have installed it, without installing it."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

from search_spaces.plugins import load_plugins, warn_once

CODE = '''
from search_spaces.measures.measure import Measure


def n_twos(pattern, reads):
    """Number of layers with two inputs.

    More words, which nobody reads.
    """
    return pattern.in_degrees.count(2)


READ = Measure("share_read", "Share of the nodes that the classifier reads.", "a test", "share", 0, 1,
               lambda pattern, reads: len(reads) / (pattern.depth + 1))


def fails(pattern, reads):
    return 1 / 0


def endless(pattern, reads):
    return float("nan")


NUMBER = 7
'''
WORKING = {"n_twos": "gauge:n_twos", "share_read": "gauge:READ"}


def write_package(folder: Path, entries: Mapping[str, str], name: str = "gauge", version: str = "1.2") -> None:
    """Write a module and the metadata of a package with these entry points."""
    (folder / "gauge.py").write_text(CODE)
    metadata = folder / f"{name}-{version}.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    lines = [f"{entry} = {value}" for entry, value in entries.items()]
    (metadata / "entry_points.txt").write_text("\n".join(["[skipsearch.measures]", *lines, ""]))


@contextmanager
def installed(monkeypatch: pytest.MonkeyPatch, folder: Path) -> Iterator[None]:
    """Let this process find the packages of a folder, and forget them at the end."""

    def forget() -> None:
        load_plugins.cache_clear()
        warn_once.cache_clear()

    with monkeypatch.context() as patch:
        patch.syspath_prepend(folder)
        forget()
        yield
    forget()
