"""Triton's kernels against plain torch: interpreted on a CPU, compiled where there is a GPU."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

pytest.importorskip("triton")

from nas.engines import fused_layers, triton_layers
from nas.engines.layer_operation import LayerOutputs, Parameters, RunningStatistics, index_sources
from nas.engines.triton_kernels import CUTS, Cut
from nas.engines.triton_layers import run_layers_in_triton

EPSILON = 1e-5
DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)]
Sources = list[list[tuple[int, ...]]]


@dataclass
class Case:
    """A block: inputs (cohort, batch, growth, height, width), sources of each member, and parameters by layer."""

    inputs: list[Tensor]
    sources: Sources
    scales: list[Tensor]
    shifts: list[Tensor]
    weights: list[Tensor]

    @property
    def wanted(self) -> list[int]:
        """The last nodes but one, so that one is read by nobody else."""
        n_nodes = len(self.inputs) + len(self.weights)
        return list(range(max(len(self.inputs), n_nodes - 3), n_nodes))

    @property
    def leaves(self) -> list[Tensor]:
        return [*self.inputs, *self.scales, *self.shifts, *self.weights]

    def map(self, change: Callable[[Tensor], Tensor]) -> "Case":
        """The same of changed numbers, which are leaves."""

        def fresh(ones: Sequence[Tensor]) -> list[Tensor]:
            return [change(one).detach().requires_grad_() for one in ones]

        parts = (self.scales, self.shifts, self.weights)
        return Case(fresh(self.inputs), self.sources, *(fresh(part) for part in parts))


def draw_case(
    n_members: int = 3,
    batch: int = 2,
    size: tuple[int, int] = (5, 6),
    growth: int = 4,
    layers: int = 4,
    n_inputs: int = 1,
) -> Case:
    """Random sources of unequal numbers; what a member does not read has scale, shift and weights of zero."""
    generator = torch.Generator().manual_seed(growth + 10 * layers)

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    sources: Sources = []
    for _ in range(n_members):
        own = []
        for n_before in range(n_inputs, n_inputs + layers):
            degree = int(torch.randint(1, min(n_before, 4) + 1, (), generator=generator))
            own.append(tuple(sorted(torch.randperm(n_before, generator=generator)[:degree].tolist())))
        sources.append(own)
    case = Case([draw(n_members, batch, growth, *size) for _ in range(n_inputs)], sources, [], [], [])
    for k in range(layers):
        n_read = growth * max(len(own[k]) for own in sources)
        there = torch.tensor([[float(c < growth * len(own[k])) for c in range(n_read)] for own in sources])
        case.scales.append((1 + 0.3 * draw(n_members, n_read)) * there)
        case.shifts.append(0.3 * draw(n_members, n_read) * there)
        deviation = (2 / 9 / n_read) ** 0.5
        case.weights.append(draw(n_members, growth, n_read, 3, 3) * deviation * there[:, None, :, None, None])
    return case.map(lambda one: one)


def run_triton(case: Case, running: RunningStatistics | None = None) -> LayerOutputs:
    index = index_sources(case.sources, case.inputs[0].device)
    parameters = Parameters(case.scales, case.shifts, case.weights)
    return run_layers_in_triton(case.inputs, index, case.wanted, parameters, running, EPSILON)


def run_plainly(case: Case) -> LayerOutputs:
    """The same by torch's operations, member by member."""
    members = []
    for member, own in enumerate(case.sources):
        nodes = [one[member] for one in case.inputs]
        for k, read in enumerate(own):
            x = torch.cat([nodes[node] for node in read], dim=1)
            scale, shift = (one[k][member, : x.shape[1]] for one in (case.scales, case.shifts))
            x = F.batch_norm(x, None, None, scale, shift, True, 0.0, EPSILON).relu()
            nodes.append(F.conv2d(x, case.weights[k][member, :, : x.shape[1]], padding=1))
        members.append(nodes)
    nodes = [torch.stack(ones) for ones in zip(*members, strict=True)]
    variance, mean = torch.var_mean(torch.stack(nodes, dim=1), dim=(2, 4, 5), correction=0)
    return LayerOutputs([nodes[node] for node in case.wanted], mean.flatten(1), variance.flatten(1))


