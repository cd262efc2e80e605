"""Closed rules: which earlier layers each layer reads."""

import itertools
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction

from search_spaces.errors import InputError
from search_spaces.pattern import ConnectionPattern

Sources = tuple[tuple[int, ...], ...]


LayerRule = Callable[[int, int], Iterable[int]]  # (layer, depth) -> candidate sources, those below 0 dropped


@dataclass(frozen=True, slots=True)
class Template:
    """A named rule that gives a pattern for every depth.

    Args:
        name: as on the command line.
        origin: where the rule comes from.
        sources_at: depth -> the inputs of layers 1..depth.
        inputs_after: depth -> what layer depth + 1 would read; the transition policy `rule` reads it.
        max_depth: the deepest it exists for, None for no limit.
    """

    name: str
    origin: str
    sources_at: Callable[[int], Sources]
    inputs_after: Callable[[int], tuple[int, ...]]
    max_depth: int | None = None

    def build(self, depth: int) -> ConnectionPattern:
        """The template's pattern over `depth` layers.

        Raises:
            InputError: it does not exist for that depth.
        """
        if self.max_depth is not None and depth > self.max_depth:
            raise InputError(f"template {self.name} exists up to {self.max_depth} layers, not for {depth}")
        return ConnectionPattern(depth, self.sources_at(depth))


def _log_depth(layer: int, depth: int) -> int:
    """floor(log2(L + 1)) + 1 inputs for every layer: what the Log-DenseNet authors' code runs."""
    return (depth + 1).bit_length()


def _dense(layer: int, depth: int) -> Iterable[int]:
    return range(layer)


def _chain(layer: int, depth: int) -> Iterable[int]:
    return (layer - 1,)


def _log(layer: int, depth: int) -> Iterable[int]:
    return (layer - 2**k for k in range(layer.bit_length()))


def _nearest(n_inputs: Callable[[int, int], int]) -> LayerRule:
    return lambda layer, depth: range(layer - n_inputs(layer, depth), layer)


def _evenly(n_inputs: Callable[[int, int], int]) -> LayerRule:
    def rule(layer: int, depth: int) -> Iterable[int]:
        m = n_inputs(layer, depth)
        return (layer - 1 - (k * layer) // m for k in range(m))

    return rule


def _odd_even(layer: int, depth: int) -> Iterable[int]:
    return range(layer - 1, -1, -2)


def _half(layer: int, depth: int) -> int:
    return (layer - 1) // 2 + 1


def _half_and_log(layer: int, depth: int) -> Iterable[int]:
    start = layer - _half(layer, depth)
    sources = list(range(start, layer))
    while start > 0:
        start = (start - 1) // 2
        sources.append(start)
    return sources


def _harmonic(layer: int, depth: int) -> Iterable[int]:
    return (layer - 2**k for k in range(layer.bit_length()) if layer % 2**k == 0)


def _log_base(base: Fraction, coefficient: Fraction) -> LayerRule:
    def rule(layer: int, depth: int) -> Iterable[int]:
        power = Fraction(1)
        # max: layer L+1, which a transition stands for, is read as in a block that holds it.
        while power <= max(depth, layer) * coefficient:
            yield layer - 1 - math.floor((power - 1) / coefficient)
            power *= base

    return rule


def midpoint(depth: int) -> Sources:
    """Minimal connections at maximum distance 2: all below a middle hub feed it, all above read it; recurse."""
    sources: list[set[int]] = [set() for _ in range(depth + 1)]

    def connect(first: int, last: int) -> None:
        if first >= last:
            return
        hub = (first + last) // 2
        for layer in range(hub + 1, last + 1):
            sources[layer].add(hub)
        sources[hub].update(range(first, hub))
        connect(first, hub - 1)
        connect(hub + 1, last)

    connect(0, depth)
    return _as_sources(sources)


def _loglog(depth: int) -> Sources:
    return _as_sources(_connect_keys(depth, ()))


def _connect_keys(depth: int, more_keys: Iterable[int]) -> list[set[int]]:
    """Key layers every floor(sqrt(length)) layers read all earlier keys; recurse between neighbouring keys.

    Args:
        more_keys: layers that are keys of the whole, beside the usual ones.

    Returns:
        Inputs by layer; those of 0 mean nothing.
    """
    sources: list[set[int]] = [{layer - 1} for layer in range(depth + 1)]

    def connect(first: int, last: int, more_keys: Iterable[int] = ()) -> None:
        length = last - first + 1
        if length <= 2:
            return
        keys = sorted({first, *range(last, first - 1, -math.isqrt(length)), *more_keys})
        for n_earlier, layer in enumerate(keys):
            sources[layer].update(keys[:n_earlier])
        for key, next_key in itertools.pairwise(keys):
            for layer in range(key + 1, next_key):
                sources[layer].add(key)
            connect(key, next_key)

    connect(0, depth, more_keys)
    return sources


MIN_LOGLOG_INPUTS = 4  # as wide as a bottleneck is


def loglog_across(depths: Sequence[int]) -> ConnectionPattern:
    """LogLog-DenseNet's pattern over several blocks (arXiv:1711.00002, and its authors' code).

    The rule `loglog` over the layers of all blocks, with each block's last layer a key. A layer of fewer than
    MIN_LOGLOG_INPUTS inputs also reads the layers 1, 2, 4, 8, ... before it, nearest first, then the nearest others,
    until it has so many; the authors' code stops at the former, which layers 4 to 7 may run out of.

    Args:
        depths: layers of each block.

    >>> [len(inputs) for inputs in loglog_across((4, 4)).sources]
    [1, 2, 3, 4, 4, 4, 4, 6]
    """
    depth = sum(depths)
    sources = _connect_keys(depth, itertools.accumulate(depths))
    for layer, inputs in enumerate(sources):
        powers = [layer - 2**k for k in range(layer.bit_length())]
        for source in (*powers, *range(layer - 1, -1, -1)):
            if len(inputs) < MIN_LOGLOG_INPUTS:
                inputs.add(source)
    return ConnectionPattern(depth, _as_sources(sources))


def _as_sources(sets: list[set[int]]) -> Sources:
    return tuple(tuple(sorted(inputs)) for inputs in sets[1:])


MAX_SEARCHED_DEPTH = 256  # of templates that are searched for: under a second at 52 layers, some seconds there


def _by_layer(name: str, origin: str, rule: LayerRule) -> Template:
    def inputs(layer: int, depth: int) -> tuple[int, ...]:
        return tuple(sorted({layer - 1, *(source for source in rule(layer, depth) if source >= 0)}))

    return Template(
        name,
        origin,
        sources_at=lambda depth: tuple(inputs(layer, depth) for layer in range(1, depth + 1)),
        inputs_after=lambda depth: inputs(depth + 1, depth),
    )


def _by_block(name: str, origin: str, rule: Callable[[int], Sources], max_depth: int | None = None) -> Template:
    return Template(name, origin, rule, inputs_after=lambda depth: rule(depth + 1)[-1], max_depth=max_depth)
