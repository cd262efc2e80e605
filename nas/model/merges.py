"""Merges: what a layer makes of the tensors that it reads."""

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn

from search_spaces.errors import InputError


class Concat(nn.Module):
    """The concatenation of all sources along their channels, without a parameter."""

    def forward(self, sources: Sequence[Tensor]) -> Tensor:
        """Sources, each (batch, channels, ...) -> (batch, all channels, ...)."""
        return torch.cat(list(sources), dim=1)


class Sum(nn.Module):
    """The plain sum of all sources, without a parameter."""

    def forward(self, sources: Sequence[Tensor]) -> Tensor:
        """Sources of one shape -> their sum, added in their order."""
        total = sources[0]
        for source in sources[1:]:
            total = total + source
        return total


class Weighted(nn.Module):
    """A sum in which every source has a learned factor.

    Args:
        n_sources: number of sources.
    """

    def __init__(self, n_sources: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(n_sources))
        self.reset_parameters()

    @property
    def factors(self) -> Tensor:
        """What the sources are multiplied by, (sources,)."""
        raise NotImplementedError

    def reset_parameters(self) -> None:
        """Put the start value, which no seed changes, into the weights."""
        raise NotImplementedError

    def forward(self, sources: Sequence[Tensor]) -> Tensor:
        """Sources of one shape -> the sum of each times its factor, added in their order."""
        return weigh(sources, self.factors)


def weigh(sources: Sequence[Tensor], factors: Tensor) -> Tensor:
    """Return the sum of each source times its factor, added in their order.

    Args:
        sources: sources of one shape.
        factors: one factor a source, (sources,).
    """
    first, *others = zip(sources, factors.unbind(), strict=True)
    total = first[0] * first[1]
    for source, factor in others:
        total = total + source * factor
    return total


class Gated(Weighted):
    """The sum of sigmoid(w) times each source (RandWire, arXiv:1904.01569); w is 0 at the start, so a factor 1/2."""

    @property
    def factors(self) -> Tensor:
        return self.weight.sigmoid()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        self.weight.zero_()


class DepthWeighted(Weighted):
    """The sum of a times each source (DenseFormer, arXiv:2402.02622); at the start the last a is 1, the others 0."""

    @property
    def factors(self) -> Tensor:
        return self.weight

    @torch.no_grad()
    def reset_parameters(self) -> None:
        self.weight.zero_()
        self.weight[-1:].fill_(1.0)


MERGES: Mapping[str, Callable[[int], nn.Module]] = {
    "concat": lambda _: Concat(),
    "sum": lambda _: Sum(),
    "gated": Gated,
    "dwa": DepthWeighted,
}


def create_merge(name: str, n_sources: int) -> nn.Module:
    """Create the module that merges a layer's sources into one tensor.

    It is called with the list of sources in the order of the pattern, ascending: the chain's connection is the last.
    All merges but `concat` take sources of one shape and give a tensor of that shape. `concat` and `sum` have no
    parameter, `gated` and `dwa` one scalar a source, whose start value no seed changes.

    Args:
        name: one of MERGES.
        n_sources: number of the layer's sources, at least 1.

    Raises:
        InputError: there is no such merge, or nothing to merge.

    >>> create_merge("sum", 2)([torch.ones(3), torch.full((3,), 2.0)])
    tensor([3., 3., 3.])
    """
    if name not in MERGES:
        raise InputError(f"there is no merge {name!r:.80}: they are {', '.join(MERGES)}")
    if n_sources < 1:
        raise InputError(f"a layer reads at least one source, not {n_sources}")
    return MERGES[name](n_sources)
