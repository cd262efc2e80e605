"""Files that may be a stranger's are read with limits; every write is atomic."""

import json
import math
import os
import re
import stat
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from search_spaces.errors import ConflictError, InputError

MAX_NESTING = 100  # far beyond our files, and far below what Python's own recursion bears


MAX_DIGITS = 40  # of a number; Python prints none of more than 4300, and products of these are longer


TEMPORARY = ".skipsearch-tmp"  # in the name of every file that is half-made: no user's file has it


def check_place(folder: Path) -> None:
    """Refuse a folder that cannot be made, or written into, because something else has its name or one above it.

    Raises:
        ConflictError: a file, or a link that leads nowhere, is in the way.
    """
    in_way = next((path for path in (folder, *folder.parents) if os.path.lexists(path)), None)
    if in_way is not None and not in_way.is_dir():
        raise ConflictError(
            f"{in_way} is a file, or a link that leads nowhere, and a folder is needed there: move it away, or choose "
            "another folder"
        )


def read_json(path: Path, max_bytes: int) -> Any:
    """The value in a JSON file that may be a stranger's: no key twice, no NaN or infinity, no nesting without end.

    Raises:
        InputError: not such JSON, or see open_regular.
        OSError: see open_regular.
    """
    with open_regular(path, max_bytes) as stream:
        content = stream.read(max_bytes)
    try:
        value = json.loads(
            content,
            object_pairs_hook=_refuse_twins,
            parse_constant=_parse_finite,
            parse_float=_parse_finite,
            parse_int=_parse_whole,
        )
        list_leaves(value)
    except (ValueError, RecursionError) as error:  # no UTF-8, no JSON, numbers or nesting without end
        raise InputError(f"{path} is not JSON: {error!s:.200}") from None
    return value


@contextmanager
def open_regular(path: Path, max_bytes: int) -> Iterator[BinaryIO]:
    """Open a file that may be a stranger's, without reading any of it.

    Raises:
        InputError: larger than max_bytes, or a device or a pipe, which would go on for ever.
        OSError: missing, a folder, or not allowed.
    """
    # Without O_NONBLOCK, opening a pipe waits until somebody writes to it.
    with open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK)) as stream:
        status = os.fstat(stream.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise InputError(f"{path} is a device or a pipe, which may never end: give a file")
        if status.st_size > max_bytes:
            raise InputError(
                f"{path} has {status.st_size:,} bytes, and at most {max_bytes:,} are read: is it the right file?"
            )
        yield stream


def list_leaves(value: object) -> list[object]:
    """All that nested lists and dicts hold, those themselves left out.

    Raises:
        ValueError: more than MAX_NESTING of them inside one another.

    >>> list_leaves({"a": [1, [2]], "b": 3})
    [3, 1, 2]
    """
    leaves, level = list[object](), [value]
    for _ in range(MAX_NESTING + 1):
        leaves += [one for one in level if not isinstance(one, dict | list)]
        nested = [one.values() if isinstance(one, dict) else one for one in level if isinstance(one, dict | list)]
        level = [inner for one in nested for inner in one]
        if not level:
            return leaves
    raise ValueError(f"it nests lists and tables more than {MAX_NESTING} deep")


def _refuse_twins(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        ((name, n_times),) = Counter(name for name, _ in pairs).most_common(1)
        raise ValueError(f"key {name!r:.80} comes {n_times} times in one object")
    return found


def _parse_whole(text: str) -> int:
    if len(text) > MAX_DIGITS:
        raise ValueError(f"a whole number has {len(text)} digits, at most {MAX_DIGITS} are read")
    return int(text)


def _parse_finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text:.40} is no finite number")
    return value


def format_json(value: object) -> str:
    """JSON with two spaces an indent, what fits in 100 columns and nests nothing on one line, newline at the end.

    >>> print(format_json({"layers": 2, "sources": [[0], [0, 1]]}), end="")
    {
      "layers": 2,
      "sources": [
        [0],
        [0, 1]
      ]
    }
    """

    def join_lines(match: re.Match[str]) -> str:
        line = re.sub(r"\n\s*", " ", match[2])  # a string in JSON holds no newline, so none is touched
        return f"{match[1]}{line}{match[3]}" if len(line) <= 100 else match[0]

    text = json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False)
    return re.sub(r"([\[{])\n\s*([^\[\]{}]*?)\n\s*([\]}])", join_lines, text) + "\n"


def check_utf8(name: str, what: str) -> None:
    """Refuse a name that no file of settings and no address of a database can hold.

    Raises:
        InputError: it holds bytes that are not UTF-8.
    """
    try:
        name.encode()
    except UnicodeEncodeError:
        raise InputError(f"{what} is {name}, which is not UTF-8, and a run stores names as UTF-8: rename it") from None


def name_temporary(path: Path) -> Path:
    """Return where this process half-makes a file: beside it, under a name by which sweep_temporaries knows it."""
    return path.with_name(f".{path.name}.{os.getpid()}{TEMPORARY}")


def sweep_temporaries(folder: Path, name: str = "*") -> None:
    """Remove what killed processes left half-made of the files of that name in a folder that nobody writes into."""
    for leftover in folder.glob(f".{name}.*{TEMPORARY}*"):
        leftover.unlink(missing_ok=True)  # a worker that outlived its driver may be faster


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Name this path in an error of the operating system's that names none, as that of a full disk does.

    >>> with naming(Path("runs/a")):
    ...     raise OSError(28, "No space left on device")
    Traceback (most recent call last):
    OSError: [Errno 28] No space left on device: 'runs/a'
    """
    try:
        yield
    except OSError as error:
        if error.errno is None or error.filename is not None:
            raise
        raise OSError(error.errno, error.strerror, str(path)) from error


def write_atomic(path: Path, content: str | bytes, synced: bool = True) -> None:
    """Write bytes, or text as UTF-8, so that path holds the old content or the new, never a part of it.

    Temporary file beside it, flushed, fsynced, renamed over it, the folder's entry fsynced. Missing folders are made.

    Args:
        synced: False leaves the two fsyncs out: a kill still leaves a whole file, a power cut may not.

    Raises:
        OSError: it cannot be written; names the path.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = name_temporary(path)
    try:
        with temporary.open("wb") as stream:
            stream.write(content.encode() if isinstance(content, str) else content)
            stream.flush()
            if synced:
                os.fsync(stream.fileno())
        temporary.replace(path)
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error  # a full disk's names no file
    finally:
        temporary.unlink(missing_ok=True)
    if not synced:
        return
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        with naming(path.parent):
            os.fsync(folder)
    finally:
        os.close(folder)
