"""
How few connections are enough?
===============================

Accuracy on digits against the number of connections of 24 layers, with 95 % intervals
over five seeds: templates of several families, and what a search found. A dense block
would have 300 connections.
"""

import json
from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd

summary = json.loads(Path("../../budgets/summary.json").read_text())
points = pd.DataFrame(summary["tradeoffs"][0]["points"])
table = points.pivot_table(index="family", columns="connections", values="accuracy")
table.map("{:.1%}".format, na_action="ignore").fillna("")

# %%
figure, axes = plt.subplots(figsize=(7.2, 4.2))
figure.set_label("Accuracy against the number of connections, with intervals, by family.")
families = ["found", "geometric", "evenly", "log", "nearest"]
for place, family in enumerate(families):
    part = points[points["family"] == family].sort_values("connections")
    errors = [100 * (part["accuracy"] - part["low"]), 100 * (part["high"] - part["accuracy"])]
    x = part["connections"] + 2 * (place - 2)  # side by side
    axes.errorbar(x, 100 * part["accuracy"], errors, marker="o", capsize=3, label=family)
axes.set(xlabel="connections", ylabel="validation accuracy (%)")
axes.legend()
plt.show()
