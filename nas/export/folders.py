"""A folder replaced as a whole: whoever looks, and whenever the process dies, it is the old one or the new one."""

import itertools
import json
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from nas.records.safe_files import check_place, naming, read_json
from nas.records.written import move_aside
from search_spaces.errors import ConflictError, InputError

MARK = ".skipsearch-replacing.json"  # in a folder being written: only what holds it, or what it names, is swept
MAX_BYTES = 10**4  # of a mark
FindOwn = Callable[[Path], Sequence[str]]


@dataclass(frozen=True, slots=True)
class _Mark:
    """What the mark in a new folder says.

    Args:
        folder: name of the folder that the new one replaces.
        old: name that the replaced one has until it is removed.
        pid: the process that writes.
    """

    folder: str
    old: str
    pid: int


@contextmanager
def replace_folder(folder: Path, find_own: FindOwn) -> Iterator[Path]:
    """A new folder beside the named one, to be filled in the block and put into its place at the end.

    A block that raises leaves everything as it was. What killed processes left of this is put right first.

    Args:
        folder: may exist.
        find_own: names of a folder's files that are as they were written here, in the order in which they may be
            removed. All others are a user's and are kept, under another name where theirs is taken.

    Yields:
        The folder to write into.

    Raises:
        ConflictError: there is a file or a link of that name, or see check_place.
        OSError: it cannot be written.
    """
    check_place(folder.parent)
    folder.parent.mkdir(parents=True, exist_ok=True)
    _sweep(folder.parent, find_own)
    if folder.is_symlink() or (folder.exists() and not folder.is_dir()):
        raise ConflictError(f"{folder} is a file or a link, and a folder is to be written there: move it away")
    with naming(folder):
        new, mark = _make_folder(folder)
    try:
        with naming(folder):
            yield new
            _synchronise(new)
        if folder.exists():
            folder.rename(folder.with_name(mark.old))
        new.rename(folder)
    finally:
        _settle(new if new.exists() else folder, mark, find_own)


def _make_folder(folder: Path) -> tuple[Path, _Mark]:
    """A marked folder beside the named one, under a hidden name that is free."""
    pid = os.getpid()
    for number in itertools.count():
        new, old = (folder.with_name(f".{folder.name}.{pid}-{number}.{state}") for state in ("new", "old"))
        if os.path.lexists(old):
            continue
        with suppress(FileExistsError):
            new.mkdir()
            mark = _Mark(folder.name, old.name, pid)
            (new / MARK).write_text(json.dumps(asdict(mark)), encoding="utf-8")
            return new, mark
    raise AssertionError("some number is free")


def _settle(holder: Path, mark: _Mark, find_own: FindOwn) -> None:
    """Put the old folder back if nothing took its place, else remove it but for a user's own files.

    Args:
        holder: the folder with the mark: the new one, or the one whose place it took.
    """
    folder, old = holder.with_name(mark.folder), holder.with_name(mark.old)
    if holder != folder:
        if old.exists() and not os.path.lexists(folder):
            old.rename(folder)
        shutil.rmtree(holder, ignore_errors=True)
        return
    if old.exists():
        _remove_old(old, folder, [*find_own(old), MARK])
    if _read_mark(folder) == mark:  # not that of another process, which has replaced it since
        (folder / MARK).unlink(missing_ok=True)


def _remove_old(old: Path, folder: Path, own: Sequence[str]) -> None:
    theirs = [path for path in sorted(old.iterdir()) if path.name not in own]
    # First what can have its own name, so that nothing that is kept under another takes it.
    for path in sorted(theirs, key=lambda path: os.path.lexists(folder / path.name)):
        if path.name == "__pycache__" and all(file.suffix == ".pyc" for file in path.iterdir()):
            shutil.rmtree(path)  # Python makes it again
        else:
            move_aside(path, folder)
    for name in own:  # one by one: a kill in between must leave what tells ours from others
        (old / name).unlink(missing_ok=True)
    old.rmdir()


def _sweep(parent: Path, find_own: FindOwn) -> None:
    for path in sorted(parent.glob(f"*/{MARK}")):
        mark = _read_mark(path.parent)
        if mark is not None and not _is_alive(mark.pid):
            _settle(path.parent, mark, find_own)


def _read_mark(folder: Path) -> _Mark | None:
    """The mark in a folder, or None where it is none of ours that fits the folder."""
    try:
        held: dict[str, Any] = read_json(folder / MARK, MAX_BYTES)
        mark = _Mark(**held)
    except (InputError, TypeError, OSError):
        return None
    if not isinstance(mark.folder, str) or not isinstance(mark.old, str) or not isinstance(mark.pid, int):
        return None
    stem = mark.old.removesuffix(".old")
    fits = stem.startswith(f".{mark.folder}.{mark.pid}-") and "/" not in mark.old
    return mark if fits and folder.name in (mark.folder, f"{stem}.new") else None


def _is_alive(pid: int) -> bool:
    """Whether another process has this number: it may be writing its own folder beside ours."""
    if pid == os.getpid():
        return False
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    return True


def _synchronise(folder: Path) -> None:
    """Bring the files of a folder to the disk before it takes another's place."""
    for path in (*folder.iterdir(), folder):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
