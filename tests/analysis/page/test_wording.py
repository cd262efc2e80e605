"""Numbers as the report writes them: rounded to their noise, by a second computation."""

import math
import statistics
from decimal import Decimal

import numpy as np
import pytest

from analysis.page.wording import count_digits, format_estimate, format_with_error, share_digits


def _draw(n: int) -> list[tuple[float, float]]:
    """Values with errors over many magnitudes."""
    generator = np.random.default_rng(0)
    return [(float(generator.normal(0, 10)), float(10 ** generator.uniform(-5, 1))) for _ in range(n)]


def test_a_standard_error_has_one_digit_or_two() -> None:
    for value, error in _draw(500):
        shown, _, shown_error = format_with_error(value, error, 3).partition(" ± ")
        decimals = -int(Decimal(shown_error).as_tuple().exponent)
        assert decimals == -int(Decimal(shown).as_tuple().exponent)
        unit = Decimal(1).scaleb(-decimals)
        # The last decimal is at most half of the error, and more than a twentieth of it: one digit, or two.
        assert decimals == 0 or Decimal(error) / 20 < unit <= Decimal(error) / 2
        assert abs(Decimal(shown) - Decimal(value)) <= unit / 2
        assert abs(Decimal(shown_error) - Decimal(error)) <= unit / 2


def test_an_interval_is_rounded_as_its_half_width_is() -> None:
    for value, error in _draw(500):
        low, high = value - error, value + 2 * error
        numbers = format_estimate(value, low, high).replace("[", "").replace("]", "").replace(",", "").split()
        decimals = {-int(Decimal(number).as_tuple().exponent) for number in numbers}
        assert decimals == {next(digits for digits in range(9) if 10.0**-digits <= (high - low) / 4)}
        assert [float(number) for number in numbers] == pytest.approx(
            [value, low, high], abs=0.5001 * 10.0 ** -min(decimals)
        )


@pytest.mark.parametrize(("low", "high"), [(1.0, 1.0), (math.nan, 1.0), (-math.inf, 0.0), (2.0, 1.0)])
def test_an_interval_without_a_width_is_worth_no_decimal(low: float, high: float) -> None:
    assert count_digits(low, high) == 0


def test_a_column_has_as_many_decimals_as_most_of_its_rows_are_worth_or_fewer() -> None:
    generator = np.random.default_rng(1)
    for n in (1, 2, 3, 6, 9):
        rows = [(float(generator.normal()), float(10 ** generator.uniform(-4, 1))) for _ in range(n)]
        digits = share_digits([(value - half, value + half) for value, half in rows])
        own = [next(few for few in range(9) if 10.0**-few <= half / 2) for _, half in rows]
        assert digits == statistics.median_low(own)
        assert sum(digits <= each for each in own) > n / 2 or n == 2
        texts = [format_estimate(value, value - half, value + half, digits) for value, half in rows]
        assert {len(text.split(" [")[0].partition(".")[2]) for text in texts} == {digits}


def test_rows_without_an_interval_have_the_others_decimals() -> None:
    assert share_digits([(None, None), (0.11, 0.13), (0.5, 0.5)], 1) == 3
    assert share_digits([(None, None), (0.5, 0.5)], 1) == 1