def differentiate(run: Callable[[Case], LayerOutputs], case: Case) -> tuple[list[Tensor], list[Tensor]]:
    """What a block gives, and the gradients to all leaves of a sum with fixed random weights."""
    nodes, mean, variance = run(case)
    generator = torch.Generator().manual_seed(1)
    by_nodes = [torch.randn(node.shape, generator=generator, dtype=torch.float64).to(node) for node in nodes]
    return [*nodes, mean, variance], list(torch.autograd.grad(nodes, case.leaves, by_nodes))


def assert_near(given: Sequence[Tensor], expected: Sequence[Tensor], most: float) -> None:
    """Each within a share of the norm of what is expected."""
    for number, (own, other) in enumerate(zip(given, expected, strict=True)):
        assert own.shape == other.shape
        difference = (own.detach().double().cpu() - other.detach().cpu()).norm() / other.detach().norm().clamp_min(
            1e-12
        )
        assert float(difference) <= most, f"tensor {number}: off by {float(difference):.1e}"


@pytest.fixture
def cut(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """All kernels' cut, where a test gives one."""
    monkeypatch.setattr(triton_layers, "CUTS", dict.fromkeys(CUTS, Cut(*getattr(request, "param", (64, 16)))))


SMALL: dict[str, Any] = {"n_members": 2, "size": (3, 4), "layers": 3}
FORMS: list[tuple[dict[str, Any], tuple[int, int]]] = [
    ({}, (16, 16)),
    ({}, (256, 64)),
    ({"growth": 3, "n_inputs": 2}, (64, 16)),
    ({"growth": 8, "size": (4, 4)}, (64, 32)),
    ({"growth": 16, "layers": 2}, (64, 16)),
    ({"n_members": 1, "size": (9, 7), "batch": 3}, (128, 64)),
    ({"size": (1, 1), "batch": 5}, (64, 16)),
]
DEFAULT = [FORMS[place] for place in (0, 2, 6)]  # several tiles; odd widths and inputs; a single pixel
RARE = [pytest.mark.slow, pytest.mark.ci]


@pytest.mark.usefixtures("cut")
@pytest.mark.parametrize(
    ("form", "cut"),
    [
        *((SMALL | form, cut) for form, cut in DEFAULT),
        *(pytest.param(SMALL | form, cut, marks=RARE) for form, cut in FORMS if (form, cut) not in DEFAULT),
        *(pytest.param(form, cut, marks=pytest.mark.slow) for form, cut in FORMS),
    ],
    indirect=["cut"],
)
def test_the_kernels_compute_the_layers(form: dict[str, Any]) -> None:
    case = draw_case(**form)
    for given, expected in zip(differentiate(run_triton, case), differentiate(run_plainly, case), strict=True):
        assert_near(given, expected, 1e-12)


@pytest.mark.usefixtures("cut")
@pytest.mark.parametrize(
    ("form", "cut"),
    [
        ({"n_members": 1, "batch": 4, "size": (4, 8), "layers": 2}, (16, 16)),
        pytest.param({"batch": 11, "size": (8, 8), "layers": 3}, (64, 16), marks=pytest.mark.slow),
    ],
    indirect=["cut"],
)
def test_programs_of_several_tiles_join_their_results(form: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    for name, most in {"N_PROGRAMS": 1, "MIN_PROGRAMS": 3, "MAX_PARTS": 2}.items():
        monkeypatch.setattr(triton_layers, name, most)
    case = draw_case(**form)
    case = case.map(lambda one: one + 100 if one.dim() == 5 and one.shape[-1] == 8 else one)  # squares would cancel
    for given, expected in zip(differentiate(run_triton, case), differentiate(run_plainly, case), strict=True):
        assert_near(given, expected, 1e-10)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize(("growth", "width"), [(4, 6), pytest.param(16, 8, marks=RARE)])
def test_float32_and_half_round(growth: int, width: int, device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    # Interpreted, matrices of bfloat16 are not multiplied as such.
    half, most = (torch.bfloat16, 0.02) if device == "cuda" else (torch.float16, 0.003)
    for dtype, nodes_off, gradients_off in ((torch.float32, 1e-6, 3e-6), (half, most, 0.15)):
        exact = draw_case(n_members=2, growth=growth, size=(3, width), batch=2, layers=2).map(lambda one: one.float())
        rounded = exact.map(lambda one: one.to(device))
        rounded.inputs = [one.detach().to(dtype).requires_grad_() for one in rounded.inputs]
        nodes, gradients = differentiate(run_triton, rounded)
        assert {one.dtype for one in nodes[:-2]} == {dtype}
        assert {one.dtype for one in (*nodes[-2:], *gradients[len(rounded.inputs) :])} == {torch.float32}
        expected, by_expected = differentiate(run_plainly, exact.map(lambda one: one.double()))
        assert_near(nodes, expected, nodes_off)
        assert_near(gradients, by_expected, gradients_off)


@pytest.mark.usefixtures("cut")
def test_by_running_statistics_it_is_batch_norm_s_evaluation() -> None:
    case = draw_case(**SMALL)
    generator = torch.Generator().manual_seed(2)
    means = [torch.randn(one.shape, generator=generator, dtype=torch.float64) for one in case.scales]
    variances = [torch.rand(one.shape, generator=generator, dtype=torch.float64) + 0.5 for one in case.scales]
    nodes, _, _ = run_triton(case, RunningStatistics(means, variances))
    for member, own in enumerate(case.sources):
        expected = [one[member] for one in case.inputs]
        for k, read in enumerate(own):
            x = torch.cat([expected[node] for node in read], dim=1)
            mean, variance, scale, shift = (
                one[k][member, : x.shape[1]] for one in (means, variances, case.scales, case.shifts)
            )
            x = F.batch_norm(x, mean, variance, scale, shift, False, 0.0, EPSILON).relu()
            expected.append(F.conv2d(x, case.weights[k][member, :, : x.shape[1]], padding=1))
        assert_near([node[member] for node in nodes], [expected[node] for node in case.wanted], 1e-12)
    assert not any(node.requires_grad for node in nodes)


@pytest.mark.usefixtures("cut")
@pytest.mark.filterwarnings("ignore:.*encountered in:RuntimeWarning")  # the interpreter's
def test_a_member_that_is_not_finite_leaves_the_others_as_they_are() -> None:
    case = draw_case(size=(2, 3), layers=2)

    def spoil(one: Tensor) -> Tensor:
        one = one.clone()
        if one.dim() == 5 and one.shape[1] == 2:  # the inputs
            one[1] = float("nan")
        return one

    spoilt, expected = differentiate(run_triton, case.map(spoil)), differentiate(run_triton, case)
    for results, others in zip(spoilt, expected, strict=True):
        for own, other in zip(results, others, strict=True):
            assert torch.equal(own[[0, 2]], other[[0, 2]])
    nodes, _ = spoilt
    assert all(one[1].isnan().all() for one in nodes[: len(case.wanted)])


@pytest.mark.parametrize(
    ("widths", "growth", "map_width", "fits"),
    [([4, 4], 4, 32, True), ([8, 4], 4, 32, False), ([64], 64, 32, False), ([4], 4, 224, False)],
)
def test_blocks_that_the_kernels_do_not_take(
    widths: list[int], growth: int, map_width: int, fits: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fused_layers, "uses_triton", lambda _: True)
    assert fused_layers.can_fuse([[(0,)]], widths, growth, map_width, torch.device("cpu")) == fits


@pytest.mark.parametrize("error", [ImportError("no Triton"), RuntimeError("no C compiler")])
def test_where_triton_does_not_run_layers_are_torch_s_own(
    error: Exception, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(_: torch.device) -> None:
        raise error

    monkeypatch.setattr(fused_layers, "uses_triton", lambda _: True)
    arguments = ([[(0,), (0, 1)]], [4], 4, 8, torch.device("cpu"))
    fused_layers._triton_runs.cache_clear()
    assert fused_layers.can_fuse(*arguments)
    fused_layers._triton_runs.cache_clear()
    monkeypatch.setattr(triton_layers, "run_probe", fail)
    assert not fused_layers.can_fuse(*arguments) and not fused_layers.can_fuse(*arguments)
    fused_layers._triton_runs.cache_clear()
    (record,) = caplog.records  # once a process
    assert str(error) in record.getMessage()


def test_a_full_memory_is_not_taken_for_a_fault_of_triton(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: torch.device) -> None:
        raise torch.OutOfMemoryError

    fused_layers._triton_runs.cache_clear()
    monkeypatch.setattr(triton_layers, "run_probe", fail)
    with pytest.raises(torch.OutOfMemoryError):
        fused_layers._triton_runs(torch.device("cpu"))
