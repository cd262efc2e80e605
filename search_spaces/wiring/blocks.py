"""Several blocks and what passes between them: what every layer and transition reads, and distances through it."""

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import NamedTuple

import networkx as nx

from search_spaces.errors import InputError
from search_spaces.pattern import ConnectionPattern
from search_spaces.templates import find_template

WITHIN = ("log", "all", "last", "rule")  # policies with one transition between two blocks


def transition_inputs(policy: str, depth: int, template: str | None = None) -> tuple[int, ...]:
    """Return the nodes of a block that its transition, or the classifier after the last block, reads.

    Args:
        policy: `log`, the layers L+1-2^k, equally many for every pattern; `all`, nodes 0..L (DenseNet); `last`, layer
            L; `rule`, what layer L+1 of the named template would read.
        depth: number of layers L.
        template: name of the pattern's template, which only `rule` needs.

    Raises:
        InputError: the policy is unknown, or is `rule` for a pattern without a named template.

    >>> transition_inputs("log", 12)
    (5, 9, 11, 12)
    >>> transition_inputs("rule", 12, "midpoint")
    (6, 10, 12)
    """
    match policy:
        case "log":
            return find_template("log").inputs_after(depth)
        case "all":
            return tuple(range(depth + 1))
        case "last":
            return (depth,)
        case "rule" if template is not None:
            return find_template(template).inputs_after(depth)
        case "rule":
            raise InputError(
                "transition policy `rule` reads what the next layer of a named template would read, and this pattern "
                "has no named template; use log, all or last"
            )
    raise InputError(f"there is no transition policy {policy!r} within a block; there are {', '.join(WITHIN)}")


def classifier_reads(policy: str, pattern: ConnectionPattern, template: str | None = None) -> tuple[int, ...]:
    """Return the nodes of a pattern that the classifier reads, ascending: what measures of a walk start from.

    Args:
        policy: one of WITHIN, as for transition_inputs; or `v1` or `v2`, under which it reads the last layer and that
            layer's inputs.
        pattern: pattern of the last block, or under `v1` the one over all blocks.
        template: name of the pattern's template, which only `rule` needs.

    Raises:
        InputError: as transition_inputs.

    >>> classifier_reads("v1", ConnectionPattern(3, ((0,), (1,), (0, 2))))
    (0, 2, 3)
    """
    if policy in ("v1", "v2"):
        return (*pattern.sources[-1], pattern.depth)
    return tuple(sorted(transition_inputs(policy, pattern.depth, template)))


class Node(NamedTuple):
    """A node of a whole network: an input of a block, or a layer's output."""

    block: int  # counted from 0
    place: int  # number of the node in the block, inputs first


@dataclass(frozen=True, slots=True)
class Transition:
    """What gives the next block one of its inputs: BN-ReLU-conv1x1 and 2x2 average pooling."""

    reads: tuple[int, ...]  # nodes of the block before it, ascending
    channels: int  # channels that it writes


@dataclass(frozen=True, slots=True)
class Block:
    """One block: its inputs are nodes 0, 1, ..., its layers the nodes after them."""

    inputs: tuple[int, ...]  # channels of each input, which the stem or a transition writes
    sources: tuple[tuple[int, ...], ...]  # nodes that each layer reads, ascending
    places: tuple[int, ...]  # node of the pattern that each node stands for
    transitions: tuple[Transition, ...] = ()  # one for each input of the next block; none after the last block

    @property
    def n_nodes(self) -> int:
        """Number of inputs and layers."""
        return len(self.inputs) + len(self.sources)


