"""The network of a candidate as a torch module."""

from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from itertools import chain, pairwise
from typing import cast

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from nas.engines.fused_layers import FusedLayers, can_fuse
from nas.model.candidate import Candidate
from nas.model.config import BOTTLENECK, DEPTHWISE, NetworkConfig
from nas.model.cost import BOTTLENECK_FACTOR, KERNEL, LARGE_KERNEL, predict_cost
from nas.model.layout_network import LayoutNetwork, build_layout_network
from nas.modules.drops import Drop, draw_drops, end_drops, leave_out
from nas.modules.merges import Concat, Weighted, create_merge, start_brought
from nas.modules.start import make_tensors, start_weights
from search_spaces.wiring import blocks

N_RECOMPUTED = 3  # operations that a backward pass may repeat after the merge: BN, ReLU and the one that follows


class DepthwiseConv(nn.Conv2d):
    """A 3x3 convolution of each channel by itself.

    Args:
        n_channels: channels read and written.
    """

    def __init__(self, n_channels: int) -> None:
        super().__init__(n_channels, n_channels, KERNEL, padding=KERNEL // 2, groups=n_channels, bias=False)


class Reader(nn.Sequential):
    """Merge of some of a block's nodes, BN and ReLU, then further operations.

    With `recompute` set, training keeps only the nodes and repeats merge and BN-ReLU in the backward pass
    (arXiv:1707.06990): the same numbers, less memory. The operation that follows is inside the checkpoint, since it
    would otherwise keep its input; it does not run again.

    Args:
        nodes: nodes that are read, ascending.
        n_channels: channels of their merge.
        operations: what follows BN and ReLU.
        merge: what becomes of the nodes, see ShapeConfig.
    """

    def __init__(self, nodes: Sequence[int], n_channels: int, *operations: nn.Module, merge: str) -> None:
        parts = (create_merge(merge, len(nodes)), nn.BatchNorm2d(n_channels), nn.ReLU(inplace=True), *operations)
        # The places are names in every state_dict, and so in checkpoints and exported weights.
        super().__init__(OrderedDict((str(place), part) for place, part in enumerate(parts)))
        self.nodes = tuple(nodes)
        self.recompute = False
        self.survival = 1.0  # chance that its output is kept in a training step
        self.drop: Drop | None = None  # what the present training step leaves out; None: nothing

    @property
    def merge(self) -> nn.Module:
        """What joins the nodes."""
        return self[0]

    @property
    def operations(self) -> list[nn.Module]:
        """BN, ReLU and what follows."""
        return list(self)[1:]

    @property
    def norm(self) -> nn.BatchNorm2d:
        """BN of the merge."""
        return self.norms[0]

    @property
    def conv(self) -> nn.Conv2d:
        """The convolution that reads the merge: the only one, or the first of two."""
        return self.convs[0]

    @property
    def norms(self) -> list[nn.BatchNorm2d]:
        """BN of the merge, and that behind a bottleneck."""
        return [part for part in self if isinstance(part, nn.BatchNorm2d)]

    @property
    def convs(self) -> list[nn.Conv2d]:
        """All convolutions."""
        return [part for part in self if isinstance(part, nn.Conv2d)]

    @property
    def is_plain(self) -> bool:
        """Whether nodes are concatenated, and only one operation follows BN and ReLU."""
        return isinstance(self.merge, Concat) and len(self.operations) == N_RECOMPUTED

    def forward(self, features: Mapping[int, Tensor]) -> Tensor:
        """Nodes of the block, each (batch, channels, height, width) -> (batch, channels written, height, width)."""
        if self.drop is not None and not self.drop.keeps_output:
            return self._written_zeros(features[self.nodes[0]])
        sources = [features[node] for node in self.nodes]
        if self.recompute and self.training and torch.is_grad_enabled():
            x = checkpoint(
                self._begin, *sources, use_reentrant=False, preserve_rng_state=False, context_fn=self._contexts
            )
        else:
            x = self._begin(*sources)
        for part in self.operations[N_RECOMPUTED:]:
            x = part(x)
        return cast(Tensor, x if self.drop is not None or self.survival == 1 else x * self.survival)

    def _begin(self, *sources: Tensor) -> Tensor:
        is_concat = isinstance(self.merge, Concat)
        x = self.merge(sources if self.drop is None else leave_out(sources, self.drop.keeps_inputs, is_concat))
        for part in self.operations[:N_RECOMPUTED]:
            x = part(x)
        return cast(Tensor, x)

    def _written_zeros(self, source: Tensor) -> Tensor:
        n_written = self.convs[-1].out_channels
        return source.new_zeros(len(source), n_written, *source.shape[2:])

    def _contexts(self) -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
        """Contexts of the forward pass and of its repetition, which must not update the running statistics again."""
        return nullcontext(), self._frozen_statistics()

    @contextmanager
    def _frozen_statistics(self) -> Iterator[None]:
        buffers = dict(self.norm.named_buffers())
        try:
            for name, buffer in buffers.items():
                setattr(self.norm, name, buffer.clone())
            yield
        finally:
            for name, buffer in buffers.items():
                setattr(self.norm, name, buffer)


def list_operations(readers: Sequence[Reader]) -> tuple[list[nn.BatchNorm2d], list[nn.Conv2d]]:
    """Return the first norms and convolutions of all layers, then their second ones, as FusedLayers takes them."""
    norms = zip(*(reader.norms for reader in readers), strict=True)
    convs = zip(*(reader.convs for reader in readers), strict=True)
    return list(chain.from_iterable(norms)), list(chain.from_iterable(convs))


class Block(nn.Module):
    """Layers that read a block's inputs and its earlier layers, all of one resolution."""

    def __init__(self, network: NetworkConfig, wiring: blocks.Wiring, number: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            _layer(network, nodes, wiring.channels(number, nodes)) for nodes in wiring.blocks[number].sources
        )
        self._widths, self._growth = wiring.blocks[number].inputs, wiring.growth
        self._map_width = network.resolution[1] >> number
        self._has_form, self._has_bottlenecks = network.can_fuse, network.layer == BOTTLENECK
        self._read_later = wiring.read_after(number)
        self._fused: FusedLayers | None = None

    @property
    def readers(self) -> list[Reader]:
        """The layers."""
        return [cast(Reader, layer) for layer in self.layers]

    def fuse_layers(self) -> None:
        """Run the layers as one operation from now on, if they are of the form that it takes; see FusedLayers."""
        readers = self.readers
        sources = [reader.nodes for reader in readers]
        device = readers[0].conv.weight.device
        shape = self._growth, self._map_width, device, self._has_bottlenecks
        if self._has_form and can_fuse([sources], self._widths, *shape):
            self._fused = FusedLayers(self._widths, [sources], self._read_later, *list_operations(readers))

    def pack(self) -> Tensor | None:
        """Pack the parameters, if the layers run as one operation on a CPU; see FusedLayers.pack."""
        return None if self._fused is None else self._fused.pack()

    def forward(self, *inputs: Tensor) -> dict[int, Tensor]:
        """The block's inputs, each (batch, channels, height, width) -> its nodes that are read later, by number."""
        if self._fused is not None and (self.training or not torch.is_grad_enabled()):
            nodes = self._fused([x[None] for x in inputs], self.training)
            return {number: node[0] for number, node in nodes.items()}
        features = dict(enumerate(inputs))
        for layer in self.layers:
            features[len(features)] = layer(features)
        return features


class SkipNetwork(nn.Module):
    """Stem, blocks with transitions between them, classifier.

    The layer is BN-ReLU-conv3x3; BN-ReLU-conv1x1-BN-ReLU-conv3x3 with a bottleneck; or BN-ReLU, conv3x3 of each
    channel by itself, conv1x1 (depthwise). A transition is BN-ReLU-conv1x1 and 2x2 average pooling (DenseNet,
    arXiv:1608.06993), the classifier BN-ReLU, global average, linear. All of them merge what they read alike.

    Layers and their inputs may be dropped in training steps: see draw_drops. Without such a draw nothing is dropped,
    and a layer's output is multiplied by the chance that it survives.
    """

    def __init__(self, candidate: Candidate) -> None:
        super().__init__()
        network, wiring = candidate.network, candidate.wiring
        self.stem = _stem(network)
        self.blocks = nn.ModuleList(Block(network, wiring, number) for number in range(len(wiring.blocks)))
        self.transitions = nn.ModuleList()  # those after the first block, then those after the second, and so on
        self._first_transitions = [0]  # of each block
        for number, block in enumerate(wiring.blocks):
            for transition in block.transitions:
                n_read = wiring.channels(number, transition.reads)
                conv = nn.Conv2d(n_read, transition.channels, 1, bias=False)
                reader = Reader(transition.reads, n_read, conv, nn.AvgPool2d(2), merge=network.merge)
                self.transitions.append(reader)
            self._first_transitions.append(len(self.transitions))
        n_read = wiring.channels(-1, wiring.read)
        self.num_features = n_read
        self.head = Reader(wiring.read, n_read, merge=network.merge)
        self.classifier = nn.Linear(n_read, network.classes)
        self._drop_path = network.drop_path
        for number, layer in enumerate(self.layers, start=1):
            layer.survival = 1 - number / len(self.layers) * network.drop_layers

    @property
    def layers(self) -> list[Reader]:
        """The layers of all blocks."""
        return [layer for block in self.blocks for layer in cast(Block, block).readers]

    def draw_drops(self, seed: int, step: int) -> None:
        """Draw what a training step leaves out; layer l of N is dropped with l/N of `drop_layers`."""
        draw_drops(self.layers, [self._drop_path] * len(self.layers), seed, step)

    def end_drops(self) -> None:
        """Drop nothing from now on."""
        end_drops(self.layers)

    def recompute_activations(self, recompute: bool = True) -> None:
        """Choose whether training repeats merge and BN-ReLU in its backward pass; see Reader."""
        for module in self.modules():
            if isinstance(module, Reader):
                module.recompute = recompute

    def fuse_layers(self) -> None:
        """Run each block's layers as one operation, if they have that form; call it on the final device."""
        for block in self.blocks:
            cast(Block, block).fuse_layers()

    def pack(self) -> list[Tensor]:
        """Pack the parameters of each block, as far as possible; return the packed tensors."""
        return [packed for block in self.blocks if (packed := cast(Block, block).pack()) is not None]

    @property
    def stages(self) -> list[tuple[Block, list[Reader]]]:
        """Each block with the transitions that follow it."""
        transitions = [cast(Reader, transition) for transition in self.transitions]
        parts = [transitions[first:end] for first, end in pairwise(self._first_transitions)]
        return [(cast(Block, block), part) for block, part in zip(self.blocks, parts, strict=True)]

    def forward_features(self, images: Tensor) -> Tensor:
        """Images (batch, channels, height, width) -> maps that the classifier reads (batch, num_features, h, w)."""
        inputs = [self.stem(images)]
        for block, transitions in self.stages:
            features = block(*inputs)
            inputs = [transition(features) for transition in transitions]
        return cast(Tensor, self.head(features))

    def forward_head(self, maps: Tensor, pre_logits: bool = False) -> Tensor:
        """Maps of forward_features -> logits (batch, classes), or with pre_logits their means (batch, num_features)."""
        pooled = maps.mean(dim=(2, 3))
        return cast(Tensor, pooled if pre_logits else self.classifier(pooled))

    def forward(self, images: Tensor) -> Tensor:
        """Images (batch, channels, height, width) -> logits (batch, classes)."""
        return self.forward_head(self.forward_features(images))

    def reset_classifier(self, num_classes: int) -> None:
        """Begin a new classifier of so many classes, with torch's initial weights; 0: none, forward gives the means."""
        self.classifier = nn.Linear(self.num_features, num_classes) if num_classes else cast(nn.Linear, nn.Identity())


def _stem(network: NetworkConfig) -> nn.Module:
    n_channels, n_written = network.image[0], network.stem
    if not network.large_stem:
        return nn.Conv2d(n_channels, n_written, KERNEL, padding=KERNEL // 2, bias=False)
    conv = nn.Conv2d(n_channels, n_written, LARGE_KERNEL, 2, LARGE_KERNEL // 2, bias=False)
    pooling = nn.MaxPool2d(KERNEL, 2, KERNEL // 2)
    return nn.Sequential(conv, nn.BatchNorm2d(n_written), nn.ReLU(inplace=True), pooling)


def _layer(network: NetworkConfig, nodes: tuple[int, ...], n_channels: int) -> Reader:
    operations: list[nn.Module] = []
    n_read, kernel = n_channels, KERNEL
    if network.layer == BOTTLENECK:
        wide = BOTTLENECK_FACTOR * network.growth
        operations += [nn.Conv2d(n_read, wide, 1, bias=False), nn.BatchNorm2d(wide), nn.ReLU(inplace=True)]
        n_read = wide
    elif network.layer == DEPTHWISE:
        operations.append(DepthwiseConv(n_read))
        kernel = 1
    operations.append(nn.Conv2d(n_read, network.growth, kernel, padding=kernel // 2, bias=False))
    return Reader(nodes, n_channels, *operations, merge=network.merge)


def build_skip_network(candidate: Candidate) -> SkipNetwork:
    """Build the network of a candidate without a layout on the CPU, with the initial weights that its seed fixes."""
    with torch.device("meta"):  # no draws from the global generator
        network = SkipNetwork(candidate)
    make_tensors(network)
    start_weights(network, candidate.seed, (Weighted,))
    start_brought(network, candidate.seed)
    n_params = sum(parameter.numel() for parameter in network.parameters())
    assert n_params == predict_cost(candidate).params, "cost.py and network.py disagree"
    return network


def build_network(candidate: Candidate) -> SkipNetwork | LayoutNetwork:
    """Build a candidate's network on the CPU, with the initial weights that its seed fixes; see start_weights."""
    return build_layout_network(candidate) if candidate.network.has_layout else build_skip_network(candidate)
