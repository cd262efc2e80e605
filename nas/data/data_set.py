"""A labelled set of images on the host."""

import hashlib
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, eq=False)
class DataSet:
    """A labelled image set on the host, shared by all trainings.

    Args:
        name: name on the command line.
        images: (n, channels, height, width), uint8 or float32.
        labels: (n,) int64 in 0..classes-1.
        n_classes: number of classes.
        test: (n_test,) indices of the test examples, which depend only on the data.
        augment: whether training images are usually cropped and flipped.
        sha256: hash of images and labels.
        remarks: sentences that a person should read before anything is measured.
    """

    name: str
    images: NDArray[Any]
    labels: NDArray[np.int64]
    n_classes: int
    test: NDArray[np.int64]
    augment: bool
    sha256: str
    remarks: tuple[str, ...] = ()

    @property
    def image(self) -> tuple[int, int, int]:
        """Channels, height, width of one image."""
        channels, height, width = self.images.shape[1:]
        return channels, height, width

    def __str__(self) -> str:
        """Return name, number and shape of the images and number of classes, as in a run's first line."""
        shape = " x ".join(map(str, self.image))
        return f"{self.name}, {len(self.images):,} images of {shape}, {self.n_classes} classes"


def make_data_set(
    name: str,
    images: NDArray[Any],
    labels: NDArray[np.int64],
    test: NDArray[np.int64],
    *,
    augment: bool,
    n_classes: int | None = None,
) -> DataSet:
    """Return a data set with the hash of its content; n_classes is by default the number of its labels."""
    images = np.ascontiguousarray(images)
    digest = hashlib.sha256(images.data)
    digest.update(labels.data)
    return DataSet(name, images, labels, n_classes or int(labels.max()) + 1, test, augment, digest.hexdigest())
