"""Steps of training: a captured graph serves every cohort of its in-degree profile, and nothing else."""

import gc
import pickle
import weakref
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from nas.data.readers import load_data
from nas.model.candidate import Candidate
from nas.model.cohort import CohortNetwork
from nas.records.trial import Outcome
from nas.settings.search import SearchConfig
from nas.training.stepping import N_WARM_UP, Engine, KeptStepper, Stepper
from nas.training.train import Member, train_cohort
from nas.workers.trainer import Trainer
from search_spaces.errors import Interrupted
from tests.support.small import SMALL
from tests.support.small_cohorts import (
    N_IMAGES,
    draw_candidates,
    draw_split,
    list_losses,
    slots,
    step_by_step,
    stop_at,
    without_time,
)
from tests.support.training import train_candidate

pytestmark = pytest.mark.usefixtures("one_thread")


class Captures:
    """Stands in for CUDA graphs: steps are taken one by one, but only in the tensors that were there at the capture."""

    def __init__(self) -> None:
        self.n = 0
        self._places: weakref.WeakKeyDictionary[Stepper, list[int]] = weakref.WeakKeyDictionary()

    def replay(self, stepper: Stepper, images: Tensor, labels: Tensor) -> Tensor:
        places = [tensor.data_ptr() for tensor in self._list_tensors(stepper)]
        if stepper not in self._places:
            self.n += 1
            self._places[stepper] = places
        assert places == self._places[stepper]
        normalisations = [one for one in stepper.trainee.module().modules() if isinstance(one, nn.BatchNorm2d)]
        assert None not in {one.momentum for one in normalisations}  # a cumulative average waits for the device
        return stepper._run(images, labels)

    def _list_tensors(self, stepper: Stepper) -> list[Tensor]:
        network = stepper.trainee.module()
        tensors = [*network.parameters(), *network.buffers()]
        tensors += [state["momentum_buffer"] for state in stepper.optimizer.state.values()]
        assert isinstance(stepper.trainee, CohortNetwork)
        for fused in filter(None, stepper.trainee._fused):
            tensors += [fused._sources, fused._channels, *([fused._index.sources] if fused._index else [])]
        return tensors


@pytest.fixture
def captures(monkeypatch: pytest.MonkeyPatch) -> Captures:
    """Engine(is_captured=True) on a CPU."""
    held = Captures()
    monkeypatch.setattr(Stepper, "_warm_up", Stepper._run)
    monkeypatch.setattr(Stepper, "_replay", lambda *own: held.replay(*own))
    return held


def train_captured(
    candidates: list[Candidate], kept: KeptStepper, folder: Path | None = None, is_fused: bool = True, **more: Any
) -> list[Outcome]:
    own = [None] * len(candidates) if folder is None else slots(folder, candidates)
    members = [Member(one, draw_split(one), slot) for one, slot in zip(candidates, own, strict=True)]
    config = step_by_step(2 * N_WARM_UP)
    engine = Engine(is_captured=True, is_fused=is_fused)
    return [without_time(one) for one in train_cohort(members, config, engine=engine, kept=kept, **more)]


@pytest.mark.usefixtures("float64")  # in float32 six steps drift apart by more than rounding on some processors
def test_candidates_of_one_in_degree_profile_share_a_graph(captures: Captures) -> None:
    candidates = draw_candidates(n=4)
    cohorts = [candidates[:2], candidates[2:], [candidates[3], candidates[0]]]
    kept = KeptStepper()
    found = [train_captured(cohort, kept) for cohort in cohorts]
    assert captures.n == 1
    assert found == [train_captured(cohort, KeptStepper()) for cohort in cohorts]  # bit for bit
    assert captures.n == 4
    alone = [[without_time(train_candidate(one, draw_split(one), step_by_step(6))) for one in own] for own in cohorts]
    for together, apart in zip(found, alone, strict=True):
        for one, other in zip(together, apart, strict=True):
            assert list_losses(one) == pytest.approx(list_losses(other), rel=0, abs=1e-9)


def test_a_graph_may_be_captured_in_a_later_cohort(captures: Captures) -> None:
    candidates = draw_candidates(n=4)
    kept = KeptStepper()
    train_captured(candidates[:2], kept, pause_after=N_WARM_UP - 1)
    assert captures.n == 0
    found = train_captured(candidates[2:], kept)
    assert captures.n == 1
    assert found == train_captured(candidates[2:], KeptStepper())


