"""Networks that add what a layer reads: residual and highway networks for images of 32x32 pixels."""

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from nas.layouts.layout import IMAGE_NODE, MAX_WIDTHS, Frame, Layout, LayoutNode, Surroundings
from nas.layouts.operations import (
    BN_RELU,
    Convolution,
    Dropout,
    GlobalMean,
    Linear,
    MapShape,
    Operation,
    Pool,
    Relu,
    Scale,
    Shortcut,
)
from search_spaces.pattern import ConnectionPattern

Factors = Annotated[tuple[Annotated[int, Field(ge=1, le=1000)], ...], Field(min_length=1, max_length=MAX_WIDTHS)]
_HIGHWAY_FEATURES = 100  # channels that a highway network's 1x1 convolution writes before the classifier


@dataclass(frozen=True, slots=True)
class Highway:
    """A highway layer T H + (1 - T) x (arXiv:1505.00387, equation 3), which keeps the shape that it reads.

    H is the ReLU and T, the gate, the sigmoid of a 3x3 convolution of x with bias.

    Args:
        gate_bias: the gate's bias at the start.
    """

    gate_bias: float

    def write(self, read: MapShape) -> MapShape:
        return read

    def count_params(self, read: MapShape) -> int:
        return 2 * Convolution(read.channels, bias=True).count_params(read)

    def count_macs(self, read: MapShape) -> int:
        return 2 * Convolution(read.channels, bias=True).count_macs(read)


class AddingNetwork(Surroundings):
    """Blocks in a row whose layers add what they read, so that all nodes of a block have one shape.

    Each kind says what node 0 of a block, a layer and the head do to what they have merged.
    """

    unused: ClassVar = ("layer", "stem_channels", "compression", "large_stem")

    @property
    def has_equal_cost(self) -> bool:
        """Whether cost depends on the number of connections only: yes, a sum is as wide as one node."""
        return True

    @property
    def widths(self) -> tuple[int, ...] | None:
        """Width of each block as a multiple of growth, of as many blocks as there may be; None: any number."""
        return None

    @property
    def first_layer_enters(self) -> bool:
        """Whether the first layer of a block reads what left the block before, and not the block's node 0."""
        return False

    @property
    def drops_between(self) -> bool:
        """Whether passages and the head do without inputs in training steps, as layers do."""
        return False

    @property
    def takes_means(self) -> bool:
        """Whether the mean stands for the sum, where the merge is sum."""
        return False

    def find_problem(self, config: Any) -> str | None:
        """Return what of a network's settings cannot be together with these, None if all can.

        Args:
            config: the settings, a ShapeConfig of nas/model/config.py.
        """
        problem = super().find_problem(config)
        if problem is not None:
            return problem
        if config.merge == "concat":
            return f"a network of kind {self.kind} adds nodes of one width, merge concat joins them: give sum"
        if config.transition in ("v1", "v2"):
            return (
                f"in a network of kind {self.kind} each block has the pattern, and transition {config.transition} goes "
                "across blocks: give log, all, last or rule"
            )
        if self.widths is not None and config.blocks > len(self.widths):
            return f"a network of kind {self.kind} has {len(self.widths)} widths, not for {config.blocks} blocks"
        return None

    def enter(self, frame: Frame, number: int) -> tuple[Operation, ...]:
        """Return what node 0 of a block does: to the image, or to what left the block before."""
        raise NotImplementedError

    def work(self, frame: Frame, number: int, index: int, reads: tuple[int, ...]) -> tuple[Operation, ...]:
        """Return what a layer does.

        Args:
            number: number of its block.
            index: number of the layer in the block.
            reads: nodes of the pattern that it reads.
        """
        raise NotImplementedError

    def finish(self, frame: Frame) -> tuple[Operation, ...]:
        """Return what the head does."""
        raise NotImplementedError

    def wire(self, pattern: ConnectionPattern) -> tuple[tuple[int, ...], ...]:
        """Return what each layer of a block reads."""
        return pattern.sources

    def leave(self, frame: Frame, pattern: ConnectionPattern) -> tuple[int, ...]:
        """Return the nodes that leave a block."""
        return frame.leave(pattern)

    def lay_out(self, frame: Frame) -> Layout:
        """Return the network around a frame's pattern."""
        has_means = self.takes_means and frame.merge == "sum"
        drop_between = frame.drop_path if self.drops_between else 0.0
        nodes = [IMAGE_NODE]
        left: tuple[int, ...] = (0,)  # nodes that enter the block
        n_layers = 0
        for number, pattern in enumerate(frame.block_patterns()):
            own = [len(nodes)]  # nodes of the block by place in the pattern
            entry = (*_scale(has_means, left), *self.enter(frame, number))
            if number:
                name = f"passage{number - 1}"
                nodes.append(LayoutNode(name, "passage", left, entry, frame.merge, place=0, drop_path=drop_between))
            else:
                nodes.append(LayoutNode("stem", "stem", left, entry, place=0))
            for index, reads in enumerate(self.wire(pattern)):
                is_entering = self.first_layer_enters and number > 0 and index == 0
                sources = left if is_entering else tuple(own[node] for node in reads)
                own.append(len(nodes))
                n_layers += 1
                nodes.append(
                    LayoutNode(
                        name=f"block{number}_layer{index}",
                        kind="layer",
                        reads=sources,
                        operations=(*_scale(has_means, sources), *self.work(frame, number, index, reads)),
                        merge=frame.merge,
                        place=index + 1,
                        survival=frame.survival(n_layers),
                        drop_path=frame.drop_path,
                    )
                )
            left = tuple(own[node] for node in self.leave(frame, pattern))
        head = (*_scale(has_means, left), *self.finish(frame))
        nodes.append(LayoutNode("head", "head", left, head, frame.merge, drop_path=drop_between))
        return Layout(tuple(nodes), (len(nodes) - 1,))


