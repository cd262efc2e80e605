"""
A crossed design
================

Among random patterns two measures may go together so closely that no training can tell
which of them matters. A crossed design draws patterns from every cell of the two.
"""

import matplotlib.pyplot as plt
import pandas as pd

import skipsearch

both = "walk_length,mean_bd"
crossed = skipsearch.sample("log", 12, cross=both, bins="3,3", per_cell=4)
random = [skipsearch.template(f"random:{seed}", 12) for seed in range(len(crossed))]

tables = {
    name: pd.DataFrame(skipsearch.score(each, measures=both)["measures"] for each in patterns)
    for name, patterns in {"random": random, "crossed": crossed}.items()
}
for name, table in tables.items():
    print(f"{name}: rank correlation {table.corr(method='spearman').iloc[0, 1]:+.2f}")

# %%
figure, axes = plt.subplots(figsize=(7.2, 4.2))
figure.set_label("Mean backprop distance against walk length, for random and crossed patterns.")
for (name, table), marker in zip(tables.items(), "ox", strict=True):
    axes.scatter(table["walk_length"], table["mean_bd"], marker=marker, label=name)
axes.set(xlabel="walk length (layers)", ylabel="mean backprop distance (hops)")
axes.legend()
plt.show()
