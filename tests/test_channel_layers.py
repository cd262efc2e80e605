"""The layers by channel: against plain torch, padding, members apart, bfloat16, formats, memory, no synchronisation."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks
from torch.utils._python_dispatch import TorchDispatchMode

from nas.channel_layers import run_layers_by_channel
from nas.layer_operation import run_layers_in_torch
from search_spaces.sampling import derive_seed

pytestmark = pytest.mark.usefixtures("one_thread")

Reads = Sequence[Sequence[int]]  # the nodes that each layer reads
FORMATS = [torch.contiguous_format, torch.channels_last]


@dataclass(frozen=True)
class Case:
    """What the operation takes, and the nodes behind it."""

    inputs: Tensor
    channels: Tensor
    scales: list[Tensor]
    shifts: list[Tensor]
    weights: list[Tensor]
    running_means: list[Tensor]
    running_variances: list[Tensor]
    widths: list[int]  # of the input nodes
    members: list[Reads]

    @property
    def parameters(self) -> list[Tensor]:
        return [*self.scales, *self.shifts, *self.weights]

    def map(self, change: Callable[[Tensor], Tensor], *names: str) -> "Case":
        """The same with these lists' tensors changed, or inputs and parameters where none are named."""
        names = names or ("inputs", "scales", "shifts", "weights")
        old: dict[str, Any] = {name: getattr(self, name) for name in names}
        new: dict[str, Any] = {
            name: change(x) if isinstance(x, Tensor) else [change(one) for one in x] for name, x in old.items()
        }
        return replace(self, **new)


