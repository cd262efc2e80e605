"""The parts of a study's report: one stratum, all strata side by side, and short runs against long ones."""

import math
import re
from dataclasses import replace
from typing import Any

import pytest

from analysis.page.document import Block, Heading, Paragraph, Picture, Table, format_markdown
from analysis.page.wording import name_measure
from analysis.report.findings import Findings
from analysis.study.levels import measure_levels
from analysis.study.overview import (
    build_answer,
    build_effects,
    build_fidelity,
    build_verdicts,
    define_measures,
    judge_others,
)
from analysis.study.sections import build_stratum
from analysis.study.tables import build_noise, build_pairs, build_tests
from analysis.study.verdict import IN_WORDS, Verdict, read_estimate
from analysis.verdict.seeds import SeedSlopes


@pytest.fixture(scope="module")
def blocks(study_findings: Findings) -> list[Block]:
    """The part of the first stratum."""
    return [*build_stratum(study_findings.views[0], "a caption")]


def test_a_stratum_begins_with_its_name_and_its_answer(study_findings: Findings, blocks: list[Block]) -> None:
    view = study_findings.views[0]
    heading, answer, *rest = blocks
    assert heading == Heading(2, view.name) == Heading(2, "12 layers, one")
    assert answer == Paragraph(view.stratum.verdict.sentence, "answer")
    assert [block.text for block in rest if isinstance(block, Heading)] == [
        "Can the seeds tell the patterns apart?",
        "What goes with the outcome?",
        "Templates at equal budget",
        "The best patterns",
        "Learning curves",
    ]
    assert {block.level for block in rest if isinstance(block, Heading)} == {3}
    files = [block.file.removesuffix("_12-layers-one.svg") for block in rest if isinstance(block, Picture)]
    assert files[:2] == ["outcome", "levels"]
    assert files[-1] == "curves"
    assert all(file.startswith("arcs_") for file in files[2:-1])


def test_every_pattern_is_named_under_the_pointer(study_findings: Findings, blocks: list[Block]) -> None:
    svg = next(block.svg for block in blocks if isinstance(block, Picture))
    titles = set(re.findall(r"<title>(.*?)</title>", svg))
    candidates = study_findings.views[0].candidates
    keys = candidates.loc[candidates["template"].isna(), "key"].unique()
    assert all(any(key[:12] in title for title in titles) for key in keys)


def test_without_learning_curves_that_is_said(study_findings: Findings) -> None:
    view = study_findings.views[0]
    *_, last = build_stratum(replace(view, curves=view.curves.head(0), levels=()), "")
    assert last == Paragraph("This study holds no learning curves.")


def test_the_tests_of_a_declared_measure_stand_in_one_table(study_findings: Findings) -> None:
    stratum = study_findings.views[0].stratum
    table, *_ = build_tests(stratum)
    assert isinstance(table, Table)
    assert table.header[0].startswith("mean BD")
    (judgement,) = stratum.judgements
    assert len(table.rows) == len(judgement.effects) == 4
    for row, effect in zip(table.rows, judgement.effects, strict=True):
        assert effect.resolution is not None
        assert effect.partial.value is not None
        assert row[0] == " and ".join(map(name_measure, effect.given))
        assert float(row[1]) == round(effect.partial.value, 2)
        assert row[3] == f"{effect.resolution.ceiling:.2f}"


def test_seeds_that_disagree_on_a_slope_are_named(study_findings: Findings) -> None:
    stratum = study_findings.views[0].stratum
    (judgement,) = stratum.judgements
    for p_value, is_named in ((0.01, True), (0.5, False)):
        slopes = SeedSlopes((0.1, 0.9), 6.0, p_value, 0.2)
        effects = tuple(replace(effect, seeds=slopes) for effect in judgement.effects)
        changed = replace(stratum, judgements=(replace(judgement, effects=effects),))
        text = format_markdown([*build_tests(changed)])
        assert ("Seeds disagree on the slope of mean BD" in text) == is_named


