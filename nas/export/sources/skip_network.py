"""The text of model.py for blocks in a row."""

import textwrap

from nas.export.manifest import VERSION, WEIGHTS_FILES
from nas.export.sources.program import AS_SCRIPT, LINE_LENGTH
from nas.model.candidate import Candidate
from nas.model.config import BOTTLENECK, DEPTHWISE, NetworkConfig
from nas.model.cost import BOTTLENECK_FACTOR, KERNEL, LARGE_KERNEL
from search_spaces.plugins import list_plugins
from search_spaces.wiring.blocks import Block

_PROGRAM = '''\
"""A network after a pattern of {n_layers} layers and {n_connections} connections; PyTorch is all that it needs{needs}.

{says}
"""

import json
import math
import random
from pathlib import Path

import torch
from torch import Tensor, nn

IMAGE = {image}  # channels, height and width of an image
CLASSES = {classes}  # outputs of the classifier
GROWTH = {growth}  # output channels of a layer
WIDE = {wide}  # channels of the 1x1 convolution that a layer begins with; None: it has none
# What the layers of a block read, the first layer first. A block's inputs are nodes 0, 1, ..., its layers come after.
{sources}
# Each block: channels of its inputs, what its layers read, what each transition after it reads and how many it writes.
BLOCKS = (
{blocks}
)
READ = {read}  # what the classifier reads of the last block
WEIGHTS = Path(__file__).with_name("{weights}")
MANIFEST = Path(__file__).with_name("manifest.json")


{gather}


def count_channels(nodes: tuple[int, ...], inputs: tuple[int, ...]) -> int:
    return {channels}


def norm_relu(channels: int) -> list[nn.Module]:
    return [nn.BatchNorm2d(channels), nn.ReLU(inplace=True)]


def build_layer(nodes: tuple[int, ...], inputs: tuple[int, ...]) -> nn.Sequential:
    channels = count_channels(nodes, inputs)
    parts = [Gather(nodes), *norm_relu(channels)]
{layer}


def build_transition(nodes: tuple[int, ...], inputs: tuple[int, ...], written: int) -> nn.Sequential:
    channels = count_channels(nodes, inputs)
    convolution = nn.Conv2d(channels, written, 1, bias=False)
    return nn.Sequential(Gather(nodes), *norm_relu(channels), convolution, nn.AvgPool2d(2))


class Block(nn.Module):
    """Layers that read the block's inputs and earlier layers, all of one resolution."""

    def __init__(self, inputs: tuple[int, ...], sources: tuple[tuple[int, ...], ...]) -> None:
        super().__init__()
        self.layers = nn.ModuleList(build_layer(nodes, inputs) for nodes in sources)

    def forward(self, inputs: list[Tensor]) -> list[Tensor]:
        features = list(inputs)
        for layer in self.layers:
            features.append(layer(features))
        return features


class SkipNetwork(nn.Module):
    """Stem, blocks with transitions between them, classifier."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = {stem}
        self.blocks = nn.ModuleList(Block(inputs, sources) for inputs, sources, _ in BLOCKS){scaling}
        self.transitions = nn.ModuleList(
            build_transition(nodes, inputs, written)
            for inputs, _, transitions in BLOCKS
            for nodes, written in transitions
        )
{forward}


def build_network() -> SkipNetwork:
    network = SkipNetwork()
    if WEIGHTS.exists():
{load}
    return network


{as_script}    if WEIGHTS.exists() and "logits" in probe:
        off = (logits - torch.tensor(probe["logits"])).abs().max()
        print(f"off by {{off:.1e}} from the logits in manifest.json")
'''

