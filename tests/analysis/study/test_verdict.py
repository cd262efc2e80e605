"""Verdicts in words: each sentence is short, names the measure and its direction, and claims no more than its test."""

import json
from dataclasses import replace

import pytest

from analysis.data.protocol import STATUSES, describe_protocol, list_declared, read_version
from analysis.page.wording import PHRASES, name_measure
from analysis.stats.correlations import Estimate
from analysis.stats.guessing import Guessing, Learning
from analysis.study.verdict import (
    MOST_WORDS,
    Verdict,
    format_range,
    summarise_verdicts,
    word_judgement,
    word_pooled,
)
from analysis.verdict.controls import ControlledEffect
from analysis.verdict.noise import Resolution
from analysis.verdict.pooled import Pooled, PooledEffect
from analysis.verdict.rules import Judgement
from analysis.verdict.shape import Shape

RESOLUTION = Resolution(72, 4, 3.0, 71, 213, 0.001, 0.3, 0.67, 0.82, 0.7, 0.9)
UNSEEN = replace(RESOLUTION, p_value=0.4, single_seed=0.02)
SHAPE = Shape(2.2, -0.5, 0.5, 0.001, 0.004, middle_is_best=True)
MEASURES = (*PHRASES, "ntk_trace", "out_degree_sd", "nn_mass")


def _effect(held: str, value: float = 0.4, p_holm: float = 0.004) -> ControlledEffect:
    estimate = Estimate(value, value - 0.2, value + 0.2, p_holm, 0)
    return ControlledEffect((held,), estimate, p_holm, RESOLUTION, None, None)


def _judgement(status: str, measure: str = "walk_length", outcome: str = "validation_loss") -> Judgement:
    """A judgement whose effects show that status; more of the measure goes with more of the outcome."""
    signs = {"supported": (1, 1), "reversed": (-1, -1)}
    if status in signs:
        turn = 1 if outcome == "validation_loss" else -1
        effects = tuple(
            _effect(held, turn * sign * 0.4) for held, sign in zip(("span", "mean_bd"), signs[status], strict=True)
        )
    elif status == "depends":
        effects = (_effect("span"), _effect("mean_bd", 0.1, 0.6))
    else:
        effects = (_effect("span", 0.1, 0.6), _effect("mean_bd", 0.05, 0.9))
    if status == "nothing_left":
        effects = (effects[0], replace(effects[1], resolution=UNSEEN))
    return Judgement(measure, status, outcome, 72, 4, UNSEEN if status == "unresolved" else RESOLUTION, effects, SHAPE)


def _pooled(status: str, *values: float, differs: bool = False, measure: str = "walk_length") -> Pooled:
    effects = tuple(
        PooledEffect((held,), value, value - 0.1, value + 0.1, 0.001, 0.01 if abs(value) > 0.2 else 0.9, 1.0, 0.3, None)
        for held, value in zip(("span", "mean_bd"), values, strict=False)
    )
    return Pooled(measure, status, ("a", "b"), effects, differs)


LEARNING = Learning(0.102, 0.09, 60, Guessing(10, 0.104, 500))


@pytest.mark.parametrize("outcome", ["validation_loss", "validation_accuracy"])
@pytest.mark.parametrize("status", STATUSES)
def test_every_sentence_is_short_and_names_its_measure(status: str, outcome: str) -> None:
    for measure in MEASURES:
        verdict = word_judgement(_judgement(status, measure, outcome), LEARNING)
        assert (verdict.status, verdict.measure, verdict.outcome) == (status, measure, outcome)
        assert len(verdict.sentence.split()) <= MOST_WORDS
        assert verdict.sentence[0].isupper()
        assert verdict.sentence.endswith(".")
        assert "  " not in verdict.sentence + verdict.numbers + verdict.more
        assert verdict.more
        phrase = PHRASES.get(measure)
        words = (name_measure(measure),) if phrase is None else phrase
        text = verdict.sentence.lower()
        assert any(word.lower() in text for word in words) == (status not in ("not_trained", "unresolved"))


@pytest.mark.parametrize(
    ("status", "outcome", "said"),
    [
        ("supported", "validation_loss", "Shorter walks from classifier to input go with a lower loss"),
        ("supported", "validation_accuracy", "Shorter walks from classifier to input go with a higher accuracy"),
        ("reversed", "validation_loss", "Longer walks from classifier to input go with a lower loss"),
        ("reversed", "validation_accuracy", "Longer walks from classifier to input go with a higher accuracy"),
    ],
)
def test_the_direction_turns_with_the_status_and_the_outcome(status: str, outcome: str, said: str) -> None:
    assert word_judgement(_judgement(status, outcome=outcome)).sentence.startswith(said)


def test_a_direction_is_claimed_only_by_what_was_detected_everywhere() -> None:
    for status in STATUSES:
        sentence = word_judgement(_judgement(status), LEARNING).sentence
        assert ("go with a" in sentence) == (status in ("supported", "reversed", "depends"))
        assert sentence.startswith("Whether") == (status == "depends")
    opposite = replace(_judgement("depends"), effects=(_effect("span"), _effect("mean_bd", -0.4)))
    assert "in opposite directions" in word_judgement(opposite).sentence


def test_a_u_is_told_from_its_reverse() -> None:
    u = _judgement("u_shaped")
    assert "loss is lowest at middling walk length and rises" in word_judgement(u).sentence
    worst = replace(u, shape=replace(SHAPE, middle_is_best=False))
    assert "loss is highest at middling walk length and falls" in word_judgement(worst).sentence
    of_accuracy = replace(u, outcome="validation_accuracy")
    assert "accuracy is highest at middling walk length and falls" in word_judgement(of_accuracy).sentence
    assert "2.20" in word_judgement(u).numbers


