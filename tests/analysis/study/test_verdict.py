"""Judgements in words: each begins with its status, gives its numbers and ends with its scope."""

import json
from dataclasses import replace

import pytest

from analysis.data.protocol import STATUSES, describe_protocol, list_declared, read_version
from analysis.stats.correlations import Estimate
from analysis.stats.guessing import Guessing, Learning
from analysis.study.verdict import IN_WORDS, Verdict, summarise_verdicts, word_judgement
from analysis.verdict.controls import ControlledEffect
from analysis.verdict.noise import Resolution
from analysis.verdict.pooled import Pooled, PooledEffect
from analysis.verdict.rules import Judgement
from analysis.verdict.shape import Shape

RESOLUTION = Resolution(72, 4, 3.0, 71, 213, 0.001, 0.3, 0.67, 0.82, 0.7, 0.9)
EFFECT = ControlledEffect(("span",), Estimate(0.4, 0.2, 0.6, 0.001, 0), 0.004, RESOLUTION, None, None)
SHAPE = Shape(2.2, -0.5, 0.5, 0.001, 0.004, middle_is_best=True)
JUDGEMENT = Judgement("mean_bd", "supported", "validation_loss", 72, 4, RESOLUTION, (EFFECT,), SHAPE)


@pytest.mark.parametrize("status", STATUSES)
def test_every_sentence_begins_with_its_status_and_ends_with_its_scope(status: str) -> None:
    learning = Learning(0.102, 0.09, 60, Guessing(10, 0.104, 500))
    verdict = word_judgement(replace(JUDGEMENT, status=status), learning)
    assert verdict.status == status
    assert verdict.sentence.startswith(f"{IN_WORDS[status]}: ")
    assert verdict.sentence.endswith("at this schedule and one shared learning rate")
    if status not in ("not_trained", "unresolved"):
        assert "given span: +0.40, 95 % interval +0.20 to +0.60, p (Holm) 0.004" in verdict.sentence


def test_the_direction_turns_with_the_outcome() -> None:
    assert "lower mean BD goes with lower validation loss" in word_judgement(JUDGEMENT).sentence
    accuracy = replace(JUDGEMENT, outcome="validation_accuracy")
    assert "lower mean BD goes with higher validation accuracy" in word_judgement(accuracy).sentence


def test_too_few_and_undefined_say_why() -> None:
    few = replace(JUDGEMENT, status="inconclusive", n_patterns=4, effects=())
    assert "4 sampled" in word_judgement(few).sentence
    undefined = replace(EFFECT, partial=Estimate(None, None, None, None, 0))
    judgement = replace(JUDGEMENT, status="inconclusive", effects=(undefined,))
    assert "does not vary" in word_judgement(judgement).sentence


def test_headline_over_strata() -> None:
    supported, u_shaped = Verdict("supported", "supported: whatever"), Verdict("u_shaped", "u-shaped: whatever")
    assert summarise_verdicts({"a": supported}) == supported
    assert summarise_verdicts({"a": supported, "b": supported}).status == "supported"
    mixed = summarise_verdicts({"a": supported, "b": u_shaped})
    assert mixed.status == "mixed"
    assert "supported in 1 (a), u-shaped in 1 (b)" in mixed.sentence
    effect = PooledEffect(("span",), 0.3, 0.1, 0.5, 0.001, 0.01, 1.0, 0.3, None)
    pooled = summarise_verdicts(
        {"a": supported, "b": u_shaped}, Pooled("mean_bd", "depends", ("a", "b"), (effect,), False)
    )
    assert pooled.status == "depends"
    assert "given span: +0.30, 95 % interval +0.10 to +0.50, p (Holm) 0.010" in pooled.sentence
    with pytest.raises(ValueError, match="no stratum"):
        summarise_verdicts({})


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
