"""What a segmentation is trained and measured by: weighted cross-entropy and the confusion matrix, without void."""

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from nas.data.pixel_labels import VOID, Bytes


def balance_classes(masks: Bytes, n_classes: int) -> list[float]:
    """Return a weight for each class: median frequency over its own (arXiv:1411.4734).

    A class's frequency is its share of the pixels, void left out, of those images that contain it. The weight of a
    class without any pixel is 1.

    Args:
        masks: training masks, (n, height, width).

    >>> balance_classes(np.array([[[0, 0, 0, 1]], [[2, 2, 2, 255]]], np.uint8), 4)
    [1.0, 3.0, 0.75, 1.0]
    """
    flat = masks.reshape(len(masks), -1)
    counts = np.stack([(flat == label).sum(axis=1) for label in range(n_classes)])  # (classes, images)
    n_seen = counts.sum(axis=0)  # pixels of each image that are not void
    n_around = ((counts > 0) * n_seen).sum(axis=1)
    present = n_around > 0
    frequency = counts.sum(axis=1)[present] / n_around[present]
    weights = np.ones(n_classes)
    weights[present] = np.median(frequency) / frequency
    return [float(weight) for weight in weights]


def sum_losses(logits: Tensor, masks: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    """Return the weighted cross-entropies of all pixels that are not void, added up, and the sum of their weights.

    Args:
        logits: (n, classes, height, width).
        masks: (n, height, width), classes or VOID, uint8.
        weights: weight of each class, (classes,).
    """
    labels = masks.long()
    total = F.cross_entropy(logits, labels, weight=weights, ignore_index=VOID, reduction="sum")
    is_seen = labels != VOID
    return total, (weights[labels.where(is_seen, 0)] * is_seen).sum()


def count_confusion(logits: Tensor, masks: Tensor) -> Tensor:
    """Return the number of pixels of each true class (row) that each class was answered for (column), without void.

    Args:
        logits: (n, classes, height, width).
        masks: (n, height, width), classes or VOID, uint8.

    Returns:
        (classes, classes) int64, on the CPU.
    """
    n_classes = logits.shape[1]
    is_seen = masks != VOID
    pairs = masks[is_seen].long() * n_classes + logits.argmax(dim=1)[is_seen]
    return torch.bincount(pairs.cpu(), minlength=n_classes**2).view(n_classes, n_classes)
