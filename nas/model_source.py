"""Template -> model.py: the network as a program that needs PyTorch alone."""

import textwrap

from nas.config import Candidate
from nas.cost import BOTTLENECK_FACTOR, KERNEL, transition_channels

LINE_LENGTH = 100
_PROGRAM = '''\
"""A network of {n_layers} layers a block and {n_connections} connections; PyTorch is all that it needs.

`build_network()` gives the network, with the weights in weights.pt where that file lies beside this one. Run as a
script, this file tells the network's size and what it makes of random images. skipsearch wrote it, from the template
{key}.
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
# Channels of node 0 of each block: the first comes from the stem, the others from transitions.
FIRST = {first}
# What each layer of a block reads, the first layer first: node 0 is the block's input, node i the output of layer i.
SOURCES = (
{sources}
)
# What a transition reads of the block before it, and the classifier of the last one.
READ = {read}
WEIGHTS = Path(__file__).with_name("weights.pt")
MANIFEST = Path(__file__).with_name("manifest.json")


class Gather(nn.Module):
    """Concatenate some of a block's nodes along the channels."""

    def __init__(self, nodes: tuple[int, ...]) -> None:
        super().__init__()
        self.nodes = nodes

    def forward(self, features: list[Tensor]) -> Tensor:
        return torch.cat([features[node] for node in self.nodes], dim=1)


def count_channels(nodes: tuple[int, ...], first: int) -> int:
    return sum(first if node == 0 else GROWTH for node in nodes)


def norm_relu(channels: int) -> list[nn.Module]:
    return [nn.BatchNorm2d(channels), nn.ReLU(inplace=True)]


def build_layer(inputs: tuple[int, ...], first: int) -> nn.Sequential:
    channels = count_channels(inputs, first)
    parts = [Gather(inputs), *norm_relu(channels)]
    if WIDE is not None:
        parts += [nn.Conv2d(channels, WIDE, 1, bias=False), *norm_relu(WIDE)]
        channels = WIDE
    return nn.Sequential(*parts, nn.Conv2d(channels, GROWTH, {kernel}, padding={padding}, bias=False))


def build_transition(first: int, written: int) -> nn.Sequential:
    channels = count_channels(READ, first)
    convolution = nn.Conv2d(channels, written, 1, bias=False)
    return nn.Sequential(Gather(READ), *norm_relu(channels), convolution, nn.AvgPool2d(2))


class Block(nn.Module):
    """Layers that read earlier nodes, all of one resolution."""

    def __init__(self, first: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(build_layer(inputs, first) for inputs in SOURCES)

    def forward(self, x: Tensor) -> list[Tensor]:
        features = [x]
        for layer in self.layers:
            features.append(layer(features))
        return features


class SkipNetwork(nn.Module):
    """Stem, blocks with transitions between them, classifier."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(IMAGE[0], FIRST[0], {kernel}, padding={padding}, bias=False)
        self.blocks = nn.ModuleList(Block(first) for first in FIRST)
        self.transitions = nn.ModuleList(map(build_transition, FIRST, FIRST[1:]))
        channels = count_channels(READ, FIRST[-1])
        self.head = nn.Sequential(Gather(READ), *norm_relu(channels))
        self.classifier = nn.Linear(channels, CLASSES)

    def forward(self, images: Tensor) -> Tensor:
        """Images (batch, channels, height, width) -> logits (batch, classes)."""
        features = self.blocks[0](self.stem(images))
        for transition, block in zip(self.transitions, self.blocks[1:], strict=True):
            features = block(transition(features))
        return self.classifier(self.head(features).mean(dim=(2, 3)))


def build_network() -> SkipNetwork:
    network = SkipNetwork()
    if WEIGHTS.exists():
        network.load_state_dict(torch.load(WEIGHTS, map_location="cpu", weights_only=True))
    return network


def make_images(seed: int, shape: list[int]) -> Tensor:
    """The random images that manifest.json speaks of: Python's own generator gives the same anywhere."""
    generator = random.Random(seed)
    return torch.tensor([2 * generator.random() - 1 for _ in range(math.prod(shape))]).reshape(shape)


if __name__ == "__main__":
    network = build_network().eval()
    print(f"{{sum(weights.numel() for weights in network.parameters()):,}} parameters")
    probe = {{"seed": 0, "shape": [2, *IMAGE]}}
    if MANIFEST.exists():
        probe = json.loads(MANIFEST.read_text(encoding="utf-8"))["manifest"]["probe"]
    with torch.inference_mode():
        logits = network(make_images(probe["seed"], probe["shape"]))
    print(f"images {{tuple(probe['shape'])}} -> logits {{tuple(logits.shape)}}")
    if WEIGHTS.exists() and "logits" in probe:
        off = (logits - torch.tensor(probe["logits"])).abs().max()
        print(f"off by {{off:.1e}} from the logits in manifest.json")
'''


def format_model(candidate: Candidate) -> str:
    """The text of model.py: the candidate's network, its sizes and connections as constants.

    Nothing in it but numbers and the pattern's key comes from the candidate: a template from a stranger cannot bring
    code along. The names in its state_dict are those of `nas.network.build_network`'s.
    """
    network, pattern = candidate.network, candidate.pattern
    read = candidate.transition_inputs
    first = [network.stem]
    for _ in range(network.blocks - 1):
        n_read = sum(first[-1] if node == 0 else network.growth for node in read)
        first.append(transition_channels(candidate, n_read))
    return _PROGRAM.format(
        n_layers=pattern.depth,
        n_connections=pattern.n_connections,
        key=pattern.key,
        image=network.image,
        classes=network.classes,
        growth=network.growth,
        wide=BOTTLENECK_FACTOR * network.growth if network.bottleneck else None,
        first=tuple(first),
        sources=_format_sources(pattern.sources),
        read=read,
        kernel=KERNEL,
        padding=KERNEL // 2,
    )


def _format_sources(sources: tuple[tuple[int, ...], ...]) -> str:
    """Tuples in lines of LINE_LENGTH, broken inside those alone that are longer themselves.

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
