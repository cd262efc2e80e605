"""The cost of a training: what a search makes small."""

import math
from typing import Literal

Objective = Literal["loss", "accuracy"]


def find_cost(loss: float | None, accuracy: float | None, objective: Objective, n_validation: int) -> float | None:
    """Return the cost of a training, lower is better; None where it has no usable result.

    It is the logarithm of the validation loss, or of the share of validation images that are classified wrong, so that
    a factor counts alike where losses are large and where they are small.

    Args:
        loss: mean cross-entropy on the validation images, in nats, or None.
        accuracy: share of the validation images that are classified right, or None.
        objective: what the search makes small.
        n_validation: number of validation images; half an image is added to the errors, which may be none.

    >>> find_cost(1.0, 0.7, "loss", 100), round(find_cost(0.1, 1.0, "accuracy", 50), 3)
    (0.0, -4.605)
    """
    value = loss if objective == "loss" else accuracy
    if value is None or not math.isfinite(value):
        return None
    if objective == "accuracy":
        return math.log(1 - value + 0.5 / n_validation)
    return math.log(value) if value > 0 else None
