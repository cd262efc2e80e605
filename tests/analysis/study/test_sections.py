"""The parts of a study's report: one stratum, all strata side by side, and short runs against long ones."""

import math
import re
from dataclasses import replace

import pytest

from analysis.page.document import Block, Heading, Paragraph, Picture, Table, format_markdown
from analysis.report.findings import Findings
from analysis.study.levels import measure_levels
from analysis.study.overview import build_effects, build_fidelity, build_verdicts
from analysis.study.sections import build_stratum


@pytest.fixture(scope="module")
def blocks(study_findings: Findings) -> list[Block]:
    """The part of the first stratum."""
    return [*build_stratum(study_findings.views[0], "a caption")]


def test_a_stratum_begins_with_its_name_and_its_answer(study_findings: Findings, blocks: list[Block]) -> None:
    view = study_findings.views[0]
    heading, answer, *rest = blocks
    assert heading == Heading(2, view.name) == Heading(2, "12 layers, one")
    assert isinstance(answer, Paragraph)
    assert (answer.kind, answer.text[1:]) == ("answer", f"{view.stratum.verdict.sentence[1:]}.")
    assert [block.text for block in rest if isinstance(block, Heading)] == [
        "Outcome against distance",
        "Templates at equal budget",
        "The best patterns",
        "Does distance explain the outcome?",
        "Learning curves",
    ]
    assert {block.level for block in rest if isinstance(block, Heading)} == {3}
    files = [block.file.removesuffix("_12-layers-one.svg") for block in rest if isinstance(block, Picture)]
    assert files[:3] == ["distance", "bands", "levels"]
    assert files[-1] == "curves"
    assert all(file.startswith("arcs_") for file in files[3:-1])


def test_every_pattern_is_named_under_the_pointer(study_findings: Findings, blocks: list[Block]) -> None:
    svg = next(block.svg for block in blocks if isinstance(block, Picture))
    titles = set(re.findall(r"<title>(.*?)</title>", svg))
    candidates = study_findings.views[0].candidates
    keys = candidates.loc[candidates["template"].isna(), "key"].unique()
    assert all(any(key[:12] in title for title in titles) for key in keys)


def test_without_learning_curves_that_is_said(study_findings: Findings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("analysis.study.sections.make_picture", lambda _figure, file, text: Picture(file, "", text))
    view = study_findings.views[0]
    *_, last = build_stratum(replace(view, curves=view.curves.head(0), levels=()), "")
    assert last == Paragraph("This study holds no learning curves.")


def test_verdicts_stand_in_one_table_with_their_numbers(study_findings: Findings) -> None:
    table, _ = build_verdicts(study_findings.views)
    assert isinstance(table, Table)
    for row, view in zip(table.rows, study_findings.views, strict=True):
        (judgement,) = view.stratum.judgements
        assert judgement.resolution is not None
        ceiling = f"{judgement.resolution.ceiling:.2f}"
        assert row[:3] == (view.name, "mean BD", view.stratum.verdict.words)
        assert row[4:] == (ceiling, f"{view.stratum.n_patterns} x 2")


def test_effects_of_all_strata_are_one_picture(study_findings: Findings) -> None:
    heading, picture = build_effects(study_findings.views)
    assert heading == Heading(2, "All effects side by side")
    assert isinstance(picture, Picture)
    assert "rank correlation with validation loss" in picture.svg
    without = [replace(view, stratum=replace(view.stratum, judgements=(), effects=())) for view in study_findings.views]
    assert [*build_effects(without)] == []


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
