"""Each operation and merge of a layout as a line of model.py, and the classes that such lines need."""

from functools import singledispatch

from nas.layouts import condensed, operations, residual
from nas.layouts.operations import MapShape


@singledispatch
def write_operation(operation: operations.Operation, read: MapShape) -> str:
    """Return the expression that makes an operation's module, for a tensor of this shape.

    Each kind of operation registers its own; a class that PyTorch lacks is one of CLASSES.
    """
    raise AssertionError(f"no text is registered for {operation}, which reads {read}")


@write_operation.register
def _(operation: operations.Norm, read: MapShape) -> str:  # noqa: ARG001  singledispatch goes by its type
    return f"nn.BatchNorm2d({read.channels})"


@write_operation.register
def _(operation: operations.Relu, read: MapShape) -> str:  # noqa: ARG001
    return "nn.ReLU()"


@write_operation.register
def _(operation: operations.Dropout, read: MapShape) -> str:  # noqa: ARG001
    return f"nn.Dropout({operation.p})"


@write_operation.register
def _(operation: operations.Convolution, read: MapShape) -> str:
    sizes = f"{read.channels}, {operation.channels}, {operation.kernel}, {operation.stride}, {operation.kernel // 2}"
    groups = f", groups={operation.groups}" if operation.groups > 1 else ""
    return f"nn.Conv2d({sizes}{groups}, bias={operation.bias})"


@write_operation.register
def _(operation: operations.TransposedConvolution, read: MapShape) -> str:
    sizes = f"{read.channels}, {operation.channels}, {operation.kernel}, {operation.stride}"
    return f"nn.ConvTranspose2d({sizes}, bias={operation.bias})"


@write_operation.register
def _(operation: operations.Pool, read: MapShape) -> str:  # noqa: ARG001
    kind = "Max" if operation.kind == "max" else "Avg"
    ceil = ", ceil_mode=True" if operation.ceil else ""
    return f"nn.{kind}Pool2d({operation.kernel}, {operation.stride}, {operation.padding}{ceil})"


@write_operation.register
def _(operation: operations.GlobalMean, read: MapShape) -> str:  # noqa: ARG001
    return "PixelMean()"


@write_operation.register
def _(operation: operations.Linear, read: MapShape) -> str:
    return f"FlatLinear({read.channels * read.n_pixels}, {operation.channels})"


@write_operation.register
def _(operation: operations.GlobalMax, read: MapShape) -> str:  # noqa: ARG001
    return "ChannelMax()"


@write_operation.register
def _(operation: operations.Scale, read: MapShape) -> str:  # noqa: ARG001
    return f"ScaleBy({operation.factor!r})"


@write_operation.register
def _(operation: operations.FirstChannels, read: MapShape) -> str:  # noqa: ARG001
    return f"TakeChannels({operation.channels})"


@write_operation.register
def _(operation: operations.Shortcut, read: MapShape) -> str:
    return f"PaddedShortcut({operation.channels - read.channels}, {operation.stride})"


@write_operation.register
def _(operation: residual.Highway, read: MapShape) -> str:
    return f"HighwayLayer({read.channels}, {operation.gate_bias!r})"


@write_operation.register
def _(operation: condensed.ChannelIndex, read: MapShape) -> str:
    return f"IndexChannels({operation.channels}, {read.channels})"


@write_operation.register
def _(operation: condensed.ChannelShuffle, read: MapShape) -> str:  # noqa: ARG001
    return f"nn.ChannelShuffle({operation.groups})"


def write_merge(name: str, n_sources: int) -> str:
    """Return the expression that makes a merge's module."""
    return {
        "concat": "Concat()",
        "sum": "Sum()",
        "gated": f"Gated({n_sources})",
        "dwa": f"DepthWeighted({n_sources})",
    }[name]


# By the name of a class: its text. model.py has those that its lines name.
CLASSES = {
    "IndexChannels": '''\
class IndexChannels(nn.Module):
    """Choose channels by their numbers, which are part of the weights."""

    def __init__(self, n_chosen: int, n_read: int) -> None:
        super().__init__()
        self.register_buffer("index", torch.arange(n_chosen) % n_read)

    def forward(self, x: Tensor) -> Tensor:
        return x.index_select(1, self.index)''',
    "PixelMean": '''\
class PixelMean(nn.Module):
    """The mean over all pixels."""

    def forward(self, x: Tensor) -> Tensor:
        return x.mean(dim=(2, 3))''',
    "FlatLinear": '''\
class FlatLinear(nn.Linear):
    """A linear map of all values of an example."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.flatten(1))''',
    "ChannelMax": '''\
class ChannelMax(nn.Module):
    """The largest value over all pixels."""

    def forward(self, x: Tensor) -> Tensor:
        return x.amax(dim=(2, 3))''',
    "ScaleBy": '''\
class ScaleBy(nn.Module):
    """Multiply by a fixed number, which makes a mean of a sum."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, x: Tensor) -> Tensor:
        return x * self.factor''',
    "TakeChannels": '''\
class TakeChannels(nn.Module):
    """Take the first channels only."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.channels = channels

    def forward(self, x: Tensor) -> Tensor:
        return x[:, : self.channels]''',
    "PaddedShortcut": '''\
class PaddedShortcut(nn.Module):
    """Take every stride-th pixel, and add channels of zeros."""

    def __init__(self, n_added: int, stride: int) -> None:
        super().__init__()
        self.n_added, self.stride = n_added, stride

    def forward(self, x: Tensor) -> Tensor:
        return F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, 0, self.n_added))''',
    "HighwayLayer": '''\
class HighwayLayer(nn.Module):
    """A highway layer T H + (1 - T) x: the gate T says how much of H and how much of x."""

    def __init__(self, channels: int, gate_bias: float) -> None:
        super().__init__()
        self.transform = nn.Conv2d(channels, channels, 3, padding=1)
        self.gate = nn.Conv2d(channels, channels, 3, padding=1)
        nn.init.constant_(self.gate.bias, gate_bias)

    def forward(self, x: Tensor) -> Tensor:
        gate = self.gate(x).sigmoid()
        return gate * self.transform(x).relu() + (1 - gate) * x''',
    "Concat": '''\
class Concat(nn.Module):
    """Concatenate tensors along their channels."""

    def forward(self, sources: list[Tensor]) -> Tensor:
        return sources[0] if len(sources) == 1 else torch.cat(sources, dim=1)''',
    "Sum": '''\
class Sum(nn.Module):
    """Add tensors."""

    def forward(self, sources: list[Tensor]) -> Tensor:
        return sum(sources[1:], start=sources[0])''',
    "Gated": '''\
class Gated(nn.Module):
    """Add tensors, each multiplied by the sigmoid of a learned number."""

    def __init__(self, n_sources: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(n_sources))

    def forward(self, sources: list[Tensor]) -> Tensor:
        return sum(x * factor for x, factor in zip(sources, self.weight.sigmoid(), strict=True))''',
    "DepthWeighted": '''\
class DepthWeighted(nn.Module):
    """Add tensors, each multiplied by a learned number: at first 1 for the last, 0 else."""

    def __init__(self, n_sources: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.eye(n_sources)[-1])

    def forward(self, sources: list[Tensor]) -> Tensor:
        return sum(x * factor for x, factor in zip(sources, self.weight, strict=True))''',
}
