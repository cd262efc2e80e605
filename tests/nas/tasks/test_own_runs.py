"""Searches and studies of a user's own task: refusals, failures, resume, and what the ledger then holds."""

import json
import logging
import os
from pathlib import Path
from typing import Any

import pytest

from analysis.data.protocol import describe_protocol
from analysis.data.results import read_run
from analysis.page.document import format_markdown
from analysis.report.report import compose_report
from nas.export.export import verify_template
from nas.export.runs import export_run
from nas.records.database import read_attributes
from nas.records.metrics import Metric
from nas.records.plan import read_plan
from nas.records.trial import Trial
from nas.run.ledger import Ledger
from nas.search.loop import run_search
from nas.settings.comparison import LineupConfig
from nas.settings.resume import settle_config
from nas.settings.search import SearchConfig
from nas.settings.study import StudyConfig
from nas.studies.study import run_study
from search_spaces.errors import ConflictError, InputError, Interrupted
from tests.support.own_tasks import QUICK, SPIRALS, WRONG, write_task

FLAGS: dict[str, Any] = {
    "layers": 6,
    "epochs": 3,
    "strategy": "random",
    "trials": 3,
    "seeds": 2,
    "templates": False,
    "workers": 1,
    "device": "cpu",
    "checkpoint_seconds": 0.0,
}


def search(run: Path, task: str, **flags: Any) -> list[Trial]:
    """Search, or go on with a search, and return its trials."""
    heard: list[Any] = []
    config = settle_config(run, None, {**FLAGS, "task": task, **flags}, SearchConfig)
    run_search(run, config, lambda *one: heard.append(one))
    return read_trials(run)


def read_trials(run: Path) -> list[Trial]:
    metrics = tuple(Metric(**each) for each in read_attributes(run / "study.db")["metrics"])
    return Ledger(run / "study.db", {}, frozenset({"schema", "metrics"}), metrics=metrics).entries()


def read_own_plan(run: Path) -> dict[str, Any]:
    read = read_plan(run)
    assert read is not None
    return dict(read[0])


def test_a_search_of_an_objective(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    run, task = tmp_path / "run", f"{write_task(tmp_path)}:objective"
    trials = search(run, task, set=("width=4",))
    assert [trial.state for trial in trials] == ["complete"] * 6
    assert {len(trial.metrics) for trial in trials} == {2}
    assert {(trial.facts["params"], trial.facts["flops"]) for trial in trials} == {(None, None)}
    assert all(trial.value == trial.metrics["loss"] for trial in trials)
    attributes = read_attributes(run / "study.db")
    assert attributes["task"]["settings"] == {"width": 4, "spoil": ""}
    assert attributes["cost"] == {}
    assert not {"growth", "dataset", "engine"} & attributes["config"].keys()
    assert "a task may print" not in capfd.readouterr().out
    assert not list((run / "checkpoints").glob("*.pt"))
    assert search(run, task) == trials  # nothing is left to train


def test_a_search_of_a_class_records_its_cost(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="nas")
    trials = search(tmp_path / "run", f"{SPIRALS}:Spirals", trials=2, seeds=1, epochs=1, set=("width=4",))
    (params,) = {trial.facts["params"] for trial in trials}
    cost = read_attributes(tmp_path / "run" / "study.db")["cost"]
    assert cost["6 layers, budget log"]["params"] == [params, params]
    said = [record.getMessage() for record in caplog.records]
    assert sum(str(SPIRALS) in sentence and "program" in sentence for sentence in said) == 1
    assert sum(f"{params:,}" in sentence for sentence in said) == 1


SLOW = [pytest.mark.slow, pytest.mark.ci]


@pytest.mark.parametrize("strategy", [pytest.param("model", marks=SLOW), "random:wide", "evolve", "templates"])
def test_every_strategy_searches_a_task(tmp_path: Path, strategy: str) -> None:
    flags: dict[str, Any] = {"trials": None, "trainings": 14, "templates": True, "seeds": 1, "strategy": strategy}
    if strategy == "templates":
        flags["trainings"] = None
    trials = search(tmp_path / "run", f"{write_task(tmp_path)}:objective", **flags)
    assert {trial.state for trial in trials} == {"complete"}


def test_halving_prunes_by_what_was_reported_and_the_objective_is_a_metric(tmp_path: Path) -> None:
    task = f"{write_task(tmp_path)}:objective"
    trials = search(tmp_path / "run", task, halving=True, seeds=1, objective="accuracy")
    assert sorted(trial.state for trial in trials) == ["complete", "pruned", "pruned"]
    kept = next(trial for trial in trials if trial.state == "complete")
    assert kept.metrics_at(1)["accuracy"] == max(trial.metrics_at(1)["accuracy"] for trial in trials)
    assert kept.outcome is not None
    assert [row["epoch"] for row in kept.outcome.curve] == [1, 2, 3]


def test_a_search_goes_on_after_a_stop_to_the_same_numbers(tmp_path: Path) -> None:
    task, stopped = f"{write_task(tmp_path)}:objective", tmp_path / "stopped"
    whole = search(tmp_path / "whole", task)

    def stop(trial: Trial | None, n_finished: int, n_asked: int) -> None:  # noqa: ARG001  the listener's form
        if n_finished == 2:
            raise Interrupted(2)

    with pytest.raises(Interrupted):
        run_search(stopped, settle_config(stopped, None, {**FLAGS, "task": task}, SearchConfig), stop)
    measured = [(trial.pattern, trial.seed, trial.metrics) for trial in search(stopped, task)]
    assert measured == [(trial.pattern, trial.seed, trial.metrics) for trial in whole]


def test_a_training_that_fails_leaves_the_others(tmp_path: Path) -> None:
    trials = search(tmp_path / "run", f"{write_task(tmp_path, WRONG)}:some")
    assert [trial.state for trial in trials if trial.seed == 0] == ["complete"] * 3
    assert {trial.outcome.error for trial in trials if trial.seed == 1 and trial.outcome} == {
        "ValueError: seed one (own.py:23)"
    }


def test_a_full_memory_costs_attempts_and_then_the_training(tmp_path: Path) -> None:
    trials = search(tmp_path / "run", f"{write_task(tmp_path, WRONG)}:full", trials=1, seeds=1, attempts=2)
    (trial,) = trials
    assert trial.attempts.given_up_after == 2
    assert trial.outcome is not None
    assert "out of memory" in str(trial.outcome.error)


def test_a_changed_file_is_refused_and_named(tmp_path: Path) -> None:
    run, task = tmp_path / "run", f"{write_task(tmp_path)}:objective"
    search(run, task)
    write_task(tmp_path, QUICK.replace("0.5 +", "0.6 +"))
    with pytest.raises(ConflictError, match=r"own\.py was changed") as caught:
        search(run, task, trials=4)
    assert read_attributes(run / "study.db")["task"]["sha256"][:12] in str(caught.value)
    write_task(tmp_path)
    assert len(search(run, task, trials=4)) == 8


def test_a_file_may_be_moved(tmp_path: Path) -> None:
    run = tmp_path / "run"
    search(run, f"{write_task(tmp_path)}:objective")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "own.py").rename(tmp_path / "elsewhere" / "own.py")
    assert len(search(run, f"{tmp_path / 'elsewhere' / 'own.py'}:objective", trials=4)) == 8


