"""A set of images with a label for every pixel, in its three parts on the host."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from search_spaces.errors import InputError

VOID = 255  # in a mask: the pixel counts neither in the loss nor in a metric
CAMVID_VOID = 11  # as files made for SegNet have it, where their classes are 0 to 10
PIXEL_PARTS = ("train", "val", "test")
# What files made for SegNet (arXiv:1511.00561) number from 0 in CamVid; 11 is void.
CAMVID_CLASSES = (
    "sky", "building", "pole", "road", "pavement", "tree", "sign", "fence", "car", "pedestrian", "bicyclist",
)  # fmt: skip

Bytes = NDArray[np.uint8]


@dataclass(frozen=True, slots=True, eq=False)
class PixelPart:
    """The images of one part and the class of each of their pixels.

    Args:
        images: (n, channels, height, width).
        masks: (n, height, width), classes from 0, or VOID.
    """

    images: Bytes
    masks: Bytes


@dataclass(frozen=True, slots=True, eq=False)
class PixelLabels:
    """Images with pixel labels on the host.

    Args:
        name: what they are called in a run's first line and its record.
        classes: name of each class.
        training, validation: what a search trains on and measures with.
        test: what no search sees.
        can_augment: whether a crop or a mirror image of an image is as good as the image.
        sha256: hash of all images and masks.
        remarks: sentences that a person should read before anything is measured.
    """

    name: str
    classes: tuple[str, ...]
    training: PixelPart
    validation: PixelPart
    test: PixelPart
    can_augment: bool
    sha256: str
    remarks: tuple[str, ...] = ()

    @property
    def image(self) -> tuple[int, int, int]:
        """Channels, height and width of one image."""
        channels, height, width = self.training.images.shape[1:]
        return channels, height, width

    def __str__(self) -> str:
        """Return name, shape of the images, numbers of classes and of images, as in a run's first line."""
        shape = " x ".join(map(str, self.image))
        return (
            f"{self.name}, images of {shape}, {len(self.classes)} classes; {len(self.training.images):,} to train on, "
            f"{len(self.validation.images):,} for validation, {len(self.test.images):,} for the test"
        )


def make_pixel_labels(
    name: str, classes: Sequence[str], parts: tuple[PixelPart, PixelPart, PixelPart], *, can_augment: bool
) -> PixelLabels:
    """Return a set of images with pixel labels, with the hash of its content.

    Args:
        parts: training, validation and test.

    Raises:
        InputError: a part is empty, or has no pixel of any class.
    """
    digest = hashlib.sha256()
    for part, which in zip(parts, ("training", "validation", "test"), strict=True):
        if not len(part.images) or (part.masks == VOID).all():
            raise InputError(f"{name}: no pixel of the {which} images has a class: give images with labels")
        for array in (part.images, part.masks):
            digest.update(f"{array.shape}".encode())
            digest.update(np.ascontiguousarray(array).data)
    remarks = tuple(_list_remarks(classes, *parts))
    return PixelLabels(name, tuple(classes), *parts, can_augment, digest.hexdigest(), remarks)


def _list_remarks(classes: Sequence[str], training: PixelPart, validation: PixelPart, test: PixelPart) -> list[str]:
    """Return remarks on data that can be used, but that a user should know about first."""
    known = {hashlib.sha256(image.tobytes()).digest() for part in (training, validation) for image in part.images}
    n_known = sum(hashlib.sha256(image.tobytes()).digest() in known for image in test.images)
    remarks = [f"{n_known:,} of the {len(test.images):,} test images are among the others too"] if n_known else []
    counts = count_bytes(training.masks)[: len(classes)]
    lacking = [label for label, count in zip(classes, counts, strict=True) if not count]
    return [*remarks, *([f"no training pixel is of class {', '.join(lacking):.200}"] if lacking else [])]


def count_bytes(arrays: Bytes) -> NDArray[np.int64]:
    """Return how often each of the 256 values of a byte comes, (256,).

    One array is counted at a time: all at once would take eight times their memory.

    >>> count_bytes(np.array([[1, 1], [1, 3]], np.uint8))[:5].tolist()
    [0, 3, 0, 1, 0]
    """
    counts = np.zeros(VOID + 1, dtype=np.int64)
    for array in arrays:
        counts += np.bincount(np.ravel(array), minlength=VOID + 1)
    return counts


class SettledClasses(NamedTuple):
    """What labels mean.

    Args:
        number: number of classes.
        masks: masks by part, with every void pixel as VOID.
        void: label other than VOID that is there and counts as void; None: there is none.
    """

    number: int
    masks: dict[str, Bytes]
    void: int | None


def settle_classes(source: object, masks: Mapping[str, Bytes], n_classes: int | None) -> SettledClasses:
    """Return what labels mean: which are classes, and which is void.

    Void is 255 or, as in CamVid, the number after the last class. Without a number of classes it is that of the labels:
    a largest label of 11 is then CamVid's void.

    Args:
        source: where the masks come from, for messages.
        masks: masks by part.
        n_classes: number of classes; None: as the labels say.

    Raises:
        InputError: a label is neither a class nor void, or there are fewer than two classes.

    >>> number, masks, void = settle_classes("a", {"train": np.array([0, 2, 11, 255], np.uint8)}, None)
    >>> number, masks["train"].tolist(), void
    (11, [0, 2, 255, 255], 11)
    """
    counts = {part: count_bytes(mask)[:VOID] for part, mask in masks.items()}
    present = np.flatnonzero(sum(counts.values()))
    largest = int(present[-1]) if len(present) else 0
    if n_classes is None and largest > CAMVID_VOID:
        raise InputError(
            f"{source}: a label is {largest}, expected 0 to {CAMVID_VOID - 1} for classes and {CAMVID_VOID} or {VOID} "
            f"for void, as CamVid has them; for other classes give their number, as --set classes={largest + 1}, or "
            f"write {VOID} for void"
        )
    n_classes = n_classes or (CAMVID_VOID if largest == CAMVID_VOID else largest + 1)
    if n_classes < 2:
        raise InputError(f"{source}: every label is 0 or void: give masks of two classes or more")
    for part, count in counts.items():
        foreign = np.flatnonzero(count[n_classes + 1 :]) + n_classes + 1
        if len(foreign):
            raise InputError(
                f"{source}: a label of {part} is {foreign[0]}, expected 0 to {n_classes - 1} for classes and "
                f"{n_classes} or {VOID} for void; number the classes from 0, or give their number by --set classes="
            )
    settled = {part: np.where(mask == n_classes, np.uint8(VOID), mask) for part, mask in masks.items()}
    return SettledClasses(n_classes, settled, n_classes if largest == n_classes else None)


def remark_on_void(data: PixelLabels, label: int | None) -> PixelLabels:
    """Return the data with a remark that a label was taken for void, if one was."""
    if label is None:
        return data
    remark = f"label {label} counts as void: to make it a class, give --set classes={label + 1}"
    return replace(data, remarks=(*data.remarks, remark))


def name_classes(n_classes: int) -> tuple[str, ...]:
    """Return names for classes of which only the number is known.

    >>> name_classes(2)
    ('class 0', 'class 1')
    """
    return tuple(f"class {number}" for number in range(n_classes))
