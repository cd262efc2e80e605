"""Compiled distances and moves, for inner loops."""

# All compiled functions are in this file: numba's cache does not notice changes in another one, and would run a stale
# copy of what a function calls there.

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from search_spaces.errors import InputError
from search_spaces.measures.instructions import (
    N_LANES,
    add,
    fill,
    first,
    greater,
    greatest,
    increase,
    increase_round,
    keep,
    lesser,
    load,
    store,
    total,
    widen,
)
from search_spaces.pattern import ConnectionPattern

MAX_DEPTH = 2**15 - 2  # distances are int16
_ONE = np.uint64(1)
UNREACHED = 254  # above any distance that a byte of a row holds

# Places of the measures of a state: sums over pairs, connections and nodes below the output, and a maximum.
SUM_BD, SUM_SPAN, FROM_OUTPUT, MAX_OUT_DEGREE = range(4)


@dataclass(frozen=True, slots=True)
class DistanceBatch:
    """Backprop distances of n patterns, as in BackpropDistance; all shapes are (n,)."""

    mean: NDArray[np.float64]
    max: NDArray[np.int64]
    from_output_mean: NDArray[np.float64]
    to_input_mean: NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class PackedPatterns:
    """Patterns of one depth as the kernels read them: packing takes longer than scoring, so it is done once."""

    depth: int  # number of layers L
    offsets: NDArray[np.int64]  # (n L + 1,); layer i of pattern p reads sources[offsets[p L + i-1] : offsets[p L + i]]
    sources: NDArray[np.int16]  # inputs of all layers of all patterns, int16; each layer's ascend, the chain's last


