"""Instructions on bits and on rows of 32 bytes equal what numpy computes."""

import numpy as np
import pytest
from numba import njit
from numpy.typing import NDArray

from search_spaces.measures import instructions as do
from search_spaces.measures.instructions import N_LANES
from search_spaces.seeds import derive_generator


@njit
def compute_rows(array, place, other_place, out):  # type: ignore[no-untyped-def]  # pragma: no cover, compiled
    """Write what each instruction makes of the rows at two places; return the sums."""
    row, other = do.load(array, np.uint64(place)), do.load(array, np.uint64(other_place))
    lanes = np.uint64(N_LANES)
    do.store(out, np.uint64(0), do.lesser(row, other))
    do.store(out, lanes, do.greater(row, other))
    do.store(out, np.uint64(2) * lanes, do.keep(row, other))
    do.store(out, np.uint64(3) * lanes, do.increase(row))
    do.store(out, np.uint64(4) * lanes, do.increase_round(row))
    do.store(out, np.uint64(5) * lanes, do.fill(np.uint8(place)))
    sums = do.add(do.add(do.widen(row), other), other)
    return do.total(sums), do.first(sums), do.greatest(row)


@pytest.mark.parametrize("seed", range(4))
def test_rows_are_computed_lane_by_lane(seed: int) -> None:
    array = derive_generator("rows", seed).integers(0, 256, 100, np.uint8)
    array[7:11], array[41:44], array[44:47] = (0, 255, 254, 255), 255, 0  # both ends of a byte in both rows
    row, other = array[7 : 7 + N_LANES], array[41 : 41 + N_LANES]  # neither is aligned
    out = np.zeros(7 * N_LANES, np.uint8)
    total, first, greatest = compute_rows(array, 7, 41, out)
    expected: list[NDArray[np.uint8]] = [
        np.minimum(row, other),
        np.maximum(row, other),
        row & other,
        np.minimum(row.astype(int) + 1, 255).astype(np.uint8),
        row + np.uint8(1),
        np.full(N_LANES, 7, np.uint8),
        np.zeros(N_LANES, np.uint8),  # what no instruction wrote
    ]
    assert out.reshape(7, N_LANES).tolist() == [lanes.tolist() for lanes in expected]
    sums = row.astype(int) + 2 * other.astype(int)
    assert (total, first, greatest) == (sums.sum(), sums[0], row.max())


@njit
def sum_full_rows(n_rows):  # type: ignore[no-untyped-def]  # pragma: no cover, compiled
    sums = do.widen(do.fill(np.uint8(0)))
    for _ in range(n_rows):
        sums = do.add(sums, do.fill(np.uint8(255)))
    return do.total(sums)


def test_sums_hold_257_rows_of_the_greatest_byte() -> None:
    assert [sum_full_rows(n) for n in (0, 1, 257)] == [0, 32 * 255, 32 * (2**16 - 1)]
    assert sum_full_rows(258) < 32 * 2**16  # and no more: they wrap round


@njit
def read_bits(word):  # type: ignore[no-untyped-def]  # pragma: no cover, compiled
    return do.count_bits(word), do.count_zeros(word)


@pytest.mark.parametrize("word", [1, 2, 6, 2**63, 2**64 - 1, 0xF0F0, 0x8000_0000_0000_0100])
def test_bits_are_counted(word: int) -> None:
    digits = f"{word:b}"
    assert read_bits(np.uint64(word)) == (digits.count("1"), len(digits) - len(digits.rstrip("0")))
