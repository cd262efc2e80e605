import json
import math
from dataclasses import replace
from typing import Any

import pytest

from analysis.data.protocol import STATUSES, TESTS, describe_protocol
from analysis.stats.correlations import Estimate
from analysis.stats.guessing import Guessing, Learning
from analysis.stats.inference import INNER, Primary, PrimaryTest, adjust_primary
from analysis.study.verdict import NOT_LEARNED, Verdict, count_patterns, judge, summarise_verdicts
from search_spaces.errors import InputError


def _primary(
    low: float = -0.3, high: float = 0.4, p_values: tuple[float | None, ...] = (0.5, 0.5, 0.5), n: int = 60
) -> Primary:
    tests = tuple(PrimaryTest(name, 1.0, p, p) for name, p in zip(TESTS, p_values, strict=True))
    partial = Estimate((low + high) / 2, low, high, p_values[0], 0)
    return Primary("validation_loss", "mean_bd", n, tests, partial, 0.4, 2.2, True, True)


DETECTED, CURVED, SPAN = (0.001, 0.5, 0.5), (0.5, 0.001, 0.5), (0.5, 0.5, 0.001)


@pytest.mark.parametrize(
    ("primary", "status", "words"),
    [
        (_primary(0.3, 0.7, DETECTED), "supported", "shorter mean BD goes with lower validation loss, beyond span"),
        (_primary(-0.7, -0.3, DETECTED), "reversed", "shorter mean BD goes with higher validation loss"),
        (_primary(-0.1, 0.5, DETECTED), "inconclusive", "not detected; partial correlations beyond ±0.50 are excluded"),
        (_primary(0.05, 0.15, DETECTED), "negligible", "detected but small"),
        (_primary(0.3, 0.7, (0.001, 0.001, 0.001)), "u_shaped", "best at a middling mean BD, turning at 2.20 hops"),
        (replace(_primary(0.3, 0.7, (0.001, 0.001, 0.5)), is_inside=False), "supported", "beyond span"),
        (replace(_primary(p_values=CURVED), middle_is_best=False), "u_shaped", "worst at a middling"),
        (
            _primary(p_values=SPAN),
            "explained_by_span",
            "the longer, the higher, p (Holm) 0.001; beyond span mean BD was not detected",
        ),
        (_primary(0.05, 0.15, (0.001, 0.5, 0.001)), "explained_by_span", "beyond span mean BD was detected but small"),
        (_primary(-0.15, 0.1), "negligible", "not detected; partial correlations beyond ±0.15 are excluded"),
        (_primary(), "inconclusive", "patterns at as many seeds would settle whether it is within ±0.2"),
    ],
)
def test_rules_in_their_order(primary: Primary, status: str, words: str) -> None:
    verdict = judge(primary, 60, 3)
    assert verdict.status == status
    assert words in verdict.sentence
    assert "n=60 patterns x 3 seeds" in verdict.sentence
    assert "partial rho = " in verdict.sentence
    assert "95 % interval " in verdict.sentence


@pytest.mark.parametrize(
    ("primary", "ceiling", "is_doubted"),
    [
        (_primary(-0.15, 0.1), 0.0, True),
        (_primary(-0.15, 0.1), 0.49, True),
        (_primary(-0.15, 0.1), 0.5, False),
        (_primary(-0.15, 0.1), None, False),
        (_primary(), 0.2, True),
        (_primary(-0.7, -0.3, DETECTED), 0.2, False),  # it was detected all the same
    ],
)
def test_where_seeds_do_not_agree_little_is_excluded(primary: Primary, ceiling: float | None, is_doubted: bool) -> None:
    verdict = judge(primary, 60, 3, ceiling)
    assert verdict.status == judge(primary, 60, 3).status
    assert ("a relation that more seeds would show is not excluded" in verdict.sentence) == is_doubted
    assert f"noise ceiling {ceiling:.2f}" in verdict.sentence if is_doubted else True


def test_every_sentence_begins_with_its_status_and_ends_with_its_scope() -> None:
    verdicts = [judge(_primary(low, low + width, p), 60, 3)
                for low in (-0.7, -0.1, 0.3) for width in (0.15, 0.4) for p in (DETECTED, CURVED, SPAN)]  # fmt: skip
    verdicts += [judge(None, 4, 1), judge(None, 40, 3)]
    for verdict in verdicts:
        assert verdict.status in STATUSES
        status = verdict.status.replace("u_", "u-").replace("_", " ")
        assert verdict.words == (f"{status} ({verdict.reason})" if verdict.reason else status)
        assert verdict.sentence.startswith(f"{verdict.words}: ")
        assert bool(verdict.reason) == (verdict.status == "explained_by_span")
        assert verdict.sentence.endswith("at this schedule and one shared learning rate")
        assert "no effect" not in verdict.sentence
        assert "help" not in verdict.sentence


