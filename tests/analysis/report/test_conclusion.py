"""What came out of a run, in words that are never stronger than their intervals, and the numbers next to them."""

from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from analysis.comparisons.accuracy import Final, FinalAccuracy
from analysis.comparisons.standing import Standing
from analysis.comparisons.words import conclude_final, conclude_lineup
from analysis.data.outcomes import OUTCOMES, Objective
from analysis.data.results import Run, read_run
from analysis.picks.expect import Expected, Gain
from analysis.picks.found import Basis, Found, judge_search
from analysis.picks.words import UNLEARNED, conclude_found
from analysis.report.conclusion import Amount, conclude, format_amounts
from analysis.report.cost import describe_cost, sum_spans
from analysis.stats.guessing import Guessing, Learning
from analysis.study.verdict import MOST_WORDS
from analysis.tradeoff.contenders import FOUND, RANDOM
from analysis.tradeoff.points import Answer, Tradeoff
from analysis.tradeoff.words import conclude_tradeoff
from nas.records.database import Times
from search_spaces.pattern import ConnectionPattern
from tests.support.synthetic_run import make_run, propose
from tests.support.synthetic_search import make_search, plant_loss

UNLEARNT = Learning(0.1, 0.08, 4, Guessing(10, 0.1, 400))
OF = Expected(0.2, 0.15, 0.25)


def _gain(change: float, low: float, high: float) -> Gain:
    return Gain(change, low, high, 0.5, OF)


@pytest.fixture(scope="module")
def searched() -> Run:
    """A search by the model's own rules, whose loss rises with walk length."""
    proposals = [(name, "model", pattern) for name, _, pattern in propose(10, ("log", "nearest_log_i"))]
    losses = {
        place: [plant_loss(pattern, seed, 0.01) for seed in range(2)] for place, (_, _, pattern) in enumerate(proposals)
    }
    return make_search(proposals, losses, objective="loss", strategy="model")


@pytest.fixture(scope="module")
def found(searched: Run) -> Found:
    (only,) = judge_search(searched)
    assert only.basis == "model" and only.log is not None and only.template is not None
    return only


def _say(found: Found, **changes: Any) -> str:
    sentence = conclude_found(replace(found, **changes))
    assert 0 < len(sentence.split()) <= MOST_WORDS
    assert sentence.endswith(".")
    return sentence


@pytest.mark.parametrize("objective", [*map(Objective, OUTCOMES)])
def test_a_pattern_is_taken_only_where_the_interval_leaves_out_no_difference(
    found: Found, objective: Objective
) -> None:
    generator = np.random.default_rng(0)
    for low, high in np.sort(generator.normal(0, 0.2, (200, 2))):
        pick = replace(found.pick, objective=objective)
        log = _gain((low + high) / 2, low, high)
        sentence = _say(found, objective=objective, ranked=(pick, *found.ranked[1:]), log=log)
        assert sentence.startswith("Take ") == (high < 0)
        assert ("not told apart" in sentence) == (low <= 0 <= high or low > 0)


def test_the_words_of_a_gain_are_its_numbers(found: Found) -> None:
    name = found.pick.template or found.pick.key[:12]
    assert name in _say(found, log=_gain(-0.303, -0.392, -0.181))
    assert _say(found, log=_gain(-0.303, -0.392, -0.181)).endswith(
        "expect 30 % lower loss (18 to 39 %) than template log."
    )
    undecided = _say(found, log=_gain(-0.06, -0.131, 0.019))
    assert undecided.endswith("is not told apart from template log: between 2 % higher and 13 % lower loss.")


def test_without_log_the_pick_is_compared_with_what_there_is(found: Found) -> None:
    over = {"log": None, "over_template": _gain(-0.2, -0.3, -0.1)}
    assert found.template is not None
    assert _say(found, **over).endswith(f"than template {found.template.name}.")
    assert _say(found, **{**over, "over_template": None}).endswith("a random draw.")
    alone = _say(found, log=None, over_template=None, random=None)
    assert "no template to compare it with" in alone
    log = replace(found.pick, template="log", over_log=None)
    assert "Template log comes first" in _say(found, ranked=(log, *found.ranked[1:]), log=None)


@pytest.mark.parametrize(
    ("basis", "words"),
    [("few", "too few"), ("unequal", "differ in size"), ("many", "expect less"), ("unknown", "expect less")],
)
def test_where_nothing_is_expected_the_best_mean_is_named_with_its_fault(
    found: Found, basis: Basis, words: str
) -> None:
    ranked = tuple(replace(each, expected=None, over_log=None, order=(False, *each.order[1:])) for each in found.ranked)
    plain: dict[str, Any] = {"basis": basis, "log": None, "over_template": None, "random": None}
    sentence = _say(found, ranked=ranked, **plain)
    assert words in sentence and "best mean loss" in sentence
    assert not sentence.startswith("Take")
    assert f"Of {len(ranked)} patterns, " in sentence
    lacking = [replace(each, order=(True, *each.order[1:])) for each in ranked]
    assert "Of 2 patterns with all seeds, " in _say(found, ranked=(*ranked[:2], *lacking[2:]), **plain)
    assert "the only pattern trained with all seeds" in _say(found, ranked=(ranked[0], *lacking[1:]), **plain)
    only = _say(found, ranked=ranked[:1], **plain)
    assert "only pattern trained" in only and "best" not in only


