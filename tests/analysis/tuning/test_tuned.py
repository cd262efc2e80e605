"""A study that tunes the learning rate, from its ledger to its section: planted best rates and a planted turn."""

import dataclasses
import json
import math
from typing import Any

import numpy as np
import pytest
from scipy.stats import spearmanr

from analysis.data.averages import average_patterns
from analysis.data.results import Run
from analysis.page.document import Block, Heading, Paragraph, Picture, Table, format_markdown, walk_blocks
from analysis.report.conclusion import conclude_findings
from analysis.report.findings import Findings, find, summarise
from analysis.report.sections import build_blocks
from analysis.stats.correlations import Estimate
from analysis.study.stratum import analyse_candidates
from analysis.tuning.plot import plot_losses, plot_turnings
from analysis.tuning.rates import TUNED
from analysis.tuning.section import answer_best, build_tuning, word_turning
from analysis.tuning.tuned import Tuning, add_tuned, analyse_tunings
from analysis.tuning.turning import Crossing, Turning
from tests.support.resamples import use_resamples
from tests.support.synthetic_tuning import (
    BEND,
    BEST_AT,
    DIVERGES,
    FLOOR,
    FLOOR_PER_LAYER,
    PER_LAYER,
    SEED_STEP,
    STEPS,
    make_tuned_run,
)


@pytest.fixture(scope="module", autouse=True)
def few_resamples() -> Any:
    """The numbers are compared with other formulas; their intervals are looked at elsewhere."""
    with pytest.MonkeyPatch.context() as patch:
        use_resamples(patch, 100)
        patch.setattr("analysis.study.stratum.N_UNIFORM", 20)
        yield


@pytest.fixture(scope="module")
def run() -> Run:
    """A finished study."""
    return make_tuned_run()


@pytest.fixture(scope="module")
def tuning(run: Run) -> Tuning:
    """What it shows."""
    (found,) = analyse_tunings(run, 0)
    return found


@pytest.fixture(scope="module")
def blocks(tuning: Tuning) -> list[Block]:
    """Its section."""
    return [*build_tuning(tuning, "a caption")]


def test_planted_best_rates_and_losses_are_found(tuning: Tuning) -> None:
    inside = tuning.patterns[tuning.patterns["edge"].isna()]
    assert len(inside) >= len(tuning.patterns) - 1
    beyond = inside["span"].to_numpy(np.float64) - 3
    planted = BEST_AT * np.exp(-PER_LAYER * beyond)
    assert inside["best_lr"].tolist() == pytest.approx(planted.tolist(), rel=0.05)
    floors = FLOOR * np.exp(FLOOR_PER_LAYER * beyond) * (1 + math.exp(SEED_STEP)) / 2
    assert inside["validation_loss"].tolist() == pytest.approx(floors.tolist(), rel=0.03)
    assert set(tuning.patterns["n_seeds"]) == {2}


def test_what_drives_the_best_rate_is_found(tuning: Tuning) -> None:
    assert tuning.measures == ("mean_bd", "span")
    drivers = {driver.measure: driver.estimate for driver in tuning.drivers}
    assert [*drivers][:2] == ["mean_bd", "span"]
    value = drivers["span"].value
    assert value is not None
    assert value < -0.9
    sample = tuning.patterns[tuning.patterns["strategy"].isin(["random", "design"])]
    assert value == pytest.approx(float(spearmanr(sample["span"], sample["best_lr"])[0]))
    assert tuning.best.n_patterns == len(sample)
    assert tuning.best.median == pytest.approx(math.exp(float(np.median(np.log(sample["best_lr"])))))


def test_a_turn_is_computed_from_the_trainings_at_each_rate(run: Run, tuning: Tuning) -> None:
    turnings = {turning.measure: turning for turning in tuning.turnings}
    span = turnings["span"]
    assert span.amounts == pytest.approx([STEPS * rate for rate in (0.05, 0.1, 0.2, 0.4, 0.8)])
    for effect, regime in zip(span.effects, tuning.best.rates.regimes, strict=True):
        rows = run.candidates[
            (run.candidates["regime"] == regime) & run.candidates["strategy"].isin(["random", "design"])
        ]
        patterns = average_patterns(rows)
        expected = float(spearmanr(patterns["span"], patterns["validation_loss_centred"])[0])
        assert effect.value == pytest.approx(expected, abs=1e-6)
    first, last = span.effects[0].value, span.effects[-1].value
    assert first is not None
    assert last is not None
    assert first < 0 < last
    assert span.is_shown
    assert span.crossing is not None
    # The logarithm of the planted loss has this slope in span at 0: what ends worse is what trains faster.
    beyond = float(tuning.patterns["span"].mean()) - 3
    turn = -(FLOOR_PER_LAYER / (2 * BEND * PER_LAYER) + PER_LAYER * beyond)
    assert abs(math.log(span.crossing.value / (STEPS * BEST_AT * math.exp(turn)))) < math.log(1.5)


