"""Seeded splits of a data set, and augmentation."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nas.data.data_set import DataSet
from search_spaces.errors import InputError
from search_spaces.seeds import derive_generator

CROP_PADDING = 4
AUGMENTED_TOGETHER = 512  # images


@dataclass(frozen=True, slots=True, eq=False)
class Split:
    """The training and validation examples of one seed, on the device.

    Args:
        train_images, validation_images: (n, channels, height, width) float32, each channel with mean 0 and variance 1
            over the training images.
        train_labels, validation_labels: (n,) int64.
        augment: whether to crop and flip training images.
        mean, deviation: mean and standard deviation of each channel of the raw training images; 1 for a deviation of 0.
    """

    train_images: Tensor
    train_labels: Tensor
    validation_images: Tensor
    validation_labels: Tensor
    augment: bool
    mean: tuple[float, ...] = (0.0,)
    deviation: tuple[float, ...] = (1.0,)


def split_data(
    data: DataSet, seed: int, train_examples: int | None, device: str, validation_examples: int | None = None
) -> Split:
    """Split off training and validation examples, disjoint, stratified by class, fixed by data and seed.

    A tenth of the examples that are not for test is set aside for validation, but at least 500 and at most a third.
    If validation_examples is given, only so many of these are used; the training examples do not depend on it.

    Raises:
        InputError: there are fewer of either than requested, or classes too small to be in every part.
    """
    train, validation = _split_indices(data, seed, train_examples, validation_examples)
    return _place(data, train, validation, device)


def split_final(data: DataSet, seed: int, train_examples: int | None, device: str) -> Split:
    """Take the test examples in place of validation examples, and all others to train on.

    Args:
        train_examples: number of training examples, stratified by class, fixed by data and seed; None: all.

    Raises:
        InputError: there are fewer than requested.
    """
    rest = _list_others(data, data.test)
    if train_examples is not None and train_examples > len(rest):
        raise InputError(
            f"--train-examples {train_examples} asks for more than the {len(rest)} that {data.name} has besides "
            f"{len(data.test)} for test"
        )
    if train_examples is not None:
        rest = _choose(data, rest, train_examples, derive_generator(seed, "train"))
    return _place(data, rest, data.test, device)


def _place(data: DataSet, train: NDArray[np.int64], measured: NDArray[np.int64], device: str) -> Split:
    images, measured_images = (data.images[part].astype(np.float32) for part in (train, measured))
    mean = images.mean(axis=(0, 2, 3), keepdims=True, dtype=np.float64).astype(np.float32)
    deviation = images.std(axis=(0, 2, 3), keepdims=True, dtype=np.float64).astype(np.float32)
    scale = np.where(deviation > 0, deviation, 1)

    for part in (images, measured_images):
        part -= mean
        part /= scale

    def place(array: NDArray[Any]) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(array)).to(device)

    return Split(
        train_images=place(images),
        train_labels=place(data.labels[train]),
        validation_images=place(measured_images),
        validation_labels=place(data.labels[measured]),
        augment=data.augment,
        mean=tuple(mean.ravel().tolist()),
        deviation=tuple(scale.ravel().tolist()),
    )


def check_split(
    data: DataSet, seeds: int, train_examples: int | None, validation_examples: int | None = None
) -> tuple[int, int]:
    """Check that each seed's split exists; return the numbers of training and validation examples.

    Raises:
        InputError: see split_data.
    """
    for seed in range(seeds):
        train, validation = _split_indices(data, seed, train_examples, validation_examples)
    return len(train), len(validation)


def find_largest_class(data: DataSet, train_examples: int | None, validation_examples: int | None = None) -> float:
    """Return the accuracy of always answering the largest class of the validation examples.

    It is the same for each seed, since every split takes as many of each class.

    Raises:
        InputError: see split_data.
    """
    _, validation = _split_indices(data, 0, train_examples, validation_examples)
    return share_of_largest(data.labels[validation])


def share_of_largest(labels: NDArray[np.int64]) -> float:
    """Return the share of the examples that belong to their largest class.

    >>> share_of_largest(np.array([0, 2, 2, 1]))
    0.5
    """
    return float(np.bincount(labels).max() / len(labels))


def _count_split(data: DataSet, train_examples: int | None) -> tuple[int, int]:
    n_rest = len(data.labels) - len(data.test)
    n_validation = min(n_rest // 3, max(500, n_rest // 10))
    n_train = n_rest - n_validation
    if train_examples is not None and train_examples > n_train:
        raise InputError(
            f"--train-examples {train_examples} asks for more than the {n_train} that {data.name} has besides "
            f"{n_validation} for validation and {len(data.test)} for test"
        )
    return train_examples or n_train, n_validation


def _split_indices(
    data: DataSet, seed: int, train_examples: int | None, validation_examples: int | None = None
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    n_train, n_validation = _count_split(data, train_examples)
    if validation_examples is not None and validation_examples > n_validation:
        raise InputError(
            f"--validation-examples {validation_examples} asks for more than the {n_validation} that are set aside of "
            f"{data.name}"
        )
    rest = _list_others(data, data.test)
    counts = np.bincount(data.labels[rest])
    validation = _choose(data, rest, n_validation, derive_generator(seed, "validation"))
    rest = _list_others(data, data.test, validation)
    train = rest if n_train == len(rest) else _choose(data, rest, n_train, derive_generator(seed, "train"))
    if validation_examples is not None and validation_examples < n_validation:
        n_validation = validation_examples
        validation = _choose(data, validation, n_validation, derive_generator(seed, "used for validation"))
    for part in (train, validation):
        missing = np.flatnonzero((counts > 0) & (np.bincount(data.labels[part], minlength=len(counts)) == 0))
        if len(missing):
            raise InputError(
                f"{data.name} cannot be split with every class in every part: {n_train} training or {n_validation} "
                f"validation examples lack class {missing[0]}; give more of each class, or more --train-examples"
            )
    return train, validation


def _list_others(data: DataSet, *parts: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the sorted indices of all examples that are in none of the parts."""
    is_left = np.ones(len(data.labels), dtype=bool)
    for part in parts:
        is_left[part] = False
    return np.flatnonzero(is_left)


