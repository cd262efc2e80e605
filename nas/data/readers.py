"""Files of a user's, or a package's -> data set, checked."""

import gzip
import hashlib
import lzma
import math
import tokenize
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from nas.data.data_set import DataSet
from nas.data.image_archives import PUBLISHED, read_published
from nas.records.safe_files import open_regular
from search_spaces.errors import InputError

FASHION_MNIST_FOLDER = Path("/usr/share/datasets/fashion-mnist")  # where Debian's package puts it
FASHION_MNIST_HINT = (
    "get it by `apt-get install dataset-fashion-mnist`, or give the folder that holds its four idx files (.gz or "
    "unpacked) by --data FOLDER"
)
NPZ_HINT = "write it by numpy.savez(FILE, x_train=..., y_train=..., x_test=..., y_test=...)"
IDX_UINT8 = 0x08
MAX_BYTES = 2 * 10**9  # of a file, and of its arrays: ten times CIFAR-10; a file of 2 MB can unpack to so much
# The arrays of images and labels of each part. Of validation images there may be none.
PLAIN = {"train": ("x_train", "y_train"), "val": ("x_val", "y_val"), "test": ("x_test", "y_test")}
MEDMNIST = {part: (f"{part}_images", f"{part}_labels") for part in PLAIN}  # arXiv:2110.14795
LAYOUT, LAYOUTS = "layout", ("NCHW", "NHWC")  # where the channels are, for shapes that do not show it
RENUMBER = "numpy.unique(labels, return_inverse=True)[1], of all parts' labels together, numbers any classes from 0"
LARGEST = 1e18  # of images: their squares are finite in float32
MAX_SAMPLED = 10**6  # values of an array, to find its spread by
MAX_COMPARED = 5 * 10**8  # bytes of images that are compared with each other
MOST_USUAL = 4  # channels: red, green, blue and opacity
SCALES, NEGATIVE = 3.0, 0.05  # see _check_scale
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
    arrays, unread = _read_npz(path)
    forms = PLAIN if "x_train" in arrays else MEDMNIST
    parts = {part: names for part, names in forms.items() if names[0] in arrays}
    layout = _read_layout(path, arrays)
    images, labels = {}, {}
    for part, (x, y) in parts.items():
        images[part] = _check_images(path, x, arrays[x], layout)
        labels[part] = _check_labels(path, y, arrays[y], len(images[part]))
        _check_alike(path, (parts["train"][0], images["train"]), (x, images[part]))
        _check_scale(path, (parts["train"][0], arrays[parts["train"][0]]), (x, arrays[x]))
    learned = np.concatenate([labels[part] for part in parts if part != "test"])
    _check_classes(path, parts, learned, labels["test"])
    order = [*(part for part in parts if part != "test"), "test"]
    both = np.concatenate([labels[part] for part in order])
    test = np.arange(len(learned), len(both))
    together = np.concatenate([images[part] for part in order])
    remarks = list(_iterate_remarks(together, both, test))
    if "val" in parts:
        remarks.append(
            f"the {len(labels['val']):,} images of {parts['val'][0]} join those of {parts['train'][0]}: each seed "
            "draws its validation images from all of them"
        )
    if unread:
        remarks.append(f"not read of the file: {', '.join(unread):.200}")
    found = _as_data_set(path.name, together, both, test, augment=False)
    return replace(found, remarks=tuple(remarks))


def _read_npz(path: Path) -> tuple[dict[str, NDArray[Any]], list[str]]:
    """The arrays of a file that have a meaning here, by name, and the names of the others."""
    try:
        with open_regular(path, MAX_BYTES) as stream, zipfile.ZipFile(stream) as archive:
            held = [name.removesuffix(".npy") for name in archive.namelist()]
            forms = PLAIN if any(name in held for names in PLAIN.values() for name in names) else MEDMNIST
            forms = forms if any(name in held for names in forms.values() for name in names) else PLAIN
            needed = [name for part, names in forms.items() for name in names if part != "val" or names[0] in held]
            missing = [name for name in needed if name not in held]
            if missing:
                raise InputError(f"{path} lacks {', '.join(missing)}; it holds {', '.join(held) or 'nothing':.200}")
            known = [*needed, *([LAYOUT] if LAYOUT in held else [])]
            n_bytes = sum(_measure_array(archive, name) for name in known)
            if n_bytes > MAX_BYTES:
                raise InputError(f"{path} unpacks to {n_bytes:,} bytes, and at most {MAX_BYTES:,} are read")
            unread = [name for name in held if name not in known]
            return {name: _read_array(archive, name) for name in known}, unread
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


