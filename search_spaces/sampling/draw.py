"""Uniform draws of patterns that spend a budget."""

import numpy as np

from search_spaces.budget import Budget
from search_spaces.errors import InputError
from search_spaces.pattern import ConnectionPattern

MAX_REJECTED = 10_000  # uniform draws in a row that break a cap


def sample_uniform(budget: Budget, generator: np.random.Generator) -> ConnectionPattern:
    """Draw a pattern uniformly from all that meet the budget; with caps, draw until one meets them.

    Raises:
        InputError: MAX_REJECTED draws in a row broke a cap.

    >>> sample_uniform(Budget(6, total=10), np.random.default_rng(0)).n_connections
    10
    """
    for _ in range(MAX_REJECTED):
        pattern = _draw_uncapped(budget, generator)
        if budget.is_met_by(pattern):
            return pattern
    raise InputError(
        f"{MAX_REJECTED} uniform draws in a row broke a cap of budget {budget}: give larger caps, or sample a cell, "
        "which needs no rejection"
    )


def _draw_uncapped(budget: Budget, generator: np.random.Generator) -> ConnectionPattern:
    if budget.per_layer is not None:
        return ConnectionPattern.from_sources(
            [*generator.choice(layer - 1, degree - 1, replace=False).tolist(), layer - 1]
            for layer, degree in enumerate(budget.per_layer, start=1)
        )
    depth = budget.depth
    n_skips = budget.n_connections - depth
    # Skip number s, counted layer by layer, belongs to the layer t with (t-1)(t-2)/2 <= s < t(t-1)/2.
    chosen = generator.choice(depth * (depth - 1) // 2, n_skips, replace=False)
    firsts = np.arange(depth + 1) * (np.arange(depth + 1) - 1) // 2  # firsts[t - 1]: first skip of layer t
    layers = np.searchsorted(firsts[1:], chosen, side="right") + 1
    skips = zip((chosen - firsts[layers - 1]).tolist(), layers.tolist(), strict=True)
    return ConnectionPattern.from_connections(depth, [*((i - 1, i) for i in range(1, depth + 1)), *skips])
