"""Several exits: their loss, its state in checkpoints, what each gives, and when an image leaves."""

import itertools
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn import functional as F

from nas.data.readers import load_data
from nas.data.splits import Split, split_data
from nas.layouts.multiscale import MsdNet
from nas.model.candidate import Candidate
from nas.model.network import build_network
from nas.modules.exit_loss import ExitLoss
from nas.records.trial import Outcome
from nas.settings.search import SearchConfig
from nas.training.checkpoints import Slot
from nas.training.evaluation import NonFiniteLossError
from nas.training.exits import RATIOS, find_exits, find_shares, measure_exits, set_thresholds
from search_spaces.errors import Interrupted
from search_spaces.templates import find_template
from tests.support.training import train_candidate


@pytest.fixture(scope="module")
def digits() -> Split:
    torch.set_num_threads(1)
    return split_data(load_data("digits", None), 0, 96, "cpu")


def make_candidate(config: SearchConfig, **changes: Any) -> Candidate:
    network = config.network(10, (1, 8, 8)).model_copy(update={"exits": "every:2", **changes})
    return Candidate(find_template("log").build(config.layers), network, 0, "log")


def test_the_plain_loss_is_the_sum_and_has_no_state() -> None:
    losses = torch.tensor([2.0, 1.0, 0.5])
    loss = ExitLoss(3, is_balanced=False)
    assert float(loss(losses)) == 3.5
    assert loss.state_dict() == {}


def test_the_balanced_loss_weighs_by_running_means() -> None:
    """Computed a second way, number by number."""
    loss = ExitLoss(3, is_balanced=True).double()
    means = [0.0] * 3
    generator = torch.Generator().manual_seed(0)
    for step in range(5):
        losses = torch.rand(3, generator=generator, dtype=torch.float64).add_(0.1).requires_grad_()
        values = losses.tolist()
        means = values if step == 0 else [0.99 * old + 0.01 * new for old, new in zip(means, values, strict=True)]
        inverse = [1 / mean for mean in means]
        weights = [0.7 * each / max(inverse) + 0.3 for each in inverse]
        total = loss(losses)
        expected = sum(w * x for w, x in zip(weights, values, strict=True))
        assert float(total.detach()) == pytest.approx(expected, rel=1e-12)
        (gradient,) = torch.autograd.grad(total, losses)
        assert gradient.tolist() == pytest.approx(weights, rel=1e-12), "weights are no part of what is trained"
    assert max(weights) == 1.0 and min(weights) > 0.3


def test_a_loss_of_zero_leaves_the_weights_finite() -> None:
    loss = ExitLoss(2, is_balanced=True)
    assert float(loss(torch.tensor([0.0, 1.0]))) == pytest.approx(0.3)


def test_a_step_trains_the_sum_of_all_exits(digits: Split, small_config: SearchConfig) -> None:
    """The first step's gradient reaches the first exit, and is that of a loss written down here."""
    candidate = make_candidate(small_config)
    config = small_config.model_copy(update={"epochs": 1, "batch_size": 96, "weight_decay": 0.0, "lr": 0.1})
    trained: list[torch.nn.Module] = []
    outcome = train_candidate(candidate, digits, config, keep_trained=trained.append)
    network = build_network(candidate)
    logits = network(digits.train_images)  # in any order: one batch has them all
    losses = [F.cross_entropy(logits[:, place], digits.train_labels) for place in range(logits.shape[1])]
    assert outcome.curve[0]["train_loss"] == pytest.approx(float(losses[-1].detach()), rel=1e-5)
    torch.stack(losses).sum().backward()  # type: ignore[no-untyped-call]
    for (name, before), after in zip(network.named_parameters(), trained[0].parameters(), strict=True):
        assert before.grad is not None and before.grad.abs().sum() > 0, name
        # The only step is the first of a warm-up of one: the whole rate; Nesterov's momentum of .9 makes it 1.9.
        torch.testing.assert_close(after, before - 0.19 * before.grad, rtol=1e-3, atol=1e-5)


def train(
    digits: Split, config: SearchConfig, candidate: Candidate, slot: Slot | None = None, n_steps: float = math.inf
) -> Outcome:
    taken = itertools.count()

    def stop() -> None:
        if next(taken) >= n_steps:
            raise Interrupted(9)

    return train_candidate(candidate, digits, config, stop, slot)


