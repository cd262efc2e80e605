"""Pyramids for segmentation: blocks at ever lower resolution, and blocks up again to the size of the image."""

import itertools
from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import Field

from nas.layouts.layout import IMAGE_NODE, Fit, Frame, Layout, LayoutNode, Surroundings
from nas.layouts.operations import BN_RELU, Convolution, Dropout, Operation, Pool, TransposedConvolution
from search_spaces.errors import InputError

_BOTTLENECK_FACTOR = 4


class FcDenseNet(Surroundings):
    """FC-DenseNet (arXiv:1611.09326), whose blocks may have any pattern.

    The blocks of the first half are followed by a transition down, those after the middle one begin with a transition
    up. Node 0 of a block's pattern is all that enters it: what the transition brings, and on the way up also what left
    the block of the same resolution on the way down.

    What leaves a block are the nodes that the setting `transition` names; with `all` and the pattern `dense` the
    network is the paper's. The transition down and the head read all of them; only layers, not node 0, go up.

    Args:
        dropout: probability that a value which a layer writes, or a transition down before it pools, becomes 0 in a
            training step.
    """

    kind: Literal["fc-densenet"] = "fc-densenet"
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.2

    def lay_out(self, frame: Frame) -> Layout:
        """Return the network around a frame's pattern.

        Raises:
            InputError: the number of blocks is even, or nodes are not concatenated.
        """
        n_downs = _count_downs(frame)
        if frame.merge != "concat":
            raise InputError(
                f"merge {frame.merge} adds nodes of one width, and what enters a block of an FC-DenseNet is wider than "
                "a layer: use merge concat"
            )
        nodes = _Nodes(frame, stem_bias=True)
        entering: tuple[int, ...] = (nodes.stem,)
        made: tuple[int, ...] = ()  # layers that the block before passes on
        skips: list[tuple[int, ...]] = []
        for number, pattern in enumerate(frame.block_patterns()):
            if number > n_downs:
                skip, width = skips.pop(), nodes.count_channels(made)
                upsampling = (TransposedConvolution(width, bias=True),)
                up = LayoutNode(f"up{number}", "passage", made, upsampling, fit=Fit(skip[-1], "crop"))
                entering = (nodes.add(up, width), *skip)
            layers = [nodes.stem]  # by node of the pattern; node 0 is never looked up
            for index, reads in enumerate(pattern.sources):
                sources = _replace_first(reads, entering, layers)
                layers.append(nodes.add_layer(number, index, sources, len(layers), self.dropout, bias=True))
            left = frame.leave(pattern)
            leaving = _replace_first(left, entering, layers)
            made = tuple(layers[node] for node in left if node)
            if number < n_downs:
                skips.append(leaving)
                width = nodes.count_channels(leaving)
                pooling: tuple[Operation, ...] = (*BN_RELU, Convolution(width, 1, bias=True))
                pooling += (*_drop_out(self.dropout), Pool("max"))
                entering = (nodes.add(LayoutNode(f"down{number + 1}", "passage", leaving, pooling), width),)
        return nodes.finish(leaving, (Convolution(frame.classes, 1, bias=True),))


def _replace_first(reads: Sequence[int], entering: tuple[int, ...], layers: Sequence[int]) -> tuple[int, ...]:
    """Return the network's nodes of some nodes of a block's pattern, of which node 0 is all that enters the block."""
    return tuple(itertools.chain.from_iterable(entering if node == 0 else (layers[node],) for node in reads))


class LogDenseNetFcn(Surroundings):
    """Log-DenseNet V1 as a fully convolutional network (arXiv:1711.00002): one pattern spans all blocks.

    A map, which is the output of the stem or of a layer, is moved to another resolution by itself. On the way up a map
    that the way down had at that resolution is taken from there. The head reads the nodes that the setting `transition`
    names; the paper's are those of `v1`, the last layer and its inputs.

    Args:
        moves: which maps are moved at the border of two blocks: those that are read further on, as in the paper, or
            all. Then the number of parameters depends on the number of connections only, where the stem has growth
            channels and the head reads as many maps of every pattern; multiply-adds depend on the number of connections
            in each block.
    """

    kind: Literal["log-densenet-fcn"] = "log-densenet-fcn"
    moves: Literal["all", "needed"] = "all"

    @property
    def spans_blocks(self) -> bool:
        """Whether one pattern spans the layers of all blocks."""
        return True

    def lay_out(self, frame: Frame) -> Layout:
        """Return the network around a frame's pattern.

        Raises:
            InputError: the number of blocks is even, or maps of different widths would be added.
        """
        n_downs = _count_downs(frame)
        if frame.merge != "concat" and frame.stem != frame.growth:
            raise InputError(
                f"merge {frame.merge} adds nodes of one width, and the stem has {frame.stem} channels, a layer "
                f"{frame.growth}: give stem-channels {frame.growth}, or use merge concat"
            )
        nodes = _Nodes(frame)
        readers = self._list_readers(frame)
        n_blocks = len(frame.depths)
        maps = {0: nodes.stem}  # node of each map at the present resolution
        ways_down: list[dict[int, int]] = []  # the same for each block on the way down, at its end
        place = 0
        for number, depth in enumerate(frame.depths):
            if 0 < number <= n_downs:
                # Blocks at this resolution or lower; those at higher ones find the map on the way down.
                wanted = range(number, n_blocks - number)
                maps = {
                    each: nodes.move_down(number, each, node)
                    for each, node in maps.items()
                    if self.moves == "all" or any(block in wanted for block in readers[each])
                }
            elif number > n_downs:
                present = ways_down.pop()
                like = present[max(present)]
                present |= {
                    each: nodes.move_up(number, each, node, like)
                    for each, node in maps.items()
                    if each not in present and (self.moves == "all" or max(readers[each], default=0) >= number)
                }
                maps = present
            for index in range(depth):
                sources = tuple(maps[source] for source in frame.pattern.sources[place])
                place += 1
                maps[place] = nodes.add_layer(number, index, sources, place)
            if number < n_downs:
                ways_down.append(dict(maps))
        read = tuple(maps[each] for each in frame.reads)
        return nodes.finish(read, (*BN_RELU, Convolution(frame.classes, 1, bias=True)), frame.merge)

    @staticmethod
    def _list_readers(frame: Frame) -> list[set[int]]:
        """Return for each map the blocks whose layers read it; the head is in the last."""
        block_of = [number for number, depth in enumerate(frame.depths) for _ in range(depth)]
        readers: list[set[int]] = [set() for _ in range(frame.pattern.depth + 1)]
        for source, target in frame.pattern.connections:
            readers[source].add(block_of[target - 1])
        for source in frame.reads:
            readers[source].add(block_of[-1])
        return readers


