"""Outcomes of a task as columns: which there are, which way is better, and what statistics take of them."""

import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from analysis.data.averages import average_patterns
from analysis.data.outcomes import (
    OUTCOMES,
    Objective,
    OutcomeName,
    is_lower_better,
    list_outcomes,
    list_shown,
    mark_outcomes,
    name_outcomes,
    take_logarithms,
)
from analysis.data.results import COLUMNS, NETWORK_COLUMNS, read_run
from nas.records.metrics import IMAGE_METRICS, RESERVED, Metric
from tests.support.other_task import SCORED, TASK, make_search


def test_a_run_of_another_task_has_its_metrics_as_columns_in_the_place_of_those_of_images(tmp_path: Path) -> None:
    run = read_run(make_search(tmp_path / "run", n_drawn=2))
    assert run.metrics == TASK
    columns = list(run.candidates)
    place = list(COLUMNS).index("validation_accuracy")
    assert columns == [*list(COLUMNS)[:place], "loss", "bits_per_character", *list(COLUMNS)[place + 2 :]]
    ratio = run.candidates["bits_per_character"] / run.candidates["loss"]
    assert ratio.to_numpy() == pytest.approx(1 / math.log(2))
    assert set(run.curves["metric"]) == {"loss", "bits_per_character"}


def test_reserved_names_are_those_of_the_other_columns() -> None:
    metrics = {metric.name for metric in IMAGE_METRICS}
    assert {*COLUMNS, *NETWORK_COLUMNS} - metrics <= RESERVED
    assert not RESERVED & metrics


def test_tables_made_from_a_table_know_its_outcomes(tmp_path: Path) -> None:
    run = read_run(make_search(tmp_path / "run", metrics=SCORED, give=lambda _: {"f1": 0.5}, n_drawn=2))
    patterns = average_patterns(run.candidates)
    (rows,) = (rows for _, rows in run.candidates.groupby("budget"))
    for table in (patterns, patterns.iloc[0], rows.assign(more=1).dropna(subset=["f1"]), pd.concat([rows, rows])):
        (outcome,) = list_outcomes(table)
        assert (outcome, is_lower_better(outcome)) == ("f1", False)


def test_of_images_statistics_take_the_loss_first_and_pages_the_accuracy() -> None:
    table = mark_outcomes(pd.DataFrame({"validation_loss": [1.0]}), IMAGE_METRICS)
    assert table.attrs == {}
    assert list_outcomes(table) == name_outcomes(IMAGE_METRICS) == OUTCOMES
    assert list_shown(table) == ("validation_accuracy", "validation_loss")
    assert [is_lower_better(str(outcome)) for outcome in OUTCOMES] == [True, False]
    assert take_logarithms(table) is table


def test_patterns_are_sorted_by_the_better_mean_of_each_outcome_in_turn(tmp_path: Path) -> None:
    give = {"log": {"f1": 0.5, "bits": 2.0}, "nearest_log_i": {"f1": 0.5, "bits": 1.0}, None: {"f1": 0.9, "bits": 3.0}}
    run = read_run(
        make_search(
            tmp_path / "run",
            lambda candidate: give.get(candidate.template, {"f1": 0.1, "bits": 0.5}),
            (Metric("f1", maximize=True), Metric("bits")),
            budgets=("log",),
            n_drawn=1,
        )
    )
    patterns = average_patterns(run.candidates)
    assert patterns["f1"].is_monotonic_decreasing
    assert patterns["bits"].tolist()[:3] == [3.0, 1.0, 2.0]
    assert patterns["bits"].tolist()[3:] == [0.5] * (len(patterns) - 3)


@pytest.mark.parametrize(
    ("metric", "values", "is_log"),
    [
        (Metric("loss"), [1.0, 4.0, np.nan], True),
        (Metric("dice_loss"), [0.5, 2.0, 1.0], True),
        (Metric("loss"), [1.0, 0.0, 2.0], False),  # it has no logarithm
        (Metric("loss"), [1.0, -2.0, 2.0], False),
        (Metric("bits"), [1.0, 4.0, 2.0], False),
        (Metric("loss", maximize=True), [1.0, 4.0, 2.0], False),
    ],
)
def test_statistics_take_the_logarithm_of_a_loss_that_has_one(
    metric: Metric, values: list[float], is_log: bool
) -> None:
    table = mark_outcomes(pd.DataFrame({metric.name: values}), (metric,))
    taken = take_logarithms(table)
    (outcome,) = list_outcomes(taken)
    assert (outcome.is_log, outcome.maximize) == (is_log, metric.maximize)
    assert np.exp(taken[metric.name].to_numpy()) == pytest.approx(
        values if is_log else np.exp(values), rel=1e-12, nan_ok=True
    )
    assert table[metric.name].tolist() == pytest.approx(values, nan_ok=True)


@pytest.mark.parametrize(
    ("outcome", "name", "value", "cost"),
    [
        (OUTCOMES[0], "loss", 2.0, math.log(2)),
        (OUTCOMES[1], "accuracy", 0.75, math.log(0.25 + 0.5 / 100)),
        (OutcomeName("loss"), "loss", -1.0, None),
        (OutcomeName("bits"), "bits", 2.0, 2.0),
        (OutcomeName("f1", maximize=True), "f1", 0.25, -0.25),
    ],
)
def test_an_objective_is_named_in_short_and_has_costs(
    outcome: OutcomeName, name: str, value: float, cost: float | None
) -> None:
    objective = Objective(outcome)
    found = objective.find_cost(value, 100)
    assert objective == name
    assert found is None if cost is None else found == pytest.approx(cost)
