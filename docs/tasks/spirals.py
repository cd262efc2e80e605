"""A task of one's own: a small network that tells two spirals apart."""

import math

import torch
from torch import nn


class Net(nn.Module):
    def __init__(self, pattern, width):
        super().__init__()
        self.pattern = pattern
        self.first = nn.Linear(2, width)
        self.layers = nn.ModuleList(nn.Linear(width * len(sources), width) for sources in pattern.sources)
        self.last = nn.Linear(width * len(pattern.reads), 2)

    def forward(self, points):
        nodes = [self.first(points)]  # node 0 is the block's input
        for layer, sources in zip(self.layers, self.pattern.sources, strict=True):
            nodes.append(torch.relu(layer(torch.cat([nodes[i] for i in sources], dim=1))))
        return self.last(torch.cat([nodes[i] for i in self.pattern.reads], dim=1))


class Spirals:
    metrics = {"loss": "min", "accuracy": "max"}  # the first one is the primary outcome
    defaults = {"epochs": 8, "lr": 0.05}  # of the flags of training
    width: int = 8  # --set width=16
    noise: float = 0.1

    def build(self, pattern, seed):
        return Net(pattern, self.width)

    def data(self, seed):
        generator = torch.Generator().manual_seed(seed)
        t = torch.rand(600, generator=generator).sqrt() * 3 * math.pi
        labels = torch.arange(600) % 2
        turn = t + math.pi * labels
        points = torch.stack([t * turn.cos(), t * turn.sin()], dim=1) / 9
        points += self.noise * torch.randn(600, 2, generator=generator)
        return (points[:400], labels[:400]), (points[400:], labels[400:])
