"""CondenseNet (arXiv:1711.09224) around any pattern, and its learned group convolution."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from nas.layouts.layout import IMAGE_NODE, Frame, Layout, LayoutNode, Surroundings, trace
from nas.layouts.operations import (
    BN_RELU,
    Convolution,
    Free,
    GlobalMean,
    Linear,
    MapShape,
    Norm,
    Operation,
    Pool,
    Relu,
)

CLASSIFIER_CONDENSATION = 2  # a condensed classifier keeps half of its inputs


def count_kept(n_inputs: int, condensation: int, stage: int) -> int:
    """Return how many inputs each group reads at a stage, rounded up.

    Args:
        n_inputs: number of inputs R before any is dropped.
        condensation: condensation factor C.
        stage: number of condensing stages that have begun, 0 to C - 1.

    >>> [count_kept(16, 4, stage) for stage in range(4)]
    [16, 12, 8, 4]
    """
    return -(-n_inputs * (condensation - stage) // condensation)


@dataclass(frozen=True, slots=True)
class LearnedGroupConvolution:
    """A 1x1 convolution whose groups learn which inputs they read (arXiv:1711.09224, section 3.1).

    Output o belongs to group o mod groups. Costs are those in the end, when each group reads 1/condensation of the
    inputs.

    Args:
        channels: channels written, a multiple of groups.
        groups: number of groups G.
        condensation: condensation factor C.
        lasso: factor of the group lasso that is added to the loss until the last stage begins.
    """

    channels: int
    groups: int
    condensation: int
    lasso: float = 0.0

    def write(self, read: MapShape) -> MapShape:
        return read._replace(channels=self.channels)

    def count_kept(self, read: MapShape) -> int:
        """Return the inputs that each group reads in the end."""
        return count_kept(read.channels, self.condensation, self.condensation - 1)

    def count_params(self, read: MapShape) -> int:
        return self.count_kept(read) * self.channels

    def count_macs(self, read: MapShape) -> int:
        return self.count_params(read) * read.n_pixels


@dataclass(frozen=True, slots=True)
class LearnedLinear:
    """A linear map with bias that learns which inputs it reads; costs are those in the end.

    Args:
        channels: numbers written.
        condensation: condensation factor.
    """

    channels: int
    condensation: int

    def write(self, read: MapShape) -> MapShape:  # noqa: ARG002  the protocol's form
        return MapShape(self.channels, 1, 1)

    def count_kept(self, read: MapShape) -> int:
        """Return the inputs that it reads in the end."""
        return count_kept(read.channels, self.condensation, self.condensation - 1)

    def count_params(self, read: MapShape) -> int:
        return (self.count_kept(read) + 1) * self.channels

    def count_macs(self, read: MapShape) -> int:
        return self.count_kept(read) * self.channels


@dataclass(frozen=True, slots=True)
class ChannelIndex(Free):
    """A choice of channels, in an order that lies with the weights.

    Args:
        channels: number of channels chosen; one may be chosen more than once.
    """

    channels: int

    def write(self, read: MapShape) -> MapShape:
        return read._replace(channels=self.channels)


@dataclass(frozen=True, slots=True)
class ChannelShuffle(Free):
    """The channel shuffle (ShuffleNet, arXiv:1707.01083): channel j of group g becomes channel j x groups + g.

    Args:
        groups: number of groups.
    """

    groups: int


Learned = LearnedGroupConvolution | LearnedLinear


class CondenseNet(Surroundings):
    """CondenseNet's network: between blocks nothing but pooling, so that one pattern spans all blocks.

    A layer is BN-ReLU-learned group 1x1 convolution-BN-ReLU-3x3 group convolution. The first block's layers write
    `growth` channels and the stem twice as many. With the dense pattern it is the paper's network; with another one a
    layer reads what the pattern says.
    """

    unused: ClassVar = ("layer", "merge", "stem_channels", "compression", "large_stem")
    kind: Literal["condensenet"] = "condensenet"
    groups: Annotated[int, Field(ge=1, le=64)] = 4  # of both convolutions of a layer
    condensation: Annotated[int, Field(ge=1, le=64)] = 4
    widening: Annotated[int, Field(ge=1, le=8)] = 2  # growth of a block over that of the block before
    bottleneck: Annotated[int, Field(ge=1, le=64)] = 4  # channels between a layer's convolutions, in growths
    stem_stride: Annotated[int, Field(ge=1, le=4)] = 1
    lasso: Annotated[float, Field(ge=0, le=1)] = 0.0  # factor of the group lasso in the loss
    condensed_classifier: bool = False  # whether the classifier keeps only half of its inputs

    @property
    def spans_blocks(self) -> bool:
        """Return True: a layer may read the layers of all earlier blocks."""
        return True

    def find_problem(self, config: Any) -> str | None:
        """Return what of a network's settings cannot be together with these, None if all can.

        Args:
            config: the settings, a ShapeConfig of nas/model/config.py.
        """
        problem = super().find_problem(config)
        if problem is not None:
            return problem
        if config.transition in ("v1", "v2", "rule"):
            return f"transition {config.transition} is not for CondenseNet, whose pattern spans all blocks: give all"
        if config.growth % self.groups:
            return (
                f"growth {config.growth} cannot be split into CondenseNet's {self.groups} groups: give a growth that "
                f"is a multiple of {self.groups}, or other groups, as in --network condensenet-86:groups=2"
            )
        return None

    def lay_out(self, frame: Frame) -> Layout:
        """Return the network around a frame's pattern."""
        stem = (Convolution(2 * frame.growth, 3, self.stem_stride),)
        nodes = [IMAGE_NODE, LayoutNode("stem", "stem", (0,), stem, place=0)]
        maps = [1]  # for each place the node with its map at the present block's resolution
        last_blocks = _find_last_blocks(frame)
        for block, depth in enumerate(frame.depths):
            for place in range(len(maps) if block else 0):
                if last_blocks[place] >= block:
                    maps[place], source = len(nodes), maps[place]
                    nodes.append(LayoutNode(f"pool{block}_{place}", "passage", (source,), (Pool(),)))
            operations = self._make_layer(frame.growth * self.widening**block)
            for index in range(depth):
                reads = tuple(maps[source] for source in frame.pattern.sources[len(maps) - 1])
                node = LayoutNode(
                    f"block{block}_layer{index}",
                    "layer",
                    reads,
                    operations,
                    place=len(maps),
                    survival=frame.survival(len(maps)),
                    drop_path=frame.drop_path,
                )
                maps.append(len(nodes))
                nodes.append(node)
        head = (*BN_RELU, GlobalMean(), self._make_classifier(frame.classes))
        nodes.append(LayoutNode("head", "head", tuple(maps[place] for place in frame.reads), head))
        return Layout(tuple(nodes), (len(nodes) - 1,))

    def _make_layer(self, growth: int) -> tuple[Operation, ...]:
        learned = LearnedGroupConvolution(self.bottleneck * growth, self.groups, self.condensation, self.lasso)
        return (*BN_RELU, learned, *BN_RELU, Convolution(growth, 3, groups=self.groups))

    def _make_classifier(self, classes: int) -> Operation:
        return LearnedLinear(classes, CLASSIFIER_CONDENSATION) if self.condensed_classifier else Linear(classes)


