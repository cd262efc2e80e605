import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from analysis.charts.scales import LEAST_GAIN, MOST_BEYOND, find_bulk, fit_scale

NUMBERS = st.lists(st.floats(-1e6, 1e6, allow_subnormal=False), min_size=1, max_size=40)


@given(NUMBERS)
def test_an_axis_keeps_nine_in_ten_and_is_cut_only_for_twice_the_room(values: list[float]) -> None:
    ordered = sorted(values)
    low, high = find_bulk(ordered)
    n_beyond = sum(not low <= value <= high for value in ordered)
    assert n_beyond <= MOST_BEYOND * len(ordered)
    if n_beyond:
        assert ordered[-1] - ordered[0] >= LEAST_GAIN * (high - low)
    else:
        assert (low, high) == (ordered[0], ordered[-1])


@given(NUMBERS, st.booleans())
def test_all_values_have_a_place_on_their_axis_in_their_order(values: list[float], is_upwards: bool) -> None:
    start, end = (300.0, 20.0) if is_upwards else (20.0, 300.0)
    scale = fit_scale(values, start, end)
    places = [scale.place(value) for value in sorted(values)]
    assert all(20 <= place <= 300 for place in places)
    assert places == sorted(places, reverse=is_upwards)


@pytest.mark.parametrize("is_log", [False, True])
@pytest.mark.parametrize(("low", "high"), [(0.1031, 0.1187), (0.02, 2.3), (3.0, 52.0), (1.0, 1.0), (1e-5, 4e5)])
def test_ticks_are_round_read_back_and_stand_where_their_numbers_do(low: float, high: float, is_log: bool) -> None:
    scale = fit_scale([low, high], 0, 400, is_log)
    ticks = scale.ticks()
    assert 2 <= len(ticks) <= 12
    assert len({text for _, text in ticks}) == len(ticks)
    for value, text in ticks:
        assert float(text.replace(",", "").replace("\u2212", "-")) == pytest.approx(value, rel=1e-3, abs=1e-12)
        share = (
            math.log(value / scale.low) / math.log(scale.high / scale.low)
            if is_log
            else (value - scale.low) / (scale.high - scale.low)
        )
        assert scale.place(value) == pytest.approx(400 * share)


def test_one_far_value_is_left_to_a_strip_and_says_on_which_side() -> None:
    near = np.linspace(1.6, 2.1, 20)
    right, left = fit_scale([*near, 5.7], 0, 500), fit_scale([*near, -5.7], 0, 500)
    assert right.below is None
    assert right.above == right.place(5.7) == 482
    assert right.place(2.1) - right.place(1.6) > 400
    assert left.above is None
    assert left.below == left.place(-5.7) == 18
    assert fit_scale([*near, 5.7, 5.8, 5.9], 0, 500).above is None  # three of 23 are no exception
