"""Files in a folder where a user may keep others: only what is as it was written here is replaced or removed."""

import hashlib
import itertools
import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from nas.records.safe_files import check_place, format_json, read_json, write_atomic
from nas.records.shown import show
from search_spaces.errors import ConflictError, InputError

RECORD = ".skipsearch.json"
SCHEMA: Literal["skipsearch/files"] = "skipsearch/files"
MAX_BYTES = 10**7  # of a record

logger = logging.getLogger(__name__)


class _Record(BaseModel):
    """What was written into a folder.

    Args:
        schema: SCHEMA.
        files: writer -> file name -> SHA-256 of what it wrote; two while a kill may leave either content.
    """

    model_config = ConfigDict(extra="forbid", populate_by_name=True)

    schema_: Literal["skipsearch/files"] = Field(SCHEMA, alias="schema")
    files: dict[str, dict[str, list[str]]] = {}


def write_files(folder: Path, files: Mapping[str, str | bytes], writer: str, is_older: bool = False) -> None:
    """Write files into a folder, and remove those that the same writer wrote last time and does not write now.

    A record in the folder tells which files are ours. Ours that were changed since are kept under another name.
    Whenever the process dies, each file is the old one or the new one, and the next call goes on from there.

    Args:
        folder: made if missing.
        files: name -> content.
        writer: who writes, one word.
        is_older: a folder without a record may come from a version that kept none: what is in the way is kept too.

    Raises:
        ConflictError: a file in the way is not ours, or the record is damaged, or see check_place; nothing was changed.
        OSError: it cannot be written; names the path.
    """
    check_place(folder)
    contents = {name: content.encode() if isinstance(content, str) else content for name, content in files.items()}
    hashes = {name: hashlib.sha256(content).hexdigest() for name, content in contents.items()}
    record = _read_record(folder / RECORD)
    own = record.files.get(writer, {}) if record is not None else {}
    others = {name: parts for name, parts in (record.files.items() if record is not None else ()) if name != writer}
    known: dict[str, set[str]] = {}
    for part in (own, *others.values()):
        for name, held in part.items():
            known.setdefault(name, set()).update(held)
    found = {name: _hash_file(folder / name) for name in {*own, *contents} if os.path.lexists(folder / name)}
    in_way = {name for name in contents if name in found and found[name] != hashes[name]}
    strange = sorted(in_way - set(known))
    if strange and not (is_older and record is None):
        raise ConflictError(
            f"{folder / strange[0]} is in the way, and it was not written here: move it away, or choose another folder"
        )
    either = {name: [*own.get(name, ())] for name in (*own, *contents)}
    for name, digest in hashes.items():
        either[name] = sorted({*either[name], digest})
    _write_record(folder, {**others, writer: either})
    for name in sorted(in_way):
        if found[name] not in known.get(name, ()):
            move_aside(folder / name)
    for name, content in contents.items():
        write_atomic(folder / name, content)
    for name in set(own) - set(contents):
        if found.get(name) in own[name]:
            (folder / name).unlink(missing_ok=True)
    others = {
        other: {name: held for name, held in part.items() if name not in hashes} for other, part in others.items()
    }
    _write_record(folder, {**others, writer: {name: [held] for name, held in hashes.items()}})


def move_aside(path: Path, folder: Path | None = None) -> Path:
    """Keep a user's file: move it into the folder, or leave it in its own, under a name that is free there.

    Returns:
        Where it is now.
    """
    home = folder or path.parent
    names = itertools.chain([path.name] if folder else [], [f"{path.name}.kept"])
    names = itertools.chain(names, (f"{path.name}.kept{number}" for number in itertools.count(2)))
    kept = next(home / name for name in names if not os.path.lexists(home / name))
    path.rename(kept)
    if kept.name != path.name:
        logger.warning("%s is not as it was written here: it is kept as %s", show(home / path.name), show(kept.name))
    return kept


def _read_record(path: Path) -> _Record | None:
    if not os.path.lexists(path):
        return None
    try:
        record = _Record.model_validate(read_json(path, MAX_BYTES), strict=True)
    except (InputError, ValidationError, OSError):
        record = None
    names = [name for part in record.files.values() for name in part] if record is not None else []
    if record is None or any(name in ("", ".", "..") or "/" in name or "\0" in name for name in names):
        raise ConflictError(
            f"{path} should tell which files of its folder may be replaced, and it is damaged: move the folder away, "
            "or remove this file and what was written beside it"
        )
    return record


def _write_record(folder: Path, files: Mapping[str, Any]) -> None:
    held = _Record(schema=SCHEMA, files={writer: dict(sorted(part.items())) for writer, part in files.items() if part})
    write_atomic(folder / RECORD, format_json(held.model_dump(by_alias=True)))


def _hash_file(path: Path) -> str | None:
    """The hash of a file's content; None of a link or a folder, which is never ours."""
    if path.is_symlink() or not path.is_file():
        return None
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
