"""The training of a task class: seeded, continued from checkpoints, paused at rungs, by its own parts or ours."""
# ruff: noqa: ARG002, ARG005, RUF012  classes as users write them

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.optim.optimizer import register_optimizer_step_pre_hook

from nas.model.config import TrainingConfig
from nas.records.trial import Outcome
from nas.tasks.candidate import TaskCandidate
from nas.tasks.loaded import LoadedTask, load_task
from nas.tasks.loop import DataPart
from nas.tasks.reference import TaskSource
from nas.training.checkpoints import Slot
from tests.support.own_tasks import PATTERN, QUICK, SPIRALS, WRONG, load_from, train_once

EPOCHS = 3
TRAINING = TrainingConfig(epochs=EPOCHS, lr=0.05)


class Stopped(BaseException):
    """The training was ended from outside."""


def train(
    task: LoadedTask,
    slot: Slot | None = None,
    pause_after: int | None = None,
    check_stop: Callable[[], None] = lambda: None,
) -> Outcome:
    return task.train(TaskCandidate.of(PATTERN, "log", 0), TRAINING, "cpu", pause_after, slot, check_stop)


def open_slot(folder: Path) -> Slot:
    return Slot(folder / "checkpoints" / "000000.pt", "identity", 0.0)


def stop_after(n_calls: int) -> Callable[[], None]:
    left = [n_calls]

    def check() -> None:
        left[0] -= 1
        if left[0] < 0:
            raise Stopped

    return check


@pytest.fixture(scope="module")
def spirals() -> LoadedTask:
    return load_task(f"{SPIRALS}:Spirals", ["width=4"])


@pytest.fixture(scope="module")
def whole(spirals: LoadedTask) -> Outcome:
    return train(spirals)


def measured(outcome: Outcome) -> tuple[Any, ...]:
    return outcome.metrics, outcome.curve, outcome.epochs, outcome.error


def test_the_same_seed_gives_the_same_numbers(spirals: LoadedTask, whole: Outcome) -> None:
    torch.manual_seed(5)
    np.random.seed(5)  # noqa: NPY002  what a task must not see
    assert measured(train(spirals)) == measured(whole)
    assert whole.metrics["loss"] < 0.69
    assert [row["epoch"] for row in whole.curve] == [1, 2, 3]


def test_every_epoch_and_seed_has_an_order_of_its_own() -> None:
    part = DataPart((torch.arange(24),), "cpu")
    orders = [torch.cat([batch for (batch,) in part.train(epoch, 6, seed)]) for epoch in (0, 1) for seed in (0, 1)]
    assert all(sorted(order.tolist()) == list(range(24)) for order in orders)
    assert len({tuple(order.tolist()) for order in orders}) == 4
    assert torch.equal(torch.cat([batch for (batch,) in part.train(0, 6, 0)]), orders[0])


def test_an_interrupted_training_goes_on_to_the_same_numbers(
    spirals: LoadedTask, whole: Outcome, tmp_path: Path
) -> None:
    slot = open_slot(tmp_path)
    with pytest.raises(Stopped):
        train(spirals, slot, check_stop=stop_after(60))  # 25 steps an epoch
    outcome = train(spirals, slot)
    assert outcome.resumed_epoch == 2
    assert measured(outcome) == measured(whole)


def test_a_training_pauses_at_a_rung_and_goes_on_to_the_same_numbers(
    spirals: LoadedTask, whole: Outcome, tmp_path: Path
) -> None:
    slot = open_slot(tmp_path)
    at_rung = train(spirals, slot, pause_after=1)
    assert at_rung.paused
    assert at_rung.epochs == 1
    assert at_rung.metrics == {name: at_rung.curve[-1][name] for name in ("loss", "accuracy")}
    again = train(spirals, slot, pause_after=1)  # the driver died before it knew
    assert measured(again) == measured(at_rung)
    outcome = train(spirals, slot)
    assert outcome.metrics == whole.metrics
    assert outcome.curve[1:] == whole.curve[1:]


def test_an_objective_pauses_at_a_rung_and_goes_on(tmp_path: Path) -> None:
    task = load_from(tmp_path, "objective")
    alone, slot = train(task), open_slot(tmp_path)
    at_rung = train(task, slot, pause_after=1)
    assert at_rung.paused
    assert at_rung.metrics == {name: alone.curve[0][name] for name in ("loss", "accuracy")}
    again = train(task, slot, pause_after=1)
    assert measured(again) == measured(at_rung)
    outcome = train(task, slot)
    assert measured(outcome) == measured(alone)
    assert outcome.resumed_epoch == 1


def test_an_objective_that_does_not_report_cannot_be_compared(tmp_path: Path) -> None:
    outcome = train(load_from(tmp_path, "some", WRONG), pause_after=1)
    assert outcome.metrics == {}
    assert outcome.error is not None
    assert "epoch 1" in outcome.error