@pytest.mark.parametrize(
    ("low", "high", "p_values", "p_holm"),
    [
        (0.01, 0.37, (0.24, 0.5, 0.5), "0.240"),  # the interval leaves out 0, the adjusted p does not
        (-0.6, -0.1, (0.24, 0.5, 0.001), "0.240"),
        (0.01, 0.37, (1.0, 0.5, 0.5), "1.000"),
        (-0.1, 0.5, DETECTED, "0.001"),  # and the reverse
        (0.3, 0.7, DETECTED, "0.001"),
    ],
)
def test_the_sentence_gives_the_p_that_decides(
    low: float, high: float, p_values: tuple[float, ...], p_holm: str
) -> None:
    sentence = judge(_primary(low, high, p_values), 60, 3).sentence
    assert f"p (Holm) {p_holm}" in sentence
    is_detected, leaves_out = p_values[0] <= 0.05, low > 0 or high < 0
    assert ("leaves out 0, but what decides is the p of its test" in sentence) == (leaves_out and not is_detected)
    assert ("the interval contains 0, and both have to agree" in sentence) == (is_detected and not leaves_out)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"span_turning_point": 6.94, "span_is_inside": True, "middle_span_is_best": True}, "a curve, best near 6.9"),
        ({"span_turning_point": 6.94, "span_is_inside": True, "middle_span_is_best": False}, "a curve, worst near 6.9"),
        ({"span_partial": 0.4}, "longer is worse"),
        ({"span_partial": -0.4}, "longer is better"),
        ({"span_partial": -0.4, "outcome": "validation_accuracy"}, "longer is worse"),
        ({"span_turning_point": 9.9, "span_is_inside": False, "span_partial": -0.4}, "longer is better"),
    ],
)
def test_how_span_explains_it_stands_next_to_the_word(changes: dict[str, Any], reason: str) -> None:
    verdict = judge(replace(_primary(p_values=SPAN), **changes), 60, 3)
    assert verdict.words == f"explained by span ({reason})"
    assert f"short: {reason}" in summarise_verdicts({"short": verdict, "long": verdict}).sentence


def test_networks_that_learned_nothing_are_no_evidence() -> None:
    unlearned = Learning(0.102, 0.09, 60, Guessing(10, 0.104, 500))
    for primary, n_patterns in ((_primary(p_values=SPAN), 60), (_primary(0.3, 0.7, DETECTED), 60), (None, 4)):
        verdict = judge(primary, n_patterns, 3, 0.2, unlearned)
        assert verdict.status == NOT_LEARNED
        assert verdict.sentence.startswith("not learned: the networks are at chance level")
        assert "always answering the largest class gets 10.4 % of the validation images right" in verdict.sentence
        assert "settle" not in verdict.sentence
        assert judge(primary, n_patterns, 3, 0.2, replace(unlearned, low=0.105)) == judge(primary, n_patterns, 3, 0.2)
    verdicts = {name: judge(_primary(), 60, 3, None, given) for name, given in (("a", None), ("b", unlearned))}
    mixed = summarise_verdicts(verdicts)
    assert mixed.sentence.startswith("mixed over 2 strata: not learned in 1 (b)")
    assert mixed.words == "mixed"


def test_direction_turns_with_accuracy() -> None:
    primary = replace(_primary(-0.7, -0.3, DETECTED), outcome="validation_accuracy")
    verdict = judge(primary, 60, 3)
    assert verdict.status == "supported"
    assert "shorter mean BD goes with higher validation accuracy" in verdict.sentence


def test_undefined_and_too_few_are_inconclusive_with_the_reason() -> None:
    assert "too few patterns to say: 4 sampled" in judge(None, 4, 2).sentence
    assert "comparable across seeds" in judge(None, 40, 2).sentence
    undefined = replace(_primary(), partial=Estimate(None, None, None, None, 0))
    assert judge(undefined, 60, 2).status == "inconclusive"
    assert "does not vary beyond span" in judge(undefined, 60, 2).sentence


def test_number_of_patterns_that_would_settle_it() -> None:
    target = math.atanh(0.2) * 1.959964 / (1.959964 + 1.281552)
    exact = 1.959964 / math.sqrt(300 - 5)  # half width in Fisher's z at 300 patterns
    bound = math.tanh(exact)
    assert count_patterns(300, -bound, bound) == 5 + math.ceil((1.959964 / target) ** 2)
    assert count_patterns(60, -1.0, 1.0) > 1000


def test_holm_runs_over_all_strata_and_counts_what_is_undefined() -> None:
    first, second = _primary(p_values=(0.01, 0.2, None)), _primary(p_values=(0.005, 0.03, 0.9))
    adjusted = adjust_primary([first, None, second])
    assert adjusted[1] is None
    assert adjusted[0] is not None
    assert adjusted[2] is not None
    assert adjusted[2].test("distance").p_holm == pytest.approx(9 * 0.005)
    assert adjusted[0].test("distance").p_holm == pytest.approx(8 * 0.01)
    assert adjusted[2].test("curvature").p_holm == pytest.approx(7 * 0.03)
    assert adjusted[0].test("span").p_holm is None


def test_headline_over_strata() -> None:
    supported, u_shaped = Verdict("supported", "supported: whatever"), Verdict("u_shaped", "u-shaped: whatever")
    assert summarise_verdicts({"a": supported}) == supported
    same = summarise_verdicts({"a": supported, "b": supported})
    assert same.status == "supported"
    assert same.sentence.startswith("supported in all 2 strata")
    mixed = summarise_verdicts({"a": supported, "b": u_shaped})
    assert mixed.status == "mixed"
    assert "supported in 1 (a), u-shaped in 1 (b)" in mixed.sentence
    with pytest.raises(ValueError, match="no stratum"):
        summarise_verdicts({})


def test_protocol_is_plain_deterministic_json() -> None:
    for distance in ("mean_bd", "from_output_mean"):
        protocol = describe_protocol(distance)
        assert json.loads(json.dumps(protocol)) == protocol == describe_protocol(distance)
        assert protocol["primary"]["distance"] == distance
        assert list(protocol["primary"]["tests"]) == list(TESTS)
        assert protocol["verdict"]["statuses"] == list(STATUSES)
    assert describe_protocol() != describe_protocol("from_output_mean")
    with pytest.raises(InputError, match="one of mean_bd, from_output_mean"):
        describe_protocol("span")


def test_the_declared_rules_name_the_quantiles_that_a_turning_point_must_lie_between() -> None:
    low, high = (f"{100 * share:.0f} %" for share in INNER)
    assert f"between the {low} and {high} quantiles" in " ".join(describe_protocol()["verdict"]["rules"])
