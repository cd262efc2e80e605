"""Files of a user's, or a package's -> data set, checked."""

import gzip
import hashlib
import lzma
import math
import tokenize
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from nas.data import DataSet
from nas.image_archives import PUBLISHED, read_published
from search_spaces.errors import InputError
from search_spaces.files import open_regular

FASHION_MNIST_FOLDER = Path("/usr/share/datasets/fashion-mnist")  # where Debian's package puts it
FASHION_MNIST_HINT = (
    "get it by `apt-get install dataset-fashion-mnist`, or give the folder that holds its four idx files (.gz or "
    "unpacked) by --data FOLDER"
)
NPZ_HINT = "write it by numpy.savez(FILE, x_train=..., y_train=..., x_test=..., y_test=...)"
IDX_UINT8 = 0x08
MAX_BYTES = 2 * 10**9  # of a file, and of its arrays: ten times CIFAR-10; a file of 2 MB can unpack to so much
NAMES = ("x_train", "y_train", "x_test", "y_test")
MAX_HEADER = 1000  # bytes of an array's; numpy writes about 100
# What zipfile and numpy raise of a damaged or made-up file; RuntimeError of an encrypted one, or of nested brackets.
DAMAGED = (
    OSError, ValueError, EOFError, KeyError, NotImplementedError, RuntimeError, OverflowError, TypeError,
    zipfile.BadZipFile, zlib.error, lzma.LZMAError, tokenize.TokenError,
)  # fmt: skip


def load_data(name: str, path: str | None) -> DataSet:
    """Load a data set by its command-line name.

    Args:
        name: digits, fashion-mnist, cifar-10, cifar-100, svhn or npz.
        path: folder of fashion-mnist, default that of Debian's package; folder of cifar-10, cifar-100 and svhn; file of
            npz; unused by digits.

    Raises:
        InputError: a file is missing, truncated or of the wrong shape: which, what was expected, what was found.
    """
    match name:
        case "digits":
            return _load_digits()
        case "fashion-mnist":
            return _load_fashion_mnist(Path(path) if path else FASHION_MNIST_FOLDER)
        case "cifar-10" | "cifar-100" | "svhn":
            return _load_published(name, path)
        case "npz":
            return _load_npz(Path(path or ""))
    raise InputError(
        f"there is no data set {name!r}; there are digits, fashion-mnist, cifar-10, cifar-100, svhn and npz"
    )


def _load_digits() -> DataSet:
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    digits = load_digits()
    labels = digits.target.astype(np.int64)
    # One fixed fifth, whatever the seed of anything: no training or selection ever sees it.
    _, test = train_test_split(np.arange(len(labels)), test_size=360, stratify=labels, random_state=0)
    return _as_data_set("digits", digits.images.astype(np.uint8)[:, None], labels, np.sort(test), augment=False)


def _load_fashion_mnist(folder: Path) -> DataSet:
    parts = [
        (
            _read_idx(folder, f"{part}-images-idx3-ubyte", (n, 28, 28)),
            _read_idx(folder, f"{part}-labels-idx1-ubyte", (n,)),
        )
        for part, n in (("train", 60_000), ("t10k", 10_000))
    ]
    for part, (_, found) in zip(("train", "t10k"), parts, strict=True):
        if found.max() > 9:
            file = folder / f"{part}-labels-idx1-ubyte"
            raise InputError(f"{file}: a label is {found.max()}, expected 0..9; {FASHION_MNIST_HINT}")
    images = np.concatenate([images for images, _ in parts])[:, None]
    labels = np.concatenate([labels for _, labels in parts]).astype(np.int64)
    return _as_data_set("fashion-mnist", images, labels, np.arange(60_000, 70_000), augment=True)


def _read_idx(folder: Path, name: str, shape: tuple[int, ...]) -> NDArray[np.uint8]:
    """One idx file of bytes (http://yann.lecun.com/exdb/mnist): 4 bytes of magic, a big-endian length a dimension."""
    n_header, n_expected = 4 + 4 * len(shape), math.prod(shape)
    path = folder / f"{name}.gz"
    try:
        path = path if path.exists() else folder / name
        with open_regular(path, MAX_BYTES) as stream:
            unpacked = gzip.GzipFile(fileobj=stream) if path.suffix == ".gz" else stream
            content = unpacked.read(n_header + n_expected + 1)  # one more shows a file that is longer
    except FileNotFoundError:
        raise InputError(f"{folder / name}.gz is missing; {FASHION_MNIST_HINT}") from None
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(f"{path} cannot be read ({error}): truncated or no gzip file; {FASHION_MNIST_HINT}") from None
    header = np.frombuffer(content[4:n_header], dtype=">u4") if len(content) >= n_header else ()
    found = tuple(int(length) for length in header)
    if content[:4] != bytes([0, 0, IDX_UINT8, len(shape)]) or found != shape:
        raise InputError(
            f"{path}: expected an idx file of bytes of shape {shape}, found magic {content[:4].hex()!r} and shape "
            f"{found}; {FASHION_MNIST_HINT}"
        )
    n_found = len(content) - n_header
    if n_found != n_expected:
        found_bytes = f"{n_found} or more" if n_found > n_expected else n_found
        raise InputError(
            f"{path}: expected {n_expected} bytes after the header, found {found_bytes}; {FASHION_MNIST_HINT}"
        )
    return np.frombuffer(content, dtype=np.uint8, offset=n_header).reshape(shape)


