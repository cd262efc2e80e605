"""Loggers follow real runs: each training once, whatever ends the run, and the report at the end."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from nas.loggers.logger import show_training
from nas.records.checked import validate
from nas.records.trial import Trial
from nas.run.following import follow
from nas.search.loop import run_search
from nas.settings.comparison import LineupConfig
from nas.settings.resume import settle_config
from nas.settings.search import SearchConfig
from nas.studies.comparison import run_lineup
from search_spaces.errors import InputError, Interrupted
from tests.support.command_line import run_command
from tests.support.logged import FailingLogger, NotingLogger, read_noted
from tests.support.small import SMALL

FLAGS = {**SMALL, "engine": "eager", "trials": 1, "seeds": 1, "templates": False}


@pytest.fixture(autouse=True)
def _bring(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Bring the two loggers as other packages do."""
    from search_spaces.plugins import Origin, Plugins

    origins = {"noting": Origin("noter", "1"), "failing": Origin("noter", "1")}
    plugins = Plugins({"failing": FailingLogger, "noting": NotingLogger}, {"bad": "it is bad"}, origins)
    monkeypatch.setattr("nas.loggers.registry.load_plugins", lambda *_: plugins)
    return iter(())


def search(run: Path, log: tuple[str, ...] | None, stop_at: int | None = None, **changes: Any) -> list[str]:
    """Search, or go on with a search, with loggers, and return what was said."""
    said: list[str] = []
    config = settle_config(run, None, {**FLAGS, **changes, "log": log}, SearchConfig)

    def stop(_: object, n_finished: int, __: int) -> None:
        if n_finished == stop_at:
            raise Interrupted(2)

    with follow(run, config, said.append) as followers:
        run_search(run, config, followers.listen(stop))
        followers.end([run / "report.md"])
    return said


def test_a_run_that_goes_on_shows_each_training_once(tmp_path: Path) -> None:
    run = tmp_path / "run"
    with pytest.raises(Interrupted):
        search(run, ("noting",), stop_at=2, trials=4)
    assert read_noted(run) == ["start 5", "finish 0 complete", "end run 0"]  # 1 was not heard of: the stop came first
    (run / "noted.txt").unlink()
    assert search(run, None, trials=4) == []  # the run keeps its loggers
    assert read_noted(run) == ["start 5", *(f"finish {number} complete" for number in (1, 2, 3)), "end run 1"]


def test_a_logger_that_comes_later_is_shown_all(tmp_path: Path) -> None:
    run = tmp_path / "run"
    search(run, (), trials=2)
    assert not (run / "trackers").exists()
    search(run, ("noting",), trials=2)
    assert read_noted(run) == ["start 5", "finish 0 complete", "finish 1 complete", "end run 1"]


def test_networks_of_a_comparison_have_their_own_names_also_when_shown_later(tmp_path: Path) -> None:
    from nas.run.following import list_ended

    heard: dict[int, Trial] = {}

    def hear(trial: Trial | None, *_: int) -> None:
        heard.update({} if trial is None else {trial.number: trial})

    settings = {**SMALL, "layers": 6, "seeds": 1, "networks": ("log-densenet-v1", "log")}
    config = validate(LineupConfig, {name: settings[name] for name in settings if name in LineupConfig.model_fields})
    run_lineup(tmp_path / "run", config, hear)
    later = list_ended(tmp_path / "run")
    assert {trial.template for trial in later} == {"log-densenet-v1", "log"}
    assert [show_training(trial) for trial in later] == [show_training(heard[trial.number]) for trial in later]


def test_a_logger_that_fails_ends_neither_the_run_nor_the_others(tmp_path: Path) -> None:
    run = tmp_path / "run"
    said = search(run, ("failing", "noting"), trials=2)
    assert ["failing failed: ConnectionError" in sentence for sentence in said] == [True]
    noted = read_noted(run)
    assert noted.count("finish 1 complete") == 1
    assert noted.count("end run 1") == 1
    assert settle_config(run, None, {}, SearchConfig).log == ("failing", "noting")
    assert settle_config(run, None, {"log": ("none",)}, SearchConfig).log == ()


def test_results_do_not_depend_on_loggers(tmp_path: Path) -> None:
    from nas.run.following import list_ended

    outcomes = []
    for name, log in (("with", ("noting",)), ("without", ())):
        search(tmp_path / name, log, trials=2)
        trials = list_ended(tmp_path / name)
        outcomes.append([(trial.pattern, trial.seed, trial.metrics) for trial in trials])
    assert len(outcomes[0]) == 2
    assert outcomes[0] == outcomes[1]


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("noted", "--log noted: there is no such tracker"),
        ("bad", "it is bad"),
        ("mlflow", "pip install mlflow"),
    ],
)
def test_what_cannot_log_is_refused_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, words: str
) -> None:
    monkeypatch.setattr("nas.loggers.registry.find_spec", lambda _: None)
    with pytest.raises(InputError, match=words):
        search(tmp_path / "run", (name,))
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_the_commands_show_the_final_measurement_too(tmp_path: Path) -> None:
    run, flags = tmp_path / "run", []
    for name, value in {**FLAGS, "log": "noting"}.items():
        flags += [f"--no-{name}"] if value is False else [f"--{name.replace('_', '-')}", value]
    searched = run_command("search", "--run", run, *flags, "--json")
    assert searched.returncode == 0, searched.stderr
    assert json.loads(searched.stdout)["complete"] == 1
    *lines, end = read_noted(run)
    assert lines == ["start 5", "finish 0 complete"]
    assert int(end.split()[-1]) > 8  # the report's files and the templates'
    exported = run_command("export", "--run", run, "--final", "--top", 1, "--seeds", 1, "--train-examples", 64)
    assert exported.returncode == 0, exported.stderr
    assert read_noted(run / "final")[0] == "start 5"
    assert read_noted(run / "final")[-1].startswith("end final ")
