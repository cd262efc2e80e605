"""Ray: the numbers of the serial executor, and candidates of dead workers told."""

import json
import os
import signal
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from nas.data.readers import load_data
from nas.model.candidate import Candidate
from nas.records.metrics import image_metrics
from nas.records.trial import Outcome
from nas.settings.search import SearchConfig
from nas.workers.identity import describe_worker
from nas.workers.jobs import Job, failed
from nas.workers.stop import StopFlag
from nas.workers.trainer import Trainer, run_serial
from search_spaces.budget import log_budget
from search_spaces.errors import Interrupted, MachineError
from search_spaces.templates import iterate_templates

ray_executor = pytest.importorskip("nas.workers.ray_executor")
# Workers cannot import this file.
pytest.importorskip("ray").cloudpickle.register_pickle_by_value(sys.modules[__name__])


@dataclass
class ListSource:
    """Candidates from a list; outcomes by number."""

    candidates: list[Candidate]
    on_tell: Callable[[int], None] = lambda _: None
    n_asked: int = 0
    outcomes: dict[int, Outcome] = field(default_factory=dict)
    lost: list[int] = field(default_factory=list)
    again: list[int] = field(default_factory=list)

    def ask(self) -> Job | None:
        if self.again:
            number = self.again.pop()
            return Job(number, self.candidates[number])
        if self.n_asked == len(self.candidates):
            return None
        self.n_asked += 1
        return Job(self.n_asked - 1, self.candidates[self.n_asked - 1])

    def tell(self, number: int, outcome: Outcome) -> None:
        self.outcomes[number] = outcome
        self.on_tell(number)

    def lose(self, number: int, reason: str) -> None:
        self.lost.append(number)
        if self.lost.count(number) < 2:
            self.again.append(number)
        else:
            self.tell(number, failed(reason))

    def put_back(self, number: int) -> None:
        raise AssertionError(f"no node dies here, with candidate {number}")

    def give_back(self) -> None:
        raise AssertionError("whoever calls the executor gives back")


@dataclass(frozen=True)
class DyingTrainer(Trainer):
    """Its process dies on seed 1, as by the kernel's out-of-memory killer."""

    def train(self, job: Job, check_stop: Any = lambda: None) -> Outcome:
        if job.candidate.seed == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().train(job, check_stop)


def _candidates(config: SearchConfig) -> list[Candidate]:
    network = config.network(10, (1, 8, 8))
    return [Candidate(p, network, seed) for _, p in iterate_templates(log_budget(config.layers)) for seed in range(2)]


def _without_time(outcome: Outcome) -> dict[str, Any]:
    return {name: value for name, value in outcome.to_dict().items() if name != "seconds"}


