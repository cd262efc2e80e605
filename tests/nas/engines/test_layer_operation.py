"""The layer operation: C++ against plain torch against batch_norm and conv2d, its refusals, and torch's own checks."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import nas.engines.layer_operation
from nas.engines.layer_operation import (
    LayerOutputs,
    Parameters,
    RunningStatistics,
    Sources,
    run_layers,
    run_layers_in_torch,
)
from search_spaces.budget import Budget
from search_spaces.sampling.draw import sample_uniform
from search_spaces.seeds import derive_generator, derive_seed
from search_spaces.templates import find_template
from tests.support.compiled import ensure_compiled

pytestmark = pytest.mark.usefixtures("one_thread")

Reads = Sequence[Sequence[int]]  # the nodes that each layer reads
NAMES = ("inputs", "scales", "shifts", "weights")


@dataclass(frozen=True)
class Case:
    """What the operation takes."""

    inputs: list[Tensor]
    sources: Tensor
    degrees: list[int]
    outputs: list[int]
    scales: list[Tensor]
    shifts: list[Tensor]
    weights: list[Tensor]
    running_means: list[Tensor]
    running_variances: list[Tensor]

    @property
    def with_batch_statistics(self) -> "Case":
        """The same with the batch's own mean and variance."""
        return replace(self, running_means=[], running_variances=[])

    @property
    def arguments(self) -> tuple[Any, ...]:
        """In the C++ operator's order."""
        return tuple(getattr(self, name) for name in self.__dataclass_fields__)

    @property
    def values(self) -> tuple[list[Tensor], Sources, list[int], Parameters, RunningStatistics | None]:
        """In run_layers' order."""
        running = RunningStatistics(self.running_means, self.running_variances) if self.running_means else None
        parameters = Parameters(self.scales, self.shifts, self.weights)
        return self.inputs, Sources(self.sources, self.degrees), self.outputs, parameters, running

    def map(self, change: Callable[[Tensor], Tensor]) -> "Case":
        """The same with every tensor of numbers changed."""
        names = (*NAMES, "running_means", "running_variances")
        return exchange(self, {name: [change(one) for one in getattr(self, name)] for name in names})


def exchange(case: Case, values: dict[str, Any]) -> Case:
    """The case with other values of those names."""
    return replace(case, **values)


