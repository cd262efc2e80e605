"""MSDNet's surroundings (arXiv:1703.09844): a layer is a column of maps at several scales; exits on the way."""

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from nas.layouts.layout import IMAGE_NODE, MAX_WIDTHS, Frame, Layout, LayoutNode, NodeKind, Surroundings
from nas.layouts.operations import Convolution, GlobalMean, Linear, Norm, Operation, Relu

_Factor = Annotated[int, Field(ge=1, le=64)]
Column = dict[int, tuple[int, ...]]  # scale, 0 the finest -> nodes that have a layer's maps there


class MsdNet(Surroundings):
    """A network whose layers have maps at several scales, each half as high and wide as the one before.

    A layer of the pattern is a column of all scales. At each scale it reads that scale's maps of the layers that the
    pattern says, and those of the next finer scale by a stride of 2; each gives half of its channels. At the finest
    scale there is nothing finer, and one convolution writes them all. The last layer of each block but the last drops
    the finest scale, and what leaves the block by the setting `transition` is reduced to the next block's node 0. An
    exit reads the coarsest maps of a layer and its inputs, the last one those that leave the last block. So the pattern
    `dense` with transition `all` is the paper's network.

    Args:
        widths: factors of growth and of the stem's channels, by scale, the finest first.
        first_exit: layer with the first exit, counted over all blocks from 1.
        exit_step: layers from one exit to the next; the last layer always has one.
        reduction: share of the channels that a reduction keeps.
        exit_channels: channels of an exit's two convolutions.
    """

    unused: ClassVar = ("layer", "merge", "drop_layers", "drop_path", "compression", "large_stem")
    kind: Literal["msdnet"] = "msdnet"
    widths: Annotated[tuple[_Factor, ...], Field(min_length=1, max_length=MAX_WIDTHS)] = (1, 2, 4)
    first_exit: Annotated[int, Field(ge=1, le=10**5)] = 4
    exit_step: Annotated[int, Field(ge=1, le=10**5)] = 2
    reduction: Annotated[float, Field(gt=0, le=1)] = 0.5
    exit_channels: Annotated[int, Field(ge=1, le=10_000)] = 128

    @property
    def reads_per_connection(self) -> int:
        """Return four a scale, where a layer may have two maps, which its own scale and the next coarser one read."""
        return 4 * len(self.widths)

    def find_problem(self, config: Any) -> str | None:
        """Return what of a network's settings cannot be together with these, None if all can.

        Args:
            config: the settings, a ShapeConfig of nas/model/config.py.
        """
        n_blocks, n_scales = len(config.block_depths), len(self.widths)
        if n_blocks > n_scales:
            return (
                f"{n_blocks} blocks: each but the last drops the finest of MSDNet's {n_scales} scales; give at most "
                f"{n_scales} blocks"
            )
        if config.transition in ("v1", "v2"):
            return f"transition {config.transition} is not for MSDNet, each of whose blocks has the pattern: give all"
        return super().find_problem(config)

    def lay_out(self, frame: Frame) -> Layout:
        """Return the network around a frame's pattern."""
        return _Drawing(self, frame).draw()


