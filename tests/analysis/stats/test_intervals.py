"""Intervals of accuracies and losses: inside their range, as scipy's elsewhere, none without spread."""

import math
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from analysis.data.results import CURVE_COLUMNS, Run
from analysis.report.findings import find, summarise
from analysis.stats.intervals import RANGES, SHARE, SHARES_APART, UNBOUNDED, student_interval
from analysis.study.levels import compare_pairs, measure_levels
from analysis.tradeoff.points import measure_tradeoffs
from tests.support.resamples import use_resamples
from tests.support.small import ROOT
from tests.support.synthetic_run import make_candidates, propose


@given(st.lists(st.integers(0, 40), min_size=2, max_size=6), st.sampled_from([SHARE, SHARES_APART, UNBOUNDED]))
def test_an_interval_is_scipys_cut_to_the_range(hits: list[int], bounds: tuple[float, float]) -> None:
    values = np.array(hits) / 40 - (0.5 if bounds is SHARES_APART else 0.0)
    result = student_interval(values, bounds)
    if len(set(hits)) == 1:
        assert result == (None, None)
        return
    expected = stats.ttest_1samp(values, 0.0).confidence_interval(0.95)
    assert result == pytest.approx((max(expected.low, bounds[0]), min(expected.high, bounds[1])), abs=1e-12)
    assert result == student_interval(pd.Series(values), bounds)


def test_what_is_cut_off_takes_no_coverage_away() -> None:
    """Of near-perfect networks the mean lies inside the interval as often as Student's t says."""
    generator = np.random.default_rng(0)
    values = np.clip(generator.normal(0.985, 0.01, (2000, 4)), 0, 1)
    truth = float(np.clip(np.random.default_rng(1).normal(0.985, 0.01, 10**6), 0, 1).mean())
    bounds = [student_interval(sample, SHARE) for sample in values]
    covered = np.mean([low <= truth <= high for low, high in bounds if low is not None and high is not None])
    assert 0.92 < covered <= 1
    assert max(high for _, high in bounds if high is not None) == 1.0


def test_equal_up_to_rounding_is_equal() -> None:
    assert student_interval(np.array([0.3, 0.1 + 0.2]), SHARE) == (None, None)
    assert student_interval(np.array([0.5]), SHARE) == (None, None)


def _run(accuracies: dict[tuple[int, int], float]) -> Run:
    """Two budgets of a family and of random patterns: accuracy by place and seed, 1 where not given."""
    proposals = [proposal for budget in ("total:12", "log") for proposal in propose(3, budget=budget)]
    budgets = ["total:12"] * 3 + ["log"] * 3
    table = make_candidates(proposals, lambda place, seed: accuracies.get((place, seed), 1.0), budgets)
    return Run(Path("run"), table, pd.DataFrame(columns=list(CURVE_COLUMNS)).astype(CURVE_COLUMNS), 12, {}, {}, {})


@pytest.mark.parametrize("far", [0.9, 0.05])
def test_no_accuracy_of_a_report_lies_outside_its_range(far: float) -> None:
    """Two seeds far apart, near the ends of the range: a plain t interval would leave it by far."""
    run = _run({(place, seed): far if seed else 1.0 if far > 0.5 else 0.0 for place in range(6) for seed in (0, 1)})
    (tradeoff,) = measure_tradeoffs(run.candidates)
    for point in tradeoff.points:
        assert 0 <= point.accuracy <= 1
        assert point.low is None or 0 <= point.low <= point.accuracy
        assert point.high is None or point.accuracy <= point.high <= 1
    complete = run.candidates[run.candidates["budget"] == "log"].assign(
        validation_accuracy=lambda rows: rows["validation_accuracy"] - 0.01 * (rows["number"] == 7) * (far > 0.5),
        validation_loss=lambda rows: 0.01 * rows["number"] ** 3,
    )
    for table, outcome in (
        (complete, "validation_loss"),
        (complete.assign(validation_loss=np.nan), "validation_accuracy"),
    ):
        least, greatest = RANGES[outcome]
        for level in measure_levels(table):
            assert level.outcome == outcome
            assert least <= level.value <= greatest
            assert level.low is None or (level.high is not None and least <= level.low <= level.high <= greatest)


def test_seeds_that_gave_the_same_have_no_interval() -> None:
    run = _run({})
    (tradeoff,) = measure_tradeoffs(run.candidates)
    assert {(point.low, point.high) for point in tradeoff.points} == {(None, None)}
    keys = run.candidates["key"].unique()
    matched = run.candidates.assign(strategy=lambda rows: rows["strategy"].where(rows["key"].isin(keys[:2]), "control"))
    matched["matched"] = matched["key"].map({keys[2]: keys[0], keys[3]: keys[1]})
    pairs = compare_pairs(matched)
    assert {pair.n_pairs for pair in pairs} == {2}
    assert {(pair.mean, pair.low, pair.high) for pair in pairs} == {(0.0, None, None)}


def test_a_pattern_that_lacks_a_seed_is_not_levelled_past_the_range(monkeypatch: pytest.MonkeyPatch) -> None:
    """At the easier of two seeds it was perfect: what it would reach over both is not above 100 %."""
    use_resamples(monkeypatch, 19)
    table = make_candidates(
        propose(4),
        lambda place, seed: (
            None if place == 3 and seed == 0 else 1.0 if place == 3 else (0.5, 0.9)[1 - seed] + 0.01 * place
        ),
        ["log"] * 4,
    )
    table["seed"] = 1 - table["seed"]
    run = Run(Path("run"), table, pd.DataFrame(columns=list(CURVE_COLUMNS)).astype(CURVE_COLUMNS), 8, {}, {}, {})
    findings = find(run)
    (view,) = findings.views
    assert view.patterns["validation_accuracy"].between(0, 1).all()
    best = summarise(findings)["strata"][0]["best_patterns"]
    assert all(0 <= row["validation_accuracy"] <= 1 and row["validation_loss"] >= 0 for row in best)
    assert math.isfinite(view.patterns["validation_accuracy"].sum())


def test_signed_numbers_are_written_by_one_function() -> None:
    """Any other would print -0.00 for what rounds to 0."""
    signed = re.compile(r"\{[^{}]*:\+[.,]?\d*[.{]")
    files = [path.stem for path in (ROOT / "analysis").rglob("*.py") if signed.search(path.read_text())]
    assert files == ["wording"]
