"""CIFAR-10, CIFAR-100 and SVHN as their authors publish them -> arrays, checked."""

import math
import os
import struct
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nas.records.safe_files import open_regular
from search_spaces.errors import InputError

IMAGE = (3, 32, 32)  # channels, height, width
N_DIGITS = 10

# Of MATLAB's format of version 5 what numbers need ("MAT-File Format", The MathWorks, chapter 1). scipy's loadmat
# reads more, and where a file gives a type that is none, it ends the process: https://github.com/scipy/scipy/pull/25349
BYTE_ORDERS = {b"\x00\x01IM": "<", b"\x01\x00MI": ">"}  # by the last bytes of the file's header
N_HEADER = 128
INT8, INT32, UINT32, MATRIX, COMPRESSED = 1, 5, 6, 14, 15  # types of elements
NUMBERS = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}
CLASSES = (
    "none", "cell", "struct", "object", "char", "sparse", "double", "single", "int8", "uint8", "int16", "uint16",
    "int32", "uint32", "int64", "uint64",
)  # fmt: skip
NUMERIC = CLASSES[CLASSES.index("double") :]
FLAGS = {"logical": 0x200, "complex": 0x800}
MAX_HEAD = 1000  # bytes of a variable before its numbers; MATLAB writes about 60
MAX_VARIABLES = 100

Part = tuple[NDArray[np.uint8], NDArray[np.int64]]  # images and labels of one file


@dataclass(frozen=True, slots=True)
class Published:
    """What a data set is published as.

    Args:
        files: names of its files, that of the test examples last.
        labels: what a row's labels are called, the one that is used last -> number of classes; none in SVHN's files.
        n_classes: of the label that is used.
        augment: see DataSet.
        how_to_get_it: for a person.
        subfolder: where its archive puts the files.
        mistaken: what may lie there instead -> what to say of it.
    """

    files: tuple[str, ...]
    labels: Mapping[str, int]
    n_classes: int
    augment: bool
    how_to_get_it: str
    subfolder: str
    mistaken: Mapping[str, str]


def _describe_cifar(
    name: str, files: tuple[str, ...], labels: Mapping[str, int], subfolder: str, python_subfolder: str
) -> Published:
    packed = f"{name}-binary.tar.gz"
    pickled = "of the Python version: pickles can run code, and none is ever loaded"
    pickles = (f"{name}-python.tar.gz", python_subfolder, files[0].removesuffix(".bin"))
    return Published(
        files=files,
        labels=labels,
        n_classes=list(labels.values())[-1],
        augment=True,
        how_to_get_it=f"get the binary version, {packed}, from https://www.cs.toronto.edu/~kriz/cifar.html, unpack it, "
        "and give its folder by --data FOLDER",
        subfolder=subfolder,
        mistaken={packed: "still packed", **dict.fromkeys(pickles, pickled)},
    )


PUBLISHED = {
    "cifar-10": _describe_cifar(
        "cifar-10",
        (*(f"data_batch_{number}.bin" for number in range(1, 6)), "test_batch.bin"),
        {"label": 10},
        "cifar-10-batches-bin",
        "cifar-10-batches-py",
    ),
    "cifar-100": _describe_cifar(
        "cifar-100",
        ("train.bin", "test.bin"),
        {"coarse label": 20, "fine label": 100},
        "cifar-100-binary",
        "cifar-100-python",
    ),
    "svhn": Published(
        files=("train_32x32.mat", "test_32x32.mat"),
        labels={},
        n_classes=N_DIGITS,
        augment=False,  # DenseNets are trained on it as it is (arXiv:1608.06993, section 4.1)
        how_to_get_it="get train_32x32.mat and test_32x32.mat (format 2, cropped digits) from "
        "http://ufldl.stanford.edu/housenumbers and give their folder by --data FOLDER",
        subfolder="",
        mistaken={},
    ),
}


