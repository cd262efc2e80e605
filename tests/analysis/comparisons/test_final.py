"""Test accuracies: intervals and paired differences by an independent computation, and what the report says of them."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import optuna
import pandas as pd
import pytest
from scipy import stats

from analysis.comparisons.accuracy import choose_patterns, list_exports, measure_final
from analysis.data.results import read_run
from analysis.page.document import format_markdown
from analysis.report.report import compose_report
from nas.records.database import FINAL
from nas.records.plan import SCHEMA, VERSION, write_plan
from tests.support.synthetic_run import make_run, propose

PROPOSALS = propose(4, ["log", "nearest_log_i"])
ACCURACIES = {0: [0.90, 0.92, 0.97], 1: [0.91, 0.90, 0.92], 3: [0.95, 0.93, 0.99]}  # place -> by final seed
CHOSEN = [PROPOSALS[place] for place in ACCURACIES]


def in_search(place: int, seed: int) -> float:
    """Patterns 3 and 2 are the best; of the templates the first."""
    return [0.80, 0.70, 0.85, 0.88, 0.60, 0.61][place] + 0.01 * seed


@pytest.fixture
def run(tmp_path: Path) -> Path:
    path = make_run(tmp_path / "run", PROPOSALS, in_search, test_looked_at={"at": "2026-01-02T03:04:05+00:00"})
    plan: dict[str, Any] = {"schema": SCHEMA, "version": VERSION, "protocol": {}, "settings": {}, "cells": []}
    plan |= {"strata": [{"training": {"epochs": 7}}], "patterns": [], "order": [[0, 0, 0]] * 10}
    values = list(ACCURACIES.values())
    attributes: dict[str, Any] = {"measured_on": "test", "data": {"n_train": 1000, "n_test": 400}}
    final = make_run(
        path / FINAL, CHOSEN, lambda place, seed: values[place][seed - 10], (10, 11, 12), **attributes, plan="later"
    )
    study = optuna.load_study(study_name="skipsearch", storage=f"sqlite:///{final}/study.db")
    study.set_user_attr("plan", write_plan(final, plan))
    return path


def test_the_best_and_all_templates_of_a_stratum_are_chosen(run: Path) -> None:
    held = read_run(run)
    assert set(choose_patterns(held, 1)["key"]) == {PROPOSALS[place][2].key for place in (0, 1, 3)}
    assert set(choose_patterns(held, 2)["key"]) == {PROPOSALS[place][2].key for place in (0, 1, 2, 3)}


def test_a_run_without_final_trainings_has_none(tmp_path: Path) -> None:
    held = read_run(make_run(tmp_path / "run", PROPOSALS, in_search))
    assert measure_final(held) is None
    assert held.tested_at is None


def test_means_intervals_and_differences_are_those_of_scipy(run: Path) -> None:
    final = measure_final(read_run(run))
    assert final is not None
    assert (final.at, final.n_train, final.n_test, final.epochs) == ("2026-01-02T03:04:05+00:00", 1000, 400, (7,))
    assert final.n_left == 10 - 9
    found = {one.key: one for one in final.rows}
    assert len(found) == 3
    for place, values in ACCURACIES.items():
        one = found[PROPOSALS[place][2].key]
        assert one.test_accuracy == pytest.approx(sum(values) / 3)
        interval = stats.ttest_1samp(values, 0).confidence_interval(0.95)
        assert (one.low, one.high) == pytest.approx((interval.low, min(interval.high, 1.0)))
        assert one.validation_accuracy == pytest.approx(in_search(place, 0) + 0.005)
        assert one.number == list(ACCURACIES).index(place) * 3
    # Against log, which was the better template in the search, though not on the test images' first look.
    best, other, found_one = (found[PROPOSALS[place][2].key] for place in (0, 1, 3))
    assert best.difference is None
    for one, place in ((other, 1), (found_one, 3)):
        paired = stats.ttest_rel(ACCURACIES[place], ACCURACIES[0]).confidence_interval(0.95)
        assert one.difference == pytest.approx(sum(ACCURACIES[place]) / 3 - sum(ACCURACIES[0]) / 3)
        assert (one.difference_low, one.difference_high) == pytest.approx((paired.low, paired.high))


def test_rows_come_in_the_order_of_the_search(run: Path) -> None:
    final = measure_final(read_run(run))
    assert final is not None
    assert [one.key for one in final.rows] == [PROPOSALS[place][2].key for place in (3, 0, 1)]


def test_the_report_says_when_the_test_images_were_looked_at_and_what_they_showed(run: Path) -> None:
    text = format_markdown(compose_report(read_run(run)).blocks)
    assert "## Test accuracy" in text
    assert "looked at first on 2026-01-02" in text
    assert "1 of the trainings are still to come" in text
    assert "| log |" in text
    (row,) = [line for line in text.splitlines() if line.startswith("| f7c59f16ae10 |") and "[" in line]
    assert (
        row == r"| f7c59f16ae10 | 96 \[88, 100\] | +3 \[-3, +8\] | 88.5 | 3 |"
    )  # 0.9567 less 0.93, by their intervals
    assert "about 1.3 points" in text  # sqrt(0.932 * 0.068 / 400)


def test_a_failed_training_is_not_still_to_come(run: Path) -> None:
    study = optuna.load_study(study_name="skipsearch", storage=f"sqlite:///{run / FINAL}/study.db")
    lost = study.trials[-1]
    study.add_trial(
        optuna.trial.create_trial(
            state=optuna.trial.TrialState.FAIL,
            params=lost.params,
            distributions=lost.distributions,
            user_attrs={**lost.user_attrs, "seed": 13},
        )
    )
    final = measure_final(read_run(run))
    assert final is not None
    assert final.n_left == 0


def test_what_is_exported_is_the_best_and_what_was_measured_each_with_its_own(run: Path) -> None:
    held = read_run(run)
    final = measure_final(held)
    found = {row["key"]: one for row, one in list_exports(held, 2, final)}
    assert set(found) == {PROPOSALS[place][2].key for place in (0, 1, 2, 3)}
    assert found[PROPOSALS[2][2].key] is None  # the second best was not measured
    for place in ACCURACIES:
        one = found[PROPOSALS[place][2].key]
        assert one is not None
        assert one.key == PROPOSALS[place][2].key
    assert [one for _, one in list_exports(held, 1, None)] == [None]


def test_a_measurement_in_another_stratum_is_not_taken_for_a_patterns_own(run: Path) -> None:
    """The same patterns under another regime, with higher accuracies, so that their rows come first."""
    held = read_run(run)
    other = held.candidates.assign(regime="other", validation_accuracy=held.candidates["validation_accuracy"] + 0.05)
    both = replace(held, candidates=pd.concat([other, held.candidates], ignore_index=True))
    final = measure_final(held)
    assert final is not None
    rows = {row["key"]: (row, one) for row, one in list_exports(both, 2, final)}
    for place in ACCURACIES:
        row, one = rows[PROPOSALS[place][2].key]
        assert pd.isna(row["regime"])
        assert one is not None
        assert one.regime is None
    row, one = rows[PROPOSALS[2][2].key]
    assert (row["regime"], one) == ("other", None)
