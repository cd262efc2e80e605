"""What the ledger stores of a candidate, sealed by hashes."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from search_spaces.errors import ConflictError

HASH = "sha256"  # in a record: of that record and of what it belongs to; of a study: of each of its attributes by name


RESTORE = "restore it from a copy, or give another --run"


def seal(values: Mapping[str, Any], *covered: object) -> dict[str, Any]:
    """Return values with a hash of them, and of what else they must stay together with.

    >>> sealed = seal({"epochs": 3}, 7)
    >>> is_sealed(sealed, 7), is_sealed(sealed, 8), is_sealed(sealed | {"epochs": 4}, 7)
    (True, False, False)
    """
    own = {name: value for name, value in values.items() if name != HASH}
    return {**own, HASH: hash_plain([own, *covered])}


def is_sealed(values: Mapping[str, Any], *covered: object) -> bool:
    """Return whether values and what they belong to are those that were sealed."""
    return bool(seal(values, *covered)[HASH] == values.get(HASH))


def hash_plain(value: object) -> str:
    """Return the SHA-256 (64 hex digits) of a plain value as JSON."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def covered_by_outcome(
    number: int,
    candidate: Mapping[str, Any] | None,
    params: Mapping[str, Any],
    value: float | None,
    rungs: Mapping[int, float],
) -> tuple[object, ...]:
    """Return what an outcome must stay together with: what was trained, its value, and its measurements at rungs."""
    return number, candidate, dict(params), value, {str(epoch): rungs[epoch] for epoch in sorted(rungs)}


def check_trial(trial: Any, path: Path) -> None:
    """Check a trial, as Optuna loads it, against its hashes; those of older runs have none.

    Raises:
        ConflictError: it is not what was written.
    """
    attributes = trial.user_attrs
    candidate, outcome, attempts = (attributes.get(name) for name in ("candidate", "outcome", "attempts"))
    has_hash = isinstance(candidate, dict) and HASH in candidate
    is_complete = trial.state.name == "COMPLETE"
    value = trial.value if is_complete else None
    covered = covered_by_outcome(trial.number, candidate, trial.params, value, trial.intermediate_values)
    parts = {"what was trained": (candidate, covered[0], covered[2]), "its outcome": (outcome, *covered)}
    parts["its attempts"] = (attempts, trial.number)
    for name, (values, *rest) in parts.items():
        must_be_sealed = has_hash or (isinstance(values, dict) and HASH in values)
        if must_be_sealed and values is not None and not (isinstance(values, dict) and is_sealed(values, *rest)):
            raise ConflictError(f"{path} is damaged: trial {trial.number} is not what was written ({name}); {RESTORE}")
    if has_hash and outcome is None and (trial.state.is_finished() or trial.intermediate_values):
        raise ConflictError(f"{path} is damaged: trial {trial.number} has lost its outcome; {RESTORE}")


def check_numbers(trials: list[Any], path: Path) -> None:
    """Check that no trial is missing, nor there twice.

    Raises:
        ConflictError: one is.
    """
    for place, trial in enumerate(trials):
        if trial.number != place:
            raise ConflictError(f"{path} is damaged: trial {place} is missing; {RESTORE}")