def read_published(
    name: str, folder: str | None, max_bytes: int
) -> tuple[NDArray[np.uint8], NDArray[np.int64], NDArray[np.int64]]:
    """Read cifar-10 or cifar-100 in the binary version, or the cropped digits of svhn.

    Args:
        name: as on the command line.
        folder: where the files lie, or the folder that CIFAR's archive unpacks to.
        max_bytes: of all files, and of all images; each file may have an equal share.

    Returns:
        Images (n, 3, 32, 32), labels (n,) in 0..classes-1, and the indices (n_test,) of those from the test file.

    Raises:
        InputError: no folder, or a file is missing, truncated, too large or of another form: which, and what was found.
    """
    published = PUBLISHED[name]
    try:
        if not folder:
            raise InputError(f"{name} is read from a folder, and none is given")
        paths = _find_files(published, Path(folder))
        share = max_bytes // len(paths)
        labels = published.labels
        parts = [_read_rows(path, share, labels) if labels else _read_mat(path, share) for path in paths]
    except OSError as error:
        raise InputError(f"{folder} cannot be read ({error}); {published.how_to_get_it}") from None
    except InputError as error:
        raise InputError(f"{error}; {published.how_to_get_it}") from None
    all_labels = np.concatenate([labels for _, labels in parts])
    n_test = len(parts[-1][1])
    return np.concatenate([images for images, _ in parts]), all_labels, np.arange(len(all_labels))[-n_test:]


def _find_files(published: Published, folder: Path) -> list[Path]:
    """The files in the folder, or in its subfolder where that holds more of them."""
    if not folder.is_dir():
        raise InputError(f"{folder} is no folder")
    missing, place = min(
        (
            ([name for name in published.files if not (place / name).exists()], place)
            for place in (folder, folder / published.subfolder)
        ),
        key=lambda found: len(found[0]),
    )
    if len(missing) == len(published.files):
        for name, what in published.mistaken.items():
            if (folder / name).exists():
                raise InputError(f"{folder} holds {name}, {what}")
    if missing:
        raise InputError(f"{place} lacks {', '.join(missing)}")
    return [place / name for name in published.files]


def _read_file(path: Path, max_bytes: int) -> bytes:
    with open_regular(path, max_bytes) as stream:
        return stream.read(os.fstat(stream.fileno()).st_size)  # asked for more, it allocates more


def _read_rows(path: Path, max_bytes: int, labels: Mapping[str, int]) -> Part:
    """A file of rows: one byte a label, then the planes of an image."""
    content = _read_file(path, max_bytes)
    n_row = len(labels) + math.prod(IMAGE)
    if not content or len(content) % n_row:
        raise InputError(
            f"{path} has {len(content):,} bytes, expected a whole number of rows of {n_row:,}, one or more: it is "
            "truncated, or of another form"
        )
    rows = np.frombuffer(content, dtype=np.uint8).reshape(-1, n_row)
    for column, (name, n_classes) in zip(rows.T, labels.items(), strict=False):
        _check_labels(path, name, column, range(n_classes))
    return rows[:, len(labels) :].reshape(-1, *IMAGE), rows[:, len(labels) - 1].astype(np.int64)


def _check_labels(path: Path, name: str, labels: NDArray[Any], allowed: range) -> None:
    wrong = np.flatnonzero(~np.isin(labels, allowed))
    if len(wrong):
        said = f"{path}: the {name} of image {wrong[0]} is {labels[wrong[0]]}"
        raise InputError(f"{said}, expected {allowed.start}..{allowed.stop - 1}")


def _read_mat(path: Path, max_bytes: int) -> Part:
    """A MATLAB file of X (height, width, channels, n) and y (n, 1)."""
    content = memoryview(_read_file(path, max_bytes))
    order = BYTE_ORDERS.get(bytes(content[N_HEADER - 4 : N_HEADER]))
    if order is None:
        raise InputError(f"{path} is no MATLAB file of version 5 to 7.2")
    try:
        x, y = _find_variables(content, order)
        n = x.shape[-1] if x.shape else 0
        if x.shape != (*IMAGE[::-1], n) or n < 1 or x.kind != "uint8":
            raise ValueError(f"X has shape {x.shape} and type {x.kind}, expected (32, 32, 3, n) and uint8")
        if y.shape != (n, 1) or y.kind not in NUMERIC:
            raise ValueError(f"y has shape {y.shape} and type {y.kind}, expected ({n}, 1) and numbers, one an image")
        pixels, labels = (_read_numbers(content, order, one, max_bytes) for one in (x, y))
        if pixels.dtype != np.uint8:
            raise ValueError(f"X is stored as {pixels.dtype}, expected uint8")
    except (ValueError, struct.error, zlib.error) as error:
        raise InputError(f"{path} is damaged, or holds other data: {error!s:.300}") from None
    _check_labels(path, "label", labels, range(1, N_DIGITS + 1))
    # MATLAB's first index runs fastest, so that numpy sees an image's columns before its rows.
    return pixels.reshape(n, *IMAGE).swapaxes(2, 3), labels.astype(np.int64) % N_DIGITS  # 10 stands for the digit 0


