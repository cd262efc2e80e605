"""Costs: lower is better, and what has no result has none."""

import math

import pytest

from search_spaces.surrogate.target import find_cost

ACCURACY, LOSS = "validation_accuracy", "validation_loss"


@pytest.mark.parametrize("name", [LOSS, "loss", "dice_loss"])
def test_a_lower_loss_costs_less_by_its_ratio(name: str) -> None:
    costs = [find_cost({ACCURACY: 0.5, name: loss}, name, 100) for loss in (0.4, 0.2)]
    assert None not in costs
    assert costs[0] - costs[1] == pytest.approx(math.log(2))  # type: ignore[operator]


def test_fewer_errors_cost_less_and_none_has_a_cost_too() -> None:
    costs = [find_cost({ACCURACY: accuracy}, ACCURACY, 50, maximize=True) for accuracy in (0.9, 0.98, 1.0)]
    assert costs == pytest.approx([math.log(5.5 / 50), math.log(1.5 / 50), math.log(0.5 / 50)])


def test_any_other_metric_costs_what_it_is_or_the_opposite_where_more_is_better() -> None:
    values = {"bits": -2.5, "f1": 0.75, "glosses": 3.0}
    assert find_cost(values, "bits", 0) == -2.5
    assert find_cost(values, "f1", 0, maximize=True) == -0.75
    assert find_cost(values, "glosses", 0) == 3.0


@pytest.mark.parametrize("value", [math.nan, math.inf, 0.0, -1.0])
def test_a_loss_that_is_none_has_no_cost(value: float) -> None:
    assert find_cost({LOSS: value, ACCURACY: 0.9}, LOSS, 100) is None


@pytest.mark.parametrize("metrics", [{}, {ACCURACY: math.nan}, {LOSS: 0.5}])
def test_a_training_without_the_metric_has_no_cost(metrics: dict[str, float]) -> None:
    assert find_cost(metrics, ACCURACY, 100) is None
