"""Loss and metrics of a segmentation: void counts nowhere, and mIoU is that of a second computation."""

from typing import Any

import numpy as np
import pytest
import torch
from sklearn.metrics import accuracy_score, jaccard_score
from torch.nn import functional as F

from nas.data.pixel_labels import VOID
from nas.records.metrics import global_accuracy, list_ious, mean_iou
from nas.tasks.segmentation.scoring import balance_classes, count_confusion, sum_losses

N_CLASSES = 5


def draw(seed: int, n_images: int = 6, absent: int | None = None) -> tuple[torch.Tensor, torch.Tensor]:
    """Return logits (n, classes, 7, 9) and masks (n, 7, 9), a fifth of whose pixels is void."""
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(n_images, N_CLASSES, 7, 9, generator=generator)
    masks = torch.randint(0, N_CLASSES, (n_images, 7, 9), generator=generator)
    logits.scatter_add_(1, masks[:, None], torch.ones(n_images, 1, 7, 9))
    masks[masks == absent] = 0
    masks[torch.rand(masks.shape, generator=generator) < 0.2] = VOID
    return logits, masks.to(torch.uint8)


@pytest.mark.parametrize("absent", [None, 3])
def test_the_confusion_matrix_gives_the_metrics_of_scikit_learn(absent: int | None) -> None:
    logits, masks = draw(0, absent=absent)
    confusion = count_confusion(logits, masks).tolist()
    seen = (masks != VOID).numpy()
    truth, answer = masks.numpy()[seen], logits.argmax(1).numpy()[seen]
    present = np.unique(truth)
    assert len(present) == N_CLASSES - (absent is not None)
    by_class = jaccard_score(truth, answer, labels=present, average=None)
    assert [iou for iou in list_ious(confusion) if iou is not None] == pytest.approx(by_class.tolist())
    assert mean_iou(confusion) == pytest.approx(jaccard_score(truth, answer, labels=present, average="macro"))
    assert global_accuracy(confusion) == pytest.approx(accuracy_score(truth, answer))


def test_the_matrix_of_all_images_is_the_sum_and_its_miou_no_mean_over_images() -> None:
    logits, masks = draw(1)
    parts = [count_confusion(logits[k : k + 1], masks[k : k + 1]) for k in range(len(masks))]
    whole = count_confusion(logits, masks)
    assert torch.equal(sum(parts, torch.zeros_like(whole)), whole)
    mean_of_images = sum(mean_iou(part.tolist()) for part in parts) / len(parts)
    assert mean_iou(whole.tolist()) != pytest.approx(mean_of_images, abs=1e-3)


def test_always_answering_the_background_has_the_miou_that_arithmetic_gives() -> None:
    masks = torch.zeros(2, 4, 5, dtype=torch.uint8)
    masks[0, 0] = 1
    masks[1, 0, :3] = 2
    masks[1, 3] = VOID
    logits = torch.zeros(2, N_CLASSES, 4, 5)
    logits[:, 0] = 1
    confusion = count_confusion(logits, masks).tolist()
    # 40 pixels, 5 void: 27 of the 35 others are background, and three classes are present.
    assert mean_iou(confusion) == pytest.approx(27 / 35 / 3)
    assert global_accuracy(confusion) == pytest.approx(27 / 35)


def test_logits_at_void_pixels_change_neither_loss_nor_metrics_nor_gradient() -> None:
    logits, masks = draw(2)
    is_void = (masks == VOID)[:, None]
    weights = torch.arange(1.0, N_CLASSES + 1)

    def measure(given: torch.Tensor) -> tuple[float, Any, torch.Tensor]:
        leaf = given.clone().requires_grad_()
        total, weight = sum_losses(leaf, masks, weights)
        (total / weight).backward()  # type: ignore[no-untyped-call]
        assert leaf.grad is not None
        return float((total / weight).detach()), count_confusion(given, masks).tolist(), leaf.grad

    loss, confusion, gradient = measure(logits)
    changed = torch.where(is_void, logits.flip(0) * 50, logits)
    assert not torch.equal(changed, logits)
    assert measure(changed)[:2] == (loss, confusion)
    assert torch.equal(measure(changed)[2], gradient)
    assert (gradient.movedim(1, -1)[masks == VOID] == 0).all()
    assert (gradient.movedim(1, -1)[masks != VOID] != 0).any(dim=1).all()


def test_the_loss_is_a_weighted_mean_over_pixels() -> None:
    logits, masks = draw(3)
    weights = torch.tensor([0.5, 1.0, 2.0, 3.0, 0.25])
    total, weight = sum_losses(logits, masks, weights)
    expected = F.cross_entropy(logits, masks.long(), weights, ignore_index=VOID)
    assert float(total / weight) == pytest.approx(float(expected), rel=1e-6)
    by_hand = sum(
        float(weights[label]) * -float(logits[image, :, row, column].log_softmax(0)[label])
        for image, row, column in np.argwhere(masks.numpy() != VOID).tolist()
        for label in [int(masks[image, row, column])]
    )
    assert float(total) == pytest.approx(by_hand, rel=1e-5)


def test_a_class_weighs_the_median_frequency_over_its_own() -> None:
    masks = np.array([[[0, 0, 0, 1]], [[0, 2, 2, VOID]], [[0, 0, 0, 0]]], np.uint8)
    # Of the images that contain it: 0 has 8 of 11 pixels, 1 has 1 of 4, 2 has 2 of 3; the median is 2/3.
    assert balance_classes(masks, 3) == pytest.approx([(2 / 3) / (8 / 11), (2 / 3) / (1 / 4), 1.0])


def test_classes_that_are_equally_frequent_weigh_alike() -> None:
    masks = np.tile(np.arange(4, dtype=np.uint8), (3, 5, 1))
    assert balance_classes(masks, 5) == pytest.approx([1.0] * 5)
