"""Searches that end before all that was asked for: by patience, by the clock, or because nothing is left."""

import itertools
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import optuna
import pytest

from nas.records.database import STUDY_NAME
from nas.records.trial import Outcome
from nas.search.loop import run_search
from nas.search.strategy import Proposal, Training
from nas.settings.resume import settle_config
from nas.settings.search import SearchConfig
from nas.workers.jobs import Job
from nas.workers.trainer import Trainer
from search_spaces.budget import log_budget
from search_spaces.sampling.draw import sample_uniform
from search_spaces.seeds import derive_generator
from tests.support.driving import load_results
from tests.support.memory_search import make_outcome, new_storage, open_search, train_to_rung
from tests.support.small import SMALL


class Steps(Trainer):
    """Trains nothing: the first pattern that is proposed is good, the fifth one is better, and all others are bad."""

    def train(self, job: Job, check_stop: Callable[[], None] = lambda: None) -> Outcome:  # noqa: ARG002
        accuracy = {0: 0.5, 4: 0.75, 12: 0.875}.get(job.number, 0.25)
        return make_outcome(accuracy, self.config.epochs, paused=False)


EARLY: dict[str, Any] = {**SMALL, "trials": None, "trainings": 20, "seeds": 1, "layers": 7, "templates": False}


def read_asked(run: Path) -> int:
    asked = optuna.load_study(study_name=STUDY_NAME, storage=f"sqlite:///{run / 'study.db'}").user_attrs["asked"]
    assert isinstance(asked, int)
    return asked


@pytest.mark.parametrize("lookahead", [1, 3])
def test_patience_ends_a_search_and_a_larger_one_goes_on(
    lookahead: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("nas.search.loop.Trainer", Steps)
    run = tmp_path / "run"

    def search(run: Path, **changes: Any) -> None:
        own = {**EARLY, "lookahead": lookahead, **changes}
        run_search(run, settle_config(run, None, own, SearchConfig), lambda *_: None)

    search(run, patience=4)
    # Four are no better than the fifth; those of the lookahead are in training by then.
    n_ended = 5 + 4 + (lookahead - 1)
    assert len(load_results(run)) == read_asked(run) == n_ended
    assert "4 trainings in a row" in caplog.text
    before = load_results(run)
    search(run, patience=4)
    assert load_results(run) == before
    assert read_asked(run) == n_ended
    caplog.clear()
    search(run, patience=8)  # the thirteenth is better still, and then there are no eight
    assert len(load_results(run)) == read_asked(run) == 20
    assert "in a row" not in caplog.text
    search(tmp_path / "patient", patience=8)
    assert load_results(tmp_path / "patient") == load_results(run)


def test_a_strategy_that_has_nothing_left_ends_the_search(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Three:
        learns = False

        def propose(self, history: Sequence[Training]) -> Proposal | None:
            return Proposal(patterns[len(history)], 0) if len(history) < 3 else None

    generator = derive_generator(0, "three")
    patterns = list(
        {pattern.key: pattern for pattern in (sample_uniform(log_budget(7), generator) for _ in range(9))}.values()
    )
    monkeypatch.setattr("nas.search.loop.Trainer", Steps)
    monkeypatch.setattr("nas.search.stratum.create_strategy", lambda *_: Three())
    run_search(tmp_path / "run", SearchConfig(**EARLY), lambda *_: None)
    assert [key for key, _ in load_results(tmp_path / "run")] == [pattern.key for pattern in patterns[:3]]
    assert read_asked(tmp_path / "run") == 3


def test_hours_end_a_search_and_the_same_command_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """By a clock that moves on ten minutes whenever it is read."""
    now = itertools.count(step=600)
    monkeypatch.setattr("nas.search.loop.Trainer", Steps)
    monkeypatch.setattr("nas.search.loop.time", SimpleNamespace(monotonic=lambda: float(next(now))))
    run = tmp_path / "run"
    config = SearchConfig(**{**EARLY, "trainings": 8, "hours": 0.5})
    for n_trained in (3, 6, 8, 8):
        caplog.clear()
        run_search(run, config, lambda *_: None)
        assert len(load_results(run)) == n_trained
        assert read_asked(run) == 8
        assert ("hours are over" in caplog.text) == (n_trained < 8)
    run_search(tmp_path / "whole", config.model_copy(update={"hours": None}), lambda *_: None)
    assert load_results(tmp_path / "whole") == load_results(run)


def test_hours_that_are_over_while_the_last_is_in_training_leave_nothing_to_say(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    now = 0.0
    monkeypatch.setattr("nas.search.loop.time", SimpleNamespace(monotonic=lambda: now))
    search = open_search(new_storage(), SearchConfig(**{**EARLY, "trainings": 2, "hours": 1.0}))
    jobs = [search.ask(), search.ask()]
    now = 3601.0
    assert search.ask() is None
    for job in jobs:
        assert job is not None
        search.tell(job.number, train_to_rung(job))
    search.say_end()
    assert caplog.text == ""