def test_networks_that_learned_nothing_recommend_no_pattern(found: Found) -> None:
    assert _say(found, basis="unlearned") == UNLEARNED


def test_a_searchs_rows_are_its_ranking_and_gains_are_ratios_of_what_is_expected(searched: Run, found: Found) -> None:
    conclusion = conclude(searched)
    assert conclusion.sentence == conclude_found(found)
    assert [row.key for row in conclusion.rows] == [each.key for each in found.ranked[:5]]
    log = next(each for each in found.ranked if each.template == "log")
    assert log.expected is not None
    assert (conclusion.outcome, conclusion.gain) == ("expected loss", "lower loss than log (%)")
    for row, each in zip(conclusion.rows, found.ranked, strict=False):
        assert each.expected is not None
        assert row.outcome == Amount(each.expected.value, each.expected.low, each.expected.high)
        assert row.trainings == len(each.outcomes)
        if each is log:
            assert row.gain is None
            continue
        # The cost of a loss is its logarithm, so a gain is what two expected losses differ by.
        assert row.gain is not None and row.gain.low is not None and row.gain.high is not None
        assert row.gain.value == pytest.approx(100 * (1 - each.expected.value / log.expected.value), rel=1e-9)
        assert row.gain.low < row.gain.value < row.gain.high


def test_the_numbers_have_what_is_gained_over_a_random_draw_and_the_best_template(searched: Run, found: Found) -> None:
    numbers = " ".join(conclude(searched).numbers)
    assert "a random draw" in numbers and "template log" in numbers
    if found.template is not None and found.template.template != "log":
        assert "Next to the best named template: " in numbers


# --- networks side by side, the test images, several budgets ------------------------------------------------------


def _stand(name: str, accuracy: float, low: float | None = None, high: float | None = None, p: float = 1) -> Standing:
    pattern = ConnectionPattern(2, ((0,), (0, 1)))
    is_log = name == "log"
    return Standing(
        name=name, pattern=pattern, growth=4, params=1, flops=1, flops_ratio=1.0, mean_bd=1.0, global_mean_bd=1.0,
        n_seeds=3, n_failed=0, accuracy=accuracy, low=None, high=None, loss=None,
        difference=None if is_log or low is None or high is None else (low + high) / 2,
        difference_low=low, difference_high=high, p_holm=None if is_log else p,
    )  # fmt: skip


LOG = _stand("log", 0.8)


@pytest.mark.parametrize(
    ("standings", "said"),
    [
        (
            [_stand("dense", 0.9, 0.05, 0.15, 0.01), LOG],
            "first, 10 (5 to 15) points more accurate than log.",
        ),
        (
            [_stand("dense", 0.81, -0.012, 0.032), LOG],
            "from log: between 1 point worse and 3 better.",
        ),
        ([_stand("dense", 0.81, 0.001, 0.032, 0.2), LOG], "among 2 networks compared it is not told apart from log."),
        ([_stand("dense", 0.81), LOG], "without repeats it cannot be told apart from log."),
        ([LOG, _stand("dense", 0.7, -0.2, -0.1, 0.01)], "log comes first; it is told apart from 1 of 1 other network."),
        ([_stand("dense", 0.9), _stand("optimum", 0.8)], "without log, none is compared with another."),
        ([LOG], "Only log has been trained, so there is nothing to compare it with."),
        ([], "No training is complete yet."),
    ],
)
def test_what_networks_side_by_side_say(standings: list[Standing], said: str) -> None:
    sentence = conclude_lineup(standings)
    assert sentence.endswith(said)
    assert len(sentence.split()) <= MOST_WORDS
    if standings:
        assert conclude_lineup(standings, UNLEARNT).startswith("The networks have learned nothing")


def _measure(template: str | None, accuracy: float, difference: tuple[float, float] | None = None) -> FinalAccuracy:
    low, high = difference or (None, None)
    return FinalAccuracy(
        key="a" * 64 if template is None else template * 20, template=template, strategy="model", budget="log",
        layers=8, regime=None, n_seeds=3, test_accuracy=accuracy, low=None, high=None, test_loss=1.0,
        difference=None if low is None or high is None else (low + high) / 2, difference_low=low, difference_high=high,
        validation_accuracy=None, number=0,
    )  # fmt: skip


