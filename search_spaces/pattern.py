"""The set of connections over the layers of a block, as a value that cannot be wrong."""

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

import networkx as nx

from search_spaces.errors import InputError

N_OFFENDERS_NAMED = 3


@dataclass(frozen=True, slots=True)
class ConnectionPattern:
    """Which earlier layers each layer of a block reads.

    Node 0 is the block input, nodes 1..depth are layers. The chain i-1 -> i is always present: without it some
    layer has no path back to another and its backprop distance is infinite.

    Args:
        depth: number of layers L, at least 1.
        sources: depth entries; sources[i - 1] are the inputs of layer i, each in 0..i-1, stored in ascending order.

    Raises:
        InputError: a chain connection is missing, a connection is repeated or leads forward, a source is out of range,
            or the number of entries is not depth. The first offenders are named.

    >>> pattern = ConnectionPattern(3, ((0,), (1,), (2, 0)))
    >>> pattern.sources
    ((0,), (1,), (0, 2))
    >>> pattern.n_connections, pattern.in_degrees, pattern.out_degrees
    (4, (1, 1, 2), (2, 1, 1, 0))
    """

    depth: int
    sources: tuple[tuple[int, ...], ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "sources", tuple(tuple(inputs) for inputs in self.sources))
        offenders = _find_offenders(self.depth, self.sources)
        if offenders:
            more = len(offenders) - N_OFFENDERS_NAMED
            raise InputError(
                f"not a connection pattern of {self.depth} layers: "
                + "; ".join(offenders[:N_OFFENDERS_NAMED])
                + (f"; and {more} more" if more > 0 else "")
            )
        object.__setattr__(self, "sources", tuple(tuple(sorted(inputs)) for inputs in self.sources))

    @classmethod
    def from_sources(cls, sources: Iterable[Iterable[int]], depth: int | None = None) -> "ConnectionPattern":
        """Build a pattern from lists of inputs of layers 1, 2, ..., as a file or a table has them.

        Args:
            sources: inputs of each layer, in any order.
            depth: number of layers where the file states it too; None for the number of lists.

        Raises:
            InputError: the constructor refuses them.

        >>> ConnectionPattern.from_sources([[0], [1, 0]])
        ConnectionPattern(depth=2, sources=((0,), (0, 1)))
        """
        lists = tuple(map(tuple, sources))
        return cls(len(lists) if depth is None else depth, lists)

    @classmethod
    def from_connections(cls, depth: int, connections: Iterable[tuple[int, int]]) -> "ConnectionPattern":
        """Build a pattern from (source, target) pairs.

        Raises:
            InputError: a target is outside 1..depth, or the constructor refuses the result.

        >>> ConnectionPattern.from_connections(2, [(0, 1), (1, 2), (0, 2)]).sources
        ((0,), (0, 1))
        """
        sources: list[list[int]] = [[] for _ in range(depth)]
        for source, target in connections:
            if not _is_integer(target) or not 1 <= target <= depth:
                raise InputError(f"connection {source!r} -> {target!r} ends outside the layers 1..{depth}")
            sources[target - 1].append(source)
        return cls.from_sources(sources, depth)

    @property
    def connections(self) -> Iterator[tuple[int, int]]:
        """Connections as (source, target), sorted by target, then source."""
        return ((source, target) for target, inputs in enumerate(self.sources, start=1) for source in inputs)

    @property
    def n_connections(self) -> int:
        """Number of connections E, the chain included."""
        return sum(map(len, self.sources))

    @property
    def in_degrees(self) -> tuple[int, ...]:
        """Number of inputs of each layer 1..L."""
        return tuple(map(len, self.sources))

    @property
    def out_degrees(self) -> tuple[int, ...]:
        """Number of readers of each node 0..L."""
        counts = [0] * (self.depth + 1)
        for source, _ in self.connections:
            counts[source] += 1
        return tuple(counts)

    @property
    def span(self) -> float:
        """Mean of target - source over connections, in layers."""
        return sum(target - source for source, target in self.connections) / self.n_connections

    @property
    def key(self) -> str:
        """SHA-256 (64 hex digits) of depth and connections.

        Equal keys mean equal networks and different keys non-isomorphic ones: the chain is a Hamiltonian path, which
        fixes the order of the nodes, so no graph canonisation is needed.

        >>> ConnectionPattern(1, ((0,),)).key[:12]
        '0f69e660d365'
        """
        return _hash(self)

    def reversed(self) -> "ConnectionPattern":
        """Return the pattern read from its end: E, mean BD, MBD and span stay, in- and out-degrees are swapped.

        >>> ConnectionPattern(3, ((0,), (0, 1), (2,))).reversed().sources
        ((0,), (1,), (1, 2))
        """
        mirrored = ((self.depth - target, self.depth - source) for source, target in self.connections)
        return ConnectionPattern.from_connections(self.depth, mirrored)

    def graph(self) -> "nx.DiGraph[int]":
        """Return nodes 0..L and edges source -> target, the direction in which data flows."""
        return _as_graph(self.depth, self.connections)

    def gradient_graph(self) -> "nx.DiGraph[int]":
        """Return nodes 0..L and edges target -> source, the direction in which the gradient flows."""
        return _as_graph(self.depth, ((target, source) for source, target in self.connections))


def _as_graph(depth: int, edges: Iterable[tuple[int, int]]) -> "nx.DiGraph[int]":
    graph: nx.DiGraph[int] = nx.DiGraph()
    graph.add_nodes_from(range(depth + 1))
    graph.add_edges_from(edges)
    return graph


@lru_cache(maxsize=1024)  # a search asks for a pattern's key ten times
def _hash(pattern: ConnectionPattern) -> str:
    canonical = json.dumps([pattern.depth, sorted(pattern.connections)], separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()


def _find_offenders(depth: int, sources: Sequence[Sequence[int]]) -> list[str]:
    """Return what keeps sources from being a pattern, one clause for each offender, in layer order."""
    if not _is_integer(depth) or depth < 1:
        return [f"depth is {depth!r}, expected an integer of at least 1"]
    if len(sources) != depth:
        return [f"{len(sources)} lists of sources given, expected {depth}, one for each layer 1..{depth}"]
    offenders = []
    for layer, inputs in enumerate(sources, start=1):
        seen: set[int] = set()
        for source in inputs:
            if not _is_integer(source):
                offenders.append(f"layer {layer} reads {source!r}, expected an integer")
            elif source < 0 or source > depth:
                offenders.append(f"layer {layer} reads {source}, out of range 0..{layer - 1}")
            elif source >= layer:
                offenders.append(f"layer {layer} reads {source}, a forward connection: sources are below {layer}")
            elif source in seen:
                offenders.append(f"layer {layer} reads {source} more than once")
            else:
                seen.add(source)
        if layer - 1 not in seen:
            offenders.append(f"layer {layer} does not read {layer - 1}: the chain is mandatory")
    return offenders


def _is_integer(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
