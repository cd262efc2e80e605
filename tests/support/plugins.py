"""Packages that bring plug-ins, as pip would have installed them, without installing them."""

import tomllib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

from search_spaces.plugins import forget_plugins

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
EXAMPLE = Path(__file__).parent / "plugin_example"  # the package of docs/howto/plugins.md, one of each kind


def write_package(folder: Path, entries: Mapping[str, str], name: str = "gauge", version: str = "1.2") -> None:
    """Write a module and the metadata of a package that brings measures."""
    (folder / "gauge.py").write_text(CODE)
    write_metadata(folder, {"measures": entries}, name, version)


def write_metadata(folder: Path, entries: Mapping[str, Mapping[str, str]], name: str, version: str = "1.2") -> None:
    """Write the metadata of a package with these entry points, by kind and name."""
    metadata = folder / f"{name.replace('-', '_')}-{version}.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    lines = []
    for kind, values in entries.items():
        lines += [f"[skipsearch.{kind}]", *(f"{entry} = {value}" for entry, value in values.items()), ""]
    (metadata / "entry_points.txt").write_text("\n".join(lines))


def read_example_entries() -> dict[str, dict[str, str]]:
    """Return the entry points of the example, by kind and name."""
    groups = tomllib.loads((EXAMPLE / "pyproject.toml").read_text())["project"]["entry-points"]
    return {group.removeprefix("skipsearch."): entries for group, entries in groups.items()}


@contextmanager
def installed(monkeypatch: pytest.MonkeyPatch, *folders: Path) -> Iterator[None]:
    """Let this process find the packages of folders, and forget them at the end."""
    with monkeypatch.context() as patch:
        for folder in folders:
            patch.syspath_prepend(folder)
        forget_plugins()
        yield
    forget_plugins()


@contextmanager
def example_installed(monkeypatch: pytest.MonkeyPatch, folder: Path, version: str = "0.1") -> Iterator[None]:
    """Let this process find the example, whose metadata are written into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    write_metadata(folder, read_example_entries(), "skipsearch-example", version)
    with installed(monkeypatch, folder, EXAMPLE):
        yield
