"""Data set -> tensors on the device, train/validation/test split."""

import gzip
import hashlib
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from search_spaces.errors import InputError
from search_spaces.sampling import derive_generator

FASHION_MNIST_FOLDER = Path("/usr/share/datasets/fashion-mnist")  # where Debian's package puts it
FASHION_MNIST_HINT = (
    "get it by `apt-get install dataset-fashion-mnist`, or give the folder that holds its four idx files (.gz or "
    "unpacked) by --data FOLDER"
)
NPZ_HINT = "write it by numpy.savez(FILE, x_train=..., y_train=..., x_test=..., y_test=...)"
IDX_UINT8 = 0x08
DAMAGED_ZIP = (zipfile.BadZipFile, zlib.error)
CROP_PADDING = 4


@dataclass(frozen=True, slots=True, eq=False)
class DataSet:
    """A labelled image set on the host, shared by all trainings.

    Args:
        name: as on the command line.
        images: (n, channels, height, width), uint8 or float32.
        labels: (n,) int64 in 0..classes-1.
        n_classes: number of classes.
        test: (n_test,) indices of the test examples: they depend on the data alone.
        augment: whether the set's practice is to crop and flip training images.
        sha256: of images and labels.
    """

    name: str
    images: NDArray[Any]
    labels: NDArray[np.int64]
    n_classes: int
    test: NDArray[np.int64]
    augment: bool
    sha256: str

    @property
    def image(self) -> tuple[int, int, int]:
        """Channels, height, width of one image."""
        channels, height, width = self.images.shape[1:]
        return channels, height, width


@dataclass(frozen=True, slots=True, eq=False)
class Split:
    """The training and validation examples of one seed, on the device.

    Args:
        train_images, validation_images: (n, channels, height, width) float32, each channel with mean 0 and variance 1
            over the training images.
        train_labels, validation_labels: (n,) int64.
        augment: whether training images are to be cropped and flipped.
    """

    train_images: Tensor
    train_labels: Tensor
    validation_images: Tensor
    validation_labels: Tensor
    augment: bool


def load_data(name: str, path: str | None) -> DataSet:
    """Load a data set by its command-line name.

    Args:
        name: digits, fashion-mnist or npz.
        path: folder of fashion-mnist, default that of Debian's package; file of npz; unused by digits.

    Raises:
        InputError: a file is missing, truncated or of the wrong shape: which, what was expected, what was found.
    """
    match name:
        case "digits":
            return _load_digits()
        case "fashion-mnist":
            return _load_fashion_mnist(Path(path) if path else FASHION_MNIST_FOLDER)
        case "npz":
            return _load_npz(Path(path or ""))
    raise InputError(f"there is no data set {name!r}; there are digits, fashion-mnist and npz")


def split_data(data: DataSet, seed: int, train_examples: int | None, device: str) -> Split:
    """Training and validation examples, disjoint, stratified by class, fixed by data and seed.

    Validation holds a tenth of what is not test, but at least 500 and at most a third.

    Raises:
        InputError: more train_examples than there are, or classes too small to be in every part.
    """
    train, validation = _split_indices(data, seed, train_examples)
    images = data.images[train].astype(np.float32)
    mean = images.mean(axis=(0, 2, 3), keepdims=True, dtype=np.float64).astype(np.float32)
    deviation = images.std(axis=(0, 2, 3), keepdims=True, dtype=np.float64).astype(np.float32)
    scale = np.where(deviation > 0, deviation, 1)

    def place(array: NDArray[Any]) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(array)).to(device)

    return Split(
        train_images=place((images - mean) / scale),
        train_labels=place(data.labels[train]),
        validation_images=place((data.images[validation].astype(np.float32) - mean) / scale),
        validation_labels=place(data.labels[validation]),
        augment=data.augment,
    )


def check_split(data: DataSet, seeds: int, train_examples: int | None) -> tuple[int, int]:
    """Numbers of training and validation examples, after making sure that each seed's split exists.

    Raises:
        InputError: see split_data.
    """
    for seed in range(seeds):
        train, validation = _split_indices(data, seed, train_examples)
    return len(train), len(validation)


