"""Learned group convolutions (arXiv:1711.09224, section 3.1): which inputs a group reads is decided in training."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nas.layouts import condensed
from nas.layouts.condensed import count_kept
from nas.layouts.operations import MapShape
from nas.modules.operations import FlatLinear, build_operation

_TINY = 1e-12  # a root has no slope at 0


def find_stage(step: int, n_steps: int, condensation: int) -> int:
    """Return how many condensing stages have begun at a step: they share the first half of training equally.

    The last step is of the last stage, however few steps there are.

    Args:
        step: number of the step, from 0.
        n_steps: number of steps of the whole training.
        condensation: condensation factor C; there are C - 1 stages.

    >>> [find_stage(step, 100, 4) for step in (0, 16, 17, 33, 34, 49, 50, 99)]
    [0, 0, 1, 1, 2, 2, 3, 3]
    """
    last = condensation - 1
    return last if step + 1 >= n_steps else min(last, 2 * step * last // n_steps)


class Condensing(nn.Module):
    """A linear map whose groups drop inputs: what is common to learned group convolutions and learned linear maps.

    Output o belongs to group o mod the number of groups. `mask`, (groups, inputs), has what each group reads; it is in
    the state_dict, so a training that is resumed reads the same.
    """

    weight: Tensor
    mask: Tensor
    condensation: int
    lasso: float

    def start_condensing(self, n_inputs: int, groups: int, condensation: int, lasso: float = 0.0) -> None:
        """Add the mask to a module that has been made."""
        self.register_buffer("mask", torch.ones(groups, n_inputs, dtype=torch.bool))
        self.condensation, self.lasso = condensation, lasso
        self._stage: int | None = None  # of the mask; None: not known
        self.register_load_state_dict_post_hook(_forget_stage)  # type: ignore[no-untyped-call]

    def keep_all(self) -> None:
        """Let every group read all inputs again."""
        self.mask.fill_(True)
        self._stage = None

    @property
    def is_condensed(self) -> bool:
        """Whether the last stage has begun."""
        n_inputs = self.mask.shape[1]
        return int(self.mask[0].sum()) == count_kept(n_inputs, self.condensation, self.condensation - 1)

    @torch.no_grad()
    def condense(self, stage: int) -> None:
        """Drop from each group the inputs of the least sum of |w| over its outputs, down to as many as a stage keeps.

        How many are kept follows from the stage, not from what was dropped before, so a stage may be skipped or begin
        twice. What was dropped is never read again.
        """
        if stage == self._stage:
            return
        n_kept = count_kept(self.mask.shape[1], self.condensation, stage)
        sums = self.by_group().abs().sum(dim=0).masked_fill_(~self.mask, -1)
        kept = sums.argsort(dim=1, descending=True, stable=True)[:, :n_kept]
        self.mask &= torch.zeros_like(self.mask).scatter_(1, kept, True)
        self._stage = stage

    def masked_weight(self) -> Tensor:
        """Return the weights, 0 where a group does not read the input."""
        n_outputs, n_inputs = self.weight.shape[:2]
        mask = self.mask.repeat(n_outputs // len(self.mask), 1)  # output o has the row of group o mod groups
        return self.weight * mask.reshape(n_outputs, n_inputs, *[1] * (self.weight.ndim - 2))

    def penalty(self) -> Tensor:
        """Return the group lasso: the sum, over groups and the inputs they read, of the norm of the weights."""
        squares = self.by_group().square().sum(dim=0)
        return squares.clamp(min=_TINY).sqrt()[self.mask].sum()

    def by_group(self) -> Tensor:
        """Return the weights, those that are not read too, as (outputs of a group, groups, inputs)."""
        return self.weight.flatten(1).reshape(-1, *self.mask.shape)


def _forget_stage(module: nn.Module, _: object) -> None:
    """Forget of which stage a mask is, since another one was loaded."""
    module._stage = None  # type: ignore[assignment]


class LearnedGroupConv(nn.Conv2d, Condensing):
    """A 1x1 convolution whose groups learn which inputs they read."""

    def forward(self, x: Tensor) -> Tensor:
        """(batch, channels read, height, width) -> (batch, channels written, height, width)."""
        return F.conv2d(x, self.masked_weight())


class LearnedFlatLinear(FlatLinear, Condensing):
    """A linear map that learns which inputs it reads."""

    def forward(self, x: Tensor) -> Tensor:
        """(batch, ...) -> (batch, written)."""
        return F.linear(x.flatten(1), self.masked_weight(), self.bias)


class IndexChannels(nn.Module):
    """A choice of channels by their numbers, which are part of the state_dict."""

    index: Tensor

    def __init__(self, n_chosen: int, n_read: int) -> None:
        super().__init__()
        self.n_read = n_read
        self.register_buffer("index", torch.arange(n_chosen) % n_read)

    def can_be(self, index: Tensor) -> bool:
        """Return whether all numbers of an index are those of channels that are read."""
        return bool(((index >= 0) & (index < self.n_read)).all())

    def forward(self, x: Tensor) -> Tensor:
        """(batch, channels read, ...) -> (batch, channels chosen, ...)."""
        return x.index_select(1, self.index)


@build_operation.register
def _(operation: condensed.LearnedGroupConvolution, read: MapShape) -> nn.Module:
    conv = LearnedGroupConv(read.channels, operation.channels, 1, bias=False)
    conv.start_condensing(read.channels, operation.groups, operation.condensation, operation.lasso)
    return conv


@build_operation.register
def _(operation: condensed.LearnedLinear, read: MapShape) -> nn.Module:
    linear = LearnedFlatLinear(read.channels, operation.channels)
    linear.start_condensing(read.channels, 1, operation.condensation)
    return linear


@build_operation.register
def _(operation: condensed.ChannelIndex, read: MapShape) -> nn.Module:
    return IndexChannels(operation.channels, read.channels)


@build_operation.register
def _(operation: condensed.ChannelShuffle, read: MapShape) -> nn.Module:  # noqa: ARG001  singledispatch goes by its type
    return nn.ChannelShuffle(operation.groups)


@torch.no_grad()
def fill_converted(plain: Sequence[nn.Module], learned: Sequence[nn.Module]) -> None:
    """Give the modules of a node after conversion the weights of those before it; see convert_operations.

    Args:
        plain: modules of the converted operations.
        learned: modules of the node's own operations, condensed to the end.
    """
    left = iter(plain)
    for module in learned:
        target = next(left)
        if isinstance(module, nn.BatchNorm2d) and isinstance(target, IndexChannels):
            conv = next(each for each in learned if isinstance(each, LearnedGroupConv))
            target.index.copy_(_list_kept(conv).flatten())
            gathered = {name: x[target.index] if x.ndim else x for name, x in module.state_dict().items()}
            next(left).load_state_dict(gathered)
        elif isinstance(module, LearnedGroupConv):
            kept = _list_kept(module)  # (groups, kept inputs)
            # (outputs of a group, groups, kept inputs), then the outputs of each group next to each other
            weights = module.by_group().gather(2, kept.expand(module.out_channels // len(kept), -1, -1))
            weights = weights.transpose(0, 1).reshape(module.out_channels, -1, 1, 1)
            target.load_state_dict({"weight": weights})
            next(left)  # the shuffle
        elif isinstance(module, LearnedFlatLinear):
            assert isinstance(target, IndexChannels), "an index layer comes before the linear map"
            target.index.copy_(_list_kept(module)[0])
            next(left).load_state_dict({"weight": module.weight[:, target.index], "bias": module.bias})
        else:
            target.load_state_dict(module.state_dict())


def _list_kept(module: Condensing) -> Tensor:
    """Return for each group the inputs that it reads, ascending: (groups, kept)."""
    return module.mask.nonzero()[:, 1].reshape(len(module.mask), -1)
