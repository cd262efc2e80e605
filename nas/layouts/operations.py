"""What a node of a network does to what it reads: shapes, parameters and multiply-adds of each operation."""

import math
from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol


class MapShape(NamedTuple):
    """The shape of one example's tensor."""

    channels: int
    height: int
    width: int

    @property
    def n_pixels(self) -> int:
        """Number of pixels."""
        return self.height * self.width


class Operation(Protocol):
    """One operation: a frozen value of plain numbers, which says what it writes and costs."""

    def write(self, read: MapShape) -> MapShape:
        """Return the shape that it writes when it reads this one."""

    def count_params(self, read: MapShape) -> int:
        """Return the number of its trained parameters."""

    def count_macs(self, read: MapShape) -> int:
        """Return the multiply-adds of its convolutions and matrix products for one example."""


class Free:
    """An operation without parameters, and without a convolution or matrix product."""

    __slots__ = ()

    def write(self, read: MapShape) -> MapShape:
        return read

    def count_params(self, read: MapShape) -> int:  # noqa: ARG002  the protocol's form
        return 0

    def count_macs(self, read: MapShape) -> int:  # noqa: ARG002
        return 0


@dataclass(frozen=True, slots=True)
class Norm(Free):
    """Batch normalisation with a scale and a shift for each channel."""

    def count_params(self, read: MapShape) -> int:
        return 2 * read.channels


@dataclass(frozen=True, slots=True)
class Relu(Free):
    """The positive part."""


@dataclass(frozen=True, slots=True)
class Dropout(Free):
    """Dropout of single values, in training only.

    Args:
        p: probability that a value is dropped.
    """

    p: float


@dataclass(frozen=True, slots=True)
class Convolution:
    """A convolution that pads by half its kernel, so that stride 1 keeps height and width.

    Args:
        channels: channels written.
        kernel: side of the kernel, odd.
        stride: stride; height and width become their quotient, rounded up.
        groups: groups of channels that it keeps apart.
        bias: whether it adds a number to each channel.
    """

    channels: int
    kernel: int = 3
    stride: int = 1
    groups: int = 1
    bias: bool = False

    def write(self, read: MapShape) -> MapShape:
        return MapShape(self.channels, -(-read.height // self.stride), -(-read.width // self.stride))

    def count_weights(self, read: MapShape) -> int:
        """Return the number of its weights without the bias."""
        return read.channels // self.groups * self.channels * self.kernel**2

    def count_params(self, read: MapShape) -> int:
        return self.count_weights(read) + (self.channels if self.bias else 0)

    def count_macs(self, read: MapShape) -> int:
        return self.count_weights(read) * self.write(read).n_pixels


@dataclass(frozen=True, slots=True)
class TransposedConvolution:
    """A transposed convolution without padding: it writes stride x (side - 1) + kernel pixels a side.

    Args:
        channels: channels written.
        kernel: side of the kernel.
        stride: stride.
        bias: whether it adds a number to each channel.
    """

    channels: int
    kernel: int = 3
    stride: int = 2
    bias: bool = False

    def write(self, read: MapShape) -> MapShape:
        height, width = (self.stride * (side - 1) + self.kernel for side in (read.height, read.width))
        return MapShape(self.channels, height, width)

    def count_params(self, read: MapShape) -> int:
        return read.channels * self.channels * self.kernel**2 + (self.channels if self.bias else 0)

    def count_macs(self, read: MapShape) -> int:
        return read.channels * self.channels * self.kernel**2 * read.n_pixels


@dataclass(frozen=True, slots=True)
class Pool(Free):
    """Pooling.

    Args:
        kind: mean or largest value.
        kernel: side of the window.
        stride: distance between windows.
        padding: pixels added at each edge.
        ceil: whether pixels that are left over at the lower and the right edge have windows of their own; if not, they
            are dropped.
    """

    kind: Literal["average", "max"] = "average"
    kernel: int = 2
    stride: int = 2
    padding: int = 0
    ceil: bool = False

    def write(self, read: MapShape) -> MapShape:
        height, width = map(self._write_side, (read.height, read.width))
        return MapShape(read.channels, height, width)

    def _write_side(self, side: int) -> int:
        room = side + 2 * self.padding - self.kernel
        if not self.ceil:
            return room // self.stride + 1
        n_windows = -(-room // self.stride) + 1
        begins_inside = (n_windows - 1) * self.stride < side + self.padding
        return n_windows if begins_inside else n_windows - 1


@dataclass(frozen=True, slots=True)
class GlobalMean(Free):
    """The mean over all pixels."""

    def write(self, read: MapShape) -> MapShape:
        return MapShape(read.channels, 1, 1)


@dataclass(frozen=True, slots=True)
class GlobalMax(Free):
    """The largest value over all pixels."""

    def write(self, read: MapShape) -> MapShape:
        return MapShape(read.channels, 1, 1)


@dataclass(frozen=True, slots=True)
class Scale(Free):
    """A multiplication by a fixed number, which makes a mean of a sum.

    Args:
        factor: the number.
    """

    factor: float


@dataclass(frozen=True, slots=True)
class FirstChannels(Free):
    """The first channels; the others are not used.

    Args:
        channels: how many.
    """

    channels: int

    def write(self, read: MapShape) -> MapShape:
        assert read.channels >= self.channels, f"{self.channels} channels of {read.channels}"
        return MapShape(self.channels, read.height, read.width)


@dataclass(frozen=True, slots=True)
class Shortcut(Free):
    """Every stride-th pixel, with channels of zeros added: option A of ResNet (arXiv:1512.03385, section 4.2).

    Args:
        channels: channels written, at least those read.
        stride: stride; height and width become their quotient, rounded up.
    """

    channels: int
    stride: int = 1

    def write(self, read: MapShape) -> MapShape:
        assert read.channels <= self.channels, f"a shortcut to {self.channels} channels reads {read.channels}"
        return MapShape(self.channels, -(-read.height // self.stride), -(-read.width // self.stride))


@dataclass(frozen=True, slots=True)
class Linear:
    """A linear map of all values, with bias.

    Args:
        channels: numbers written.
    """

    channels: int

    def write(self, read: MapShape) -> MapShape:  # noqa: ARG002  the protocol's form
        return MapShape(self.channels, 1, 1)

    def count_params(self, read: MapShape) -> int:
        return (math.prod(read) + 1) * self.channels

    def count_macs(self, read: MapShape) -> int:
        return math.prod(read) * self.channels


BN_RELU = (Norm(), Relu())
