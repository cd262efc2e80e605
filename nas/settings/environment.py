"""The software that figures are measured with: versions, commit and plug-ins."""

import platform
import subprocess
from collections.abc import Iterable, Mapping
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from search_spaces.measures.registry import load_measures
from search_spaces.plugins import Plugin, list_plugins, name_kind, warn_once


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


def describe_plugins(settings: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the plug-ins that are installed as plain values, each with whether a run of these settings uses it.

    Every measure that works is used, by the report.

    Args:
        settings: settings of the run, by the flags' names with _ for -.
    """
    return [{**plugin.describe(), "used": _is_used(plugin, settings)} for plugin in list_plugins()]


def _is_used(plugin: Plugin, settings: Mapping[str, Any]) -> bool:
    texts = [text.partition("=")[2].strip() for text in settings.get("set") or () if text.startswith("merge=")]
    by_kind = {
        "tasks": [settings.get("task")],
        "templates": settings.get("pattern") or (),
        "measures": load_measures().objects,
        "strategies": [settings.get("strategy")],
        "merges": [settings.get("merge"), *texts],
        "loggers": settings.get("log") or (),
        "readers": [settings.get("dataset")],
    }
    return plugin.name in by_kind[plugin.kind]


def find_missing_plugins(recorded: object) -> list[str]:
    """Return the plug-ins that a run cannot be continued without and that are not installed, in words.

    Args:
        recorded: attribute `plugins` of the run's study; None in older runs.
    """
    installed = {(plugin.kind, plugin.name) for plugin in list_plugins()}
    used = [each for each in (recorded if isinstance(recorded, list) else []) if each.get("used")]
    return [
        f"{name_kind(each['kind'])} {each['name']!r} of {each['distribution']} {each['version']}"
        for each in used
        if each["kind"] not in ("measures", "loggers") and (each["kind"], each["name"]) not in installed
    ]


def warn_of_other_plugins(recorded: object, settings: Mapping[str, Any]) -> None:
    """Warn if a plug-in that a run uses is not of the distribution and version that the run's record has.

    Args:
        recorded: attribute `plugins` of the run's study; None in older runs.
        settings: settings of the run.
    """
    entries = recorded if isinstance(recorded, list) else []
    before = {(each.get("kind"), each.get("name")): each for each in entries if isinstance(each, Mapping)}
    for plugin in list_plugins():
        earlier = before.get((plugin.kind, plugin.name))
        now = plugin.describe()
        if earlier is None or not _is_used(plugin, settings) or earlier == {**now, "used": earlier.get("used")}:
            continue
        warn_once(
            f"{name_kind(plugin.kind)} {plugin.name!r} was of {earlier.get('distribution')} {earlier.get('version')} "
            f"when this run was last continued, and is of {now['distribution']} {now['version']} now: what is "
            "made from here on may differ from what was made before for this reason"
        )