def test_the_f_test_and_the_ceiling_come_first(study_findings: Findings) -> None:
    stratum = study_findings.views[0].stratum
    table, note = build_noise(stratum)
    assert isinstance(table, Table)
    assert isinstance(note, Paragraph)
    noise = stratum.resolution["validation_loss"]
    assert noise is not None
    assert table.rows[0][0] == "validation loss"
    assert table.rows[0][-1] == f"{noise.ceiling:.2f} [{noise.low:.2f}, {noise.high:.2f}]"
    (unknown,) = build_noise(replace(stratum, resolution={"validation_loss": None}))
    assert isinstance(unknown, Paragraph)
    assert unknown.text.startswith("Not known")


def test_pairs_say_how_well_they_are_matched(study_findings: Findings) -> None:
    table, note, apart = build_pairs(study_findings.views[0].stratum.pairs)
    assert isinstance(table, Table)
    assert isinstance(note, Paragraph)
    assert isinstance(apart, Paragraph)
    assert {row[0] for row in table.rows} == {"optimum less control"}
    candidates = study_findings.views[0].candidates.drop_duplicates("key").set_index("key")
    controls = candidates[candidates["strategy"] == "control"]
    spans = [abs(row["span"] - candidates.loc[row["matched"], "span"]) for _, row in controls.iterrows()]
    assert f"span {sum(spans) / len(spans):.2f} and visit evenness" in apart.text
    assert [*build_pairs(())] == []


def test_verdicts_of_all_strata_stand_in_one_table(study_findings: Findings) -> None:
    table, _ = build_verdicts(study_findings.views, study_findings.pooled)
    assert isinstance(table, Table)
    assert table.header[1] == "mean BD"
    together, *rows = table.rows
    (pooled,) = study_findings.pooled
    assert together[:2] == ("all together", _cell(pooled.status, pooled.effects))
    for row, view in zip(rows, study_findings.views, strict=True):
        (judgement,) = view.stratum.judgements
        assert judgement.resolution is not None
        assert row[:2] == (view.name, _cell(judgement.status, judgement.effects))
        assert row[3:] == (f"{judgement.resolution.ceiling:.2f}", f"{view.stratum.n_patterns} x 2")
    assert len(build_verdicts(study_findings.views).__next__().rows) == 2  # type: ignore[union-attr]


def _cell(status: str, effects: Any) -> str:
    values = sorted(read_estimate(effect).value or 0.0 for effect in effects)
    return f"{IN_WORDS[status]} ({values[0]:+.2f} to {values[-1]:+.2f})"


def test_undertrained_strata_are_called_so_wherever_they_are_shown(study_findings: Findings) -> None:
    view = study_findings.views[0]
    under = replace(view, stratum=replace(view.stratum, fault="undertrained"))
    table, _ = build_verdicts([under])
    assert isinstance(table, Table)
    assert table.rows[0][0] == f"{view.name} (undertrained)"
    _, picture = build_effects([under, study_findings.views[1]], 2)
    assert isinstance(picture, Picture)
    assert "12 layers, one (undertrained)" in picture.svg
    assert next(build_stratum(under, "")) == Heading(2, "12 layers, one (undertrained)")


def test_of_networks_that_learned_nothing_only_their_curves_are_shown(study_findings: Findings) -> None:
    view = study_findings.views[0]
    verdict = Verdict("not_trained", "Nothing was learned.")
    blocks = [*build_stratum(replace(view, stratum=replace(view.stratum, verdict=verdict)), "")]
    assert [block.text for block in blocks if isinstance(block, Heading)] == [view.name, "Learning curves"]
    assert not any(isinstance(block, Table) for block in blocks)


def test_single_rates_of_a_tuned_study_are_called_exploratory(study_findings: Findings) -> None:
    one, two = study_findings.views
    explored = replace(two, stratum=replace(two.stratum, is_exploratory=True))
    texts = [block.text for block in build_verdicts([one, explored]) if isinstance(block, Paragraph)]
    assert sum("are exploratory" in text for text in texts) == 1
    texts = [block.text for block in build_verdicts([one, two]) if isinstance(block, Paragraph)]
    assert not any("are exploratory" in text for text in texts)