def test_far_rates_are_named(tuning: Tuning) -> None:
    assert {(far.regime, far.fault) for far in tuning.far} == {("lr 0.05", "undertrained"), ("lr 0.8", "overheated")}


def test_the_tuned_regime_is_added_and_everything_else_kept(run: Run, tuning: Tuning) -> None:
    added = add_tuned(run)
    n = len(run.candidates)
    assert added.candidates.iloc[:n][run.candidates.columns].equals(run.candidates)
    new = added.candidates.iloc[n:]
    assert set(new["regime"]) == {TUNED}
    assert len(new) == 2 * len(tuning.patterns)
    losses = average_patterns(new).set_index("key")["validation_loss"]
    assert losses.to_dict() == pytest.approx(tuning.patterns.set_index("key")["validation_loss"].to_dict())


def test_a_study_without_tuned_rates_is_left_alone(run: Run) -> None:
    assert run.plan is not None
    strata = [{name: value for name, value in stratum.items() if name != "tuned"} for stratum in run.plan["strata"]]
    other = dataclasses.replace(run, plan={**run.plan, "strata": strata})
    assert add_tuned(other) is other
    assert analyse_tunings(other, 0) == ()
    assert analyse_tunings(dataclasses.replace(run, plan=None), 0) == ()


def test_regimes_that_learned_nothing_are_left_out_of_the_turn(run: Run) -> None:
    gone = run.candidates["regime"] == "lr 0.05"
    candidates = run.candidates.assign(validation_accuracy=run.candidates["validation_accuracy"].mask(gone, 0.1))
    (found,) = analyse_tunings(dataclasses.replace(run, candidates=candidates, largest_class=0.11), 0)
    assert found.unlearned == ("lr 0.05",)
    assert len(found.turnings[0].amounts) == 4
    assert "nothing was learned there: lr 0.05" in format_markdown([*build_tuning(found, "")])


def test_without_the_number_of_images_there_is_no_amount_of_training(run: Run) -> None:
    (found,) = analyse_tunings(dataclasses.replace(run, data={"name": "digits"}), 0)
    assert found.turnings == ()
    assert "How effects turn" not in format_markdown([*build_tuning(found, "")])


def test_an_unfinished_study_shows_the_patterns_that_were_tried_at_every_rate(run: Run) -> None:
    n_patterns = len(run.candidates) // 10
    (found,) = analyse_tunings(make_tuned_run(n_trained=5 * n_patterns - 2), 0)
    assert n_patterns - 2 <= len(found.patterns) < n_patterns
    assert set(found.patterns["n_seeds"]) == {1}
    early = make_tuned_run(n_trained=1)
    assert analyse_tunings(early, 0) == ()
    assert len(add_tuned(early).candidates) == 1
    few = make_tuned_run(trials=0, per_cell=1)
    (found,) = analyse_tunings(few, 0)
    assert len(found.patterns) > 0
    assert (found.drivers, found.turnings) == ((), ())
    assert "sampled patterns are too few" in format_markdown([*build_tuning(found, "")])


def test_the_section_answers_first_and_draws_both_figures(tuning: Tuning, blocks: list[Block]) -> None:
    assert [block.text for block in blocks if isinstance(block, Heading)] == [
        "Each pattern at its best learning rate",
        "How effects turn with training",
    ]
    answer = blocks[1]
    assert isinstance(answer, Paragraph)
    assert answer.kind == "finding"
    assert answer.text == answer_best(tuning.best)
    assert f"{tuning.best.n_patterns} patterns" in answer.text
    assert [block.file for block in blocks if isinstance(block, Picture)] == ["rates.svg", "turning.svg"]
    text = format_markdown(blocks)
    assert "Undertrained: lr 0.05" in text
    assert "Span: its correlation with the loss is -" in text
    drivers, turnings = (block for block in walk_blocks(blocks) if isinstance(block, Table))
    assert len(drivers.rows) == len(tuning.drivers)
    assert [row[0] for row in turnings.rows][:2] == ["mean BD", "span"]
    parts = [*build_tuning(tuning, "", "24 layers")]
    assert isinstance(parts[0], Heading)
    assert parts[0].text.endswith(", 24 layers")
    assert {block.file for block in parts if isinstance(block, Picture)} == {
        "rates_24-layers.svg",
        "turning_24-layers.svg",
    }


def test_every_pattern_has_a_line_and_a_mark(tuning: Tuning) -> None:
    axes = plot_losses(tuning.losses, tuning.patterns, "span").axes[0]
    n = len(tuning.patterns)
    assert len(axes.get_lines()) == 2 * n
    marks = [line for line in axes.get_lines() if len(np.atleast_1d(line.get_xdata())) == 1]
    assert len(marks) == n
    drawn = sorted(float(np.atleast_1d(mark.get_xdata())[0]) for mark in marks)
    assert drawn == pytest.approx(sorted(tuning.patterns["best_lr"].tolist()))
    broken = [line for line in axes.get_lines() if np.isnan(np.asarray(line.get_ydata(), np.float64)).any()]
    assert len(broken) == int((tuning.patterns["template"] == DIVERGES).fillna(False).sum())


