"""Readers of CIFAR-10, CIFAR-100 and SVHN as their authors publish them, checked."""

import io
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from nas.records.safe_files import open_regular
from search_spaces.errors import InputError

IMAGE = (3, 32, 32)  # channels, height, width
N_DIGITS = 10

Part = tuple[NDArray[np.uint8], NDArray[np.int64]]  # images and labels of one file


class LabelledImages(NamedTuple):
    """Images (n, 3, 32, 32), labels (n,) in 0..classes-1, and the indices (n_test,) of the test file's."""

    images: NDArray[np.uint8]
    labels: NDArray[np.int64]
    test: NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Published:
    """Files and labels of a published data set.

    Args:
        files: names of its files, the test examples' last.
        labels: names of a row's labels, the one that is used last -> number of classes; empty for SVHN.
        n_classes: number of classes of the label that is used.
        augment: see DataSet.
        how_to_get_it: instructions for a person.
        subfolder: folder that its archive unpacks to.
        mistaken: files that may lie there instead -> what to say about them.
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
        augment=False,  # DenseNets are trained on it without (arXiv:1608.06993, section 4.1)
        how_to_get_it="get train_32x32.mat and test_32x32.mat (format 2, cropped digits) from "
        "http://ufldl.stanford.edu/housenumbers and give their folder by --data FOLDER",
        subfolder="",
        mistaken={},
    ),
}


def read_published(name: str, folder: str | None, max_bytes: int) -> LabelledImages:
    """Read cifar-10 or cifar-100 in the binary version, or the cropped digits of svhn.

    Args:
        name: as on the command line.
        folder: folder of the files, or the one that contains the folder of CIFAR's archive.
        max_bytes: most bytes of all files, and of all images; each file may have an equal share.

    Raises:
        InputError: there is no folder, or a file is missing, truncated, too large or of another form.
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
    all_images = np.concatenate([images for images, _ in parts])
    return LabelledImages(all_images, all_labels, np.arange(len(all_labels))[-n_test:])


def _find_files(published: Published, folder: Path) -> list[Path]:
    """Return the files in the folder, or in its subfolder if that has more of them."""
    if not folder.is_dir():
        raise InputError(f"{folder} is no folder")
    missing, place = min(
        (
            ([name for name in published.files if not (place / name).exists()], place)
            for place in (folder, folder / published.subfolder)
        ),
        key=lambda choice: len(choice[0]),
    )
    if len(missing) == len(published.files):
        for name, what in published.mistaken.items():
            if (folder / name).exists():
                raise InputError(f"{folder} contains {name}, {what}")
    if missing:
        raise InputError(f"{place} lacks {', '.join(missing)}")
    return [place / name for name in published.files]


def _read_file(path: Path, max_bytes: int) -> bytes:
    with open_regular(path, max_bytes) as stream:
        return stream.read(os.fstat(stream.fileno()).st_size)  # a larger request would allocate more


def _read_rows(path: Path, max_bytes: int, labels: Mapping[str, int]) -> Part:
    """Read a file of rows: one byte a label, then the planes of an image."""
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
        expected = f"{allowed.start}..{allowed.stop - 1}"
        raise InputError(f"{path}: the {name} of image {wrong[0]} is {labels[wrong[0]]}, expected {expected}")


def _read_mat(path: Path, max_bytes: int) -> Part:
    """Read a MATLAB file of X (height, width, channels, n) and y (n, 1)."""
    from scipy.io import loadmat, whosmat  # takes longer to load than all the rest that flags need

    content: Any = io.BytesIO(_read_file(path, max_bytes))  # scipy-stubs knows only paths
    try:
        _check_variables(path, whosmat(content), max_bytes)
        variables = loadmat(content, variable_names=["X", "y"])
    except InputError:
        raise
    except Exception as error:  # loadmat raises nearly anything for a damaged file
        raise InputError(f"{path} is damaged, or no MATLAB file of version 4 to 7.2 ({error!s:.200})") from None
    pixels, labels = variables["X"], variables["y"]
    if pixels.dtype != np.uint8 or labels.dtype.kind not in "uif":
        raise InputError(f"{path}: X is of type {pixels.dtype} and y of {labels.dtype}, expected uint8 and numbers")
    _check_labels(path, "label", labels[:, 0], range(1, N_DIGITS + 1))
    return pixels.transpose(3, 2, 0, 1), labels[:, 0].astype(np.int64) % N_DIGITS  # 10 stands for the digit 0


def _check_variables(path: Path, variables: Sequence[tuple[str, tuple[int, ...], str]], max_bytes: int) -> None:
    """Check names, shapes and size by the file's own list, before anything is unpacked."""
    names = [name for name, _, _ in variables]
    if (names.count("X"), names.count("y")) != (1, 1):
        raise InputError(f"{path}: expected one X and one y, found {', '.join(map(ascii, names)) or 'nothing':.200}")
    shapes = {name: shape for name, shape, _ in variables}
    n = shapes["X"][-1] if shapes["X"] else 0
    if n < 1 or shapes["X"] != (*IMAGE[::-1], n) or shapes["y"] != (n, 1):
        raise InputError(
            f"{path}: X has shape {shapes['X']} and y {shapes['y']}, expected (32, 32, 3, n) and (n, 1), a label for "
            "each image"
        )
    if math.prod(shapes["X"]) > max_bytes:
        raise InputError(f"{path}: X unpacks to {math.prod(shapes['X']):,} bytes, and at most {max_bytes:,} are read")
