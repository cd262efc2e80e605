"""Families: rules whose number of inputs a budget decides, so that each has a pattern at every budget."""

from collections.abc import Callable, Iterator

from search_spaces.budget import Budget
from search_spaces.pattern import ConnectionPattern

Offsets = Callable[[int, int], list[int]]  # (layer, number of inputs) -> how far back each input lies, ascending


def _nearest(layer: int, n_inputs: int) -> list[int]:  # noqa: ARG001  all rules share one signature
    return list(range(1, n_inputs + 1))


def _evenly(layer: int, n_inputs: int) -> list[int]:
    return [1 + (k * layer) // n_inputs for k in range(n_inputs)]


def _geometric(layer: int, n_inputs: int) -> list[int]:
    """From 1 back to the block's input in equal ratios, as near as whole and distinct numbers come."""
    offsets = [1]
    for k in range(1, n_inputs):
        # The least whole number that is at least layer ** (k / (n_inputs - 1)), without floats.
        offset = offsets[-1] + 1
        while offset ** (n_inputs - 1) < layer**k:
            offset += 1
        offsets.append(min(offset, layer - (n_inputs - 1 - k)))
    return offsets


FAMILIES: dict[str, Offsets] = {"nearest": _nearest, "evenly": _evenly, "geometric": _geometric}


def spread_in_degrees(budget: Budget) -> tuple[int, ...]:
    """The in-degrees of layers 1..L that a family takes: the budget's own, or a total shared out as evenly as can be.

    What is left over when all layers have equally many, as far as they can, goes to the last layers.

    >>> spread_in_degrees(Budget(6, total=13)), spread_in_degrees(Budget(4, per_layer=(1, 2, 2, 3)))
    ((1, 2, 2, 2, 3, 3), (1, 2, 2, 3))
    """
    if budget.per_layer is not None:
        return budget.per_layer
    degrees = [1] * budget.depth
    n_left = budget.n_connections - budget.depth
    while n_left:
        level = min(degree for layer, degree in enumerate(degrees, start=1) if degree < layer)
        raised = [layer for layer, degree in enumerate(degrees, start=1) if degree == level and degree < layer]
        for layer in raised[-n_left:]:
            degrees[layer - 1] += 1
            n_left -= 1
    return tuple(degrees)


def fit_family(name: str, budget: Budget) -> ConnectionPattern:
    """The pattern of a family with the in-degrees of a budget; it may break the budget's caps.

    `nearest`: the layers just before; `evenly`: evenly spaced down to the block's input; `geometric`: from the layer
    before to the block's input in equal ratios, which is what Log-DenseNet's rule (arXiv:1711.00002) does with
    log2(i) + 1 inputs where i is a power of two.

    >>> fit_family("geometric", Budget(8, per_layer=(1, 1, 1, 3, 1, 1, 1, 4))).sources[-1]
    (0, 4, 6, 7)
    """
    offsets = FAMILIES[name]
    degrees = enumerate(spread_in_degrees(budget), start=1)
    return ConnectionPattern.from_sources([i - back for back in offsets(i, n)] for i, n in degrees)


def iterate_families(budget: Budget) -> Iterator[tuple[str, ConnectionPattern]]:
    """The families that spend the budget, its caps included."""
    for name in FAMILIES:
        pattern = fit_family(name, budget)
        if budget.is_met_by(pattern):
            yield name, pattern
