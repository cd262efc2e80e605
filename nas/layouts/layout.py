"""A network as a table of nodes, and distances, shapes and costs that follow from it."""

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, ClassVar, Literal

import networkx as nx

from nas.layouts.operations import MapShape, Operation
from nas.records.checked import Settings
from search_spaces.errors import InputError
from search_spaces.pattern import ConnectionPattern
from search_spaces.wiring.blocks import GlobalDistance

# image: node 0. layer, stem, head: one hop of the gradient each. passage: carries nodes to another resolution.
NodeKind = Literal["image", "stem", "layer", "passage", "head"]


@dataclass(frozen=True, slots=True)
class Fit:
    """A last operation that brings height and width to those of another node.

    Args:
        like: number of that node.
        how: cut off equally at both sides, or interpolated.
    """

    like: int
    how: Literal["crop", "bilinear"]


@dataclass(frozen=True, slots=True)
class LayoutNode:
    """One node of a network.

    Args:
        name: name of its module, of small letters, digits and _: that of its place, whatever it reads, since the
            initial weights are drawn by it.
        kind: what it is.
        reads: earlier nodes, in the order in which they are merged.
        operations: what is done to their merge, in order.
        merge: name of a merge; see nas/modules/merges.py. Nodes that are not concatenated have equal shapes.
        fit: what brings it to the size of another node; None: nothing.
        place: node of the pattern that it stands for; None: none, or another node stands for it already.
        survival: probability that a training step keeps its output, which is multiplied by it otherwise.
        drop_path: probability that a training step does without one of its inputs.
    """

    name: str
    kind: NodeKind
    reads: tuple[int, ...]
    operations: tuple[Operation, ...] = ()
    merge: str = "concat"
    fit: Fit | None = None
    place: int | None = None
    survival: float = 1.0
    drop_path: float = 0.0


IMAGE_NODE = LayoutNode("image", "image", ())


@dataclass(frozen=True, slots=True)
class Layout:
    """A whole network.

    Args:
        nodes: all nodes, each after those that it reads; node 0 is the image.
        outputs: nodes whose values are logits, the network's own last. Several are exits.
    """

    nodes: tuple[LayoutNode, ...]
    outputs: tuple[int, ...]

    def __post_init__(self) -> None:
        names = [node.name for node in self.nodes]
        assert self.nodes[0] == IMAGE_NODE and len(set(names)) == len(names), "one image, names that differ"
        for number, node in enumerate(self.nodes):
            assert all(0 <= source < number for source in node.reads), f"{node.name} reads what comes later"
            assert number == 0 or node.reads, f"{node.name} reads nothing"

    def shapes(self, image: tuple[int, int, int]) -> tuple[MapShape, ...]:
        """Return the shape that each node writes for images of this many channels, rows and columns.

        Raises:
            InputError: the image is too small for the network.
        """
        return tuple(step.written for step in trace(self, image))

    def count_params(self, image: tuple[int, int, int]) -> int:
        """Return the number of trained parameters, without those of merges."""
        return sum(step.params for step in trace(self, image))

    def count_macs(self, image: tuple[int, int, int]) -> int:
        """Return the multiply-adds of one image."""
        return sum(step.macs for step in trace(self, image))

    def count_macs_by_exit(self, image: tuple[int, int, int]) -> tuple[int, ...]:
        """Return for each output the multiply-adds of all nodes that it and the outputs before it need."""
        steps = trace(self, image)
        needed: set[int] = set()
        counts = []
        for output in self.outputs:
            needed |= self._find_needed(output)
            counts.append(sum(steps[number].macs for number in needed))
        return tuple(counts)

    def _find_needed(self, number: int) -> set[int]:
        needed, left = {number}, [number]
        while left:
            node = self.nodes[left.pop()]
            sources = {*node.reads, *(() if node.fit is None else (node.fit.like,))} - needed
            needed |= sources
            left += sources
        return needed

    def list_last_uses(self) -> tuple[tuple[int, ...], ...]:
        """Return for each node the nodes that nothing after it needs, so that their memory can be freed."""
        last = dict.fromkeys(range(len(self.nodes)), 0)
        for number, node in enumerate(self.nodes):
            last |= dict.fromkeys((*node.reads, *(() if node.fit is None else (node.fit.like,))), number)
        kept = set(self.outputs)
        ended: list[list[int]] = [[] for _ in self.nodes]
        for source, number in last.items():
            if source not in kept:
                ended[number].append(source)
        return tuple(map(tuple, ended))

    def graph(self, passage_hops: int = 1) -> "nx.DiGraph[int]":
        """Return all nodes but the image, and an edge for each hop of the gradient, with its `weight`.

        Args:
            passage_hops: hops that a change of resolution counts, 0 or 1.
        """
        graph: nx.DiGraph[int] = nx.DiGraph()
        for number, node in enumerate(self.nodes[1:], start=1):
            graph.add_node(number)
            hops = passage_hops if node.kind == "passage" else 1
            graph.add_edges_from((number, source, {"weight": hops}) for source in node.reads if source)
        return graph


@dataclass(frozen=True, slots=True)
class TracedNode:
    """A node at work on images of one size.

    Args:
        read: shape of what it merged.
        between: shape that each of its operations writes.
        written: shape that it writes in the end.
        params: number of its trained parameters, without those of its merge.
        macs: its multiply-adds for one image.
    """

    read: MapShape
    between: tuple[MapShape, ...]
    written: MapShape
    params: int
    macs: int


