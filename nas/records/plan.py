"""A study's plan file, which is hashed, written once and checked when it is read."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

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