def test_numbers_give_the_range_the_weakest_and_what_the_seeds_see() -> None:
    effects = (_effect("span", 0.6), _effect("mean_bd", 0.3), _effect("visit_evenness", 0.45))
    numbers = word_judgement(replace(_judgement("supported"), effects=effects)).numbers
    assert "+0.30 to +0.60 under 3 controls; the weakest +0.30 with mean BD held" in numbers
    assert "95 % interval +0.10 to +0.50, p 0.004 (Holm)" in numbers
    basis = word_judgement(_judgement("supported")).basis
    assert basis.startswith("72 patterns x 4 seeds;")
    assert "0.82 [0.70, 0.90]" in basis
    unresolved = word_judgement(_judgement("unresolved"))
    assert (unresolved.numbers, "differ: p 0.400" in unresolved.basis) == ("", True)
    (alone,) = (_effect("span"),)
    assert "loss: +0.40 with span held" in word_judgement(replace(_judgement("supported"), effects=(alone,))).numbers
    assert "mean BD held: p 0.400" in word_judgement(_judgement("nothing_left")).numbers
    assert "10.2 %" in word_judgement(_judgement("not_trained"), LEARNING).numbers


def test_what_it_takes_to_know_more_is_a_number_where_there_is_one() -> None:
    assert "About 26 seeds" in word_judgement(_judgement("unresolved")).more
    hopeless = replace(_judgement("unresolved"), resolution=replace(UNSEEN, single_seed=-0.01))
    assert "More seeds may not do" in word_judgement(hopeless).more
    assert "patterns, summed over settings" in word_judgement(_judgement("inconclusive")).more
    assert "varies while mean BD does not" in word_judgement(_judgement("depends")).more


def test_too_few_and_undefined_say_why() -> None:
    few = replace(_judgement("inconclusive"), n_patterns=4, effects=())
    assert ": 4, and it takes 12." in word_judgement(few).sentence
    assert "drawn at random" in word_judgement(replace(few, n_patterns=0)).sentence
    assert "some patterns come without it" in word_judgement(replace(few, n_patterns=40)).sentence
    undefined = replace(_effect("span"), partial=Estimate(None, None, None, None, 0))
    judgement = replace(_judgement("inconclusive"), effects=(undefined,))
    assert "does not vary" in word_judgement(judgement).sentence
    assert "Partial" not in word_judgement(judgement).numbers


def test_the_pooled_estimate_carries_the_headline() -> None:
    supported, u_shaped = Verdict("supported", "So."), Verdict("u_shaped", "Or so.")
    assert summarise_verdicts({"a": supported}, _pooled("depends", 0.4)) == supported
    together = summarise_verdicts({"a": supported, "b": supported}, _pooled("supported", 0.4, 0.3))
    assert together.sentence.endswith("go with a lower loss, in every setting judged.")
    apart = summarise_verdicts({"a": supported, "b": u_shaped}, _pooled("supported", 0.4, 0.3))
    assert apart.sentence.endswith("go with a lower loss, over all settings together.")
    assert "the weakest +0.30 with mean BD held, 95 % interval +0.20 to +0.40" in apart.numbers
    turned = word_pooled(_pooled("depends", 0.4, differs=True), ["supported", "reversed"], "validation_loss")
    assert "in opposite directions in different settings" in turned.sentence
    mixed = summarise_verdicts({"a": supported, "b": u_shaped})
    assert (mixed.status, mixed.numbers) == ("mixed", "a: supported; b: u-shaped.")
    assert summarise_verdicts({"a": supported, "b": supported}).sentence == "So."
    with pytest.raises(ValueError, match="no stratum"):
        summarise_verdicts({})


@pytest.mark.parametrize("status", ["unresolved", "supported", "reversed", "depends", "negligible", "inconclusive"])
def test_a_pooled_sentence_is_short_too(status: str) -> None:
    for measure in MEASURES:
        sign = -1 if status == "reversed" else 1
        values = (0.4, 0.1) if status == "depends" else (0.4 * sign, 0.3 * sign)
        verdict = word_pooled(_pooled(status, *values, measure=measure), ["inconclusive"], "validation_loss")
        assert len(verdict.sentence.split()) <= MOST_WORDS
        assert ("go with a lower loss" in verdict.sentence) == (status in ("supported", "reversed", "depends")) or (
            measure not in PHRASES
        )


def test_a_range_is_from_the_least_to_the_largest() -> None:
    assert format_range([0.3, -0.1, None, 0.2]) == "-0.10 to +0.30"
    assert format_range([0.301, 0.299]) == "+0.30"


def test_protocol_is_plain_deterministic_json() -> None:
    for measures in (("mean_bd",), ("walk_length", "visit_evenness", "mean_bd")):
        protocol = describe_protocol(measures)
        assert json.loads(json.dumps(protocol)) == protocol == describe_protocol(measures)
        assert list(protocol["verdict"]["rules"]) == list(STATUSES)
        assert list_declared({"protocol": protocol, "cells": []}) == measures
        assert read_version(protocol) == 2
    old = {"protocol": {"alpha": 0.05}, "cells": [{"distance": "from_output_mean"}]}
    assert list_declared(old) == ("from_output_mean",)
    assert list_declared(None) == ("mean_bd",)
