"""CondenseNet: the paper's network with the dense pattern, condensed in training, interrupted or not, and converted."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nas.data.readers import load_data
from nas.layouts.condensed import CondenseNet, count_dropped
from nas.model.candidate import Candidate
from nas.model.config import NetworkConfig
from nas.model.cost import predict_cost
from nas.model.layout_network import LayoutNetwork, build_layout_network, convert
from nas.records.trial import Outcome
from nas.settings.search import SearchConfig
from nas.training.checkpoints import Slot, read_weights, weights_path
from nas.workers.jobs import Job
from nas.workers.trainer import Trainer
from search_spaces.errors import Interrupted
from search_spaces.templates import find_template
from tests.support.small_cohorts import draw_split, step_by_step, stop_at
from tests.support.training import train_candidate

pytestmark = pytest.mark.usefixtures("one_thread")
N_STEPS = 12


def make_candidate(template: str = "dense", seed: int = 0, **options: Any) -> Candidate:
    network = NetworkConfig(
        layers=2, blocks=3, growth=4, transition="all", image=(2, 8, 12), surroundings=CondenseNet(**options)
    )
    return Candidate(find_template(template).build(network.pattern_depth), network, seed, template)


def build(candidate: Candidate) -> LayoutNetwork:
    """Return the network in double precision with statistics of its own, so that no BN is the identity."""
    network = build_layout_network(candidate).double().eval()
    generator = torch.Generator().manual_seed(5)
    for norm in network.modules():
        if isinstance(norm, nn.BatchNorm2d):
            for tensor in (norm.weight, norm.bias, norm.running_mean):
                assert tensor is not None
                nn.init.normal_(tensor, generator=generator)
            assert norm.running_var is not None
            nn.init.uniform_(norm.running_var, 0.5, 2, generator=generator)
    return network


def draw_images(candidate: Candidate) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(3, *candidate.network.image, dtype=torch.float64, generator=generator)


def shares_of(network: LayoutNetwork) -> set[float]:
    return {float(module.mask.double().mean()) for module in network.condensing}


def compute_as_published(network: LayoutNetwork, images: Tensor, groups: int) -> Tensor:
    """Compute the logits of the dense pattern as the authors' code does: one growing tensor, pooled between blocks."""
    weights = network.state_dict()

    def norm(x: Tensor, name: str) -> Tensor:
        names = ("running_mean", "running_var", "weight", "bias")
        return F.relu(F.batch_norm(x, *(weights[f"nodes.{name}.{part}"] for part in names)))

    x = F.conv2d(images, weights["nodes.stem.operations.0.weight"], padding=1)
    for block in range(3):
        if block:
            x = F.avg_pool2d(x, 2, 2)
        for layer in range(2):
            name = f"block{block}_layer{layer}.operations"
            mask = weights[f"nodes.{name}.2.mask"]
            weight = weights[f"nodes.{name}.2.weight"].clone()
            for output in range(len(weight)):
                weight[output, ~mask[output % groups]] = 0
            inner = norm(F.conv2d(norm(x, f"{name}.0"), weight), f"{name}.3")
            x = torch.cat([x, F.conv2d(inner, weights[f"nodes.{name}.5.weight"], padding=1, groups=groups)], dim=1)
    x = norm(x, "head.operations.0").mean(dim=(2, 3))
    return F.linear(x, weights["nodes.head.operations.3.weight"], weights["nodes.head.operations.3.bias"])


@pytest.mark.parametrize("stage_at", [0, 5, 11])
def test_with_the_dense_pattern_it_is_the_papers_network(stage_at: int) -> None:
    candidate = make_candidate(groups=2)
    network = build(candidate)
    network.begin_step(stage_at, N_STEPS)
    images = draw_images(candidate)
    torch.testing.assert_close(network(images), compute_as_published(network, images, 2), rtol=0, atol=1e-10)


