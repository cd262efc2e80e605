"""Networks whose layers run as one operation: the numbers of the others, in less memory."""

import copy
import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import nas.engines.fused_layers
import nas.engines.layer_operation
import nas.model.cohort
import nas.training.train
from nas.bench.memory import measure_kept_bytes
from nas.data.readers import load_data
from nas.data.splits import Split, split_data
from nas.model.candidate import Candidate
from nas.model.config import NetworkConfig, TrainingConfig
from nas.model.network import Block, SkipNetwork, build_skip_network
from nas.records.trial import Outcome
from nas.training.checkpoints import Slot
from search_spaces.budget import log_budget
from search_spaces.errors import Interrupted
from search_spaces.sampling.draw import sample_uniform
from search_spaces.seeds import derive_generator
from search_spaces.templates import find_template
from tests.support.compiled import ensure_compiled
from tests.support.evaluating import refresh_statistics
from tests.support.training import train_candidate

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module", autouse=True)
def compiled() -> None:
    """All that is here is of the C++ form."""
    ensure_compiled()


AROUND: dict[str, dict[str, Any]] = {
    "log": {"layers": 6},
    "all": {"layers": 5, "blocks": 2, "transition": "all", "compression": 0.5},
    "last": {"layers": 5, "blocks": 2, "transition": "last"},
    "rule": {"layers": 6, "blocks": 2, "transition": "rule", "stem_channels": 7},
    "v1": {"layers": 4, "blocks": 3, "transition": "v1", "stem_channels": 8},
    "v2": {"layers": 4, "blocks": 3, "transition": "v2", "stem_channels": 8},
    "block layers": {"layers": 6, "blocks": 3, "block_layers": (3, 6, 1), "growth": 3},
    "large stem": {"layers": 4, "blocks": 2, "large_stem": True, "image": (3, 37, 40)},
    "one layer": {"layers": 1, "growth": 5},
    "bottleneck": {"layers": 5, "blocks": 2, "layer": "bottleneck"},
    "compressed": {"layers": 4, "blocks": 2, "layer": "bottleneck", "transition": "all", "compression": 0.5},
}
each_network = pytest.mark.parametrize("name", AROUND)


def make_candidate(name: str = "log", template: str = "log", **more: Any) -> Candidate:
    network = NetworkConfig(**{"growth": 4, "image": (3, 12, 9), **AROUND.get(name, {}), **more})
    return Candidate(find_template(template).build(network.pattern_depth), network, seed=1, template=template)


def build_pair(candidate: Candidate, dtype: torch.dtype = torch.float64) -> tuple[SkipNetwork, SkipNetwork]:
    """The candidate's network twice, with every scale and shift away from its start; the second is fused."""
    plain = build_skip_network(candidate).to(dtype)
    generator = torch.Generator().manual_seed(5)
    for module in plain.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.weight.data.normal_(1, 0.3, generator=generator)
            module.bias.data.normal_(0, 0.3, generator=generator)
    fused = copy.deepcopy(plain)
    fused.fuse_layers()
    is_fused = candidate.network.layer != "depthwise"
    assert all((cast(Block, block)._fused is not None) == is_fused for block in fused.blocks)
    return plain, fused


def draw_batch(candidate: Candidate, n_images: int = 6, step: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(step)
    images = torch.randn(n_images, *candidate.network.image, generator=generator, dtype=torch.float64)
    return images, torch.randint(0, 10, (n_images,), generator=generator)


def assert_near(actual: Tensor, expected: Tensor, name: str, share: float = 1e-9) -> None:
    assert actual.shape == expected.shape, name
    error = float((actual - expected).detach().abs().max())
    assert error <= share * max(1.0, float(expected.detach().abs().max())), (name, error)


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """One entry a call of the layer operation: whether running statistics were given."""
    made: list[bool] = []

    def listen(*arguments: Any) -> Any:
        made.append(bool(arguments[4]))
        return nas.engines.layer_operation.run_layers(*arguments)

    monkeypatch.setattr(nas.engines.fused_layers, "run_layers", listen)
    return made


@pytest.mark.parametrize("momentum", [0.1, None])
@each_network
def test_steps_give_the_same_logits_gradients_and_statistics(
    name: str, momentum: float | None, calls: list[bool]
) -> None:
    candidate = make_candidate(name)
    pair = [network.train() for network in build_pair(candidate)]
    for module in (module for network in pair for module in network.modules()):
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = momentum
    optimizers = [torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9) for network in pair]
    before = {key: value.clone() for key, value in pair[0].state_dict().items()}
    for step in range(3):
        images, labels = draw_batch(candidate, step=step)
        logits = [network(images) for network in pair]
        assert_near(logits[1], logits[0], "logits")
        for one, optimizer in zip(logits, optimizers, strict=True):
            optimizer.zero_grad()
            F.cross_entropy(one, labels).backward()  # type: ignore[no-untyped-call]
        gradients = [{key: value.grad for key, value in network.named_parameters()} for network in pair]
        for key, expected in gradients[0].items():
            actual = gradients[1][key]
            # Without a gradient at all in neither, or zeros: a layer that nobody reads.
            assert expected is not None or actual is None or not actual.any(), key
            if expected is not None:
                assert actual is not None, key
                assert_near(actual, expected, key)
        for optimizer in optimizers:
            optimizer.step()
    assert calls == [False] * 3 * len(candidate.wiring.blocks)
    states = [network.state_dict() for network in pair]
    for key, value in states[0].items():
        assert_near(states[1][key].double(), value.double(), key)
        if key.endswith("num_batches_tracked"):
            assert int(states[1][key]) == 3
        elif "layers" in key:
            assert not torch.equal(states[1][key], before[key]), key


