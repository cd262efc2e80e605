"""A study's plan file, which is hashed, written once and checked when it is read."""

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from nas.records.safe_files import format_json, read_json, write_atomic
from search_spaces.errors import ConflictError

PLAN_FILE = "plan.json"
MAX_BYTES = 256 * 1024 * 1024
SCHEMA = "skipsearch/plan"
VERSION = 1
PARTS = {"protocol": dict, "settings": dict, "strata": list, "cells": list, "patterns": list, "order": list}


def hash_plan(plan: Mapping[str, Any]) -> str:
    """Return the SHA-256 (64 hex digits) of a plan as JSON with sorted keys and no white space.

    >>> hash_plan({"b": 1, "a": [2]})[:12]
    '63c9663de90e'
    """
    text = json.dumps(plan, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def write_plan(run: Path, plan: Mapping[str, Any]) -> str:
    """Write RUN/plan.json, which contains the plan and its hash, and return the hash."""
    sha256 = hash_plan(plan)
    write_atomic(run / PLAN_FILE, format_json({"sha256": sha256, "plan": dict(plan)}))
    return sha256


def read_plan(run: Path) -> tuple[dict[str, Any], str] | None:
    """Return the plan in a run directory and its hash, or None where there is no plan.

    Raises:
        ConflictError: the file is damaged, was changed after it was hashed, or is no plan of this version.
    """
    path = run / PLAN_FILE
    try:
        content = read_json(path, MAX_BYTES)
        plan, sha256 = content["plan"], content["sha256"]
        if (plan["schema"], plan["version"]) != (SCHEMA, VERSION):
            raise ValueError(f"schema {plan['schema']!r} version {plan['version']!r}, expected {SCHEMA!r} {VERSION}")
        if any(not isinstance(plan[name], kind) for name, kind in PARTS.items()):
            raise ValueError(f"it lacks one of {', '.join(PARTS)}")
        actual = hash_plan(plan)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (ValueError, KeyError, TypeError) as error:
        raise ConflictError(
            f"{path} is no plan of a study: {error!s:.200}; restore it, or give another --run"
        ) from None
    if actual != sha256:
        raise ConflictError(
            f"{path} was changed after it was hashed ({actual[:12]} now, {sha256!s:.12} recorded): restore it, or give "
            "another --run"
        )
    return plan, sha256


class Missing(NamedTuple):
    """A cell of a plan for which n patterns were not found."""

    cell: tuple[int, ...]
    n: int


@dataclass(frozen=True, slots=True)
class Crossing:
    """The measures that a plan crosses at one number of layers.

    Args:
        measures: their names.
        bins: for each of them the (lowest, highest) value of every bin.
        lacking: cells that are not full; a cell is a place in the bins of each measure.
    """

    layers: int
    measures: tuple[str, ...]
    bins: tuple[tuple[tuple[float, float], ...], ...]
    lacking: tuple[Missing, ...]

    def describe(self, name: Callable[[str], str] = str) -> str:
        """Return the crossed measures and the range of their bins in words, with measures as `name` calls them."""
        parts = [
            f"{name(own)} in {len(bins)} bins from {bins[0][0]:.3f} to {bins[-1][1]:.3f}"
            for own, bins in zip(self.measures, self.bins, strict=True)
        ]
        return ", crossed with ".join(parts)


def list_crossings(plan: Mapping[str, Any]) -> tuple[Crossing, ...]:
    """Return what a plan crosses at each number of layers; older plans cross a distance with span."""
    return tuple(map(_read_crossing, plan.get("cells", ())))


def _read_crossing(cells: Mapping[str, Any]) -> Crossing:
    if "measures" in cells:
        measures, bins = cells["measures"], cells["bins"]
        lacking = [Missing(tuple(each["cell"]), each["n"]) for each in cells["lacking"]]
    else:
        measures, bins = [cells["distance"], "span"], [cells["distance_bins"], cells["span_bands"]]
        lacking = [Missing((distance, span), n) for distance, span, n in cells["lacking"]]
    pairs = tuple(tuple((low, high) for low, high in own) for own in bins)
    return Crossing(cells["layers"], tuple(measures), pairs, tuple(lacking))


def read_cell(record: Mapping[str, Any]) -> list[int] | None:
    """Return the cell of a plan's pattern or of a trial's facts; older ones have a bin of distance and one of span.

    >>> read_cell({"cell": [2, 0, 1]}), read_cell({"distance_bin": 3, "span_bin": 1}), read_cell({})
    ([2, 0, 1], [3, 1], None)
    """
    if record.get("distance_bin") is not None and record.get("span_bin") is not None:
        return [record["distance_bin"], record["span_bin"]]
    return record.get("cell")