def _read_layout(path: Path, arrays: Mapping[str, NDArray[Any]]) -> str | None:
    if LAYOUT not in arrays:
        return None
    given = str(arrays[LAYOUT])
    if given not in LAYOUTS:
        raise InputError(f"{path}: {LAYOUT} is {given!r:.80}, expected one of {', '.join(LAYOUTS)}")
    return given


def _check_images(path: Path, name: str, images: NDArray[Any], layout: str | None) -> NDArray[Any]:
    """Images as (n, channels, height, width), uint8 or float32."""
    if images.ndim not in (3, 4) or 0 in images.shape or images.dtype.kind not in "uif":
        raise InputError(
            f"{path}: {name} has shape {images.shape} and type {images.dtype}, expected numbers of shape (n, height, "
            "width), (n, channels, height, width) or (n, height, width, channels)"
        )
    if images.ndim == 3:
        images = images[:, None]
    else:
        layout = layout or _find_layout(*images.shape[1:])
        if layout is None:
            raise InputError(
                f"{path}: {name} has shape {images.shape}, which may be (n, channels, height, width) or (n, height, "
                f'width, channels): say which by one more array in the file, {LAYOUT}="NCHW" for the former, '
                f'{LAYOUT}="NHWC" for the latter'
            )
        images = images.transpose(0, 3, 1, 2) if layout == "NHWC" else images
    if images.dtype == np.uint8:
        return images
    with np.errstate(over="ignore"):
        images = images.astype(np.float32)
    if not np.isfinite(images).all():
        raise InputError(f"{path}: {name} holds values that are not finite; clean or drop those images")
    largest = float(np.abs(images).max())
    if largest > LARGEST:
        raise InputError(f"{path}: {name} holds {largest:g}, beyond what can be computed with: scale the images")
    return images


def _find_layout(first: int, second: int, third: int) -> str | None:
    """Return which axis of an image holds its channels, by signs for one end and none for the other; None: unclear.

    >>> _find_layout(8, 8, 4), _find_layout(3, 32, 48), _find_layout(4, 8, 4)
    ('NHWC', 'NCHW', None)
    """
    signs = {"NCHW": _look_like_images(first, second, third), "NHWC": _look_like_images(third, first, second)}
    spoken_for = {
        name
        for both in zip(*signs.values(), strict=True)
        for name, sign in zip(signs, both, strict=True)
        if sign and not all(both)
    }
    n_channels = {"NCHW": first, "NHWC": third}
    if len(spoken_for) != 1:
        return None
    (found,) = spoken_for
    # 4 x 4 x 16 may be sixteen channels of 4 x 4, but few images have more than four.
    is_odd = n_channels[found] > MOST_USUAL >= min(n_channels.values())
    return None if is_odd else found


def _look_like_images(channels: int, height: int, width: int) -> tuple[bool, bool, bool]:
    """Signs of the right reading: a square; grey or red, green and blue; sides much longer than there are channels."""
    side = min(height, width)
    return height == width, channels in (1, 3) and channels <= side, 2 * channels <= side


def _check_alike(path: Path, first: tuple[str, NDArray[Any]], other: tuple[str, NDArray[Any]]) -> None:
    if first[1].shape[1:] != other[1].shape[1:]:
        raise InputError(
            f"{path}: images of {first[0]} are {first[1].shape[1:]} and of {other[0]} {other[1].shape[1:]}: they must "
            "be alike"
        )


def _check_scale(path: Path, first: tuple[str, NDArray[Any]], other: tuple[str, NDArray[Any]]) -> None:
    """Refuse images that were not scaled as the training images: what is measured on them would say nothing.

    Two parts of one set may differ: what is refused is another kind of numbers, ranges that do not meet, both range and
    spread SCALES times as large, or negative numbers in one alone.
    """
    train, part = (_Range.of(array) for _, array in (first, other))
    for name, one, lacking in ((first[0], train, "learn from"), (other[0], part, "measure on")):
        if one.low == one.high:
            raise InputError(f"{path}: every value of {name} is {one.low:g}: there is nothing to {lacking}")
    ratios = [_ratio(train.high - train.low, part.high - part.low), _ratio(train.deviation, part.deviation)]
    is_whole = [array.dtype.kind in "ui" for _, array in (first, other)]
    is_apart = part.low > train.high or part.high < train.low
    is_signed = any(
        one.negative > NEGATIVE and two.low >= 0 and two.high > two.low for one, two in ((train, part), (part, train))
    )
    if is_whole[0] != is_whole[1] or is_apart or is_signed or min(ratios) > SCALES:
        said = " and ".join(
            f"{name} holds {array.dtype} from {one.low:g} to {one.high:g}"
            for (name, array), one in ((first, train), (other, part))
        )
        raise InputError(f"{path}: {said}: they were not scaled alike; store both in the same type and scale")


