"""A search at three budgets: families of templates and random patterns, with the accuracy that each loses planted."""

from collections.abc import Callable

import numpy as np

from search_spaces.budget import parse_budget
from search_spaces.families import iterate_families
from search_spaces.templates import find_template
from tests.support.synthetic_run import DEPTH, Proposal, propose

BUDGETS = ("total:12", "log", "total:30")  # 12, 21 and 30 connections
# Points of accuracy that a family loses against its largest budget.
PLANTED = {
    "nearest": {12: 5.0, 21: 3.0, 30: 0.0},
    "evenly": {12: 4.0, 21: 0.3, 30: 0.0},
    "geometric": {12: 0.4, 21: 0.2, 30: 0.0},
    None: {12: 3.0, 21: 0.5, 30: 0.0},
}


def propose_at_budgets() -> tuple[list[Proposal], list[str]]:
    """The fitted families and six random patterns at every budget, and log at its own."""
    proposals, budgets = [], []
    for text in BUDGETS:
        named: list[Proposal] = [
            (name, "templates", pattern) for name, pattern in iterate_families(parse_budget(text, DEPTH))
        ]
        if text == "log":
            named.append(("log", "templates", find_template("log").build(DEPTH)))
        own = [*named, *propose(6, budget=text)]
        proposals += own
        budgets += [text] * len(own)
    return proposals, budgets


PROPOSALS, OF_BUDGET = propose_at_budgets()


def plant_losses(noise: float) -> Callable[[int, int], float]:
    """Accuracy as planted; a seed shifts all alike, noise tells patterns and seeds apart."""

    def score(place: int, seed: int) -> float:
        name, _, pattern = PROPOSALS[place]
        lost = PLANTED.get(None if name == "log" else name, {})[pattern.n_connections]
        own = float(np.random.default_rng((place, seed)).normal(0, noise))
        return 0.9 - lost / 100 + 0.02 * seed + own

    return score
