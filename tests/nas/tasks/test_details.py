"""What a task may add to the loop: altered batches, and details of a finished training for the report."""

from pathlib import Path
from typing import Any

import pytest
import torch

from nas.model.config import TrainingConfig
from nas.records.trial import Outcome
from nas.tasks.candidate import TaskCandidate
from nas.tasks.loaded import LoadedTask, make_task
from nas.tasks.reference import read_source
from nas.training.checkpoints import Slot
from tests.support.own_tasks import PATTERN

TASK = """
import torch
from torch import nn

DRAWN = []

class Noisy:
    metrics = {"loss": "min"}

    def build(self, pattern, seed):
        return nn.Linear(2, 2)

    def data(self, seed):
        x = torch.arange(48.0).view(24, 2) / 48
        return (x, (x[:, 0] > 0.5).long()), (x, (x[:, 0] > 0.5).long())

    def augment_batch(self, batch, generator):
        noise = torch.rand(1, generator=generator)
        DRAWN.append(float(noise))
        return batch[0] + noise, batch[1]

    def describe_training(self, network, batches):
        assert not network.training and not torch.is_grad_enabled()
        return {"n": sum(len(batch[0]) for batch in batches), "drawn": list(DRAWN)}
"""


@pytest.fixture
def task(tmp_path: Path) -> LoadedTask:
    (tmp_path / "noisy.py").write_text(TASK)
    return make_task(read_source(f"{tmp_path / 'noisy.py'}:Noisy"), ())


def train(task: LoadedTask, epochs: int, slot: Slot | None = None, pause_after: int | None = None) -> Outcome:
    training = TrainingConfig(epochs=epochs, batch_size=8)
    vars(__import__(type(task.target).__module__))["DRAWN"].clear()
    return task.train(TaskCandidate.of(PATTERN, "log", 0), training, "cpu", pause_after, slot)


def test_batches_are_altered_by_a_generator_that_seed_and_epoch_fix(task: LoadedTask) -> None:
    drawn = train(task, 3).details["drawn"]
    assert len(set(drawn)) == len(drawn) == 9
    assert train(task, 3).details["drawn"] == drawn


def test_an_altered_training_goes_on_from_a_checkpoint_to_the_same_numbers(task: LoadedTask, tmp_path: Path) -> None:
    whole = train(task, 3)
    slot = Slot(tmp_path / "checkpoints" / "000000.pt", "identity", 0.0)
    paused = train(task, 3, slot, pause_after=1)
    assert paused.paused
    assert paused.details == {}
    after = train(task, 3, slot)
    assert after.resumed_epoch == 1
    assert after.metrics == whole.metrics
    assert after.details["drawn"] == whole.details["drawn"][3:]


def test_details_are_of_all_validation_examples_and_survive_the_way_to_the_driver(task: LoadedTask) -> None:
    outcome = train(task, 1)
    assert outcome.error is None
    assert outcome.details["n"] == 24
    assert Outcome.from_dict(outcome.to_dict()) == outcome


def test_an_outcome_without_details_is_stored_as_it_always_was() -> None:
    assert "details" not in Outcome({"loss": 0.5}, 1, 1.0).to_dict()


def test_a_setting_of_such_a_name_is_no_method(tmp_path: Path) -> None:
    own = TASK.replace("def augment_batch(self, batch, generator)", "augment_batch: bool = True\n    def other(self)")
    own = own.replace(
        "def describe_training(self, network, batches)", 'describe_training: str = ""\n    def another(self)'
    )
    own = own.replace('return {"n"', 'network = batches = 0\n        return {"n"')
    (tmp_path / "own.py").write_text(own)
    loaded: Any = make_task(read_source(f"{tmp_path / 'own.py'}:Noisy"), ())
    outcome = loaded.train(TaskCandidate.of(PATTERN, "log", 0), TrainingConfig(epochs=1, batch_size=8), "cpu")
    assert (outcome.error, outcome.details) == (None, {})
    assert torch.is_grad_enabled()