@pytest.mark.parametrize("loss", ["sum", "adaloss"])
def test_a_training_that_was_killed_ends_as_if_nothing_had_happened(
    loss: str, digits: Split, small_config: SearchConfig, tmp_path: Path
) -> None:
    config = small_config.model_copy(update={"epochs": 3, "layers": 4})
    candidate = make_candidate(config, exit_loss=loss)
    slot = Slot(tmp_path / "000000.pt", "same", 0.0)
    with pytest.raises(Interrupted):
        train(digits, config, candidate, slot, n_steps=2 * (96 // config.batch_size) + 1)
    checkpoint = slot.read("cpu")
    assert checkpoint is not None and len(checkpoint.curve) == 2
    means = checkpoint.network.get("exit_loss.means")
    assert (means is None) == (loss == "sum")
    resumed, whole = train(digits, config, candidate, slot), train(digits, config, candidate)
    assert resumed.resumed_epoch == 2
    assert (resumed.metrics, resumed.curve, resumed.details) == (whole.metrics, whole.curve, whole.details)
    assert whole.details["exits"]


def test_the_two_losses_train_differently(digits: Split, small_config: SearchConfig) -> None:
    config = small_config.model_copy(update={"epochs": 2, "layers": 4})
    outcomes = [train(digits, config, make_candidate(config, exit_loss=loss)) for loss in ("sum", "adaloss")]
    assert outcomes[0].metrics != outcomes[1].metrics


def test_the_primary_outcomes_are_those_of_the_last_exit(digits: Split, small_config: SearchConfig) -> None:
    candidate = make_candidate(small_config)
    outcome = train(digits, small_config, candidate)
    rows = outcome.details["exits"]
    assert [row["macs"] for row in rows] == list(candidate.layout.count_macs_by_exit((1, 8, 8)))
    assert rows[-1]["accuracy"] == outcome.metrics["validation_accuracy"]
    assert rows[-1]["loss"] == pytest.approx(outcome.metrics["validation_loss"], rel=1e-5)
    assert [row["ratio"] for row in outcome.details["adaptive"]] == list(RATIOS)


def test_a_training_without_exits_notes_none(digits: Split, small_config: SearchConfig) -> None:
    outcome = train(digits, small_config, make_candidate(small_config, exits="last"))
    assert outcome.details == {}
    assert "details" not in outcome.to_dict()


def test_a_paused_training_notes_none_yet(digits: Split, small_config: SearchConfig, tmp_path: Path) -> None:
    config = small_config.model_copy(update={"epochs": 2})
    slot = Slot(tmp_path / "000000.pt", "same", 0.0)
    outcome = train_candidate(make_candidate(config), digits, config, slot=slot, pause_after=1)
    assert outcome.paused and outcome.details == {}


def test_columns_at_several_scales_train_too(digits: Split, small_config: SearchConfig) -> None:
    surroundings = MsdNet(widths=(1, 2), first_exit=2, exit_step=2, exit_channels=4)
    changes = {"exits": "last", "surroundings": surroundings, "layers": 4, "growth": 2}
    config = small_config.model_copy(update={"layers": 4, "epochs": 1})
    outcome = train(digits, config, make_candidate(config, **changes))
    assert outcome.error is None
    assert len(outcome.details["exits"]) == 2


# --- leaving early -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ratio", RATIOS)
@pytest.mark.parametrize(("n", "n_exits"), [(1, 2), (7, 3), (100, 5), (359, 10)])
def test_thresholds_meet_the_shares_within_one_image(ratio: float, n: int, n_exits: int) -> None:
    generator = torch.Generator().manual_seed(n)
    confidence = torch.rand(n, n_exits, generator=generator, dtype=torch.float64)
    shares = find_shares(n_exits, ratio)
    assert sum(shares) == pytest.approx(1)
    thresholds = set_thresholds(confidence, shares)
    assert len(thresholds) == n_exits - 1
    leaves = find_exits(confidence, thresholds)
    for place, share in enumerate(shares):
        assert abs(int((leaves == place).sum()) - share * n) <= 1 + 1e-9


def test_an_image_leaves_at_the_first_exit_that_is_confident_enough() -> None:
    confidence = torch.tensor([[0.9, 0.1, 0.1], [0.2, 0.8, 0.1], [0.3, 0.3, 0.2], [0.5, 0.9, 0.9]])
    assert find_exits(confidence, [0.5, 0.8]).tolist() == [0, 1, 2, 0]
    assert find_exits(confidence, [math.inf, math.inf]).tolist() == [2, 2, 2, 2]


def test_accuracy_and_cost_are_of_the_images_that_set_no_threshold() -> None:
    """Each exit is measured by a loop over images, and every expected cost is one that 21 images can have."""
    generator = torch.Generator().manual_seed(5)
    logits = 4 * torch.randn(41, 3, 4, generator=generator)
    labels = torch.randint(4, (41,), generator=generator)
    macs = (10, 25, 60)
    measured = measure_exits(logits, labels, macs, seed=3)
    for place, row in enumerate(measured["exits"]):
        hits = [int(logits[i, place].argmax()) == int(labels[i]) for i in range(41)]
        assert row["accuracy"] == pytest.approx(sum(hits) / 41)
        assert row["macs"] == macs[place]
    # 20 images set the thresholds, and 21 are measured: every expected cost is a sum of 21 of the three costs.
    sums = {10 * a + 25 * b + 60 * (21 - a - b) for a in range(22) for b in range(22 - a)}
    assert all(round(21 * row["macs"], 6) in sums for row in measured["adaptive"])
    costs = [row["macs"] for row in measured["adaptive"]]
    assert costs[0] < 20 < 50 < costs[-1]
    assert measured == measure_exits(logits, labels, macs, seed=3)
    assert measured["adaptive"] != measure_exits(logits, labels, macs, seed=4)["adaptive"]


def test_one_image_is_too_few_for_thresholds() -> None:
    measured = measure_exits(torch.zeros(1, 2, 3), torch.tensor([0]), (1, 2), seed=0)
    assert measured["adaptive"] == []


def test_an_exit_whose_loss_is_not_finite_is_an_error() -> None:
    logits = torch.zeros(2, 2, 3)
    logits[0, 0, 0] = math.nan
    with pytest.raises(NonFiniteLossError):
        measure_exits(logits, torch.tensor([0, 1]), (1, 2), seed=0)
