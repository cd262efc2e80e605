"""Training: seeded, honest about failure, measured with fresh statistics."""

import itertools
import math

import numpy as np
import pytest
import torch
from torch import nn

from nas.config import Candidate, SearchConfig
from nas.data import Split, split_data
from nas.executors import Trainer, failed
from nas.readers import load_data
from nas.train import (
    EVALUATION_BATCH,
    NonFiniteLossError,
    Outcome,
    _batches,
    _rate,
    evaluate,
    refresh_statistics,
    train_candidate,
)
from search_spaces.errors import Interrupted
from search_spaces.templates import find_template


def _candidate(config: SearchConfig, name: str = "log", seed: int = 0) -> Candidate:
    return Candidate(find_template(name).build(config.layers), config.network(10, (1, 8, 8)), seed)


@pytest.fixture(scope="module")
def digits() -> Split:
    torch.set_num_threads(1)
    return split_data(load_data("digits", None), 0, 128, "cpu")


def test_same_seed_gives_the_same_numbers_and_another_seed_others(digits: Split, small_config: SearchConfig) -> None:
    first, again = (train_candidate(_candidate(small_config), digits, small_config) for _ in range(2))
    other = train_candidate(_candidate(small_config, seed=1), digits, small_config)
    assert (first.validation_loss, first.curve) == (again.validation_loss, again.curve)
    assert first.validation_loss != other.validation_loss


def test_training_learns(digits: Split, small_config: SearchConfig) -> None:
    outcome = train_candidate(_candidate(small_config), digits, small_config.model_copy(update={"epochs": 20}))
    assert outcome.error is None
    assert outcome.epochs == len(outcome.curve) == 20
    losses = [row["train_loss"] for row in outcome.curve]
    assert losses[-1] < 0.5 * losses[0]
    assert outcome.validation_accuracy is not None
    assert outcome.validation_accuracy > 0.6
    assert outcome.curve[-1]["validation_accuracy"] == outcome.validation_accuracy


def test_a_non_finite_loss_is_an_error_with_its_step_and_no_value(digits: Split, small_config: SearchConfig) -> None:
    poisoned = digits.train_images.clone()
    poisoned[:] = float("inf")
    split = Split(poisoned, digits.train_labels, digits.validation_images, digits.validation_labels, augment=False)
    outcome = train_candidate(_candidate(small_config), split, small_config)
    assert outcome.validation_accuracy is None
    assert outcome.validation_loss is None
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
    rates = [_rate(step, 100) for step in range(101)]
    assert rates[:10] == pytest.approx(np.arange(1, 11) / 10)
    assert rates[10] == 1
    assert rates[55] == pytest.approx(0.5 * (1 + math.cos(math.pi / 2)))
    assert rates[100] == pytest.approx(0)
    assert all(earlier > later for earlier, later in itertools.pairwise(rates[10:]))


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


def test_evaluate_refuses_a_loss_that_is_not_finite() -> None:
    with pytest.raises(NonFiniteLossError, match="nan"):
        evaluate(nn.Flatten(), torch.full((4, 3, 1, 1), torch.nan), torch.zeros(4, dtype=torch.int64))


def test_outcome_survives_the_way_between_processes() -> None:
    outcome = Outcome(0.5, 1.25, 1, 0.75, ({"epoch": 1, "train_loss": 2.0},), None)
    assert Outcome.from_dict(outcome.to_dict()) == outcome
    assert failed("why").validation_accuracy is None


def test_trainer_reports_torch_errors_as_the_candidates_own(small_config: SearchConfig) -> None:
    data = load_data("digits", None)
    config = small_config.model_copy(update={"device": "meta"})  # a device on which nothing can be computed
    outcome = Trainer(data, config).train(_candidate(small_config))
    assert outcome.validation_accuracy is None
    assert outcome.error is not None
    assert "Error" in outcome.error
