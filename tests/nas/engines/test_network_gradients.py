"""A network of one block without autograd: the loss, gradients and statistics that autograd gives, bit for bit."""

import copy
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from nas.model.candidate import Candidate
from nas.model.config import NetworkConfig
from nas.model.network import SkipNetwork, build_skip_network
from search_spaces.templates import find_template
from tests.support.compiled import ensure_compiled

pytestmark = pytest.mark.usefixtures("one_thread")

NETWORKS: dict[str, dict[str, Any]] = {
    "default": {"layers": 24, "growth": 4, "image": (1, 8, 8)},
    "three colours, all nodes read": {"layers": 5, "transition": "all", "image": (3, 9, 7)},
    "only the last node read": {"layers": 5, "transition": "last", "image": (3, 9, 7)},
    "wide stem": {"layers": 6, "stem_channels": 7},
    "one layer": {"layers": 1, "growth": 5},
    "bottlenecks": {"layers": 5, "layer": "bottleneck"},
    "few classes": {"layers": 3, "classes": 2},
}


@pytest.fixture(scope="module", autouse=True)
def compiled() -> None:
    """All that is here is of the C++ form."""
    ensure_compiled()


def build(more: dict[str, Any], dtype: torch.dtype = torch.float32) -> SkipNetwork:
    network = NetworkConfig(**{"growth": 3, "image": (1, 6, 5), **more})
    built = build_skip_network(Candidate(find_template("log").build(network.pattern_depth), network, 1, "log"))
    return built.to(dtype).train()


def take_by_autograd(network: SkipNetwork, images: Tensor, labels: Tensor) -> Tensor:
    """Set the gradients as a training step of other networks does."""
    for parameter in network.parameters():
        if parameter.grad is not None:
            parameter.grad.zero_()
    losses = F.cross_entropy(network(images), labels, reduction="none").reshape(1, -1).mean(dim=1)
    losses.sum().backward()  # type: ignore[no-untyped-call]
    return losses.detach()


def list_numbers(network: SkipNetwork) -> dict[str, Tensor]:
    """Return all gradients, parameters and statistics, to be compared."""
    gradients = {f"gradient of {name}": parameter.grad for name, parameter in network.named_parameters()}
    missing = [name for name, gradient in gradients.items() if gradient is None]
    assert not missing
    return {**network.state_dict(), **{name: gradient for name, gradient in gradients.items() if gradient is not None}}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("n_images", [3, 16, 33])
@pytest.mark.parametrize("name", NETWORKS)
def test_steps_without_autograd_give_its_bits(name: str, n_images: int, dtype: torch.dtype) -> None:
    plain = build(NETWORKS[name], dtype)
    network = copy.deepcopy(plain)
    for each in (plain, network):
        each.fuse_layers()
    network.pack()
    optimizers = [torch.optim.SGD(each.parameters(), lr=0.1, momentum=0.9) for each in (plain, network)]
    generator = torch.Generator().manual_seed(n_images)
    for _ in range(3):
        images = torch.randn(
            n_images, *NetworkConfig(**{"image": (1, 6, 5), **NETWORKS[name]}).image, generator=generator
        )
        images, labels = images.to(dtype), torch.randint(0, 2, (n_images,), generator=generator)
        expected, loss = take_by_autograd(plain, images, labels), network.take_gradients(images, labels)
        assert loss is not None
        assert torch.equal(loss, expected)
        numbers = list_numbers(network)
        for key, value in list_numbers(plain).items():
            assert torch.equal(numbers[key], value), key
        for optimizer in optimizers:
            optimizer.step()


def test_gradients_follow_an_eager_network_in_float64() -> None:
    """A computation that shares no kernel with it: torch's own layers."""
    plain = build({"layers": 6}, torch.float64)
    network = copy.deepcopy(plain)
    network.fuse_layers()
    network.pack()
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(7, 1, 6, 5, generator=generator, dtype=torch.float64)
    labels = torch.randint(0, 10, (7,), generator=generator)
    loss = network.take_gradients(images, labels)
    assert loss is not None
    assert float(loss) == pytest.approx(float(take_by_autograd(plain, images, labels)), rel=1e-12)
    numbers = list_numbers(network)
    for key, value in list_numbers(plain).items():
        torch.testing.assert_close(numbers[key], value, rtol=1e-9, atol=1e-12, msg=key)


def test_a_value_that_is_not_finite_reaches_the_loss() -> None:
    network = build({"layers": 4})
    network.fuse_layers()
    network.pack()
    images = torch.zeros(4, 1, 6, 5)
    images[1, 0, 2, 2] = float("nan")
    loss = network.take_gradients(images, torch.arange(4))
    assert loss is not None
    assert loss.isnan().all()


def test_one_value_a_channel_is_refused_as_torch_does() -> None:
    network = build({"layers": 2, "image": (1, 1, 1)})
    network.fuse_layers()
    network.pack()
    with pytest.raises(ValueError, match="xpected more than 1 value per channel when training"):
        network.take_gradients(torch.randn(1, 1, 1, 1), torch.zeros(1, dtype=torch.int64))


@pytest.mark.parametrize(
    "more",
    [
        {"layers": 4, "blocks": 2},
        {"layers": 4, "large_stem": True, "image": (3, 21, 20)},
        {"layers": 4, "merge": "sum"},
    ],
)
def test_other_networks_are_left_to_autograd(more: dict[str, Any]) -> None:
    network = build(more)
    network.fuse_layers()
    network.pack()
    assert (
        network.take_gradients(torch.randn(2, *NetworkConfig(**{"image": (1, 6, 5), **more}).image), torch.zeros(2))
        is None
    )
    assert all(parameter.grad is None or not parameter.grad.any() for parameter in network.parameters())
