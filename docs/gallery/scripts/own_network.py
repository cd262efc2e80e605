"""
A template in a network of your own
===================================

A pattern is a list of sources for each layer, which a network of your own can read in
one line. Here 12 layers learn to tell two spirals apart, along the template of shortest
walks.
"""

import math

import matplotlib.pyplot as plt
import torch
from torch import nn

import skipsearch

pattern = skipsearch.template("shortest_walk", 12, budget="total:28")
print(pattern.sources)


class Network(nn.Module):
    def __init__(self, pattern, width=16):
        super().__init__()
        self.pattern = pattern
        self.first = nn.Linear(2, width)
        widths = [width * len(sources) for sources in pattern.sources]
        self.layers = nn.ModuleList(nn.Linear(read, width) for read in widths)
        self.last = nn.Linear(width, 2)

    def forward(self, x):
        outputs = [self.first(x)]  # node 0 is the block's input
        for layer, sources in zip(self.layers, self.pattern.sources, strict=True):
            read = torch.cat([outputs[source] for source in sources], dim=1)
            outputs.append(torch.relu(layer(read)))
        return self.last(outputs[-1])


torch.manual_seed(0)
labels = torch.arange(400) % 2
turns = torch.rand(400).sqrt() * 3 * math.pi
angles = turns + math.pi * labels
points = torch.stack([turns * angles.cos(), turns * angles.sin()], dim=1) / 9
network = Network(pattern)
optimizer = torch.optim.Adam(network.parameters(), lr=0.002)
losses = []
for _ in range(300):
    optimizer.zero_grad()
    loss = nn.functional.cross_entropy(network(points), labels)
    loss.backward()
    optimizer.step()
    losses.append(loss.item())

# %%
figure, axes = plt.subplots(figsize=(7.2, 3.6))
figure.set_label("Training loss by step, which falls.")
axes.plot(losses)
axes.set(xlabel="step", ylabel="training loss (nats)", yscale="log")
plt.show()
