"""The layer operation with products in bfloat16: C++ against plain torch against batch_norm and conv2d, and its use."""

import statistics
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from nas.engines.layer_operation import LayerOutputs, run_layers, run_layers_in_torch, run_packed_layers
from nas.engines.native import has_bfloat16
from nas.model.candidate import Candidate
from nas.model.config import NetworkConfig
from nas.model.network import build_skip_network
from search_spaces.templates import find_template
from tests.nas.engines.test_layer_operation import (
    BAD,
    NAMES,
    ODD,
    Case,
    assert_near,
    differentiate,
    draw_block,
    draw_case,
    draw_odd,
    poison,
    run_reference,
)
from tests.nas.engines.test_packed_layers import pack_case

pytestmark = pytest.mark.usefixtures("one_thread")

each_odd = pytest.mark.parametrize("name", ODD)


def ensure_bfloat16() -> None:
    if not has_bfloat16():
        pytest.skip("the compiled layers have no bfloat16 on this machine")


def run_rough(case: Case) -> LayerOutputs:
    """C++ with products in bfloat16."""
    ensure_bfloat16()
    return run_layers(*case.values, in_bfloat16=True)


def run_rough_reference(case: Case) -> LayerOutputs:
    return run_layers_in_torch(*case.values, in_bfloat16=True)


def round_operand(x: Tensor) -> Tensor:
    """x as bfloat16 has it; its gradient passes unchanged."""
    return x + (x.bfloat16().to(x.dtype) - x).detach()


def run_rough_by_hand(case: Case) -> LayerOutputs:
    """The same from torch's own pieces for one member; hooks round the gradients that products are made of."""
    nodes = [x[0] for x in case.inputs]
    for layer, own in enumerate(torch.split(case.sources[0], case.degrees)):
        x = torch.cat([nodes[int(node)] for node in own], dim=1)
        scale, shift, weight = (one[layer][0] for one in (case.scales, case.shifts, case.weights))
        x = F.relu(F.batch_norm(x, None, None, scale, shift, training=True, eps=1e-5))
        written = F.conv2d(round_operand(x), round_operand(weight), padding=1)
        if written.requires_grad:
            written.register_hook(lambda gradient: gradient.bfloat16().to(gradient.dtype))  # type: ignore[no-untyped-call]
        nodes.append(written)
    every = torch.cat([node.detach() for node in nodes], dim=1)
    mean, variance = every.mean(dim=(0, 2, 3))[None], every.var(dim=(0, 2, 3), correction=0)[None]
    return LayerOutputs([nodes[node][None] for node in case.outputs], mean, variance)


def measure_error(actual: Sequence[Tensor], expected: Sequence[Tensor]) -> float:
    """The largest of all tensors' root mean square errors, each in shares of the root mean square of its values."""
    return max(
        float((one.double() - other.double()).norm() / other.double().norm().clamp(min=1e-30))
        for one, other in ((one.detach(), other.detach()) for one, other in zip(actual, expected, strict=True))
    )


@each_odd
def test_the_reference_rounds_the_operands_of_every_product(name: str) -> None:
    case = draw_odd(name, n_images=5).with_batch_statistics
    if len(case.sources) > 1:
        case = replace(case.map(lambda one: one[:1]), sources=case.sources[:1])
    given, gradients = differentiate(run_rough_reference, case)
    expected, expected_gradients = differentiate(run_rough_by_hand, case)
    assert_near([*given.nodes, given.mean, given.variance], [*expected.nodes, expected.mean, expected.variance])
    assert_near(gradients, expected_gradients)
    assert measure_error(given.nodes[-1:], run_reference(case).nodes[-1:]) > 1e-4


@pytest.mark.parametrize(
    ("growth", "wide"), [*((growth, 0) for growth in (*range(1, 10), 12, 16, 17, 24)), (3, 1), (4, 7), (12, 12)]
)
def test_compiled_products_are_those_of_the_reference(growth: int, wide: int) -> None:
    """To float32's rounding, except where that tips an activation over an edge of bfloat16, which few blocks show."""
    errors = []
    for number in range(4 * growth, 4 * growth + 4):
        case = draw_block(number, growth, 2, wide).with_batch_statistics.map(Tensor.float)
        given, gradients = differentiate(run_rough, case)
        expected, expected_gradients = differentiate(run_rough_reference, case)
        written = [place for place, node in enumerate(case.outputs) if node >= len(case.inputs)]
        exact = run_reference(case)
        changed = measure_error([expected.nodes[k] for k in written], [exact.nodes[k] for k in written])
        errors.append(measure_error([*given.nodes, *gradients], [*expected.nodes, *expected_gradients]))
        assert changed > 5e-4  # what bfloat16 changes
        assert measure_error(given.nodes, expected.nodes) < 5e-4
        assert errors[-1] < (2e-2 if wide else 5e-4)  # of a bottleneck's few channels a ReLU at its edge is much
    assert sorted(errors)[1] < 2e-6


