"""Training: seeded, honest about failure, measured with fresh statistics."""

import errno
import itertools
import math
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.optim.optimizer import register_optimizer_step_pre_hook

from nas.data.readers import load_data
from nas.data.splits import Split, split_data
from nas.model.candidate import Candidate
from nas.model.config import TrainingConfig
from nas.model.network import build_skip_network
from nas.records.metrics import image_metrics
from nas.records.trial import Outcome
from nas.settings.search import SearchConfig
from nas.training.checkpoints import Checkpoint, Slot, slot_path
from nas.training.evaluation import EVALUATION_BATCH, NonFiniteLossError, predict
from nas.training.train import _batches, find_rate
from nas.workers.jobs import Job, LostDeviceError, LostError, failed
from nas.workers.trainer import Trainer
from search_spaces.errors import Interrupted, MachineError
from search_spaces.templates import find_template
from tests.support.evaluating import evaluate, refresh_statistics
from tests.support.training import train_candidate


def _candidate(config: SearchConfig, name: str = "log", seed: int = 0) -> Candidate:
    return Candidate(find_template(name).build(config.layers), config.network(10, (1, 8, 8)), seed)


@pytest.fixture(scope="module")
def digits() -> Split:
    torch.set_num_threads(1)
    return split_data(load_data("digits", None), 0, 128, "cpu")


def test_same_seed_gives_the_same_numbers_and_another_seed_others(digits: Split, small_config: SearchConfig) -> None:
    first, again = (train_candidate(_candidate(small_config), digits, small_config) for _ in range(2))
    other = train_candidate(_candidate(small_config, seed=1), digits, small_config)
    assert (first.metrics.get("validation_loss"), first.curve) == (again.metrics.get("validation_loss"), again.curve)
    assert first.metrics.get("validation_loss") != other.metrics.get("validation_loss")


def test_training_learns(digits: Split, small_config: SearchConfig) -> None:
    outcome = train_candidate(_candidate(small_config), digits, small_config.model_copy(update={"epochs": 20}))
    assert outcome.error is None
    assert outcome.epochs == len(outcome.curve) == 20
    losses = [row["train_loss"] for row in outcome.curve]
    assert losses[-1] < 0.5 * losses[0]
    assert outcome.metrics["validation_accuracy"] > 0.6
    assert outcome.curve[-1]["validation_accuracy"] == outcome.metrics.get("validation_accuracy")


def test_a_non_finite_loss_is_an_error_with_its_step_and_no_value(digits: Split, small_config: SearchConfig) -> None:
    poisoned = digits.train_images.clone()
    poisoned[:] = float("inf")
    split = Split(poisoned, digits.train_labels, digits.validation_images, digits.validation_labels, augment=False)
    outcome = train_candidate(_candidate(small_config), split, small_config)
    assert outcome.metrics.get("validation_accuracy") is None
    assert outcome.metrics.get("validation_loss") is None
    assert outcome.error == "training loss not finite at step 1 of 8"


def test_the_first_bad_step_is_named(digits: Split, small_config: SearchConfig) -> None:
    config = small_config.model_copy(update={"epochs": 2})
    images = digits.train_images.clone()
    batches = list(_batches(digits, config.batch_size, 8, seed=0, epoch=0))
    poisoned_batch = batches[5][0]
    # Poison one image of the sixth batch, wherever it lies in the training set.
    position = next(i for i in range(len(images)) if torch.equal(images[i], poisoned_batch[3]))
    images[position] = float("nan")
    split = Split(images, digits.train_labels, digits.validation_images, digits.validation_labels, augment=False)
    outcome = train_candidate(_candidate(config), split, config)
    assert outcome.error == "training loss not finite at step 6 of 16"
    assert outcome.epochs == 0


def test_order_depends_on_seed_and_epoch_but_not_on_the_pattern(digits: Split) -> None:
    def labels(seed: int, epoch: int) -> torch.Tensor:
        return torch.cat([labels for _, labels in _batches(digits, 16, 8, seed, epoch)])

    assert torch.equal(labels(0, 0), labels(0, 0))
    assert not torch.equal(labels(0, 0), labels(0, 1))
    assert not torch.equal(labels(0, 0), labels(1, 0))
    assert torch.equal(labels(0, 0).sort().values, digits.train_labels.sort().values)