def test_every_effect_and_shown_crossing_has_a_mark(tuning: Tuning) -> None:
    turnings = tuning.turnings[:2]
    figure = plot_turnings(turnings, tuning.best.rates.rates)
    gids = [line.get_gid() or "" for line in figure.axes[0].get_lines()]
    assert sum(gid.startswith("mark-turn") for gid in gids) == 10
    assert sum(gid.startswith("mark-crossing") for gid in gids) == sum(
        turning.is_shown and turning.crossing is not None for turning in turnings
    )


def estimate(value: float | None, low: float | None = None, high: float | None = None) -> Estimate:
    return Estimate(value, low, high, None, 0)


UP, DOWN = estimate(0.9, 0.5, 1.2), estimate(-0.9, -1.2, -0.5)


def turning(slope: Estimate, crossing: Crossing | None) -> Turning:
    return Turning("span", (8.0, 16.0), (estimate(-0.5), estimate(0.4)), (72, 72), slope, (0.8, 1.0), False, crossing)


@pytest.mark.parametrize(
    ("slope", "crossing", "words"),
    [
        (UP, Crossing(11.0, 9.0, 14.0), "it rises with training, and its sign changes at 11 (95 % interval 9 to 14)"),
        (
            DOWN,
            Crossing(11.0, 9.0, None),
            "it falls with training, and its sign changes at 11 (95 % interval 9 to above 16)",
        ),
        (
            DOWN,
            Crossing(11.0, None, 14.0),
            "it falls with training, and its sign changes at 11 (95 % interval below 8 to 14)",
        ),
        (UP, None, "it rises with training, and keeps its sign"),
        (dataclasses.replace(UP, low=-0.5), Crossing(11.0, 9.0, 14.0), "a change with training is not shown"),
    ],
)
def test_every_turn_has_its_words(slope: Estimate, crossing: Crossing | None, words: str) -> None:
    text = word_turning(turning(slope, crossing))
    assert text.startswith("Span: its correlation with the loss is -0.50 at the least training (8) and +0.40")
    assert text.endswith(f" {words}.")


def test_an_undefined_turn_says_so() -> None:
    undefined = dataclasses.replace(turning(estimate(None), None), effects=(estimate(None), estimate(None)))
    assert word_turning(undefined) == "Span: its correlation with the loss is not defined."


@pytest.fixture(scope="module")
def findings() -> Findings:
    """The whole report's values."""
    return find(make_tuned_run(tune_lr=".1:.4:3"))


def test_the_report_has_the_tuned_stratum_first_and_judges_it_only(findings: Findings) -> None:
    assert [view.stratum.regime for view in findings.views] == [TUNED, *findings.tunings[0].best.rates.regimes]
    assert findings.verdict.status == findings.views[0].stratum.verdict.status
    summary = summarise(findings)
    (tuned,) = summary["tunings"]
    assert json.loads(json.dumps(tuned)) == tuned
    assert tuned["best"]["median"] == findings.tunings[0].best.median
    assert tuned["far"] == []


def test_single_rates_are_exploratory_and_leave_the_declared_tests_alone(findings: Findings) -> None:
    assert [view.stratum.is_exploratory for view in findings.views] == [False, True, True, True]
    assert findings.pooled == ()  # one declared stratum
    tuned = add_tuned(findings.run).candidates
    alone = analyse_candidates(tuned[tuned["regime"] == TUNED], 0, findings.tunings[0].measures)
    assert alone.n_tests > 0
    assert alone.strata[0].judgements == findings.views[0].stratum.judgements


def test_far_rates_reach_their_strata(run: Run) -> None:
    candidates = run.candidates[run.candidates["regime"].isin(["lr 0.05", "lr 0.2"])]
    faults: dict[tuple[int, str | None], str] = {
        (far.layers, far.regime): far.fault for far in analyse_tunings(run, 0)[0].far
    }
    analysis = analyse_candidates(candidates, faults=faults | {(24, "lr 0.2"): "overheated"})
    assert {stratum.regime: stratum.fault for stratum in analysis.strata} == {"lr 0.05": "undertrained", "lr 0.2": ""}


def test_the_report_shows_the_tuning_before_the_strata(findings: Findings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("analysis.report.sections.build_stratum", lambda view, *_, **__: [Heading(2, view.name)])
    monkeypatch.setattr("analysis.report.sections.fold_effects", lambda *_: [])
    text = format_markdown([*build_blocks(findings, conclude_findings(findings))])
    assert text.index("## Each pattern at its best") < text.index("## 12 layers, tuned")
    assert "## 12 layers, lr 0.1" not in text  # single rates are exploratory: the tables of all settings have them
    assert "| 12 layers, lr 0.1 " in text