@lru_cache(maxsize=256)
def trace(layout: Layout, image: tuple[int, int, int]) -> tuple[TracedNode, ...]:
    """Return what every node reads, writes and costs for images of this many channels, rows and columns.

    Raises:
        InputError: the image is too small for the network.
    """
    steps = [TracedNode(MapShape(*image), (), MapShape(*image), 0, 0)]
    for node in layout.nodes[1:]:
        read = _merge_shapes(node, [steps[source].written for source in node.reads])
        params = macs = 0
        shape, between = read, []
        for operation in node.operations:
            params += operation.count_params(shape)
            macs += operation.count_macs(shape)
            shape = operation.write(shape)
            between.append(shape)
            if min(shape) < 1:
                rows, columns = image[1:]
                raise InputError(
                    f"images of {rows}x{columns} pixels are too small for this network: at {node.name} none of them "
                    "would be left; give larger images or fewer blocks"
                )
        if node.fit is not None:
            like = steps[node.fit.like].written
            shape = MapShape(shape.channels, like.height, like.width)
        steps.append(TracedNode(read, tuple(between), shape, params, macs))
    return tuple(steps)


def _merge_shapes(node: LayoutNode, shapes: list[MapShape]) -> MapShape:
    first = shapes[0]
    if node.merge != "concat":
        assert len(set(shapes)) == 1, f"{node.name} adds nodes of shapes {shapes}"
        return first
    assert len({(shape.height, shape.width) for shape in shapes}) == 1, f"{node.name} joins nodes of shapes {shapes}"
    return MapShape(sum(shape.channels for shape in shapes), first.height, first.width)


def measure_layout(layout: Layout, passage_hops: int = 1) -> GlobalDistance:
    """Measure distances through a whole network by networkx: layers and the output are one hop each.

    Distances are taken over the pairs of nodes that stand for a node of the pattern, the later one first, and from the
    nearest output that a node reaches: with exits, the nearest exit. Pairs that no path connects are left out, as two
    nodes that only meet later.

    Args:
        passage_hops: hops that a change of resolution counts: 1, or 0 where it is free.
    """
    graph = layout.graph(passage_hops)
    placed = [number for number, node in enumerate(layout.nodes) if node.place is not None]
    rows = {number: nx.single_source_dijkstra_path_length(graph, number) for number in placed}
    from_loss = nx.multi_source_dijkstra_path_length(graph, set(layout.outputs))
    pairs = [rows[late].get(early) for early, late in itertools.combinations(placed, 2)]
    distances = [int(distance) for distance in pairs if distance is not None]
    to_loss = [from_loss[number] for number in placed if number in from_loss]
    return GlobalDistance(sum(distances) / len(distances), max(distances), sum(to_loss) / len(to_loss))


@dataclass(frozen=True, slots=True)
class Frame:
    """What surroundings lay a network out from: a pattern, and the sizes that the settings give.

    Args:
        pattern: the whole pattern, or that of the deepest block.
        depths: number of layers of each block.
        fit: function that returns the pattern of a block of fewer layers.
        reads: nodes of the pattern that the output reads.
        leave: function that returns the nodes of a block's pattern that leave the block, by the same policy.
        growth: channels that a layer writes.
        stem: channels that the stem writes.
        classes: number of classes.
        channels: channels of an image.
        merge, layer, drop_layers, drop_path: as the network's settings have them.
    """

    pattern: ConnectionPattern
    depths: tuple[int, ...]
    fit: Callable[[int], ConnectionPattern]
    reads: tuple[int, ...]
    leave: Callable[[ConnectionPattern], tuple[int, ...]]
    growth: int
    stem: int
    classes: int
    channels: int
    merge: str
    layer: str
    drop_layers: float
    drop_path: float

    def block_patterns(self) -> Iterator[ConnectionPattern]:
        """Yield the pattern of each block."""
        return map(self.fit, self.depths)

    def survival(self, number: int) -> float:
        """Return the chance that the layer of this number, counted from 1 through all blocks, is kept in a step.

        It falls linearly (arXiv:1603.09382, equation 4).
        """
        return 1 - number / sum(self.depths) * self.drop_layers


MAX_WIDTHS = 15  # of surroundings; an image of the largest side is one pixel after so many halvings
MAX_READS = 4 * 10**6  # of a whole network: laying out so many takes up to a minute


class Surroundings(Settings):
    """The network around a pattern: a small value of settings, with its `kind`, that lays a whole network out."""

    unused: ClassVar[tuple[str, ...]] = ("compression", "large_stem")  # settings without a meaning here
    kind: str = ""

    @property
    def spans_blocks(self) -> bool:
        """Whether one pattern spans the layers of all blocks; if not, each block has the pattern."""
        return False

    @property
    def has_equal_cost(self) -> bool:
        """Whether parameters and multiply-adds depend on the number of connections only."""
        return False

    @property
    def reads_per_connection(self) -> int:
        """How many nodes are read, at most, because of one connection of a block's pattern."""
        return 1

    def find_problem(self, config: Any) -> str | None:
        """Return what of a network's settings cannot be together with these; None if all can.

        Args:
            config: the settings, a ShapeConfig of nas/model/config.py.
        """
        fields = type(config).model_fields
        given = [name.replace("_", "-") for name in self.unused if getattr(config, name) != fields[name].default]
        if not given:
            return None
        return f"a network of kind {self.kind} has a stem, layers and passages of its own: drop {' and '.join(given)}"

    def lay_out(self, frame: Frame) -> Layout:
        """Return the network around a frame's pattern."""
        raise NotImplementedError