@pytest.mark.parametrize(
    ("flags", "named"),
    [
        ({"set": ("width=9",)}, "width 8 there, 9 now"),
        ({"task": "images"}, "images"),
        ({"objective": "accuracy"}, "objective"),
        ({"transition": "all"}, "transition"),
    ],
)
def test_other_settings_are_refused(tmp_path: Path, flags: dict[str, Any], named: str) -> None:
    run = tmp_path / "run"
    flags = {"task": f"{write_task(tmp_path)}:objective", **flags}
    search(run, f"{tmp_path / 'own.py'}:objective", trials=1, seeds=1)
    with pytest.raises(ConflictError, match=named):
        settle_config(run, None, flags, SearchConfig)


def test_a_run_on_images_does_not_become_one_of_a_task(tmp_path: Path) -> None:
    from nas.settings.toml import format_toml

    run = tmp_path / "run"
    run.mkdir()
    (run / "config.toml").write_text(format_toml(SearchConfig()))
    with pytest.raises(ConflictError, match=r"own\.py:objective"):
        settle_config(run, None, {"task": f"{write_task(tmp_path)}:objective"}, SearchConfig)


@pytest.mark.parametrize(
    ("flags", "named"),
    [
        ({"growth": 4}, "--growth"),
        ({"blocks": 2, "dataset": "digits"}, "--blocks, --dataset"),
        ({"network": "densenet-100-12"}, "--growth"),
        ({"cohort": 2}, "--cohort"),
        ({"transition": "v1"}, "transition v1"),
        ({"objective": "f1"}, "f1"),
        ({"set": ("wide=3",)}, "wide"),
    ],
)
def test_flags_that_are_not_of_the_task_are_refused(tmp_path: Path, flags: dict[str, Any], named: str) -> None:
    given = {**FLAGS, "task": f"{write_task(tmp_path)}:objective", **flags}
    with pytest.raises(InputError, match=named):
        settle_config(tmp_path / "run", None, given, SearchConfig)


def test_settings_of_a_task_need_a_task(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="set gives settings of a task"):
        settle_config(tmp_path / "run", None, {"set": ("width=3",)}, SearchConfig)
    with pytest.raises(InputError, match="image networks only"):
        settle_config(tmp_path / "run", None, {"task": f"{write_task(tmp_path)}:objective"}, LineupConfig)


