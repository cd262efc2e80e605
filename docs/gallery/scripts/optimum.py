"""
An optimum with its certificate
===============================

The pattern of a budget with the lowest mean distance, and the proof that there is none
lower: it meets a bound that holds for every pattern of that budget.
"""

import skipsearch

best = skipsearch.optimize("total:94", layers=24)
print(f"mean BD {best.value:.4f}; {best.certificate}")

# %%
# A few layers are read by many, and each pair of layers is two hops apart at most:

optimum = skipsearch.draw(best.pattern, "optimum")

# %%
# Log-DenseNet's own pattern has as many connections:

log = skipsearch.draw("log", layers=24)
print(f"mean BD {skipsearch.score('log', layers=24)['mean_bd']:.4f}")
