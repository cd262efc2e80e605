"""Outcomes and learning curves of patterns, averaged over seeds."""

from typing import Any

import pandas as pd

from analysis.data.outcomes import is_lower_better, list_outcomes, list_shown
from analysis.data.proxies import list_proxies
from analysis.data.results import DESIGN, FIXED_BY_PATTERN, STRATUM, find_brought


def average_patterns(candidates: pd.DataFrame) -> pd.DataFrame:
    """Return one row a pattern, with its outcomes averaged over its complete candidates, the best pattern first.

    A seed fixes split, initial weights and data order for every pattern, so it shifts all patterns together. For the
    `*_centred` columns each seed's mean, over the patterns of that budget that are complete at every seed, is
    subtracted before averaging; they are missing where no pattern is complete at every seed. Of a candidate that was
    trained twice only the first training counts.

    Order: first the patterns complete at every seed that any pattern of their budget is complete at, so that one lucky
    seed cannot outrank an average; then, of images, higher mean accuracy and lower mean loss, of other tasks the better
    mean of each outcome in turn; then key.

    Returns:
        Columns STRATUM, key, template, strategy, DESIGN, FIXED_BY_PATTERN, other packages' measures, n_seeds,
        all_seeds, and for each outcome its mean, `_sd` (between seeds; missing for one seed), `_centred` and
        `_centred_sd`; the mean of each zero-cost proxy. One pattern under two budgets is two rows.
    """
    outcomes = list_outcomes(candidates)
    complete = candidates[candidates["state"] == "complete"].drop_duplicates([*STRATUM, "key", "seed"])
    n_seeds = complete.groupby([*STRATUM, "key"], dropna=False)["seed"].transform("nunique")
    n_seeds_of_stratum = complete.groupby(STRATUM, dropna=False)["seed"].transform("nunique")
    complete = complete.assign(all_seeds=(n_seeds == n_seeds_of_stratum).astype(bool))
    for outcome in outcomes:
        full = complete.assign(value=complete[outcome].where(complete["all_seeds"]))
        seed_mean = full.groupby([*STRATUM, "seed"], dropna=False)["value"].transform("mean")
        complete[f"{outcome}_centred"] = complete[outcome] - seed_mean
    by_pattern = complete.groupby([*STRATUM, "key"], dropna=False, sort=False)
    copied = ("template", "strategy", *DESIGN, *FIXED_BY_PATTERN, *find_brought(complete))
    columns: dict[str, Any] = {name: by_pattern[name].first() for name in copied}
    columns |= {"n_seeds": by_pattern["seed"].nunique(), "all_seeds": by_pattern["all_seeds"].first()}
    columns |= {name: by_pattern[name].mean() for name in list_proxies(candidates)}
    for outcome in outcomes:
        columns[outcome] = by_pattern[outcome].mean()
        columns[f"{outcome}_sd"] = by_pattern[outcome].std()
        # skipna=False: a mean over some seeds' differences only is not comparable with the other patterns'.
        columns[f"{outcome}_centred"] = by_pattern[f"{outcome}_centred"].mean(skipna=False)
        columns[f"{outcome}_centred_sd"] = by_pattern[f"{outcome}_centred"].std()
    patterns = pd.DataFrame(columns).reset_index()
    patterns.attrs = dict(candidates.attrs)
    ranked = list_shown(candidates)
    order = ["all_seeds", *ranked, "key"]
    is_ascending = [False, *map(is_lower_better, ranked), True]
    return patterns.sort_values(order, ascending=is_ascending, ignore_index=True)


def average_curves(candidates: pd.DataFrame, curves: pd.DataFrame) -> pd.DataFrame:
    """Return each pattern's mean of every metric at every epoch: columns key, epoch, metric, value."""
    complete = candidates.loc[candidates["state"] == "complete", ["number", "key"]]
    joined = curves.merge(complete, on="number")
    return joined.groupby(["key", "epoch", "metric"])["value"].mean().reset_index()
