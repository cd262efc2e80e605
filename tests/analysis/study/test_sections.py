"""The parts of a study's report: one stratum, all strata side by side, and short runs against long ones."""

import math
import re
from dataclasses import replace
from itertools import filterfalse
from typing import Any

import pytest

from analysis.page.document import Block, Fold, Heading, Paragraph, Picture, Table, format_markdown, walk_blocks
from analysis.page.wording import name_measure
from analysis.report.findings import Findings
from analysis.study.levels import measure_levels
from analysis.study.overview import (
    advise,
    build_fidelity,
    build_verdicts,
    define_measures,
    draw_weakest,
    fold_effects,
    judge_others,
)
from analysis.study.sections import build_stratum
from analysis.study.tables import fold_noise, fold_pairs, fold_tests
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
    assert answer == Paragraph(view.stratum.verdict.sentence, "finding")
    assert [block.text for block in rest if isinstance(block, Heading)] == [
        "What goes with the outcome?",
        "The best patterns",
        "Templates at equal budget",
        "Learning curves",
    ]
    assert {block.level for block in rest if isinstance(block, Heading)} == {3}
    folds = [block.summary for block in rest if isinstance(block, Fold)]
    assert [" ".join(summary.split()[:3]) for summary in folds] == [
        "Can the seeds",
        "With other measures",
        "Pairs made to",
        "The templates in",
    ]
    files = [block.file.removesuffix("_12-layers-one.svg") for block in rest if isinstance(block, Picture)]
    assert (files[0], *files[-2:]) == ("outcome", "levels", "curves")
    assert all(file.startswith("arcs_") for file in files[1:-2])


def test_all_but_the_first_stratum_are_folded(study_findings: Findings, blocks: list[Block]) -> None:
    heading, answer, fold = build_stratum(study_findings.views[0], "a caption", is_first=False)
    assert [heading, answer] == blocks[:2]
    assert isinstance(fold, Fold)
    is_arcs = lambda block: isinstance(block, Picture) and block.is_small  # noqa: E731
    assert [*filterfalse(is_arcs, fold.blocks)] == [*filterfalse(is_arcs, blocks[2:])]
    assert 0 < sum(map(is_arcs, fold.blocks)) < sum(map(is_arcs, blocks))  # a page of several strata would be heavy


def test_a_sentence_that_the_head_has_shown_is_not_shown_again(study_findings: Findings) -> None:
    view = replace(study_findings.views[0], name="")
    sentence = view.stratum.verdict.sentence
    for said, n_times in (((), 1), ((sentence,), 0)):
        texts = [block.text for block in build_stratum(view, "", said) if isinstance(block, Paragraph)]
        assert texts.count(sentence) == n_times


def test_every_pattern_is_named_under_the_pointer(study_findings: Findings, blocks: list[Block]) -> None:
    svg = next(block.svg for block in blocks if isinstance(block, Picture))
    titles = set(re.findall(r"<title>(.*?)</title>", svg))
    candidates = study_findings.views[0].candidates
    keys = candidates.loc[candidates["template"].isna(), "key"].unique()
    assert all(any(key[:12] in title for title in titles) for key in keys)


def test_without_learning_curves_no_section_is_shown(study_findings: Findings) -> None:
    view = study_findings.views[0]
    blocks = build_stratum(replace(view, curves=view.curves.head(0), levels=()), "")
    assert "Learning curves" not in [block.text for block in blocks if isinstance(block, Heading)]


def test_the_tests_of_a_declared_measure_stand_in_one_table(study_findings: Findings) -> None:
    stratum = study_findings.views[0].stratum
    fold = fold_tests(stratum)
    assert isinstance(fold, Fold)
    table = fold.blocks[0]
    assert isinstance(table, Table)
    assert table.header[0].startswith("mean BD")
    (judgement,) = stratum.judgements
    assert len(table.rows) == len(judgement.effects) == 4
    values = sorted(effect.partial.value or 0.0 for effect in judgement.effects)
    assert fold.summary.endswith(f"mean BD {values[0]:+.2f} to {values[-1]:+.2f}")
    for row, effect in zip(table.rows, judgement.effects, strict=True):
        assert effect.resolution is not None
        assert effect.partial.value is not None
        assert row[0] == " and ".join(map(name_measure, effect.given))
        assert float(row[1].partition(" ")[0]) == round(effect.partial.value, 2)
        assert row[2] == f"{effect.resolution.ceiling:.2f}"


def test_seeds_that_disagree_on_a_slope_are_named(study_findings: Findings) -> None:
    stratum = study_findings.views[0].stratum
    (judgement,) = stratum.judgements
    for p_value, is_named in ((0.01, True), (0.5, False)):
        slopes = SeedSlopes((0.1, 0.9), 6.0, p_value, 0.2)
        effects = tuple(replace(effect, seeds=slopes) for effect in judgement.effects)
        changed = replace(stratum, judgements=(replace(judgement, effects=effects),))
        text = format_markdown([fold_tests(changed)])
        assert ("Seeds disagree on the slope of mean BD" in text) == is_named


