"""Data set -> tensors on the device, train/validation/test split."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


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
        remarks: what a person should know of it before anything is measured, a sentence each.
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
        """Name, shape of an image and number of classes, as a run's first line says them."""
        return f"{self.name}, {' x '.join(map(str, self.image))}, {self.n_classes} classes"