@pytest.mark.parametrize("size", [1, 2])
def test_a_graph_goes_on_from_checkpoints(captures: Captures, tmp_path: Path, size: int) -> None:
    candidates = draw_candidates(n=2 * size)
    first, second = candidates[:size], candidates[size:]
    kept = KeptStepper()
    for cohort in (first, second):
        train_captured(cohort, kept, tmp_path / str(cohort is first), pause_after=N_WARM_UP)
    found = [train_captured(cohort, kept, tmp_path / str(cohort is first)) for cohort in (first, second)]
    assert captures.n == 1
    assert {one.resumed_epoch for own in found for one in own} == {N_WARM_UP}
    for cohort, outcomes in zip((first, second), found, strict=True):
        for expected, outcome in zip(train_captured(cohort, KeptStepper()), outcomes, strict=True):
            assert list_losses(outcome) == list_losses(expected)  # bit for bit
            assert outcome.metrics.get("validation_loss") == expected.metrics.get("validation_loss")


def test_one_that_diverged_leaves_nothing_behind(captures: Captures) -> None:
    candidates = draw_candidates(n=4)
    broken = [Member(one, draw_split(one, factor=float("inf"))) for one in candidates[:2]]
    kept = KeptStepper()
    engine = Engine(is_captured=True, is_fused=True)
    train_captured(candidates[:2], kept)
    train_cohort(broken, step_by_step(6), engine=engine, kept=kept)
    assert train_captured(candidates[2:], kept) == train_captured(candidates[2:], KeptStepper())
    assert captures.n == 2


@pytest.mark.parametrize("change", ["degrees", "number", "network", "pattern of plain layers", "images of a step"])
def test_a_graph_does_not_serve_what_it_does_not_compute(captures: Captures, change: str) -> None:
    total = draw_candidates("log", "total", n=6)
    first, second, is_fused = draw_candidates(n=3), draw_candidates(n=3), change != "pattern of plain layers"
    if change == "degrees":
        first, second = total[:3], total[3:]
    elif change == "number":
        second = second[:2]
    elif change == "network":
        second = [replace(one, network=one.network.model_copy(update={"growth": 4})) for one in second]
    elif not is_fused:
        second = draw_candidates(n=6)[3:]
    kept = KeptStepper()
    train_captured(first, kept, is_fused=is_fused)
    members = [Member(one, draw_split(one, n=12 if change == "images of a step" else N_IMAGES)) for one in second]
    engine = Engine(is_captured=True, is_fused=is_fused)
    config = step_by_step(2 * N_WARM_UP)
    found, expected = (train_cohort(members, config, engine=engine, kept=one) for one in (kept, KeptStepper()))
    assert captures.n == 3
    assert list(map(without_time, found)) == list(map(without_time, expected))


@pytest.mark.usefixtures("captures")
def test_nothing_is_held_on_to_while_others_are_built_or_after_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    steppers: list[weakref.ref[Stepper]] = []
    build = Stepper.__init__

    def watch(self: Stepper, *arguments: Any) -> None:
        assert all(one() is None for one in steppers)
        steppers.append(weakref.ref(self))
        build(self, *arguments)

    monkeypatch.setattr(Stepper, "__init__", watch)
    kept = KeptStepper()
    train_captured(draw_candidates(n=3), kept)
    train_captured(draw_candidates(n=2), kept)  # too few for the graph that there is
    with pytest.raises(Interrupted):
        train_captured(draw_candidates(n=2), kept, check_stop=stop_at(1))
    assert len(steppers) == 2
    gc.collect()  # the exception's frames
    train_captured(draw_candidates(n=2), kept)
    assert len(steppers) == 3


@pytest.mark.usefixtures("captures")
def test_another_process_keeps_its_own() -> None:
    trainer = Trainer(load_data("digits", None), SearchConfig(**SMALL))
    train_captured(draw_candidates(n=2), trainer.kept)
    assert trainer.kept._last is not None
    assert pickle.loads(pickle.dumps(trainer)).kept._last is None  # noqa: S301  of this test


@pytest.mark.gpu
@pytest.mark.parametrize("size", [1, 3])
def test_on_a_gpu_a_second_cohort_is_trained_by_the_first_one_s_graph(
    monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    graphs: list[torch.cuda.CUDAGraph] = []
    make = torch.cuda.CUDAGraph

    def count() -> torch.cuda.CUDAGraph:
        graphs.append(make())
        return graphs[-1]

    monkeypatch.setattr(torch.cuda, "CUDAGraph", count)
    candidates = draw_candidates(n=2 * size)
    kept = KeptStepper()
    engine = Engine(is_captured=True, is_fused=True)
    members = [Member(one, draw_split(one, device="cuda")) for one in candidates]
    config = step_by_step(3 * N_WARM_UP)
    train_cohort(members[:size], config, engine=engine, kept=kept)
    found = train_cohort(members[size:], config, engine=engine, kept=kept)
    assert len(graphs) == 1
    expected = train_cohort(members[size:], config, engine=engine)
    assert list(map(list_losses, found)) == [pytest.approx(list_losses(one), rel=0, abs=1e-3) for one in expected]
