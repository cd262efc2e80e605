"""Families: rules whose number of inputs a budget decides, so that each has a pattern at every budget."""

from collections.abc import Iterator

from search_spaces.budget import Budget
from search_spaces.pattern import ConnectionPattern
from search_spaces.rules import Spacing, evenly, geometric, nearest

FAMILIES: dict[str, Spacing] = {"nearest": nearest, "evenly": evenly, "geometric": geometric}


def spread_in_degrees(budget: Budget) -> tuple[int, ...]:
    """Return the in-degrees of layers 1..L in a family: the budget's own, or a total shared out evenly.

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
    """Build the pattern of a family with the in-degrees of a budget; it may break the budget's caps.

    `nearest`: the layers just before; `evenly`: evenly spaced down to the block's input; `geometric`: from the layer
    before to the block's input in equal ratios, which is what Log-DenseNet's rule (arXiv:1711.00002) does with
    log2(i) + 1 inputs where i is a power of two.

    >>> fit_family("geometric", Budget(8, per_layer=(1, 1, 1, 3, 1, 1, 1, 4))).sources[-1]
    (0, 4, 6, 7)
    """
    degrees = enumerate(spread_in_degrees(budget), start=1)
    return ConnectionPattern.from_sources(FAMILIES[name](layer, degree) for layer, degree in degrees)


def iterate_families(budget: Budget) -> Iterator[tuple[str, ConnectionPattern]]:
    """Yield the families that spend the budget, its caps included."""
    for name in FAMILIES:
        pattern = fit_family(name, budget)
        if budget.is_met_by(pattern):
            yield name, pattern