@pytest.mark.slow
def test_two_workers_give_the_serial_numbers_and_leave_nothing_behind(
    small_config: SearchConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = Trainer(load_data("digits", None), small_config)
    serial, parallel = (ListSource(_candidates(small_config)) for _ in range(2))
    run_serial(serial, trainer, StopFlag())
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    ray_executor.run_ray(parallel, trainer, StopFlag(), 2)
    assert {number: _without_time(outcome) for number, outcome in parallel.outcomes.items()} == {
        number: _without_time(outcome) for number, outcome in serial.outcomes.items()
    }
    assert len(serial.outcomes) == len(_candidates(small_config))
    assert not list(tmp_path.iterdir())
    assert not pytest.importorskip("ray").is_initialized()


@dataclass(frozen=True)
class PoliteTrainer(Trainer):
    """Tells how far its process stands back behind others."""

    def train(self, job: Job, check_stop: Any = lambda: None) -> Outcome:  # noqa: ARG002
        return Outcome(image_metrics(0.5, float(os.nice(0))), 1, 0.1, ())


@pytest.mark.slow
def test_workers_have_the_priority_of_the_driver(small_config: SearchConfig) -> None:
    source = ListSource(_candidates(small_config)[:2])
    ray_executor.run_ray(source, PoliteTrainer(load_data("digits", None), small_config), StopFlag(), 2)
    assert [outcome.metrics["validation_loss"] for outcome in source.outcomes.values()] == [os.nice(0)] * 2


@dataclass(frozen=True)
class CrashingTrainer(Trainer):
    """Has a bug."""

    def train(self, job: Job, check_stop: Any = lambda: None) -> Outcome:  # noqa: ARG002
        raise KeyError("growht")


@pytest.mark.slow
@pytest.mark.ci
def test_a_dead_worker_is_told_and_the_others_go_on(small_config: SearchConfig) -> None:
    source = ListSource(_candidates(small_config)[:4])
    ray_executor.run_ray(source, DyingTrainer(load_data("digits", None), small_config), StopFlag(), 2)
    assert {number: outcome.error for number, outcome in source.outcomes.items()} == {
        0: None,
        1: "worker died",
        2: None,
        3: "worker died",
    }
    assert sorted(source.lost) == [1, 1, 3, 3]  # tried again, also when nothing else was left to hand out


@pytest.mark.slow
def test_a_bug_in_a_worker_ends_the_run_with_its_traceback(small_config: SearchConfig) -> None:
    source = ListSource(_candidates(small_config))
    with pytest.raises(RuntimeError, match="growht"):
        ray_executor.run_ray(source, CrashingTrainer(load_data("digits", None), small_config), StopFlag(), 2)
    assert not source.outcomes


@pytest.mark.slow
def test_an_error_of_ours_ends_the_run_and_is_no_training_failure(small_config: SearchConfig) -> None:
    def fail(_: int) -> None:
        raise OSError(28, "No space left on device")

    source = ListSource(_candidates(small_config), on_tell=fail)
    with pytest.raises(OSError, match="No space left"):
        ray_executor.run_ray(source, Trainer(load_data("digits", None), small_config), StopFlag(), 2)
    assert len(source.outcomes) == 1


@pytest.mark.slow
def test_a_signal_ends_the_run_without_outcomes_for_what_was_running(small_config: SearchConfig) -> None:
    check_stop = StopFlag()

    def interrupt(_: int) -> None:
        os.kill(os.getpid(), signal.SIGTERM)

    source = ListSource(_candidates(small_config), on_tell=interrupt)
    with pytest.raises(Interrupted) as caught:
        ray_executor.run_ray(source, Trainer(load_data("digits", None), small_config), check_stop, 2)
    assert caught.value.exit_code == 143
    assert len(source.outcomes) == 1


@pytest.mark.parametrize("is_lost", [False, True])
def test_a_signal_while_ray_starts_is_told_as_one(
    small_config: SearchConfig, monkeypatch: pytest.MonkeyPatch, is_lost: bool
) -> None:
    """Ray's own handler of SIGTERM, there from ray.init on, makes it a SystemExit, which Ray's C code may drop."""

    def start(*_: object) -> int:
        signal.signal(signal.SIGTERM, (lambda *_: None) if is_lost else (lambda number, _: sys.exit(number)))
        os.kill(os.getpid(), signal.SIGTERM)
        return 2

    before = signal.getsignal(signal.SIGTERM)
    monkeypatch.setattr("nas.workers.ray_start.start_ray", start)
    with pytest.raises(Interrupted) as caught:
        ray_executor.run_ray(ListSource([]), Trainer(load_data("digits", None), small_config), StopFlag(), 2)
    assert caught.value.exit_code == 143
    assert signal.getsignal(signal.SIGTERM) == before


def test_an_outcome_of_a_worker_of_another_version_is_not_recorded(small_config: SearchConfig) -> None:
    source = ListSource(_candidates(small_config)[:3])
    own = describe_worker("cpu")
    result = {
        "hostname": "b7",
        "node_ip": "10.0.0.7",
        "results": json.dumps([Outcome(image_metrics(0.5, 1.0), 1, 0.1, ()).to_dict()]),
    }
    searcher = ray_executor.LedgerSearcher(source, 3, 1, StopFlag(), "cpu")
    for trial_id in ("same", "other", "silent"):
        assert [job.number for job in searcher.suggest(trial_id)["jobs"]] == [source.n_asked - 1]
    searcher.on_trial_complete("same", {**result, "worker": json.dumps(own)})
    with pytest.raises(MachineError, match=r"b7 \(10.0.0.7\) .*0123456789ab"):
        searcher.on_trial_complete("other", {**result, "worker": json.dumps({**own, "sources": "0123456789ab"})})
    assert isinstance(searcher.error, MachineError)
    with pytest.raises(MachineError, match="b7"):
        searcher.on_trial_complete("silent", result)  # of a version that told nothing of itself
    assert list(source.outcomes) == [0]


def test_a_timeout_is_explained_by_the_line_that_hung(small_config: SearchConfig, tmp_path: Path) -> None:
    trainer = Trainer(load_data("digits", None), small_config.model_copy(update={"trial_timeout": 9.0}), tmp_path)
    (tmp_path / "checkpoints").mkdir()
    stack = '  File "/x/torch/nn.py", line 3 in f\n  File "/x/nas/training/train.py", line 45 in _step\n'
    ray_executor._stack_path(trainer, 7).write_text(stack)
    explained = ray_executor._explain_death(trainer, [7], "")
    assert explained == "over the trial timeout of 9 s at train.py:45, _step"
    assert not list(tmp_path.glob("checkpoints/.*"))
    assert ray_executor._explain_death(trainer, [7], "") == "worker died"


def test_a_worker_that_cannot_load_its_task_says_why(small_config: SearchConfig) -> None:
    text = (
        "The actor died because of an error raised in its creation task\n"
        "  At least one of the input arguments for this task could not be computed:\n"
        "ray.exceptions.RaySystemError: System error: No module named 'mine'\ntraceback: Traceback ...\n"
    )
    explained = ray_executor._explain_death(Trainer(load_data("digits", None), small_config), [7], text)
    assert explained == "worker cannot load what it is to train: No module named 'mine'"


def test_a_cohort_may_take_the_time_of_all_its_trainings(
    small_config: SearchConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    limits: list[float] = []
    monkeypatch.setattr("faulthandler.dump_traceback_later", lambda seconds, **_: limits.append(seconds))
    trainer = SimpleNamespace(config=small_config.model_copy(update={"trial_timeout": 9.0}), run=tmp_path)
    for n_jobs in (1, 3):
        with ray_executor._time_limit(trainer, [SimpleNamespace(number=number) for number in range(n_jobs)]):
            pass
    assert limits == [9.0, 27.0]


def test_a_worker_that_is_not_what_the_driver_has_trains_nothing(small_config: SearchConfig) -> None:
    trainer = CrashingTrainer(load_data("digits", None), small_config)
    jobs = [Job(0, _candidates(small_config)[0])]
    assert list(ray_executor._train({"jobs": jobs, "sources": "0123456789ab"}, trainer)) == ["worker"]
    assert (
        "growht" in ray_executor._train({"jobs": jobs, "sources": describe_worker("cpu")["sources"]}, trainer)["crash"]
    )
