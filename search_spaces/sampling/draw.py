"""Draws of patterns that spend a budget: uniform ones, and wide ones that reach what those hardly ever do."""

from collections import deque
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from search_spaces.budget import Budget
from search_spaces.errors import InputError
from search_spaces.pattern import ConnectionPattern

MAX_REJECTED = 10_000  # uniform draws in a row that break a cap
WIDE_SD = 2.0  # standard deviation of what a wide draw prefers, in units of log weight
MAX_HUBS = 3  # nodes of a wide draw that more skips leave, or that more skips reach


def sample_uniform(budget: Budget, generator: np.random.Generator) -> ConnectionPattern:
    """Draw a pattern uniformly from all that meet the budget; with caps, draw until one meets them.

    Raises:
        InputError: MAX_REJECTED draws in a row broke a cap.

    >>> sample_uniform(Budget(6, total=10), np.random.default_rng(0)).n_connections
    10
    """
    for _ in range(MAX_REJECTED):
        pattern = _draw_uncapped(budget, generator)
        if budget.is_met_by(pattern):
            return pattern
    raise InputError(
        f"{MAX_REJECTED} uniform draws in a row broke a cap of budget {budget}: give larger caps, or sample a cell or "
        "wide, which need no rejection"
    )


def _draw_uncapped(budget: Budget, generator: np.random.Generator) -> ConnectionPattern:
    if budget.per_layer is not None:
        return ConnectionPattern.from_sources(
            [*generator.choice(layer - 1, degree - 1, replace=False).tolist(), layer - 1]
            for layer, degree in enumerate(budget.per_layer, start=1)
        )
    depth = budget.depth
    n_skips = budget.n_connections - depth
    # Skip number s, counted layer by layer, belongs to the layer t with (t-1)(t-2)/2 <= s < t(t-1)/2.
    chosen = generator.choice(depth * (depth - 1) // 2, n_skips, replace=False)
    firsts = np.arange(depth + 1) * (np.arange(depth + 1) - 1) // 2  # firsts[t - 1]: first skip of layer t
    layers = np.searchsorted(firsts[1:], chosen, side="right") + 1
    skips = zip((chosen - firsts[layers - 1]).tolist(), layers.tolist(), strict=True)
    return ConnectionPattern.from_connections(depth, [*((i - 1, i) for i in range(1, depth + 1)), *skips])


def sample_wide(budget: Budget, generator: np.random.Generator) -> ConnectionPattern:
    """Draw a pattern whose skips prefer lengths, places and hubs that are drawn first.

    A skip's log weight is a z(log length) + b z(source) + c z(target), with a, b and c from N(0, WIDE_SD^2) and z over
    all possible skips, plus |N(0, WIDE_SD^2)| for each of up to MAX_HUBS hubs that it leaves or reaches. Every pattern
    of the budget can come up, but those that uniform draws hardly ever give do so far more often. Under a budget by
    layer only the sources are drawn, so what concerns targets changes nothing.

    >>> sample_wide(Budget(6, total=10, max_out=3), np.random.default_rng(0)).n_connections
    10
    """
    skips = _list_skips(budget.depth)
    lengths, sources, targets = (WIDE_SD * generator.standard_normal(3)).tolist()
    log_weights = lengths * skips.z_lengths + sources * skips.z_sources + targets * skips.z_targets
    for _ in range(generator.integers(MAX_HUBS + 1)):
        ends = skips.sources if generator.integers(2) else skips.targets
        hub = generator.integers(budget.depth + 1)
        log_weights = log_weights + abs(WIDE_SD * generator.standard_normal()) * (ends == hub)
    return sample_weighted(budget, log_weights, generator)


def sample_weighted(
    budget: Budget, log_weights: NDArray[np.float64], generator: np.random.Generator
) -> ConnectionPattern:
    """Draw skips one after another, each with a chance proportional to its weight among those that still fit.

    The order of log weights plus Gumbel noise is that of such draws (Kool et al., arXiv:1903.06059). Under caps a skip
    that breaks one is passed over; where too few are left, others make way for them.

    Args:
        log_weights: logarithms of the weights of all skips, ordered by target, then source, of shape (L (L-1) / 2,).
    """
    skips = _list_skips(budget.depth)
    order = np.argsort(-(log_weights + generator.gumbel(size=len(skips.sources))))
    choice = _Choice(budget)
    for source, target in zip(skips.sources[order].tolist(), skips.targets[order].tolist(), strict=True):
        choice.offer(source, target)
    while choice.n_missing:
        choice.make_way()
    return choice.pattern()


@dataclass(frozen=True, slots=True, eq=False)
class _Skips:
    """All possible skips of a depth, ordered by target, then source; each array has the shape (L (L-1) / 2,)."""

    sources: NDArray[np.int64]
    targets: NDArray[np.int64]
    z_lengths: NDArray[np.float64]  # of log length, standardised over all skips
    z_sources: NDArray[np.float64]
    z_targets: NDArray[np.float64]


@lru_cache(maxsize=16)
def _list_skips(depth: int) -> _Skips:
    targets, sources = np.tril_indices(depth - 1)
    targets = targets + 2
    lengths = np.log(targets - sources)
    return _Skips(sources, targets, _standardise(lengths), _standardise(sources), _standardise(targets))


def _standardise(values: NDArray[np.number]) -> NDArray[np.float64]:
    spread = float(np.std(values)) if len(values) else 0.0
    return (values - np.mean(values)) / spread if spread > 0 else np.zeros(len(values))


class _Choice:
    """Skips chosen so far, and how many more each layer may read and each node may feed."""

    def __init__(self, budget: Budget) -> None:
        in_degrees = (budget.most_in,) * budget.depth if budget.per_layer is None else budget.per_layer
        self._budget = budget
        self._room_in = [0, *(degree - 1 for degree in in_degrees)]  # of layers 0..L, besides the chain's
        self._room_out = [budget.most_out - 1] * (budget.depth + 1)
        self._ranked: list[list[int]] = [[] for _ in range(budget.depth + 1)]  # sources offered to each layer, in order
        self._chosen: set[tuple[int, int]] = set()
        self.n_missing = budget.n_connections - budget.depth

    def offer(self, source: int, target: int) -> None:
        """Choose a skip if it is wanted and breaks no cap."""
        self._ranked[target].append(source)
        if self.n_missing and self._room_in[target] and self._room_out[source]:
            self._chosen.add((source, target))
            self._room_in[target] -= 1
            self._room_out[source] -= 1
            self.n_missing -= 1

    def make_way(self) -> None:
        """Choose one more skip by a shortest augmenting path, on which chosen skips give way to others.

        As long as a choice is smaller than the largest one that keeps the caps, there is such a path (Berge, 1957).
        """
        starts = [layer for layer, room in enumerate(self._room_in) if room]
        reached: dict[int, int] = {}  # source -> layer that it would newly feed
        freed: dict[int, int] = {}  # layer -> source that it would no longer read
        queue = deque(starts)
        while queue:
            target = queue.popleft()
            for source in self._ranked[target]:
                if source in reached or (source, target) in self._chosen:
                    continue
                reached[source] = target
                if self._room_out[source]:
                    self._swap_along(source, reached, freed)
                    return
                readers = sorted(reader for chosen, reader in self._chosen if chosen == source)
                for reader in readers:
                    if reader not in freed and reader not in starts:
                        freed[reader] = source
                        queue.append(reader)
        raise AssertionError("a budget that can be met has an augmenting path")

    def _swap_along(self, source: int, reached: dict[int, int], freed: dict[int, int]) -> None:
        self._room_out[source] -= 1
        self.n_missing -= 1
        while True:
            target = reached[source]
            self._chosen.add((source, target))
            if target not in freed:
                self._room_in[target] -= 1
                return
            source = freed[target]
            self._chosen.remove((source, target))

    def pattern(self) -> ConnectionPattern:
        chain = ((layer - 1, layer) for layer in range(1, self._budget.depth + 1))
        return ConnectionPattern.from_connections(self._budget.depth, [*chain, *self._chosen])