def _choose(data: DataSet, indices: NDArray[np.int64], n: int, generator: np.random.Generator) -> NDArray[np.int64]:
    """Draw n of the indices, sorted, each class in proportion: its quota rounded by largest remainders."""
    counts = np.bincount(data.labels[indices], minlength=data.n_classes)
    quotas = n * counts / len(indices)
    chosen = np.floor(quotas).astype(np.int64)
    largest = np.argsort(chosen - quotas, kind="stable")[: n - chosen.sum()]
    chosen[largest] += 1
    shuffled = generator.permutation(indices)
    labels = data.labels[shuffled]
    parts = [shuffled[np.flatnonzero(labels == label)[:k]] for label, k in enumerate(chosen)]
    return np.sort(np.concatenate(parts))


def augment_images(images: Tensor, generator: torch.Generator) -> Tensor:
    """Crop images at random from themselves padded by 4 zeros a side, and flip half of them; return new images.

    Args:
        images: (n, channels, height, width).
        generator: generator on the CPU, so that the draws are the same on every device.
    """
    n = len(images)
    shifts = torch.randint(0, 2 * CROP_PADDING + 1, (2, n), generator=generator).to(images.device)
    flips = (torch.rand(n, generator=generator) < 0.5).to(images.device)
    augmented = images.new_empty(images.shape)
    # By parts, which fit in a CPU's cache and keep temporary copies small.
    parts = (torch.split(x, AUGMENTED_TOGETHER) for x in (images, shifts[0], shifts[1], flips, augmented))
    for part, down, across, flipped, place in zip(*parts, strict=True):
        place[:] = _crop(part, down, across, flipped)
    return augmented


def _crop(images: Tensor, down: Tensor, across: Tensor, flips: Tensor) -> Tensor:
    """Cut each image from itself padded, at its offsets from top and left, and flip it left to right if asked."""
    n, channels, height, width = images.shape
    padded = torch.nn.functional.pad(images, [CROP_PADDING] * 4)
    rows = down[:, None] + torch.arange(height, device=images.device)  # (n, height)
    columns = torch.arange(width, device=images.device).expand(n, width)
    columns = across[:, None] + torch.where(flips[:, None], columns.flip(1), columns)  # (n, width)
    pixels = rows[:, :, None] * padded.shape[3] + columns[:, None, :]  # (n, height, width)
    index = pixels.reshape(n, 1, height * width).expand(n, channels, height * width)
    return padded.flatten(2).gather(2, index).reshape(images.shape)