class _Drawing:
    """The table of a network while it grows."""

    def __init__(self, form: MsdNet, frame: Frame) -> None:
        self._form, self._frame = form, frame
        self._nodes = [IMAGE_NODE]
        self._channels = [0]  # that each node writes
        self._exits: list[int] = []

    def draw(self) -> Layout:
        first, n_done, n_layers = self._add_stem(), 0, sum(self._frame.depths)
        for number, pattern in enumerate(self._frame.block_patterns()):
            columns = [first]
            for index, sources in enumerate(pattern.sources, start=1):
                n_done += 1
                is_dropping = index == pattern.depth and n_done < n_layers
                read = [columns[source] for source in sources]
                columns.append(self._add_layer(n_done, read, number, number + is_dropping, index))
                if n_done < n_layers and self._has_exit(n_done):
                    self._add_exit(n_done, _Stack((*read, columns[-1])))
            leaving = _Stack(tuple(columns[node] for node in self._frame.leave(pattern)))
            if n_done < n_layers:
                first = self._add_reduction(number, leaving)
        self._add_exit(n_layers, leaving)
        return Layout(tuple(self._nodes), tuple(self._exits))

    def _has_exit(self, layer: int) -> bool:
        past = layer - self._form.first_exit
        return past >= 0 and past % self._form.exit_step == 0

    @property
    def _coarsest(self) -> int:
        return len(self._form.widths) - 1

    def _add(
        self, name: str, kind: NodeKind, reads: tuple[int, ...], operations: tuple[Operation, ...], channels: int,
        place: int | None = None,
    ) -> int:  # fmt: skip
        self._nodes.append(LayoutNode(name, kind, reads, operations, place=place))
        self._channels.append(channels)
        return len(self._nodes) - 1

    def _add_stem(self) -> Column:
        column: Column = {}
        for scale, width in enumerate(self._form.widths):
            reads = (0,) if scale == 0 else column[scale - 1]
            channels = self._frame.stem * width
            operations = _convolve(channels, stride=1 if scale == 0 else 2)
            place = 0 if scale == self._coarsest else None
            column[scale] = (self._add(f"stem_scale{scale}", "stem", reads, operations, channels, place),)
        return column

    def _add_layer(self, number: int, read: list[Column], finest_read: int, finest: int, place: int) -> Column:
        column: Column = {}
        stack = _Stack(tuple(read))
        for scale in range(finest, self._coarsest + 1):
            name = f"layer{number}_scale{scale}"
            channels = self._frame.growth * self._form.widths[scale]
            nodes: tuple[int, ...] = ()
            if scale > finest_read:
                channels = max(1, channels // 2)  # half from the finer scale, half from this one
                nodes = (self._add_convolutions(f"{name}_down", stack.at(scale - 1), scale - 1, channels, 2, None),)
            at = place if scale == self._coarsest else None
            column[scale] = (*nodes, self._add_convolutions(name, stack.at(scale), scale, channels, 1, at))
        return column

    def _add_convolutions(
        self, name: str, reads: tuple[int, ...], scale: int, channels: int, stride: int, place: int | None
    ) -> int:
        wide = min(
            self._count(reads), self._form.widths[scale] * channels
        )  # a bottleneck is no wider than what it reads
        operations = (*_convolve(wide, kernel=1), *_convolve(channels, stride=stride))
        return self._add(name, "layer", reads, operations, channels, place)

    def _add_reduction(self, number: int, own: "_Stack") -> Column:
        column: Column = {}
        for scale in range(number + 1, self._coarsest + 1):
            reads, width = own.at(scale), self._form.widths[scale]
            channels = max(1, int(self._form.reduction * (self._count(reads) // width))) * width
            place = 0 if scale == self._coarsest else None
            operations = _convolve(channels, kernel=1)
            column[scale] = (self._add(f"passage{number}_scale{scale}", "passage", reads, operations, channels, place),)
        return column

    def _add_exit(self, number: int, own: "_Stack") -> None:
        wide, classes = self._form.exit_channels, self._frame.classes
        # The paper's mean over 2x2 is over all that is left of an image of 32x32.
        operations = (*_convolve(wide, stride=2), *_convolve(wide, stride=2), GlobalMean(), Linear(classes))
        self._exits.append(self._add(f"exit{number}", "head", own.at(self._coarsest), operations, classes))

    def _count(self, nodes: tuple[int, ...]) -> int:
        return sum(self._channels[node] for node in nodes)


@dataclass(frozen=True, slots=True)
class _Stack:
    """The maps of several layers, concatenated."""

    columns: tuple[Column, ...]

    def at(self, scale: int) -> tuple[int, ...]:
        """Return the nodes that have them at a scale."""
        return tuple(node for column in self.columns for node in column[scale])


def _convolve(channels: int, kernel: int = 3, stride: int = 1) -> tuple[Operation, ...]:
    return Convolution(channels, kernel, stride), Norm(), Relu()