def test_the_f_test_and_the_ceiling_come_first(study_findings: Findings) -> None:
    stratum = study_findings.views[0].stratum
    fold = fold_noise(stratum)
    assert isinstance(fold, Fold)
    table = fold.blocks[0]
    assert isinstance(table, Table)
    noise = stratum.resolution["validation_loss"]
    assert noise is not None
    assert table.rows[0][0] == "validation loss"
    assert table.rows[0][-1] == f"{noise.ceiling:.2f} [{noise.low:.2f}, {noise.high:.2f}]"
    for p_value, answer in ((0.01, "Yes: a perfect"), (0.2, "That is not shown")):
        judged = fold_noise(replace(stratum, resolution={"validation_loss": replace(noise, p_value=p_value)}))
        assert isinstance(judged, Fold)
        assert answer in judged.summary
    unknown = fold_noise(replace(stratum, resolution={"validation_loss": None}))
    assert isinstance(unknown, Paragraph)
    assert "Not known" in unknown.text


def test_pairs_say_how_well_they_are_matched(study_findings: Findings) -> None:
    fold = fold_pairs(study_findings.views[0].stratum.pairs)
    assert isinstance(fold, Fold)
    table, _, apart = fold.blocks
    assert isinstance(table, Table)
    assert isinstance(apart, Paragraph)
    assert {row[0] for row in table.rows} == {"optimum less control"}
    candidates = study_findings.views[0].candidates.drop_duplicates("key").set_index("key")
    controls = candidates[candidates["strategy"] == "control"]
    spans = [abs(row["span"] - candidates.loc[row["matched"], "span"]) for _, row in controls.iterrows()]
    assert f"span {sum(spans) / len(spans):.2f} and visit evenness" in apart.text


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
    (fold,) = fold_effects([under, study_findings.views[1]])
    (picture,) = [block for block in walk_blocks([fold]) if isinstance(block, Picture)]
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
    table, _, fold = build_verdicts([one, explored])
    assert isinstance(table, Table)
    assert [row[0] for row in table.rows] == [one.name]
    assert isinstance(fold, Fold)
    assert fold.summary.endswith("exploratory")
    assert two.name in format_markdown([fold])
    assert not any(isinstance(block, Fold) for block in build_verdicts([one, two]))


def test_advice_that_measures_share_is_given_once() -> None:
    first = Verdict("depends", "One.", more="More patterns.", measure="walk_length")
    assert advise([first, replace(first, measure="span")]) == "To know more: More patterns."
    other = Verdict("inconclusive", "Two.", numbers="n.", more="More seeds.", measure="mean_bd")
    assert advise([first, other]) == "To know more. Walk length: more patterns. Backprop distance: more seeds."
    assert advise([replace(first, more="")]) == ""


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
    (defined,) = define_measures(("mean_bd", "walk_length", "of_an_absent_package"))
    assert "Walk length: mean number of layers" in format_markdown([defined])
    assert judge_others(study_findings.views, ()) == ()


def test_effects_of_all_strata_are_one_picture(study_findings: Findings) -> None:
    (fold,) = fold_effects(study_findings.views)
    (picture,) = [block for block in walk_blocks([fold]) if isinstance(block, Picture)]
    assert "rank correlation with validation loss" in picture.svg
    without = [replace(view, stratum=replace(view.stratum, judgements=(), effects=())) for view in study_findings.views]
    assert [*fold_effects(without)] == []
    assert [*draw_weakest(without, ())] == []


def test_the_head_draws_the_weakest_effect_of_each_measure(study_findings: Findings) -> None:
    (picture,) = draw_weakest(study_findings.views, study_findings.pooled)
    (pooled,) = study_findings.pooled
    weakest = min(pooled.effects, key=lambda effect: abs(effect.value or 0.0))
    assert f"{name_measure('mean_bd')}, {' and '.join(map(name_measure, weakest.given))} held" in picture.svg
    assert "Of 12 layers" not in picture.description
    (of_first,) = draw_weakest(study_findings.views, ())
    assert "Of 12 layers, one." in of_first.description


def test_short_and_long_runs_are_compared(study_findings: Findings) -> None:
    (loss, accuracy, *rest) = study_findings.fidelity
    assert (loss.short_regime, loss.long_regime, loss.n_patterns) == ("one", "one 3 epochs", 5)
    assert loss.estimate.value == pytest.approx(1.0)  # invented outcomes do not see the epochs
    assert [each.short_regime for each in (accuracy, *rest)] == ["one", "two", "two"]
    text = format_markdown([*build_fidelity(study_findings.fidelity)])
    assert "Do short runs rank patterns as long ones do?" in text
    assert "| 12 layers | one | one 3 epochs | validation loss | +1.00" in text
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
