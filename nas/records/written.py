"""Files in a folder that may contain a user's: only what is unchanged since it was written here is replaced."""

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
    """The record of what was written into a folder.

    Args:
        schema: SCHEMA.
        files: writer -> file name -> SHA-256 of its content; two while a kill may leave either content.
    """

    model_config = ConfigDict(extra="forbid", populate_by_name=True)

    schema_: Literal["skipsearch/files"] = Field(SCHEMA, alias="schema")
    files: dict[str, dict[str, list[str]]] = {}


def write_files(folder: Path, files: Mapping[str, str | bytes], writer: str, is_older: bool = False) -> None:
    """Write files into a folder, and remove those that the same writer wrote last time and does not write now.

    A record in the folder lists our files. Those that were changed since are kept under another name. Whenever the
    process dies, each file is the old one or the new one, and the next call continues from there.

    Args:
        folder: the folder, made if missing.
        files: content by name.
        writer: one word for who writes.
        is_older: whether a folder without a record may come from a version that kept none: what is in the way is kept.

    Raises:
        ConflictError: a file in the way is not ours, or the record is damaged, or see check_place; nothing was changed.
        OSError: a file, which is named, cannot be written.
    """
    check_place(folder)
    contents = {name: content.encode() if isinstance(content, str) else content for name, content in files.items()}
    hashes = {name: hashlib.sha256(content).hexdigest() for name, content in contents.items()}
    record = _read_record(folder / RECORD)
    own = record.files.get(writer, {}) if record is not None else {}
    others = {name: parts for name, parts in (record.files.items() if record is not None else ()) if name != writer}
    known: dict[str, set[str]] = {}
    for part in (own, *others.values()):
        for name, digests in part.items():
            known.setdefault(name, set()).update(digests)
    existing = {name: _hash_file(folder / name) for name in {*own, *contents} if os.path.lexists(folder / name)}
    in_way = {name for name in contents if name in existing and existing[name] != hashes[name]}
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
        if existing[name] not in known.get(name, ()):
            move_aside(folder / name)
    for name, content in contents.items():
        write_atomic(folder / name, content)
    for name in set(own) - set(contents):
        if existing.get(name) in own[name]:
            (folder / name).unlink(missing_ok=True)
    others = {
        other: {name: digests for name, digests in part.items() if name not in hashes} for other, part in others.items()
    }
    _write_record(folder, {**others, writer: {name: [digest] for name, digest in hashes.items()}})


def move_aside(path: Path, folder: Path | None = None) -> Path:
    """Move a user's file to a free name in its own folder, or in another one, and return the new path."""
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
            f"{path}, the list of the files of its folder that may be replaced, is damaged: move the folder away, "
            "or remove this file and what was written beside it"
        )
    return record


def _write_record(folder: Path, files: Mapping[str, Any]) -> None:
    record = _Record(
        schema=SCHEMA, files={writer: dict(sorted(part.items())) for writer, part in files.items() if part}
    )
    write_atomic(folder / RECORD, format_json(record.model_dump(by_alias=True)))


def _hash_file(path: Path) -> str | None:
    """Return the hash of a file's content; None of a link or a folder, which is never ours."""
    if path.is_symlink() or not path.is_file():
        return None
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
