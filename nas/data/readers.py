"""Data sets from files of a user or a package, checked."""

import gzip
import math
import zlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nas.data.data_set import DataSet, make_data_set
from nas.data.image_archives import PUBLISHED, read_published
from nas.data.npz import LAYOUT, make_checked, read_npz
from nas.records.safe_files import open_regular
from search_spaces.errors import InputError
from search_spaces.plugins import Origin, Plugins, load_plugins

DATA_SETS = ("digits", "fashion-mnist", "cifar-10", "cifar-100", "svhn", "npz")
FASHION_MNIST_FOLDER = Path("/usr/share/datasets/fashion-mnist")  # where Debian's package puts it
FASHION_MNIST_HINT = (
    "get it by `apt-get install dataset-fashion-mnist`, or give the folder of its four idx files (.gz or "
    "unpacked) by --data FOLDER"
)
DIGITS_FILE = Path(__file__).with_name("digits.npz")  # images, their labels, and which of them are the test's
IDX_UINT8 = 0x08
MAX_BYTES = 5 * 10**9  # of a file, and of its arrays: ImageNet at 32x32 has 4.1; a file of 5 MB can unpack to that much


def load_data(name: str, path: str | None) -> DataSet:
    """Load a data set by its command-line name.

    Args:
        name: one of DATA_SETS, or that of another package's reader.
        path: folder of fashion-mnist (None: that of Debian's package), cifar-10, cifar-100 or svhn; file of npz;
            unused by digits; what another package's reader expects.

    Raises:
        InputError: a file is missing, truncated or of the wrong shape; or there is no such reader, or it is broken.
    """
    match name:
        case "digits":
            return _load_digits()
        case "fashion-mnist":
            return _load_fashion_mnist(Path(path) if path else FASHION_MNIST_FOLDER)
        case "cifar-10" | "cifar-100" | "svhn":
            return _load_published(name, path)
        case "npz":
            return read_npz(Path(path or ""), MAX_BYTES)
    plugins = load_readers()
    reader: Callable[[Path | None], DataSet] | None = plugins.find(name)
    if reader is None:
        *first, last = (*DATA_SETS, *plugins.objects)
        raise InputError(f"there is no data set {name!r}; there are {', '.join(first)} and {last}")
    return reader(Path(path) if path else None)


def load_readers() -> Plugins:
    """Load the readers of other packages, without a warning of those that cannot be used."""
    return load_plugins("readers", frozenset(DATA_SETS), make_reader)


def make_reader(name: str, loaded: Any, origin: Origin) -> Callable[[Path | None], DataSet]:
    """Return the reader of an entry point, whose data are checked and whose errors name its package.

    Args:
        name: name of the entry point, and of the data set.
        loaded: a function of the path given by --data, or None where none is given. It returns x_train, y_train, x_test
            and y_test, as an .npz file has them; or a DataSet from make_data_set.
        origin: package that brings it.

    Raises:
        InputError: it is no function.
    """
    if not callable(loaded):
        raise InputError(f"it is {loaded!r:.80}, no function; repair the package")
    about = f"reader {name!r} of {origin}"

    def read(path: Path | None) -> DataSet:
        try:
            given = loaded(path)
        except Exception as error:
            failed = f"{about} failed on --data {path}: {type(error).__name__}: {error}"
            raise InputError(f"{failed}; give other data, or repair the package") from error
        if isinstance(given, DataSet):
            _check_data_set(about, given)
            return replace(given, name=name)
        arrays = tuple(given) if isinstance(given, tuple | list) else ()
        if len(arrays) != 4:
            raise InputError(f"{about} gave {given!r:.80}, expected x_train, y_train, x_test and y_test, or a DataSet")
        names = ("x_train", "y_train", "x_test", "y_test")
        return make_checked(name, about, {each: np.asarray(a) for each, a in zip(names, arrays, strict=True)})

    return read


def _check_data_set(about: str, data: DataSet) -> None:
    is_test = np.zeros(len(data.labels), dtype=bool)
    is_test[data.test] = True
    parts = {"x_train": data.images[~is_test], "y_train": data.labels[~is_test]}
    parts |= {"x_test": data.images[is_test], "y_test": data.labels[is_test], LAYOUT: np.array("NCHW")}
    make_checked(data.name, about, parts)


def _load_digits() -> DataSet:
    """Load the digits of scikit-learn, from a copy: loading scikit-learn takes a second.

    Optical Recognition of Handwritten Digits (Alpaydin and Kaynak, UCI Machine Learning Repository, CC BY 4.0).
    """
    with np.load(DIGITS_FILE, allow_pickle=False) as arrays:
        images, labels = arrays["images"][:, None], arrays["labels"].astype(np.int64)
        # One fixed fifth, independent of all seeds: no training or selection ever sees it.
        test = arrays["test"].astype(np.int64)
    return make_data_set("digits", images, labels, test, augment=False)


def _load_fashion_mnist(folder: Path) -> DataSet:
    parts = [
        (
            _read_idx(folder, f"{part}-images-idx3-ubyte", (n, 28, 28)),
            _read_idx(folder, f"{part}-labels-idx1-ubyte", (n,)),
        )
        for part, n in (("train", 60_000), ("t10k", 10_000))
    ]
    for part, (_, labels) in zip(("train", "t10k"), parts, strict=True):
        if labels.max() > 9:
            file = folder / f"{part}-labels-idx1-ubyte"
            raise InputError(f"{file}: a label is {labels.max()}, expected 0..9; {FASHION_MNIST_HINT}")
    all_images = np.concatenate([images for images, _ in parts])[:, None]
    all_labels = np.concatenate([labels for _, labels in parts]).astype(np.int64)
    return make_data_set("fashion-mnist", all_images, all_labels, np.arange(60_000, 70_000), augment=True)


def _read_idx(folder: Path, name: str, shape: tuple[int, ...]) -> NDArray[np.uint8]:
    """Read an idx file of bytes (http://yann.lecun.com/exdb/mnist): magic of 4 bytes, big-endian lengths, values."""
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
    file_shape = tuple(int(length) for length in header)
    if content[:4] != bytes([0, 0, IDX_UINT8, len(shape)]) or file_shape != shape:
        raise InputError(
            f"{path}: expected an idx file of bytes of shape {shape}, found magic {content[:4].hex()!r} and shape "
            f"{file_shape}; {FASHION_MNIST_HINT}"
        )
    n_found = len(content) - n_header
    if n_found != n_expected:
        found_bytes = f"{n_found} or more" if n_found > n_expected else n_found
        raise InputError(
            f"{path}: expected {n_expected} bytes after the header, found {found_bytes}; {FASHION_MNIST_HINT}"
        )
    return np.frombuffer(content, dtype=np.uint8, offset=n_header).reshape(shape)


def _load_published(name: str, path: str | None) -> DataSet:
    examples, published = read_published(name, path, MAX_BYTES), PUBLISHED[name]
    # A subset may lack a class, but the number of the network's outputs is fixed.
    return make_data_set(name, *examples, augment=published.augment, n_classes=published.n_classes)
