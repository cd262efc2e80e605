"""Replacing a folder as a whole: at any moment, also after a kill, it is the old one or the new one."""

import itertools
import json
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from nas.records.safe_files import check_place, naming, read_json
from nas.records.written import move_aside
from search_spaces.errors import ConflictError, InputError

REPLACING_MARK = (
    ".skipsearch-replacing.json"  # in a folder being written: only marked folders, and the ones they name, are swept
)
_MAX_MARK_BYTES = 10**4
FindOwn = Callable[[Path], Sequence[str]]


@dataclass(frozen=True, slots=True)
class _Mark:
    """Content of the mark in a new folder.

    Args:
        folder: name of the folder that the new one replaces.
        old: name that the replaced folder has until it is removed.
        pid: number of the process that writes.
    """

    folder: str
    old: str
    pid: int


@contextmanager
def replace_folder(folder: Path, find_own: FindOwn) -> Iterator[Path]:
    """Give a new folder to fill, and put it in the place of the named one at the end of the block.

    A block that raises changes nothing. Leftovers of killed processes are cleaned up first.

    Args:
        folder: the folder to replace, or a new one.
        find_own: function that lists a folder's files that are unchanged since they were written, in the order in which
            they may be removed. All others belong to the user and are kept, under another name if theirs is taken.

    Yields:
        The folder to write into.

    Raises:
        ConflictError: there is a file or a link of that name, or see check_place.
        OSError: the folder cannot be written.
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
    """Make a marked folder next to the named one, under a free hidden name."""
    pid = os.getpid()
    for number in itertools.count():
        new, old = (folder.with_name(f".{folder.name}.{pid}-{number}.{state}") for state in ("new", "old"))
        if os.path.lexists(old):
            continue
        with suppress(FileExistsError):
            new.mkdir()
            mark = _Mark(folder.name, old.name, pid)
            (new / REPLACING_MARK).write_text(json.dumps(asdict(mark)), encoding="utf-8")
            return new, mark
    raise AssertionError("some number is free")


def _settle(holder: Path, mark: _Mark, find_own: FindOwn) -> None:
    """Put the old folder back if nothing took its place; else remove it, except for a user's own files.

    Args:
        holder: the folder with the mark, under its hidden name or already in its place.
    """
    folder, old = holder.with_name(mark.folder), holder.with_name(mark.old)
    if holder != folder:
        if old.exists() and not os.path.lexists(folder):
            old.rename(folder)
        shutil.rmtree(holder, ignore_errors=True)
        return
    if old.exists():
        _remove_old(old, folder, [*find_own(old), REPLACING_MARK])
    if _read_mark(folder) == mark:  # else another process has replaced the folder since
        (folder / REPLACING_MARK).unlink(missing_ok=True)


def _remove_old(old: Path, folder: Path, own: Sequence[str]) -> None:
    theirs = [path for path in sorted(old.iterdir()) if path.name not in own]
    # Files whose names are free come first, so that no renamed file takes one of these names.
    for path in sorted(theirs, key=lambda path: os.path.lexists(folder / path.name)):
        if path.name == "__pycache__" and all(file.suffix == ".pyc" for file in path.iterdir()):
            shutil.rmtree(path)  # Python's cache
        else:
            move_aside(path, folder)
    for name in own:  # in this order: after a kill in between, our files must still be known as ours
        (old / name).unlink(missing_ok=True)
    old.rmdir()


def _sweep(parent: Path, find_own: FindOwn) -> None:
    for path in sorted(parent.glob(f"*/{REPLACING_MARK}")):
        mark = _read_mark(path.parent)
        if mark is not None and not _is_alive(mark.pid):
            _settle(path.parent, mark, find_own)


def _read_mark(folder: Path) -> _Mark | None:
    """Return the mark in a folder, or None if there is none that we wrote for this folder."""
    try:
        mark = _Mark(**read_json(folder / REPLACING_MARK, _MAX_MARK_BYTES))
    except (InputError, TypeError, OSError):
        return None
    if not isinstance(mark.folder, str) or not isinstance(mark.old, str) or not isinstance(mark.pid, int):
        return None
    stem = mark.old.removesuffix(".old")
    fits = stem.startswith(f".{mark.folder}.{mark.pid}-") and "/" not in mark.old
    return mark if fits and folder.name in (mark.folder, f"{stem}.new") else None


def _is_alive(pid: int) -> bool:
    """Return whether another process has this number: it may still be writing."""
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
    """Write the files of a folder to the disk before it takes the place of another."""
    for path in (*folder.iterdir(), folder):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