def draw_case(
    members: Sequence[Reads],
    widths: Sequence[int] = (3,),
    growth: int = 3,
    n_images: int = 2,
    size: tuple[int, int] = (5, 3),
    seed: int = 0,
) -> Case:
    """A block of random numbers in float64; members: of the cohort, each as the nodes that its layers read."""
    generator = torch.Generator().manual_seed(derive_seed(seed, "case"))

    def draw(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    n_members, of_nodes = len(members), [*widths, *[growth] * len(members[0])]
    n_read = [sum(of_nodes[node] for node in nodes) for nodes in members[0]]
    return Case(
        inputs=2 * draw(n_images, n_members, sum(widths), *size) + 1,
        channels=torch.tensor([list_channels(reads, of_nodes) for reads in members]),
        scales=[1 + 0.5 * draw(n_members, n) for n in n_read],
        shifts=[0.5 * draw(n_members, n) for n in n_read],
        weights=[draw(n_members, growth, n, 3, 3) / (4.5 * n) ** 0.5 for n in n_read],
        running_means=[draw(n_members, n) for n in n_read],
        running_variances=[draw(n_members, n).square() + 0.1 for n in n_read],
        widths=list(widths),
        members=list(members),
    )


def list_channels(reads: Reads, of_nodes: Sequence[int]) -> list[int]:
    """The channels of the nodes that a member's layers read; of_nodes: their numbers of channels."""
    first = [sum(of_nodes[:node]) for node in range(len(of_nodes))]
    return [first[node] + k for nodes in reads for node in nodes for k in range(of_nodes[node])]


def draw_members(n_members: int, widths: Sequence[int], growth: int, n_layers: int, seed: int) -> list[Reads]:
    """Random patterns of which a layer reads as many channels in every member."""
    generator = torch.Generator().manual_seed(derive_seed(seed, "members"))
    of_nodes = [*widths, *[growth] * n_layers]
    members: list[Reads] = []
    while len(members) < n_members:
        reads = []
        for layer in range(n_layers):
            n_earlier = len(widths) + layer
            order = torch.randperm(n_earlier, generator=generator)
            degree = int(torch.randint(n_earlier, (), generator=generator)) + 1
            reads.append(sorted(order[:degree].tolist()))
        counts = [[sum(of_nodes[node] for node in nodes) for nodes in one] for one in (reads, *members[:1])]
        if counts[0] == counts[-1]:
            members.append(reads)
    return members


Given = tuple[Tensor, Tensor, Tensor]
Form = Callable[[Case], Given]


def run_by_channel(case: Case, memory_format: torch.memory_format | None = None, running: bool = False) -> Given:
    return run_layers_by_channel(
        case.inputs,
        case.channels,
        case.scales,
        case.shifts,
        case.weights,
        case.running_means if running else (),
        case.running_variances if running else (),
        memory_format=memory_format,
    )


def run_reference(case: Case, running: bool = False) -> Given:
    """Each member by itself: members that read as many channels need not read as many nodes."""
    members = []
    for member, reads in enumerate(case.members):
        inputs = torch.split(case.inputs[:, member], case.widths, dim=1)
        lists = (case.scales, case.shifts, case.weights, case.running_means, case.running_variances)
        scales, shifts, weights, *held = ([one[member : member + 1] for one in kind] for kind in lists)
        sources = torch.tensor([[node for nodes in reads for node in nodes]])
        degrees = [len(nodes) for nodes in reads]
        nodes, mean, variance = run_layers_in_torch(
            [node[None] for node in inputs],
            sources,
            degrees,
            range(len(inputs) + len(degrees)),
            scales,
            shifts,
            weights,
            *(held if running else ()),
        )
        members.append((torch.cat(nodes, dim=2).transpose(0, 1), mean, variance))
    maps, means, variances = zip(*members, strict=True)
    return torch.cat(maps, dim=1), torch.cat(means), torch.cat(variances)


def differentiate(form: Form, case: Case) -> list[Tensor]:
    """Maps, mean and variance, then the gradients of inputs, scales, shifts and weights, by one random direction."""
    leaves = case.map(lambda one: one.detach().clone().requires_grad_())
    maps, mean, variance = form(leaves)
    generator = torch.Generator().manual_seed(1)
    direction = torch.randn(maps.shape, generator=generator, dtype=torch.float64).to(maps.dtype)
    gradients = torch.autograd.grad(maps, [leaves.inputs, *leaves.parameters], direction)
    return [maps.detach(), mean, variance, *gradients]


def check_close(given: Sequence[Tensor], expected: Sequence[Tensor], tolerance: float = 1e-9) -> None:
    for one, other in zip(given, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=tolerance, atol=tolerance)


DENSE = [[0], [0, 1], [0, 1, 2], [0, 1, 2, 3]]
THREE: list[Reads] = [[[0], [0, 1], [1, 2]], [[0], [0, 1], [0, 2]], [[0], [0, 1], [0, 1]]]


@pytest.mark.parametrize("memory_format", FORMATS)
@pytest.mark.parametrize("n_members", [1, 3])
@pytest.mark.parametrize(
    ("widths", "growth", "n_images", "size"),
    [
        ([3], 3, 2, (5, 3)),
        ([4, 2], 2, 3, (3, 7)),
        ([1, 5, 2], 1, 2, (4, 4)),
        ([2, 3], 4, 1, (1, 3)),
        ([2], 5, 1, (5, 1)),
    ],
)
def test_outputs_and_gradients_are_the_references(
    widths: list[int],
    growth: int,
    n_images: int,
    size: tuple[int, int],
    n_members: int,
    memory_format: torch.memory_format,
) -> None:
    for seed in range(3):
        members = draw_members(n_members, widths, growth, n_layers=4, seed=seed)
        case = draw_case(members, widths, growth, n_images, size, seed)
        given = differentiate(lambda one: run_by_channel(one, memory_format), case)
        check_close(given, differentiate(run_reference, case))
        maps = given[0].flatten(1, 2)
        assert maps.is_contiguous(memory_format=memory_format)


@pytest.mark.parametrize("memory_format", FORMATS)
@pytest.mark.parametrize("members", [[DENSE], THREE])
def test_running_statistics_are_used_where_given(members: list[Reads], memory_format: torch.memory_format) -> None:
    case = draw_case(members)
    given = run_by_channel(case, memory_format, running=True)
    check_close(given, run_reference(case, running=True))
    assert not given[1].any() and not given[2].any()
    leaves = case.map(lambda one: one.clone().requires_grad_(), "weights")
    with pytest.raises(ValueError, match="no gradient"):
        run_by_channel(leaves, memory_format, running=True)
    with torch.no_grad():
        check_close(run_by_channel(leaves, memory_format, running=True), given)


def test_gradients_are_those_of_differences() -> None:
    case = draw_case([[[0], [0, 1]], [[0], [0, 1]]], widths=[2], growth=1, size=(2, 2))
    case = case.map(lambda one: one.requires_grad_())

    def run(inputs: Tensor, *parameters: Tensor) -> Tensor:
        scales, shifts, weights = (parameters[k : k + 2] for k in (0, 2, 4))
        return run_layers_by_channel(inputs, case.channels, scales, shifts, weights)[0]

    assert torch.autograd.gradcheck(run, (case.inputs, *case.parameters))


def test_statistics_carry_no_gradient() -> None:
    case = draw_case([DENSE]).map(lambda one: one.requires_grad_())
    maps, mean, variance = run_by_channel(case)
    assert maps.requires_grad and not mean.requires_grad and not variance.requires_grad


def pad(case: Case, n_added: int) -> Case:
    """Each layer reads further channels by scales, shifts and weights of zero, that of an input again and again."""

    def widen(values: list[Tensor], dim: int) -> list[Tensor]:
        shapes = [[n_added if k == dim else n for k, n in enumerate(one.shape)] for one in values]
        return [torch.cat([one, one.new_zeros(shape)], dim) for one, shape in zip(values, shapes, strict=True)]

    reads = torch.split(case.channels, [one.shape[1] for one in case.scales], dim=1)
    added = torch.ones(len(case.channels), n_added, dtype=torch.int64)
    channels = torch.cat([part for read in reads for part in (read, added)], dim=1)
    scales, shifts, weights = widen(case.scales, 1), widen(case.shifts, 1), widen(case.weights, 2)
    return replace(case, channels=channels, scales=scales, shifts=shifts, weights=weights)


@pytest.mark.parametrize("memory_format", FORMATS)
def test_padding_changes_nothing_and_stays(memory_format: torch.memory_format) -> None:
    case = draw_case(THREE)
    plain, padded = (differentiate(lambda one: run_by_channel(one, memory_format), one) for one in (case, pad(case, 3)))
    check_close(padded[:4], plain[:4], 1e-12)  # maps, mean, variance, the inputs' gradient
    n_layers = len(case.weights)
    for kind, (gradient, old) in enumerate(zip(padded[4:], plain[4:], strict=True)):
        dim = 2 if kind >= 2 * n_layers else 1
        kept, added = torch.split(gradient, [old.shape[dim], 3], dim=dim)
        check_close([kept], [old], 1e-12)
        assert not added.any()


def test_channel_read_twice_counts_twice() -> None:
    """By the same numbers it is one read once by weights that are the sum."""
    case = draw_case([[[0], [0, 1]]])
    twice = draw_case([[[0, 0], [0, 1, 0]]])
    scales, shifts = ([torch.cat([one, one[:, :3]], 1) for one in kind] for kind in (case.scales, case.shifts))
    more = twice.weights
    summed = [one.clone() for one in more]
    for one in summed:
        one[:, :, :3] += one[:, :, -3:]
    twice = replace(twice, inputs=case.inputs, scales=scales, shifts=shifts)
    once = replace(case, weights=[one[:, :, :-3] for one in summed])
    of_twice, of_once = differentiate(run_by_channel, twice), differentiate(run_by_channel, once)
    check_close(of_twice[:4], of_once[:4])
    check_close([one[:, :, :-3] for one in of_twice[-2:]], of_once[-2:])


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("memory_format", FORMATS)
def test_members_do_not_touch_each_other(memory_format: torch.memory_format, dtype: torch.dtype) -> None:
    case = draw_case(THREE).map(lambda one: one.to(dtype))
    inputs = case.inputs.clone()
    inputs[0, 1, 1, 2, 2] = torch.nan
    ill = replace(case, inputs=inputs)
    results = [differentiate(lambda one: run_by_channel(one, memory_format), one) for one in (case, ill)]
    for k, (well, moved) in enumerate(zip(*results, strict=True)):
        of_member = 1 if k in (0, 3) else 0  # the cohort's axis of maps and of the inputs' gradient
        well, moved = well.transpose(0, of_member), moved.transpose(0, of_member)
        assert moved[1].isnan().any()
        assert torch.equal(well[[0, 2]], moved[[0, 2]])


@pytest.mark.parametrize("memory_format", FORMATS)
@pytest.mark.parametrize(("offset", "tolerance"), [(0, 0.1), (6, 0.02)])
def test_bfloat16_is_near_float32(offset: float, tolerance: float, memory_format: torch.memory_format) -> None:
    """Roundings of 2**-9 a value and layer: maps are off by under 1 % in their norm.

    Of the ReLUs' arguments these roundings move some over 0, about as large a share as they are off: in the norm of a
    gradient by a random direction that is its root, some 5 %. With all arguments well above 0 there is no such thing.
    """
    case = draw_case([DENSE, DENSE], widths=[4], growth=6, n_images=4, size=(9, 9)).map(lambda one: one.float())
    case = case.map(lambda one: one + offset, "shifts")
    case = replace(case, inputs=case.inputs.bfloat16().float())
    half = replace(case, inputs=case.inputs.bfloat16())
    exact, given = (differentiate(lambda one: run_by_channel(one, memory_format), one) for one in (case, half))
    assert [one.dtype for one in given] == [
        one.dtype if k not in (0, 3) else torch.bfloat16 for k, one in enumerate(exact)
    ]
    for k, (one, other) in enumerate(zip(given, exact, strict=True)):
        assert one.isfinite().all()
        assert (one - other).norm() <= (0.01 if k < 3 else tolerance) * other.norm()
    variance, mean = torch.var_mean(given[0].float(), dim=(0, 3, 4), correction=0)
    check_close(given[1:3], [mean, variance], 1e-5)


def test_float32_is_near_float64() -> None:
    case = draw_case([DENSE])
    half = differentiate(run_by_channel, case.map(lambda one: one.float()))
    assert all(one.dtype == torch.float32 for one in half)
    check_close([one.double() for one in half], differentiate(run_by_channel, case), 1e-4)


def test_gradients_are_of_the_parameters_type() -> None:
    case = draw_case([DENSE]).map(lambda one: one.float())
    given = differentiate(run_by_channel, case.map(lambda one: one.double(), "inputs"))
    assert [one.dtype for one in given[:4]] == [torch.float64] * 4
    assert all(one.dtype == torch.float32 for one in given[4:])


@pytest.mark.parametrize("n_layers", [2, 4, 8])
def test_training_keeps_one_map_a_channel(n_layers: int) -> None:
    """Each layer reads all earlier nodes: kept activations would be many more."""
    case = draw_case([[list(range(layer + 1)) for layer in range(n_layers)]], size=(8, 8))
    kept: list[Tensor] = []

    def keep(one: Tensor) -> Tensor:
        kept.append(one)
        return one

    with saved_tensors_hooks(keep, lambda one: one):
        maps, mean, variance = run_by_channel(case.map(lambda one: one.requires_grad_()))
    n_bytes = sum(one.nbytes for one in [maps, mean, variance, case.channels, *case.parameters])
    assert maps.shape[2] == 3 + 3 * n_layers
    assert sum(one.nbytes for one in kept) == n_bytes
    assert sum({one.untyped_storage().data_ptr(): one.untyped_storage().nbytes() for one in kept}.values()) == n_bytes


class Record(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """The names of the operators that run."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.names: set[str] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.names.add(func.overloadpacket.__name__)
        return func(*args, **(kwargs or {}))


SYNCHRONISING = {
    "_local_scalar_dense", "item", "is_nonzero", "nonzero", "masked_select", "equal", "unique", "_unique2",
    "repeat_interleave", "bincount", "allclose", "_is_all_true", "_is_any_true",
}  # fmt: skip


@pytest.mark.parametrize("memory_format", FORMATS)
def test_host_waits_for_no_number(memory_format: torch.memory_format) -> None:
    case = draw_case(THREE)
    with Record() as record:
        differentiate(lambda one: run_by_channel(one, memory_format), case)
        run_by_channel(case, memory_format, running=True)
    assert not record.names & SYNCHRONISING
    assert {"convolution", "convolution_backward", "index_add_", "native_batch_norm_backward"} <= record.names
    with Record() as record:
        case.inputs.sum().item()  # it would be seen
    assert record.names & SYNCHRONISING


@pytest.mark.parametrize("memory_format", FORMATS)
def test_shapes_follow_from_shapes(memory_format: torch.memory_format) -> None:
    """On the meta device there are no numbers to look at, with tolist neither, which no dispatch mode sees."""
    case = draw_case(THREE)
    leaves = case.map(lambda one: one.to("meta").requires_grad_())
    leaves = replace(leaves, channels=case.channels.to("meta"))
    maps, mean, variance = run_by_channel(leaves, memory_format)
    gradients = torch.autograd.grad(maps, [leaves.inputs, *leaves.parameters], torch.empty_like(maps))
    given, expected = [maps, mean, variance, *gradients], differentiate(run_by_channel, case)
    assert [one.shape for one in given] == [one.shape for one in expected]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda case: replace(case, inputs=case.inputs[0]), "inputs are numbers of shape"),
        (lambda case: replace(case, inputs=case.inputs[:0]), "inputs are numbers of shape"),
        (lambda case: replace(case, inputs=case.inputs[:, :2]), "cohort of 2"),
        (lambda case: replace(case, channels=case.channels[:, 1:]), "channels are int64"),
        (lambda case: replace(case, channels=case.channels.int()), "channels are int64"),
        (lambda case: replace(case, weights=case.weights[1:]), "channels are int64"),
        (lambda case: case.map(lambda one: one[0], "weights"), "of layer 1 are"),
        (lambda case: case.map(lambda one: one[..., :2], "weights"), "of layer 1 are"),
        (lambda case: case.map(lambda one: one[:, 1:], "scales"), "scales are .* layer 1"),
        (lambda case: replace(case, shifts=case.shifts[1:]), "given 2, and weights of 3"),
        (lambda case: case.map(lambda one: one[:1], "running_means"), "running means are"),
        (lambda case: replace(case, running_variances=[]), "of running variances there is one tensor a layer"),
    ],
)
def test_what_does_not_fit_is_refused(change: Callable[[Case], Case], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        run_by_channel(change(draw_case(THREE)), running=True)
