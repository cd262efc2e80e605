"""Numbers as a table writes them: their order, means and squares without rounding."""

import math
from collections.abc import Iterable, Sequence
from decimal import Decimal
from fractions import Fraction
from operator import mul

import numpy as np
from numpy.typing import NDArray

from search_spaces.errors import InputError

MISSING = {"", "na", "n/a", "nan", "null", "none"}  # as R, pandas and SQL spell it, among numbers
MAX_DIGITS = 1000  # characters of one number: exact sums of longer ones would take minutes


def parse_numbers(texts: Sequence[str], where: str) -> list[Fraction | None]:
    """Read numbers exactly, with None where one is missing.

    Args:
        where: name of the texts, for errors.

    Raises:
        InputError: text among numbers, or one that is infinite, too near 0 for a float, or longer than MAX_DIGITS.

    >>> parse_numbers(["0.1", "NA", "9007199254740993"], "column x")
    [Fraction(1, 10), None, Fraction(9007199254740993, 1)]
    """
    return [_parse(text, f"{where} has {text!r:.80} in data row {i}") for i, text in enumerate(texts, 1)]


def _parse(text: str, what: str) -> Fraction | None:
    if text.lower() in MISSING:
        return None
    if len(text) > MAX_DIGITS:
        raise InputError(f"{what}, {len(text):,} characters; at most {MAX_DIGITS:,} are read: round it")
    try:
        value = float(text)
    except ValueError:
        comma = ", written with a point for decimals and no mark for thousands" if "," in text else ""
        raise InputError(f"{what}; only numbers can be ranked{comma}") from None
    if math.isnan(value):
        return None
    if math.isinf(value):
        raise InputError(f"{what}; leave the field empty if it is missing")
    mantissa, _, _ = text.lower().partition("e")
    if value == 0 and any(character.isdecimal() and int(character) for character in mantissa):
        raise InputError(f"{what}, nearer to 0 than a float can be; multiply the whole column")
    return Fraction(Decimal(text))


def average_exactly(values: Sequence[Fraction], rows: NDArray[np.int64]) -> list[Fraction]:
    """Average the values that share a row number, 0..; equal repeats give equal means in any order.

    >>> average_exactly(parse_numbers(["0.1", "0.2", "0.3", "0.2"], "x"), np.array([0, 0, 0, 1]))
    [Fraction(1, 5), Fraction(1, 5)]
    """
    sums = [Fraction(0)] * (int(rows.max()) + 1)
    for row, value in zip(rows.tolist(), values, strict=True):
        sums[row] += value
    return [total / count for total, count in zip(sums, np.bincount(rows).tolist(), strict=True)]


def order_exactly(values: Iterable[Fraction]) -> NDArray[np.float64]:
    """Number distinct values from 0 in their order, where floats would make ties.

    >>> order_exactly([Fraction(2**53 + 1), Fraction(2**53), Fraction(2**53 + 1)]).tolist()
    [1.0, 0.0, 1.0]
    """
    values = list(values)
    distinct = sorted({(float(value), value) for value in values})  # floats are quick to compare, fractions are not
    places = {value: place for place, (_, value) in enumerate(distinct)}
    return np.array([places[value] for value in values], dtype=np.float64)


def scale_exactly(values: Sequence[Fraction]) -> NDArray[np.float64]:
    """Scale values to 0..1, so that their squares are floats; equal ones become 0.

    >>> scale_exactly([Fraction(10**300), Fraction(10**300 + 1), Fraction(10**300 + 4)]).tolist()
    [0.0, 0.25, 1.0]
    """
    low, high = min(values), max(values)
    width = high - low or Fraction(1)
    return np.array([float((value - low) / width) for value in values])


def explain_exactly(x: Sequence[Fraction], y: Sequence[Fraction], groups: NDArray[np.int64]) -> float | None:
    """Return the share of the variance of y inside groups that a parabola explains by least squares, 0..1.

    One parabola, in x less its group's mean, fits all groups, each with its own level. Sums are whole numbers: next to
    an x of 1e300, floats would make all other x equal.

    Returns:
        None where x or y is constant in every group, or no row would be left over.

    >>> numbers = [Fraction(number, 7) for number in range(5)]
    >>> explain_exactly(numbers, [(number - 2) ** 2 for number in numbers], np.zeros(5, dtype=np.int64))
    1.0
    """
    members = [np.flatnonzero(groups == group).tolist() for group in np.unique(groups)]
    if len(x) < len(members) + 3:
        return None
    whole_x, whole_y = _clear_denominators(x), _clear_denominators(y)
    aa = ac = cc = ab = cb = bb = Fraction(0)  # sums of products of a: x, c: its square and b: y, each less group means
    for rows in members:
        n = len(rows)
        sum_x, sum_y = sum(whole_x[i] for i in rows), sum(whole_y[i] for i in rows)
        a, b = [n * whole_x[i] - sum_x for i in rows], [n * whole_y[i] - sum_y for i in rows]  # n times too large
        squares = [value * value for value in a]
        square_sum = Fraction(sum(squares), n**2)
        aa += square_sum
        ac += Fraction(sum(map(mul, squares, a)), n**3)
        cc += Fraction(sum(map(mul, squares, squares)), n**4) - square_sum**2 / n
        ab += Fraction(sum(map(mul, a, b)), n**2)
        cb += Fraction(sum(map(mul, squares, b)), n**3)
        bb += Fraction(sum(map(mul, b, b)), n**2)
    if aa == 0 or bb == 0:
        return None
    left = cc - ac**2 / aa  # of the square beyond the line; 0 where x has two values
    beyond = cb - ac * ab / aa
    return float((ab**2 / aa + (beyond**2 / left if left else 0)) / bb)


def _clear_denominators(values: Sequence[Fraction]) -> list[int]:
    """Multiply by the least number that makes all values whole."""
    factor = math.lcm(*{value.denominator for value in values})
    return [value.numerator * (factor // value.denominator) for value in values]
