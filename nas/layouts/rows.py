"""Blocks in a row as a layout: the same network as SkipNetwork, node by node, with one classifier or several."""

from collections.abc import Iterator
from dataclasses import dataclass

from nas.layouts.layout import IMAGE_NODE, Layout, LayoutNode
from nas.layouts.operations import BN_RELU, Convolution, GlobalMean, Linear, Operation, Pool
from search_spaces.wiring.blocks import Wiring

_KERNEL = 3
_LARGE_KERNEL = 7  # ImageNet's stem
_BOTTLENECK_FACTOR = 4


@dataclass(frozen=True, slots=True)
class RowForm:
    """What blocks in a row are made of.

    Args:
        layer, merge, drop_layers, drop_path, large_stem: as the network's settings have them.
        classes: number of classes.
        exit_step: layers from one exit to the next; None: the only exit is the last.
    """

    layer: str
    classes: int
    merge: str = "concat"
    drop_layers: float = 0.0
    drop_path: float = 0.0
    large_stem: bool = False
    exit_step: int | None = None

    def list_operations(self, n_read: int, growth: int) -> tuple[Operation, ...]:
        """Return what a layer does after the merge."""
        match self.layer:
            case "bottleneck":
                wide = Convolution(_BOTTLENECK_FACTOR * growth, 1)
                return (*BN_RELU, wide, *BN_RELU, Convolution(growth, _KERNEL))
            case "depthwise":
                return (*BN_RELU, Convolution(n_read, _KERNEL, groups=n_read), Convolution(growth, 1))
        return (*BN_RELU, Convolution(growth, _KERNEL))

    def make_exit(self, name: str, reads: tuple[int, ...]) -> LayoutNode:
        """Return a classifier."""
        return LayoutNode(name, "head", reads, (*BN_RELU, GlobalMean(), Linear(self.classes)), self.merge)


def lay_out_rows(wiring: Wiring, form: RowForm) -> Layout:
    """Return the layout of blocks in a row.

    The last exit is SkipNetwork's classifier. Each exit before it reads a layer and that layer's inputs, as in
    Log-DenseNet (arXiv:1711.00002).

    Args:
        wiring: what every layer, transition and the classifier reads and writes.
    """
    stem = LayoutNode("stem", "stem", (0,), _stem(wiring.stem, form.large_stem), place=0)
    nodes, exits, inputs = [IMAGE_NODE, stem], [], [1]
    n_layers, n_done = sum(len(block.sources) for block in wiring.blocks), 0
    for number, block in enumerate(wiring.blocks):
        own = list(inputs)
        for index, (reads, place) in enumerate(zip(block.sources, block.places[len(inputs) :], strict=True)):
            n_done += 1
            sources = tuple(own[node] for node in reads)
            own.append(len(nodes))
            nodes.append(
                LayoutNode(
                    f"block{number}_layer{index}",
                    "layer",
                    sources,
                    form.list_operations(wiring.channels(number, reads), wiring.growth),
                    form.merge,
                    place=place,
                    survival=1 - n_done / n_layers * form.drop_layers,
                    drop_path=form.drop_path,
                )
            )
            if form.exit_step is not None and n_done % form.exit_step == 0 and n_done < n_layers:
                exits.append(len(nodes))
                nodes.append(form.make_exit(f"block{number}_exit{index}", (*sources, own[-1])))
        inputs = [*range(len(nodes), len(nodes) + len(block.transitions))]
        nodes += _list_passages(wiring, number, own, form.merge)
    nodes.append(form.make_exit("head", tuple(own[node] for node in wiring.read)))
    return Layout(tuple(nodes), (*exits, len(nodes) - 1))


def _list_passages(wiring: Wiring, number: int, own: list[int], merge: str) -> Iterator[LayoutNode]:
    """Yield the transitions after a block, whose nodes have these numbers."""
    transitions = wiring.blocks[number].transitions
    for index, transition in enumerate(transitions):
        sources = tuple(own[node] for node in transition.reads)
        operations = (*BN_RELU, Convolution(transition.channels, 1), Pool())
        # Several are copies or summaries of nodes that stand for their places already.
        place = 0 if len(transitions) == 1 else None
        yield LayoutNode(f"passage{number}_{index}", "passage", sources, operations, merge, place=place)


def _stem(channels: int, large_stem: bool) -> tuple[Operation, ...]:
    if not large_stem:
        return (Convolution(channels, _KERNEL),)
    return (Convolution(channels, _LARGE_KERNEL, 2), *BN_RELU, Pool("max", _KERNEL, 2, _KERNEL // 2))
