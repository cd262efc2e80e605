"""RUN/optuna: the best trial is the report's best, and plots by parameters are there only where they mean something."""

import dataclasses
import json
import re
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
from optuna.artifacts import FileSystemArtifactStore, get_all_artifact_meta
from scipy import stats

from analysis.data.averages import average_patterns
from analysis.data.results import Run, read_run
from analysis.picks.found import judge_search
from analysis.picks.order import summarise_status
from analysis.report.conclusion import conclude_findings
from analysis.report.findings import Findings, find
from analysis.report.optuna_studies import ARTIFACTS, FILE, FOLDER, build_database, write_studies
from analysis.report.patterns import PatternStudy, study_patterns
from analysis.study.verdict import MOST_WORDS
from nas.records.database import Times, check_database
from nas.records.metrics import Metrics
from search_spaces.pattern import ConnectionPattern
from tests.support import other_task
from tests.support.resamples import use_resamples
from tests.support.small import ROOT
from tests.support.synthetic_budgets import BUDGETS, OF_BUDGET, PROPOSALS, plant_losses
from tests.support.synthetic_run import make_run, propose
from tests.support.synthetic_search import make_search, plant_loss

ATTRIBUTES: dict[str, Any] = {
    "data": {"n_train": 80, "n_validation": 400, "classes": 10, "name": "digits"},
    "largest_class": 0.1,
}


@pytest.fixture(scope="module", autouse=True)
def few_resamples() -> Iterator[None]:
    """Nothing here rests on an interval."""
    with pytest.MonkeyPatch.context() as patch:
        use_resamples(patch, 99)
        yield


def _load(studies: tuple[PatternStudy, ...], folder: Path, times: Mapping[int, Times] | None = None) -> str:
    database, _ = build_database(studies, times or {})
    (folder / FILE).write_bytes(database)
    return f"sqlite:///{folder / FILE}"


