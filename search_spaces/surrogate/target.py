"""The cost of a training: what a search makes small."""

import math
from collections.abc import Mapping

ACCURACY = "validation_accuracy"  # a share of images: its complement has a logarithm


def is_loss(name: str) -> bool:
    """Return whether a metric of this name is a loss, whose logarithm counts.

    >>> is_loss("loss"), is_loss("validation_loss"), is_loss("bits")
    (True, True, False)
    """
    return name == "loss" or name.endswith("_loss")


def find_cost(
    metrics: Mapping[str, float], objective: str, n_validation: int, *, maximize: bool = False
) -> float | None:
    """Return the cost of a training, lower is better; None where it has no usable result.

    Of a loss it is the logarithm, and of validation accuracy that of the share of validation images that are classified
    wrong, so that a factor counts alike where losses are large and where they are small. Of any other metric it is the
    value, negated where more is better.

    Args:
        metrics: what the training gave, by name; empty where it failed.
        objective: the name of the metric that the search improves.
        n_validation: number of validation images; half an image is added to the errors, which may be none.
        maximize: whether more of that metric is better.

    >>> find_cost({"loss": 1.0}, "loss", 0), find_cost({"f1": 0.25}, "f1", 0, maximize=True)
    (0.0, -0.25)
    >>> round(find_cost({"validation_accuracy": 1.0}, "validation_accuracy", 50), 3)
    -4.605
    """
    value = metrics.get(objective)
    if value is None or not math.isfinite(value):
        return None
    if objective == ACCURACY:
        return math.log(1 - value + 0.5 / n_validation)
    if is_loss(objective) and not maximize:
        return math.log(value) if value > 0 else None
    return -value if maximize else value
