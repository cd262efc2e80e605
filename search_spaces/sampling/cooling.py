"""Moves of a budget by layer towards short distance, on sets of near nodes held as bits: the inner loop of optimal."""

# All compiled functions that call one another are in this file: numba's cache does not notice changes in another one,
# and would run a stale copy of what a function calls there. Compiled numbers are uint64: with signed indices numba
# would allow for negative ones at every access, and would make floats of sums of both kinds.

from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numba import njit
from numpy.typing import NDArray

from search_spaces.budget import Budget
from search_spaces.distance import backprop_distance
from search_spaces.measures.instructions import count_bits, count_zeros
from search_spaces.pattern import ConnectionPattern

LONGEST = 4  # hops: what is farther counts as this far
MOST_PADDED = 12  # inputs

# Node j's sets, one word of 64 members after the other, fill `near[8 (j W + word) :]`, in these places: nodes within 1,
# 2 and 3 hops below it, member u at bit u; layers within 1, 2 and 3 hops above it, layer t at bit t - 1.
_BELOW_2, _BELOW_3, _ABOVE_1, _ABOVE_2, _ABOVE_3 = (np.uint64(place) for place in range(1, 6))  # _BELOW_1 is 0
_U0, _U1, _U2, _U3, _U6, _U63 = (np.uint64(number) for number in (0, 1, 2, 3, 6, 63))