class ResNet(AddingNetwork):
    """ResNet for small images (arXiv:1512.03385), with BN-ReLU before each convolution (arXiv:1603.05027).

    A layer is BN-ReLU-3x3-BN-ReLU-3x3. The first block's layers write growth channels, those of each further block
    twice as many at half the resolution. With merge sum, pattern dense and transition all, a layer reads the sum of
    the block's input and all earlier layers, which is x_{l+1} = x_l + H(x_l): the network is a ResNet.

    What leaves a block enters the next one twice: by a shortcut without parameters, its node 0, and by its first
    layer, whose first convolution has stride 2. In every pattern the first layer reads nothing but node 0.
    """

    kind: Literal["resnet"] = "resnet"

    @property
    def first_layer_enters(self) -> bool:
        return True

    def enter(self, frame: Frame, number: int) -> tuple[Operation, ...]:
        return (Shortcut(frame.growth << number, 2),) if number else (Convolution(frame.growth),)

    def work(self, frame: Frame, number: int, index: int, reads: tuple[int, ...]) -> tuple[Operation, ...]:  # noqa: ARG002
        width = frame.growth << number
        stride = 2 if number and index == 0 else 1
        return (*BN_RELU, Convolution(width, stride=stride), *BN_RELU, Convolution(width))

    def finish(self, frame: Frame) -> tuple[Operation, ...]:
        return (*BN_RELU, GlobalMean(), Linear(frame.classes))


class HighwayNet(AddingNetwork):
    """A highway network for small images (arXiv:1505.00387), as its authors' code has the one of 19 layers.

    A layer is T H + (1 - T) x; see Highway. Where it reads several nodes and the merge is sum, x is their mean: nothing
    is normalised, and sums of sums would grow with each layer. Node 0 of each block is a plain convolution: the stem,
    or after 2x2 max pooling the passage from the block before.

    A layer has an identity path of its own, past H. So the gradient may pass many layers at once even along the
    chain, and a distance counted in layers is not the one that the gradient goes.

    Args:
        factors: width of each block, as a multiple of growth.
        gate_bias: bias of all gates at the start; the lower, the less of H.
        dropout: probability of dropout before each plain convolution and before the classifier.
    """

    kind: Literal["highway"] = "highway"
    factors: Factors = (2, 5, 8)
    gate_bias: Annotated[float, Field(ge=-100, le=100)] = -2.0
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.2

    @property
    def widths(self) -> tuple[int, ...]:
        return self.factors

    @property
    def takes_means(self) -> bool:
        return True

    def enter(self, frame: Frame, number: int) -> tuple[Operation, ...]:
        plain = (Dropout(self.dropout), Convolution(self.factors[number] * frame.growth, bias=True), Relu())
        return (Pool("max"), *plain) if number else plain

    def work(self, frame: Frame, number: int, index: int, reads: tuple[int, ...]) -> tuple[Operation, ...]:  # noqa: ARG002
        return (Highway(self.gate_bias),)

    def finish(self, frame: Frame) -> tuple[Operation, ...]:
        features = (Convolution(_HIGHWAY_FEATURES, 1, bias=True), Relu(), GlobalMean())
        return (*features, Dropout(self.dropout), Linear(frame.classes))


def _scale(has_means: bool, sources: tuple[int, ...]) -> tuple[Operation, ...]:
    """Return what makes a mean of the sum of some nodes.

    A single node has it too: initial weights are drawn by the place of an operation, which no pattern may move.
    """
    return (Scale(1 / len(sources)),) if has_means else ()