def test_advice_that_measures_share_is_given_once() -> None:
    first = Verdict("depends", "One.", more="More patterns.", measure="walk_length")
    texts = [
        block.text for block in build_answer(first, (replace(first, measure="span"),)) if isinstance(block, Paragraph)
    ]
    assert texts == ["One.", "To know more: More patterns."]
    other = Verdict("inconclusive", "Two.", numbers="n.", more="More seeds.", measure="mean_bd")
    *_, last = build_answer(first, (other,))
    assert last == Paragraph("To know more. Walk length: more patterns. Backprop distance: more seeds.")


def test_every_declared_measure_has_its_sentence(study_findings: Findings) -> None:
    views = []
    for view in study_findings.views:
        (judgement,) = view.stratum.judgements
        second = replace(judgement, measure="walk_length", status="unresolved")
        views.append(
            replace(
                view,
                stratum=replace(view.stratum, measures=("mean_bd", "walk_length"), judgements=(judgement, second)),
            )
        )
    (other,) = judge_others(views, study_findings.pooled)
    assert (other.measure, other.status) == ("walk_length", "unresolved")
    blocks = [*build_answer(study_findings.verdict, (other,))]
    answers = [block.text for block in blocks if isinstance(block, Paragraph) and block.kind == "answer"]
    assert answers == [study_findings.verdict.sentence, other.sentence]
    (defined,) = define_measures(("mean_bd", "walk_length", "of_an_absent_package"))
    assert isinstance(defined, Paragraph)
    assert "Walk length: mean number of layers" in defined.text
    assert judge_others(study_findings.views, ()) == ()


def test_effects_of_all_strata_are_one_picture(study_findings: Findings) -> None:
    heading, picture = build_effects(study_findings.views, 2)
    assert heading == Heading(2, "Every measure by itself")
    assert isinstance(picture, Picture)
    assert "rank correlation with validation loss" in picture.svg
    without = [replace(view, stratum=replace(view.stratum, judgements=(), effects=())) for view in study_findings.views]
    assert [*build_effects(without, 2)] == []


def test_short_and_long_runs_are_compared(study_findings: Findings) -> None:
    (loss, accuracy, *rest) = study_findings.fidelity
    assert (loss.short_regime, loss.long_regime, loss.n_patterns) == ("one", "one 3 epochs", 5)
    assert loss.estimate.value == pytest.approx(1.0)  # invented outcomes do not see the epochs
    assert [each.short_regime for each in (accuracy, *rest)] == ["one", "two", "two"]
    text = format_markdown([*build_fidelity(study_findings.fidelity)])
    assert "Do short runs rank patterns as long ones do?" in text
    assert "| 12 layers | one | one 3 epochs | validation loss | +1.00 |" in text
    assert [*build_fidelity(())] == []


def test_levels_take_the_seeds_own_mean_out(study_findings: Findings) -> None:
    complete = study_findings.views[0].candidates
    levels = {level.name: level for level in measure_levels(complete)}
    assert {"log", "optimum", "control", "random", "design"} <= set(levels)
    log = complete[complete["template"] == "log"].set_index("seed")["validation_loss"]
    sampled = complete[complete["strategy"].isin(["random", "design"])].groupby("seed")["validation_loss"].mean()
    assert levels["log"].value == pytest.approx((log - sampled).mean() + sampled.mean())
    low, high = levels["log"].low, levels["log"].high
    assert low is not None
    assert high is not None
    half = 12.706 * (log - sampled).std() / math.sqrt(2)  # Student's t at 97.5 %, one degree of freedom
    assert high - low == pytest.approx(2 * half, rel=1e-3)
    assert levels["design"].n_patterns == complete[complete["strategy"] == "design"]["key"].nunique()