@pytest.mark.slow
@pytest.mark.parametrize("growth", [1, 2, 3, 4, 5, 7, 8, 12, 16, 17, 24, 40])
def test_compiled_products_are_those_of_the_reference_in_many_blocks(growth: int) -> None:
    errors = []
    for number in range(1000 * growth, 1000 * growth + 30):
        case = draw_block(number, growth, most_layers=12).with_batch_statistics.map(Tensor.float)
        given, gradients = differentiate(run_rough, case)
        expected, expected_gradients = differentiate(run_rough_reference, case)
        errors.append(measure_error([*given.nodes, *gradients], [*expected.nodes, *expected_gradients]))
    assert max(errors) < 3e-2
    assert statistics.median(errors) < 1e-3


@pytest.mark.parametrize("n_images", [1, 16, 17])
def test_products_of_small_integers_are_exact(n_images: int) -> None:
    """By running statistics under which BN changes nothing: every operand is a bfloat16, every sum a float32."""
    generator = torch.Generator().manual_seed(0)
    case = draw_case([[(0,), (0, 1), (0,)]], [1, 3], (5,), 3, n_images, (7, 9)).map(Tensor.float)
    case = replace(
        case.map(lambda one: torch.randint(-3, 4, one.shape, generator=generator).float()),
        scales=[torch.ones_like(one) for one in case.scales],
        running_variances=[torch.ones_like(one) for one in case.running_variances],
    )
    ensure_bfloat16()
    given = torch.ops.skipsearch.layers(*case.arguments, 0.0, False, True)[0]
    exact = run_layers_in_torch(*case.values, epsilon=0.0).nodes
    assert all(map(torch.equal, given, exact))


def test_activations_and_weights_are_rounded_to_nearest_even() -> None:
    ensure_bfloat16()
    step = 2.0**-7  # between neighbours of 1 in bfloat16
    values = torch.tensor([1 + step / 2, 1 + 1.5 * step, 1 + 0.49 * step, 1 + 0.51 * step, 3.0e38, 1e-30])
    ones, zeros = torch.ones(1, 1), torch.zeros(1, 1)
    for value in values:
        for image, weight in ((float(value), 1.0), (1.0, float(value))):
            kernel = torch.zeros(1, 1, 1, 3, 3)
            kernel[..., 1, 1] = weight
            inputs = [torch.full((1, 1, 1, 1, 1), image)]
            case = Case(inputs, torch.zeros(1, 1).long(), [1], [1], [ones], [zeros], [kernel], [zeros], [ones])
            (node,) = torch.ops.skipsearch.layers(*case.arguments, 0.0, False, True)[0]
            assert float(node) == float(value.bfloat16())


# --- what holds in float32 too -----------------------------------------------------------------------------------


@pytest.mark.parametrize("n_images", [3, 16])
@pytest.mark.parametrize("value", BAD)
@pytest.mark.parametrize(
    ("name", "place"), [("inputs", 0), ("scales", 1), ("shifts", 0), ("weights", 0), ("weights", 2)]
)
def test_a_bad_number_reaches_the_output(name: str, place: int, value: float, n_images: int) -> None:
    case = draw_case([[(0,), (1,), (0, 2)]], [3], n_images=n_images).with_batch_statistics
    given = run_rough(poison(case, name, place, value).map(Tensor.float)).nodes[0]
    if value != BAD[2] or name != "shifts":
        assert not given.isfinite().all()
    if value != value:  # NaN
        assert given.isnan().any()


@pytest.mark.parametrize("value", BAD)
def test_a_bad_gradient_reaches_the_weights(value: float) -> None:
    case = draw_case([[(0,), (0, 1)]], [2]).with_batch_statistics.map(Tensor.float)
    weights = [one.clone().requires_grad_() for one in case.weights]
    (node,) = run_rough(replace(case, weights=weights)).nodes
    direction = torch.ones_like(node)
    direction[0, 1, 0, 2, 2] = value
    gradients = torch.autograd.grad(node, weights, direction)
    assert all(not one.isfinite().all() for one in gradients)


