"""Compiled measures, for batches and for the inner loop of annealing; measures.registry defines them."""

# All compiled functions that call one another are in this file: numba's cache does not notice changes in another one,
# and would run a stale copy of what a function calls there.

import math
from collections.abc import Iterable, Sequence

import numpy as np
from numba import njit
from numpy.typing import NDArray

from search_spaces.errors import InputError
from search_spaces.measures.measure import Reads, check_reads, log_reads
from search_spaces.measures.registry import find_measure
from search_spaces.pattern import ConnectionPattern

Scratch = tuple[NDArray[np.integer], NDArray[np.float64]]  # what `evaluate` works in

# Groups are bits: `evaluate` computes those asked for. Distances take L x E steps, the others E.
DISTANCES_GROUP, WALKS_GROUP, HOPS_GROUP, DEGREES_GROUP = 1, 2, 4, 8

# Places in the vector that `evaluate` writes.
COMPILED = (
    *("mean_bd", "max_bd", "from_output_mean", "to_input_mean", "from_loss_mean", "from_loss_max"),
    *("walk_length", "visit_evenness", "ntk_trace", "least_visit", "layer_walk", "random_walk_depth"),
    *("span", "out_degree_sd", "in_degree_sd"),
)
_MEAN_BD, _MAX_BD, _FROM_OUTPUT, _TO_INPUT, _FROM_LOSS, _FROM_LOSS_MAX = range(6)
_WALK_LENGTH, _VISIT_EVENNESS, _NTK_TRACE, _LEAST_VISIT, _LAYER_WALK, _WALK_DEPTH = range(6, 12)
_SPAN, _OUT_DEGREE_SD, _IN_DEGREE_SD = range(12, 15)
_GROUPS = dict(
    zip(COMPILED, 6 * [DISTANCES_GROUP] + 4 * [WALKS_GROUP] + 2 * [HOPS_GROUP] + 3 * [DEGREES_GROUP], strict=True)
)


def choose_groups(names: Iterable[str]) -> int:
    """Return the bits of the groups that compiled measures of these names are in.

    Raises:
        InputError: a name is of no compiled measure.
    """
    groups = 0
    for name in names:
        if name not in _GROUPS:
            raise InputError(f"measure {find_measure(name).name!r} is not compiled: those are {', '.join(COMPILED)}")
        groups |= _GROUPS[name]
    return groups


def make_scratch(depth: int) -> Scratch:
    """Return the arrays that `evaluate` works in: of shapes (L + 1, L + 1) and (L + 1,)."""
    kind = np.uint8 if depth < 255 else np.int16  # narrow rows are scored faster
    return np.zeros((depth + 1, depth + 1), kind), np.zeros(depth + 1)


def measure_batch(
    patterns: Sequence[ConnectionPattern], names: Sequence[str], reads: Reads | None = None
) -> dict[str, NDArray[np.float64]]:
    """Return measures of many patterns by name, each of shape (n,): the compiled ones a hundred times as fast.

    Args:
        patterns: patterns, whose depths may differ where reads is None.
        names: names of measures; those that are not compiled take the time of their definition.
        reads: nodes that the classifier reads; None for those of transition `log`, L + 1 - 2^k.

    Raises:
        InputError: nothing has one of the names, or no classifier can read these nodes.

    >>> chain = ConnectionPattern(3, ((0,), (1,), (2,)))
    >>> measure_batch([chain, ConnectionPattern(3, ((0,), (0, 1), (1, 2)))], ["walk_length"], reads=(3,))
    {'walk_length': array([3.  , 2.25])}
    """
    columns = {name: np.empty(len(patterns)) for name in names}
    quick = [name for name in names if name in _GROUPS]
    slow = {name: find_measure(name).function for name in names if name not in _GROUPS}
    groups = choose_groups(quick)
    values = np.empty(len(COMPILED))
    workspaces: dict[int, _Workspace] = {}
    for number, pattern in enumerate(patterns):
        depth = pattern.depth
        if depth not in workspaces:
            workspaces[depth] = _Workspace(depth, log_reads(depth) if reads is None else reads)
        workspace = workspaces[depth]
        if quick:
            workspace.evaluate(pattern, groups, values)
        for name in quick:
            columns[name][number] = values[COMPILED.index(name)]
        for name, function in slow.items():
            columns[name][number] = function(pattern, workspace.reads)
    return columns