def _find_last_blocks(frame: Frame) -> list[int]:
    """Return for each node of the pattern the last block in which it is read; -1: it is never read."""
    last = [-1] * (frame.pattern.depth + 1)
    layer = 0
    for block, depth in enumerate(frame.depths):
        for sources in frame.pattern.sources[layer : layer + depth]:
            for source in sources:
                last[source] = block
        layer += depth
    for place in frame.reads:
        last[place] = len(frame.depths) - 1
    return last


def count_dropped(layout: Layout, image: tuple[int, int, int]) -> int:
    """Return the number of weights that are there in training, and that no network has in the end.

    Args:
        image: channels, rows and columns of an image.
    """
    n_dropped = 0
    for node, step in zip(layout.nodes, trace(layout, image), strict=True):
        for operation, shape in zip(node.operations, (step.read, *step.between), strict=False):
            if isinstance(operation, Learned):
                n_dropped += operation.channels * (shape.channels - operation.count_kept(shape))
    return n_dropped


def has_learned(layout: Layout) -> bool:
    """Return whether some node learns which of its inputs it reads."""
    return any(isinstance(operation, Learned) for node in layout.nodes for operation in node.operations)


def convert_layout(layout: Layout, image: tuple[int, int, int]) -> Layout:
    """Return the network that is left after condensation, of index layers and plain group convolutions.

    Its sizes follow from the layout; which channels an index layer chooses lies with the weights.

    Args:
        image: channels, rows and columns of an image.
    """
    steps = trace(layout, image)
    nodes = [
        replace(node, operations=convert_operations(node.operations, (step.read, *step.between)))
        for node, step in zip(layout.nodes, steps, strict=True)
    ]
    return Layout(tuple(nodes), layout.outputs)


def convert_operations(operations: Sequence[Operation], read: Sequence[MapShape]) -> tuple[Operation, ...]:
    """Return a node's operations with plain ones in the place of the learned.

    Args:
        operations: what the node does.
        read: for each operation the shape that it reads.
    """
    converted: list[Operation] = []
    for operation, shape in zip(operations, read, strict=False):
        if isinstance(operation, LearnedLinear):
            converted += [ChannelIndex(operation.count_kept(shape)), Linear(operation.channels)]
        elif isinstance(operation, LearnedGroupConvolution):
            # Channels are chosen before the BN-ReLU, which works on each by itself.
            assert [type(before) for before in converted[-2:]] == [Norm, Relu], "BN-ReLU comes before it"
            index = ChannelIndex(operation.groups * operation.count_kept(shape))
            plain = Convolution(operation.channels, 1, groups=operation.groups)
            converted = [*converted[:-2], index, *converted[-2:], plain, ChannelShuffle(operation.groups)]
        else:
            converted.append(operation)
    return tuple(converted)