def test_a_task_has_defaults_of_its_own_which_flags_win_over(tmp_path: Path) -> None:
    config = settle_config(tmp_path / "run", None, {"task": f"{SPIRALS}:Spirals", "lr": 0.02}, SearchConfig)
    assert (config.epochs, config.lr, config.objective) == (8, 0.02, "loss")


def test_a_study_of_an_objective_trains_it_in_one_way(tmp_path: Path) -> None:
    run, task = tmp_path / "run", f"{write_task(tmp_path)}:objective"
    flags = {"task": task, "layers": 6, "epochs": 2, "seeds": 2, "trials": 2, "per_cell": 1, "optima": 1, "workers": 1}
    flags |= {"bins": "2", "cross": "walk_length", "device": "cpu"}
    for _ in range(2):  # the second finds everything done
        config = settle_config(run, None, flags, StudyConfig)
        run_study(run, config, describe_protocol(config.measures), lambda *_: None)
        plan = read_own_plan(run)
        assert [stratum["regime"] for stratum in plan["strata"]] == ["as given"]
        trials = read_trials(run)
        assert len(trials) == len(plan["order"])
        assert {trial.state for trial in trials} == {"complete"}


def test_rates_of_a_task_are_not_tuned(tmp_path: Path) -> None:
    flags = {"task": f"{SPIRALS}:Spirals", "layers": 6, "tune_lr": ".1:.4:3"}
    with pytest.raises(InputError, match="tune-lr judges image networks only"):
        settle_config(tmp_path / "run", None, flags, StudyConfig)


def test_the_report_says_that_a_cost_is_not_known(tmp_path: Path) -> None:
    task = write_task(tmp_path)
    search(tmp_path / "unknown", f"{task}:objective", trials=4)
    search(tmp_path / "known", f"{SPIRALS}:Spirals", trials=4, epochs=1)
    says = ["is not known to this program" in _report(tmp_path / name) for name in ("unknown", "known")]
    assert says == [True, False]


def _report(run: Path) -> str:
    return format_markdown(compose_report(read_run(run)).blocks)


@pytest.mark.slow
@pytest.mark.ci
def test_two_workers_of_ray_train_a_task_as_one_process_does_and_survive_one_that_hangs(tmp_path: Path) -> None:
    task = write_task(tmp_path, QUICK + WRONG)
    alone = search(tmp_path / "alone", f"{task}:objective", seeds=3)
    together = search(tmp_path / "together", f"{task}:objective", seeds=3, workers=2)
    assert {(t.pattern.key, t.seed): t.metrics for t in together} == {(t.pattern.key, t.seed): t.metrics for t in alone}
    hung = search(tmp_path / "hung", f"{task}:hangs", seeds=3, trials=1, workers=2, trial_timeout=5.0, attempts=1)
    assert [(trial.seed, trial.state) for trial in hung] == [(0, "complete"), (1, "failed"), (2, "complete")]
    assert hung[1].outcome is not None
    assert "5" in str(hung[1].outcome.error)


@pytest.mark.slow
def test_a_worker_that_cannot_load_the_task_fails_with_the_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SKIPSEARCH_DRIVER", str(os.getpid()))
    text = f"import os\nif os.environ['SKIPSEARCH_DRIVER'] != str(os.getpid()):\n    import no_such_module\n{QUICK}"
    task = write_task(tmp_path, text)
    trials = search(tmp_path / "run", f"{task}:objective", trials=1, workers=2, attempts=1)
    assert {trial.state for trial in trials} == {"failed"}
    errors = [str(trial.outcome and trial.outcome.error) for trial in trials]
    assert [error for error in errors if "cannot be loaded: ModuleNotFoundError" not in error] == []


def test_a_pattern_is_exported_without_a_network_of_ours(tmp_path: Path) -> None:
    run, task = tmp_path / "run", f"{write_task(tmp_path)}:objective"
    (trial, *_) = search(run, task, trials=1, seeds=1)
    row: dict[str, Any] = {
        "sources": json.dumps(trial.pattern.sources),
        "template": None,
        "strategy": "random",
        "regime": None,
    }
    row |= {"budget": "log", "n_seeds": 1, **trial.metrics}
    described = {"config": read_attributes(run / "study.db")["config"], "data": {}, "environment": {}}
    (exported,) = export_run(run, described, [(row, None)], archives=True)
    assert {path.name for path in exported.paths} == {
        "template.json", "template.graphml", "template.dot", "template.svg"
    }  # fmt: skip
    assert verify_template(exported.paths[0]) == {}
    assert json.loads(exported.paths[0].read_text())["provenance"]["task"]["name"] == "own.py:objective"
