"""A block with packed parameters: the numbers of the same block without, bit for bit."""

import copy
from dataclasses import replace
from typing import Any, cast

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nas.engines.fused_layers import FusedLayers
from nas.engines.layer_operation import LayerOutputs, run_packed_layers
from nas.model.candidate import Candidate
from nas.model.config import NetworkConfig
from nas.model.network import Block, SkipNetwork, build_skip_network
from search_spaces.templates import find_template
from tests.nas.engines.test_layer_operation import Case, draw_odd, run_compiled
from tests.support.compiled import ensure_compiled

pytestmark = pytest.mark.usefixtures("one_thread")

PARAMETERS = ("scales", "shifts", "weights")


@pytest.fixture(scope="module", autouse=True)
def compiled() -> None:
    """All that is here is of the C++ form."""
    ensure_compiled()


def pack_case(case: Case) -> tuple[Tensor, list[Tensor]]:
    """Return a case's parameters as one tensor, and views of it in their shapes."""
    tensors = [tensor for name in PARAMETERS for tensor in getattr(case, name)]
    packed = torch.cat([tensor.flatten() for tensor in tensors])
    parts = torch.split(packed, [tensor.numel() for tensor in tensors])
    return packed.requires_grad_(), [part.detach().view_as(like) for part, like in zip(parts, tensors, strict=True)]


def run_packed(case: Case, packed: Tensor, parts: list[Tensor]) -> LayerOutputs:
    inputs, sources, outputs, *_ = case.values
    return run_packed_layers(inputs, sources, outputs, packed, parts)


def differentiate(given: LayerOutputs, leaves: list[Tensor], n_without: int) -> list[Tensor]:
    """Return gradients of the leaves, from all outputs but the first few."""
    generator = torch.Generator().manual_seed(2)
    directions = [torch.randn(node.shape, generator=generator).to(node.dtype) for node in given.nodes]
    return [*torch.autograd.grad(given.nodes[n_without:], leaves, directions[n_without:])]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(
    ("name", "n_without"),
    [("dense", 0), ("dense", 2), ("a cohort", 0), ("inputs of several widths", 1), ("nodes that lead nowhere", 0)],
)
def test_a_packed_block_gives_the_same_bits(name: str, n_without: int, dtype: torch.dtype) -> None:
    plain = draw_odd(name, n_images=19).with_batch_statistics.map(lambda tensor: tensor.to(dtype).requires_grad_())
    case = replace(plain, inputs=[x.detach().clone().requires_grad_() for x in plain.inputs])
    packed, parts = pack_case(case)
    given, expected = run_packed(case, packed, parts), run_compiled(plain)
    assert all(map(torch.equal, [*given.nodes, given.mean, given.variance], [*expected.nodes, *expected[1:]]))
    assert not given.mean.requires_grad
    leaves = [*plain.inputs, *(tensor for kind in PARAMETERS for tensor in getattr(plain, kind))]
    wanted_gradients = differentiate(expected, leaves, n_without)
    *by_input, by_packed = differentiate(given, [*case.inputs, packed], n_without)
    n_inputs = len(case.inputs)
    assert all(map(torch.equal, by_input, wanted_gradients[:n_inputs]))
    assert torch.equal(by_packed, torch.cat([gradient.flatten() for gradient in wanted_gradients[n_inputs:]]))


def test_parts_of_another_tensor_are_refused() -> None:
    case = draw_odd("dense").with_batch_statistics
    packed, parts = pack_case(case)
    inputs, sources, outputs, *_ = case.values
    others: list[tuple[Tensor, list[Tensor]]] = [
        (packed, [part.clone() for part in parts]),
        (packed, parts[::-1]),
        (torch.cat([packed, packed]), parts),
        (packed[:-1], parts),
    ]
    for tensor, views in others:
        with pytest.raises(RuntimeError, match="packed"):
            run_packed_layers(inputs, sources, outputs, tensor, views)


# --- the layers of a network ---------------------------------------------------------------------------------------


def build_pair(**more: Any) -> tuple[SkipNetwork, SkipNetwork]:
    """A network with fused blocks, twice; the blocks of the second are packed."""
    network = NetworkConfig(**{"layers": 5, "growth": 3, "image": (1, 8, 8), **more})
    plain = build_skip_network(Candidate(find_template("log").build(5), network, seed=1, template="log"))
    packed = copy.deepcopy(plain)
    for built in (plain, packed):
        built.fuse_layers()
    assert len(packed.pack()) == len(packed.blocks)
    return plain, packed


@pytest.mark.parametrize("momentum", [0.1, None])
def test_steps_of_a_packed_network_leave_the_same_bits(momentum: float | None) -> None:
    pair = [network.train() for network in build_pair(blocks=2)]
    optimizers = []
    for network in pair:
        for norm in (module for module in network.modules() if isinstance(module, nn.BatchNorm2d)):
            norm.momentum = momentum
        optimizers.append(torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9, nesterov=True))
    generator = torch.Generator().manual_seed(0)
    for _ in range(3):
        images, labels = torch.randn(10, 1, 8, 8, generator=generator), torch.arange(10)
        for network, optimizer in zip(pair, optimizers, strict=True):
            optimizer.zero_grad(set_to_none=False)
            F.cross_entropy(network(images), labels).backward()  # type: ignore[no-untyped-call]
            optimizer.step()
    expected, state = (network.state_dict() for network in pair)
    assert list(state) == list(expected)
    assert all(torch.equal(state[name], expected[name]) for name in expected)
    with torch.no_grad():
        assert torch.equal(*(network.eval()(images) for network in pair))


def test_packing_changes_no_number_and_loaded_ones_are_those_that_run() -> None:
    plain, packed = build_pair()
    fused = cast(FusedLayers, cast(Block, packed.blocks[0])._fused)
    assert fused._packed is not None
    places = {tensor.untyped_storage().data_ptr() for tensor in cast(Block, packed.blocks[0]).parameters()}
    assert places == {fused._packed.parameters.untyped_storage().data_ptr()}
    other, _ = build_pair(growth=3)
    with torch.no_grad():
        for tensor in other.parameters():
            tensor.add_(0.1)
    images = torch.randn(4, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    assert torch.equal(packed.train()(images), plain.train()(images))
    for network in (plain, packed):
        network.load_state_dict(other.state_dict())
    assert torch.equal(packed.train()(images), other.train()(images))
    with torch.no_grad():
        assert torch.equal(packed.eval()(images), other.eval()(images))
