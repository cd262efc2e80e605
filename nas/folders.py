"""A folder replaced as a whole: whoever looks, and whenever the process dies, it is the old one or the new one."""

import os
import re
import shutil
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

from search_spaces.errors import ConflictError


@contextmanager
def replace_folder(folder: Path, ours: Collection[str]) -> Iterator[Path]:
    """A new folder beside the named one, to be filled in the block and put into its place at the end.

    A block that raises leaves everything as it was. What killed processes left of this is put right first.

    Args:
        folder: may exist.
        ours: names of the files that are replaced; others are a user's and are kept.

    Yields:
        The folder to write into.

    Raises:
        ConflictError: there is a file or a link of that name.
        OSError: it cannot be written.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    _sweep(folder.parent, ours)
    if folder.is_symlink() or (folder.exists() and not folder.is_dir()):
        raise ConflictError(f"{folder} is a file or a link, and a folder is to be written there: move it away")
    new, old = (folder.with_name(f".{folder.name}.{os.getpid()}.{state}") for state in ("new", "old"))
    new.mkdir()
    try:
        yield new
        _synchronise(new)
        if folder.exists():
            folder.rename(old)
        new.rename(folder)
    finally:
        _settle(folder, old, ours)
        shutil.rmtree(new, ignore_errors=True)


def _settle(folder: Path, old: Path, ours: Collection[str]) -> None:
    """Put an old folder back if nothing took its place, else remove it but for a user's own files."""
    if not old.exists():
        return
    if not folder.exists():
        old.rename(folder)
        return
    for path in old.iterdir():
        if path.name not in ours and path.name != "__pycache__" and not os.path.lexists(folder / path.name):
            path.rename(folder / path.name)
    shutil.rmtree(old)


def _sweep(parent: Path, ours: Collection[str]) -> None:
    for path in parent.glob(".*.*.*"):
        match = re.fullmatch(r"\.(.+)\.(\d+)\.(new|old)", path.name)
        if match is None or not path.is_dir() or _is_alive(int(match[2])):
            continue
        if match[3] == "old":
            _settle(parent / match[1], path, ours)
        else:
            shutil.rmtree(path)


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
