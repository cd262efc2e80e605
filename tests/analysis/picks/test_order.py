"""Which pattern a search recommends, and that status, export, final measurement and report recommend the same."""

from dataclasses import replace

import pandas as pd
import pytest

from analysis.comparisons.accuracy import choose_patterns, list_exports
from analysis.data.averages import average_patterns
from analysis.picks.found import judge_search
from analysis.picks.order import order_patterns, summarise_found, summarise_status
from analysis.report.report import compose_report
from analysis.study.view import view_strata
from search_spaces.seeds import derive_generator
from tests.support.synthetic_run import propose
from tests.support.synthetic_search import make_search, plant_loss

PROPOSALS = propose(11, ["log", "nearest_log_i"])
LUCKY, STEADY = 4, 7


def _lose(place: int, seed: int) -> float:
    return 0.5 + 0.06 * derive_generator("noise", place, seed).normal()


NOISY = {place: [_lose(place, seed) for seed in range(2)] for place in range(len(PROPOSALS))}
NOISY |= {LUCKY: [0.33], STEADY: [0.40, 0.39, 0.41, 0.40, 0.39, 0.42]}


def test_one_lucky_training_is_not_the_pick() -> None:
    run = make_search(PROPOSALS, NOISY, objective="loss")
    (found,) = judge_search(run)
    lucky, steady = PROPOSALS[LUCKY][2].key, PROPOSALS[STEADY][2].key
    observed = {ranked.key: ranked.observed for ranked in found.ranked}
    assert min(observed, key=lambda key: observed[key]) == lucky
    assert found.pick.key == steady
    by_key = {ranked.key: ranked for ranked in found.ranked}
    expected = by_key[lucky].expected
    assert expected is not None
    assert expected.value > by_key[lucky].observed + 0.05  # drawn towards the others


def test_everything_recommends_in_the_same_order() -> None:
    run = make_search(PROPOSALS, NOISY, objective="loss", seed=3)
    (found,) = judge_search(run)
    order = [ranked.key for ranked in found.ranked]
    assert order_patterns(run)["key"].tolist() == order
    assert average_patterns(run.candidates)["key"].tolist() != order
    exports = list_exports(run, 5, None)
    assert [row["key"] for row, _ in exports] == order[:5]
    assert exports[0][0]["n_trainings"] == 6
    chosen = choose_patterns(run, 3)["key"].tolist()
    named = [pattern.key for template, _, pattern in PROPOSALS if template]
    assert chosen == [key for key in order if key in {*order[:3], *named}]
    (view,) = view_strata(run, 0, picks=(found,)).strata
    assert view.patterns["key"].tolist() == order
    best = summarise_status(run)["best"]
    assert set(best) == {
        *("key", "mean_bd", "value"),
        *("objective", "n_trainings", "expected", "interval", "chance_better_than_log"),
    }
    assert best["key"] == order[0]
    expected = found.pick.expected
    assert expected is not None
    assert best["expected"] == exports[0][0]["expected"] == pytest.approx(expected.value, rel=1e-4)
    assert best["interval"] == pytest.approx({"low": expected.low, "high": expected.high}, rel=1e-4)


def test_studies_keep_their_order() -> None:
    study = make_search(PROPOSALS, NOISY, kind="study", objective="loss")
    assert judge_search(study) == ()
    pd.testing.assert_frame_equal(order_patterns(study), average_patterns(study.candidates))
    assert set(summarise_status(study)["best"]) == {"key", "mean_bd", "value"}


def test_a_run_that_names_no_objective_ranks_by_accuracy() -> None:
    run = make_search(PROPOSALS, NOISY)
    contrary = run.candidates.assign(validation_loss=3 - run.candidates["validation_loss"])
    older, newer = (replace(run, candidates=contrary, config=config) for config in ({}, {"objective": "loss"}))
    (by_accuracy,), (by_loss,) = judge_search(older), judge_search(newer)
    assert (by_accuracy.objective, by_loss.objective) == ("accuracy", "loss")
    assert by_accuracy.pick.key == PROPOSALS[STEADY][2].key
    assert by_loss.pick.key != by_accuracy.pick.key


def test_with_few_patterns_plain_means_rank_and_all_seeds_come_first() -> None:
    few = propose(4)
    losses = {0: [0.5, 0.6], 1: [0.4, 0.5], 2: [0.1], 3: [0.45, 0.4]}
    (found,) = judge_search(make_search(few, losses, objective="loss"))
    assert found.basis == "few"
    assert [ranked.key for ranked in found.ranked] == [few[place][2].key for place in (3, 1, 0, 2)]
    assert found.pick.observed == pytest.approx((0.45 * 0.4) ** 0.5)
    assert [found.pick.expected, found.log, found.random, found.over_template] == [None] * 4
    best = summarise_status(make_search(few, losses, objective="loss"))["best"]
    assert (best["expected"], best["interval"], best["n_trainings"]) == (None, None, 2)


@pytest.mark.parametrize(
    ("change", "basis"),
    [
        ({"largest_class": 0.99}, "unlearned"),
        ({"data": {}}, "unknown"),
        ({"config": {"objective": "loss"}}, "model"),
    ],
)
def test_why_plain_means_stand_in(change: dict[str, object], basis: str) -> None:
    run = replace(make_search(PROPOSALS, NOISY), **change)  # type: ignore[arg-type]
    (found,) = judge_search(run)
    assert found.basis == basis
    assert (found.pick.expected is None) == (basis != "model")
    assert summarise_found(found)["basis"] == basis


def test_budgets_are_ranked_apart_and_the_better_one_comes_first() -> None:
    proposals = [*propose(9, budget="total:14"), *propose(9, budget="total:20")]
    budgets = ["total:14"] * 9 + ["total:20"] * 9
    losses = {place: [plant_loss(pattern, 0) / (1 + (place > 8))] for place, (_, _, pattern) in enumerate(proposals)}
    run = make_search(proposals, losses, budgets, objective="loss")
    small, large = judge_search(run)
    assert (small.budget, large.budget) == ("total:14", "total:20")
    order = order_patterns(run)["key"].tolist()
    assert order[0] == large.pick.key
    assert [key for key in order if key in {each.key for each in small.ranked}] == [each.key for each in small.ranked]


@pytest.mark.slow
def test_summary_and_page_say_the_same() -> None:
    report = compose_report(make_search(PROPOSALS, NOISY, objective="loss"))
    (told,) = report.summary["picks"]
    assert told["ranked"][0]["key"] == PROPOSALS[STEADY][2].key
    assert told["sentence"] in [getattr(block, "text", "") for block in report.blocks]