def batch_distances(patterns: Sequence[ConnectionPattern] | PackedPatterns) -> DistanceBatch:
    """Compute the backprop distances of patterns of one depth, hundreds of times as fast as networkx.

    Raises:
        InputError: there is no pattern, their depths differ, or they are deeper than MAX_DEPTH layers.

    >>> from search_spaces.templates import find_template
    >>> batch_distances([find_template("chain").build(4), find_template("log").build(4)]).mean.tolist()
    [2.0, 1.2]
    """
    packed = patterns if isinstance(patterns, PackedPatterns) else pack_patterns(patterns)
    depth = packed.depth
    # sums: (n, 4): all pairs, max, from output, to input
    sums = (_byte_sums if depth < UNREACHED else _distance_sums)(depth, packed.offsets, packed.sources)
    return DistanceBatch(
        mean=sums[:, 0] / (depth * (depth + 1) // 2),
        max=sums[:, 1].copy(),
        from_output_mean=sums[:, 2] / depth,
        to_input_mean=sums[:, 3] / depth,
    )


def pack_patterns(patterns: Sequence[ConnectionPattern]) -> PackedPatterns:
    """Pack patterns of one depth; batch_distances says what is refused."""
    depths = {pattern.depth for pattern in patterns}
    if len(depths) != 1 or max(depths) > MAX_DEPTH:
        raise InputError(f"a batch takes patterns of one depth up to {MAX_DEPTH}, not of depths {sorted(depths)}")
    layers = [inputs for pattern in patterns for inputs in pattern.sources]
    offsets = np.zeros(len(layers) + 1, dtype=np.int64)
    np.cumsum([len(inputs) for inputs in layers], out=offsets[1:])
    sources = np.fromiter(itertools.chain.from_iterable(layers), dtype=np.int16, count=int(offsets[-1]))
    return PackedPatterns(depths.pop(), offsets, sources)


@njit(cache=True, nogil=True)
def _byte_sums(depth, offsets, sources):  # type: ignore[no-untyped-def]  # pragma: no cover, compiled
    """Compute what _distance_sums does below UNREACHED layers, on rows of 32 nodes, one block of them after the other.

    A row holds distances from a layer to the 32 nodes of a block, and 255 where there is no path, so that 255 + 1 = 0
    leaves these out of sums. Sums over layers have 16 bits: at most 253 layers add at most 254 each.
    """
    depth, lanes = np.uint64(depth), np.uint64(N_LANES)  # signed, they would be slower
    n_patterns, n_blocks = np.uint64(offsets.shape[0] - 1) // depth, (depth + lanes - _ONE) // lanes
    sums = np.empty((n_patterns, 4), dtype=np.int64)
    rows = np.full(n_blocks * (depth + _ONE) * lanes, 255, dtype=np.uint8)  # nothing leads from below a block into it
    own = np.full((lanes + _ONE) * lanes, 255, dtype=np.uint8)  # bits to keep, so that a node is 0 hops from itself
    for lane in range(lanes):
        own[lane * (lanes + _ONE)] = 0
    for block in range(n_blocks):
        rows[block * (depth + _ONE) * lanes + block * lanes * lanes] = 0
    for p in range(n_patterns):
        all_pairs, from_output, to_input, largest = 0, 0, 0, fill(np.uint8(0))
        for block in range(n_blocks):
            lowest, start = block * lanes, block * (depth + _ONE) * lanes
            over_layers, hops = widen(fill(np.uint8(0))), fill(np.uint8(0))
            row = load(rows, start + lowest * lanes)
            k = np.uint64(offsets[p * depth + lowest])
            for i in range(lowest + _ONE, depth + _ONE):
                end = np.uint64(offsets[p * depth + i])
                while k < end - _ONE:  # the last source is the chain's, whose row is at hand
                    row = lesser(row, load(rows, start + np.uint64(sources[k]) * lanes))
                    k += _ONE
                k += _ONE
                row = increase(row)
                hops = increase_round(row)  # one too many, where there is a path
                row = keep(row, load(own, min(i - lowest, lanes) * lanes))
                store(rows, start + i * lanes, row)
                over_layers = add(over_layers, hops)
                largest = greater(largest, hops)
            all_pairs += total(over_layers)
            from_output += total(widen(hops))
            if block == 0:
                to_input = first(over_layers)
        sums[p, 0] = all_pairs - np.int64(depth * (depth + _ONE)) // 2
        sums[p, 1] = greatest(largest) - 1
        sums[p, 2] = from_output - np.int64(depth)
        sums[p, 3] = to_input - np.int64(depth)
    return sums


@njit(cache=True, nogil=True)
def _distance_sums(
    depth: int, offsets: NDArray[np.int64], sources: NDArray[np.int16]
) -> NDArray[np.int64]:  # pragma: no cover, compiled
    n_patterns = (offsets.shape[0] - 1) // depth
    sums = np.zeros((n_patterns, 4), dtype=np.int64)
    rows = np.zeros((depth + 1, depth + 1), dtype=np.int16)  # rows[i, j] = BD(i, j), reused by every pattern
    for p in range(n_patterns):
        for i in range(1, depth + 1):
            row = rows[i]
            row[:i] = depth
            # Layer order makes every input's row final: D[i] = 1 + min over inputs u of D[u], D[u][u] = 0.
            for k in range(offsets[p * depth + i - 1], offsets[p * depth + i]):
                u = sources[k]
                other = rows[u]
                for j in range(u + 1):
                    row[j] = min(row[j], other[j] + 1)
            for j in range(i):
                sums[p, 0] += row[j]
                sums[p, 1] = max(sums[p, 1], row[j])
            sums[p, 3] += row[0]
        for j in range(depth):
            sums[p, 2] += rows[depth, j]
    return sums


@njit(cache=True, nogil=True)
def rescore(first, sources, degrees, rows, sums, saved, layers, touched):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Bring rows and sums up to date after the inputs of some layers changed; compute only rows that can change.

    Args:
        first: lowest layer whose inputs changed, 1..L.
        sources: (L + 1, L); sources[i, :degrees[i]] are layer i's inputs.
        degrees: (L + 1,).
        rows: (L + 1, L + 1); rows[i, j] = BD(i, j), changed in place.
        sums: (L + 1,); sums[i] is the sum of rows[i, :i], changed in place.
        saved: (at least L + 2, L + 1); receives the former rows, in order; its last row is scratch.
        layers: (2 L + 2,); receives pairs (layer, former sum) of the rows saved.
        touched: (L + 1,); True where inputs changed on entry, all False on return.

    Returns:
        The number of rows saved, which `undo` takes.
    """
    depth = degrees.shape[0] - 1
    fresh = saved[depth + 1]
    n_saved = 0
    for i in range(first, depth + 1):
        if not touched[i]:
            for k in range(degrees[i]):
                if touched[sources[i, k]]:
                    touched[i] = True
                    break
            if not touched[i]:
                continue
        # Layer i-1 is always an input, so its row starts the minimum.
        previous = rows[i - 1]
        for j in range(i - 1):
            fresh[j] = previous[j] + 1
        fresh[i - 1] = 1
        for k in range(1, degrees[i]):
            u = sources[i, k]
            other = rows[u]
            for j in range(u):
                fresh[j] = min(fresh[j], other[j] + 1)
            fresh[u] = 1
        total = 0
        changed = False
        row = rows[i]
        for j in range(i):
            total += fresh[j]
            changed |= row[j] != fresh[j]
        touched[i] = changed
        if changed:
            for j in range(i):  # assigned as slices, this would compile numba's words for shapes that differ: 2 s
                saved[n_saved, j] = row[j]
                row[j] = fresh[j]
            layers[2 * n_saved] = i
            layers[2 * n_saved + 1] = sums[i]
            sums[i] = total
            n_saved += 1
    touched[first:] = False
    return n_saved


@njit(cache=True, nogil=True)
def undo(n_saved, rows, sums, saved, layers):  # type: ignore[no-untyped-def]  # pragma: no cover, compiled
    """Undo what `rescore` changed, from what it saved."""
    for k in range(n_saved):
        i = layers[2 * k]
        for j in range(i):
            rows[i, j] = saved[k, j]
        sums[i] = layers[2 * k + 1]


@njit(cache=True, nogil=True)
def _next(seed: np.uint64) -> Any:  # pragma: no cover, compiled
    """Return the next number of Marsaglia's xorshift64, a generator that needs one register."""
    seed ^= seed << np.uint64(13)
    seed ^= seed >> np.uint64(7)
    return seed ^ (seed << np.uint64(17))


@njit(cache=True, nogil=True)
def _below(n: Any, seed: np.uint64) -> Any:  # pragma: no cover, compiled
    """Return the upper 32 bits as a number in 0..n-1; the bias is below n / 2^32."""
    return np.int64(((seed >> np.uint64(32)) * np.uint64(n)) >> np.uint64(32))


@njit(cache=True, nogil=True)
def _energy(measures, bands):  # type: ignore[no-untyped-def]  # pragma: no cover, compiled
    low, high, weights = bands
    energy = 0.0
    for m in range(4):
        if measures[m] > high[m]:
            energy += weights[m] * (measures[m] - high[m])
        elif measures[m] < low[m]:
            energy += weights[m] * (low[m] - measures[m])
    return energy


@njit(cache=True, nogil=True)
def _move(old_layer, old, new_layer, new, connections):  # type: ignore[no-untyped-def]  # pragma: no cover, compiled
    """Take input `old` from a layer and give input `new` to the same or another."""
    sources, degrees, members, readers, _ = connections
    place = 1
    while sources[old_layer, place] != old:
        place += 1
    degrees[old_layer] -= 1
    sources[old_layer, place] = sources[old_layer, degrees[old_layer]]
    members[old_layer, old] = False
    readers[old] -= 1
    sources[new_layer, degrees[new_layer]] = new
    degrees[new_layer] += 1
    members[new_layer, new] = True
    readers[new] += 1


@njit(cache=True, nogil=True)
def walk(arguments, n_moves, first, last, stops, seed):  # type: ignore[no-untyped-def]  # pragma: no cover, compiled
    """Run the loop of annealing.anneal and annealing.wander on the arguments of annealing._arguments.

    Returns:
        The energy, the number of moves tried and the number of moves made.
    """
    connections, distances, bands, measures, by_layer, max_in, max_out = arguments
    sources, degrees, members, readers, skips = connections
    rows, sums, saved, layers, touched = distances
    depth = degrees.shape[0] - 1
    energy = _energy(measures, bands)
    n_made = 0
    if skips.shape[0] == 0:
        return energy, 0, 0
    counts_readers = bands[0][MAX_OUT_DEGREE] > 0 or bands[1][MAX_OUT_DEGREE] < depth
    low, high, weight = bands[0][SUM_SPAN], bands[1][SUM_SPAN], bands[2][SUM_SPAN]
    before = measures.copy()
    temperature = first
    for move in range(n_moves):
        if stops and energy == 0.0:
            return energy, move, n_made
        if move % 256 == 0 and first > 0:
            temperature = first * (last / first) ** (move / n_moves)
        seed = _next(seed)
        skip = _below(skips.shape[0], seed)
        target, source = np.int64(skips[skip, 0]), np.int64(skips[skip, 1])
        new_target = target
        seed = _next(seed)
        if by_layer:
            new_source = _below(target - 1, seed)
        else:
            # Uniform over all pairs at least 2 layers apart: drawn independently, impossible ones refused.
            new_target = 2 + _below(depth - 1, seed)
            seed = _next(seed)
            new_source = _below(depth - 1, seed)
            if new_source > new_target - 2:
                continue
        if members[new_target, new_source] or (readers[new_source] >= max_out and new_source != source):
            continue
        if new_target != target and degrees[new_target] >= max_in:
            continue
        span = measures[SUM_SPAN] + (new_target - new_source) - (target - source)
        least = weight * max(span - high, low - span, 0.0)  # bound of the energy after the move, whatever its distances
        luck = -1.0  # uniform in [0, 1), drawn only where the move needs it
        if least > energy:
            if temperature == 0.0:
                continue
            seed = _next(seed)
            luck = (seed >> np.uint64(11)) * 2.0**-53
            if luck >= math.exp((energy - least) / temperature):
                continue
        before[:] = measures
        _move(target, source, new_target, new_source, connections)
        touched[target] = True
        touched[new_target] = True
        n_saved = rescore(min(target, new_target), sources, degrees, rows, sums, saved, layers, touched)
        for k in range(n_saved):
            measures[SUM_BD] += sums[layers[2 * k]] - layers[2 * k + 1]
        measures[SUM_SPAN] = span
        measures[FROM_OUTPUT] = sums[depth]
        if counts_readers:
            measures[MAX_OUT_DEGREE] = readers.max()
        new_energy = _energy(measures, bands)
        accepted = new_energy <= energy
        if not accepted and temperature > 0:
            if luck < 0.0:
                seed = _next(seed)
                luck = (seed >> np.uint64(11)) * 2.0**-53
            accepted = luck < math.exp((energy - new_energy) / temperature)
        if accepted:
            energy = new_energy
            skips[skip, 0], skips[skip, 1] = new_target, new_source
            n_made += 1
            continue
        measures[:] = before
        undo(n_saved, rows, sums, saved, layers)
        _move(new_target, new_source, target, source, connections)
    return energy, n_moves, n_made
