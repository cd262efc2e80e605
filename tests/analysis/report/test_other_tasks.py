"""Reports of tasks that are no classification of images: their metrics are named, and nothing is said of images."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import spearmanr

from analysis.data.averages import average_patterns
from analysis.data.results import Run, read_run
from analysis.page.document import format_markdown
from analysis.picks.found import judge_search
from analysis.picks.order import summarise_status
from analysis.picks.words import answer_found
from analysis.report.conclusion import conclude
from analysis.report.report import compose_report
from nas.model.candidate import Candidate
from nas.records.metrics import Metric, Metrics
from tests.support.other_task import SCORED, TASK, Gives, give_losses, give_scores, make_search, make_study

OF_IMAGES = ("accuracy", "accurate", "images", "validation", "nats", "chance level", "largest class", " 100 %")


@pytest.fixture(scope="module")
def losses(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return read_run(make_search(tmp_path_factory.mktemp("losses") / "run"))


@pytest.fixture(scope="module")
def scores(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return read_run(make_search(tmp_path_factory.mktemp("scores") / "run", give_scores, SCORED))


def _page(run: Run) -> str:
    return format_markdown(compose_report(run).blocks)


def _said_of_images(page: str) -> list[str]:
    return [words for words in OF_IMAGES if words in page.partition("## Provenance")[0]]


def test_a_search_names_its_metrics_and_says_nothing_of_images(losses: Run, scores: Run) -> None:
    for run, words in (
        (losses, ("expected loss", "lower loss than", "observed loss", "bits per character", "loss (logarithm)")),
        (scores, ("expected f1", "higher f1 than", "observed f1", "higher f1, while")),
    ):
        page = _page(run)
        assert _said_of_images(page) == []
        assert [each for each in words if each not in page] == []


def _give_small(candidate: Candidate) -> dict[str, float]:
    """Losses of which some are 0."""
    return {"loss": max(give_losses(candidate)["loss"] - 1.85, 0.0)}


def test_a_loss_of_0_is_neither_hidden_nor_left_out(tmp_path: Path) -> None:
    run = read_run(make_search(tmp_path / "run", _give_small, (Metric("loss"),)))
    (found,) = judge_search(run)
    means = average_patterns(run.candidates).set_index("key")["loss"]
    assert 0 < (means == 0).sum() < len(means)
    assert found.basis == "no_logarithm"
    assert {each.key: each.observed for each in found.ranked} == pytest.approx(means.to_dict())
    assert means[found.pick.key] == 0
    assert "not above 0" in answer_found(found)
    assert conclude(run).rows[0].outcome.value == 0


def test_negative_losses_are_shown_as_they_are(tmp_path: Path) -> None:
    def give(candidate: Candidate) -> dict[str, float]:
        return {"loss": give_losses(candidate)["loss"] - 5}

    run = read_run(make_search(tmp_path / "run", give, (Metric("loss"),)))
    best = conclude(run).rows[0]
    means = average_patterns(run.candidates).set_index("key")["loss"]
    assert best.outcome.value == pytest.approx(means.min())
    assert best.key == means.idxmin()


@pytest.mark.slow
def test_a_study_of_losses_of_0_has_no_gains_in_per_cent(tmp_path: Path) -> None:
    conclusion = conclude(read_run(make_study(tmp_path / "run", _give_small, (Metric("loss"),))))
    assert len(conclusion.rows) == 5
    assert {row.gain for row in conclusion.rows} == {None}


def test_a_pick_is_the_best_by_the_primary_metric_in_its_direction(losses: Run, scores: Run) -> None:
    for run, name, sign in ((losses, "loss", 1), (scores, "f1", -1)):
        (found,) = judge_search(run)
        means = average_patterns(run.candidates).set_index("key")[name]
        assert found.objective == name
        assert found.pick.key == (sign * means).idxmin()
        assert found.pick.expected is not None
        assert found.pick.expected.value == pytest.approx(means[found.pick.key], rel=0.02)
        assert found.over_template is not None
        assert found.over_template.change < 0  # less is better, whatever the direction
        best = summarise_status(run)["best"]
        assert (best["metric"], best["value"]) == (name, pytest.approx(means[best["key"]]))


def test_a_search_goes_by_the_metric_that_it_was_asked_for(losses: Run) -> None:
    negated = -losses.candidates["bits_per_character"]
    candidates = losses.candidates.assign(bits_per_character=negated)
    config = {**losses.config, "objective": "bits_per_character"}
    (found,) = judge_search(replace(losses, candidates=candidates, config=config))
    assert found.objective == "bits_per_character"
    assert found.pick.key == average_patterns(candidates).set_index("key")["bits_per_character"].idxmin()
    assert "lower bits_per_character than" in answer_found(found)


def test_networks_that_only_guess_are_not_looked_for_where_nothing_is_guessed(scores: Run) -> None:
    summary = compose_report(scores).summary
    assert [stratum["is_learned"] for stratum in summary["strata"]] == [None]
    assert all(row["f1"] is not None for row in summary["strata"][0]["best_patterns"])


@pytest.mark.slow
@pytest.mark.ci
@pytest.mark.parametrize(
    ("give", "metrics", "sign", "hypothesis"),
    [(give_losses, TASK, -1, "reach a lower loss"), (give_scores, SCORED, 1, "reach a higher f1")],
)
def test_a_study_judges_by_the_primary_metric_as_its_plan_says(
    tmp_path: Path, give: Gives, metrics: Metrics, sign: int, hypothesis: str
) -> None:
    run = read_run(make_study(tmp_path / "run", give, metrics))
    name = metrics[0].name
    report = compose_report(run)
    assert _said_of_images(format_markdown(report.blocks)) == []
    (stratum, _) = report.summary["strata"]
    effects = {(effect["measure"], effect["outcome"]): effect for effect in reversed(stratum["statistics"]["effects"])}
    sampled = run.candidates[run.candidates["strategy"].isin(["random", "design"])]
    sampled = sampled[sampled["regime"] == stratum["statistics"]["regime"]]
    table = sampled.pivot_table(index="key", columns="seed", values=name)
    values = np.log(table) if name == "loss" else table
    spans = sampled.drop_duplicates("key").set_index("key")["span"].loc[table.index]
    expected = spearmanr(spans.round(12), values.mean(axis=1)).statistic
    assert effects["span", name]["estimate"]["value"] == pytest.approx(expected)
    assert np.sign(expected) == sign
    assert run.plan is not None
    assert run.plan["protocol"]["primary"]["outcome"] == name
    assert hypothesis in run.plan["protocol"]["hypotheses"][0]
    assert report.summary["adherence"]["deviations"] == []


def test_trainings_that_failed_are_listed_with_their_reasons(tmp_path: Path) -> None:
    run = make_search(
        tmp_path / "run", lambda each: {} if each.seed and each.template else give_losses(each), n_drawn=2
    )
    assert "the task raised ValueError: no" in _page(read_run(run))
