"""Scenes of digits: seeded, labelled by ink, and no test digit in a scene that a search sees."""

import numpy as np
import pytest
from numpy.lib.stride_tricks import sliding_window_view
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from nas.data.digit_scenes import N_TEST_SCENES, N_VALIDATION_SCENES, draw_digit_scenes
from nas.data.pixel_labels import VOID, PixelLabels, PixelPart


@pytest.fixture(scope="module")
def scenes() -> PixelLabels:
    return draw_digit_scenes(150)


def list_parts(data: PixelLabels) -> tuple[PixelPart, PixelPart, PixelPart]:
    return data.training, data.validation, data.test


def test_the_same_seed_gives_the_same_bytes_and_another_seed_others(scenes: PixelLabels) -> None:
    again, other = draw_digit_scenes(150), draw_digit_scenes(150, seed=1)
    assert again.sha256 == scenes.sha256 != other.sha256
    for one, two in zip(list_parts(scenes), list_parts(again), strict=True):
        assert one.images.tobytes() == two.images.tobytes()
        assert one.masks.tobytes() == two.masks.tobytes()


def test_more_training_scenes_leave_the_others_as_they_are(scenes: PixelLabels) -> None:
    more = draw_digit_scenes(200)
    assert np.array_equal(more.training.images[:150], scenes.training.images)
    assert np.array_equal(more.validation.masks, scenes.validation.masks)
    assert [len(part.images) for part in list_parts(more)] == [200, N_VALIDATION_SCENES, N_TEST_SCENES]


def find_digits(part: PixelPart, among: np.ndarray) -> set[int]:
    """Return which of these digits, (n, 8, 8), stand somewhere in the scenes, by their content."""
    known = {digit.tobytes(): number for number, digit in enumerate(among.astype(np.uint8))}
    windows = sliding_window_view(part.images[:, 0], (8, 8), axis=(1, 2)).reshape(-1, 64)
    return {known[content] for window in windows if (content := window.tobytes()) in known}


def test_no_digit_is_in_scenes_of_two_parts(scenes: PixelLabels) -> None:
    digits = load_digits()
    rest, test = train_test_split(np.arange(1797), test_size=360, stratify=digits.target, random_state=0)
    training, validation, tested = (find_digits(part, digits.images) for part in list_parts(scenes))
    assert training
    assert validation
    assert training | validation <= {*rest.tolist()}
    assert tested <= {*test.tolist()}
    assert not training & validation


def test_a_mask_follows_from_the_ink(scenes: PixelLabels) -> None:
    for part in list_parts(scenes):
        ink, masks = part.images[:, 0], part.masks
        assert ((masks == 0) == (ink == 0)).all()
        assert ((masks == VOID) == ((ink > 0) & (ink < 8))).all()
        assert set(np.unique(masks)) == {*range(11), VOID}
        assert ink.max() == 16


def test_a_scene_has_one_to_three_digits_of_the_classes_that_its_mask_says(scenes: PixelLabels) -> None:
    digits = load_digits()
    known: dict[bytes, set[int]] = {}
    for digit, label in zip(digits.images.astype(np.uint8), digits.target, strict=True):
        known.setdefault(digit.tobytes(), set()).add(int(label) + 1)
    counts = set()
    for image, mask in zip(scenes.training.images[:40, 0], scenes.training.masks[:40], strict=True):
        windows = sliding_window_view(image, (8, 8)).reshape(-1, 64)
        found = [known[content] for window in windows if (content := window.tobytes()) in known]
        counts.add(len(found))
        assert set(np.unique(mask)) - {0, VOID} <= set().union(*found)
    assert counts == {1, 2, 3}


def test_it_says_that_the_scenes_are_synthetic(scenes: PixelLabels) -> None:
    assert "synthetic scenes of real digits" in str(scenes)
    assert not scenes.can_augment