@dataclass(frozen=True, slots=True)
class _Variable:
    """A variable of a MATLAB file, but for its numbers.

    Args:
        name, shape: as in MATLAB.
        kind: one of CLASSES, after the FLAGS that are set.
        place: where in the file its element begins.
        n_bytes: of that element, unpacked.
        numbers: where in the unpacked element that of the numbers begins.
    """

    name: str
    shape: tuple[int, ...]
    kind: str
    place: int
    n_bytes: int
    numbers: int


def _find_variables(content: memoryview, order: str) -> tuple[_Variable, _Variable]:
    held = list(_iterate_variables(content, order))
    names = [one.name for one in held]
    if (names.count("X"), names.count("y")) != (1, 1):
        raise ValueError(f"expected one X and one y, found {', '.join(map(ascii, names)) or 'nothing':.200}")
    return held[names.index("X")], held[names.index("y")]


def _iterate_variables(content: memoryview, order: str) -> Iterator[_Variable]:
    place = N_HEADER
    for _ in range(MAX_VARIABLES):
        if place == len(content):
            return
        _, n_bytes, start, _ = _read_tag(content, place, order)
        end = start + n_bytes  # a variable is not padded as its own elements are
        if end > len(content):
            raise ValueError(f"it ends {end - len(content):,} bytes too early")
        head, _ = _unpack(content, place, order, MAX_HEAD)
        yield _read_head(head, place, order)
        place = end
    raise ValueError(f"it holds {MAX_VARIABLES} variables or more")


def _read_tag(content: memoryview, place: int, order: str) -> tuple[int, int, int, int]:
    """Of the element at a place: its type, its bytes, where they begin, and where the next element does."""
    kind, n_bytes = struct.unpack_from(f"{order}II", content, place)
    if not kind >> 16:
        return kind, n_bytes, place + 8, place + 8 + n_bytes + -n_bytes % 8
    if kind >> 16 > 4:
        raise ValueError(f"{kind >> 16} bytes are said to lie in 4")
    return kind & 0xFFFF, kind >> 16, place + 4, place + 8  # so few that they lie in the tag


def _unpack(content: memoryview, place: int, order: str, n_bytes: int) -> tuple[memoryview, bool]:
    """The first bytes of the element at a place, its tag among them, and whether that is all of it, checksum passed."""
    kind, n_packed, start, _ = _read_tag(content, place, order)
    end = start + n_packed
    if kind != COMPRESSED:
        return content[place : min(place + n_bytes, end)], place + n_bytes >= end
    unpacker = zlib.decompressobj()
    return memoryview(unpacker.decompress(content[start:end], n_bytes)), unpacker.eof


def _read_head(element: memoryview, place: int, order: str) -> _Variable:
    kind, n_bytes, following, _ = _read_tag(element, 0, order)
    if kind != MATRIX:
        raise ValueError(f"an element of type {kind} is in the place of a variable")
    parts = []
    for expected in (UINT32, INT32, INT8):
        kind, n_part, start, following = _read_tag(element, following, order)
        if kind != expected:
            raise ValueError("a variable lacks its flags, shape or name")
        parts.append(element[start : start + n_part])
    flags, shape, name = parts
    (bits,) = struct.unpack_from(f"{order}I", flags)
    code = bits & 0xFF
    marks = [mark for mark, bit in FLAGS.items() if bits & bit]
    return _Variable(
        name=bytes(name).decode("latin-1"),
        shape=struct.unpack(f"{order}{len(shape) // 4}i", shape),
        kind=" ".join([*marks, CLASSES[code] if code < len(CLASSES) else str(code)]),
        place=place,
        n_bytes=8 + n_bytes,
        numbers=following,
    )


def _read_numbers(content: memoryview, order: str, variable: _Variable, max_bytes: int) -> NDArray[Any]:
    """A variable's numbers, flat, of the type they are stored as: MATLAB takes the smallest that holds them."""
    if variable.n_bytes > max_bytes + MAX_HEAD:
        raise ValueError(f"{variable.name} unpacks to {variable.n_bytes:,} bytes, and at most {max_bytes:,} are read")
    element, is_all = _unpack(content, variable.place, order, variable.n_bytes + 1)  # one more: up to the checksum
    kind, n_bytes, start, _ = _read_tag(element, variable.numbers, order)
    if not is_all or kind not in NUMBERS:
        raise ValueError(f"{variable.name} does not hold the numbers that its head says")
    numbers = np.frombuffer(element[start : start + n_bytes], dtype=order + NUMBERS[kind])
    if len(numbers) != math.prod(variable.shape):
        raise ValueError(f"{variable.name} has shape {variable.shape}, and {len(numbers)} numbers")
    return numbers
