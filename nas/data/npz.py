"""Data sets from .npz files, checked."""

import lzma
import math
import tokenize
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from nas.data.data_set import DataSet, make_data_set
from nas.records.safe_files import open_regular
from search_spaces.errors import InputError

NPZ_HINT = "write it by numpy.savez(FILE, x_train=..., y_train=..., x_test=..., y_test=...)"
# The arrays of images and labels of each part; validation images are optional.
PLAIN = {"train": ("x_train", "y_train"), "val": ("x_val", "y_val"), "test": ("x_test", "y_test")}
MEDMNIST = {part: (f"{part}_images", f"{part}_labels") for part in PLAIN}  # arXiv:2110.14795
LAYOUT, LAYOUTS = "layout", ("NCHW", "NHWC")  # place of the channels, for shapes that do not show it
RENUMBER = "numpy.unique(labels, return_inverse=True)[1], of all parts' labels together, numbers any classes from 0"
LARGEST = 1e18  # value of an image: squares of larger ones are not finite in float32
MAX_SAMPLED = 10**6  # values of an array that its spread is estimated from
MAX_COMPARED = 5 * 10**8  # bytes of images that are compared with each other
MOST_USUAL = 4  # channels: red, green, blue and opacity
SCALES, NEGATIVE = 3.0, 0.05  # see _check_scale
MAX_HEADER = 1000  # bytes of an array's header; numpy writes about 100
# What zipfile and numpy raise for a damaged or made-up file; RuntimeError for an encrypted one or nested brackets.
DAMAGED = (
    OSError, ValueError, EOFError, KeyError, NotImplementedError, RuntimeError, OverflowError, TypeError,
    zipfile.BadZipFile, zlib.error, lzma.LZMAError, tokenize.TokenError,
)  # fmt: skip


def read_npz(path: Path, max_bytes: int) -> DataSet:
    """Read a data set of one's own, or one of MedMNIST, from an .npz file.

    Args:
        path: the file.
        max_bytes: most bytes of the file, and of its arrays.

    Raises:
        InputError: the file is missing or damaged, or its arrays cannot be used.
    """
    arrays, unread = _read_arrays(path, max_bytes)
    data = make_checked(path.name, path, arrays)
    return replace(data, remarks=(*data.remarks, f"not read of the file: {', '.join(unread):.200}")) if unread else data


def make_checked(name: str, source: object, arrays: Mapping[str, NDArray[Any]]) -> DataSet:
    """Return the data set of arrays of images and labels, by the names that an .npz file has.

    Args:
        name: its name.
        source: where the arrays come from, for messages.
        arrays: arrays by name: x_train, y_train, x_test and y_test, or those of MedMNIST; others have no meaning.

    Raises:
        InputError: the arrays cannot be used.
    """
    forms = PLAIN if "x_train" in arrays else MEDMNIST
    parts = {part: names for part, names in forms.items() if names[0] in arrays}
    layout = read_layout(source, arrays)
    images, labels = {}, {}
    for part, (x, y) in parts.items():
        images[part] = check_images(source, x, arrays[x], layout)
        labels[part] = _check_labels(source, y, arrays[y], len(images[part]))
        check_alike(source, (parts["train"][0], images["train"]), (x, images[part]))
        _check_scale(source, (parts["train"][0], arrays[parts["train"][0]]), (x, arrays[x]))
    learned = np.concatenate([labels[part] for part in parts if part != "test"])
    _check_classes(source, parts, learned, labels["test"])
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
    return replace(make_data_set(name, together, both, test, augment=False), remarks=tuple(remarks))


def _read_arrays(path: Path, max_bytes: int) -> tuple[dict[str, NDArray[Any]], list[str]]:
    """Read the arrays of a file that have a meaning here; return them by name, and the names of the others."""

    def choose(names: list[str]) -> list[str]:
        is_plain, is_medmnist = (
            any(name in names for arrays in forms.values() for name in arrays) for forms in (PLAIN, MEDMNIST)
        )
        forms = MEDMNIST if is_medmnist and not is_plain else PLAIN
        return [name for part, arrays in forms.items() for name in arrays if part != "val" or arrays[0] in names]

    return read_arrays(path, max_bytes, choose, (LAYOUT,), NPZ_HINT)