@dataclass(frozen=True, slots=True)
class Wiring:
    """A whole network between stem and classifier: what every layer, transition and the classifier read and write."""

    blocks: tuple[Block, ...]  # at least one block, each at half the resolution of the one before
    growth: int  # channels that a layer writes
    read: tuple[int, ...]  # nodes of the last block that the classifier reads, ascending
    is_concat: bool = True  # whether nodes are concatenated; if not, all have growth channels, and so have their sums

    def channels(self, block: int, nodes: Sequence[int]) -> int:
        """Return the number of channels of some nodes of a block, merged."""
        if not self.is_concat:
            return self.growth
        inputs = self.blocks[block].inputs
        return sum(inputs[node] if node < len(inputs) else self.growth for node in nodes)

    def read_after(self, block: int) -> tuple[int, ...]:
        """Return the nodes of a block that its transitions or the classifier read, ascending."""
        reads = [transition.reads for transition in self.blocks[block].transitions] or [self.read]
        return tuple(sorted(set().union(*reads)))

    @property
    def stem(self) -> int:
        """Number of channels that the stem writes."""
        return self.blocks[0].inputs[0]

    def graph(self) -> "nx.DiGraph[Node]":
        """Return all nodes, the classifier as node 0 of one block more, and an edge for each hop of the gradient."""
        graph: nx.DiGraph[Node] = nx.DiGraph()
        for number, block in enumerate(self.blocks):
            graph.add_nodes_from(Node(number, index) for index in range(block.n_nodes))
            for index, reads in enumerate(block.sources, start=len(block.inputs)):
                graph.add_edges_from((Node(number, index), Node(number, source)) for source in reads)
            for index, transition in enumerate(block.transitions):
                graph.add_edges_from((Node(number + 1, index), Node(number, source)) for source in transition.reads)
        classifier = Node(len(self.blocks), 0)
        graph.add_node(classifier)
        graph.add_edges_from((classifier, Node(classifier.block - 1, source)) for source in self.read)
        return graph

    def ranked_nodes(self) -> Iterator[Node]:
        """Yield the nodes that each reach back to all before them: distances are taken over their pairs.

        They are layers, the stem's output, and a block's input where it has one, which everything before it passes.
        Several inputs of a block are copies or summaries of nodes that are counted already.
        """
        for number, block in enumerate(self.blocks):
            n_inputs = len(block.inputs)
            yield from (Node(number, index) for index in range(0 if n_inputs == 1 else n_inputs, block.n_nodes))


# --- the policies ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Widths:
    """How many channels stem, layers and transitions write."""

    stem: int  # channels that the stem writes
    growth: int  # channels that a layer writes
    # Share of the channels it reads that a transition under a policy of WITHIN writes, exactly; None for growth.
    compression: Fraction | None = None
    is_concat: bool = True  # whether nodes are concatenated; if not, all are to have growth channels

    def written(self, n_read: int) -> int:
        """Return the number of channels that a transition writes when it reads n_read."""
        return self.growth if self.compression is None else max(1, math.floor(self.compression * n_read))


def wire_within(patterns: Sequence[ConnectionPattern], reads: Sequence[tuple[int, ...]], widths: Widths) -> Wiring:
    """Join blocks by one transition each, whose output is the next block's node 0.

    Args:
        patterns: pattern of each block.
        reads: nodes of each block that its transition, or after the last block the classifier, reads.
        widths: numbers of channels.

    >>> chain = ConnectionPattern(2, ((0,), (1,)))
    >>> wiring = wire_within([chain, chain], [(0, 2), (2,)], Widths(stem=5, growth=3))
    >>> wiring.blocks[0].transitions, wiring.blocks[1].inputs
    ((Transition(reads=(0, 2), channels=3),), (3,))
    """
    blocks = []
    first = widths.stem
    for number, (pattern, read) in enumerate(zip(patterns, reads, strict=True)):
        n_read = sum(first if node == 0 else widths.growth for node in read)
        written = widths.written(n_read)
        transitions = () if number == len(patterns) - 1 else (Transition(read, written),)
        blocks.append(Block((first,), pattern.sources, tuple(range(pattern.depth + 1)), transitions))
        first = written
    return Wiring(tuple(blocks), widths.growth, reads[-1], widths.is_concat)


def wire_across(pattern: ConnectionPattern, depths: Sequence[int], widths: Widths) -> Wiring:
    """Let the pattern's connections cross the borders of blocks: policy `v1` (Log-DenseNet V1, arXiv:1711.00002).

    At a border every earlier node that is still read further on is brought over by a transition of its own, with as
    many channels as the node. The classifier reads the last layer and that layer's inputs.

    Args:
        pattern: pattern over the layers of all blocks; node 0 is the stem's output.
        depths: number of layers of each block, which add up to the pattern's.
        widths: numbers of channels.

    >>> wiring = wire_across(ConnectionPattern(3, ((0,), (1,), (0, 2))), [2, 1], Widths(stem=6, growth=3))
    >>> wiring.blocks[1].inputs, wiring.blocks[1].sources, wiring.blocks[1].places, wiring.read
    ((6, 3), ((0, 1),), (0, 2, 3), (0, 1, 2))
    """

    def width(place: int) -> int:
        return widths.stem if place == 0 else widths.growth

    last_reader = dict(sorted(pattern.connections, key=lambda pair: pair[1]))
    blocks = []
    places: tuple[int, ...] = (0,)  # of the block's inputs
    end = 0
    for depth in depths:
        start, end = end, end + depth
        own = (*places, *range(start + 1, end + 1))
        index = {place: node for node, place in enumerate(own)}
        sources = tuple(tuple(index[source] for source in reads) for reads in pattern.sources[start:end])
        carried = tuple(place for place in own if last_reader.get(place, 0) > end)
        transitions = tuple(Transition((index[place],), width(place)) for place in carried)
        inputs = tuple(map(width, places))
        blocks.append(Block(inputs, sources, own, transitions))
        places = carried
    read = (*blocks[-1].sources[-1], blocks[-1].n_nodes - 1)
    return Wiring(tuple(blocks), widths.growth, read, widths.is_concat)


