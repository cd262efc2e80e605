"""What each exit of a trained network gives, and what it gives when easy images leave early."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from nas.training.evaluation import score
from search_spaces.seeds import derive_seed

# Shares q_k ~ p^k of the images that leave at exit k (MSDNet, arXiv:1703.09844): from nearly all at the first to nearly
# all at the last.
RATIOS = (0.1, 0.2, 0.4, 0.6, 0.8, 1.0, 1.25, 1 / 0.6, 2.5, 5.0, 10.0)


def measure_exits(logits: Tensor, labels: Tensor, macs: Sequence[int], seed: int) -> dict[str, Any]:
    """Return accuracy, loss and cost of each exit, and accuracy against expected cost where easy images leave early.

    The thresholds of confidence by which images leave are set on one half of them, drawn by the seed, and measured on
    the other.

    Args:
        logits: (n, exits, classes).
        labels: (n,).
        macs: multiply-adds of an image that leaves at each exit.
        seed: seed of the training.

    Returns:
        `exits`, for each exit its macs, accuracy and loss (nats); `adaptive`, for each of RATIOS the ratio, expected
        macs and accuracy, empty for fewer than two images.

    Raises:
        NonFiniteLossError: an exit's loss is infinite or not a number.
    """
    logits, labels = logits.cpu().double(), labels.cpu()
    exits = []
    for cost, own in zip(macs, logits.unbind(dim=1), strict=True):
        loss, accuracy = score(own, labels)
        exits.append({"macs": cost, "accuracy": accuracy, "loss": loss})
    generator = torch.Generator().manual_seed(derive_seed(seed, "halves for thresholds"))
    order = torch.randperm(len(labels), generator=generator)
    setting, measured = order[: len(labels) // 2], order[len(labels) // 2 :]
    confidence = logits.softmax(dim=2).amax(dim=2)
    is_right = logits.argmax(dim=2) == labels[:, None]
    adaptive = []
    for ratio in RATIOS if len(setting) else ():
        thresholds = set_thresholds(confidence[setting], find_shares(len(macs), ratio))
        leaves = find_exits(confidence[measured], thresholds)
        expected = float(torch.tensor(macs, dtype=torch.float64)[leaves].mean())
        accuracy = float(is_right[measured].gather(1, leaves[:, None]).double().mean())
        adaptive.append({"ratio": ratio, "macs": expected, "accuracy": accuracy})
    return {"exits": exits, "adaptive": adaptive}


def find_shares(n_exits: int, ratio: float) -> list[float]:
    """Return the share of images that leaves at each exit, each `ratio` times that of the exit before.

    >>> find_shares(3, 2.0)
    [0.14285714285714285, 0.2857142857142857, 0.5714285714285714]
    """
    weights = [ratio**place for place in range(n_exits)]
    return [weight / sum(weights) for weight in weights]


def set_thresholds(confidence: Tensor, shares: Sequence[float]) -> list[float]:
    """Return the least confidence of those who leave at each exit but the last, so that the shares leave.

    On these images each exit's share is met within 1/n, unless some of them are equally confident.

    Args:
        confidence: largest probability of any class, (n, exits).
        shares: share of the images that is to leave at each exit.
    """
    left = torch.ones(len(confidence), dtype=torch.bool)
    thresholds, wanted = [], 0.0
    for place, share in enumerate(shares[:-1]):
        wanted += share
        n_leaving = round(wanted * len(confidence)) - int((~left).sum())  # by the sum: roundings do not add up
        own = confidence[:, place]
        threshold = float(own[left].topk(n_leaving).values[-1]) if n_leaving > 0 else math.inf
        thresholds.append(threshold)
        left &= own < threshold
    return thresholds


def find_exits(confidence: Tensor, thresholds: Sequence[float]) -> Tensor:
    """Return the exit at which each image leaves, (n,): the first that is confident enough, or the last.

    Args:
        confidence: as in set_thresholds.
        thresholds: what set_thresholds returns.
    """
    is_leaving = confidence >= torch.tensor([*thresholds, -math.inf], dtype=confidence.dtype)
    return is_leaving.int().argmax(dim=1)