@pytest.mark.parametrize(
    ("template", "options"),
    [
        ("dense", {}),
        ("log", {"groups": 2, "condensation": 4}),
        ("chain", {"groups": 4, "condensation": 2}),
        ("log", {"groups": 1, "condensation": 8, "condensed_classifier": True}),
        ("dense", {"condensation": 1}),
    ],
    ids=str,
)
def test_the_converted_network_has_the_same_logits_and_no_learned_layer(template: str, options: dict[str, Any]) -> None:
    candidate = make_candidate(template, **options)
    network = build(candidate)
    network.begin_step(6, N_STEPS)
    images = draw_images(candidate)
    global_draws = torch.get_rng_state()
    plain = convert(network)
    assert torch.equal(torch.get_rng_state(), global_draws)
    assert plain.condensing == []
    torch.testing.assert_close(plain(images), network(images), rtol=0, atol=1e-10)
    weights = [parameter for parameter in plain.parameters() if parameter.ndim > 1]
    kept = sum(int((module.masked_weight() != 0).sum()) for module in network.condensing)
    learned = {id(module.weight) for module in network.condensing}
    others = sum(each.numel() for each in network.parameters() if each.ndim > 1 and id(each) not in learned)
    assert sum(weight.numel() for weight in weights) == kept + others
    with torch.no_grad():  # both read the same inputs, and nothing else
        images[:, 0] += 1
    torch.testing.assert_close(plain(images), network(images), rtol=0, atol=1e-10)


def test_conversion_condenses_to_the_end_what_is_not_and_changes_nothing_of_the_network() -> None:
    candidate = make_candidate()
    network = build(candidate)
    plain = convert(network)
    assert shares_of(network) == {1.0}
    network.begin_step(6, N_STEPS)
    torch.testing.assert_close(plain(draw_images(candidate)), network(draw_images(candidate)), rtol=0, atol=1e-10)


def test_the_cost_is_that_of_the_condensed_network() -> None:
    candidate = make_candidate("log")
    plain = convert(build(candidate))
    assert sum(parameter.numel() for parameter in plain.parameters()) == predict_cost(candidate).params
    assert 2 * plain.layout.count_macs(candidate.network.image) == predict_cost(candidate).flops


def test_weights_that_are_dropped_in_the_end_are_counted_before() -> None:
    candidate = make_candidate("log", groups=2, condensation=8, condensed_classifier=True)
    network = build(candidate)
    network.begin_step(11, N_STEPS)
    n_zeros = sum(int((module.masked_weight() == 0).sum()) for module in network.condensing)
    assert count_dropped(candidate.layout, candidate.network.image) == n_zeros
    n_params = sum(parameter.numel() for parameter in network.parameters())
    assert n_params - n_zeros == predict_cost(candidate).params


def test_patterns_of_one_seed_start_from_the_same_weights() -> None:
    dense, chain = (build_layout_network(make_candidate(name)).state_dict() for name in ("dense", "chain"))
    same = [name for name, tensor in dense.items() if tensor.shape == chain[name].shape]
    assert "nodes.block2_layer1.operations.5.weight" in same
    assert all(torch.equal(dense[name], chain[name]) for name in same)


# In training: as many epochs as steps, so that a curve has the loss of each.


def without_time(outcome: Outcome) -> Outcome:
    return replace(outcome, seconds=0.0, resumed_epoch=0)