def wire_summaries(patterns: Sequence[ConnectionPattern], widths: Widths) -> Wiring:
    """Let layers read their block and a summary of all before it: policy `v2` (Log-DenseNet V2, arXiv:1711.00002).

    Node 0 of a block's pattern is the summary of all finished blocks, and every layer reads it; in the first block it
    is the stem's output. At a block's end its layers are compressed to growth (floor(log2(L+1)) + 1) channels, where L
    counts the layers of all blocks, or to as many as they have if fewer. The old summary is brought over at its own
    width, and the two together are the next summary. The classifier reads the last layer and that layer's inputs.
    Where nodes are not concatenated, both have growth channels.

    >>> chain = ConnectionPattern(1, ((0,),))
    >>> wiring = wire_summaries([chain, chain, chain], Widths(stem=6, growth=3))
    >>> [block.inputs for block in wiring.blocks], wiring.blocks[2].sources, wiring.read
    ([(6,), (6, 3), (9, 3)], ((0, 1),), (0, 1, 2))
    """
    n_summarised = (sum(pattern.depth for pattern in patterns) + 1).bit_length()  # floor(log2(L+1)) + 1
    blocks = []
    inputs: tuple[int, ...] = (widths.stem,)
    for number, pattern in enumerate(patterns):
        summary, n_inputs = tuple(range(len(inputs))), len(inputs)
        sources = tuple((*summary, *(n_inputs + j - 1 for j in reads if j)) for reads in pattern.sources)
        layers = tuple(range(n_inputs, n_inputs + pattern.depth))
        n_old, n_new = sum(inputs), widths.growth * min(n_summarised, pattern.depth)
        old = Transition(summary, n_old if widths.is_concat else widths.growth)
        new = Transition(layers, n_new if widths.is_concat else widths.growth)
        transitions = (old, new) if number < len(patterns) - 1 else ()
        blocks.append(Block(inputs, sources, (*(0 for _ in inputs), *range(1, pattern.depth + 1)), transitions))
        inputs = (old.channels, new.channels)
    read = (*blocks[-1].sources[-1], blocks[-1].n_nodes - 1)
    return Wiring(tuple(blocks), widths.growth, read, widths.is_concat)


# --- distances ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class GlobalDistance:
    """Backprop distances through a whole network of blocks, in hops."""

    mean: float  # over all pairs of ranked nodes, the later one first
    max: int
    from_loss_mean: float  # over all ranked nodes, from the classifier


def global_distance(wiring: Wiring) -> GlobalDistance:
    """Measure distances through a whole network by networkx: a transition is one hop, and so is the classifier.

    A transition's output is an input of the next block, with no further hop.

    Raises:
        InputError: some node does not reach back to an earlier one, as where a transition leaves out the last layer.

    >>> chain = ConnectionPattern(1, ((0,),))
    >>> global_distance(wire_within([chain, chain], [(1,), (1,)], Widths(1, 1)))
    GlobalDistance(mean=1.6666666666666667, max=3, from_loss_mean=2.5)
    """
    graph = wiring.graph()
    nodes = list(wiring.ranked_nodes())
    rows = {node: nx.single_source_shortest_path_length(graph, node) for node in nodes}
    from_loss = nx.single_source_shortest_path_length(graph, Node(len(wiring.blocks), 0))
    try:
        distances = [rows[late][early] for early, late in itertools.combinations(nodes, 2)]
        to_loss = [from_loss[node] for node in nodes]
    except KeyError as error:
        raise InputError(f"these blocks cut some nodes off: none of the paths back leads to {error}") from None
    n_pairs = len(distances)
    return GlobalDistance(sum(distances) / n_pairs, max(distances), sum(to_loss) / len(nodes))
