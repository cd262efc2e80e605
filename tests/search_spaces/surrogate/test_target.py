"""Costs: lower is better, and what has no result has none."""

import math

import pytest

from search_spaces.surrogate.target import find_cost


def test_a_lower_loss_costs_less_by_its_ratio() -> None:
    costs = [find_cost(loss, 0.5, "loss", 100) for loss in (0.4, 0.2)]
    assert None not in costs
    assert costs[0] - costs[1] == pytest.approx(math.log(2))  # type: ignore[operator]


def test_fewer_errors_cost_less_and_none_has_a_cost_too() -> None:
    costs = [find_cost(None, accuracy, "accuracy", 50) for accuracy in (0.9, 0.98, 1.0)]
    assert costs == pytest.approx([math.log(5.5 / 50), math.log(1.5 / 50), math.log(0.5 / 50)])


@pytest.mark.parametrize("value", [None, math.nan, math.inf, 0.0])
def test_a_loss_that_is_none_has_no_cost(value: float | None) -> None:
    assert find_cost(value, 0.9, "loss", 100) is None


@pytest.mark.parametrize("value", [None, math.nan])
def test_an_accuracy_that_is_none_has_no_cost(value: float | None) -> None:
    assert find_cost(0.1, value, "accuracy", 100) is None
