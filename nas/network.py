"""Candidate -> torch.nn.Module."""

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn

from nas.config import Candidate
from nas.cost import BOTTLENECK_FACTOR, KERNEL, predict_cost, transition_channels
from search_spaces.sampling import derive_seed


class Gather(nn.Module):
    """Concatenate some of a block's nodes along the channels."""

    def __init__(self, nodes: Sequence[int]) -> None:
        super().__init__()
        self.nodes = tuple(nodes)

    def forward(self, features: list[Tensor]) -> Tensor:
        return torch.cat([features[node] for node in self.nodes], dim=1)


class Block(nn.Module):
    """One block: layers that read earlier nodes, all nodes of one resolution."""

    def __init__(self, candidate: Candidate, first_channels: int) -> None:
        super().__init__()
        growth = candidate.network.growth
        self.node_channels = [first_channels, *[growth] * candidate.pattern.depth]
        self.layers = nn.ModuleList(
            nn.Sequential(Gather(inputs), *self._operations(candidate, sum(self.node_channels[j] for j in inputs)))
            for inputs in candidate.pattern.sources
        )

    @staticmethod
    def _operations(candidate: Candidate, n_channels: int) -> list[nn.Module]:
        growth = candidate.network.growth
        operations: list[nn.Module] = [nn.BatchNorm2d(n_channels), nn.ReLU(inplace=True)]
        if candidate.network.bottleneck:
            wide = BOTTLENECK_FACTOR * growth
            operations += [nn.Conv2d(n_channels, wide, 1, bias=False), nn.BatchNorm2d(wide), nn.ReLU(inplace=True)]
            n_channels = wide
        return [*operations, nn.Conv2d(n_channels, growth, KERNEL, padding=KERNEL // 2, bias=False)]

    def forward(self, x: Tensor) -> list[Tensor]:
        features = [x]  # features[j]: (batch, growth, height, width); node 0 may have other channels
        for layer in self.layers:
            features.append(layer(features))
        return features


class SkipNetwork(nn.Module):
    """Stem, blocks of one pattern with transitions between them, classifier.

    The layer is BN-ReLU-conv3x3, or BN-ReLU-conv1x1-BN-ReLU-conv3x3 with a bottleneck; a transition BN-ReLU-conv1x1
    and 2x2 average pooling (DenseNet, arXiv:1608.06993); the classifier BN-ReLU, global average, linear.
    """

    def __init__(self, candidate: Candidate) -> None:
        super().__init__()
        network = candidate.network
        self.stem = nn.Conv2d(network.image[0], network.stem, KERNEL, padding=KERNEL // 2, bias=False)
        self.blocks = nn.ModuleList()
        self.transitions = nn.ModuleList()
        read = candidate.transition_inputs
        first_channels = network.stem
        for index in range(network.blocks):
            block = Block(candidate, first_channels)
            self.blocks.append(block)
            n_read = sum(block.node_channels[node] for node in read)
            if index < network.blocks - 1:
                first_channels = transition_channels(candidate, n_read)
                self.transitions.append(_transition(read, n_read, first_channels))
        self.head = nn.Sequential(Gather(read), nn.BatchNorm2d(n_read), nn.ReLU(inplace=True))
        self.classifier = nn.Linear(n_read, network.classes)

    def forward(self, images: Tensor) -> Tensor:
        """Images (batch, channels, height, width) -> logits (batch, classes)."""
        x = self.stem(images)
        for index, block in enumerate(self.blocks):
            features = block(x)
            if index < len(self.transitions):
                x = self.transitions[index](features)
        return cast(Tensor, self.classifier(self.head(features).mean(dim=(2, 3))))


def _transition(read: Sequence[int], n_read: int, n_written: int) -> nn.Sequential:
    return nn.Sequential(
        Gather(read),
        nn.BatchNorm2d(n_read),
        nn.ReLU(inplace=True),
        nn.Conv2d(n_read, n_written, 1, bias=False),
        nn.AvgPool2d(2),
    )


def build_network(candidate: Candidate) -> SkipNetwork:
    """The candidate's network on the CPU, with the initial weights that its seed fixes.

    Every module draws from a stream of its own, named by its place. So two patterns of one seed start from the same
    weights wherever their shapes agree: a paired design. Convolutions: normal with standard deviation
    sqrt(2 / fan_in) (arXiv:1502.01852); classifier: sqrt(1 / fan_in), bias 0.
    """
    with torch.device("meta"):  # no draws from the global generator, and none that are thrown away
        network = SkipNetwork(candidate)
    network.to_empty(device="cpu")
    for name, module in network.named_modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            generator = torch.Generator().manual_seed(derive_seed(candidate.seed, "weights", name))
            gain = 2.0 if isinstance(module, nn.Conv2d) else 1.0
            fan_in = module.weight[0].numel()
            nn.init.normal_(module.weight, std=(gain / fan_in) ** 0.5, generator=generator)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, nn.BatchNorm2d):
            module.reset_parameters()  # scale 1, shift 0: no draw
    n_params = sum(parameter.numel() for parameter in network.parameters())
    assert n_params == predict_cost(candidate).params, "cost.py and network.py disagree"
    return network