def read_arrays(
    path: Path, max_bytes: int, choose: Callable[[list[str]], list[str]], optional: Sequence[str], hint: str
) -> tuple[dict[str, NDArray[Any]], list[str]]:
    """Read some arrays of an .npz file that may be a stranger's.

    Args:
        path: the file.
        max_bytes: most bytes of the file, and of the arrays that are read.
        choose: function of the names in the file that gives the names of the arrays that must be there.
        optional: names of arrays that are read where they are there.
        hint: what to do about a file that cannot be used.

    Returns:
        The arrays by name, and the names of those that were not read.

    Raises:
        InputError: the file is missing or damaged, too large, or lacks an array.
    """
    try:
        with open_regular(path, max_bytes) as stream, zipfile.ZipFile(stream) as archive:
            names = [name.removesuffix(".npy") for name in archive.namelist()]
            needed = choose(names)
            missing = [name for name in needed if name not in names]
            if missing:
                raise InputError(f"{path} lacks {', '.join(missing)}; it has {', '.join(names) or 'nothing':.200}")
            known = [*needed, *(name for name in optional if name in names)]
            n_bytes = sum(_measure_array(archive, name) for name in known)
            if n_bytes > max_bytes:
                raise InputError(f"{path} unpacks to {n_bytes:,} bytes, and at most {max_bytes:,} are read")
            unread = [name for name in names if name not in known]
            return {name: _read_array(archive, name) for name in known}, unread
    except FileNotFoundError:
        raise InputError(f"there is no file {path}; {hint}") from None
    except InputError as error:
        raise InputError(f"{error}; {hint}") from None
    except DAMAGED as error:
        raise InputError(f"{path} is not a whole .npz file of plain arrays ({error!s:.200}); {hint}") from None


def _measure_array(archive: zipfile.ZipFile, name: str) -> int:
    """Return the bytes of an array by its header, which numpy trusts: it allocates before it reads."""
    with archive.open(f"{name}.npy") as member:
        read_header = npy.read_array_header_1_0 if npy.read_magic(member) == (1, 0) else npy.read_array_header_2_0
        shape, _, dtype = read_header(member, MAX_HEADER)
        n_bytes, n_stored = math.prod(shape) * dtype.itemsize, archive.getinfo(member.name).file_size - member.tell()
    if n_bytes != n_stored and not dtype.hasobject:
        raise ValueError(f"{name} has {n_stored:,} bytes, its header says {n_bytes:,}")
    return n_bytes


def _read_array(archive: zipfile.ZipFile, name: str) -> NDArray[Any]:
    with archive.open(f"{name}.npy") as member:
        array: NDArray[Any] = npy.read_array(member, allow_pickle=False)
        return array


def read_layout(source: object, arrays: Mapping[str, NDArray[Any]]) -> str | None:
    """Return what a file says of the place of the channels; None where it says nothing.

    Raises:
        InputError: it says something else.
    """
    if LAYOUT not in arrays:
        return None
    layout = str(arrays[LAYOUT])
    if layout not in LAYOUTS:
        raise InputError(f"{source}: {LAYOUT} is {layout!r:.80}, expected one of {', '.join(LAYOUTS)}")
    return layout


def check_images(source: object, name: str, images: NDArray[Any], layout: str | None) -> NDArray[Any]:
    """Return images as (n, channels, height, width), uint8 or float32.

    Raises:
        InputError: they are of another shape or type, or their shape does not show where the channels are.
    """
    if images.ndim not in (3, 4) or 0 in images.shape or images.dtype.kind not in "uif":
        raise InputError(
            f"{source}: {name} has shape {images.shape} and type {images.dtype}, expected numbers of shape (n, height, "
            "width), (n, channels, height, width) or (n, height, width, channels)"
        )
    if images.ndim == 3:
        images = images[:, None]
    else:
        layout = layout or _find_layout(*images.shape[1:])
        if layout is None:
            raise InputError(
                f"{source}: {name} has shape {images.shape}, which may be (n, channels, height, width) or (n, height, "
                f'width, channels): say which by one more array in the file, {LAYOUT}="NCHW" for the former, '
                f'{LAYOUT}="NHWC" for the latter'
            )
        images = images.transpose(0, 3, 1, 2) if layout == "NHWC" else images
    if images.dtype == np.uint8:
        return images
    with np.errstate(over="ignore"):
        images = images.astype(np.float32)
    if not np.isfinite(images).all():
        raise InputError(f"{source}: {name} contains values that are not finite; clean or drop those images")
    largest = float(np.abs(images).max())
    if largest > LARGEST:
        raise InputError(f"{source}: {name} contains {largest:g}, beyond what can be computed with: scale the images")
    return images


def _find_layout(first: int, second: int, third: int) -> str | None:
    """Return which axis of an image has its channels, by signs for only one of the two; None: unclear.

    >>> _find_layout(8, 8, 4), _find_layout(3, 32, 48), _find_layout(4, 8, 4)
    ('NHWC', 'NCHW', None)
    """
    signs = {"NCHW": _look_like_images(first, second, third), "NHWC": _look_like_images(third, first, second)}
    supported = {
        layout
        for both in zip(*signs.values(), strict=True)
        for layout, sign in zip(signs, both, strict=True)
        if sign and not all(both)
    }
    n_channels = {"NCHW": first, "NHWC": third}
    if len(supported) != 1:
        return None
    (layout,) = supported
    # 4 x 4 x 16 may be sixteen channels of 4 x 4, but few images have more than four.
    is_odd = n_channels[layout] > MOST_USUAL >= min(n_channels.values())
    return None if is_odd else layout


