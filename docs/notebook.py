# %% [markdown]
# # Where should skip connections go, in a network of your own?
#
# This notebook searches and studies the placement of skip connections in a small network that it defines itself, shows
# what came out, and takes the best pattern into a training loop of its own. It takes about a minute on one core, and is
# made from `notebook.py`, which runs as a script too.

# %%
import math

import pandas as pd
import torch
from torch import nn

import skipsearch

# %% [markdown]
# ## Patterns
#
# A pattern says which earlier layers each layer reads. Templates are patterns by name.

# %%
skipsearch.draw("log", layers=12)

# %%
names = ["log", "nearest", "evenly", "shortest_walk"]
scores = pd.DataFrame([skipsearch.score(name, layers=12) for name in names])
scores[["template", "connections", "mean_bd", "walk_length"]]

# %% [markdown]
# The shortest pattern of the budget, with what is proven of it:

# %%
shortest = skipsearch.optimize("total:28", layers=12)
print(shortest.value, shortest.certificate)

# %% [markdown]
# ## An objective
#
# One training: it gets a pattern and a seed, and returns what the search improves. Here a few layers learn to tell two
# spirals apart.


# %%
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


def draw_spirals(seed):
    generator = torch.Generator().manual_seed(seed)
    t = torch.rand(400, generator=generator).sqrt() * 3 * math.pi
    labels = torch.arange(400) % 2
    turn = t + math.pi * labels
    points = torch.stack([t * turn.cos(), t * turn.sin()], dim=1) / 9
    return points + 0.05 * torch.randn(400, 2, generator=generator), labels


def objective(trial, *, width: int = 8):
    points, labels = draw_spirals(trial.seed)
    network = Net(trial.pattern, width)
    optimizer = torch.optim.Adam(network.parameters(), lr=0.01)
    for epoch in range(1, trial.epochs + 1):
        for batch in torch.arange(300).split(50):
            optimizer.zero_grad()
            nn.functional.cross_entropy(network(points[batch]), labels[batch]).backward()
            optimizer.step()
        with torch.no_grad():
            loss = nn.functional.cross_entropy(network(points[300:]), labels[300:]).item()
        trial.report(epoch, loss=loss)
    return {"loss": loss}


# %% [markdown]
# ## A search
#
# The named templates come first, then patterns that a model of the loss proposes. What is finished is kept in the run
# directory: run the cell again after an interruption and it goes on. `set` gives the objective its own settings.

# %%
run = skipsearch.search(
    objective,
    run="runs/notebook-search",
    layers=8,
    budget="total:14",
    trainings=24,
    epochs=12,
    set={"width": 6},
    workers=1,
)
run

# %%
run.patterns[["template", "key", "n_seeds", "loss", "mean_bd", "walk_length"]].head()

# %%
run.figures["curves"]

# %% [markdown]
# ## A study
#
# A search finds a pattern. What decides between patterns is another question, and needs a design in which measures do
# not rise and fall together. This one is far too small to answer it, and says so.

# %%
study = skipsearch.study(
    objective,
    run="runs/notebook-study",
    layers=8,
    budget="total:14",
    cross="walk_length,mean_bd",
    bins="2,2",
    per_cell=2,
    optima=0,
    trials=4,
    seeds=2,
    epochs=12,
    set={"width": 6},
    workers=1,
)
print(study.verdict)

# %%
next(iter(study.figures.values()))

# %% [markdown]
# The same statistics work on any table, one row for each measurement:

# %%
skipsearch.correlate(study.candidates, "walk_length,mean_bd", "loss", pattern="key")

# %% [markdown]
# ## The pattern in a loop of one's own
#
# `build_network` builds an image network around any pattern: a plain `torch.nn.Module`.

# %%
network = skipsearch.build_network(run.best.pattern, growth=4, classes=2, image=(1, 8, 8))
images, labels = torch.rand(64, 1, 8, 8), torch.arange(64) % 2
optimizer = torch.optim.SGD(network.parameters(), lr=0.05)
for _ in range(5):
    optimizer.zero_grad()
    loss = nn.functional.cross_entropy(network(images), labels)
    loss.backward()
    optimizer.step()
print(loss.item())
