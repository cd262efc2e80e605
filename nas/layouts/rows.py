"""Blocks in a row with one classifier as a layout: the same network as SkipNetwork, node by node."""

from nas.layouts.layout import IMAGE_NODE, Layout, LayoutNode
from nas.layouts.operations import BN_RELU, Convolution, GlobalMean, Linear, Norm, Operation, Pool, Relu
from search_spaces.wiring.blocks import Wiring

_KERNEL = 3
_LARGE_KERNEL = 7  # ImageNet's stem


def lay_out_rows(
    wiring: Wiring, layer: tuple[Operation, ...], classes: int, merge: str = "concat", large_stem: bool = False
) -> Layout:
    """Return the layout of blocks in a row.

    Args:
        wiring: what every layer, transition and the classifier reads and writes.
        layer: operations of a layer after BN and ReLU; the last writes growth channels.
        classes: number of classes.
        merge: name of the merge of all nodes.
        large_stem: whether the stem is ImageNet's.
    """
    nodes = [IMAGE_NODE, LayoutNode("stem", "stem", (0,), _stem(wiring.stem, large_stem), place=0)]
    inputs = [1]
    for number, block in enumerate(wiring.blocks):
        own = list(inputs)
        for index, reads in enumerate(block.sources):
            sources = tuple(own[node] for node in reads)
            place = len(nodes) if number == 0 else None
            name = f"block{number}_layer{index}"
            own.append(len(nodes))
            nodes.append(LayoutNode(name, "layer", sources, BN_RELU + layer, merge, place=place))
        inputs = []
        for index, transition in enumerate(block.transitions):
            sources = tuple(own[node] for node in transition.reads)
            operations = (*BN_RELU, Convolution(transition.channels, 1), Pool())
            inputs.append(len(nodes))
            nodes.append(LayoutNode(f"passage{number}_{index}", "passage", sources, operations, merge))
    read = tuple(own[node] for node in wiring.read)
    head = (Norm(), Relu(), GlobalMean(), Linear(classes))
    nodes.append(LayoutNode("head", "head", read, head, merge))
    return Layout(tuple(nodes), (len(nodes) - 1,))


def _stem(channels: int, large_stem: bool) -> tuple[Operation, ...]:
    if not large_stem:
        return (Convolution(channels, _KERNEL),)
    return (Convolution(channels, _LARGE_KERNEL, 2), *BN_RELU, Pool("max", _KERNEL, 2, _KERNEL // 2))