@dataclass(frozen=True, slots=True)
class _Range:
    """The range of an array's values, their standard deviation, and the share of negative ones."""

    low: float
    high: float
    deviation: float
    negative: float

    @classmethod
    def of(cls, array: NDArray[Any]) -> "_Range":
        flat = array.ravel(order="K")
        some = flat[np.random.default_rng(0).integers(0, flat.size, min(flat.size, MAX_SAMPLED))].astype(np.float64)
        return cls(float(flat.min()), float(flat.max()), float(some.std()), float((some < 0).mean()))


def _ratio(first: float, other: float) -> float:
    """The larger over the smaller; 1 where one is 0."""
    return max(first, other) / min(first, other) if min(first, other) > 0 else 1.0


def _check_labels(path: Path, name: str, labels: NDArray[Any], n_images: int) -> NDArray[np.int64]:
    labels = labels[:, 0] if labels.ndim == 2 and labels.shape[1] == 1 else labels
    said = _find_fault(labels, n_images)
    if said is not None:
        raise InputError(
            f"{path}: {name} has shape {labels.shape} and type {labels.dtype}, expected ({n_images},) whole numbers "
            f"from 0, one for each image{said}"
        )
    return labels.astype(np.int64)


def _find_fault(labels: NDArray[Any], n_images: int) -> str | None:
    """Say what to do about labels that cannot be used; None where they can."""
    if labels.ndim == 2 and len(labels) == n_images and labels.shape[1] > 1 and labels.dtype.kind in "buif":
        is_one_hot = ((labels == 0) | (labels == 1)).all() and (labels.sum(axis=1) == 1).all()
        if is_one_hot:
            return ": they are one-hot, give y.argmax(axis=1)"
        return ": they give an image several values, and a network here tells classes apart: choose one for each"
    if labels.shape != (n_images,):
        return ": the images' first axis must count them"
    if labels.dtype.kind not in "uif":
        return f": {RENUMBER}"
    broken = labels[~(np.isfinite(labels) & (labels == np.round(labels)))] if labels.dtype.kind == "f" else labels[:0]
    if len(broken):
        remedy = "round them if that is meant" if np.isfinite(broken).all() else "drop the images without a label"
        return f": {broken[:1].tolist()} is no whole number; {remedy}"
    if labels.min() < 0 or labels.max() >= 2**31:
        return f": they go from {labels.min()} to {labels.max()}; {RENUMBER}"
    return None


def _check_classes(
    path: Path, parts: Mapping[str, tuple[str, str]], learned: NDArray[np.int64], test: NDArray[np.int64]
) -> None:
    found = np.unique(learned)
    if found[-1] == len(found) - 1 and len(found) >= 2 and test.max() <= found[-1]:
        return
    missing = [int(label) for label in np.setdiff1d(np.arange(len(found) + 6), found) if label < found[-1]]
    y_train, y_test = parts["train"][1], parts["test"][1]
    if missing:
        lacks, remedy = f", lacks {missing[:5]}{' and more' if len(missing) > 5 else ''}", RENUMBER
    elif len(found) < 2:
        lacks, remedy = "", "give images of another class too"
    else:
        lacks, remedy = "", f"drop the images of classes that {y_train} lacks, or give such to train on"
    raise InputError(
        f"{path}: {y_train} must hold every class 0..C-1, C at least 2, and {y_test} no other; {y_train} goes up to "
        f"{found[-1]}{lacks}, and {y_test} goes up to {test.max()}; {remedy}"
    )


def _iterate_remarks(images: NDArray[Any], labels: NDArray[np.int64], test: NDArray[np.int64]) -> Iterator[str]:
    """What can be measured, and yet is worth knowing before it is."""
    n_train = len(labels) - len(test)
    known = {image.tobytes() for image in images[:n_train]} if images.nbytes <= MAX_COMPARED else set()
    n_known = sum(image.tobytes() in known for image in images[test])
    if n_known:
        yield f"{n_known:,} of the {len(test):,} test images are among the other images too: test accuracy will flatter"
    untested = np.setdiff1d(labels[:n_train], labels[test])
    if len(untested):
        yield f"no test image is of class {', '.join(map(str, untested[:10]))}"


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
