"""Validation images that a report shows, small enough for a run's record."""

import numpy as np
from numpy.typing import NDArray

from nas.data.pixel_labels import Bytes, PixelLabels
from nas.records.safe_files import pack_bytes

N_SHOWN = 4
LONGEST = 64  # pixels of the longer side of a picture


def choose_examples(n_images: int) -> NDArray[np.int64]:
    """Return the places of the images that are shown, spread evenly over all.

    >>> choose_examples(10).tolist(), choose_examples(2).tolist()
    ([1, 3, 6, 8], [0, 1])
    """
    n = min(N_SHOWN, n_images)
    return ((np.arange(n) + 0.5) * n_images / n).astype(np.int64)


def pack_examples(data: PixelLabels) -> dict[str, object]:
    """Return the validation images that are shown and their masks, as plain values."""
    chosen = choose_examples(len(data.validation.images))
    images = _shrink_images(data.validation.images[chosen])
    return {
        "data": data.name,
        "classes": list(data.classes),
        "images": [pack_bytes(image.tobytes(), image.shape) for image in images],
        "masks": pack_masks(data.validation.masks[chosen]),
    }


def pack_masks(masks: Bytes) -> list[dict[str, object]]:
    """Return masks (n, height, width), made smaller, as plain values."""
    step = _find_step(*masks.shape[1:])
    small = masks[:, step // 2 :: step, step // 2 :: step]
    return [pack_bytes(mask.tobytes(), mask.shape) for mask in small]


def _find_step(height: int, width: int) -> int:
    """Return how many pixels of an image become one of its picture, along each side."""
    return -(-max(height, width) // LONGEST)


def _shrink_images(images: Bytes) -> Bytes:
    """Return images (n, channels, height, width) as (n, rows, columns, 1 or 3), brightest 255, as small as masks."""
    n, channels, height, width = images.shape
    step = _find_step(height, width)
    rows, columns = (len(range(step // 2, side, step)) for side in (height, width))
    padded = np.pad(images, [(0, 0), (0, 0), (0, step), (0, step)], "edge")[:, :, : rows * step, : columns * step]
    means = padded.reshape(n, channels, rows, step, columns, step).mean(axis=(3, 5))
    shown = means[:, :3] if channels >= 3 else means[:, :1]
    scaled = shown * 255 / max(1, int(images.max())) if images.max() < 128 else shown
    return np.ascontiguousarray(scaled.round().astype(np.uint8).transpose(0, 2, 3, 1))
