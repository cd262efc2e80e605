"""The network of a layout as a torch module."""

from collections.abc import Sequence
from copy import deepcopy
from typing import cast

import torch
from torch import Tensor, nn

from nas.layouts.condensed import convert_layout, count_dropped
from nas.layouts.layout import Layout, LayoutNode, TracedNode, trace
from nas.layouts.operations import MapShape
from nas.model.candidate import Candidate
from nas.model.cost import predict_cost
from nas.modules.drops import Drop, SeededDropout, draw_drops, end_drops, leave_out
from nas.modules.learned_convolution import Condensing, fill_converted, find_stage
from nas.modules.merges import Concat, Sum, Weighted, create_merge, start_brought
from nas.modules.operations import FITS, build_operation
from nas.modules.start import make_tensors, start_weights
from search_spaces.seeds import derive_seed


class NodeModule(nn.Module):
    """One node: a merge, then operations.

    Args:
        node: what it reads and does.
        step: its shapes for one size of images; only channels count, or for linear maps all.
    """

    def __init__(self, node: LayoutNode, step: TracedNode) -> None:
        super().__init__()
        self.nodes = node.reads
        self.merge = create_merge(node.merge, len(node.reads))
        read = (step.read, *step.between)
        self.operations = nn.Sequential(
            *(build_operation(operation, shape) for operation, shape in zip(node.operations, read, strict=False))
        )
        self.fit = node.fit
        self.survival, self.drop_path = node.survival, node.drop_path
        self.drop: Drop | None = None  # what the present training step leaves out; None: nothing

    @property
    def adds_all(self) -> bool:
        """Whether its merge in the present step is the plain sum of several nodes, which it also takes as one."""
        is_whole = self.drop is None or (self.drop.keeps_output and all(self.drop.keeps_inputs))
        return is_whole and isinstance(self.merge, Sum) and len(self.nodes) > 1

    def forward(self, sources: Sequence[Tensor], like: Tensor | None, written: MapShape) -> Tensor:
        """Merge and work.

        Args:
            sources: what it reads, each (batch, channels, height, width), or where it adds all of them, their sum.
            like: node whose height and width it takes; None: none.
            written: shape that it writes for one image.

        Returns:
            (batch, *written); (batch, channels) after a linear map.
        """
        if self.drop is not None:
            if not self.drop.keeps_output:
                return sources[0].new_zeros(len(sources[0]), *written)
            sources = leave_out(sources, self.drop.keeps_inputs, isinstance(self.merge, Concat))
        is_alone = len(sources) == 1 and isinstance(self.merge, Concat)  # concatenation would copy it
        x: Tensor = self.operations(sources[0] if is_alone else self.merge(sources))
        if self.fit is not None and like is not None:
            x = FITS[self.fit.how](x, like.shape[2], like.shape[3])
        return x if self.drop is not None or self.survival == 1 else x * self.survival


class _RunningSum:
    """The last sum of nodes, which the next sum extends if it begins with the same nodes.

    Where each layer adds all before it, the additions grow with the layers, not with their square. Their order is that
    of Sum, and so are the values, bit for bit.
    """

    def __init__(self) -> None:
        self._nodes: tuple[int, ...] = ()
        self._total: Tensor | None = None

    def extend(self, nodes: tuple[int, ...], values: Sequence[Tensor | None]) -> Tensor:
        """Return the sum of some nodes.

        Args:
            nodes: numbers of the nodes, in the order in which they are added.
            values: values of all nodes by number; None where no later node reads them.
        """
        n_known = len(self._nodes)
        if self._total is None or nodes[:n_known] != self._nodes:
            self._total, n_known = cast(Tensor, values[nodes[0]]), 1
        for node in nodes[n_known:]:
            self._total = self._total + cast(Tensor, values[node])
        self._nodes = nodes
        return self._total