@each_network
def test_evaluation_gives_the_same_logits(name: str, calls: list[bool]) -> None:
    candidate = make_candidate(name)
    plain, fused = build_pair(candidate)
    images, _ = draw_batch(candidate, 7)
    for network in (plain, fused):
        network.train()(images)  # running statistics that are not those of the start
    del calls[:]
    state = {key: value.clone() for key, value in fused.state_dict().items()}
    with torch.no_grad():
        expected, logits = plain.eval()(images), fused.eval()(images)
    assert_near(logits, expected, "logits")
    assert calls == [True] * len(candidate.wiring.blocks)
    assert all(torch.equal(value, state[key]) for key, value in fused.state_dict().items())
    # A gradient by running statistics is torch's own affair.
    images.requires_grad_()
    gradients = [torch.autograd.grad(network(images).square().sum(), images)[0] for network in (plain, fused)]
    assert_near(gradients[1], gradients[0], "images")
    assert len(calls) == len(candidate.wiring.blocks)


@each_network
def test_statistics_taken_anew_are_the_same(name: str, calls: list[bool]) -> None:
    candidate = make_candidate(name)
    pair = build_pair(candidate)
    images, _ = draw_batch(candidate, 300)
    for network in pair:
        refresh_statistics(network, images)
    assert calls == [False] * 2 * len(candidate.wiring.blocks)  # two batches of at most 256
    states = [network.state_dict() for network in pair]
    for key, value in states[0].items():
        assert_near(states[1][key].double(), value.double(), key)
    assert int(states[1]["blocks.0.layers.0.1.num_batches_tracked"]) == 2


def test_depthwise_layers_are_not_fused(calls: list[bool]) -> None:
    candidate = make_candidate(layers=5, blocks=2, layer="depthwise")
    plain, fused = build_pair(candidate)
    images, _ = draw_batch(candidate)
    assert torch.equal(fused.train()(images), plain.train()(images))
    with torch.no_grad():
        assert torch.equal(fused.eval()(images), plain.eval()(images))
    assert calls == []


@each_network
def test_parameters_and_their_names_stay_the_modules_own(name: str) -> None:
    network = build_skip_network(make_candidate(name))
    tensors = {**dict(network.named_parameters()), **dict(network.named_buffers())}
    keys = list(network.state_dict())
    network.fuse_layers()
    assert list(network.state_dict()) == keys
    assert all(tensor is tensors[key] for key, tensor in network.named_parameters())
    assert all(tensor is tensors[key] for key, tensor in network.named_buffers())


def test_loaded_weights_are_those_that_run() -> None:
    candidate = make_candidate()
    plain, fused = build_pair(candidate)
    other = build_skip_network(replace(candidate, seed=7)).double()
    images, _ = draw_batch(candidate)
    for network in (plain, fused):
        network.load_state_dict(other.state_dict())
    assert_near(fused.train()(images), plain.train()(images), "logits")
    with torch.no_grad():
        assert_near(fused.eval()(images), plain.eval()(images), "logits")


def test_a_copy_has_statistics_of_its_own() -> None:
    candidate = make_candidate()
    _, fused = build_pair(candidate)
    second = copy.deepcopy(fused)
    before = {key: value.clone() for key, value in fused.state_dict().items()}
    second.train()(draw_batch(candidate)[0])
    assert all(torch.equal(value, before[key]) for key, value in fused.state_dict().items())
    changed = [key for key, value in second.state_dict().items() if not torch.equal(value, before[key])]
    assert len(changed) == 3 * sum(isinstance(module, nn.BatchNorm2d) for module in fused.modules())


