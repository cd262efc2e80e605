"""Metrics by name: what is declared is stored and read, and what was not measured is said."""

import math

import pytest

from nas.records.metrics import (
    IMAGE_METRICS,
    Metric,
    Metrics,
    find_objective,
    find_problem,
    read_metrics,
    write_metrics,
)
from search_spaces.errors import InputError

TASK: Metrics = (Metric("f1", maximize=True), Metric("loss"))


@pytest.mark.parametrize("metrics", [IMAGE_METRICS, TASK])
def test_what_a_study_stores_is_read_back(metrics: Metrics) -> None:
    assert read_metrics(write_metrics(metrics)) == metrics


@pytest.mark.parametrize("stored", [[], "loss", ["loss"], [{"name": "loss"}], write_metrics(TASK) * 2])
def test_what_is_no_list_of_metrics_is_refused(stored: object) -> None:
    with pytest.raises(InputError, match="metrics"):
        read_metrics(stored)


@pytest.mark.parametrize(
    ("name", "metrics", "expected"),
    [
        (None, IMAGE_METRICS, "validation_loss"),
        ("accuracy", IMAGE_METRICS, "validation_accuracy"),
        ("validation_accuracy", IMAGE_METRICS, "validation_accuracy"),
        (None, TASK, "f1"),
        ("loss", TASK, "loss"),
    ],
)
def test_a_search_improves_a_metric_of_its_task(name: str | None, metrics: Metrics, expected: str) -> None:
    assert find_objective(name, metrics).name == expected


def test_an_objective_that_is_no_metric_is_refused_with_those_that_are() -> None:
    with pytest.raises(InputError, match=r"'bits'.* f1, loss"):
        find_objective("bits", TASK)


@pytest.mark.parametrize(
    ("values", "problem"),
    [
        ({"f1": 0.5, "loss": 2}, None),
        ({"f1": 0.5, "loss": 2.0, "bits": 3.0}, None),
        ({"f1": 0.5}, "loss"),
        ({}, "f1"),
        ({"f1": math.nan, "loss": 2.0}, "f1 is nan"),
        ({"f1": 0.5, "loss": 2.0, "bits": -math.inf}, "bits is -inf"),
    ],
)
def test_a_training_needs_every_metric_and_each_finite(values: dict[str, float], problem: str | None) -> None:
    found = find_problem(values, TASK)
    assert found is None if problem is None else problem in (found or "")