class _Workspace:
    """The arrays of one depth, which every pattern of a batch uses in turn."""

    def __init__(self, depth: int, reads: Reads) -> None:
        check_reads(reads, depth)
        self.reads = reads
        self._nodes = np.array(reads, np.int64)
        self._sources = np.zeros((depth + 1, depth), np.int16)
        self._degrees = np.zeros(depth + 1, np.int64)
        self._scratch = make_scratch(depth)

    def evaluate(self, pattern: ConnectionPattern, groups: int, values: NDArray[np.float64]) -> None:
        for layer, inputs in enumerate(pattern.sources, start=1):
            self._sources[layer, : len(inputs)] = inputs[::-1]  # the chain's is the largest, and comes first
            self._degrees[layer] = len(inputs)
        evaluate(self._sources, self._degrees, self._nodes, groups, self._scratch, values)


@njit(cache=True, nogil=True)
def evaluate(sources, degrees, reads, groups, scratch, values):  # type: ignore[no-untyped-def]  # pragma: no cover, compiled
    """Write the compiled measures of the groups asked for; the other places stay as they are.

    Args:
        sources: (L + 1, L) int16; sources[i, :degrees[i]] are layer i's inputs, the chain's first.
        degrees: (L + 1,) int64; degrees[0] is 0.
        reads: (n,) int64; nodes that the classifier reads, L among them.
        groups: bits of choose_groups.
        scratch: arrays of make_scratch.
        values: (len(COMPILED),) float64; the measures in the order of COMPILED, changed in place.
    """
    rows, numbers = scratch
    if groups & DISTANCES_GROUP:
        _measure_distances(sources, degrees, reads, rows, numbers, values)
    if groups & WALKS_GROUP:
        _measure_walks(sources, degrees, reads, numbers, values)
    if groups & HOPS_GROUP:
        _measure_hops(sources, degrees, numbers, values)
    if groups & DEGREES_GROUP:
        _measure_degrees(sources, degrees, numbers, values)


