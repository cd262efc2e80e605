"""Searches without a run directory: real patterns, invented outcomes, any number of trainings of each pattern."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from analysis.data.results import CURVE_COLUMNS, Run
from nas.records.database import Kind
from search_spaces.measures.registry import ALWAYS_SHOWN, measure
from search_spaces.pattern import ConnectionPattern
from search_spaces.seeds import derive_generator
from tests.support.synthetic_run import Proposal, make_candidates

Losses = Mapping[int, Sequence[float]]  # place of a pattern -> its losses at seeds 0, 1, ...


def make_search(
    proposals: Sequence[Proposal],
    losses: Losses,
    budgets: Sequence[str] | None = None,
    kind: Kind = "search",
    **config: Any,
) -> Run:
    """A run in which each pattern has as many trainings as it has losses; accuracy is 1 - loss / 2."""
    own = budgets or ["log"] * len(proposals)
    n_seeds = max(map(len, losses.values()))

    def score(place: int, seed: int) -> float | None:
        return 1 - losses[place][seed] / 2 if seed < len(losses[place]) else None

    candidates = make_candidates(proposals, score, own, range(n_seeds))
    candidates = candidates[candidates["state"] == "complete"].reset_index(drop=True)
    walks = {pattern.key: measure(pattern, ALWAYS_SHOWN) for _, _, pattern in proposals}
    for name in ALWAYS_SHOWN:
        candidates[name] = candidates["key"].map({key: values[name] for key, values in walks.items()})
    return Run(
        path=Path("nowhere"),
        candidates=candidates,
        curves=pd.DataFrame(columns=list(CURVE_COLUMNS)).astype(CURVE_COLUMNS),
        asked=len(candidates),
        config=config,
        environment={},
        data={"n_validation": 400, "classes": 10},
        largest_class=0.1,
        kind=kind,
    )


def plant_loss(pattern: ConnectionPattern, seed: int, noise: float = 0.05) -> float:
    """A loss that rises with walk length, with the seed's effect and noise."""
    generator = derive_generator("planted", pattern.key, seed)
    shift = 0.1 * derive_generator("seed", seed).normal()
    (walk,) = measure(pattern, ["walk_length"]).values()
    return 0.15 * walk * float(2.718281828 ** (shift + noise * generator.normal()))
