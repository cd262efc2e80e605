"""The rules in their order, on judgements made by hand, and Holm's adjustment over all declared tests."""

from dataclasses import replace

import numpy as np
import pytest
from statsmodels.stats.multitest import multipletests

from analysis.data.protocol import STATUSES
from analysis.stats.correlations import Estimate
from analysis.stats.guessing import Guessing, Learning
from analysis.verdict.controls import ControlledEffect, Equivalence, list_controls
from analysis.verdict.noise import Resolution
from analysis.verdict.rules import Evidence, Judgement, gather_evidence, judge, judge_strata
from analysis.verdict.sample import Sample
from analysis.verdict.shape import Shape
from tests.support.resamples import use_resamples

CLEAR = Resolution(72, 4, 3.0, 71, 213, 0.001, 0.33, 0.67, 0.82, 0.7, 0.9)
BLURRED = replace(CLEAR, f=1.0, p_value=0.4, reliability=0.0, ceiling=0.0, low=0.0)
U = Shape(2.2, -0.5, 0.5, 0.001, 0.004, middle_is_best=True)
SMALL, LARGE = Equivalence(0.0, -0.1, 0.1), Equivalence(0.0, -0.1, 0.3)


def effect(value: float, p_holm: float | None = 0.001, **changes: object) -> ControlledEffect:
    """An effect whose interval reaches .15 to either side."""
    partial = Estimate(value, value - 0.15, value + 0.15, p_holm, 0)
    made = ControlledEffect(("span",), partial, p_holm, CLEAR, LARGE, None)
    return replace(made, **changes)  # type: ignore[arg-type]


UNDETECTED = effect(0.05, 0.6)


def judgement(*effects: ControlledEffect, **changes: object) -> Judgement:
    """A judgement by these effects."""
    made = Judgement("mean_bd", "", "validation_loss", 72, 4, CLEAR, effects, None)
    return replace(made, **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("given", "status"),
    [
        (judgement(effect(0.4), effect(0.3)), "supported"),
        (judgement(effect(-0.4), effect(-0.3)), "reversed"),
        (judgement(effect(0.4), UNDETECTED), "depends"),
        (judgement(effect(0.4), effect(-0.3)), "depends"),
        (judgement(effect(0.1), effect(0.1)), "inconclusive"),  # p is small, but the interval contains 0
        (judgement(effect(0.4, 0.06)), "inconclusive"),
        (judgement(effect(0.4), resolution=BLURRED), "unresolved"),
        (judgement(effect(0.4), resolution=None), "supported"),  # with one seed nothing is known of the noise
        (judgement(UNDETECTED, replace(UNDETECTED, resolution=BLURRED)), "nothing_left"),
        (judgement(effect(0.4), replace(UNDETECTED, resolution=BLURRED)), "depends"),
        (judgement(effect(0.4), effect(0.4, resolution=BLURRED)), "supported"),
        (judgement(effect(0.4), effect(0.3), shape=U), "u_shaped"),
        (judgement(UNDETECTED, shape=U), "u_shaped"),
        (judgement(UNDETECTED, shape=replace(U, p_holm=0.06)), "inconclusive"),
        (judgement(effect(0.0, 0.9, equivalence=SMALL)), "negligible"),
        (judgement(effect(0.0, 0.9, equivalence=SMALL), UNDETECTED), "inconclusive"),
        (judgement(effect(0.0, 0.9, equivalence=Equivalence(0.0, -0.3, 0.1))), "inconclusive"),
        (judgement(effect(0.0, 0.9, equivalence=None)), "inconclusive"),
        (judgement(), "inconclusive"),
    ],
)
def test_the_first_rule_that_holds_decides(given: Judgement, status: str) -> None:
    assert status in STATUSES
    assert judge(given, None, lower_is_better=True) == status
    turned = {"supported": "reversed", "reversed": "supported"}.get(status, status)
    assert judge(given, None, lower_is_better=False) == turned


def test_networks_that_learned_nothing_are_no_evidence() -> None:
    unlearned = Learning(0.102, 0.09, 60, Guessing(10, 0.104, 500))
    for given in (judgement(effect(0.4)), judgement(), judgement(shape=U, resolution=BLURRED)):
        assert judge(given, unlearned, lower_is_better=True) == "not_trained"
    assert judge(judgement(effect(0.4)), replace(unlearned, low=0.11), lower_is_better=True) == "supported"


def test_holm_runs_over_all_strata_and_counts_what_is_undefined() -> None:
    first = judgement(effect(0.4, 0.01), replace(UNDETECTED, partial=Estimate(None, None, None, None, 0)))
    second = judgement(effect(0.4, 0.005), effect(0.4, 0.03), shape=replace(U, p_value=0.9))
    strata = {name: Evidence((each,), {}, None, lower_is_better=True) for name, each in (("a", first), ("b", second))}
    judged = judge_strata(strata)
    raw = [0.01, 1.0, 1.0, 0.005, 0.03, 0.9]
    expected = multipletests(raw, method="holm")[1]
    found = [
        p
        for name in ("a", "b")
        for each in judged.strata[name]
        for p in (*(own.p_holm for own in each.effects), None if each.shape is None else each.shape.p_holm)
    ]
    assert judged.n_tests == 6
    assert [p for p in found if p is not None] == pytest.approx(np.delete(expected, 2).tolist())
    assert judged.pooled == ()


def test_a_measure_is_never_held_given_itself() -> None:
    names = ("span", "walk_length", "visit_evenness", "mean_bd", "max_bd")
    assert list_controls("mean_bd", names) == (
        ("span",),
        ("walk_length",),
        ("span", "walk_length"),
        ("walk_length", "visit_evenness"),
    )
    assert list_controls("max_bd", names) == list_controls("mean_bd", names)
    assert list_controls("walk_length", names)[3] == ("mean_bd", "visit_evenness")
    for measure in names:
        assert all(measure not in given for given in list_controls(measure, names))
    assert list_controls("mean_bd", ("mean_bd", "span")) == (("span",),)


def test_two_measures_are_judged_from_one_sample(monkeypatch: pytest.MonkeyPatch) -> None:
    use_resamples(monkeypatch, 99)
    generator = np.random.default_rng(2)
    columns = {name: generator.normal(size=40) for name in ("mean_bd", "span", "walk_length", "visit_evenness")}
    values = columns["walk_length"][:, None] + generator.normal(size=3) + 0.5 * generator.normal(size=(40, 3))
    sample = Sample.from_arrays(values, columns)
    judged, again = (
        judge_strata({"only": gather_evidence(sample, ("walk_length", "mean_bd"), None, np.random.default_rng(0))})
        for _ in range(2)
    )
    assert judged == again
    walk, distance = judged.strata["only"]
    assert (walk.measure, walk.status) == ("walk_length", "supported")
    assert distance.status != "supported"
    assert judged.n_tests == 10