def draw_case(
    members: Sequence[Reads],
    outputs: Sequence[int],
    widths: Sequence[int] = (3,),
    growth: int = 3,
    n_images: int = 3,
    size: tuple[int, int] = (5, 4),
    seed: int = 0,
    wide: int = 0,
) -> Case:
    """A block of random numbers in float64.

    Args:
        members: of the cohort, each as the nodes that its layers read.
        wide: channels of each layer's bottleneck; 0: none.
    """
    generator = torch.Generator().manual_seed(derive_seed(seed, "case"))

    def draw(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    n_members = len(members)
    first = members[0]
    of_nodes = [*widths, *[growth] * len(first)]
    n_read = [sum(of_nodes[node] for node in nodes) for nodes in first]
    kernels = [(growth, n, 3, 3) for n in n_read]
    if wide:
        kernels = [(wide, n, 1, 1) for n in n_read] + [(growth, wide, 3, 3)] * len(first)
        n_read += [wide] * len(first)
    return Case(
        inputs=[2 * draw(n_members, n_images, width, *size) + 1 for width in widths],
        sources=torch.tensor([[node for nodes in reads for node in nodes] for reads in members]),
        degrees=[len(nodes) for nodes in first],
        outputs=list(outputs),
        scales=[1 + 0.5 * draw(n_members, n) for n in n_read],
        shifts=[0.5 * draw(n_members, n) for n in n_read],
        weights=[draw(n_members, *kernel) / (0.5 * math.prod(kernel[1:])) ** 0.5 for kernel in kernels],
        running_means=[draw(n_members, n) for n in n_read],
        running_variances=[draw(n_members, n).square() + 0.1 for n in n_read],
    )


def run_by_hand(case: Case) -> LayerOutputs:
    """The same from torch's own pieces: each layer normalises anew what it reads, member after member."""
    members, statistics = [], []
    n_layers = len(case.degrees)
    for member in range(len(case.sources)):
        nodes = [x[member] for x in case.inputs]
        bottlenecks: list[Tensor] = []
        for layer, own in enumerate(torch.split(case.sources[member], case.degrees)):
            x = torch.cat([nodes[int(node)] for node in own], dim=1)
            for number in range(layer, len(case.weights), n_layers):
                scale, shift, weight = (one[number][member] for one in (case.scales, case.shifts, case.weights))
                held: tuple[Tensor | None, Tensor | None] = None, None
                if case.running_means:
                    held = case.running_means[number][member].clone(), case.running_variances[number][member].clone()
                x = F.batch_norm(x, *held, scale, shift, training=not case.running_means, eps=1e-5)
                x = F.conv2d(F.relu(x), weight, padding=len(weight[0, 0]) // 2)
                (nodes if len(weight[0, 0]) == 3 else bottlenecks).append(x)
        members.append([nodes[node] for node in case.outputs])
        every = torch.cat([node.detach() for node in (*nodes, *bottlenecks)], dim=1)
        every = torch.zeros_like(every) if case.running_means else every
        statistics.append((every.mean(dim=(0, 2, 3)), every.var(dim=(0, 2, 3), correction=0)))
    mean, variance = (torch.stack(one) for one in zip(*statistics, strict=True))
    return LayerOutputs([torch.stack(one) for one in zip(*members, strict=True)], mean, variance)


Form = Callable[[Case], LayerOutputs]


def run_compiled(case: Case) -> LayerOutputs:
    ensure_compiled()
    return LayerOutputs(*torch.ops.skipsearch.layers(*case.arguments, 1e-5)[:3])


def run_reference(case: Case) -> LayerOutputs:
    return run_layers_in_torch(*case.values)


each_form = pytest.mark.parametrize("form", [run_compiled, run_reference])


def differentiate(form: Form, case: Case, without: Sequence[int] = ()) -> tuple[LayerOutputs, list[Tensor]]:
    """What a form gives, and the gradients of inputs, scales, shifts and weights.

    Args:
        without: places among the outputs that no gradient comes from.
    """
    leaves = {name: [one.detach().clone().requires_grad_() for one in getattr(case, name)] for name in NAMES}
    given = form(exchange(case, leaves))
    generator = torch.Generator().manual_seed(1)
    loss = torch.zeros((), dtype=case.inputs[0].dtype)
    for place, node in enumerate(given.nodes):
        direction = torch.randn(node.shape, generator=generator, dtype=torch.float64).to(node.dtype)
        if place not in without:
            loss = loss + (node * direction).sum()
    flat = [one for name in NAMES for one in leaves[name]]
    gradients = torch.autograd.grad(loss, flat, allow_unused=True)
    zeros = [torch.zeros_like(one) for one in flat]
    return given, [zero if one is None else one for one, zero in zip(gradients, zeros, strict=True)]


def assert_near(actual: Sequence[Tensor], expected: Sequence[Tensor], share: float = 1e-9) -> None:
    """Equal within a share of the largest number of each tensor."""
    assert len(actual) == len(expected)
    for place, (one, other) in enumerate(zip(actual, expected, strict=True)):
        assert one.shape == other.shape
        error, largest = float((one - other).detach().abs().max()), float(other.detach().abs().max())
        assert error <= share * max(largest, 1e-30), (place, tuple(one.shape), error, largest)


def assert_forms_agree(case: Case, without: Sequence[int] = (), forms: Sequence[Form] = ()) -> None:
    """C++ and plain torch against the computation by hand: nodes, statistics, gradients."""
    expected, expected_gradients = differentiate(run_by_hand, case.with_batch_statistics, without)
    for form in forms or (run_compiled, run_reference):
        given, gradients = differentiate(form, case.with_batch_statistics, without)
        assert_near([*given.nodes, given.mean, given.variance], [*expected.nodes, expected.mean, expected.variance])
        assert not given.mean.requires_grad
        assert not given.variance.requires_grad
        assert_near(gradients, expected_gradients)


SIZES = [(1, 9), (7, 5), (8, 8), (9, 33), (6, 1)]
BATCHES = [1, 2, 15, 16, 17, 33]
TEMPLATES = ["log", "dense", "midpoint", "chain", "loglog", "odd_even"]


def draw_block(number: int, growth: int, most_layers: int = 7, wide: int = 0) -> Case:
    """One of many blocks: sizes and batches in every pair, patterns of templates and uniform draws by turns."""
    generator = derive_generator("layer operation", number)
    depth = int(generator.integers(2, most_layers + 1))
    if number % 2:
        pattern = find_template(TEMPLATES[number // 2 % len(TEMPLATES)]).build(depth)
    else:
        most = depth * (depth + 1) // 2
        pattern = sample_uniform(Budget(depth, total=int(generator.integers(depth, most + 1))), generator)
    outputs = sorted({int(node) for node in generator.integers(0, depth + 1, 3)} | {depth})
    size, n_images = SIZES[number % len(SIZES)], BATCHES[number % len(BATCHES)]
    width = int(generator.integers(1, 8))
    return draw_case([pattern.sources], outputs, (width,), growth, n_images, size, number, wide)


@pytest.mark.parametrize("growth", range(1, 18))
def test_all_forms_give_the_same_nodes_statistics_and_gradients(growth: int) -> None:
    for number in (2 * growth, 2 * growth + 1):
        assert_forms_agree(draw_block(number, growth))


@pytest.mark.parametrize("wide", range(1, 18))
def test_all_forms_give_the_same_with_bottlenecks(wide: int) -> None:
    for number in (3 * wide, 3 * wide + 1):
        assert_forms_agree(draw_block(number, growth=1 + number % 9, wide=wide))


@pytest.mark.slow
@pytest.mark.parametrize("growth", [1, 2, 3, 4, 5, 7, 8, 12, 16, 17, 24, 40])
@pytest.mark.parametrize("factor", [0, 4])
def test_all_forms_agree_on_many_blocks(growth: int, factor: int) -> None:
    for number in range(1000 * growth, 1000 * growth + 30):
        assert_forms_agree(draw_block(number, growth, most_layers=12, wide=factor * growth))


@pytest.mark.parametrize("growth", [1, 3, 8, 12])
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("n_images", BATCHES)
def test_float32_gives_the_numbers_of_float64(n_images: int, size: tuple[int, int], growth: int) -> None:
    """Channels whose ReLU lets all through or nothing: no rounding tips a value over its edge."""
    reads = [(0,), (0, 1), (1, 2), (0, 3)]
    case = draw_case([reads], [2, 4], (5,), growth, n_images, size).with_batch_statistics
    shifts = [torch.full_like(shift, 9.0) for shift in case.shifts]
    for shift in shifts:
        shift[:, 1::4] = -9
    scales = [scale.clamp(-0.9, 0.9) for scale in case.scales]
    case = replace(case, shifts=shifts, scales=scales).map(lambda one: one.float())
    expected, expected_gradients = differentiate(run_by_hand, case.map(lambda one: one.double()))
    given, gradients = differentiate(run_compiled, case)
    for one in (*given.nodes, *gradients):
        assert one.dtype == torch.float32
    # A mean of so many values about 9 and the differences from it: what float32 leaves of them.
    assert_near([*given.nodes, given.mean], [*expected.nodes, expected.mean], 2e-4)
    assert_near(gradients, expected_gradients, 2e-3)


ODD: dict[str, tuple[list[list[tuple[int, ...]]], list[int], tuple[int, ...]]] = {
    # members, outputs, widths
    "one layer": ([[(0,)]], [1], (4,)),
    "chain": ([[(0,), (1,), (2,), (3,)]], [4], (2,)),
    "all read the input alone": ([[(0,), (0,), (0,)]], [1, 2, 3], (3,)),
    "dense": ([[(0,), (0, 1), (0, 1, 2), (0, 1, 2, 3)]], [0, 1, 2, 3, 4], (3,)),
    "an output that nobody reads": ([[(0,), (0,), (0, 2)]], [1, 3], (3,)),
    "an output that is not the last": ([[(0,), (0, 1), (1, 2), (0, 3)]], [2], (3,)),
    "nodes that lead nowhere": ([[(0,), (0,), (0, 1), (2,)]], [3], (3,)),
    "the input as an output": ([[(0,), (1,)]], [0, 2], (3,)),
    "an output twice": ([[(0,), (0, 1)]], [2, 1, 2], (3,)),
    "outputs in any order": ([[(0,), (0, 1), (2,)]], [3, 1], (3,)),
    "a node read twice by a layer": ([[(0,), (0, 1, 0), (2, 2)]], [3], (3,)),
    "sources in any order": ([[(0,), (1, 0), (2, 0, 1)]], [3], (3,)),
    "inputs of several widths": ([[(0, 1, 2), (0, 2, 3), (1, 4)]], [3, 4, 5], (1, 5, 3)),
    "an input that nobody reads": ([[(0,), (0, 2)]], [2, 3], (2, 3)),
    "a cohort": ([[(0,), (0, 1), (0, 2)], [(0,), (0, 1), (1, 2)], [(0,), (1, 0), (0, 1)]], [2, 3], (3,)),
}
each_odd = pytest.mark.parametrize("name", ODD)


def draw_odd(name: str, **more: Any) -> Case:
    members, outputs, widths = ODD[name]
    return draw_case(members, outputs, widths, **more)


@pytest.mark.parametrize(("growth", "n_images"), [(3, 3), (9, 17)])
@each_odd
def test_odd_blocks_agree(name: str, growth: int, n_images: int) -> None:
    # What is read by width: as wide as a layer where a layer may be read in the input's place.
    members, outputs, widths = ODD[name]
    widths = (growth,) if name == "a cohort" else widths
    assert_forms_agree(draw_case(members, outputs, widths, growth, n_images))


def test_a_map_larger_than_a_band_is_worked_on_in_pieces() -> None:
    case = draw_case([[(0,), (0, 1), (0, 1, 2)]], [2, 3], (40,), 17, 3, (37, 41))
    assert_forms_agree(case)


@pytest.mark.parametrize("without", [(0,), (1,), (0, 2), (1, 2)])
def test_outputs_without_a_gradient_count_as_zeros(without: tuple[int, ...]) -> None:
    case = draw_case([[(0,), (0, 1), (1, 2), (0, 2)]], [1, 3, 4])
    assert_forms_agree(case, without)


@each_form
def test_no_gradient_where_nothing_asks_for_one(form: Form) -> None:
    case = draw_odd("dense").with_batch_statistics
    given = form(case)
    assert not any(one.requires_grad for one in (*given.nodes, given.mean, given.variance))
    weights = [case.weights[0].clone().requires_grad_(), *case.weights[1:]]
    with torch.no_grad():
        assert not form(replace(case, weights=weights)).nodes[-1].requires_grad
    node = form(replace(case, weights=weights)).nodes[-1]
    (alone,) = torch.autograd.grad(node.sum(), weights[:1])
    everything = [one.clone().requires_grad_() for one in case.weights]
    (beside, *_) = torch.autograd.grad(form(replace(case, weights=everything)).nodes[-1].sum(), everything)
    assert torch.equal(alone, beside)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_members_of_a_cohort_are_trained_as_each_alone(dtype: torch.dtype) -> None:
    case = draw_odd("a cohort", growth=3, n_images=19).with_batch_statistics.map(lambda one: one.to(dtype))
    together, gradients = differentiate(run_compiled, case)
    generator = torch.Generator().manual_seed(1)
    shapes = [node.shape for node in together.nodes]
    directions = [torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype) for shape in shapes]
    for member in range(3):
        own = slice(member, member + 1)
        alone = case.map(lambda one, own=own: one[own].clone().requires_grad_())  # type: ignore[misc]
        given = run_compiled(replace(alone, sources=case.sources[own]))
        for part, whole in zip(given.nodes, together.nodes, strict=True):
            assert torch.equal(part, whole[own])
        assert torch.equal(given.mean, together.mean[own])
        assert torch.equal(given.variance, together.variance[own])
        leaves = [one for name in NAMES for one in getattr(alone, name)]
        own_gradients = torch.autograd.grad(
            given.nodes, leaves, [direction[own] for direction in directions], allow_unused=True
        )
        for part, whole in zip(own_gradients, gradients, strict=True):
            assert torch.equal(part, whole[own])


@each_form
def test_parameters_may_come_without_the_cohort_axis(form: Form) -> None:
    case = draw_odd("inputs of several widths", n_images=5).with_batch_statistics
    bare = exchange(case, {name: [one[0] for one in getattr(case, name)] for name in ("scales", "shifts", "weights")})
    given, gradients = differentiate(form, case)
    other, bare_gradients = differentiate(form, bare)
    assert all(map(torch.equal, given.nodes, other.nodes))
    n_inputs = len(case.inputs)
    for one, bare_one in zip(gradients[n_inputs:], bare_gradients[n_inputs:], strict=True):
        assert torch.equal(one[0], bare_one)
    for one, bare_one in zip(gradients[:n_inputs], bare_gradients[:n_inputs], strict=True):
        assert torch.equal(one, bare_one)


@each_form
@each_odd
def test_running_statistics_take_the_place_of_the_batch_s(name: str, form: Form) -> None:
    case = draw_odd(name, n_images=9)
    given, expected = form(case), run_by_hand(case)
    assert_near(given.nodes, expected.nodes)
    assert not given.mean.any()
    assert not given.variance.any()
    other = form(case.with_batch_statistics)
    written = [place for place, node in enumerate(case.outputs) if node >= len(case.inputs)]
    assert all(not torch.allclose(given.nodes[place], other.nodes[place]) for place in written)


@each_form
def test_running_statistics_may_come_without_the_cohort_axis(form: Form) -> None:
    case = draw_odd("dense")
    bare = {name: [one[0] for one in getattr(case, name)] for name in ("running_means", "running_variances", "scales")}
    assert all(map(torch.equal, form(case).nodes, form(exchange(case, bare)).nodes))


@each_form
def test_epsilon_is_added_to_the_variance(form: Form) -> None:
    case = draw_odd("one layer").with_batch_statistics
    assert form(case).nodes
    small = replace(case, inputs=[1e-3 * x for x in case.inputs])
    if form is run_compiled:
        nodes = torch.ops.skipsearch.layers(*small.arguments, 1e-3)[0]
    else:
        nodes = run_layers_in_torch(*small.values, epsilon=1e-3).nodes
    x = F.relu(F.batch_norm(small.inputs[0][0], None, None, small.scales[0][0], small.shifts[0][0], True, eps=1e-3))
    expected = F.conv2d(x, small.weights[0][0], padding=1)
    assert_near([nodes[0][0]], [expected])


# --- numbers that are none ---------------------------------------------------------------------------------------

BAD = [float("nan"), float("inf"), -float("inf")]


def poison(case: Case, name: str, place: int, value: float) -> Case:
    """The case with one bad number."""
    tensors = [one.clone() for one in getattr(case, name)]
    flat = tensors[place].view(-1)
    flat[len(flat) // 2] = value
    return exchange(case, {name: tensors})


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("n_images", [3, 16])
@pytest.mark.parametrize("value", BAD)
@pytest.mark.parametrize(
    ("name", "place"), [("inputs", 0), ("scales", 1), ("shifts", 0), ("weights", 0), ("weights", 2)]
)
def test_a_bad_number_reaches_the_output(
    name: str, place: int, value: float, n_images: int, dtype: torch.dtype
) -> None:
    """As in plain torch, where -inf before a ReLU is 0 after it."""
    case = draw_case([[(0,), (1,), (0, 2)]], [3], n_images=n_images).with_batch_statistics
    bad = poison(case, name, place, value).map(lambda one: one.to(dtype))
    given, expected = run_compiled(bad).nodes[0], run_reference(bad).nodes[0]
    if dtype == torch.float64:  # in float32 torch's convolution leaves out the zeros around, which make inf NaN
        assert torch.equal(given.isfinite(), expected.isfinite())
    if value != BAD[2] or name != "shifts":
        assert not given.isfinite().all()
    if value != value:  # NaN
        assert given.isnan().any()


@pytest.mark.parametrize("value", BAD)
@pytest.mark.parametrize("name", ["inputs", "scales", "shifts", "running_means", "running_variances", "weights"])
def test_a_bad_number_reaches_the_same_pixels_by_running_statistics(name: str, value: float) -> None:
    bad = poison(draw_case([[(0,), (0, 1)]], [1, 2], n_images=3, size=(7, 8)), name, 0, value)
    given, expected = run_compiled(bad), run_by_hand(bad)
    for one, other in zip(given.nodes, expected.nodes, strict=True):
        assert torch.equal(one.isnan(), other.isnan())
        assert torch.equal(one.isinf(), other.isinf())
        finite = other.isfinite()
        assert_near([torch.where(finite, one, 0.0)], [torch.where(finite, other, 0.0)])


@pytest.mark.parametrize("value", BAD)
def test_a_bad_gradient_reaches_the_weights(value: float) -> None:
    case = draw_case([[(0,), (0, 1)]], [2]).with_batch_statistics
    weights = [one.clone().requires_grad_() for one in case.weights]
    (node,) = run_compiled(replace(case, weights=weights)).nodes
    direction = torch.ones_like(node)
    direction[0, 1, 0, 2, 2] = value
    gradients = torch.autograd.grad(node, weights, direction)
    assert all(not one.isfinite().all() for one in gradients)


def test_one_value_a_channel_has_no_variance() -> None:
    case = draw_case([[(0,), (0, 1)]], [2], n_images=1, size=(1, 1)).with_batch_statistics
    given, gradients = differentiate(run_compiled, case)
    assert not given.variance.any()
    assert_near(given.nodes, run_reference(case).nodes)
    assert all(one.isfinite().all() for one in gradients)  # most are differences of nothing


# --- torch's own checks ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", [run_compiled, pytest.param(run_reference, marks=pytest.mark.slow)])
def test_the_gradient_is_that_of_small_differences(form: Form) -> None:
    members = [[(0, 1), (1, 2), (0, 3)], [(0, 1), (1, 2), (0, 2)]]
    case = draw_case(members, [2, 4], (2, 1), growth=2, n_images=2, size=(2, 3)).with_batch_statistics
    lists = [getattr(case, name) for name in NAMES]
    lengths = [len(one) for one in lists]

    def run(*flat: Tensor) -> tuple[Tensor, ...]:
        parts, start = [], 0
        for length in lengths:
            parts.append(list(flat[start : start + length]))
            start += length
        return tuple(form(exchange(case, dict(zip(NAMES, parts, strict=True)))).nodes)

    assert torch.autograd.gradcheck(run, [one.requires_grad_() for own in lists for one in own])


ODD_CASE = draw_odd("inputs of several widths", n_images=5).map(Tensor.float)


@pytest.mark.parametrize(
    "case",
    [
        pytest.param(ODD_CASE, id="evaluation", marks=[pytest.mark.slow, pytest.mark.ci]),
        pytest.param(ODD_CASE.with_batch_statistics.map(lambda one: one.double().requires_grad_()), id="training"),
    ],
)
def test_the_forward_operator_is_what_torch_expects_of_one(case: Case) -> None:
    ensure_compiled()
    torch.library.opcheck(torch.ops.skipsearch.layers.default, (*case.arguments, 1e-5))


def test_the_backward_operator_is_what_torch_expects_of_one() -> None:
    ensure_compiled()
    case, training = ODD_CASE, ODD_CASE.with_batch_statistics
    nodes, mean, variance, maps = torch.ops.skipsearch.layers(*training.arguments, 1e-5)
    widths, n_images = [x.shape[2] for x in case.inputs], case.inputs[0].shape[1]
    gradients = [torch.randn_like(node) for node in nodes]
    kept = (case.outputs, widths, n_images, maps, mean, variance, case.sources, case.degrees)
    arguments = (gradients, *kept, case.scales, case.shifts, case.weights, 1e-5)
    torch.library.opcheck(torch.ops.skipsearch.layers_backward.default, arguments)


def test_a_compiled_function_holds_the_operator() -> None:
    ensure_compiled()
    case = draw_odd("dense", n_images=5).with_batch_statistics

    def run(case_inputs: list[Tensor], weights: list[Tensor]) -> Tensor:
        arguments = replace(case, inputs=case_inputs, weights=weights).arguments
        nodes = torch.ops.skipsearch.layers(*arguments, 1e-5)[0]
        return torch.stack([node.sin().sum() for node in nodes]).sum()

    results = []
    for function in (run, torch.compile(run, fullgraph=True, backend="aot_eager")):
        inputs = [x.clone().requires_grad_() for x in case.inputs]
        weights = [x.clone().requires_grad_() for x in case.weights]
        loss = function(inputs, weights)
        results.append([loss.detach(), *torch.autograd.grad(loss, [*inputs, *weights])])
    assert all(map(torch.equal, *results))


# --- use ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n_images", [3, 16])
def test_the_same_call_gives_the_same_bits(n_images: int) -> None:
    case = draw_odd("a cohort", n_images=n_images).with_batch_statistics.map(lambda one: one.float())
    given, gradients = differentiate(run_compiled, case)
    for _ in range(3):
        held = torch.full((1 << 18,), float("nan"))  # what the next call's memory may hold
        del held
        again, same = differentiate(run_compiled, case)
        assert all(map(torch.equal, given.nodes, again.nodes))
        assert torch.equal(given.mean, again.mean)
        assert torch.equal(given.variance, again.variance)
        assert all(map(torch.equal, gradients, same))


@pytest.fixture
def filled_memory() -> Iterator[None]:
    """New memory holds NaN: what torch's deterministic mode does with it."""
    torch.use_deterministic_algorithms(True)
    try:
        assert torch.empty(3).isnan().all()
        yield
    finally:
        torch.use_deterministic_algorithms(False)


@pytest.mark.usefixtures("filled_memory")
@pytest.mark.parametrize("n_images", [3, 16, 17])
@each_odd
def test_nothing_is_read_before_it_is_written(name: str, n_images: int) -> None:
    case = draw_odd(name, n_images=n_images)
    assert_forms_agree(case, forms=[run_compiled])
    assert_forms_agree(case, without=range(1, len(case.outputs)), forms=[run_compiled])
    assert all(one.isfinite().all() for one in run_compiled(case).nodes)


def test_tensors_may_lie_in_memory_as_they_like() -> None:
    case = draw_odd("inputs of several widths", n_images=6, size=(5, 4)).with_batch_statistics.map(Tensor.float)
    scattered = case.map(lambda one: one.transpose(0, -1).contiguous().transpose(0, -1))
    scattered = replace(scattered, sources=case.sources.repeat_interleave(2, dim=1)[:, ::2])
    strided = [one.stride() for one in scattered.weights if not one.is_contiguous()]
    assert len(strided) == len(case.weights)
    assert not scattered.inputs[0].is_contiguous()
    given, other = run_compiled(case), run_compiled(scattered)
    assert all(map(torch.equal, given.nodes, other.nodes))
    # A gradient that is one number for all, as that of a sum.
    results = []
    for one in (case, scattered):
        leaves = [tensor.detach().requires_grad_() for tensor in one.inputs]
        nodes = run_compiled(replace(one, inputs=leaves)).nodes
        directions = [torch.ones(()).expand(node.shape) for node in nodes]
        directions = directions if one is scattered else [direction.contiguous() for direction in directions]
        results.append(torch.autograd.grad(nodes, leaves, directions))
    assert all(map(torch.equal, *results))


def test_what_is_given_is_left_alone() -> None:
    case = draw_odd("dense")
    held = case.map(Tensor.clone)
    differentiate(run_compiled, case.with_batch_statistics)
    run_compiled(case)
    for name in (*NAMES, "running_means", "running_variances"):
        assert all(map(torch.equal, getattr(case, name), getattr(held, name)))


def test_on_a_cpu_the_compiled_form_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    ensure_compiled()
    case = draw_odd("dense").with_batch_statistics

    def refuse(*_: Any) -> LayerOutputs:
        raise AssertionError("the plain form was called")

    monkeypatch.setattr(nas.engines.layer_operation, "run_layers_in_torch", refuse)
    given = run_layers(*case.values)
    assert all(map(torch.equal, given.nodes, run_compiled(case).nodes))
    monkeypatch.setattr(nas.engines.layer_operation, "_is_compiled", lambda: False)
    with pytest.raises(AssertionError, match="the plain form was called"):
        run_layers(*case.values)


# --- what does not fit -------------------------------------------------------------------------------------------

PLAIN = draw_case([[(0,), (0, 1), (1, 2)]], [2, 3])
BATCH = PLAIN.with_batch_statistics


def swap(name: str, place: int, tensor: Tensor) -> dict[str, Any]:
    """One of PLAIN's tensors exchanged."""
    tensors = list(getattr(PLAIN, name))
    tensors[place] = tensor
    return {name: tensors}


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"sources": torch.tensor([[0, 0, 2, 1, 2]])}, "layer 2 of a block of 1 inputs cannot read node 2"),
    ({"sources": torch.tensor([[0, 0, 1, 1, 99]])}, "layer 3 of a block of 1 inputs cannot read node 99"),
    ({"sources": torch.tensor([[1, 0, 1, 1, 2]])}, "layer 1 of a block of 1 inputs cannot read node 1"),
    ({"sources": torch.tensor([[0, -1, 1, 1, 2]])}, "cannot read node -1"),
    ({"sources": PLAIN.sources.int()}, "sources are int64"),
    ({"sources": PLAIN.sources[:, :-1]}, r"here \(1, 5\), given \[1, 4\]"),
    ({"sources": PLAIN.sources.repeat(2, 1)}, r"here \(1, 5\), given \[2, 5\]"),
    ({"sources": PLAIN.sources[0]}, r"given \[5\]"),
    ({"degrees": [1, 2]}, "as many in-degrees as layers"),
    ({"degrees": [1, 2, 2, 1]}, "as many in-degrees as layers"),
    ({"degrees": [1, 1, 3]}, "layer 2 reads 3 channels, and its weights are"),
    ({"degrees": [2, 2, 2]}, r"here \(1, 6\)"),
    (swap("weights", 1, PLAIN.weights[1][:, :, :5]), r"layer 2 reads 6 channels, .* weights are \[1, 3, 5, 3, 3\]"),
    (swap("weights", 1, PLAIN.weights[1][:, :2]), "its weights are"),
    (swap("weights", 1, PLAIN.weights[1][..., :2]), "its weights are"),
    (swap("weights", 0, PLAIN.weights[0].repeat(2, 1, 1, 1, 1)), "its weights are"),
    (swap("weights", 0, PLAIN.weights[0][0, 0]), "block has inputs, layers"),
    (swap("weights", 0, PLAIN.weights[0].float()), "scalar type"),
    ({"weights": PLAIN.weights[:2]}, "as many in-degrees as layers"),
    ({"weights": []}, "block has inputs, layers"),
    (swap("scales", 1, PLAIN.scales[0]), r"layer 2 reads 6 channels, and of its scale, .* one is \[1, 3\]"),
    (swap("shifts", 0, PLAIN.shifts[1]), r"layer 1 reads 3 channels, and of its scale, .* one is \[1, 6\]"),
    (swap("shifts", 0, PLAIN.shifts[0].float()), "scalar type"),
    ({"scales": PLAIN.scales[:2]}, "one a convolution, given 2 for 3 convolutions"),
    ({"shifts": []}, "one a convolution, given 0 for 3 convolutions"),
    ({"running_means": PLAIN.running_means}, "one a convolution, given 0 for 3 convolutions"),
    ({"running_variances": PLAIN.running_variances}, "one a convolution, given 0 for 3 convolutions"),
    ({"inputs": []}, "an input at least"),
    ({"inputs": [PLAIN.inputs[0][:, :0]]}, "none is empty"),
    ({"inputs": [PLAIN.inputs[0][0]]}, r"inputs are \(cohort, batch, channels, height, width\)"),
    ({"inputs": [PLAIN.inputs[0], PLAIN.inputs[0][..., :2]]}, r"given \[1, 3, 3, 5, 4\] and \[1, 3, 3, 5, 2\]"),
    ({"inputs": [PLAIN.inputs[0], PLAIN.inputs[0].float()]}, "inputs are of one type"),
    ({"inputs": [PLAIN.inputs[0].half()]}, "Half"),
    ({"inputs": [PLAIN.inputs[0].repeat(2, 1, 1, 1, 1)]}, r"here \(2, 5\), given \[1, 5\]"),
    ({"outputs": [4]}, "a block of 4 nodes cannot give node 4"),
    ({"outputs": [2, -1]}, "cannot give node -1"),
]


@pytest.mark.parametrize("with_gradient", [False, True])
@pytest.mark.parametrize(("values", "said"), REFUSED)
def test_what_does_not_fit_is_refused_in_words(values: dict[str, Any], said: str, with_gradient: bool) -> None:
    case = exchange(BATCH, values)
    if with_gradient and case.weights:
        case = replace(case, weights=[one.clone().requires_grad_() for one in case.weights])
        said = f"({said})|(gradients by the batch's statistics alone)"
    with pytest.raises(RuntimeError, match=said):
        run_compiled(case)


@pytest.mark.parametrize("name", NAMES)
def test_running_statistics_have_no_gradient(name: str) -> None:
    leaves = [one.clone().requires_grad_() for one in getattr(PLAIN, name)]
    case = exchange(PLAIN, {name: leaves})
    with pytest.raises(RuntimeError, match="there are gradients by the batch's statistics alone"):
        run_compiled(case)
    with torch.no_grad():
        assert all(map(torch.equal, run_compiled(case).nodes, run_compiled(PLAIN).nodes))