class LayoutNetwork(nn.Module):
    """All nodes of a layout, computed in their order.

    Args:
        layout: what to build.
        image: channels, height and width of an image. Where no linear map reads pixels, images of other sizes work too.
    """

    def __init__(self, layout: Layout, image: tuple[int, int, int]) -> None:
        super().__init__()
        self.layout, self.image = layout, image
        steps = trace(layout, image)
        self.nodes = nn.ModuleDict(
            {node.name: NodeModule(node, step) for node, step in zip(layout.nodes[1:], steps[1:], strict=True)}
        )
        self._ended = layout.list_last_uses()

    @property
    def _modules_in_order(self) -> list[NodeModule]:
        return [cast(NodeModule, module) for module in self.nodes.values()]

    @property
    def _dropping(self) -> list[NodeModule]:
        """The nodes of which a step may leave out something: the layers, and others with a drop path."""
        pairs = zip(self.layout.nodes[1:], self._modules_in_order, strict=True)
        return [module for node, module in pairs if node.kind == "layer" or node.drop_path > 0]

    @property
    def _dropouts(self) -> list[tuple[str, SeededDropout]]:
        return [(name, module) for name, module in self.named_modules() if isinstance(module, SeededDropout)]

    @property
    def condensing(self) -> list[Condensing]:
        """The modules that learn which of their inputs they read."""
        return [module for module in self.modules() if isinstance(module, Condensing)]

    def begin_step(self, step: int, n_steps: int) -> None:
        """Drop the inputs that are not read from a training step on, where the network has learned groups.

        Args:
            step: number of the step, from 0.
            n_steps: number of steps of the whole training.
        """
        for module in self.condensing:
            module.condense(find_stage(step, n_steps, module.condensation))

    def penalty(self) -> Tensor | None:
        """Return what a training step adds to the loss; None: nothing."""
        parts = [each.lasso * each.penalty() for each in self.condensing if each.lasso and not each.is_condensed]
        return torch.stack(parts).sum() if parts else None

    def draw_drops(self, seed: int, step: int) -> None:
        """Draw what a training step leaves out; see nas.modules.drops."""
        dropping = self._dropping
        if any(module.survival < 1 or module.drop_path > 0 for module in dropping):
            draw_drops(dropping, [module.drop_path for module in dropping], seed, step)
        for name, dropout in self._dropouts:
            dropout.seed = derive_seed(seed, "dropout", name, step)

    def end_drops(self) -> None:
        """Drop nothing from now on, except for dropout in training mode, which torch draws."""
        end_drops(self._dropping)
        for _, dropout in self._dropouts:
            dropout.seed = None

    def forward(self, images: Tensor) -> Tensor:
        """Compute the logits.

        Args:
            images: (batch, channels, height, width).

        Returns:
            (batch, classes), or of each pixel (batch, classes, height, width); with exits (batch, exits, classes).
        """
        steps = trace(self.layout, (images.shape[1], images.shape[2], images.shape[3]))
        values: list[Tensor | None] = [images]
        running = _RunningSum()
        for number, (node, module) in enumerate(zip(self.layout.nodes[1:], self._modules_in_order, strict=True), 1):
            if module.adds_all:
                sources = [running.extend(node.reads, values)]
            else:
                sources = [cast(Tensor, values[source]) for source in node.reads]
            like = None if node.fit is None else values[node.fit.like]
            values.append(module(sources, like, steps[number].written))
            for ended in self._ended[number]:
                values[ended] = None
        outputs = [cast(Tensor, values[output]) for output in self.layout.outputs]
        return outputs[0] if len(outputs) == 1 else torch.stack(outputs, dim=1)


def build_layout_network(candidate: Candidate) -> LayoutNetwork:
    """Build the network of a candidate with a layout on the CPU, with the initial weights that its seed fixes."""
    with torch.device("meta"):  # no draws from the global generator
        network = LayoutNetwork(candidate.layout, candidate.network.image)
    make_tensors(network)
    start_weights(network, candidate.seed, (Weighted,))
    start_brought(network, candidate.seed)
    for module in network.condensing:
        module.keep_all()
    n_params = sum(parameter.numel() for parameter in network.parameters())
    n_params -= count_dropped(network.layout, network.image)
    assert n_params == predict_cost(candidate).params, "a layout's operations and their modules disagree"
    return network


@torch.no_grad()
def convert(network: LayoutNetwork) -> LayoutNetwork:
    """Return a network with plain group convolutions in place of learned ones, whose logits are the same.

    What has not been condensed to the end is so first, by its present weights. The network itself is not changed.
    """
    condensed = deepcopy(network)
    condensed.begin_step(1, 1)
    weight = next(network.parameters())
    with torch.device("meta"):  # see build_layout_network
        plain = LayoutNetwork(convert_layout(network.layout, network.image), network.image).to(weight.dtype)
    make_tensors(plain, weight.device)
    for old, new in zip(condensed._modules_in_order, plain._modules_in_order, strict=True):
        new.merge.load_state_dict(old.merge.state_dict())
        fill_converted(list(new.operations), list(old.operations))
    return plain.train(network.training)
