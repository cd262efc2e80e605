"""Learned group convolutions: which inputs are dropped and when, the lasso, and conversion to plain ones."""

import copy

import pytest
import torch
from torch import Tensor, nn

from nas.layouts.condensed import ChannelIndex, ChannelShuffle, LearnedGroupConvolution, LearnedLinear
from nas.layouts.operations import MapShape
from nas.modules.learned_convolution import LearnedFlatLinear, LearnedGroupConv, find_stage
from nas.modules.operations import build_operation

READ = MapShape(16, 5, 3)


def make_conv(groups: int = 4, condensation: int = 4, channels: int = 8, seed: int = 0) -> LearnedGroupConv:
    conv = build_operation(LearnedGroupConvolution(channels, groups, condensation, 0.1), READ)
    assert isinstance(conv, LearnedGroupConv)
    torch.nn.init.normal_(conv.weight, generator=torch.Generator().manual_seed(seed))
    return conv.double()


def condense_by_counting(weight: Tensor, groups: int, condensation: int, n_stages: int) -> Tensor:
    """Return the mask of each weight after so many stages as the authors' code has it: R / C inputs at each."""
    n_inputs = weight.shape[1]
    mask = torch.ones_like(weight)
    for stage in range(n_stages):
        for group in range(groups):
            sums = [float((weight * mask)[group::groups, place].abs().sum()) for place in range(n_inputs)]
            order = sorted(range(n_inputs), key=sums.__getitem__)  # what was dropped before comes first, as 0
            n_dropped = stage * (n_inputs // condensation)
            for place in order[n_dropped : n_dropped + n_inputs // condensation]:
                mask[group::groups, place] = 0
    return mask


@pytest.mark.parametrize(("groups", "condensation"), [(4, 4), (2, 8), (8, 2), (1, 4), (4, 1)])
def test_each_stage_drops_the_inputs_of_the_least_weight_from_each_group(groups: int, condensation: int) -> None:
    conv = make_conv(groups, condensation)
    weight = conv.weight.detach().flatten(1)
    for stage in range(condensation):
        conv.condense(stage)
        expected = weight * condense_by_counting(weight, groups, condensation, stage)
        assert torch.equal(conv.masked_weight().detach().flatten(1), expected)
        kept = (expected != 0).sum(dim=1)
        assert set(kept.tolist()) == {16 - stage * 16 // condensation}
    assert conv.is_condensed


def test_a_jump_over_stages_keeps_as_many_as_the_stage_says() -> None:
    slow, fast = make_conv(), make_conv()
    for stage in (1, 1, 2, 3, 3):
        slow.condense(stage)
    fast.condense(3)
    assert torch.equal(slow.mask, fast.mask)  # the weights have not changed in between
    assert int(fast.mask.sum()) == 4 * 4


def test_what_was_dropped_is_never_read_again() -> None:
    conv = make_conv()
    conv.condense(1)
    before = conv.mask.clone()
    with torch.no_grad():
        conv.weight.mul_(torch.where(conv.masked_weight() == 0, 100.0, 1.0))  # momentum may make them large
    conv.condense(2)
    assert not (conv.mask & ~before).any()
    assert int(conv.mask.sum()) == 4 * 8
    conv.condense(1)
    assert int(conv.mask.sum()) == 4 * 8


def test_a_state_that_is_loaded_counts_whatever_was_condensed_before() -> None:
    conv, other = make_conv(), make_conv(seed=1)
    conv.condense(1)
    state = copy.deepcopy(conv.state_dict())
    assert {"weight", "mask"} == state.keys()
    other.condense(3)
    other.load_state_dict(state)
    other.condense(1)
    assert torch.equal(other.mask, conv.mask)
    other.condense(3)
    conv.condense(3)
    assert torch.equal(other.mask, conv.mask)


def test_stages_share_the_first_half_of_training() -> None:
    for condensation in (1, 2, 4, 8):
        stages = [find_stage(step, 1000, condensation) for step in range(1000)]
        begins = [stages.index(stage) / 1000 for stage in range(condensation)]
        assert begins == pytest.approx(
            [stage / 2 / max(1, condensation - 1) for stage in range(condensation)], abs=1e-3
        )
        assert stages == sorted(stages)
    assert [find_stage(0, 1, 4), find_stage(0, 2, 4), find_stage(1, 2, 4)] == [3, 0, 3]


def test_dropped_weights_get_no_gradient_and_output_o_reads_what_group_o_mod_g_keeps() -> None:
    conv = make_conv(groups=2)
    conv.condense(3)
    x = torch.randn(2, *READ, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    out = conv(x)
    for output in range(8):
        kept = conv.mask[output % 2]
        direct = torch.einsum("bchw,c->bhw", x[:, kept], conv.weight[output, kept, 0, 0])
        torch.testing.assert_close(out[:, output], direct, rtol=0, atol=1e-12)
    out.sum().backward()
    assert conv.weight.grad is not None
    assert torch.equal(conv.weight.grad != 0, conv.masked_weight() != 0)


def test_the_group_lasso_is_the_sum_of_norms_over_groups_and_inputs() -> None:
    conv = make_conv()
    conv.condense(1)
    weight = conv.masked_weight().detach().flatten(1)
    expected = sum(float(weight[group::4, place].square().sum().sqrt()) for group in range(4) for place in range(16))
    penalty = conv.penalty()
    assert float(penalty.detach()) == pytest.approx(expected, rel=1e-9)
    with torch.no_grad():
        conv.weight.zero_()
    conv.penalty().backward()  # type: ignore[no-untyped-call]
    assert conv.weight.grad is not None
    assert conv.weight.grad.isfinite().all()


def test_a_learned_linear_map_keeps_the_half_of_the_most_weight_at_half_of_the_training() -> None:
    linear = build_operation(LearnedLinear(5, 2), MapShape(12, 1, 1))
    assert isinstance(linear, LearnedFlatLinear)
    assert find_stage(49, 100, 2) == 0
    linear.condense(find_stage(50, 100, 2))
    order = linear.weight.detach().abs().sum(dim=0).sort().indices
    x = torch.randn(3, 12, generator=torch.Generator().manual_seed(0))
    kept = x.clone()
    kept[:, order[:6]] = 0
    torch.testing.assert_close(linear(x), nn.functional.linear(kept, linear.weight, linear.bias))


def test_index_and_shuffle_are_what_their_names_say() -> None:
    index = build_operation(ChannelIndex(6), READ)
    shuffle = build_operation(ChannelShuffle(2), MapShape(6, 1, 2))
    assert list(index.state_dict()) == ["index"]
    index.load_state_dict({"index": torch.tensor([3, 1, 0, 2, 3, 5])})
    x = torch.arange(16.0).reshape(1, 16, 1, 1).expand(2, 16, 1, 2)
    assert index(x)[1, :, 0, 1].tolist() == [3, 1, 0, 2, 3, 5]
    assert shuffle(index(x))[1, :, 0, 1].tolist() == [3, 2, 1, 3, 0, 5]


def test_all_inputs_can_be_read_again() -> None:
    conv = make_conv(groups=2, condensation=8)
    conv.condense(7)
    assert int((conv.masked_weight() == 0).sum()) == 8 * 14
    conv.keep_all()
    assert not (conv.masked_weight() == 0).any()
    conv.condense(7)
    assert int((conv.masked_weight() == 0).sum()) == 8 * 14
