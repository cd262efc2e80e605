"""Training with packed parameters: the numbers and the checkpoints of training without, bit for bit."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from nas.engines.fused_layers import FusedLayers
from nas.model.candidate import Candidate
from nas.training.sgd import PackedSGD
from nas.training.stepping import Engine, Stepper
from nas.training.train import Member, train_cohort
from tests.support.compiled import ensure_compiled
from tests.support.small_cohorts import draw_candidates, draw_split, list_losses, slots, step_by_step

pytestmark = pytest.mark.usefixtures("one_thread")

SETTINGS: dict[str, Any] = {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.01, "nesterov": True, "fused": True}
SHAPES = [(4,), (12,), (4, 8, 3, 3), (17,), (5, 3)]  # with and without whole vectors
N_PACKED = 3


def make_parameters(is_packed: bool) -> tuple[list[nn.Parameter], list[Tensor]]:
    """Return parameters of a seed, the first few packed if asked, and the packed tensors."""
    generator = torch.Generator().manual_seed(0)
    parameters = [nn.Parameter(torch.randn(shape, generator=generator)) for shape in SHAPES]
    if not is_packed:
        return parameters, []
    packed = torch.cat([parameter.detach().flatten() for parameter in parameters[:N_PACKED]])
    packed.grad = torch.zeros_like(packed)
    sizes = [parameter.numel() for parameter in parameters[:N_PACKED]]
    views = zip(torch.split(packed, sizes), torch.split(packed.grad, sizes), strict=True)
    for parameter, (values, gradient) in zip(parameters, views, strict=False):
        parameter.data, parameter.grad = values.view_as(parameter), gradient.view_as(parameter)
    return parameters, [packed]


def take_steps(optimizer: torch.optim.Optimizer, parameters: list[nn.Parameter], steps: range) -> None:
    for step in steps:
        generator = torch.Generator().manual_seed(step)
        for group in optimizer.param_groups:
            group["lr"] = 0.1 / (step + 1)
        optimizer.zero_grad()
        loss = sum((each * torch.randn(each.shape, generator=generator)).sum() ** 2 for each in parameters)
        assert isinstance(loss, Tensor)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()


def is_same(state: dict[str, Any], other: dict[str, Any]) -> bool:
    """Equality of two state_dicts of optimisers, to the last bit."""
    momenta, others = (
        [(number, own["momentum_buffer"]) for number, own in each["state"].items()] for each in (state, other)
    )
    is_equal = all(a == b and torch.equal(x, y) for (a, x), (b, y) in zip(momenta, others, strict=True))
    return is_equal and state["param_groups"] == other["param_groups"]


def test_it_is_sgd_bit_for_bit_and_goes_on_from_its_states() -> None:
    parameters, _ = make_parameters(is_packed=False)
    views, packed = make_parameters(is_packed=True)
    plain = torch.optim.SGD(parameters, **SETTINGS)
    optimizer = PackedSGD(views, packed, **SETTINGS)
    take_steps(plain, parameters, range(4))
    take_steps(optimizer, views, range(4))
    assert all(map(torch.equal, views, parameters))
    assert is_same(optimizer.state_dict(), plain.state_dict())
    # Another's state, taken after the first step.
    first, _ = make_parameters(is_packed=False)
    earlier = torch.optim.SGD(first, **SETTINGS)
    take_steps(earlier, first, range(1))
    for view, parameter in zip(views, first, strict=True):
        view.data.copy_(parameter)
    optimizer.load_state_dict(earlier.state_dict())
    take_steps(optimizer, views, range(1, 4))
    assert all(map(torch.equal, views, parameters))
    assert is_same(optimizer.state_dict(), plain.state_dict())


def test_zeroed_gradients_are_zero_and_stay_views() -> None:
    views, (packed,) = make_parameters(is_packed=True)
    optimizer = PackedSGD(views, [packed], **SETTINGS)
    take_steps(optimizer, views, range(1))
    optimizer.zero_grad(set_to_none=False)
    assert all(view.grad is not None and not view.grad.any() for view in views)
    optimizer.zero_grad()
    assert [view.grad is None for view in views] == [False] * N_PACKED + [True] * (len(views) - N_PACKED)
    assert packed.grad is not None
    packed.grad.fill_(2)
    assert all(view.grad is not None and (view.grad == 2).all() for view in views[:N_PACKED])


# --- training ------------------------------------------------------------------------------------------------------


@pytest.fixture
def unpacked(monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    """Within its context, trainings are those of versions that packed nothing."""
    ensure_compiled()
    with monkeypatch.context() as patch:
        yield patch


def train(candidates: list[Candidate], folder: Path, stops: bool = False) -> list[tuple[Any, ...]]:
    """Train from the folder's checkpoints, if it has any; return what does not depend on them."""
    members = [
        Member(candidate, draw_split(candidate), slot)
        for candidate, slot in zip(candidates, slots(folder, candidates), strict=True)
    ]
    outcomes = train_cohort(members, step_by_step(4), pause_after=2 if stops else None, engine=Engine(is_fused=True))
    return [(list_losses(outcome), outcome.metrics, outcome.strengths, outcome.error) for outcome in outcomes]


@pytest.mark.parametrize(("size", "network"), [(1, "log"), (2, "log"), (1, "bottleneck")])
def test_a_training_and_its_checkpoints_are_those_without_packing(
    size: int, network: str, tmp_path: Path, unpacked: pytest.MonkeyPatch
) -> None:
    candidates = draw_candidates(network, n=size)
    device = torch.device("cpu")
    assert isinstance(Stepper(candidates, 1e-4, device, Engine(is_fused=True)).optimizer, PackedSGD)
    given = train(candidates, tmp_path / "packed")
    train(candidates, tmp_path / "packed half", stops=True)
    unpacked.setattr(FusedLayers, "pack", lambda _: None)
    assert not isinstance(Stepper(candidates, 1e-4, device, Engine(is_fused=True)).optimizer, PackedSGD)
    assert train(candidates, tmp_path / "plain") == given
    train(candidates, tmp_path / "plain half", stops=True)
    for own, other in zip(
        slots(tmp_path / "packed half", candidates), slots(tmp_path / "plain half", candidates), strict=True
    ):
        written, expected = own.read("cpu"), other.read("cpu")
        assert written is not None
        assert expected is not None
        assert list(written.network) == list(expected.network)
        assert all(torch.equal(written.network[name], expected.network[name]) for name in expected.network)
        assert is_same(written.optimizer, expected.optimizer)
        # Each tensor is all of its storage: files are no larger than before.
        assert {x.untyped_storage().nbytes() - x.nbytes for x in written.network.values()} == {0}
    # Both go on from the other's checkpoint, to the same end.
    assert train(candidates, tmp_path / "packed half") == given
    unpacked.undo()
    assert train(candidates, tmp_path / "plain half") == given
