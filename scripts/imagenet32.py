"""Write the published files of ImageNet at 32x32 pixels as the .npz file that --data takes.

    python scripts/imagenet32.py FOLDER TO.npz

FOLDER has what Imagenet32_train.zip and Imagenet32_val.zip of https://image-net.org/download-images unpack to
(arXiv:1707.08819): pickles of dictionaries with data (n, 3072) uint8, the planes of red, green and blue, and labels, n
whole numbers from 1. Its validation images become the test images, labels begin at 0. One file is in memory at a time.

A pickle can run code. Here nothing runs but the few functions of this file: a pickle that names any other is refused.
"""

import argparse
import math
import pickle
import sys
import zipfile
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from nas.records.safe_files import name_temporary, open_regular
from search_spaces.errors import InputError

TRAINING = tuple(f"train_data_batch_{number}" for number in range(1, 11))
TEST = ("val_data",)
IMAGE = (3, 32, 32)  # channels, height, width
N_CLASSES = 1000
MAX_FILE = 10**9  # bytes; the largest has 394 million
HOW_TO_GET_IT = "unpack Imagenet32_train.zip and Imagenet32_val.zip of https://image-net.org/download-images there"


class Batch(NamedTuple):
    """Images (n, 3, 32, 32) uint8 and labels (n,) in 0..999 of one file."""

    images: NDArray[np.uint8]
    labels: NDArray[np.int64]


# --- pickles, without running what they ask for --------------------------------------------------------------------


class _Array:
    """What a pickle says of an array: its shape, the code of its type, and its bytes."""

    def __init__(self, *_: Any) -> None:
        self.shape: Any = ()
        self.code: Any = ""
        self.is_fortran: Any = False
        self.content: Any = b""

    def __setstate__(self, state: Any) -> None:
        _, self.shape, kind, self.is_fortran, self.content = state
        self.code = kind.code


class _Kind:
    """What a pickle says of the type of an array's values."""

    def __init__(self, code: Any = "", *_: Any) -> None:
        self.code = code

    def __setstate__(self, state: Any) -> None:
        """Pass over byte order and the like, which bytes do not have."""


def _encode(text: str, encoding: str) -> bytes:
    """Return the bytes that protocol 2 writes as text."""
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"it encodes a text as {encoding!r:.40}")
    return text.encode(encoding)


# Names that the files have -> what stands for them here; numpy moved one.
STANDS_FOR: dict[tuple[str, str], Callable[..., Any]] = {
    ("numpy.core.multiarray", "_reconstruct"): _Array,
    ("numpy._core.multiarray", "_reconstruct"): _Array,
    ("numpy", "ndarray"): _Array,
    ("numpy", "dtype"): _Kind,
    ("_codecs", "encode"): _encode,
}


class _BareUnpickler(pickle.Unpickler):
    """Makes dictionaries, lists, numbers, texts and the objects of this file, and nothing else."""

    def find_class(self, module: str, name: str) -> Any:
        """Return what stands for a name, or refuse the pickle."""
        if (module, name) not in STANDS_FOR:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}, which such files do not need")
        return STANDS_FOR[module, name]


def read_batch(path: Path) -> Batch:
    """Read one file.

    Raises:
        InputError: it is missing, damaged, asks for code, or has other content.
    """
    try:
        with open_regular(path, MAX_FILE) as stream:
            content = _BareUnpickler(stream, encoding="latin1").load()
    except InputError:
        raise
    except Exception as error:  # a damaged pickle raises nearly anything
        raise InputError(f"{path} is no pickle of a batch of images ({error!s:.200}); {HOW_TO_GET_IT}") from None
    if not isinstance(content, dict) or not {"data", "labels"} <= content.keys():
        raise InputError(f"{path} has no data and labels: it is another file; {HOW_TO_GET_IT}")
    return Batch(_read_images(path, content["data"]), _read_labels(path, content["labels"], content["data"].shape[0]))