# What the program says of itself, where its weights are and how its forward pass is called, by version of the manifest.
_SAYS = {
    1: """\
`build_network()` gives the network, with the weights in weights.pt where that file lies beside this one. Run as a
script, this file tells the network's size and what it makes of random images. skipsearch wrote it, from the template
{key}.""",
    2: """\
`build_network()` gives the network, with the weights in model.safetensors where that file lies next to this one; then
it needs `pip install safetensors` too. `network.load_state_dict(safetensors.torch.load_file(path))` loads others.
`forward_features`, `forward_head` and `reset_classifier` are those of timm. Run as a script, this file tells the
network's size and what it makes of random images. skipsearch wrote it, from the template
{key}.""",
}
_LOADS = {
    1: """\
        network.load_state_dict(torch.load(WEIGHTS, map_location="cpu", weights_only=True))""",
    2: """\
        from safetensors.torch import load_file

        network.load_state_dict(load_file(WEIGHTS))""",
}
_FORWARDS = {
    1: '''\
        channels = count_channels(READ, BLOCKS[-1][0])
        self.head = nn.Sequential(Gather(READ), *norm_relu(channels))
        self.classifier = nn.Linear(channels, CLASSES)

    def forward(self, images: Tensor) -> Tensor:
        """Images (batch, channels, height, width) -> logits (batch, classes)."""
        inputs = [self.stem(images)]
        following = iter(self.transitions)
        for block, (_, _, transitions) in zip(self.blocks, BLOCKS, strict=True):
            features = block(inputs)
            inputs = [next(following)(features) for _ in transitions]
        return self.classifier(self.head(features).mean(dim=(2, 3)))''',
    2: '''\
        self.num_features = count_channels(READ, BLOCKS[-1][0])
        self.head = nn.Sequential(Gather(READ), *norm_relu(self.num_features))
        self.classifier = nn.Linear(self.num_features, CLASSES)

    def forward_features(self, images: Tensor) -> Tensor:
        """Images (batch, channels, height, width) -> maps (batch, num_features, height, width)."""
        inputs = [self.stem(images)]
        following = iter(self.transitions)
        for block, (_, _, transitions) in zip(self.blocks, BLOCKS, strict=True):
            features = block(inputs)
            inputs = [next(following)(features) for _ in transitions]
        return self.head(features)

    def forward_head(self, maps: Tensor, pre_logits: bool = False) -> Tensor:
        """Maps -> their means (batch, num_features), and of these the logits (batch, classes)."""
        pooled = maps.mean(dim=(2, 3))
        return pooled if pre_logits else self.classifier(pooled)

    def forward(self, images: Tensor) -> Tensor:
        """Images (batch, channels, height, width) -> logits (batch, classes)."""
        return self.forward_head(self.forward_features(images))

    def reset_classifier(self, num_classes: int) -> None:
        """Begin a new classifier of so many classes; 0: none, forward gives the means."""
        self.classifier = nn.Linear(self.num_features, num_classes) if num_classes else nn.Identity()''',
}
_SUMMED_CHANNELS = "GROWTH"
_ALL_CHANNELS = "sum(inputs[node] if node < len(inputs) else GROWTH for node in nodes)"
_GATHER = '''\
class Gather(nn.Module):
    """{says}"""

    def __init__(self, nodes: tuple[int, ...]) -> None:
        super().__init__()
        self.nodes = nodes{parameter}

    def forward(self, features: list[Tensor]) -> Tensor:
        return {returns}'''
_SUM_OF = "sum(features[node] * factor for node, factor in zip(self.nodes, {factors}, strict=True))"
_FACTORS = "\n        self.weight = nn.Parameter(torch.{start})"
_GATHERS = {
    "concat": _GATHER.format(
        says="Concatenate some of a block's nodes along the channels.",
        parameter="",
        returns="torch.cat([features[node] for node in self.nodes], dim=1)",
    ),
    "sum": _GATHER.format(
        says="Add some of a block's nodes.", parameter="", returns="sum(features[node] for node in self.nodes)"
    ),
    "gated": _GATHER.format(
        says="Add some of a block's nodes, each multiplied by the sigmoid of a learned number.",
        parameter=_FACTORS.format(start="zeros(len(nodes))"),
        returns=_SUM_OF.format(factors="self.weight.sigmoid()"),
    ),
    "dwa": _GATHER.format(
        says="Add some of a block's nodes, each multiplied by a learned number: at first 1 for the last, 0 else.",
        parameter=_FACTORS.format(start="eye(len(nodes))[-1]"),
        returns=_SUM_OF.format(factors="self.weight"),
    ),
}
_DEPTHWISE_LAYER = """\
    each = nn.Conv2d(channels, channels, {kernel}, padding={padding}, groups=channels, bias=False)
    return nn.Sequential(*parts, each, nn.Conv2d(channels, GROWTH, 1, bias=False))"""
_PLAIN_LAYER = """\
    if WIDE is not None:
        parts += [nn.Conv2d(channels, WIDE, 1, bias=False), *norm_relu(WIDE)]
        channels = WIDE
    return nn.Sequential(*parts, nn.Conv2d(channels, GROWTH, {kernel}, padding={padding}, bias=False))"""
_SCALE = '''


class Scale(nn.Module):
    """Multiply by a fixed number."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, x: Tensor) -> Tensor:
        return x * self.factor'''