def test_the_kept_share_is_that_of_the_progress(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[set[float]] = []
    predict = LayoutNetwork.forward

    def spy(network: LayoutNetwork, images: Tensor) -> Tensor:
        if torch.is_grad_enabled():
            seen.append(shares_of(network))
        return predict(network, images)

    monkeypatch.setattr(LayoutNetwork, "forward", spy)
    candidate = make_candidate()
    assert train_candidate(candidate, draw_split(candidate), step_by_step(24)).error is None
    (shares,) = zip(*seen, strict=True)
    assert [shares[round(24 * progress)] for progress in (0, 0.17, 0.34, 0.5)] == [1, 0.75, 0.5, 0.25]
    assert [shares.index(share) for share in (0.75, 0.5, 0.25)] == [4, 8, 12]
    assert list(shares) == sorted(shares, reverse=True)


@pytest.fixture(scope="module")
def whole() -> Outcome:
    torch.set_num_threads(1)
    candidate = make_candidate(lasso=1e-3)
    outcome = train_candidate(candidate, draw_split(candidate), step_by_step(N_STEPS))
    assert outcome.error is None
    return outcome


# Stages begin at steps 0, 2, 4 and 6.
@pytest.mark.parametrize("steps", [(1,), (2,), (3,), (4,), (5,), (6,), (7,), (1, 2, 5)], ids=str)
def test_a_training_that_is_killed_and_resumed_is_the_uninterrupted_one(
    steps: tuple[int, ...], whole: Outcome, tmp_path: Path
) -> None:
    candidate = make_candidate(lasso=1e-3)
    split, config = draw_split(candidate), step_by_step(N_STEPS)
    slot = Slot(tmp_path / "checkpoint.pt", "identity", 0)
    done = 0
    for step in steps:
        with pytest.raises(Interrupted):
            train_candidate(candidate, split, config, stop_at(step - done), slot)
        done = step
    resumed = train_candidate(candidate, split, config, slot=slot)
    assert resumed.resumed_epoch == steps[-1]
    assert without_time(resumed) == without_time(whole)


@pytest.mark.parametrize("pause", [3, 4])
def test_a_paused_training_goes_on_as_the_whole_one(pause: int, whole: Outcome, tmp_path: Path) -> None:
    candidate = make_candidate(lasso=1e-3)
    split, config = draw_split(candidate), step_by_step(N_STEPS)
    slot = Slot(tmp_path / "checkpoint.pt", "identity", 0)
    assert train_candidate(candidate, split, config, slot=slot, pause_after=pause).paused
    checkpoint = slot.read("cpu")
    assert checkpoint is not None
    masks = {name: x for name, x in checkpoint.network.items() if name.endswith(".mask")}
    assert {float(mask.double().mean()) for mask in masks.values()} == {{3: 0.75, 4: 0.75}[pause]}
    resumed = train_candidate(candidate, split, config, slot=slot)
    assert [row["train_loss"] for row in resumed.curve] == [row["train_loss"] for row in whole.curve]
    assert resumed.metrics == whole.metrics


def test_the_lasso_is_a_part_of_the_loss_until_the_last_stage_begins(whole: Outcome) -> None:
    candidate = make_candidate(lasso=1e-3)
    without = make_candidate()
    plain = train_candidate(without, draw_split(without), step_by_step(N_STEPS))
    first, *later = ([row["train_loss"] for row in outcome.curve] for outcome in (whole, plain))
    assert first[0] == later[0][0]  # curves are of the cross-entropy
    assert first[1:] != later[0][1:]
    network = build(candidate)
    total = sum(0.001 * float(module.penalty().detach()) for module in network.condensing)
    penalty = network.penalty()
    assert penalty is not None
    assert float(penalty.detach()) == pytest.approx(total)
    network.begin_step(6, N_STEPS)
    assert network.penalty() is None
    assert build(without).penalty() is None


def test_drops_go_with_condensation(tmp_path: Path) -> None:
    candidate = make_candidate()
    network = candidate.network.model_copy(update={"drop_layers": 0.5, "drop_path": 0.3})
    candidate = replace(candidate, network=network)
    split, config = draw_split(candidate), step_by_step(N_STEPS)
    outcome = train_candidate(candidate, split, config)
    slot = Slot(tmp_path / "checkpoint.pt", "identity", 0)
    with pytest.raises(Interrupted):
        train_candidate(candidate, split, config, stop_at(5), slot)
    assert without_time(train_candidate(candidate, split, config, slot=slot)) == without_time(outcome)


def test_a_final_training_keeps_weights_that_are_condensed_to_the_end(tmp_path: Path) -> None:
    config = SearchConfig(
        layers=2, growth=4, transition="all", surroundings=CondenseNet(), train_examples=32, epochs=2, device="cpu"
    )
    data = load_data("digits", None)
    candidate = Candidate(find_template("log").build(2), config.network(data.n_classes, data.image), 0, "log")
    outcome = Trainer(data, config, tmp_path, is_final=True).train(Job(0, candidate))
    assert outcome.error is None
    kept = read_weights(weights_path(tmp_path, 0))
    assert kept is not None
    network = build_layout_network(candidate)
    network.load_state_dict(kept[0])
    assert shares_of(network) == {0.25}
    assert all(module.is_condensed for module in network.condensing)
