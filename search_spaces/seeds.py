"""Seeds and generators, the same on every machine."""

import hashlib

import numpy as np


def derive_seed(*parts: int | str) -> int:
    """Return a 63-bit seed from the SHA-256 of the parts: different parts give independent streams.

    >>> derive_seed(0, "proposal", 1)
    1344296799587626321
    """
    text = "/".join(map(str, parts))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def derive_generator(*parts: int | str) -> np.random.Generator:
    """Return a numpy generator seeded by derive_seed of the parts."""
    return np.random.default_rng(derive_seed(*parts))
