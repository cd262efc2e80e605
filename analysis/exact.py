"""Numbers as a table writes them: their order without rounding, and their places between the least and the largest."""

import math
from collections.abc import Iterable, Sequence
from decimal import Decimal
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from search_spaces.errors import InputError

MISSING = {"", "na", "n/a", "nan", "null", "none"}  # as R, pandas and SQL spell it, among numbers
MAX_DIGITS = 1000  # characters of one number: exact sums of longer ones would take minutes


def parse_numbers(texts: Sequence[str], where: str) -> list[Fraction | None]:
    """Read numbers exactly, None where one is missing.

    Args:
        where: what the texts are, for the error.

    Raises:
        InputError: text among numbers, or one that is infinite, too near 0 for a float, or longer than MAX_DIGITS.

    >>> parse_numbers(["0.1", "NA", "9007199254740993"], "column x")
    [Fraction(1, 10), None, Fraction(9007199254740993, 1)]
    """
    return [_parse(text, f"{where} holds {text!r:.80} in data row {i}") for i, text in enumerate(texts, 1)]


def _parse(text: str, what: str) -> Fraction | None:
    if text.lower() in MISSING:
        return None
    if len(text) > MAX_DIGITS:
        raise InputError(f"{what}, {len(text):,} characters; at most {MAX_DIGITS:,} are read: round it")
    try:
        value = float(text)
    except ValueError:
        raise InputError(f"{what}; numbers alone can be ranked") from None
    if math.isnan(value):
        return None
    if math.isinf(value):
        raise InputError(f"{what}; leave the field empty if it is missing")
    mantissa, _, _ = text.lower().partition("e")
    if value == 0 and any(character.isdecimal() and int(character) for character in mantissa):
        raise InputError(f"{what}, nearer to 0 than a float can be; multiply the whole column")
    return Fraction(Decimal(text))


def average_exactly(values: Sequence[Fraction], rows: NDArray[np.int64]) -> list[Fraction]:
    """Average the values of equal row numbers, 0..; equal repeats give equal means in any order.

    >>> average_exactly(parse_numbers(["0.1", "0.2", "0.3", "0.2"], "x"), np.array([0, 0, 0, 1]))
    [Fraction(1, 5), Fraction(1, 5)]
    """
    sums = [Fraction(0)] * (int(rows.max()) + 1)
    for row, value in zip(rows.tolist(), values, strict=True):
        sums[row] += value
    return [total / count for total, count in zip(sums, np.bincount(rows).tolist(), strict=True)]


def order_exactly(values: Iterable[Fraction]) -> NDArray[np.float64]:
    """Number distinct values from 0 in their order: what ranks need, where floats would make ties.

    >>> order_exactly([Fraction(2**53 + 1), Fraction(2**53), Fraction(2**53 + 1)]).tolist()
    [1.0, 0.0, 1.0]
    """
    values = list(values)
    distinct = sorted({(float(value), value) for value in values})  # floats are quick to compare, fractions are not
    places = {value: place for place, (_, value) in enumerate(distinct)}
    return np.array([places[value] for value in values], dtype=np.float64)


def scale_exactly(values: Sequence[Fraction]) -> NDArray[np.float64]:
    """Shift and stretch values to 0..1, so that no size is too large or too small to be squared; equal ones to 0.

    >>> scale_exactly([Fraction(10**300), Fraction(10**300 + 1), Fraction(10**300 + 4)]).tolist()
    [0.0, 0.25, 1.0]
    """
    low, high = min(values), max(values)
    width = high - low or Fraction(1)
    return np.array([float((value - low) / width) for value in values])
