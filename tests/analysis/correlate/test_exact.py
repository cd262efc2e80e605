import math
import random
from fractions import Fraction

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis.correlate.exact import average_exactly, order_exactly, parse_numbers, scale_exactly
from search_spaces.errors import InputError

by_luck = settings(max_examples=40, deadline=None)


@pytest.mark.parametrize("text", ["oops", "=1+1", "1/3", "inf", "-1e999", "1e-999", "1" * 1001, "0x10"])
def test_what_is_no_number_is_refused_with_its_row(text: str) -> None:
    with pytest.raises(InputError) as caught:
        parse_numbers(["1", text], "column x")
    assert f"column x has {text[:70]!r}"[:-1] in str(caught.value)
    assert "data row 2" in str(caught.value)


def test_missing_and_odd_spellings() -> None:
    assert parse_numbers(["", "NA", "NaN", "None", "-nan"], "x") == [None] * 5
    texts = ["1_000", "1e3", ".5", "5.", "-0.0", "0e-999", "5e-324", "1.7e308"]
    result = parse_numbers(texts, "x")
    assert [math.nan if value is None else float(value) for value in result] == [float(text) for text in texts]


@by_luck
@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1, max_size=30))
def test_order_is_that_of_scipys_dense_ranks_at_any_size(values: list[float]) -> None:
    exact = [Fraction(value) for value in values]
    assert order_exactly(exact).tolist() == (scipy.stats.rankdata(values, "dense") - 1).tolist()
    scaled = scale_exactly(exact)
    assert scaled.min() == 0
    assert scaled.max() == (len(set(values)) > 1)
    assert (np.diff(scaled[np.argsort(values, kind="stable")]) >= 0).all()


@by_luck
@given(st.lists(st.decimals(-1000, 1000, places=3), min_size=1, max_size=6), st.randoms())
def test_equal_repeats_have_equal_means_in_any_order(values: list[object], generator: random.Random) -> None:
    shuffled = generator.sample(values, len(values))
    exact = parse_numbers([str(value) for value in [*values, *shuffled]], "x")
    means = average_exactly([value for value in exact if value is not None], np.repeat([0, 1], len(values)))
    assert means[0] == means[1]
    assert float(means[0]) == pytest.approx(np.mean([float(str(value)) for value in values]))


def test_neighbours_beyond_the_floats_keep_their_order() -> None:
    exact = [Fraction(2**60 + step) for step in (3, 1, 2, 1)]
    assert order_exactly(exact).tolist() == [2, 0, 1, 0]
    assert scale_exactly(exact).tolist() == [1, 0, 0.5, 0]
