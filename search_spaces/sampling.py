"""Uniform patterns under an exact budget, every draw from a seeded generator."""

import hashlib

import numpy as np

from search_spaces.budget import Budget
from search_spaces.errors import InputError
from search_spaces.pattern import ConnectionPattern
from search_spaces.templates import find_template


def derive_seed(*parts: int | str) -> int:
    """A 63-bit seed from SHA-256 of the parts: independent streams that stay the same on every machine.

    >>> derive_seed(0, "proposal", 1)
    1344296799587626321
    """
    text = "/".join(map(str, parts))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def derive_generator(*parts: int | str) -> np.random.Generator:
    """A numpy generator seeded by derive_seed(parts)."""
    return np.random.default_rng(derive_seed(*parts))


def sample_uniform(budget: Budget, generator: np.random.Generator) -> ConnectionPattern:
    """A pattern drawn uniformly from all budget.n_patterns that meet the budget.

    >>> pattern = sample_uniform(Budget(6, total=10), derive_generator(0))
    >>> pattern.n_connections
    10
    """
    if budget.per_layer is not None:
        return ConnectionPattern(
            budget.depth,
            tuple(
                (*generator.choice(layer - 1, degree - 1, replace=False).tolist(), layer - 1)
                for layer, degree in enumerate(budget.per_layer, start=1)
            ),
        )
    depth = budget.depth
    n_skips = budget.n_connections - depth
    # Skip number s, counted layer by layer, belongs to the layer t with (t-1)(t-2)/2 <= s < t(t-1)/2.
    chosen = generator.choice(depth * (depth - 1) // 2, n_skips, replace=False)
    firsts = np.arange(depth + 1) * (np.arange(depth + 1) - 1) // 2  # firsts[t - 1]: first skip of layer t
    layers = np.searchsorted(firsts[1:], chosen, side="right") + 1
    skips = zip((chosen - firsts[layers - 1]).tolist(), layers.tolist(), strict=True)
    return ConnectionPattern.from_connections(depth, [*((i - 1, i) for i in range(1, depth + 1)), *skips])


def build_named(name: str, budget: Budget) -> ConnectionPattern:
    """The pattern that a name on the command line stands for, at the budget's depth.

    Args:
        name: a template's, or `random:SEED` for a uniform draw; only the latter spends the budget.
        budget: of the draw.

    Raises:
        InputError: there is nothing of that name.

    >>> build_named("random:7", Budget(6, total=10)).n_connections
    10
    """
    if not name.startswith("random:"):
        return find_template(name).build(budget.depth)
    try:
        seed = int(name.removeprefix("random:"))
    except ValueError:
        raise InputError(f"template {name!r}: the seed is a whole number, as in random:7") from None
    return sample_uniform(budget, derive_generator(seed, "random template"))