def test_what_cannot_be_kept_is_refused_when_it_is_saved(tmp_path: Path) -> None:
    slot = open_slot(tmp_path)
    outcome = train(load_from(tmp_path, "saves_a_function", WRONG), slot)
    assert outcome.error is not None
    assert "trial.save" in outcome.error
    assert not slot.path.exists()


def test_a_damaged_checkpoint_starts_the_training_again(spirals: LoadedTask, whole: Outcome, tmp_path: Path) -> None:
    slot = open_slot(tmp_path)
    slot.path.parent.mkdir()
    slot.path.write_bytes(b"no checkpoint")
    outcome = train(spirals, slot)
    assert measured(outcome) == measured(whole)
    assert outcome.checkpoint_error is not None


def make(target: Any) -> LoadedTask:
    source = TaskSource("own.py:Own", "Own", "own.py", b"", ())
    from nas.tasks.loaded import _read_class_metrics

    return LoadedTask(source, (), target, {}, {}, {}, _read_class_metrics(target, "own"), {})


def draw(n: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(n)
    x = torch.randn(n, 2, generator=generator)
    return x, (x.sum(dim=1) > 0).long()


class Linear:
    """A task with every part of its own."""

    metrics = {"rmse": "min", "share": "max"}

    def build(self, pattern: Any, seed: int) -> nn.Module:
        return nn.Linear(2, 1)

    def data(self, seed: int) -> Any:
        return (lambda epoch: [draw(8 + epoch)] * 4), (lambda epoch: [draw(50)])

    def loss(self, network: nn.Module, batch: Any) -> Tensor:
        loss: Tensor = ((network(batch[0])[:, 0] - batch[1]) ** 2).mean()
        return loss

    def evaluate(self, network: nn.Module, batches: Any) -> dict[str, float]:
        (batch,) = batches
        error = float(self.loss(network, batch))
        return {"rmse": math.sqrt(error), "share": 1 / (1 + error)}

    def optimizer(self, network: nn.Module, training: TrainingConfig, n_steps: int) -> Any:
        assert n_steps == 4 * training.epochs
        adam = torch.optim.AdamW(network.parameters(), lr=training.lr, weight_decay=training.weight_decay)
        return adam, torch.optim.lr_scheduler.CosineAnnealingLR(adam, n_steps)


def test_a_class_may_bring_every_part_of_its_own() -> None:
    outcome = train_once(make(Linear()), epochs=2)
    assert outcome.error is None
    assert outcome.metrics["share"] == pytest.approx(1 / (1 + outcome.metrics["rmse"] ** 2))

    # The same by hand.
    from search_spaces.seeds import derive_seed

    torch.manual_seed(derive_seed(0, "weights"))
    network = nn.Linear(2, 1)
    adam = torch.optim.AdamW(network.parameters(), lr=0.15, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(adam, 8)
    for epoch in range(2):
        for _ in range(4):
            x, y = draw(8 + epoch)
            adam.zero_grad()
            ((network(x)[:, 0] - y) ** 2).mean().backward()
            adam.step()
            schedule.step()
    x, y = draw(50)
    assert outcome.metrics["rmse"] == pytest.approx(
        float(((network(x)[:, 0] - y) ** 2).mean().sqrt().detach()), rel=1e-6
    )


class Diverging(Linear):
    metrics = {"loss": "min"}

    def loss(self, network: nn.Module, batch: Any) -> Tensor:
        return super().loss(network, batch) * math.inf


class NoModule(Linear):
    def build(self, pattern: Any, seed: int) -> Any:
        return 3


class Ragged(Linear):
    def data(self, seed: int) -> Any:
        return (torch.zeros(3, 2), torch.zeros(4)), draw(5)


@pytest.mark.parametrize(
    ("task", "reason"),
    [(Diverging(), "not finite at step 1 of 8"), (NoModule(), "not int"), (Ragged(), r"\[3, 4\]")],
)
def test_a_class_that_goes_wrong_has_failed_with_the_reason(task: Any, reason: str) -> None:
    outcome = train_once(make(task), epochs=2)
    assert outcome.metrics == {}
    with pytest.raises(AssertionError, match=reason):
        raise AssertionError(outcome.error)


def test_the_quick_task_is_what_the_tests_take_it_for(tmp_path: Path) -> None:
    assert train_once(load_from(tmp_path, "objective", QUICK), seed=1) != train_once(load_from(tmp_path, "objective"))


def test_the_rate_of_a_task_without_an_optimiser_rises_as_the_run_says(spirals: LoadedTask) -> None:
    rates = []
    hook = register_optimizer_step_pre_hook(lambda optimizer, *_: rates.append(optimizer.param_groups[0]["lr"]))
    try:
        training = TrainingConfig(epochs=2, lr=0.05, warm_up=0.0)
        spirals.train(TaskCandidate.of(PATTERN, "log", 0), training, "cpu", None, None, lambda: None)
    finally:
        hook.remove()
    expected = [0.05 * (1 + math.cos(math.pi * step / len(rates))) / 2 for step in range(len(rates))]
    assert len(rates) > 2
    assert rates == pytest.approx(expected)