@dataclass(slots=True)
class Neighbours:
    """A pattern of a budget by layer with the sets of nodes near each node, which moves change in place."""

    budget: Budget
    near: NDArray[np.uint64]  # (8 (L + 1) W,) with W words of 64 bits a set
    sources: NDArray[np.uint16]  # (L + 1, largest in-degree); each layer's inputs, the chain's first and as padding
    widths: NDArray[np.uint64]  # (L + 1,); how many of them are read: all alike where that is cheap to predict
    lacking: NDArray[np.uint64]  # (W,); layers with a node more than 3 hops below
    readers: NDArray[np.uint64]  # (L + 1,); out-degrees
    skips: NDArray[np.uint16]  # (E - L, 2); the movable connections as (target, source)
    scratch: NDArray[np.uint64]  # (2 W,)
    total: int  # sum over all pairs of min(BD, LONGEST)

    @classmethod
    def of(cls, pattern: ConnectionPattern, budget: Budget) -> Self:
        """Return the neighbours in a pattern that spends a budget by layer."""
        assert budget.per_layer is not None
        assert budget.is_met_by(pattern), "moves spend the budget from the start"
        n_nodes, n_words, most = pattern.depth + 1, (pattern.depth + 63) // 64, max(pattern.in_degrees)
        sets = np.zeros((n_nodes, n_words, 8), np.uint64)
        sources = np.repeat(np.arange(-1, n_nodes - 1).clip(0).astype(np.uint16)[:, None], most, axis=1)
        for layer, inputs in enumerate(pattern.sources, start=1):
            sources[layer, : len(inputs)] = inputs[::-1]  # the chain's is the largest
            for node in inputs:
                sets[layer, node // 64, 0] |= np.uint64(1 << node % 64)
                sets[node, (layer - 1) // 64, _ABOVE_1] |= np.uint64(1 << (layer - 1) % 64)
        degrees = np.array([0, *pattern.in_degrees], np.uint64)
        widths = np.full(n_nodes, most, np.uint64) if most <= MOST_PADDED else degrees
        skips = [(target, source) for source, target in pattern.connections if target - source > 1]
        near, lacking = sets.ravel(), np.zeros(n_words, np.uint64)
        gained = sum(
            int(_redo_below(near, sources, widths, lacking, _several(n_words), np.uint64(layer), place))
            for place in (_BELOW_2, _BELOW_3)
            for layer in range(1, n_nodes)
        )
        total = LONGEST * pattern.depth * n_nodes // 2 - pattern.n_connections + gained
        readers = np.array(pattern.out_degrees, np.uint64)
        moved = np.array(skips, np.uint16).reshape(-1, 2)
        scratch = np.zeros(2 * n_words, np.uint64)
        return cls(budget, near, sources, widths, lacking, readers, moved, scratch, total)

    def pattern(self) -> ConnectionPattern:
        """Return the pattern that the moves have led to; its distances by networkx must be those counted here."""
        pattern = ConnectionPattern.from_sources([set(inputs) for inputs in self.sources.tolist()[1:]])
        counted = sum(min(hops, LONGEST) * n for hops, n in enumerate(backprop_distance(pattern).histogram))
        assert counted == self.total, f"distances of {pattern.key} sum to {counted} by networkx, not to {self.total}"
        return pattern

    def move(self, n_moves: int, temperature: float, least: int, generator: np.random.Generator) -> int:
        """Try to move one skip's source n_moves times, by Metropolis' rule on the total; return how often it tried.

        Half of the moves go to any node, half to one at most three away; each is as likely as its reverse.

        Args:
            n_moves: number of moves to try.
            temperature: temperature, in hops; 0 makes only moves that do not raise the total.
            least: total at which it stops.
            generator: source of the draws.
        """
        rises = np.arange(65)
        chances = np.exp(-rises / temperature) if temperature > 0 else (rises == 0).astype(float)
        chances[-1] = 0.0  # ends the search for the highest rise that is accepted
        own = (self.readers, self.skips, self.scratch, (chances * 2.0**32).astype(np.uint64))
        most_out = np.uint64(self.budget.most_out)
        seed = generator.integers(1, 2**63, dtype=np.uint64)
        self.total, n_tried = map(int, _walk(self._sets, own, most_out, self.total, least, n_moves, seed))
        return n_tried

    @property
    def _sets(self) -> tuple[Any, ...]:
        return self.near, self.sources, self.widths, self.lacking, _several(self.lacking.size)


def _several(n_words: int) -> np.uint64 | None:
    """Return the number of words of a set; None for one word, so that functions are compiled without loops for it."""
    return np.uint64(n_words) if n_words > 1 else None


@njit(cache=True, nogil=True, inline="always")
def _next(seed):  # type: ignore[no-untyped-def]  # pragma: no cover, compiled
    """Return the next number of Marsaglia's xorshift64, the generator of sampling.kernels."""
    seed ^= seed << np.uint64(13)
    seed ^= seed >> np.uint64(7)
    return seed ^ (seed << np.uint64(17))


@njit(cache=True, nogil=True, inline="always")
def _below(n, seed):  # type: ignore[no-untyped-def]  # pragma: no cover, compiled
    """Return the upper 32 bits as a number in 0..n-1."""
    return ((seed >> np.uint64(32)) * n) >> np.uint64(32)


@njit(cache=True, nogil=True, inline="always")
def _bit(member):  # type: ignore[no-untyped-def]  # pragma: no cover, compiled
    return _U1 << (member & _U63)


@njit(cache=True, nogil=True)
def _word(member, n_words):  # type: ignore[no-untyped-def]  # pragma: no cover, compiled
    """Return which of a set's words a member's bit is in."""
    return _U0 if n_words is None else member >> _U6


@njit(cache=True, nogil=True)
def _size(n_words):  # type: ignore[no-untyped-def]  # pragma: no cover, compiled
    return _U1 if n_words is None else n_words


@njit(cache=True, nogil=True)
def _place(node, word, n_words):  # type: ignore[no-untyped-def]  # pragma: no cover, compiled
    """Return where a word of a node's sets begins in `near`."""
    return node << _U3 if n_words is None else (node * n_words + word) << _U3


@njit(cache=True, nogil=True)
def _walk(sets, own, most_out, total, least, n_moves, seed):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Run the loop of Neighbours.move; return the total and the number of moves tried."""
    near, sources, widths, lacking, n_words = sets
    readers, skips, scratch, chances = own
    n_skips = np.uint64(skips.shape[0])
    for move in range(n_moves):
        if total <= least:
            return total, move
        seed = _next(seed)
        skip = _below(n_skips, seed)
        luck = seed & np.uint64(0xFFFFFFFF)
        layer, source = np.uint64(skips[skip, 0]), np.uint64(skips[skip, 1])
        seed = _next(seed)
        step = _below(_U6, seed)  # 0..5 stand for -3, -2, -1, 1, 2, 3
        new = source + step - (_U3 if step < _U3 else _U2)  # below 0 it wraps round to what is too large
        new = new if seed & _U1 else _below(layer - _U1, seed)
        if (
            new > layer - _U2
            or near[_place(layer, _word(new, n_words), n_words)] & _bit(new)
            or readers[new] >= most_out
        ):
            continue
        most = 0  # the largest rise that is accepted, so drawn that d or more have chance exp(-d / temperature)
        while luck < chances[most + 1]:
            most += 1
        rise = _measure_move(near, sources, widths, lacking, n_words, scratch, layer, source, new, most)
        if rise <= most:
            _make_move(near, sources, widths, lacking, n_words, layer, source, new)
            readers[source] -= _U1
            readers[new] += _U1
            skips[skip, 1] = new
            total += rise
    return total, n_moves


@njit(cache=True, nogil=True)
def _measure_move(near, sources, widths, lacking, n_words, scratch, layer, source, new, most):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Return by how much a move raises the total; if that is more than `most`, some number above `most` at most that.

    Let i be the layer and the connection to `source` give way to one to `new`. A path of k hops through either has a
    hops above i and k - 1 - a below the connection. So within 2 and 3 hops only these pairs can change: i with any
    node; readers of i with any node within 3; readers of i, within 2, and layers 2 hops above i, within 3, with
    `source` (which they may lose) and `new` (which they gain). What cannot pay for itself is left as soon as it shows.
    """
    n_below, first_above = _word(layer - _U1, n_words) + _U1, _word(layer, n_words)  # nodes below i, layers above
    rise = 0
    for word in range(n_below):  # i itself: all it is to reach
        own = _place(layer, word, n_words)
        within_2 = near[own]
        if word == _word(source, n_words):
            within_2 ^= _bit(source)
        if word == _word(new, n_words):
            within_2 |= _bit(new)
        within_3 = within_2
        for k in range(widths[layer]):
            node = np.uint64(sources[layer, k])
            node = new if node == source else node
            at = _place(node, word, n_words)
            within_2 |= near[at]
            within_3 |= near[at + _U1]
        scratch[word] = within_2
        rise += count_bits(near[own + _BELOW_2]) - count_bits(within_2)
        rise += count_bits(near[own + _BELOW_3]) - count_bits(within_3)
    for word in range(first_above, _size(n_words)):  # those who gain `new`
        own, at = _place(layer, word, n_words), _place(new, word, n_words)
        rise -= count_bits(near[own + _ABOVE_1] & ~near[at + _ABOVE_2])
        rise -= count_bits(near[own + _ABOVE_2] & ~near[own + _ABOVE_1] & ~near[at + _ABOVE_3])
    gain = 0  # at most what readers of i gain within 3 hops: what i gains within 2 and they lack
    for word in range(first_above, _size(n_words)):
        members = near[_place(layer, word, n_words) + _ABOVE_1] & lacking[word]
        while members:
            reader = (word << _U6) + count_zeros(members) + _U1
            members &= members - _U1
            for other in range(n_below):
                gained = scratch[other] & ~near[_place(layer, other, n_words) + _BELOW_2]
                gain += count_bits(gained & ~near[_place(reader, other, n_words) + _BELOW_3])
    if rise - gain > most:
        return rise - gain
    rise += _measure_losses(near, n_words, scratch, layer, source, new)
    if rise - gain > most:
        return rise - gain
    return rise + _measure_readers(near, sources, widths, n_words, scratch, layer, source, new)


@njit(cache=True, nogil=True)
def _measure_losses(near, n_words, scratch, layer, source, new):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Return how many layers above lose `source` within 2 and 3 hops; write those that keep it within 3 to scratch."""
    losses = 0
    own_word = _word(layer - _U1, n_words)
    new_reads_source = near[_place(new, _word(source, n_words), n_words)] & _bit(source)
    for word in range(_word(layer, n_words), _size(n_words)):
        within_2 = near[_place(source, word, n_words) + _ABOVE_1]
        within_3 = within_2
        for other in range(_word(source, n_words), _size(n_words)):
            members = near[_place(source, other, n_words) + _ABOVE_1]
            if other == own_word:
                members &= ~_bit(layer - _U1)
            while members:
                at = _place((other << _U6) + count_zeros(members) + _U1, word, n_words)
                members &= members - _U1
                within_2 |= near[at + _ABOVE_1]
                within_3 |= near[at + _ABOVE_2]
        own = _place(layer, word, n_words)
        above_1 = near[own + _ABOVE_1]
        if new_reads_source:
            within_3 |= above_1
        scratch[_size(n_words) + word] = within_3
        losses += count_bits(above_1 & ~within_2)
        losses += count_bits(near[own + _ABOVE_2] & ~above_1 & ~within_3)
    return losses


@njit(cache=True, nogil=True)
def _measure_readers(near, sources, widths, n_words, scratch, layer, source, new):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Return by how much the layer's readers lose within 3 hops, from what the functions above wrote to scratch."""
    rise = 0
    for word in range(_word(layer, n_words), _size(n_words)):
        members = near[_place(layer, word, n_words) + _ABOVE_1]
        while members:
            lowest = members & -members
            reader = (word << _U6) + count_zeros(members) + _U1
            members ^= lowest
            for other in range(_word(reader - _U1, n_words) + _U1):
                own = _place(reader, other, n_words)
                within_3 = near[own]
                for k in range(widths[reader]):
                    node = np.uint64(sources[reader, k])
                    if node != layer:
                        within_3 |= near[_place(node, other, n_words) + _BELOW_2]
                    elif other <= _word(layer - _U1, n_words):
                        within_3 |= scratch[other]
                if other == _word(new, n_words):
                    within_3 |= _bit(new)
                if other == _word(source, n_words):  # inputs that read i may have lost it too
                    within_3 &= ~_bit(source)
                    if scratch[_size(n_words) + word] & lowest:
                        within_3 |= _bit(source)
                rise += count_bits(near[own + _BELOW_3]) - count_bits(within_3)
    return rise


@njit(cache=True, nogil=True)
def _make_move(near, sources, widths, lacking, n_words, layer, source, new):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Make a move and bring all sets up to date: those of the pairs that _measure_move names."""
    k = _U1
    while np.uint64(sources[layer, k]) != source:
        k += _U1
    sources[layer, k] = new
    own_word = _word(layer - _U1, n_words)
    for node in (source, new):
        near[_place(layer, _word(node, n_words), n_words)] ^= _bit(node)
        near[_place(node, own_word, n_words) + _ABOVE_1] ^= _bit(layer - _U1)
    for place in (_U1, _U2):
        _redo_below(near, sources, widths, lacking, n_words, layer, place)
        if place == _BELOW_3:
            for word in range(own_word, _size(n_words)):
                members = near[_place(layer, word, n_words) + _ABOVE_1]
                while members:
                    reader = (word << _U6) + count_zeros(members) + _U1
                    members &= members - _U1
                    _redo_below(near, sources, widths, lacking, n_words, reader, place)
        _redo_above(near, lacking, n_words, source, place)
        _redo_above(near, lacking, n_words, new, place)


@njit(cache=True, nogil=True)
def _redo_below(near, sources, widths, lacking, n_words, layer, place):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Form a layer's set of nodes below anew from its inputs' sets one hop nearer; return by how much it shrank."""
    own_word = _word(layer - _U1, n_words)
    shrank = 0
    for word in range(own_word + _U1):
        own = _place(layer, word, n_words)
        fresh = near[own]
        for k in range(widths[layer]):
            fresh |= near[_place(np.uint64(sources[layer, k]), word, n_words) + place - _U1]
        members = fresh ^ near[own + place]
        shrank += count_bits(near[own + place]) - count_bits(fresh)
        near[own + place] = fresh
        while members:
            node = (word << _U6) + count_zeros(members)
            members &= members - _U1
            near[_place(node, own_word, n_words) + place + _U3] ^= _bit(layer - _U1)
    if place == _BELOW_3:
        _note_lacking(near, lacking, n_words, layer)
    return shrank


@njit(cache=True, nogil=True)
def _redo_above(near, lacking, n_words, node, place):  # type: ignore[no-untyped-def]  # pragma: no cover, compiled
    """Form a node's set of layers above anew from its readers' sets one hop nearer."""
    for word in range(_word(node, n_words), _size(n_words)):
        own = _place(node, word, n_words)
        fresh = near[own + _ABOVE_1]
        for other in range(_word(node, n_words), _size(n_words)):
            members = near[_place(node, other, n_words) + _ABOVE_1]
            while members:
                at = _place((other << _U6) + count_zeros(members) + _U1, word, n_words)
                members &= members - _U1
                fresh |= near[at + place + _U2]
        members = fresh ^ near[own + place + _U3]
        near[own + place + _U3] = fresh
        while members:
            reader = (word << _U6) + count_zeros(members) + _U1
            members &= members - _U1
            near[_place(reader, _word(node, n_words), n_words) + place] ^= _bit(node)
            if place == _BELOW_3:
                _note_lacking(near, lacking, n_words, reader)


@njit(cache=True, nogil=True)
def _note_lacking(near, lacking, n_words, layer):  # type: ignore[no-untyped-def]  # pragma: no cover, compiled
    """Note whether a layer has a node more than 3 hops below."""
    size = 0
    for word in range(_size(n_words)):
        size += count_bits(near[_place(layer, word, n_words) + _BELOW_3])
    own_word = _word(layer - _U1, n_words)
    lacking[own_word] &= ~_bit(layer - _U1)
    if size < np.int64(layer):
        lacking[own_word] |= _bit(layer - _U1)
