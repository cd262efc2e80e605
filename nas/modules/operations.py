"""Each operation of a layout as a torch module."""

from functools import singledispatch

from torch import Tensor, nn
from torch.nn import functional as F

from nas.layouts import operations, residual
from nas.layouts.operations import MapShape
from nas.modules.adding import ChannelMax, HighwayLayer, PaddedShortcut, ScaleBy, TakeChannels
from nas.modules.drops import SeededDropout


@singledispatch
def build_operation(operation: operations.Operation, read: MapShape) -> nn.Module:
    """Return the module of an operation, for a tensor of this shape; each kind of operation registers its own.

    A module changes no tensor in place: the node before it may have other readers.
    """
    raise AssertionError(f"no module is registered for {operation}, which reads {read}")


@build_operation.register
def _(operation: operations.Norm, read: MapShape) -> nn.Module:  # noqa: ARG001  singledispatch goes by its type
    return nn.BatchNorm2d(read.channels)


@build_operation.register
def _(operation: operations.Relu, read: MapShape) -> nn.Module:  # noqa: ARG001
    return nn.ReLU()


@build_operation.register
def _(operation: operations.Dropout, read: MapShape) -> nn.Module:  # noqa: ARG001
    return SeededDropout(operation.p)


@build_operation.register
def _(operation: operations.Convolution, read: MapShape) -> nn.Module:
    return nn.Conv2d(
        read.channels,
        operation.channels,
        operation.kernel,
        operation.stride,
        operation.kernel // 2,
        groups=operation.groups,
        bias=operation.bias,
    )


@build_operation.register
def _(operation: operations.TransposedConvolution, read: MapShape) -> nn.Module:
    return nn.ConvTranspose2d(
        read.channels, operation.channels, operation.kernel, operation.stride, bias=operation.bias
    )


@build_operation.register
def _(operation: operations.Pool, read: MapShape) -> nn.Module:  # noqa: ARG001
    if operation.kind == "max":
        return nn.MaxPool2d(operation.kernel, operation.stride, operation.padding, ceil_mode=operation.ceil)
    return nn.AvgPool2d(operation.kernel, operation.stride, operation.padding, operation.ceil)


class PixelMean(nn.Module):
    """The mean over all pixels."""

    def forward(self, x: Tensor) -> Tensor:
        """(batch, channels, height, width) -> (batch, channels)."""
        return x.mean(dim=(2, 3))


@build_operation.register
def _(operation: operations.GlobalMean, read: MapShape) -> nn.Module:  # noqa: ARG001
    return PixelMean()


@build_operation.register
def _(operation: operations.GlobalMax, read: MapShape) -> nn.Module:  # noqa: ARG001
    return ChannelMax()


@build_operation.register
def _(operation: operations.Scale, read: MapShape) -> nn.Module:  # noqa: ARG001
    return ScaleBy(operation.factor)


@build_operation.register
def _(operation: operations.FirstChannels, read: MapShape) -> nn.Module:  # noqa: ARG001
    return TakeChannels(operation.channels)


@build_operation.register
def _(operation: operations.Shortcut, read: MapShape) -> nn.Module:
    return PaddedShortcut(operation.channels - read.channels, operation.stride)


@build_operation.register
def _(operation: residual.Highway, read: MapShape) -> nn.Module:
    return HighwayLayer(read.channels, operation.gate_bias)


class FlatLinear(nn.Linear):
    """A linear map of all values of an example."""

    def forward(self, x: Tensor) -> Tensor:
        """(batch, ...) -> (batch, written)."""
        return super().forward(x.flatten(1))


@build_operation.register
def _(operation: operations.Linear, read: MapShape) -> nn.Module:
    return FlatLinear(read.channels * read.n_pixels, operation.channels)


def crop_to(x: Tensor, height: int, width: int) -> Tensor:
    """Cut maps off equally at both sides, one pixel more at the end where the number is odd."""
    top, left = (x.shape[2] - height) // 2, (x.shape[3] - width) // 2
    return x[:, :, top : top + height, left : left + width]


def interpolate_to(x: Tensor, height: int, width: int) -> Tensor:
    """Bring maps to a height and width by bilinear interpolation."""
    return x if x.shape[2:] == (height, width) else F.interpolate(x, (height, width), mode="bilinear")


FITS = {"crop": crop_to, "bilinear": interpolate_to}
