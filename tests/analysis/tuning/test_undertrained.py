"""Which learning rates are far from the best, in the study that tuned them and in others of the same settings."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from analysis.data.results import Run
from analysis.tuning.rates import count_steps, list_exploratory, list_rates
from analysis.tuning.undertrained import BestRate, judge_rate, list_far_rates, summarise_rates

SETTINGS = {"budget": "log", "growth": 4, "blocks": 1, "dataset": "digits", "train_examples": 300}


def stratum(lr: float, tuned: bool = True, **changes: Any) -> dict[str, Any]:
    training = {"epochs": 9, "lr": lr, "batch_size": 16, "weight_decay": 1e-4}
    own = {"layers": 24, "budget": "log", "regime": f"lr {lr:g}", "checks": None, "training": training}
    return {**own, **({"tuned": True} if tuned else {}), **changes}


def plan_run(strata: list[dict[str, Any]], n_train: int | None = 300, **settings: Any) -> Run:
    """A run with a plan and no trainings."""
    plan = {"strata": strata, "settings": SETTINGS | settings}
    return Run(Path("run"), pd.DataFrame(), pd.DataFrame(), None, {}, {}, {"name": "digits", "n_train": n_train}, plan)


TUNED = plan_run([stratum(lr) for lr in (0.8, 0.05, 0.1, 0.2, 0.4)])
(RATES,) = list_rates(TUNED)


def best_at(*lrs: float, edges: tuple[str, ...] = ()) -> BestRate:
    return summarise_rates(RATES, np.array(lrs), edges or ("inside",) * len(lrs))


def test_the_rates_of_a_plan_are_found_in_order() -> None:
    assert RATES.rates == (0.05, 0.1, 0.2, 0.4, 0.8)
    assert RATES.regimes == ("lr 0.05", "lr 0.1", "lr 0.2", "lr 0.4", "lr 0.8")
    assert (RATES.layers, RATES.budget, RATES.steps) == (24, "log", 162)
    assert list_exploratory(TUNED) == RATES.regimes
    both = plan_run([stratum(lr, layers=layers) for layers in (24, 52) for lr in (0.1, 0.2, 0.4)])
    assert [(rates.layers, rates.rates) for rates in list_rates(both)] == [(24, (0.1, 0.2, 0.4)), (52, (0.1, 0.2, 0.4))]
    assert list_exploratory(both) == ("lr 0.1", "lr 0.2", "lr 0.4")


def test_checks_and_other_studies_have_no_tuned_rates() -> None:
    with_check = plan_run([*(stratum(lr) for lr in (0.1, 0.2, 0.4)), stratum(0.1, tuned=False, checks="lr 0.1")])
    assert [rates.rates for rates in list_rates(with_check)] == [(0.1, 0.2, 0.4)]
    assert list_rates(plan_run([stratum(0.15, tuned=False)])) == ()
    assert list_rates(replace(TUNED, plan=None)) == ()
    assert list_exploratory(replace(TUNED, plan=None)) == ()


@pytest.mark.parametrize(
    ("n_train", "batch_size", "steps"), [(300, 16, 162), (320, 16, 180), (10, 16, 9), (None, 16, None), (0, 16, None)]
)
def test_steps_leave_the_incomplete_batch_out(n_train: int | None, batch_size: int, steps: int | None) -> None:
    assert count_steps({"epochs": 9, "batch_size": batch_size}, n_train) == steps


def test_best_rates_are_summarised_by_quartiles_on_a_logarithmic_scale() -> None:
    best = best_at(0.1, 0.2, 0.4, 0.8, edges=("lowest", "inside", "diverged", "highest"))
    assert best.median == pytest.approx((0.2 * 0.4) ** 0.5)
    assert (best.low, best.high) == pytest.approx((0.1 * 2**0.75, 0.4 * 2**0.25))
    assert (best.n_patterns, best.n_lowest, best.n_highest, best.n_diverged) == (4, 1, 1, 1)


@pytest.mark.parametrize(
    ("lr", "fault"), [(0.05, "undertrained"), (0.09, "undertrained"), (0.101, None), (0.85, None), (1.0, "overheated")]
)
def test_a_rate_more_than_three_times_off_is_far(lr: float, fault: str | None) -> None:
    assert judge_rate(lr, best_at(0.3, 0.3, 0.3)) == fault


def test_where_most_are_best_at_an_end_only_what_holds_beyond_is_said() -> None:
    highest = best_at(0.8, 0.8, 0.4, edges=("highest", "highest", "inside"))
    assert (judge_rate(0.1, highest), judge_rate(3.0, highest)) == ("undertrained", None)
    lowest = best_at(0.05, 0.05, 0.1, edges=("lowest", "lowest", "inside"))
    assert (judge_rate(0.01, lowest), judge_rate(0.4, lowest)) == (None, "overheated")
    few = best_at(0.05, 0.1, 0.1, edges=("lowest", "inside", "inside"))
    assert judge_rate(0.01, few) == "undertrained"


def test_far_rates_of_the_study_that_tuned_them() -> None:
    far = list_far_rates(TUNED, [best_at(0.25, 0.25)])
    assert [(each.regime, each.fault) for each in far] == [("lr 0.8", "overheated"), ("lr 0.05", "undertrained")]
    assert [each.factor for each in far] == pytest.approx([3.2, 0.2])
    assert list_far_rates(TUNED, []) == ()
    assert list_far_rates(replace(TUNED, plan=None), [best_at(0.25)]) == ()


@pytest.mark.parametrize(
    "change",
    [
        {"settings": {"growth": 8}},
        {"settings": {"train_examples": 1000}},
        {"stratum": {"layers": 52}},
        {"stratum": {"budget": "total:40"}},
        {"stratum": {"training": {"epochs": 20, "lr": 0.05, "batch_size": 16, "weight_decay": 1e-4}}},
        {"data": "fashion-mnist"},
    ],
    ids=str,
)
def test_only_a_study_of_the_same_settings_is_judged(change: dict[str, Any]) -> None:
    best = [best_at(0.25, 0.25)]
    other = plan_run([stratum(0.05, tuned=False, regime="low-lr"), stratum(0.15, tuned=False, regime="high-lr")])
    assert [each.regime for each in list_far_rates(other, best)] == ["low-lr"]
    changed = plan_run([stratum(0.05, tuned=False, **change.get("stratum", {}))], **change.get("settings", {}))
    if "data" in change:
        changed = replace(changed, data={"name": change["data"]})
    assert list_far_rates(changed, best) == ()
