"""The contenders of one budget: each template family, what was found, and the random mean, by seed."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from analysis.data.averages import average_patterns
from analysis.data.protocol import UNSTEERED
from analysis.page.wording import count_nouns, name_briefly
from analysis.picks.found import Found
from analysis.picks.order import sort_found
from analysis.stats.guessing import ACCURACY
from analysis.stats.resampling import Vector
from search_spaces.budget import parse_budget
from search_spaces.errors import InputError
from search_spaces.families import FAMILIES, iterate_families
from search_spaces.templates import name_rule

FOUND, RANDOM = "found", "random (mean)"


@dataclass(frozen=True, slots=True)
class Member:
    """One family at one budget.

    Args:
        family: name_family's, or FOUND (the best proposed pattern), or RANDOM (the mean over uniformly drawn ones).
        pattern: the template that stands for it, or the beginning of its pattern's key. Where a budget leaves only one
            pattern, that is `chain` or `dense`, by whatever name it was trained.
        params, flops: those of its pattern, for RANDOM their mean; None where they are not known.
        n_patterns: number of patterns that it was picked from, or averaged over; 1 for a template.
    """

    family: str
    budget: str
    pattern: str
    connections: int
    params: int | None
    flops: int | None
    n_patterns: int


@dataclass(frozen=True, slots=True)
class Contender(Member):
    """One family at one budget, by seed.

    Args:
        by_seed: seed -> accuracy on validation images, a share of 1; for FOUND by score_left_out, with one seed
            `picked` itself.
        picked: for FOUND only, the mean over seeds that it was picked by, too high by selection.
        is_own_mean: for FOUND only, whether by_seed is that of the search's pick, of which no seed could be left out.
    """

    by_seed: "pd.Series[float]"
    picked: float | None = None
    is_own_mean: bool = False


def name_family(template: str) -> str:
    """Return the family of a template: one that fit_family fits, by its namesakes, or the rule itself.

    >>> [name_family(name) for name in ("nearest_log_i", "geometric", "log:b=3", "odd_even", "half_and_log")]
    ['nearest', 'geometric', 'log', 'odd_even', 'half_and_log']
    """
    rule = name_rule(template) or template
    return next((family for family in FAMILIES if rule.startswith(f"{family}_")), rule)


def list_contenders(rows: pd.DataFrame, complete: pd.DataFrame, picks: Sequence[Found] = ()) -> Iterator[Contender]:
    """List all contenders that were trained at one budget.

    Args:
        rows: its complete candidates with an accuracy, none twice.
        complete: complete candidates of all budgets of the run.
        picks: what the search found at each budget.
    """
    patterns = average_patterns(rows).set_index("key", drop=False)
    accuracies = rows.pivot_table(index="key", columns="seed", values=ACCURACY)  # (patterns, seeds)
    by_key = {str(key): own.dropna() for key, own in accuracies.iterrows()}
    for family, key in _choose_members(patterns).items():
        yield _describe(family, patterns.loc[[key]], by_key[key])
    unnamed = patterns[patterns["template"].isna()]
    proposed = unnamed[unnamed["all_seeds"]]
    drawn = proposed[(proposed["strategy"] == "random").fillna(False)]
    if len(proposed) < len(unnamed) and not unnamed["strategy"].isin(UNSTEERED).all():
        # Outcomes chose who has all seeds, so that no seed can be left out: the search's own pick.
        first = sort_found(unnamed.reset_index(drop=True), picks).iloc[[0]]
        own = by_key[first["key"].iloc[0]]
        found = _describe(FOUND, first, own)
        yield replace(found, n_patterns=len(unnamed), picked=float(own.mean()), is_own_mean=True)
    elif len(proposed):
        yield _describe_found(proposed, accuracies.loc[proposed["key"]])
    if len(drawn):
        mean = _describe(RANDOM, drawn, accuracies.loc[drawn["key"]].mean(axis=0))
        yield replace(mean, pattern=count_nouns(len(drawn), "pattern"))
    if _name_sole(patterns.iloc[0]) and not len(unnamed):
        # Any search or draw would have given it.
        if complete["template"].isna().any():
            yield _describe(FOUND, patterns, by_key[patterns.index[0]])
        if (complete["strategy"] == "random").any():
            yield _describe(RANDOM, patterns, by_key[patterns.index[0]])


def score_left_out(values: Vector) -> Vector:
    """Return at each seed the accuracy of the pattern that is best by the mean over the other seeds.

    So selection adds nothing to it. Patterns that tie at the other seeds count alike.

    Args:
        values: shape (patterns, seeds); at least one pattern and two seeds.

    Returns:
        Shape (seeds,).

    >>> score_left_out(np.array([[0.9, 0.5, 0.6], [0.7, 0.7, 0.7]])).round(3).tolist()
    [0.7, 0.5, 0.65]
    """
    scores = []
    for seed in range(values.shape[1]):
        others = np.delete(values, seed, axis=1).mean(axis=1).round(12)  # equal means may differ by 1e-17
        scores.append(values[others == others.max(), seed].mean())
    return np.array(scores)


def _choose_members(patterns: pd.DataFrame) -> dict[str, str]:
    """Return family -> key of the trained pattern that stands for it at this budget.

    That is the pattern that fit_family gives, by whatever name it was trained. Otherwise, among namesakes, it is the
    bare name, then the one with the in-degrees of `log` (`_log_i`), then the first by name.
    """
    named = patterns.dropna(subset=["template"])
    members: dict[str, str] = {}
    for template, key in sorted(
        zip(named["template"].tolist(), named["key"].tolist(), strict=True),
        key=lambda pair: (pair[0] not in FAMILIES, not pair[0].endswith("_log_i"), pair[0]),
    ):
        members.setdefault(name_family(template), key)
    try:
        budget = parse_budget(str(patterns["budget"].iloc[0]), int(patterns["layers"].iloc[0]))
    except InputError:  # a foreign study's word for its budget
        return members
    fitted = {family: pattern.key for family, pattern in iterate_families(budget)}
    return members | {family: key for family, key in fitted.items() if key in named.index}


def _name_sole(row: "pd.Series[Any]") -> str | None:
    """Return the name of the only pattern that spends a pattern's budget; None where there are others."""
    layers, connections = int(row["layers"]), int(row["connections"])
    return {layers * (layers + 1) // 2: "dense", layers: "chain"}.get(connections)


def _describe_found(proposed: pd.DataFrame, accuracies: pd.DataFrame) -> Contender:
    """Describe the best of the proposed patterns, which come best first and are complete at every seed."""
    by_seed = accuracies.iloc[0]
    if len(by_seed) > 1:
        by_seed = pd.Series(score_left_out(accuracies.to_numpy(np.float64)), by_seed.index)
    found = _describe(FOUND, proposed.iloc[[0]], by_seed)
    return replace(found, n_patterns=len(proposed), picked=float(proposed[ACCURACY].iloc[0]))


def _describe(family: str, patterns: pd.DataFrame, by_seed: "pd.Series[float]") -> Contender:
    first = patterns.iloc[0]
    costs = [
        None if patterns[name].isna().any() else round(float(patterns[name].mean())) for name in ("params", "flops")
    ]
    return Contender(
        family=family,
        budget=str(first["budget"]),
        pattern=_name_sole(first) or name_briefly(first),
        connections=int(first["connections"]),
        params=costs[0],
        flops=costs[1],
        n_patterns=len(patterns),
        by_seed=by_seed,
    )
