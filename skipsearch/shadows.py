"""Looks for folders of the user's own that Python would import in place of ours."""

import importlib.util
import sys
from pathlib import Path

OURS = ("search_spaces", "nas", "analysis", "commands")
HOME = Path(__file__).resolve().parents[1]  # where all of our packages lie


def check_shadows() -> None:
    """Refuse to start where another module has the name of one of our packages.

    Raises:
        ImportError: with the place of that module, and what to do.
    """
    for name in OURS:
        place = _find_place(name)
        if place is None or place.parent.resolve() == HOME:
            continue
        raise ImportError(
            f"{place} has the name of a package of skipsearch and is imported in its place: rename it, or start Python "
            f"in another folder (skipsearch's own {name} lies in {HOME})"
        )


def _find_place(name: str) -> Path | None:
    """Return the file or folder that a name is imported from, without importing it; None where nothing has it."""
    loaded = sys.modules.get(name)
    spec = importlib.util.find_spec(name) if loaded is None else loaded.__spec__
    if spec is None:
        return None
    if spec.submodule_search_locations:
        return Path(next(iter(spec.submodule_search_locations)))
    return None if spec.origin is None else Path(spec.origin)