def _look_like_images(channels: int, height: int, width: int) -> tuple[bool, bool, bool]:
    """Return signs of a right reading: a square; grey or RGB; sides much longer than the number of channels."""
    side = min(height, width)
    return height == width, channels in (1, 3) and channels <= side, 2 * channels <= side


def check_alike(source: object, first: tuple[str, NDArray[Any]], other: tuple[str, NDArray[Any]]) -> None:
    """Check that the images of two parts, each with its name, have one shape.

    Raises:
        InputError: with both shapes.
    """
    if first[1].shape[1:] != other[1].shape[1:]:
        raise InputError(
            f"{source}: images of {first[0]} are {first[1].shape[1:]} and of {other[0]} {other[1].shape[1:]}: they "
            "must be alike"
        )


def _check_scale(source: object, first: tuple[str, NDArray[Any]], other: tuple[str, NDArray[Any]]) -> None:
    """Refuse images that were not scaled like the training images: measurements on them would mean nothing.

    Two parts of one set may differ. Refused are another kind of numbers, ranges that do not overlap, both range and
    spread SCALES times as large, or negative numbers in only one of them.
    """
    train, part = (_Range.of(array) for _, array in (first, other))
    for name, values, purpose in ((first[0], train, "learn from"), (other[0], part, "measure on")):
        if values.low == values.high:
            raise InputError(f"{source}: every value of {name} is {values.low:g}: there is nothing to {purpose}")
    ratios = [_ratio(train.high - train.low, part.high - part.low), _ratio(train.deviation, part.deviation)]
    is_whole = [array.dtype.kind in "ui" for _, array in (first, other)]
    is_apart = part.low > train.high or part.high < train.low
    is_signed = any(a.negative > NEGATIVE and b.low >= 0 and b.high > b.low for a, b in ((train, part), (part, train)))
    if is_whole[0] != is_whole[1] or is_apart or is_signed or min(ratios) > SCALES:
        both = " and ".join(
            f"{name} has {array.dtype} from {values.low:g} to {values.high:g}"
            for (name, array), values in ((first, train), (other, part))
        )
        raise InputError(f"{source}: {both}: they were not scaled alike; store both in the same type and scale")


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
        sample = flat[np.random.default_rng(0).integers(0, flat.size, min(flat.size, MAX_SAMPLED))].astype(np.float64)
        return cls(float(flat.min()), float(flat.max()), float(sample.std()), float((sample < 0).mean()))


def _ratio(first: float, other: float) -> float:
    """Return the larger over the smaller; 1 if one is 0."""
    return max(first, other) / min(first, other) if min(first, other) > 0 else 1.0


def _check_labels(source: object, name: str, labels: NDArray[Any], n_images: int) -> NDArray[np.int64]:
    labels = labels[:, 0] if labels.ndim == 2 and labels.shape[1] == 1 else labels
    fault = _find_fault(labels, n_images)
    if fault is not None:
        raise InputError(
            f"{source}: {name} has shape {labels.shape} and type {labels.dtype}, expected ({n_images},) whole numbers "
            f"from 0, one for each image{fault}"
        )
    return labels.astype(np.int64)


def _find_fault(labels: NDArray[Any], n_images: int) -> str | None:
    """Return what to do about labels that cannot be used; None if they can."""
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
    source: object, parts: Mapping[str, tuple[str, str]], learned: NDArray[np.int64], test: NDArray[np.int64]
) -> None:
    classes = np.unique(learned)
    if classes[-1] == len(classes) - 1 and len(classes) >= 2 and test.max() <= classes[-1]:
        return
    missing = [int(label) for label in np.setdiff1d(np.arange(len(classes) + 6), classes) if label < classes[-1]]
    y_train, y_test = parts["train"][1], parts["test"][1]
    if missing:
        lacks, remedy = f", lacks {missing[:5]}{' and more' if len(missing) > 5 else ''}", RENUMBER
    elif len(classes) < 2:
        lacks, remedy = "", "give images of another class too"
    else:
        lacks, remedy = "", f"drop the images of classes that {y_train} lacks, or give such to train on"
    raise InputError(
        f"{source}: {y_train} must have every class 0..C-1, C at least 2, and {y_test} no other; {y_train} goes up to "
        f"{classes[-1]}{lacks}, and {y_test} goes up to {test.max()}; {remedy}"
    )


def _iterate_remarks(images: NDArray[Any], labels: NDArray[np.int64], test: NDArray[np.int64]) -> Iterator[str]:
    """Yield remarks on data that can be used, but that a user should know about first."""
    n_train = len(labels) - len(test)
    known = {image.tobytes() for image in images[:n_train]} if images.nbytes <= MAX_COMPARED else set()
    n_known = sum(image.tobytes() in known for image in images[test])
    if n_known:
        yield f"{n_known:,} of the {len(test):,} test images are among the other images too: test accuracy will flatter"
    untested = np.setdiff1d(labels[:n_train], labels[test])
    if len(untested):
        yield f"no test image is of class {', '.join(map(str, untested[:10]))}"
