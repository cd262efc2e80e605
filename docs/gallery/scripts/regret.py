"""
Strategies on a table
=====================

Every pattern of a table was trained with the same seeds, so a search strategy can be
replayed on it in seconds. Its regret is how much worse its pick is than the best
pattern of the table.
"""

import matplotlib.pyplot as plt
import pandas as pd

replayed = pd.read_csv("../../tables/layers-12/regret.csv")
last = replayed.groupby("strategy").last()
last[["trainings", "regret", "regret_low", "regret_high"]].round(3)

# %%
figure, axes = plt.subplots(figsize=(7.2, 4.2))
figure.set_label("Regret against trainings, with intervals, by strategy.")
for strategy, rows in replayed.groupby("strategy"):
    (line,) = axes.plot(rows["trainings"], rows["regret"], label=strategy)
    low, high, colour = rows["regret_low"], rows["regret_high"], line.get_color()
    axes.fill_between(rows["trainings"], low, high, color=colour, alpha=0.15)
axes.set(xlabel="trainings", ylabel="regret (nats of validation loss)", ylim=(0, None))
axes.set_xscale("log")
axes.legend()
plt.show()