def _read_images(path: Path, data: Any) -> NDArray[np.uint8]:
    n_row = math.prod(IMAGE)
    shape = data.shape if isinstance(data, _Array) else None
    is_whole = (
        isinstance(shape, tuple)
        and len(shape) == 2
        and isinstance(data.content, bytes | str)
        and (data.code, data.is_fortran) == ("u1", False)
        and shape == (len(data.content) // n_row, n_row)
        and len(data.content) == math.prod(shape) > 0
    )
    if not is_whole:
        given = f"shape {shape!r:.60} and type {data.code!r:.20}" if shape is not None else f"{type(data).__name__}"
        raise InputError(f"{path}: data is {given}, expected bytes ('u1') of shape (n, {n_row}); {HOW_TO_GET_IT}")
    # Python 2 wrote bytes as a text.
    content = data.content.encode("latin1") if isinstance(data.content, str) else data.content
    return np.frombuffer(content, dtype=np.uint8).reshape(-1, *IMAGE)


def _read_labels(path: Path, labels: Any, n_images: int) -> NDArray[np.int64]:
    if not isinstance(labels, list) or len(labels) != n_images:
        given = f"{len(labels):,} labels" if isinstance(labels, list) else type(labels).__name__
        raise InputError(f"{path}: labels are {given}, expected a list of {n_images:,}; {HOW_TO_GET_IT}")
    wrong = next((label for label in labels if type(label) is not int or not 1 <= label <= N_CLASSES), None)
    if wrong is not None:
        raise InputError(f"{path}: a label is {wrong!r:.40}, expected whole numbers 1..{N_CLASSES}; {HOW_TO_GET_IT}")
    return np.array(labels, dtype=np.int64) - 1


# --- the .npz file -------------------------------------------------------------------------------------------------


def convert(folder: Path, target: Path) -> str:
    """Write the files of a folder as one .npz file; return what was written, as a sentence.

    Args:
        folder: folder of the eleven files.
        target: path of the new file.

    Raises:
        InputError: a file is missing or cannot be used, or the target exists.
    """
    parts = {"train": [folder / name for name in TRAINING], "test": [folder / name for name in TEST]}
    missing = [path.name for paths in parts.values() for path in paths if not path.exists()]
    if missing:
        raise InputError(f"{folder} lacks {', '.join(missing)}; {HOW_TO_GET_IT}")
    if target.exists():
        raise InputError(f"{target} exists: move it away, or choose another name")
    # The number of images stands before the images: every file is read twice.
    labels = {part: np.concatenate([read_batch(path).labels for path in paths]) for part, paths in parts.items()}
    temporary = name_temporary(target)
    try:
        with zipfile.ZipFile(temporary, "x", zipfile.ZIP_STORED) as archive:
            for part, paths in parts.items():
                with archive.open(f"x_{part}.npy", "w", force_zip64=True) as member:
                    _write_images(member, paths, len(labels[part]))
                with archive.open(f"y_{part}.npy", "w") as member:
                    npy.write_array(member, labels[part], allow_pickle=False)
        temporary.rename(target)
    finally:
        temporary.unlink(missing_ok=True)
    n_train, n_test = len(labels["train"]), len(labels["test"])
    return f"wrote {target}: {n_train:,} training and {n_test:,} test images, {labels['train'].max() + 1:,} classes"


def _write_images(member: IO[bytes], paths: Iterable[Path], n_images: int) -> None:
    """Write the images of several files as one array, one file after the other."""
    npy.write_array_header_1_0(member, {"descr": "|u1", "fortran_order": False, "shape": (n_images, *IMAGE)})
    n_written = 0
    for path in paths:
        images = read_batch(path).images
        member.write(images.data)
        n_written += len(images)
    if n_written != n_images:
        raise InputError(f"the files changed while they were read: {n_images:,} images first, then {n_written:,}")


def main(arguments: Sequence[str]) -> None:
    """Convert the folder that the command line names."""
    parser = argparse.ArgumentParser(description="Write ImageNet at 32x32 pixels as an .npz file.")
    parser.add_argument("folder", type=Path, help="folder of train_data_batch_1 to 10 and val_data")
    parser.add_argument("target", type=Path, help="the .npz file to write")
    given = parser.parse_args(arguments)
    try:
        print(convert(given.folder, given.target))  # noqa: T201
    except InputError as error:
        parser.error(str(error))


if __name__ == "__main__":
    main(sys.argv[1:])