def _searched(noise: float, n_seeds: int = 3) -> Run:
    """A search by the model's own rules: 14 patterns, whose loss rises with walk length, or is noise only."""
    proposals = [(name, "model", pattern) for name, _, pattern in propose(12, ("log", "nearest_log_i"))]
    losses = {
        place: [plant_loss(pattern, seed, noise) for seed in range(n_seeds)]
        for place, (_, _, pattern) in enumerate(proposals)
    }
    return make_search(proposals, losses, objective="loss", strategy="model")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which runs/first is a search whose seeds tell patterns apart."""
    studies = study_patterns(find(_searched(0.01)), "It is so.")
    times = {
        number: Times(f"2026-01-01 00:00:{number:02d}.000000", "2026-01-01 00:01:30.000000") for number in range(40)
    }
    folder = tmp_path_factory.mktemp("told")
    (folder / "runs" / "first" / FOLDER).mkdir(parents=True)
    _load(studies, folder / "runs" / "first" / FOLDER, times)
    return folder


@pytest.fixture(scope="module")
def told(folder: Path) -> optuna.Study:
    """Its study of patterns."""
    return optuna.load_study(study_name="patterns", storage=f"sqlite:///{folder}/runs/first/{FOLDER}/{FILE}")


def test_the_best_trial_of_a_search_is_its_pick_and_not_a_lucky_seed(told: optuna.Study) -> None:
    run = _searched(0.01)
    (found,) = judge_search(run)
    best = told.best_trial
    assert found.basis == "model"
    assert found.pick.expected is not None
    assert (best.number, best.user_attrs["key"], best.value) == (0, found.pick.key, found.pick.expected.value)
    assert summarise_status(run)["best"]["key"] == best.user_attrs["key"]
    rows = run.candidates[run.candidates["key"] == best.user_attrs["key"]]
    assert best.user_attrs["mean_validation_loss"] == pytest.approx(rows["validation_loss"].mean())
    assert best.user_attrs["trainings"] == ", ".join(map(str, rows["number"]))
    assert told.metric_names == ["expected loss"]
    assert [trial.user_attrs["key"] for trial in told.trials] == [each.key for each in found.ranked]
    pattern = ConnectionPattern.from_sources(json.loads(best.system_attrs["sources"]))
    assert pattern.key == best.user_attrs["key"]
    assert max(len(str(value)) for value in best.user_attrs.values()) <= 64  # the dashboard does not break lines


def test_parameters_are_measures_where_the_seeds_tell_patterns_apart(told: optuna.Study) -> None:
    table = average_patterns(_searched(0.01).candidates).set_index("key")
    for trial in told.trials:
        assert trial.params.keys() == {"mean_bd", "span", "walk_length", "visit_evenness"}
        for name, value in trial.params.items():
            assert value == pytest.approx(table.loc[trial.user_attrs["key"], name])
    assert "F test, p = " in told.user_attrs["noise"]
    importances = optuna.importance.get_param_importances(
        told, evaluator=optuna.importance.FanovaImportanceEvaluator(seed=0)
    )
    assert next(iter(importances)) == "walk_length"  # by which the losses were planted


@pytest.mark.parametrize("n_seeds", [1, 3])
def test_where_they_cannot_there_is_nothing_that_could_be_important(tmp_path: Path, n_seeds: int) -> None:
    run = _searched(0.0, n_seeds)
    run.candidates["validation_loss"] = np.random.default_rng(3).uniform(0.4, 0.6, len(run.candidates))
    storage = _load(study_patterns(find(run), "It is so."), tmp_path)
    study = optuna.load_study(study_name="patterns", storage=storage)
    assert {len(trial.params) for trial in study.trials} == {0}
    assert optuna.importance.get_param_importances(study) == {}
    why = "no pattern was trained twice" if n_seeds == 1 else "cannot tell these patterns apart"
    assert why in study.user_attrs["noise"].lower()
    assert "walk_length" in study.best_trial.user_attrs


def test_a_few_patterns_that_were_trained_twice_are_not_called_none() -> None:
    run = _searched(0.01)
    table = run.candidates
    first = table["key"].iloc[0]
    few = dataclasses.replace(run, candidates=table[(table["seed"] == 0) | (table["key"] == first)])
    (study,) = study_patterns(find(few), "It is so.")
    assert not study.has_parameters
    assert study.noise.startswith("Too few patterns were trained twice")


def test_where_all_trainings_are_equal_the_study_says_so() -> None:
    run = _searched(0.01)
    (study,) = study_patterns(
        find(dataclasses.replace(run, candidates=run.candidates.assign(validation_loss=0.5))), "It is so."
    )
    assert not study.has_parameters
    assert study.noise.startswith("All trainings have the same loss")


def test_every_budget_has_a_study_whose_best_trial_is_the_pick(tmp_path: Path) -> None:
    path = make_run(
        tmp_path / "run", PROPOSALS, plant_losses(0.01), budgets=OF_BUDGET, config={"budget": [*BUDGETS]}, **ATTRIBUTES
    )
    run = read_run(path)
    storage = _load(study_patterns(find(run), "It is so."), tmp_path)
    picks = judge_search(run)
    assert len(picks) == len(BUDGETS)
    names = [f"patterns, {found.layers} layers, {found.budget}" for found in picks]
    assert sorted(optuna.get_all_study_names(storage)) == sorted(names)
    for name, found in zip(names, picks, strict=True):
        best = optuna.load_study(study_name=name, storage=storage).best_trial
        assert (best.user_attrs["key"], best.user_attrs["budget"]) == (found.pick.key, found.budget)


@pytest.mark.parametrize(
    ("metrics", "give", "direction"),
    [(other_task.TASK, other_task.give_losses, "MINIMIZE"), (other_task.SCORED, other_task.give_scores, "MAXIMIZE")],
)
def test_the_best_trial_of_another_task_is_the_reports_best_either_way(
    tmp_path: Path, metrics: Metrics, give: other_task.Gives, direction: str
) -> None:
    run = read_run(other_task.make_search(tmp_path / "run", give, metrics))
    study = optuna.load_study(study_name="patterns", storage=_load(study_patterns(find(run), "It is so."), tmp_path))
    assert study.direction.name == direction
    assert study.best_trial.user_attrs["key"] == summarise_status(run)["best"]["key"]
    assert f"mean_{metrics[0].name}" in study.best_trial.user_attrs


def test_a_pattern_that_lacks_seeds_is_never_the_best_where_means_decide(tmp_path: Path) -> None:
    """Of six patterns one has a single, lucky seed."""
    path = make_run(
        tmp_path / "run",
        propose(6),
        lambda place, seed: (0.99 if seed == 0 else "lost") if place == 5 else 0.7 + 0.01 * place,
        **ATTRIBUTES,
    )
    run = read_run(path)
    study = optuna.load_study(study_name="patterns", storage=_load(study_patterns(find(run), "It is so."), tmp_path))
    assert study.best_trial.user_attrs["key"] == summarise_status(run)["best"]["key"]
    assert [trial.state.name for trial in study.trials] == ["COMPLETE"] * 5 + ["PRUNED"]
    assert study.trials[-1].value is not None
    assert study.trials[-1].value > study.best_value


def test_the_best_trial_of_a_planned_study_is_the_reports_best(study_findings: Findings, tmp_path: Path) -> None:
    findings = study_findings
    storage = _load(study_patterns(findings, "It is so."), tmp_path)
    names = optuna.get_all_study_names(storage)
    assert len(names) == len([view for view in findings.views if not view.stratum.is_exploratory])
    for view in findings.views:
        assert not view.stratum.is_exploratory
        name = f"patterns, {view.name}" if len(findings.views) > 1 else "patterns"
        study = optuna.load_study(study_name=name, storage=storage)
        assert study.best_trial.user_attrs["key"] == view.patterns["key"].iloc[0]
        assert study.user_attrs["verdict"] == "It is so."


def test_no_pattern_of_a_study_that_learned_nothing_may_be_the_best() -> None:
    losses = {place: [1.8, 1.8] for place in range(5)}  # 10 % right, as by guessing among 10 classes
    findings = find(make_search(propose(5), losses))
    (study,) = study_patterns(dataclasses.replace(findings, picks=()), "It is so.")  # which a study has none of
    assert not any(trial.is_ranked for trial in study.trials)
    assert "All are PRUNED" in study.write_note()


def test_the_timeline_is_that_of_the_trainings(told: optuna.Study) -> None:
    best = told.best_trial
    first = min(int(number) for number in best.user_attrs["trainings"].split(", "))
    assert best.datetime_start is not None
    assert best.datetime_complete is not None
    assert (best.datetime_start.second, best.datetime_complete.minute) == (first, 1)


def test_what_is_written_is_whole_and_a_database_with_notes_of_somebody_is_kept(tmp_path: Path) -> None:
    path = make_run(tmp_path / "run", propose(5), lambda place, _: 0.5 + 0.01 * place, **ATTRIBUTES)
    before = (path / "study.db").read_bytes()
    studies = study_patterns(find(read_run(path)), "It is so.")
    written = write_studies(path, studies)
    assert written == path / FOLDER / FILE
    check_database(written)
    storage = f"sqlite:///{written}"
    study = optuna.load_study(study_name="patterns", storage=storage)
    rdb = optuna.storages.RDBStorage(storage)
    (artifact,) = get_all_artifact_meta(study.best_trial, storage=rdb)
    assert artifact.filename == f"arcs_{study.best_trial.user_attrs['key'][:12]}.svg"
    with FileSystemArtifactStore(path / FOLDER / ARTIFACTS).open_reader(artifact.artifact_id) as stream:
        assert b"<svg" in stream.read()
    study.set_user_attr("mine", "a remark")
    own = written.read_bytes()
    write_studies(path, studies)
    assert written.with_name(f"{FILE}.kept").read_bytes() == own
    assert "mine" not in optuna.load_study(study_name="patterns", storage=storage).user_attrs
    assert len(list((path / FOLDER / ARTIFACTS).glob("*-*"))) == 3
    assert (path / "study.db").read_bytes() == before


def test_the_code_of_the_page_runs_and_draws(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "howto" / "optuna.md").read_text(), re.DOTALL)
    (tmp_path / "runs").symlink_to(folder / "runs")
    monkeypatch.chdir(tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        exec(code, {})  # noqa: S102  the page's own
    drawn = {path.stem for path in tmp_path.glob("*.png") if path.stat().st_size > 5000}
    assert drawn == {"timeline", "slice", "contour", "importances"}
    told = capsys.readouterr().out
    assert told.startswith("It is so.")
    assert "expected loss" in told


def test_a_studys_rows_have_intervals_and_paired_gains_of_scipy(study_findings: Findings) -> None:
    conclusion = conclude_findings(study_findings)
    assert len(conclusion.sentence.split()) <= MOST_WORDS
    assert conclusion.sentence in {view.stratum.verdict.sentence for view in study_findings.views} or (
        conclusion.sentence == study_findings.verdict.sentence
    )
    view = study_findings.views[0]
    table = view.candidates[view.candidates["state"] == "complete"]
    assert [row.key for row in conclusion.rows] == view.patterns["key"].head(5).tolist()
    by_key = {key: rows.sort_values("seed")["validation_accuracy"] for key, rows in table.groupby("key")}
    log = table.loc[(table["template"] == "log").fillna(False), "key"].unique().tolist()
    for row in conclusion.rows:
        own = by_key[row.key]
        interval = stats.ttest_1samp(own, 0).confidence_interval(0.95)
        assert row.outcome.value == pytest.approx(100 * own.mean())
        if row.outcome.low is not None and row.outcome.high is not None:
            assert row.outcome.low == pytest.approx(100 * max(interval.low, 0))
            assert row.outcome.high == pytest.approx(100 * min(interval.high, 1))
        if log and row.key != log[0]:
            paired = stats.ttest_rel(own, by_key[log[0]]).confidence_interval(0.95)
            assert row.gain is not None
            assert row.gain.value == pytest.approx(100 * (own.mean() - by_key[log[0]].mean()))
            assert (row.gain.low, row.gain.high) == pytest.approx((100 * paired.low, 100 * paired.high))
