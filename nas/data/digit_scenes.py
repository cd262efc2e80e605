"""Synthetic scenes of real digits: the embedded data set with a label for every pixel."""

from functools import lru_cache
from itertools import product

import numpy as np
from numpy.typing import NDArray

from nas.data.pixel_labels import VOID, Bytes, PixelLabels, PixelPart, make_pixel_labels
from nas.data.readers import load_data
from search_spaces.seeds import derive_generator

SCENES = "digit-scenes (synthetic scenes of real digits)"
SCENE_CLASSES = ("background", *(f"digit {digit}" for digit in range(10)))
SIDE, DIGIT = 16, 8  # pixels of a scene and of a digit
MOST_DIGITS = 3  # in a scene
INK = 8  # of 16: the least of a pixel that is labelled as its digit
VALIDATION_DIGITS = 0.2  # of those that are not for test
N_VALIDATION_SCENES = N_TEST_SCENES = 200

Corner = tuple[int, int]  # row and column of a digit's first pixel


def draw_digit_scenes(n_scenes: int, seed: int = 0) -> PixelLabels:
    """Draw scenes of one to three of scikit-learn's handwritten digits, whose boxes do not overlap.

    Digits are split before scenes are made of them: the fixed test digits are in test scenes only, and no validation
    digit is in a training scene. A pixel of at least INK is of its digit's class, the pale edge around it is void.

    Args:
        n_scenes: number of training scenes.
        seed: seed of the scenes, the same for all trainings of a run.
    """
    digits = load_data("digits", None)
    is_test = np.zeros(len(digits.labels), dtype=bool)
    is_test[digits.test] = True
    rest = derive_generator(seed, "scenes", "split").permutation(np.flatnonzero(~is_test))
    n_validation = round(VALIDATION_DIGITS * len(rest))
    chosen = {"train": rest[n_validation:], "val": rest[:n_validation], "test": digits.test}
    counts = {"train": n_scenes, "val": N_VALIDATION_SCENES, "test": N_TEST_SCENES}
    training, validation, test = (
        _draw_part(
            digits.images[own, 0], digits.labels[own], counts[part], derive_generator(seed, "scenes", "compose", part)
        )
        for part, own in chosen.items()
    )
    # A mirrored digit may be another one, and scenes are as many as wanted: nothing is gained by altering them.
    return make_pixel_labels(SCENES, SCENE_CLASSES, (training, validation, test), can_augment=False)


def _draw_part(digits: Bytes, labels: NDArray[np.int64], n_scenes: int, generator: np.random.Generator) -> PixelPart:
    """Compose scenes of these digits, (n, 8, 8) with ink 0..16: their number, places and digits are uniform draws."""
    images = np.zeros((n_scenes, 1, SIDE, SIDE), dtype=np.uint8)
    masks = np.zeros((n_scenes, SIDE, SIDE), dtype=np.uint8)
    for image, mask in zip(images, masks, strict=True):
        places = _list_places(int(generator.integers(1, MOST_DIGITS + 1)))
        for row, column in places[generator.integers(len(places))]:
            number = generator.integers(len(digits))
            box = slice(row, row + DIGIT), slice(column, column + DIGIT)
            ink = digits[number]
            image[0][box] = ink
            mask[box] = np.where(ink >= INK, labels[number] + 1, np.where(ink > 0, VOID, 0))
    return PixelPart(images, masks)


@lru_cache(maxsize=MOST_DIGITS)
def _list_places(n_digits: int) -> tuple[tuple[Corner, ...], ...]:
    """Return every way to put so many boxes on a canvas without an overlap.

    >>> [len(_list_places(n)) for n in (1, 2)]
    [81, 160]
    """
    sides = range(SIDE - DIGIT + 1)
    corners = list(product(sides, sides))

    def are_apart(one: Corner, other: Corner) -> bool:
        return max(abs(one[0] - other[0]), abs(one[1] - other[1])) >= DIGIT

    ways: list[tuple[Corner, ...]] = [(corner,) for corner in corners]
    for _ in range(n_digits - 1):
        ways = [
            (*way, corner)
            for way, corner in product(ways, corners)
            if corner > way[-1] and all(are_apart(corner, earlier) for earlier in way)
        ]
    return tuple(ways)