def _final(*rows: FinalAccuracy, learning: Learning | None = None) -> Final:
    return Final(at=None, n_train=100, n_test=400, epochs=(1,), n_left=0, rows=rows, learning=learning)


@pytest.mark.parametrize(
    ("difference", "said"),
    [
        ((0.01, 0.05), "is 3 (1 to 5) points more accurate than template log."),
        ((-0.05, -0.01), "is 3 (1 to 5) points less accurate than template log."),
        ((-0.031, 0.052), "is not told apart from template log: between 3 points worse and 5 better."),
    ],
)
def test_what_test_images_say_of_the_pick(difference: tuple[float, float], said: str) -> None:
    sentence = conclude_final(_final(_measure(None, 0.9, difference), _measure("log", 0.88)))
    assert sentence == f"On 400 test images, pattern aaaaaaaaaaaa {said}"
    assert len(sentence.split()) <= MOST_WORDS


def test_what_test_images_say_without_a_template_or_an_interval() -> None:
    assert "gets 90.0 % right" in conclude_final(_final(_measure(None, 0.9)))
    assert "the first choice" in conclude_final(_final(_measure("log", 0.9), _measure(None, 0.8, (-0.2, 0.1))))
    single = replace(_measure(None, 0.9), difference=0.02)
    sentence = conclude_final(_final(single, _measure("log", 0.88)))
    assert sentence.endswith("too few repeats to tell.") and len(sentence.split()) <= MOST_WORDS
    assert "learned nothing" in conclude_final(_final(single, learning=UNLEARNT))


def _trade(*answers: tuple[str, int], learning: Learning | None = None) -> str:
    made = tuple(Answer(family, 104, fewest, None, None, 3) for family, fewest in answers)
    sentence = conclude_tradeoff(Tradeoff(8, 0.01, (), made, learning))
    assert len(sentence.split()) <= MOST_WORDS
    return sentence


def test_what_several_budgets_say() -> None:
    assert _trade(("nearest", 104), (FOUND, 52)).startswith("Down to 52 of 104 connections, the patterns found keep")
    assert _trade(("nearest", 52), ("evenly", 104), (FOUND, 104)) == (
        "With 52 of 104 connections, template nearest keeps the accuracy within 1 percentage point; 2 others are not "
        "shown to."
    )
    assert _trade(("nearest", 52), ("evenly", 80)).endswith("; 1 other is not shown to.")
    assert _trade((RANDOM, 52)).endswith("the mean of random patterns keeps the accuracy within 1 percentage point.")
    assert _trade(("nearest", 52), ("evenly", 52), (FOUND, 104)).startswith("With 52 connections, 2 of 3 families keep")
    assert _trade(("nearest", 104), (FOUND, 104)).startswith("No pattern with fewer connections is shown to keep")
    assert _trade().startswith("No family of patterns was trained at two budgets")
    assert "learned nothing" in _trade((FOUND, 52), learning=UNLEARNT)


# --- what it cost ---------------------------------------------------------------------------------------------


def test_time_is_counted_once_however_many_trainings_went_on() -> None:
    generator, start = np.random.default_rng(1), datetime(2030, 1, 1)
    for _ in range(20):
        begins = generator.integers(0, 300, 8)
        ends = begins + generator.integers(0, 60, 8)
        times = [
            Times(str(start + timedelta(seconds=int(a))), str(start + timedelta(seconds=int(b))))
            for a, b in zip(begins, ends, strict=True)
        ]
        busy = {second for a, b in zip(begins, ends, strict=True) for second in range(a, b)}
        assert sum_spans([*times, Times(str(start), None), Times(None, None)]) == len(busy)


def test_the_cost_says_what_failed_and_what_is_missing(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", propose(3), lambda place, seed: "no luck" if place == seed else 0.5, asked=8)
    told = describe_cost(read_run(run))
    assert told.startswith("4 of 8 trainings of 3 patterns (2 failed)")
    assert told.endswith("a network has 1,000 parameters and 50k FLOPs")


@pytest.mark.parametrize(
    ("amount", "text"),
    [
        (Amount(0.5), "0.5000"),
        (Amount(97.06, 93.7, 100.0), "97 (94 to 100)"),
        (Amount(-0.09, -1.15, 0.96), "-0.1 (-1.1 to 1.0)"),
        (None, "-"),
    ],
)
def test_numbers_are_rounded_to_their_noise(amount: Amount | None, text: str) -> None:
    assert format_amounts([amount]) == [text]


def test_without_a_finished_training_nothing_is_concluded(tmp_path: Path) -> None:
    from search_spaces.errors import NothingUsableError

    with pytest.raises(NothingUsableError):
        conclude(read_run(make_run(tmp_path / "run", propose(1), lambda *_: "no luck")))
    assert pd.isna(read_run(tmp_path / "run").candidates["validation_loss"]).all()