def test_schedule_warms_up_linearly_and_falls_as_a_cosine_to_zero() -> None:
    rates = [find_rate(step, 100, None) for step in range(101)]
    assert rates[:10] == pytest.approx(np.arange(1, 11) / 10)
    assert rates[10] == 1
    assert rates[55] == pytest.approx(0.5 * (1 + math.cos(math.pi / 2)))
    assert rates[100] == pytest.approx(0)
    assert all(earlier > later for earlier, later in itertools.pairwise(rates[10:]))


def test_a_warm_up_of_its_own_goes_before_a_cosine_or_drops() -> None:
    cosine = [find_rate(step, 100, None, 0.0) for step in range(100)]
    assert cosine == pytest.approx([0.5 * (1 + math.cos(math.pi * step / 100)) for step in range(100)])
    assert [find_rate(step, 100, None, 0.2) for step in (0, 9, 19, 20)] == pytest.approx([0.05, 0.5, 1, 1])
    dropped = [find_rate(step, 100, (0.5,), 0.04) for step in (0, 1, 2, 3, 4, 49, 50)]
    assert dropped == pytest.approx([0.25, 0.5, 0.75, 1, 1, 1, 0.1])


def test_a_training_takes_its_own_warm_up(digits: Split, small_config: SearchConfig) -> None:
    rates = []
    hook = register_optimizer_step_pre_hook(lambda optimizer, *_: rates.append(optimizer.param_groups[0]["lr"]))
    try:
        train_candidate(_candidate(small_config), digits, small_config.model_copy(update={"warm_up": 0.5, "epochs": 2}))
    finally:
        hook.remove()
    n_steps = len(rates)
    assert n_steps == 2 * (128 // small_config.batch_size)
    rising = [small_config.lr * (step + 1) / (n_steps / 2) for step in range(n_steps // 2)]
    falling = [small_config.lr * (1 + math.cos(math.pi * k / (n_steps / 2))) / 2 for k in range(n_steps // 2)]
    assert rates == pytest.approx(rising + falling)


def test_a_stop_ends_the_training_at_once(digits: Split, small_config: SearchConfig) -> None:
    n_calls = 0

    def stop() -> None:
        nonlocal n_calls
        n_calls += 1
        if n_calls == 3:
            raise Interrupted(15)

    with pytest.raises(Interrupted):
        train_candidate(_candidate(small_config), digits, small_config, stop)
    assert n_calls == 3


def test_refreshed_statistics_are_those_of_the_training_images() -> None:
    network = nn.Sequential(nn.BatchNorm2d(2))
    images = torch.randn(2 * EVALUATION_BATCH, 2, 3, 3) * 4 + 7
    refresh_statistics(network, images)
    normalisation = network[0]
    assert isinstance(normalisation, nn.BatchNorm2d)
    halves = images.tensor_split(2)
    assert normalisation.running_mean is not None
    assert normalisation.running_var is not None
    assert torch.allclose(normalisation.running_mean, images.mean(dim=(0, 2, 3)), atol=1e-5)
    expected = torch.stack([half.var(dim=(0, 2, 3)) for half in halves]).mean(dim=0)
    assert torch.allclose(normalisation.running_var, expected, rtol=1e-5)


def test_evaluate_equals_a_computation_by_hand() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Flatten(), nn.Linear(4, 3))
    images, labels = torch.randn(2 * EVALUATION_BATCH + 1, 1, 2, 2), torch.randint(0, 3, (2 * EVALUATION_BATCH + 1,))
    loss, accuracy = evaluate(network, images, labels)
    logits = network(images).detach().double().numpy()
    log_probabilities = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    rows = np.arange(len(labels))
    assert loss == pytest.approx(-log_probabilities[rows, labels.numpy()].mean(), rel=1e-5)
    assert accuracy == (logits.argmax(axis=1) == labels.numpy()).mean()


def test_evaluation_uses_the_running_statistics_and_leaves_them_alone() -> None:
    network = nn.Sequential(nn.BatchNorm2d(3), nn.Flatten()).train()
    images = 5 + torch.randn(4, 3, 1, 1, generator=torch.Generator().manual_seed(0))
    before = {name: value.clone() for name, value in network.state_dict().items()}
    logits = predict(network, lambda batch: network(batch[0])[None], [images])
    assert torch.allclose(logits[0], images.flatten(1), rtol=1e-4)  # by running mean 0 and running variance 1
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


def test_evaluate_refuses_a_loss_that_is_not_finite() -> None:
    with pytest.raises(NonFiniteLossError, match="nan"):
        evaluate(nn.Flatten(), torch.full((4, 3, 1, 1), torch.nan), torch.zeros(4, dtype=torch.int64))


def test_outcome_survives_the_way_between_processes() -> None:
    outcome = Outcome(image_metrics(0.5, 1.25), 1, 0.75, ({"epoch": 1, "train_loss": 2.0},), None)
    assert Outcome.from_dict(outcome.to_dict()) == outcome
    assert failed("why").metrics.get("validation_accuracy") is None


def test_trainer_reports_torch_errors_as_the_candidates_own(small_config: SearchConfig) -> None:
    data = load_data("digits", None)
    config = small_config.model_copy(update={"device": "meta"})  # a device on which nothing can be computed
    outcome = Trainer(data, config).train(Job(0, _candidate(small_config)))
    assert outcome.metrics.get("validation_accuracy") is None
    assert outcome.error is not None
    assert "Error" in outcome.error


LONG = TrainingConfig(epochs=4)
N_STEPS = 128 // LONG.batch_size  # of an epoch on the digits above


def _stop_at(step: int) -> Callable[[], None]:
    """Interrupt before that step of this training, counted from 0."""
    steps = itertools.count()

    def check() -> None:
        if next(steps) == step:
            raise Interrupted(15)

    return check


def _measured(outcome: Outcome) -> Outcome:
    """All but what differs from one attempt to the next."""
    return replace(outcome, seconds=0.0, resumed_epoch=0)


@pytest.fixture(scope="module")
def whole(digits: Split) -> Outcome:
    """A training of four epochs without a break."""
    return train_candidate(_candidate(SearchConfig(layers=5)), digits, LONG)


@pytest.fixture
def candidate() -> Candidate:
    """What `whole` trains."""
    return _candidate(SearchConfig(layers=5))


@pytest.fixture
def slot(tmp_path: Path) -> Slot:
    """Its checkpoints, one an epoch."""
    return Slot(tmp_path / "checkpoint.pt", "identity", 0)


@pytest.mark.parametrize(("epoch", "step"), [(1, 0), (2, N_STEPS - 1), (3, 3)])
def test_interrupted_after_any_epoch_a_training_ends_with_the_same_numbers(
    digits: Split, candidate: Candidate, slot: Slot, whole: Outcome, epoch: int, step: int
) -> None:
    with pytest.raises(Interrupted):
        train_candidate(candidate, digits, LONG, _stop_at(epoch * N_STEPS + step), slot)
    resumed = train_candidate(candidate, digits, LONG, slot=slot)
    assert resumed.resumed_epoch == epoch
    assert resumed.checkpoint_error is None
    assert whole.resumed_epoch == 0
    assert _measured(resumed) == _measured(whole)


def test_interrupted_after_every_epoch_a_training_ends_with_the_same_numbers(
    digits: Split, candidate: Candidate, slot: Slot, whole: Outcome
) -> None:
    for _ in range(LONG.epochs - 1):
        with pytest.raises(Interrupted):
            train_candidate(candidate, digits, LONG, _stop_at(N_STEPS + 1), slot)
    resumed = train_candidate(candidate, digits, LONG, slot=slot)
    assert resumed.resumed_epoch == LONG.epochs - 1
    assert _measured(resumed) == _measured(whole)


def test_interrupted_in_its_first_epoch_a_training_starts_again(
    digits: Split, candidate: Candidate, slot: Slot, whole: Outcome
) -> None:
    with pytest.raises(Interrupted):
        train_candidate(candidate, digits, LONG, _stop_at(N_STEPS - 1), slot)
    assert not slot.path.exists()
    assert replace(train_candidate(candidate, digits, LONG, slot=slot), seconds=0.0) == replace(whole, seconds=0.0)


def test_a_checkpoint_is_written_only_when_it_is_due_and_never_at_the_end(
    digits: Split, candidate: Candidate, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    epochs: list[int] = []

    def write(_: Slot, checkpoint: Checkpoint) -> None:
        epochs.append(len(checkpoint.curve))

    monkeypatch.setattr(Slot, "write", write)
    train_candidate(candidate, digits, LONG, slot=Slot(tmp_path / "rare", "", 3600))
    assert epochs == []
    train_candidate(candidate, digits, LONG, slot=Slot(tmp_path / "often", "", 0))
    assert epochs == [1, 2, 3]


def test_the_seconds_of_lost_attempts_up_to_their_checkpoint_count(
    digits: Split, candidate: Candidate, slot: Slot
) -> None:
    with pytest.raises(Interrupted):
        train_candidate(candidate, digits, LONG, _stop_at(N_STEPS), slot)
    held = slot.read("cpu")
    assert held is not None
    assert held.seconds > 0
    slot.write(replace(held, seconds=10_000.0))
    assert 10_000 < train_candidate(candidate, digits, LONG, slot=slot).seconds < 20_000


@pytest.mark.parametrize("pause", [1, 3])
def test_a_pause_is_measured_and_changes_nothing_of_what_follows(
    digits: Split, candidate: Candidate, slot: Slot, whole: Outcome, pause: int
) -> None:
    paused = train_candidate(candidate, digits, LONG, slot=slot, pause_after=pause)
    assert (paused.paused, paused.epochs, paused.error) == (True, pause, None)
    last = paused.curve[-1]
    assert (last["validation_loss"], last["validation_accuracy"]) == (
        paused.metrics.get("validation_loss"),
        paused.metrics.get("validation_accuracy"),
    )
    # Its measurement is that of the network after so many epochs: taken from the checkpoint by hand.
    held = slot.read("cpu")
    assert held is not None
    network = build_skip_network(candidate)
    network.load_state_dict(held.network)
    assert evaluate(network, digits.validation_images, digits.validation_labels) == (
        paused.metrics.get("validation_loss"),
        paused.metrics.get("validation_accuracy"),
    )
    final = train_candidate(candidate, digits, LONG, slot=slot)
    assert (final.paused, final.epochs, final.resumed_epoch) == (False, LONG.epochs, pause)
    assert final.curve[pause - 1] == last
    plain = [dict(row) for row in final.curve]
    for name in ("validation_loss", "validation_accuracy"):
        assert plain[pause - 1].pop(name) is not None
    assert replace(_measured(final), curve=tuple(plain)) == _measured(whole)


def test_a_pause_that_was_not_heard_of_is_measured_again_with_the_same_numbers(
    digits: Split, candidate: Candidate, slot: Slot
) -> None:
    first, again = (train_candidate(candidate, digits, LONG, slot=slot, pause_after=2) for _ in range(2))
    assert (first.resumed_epoch, again.resumed_epoch) == (0, 2)
    assert _measured(again) == _measured(first)


def test_an_interrupted_training_pauses_with_the_same_numbers(
    digits: Split, candidate: Candidate, tmp_path: Path, slot: Slot
) -> None:
    with pytest.raises(Interrupted):
        train_candidate(candidate, digits, LONG, _stop_at(N_STEPS), slot, pause_after=2)
    resumed = train_candidate(candidate, digits, LONG, slot=slot, pause_after=2)
    assert resumed.resumed_epoch == 1
    other = Slot(tmp_path / "other.pt", "", 0)
    assert _measured(resumed) == _measured(train_candidate(candidate, digits, LONG, slot=other, pause_after=2))


def test_two_pauses_change_nothing_of_what_follows(
    digits: Split, candidate: Candidate, slot: Slot, whole: Outcome
) -> None:
    reached = [train_candidate(candidate, digits, LONG, slot=slot, pause_after=pause) for pause in (1, 2, None)]
    assert [outcome.resumed_epoch for outcome in reached] == [0, 1, 2]
    final = reached[-1]
    assert ["validation_accuracy" in row for row in final.curve] == [True, True, False, True]
    assert final.metrics == whole.metrics
    assert [row["train_loss"] for row in final.curve] == [row["train_loss"] for row in whole.curve]


@pytest.mark.parametrize("pause", [LONG.epochs, LONG.epochs + 5])
def test_a_pause_at_the_last_epoch_is_none(
    digits: Split, candidate: Candidate, slot: Slot, whole: Outcome, pause: int
) -> None:
    outcome = train_candidate(candidate, digits, LONG, slot=slot, pause_after=pause)
    assert _measured(outcome) == _measured(whole)
    assert not outcome.paused


def test_after_a_pause_without_a_checkpoint_a_training_starts_again(
    digits: Split, candidate: Candidate, whole: Outcome
) -> None:
    assert train_candidate(candidate, digits, LONG, pause_after=1).paused
    assert _measured(train_candidate(candidate, digits, LONG)) == _measured(whole)


def test_a_checkpoint_beyond_the_pause_is_not_measured_in_its_place(
    digits: Split, candidate: Candidate, slot: Slot, tmp_path: Path
) -> None:
    """As when an older ledger was put back: a rung's measurement is of the rung's epoch."""
    with pytest.raises(Interrupted):
        train_candidate(candidate, digits, LONG, _stop_at(3 * N_STEPS), slot)
    outcome = train_candidate(candidate, digits, LONG, slot=slot, pause_after=1)
    assert (outcome.epochs, outcome.paused, outcome.resumed_epoch) == (1, True, 0)
    fresh = train_candidate(candidate, digits, LONG, slot=Slot(tmp_path / "fresh.pt", "", 0), pause_after=1)
    assert replace(_measured(outcome), checkpoint_error=None) == _measured(fresh)


def test_a_training_that_fails_does_not_pause_and_leaves_no_checkpoint(
    digits: Split, candidate: Candidate, slot: Slot
) -> None:
    split = replace(digits, train_images=torch.full_like(digits.train_images, torch.nan))
    outcome = train_candidate(candidate, split, LONG, slot=slot, pause_after=1)
    assert (outcome.paused, outcome.epochs, outcome.metrics.get("validation_accuracy")) == (False, 0, None)
    assert outcome.error == f"training loss not finite at step 1 of {LONG.epochs * N_STEPS}"
    assert not slot.path.exists()


def test_with_a_damaged_checkpoint_a_training_starts_again_and_says_so(
    digits: Split, candidate: Candidate, slot: Slot, whole: Outcome
) -> None:
    train_candidate(candidate, digits, LONG, slot=slot, pause_after=2)
    content = bytearray(slot.path.read_bytes())
    content[len(content) // 2] ^= 1
    slot.path.write_bytes(content)
    outcome = train_candidate(candidate, digits, LONG, slot=slot)
    assert outcome.checkpoint_error == f"{slot.path} is damaged, or no checkpoint"
    assert outcome.resumed_epoch == 0
    assert replace(outcome, checkpoint_error=None, seconds=0.0) == replace(whole, seconds=0.0)


SHORT = SearchConfig(layers=5, epochs=2, train_examples=64, device="cpu", checkpoint_seconds=0)
DIGITS = load_data("digits", None)


def _interrupted(run: Path, number: int = 0) -> Path:
    """A run directory with the checkpoint of a candidate's first epoch."""
    run.mkdir(exist_ok=True)
    with pytest.raises(Interrupted):
        Trainer(DIGITS, SHORT, run).train(Job(number, _candidate(SHORT)), _stop_at(64 // SHORT.batch_size))
    assert slot_path(run, number).exists()
    return run


@pytest.mark.parametrize(
    ("candidate_of", "config"),
    [
        ({"seed": 1}, {}),
        ({"name": "greedy"}, {}),
        ({}, {"lr": 0.1}),
        ({}, {"epochs": 3}),
        ({}, {"growth": 6}),
        ({}, {"train_examples": 80}),
    ],
)
def test_a_checkpoint_of_another_training_is_refused(
    tmp_path: Path, candidate_of: dict[str, Any], config: dict[str, Any]
) -> None:
    run = _interrupted(tmp_path / "run")
    changed = SHORT.model_copy(update=config)
    job = Job(0, _candidate(changed, **candidate_of))
    outcome = Trainer(DIGITS, changed, run).train(job)
    assert outcome.checkpoint_error == f"{slot_path(run, 0)} is the checkpoint of another training"
    fresh = Trainer(DIGITS, changed).train(job)
    assert replace(outcome, checkpoint_error=None, seconds=0.0) == replace(fresh, seconds=0.0)


@pytest.mark.parametrize("what", ["regime", "data"])
def test_a_checkpoint_of_another_regime_or_of_other_data_is_refused(tmp_path: Path, what: str) -> None:
    run = _interrupted(tmp_path / "run")
    data, candidate = DIGITS, _candidate(SHORT)
    if what == "regime":
        candidate = replace(candidate, training=TrainingConfig(epochs=SHORT.epochs, lr=SHORT.lr / 3))
    else:
        data = replace(DIGITS, sha256="0" * 64)
    outcome = Trainer(data, SHORT, run).train(Job(0, candidate))
    assert outcome.resumed_epoch == 0
    assert outcome.checkpoint_error == f"{slot_path(run, 0)} is the checkpoint of another training"


def test_a_checkpoint_is_bound_to_what_is_trained_and_not_to_the_run_or_the_number(tmp_path: Path) -> None:
    run = _interrupted(tmp_path / "run")
    elsewhere = slot_path(tmp_path / "other", 7)
    elsewhere.parent.mkdir(parents=True)
    slot_path(run, 0).rename(elsewhere)
    # How a run is run, and what a pattern is called, are nothing of the training either; the regime's values are.
    config = SHORT.model_copy(update={"attempts": 9, "checkpoint_seconds": 60.0, "trials": 30, "seeds": 7})
    own = TrainingConfig(**{name: getattr(SHORT, name) for name in TrainingConfig.model_fields})
    renamed = replace(_candidate(SHORT), template="log", training=own)
    outcome = Trainer(DIGITS, config, tmp_path / "other").train(Job(7, renamed))
    assert (outcome.resumed_epoch, outcome.checkpoint_error) == (1, None)
    assert _measured(outcome) == _measured(Trainer(DIGITS, SHORT).train(Job(0, _candidate(SHORT))))


def test_another_number_has_another_file(tmp_path: Path) -> None:
    run = _interrupted(tmp_path / "run")
    outcome = Trainer(DIGITS, SHORT, run).train(Job(1, _candidate(SHORT)))
    assert (outcome.resumed_epoch, outcome.checkpoint_error) == (0, None)
    assert slot_path(run, 0).exists()


def test_without_a_run_directory_nothing_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for run in (None, tmp_path / "not here"):
        outcome = Trainer(DIGITS, SHORT, run).train(Job(0, _candidate(SHORT), pause_after=1))
        assert outcome.paused
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "error",
    [
        MemoryError("Unable to allocate 3 GiB"),
        torch.OutOfMemoryError("CUDA out of memory"),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 3 bytes"),
        torch.AcceleratorError("CUDA error: out of memory"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        RuntimeError("Triton Error [CUDA]: out of memory"),
    ],
)
def test_a_full_memory_is_a_loss_and_not_the_candidates_failure(
    monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def fail() -> None:
        raise error

    with pytest.raises(LostError, match=f"out of memory: {type(error).__name__}: "):
        Trainer(DIGITS, SHORT).train(Job(0, _candidate(SHORT)), fail)
    monkeypatch.setattr("nas.workers.trainer.split_data", lambda *_: fail())  # before the training as well as within
    with pytest.raises(LostError, match="out of memory"):
        Trainer(DIGITS, SHORT).train(Job(0, _candidate(SHORT)))


@pytest.mark.parametrize(
    ("error", "kind", "reason"),
    [
        (torch.AcceleratorError("CUDA error: an illegal address\nmore"), LostDeviceError, "illegal address"),
        (
            type("OutOfResources", (Exception,), {"__module__": "triton.runtime.errors"})("shared memory"),
            MachineError,
            "shared memory",
        ),
    ],
)
def test_a_gpu_that_fails_is_no_candidate_s_failure(error: Exception, kind: type[MachineError], reason: str) -> None:
    def fail() -> None:
        raise error

    jobs = [Job(number, _candidate(SHORT)) for number in range(2)]
    for some in (jobs[:1], jobs):  # a cohort is not halved: nothing of it would run
        with pytest.raises(kind, match=f"{type(error).__name__}: .*{reason}") as raised:
            Trainer(DIGITS, SHORT).train_cohort(some, fail)
        assert type(raised.value) is kind


def test_a_checkpoint_that_cannot_be_written_is_the_machines_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def write(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Slot, "write", write)
    with pytest.raises(OSError, match="No space left"):
        Trainer(DIGITS, SHORT, tmp_path).train(Job(0, _candidate(SHORT)))


def test_deterministic_asks_torch_for_deterministic_algorithms_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[bool] = []
    monkeypatch.setattr(torch, "use_deterministic_algorithms", asked.append)
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", "")
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG")
    job = Job(0, _candidate(SHORT), pause_after=1)
    plain = Trainer(DIGITS, SHORT).train(job)
    assert asked == []
    assert "CUBLAS_WORKSPACE_CONFIG" not in os.environ
    strict = Trainer(DIGITS, SHORT.model_copy(update={"deterministic": True}), tmp_path).train(job)
    assert asked == [True]
    assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"
    assert _measured(strict) == _measured(plain)
