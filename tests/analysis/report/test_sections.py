"""The order of a report's sections: the answer first, what is missing before it, planned against done last."""

import dataclasses
import json
import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from analysis.data.adherence import check_adherence
from analysis.data.results import CURVE_COLUMNS, Run, read_run
from analysis.page.document import Block, Heading, format_html, format_markdown
from analysis.report.conclusion import conclude_findings
from analysis.report.findings import Findings, find, summarise
from analysis.report.planned import build_plan
from analysis.report.sections import build_blocks
from analysis.study.view import View
from nas.layouts.condensed import CondenseNet
from nas.layouts.residual import HighwayNet, ResNet
from nas.model.candidate import Candidate
from nas.model.config import NetworkConfig
from nas.records.plan import read_plan
from tests.support.synthetic_budgets import BUDGETS, OF_BUDGET, PROPOSALS, plant_losses
from tests.support.synthetic_run import Score, make_candidates, make_run, propose, weigh_by
from tests.support.synthetic_study import make_study, score_by_distance

EVIL = '<script>alert("1")</script> | `x`'


def _name_only(view: View, *_: Any, **__: Any) -> Iterator[Block]:
    yield Heading(2, view.name or "the only stratum")


@pytest.fixture(scope="module", autouse=True)
def no_strata() -> Iterator[None]:
    """Of each stratum the report has only its heading: the rest is drawn in the tests of the study."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("analysis.report.sections.build_stratum", _name_only)
        yield


def _build(findings: Findings) -> Iterator[Block]:
    return build_blocks(findings, conclude_findings(findings))


def tabulate(score: Score, n_random: int = 2, **attributes: Any) -> Run:
    """A search's results without its ledger; attributes may have any of Run's."""
    proposals = propose(n_random, ["log"])
    candidates = make_candidates(proposals, score, ["log"] * len(proposals))
    fields: dict[str, Any] = {"asked": len(candidates), "config": {}, "environment": {}, "data": {}, **attributes}
    return Run(Path("run"), candidates, pd.DataFrame(columns=list(CURVE_COLUMNS)).astype(CURVE_COLUMNS), **fields)


@pytest.fixture(scope="module")
def budgets() -> Findings:
    """Three budgets at three seeds."""
    candidates = make_candidates(PROPOSALS, plant_losses(0.0005), OF_BUDGET, (0, 1, 2))
    config = {"budget": [*BUDGETS], "seed": 0, "epochs": 2}
    return find(dataclasses.replace(tabulate(lambda *_: 0.5), candidates=candidates, config=config))


def test_a_search_at_several_budgets_answers_how_few_connections_it_takes(budgets: Findings) -> None:
    report = format_markdown([*_build(budgets)])
    assert report.startswith("# Skip connections of 8 layers, budgets total:12, log and total:30\n")
    order = [
        "*Mean validation accuracy over seeds",
        "MBD: largest backprop distance",
        "## Accuracy against connections",
        "## What was found",
        "## 8 layers, total:12",
        "## 8 layers, log",
        "## 8 layers, total:30",
        "Trained: 28 patterns x 3 seeds, budgets total:12, log and total:30, 8 layers, 2 epochs.",
    ]
    places = [report.index(text) for text in order]
    assert places == sorted(places)
    assert "never compare" not in report
    assert "The networks of" not in report  # inside a budget all cost the same
    assert '| setting | budget | \\["total:12", "log", "total:30"\\] |' in report
    (tradeoff,) = budgets.tradeoffs
    assert summarise(budgets)["tradeoffs"] == [json.loads(json.dumps(dataclasses.asdict(tradeoff)))]


def test_unequal_cost_is_said_first_and_only_then() -> None:
    run = tabulate(lambda place, seed: 0.5 + 0.02 * place + 0.01 * seed)
    assert "differ in cost" not in format_markdown([*_build(find(run))])
    is_log = run.candidates["template"] == "log"
    candidates = run.candidates.assign(params=is_log.fillna(False).map({True: 2000, False: 1000}).astype("Int64"))
    text = format_markdown([*_build(find(dataclasses.replace(run, candidates=candidates)))])
    assert text.index("differ in cost, 1,000 to 2,000 parameters: ") < text.index("What was found")
    candidates = run.candidates.assign(flops=is_log.fillna(False).map({True: 7000, False: 5000}).astype("Int64"))
    text = format_markdown([*_build(find(dataclasses.replace(run, candidates=candidates)))])
    assert "differ in cost, 5,000 to 7,000 FLOPs an example: " in text
    assert "all would cost as much" in text
    config = NetworkConfig(surroundings=CondenseNet(), transition="all").model_dump(mode="json")
    text = format_markdown([*_build(find(dataclasses.replace(run, candidates=candidates, config=config)))])
    assert "differ in cost, 5,000 to 7,000 FLOPs an example: " in text
    assert "all would cost as much" not in text


@pytest.mark.parametrize(("surroundings", "is_said"), [(HighwayNet(), True), (ResNet(), False), (None, False)])
def test_distances_that_are_not_the_gradient_s_are_said_so_first(surroundings: Any, is_said: bool) -> None:
    config = NetworkConfig(merge="sum", surroundings=surroundings).model_dump(mode="json")
    text = format_markdown(
        [*_build(find(tabulate(lambda place, seed: 0.5 + 0.02 * place + 0.01 * seed, config=config)))]
    )
    assert ("are not its distances" in text[: text.index("What was found")]) is is_said


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"surroundings": ResNet(), "merge": "sum", "blocks": 3}, ["Network: resnet of 3 blocks."]),
        ({"exits": "every:2", "exit_loss": "adaloss", "layers": 8}, ["Exits: every:2, trained by adaloss."]),
        ({"blocks": 3}, []),
    ],
)
def test_a_network_other_than_blocks_in_a_row_is_named(settings: dict[str, Any], said: list[str]) -> None:
    config = NetworkConfig(**settings).model_dump(mode="json")
    run = tabulate(lambda place, seed: 0.5 + 0.02 * place + 0.01 * seed, config=config)
    text = format_markdown([*_build(find(run))])
    assert re.findall(r"(?:Network|Exits): [^.]*\.", text[text.index("Trained: ") :]) == said


def test_an_incomplete_run_says_so_first_and_lists_its_failures() -> None:
    scores: dict[tuple[int, int], str | None] = {(1, 0): EVIL, (2, 1): None}
    findings = find(tabulate(lambda place, seed: scores.get((place, seed), 0.5 + 0.01 * place), asked=10))
    blocks = [*_build(findings)]
    for text in (format_html("", blocks), format_markdown(blocks)):
        notice = "Incomplete: 4 candidates of 10 asked for are complete (1 failed, 1 running, 4 not begun)"
        assert text.index(notice) < text.index("What was found") < text.rindex("Failures")
        assert not re.search(r"(?<!\\)<script>alert", text)
    assert "&lt;script&gt;alert" in format_html("", blocks)


def test_a_study_has_its_verdicts_then_its_strata_then_its_plan(study_findings: Findings, study_run: Path) -> None:
    blocks = [*_build(study_findings)]
    report = format_markdown(blocks)
    order = [
        study_findings.verdict.sentence,
        "## All settings together",
        "| setting | mean BD | F test p",
        "Every measure by itself",
        "## Do short runs rank patterns as long ones do?",
        "## 12 layers, one",
        "## 12 layers, two",
        "## Planned and done",
        "checklist.md",
        "## Provenance",
        "lr:0.1",
    ]
    report = report.replace("learning rate 0.1 (one) and 0.05 (two)", "lr:0.1")
    places = [report.index(text) for text in order]
    assert places == sorted(places)
    assert "Incomplete" not in report
    assert "Not as planned" not in report
    assert "Connection strengths" not in report
    stored = read_plan(study_run)
    assert stored is not None
    plan, sha256 = stored
    assert f"hashed before the first training (SHA-256 {sha256}); the run kept to its plan." in report
    n_patterns = len(plan["patterns"])
    assert f"| 12 layers, one | {2 * n_patterns} of {2 * n_patterns} | 0 | {n_patterns} of {n_patterns} | 0 |" in report
    assert "(checks one) | 10 of 10 | 0 | 5 of 5 |" in report
    assert all(text in report for text in plan["protocol"]["hypotheses"])


def test_the_summary_of_a_study_has_its_verdict_and_strata(study_findings: Findings) -> None:
    summary = summarise(study_findings)
    assert summary["verdict"]["status"] == study_findings.verdict.status
    assert [view.stratum.name for view in study_findings.views] == ["12 layers at log, one", "12 layers at log, two"]
    assert [stratum["statistics"]["regime"] for stratum in summary["strata"]] == ["one", "two"]
    assert [list(stratum) for stratum in summary["strata"]] == 2 * [
        [
            "statistics",
            "is_learned",
            "uniform_reach",
            "templates",
            "proxies",
            "levels",
            "strength_trends",
            "best_patterns",
        ]
    ]
    assert summary["adherence"]["n_missing"] == 0
    assert {stratum["strength_trends"] for stratum in summary["strata"]} == {None}


def test_strengths_follow_their_stratum_and_have_their_own_caption(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", propose(2, ["log"]), lambda p, _s: 0.6 - 0.01 * p, weigh=weigh_by(-0.1))
    findings = find(read_run(run))
    blocks = [*_build(findings)]
    headings = [block.text for block in blocks if isinstance(block, Heading)]
    assert headings[1:4] == ["What was found", "the only stratum", "Connection strengths"]
    page = format_html("", blocks)
    assert "1 pattern x 2 seeds" in page  # of the picture: only log is drawn
    assert "3 patterns x 2 seeds" in page
    (trends,) = [stratum["strength_trends"] for stratum in summarise(findings)["strata"]]
    assert {each["status"] for each in trends} == {"too_few"}


def test_a_study_cut_halfway_says_so_with_what_is_missing(tmp_path: Path) -> None:
    n_trained = 14
    settings: dict[str, Any] = {"regime": ("one=lr:0.1",), "per_cell": 1, "trials": 2, "optima": 1}
    run = read_run(make_study(tmp_path / "run", score_by_distance, n_trained=n_trained, **settings))
    findings = find(run)
    assert findings.verdict.status == "inconclusive"
    report = format_markdown([*_build(findings)])
    assert run.asked is not None
    n_left = run.asked - n_trained - 1
    notice = f"Incomplete: {n_trained} candidates of {run.asked} asked for are complete (1 running, {n_left} not begun)"
    assert report.index(notice) < report.index("## ")
    assert f"kept to its plan so far; {run.asked - n_trained} trainings are still to come" in report
    adherence = check_adherence(run)
    assert sum(each.complete for each in adherence.progress) == n_trained
    trained = run.candidates.query("state == 'complete'").dropna(subset=["cell"])
    met = {tuple(map(int, cell.split(","))) for cell in trained["cell"]}
    assert set(adherence.progress[0].missing_cells) == {(d, s) for d in range(3) for s in range(2)} - met


def test_failures_are_counted_and_trainings_outside_the_plan_too(tmp_path: Path) -> None:
    def score(candidate: Candidate) -> float:
        return math.nan if candidate.template == "log" else score_by_distance(candidate)

    run = read_run(make_study(tmp_path / "run", score, regime=("one=lr:0.1",), per_cell=1, trials=2, optima=1))
    assert run.plan is not None
    adherence = check_adherence(run)
    (progress,) = adherence.progress
    assert (progress.failed, progress.complete) == (2, progress.planned - 2)
    assert "departed" not in format_markdown([*build_plan(adherence, run.plan)])
    findings = find(run)
    report = format_markdown([*_build(findings)])
    assert "training loss not finite at step 3 of 8" in report.partition("## Failures")[2]
    run.plan["order"].pop()
    adherence = check_adherence(run)
    assert adherence.deviations == ("1 trainings are in the ledger that were not planned",)
    assert "exploratory" not in format_markdown([*_build(findings)])
    notices = format_markdown([*_build(dataclasses.replace(findings, adherence=adherence))])
    assert re.search(r"Not as planned: 1 trainings .*departed from its plan, as said above", notices, re.DOTALL)
    protocol = run.plan["protocol"]
    run.plan["protocol"] = {**protocol, "alpha": 0.1}
    assert len(check_adherence(run).deviations) == 2
    run.plan["protocol"] = {name: value for name, value in protocol.items() if name not in ("version", "measures")}
    adherence = check_adherence(run)
    assert (adherence.version, len(adherence.deviations)) == (1, 1)
    older = format_markdown([*_build(dataclasses.replace(findings, adherence=adherence))])
    assert older.index("Planned under earlier rules (protocol 1)") < older.index(findings.verdict.sentence)