def _load_published(name: str, path: str | None) -> DataSet:
    images, labels, test = read_published(name, path, MAX_BYTES)
    published = PUBLISHED[name]
    # A subset may lack a class: what its network is to tell apart is fixed all the same.
    return _as_data_set(name, images, labels, test, augment=published.augment, n_classes=published.n_classes)


def _load_npz(path: Path) -> DataSet:
    arrays = _read_npz(path)
    images = {part: _check_images(path, part, arrays[f"x_{part}"]) for part in ("train", "test")}
    labels = {part: _check_labels(path, part, arrays[f"y_{part}"], len(images[part])) for part in ("train", "test")}
    if images["train"].shape[1:] != images["test"].shape[1:]:
        raise InputError(
            f"{path}: images of x_train are {images['train'].shape[1:]} and of x_test {images['test'].shape[1:]}: they "
            "must be alike"
        )
    found = np.unique(labels["train"])
    if found[-1] != len(found) - 1 or len(found) < 2 or labels["test"].max() > found[-1]:
        missing = [int(label) for label in np.setdiff1d(np.arange(len(found) + 5), found) if label < found[-1]]
        raise InputError(
            f"{path}: y_train must hold every class 0..C-1, C at least 2, and y_test no other; y_train goes up to "
            f"{found[-1]}, lacks {missing[:5]}, and y_test goes up to {labels['test'].max()}"
        )
    both = np.concatenate([labels["train"], labels["test"]])
    test = np.arange(len(labels["train"]), len(both))
    return _as_data_set(path.name, np.concatenate([images["train"], images["test"]]), both, test, augment=False)


def _read_npz(path: Path) -> dict[str, NDArray[Any]]:
    try:
        with open_regular(path, MAX_BYTES) as stream, zipfile.ZipFile(stream) as archive:
            held = [name.removesuffix(".npy") for name in archive.namelist()]
            missing = [name for name in NAMES if name not in held]
            if missing:
                raise InputError(f"{path} lacks {', '.join(missing)}; it holds {', '.join(held) or 'nothing':.200}")
            n_bytes = sum(_measure_array(archive, name) for name in NAMES)
            if n_bytes > MAX_BYTES:
                raise InputError(f"{path} unpacks to {n_bytes:,} bytes, and at most {MAX_BYTES:,} are read")
            return {name: _read_array(archive, name) for name in NAMES}
    except FileNotFoundError:
        raise InputError(f"there is no file {path}; {NPZ_HINT}") from None
    except InputError as error:
        raise InputError(f"{error}; {NPZ_HINT}") from None
    except DAMAGED as error:
        raise InputError(f"{path} is not a whole .npz file of plain arrays ({error!s:.200}); {NPZ_HINT}") from None


def _measure_array(archive: zipfile.ZipFile, name: str) -> int:
    """The bytes that an array takes by its own header, which numpy believes: it allocates before it reads."""
    with archive.open(f"{name}.npy") as member:
        read_header = npy.read_array_header_1_0 if npy.read_magic(member) == (1, 0) else npy.read_array_header_2_0
        shape, _, dtype = read_header(member, MAX_HEADER)
        n_bytes, n_held = math.prod(shape) * dtype.itemsize, archive.getinfo(member.name).file_size - member.tell()
    if n_bytes != n_held and not dtype.hasobject:
        raise ValueError(f"{name} has {n_held:,} bytes, its header says {n_bytes:,}")
    return n_bytes


def _read_array(archive: zipfile.ZipFile, name: str) -> NDArray[Any]:
    with archive.open(f"{name}.npy") as member:
        array: NDArray[Any] = npy.read_array(member, allow_pickle=False)
        return array


def _check_images(path: Path, part: str, images: NDArray[Any]) -> NDArray[Any]:
    """Images as (n, channels, height, width), uint8 or float32."""
    if images.ndim == 4 and images.shape[-1] in (1, 3) and images.shape[1] not in (1, 3):
        images = images.transpose(0, 3, 1, 2)
    if images.ndim == 3:
        images = images[:, None]
    if images.ndim != 4 or 0 in images.shape or images.dtype.kind not in "uif":
        raise InputError(
            f"{path}: x_{part} has shape {images.shape} and type {images.dtype}, expected numbers of shape (n, height, "
            "width), (n, channels, height, width) or (n, height, width, 1 or 3)"
        )
    if images.dtype == np.uint8:
        return images
    with np.errstate(over="ignore"):
        images = images.astype(np.float32)
    if not np.isfinite(images).all():
        raise InputError(f"{path}: x_{part} holds values that are not finite; clean or drop those images")
    return images


def _check_labels(path: Path, part: str, labels: NDArray[Any], n_images: int) -> NDArray[np.int64]:
    labels = labels[:, 0] if labels.ndim == 2 and labels.shape[1] == 1 else labels
    if labels.shape != (n_images,) or labels.dtype.kind not in "ui" or labels.min() < 0 or labels.max() >= 2**31:
        raise InputError(
            f"{path}: y_{part} has shape {labels.shape} and type {labels.dtype}, expected ({n_images},) whole numbers "
            "from 0, one for each image"
        )
    return labels.astype(np.int64)


def _as_data_set(
    name: str,
    images: NDArray[Any],
    labels: NDArray[np.int64],
    test: NDArray[np.int64],
    *,
    augment: bool,
    n_classes: int | None = None,
) -> DataSet:
    images = np.ascontiguousarray(images)
    digest = hashlib.sha256(images.data)
    digest.update(labels.data)
    return DataSet(name, images, labels, n_classes or int(labels.max()) + 1, test, augment, digest.hexdigest())
