"""Small run directories for the tests of analysis: real patterns, invented outcomes, a real Optuna study."""

import json
import math
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import optuna
import pandas as pd
from optuna.distributions import FloatDistribution
from optuna.trial import TrialState, create_trial

from analysis.data.results import COLUMNS
from search_spaces.budget import parse_budget
from search_spaces.distance import describe
from search_spaces.pattern import ConnectionPattern
from search_spaces.sampling.draw import sample_uniform
from search_spaces.seeds import derive_generator
from search_spaces.templates import find_template

DEPTH = 8
Proposal = tuple[str | None, str, ConnectionPattern]  # template, strategy, pattern
Score = Callable[[int, int], float | str | None]  # (pattern's place, seed) -> accuracy, why it failed, or running
Weigh = Callable[[ConnectionPattern, int], list[list[float]]]  # (pattern, seed) -> strengths, block by block


def propose(n_random: int, templates: Sequence[str] = (), budget: str = "log") -> list[Proposal]:
    named: list[Proposal] = [(name, "templates", find_template(name).build(DEPTH)) for name in templates]
    taken = {pattern.key for _, _, pattern in named}
    generator = derive_generator(0, "synthetic")
    drawn: list[Proposal] = []
    while len(drawn) < n_random:
        pattern = sample_uniform(parse_budget(budget, DEPTH), generator)
        if pattern.key not in taken:
            taken.add(pattern.key)
            drawn.append((None, "random", pattern))
    return [*named, *drawn]


def make_run(
    run: Path,
    proposals: Sequence[Proposal],
    score: Score,
    seeds: Sequence[int] = (0, 1),
    budgets: Sequence[str] | None = None,
    weigh: Weigh | None = None,
    keep: Weigh | None = None,
    **study_attributes: Any,
) -> Path:
    """A run directory with one trial a proposal and seed; validation loss is 2 - 2 * accuracy.

    budgets: of each proposal, which then costs by its connections; otherwise all spend `log` and cost the same.
    weigh: strengths of finished trainings; otherwise they have none, as those of older runs.
    keep: shares of connections that condensation kept, likewise.
    """
    run.mkdir(parents=True)
    study = optuna.create_study(storage=f"sqlite:///{run}/study.db", study_name="skipsearch", direction="maximize")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        study.set_metric_names(["validation_accuracy"])
    for name, value in study_attributes.items():
        study.set_user_attr(name, value)
    ranges = {name: FloatDistribution(1, DEPTH) for name in ("mean_bd", "span")}
    for place, proposal in enumerate(proposals):
        for seed in seeds:
            found = score(place, seed)
            attributes = describe_proposal(proposal, seed)
            if budgets is not None:
                n = proposal[2].n_connections
                attributes |= {"budget": budgets[place], "params": 500 + 20 * n, "flops": 1_000 * n}
            state = {float: TrialState.COMPLETE, str: TrialState.FAIL}.get(type(found), TrialState.RUNNING)
            if found is not None:
                attributes["outcome"] = _outcome(found)
            if weigh is not None and isinstance(found, float):
                attributes["outcome"]["strengths"] = weigh(proposal[2], seed)
            if keep is not None and isinstance(found, float):
                attributes["outcome"]["kept"] = keep(proposal[2], seed)
            numbers = describe(proposal[2])
            study.add_trial(
                create_trial(
                    state=state,
                    value=found if isinstance(found, float) else None,
                    params={name: numbers[name] for name in ranges},
                    distributions=dict(ranges),
                    user_attrs=attributes,
                )
            )
    return run


def weigh_by(slope: float, chain: float = 1.0, noise: float = 0.1, n_blocks: int = 1) -> Weigh:
    """Strengths whose logarithm changes by `slope` a layer of a skip's span; the chain is `chain` times as strong.

    As initial weights do, most of the noise belongs to seed, block, layer and place among its inputs, whatever the
    pattern.
    """

    def weigh_one(pattern: ConnectionPattern, seed: int, block: int) -> Iterator[float]:
        own = derive_generator("own", pattern.key, seed, block)
        for target, inputs in enumerate(pattern.sources, start=1):
            shared = derive_generator("shared", seed, block, target).normal(scale=noise, size=len(inputs))
            for source, common in zip(inputs, shared, strict=True):
                is_chain = target - source == 1
                drift = math.log(chain) if is_chain else slope * (target - source)
                yield math.exp(drift + common + own.normal(scale=noise / 3)) / len(inputs) ** 0.5

    return lambda pattern, seed: [[*weigh_one(pattern, seed, block)] for block in range(n_blocks)]


def make_candidates(
    proposals: Sequence[Proposal], score: Score, budgets: Sequence[str], seeds: Sequence[int] = (0, 1)
) -> pd.DataFrame:
    """What read_run would give of make_run, without a study: for tests that look at many runs."""
    rows: list[dict[str, Any]] = []
    for place, (template, strategy, pattern) in enumerate(proposals):
        n = pattern.n_connections
        fixed = {**describe(pattern), "key": pattern.key, "template": template, "strategy": strategy}
        fixed |= {"sources": json.dumps([list(inputs) for inputs in pattern.sources]), "layers": pattern.depth}
        fixed |= {"budget": budgets[place], "params": 500 + 20 * n, "flops": 1_000 * n}
        for seed in seeds:
            found = score(place, seed)
            outcome = (
                {"state": "complete", "validation_accuracy": found, "validation_loss": 2 - 2 * found}
                if isinstance(found, float)
                else {"state": "running" if found is None else "failed", "error": found}
            )
            rows.append({**fixed, **outcome, "number": len(rows), "seed": seed})
    return pd.DataFrame(rows, columns=list(COLUMNS)).astype(COLUMNS)


def describe_proposal(proposal: Proposal, seed: int) -> dict[str, Any]:
    template, strategy, pattern = proposal
    return {
        "key": pattern.key,
        "template": template,
        "strategy": strategy,
        "seed": seed,
        "max_bd": describe(pattern)["max_bd"],
        "params": 1000,
        "flops": 50_000,
        "budget": "log",
        "sources": [list(inputs) for inputs in pattern.sources],
    }


def _outcome(found: float | str) -> dict[str, Any]:
    curve: list[dict[str, float]] = [{"epoch": 1, "train_loss": 2.0}, {"epoch": 2, "train_loss": 1.0}]
    if isinstance(found, str):
        return {"epochs": 1, "seconds": 0.1, "validation_loss": None, "curve": curve[:1], "error": found}
    loss = 2 - 2 * found
    curve[-1] |= {"validation_loss": loss, "validation_accuracy": found}
    return {"epochs": 2, "seconds": 0.2, "validation_loss": loss, "curve": curve, "error": None}
