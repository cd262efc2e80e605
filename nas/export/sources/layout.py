"""The text of model.py for a network with a layout: a table of its nodes, and the few lines that compute them."""

import re
import textwrap

from nas.export.manifest import WEIGHTS_FILES
from nas.export.sources.operations import CLASSES, write_merge, write_operation
from nas.export.sources.program import AS_SCRIPT, LINE_LENGTH
from nas.layouts.condensed import convert_layout
from nas.layouts.layout import LayoutNode, TracedNode, trace
from nas.model.candidate import Candidate

_PROGRAM = '''\
"""A network after a pattern of {n_layers} layers and {n_connections} connections; PyTorch is all that it needs.

`build_network()` gives the network, with the weights in {weights} where that file lies next to this one; then
it needs `pip install safetensors` too. `network.load_state_dict(safetensors.torch.load_file(path))` loads others.
Run as a script, this file tells the network's size and what it makes of random images. skipsearch wrote it, from the
template {key}.
"""

import json
import math
import random
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

IMAGE = {image}  # channels, height and width of an image
OUTPUTS = {outputs}  # nodes whose values are logits
WEIGHTS = Path(__file__).with_name("{weights}")
MANIFEST = Path(__file__).with_name("manifest.json")


{classes}


class Node(nn.Module):
    """What a node does: merge the nodes that it reads, then work on them one operation after the other.

    The result is multiplied by `scale`. With `like`, its height and width become those of that node: cut off at both
    sides, or interpolated.
    """

    def __init__(
        self,
        reads: list[int],
        merge: nn.Module,
        operations: list[nn.Module],
        like: int | None = None,
        how: str = "",
        scale: float = 1.0,
    ) -> None:
        super().__init__()
        self.reads, self.like, self.how, self.scale = reads, like, how, scale
        self.merge = merge
        self.operations = nn.Sequential(*operations)

    def forward(self, values: list[Tensor]) -> Tensor:
        x = self.operations(self.merge([values[node] for node in self.reads]))
        if self.like is not None:
            height, width = values[self.like].shape[2:]
            if self.how == "crop":
                top, left = (x.shape[2] - height) // 2, (x.shape[3] - width) // 2
                x = x[:, :, top : top + height, left : left + width]
            elif x.shape[2:] != (height, width):
                x = F.interpolate(x, (height, width), mode="bilinear")
        return x if self.scale == 1 else x * self.scale


def list_nodes() -> dict[str, Node]:
    """All nodes by name, numbered from 1 in this order; node 0 is the images."""
    return {{
{nodes}
    }}


class Network(nn.Module):
    """All nodes, computed in their order."""

    def __init__(self) -> None:
        super().__init__()
        self.nodes = nn.ModuleDict(list_nodes())

    def forward(self, images: Tensor) -> Tensor:
        """Images (batch, channels, height, width) -> {written}."""
        values = [images]
        for node in self.nodes.values():
            values.append(node(values))
        {returns}


def build_network() -> Network:
    network = Network()
    if WEIGHTS.exists():
        from safetensors.torch import load_file

        network.load_state_dict(load_file(WEIGHTS))
    return network


{as_script}    if WEIGHTS.exists() and "logits" in probe:
        # The manifest has the logits of several exits one after the other, and those of pixels as their mean.
        logits = logits.mean(dim=(2, 3)) if logits.ndim == 4 else logits.flatten(1)
        off = (logits - torch.tensor(probe["logits"])).abs().max()
        print(f"off by {{off:.1e}} from the logits in manifest.json")
'''
_STACKED = "torch.stack([values[output] for output in OUTPUTS], dim=1)"


def format_layout(candidate: Candidate) -> str:
    """Return the text of model.py: every node of the candidate's network, its sizes and connections.

    Only numbers and names of our own come from the candidate, so a stranger's template cannot add code. Its state_dict
    has the names of `nas.model.layout_network.build_layout_network`'s; a network that condenses is written as it is in
    the end, see `convert` there.
    """
    image = candidate.network.image
    layout = convert_layout(candidate.layout, image)
    steps = trace(layout, image)
    nodes = "\n".join(_format_node(node, step) for node, step in zip(layout.nodes[1:], steps[1:], strict=True))
    named = set(re.findall(r"\b([A-Z]\w+)\(", nodes))
    has_exits = len(layout.outputs) > 1
    is_of_pixels = steps[layout.outputs[-1]].written.n_pixels > 1
    return _PROGRAM.format(
        as_script=AS_SCRIPT,
        n_layers=candidate.pattern.depth,
        n_connections=candidate.pattern.n_connections,
        key=candidate.pattern.key,
        weights=WEIGHTS_FILES[2],
        image=image,
        outputs=layout.outputs,
        classes="\n\n\n".join(text for name, text in CLASSES.items() if name in named),
        nodes=nodes,
        written=_describe_logits(has_exits, is_of_pixels),
        returns=f"return {_STACKED if has_exits else 'values[OUTPUTS[0]]'}",
    )


def _describe_logits(has_exits: bool, is_of_pixels: bool) -> str:
    if is_of_pixels:
        return "logits of each pixel (batch, classes, height, width)"
    return f"logits (batch, {'exits, ' if has_exits else ''}classes)"


def _format_node(node: LayoutNode, step: TracedNode) -> str:
    read = (step.read, *step.between)
    operations = [write_operation(each, shape) for each, shape in zip(node.operations, read, strict=False)]
    parts = [f"{list(node.reads)}", write_merge(node.merge, len(node.reads)), f"[{', '.join(operations)}]"]
    if node.fit is not None:
        parts.append(f'like={node.fit.like}, how="{node.fit.how}"')
    if node.survival != 1:
        parts.append(f"scale={node.survival!r}")
    line = f'"{node.name}": Node({", ".join(parts)}),'
    return textwrap.fill(
        line, LINE_LENGTH, initial_indent=" " * 8, subsequent_indent=" " * 12, break_long_words=False,
        break_on_hyphens=False,
    )  # fmt: skip
