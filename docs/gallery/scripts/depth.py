"""
Distance by depth
=================

How far apart two layers are on average, at the budget of Log-DenseNet, as blocks become
deeper. The optimum is the best pattern found in a minute at most; no pattern lies below
the bound. Up to 28 layers the optimum meets it.
"""

import matplotlib.pyplot as plt
import pandas as pd

depths = pd.read_csv("../../depths.csv").set_index("layers")
depths.loc[[12, 24, 52, 100], ["log", "random", "optimum", "bound", "status"]]

# %%
figure, axes = plt.subplots(figsize=(7.2, 4.2))
figure.set_label("Mean distance by depth: templates, the optimum found, and the bound.")
for name, label in {
    "nearest_log_i": "nearest layers",
    "evenly_log_i": "evenly spread",
    "log": "Log-DenseNet",
    "random": "random, median of 500",
    "optimum": "optimum found",
}.items():
    axes.plot(depths.index, depths[name], label=label)
axes.plot(depths.index, depths["bound"], color="black", linestyle=":", label="proven bound")
axes.set(xlabel="layers in a block", ylabel="mean backprop distance (hops)", ylim=(1, 4))
axes.legend()
plt.show()
