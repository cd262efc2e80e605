"""Modules of networks that add: shortcuts, means, and highway layers."""

from typing import cast

from torch import Tensor, nn
from torch.nn import functional as F


class ChannelMax(nn.Module):
    """The largest value over all pixels."""

    def forward(self, x: Tensor) -> Tensor:
        """(batch, channels, height, width) -> (batch, channels)."""
        return x.amax(dim=(2, 3))


class ScaleBy(nn.Module):
    """A multiplication by a fixed number.

    Args:
        factor: the number.
    """

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, x: Tensor) -> Tensor:
        """Return x times the factor."""
        return x * self.factor


class TakeChannels(nn.Module):
    """The first channels of a map.

    Args:
        channels: how many.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.channels = channels

    def forward(self, x: Tensor) -> Tensor:
        """(batch, channels, height, width) -> the same with fewer channels."""
        return x[:, : self.channels]


class PaddedShortcut(nn.Module):
    """Every stride-th pixel, followed by channels of zeros (arXiv:1512.03385, option A).

    Args:
        n_added: number of channels of zeros.
        stride: stride.
    """

    def __init__(self, n_added: int, stride: int) -> None:
        super().__init__()
        self.n_added, self.stride = n_added, stride

    def forward(self, x: Tensor) -> Tensor:
        """(batch, channels, height, width) -> (batch, channels + n_added, height / stride, width / stride)."""
        return F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, 0, self.n_added))


class GateConvolution(nn.Conv2d):
    """The 3x3 convolution of a gate.

    Args:
        channels: channels read and written.
        start_bias: its bias at the start, which start_weights sets.
    """

    def __init__(self, channels: int, start_bias: float) -> None:
        super().__init__(channels, channels, 3, padding=1)
        self.start_bias = start_bias


class HighwayLayer(nn.Module):
    """A highway layer (arXiv:1505.00387).

    Args:
        channels: channels read and written.
        gate_bias: the gate's bias at the start.
    """

    def __init__(self, channels: int, gate_bias: float) -> None:
        super().__init__()
        self.transform = nn.Conv2d(channels, channels, 3, padding=1)
        self.gate = GateConvolution(channels, gate_bias)

    def forward(self, x: Tensor) -> Tensor:
        """(batch, channels, height, width) -> the same shape."""
        gate = cast(Tensor, self.gate(x)).sigmoid()
        transformed = cast(Tensor, self.transform(x)).relu()
        return gate * transformed + (1 - gate) * x  # equation 3
