"""Images with pixel labels from an .npz file, checked."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nas.data.npz import LAYOUT, check_alike, check_images, read_arrays, read_layout
from nas.data.pixel_labels import (
    PIXEL_PARTS,
    VOID,
    Bytes,
    PixelLabels,
    PixelPart,
    make_pixel_labels,
    name_classes,
    remark_on_void,
    settle_classes,
)
from search_spaces.errors import InputError
from search_spaces.seeds import derive_generator

NAMES = "names"  # array of the names of the classes, which may be missing
MASKS_HINT = (
    "write it by numpy.savez(FILE, x_train=..., y_train=..., x_val=..., y_val=..., x_test=..., y_test=...), images and "
    "masks as uint8"
)
ASIDE = 0.2  # of the training images, where a file has none for validation


def read_pixel_npz(path: Path, max_bytes: int, n_classes: int | None = None) -> PixelLabels:
    """Read images with pixel labels from an .npz file.

    It has x_train, x_val and x_test, images (n, channels, height, width), (n, height, width, channels) or (n, height,
    width), and y_train, y_val and y_test, masks (n, height, width), all uint8. Without x_val a fifth of the training
    images, always the same, is for validation. An array `names` may name the classes, and so say their number.

    Args:
        path: the file.
        max_bytes: most bytes of the file, and of its arrays.
        n_classes: number of classes; None: as the labels say.

    Raises:
        InputError: the file is missing or damaged, or its arrays cannot be used.
    """

    def choose(names: list[str]) -> list[str]:
        parts = PIXEL_PARTS if "x_val" in names or "y_val" in names else ("train", "test")
        return [f"{letter}_{part}" for part in parts for letter in "xy"]

    arrays, _ = read_arrays(path, max_bytes, choose, (LAYOUT, NAMES), MASKS_HINT)
    present = [part for part in PIXEL_PARTS if f"x_{part}" in arrays]
    layout = read_layout(path, arrays)
    images: dict[str, Bytes] = {}
    masks: dict[str, Bytes] = {}
    for part in present:
        given = arrays[f"x_{part}"]
        if given.dtype != np.uint8:
            raise InputError(f"{path}: x_{part} is of type {given.dtype}, expected uint8: store 0 to 255; {MASKS_HINT}")
        images[part] = check_images(path, f"x_{part}", given, layout)
        check_alike(path, ("x_train", images["train"]), (f"x_{part}", images[part]))
        masks[part] = _check_masks(path, f"y_{part}", arrays[f"y_{part}"], images[part])
    names = _read_names(path, arrays[NAMES], n_classes) if NAMES in arrays else None
    settled = settle_classes(path, masks, len(names) if names else n_classes)
    parts = {part: PixelPart(images[part], settled.masks[part]) for part in present}
    if "val" not in parts:
        parts["train"], parts["val"] = _split(path, parts["train"])
    classes = names or name_classes(settled.number)
    data = make_pixel_labels(path.name, classes, (parts["train"], parts["val"], parts["test"]), can_augment=True)
    return remark_on_void(data, settled.void if n_classes is None else None)


def _check_masks(path: Path, name: str, masks: NDArray[Any], images: Bytes) -> Bytes:
    expected = (len(images), *images.shape[2:])
    if masks.shape == (*expected, 3):
        raise InputError(
            f"{path}: {name} has shape {masks.shape}, so its masks are of colours: give the number of each pixel's "
            f"class instead, shape {expected}"
        )
    if masks.shape != expected or masks.dtype != np.uint8:
        raise InputError(
            f"{path}: {name} has shape {masks.shape} and type {masks.dtype}, expected {expected} and uint8, a number "
            "for each pixel of its images"
        )
    return masks


def _read_names(path: Path, names: NDArray[Any], n_classes: int | None) -> tuple[str, ...]:
    is_list = names.dtype.kind == "U" and names.ndim == 1 and 2 <= len(names) < VOID
    if not is_list or n_classes not in (None, len(names)):
        raise InputError(
            f"{path}: {NAMES} has shape {names.shape} and type {names.dtype}, expected {n_classes or '2 or more'} "
            "texts, one for each class"
        )
    return tuple(name[:40] for name in names.tolist())


def _split(path: Path, training: PixelPart) -> tuple[PixelPart, PixelPart]:
    """Set a fifth of the training images aside for validation, drawn by a fixed seed: all trainings have the same."""
    n_images = len(training.images)
    if n_images < 2:
        raise InputError(f"{path}: x_train has {n_images} image and there is no x_val: give more, or both")
    n_validation = max(1, round(ASIDE * n_images))
    order = derive_generator("pixel labels", "validation").permutation(n_images)
    own, rest = np.sort(order[:n_validation]), np.sort(order[n_validation:])
    left, aside = (PixelPart(training.images[chosen], training.masks[chosen]) for chosen in (rest, own))
    return left, aside
