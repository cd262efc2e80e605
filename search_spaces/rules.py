"""Rules for which earlier layers each layer reads, layer by layer or for a whole block."""

import itertools
import math
from collections.abc import Callable, Iterable, Sequence
from fractions import Fraction

from search_spaces.pattern import ConnectionPattern

# --- spacings: where the inputs of a layer lie when it has n of them -----------------------------------------------

Spacing = Callable[[int, int], Iterable[int]]  # (layer, number of inputs) -> sources, from the nearest on


def nearest(layer: int, n_inputs: int) -> Iterable[int]:
    """Read the layers just before."""
    return range(layer - 1, layer - 1 - n_inputs, -1)


def evenly(layer: int, n_inputs: int) -> Iterable[int]:
    """Read from the layer before down to the block's input at even steps."""
    return [layer - 1 - (k * layer) // n_inputs for k in range(n_inputs)]


def geometric(layer: int, n_inputs: int) -> Iterable[int]:
    """Read from the layer before to the block's input in equal ratios, as near as distinct whole numbers come."""
    offsets = [1]
    for k in range(1, n_inputs):
        # The least whole number that is at least layer ** (k / (n_inputs - 1)), without floats.
        offset = offsets[-1] + 1
        while offset ** (n_inputs - 1) < layer**k:
            offset += 1
        offsets.append(min(offset, layer - (n_inputs - 1 - k)))
    return [layer - offset for offset in offsets]


# --- rules that decide layer by layer ------------------------------------------------------------------------------

LayerRule = Callable[[int, int], Iterable[int]]  # (layer, depth) -> sources; those below 0 are left out


def chain(layer: int, depth: int) -> Iterable[int]:
    """Read the layer before."""
    return [layer - 1]


def dense(layer: int, depth: int) -> Iterable[int]:
    """Read all earlier nodes."""
    return range(layer)


def log(layer: int, depth: int) -> Iterable[int]:
    """Read the layers 1, 2, 4, 8, ... before."""
    return (layer - 2**k for k in range(layer.bit_length()))


def odd_even(layer: int, depth: int) -> Iterable[int]:
    """Read every second layer before."""
    return range(layer - 1, -1, -2)


def half_and_log(layer: int, depth: int) -> Iterable[int]:
    """Read the nearer half of all earlier nodes, then the parents of its first in a binary heap."""
    start = layer // 2
    sources = list(range(start, layer))
    while start > 0:
        start = (start - 1) // 2
        sources.append(start)
    return sources


def mini_dense(layer: int, depth: int) -> Iterable[int]:
    """Read the two layers before and, at the end of a part of the block, the last layer of that part's first half.

    The nodes 0..L are halved again and again: [left, right) into [left, middle) and [middle, right), middle rounded
    down. Layer i reads middle - 1 of the largest part that ends with i, if i - middle > 1. This is dense_select_method
    5 of the code of arXiv:1711.00002, "mini dense", meant to keep every layer near the last one, but not near others.
    """
    left, right = 0, max(depth, layer) + 1  # layer L+1, which a transition stands for, ends a block of its own
    while right != layer + 1:
        middle = (left + right) // 2
        left, right = (middle, right) if layer >= middle else (left, middle)
    middle = (left + right) // 2
    return [layer - 1, layer - 2, *([middle - 1] if layer - middle > 1 else [])]


def harmonic(layer: int, depth: int) -> Iterable[int]:
    """Read the layer 2^k before wherever 2^k divides the layer's number."""
    return (layer - 2**k for k in range(layer.bit_length()) if layer % 2**k == 0)


def log_base(base: Fraction, coefficient: Fraction) -> LayerRule:
    """Return the log rule with base b and coefficient c: sources i - 1 - floor((b^k - 1) / c) while b^k <= L c."""

    def rule(layer: int, depth: int) -> Iterable[int]:
        power = Fraction(1)
        # max: layer L+1, which a transition stands for, is read as in a block that has it.
        while power <= max(depth, layer) * coefficient:
            yield layer - 1 - math.floor((power - 1) / coefficient)
            power *= base

    return rule


def denseformer(dilation: int, period: int) -> LayerRule:
    """Return DenseFormer's rule (arXiv:2402.02622, section 3.2) with dilation k and period p.

    Block i + 1 reads the average Y_i after block i, over the nodes j = i, i - k, i - 2k, ..., down to 0 or above. Only
    every p-th block has an average after it: where p does not divide i, Y_i is block i's output. Y_0 is node 0.
    """

    def rule(layer: int, depth: int) -> Iterable[int]:
        return range(layer - 1, -1, -dilation) if (layer - 1) % period == 0 else [layer - 1]

    return rule


# --- rules that decide for the whole block -------------------------------------------------------------------------

MAX_SEARCHED_DEPTH = 256  # of patterns found by a search: under a second at 52 layers, some seconds here


def midpoint(depth: int) -> ConnectionPattern:
    """Build the fewest connections of MBD 2: all below a middle hub feed it, all above read it; then in each half."""
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
    return ConnectionPattern.from_sources(sources[1:], depth)


def loglog(depth: int) -> ConnectionPattern:
    """Build LogLog-DenseNet's pattern (arXiv:1711.00002) over one block."""
    return ConnectionPattern.from_sources(_connect_keys(depth)[1:], depth)


MIN_LOGLOG_INPUTS = 4  # as wide as a bottleneck is


def loglog_across(depths: Sequence[int]) -> ConnectionPattern:
    """Build LogLog-DenseNet's pattern over several blocks (arXiv:1711.00002, and its authors' code).

    The rule `loglog` over the layers of all blocks, with each block's last layer a key. A layer of fewer than
    MIN_LOGLOG_INPUTS inputs also reads the layers 1, 2, 4, 8, ... before it, nearest first, then the nearest others,
    until it has that many; the authors' code stops after the former, which layers 4 to 7 may run out of.

    Args:
        depths: number of layers of each block.

    >>> [len(inputs) for inputs in loglog_across((4, 4)).sources]
    [1, 2, 3, 4, 4, 4, 4, 6]
    """
    depth = sum(depths)
    sources = _connect_keys(depth, itertools.accumulate(depths))
    for layer, inputs in enumerate(sources):
        for source in (*log(layer, depth), *nearest(layer, layer)):
            if len(inputs) < MIN_LOGLOG_INPUTS:
                inputs.add(source)
    return ConnectionPattern.from_sources(sources[1:])


def _connect_keys(depth: int, more_keys: Iterable[int] = ()) -> list[set[int]]:
    """Let keys, every floor(sqrt(length)) layers, read all earlier keys; repeat between neighbouring keys.

    Args:
        depth: number of layers.
        more_keys: layers that are keys of the whole block besides the usual ones.

    Returns:
        Inputs of each node 0..L; those of node 0 mean nothing.
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
