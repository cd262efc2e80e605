"""Agreement of logits: what is within the tolerance, what is not, and which images are asked with."""

import math

import pytest
import torch
from torch import Tensor, nn

from nas.export.agreement import BATCHES, compare_logits, find_disagreement, make_images, take_weights
from nas.export.manifest import TOLERANCE
from search_spaces.errors import InputError
from tests.support.exported import CANDIDATE, NETWORK, make_images_again, make_weights


def test_images_are_those_that_the_description_gives() -> None:
    shape = (2, 3, 4, 5)
    images = make_images(7, shape)
    assert images.shape == shape
    assert images.dtype == torch.float32
    assert images.flatten().tolist() == torch.tensor(make_images_again(7, list(shape))).tolist()
    assert -1 <= float(images.min()) < -0.9 < 0.9 < float(images.max()) <= 1


@pytest.mark.parametrize("scale", [1e-3, 1.0, 50.0])
def test_the_tolerance_is_relative_to_large_logits_and_absolute_for_small(scale: float) -> None:
    expected = scale * torch.tensor([[1.0, -0.5], [0.25, 0.0]], dtype=torch.float64)
    allowed = TOLERANCE * max(1.0, scale)
    shift = torch.zeros_like(expected)
    shift[1, 0] = 0.99 * allowed
    assert compare_logits(expected + shift, expected) is None
    shift[1, 0] = -1.01 * allowed
    said = compare_logits(expected + shift, expected)
    assert said is not None
    assert "off by" in said


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_what_is_not_finite_agrees_with_nothing(value: float) -> None:
    fine, broken = torch.tensor([[1.0, 2.0]]), torch.tensor([[1.0, value]])
    assert compare_logits(broken, fine) is not None
    assert compare_logits(torch.ones(1, 3), fine) == "its logits have shape (1, 3), expected (1, 2)"


def test_a_form_is_asked_at_several_batch_sizes() -> None:
    network = take_weights(CANDIDATE, make_weights(CANDIDATE))
    assert len(set(BATCHES.values())) == len(BATCHES) > 1
    assert find_disagreement(network, network, NETWORK.image) is None

    def wrong_for_three(images: Tensor) -> Tensor:
        logits: Tensor = network(images)
        return logits + 0.01 * (len(images) == 3)

    said = find_disagreement(wrong_for_three, network, NETWORK.image)
    assert said is not None
    assert said.endswith("(batch of 3)")


def test_weights_of_other_networks_are_refused() -> None:
    weights = make_weights(CANDIDATE)
    taken = take_weights(CANDIDATE, weights)
    assert not any(module.training for module in taken.modules() if isinstance(module, nn.Module))
    assert all(torch.equal(value, weights[name]) for name, value in taken.state_dict().items())
    for change, said in (
        ({"classifier.bias": torch.zeros(4)}, r"classifier\.bias is not float32 of shape \(3,\)"),
        ({"classifier.bias": torch.zeros(3, dtype=torch.float64)}, "is not float32"),
        ({"classifier.bias": torch.tensor([0, math.nan, 0])}, "not finite"),
        ({"stranger": torch.zeros(3)}, "stranger are not in both"),
    ):
        with pytest.raises(InputError, match=said):
            take_weights(CANDIDATE, {**weights, **change})
    del weights["classifier.bias"]
    with pytest.raises(InputError, match=r"classifier\.bias are not in both"):
        take_weights(CANDIDATE, weights)
