"""Seeds: what they are derived from, and their range."""

import hashlib

import pytest

from search_spaces.seeds import derive_seed


@pytest.mark.parametrize("parts", [(0,), (0, "proposal", 1), (10**30, "", -1), ("a",)])
def test_seeds_are_the_top_63_bits_of_the_hash(parts: tuple[int | str, ...]) -> None:
    digest = hashlib.sha256("/".join(str(part) for part in parts).encode()).hexdigest()
    assert derive_seed(*parts) == int(digest, 16) >> (256 - 63)


def test_seeds_are_many_and_fit_in_63_bits() -> None:
    seeds = [derive_seed(run, "trial", number) for run in range(10) for number in range(100)]
    assert len(set(seeds)) == 1000
    assert 0 <= min(seeds) < 2**56
    assert 2**62 < max(seeds) < 2**63
