"""Workers that die, hang or run out of memory: one attempt each, its reason recorded, and the training done again."""

import os
import resource
import signal
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from nas.records.trial import Outcome
from nas.settings.resume import settle_config
from nas.settings.search import SearchConfig
from nas.workers.jobs import Job, LostDeviceError
from nas.workers.trainer import Trainer
from search_spaces.errors import MachineError
from tests.support.driving import TINY, load_trials

ray_executor = pytest.importorskip("nas.workers.ray_executor")
# Workers cannot import this file.
pytest.importorskip("ray").cloudpickle.register_pickle_by_value(sys.modules[__name__])


@dataclass(frozen=True)
class UnluckyTrainer(Trainer):
    """Trains, but for the first attempt at three of the seeds."""

    def train(self, job: Job, check_stop: Any = lambda: None) -> Outcome:
        assert self.run is not None
        mark = self.run / f".{job.number}.met"
        seed = job.candidate.seed
        if seed == 0 or mark.exists():
            return super().train(job, check_stop)
        mark.touch()
        if seed == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        if seed == 2:
            time.sleep(1000)
        limits = resource.getrlimit(resource.RLIMIT_AS)
        resource.setrlimit(resource.RLIMIT_AS, (2**33, limits[1]))
        try:
            large = self.config.model_copy(update={"batch_size": 64})
            big = job.candidate.network.model_copy(update={"growth": 2**14})
            candidate = type(job.candidate)(job.candidate.pattern, big, seed)
            return Trainer(self.data, large).train(Job(job.number, candidate))
        finally:
            resource.setrlimit(resource.RLIMIT_AS, limits)


@pytest.mark.slow
def test_a_worker_killed_hanging_or_out_of_memory_costs_one_attempt(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import nas.search.loop

    monkeypatch.setattr(nas.search.loop, "Trainer", UnluckyTrainer)
    run = tmp_path / "run"
    settings = {**TINY, "trials": 1, "seeds": 4, "epochs": 1, "templates": False, "workers": 2, "trial_timeout": 20.0}
    nas.search.loop.run_search(run, settle_config(run, None, settings, SearchConfig), lambda *_: None)
    trials = load_trials(run)
    assert [trial.state.name for trial in trials] == ["COMPLETE"] * 4
    lost = [trial.user_attrs.get("~attempts", {}).get("lost") for trial in trials]
    assert lost[0] is None
    assert lost[1] == ["worker died"]
    assert lost[2] is not None
    assert lost[2][0].startswith("over the trial timeout of 20 s")
    assert lost[3] is not None
    assert lost[3][0].startswith("out of memory: ")
    assert [len(one) for one in lost if one is not None] == [1, 1, 1]
    assert not list(run.glob("checkpoints/.*"))


@dataclass(frozen=True)
class GpuTrainer(Trainer):
    """On a GPU that fails once, by the first candidate, and takes no call of that process afterwards."""

    def train_cohort(self, jobs: Any, check_stop: Any = lambda: None) -> Any:
        assert self.run is not None
        marker = self.run / "failed"
        if not marker.exists() or marker.read_text() == str(os.getpid()):
            marker.write_text(str(os.getpid()))
            raise LostDeviceError("the GPU failed: CUDA error: an illegal memory access was encountered")
        return super().train_cohort(jobs, check_stop)


@pytest.mark.slow
def test_a_worker_whose_gpu_fails_makes_room_for_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import nas.search.loop

    monkeypatch.setattr(nas.search.loop, "Trainer", GpuTrainer)
    settings = {**TINY, "trials": 3, "seeds": 1, "epochs": 1, "templates": False, "workers": 2}
    run = tmp_path / "run"
    nas.search.loop.run_search(run, settle_config(run, None, settings, SearchConfig), lambda *_: None)
    trials = load_trials(run)
    assert {trial.state.name for trial in trials} == {"COMPLETE"}
    lost = [trial.user_attrs.get("~attempts", {}).get("lost", []) for trial in trials]
    assert {reason for one in lost for reason in one} == {"worker died"}


@dataclass(frozen=True)
class HelplessTrainer(Trainer):
    """On a GPU that cannot do what is asked of it."""

    def train_cohort(self, jobs: Any, check_stop: Any = lambda: None) -> Any:  # noqa: ARG002
        raise MachineError("--engine fused does not run on this GPU")


@pytest.mark.slow
def test_a_gpu_that_cannot_ends_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import nas.search.loop

    monkeypatch.setattr(nas.search.loop, "Trainer", HelplessTrainer)
    settings = {**TINY, "trials": 3, "seeds": 1, "epochs": 1, "templates": False, "workers": 2}
    run = tmp_path / "run"
    with pytest.raises(MachineError, match="does not run on this GPU"):
        nas.search.loop.run_search(run, settle_config(run, None, settings, SearchConfig), lambda *_: None)
    assert "FAIL" not in {trial.state.name for trial in load_trials(run)}


@dataclass(frozen=True)
class FragileTrainer(Trainer):
    """Its process dies in a cohort that seed 1 is in, and not when that is alone."""

    def train_cohort(self, jobs: Any, check_stop: Any = lambda: None) -> Any:
        if len(jobs) > 1 and any(job.candidate.seed == 1 for job in jobs):
            os.kill(os.getpid(), signal.SIGKILL)
        return super().train_cohort(jobs, check_stop)


@pytest.mark.slow
def test_who_died_with_a_cohort_is_trained_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import nas.search.loop

    monkeypatch.setattr(nas.search.loop, "Trainer", FragileTrainer)
    run = tmp_path / "run"
    settings = {**TINY, "trials": 3, "seeds": 2, "epochs": 1, "templates": False, "workers": 2, "cohort": 3}
    nas.search.loop.run_search(run, settle_config(run, None, settings, SearchConfig), lambda *_: None)
    trials = load_trials(run)
    assert [trial.state.name for trial in trials] == ["COMPLETE"] * 6
    lost = [trial.user_attrs.get("~attempts", {}).get("lost") for trial in trials]
    assert lost == [["worker died"]] * 6  # seeds come in turn, so both cohorts had a seed 1