def _count_split(data: DataSet, train_examples: int | None) -> tuple[int, int]:
    n_rest = len(data.labels) - len(data.test)
    n_validation = min(n_rest // 3, max(500, n_rest // 10))
    n_train = n_rest - n_validation
    if train_examples is not None and train_examples > n_train:
        raise InputError(
            f"--train-examples {train_examples} asks for more than the {n_train} that {data.name} has beside "
            f"{n_validation} for validation and {len(data.test)} for test"
        )
    return train_examples or n_train, n_validation


def _split_indices(data: DataSet, seed: int, train_examples: int | None) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    n_train, n_validation = _count_split(data, train_examples)
    rest = np.setdiff1d(np.arange(len(data.labels)), data.test)
    classes = np.unique(data.labels[rest])
    validation = _choose(data, rest, n_validation, derive_generator(seed, "validation"))
    rest = np.setdiff1d(rest, validation)
    train = rest if n_train == len(rest) else _choose(data, rest, n_train, derive_generator(seed, "train"))
    for part in (train, validation):
        missing = np.setdiff1d(classes, data.labels[part])
        if len(missing):
            raise InputError(
                f"{data.name} cannot be split with every class in every part: {n_train} training or {n_validation} "
                f"validation examples lack class {missing[0]}; give more of each class, or more --train-examples"
            )
    return train, validation


def _choose(data: DataSet, indices: NDArray[np.int64], n: int, generator: np.random.Generator) -> NDArray[np.int64]:
    """n of the indices, sorted, each class in proportion: its quota rounded by largest remainders."""
    counts = np.bincount(data.labels[indices], minlength=data.n_classes)
    quotas = n * counts / len(indices)
    chosen = np.floor(quotas).astype(np.int64)
    largest = np.argsort(chosen - quotas, kind="stable")[: n - chosen.sum()]
    chosen[largest] += 1
    shuffled = generator.permutation(indices)
    parts = [shuffled[data.labels[shuffled] == label][:k] for label, k in enumerate(chosen)]
    return np.sort(np.concatenate(parts))


def augment_images(images: Tensor, generator: torch.Generator) -> Tensor:
    """Crop each image at random from itself padded by 4 zeros a side, and flip half of them left to right.

    Args:
        images: (n, channels, height, width).
        generator: on the CPU, so that the draws are the same on every device.

    Returns:
        New images of the same shape.
    """
    n, _, height, width = images.shape
    shifts = torch.randint(0, 2 * CROP_PADDING + 1, (2, n), generator=generator).to(images.device)
    flips = (torch.rand(n, generator=generator) < 0.5).to(images.device)
    padded = torch.nn.functional.pad(images, [CROP_PADDING] * 4)
    rows = shifts[0][:, None] + torch.arange(height, device=images.device)  # (n, height)
    columns = torch.arange(width, device=images.device).expand(n, width)
    columns = shifts[1][:, None] + torch.where(flips[:, None], columns.flip(1), columns)  # (n, width)
    index = torch.arange(n, device=images.device)[:, None, None]
    # Indexing by (n, height, width) moves the sliced channels to the end.
    return padded.permute(0, 2, 3, 1)[index, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2).contiguous()


# --- readers -----------------------------------------------------------------------------------------------------


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
    path = next((path for path in (folder / f"{name}.gz", folder / name) if path.exists()), None)
    if path is None:
        raise InputError(f"{folder / name}.gz is missing; {FASHION_MNIST_HINT}")
    try:
        content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(f"{path} cannot be read ({error}): truncated or no gzip file; {FASHION_MNIST_HINT}") from None
    n_header = 4 + 4 * len(shape)
    header = np.frombuffer(content[4:n_header], dtype=">u4") if len(content) >= n_header else ()
    found = tuple(int(length) for length in header)
    if content[:4] != bytes([0, 0, IDX_UINT8, len(shape)]) or found != shape:
        raise InputError(
            f"{path}: expected an idx file of bytes of shape {shape}, found magic {content[:4].hex()!r} and shape "
            f"{found}; {FASHION_MNIST_HINT}"
        )
    n_expected = int(np.prod(shape))
    if len(content) - n_header != n_expected:
        raise InputError(
            f"{path}: expected {n_expected} bytes after the header, found {len(content) - n_header}; "
            f"{FASHION_MNIST_HINT}"
        )
    return np.frombuffer(content, dtype=np.uint8, offset=n_header).reshape(shape)


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
    names = ("x_train", "y_train", "x_test", "y_test")
    try:
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as archive:
            missing = [name for name in names if name not in archive]
            if missing:
                raise InputError(
                    f"{path} lacks {', '.join(missing)}; it holds {', '.join(archive) or 'nothing'}; {NPZ_HINT}"
                )
            return {name: archive[name] for name in names}
    except FileNotFoundError:
        raise InputError(f"there is no file {path}; {NPZ_HINT}") from None
    except InputError:
        raise
    except (OSError, ValueError, EOFError, AttributeError, TypeError, NotImplementedError, *DAMAGED_ZIP) as error:
        raise InputError(f"{path} is not a whole .npz file of plain arrays ({error}); {NPZ_HINT}") from None


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
    name: str, images: NDArray[Any], labels: NDArray[np.int64], test: NDArray[np.int64], *, augment: bool
) -> DataSet:
    images = np.ascontiguousarray(images)
    digest = hashlib.sha256(images.tobytes() + labels.tobytes()).hexdigest()
    return DataSet(name, images, labels, int(labels.max()) + 1, test, augment, digest)
