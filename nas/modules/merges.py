"""Merges: what a layer makes of the tensors that it reads."""

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache

import torch
from torch import Tensor, nn

from nas.layouts.merges import MERGE_NAMES, load_merges
from search_spaces.errors import InputError
from search_spaces.seeds import derive_seed


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
assert tuple(MERGES) == MERGE_NAMES


def create_merge(name: str, n_sources: int) -> nn.Module:
    """Create the module that merges a layer's sources into one tensor.

    It is called with the list of sources in the order of the pattern, ascending: the chain's connection is the last.
    All merges but `concat` take sources of one shape and give a tensor of that shape. `concat` and `sum` have no
    parameter, `gated` and `dwa` one scalar a source, whose start value no seed changes. Another package's merge is
    called with the number of sources, and has what parameters it likes.

    Args:
        name: one of MERGES, or that of another package's merge.
        n_sources: number of the layer's sources, at least 1.

    Raises:
        InputError: there is no such merge, it is broken, or there is nothing to merge.

    >>> create_merge("sum", 2)([torch.ones(3), torch.full((3,), 2.0)])
    tensor([3., 3., 3.])
    """
    if n_sources < 1:
        raise InputError(f"a layer reads at least one source, not {n_sources}")
    if name in MERGES:
        return MERGES[name](n_sources)
    plugins = load_merges()
    make = plugins.find(name)
    if make is None:
        raise InputError(f"there is no merge {name!r:.80}: they are {', '.join((*MERGES, *plugins.objects))}")
    return Brought(make, n_sources, f"merge {name!r} of {plugins.origins[name]}")


class Brought(nn.Module):
    """The merge of another package, whose errors name that package.

    Args:
        make: function or class that takes a number of sources and returns a module.
        n_sources: number of sources.
        about: what it is and where it comes from.

    Raises:
        InputError: it failed, or gave no module.
    """

    def __init__(self, make: Callable[[int], object], n_sources: int, about: str) -> None:
        super().__init__()
        self._make, self._n_sources, self._about = make, n_sources, about
        self.inner = self._create()

    def _create(self) -> nn.Module:
        try:
            merge = self._make(self._n_sources)
        except Exception as error:  # of a stranger's class: anything
            failed = f"{self._about} failed for {self._n_sources} sources: {type(error).__name__}: {error}"
            raise InputError(f"{failed}; repair the package, or use another merge") from error
        if not isinstance(merge, nn.Module):
            raise InputError(f"{self._about} gave {merge!r:.80}, which is no torch.nn.Module: repair the package")
        return merge

    def start(self, seed: int) -> None:
        """Make it again on the CPU, with the initial weights that it draws after torch.manual_seed(seed)."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.inner = self._create()

    def forward(self, sources: Sequence[Tensor]) -> Tensor:
        """Sources of one shape -> a tensor of that shape."""
        merged: Tensor = self.inner(list(sources))
        if merged.shape != sources[0].shape:
            raise InputError(
                f"{self._about} made {tuple(merged.shape)} of {len(sources)} sources of {tuple(sources[0].shape)}, "
                "which must be of one shape: repair the package"
            )
        return merged


def start_brought(network: nn.Module, seed: int) -> None:
    """Give every merge of another package in a network initial weights, fixed by a seed and its place."""
    for name, module in list(network.named_modules()):
        if isinstance(module, Brought):
            module.start(derive_seed(seed, "weights", name))


@lru_cache(maxsize=1024)  # cost asks for every layer of every candidate
def count_parameters(name: str, n_sources: int) -> int:
    """Return the number of parameters of a merge.

    >>> count_parameters("gated", 3)
    3
    """
    with torch.device("meta"):
        return sum(parameter.numel() for parameter in create_merge(name, n_sources).parameters())