def test_one_value_a_channel_is_refused_as_torch_does() -> None:
    candidate = make_candidate(layers=2, image=(3, 1, 1))
    for network in build_pair(candidate):
        with pytest.raises(ValueError, match=r"xpected more than 1 value per channel when training"):
            network.train()(draw_batch(candidate, 1)[0])


# --- memory ------------------------------------------------------------------------------------------------------


def test_what_a_step_keeps_is_linear_in_the_layers() -> None:
    depths = [12, 24, 48, 96]
    kept: dict[bool, list[int]] = {False: [], True: []}
    for depth in depths:
        # The classifier reads one layer: what it keeps is the same for every depth.
        candidate = make_candidate(layers=depth, transition="last", image=(1, 8, 8))
        images, labels = draw_batch(candidate, 16)
        for is_fused, network in enumerate(build_pair(candidate, torch.float32)):
            kept[bool(is_fused)].append(measure_kept_bytes(network.train(), images.float(), labels))
    steps = {is_fused: np.diff(one) for is_fused, one in kept.items()}
    assert steps[True][1:] / steps[True][:-1] == pytest.approx(2, rel=0.03)
    assert (steps[False][1:] / steps[False][:-1] > 2.2).all()
    # A map a node, and what transitions and the classifier keep beside.
    one_map = 16 * 4 * 64 * 4
    assert 96 * one_map < kept[True][-1] < 1.3 * 96 * one_map
    assert kept[False][-1] > 8 * kept[True][-1]


# --- training ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def digits() -> Split:
    return split_data(load_data("digits", None), 0, 300, "cpu")


@pytest.mark.parametrize(("seed", "growth"), [(0, 8), (1, 8), (2, 8), (3, 3), (4, 12)])
def test_the_first_losses_are_those_of_eager_layers(digits: Split, seed: int, growth: int) -> None:
    network = NetworkConfig(layers=24, growth=growth)
    candidate = Candidate(sample_uniform(log_budget(24), derive_generator("first losses", seed)), network, seed)
    losses: list[list[float]] = []
    for is_fused in (False, True):
        built = build_skip_network(candidate).train()
        if is_fused:
            built.fuse_layers()
        optimizer = torch.optim.SGD(built.parameters(), lr=0.05, momentum=0.9, nesterov=True)
        losses.append([])
        for step in range(3):
            batch = slice(64 * step, 64 * (step + 1))
            loss = F.cross_entropy(built(digits.train_images[batch]), digits.train_labels[batch])
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            losses[-1].append(float(loss.detach()))
    assert losses[0] == pytest.approx(losses[1], abs=1e-5)
    assert losses[0][2] != pytest.approx(losses[0][0], abs=1e-3)


TRAINING = TrainingConfig(epochs=3, batch_size=16)


def stop_at(step: int) -> Iterator[None]:
    """Interrupt before that step, counted from 0."""
    yield from (None for _ in range(step))
    raise Interrupted(15)


def measured(outcome: Outcome) -> Outcome:
    """All but what differs from one attempt to the next."""
    return replace(outcome, seconds=0.0, resumed_epoch=0)


def test_interrupted_and_resumed_a_training_ends_with_the_same_numbers(digits: Split, tmp_path: Path) -> None:
    candidate = make_candidate(layers=8, image=(1, 8, 8))
    whole = train_candidate(candidate, digits, TRAINING, is_fused=True)
    assert whole.error is None
    n_steps = len(digits.train_labels) // TRAINING.batch_size
    for epoch in (1, 2):
        slot = Slot(tmp_path / f"{epoch}.pt", "identity", 0)
        steps = stop_at(epoch * n_steps + 3)
        with pytest.raises(Interrupted):
            train_candidate(candidate, digits, TRAINING, lambda steps=steps: next(steps), slot, is_fused=True)  # type: ignore[misc]
        resumed = train_candidate(candidate, digits, TRAINING, slot=slot, is_fused=True)
        assert resumed.resumed_epoch == epoch
        assert resumed.checkpoint_error is None
        assert measured(resumed) == measured(whole)


def test_a_training_ends_near_the_eager_one_and_again_with_the_same_numbers(digits: Split, calls: list[bool]) -> None:
    candidate = make_candidate(layers=6, image=(1, 8, 8))
    training = TrainingConfig(epochs=1, batch_size=64, lr=0.02)
    eager = train_candidate(candidate, digits, training)
    assert calls == []
    fused, again = (train_candidate(candidate, digits, training, is_fused=True) for _ in range(2))
    assert True in calls
    assert False in calls
    assert replace(fused, seconds=0.0) == replace(again, seconds=0.0)
    assert fused.metrics.get("validation_loss") == pytest.approx(eager.metrics.get("validation_loss"), abs=1e-4)
    assert [row["train_loss"] for row in fused.curve] == pytest.approx([row["train_loss"] for row in eager.curve], 1e-5)
    assert np.concatenate(fused.strengths) == pytest.approx(np.concatenate(eager.strengths), rel=1e-3)