@pytest.mark.parametrize("n_images", [3, 16, 17])
@pytest.mark.parametrize("growth", [3, 9])
def test_members_are_trained_as_each_alone_and_again_with_the_same_bits(growth: int, n_images: int) -> None:
    members, outputs, _ = ODD["a cohort"]
    case = draw_case(members, outputs, (growth,), growth, n_images).with_batch_statistics.map(Tensor.float)
    together, gradients = differentiate(run_rough, case)
    held = torch.full((1 << 18,), float("nan"))  # what the next call's memory may hold
    del held
    again, same = differentiate(run_rough, case)
    assert all(map(torch.equal, [*together.nodes, *gradients], [*again.nodes, *same]))
    generator = torch.Generator().manual_seed(1)
    shapes = [node.shape for node in together.nodes]
    directions = [torch.randn(shape, generator=generator, dtype=torch.float64).float() for shape in shapes]
    for member in range(3):
        own = slice(member, member + 1)
        alone = case.map(lambda one, own=own: one[own].clone().requires_grad_())  # type: ignore[misc]
        given = run_rough(replace(alone, sources=case.sources[own]))
        assert all(torch.equal(part, whole[own]) for part, whole in zip(given.nodes, together.nodes, strict=True))
        leaves = [one for name in NAMES for one in getattr(alone, name)]
        own_directions = [direction[own] for direction in directions]
        own_gradients = torch.autograd.grad(given.nodes, leaves, own_directions, allow_unused=True)
        assert all(torch.equal(part, whole[own]) for part, whole in zip(own_gradients, gradients, strict=True))


@pytest.mark.parametrize("n_images", [3, 16, 17])
@each_odd
def test_nothing_is_read_before_it_is_written(name: str, n_images: int) -> None:
    case = draw_odd(name, n_images=n_images).with_batch_statistics.map(Tensor.float)
    given, gradients = differentiate(run_rough, case)
    torch.use_deterministic_algorithms(True)  # new memory holds NaN
    try:
        other, same = differentiate(run_rough, case)
    finally:
        torch.use_deterministic_algorithms(False)
    assert all(map(torch.equal, [*given.nodes, *gradients], [*other.nodes, *same]))


def test_the_operators_are_what_torch_expects_of_them() -> None:
    ensure_bfloat16()
    case = draw_odd("inputs of several widths", n_images=5).with_batch_statistics.map(Tensor.float)
    nodes, mean, variance, maps, inner = torch.ops.skipsearch.layers(*case.arguments, 1e-5, False, True)
    widths, n_images = [x.shape[2] for x in case.inputs], case.inputs[0].shape[1]
    kept = (case.outputs, widths, n_images, maps, inner, mean, variance, case.sources, case.degrees)
    arguments = ([torch.randn_like(node) for node in nodes], *kept, case.scales, case.shifts, case.weights, 1e-5, True)
    torch.library.opcheck(torch.ops.skipsearch.layers_backward.default, arguments)
    training = case.map(lambda one: one.requires_grad_())
    tests = ("test_schema", "test_autograd_registration", "test_faketensor")
    arguments = (*training.arguments, 1e-5, False, True)
    torch.library.opcheck(torch.ops.skipsearch.layers.default, arguments, test_utils=tests)


def test_a_packed_block_gives_the_same_bits() -> None:
    ensure_bfloat16()
    case = draw_odd("a cohort", n_images=19).with_batch_statistics.map(lambda one: one.float().requires_grad_())
    packed, parts = pack_case(case)
    inputs, sources, outputs, *_ = case.values
    given = run_packed_layers(inputs, sources, outputs, packed, parts, in_bfloat16=True)
    expected = run_rough(case)
    assert all(map(torch.equal, given.nodes, expected.nodes))
    leaves = [one for name in NAMES[1:] for one in getattr(case, name)]
    directions = [torch.ones_like(node) for node in given.nodes]
    (by_packed,) = torch.autograd.grad(given.nodes, [packed], directions)
    wanted = torch.autograd.grad(expected.nodes, leaves, directions)
    assert torch.equal(by_packed, torch.cat([gradient.flatten() for gradient in wanted]))


def test_maps_of_float64_have_no_bfloat16() -> None:
    with pytest.raises(RuntimeError, match="bfloat16 needs maps of float32"):
        run_rough(draw_odd("dense").with_batch_statistics)


# --- use ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("image", [(1, 8, 8), (3, 9, 12)])
def test_gradients_of_a_network_are_nearer_than_autocast_s(image: tuple[int, int, int]) -> None:
    """To those in float64; stem, transitions and classifier are the same in both."""
    ensure_bfloat16()
    network = NetworkConfig(growth=8, image=image, blocks=2)
    candidate = Candidate(find_template("log").build(network.pattern_depth), network, seed=0)
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(32, *image, generator=generator)
    labels = torch.randint(0, 10, (32,), generator=generator)

    def differentiate_network(is_fused: bool, dtype: torch.dtype) -> Tensor:
        built = build_skip_network(candidate).to(dtype).train()
        if is_fused:
            built.fuse_layers()
        with torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.float32):
            logits = built(images.to(dtype)).to(dtype)
        F.cross_entropy(logits, labels).backward()  # type: ignore[no-untyped-call]
        gradients: list[Any] = [parameter.grad for parameter in built.parameters()]
        return torch.cat([one.flatten().double() for one in gradients if one is not None])

    exact = differentiate_network(False, torch.float64)
    fused, autocast = (
        float((differentiate_network(is_fused, torch.float32) - exact).norm() / exact.norm())
        for is_fused in (True, False)
    )
    assert 1e-3 < fused < autocast
