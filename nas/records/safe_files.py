"""Reading of files that may be a stranger's, with limits, and atomic writing."""

import base64
import binascii
import csv
import io
import json
import math
import os
import re
import stat
import zlib
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from search_spaces.errors import ConflictError, InputError

MAX_NESTING = 100  # far beyond our files, and far below Python's limit of recursion
MAX_DIGITS = 40  # of a number; Python prints none of more than 4300, and products of these are longer
SEPARATORS = (",", ";", "\t")  # between the fields of a CSV file
MAX_BLANK = 1000  # lines before the header
BLANK = "".join(SEPARATORS) + " \r\n\v\f"  # a spreadsheet writes an empty row as its separators
TEMPORARY = ".skipsearch-tmp"  # in the name of every file that is half-made: no user's file has it


def check_place(folder: Path) -> None:
    """Check that no file or broken link has the name of a folder to be made, or of one above it.

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
    """Return the value in a JSON file that may be a stranger's.

    Raises:
        InputError: it is no JSON, or has a key twice, NaN or infinity, numbers or nesting without end; or see
            open_regular.
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
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} is not JSON: {error!s:.200}") from None
    return value


@contextmanager
def open_regular(path: Path, max_bytes: int) -> Iterator[BinaryIO]:
    """Open a file that may be a stranger's, without reading any of it.

    Raises:
        InputError: it is larger than max_bytes, or a device or a pipe, which may never end.
        OSError: it is missing, a folder, or not allowed.
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


@dataclass(frozen=True, slots=True)
class OpenTable:
    """An open CSV file.

    Args:
        lines: the file, from its header on.
        separator: character between the fields of a line.
        n_blank: number of blank lines before the header.
    """

    lines: io.TextIOWrapper
    separator: str
    n_blank: int


@contextmanager
def open_csv(path: Path, max_bytes: int, names: Collection[str]) -> Iterator[OpenTable]:
    """Open a CSV file, with the separator that gives its header most of these names, or else the most fields.

    Raises:
        InputError, OSError: see open_regular.
        UnicodeDecodeError: the file is not UTF-8.
    """
    with open_regular(path, max_bytes) as stream:
        yield decode_csv(stream, names)


def decode_csv(stream: BinaryIO, names: Collection[str]) -> OpenTable:
    """Return the table in an open file; see open_csv."""
    lines = io.TextIOWrapper(stream, encoding="utf-8-sig", newline="")
    header, start, n_blank = lines.readline(), 0, 0
    while header and not header.strip(BLANK) and n_blank < MAX_BLANK:
        start, header, n_blank = lines.tell(), lines.readline(), n_blank + 1
    lines.seek(start)
    return OpenTable(lines, _find_separator(header, names), n_blank)


def _find_separator(header: str, names: Collection[str]) -> str:
    def count(separator: str) -> tuple[int, int]:
        fields = [field.strip() for field in next(csv.reader([header], delimiter=separator), [])]
        return len(set(names) & set(fields)), len(fields)

    return max(SEPARATORS, key=count)  # of equals the first


def list_leaves(value: object) -> list[object]:
    """Return the values inside nested lists and dicts.

    Raises:
        ValueError: they are nested more than MAX_NESTING deep.

    >>> list_leaves({"a": [1, [2]], "b": 3})
    [3, 1, 2]
    """
    leaves, level = list[object](), [value]
    for _ in range(MAX_NESTING + 1):
        leaves += [value for value in level if not isinstance(value, dict | list)]
        nested = [
            value.values() if isinstance(value, dict) else value for value in level if isinstance(value, dict | list)
        ]
        level = [inner for values in nested for inner in values]
        if not level:
            return leaves
    raise ValueError(f"it nests lists and tables more than {MAX_NESTING} deep")


def _refuse_twins(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    table = dict(pairs)
    if len(table) < len(pairs):
        ((name, n_times),) = Counter(name for name, _ in pairs).most_common(1)
        raise ValueError(f"key {name!r:.80} comes {n_times} times in one object")
    return table


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
    """Return JSON with an indent of two spaces; lists and tables without nesting stay on one line if it is short.

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
        line = re.sub(r"\n\s*", " ", match[2])  # a string in JSON has no newline, so none is changed
        return f"{match[1]}{line}{match[3]}" if len(line) <= 100 else match[0]

    text = json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False)
    return re.sub(r"([\[{])\n\s*([^\[\]{}]*?)\n\s*([\]}])", join_lines, text) + "\n"


def pack_bytes(content: bytes, shape: Sequence[int]) -> dict[str, Any]:
    """Return an array of bytes as plain values, compressed.

    >>> unpack_bytes(pack_bytes(bytes(6), (2, 3)), 100)
    (b'\\x00\\x00\\x00\\x00\\x00\\x00', (2, 3))
    """
    return {"shape": list(shape), "zlib": base64.b64encode(zlib.compress(content, 9)).decode()}


def unpack_bytes(packed: object, max_bytes: int) -> tuple[bytes, tuple[int, ...]]:
    """Return the content and the shape of an array that pack_bytes was called on, maybe by a stranger.

    Raises:
        InputError: it has another form, another length than its shape says, or more than max_bytes.
    """
    try:
        assert isinstance(packed, dict)
        shape = tuple(packed["shape"])
        assert all(type(length) is int and length > 0 for length in shape)
        n_bytes = math.prod(shape)
        assert n_bytes <= max_bytes
        unpack = zlib.decompressobj()
        content = unpack.decompress(base64.b64decode(packed["zlib"], validate=True), n_bytes + 1)
        assert len(content) == n_bytes
    except (AssertionError, LookupError, TypeError, ValueError, binascii.Error, zlib.error):
        raise InputError(
            f"{packed!r:.80} is no array of at most {max_bytes:,} bytes as this program packs it"
        ) from None
    return content, shape


def check_utf8(name: str, what: str) -> None:
    """Check that a name can be stored in a file of settings and in the address of a database.

    Raises:
        InputError: it has bytes that are not UTF-8.
    """
    try:
        name.encode()
    except UnicodeEncodeError:
        raise InputError(f"{what} is {name}, which is not UTF-8, and a run stores names as UTF-8: rename it") from None


def name_temporary(path: Path) -> Path:
    """Return the temporary path next to a file, by whose name sweep_temporaries knows it."""
    return path.with_name(f".{path.name}.{os.getpid()}{TEMPORARY}")


def sweep_temporaries(folder: Path, name: str = "*") -> None:
    """Remove temporary files that killed processes left, of files of that name, in a folder that nobody writes into."""
    for leftover in folder.glob(f".{name}.*{TEMPORARY}*"):
        leftover.unlink(missing_ok=True)  # a worker that outlived its driver may be faster


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Name this path in an operating system's error that names none, as that of a full disk.

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
    """Write bytes, or text as UTF-8, so that the file has the old content or the new, never a part of it.

    A temporary file is written, fsynced and renamed, and the folder's entry fsynced. Missing folders are made.

    Args:
        synced: whether to fsync; without, a kill still leaves a whole file, but a power cut may not.

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
        raise OSError(error.errno, error.strerror, str(path)) from error  # a full disk's error names no file
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