def test_recomputed_activations_change_nothing_of_fused_layers(digits: Split) -> None:
    candidate = make_candidate(layers=4, blocks=2, image=(1, 8, 8))
    training = TrainingConfig(epochs=1)
    outcomes = [
        train_candidate(candidate, digits, training, is_fused=True, memory_efficient=efficient)
        for efficient in (False, True)
    ]
    assert measured(outcomes[0]) == measured(outcomes[1])


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_loss_that_is_not_finite_is_an_error(digits: Split, value: float) -> None:
    images = digits.train_images.clone()
    images[7, 0, 3, 3] = value  # one pixel of one image
    outcome = train_candidate(
        make_candidate(image=(1, 8, 8)), replace(digits, train_images=images), TRAINING, is_fused=True
    )
    assert outcome.metrics.get("validation_accuracy") is None
    assert outcome.error is not None
    assert outcome.error.startswith("training loss not finite at step ")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_validation_loss_that_is_not_finite_is_an_error(digits: Split, value: float) -> None:
    images = digits.validation_images.clone()
    images[7, 0, 3, 3] = value
    split = replace(digits, validation_images=images)
    candidate = make_candidate(layers=3, image=(1, 8, 8))
    outcome = train_candidate(candidate, split, TrainingConfig(epochs=1), is_fused=True)
    assert outcome.error == "validation loss is nan after the last step"


def _permuted_batches(batches: Any) -> Any:
    """The same batches, the images of each in another order: other sums, else the same training."""

    def permute(*arguments: Any) -> Iterator[tuple[Tensor, Tensor]]:
        generator = torch.Generator().manual_seed(9)
        for images, labels in batches(*arguments):
            order = torch.randperm(len(labels), generator=generator)
            yield images[order], labels[order]

    return permute


def _nudged_network(build: Any) -> Any:
    """The same network, every initial weight off by a float32's last place or so."""

    def nudge(candidate: Candidate) -> SkipNetwork:
        network: SkipNetwork = build(candidate)
        generator = torch.Generator().manual_seed(9)
        for parameter in network.parameters():
            parameter.data *= 1 + 1e-7 * torch.randn(parameter.shape, generator=generator)
        return network

    return nudge


@pytest.mark.slow
def test_accuracies_differ_no_more_than_by_the_order_of_sums(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rounding grows to other weights within a training, whatever rounds: so much and no more is ours."""
    n_candidates = 20
    data = load_data("digits", None)
    training = TrainingConfig(epochs=9, batch_size=16, lr=0.15)
    accuracies: dict[str, list[float]] = {}

    def train(name: str, candidate: Candidate, is_fused: bool = False) -> None:
        split = split_data(data, candidate.seed, 300, "cpu")
        accuracy = train_candidate(candidate, split, training, is_fused=is_fused).metrics.get("validation_accuracy")
        assert accuracy is not None
        accuracies.setdefault(name, []).append(accuracy)

    for number in range(n_candidates):
        pattern = sample_uniform(log_budget(24), derive_generator("yardstick", number))
        candidate = Candidate(pattern, NetworkConfig(layers=24), seed=number % 5)
        train("eager", candidate)
        train("fused", candidate, is_fused=True)
        with monkeypatch.context() as patch:
            patch.setattr(nas.training.train, "_batches", _permuted_batches(nas.training.train._batches))
            train("permuted", candidate)
        with monkeypatch.context() as patch:
            patch.setattr(nas.model.cohort, "build_skip_network", _nudged_network(build_skip_network))
            train("nudged", candidate)
    arrays = {name: np.array(one) for name, one in accuracies.items()}
    gaps = {name: arrays[name] - arrays["eager"] for name in ("fused", "permuted", "nudged")}
    sizes = {name: math.sqrt((gap**2).mean()) for name, gap in gaps.items()}
    yardstick = math.sqrt((sizes["permuted"] ** 2 + sizes["nudged"] ** 2) / 2)
    told = {name: f"mean {gap.mean():+.4f}, root mean square {sizes[name]:.4f}" for name, gap in gaps.items()}
    print(f"{n_candidates} accuracies against the eager ones (mean {arrays['eager'].mean():.4f}): {told}")  # noqa: T201
    assert yardstick > 0, "the yardstick measures nothing"
    # 20 differences against 40: a ratio beyond 1.5 comes by chance once in fifty, and a validation image is 0.002.
    assert sizes["fused"] <= 1.5 * yardstick + 0.002
    assert abs(gaps["fused"].mean()) <= 3 * yardstick / math.sqrt(n_candidates)