PYRAMIDS = (FcDenseNet, LogDenseNetFcn)  # surroundings whose networks give every pixel a class


def _count_downs(frame: Frame) -> int:
    """Return how many blocks lead down, and as many up, around the middle one.

    Raises:
        InputError: there is no middle one.
    """
    n_blocks = len(frame.depths)
    if n_blocks % 2 == 0:
        raise InputError(
            f"{n_blocks} blocks have no middle one with as many above it as below: give an odd number of blocks"
        )
    return n_blocks // 2


def _drop_out(p: float) -> tuple[Operation, ...]:
    return (Dropout(p),) if p else ()


class _Nodes:
    """The nodes of a network while it is laid out.

    Args:
        frame: sizes and settings.
        stem_bias: whether the stem has a bias.
    """

    def __init__(self, frame: Frame, stem_bias: bool = False) -> None:
        self._frame = frame
        self._nodes = [IMAGE_NODE]
        self._channels = [0]  # that each writes; those of the image play no part
        stem = LayoutNode("stem", "stem", (0,), (Convolution(frame.stem, bias=stem_bias),), place=0)
        self.stem = self.add(stem, frame.stem)

    def count_channels(self, reads: Sequence[int]) -> int:
        """Return the number of channels of some nodes together."""
        return sum(self._channels[node] for node in reads)

    def add(self, node: LayoutNode, channels: int) -> int:
        """Add a node that writes so many channels, and return its number."""
        self._nodes.append(node)
        self._channels.append(channels)
        return len(self._nodes) - 1

    def add_layer(
        self, block: int, index: int, reads: tuple[int, ...], place: int, dropout: float = 0.0, bias: bool = False
    ) -> int:
        """Add a layer of a block, and return its number."""
        frame = self._frame
        n_read = self.count_channels(reads) if frame.merge == "concat" else frame.growth
        operations: tuple[Operation, ...] = BN_RELU
        kernel = 3
        if frame.layer == "bottleneck":
            operations += (Convolution(_BOTTLENECK_FACTOR * frame.growth, 1, bias=bias), *BN_RELU)
        elif frame.layer == "depthwise":
            operations += (Convolution(n_read, groups=n_read, bias=bias),)
            kernel = 1
        operations += (Convolution(frame.growth, kernel, bias=bias),)
        n_before = sum(node.kind == "layer" for node in self._nodes)
        layer = LayoutNode(
            f"block{block}_layer{index}",
            "layer",
            reads,
            operations + _drop_out(dropout),
            frame.merge,
            place=place,
            survival=1 - (n_before + 1) / sum(frame.depths) * frame.drop_layers,
            drop_path=frame.drop_path,
        )
        return self.add(layer, frame.growth)

    def move_down(self, block: int, each: int, node: int) -> int:
        """Add what brings a map to half the resolution, and return its number."""
        width = self._channels[node]
        operations = (*BN_RELU, Convolution(width, 1), Pool(ceil=True))
        return self.add(LayoutNode(f"down{block}_map{each}", "passage", (node,), operations), width)

    def move_up(self, block: int, each: int, node: int, like: int) -> int:
        """Add what brings a map to the size of another node, of twice the resolution, and return its number."""
        width = self._channels[node]
        operations = (*BN_RELU, TransposedConvolution(width))
        up = LayoutNode(f"up{block}_map{each}", "passage", (node,), operations, fit=Fit(like, "bilinear"))
        return self.add(up, width)

    def finish(self, reads: tuple[int, ...], operations: tuple[Operation, ...], merge: str = "concat") -> Layout:
        """Return the network, ended by a head that reads these nodes."""
        self.add(LayoutNode("head", "head", reads, operations, merge), self._frame.classes)
        return Layout(tuple(self._nodes), (len(self._nodes) - 1,))
