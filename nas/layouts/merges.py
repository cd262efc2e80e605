"""Merges by name: our own, and those that other packages bring."""

from typing import Final

from search_spaces.plugins import Plugins, load_plugins, require_callable

CONCAT: Final = "concat"
SUM: Final = "sum"
MERGE_NAMES = (CONCAT, SUM, "gated", "dwa")  # our own


def load_merges() -> Plugins:
    """Load the merges of other packages, without a warning of those that cannot be used."""
    return load_plugins("merges", frozenset(MERGE_NAMES), require_callable)