_SCALING = """
        layers = [layer for block in self.blocks for layer in block.layers]
        for number, layer in enumerate(layers, start=1):  # the chance that training kept the layer in a step
            layer.append(Scale(1 - number / len(layers) * {drop}))"""


def format_model(candidate: Candidate, version: int = VERSION) -> str:
    """Return the text of model.py: the candidate's network, its sizes and connections as constants.

    Only numbers and the pattern's key come from the candidate, so a stranger's template cannot add code. Its state_dict
    has the names of `nas.model.network.build_network`'s.

    Args:
        version: version of the manifest next to it; folders of an earlier one are still verified.
    """
    network, wiring = candidate.network, candidate.wiring
    kernel = {"kernel": KERNEL, "padding": KERNEL // 2}
    tables = list(dict.fromkeys(block.sources for block in wiring.blocks))
    return _PROGRAM.format(
        as_script=AS_SCRIPT,
        n_layers=candidate.pattern.depth,
        n_connections=candidate.pattern.n_connections,
        says=_SAYS[version].format(key=candidate.pattern.key),
        weights=WEIGHTS_FILES[version],
        forward=_FORWARDS[version],
        load=_LOADS[version],
        image=network.image,
        classes=network.classes,
        growth=network.growth,
        wide=BOTTLENECK_FACTOR * network.growth if network.layer == BOTTLENECK else None,
        needs=f", with the package that brings merge {network.merge}" if network.has_brought_merge else "",
        gather=_format_gather(network.merge) + (_SCALE if network.drop_layers else ""),
        channels=_ALL_CHANNELS if network.is_concat else _SUMMED_CHANNELS,
        layer=(_DEPTHWISE_LAYER if network.layer == DEPTHWISE else _PLAIN_LAYER).format(**kernel),
        scaling=_SCALING.format(drop=network.drop_layers) if network.drop_layers else "",
        stem=_format_stem(network),
        sources="\n".join(
            f"SOURCES_{number} = (\n{_format_sources(sources)}\n)" for number, sources in enumerate(tables)
        ),
        blocks="\n".join(_format_block(block, tables.index(block.sources)) for block in wiring.blocks),
        read=wiring.read,
    )


def _format_gather(merge: str) -> str:
    """Return the class that merges nodes; another package's merge is imported from there."""
    if merge in _GATHERS:
        return _GATHERS[merge]
    plugin = next(each for each in list_plugins() if (each.kind, each.name) == ("merges", merge))
    module, _, name = plugin.value.partition(":")
    gather = _GATHER.format(
        says=f"Merge some of a block's nodes, as {plugin.origin} does.",
        parameter="\n        self.inner = create_merge(len(nodes))",
        returns="self.inner([features[node] for node in self.nodes])",
    )
    return f"from {module} import {name} as create_merge  # noqa: E402\n\n\n{gather}"


def _format_stem(network: NetworkConfig) -> str:
    n_channels, n_written = network.image[0], network.stem
    if not network.large_stem:
        return f"nn.Conv2d({n_channels}, {n_written}, {KERNEL}, padding={KERNEL // 2}, bias=False)"
    convolution = f"nn.Conv2d({n_channels}, {n_written}, {LARGE_KERNEL}, 2, {LARGE_KERNEL // 2}, bias=False)"
    pooling = f"nn.MaxPool2d({KERNEL}, 2, {KERNEL // 2})"
    return f"nn.Sequential(\n{12 * ' '}{convolution}, *norm_relu({n_written}), {pooling}\n{8 * ' '})"


def _format_block(block: Block, table: int) -> str:
    transitions = tuple((transition.reads, transition.channels) for transition in block.transitions)
    line = f"({block.inputs}, SOURCES_{table}, {transitions}),"
    return textwrap.fill(line, LINE_LENGTH, initial_indent="    ", subsequent_indent="    ")


def _format_sources(sources: tuple[tuple[int, ...], ...]) -> str:
    """Put tuples into lines of at most LINE_LENGTH; only a tuple that is longer than a line is broken.

    >>> print(_format_sources(((0,), (0, 1))))
        (0,), (0, 1),
    """
    indent = "    "
    lines = [indent]
    for inputs in sources:
        longer = f"{lines[-1]} {inputs},"
        if len(longer) <= LINE_LENGTH:
            lines[-1] = longer
        else:
            lines += textwrap.wrap(f"{inputs},", LINE_LENGTH, initial_indent=indent, subsequent_indent=indent)
    return "\n".join(line.replace(indent + " ", indent) for line in lines if line.strip())