@njit(cache=True, nogil=True)
def _measure_distances(sources, degrees, reads, rows, from_loss, values):  # type: ignore[no-untyped-def]  # pragma: no cover
    depth = degrees.shape[0] - 1
    total = 0
    largest = 0
    to_input = 0
    for i in range(1, depth + 1):
        # Layer order makes every input's row final: D[i] = 1 + min over inputs u of D[u], D[u][u] = 0.
        row, previous = rows[i], rows[i - 1]
        for j in range(i - 1):
            row[j] = previous[j] + 1
        row[i - 1] = 1
        for k in range(1, degrees[i]):
            u = sources[i, k]
            other = rows[u]
            for j in range(u):
                row[j] = min(row[j], other[j] + 1)
            row[u] = 1
        for j in range(i):
            total += row[j]
            largest = max(largest, row[j])
        to_input += row[0]
    from_output = 0
    for j in range(depth):
        from_output += rows[depth, j]
    from_loss[:] = depth + 1
    for node in reads:
        for j in range(node):
            from_loss[j] = min(from_loss[j], rows[node, j] + 1)
        from_loss[node] = 1
    values[_MEAN_BD] = total / (depth * (depth + 1) // 2)
    values[_MAX_BD] = largest
    values[_FROM_OUTPUT] = from_output / depth
    values[_TO_INPUT] = to_input / depth
    values[_FROM_LOSS] = from_loss.mean()
    values[_FROM_LOSS_MAX] = from_loss.max()


@njit(cache=True, nogil=True)
def _measure_walks(sources, degrees, reads, chances, values):  # type: ignore[no-untyped-def]  # pragma: no cover
    depth = degrees.shape[0] - 1
    chances[:] = 0.0
    for node in reads:
        chances[node] += 1.0 / reads.shape[0]
    length = 0.0
    plain_entropy = 0.0  # sum of -v ln v, without the division by W
    trace = 0.0
    least = 1.0
    for i in range(depth, 0, -1):  # every reader of a layer lies above it
        chance = chances[i]
        share = chance / degrees[i]
        for k in range(degrees[i]):
            chances[sources[i, k]] += share
        length += chance
        trace += chance * degrees[i]
        least = min(least, chance)
        if chance > 0.0:
            plain_entropy -= chance * math.log(chance)
    values[_WALK_LENGTH] = length
    values[_VISIT_EVENNESS] = max(0.0, plain_entropy / length + math.log(length))  # p = v / W
    values[_NTK_TRACE] = trace
    values[_LEAST_VISIT] = least


@njit(cache=True, nogil=True)
def _measure_hops(sources, degrees, hops, values):  # type: ignore[no-untyped-def]  # pragma: no cover, compiled
    depth = degrees.shape[0] - 1
    hops[0] = 0.0
    sum_of_hops = 0.0
    for i in range(1, depth + 1):
        total = 0.0
        for k in range(degrees[i]):
            total += hops[sources[i, k]]
        hops[i] = 1.0 + total / degrees[i]
        sum_of_hops += hops[i]
    values[_LAYER_WALK] = sum_of_hops / depth
    values[_WALK_DEPTH] = hops[depth]


@njit(cache=True, nogil=True)
def _measure_degrees(sources, degrees, readers, values):  # type: ignore[no-untyped-def]  # pragma: no cover, compiled
    depth = degrees.shape[0] - 1
    readers[:] = 0.0
    n_connections = 0
    span = 0
    for i in range(1, depth + 1):
        n_connections += degrees[i]
        for k in range(degrees[i]):
            readers[sources[i, k]] += 1.0
            span += i - sources[i, k]
    mean = n_connections / depth
    ins = 0.0
    outs = 0.0
    for i in range(1, depth + 1):
        ins += (degrees[i] - mean) ** 2
        outs += (readers[i - 1] - mean) ** 2
    values[_SPAN] = span / n_connections
    values[_OUT_DEGREE_SD] = math.sqrt(outs / depth)
    values[_IN_DEGREE_SD] = math.sqrt(ins / depth)


@njit(cache=True, nogil=True)
def walk_measured(connections, measuring, goal, limits, schedule, seed):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Run the loop of goals.anneal_towards and goals.wander_within.

    Args:
        connections: sources, degrees, members, readers and skips of annealing.Connections, changed in place.
        measuring: nodes that the classifier reads, groups, scratch and values, as `evaluate` takes them.
        goal: lowest and highest values wanted, energies of one unit outside and pulls, each in the order of COMPILED.
        limits: whether the budget is by layer, and the most inputs and readers.
        schedule: number of moves, first and last temperature, and whether energy 0 is the end.
        seed: uint64 above 0.

    Returns:
        The energy and the number of moves made.
    """
    sources, degrees, members, readers, skips = connections
    reads, groups, scratch, values = measuring
    by_layer, max_in, max_out = limits
    n_moves, first, last, stops = schedule
    depth = degrees.shape[0] - 1
    quick = groups & ~DISTANCES_GROUP
    # What the quick measures cost bounds the energy from below, unless a distance may lower it.
    is_bounded = quick != 0 and quick != groups and not goal[3][:_WALK_LENGTH].any()
    evaluate(sources, degrees, reads, groups, scratch, values)
    energy = _weigh(values, goal, 0)
    n_made = 0
    if skips.shape[0] == 0:
        return energy, n_made
    temperature = first
    for move in range(n_moves):
        if stops and energy == 0.0:
            break
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
        most = energy  # the largest energy that is accepted, by Metropolis' rule
        if temperature > 0:
            seed = _next(seed)
            most -= temperature * math.log(((seed >> np.uint64(11)) + 1) * 2.0**-53)
        _move(target, source, new_target, new_source, connections)
        new_energy = -math.inf
        if is_bounded:
            evaluate(sources, degrees, reads, quick, scratch, values)
            new_energy = _weigh(values, goal, _WALK_LENGTH)
        if new_energy <= most:
            evaluate(sources, degrees, reads, groups & ~quick if is_bounded else groups, scratch, values)
            new_energy = _weigh(values, goal, 0)
        if new_energy <= most:
            energy = new_energy
            skips[skip, 0], skips[skip, 1] = new_target, new_source
            n_made += 1
        else:
            _move(new_target, new_source, target, source, connections)
    return energy, n_made


@njit(cache=True, nogil=True)
def _weigh(values, goal, start):  # type: ignore[no-untyped-def]  # pragma: no cover, compiled
    """Return the energy of the measures from place `start` on."""
    low, high, weights, pulls = goal
    energy = 0.0
    for place in range(start, values.shape[0]):
        value = values[place]
        energy += weights[place] * max(value - high[place], low[place] - value, 0.0) + pulls[place] * value
    return energy


@njit(cache=True, nogil=True)
def _next(seed):  # type: ignore[no-untyped-def]  # pragma: no cover, compiled
    """Return the next number of Marsaglia's xorshift64, the generator of sampling.kernels."""
    seed ^= seed << np.uint64(13)
    seed ^= seed >> np.uint64(7)
    return seed ^ (seed << np.uint64(17))


@njit(cache=True, nogil=True)
def _below(n, seed):  # type: ignore[no-untyped-def]  # pragma: no cover, compiled
    """Return the upper 32 bits as a number in 0..n-1."""
    return np.int64(((seed >> np.uint64(32)) * np.uint64(n)) >> np.uint64(32))


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
