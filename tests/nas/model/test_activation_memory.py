"""Memory-efficient training: the same numbers as the naive one, and what each keeps for its backward pass."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nas.bench.memory import measure_kept_bytes
from nas.data.readers import load_data
from nas.data.splits import split_data
from nas.model.candidate import Candidate
from nas.model.config import NetworkConfig, TrainingConfig
from nas.model.cost import predict_activation_bytes
from nas.model.network import SkipNetwork, build_skip_network
from search_spaces.templates import find_template
from tests.support.evaluating import refresh_statistics
from tests.support.training import train_candidate

pytestmark = pytest.mark.usefixtures("one_thread")


AROUND: dict[str, dict[str, Any]] = {
    "plain": {"layers": 6},
    "blocks": {"layers": 5, "blocks": 2, "bottleneck": True, "transition": "all", "compression": 0.5},
    "v1": {"layers": 4, "blocks": 3, "bottleneck": True, "transition": "v1", "stem_channels": 8},
    "v2": {"layers": 4, "blocks": 3, "transition": "v2", "stem_channels": 8},
    "large stem": {"layers": 4, "blocks": 2, "large_stem": True, "image": (3, 37, 40)},
    "sum": {"layers": 6, "blocks": 2, "merge": "sum", "transition": "all"},
    "sum v1": {"layers": 4, "blocks": 2, "merge": "sum", "transition": "v1", "layer": "bottleneck"},
    "gated": {"layers": 5, "blocks": 2, "merge": "gated", "layer": "depthwise"},
    "dwa": {"layers": 6, "merge": "dwa"},
    "depthwise": {"layers": 5, "layer": "depthwise"},
}


def make_candidate(name: str, template: str = "log", **more: Any) -> Candidate:
    network = NetworkConfig(**{"growth": 4, "image": (3, 12, 9), **AROUND[name], **more})
    return Candidate(find_template(template).build(network.pattern_depth), network, seed=1, template=template)


def draw_batch(candidate: Candidate, n_images: int, step: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(step)
    images = torch.randn(n_images, *candidate.network.image, generator=generator)
    return images, torch.randint(0, 10, (n_images,), generator=generator)


def train_steps(network: SkipNetwork, candidate: Candidate) -> list[float]:
    """Losses of five steps of SGD in float64."""
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9)
    losses = []
    for step in range(5):
        images, labels = draw_batch(candidate, 6, step)
        loss = F.cross_entropy(network(images.double()), labels)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        losses.append(float(loss.detach()))
    return losses


@pytest.mark.parametrize(
    ("name", "momentum"),
    [
        *((name, 0.1) for name in AROUND),
        *(pytest.param(name, None, marks=() if name == "plain" else pytest.mark.slow) for name in AROUND),
    ],
)
def test_losses_weights_and_statistics_are_the_same(name: str, momentum: float | None) -> None:
    candidate = make_candidate(name)
    naive, efficient = (build_skip_network(candidate).double().train() for _ in range(2))
    efficient.recompute_activations()
    for network in (naive, efficient):
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.momentum = momentum
    losses, others = train_steps(naive, candidate), train_steps(efficient, candidate)
    assert max(abs(a - b) for a, b in zip(losses, others, strict=True)) < 1e-9
    assert losses[-1] != losses[0]
    # Running statistics among them: updated by the forward pass alone, not again by its repetition.
    for key, value in naive.state_dict().items():
        torch.testing.assert_close(efficient.state_dict()[key], value, rtol=0, atol=1e-9)
    counters = [value for key, value in efficient.state_dict().items() if key.endswith("num_batches_tracked")]
    assert [int(value) for value in counters] == [5] * len(counters)


def test_a_backward_pass_that_fails_leaves_the_statistics_alone() -> None:
    candidate = make_candidate("plain")
    network = build_skip_network(candidate).train()
    network.recompute_activations()
    images, labels = draw_batch(candidate, 4)
    loss = F.cross_entropy(network(images), labels)
    buffers = dict(network.named_buffers())
    before = {name: buffer.clone() for name, buffer in buffers.items()}
    # The repetition meets a weight of another shape, as none has in use.
    network.head.norm.weight = nn.Parameter(torch.ones(1))
    with pytest.raises(RuntimeError):
        loss.backward()  # type: ignore[no-untyped-call]
    assert all(buffer is buffers[name] for name, buffer in network.named_buffers())
    assert all(torch.equal(buffer, before[name]) for name, buffer in buffers.items())


def test_a_training_gives_the_same_outcome() -> None:
    candidate = Candidate(find_template("log").build(6), NetworkConfig(layers=6), seed=2)
    split = split_data(load_data("digits", None), 2, 64, "cpu")
    naive = train_candidate(candidate, split, TrainingConfig(epochs=2))
    efficient = train_candidate(candidate, split, TrainingConfig(epochs=2), memory_efficient=True)
    assert replace(efficient, seconds=0.0) == replace(naive, seconds=0.0)


def test_evaluation_and_fresh_statistics_recompute_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    candidate = make_candidate("blocks")
    network = build_skip_network(candidate)
    network.recompute_activations()

    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("checkpoint was called")

    monkeypatch.setattr("nas.model.network.checkpoint", refuse)
    images, _ = draw_batch(candidate, 4)
    refresh_statistics(network, images)
    network.eval()(images)
    with pytest.raises(AssertionError, match="checkpoint was called"):
        network.train()(images)


@pytest.mark.parametrize("efficient", [False, True])
@pytest.mark.parametrize(
    "template", ["dense", "log", *(pytest.param(name, marks=pytest.mark.slow) for name in ("midpoint", "chain"))]
)
@pytest.mark.parametrize("name", AROUND)
def test_what_is_kept_is_what_is_predicted(name: str, template: str, efficient: bool) -> None:
    candidate = make_candidate(name, template, image=(3, 20, 20) if name != "large stem" else (3, 40, 40))
    network = build_skip_network(candidate).train()
    network.recompute_activations(efficient)
    images, labels = draw_batch(candidate, 24)
    kept = measure_kept_bytes(network, images, labels)
    predicted = 24 * predict_activation_bytes(candidate, efficient)
    # Normalisations also keep mean and deviation of every channel, whatever the batch.
    assert predicted <= kept < 1.01 * predicted


def test_orders_of_growth() -> None:
    """In the number of layers: dense quadratic, log L log L, and linear for all where activations are made anew."""
    depths = [32, 64, 128]
    for template, efficient, low, high in (
        ("dense", False, 1.9, 2.0),
        ("log", False, 1.1, 1.3),
        ("midpoint", False, 1.1, 1.3),
        ("dense", True, 0.9, 1.0),
        ("log", True, 0.9, 1.0),
        ("midpoint", True, 0.9, 1.0),
    ):
        kept = [
            predict_activation_bytes(
                Candidate(find_template(template).build(depth), NetworkConfig(layers=depth, growth=8), 0), efficient
            )
            for depth in depths
        ]
        slope = np.polyfit(np.log(depths), np.log(kept), 1)[0]
        assert low < slope < high, (template, efficient, slope)
