"""A study's report: the answer first, planned against done, and honest when cut short."""

import json
import math
import re
from pathlib import Path

import pytest

from analysis.data.adherence import check_adherence
from analysis.data.results import read_run
from analysis.report.findings import find
from analysis.report.report import write_report
from analysis.study.levels import measure_levels
from nas.model.candidate import Candidate
from nas.records.plan import read_plan
from tests.support.synthetic_study import make_study, score_by_distance, score_by_span


@pytest.fixture(scope="module")
def by_span(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished study in which span alone decides, with a check."""
    run = tmp_path_factory.mktemp("study") / "run"
    regimes = ("one=lr:0.1", "two=lr:0.05")
    return make_study(run, score_by_span, check_epochs=3, check_patterns=5, regime=regimes)


@pytest.fixture(scope="module")
def texts(by_span: Path) -> dict[str, str]:
    """Its report's files, but for bitmaps."""
    return {path.name: path.read_text() for path in write_report(by_span) if path.suffix != ".png"}


def test_the_answer_comes_first_and_every_stratum_has_its_own(texts: dict[str, str]) -> None:
    report = texts["report.md"]
    first = report.index("Explained by span in all 2 strata")
    assert first < report.index("| stratum | verdict") < report.index("## 12 layers, one")
    assert report.index("## 12 layers, one") < report.index("## 12 layers, two") < report.index("## Planned and done")
    assert "lr:0.1" in report
    assert report.count("at this schedule and one shared learning rate") >= 3
    assert "Incomplete" not in report
    assert "Not as planned" not in report


def test_the_plan_is_told_with_its_hash_and_was_kept(by_span: Path, texts: dict[str, str]) -> None:
    held = read_plan(by_span)
    assert held is not None
    plan, sha256 = held
    report = texts["report.md"]
    assert f"hashed before the first training (SHA-256 {sha256}); the run kept to its plan." in report
    n_patterns = len(plan["patterns"])
    assert f"| 12 layers, one | {2 * n_patterns} of {2 * n_patterns} | 0 | {n_patterns} of {n_patterns} | 0 |" in report
    assert "(checks one) | 10 of 10 | 0 | 5 of 5 |" in report
    assert all(text in report for text in plan["protocol"]["hypotheses"])
    assert "checklist.md" in report
    assert texts["checklist.md"].startswith("# The checklist")


def test_short_and_long_runs_are_compared(by_span: Path, texts: dict[str, str]) -> None:
    (loss, accuracy, *rest) = find(read_run(by_span)).fidelity
    assert (loss.short_regime, loss.long_regime, loss.n_patterns) == ("one", "one 3 epochs", 5)
    assert loss.estimate.value == pytest.approx(1.0)  # invented outcomes do not see the epochs
    assert [one.short_regime for one in (accuracy, *rest)] == ["one", "two", "two"]
    assert "Do short runs rank patterns as long ones do?" in texts["report.md"]


def test_numbers_of_the_summary_are_those_of_the_report(texts: dict[str, str]) -> None:
    summary = json.loads(texts["summary.json"])
    assert summary["verdict"]["status"] == "explained_by_span"
    assert [one["statistics"]["regime"] for one in summary["strata"]] == ["one", "two"]
    assert summary["adherence"]["n_missing"] == 0
    partial = summary["strata"][0]["statistics"]["primary"]["partial"]
    assert f"| {partial['value']:+.2f} | {partial['low']:+.2f} to {partial['high']:+.2f} |" in texts["report.md"]


def test_every_pattern_is_named_under_the_pointer(by_span: Path, texts: dict[str, str]) -> None:
    titles = set(re.findall(r"<title>(.*?)</title>", texts["distance_12-layers-one.svg"]))
    keys = read_run(by_span).candidates.query("regime == 'one' and template.isna()")["key"].unique()
    assert all(any(key[:12] in title for title in titles) for key in keys)


def test_a_study_cut_halfway_says_so_with_what_is_missing(tmp_path: Path) -> None:
    n_trained = 40
    run = make_study(tmp_path / "run", score_by_distance, n_trained=n_trained, regime=("one=lr:0.1", "two=lr:0.05"))
    report = next(path for path in write_report(run) if path.name == "report.md").read_text()
    asked = read_run(run).asked
    assert asked is not None
    n_left = asked - n_trained - 1
    notice = f"Incomplete: {n_trained} candidates of {asked} asked for are complete (1 running, {n_left} not begun)"
    assert report.index(notice) < report.index("| stratum | verdict")
    assert f"kept to its plan so far; {asked - n_trained} trainings are still to come" in report
    adherence = check_adherence(read_run(run))
    assert sum(one.complete for one in adherence.progress) == n_trained
    trained = read_run(run).candidates.query("state == 'complete' and regime == 'one'").dropna(subset=["span_bin"])
    met = set(zip(trained["distance_bin"], trained["span_bin"], strict=True))
    assert set(adherence.progress[0].missing_cells) == {(d, s) for d in range(3) for s in range(2)} - met
    for row in re.findall(r"^\| 12 layers, (?:one|two) \| .*$", report, re.MULTILINE):
        assert "supported" not in row or " x 1 |" in row


def test_failures_are_told_and_trainings_outside_the_plan_too(tmp_path: Path) -> None:
    def score(candidate: Candidate) -> float:
        return math.nan if candidate.template == "log" else score_by_distance(candidate)

    run = make_study(tmp_path / "run", score, regime=("one=lr:0.1",), per_cell=1, trials=2)
    report = next(path for path in write_report(run) if path.name == "report.md").read_text()
    assert "## Failures" in report
    assert "training loss not finite at step 3 of 8" in report
    found = read_run(run)
    assert found.plan is not None
    (progress,) = check_adherence(found).progress
    assert (progress.failed, progress.complete) == (2, progress.planned - 2)
    found.plan["order"].pop()
    assert check_adherence(found).deviations == ("1 trainings are in the ledger that were not planned",)
    found.plan["protocol"] = {**found.plan["protocol"], "alpha": 0.1}
    assert len(check_adherence(found).deviations) == 2


def test_levels_take_the_seeds_own_mean_out(by_span: Path) -> None:
    table = read_run(by_span).candidates
    complete = table[(table["state"] == "complete") & (table["regime"] == "one")]
    levels = {one.name: one for one in measure_levels(complete)}
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
