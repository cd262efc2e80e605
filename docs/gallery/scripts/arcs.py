"""
All templates
=============

Each template over 12 layers. Nodes are layers, and node 0 is the block's input. An arc
is a skip, drawn more strongly the further back it reaches; a node is larger the more
layers read it. ``skipsearch score`` lists the templates with their distances.
"""

import skipsearch
from search_spaces.templates import list_templates

names = list_templates(12)
print(*names, sep=", ")

# %%
# Rules for every depth
# ---------------------
# Their number of connections follows from the rule.

# sphinx_gallery_thumbnail_number = 3
ruled = [skipsearch.draw(name, layers=12) for name in names]

# %%
# Fitted to a budget
# ------------------
# These spend what Log-DenseNet spends, or any other budget.

families = ["nearest", "evenly", "geometric", "random:1"]
fitted = [skipsearch.draw(name, layers=12) for name in families]
