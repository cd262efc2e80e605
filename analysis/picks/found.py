"""What a search found at each budget: all trained patterns in order, the pick first, and what it gained."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd

from analysis.data.averages import average_patterns
from analysis.data.outcomes import OUTCOMES, Objective, OutcomeName, is_lower_better, list_outcomes, list_shown
from analysis.data.results import STRATUM, Run, parse_sources
from analysis.picks.expect import Costs, Expectations, Expected, Gain, Scales, learn_expectations
from analysis.stats.guessing import Guessing, Learning, measure_learning, read_guessing
from nas.records.metrics import IMAGE_METRICS, shorten
from search_spaces.budget import parse_budget
from search_spaces.errors import InputError
from search_spaces.measures.measure import Reads
from search_spaces.pattern import ConnectionPattern
from search_spaces.sampling.draw import sample_uniform
from search_spaces.seeds import derive_generator
from search_spaces.wiring.blocks import classifier_reads

ENOUGH_PATTERNS = 8  # trained ones from which the model is asked
MAX_TRAININGS = 3000  # up to which it is: the time and memory grow with their square
N_DRAWS = 200  # uniform draws that stand for a random one where too few were trained
Basis = Literal["model", "few", "many", "unequal", "unknown", "unlearned", "no_logarithm"]
Place = tuple[str, int, str | None, str]  # budget, layers, regime, key of the pattern


@dataclass(frozen=True, slots=True)
class RankedPattern:
    """One trained pattern.

    Args:
        n_trainings, n_failed: number of trainings that are complete, and that failed.
        objective: outcome that the search improved.
        outcomes: outcome of each, by seed; an accuracy is a share of 1.
        observed: their mean; the geometric one of losses, where all of the budget are above 0.
        expected: what the model expects at a new seed; None without the model.
        over_log: gain over template `log`; None without the model or that template, and for that template itself.
        order: what patterns of all budgets are sorted by, the best first.
    """

    key: str
    template: str | None
    strategy: str
    n_trainings: int
    n_failed: int
    mean_bd: float
    walk_length: float | None
    sources: str
    objective: Objective
    outcomes: tuple[float, ...]
    observed: float
    expected: Expected | None
    over_log: Gain | None
    order: tuple[bool, float, float, str]

    @property
    def name(self) -> str:
        """Its template's name, or the beginning of its key."""
        return self.template or self.key[:12]

    @property
    def chance_better_than_log(self) -> float | None:
        """The chance that it is better than template `log`; None where over_log is."""
        return None if self.over_log is None else self.over_log.chance


@dataclass(frozen=True, slots=True)
class Tried:
    """How many patterns of one strategy have complete trainings, and how many trainings those are."""

    strategy: str
    n_patterns: int
    n_trainings: int


@dataclass(frozen=True, slots=True)
class RandomDraw:
    """What the pick gained over a uniform random draw of the budget.

    Args:
        n_patterns: number of uniform draws that stand for it.
        are_trained: whether this run trained them; otherwise the model predicts them.
    """

    gain: Gain
    n_patterns: int
    are_trained: bool


@dataclass(frozen=True, slots=True)
class Found:
    """What a search found at one budget.

    Args:
        objective: outcome that the search improved.
        basis: `model`, or why plain means stand in its place: few patterns, many trainings, patterns of unequal cost,
            an unknown number of validation images, networks that did not learn, or losses without a logarithm.
        ranked: all trained patterns; the first is the pick.
        tried: by strategy.
        log: gain over template `log`; None where it is the pick, was not trained, or without the model.
        template: the best named template but the pick.
        over_template: gain over it.
        random: gain over a random draw.
        telling: measures that the model leans on, by the change of the cost per standard deviation.
        learning: accuracy of all networks next to that of guessing; None without an accuracy.
    """

    budget: str
    layers: int
    regime: str | None
    objective: Objective
    basis: Basis
    ranked: tuple[RankedPattern, ...]
    tried: tuple[Tried, ...]
    log: Gain | None
    template: RankedPattern | None
    over_template: Gain | None
    random: RandomDraw | None
    telling: Mapping[str, float]
    learning: Learning | None

    @property
    def pick(self) -> RankedPattern:
        """The pattern to take."""
        return self.ranked[0]

    @property
    def places(self) -> dict[Place, RankedPattern]:
        """Every ranked pattern by its place in the run."""
        return {(self.budget, self.layers, self.regime, each.key): each for each in self.ranked}


def judge_search(run: Run) -> tuple[Found, ...]:
    """Return what a search found at each depth and budget, the cheapest first; nothing for other kinds of run."""
    if run.kind != "search":
        return ()
    table = run.candidates
    complete = table[(table["state"] == "complete").fillna(False)].drop_duplicates([*STRATUM, "key", "seed"])
    groups = [rows for _, rows in complete.groupby(STRATUM, dropna=False, sort=False)]
    groups.sort(key=lambda rows: (int(rows["layers"].iloc[0]), int(rows["connections"].min())))
    failed = table[(table["state"] == "failed").fillna(False)].groupby(["budget", "layers", "key"]).size()
    return tuple(_find_at(run, rows, failed.to_dict()) for rows in groups)


def read_objective(run: Run) -> Objective:
    """Return the outcome that a search improved; runs that do not say so are older, and improved the accuracy."""
    asked = run.config.get("objective")
    if run.metrics == IMAGE_METRICS:
        return Objective(OUTCOMES[0] if asked == "loss" else OUTCOMES[1])
    outcomes = list_outcomes(run.candidates)
    return Objective(next((outcome for outcome in outcomes if asked in (outcome, shorten(outcome))), outcomes[0]))


def _find_at(run: Run, complete: pd.DataFrame, failed: Mapping[Any, int]) -> Found:
    objective, guessing = read_objective(run), read_guessing(run)
    learning = measure_learning(complete, guessing)
    patterns = average_patterns(complete)
    is_usable = _find_costs(complete, objective, guessing).notna()
    basis = _choose_basis(complete[is_usable], objective, guessing, learning)
    is_geometric = objective.is_loss and not bool((complete[objective.outcome] <= 0).any())
    if objective.is_loss and not is_geometric and basis != "unlearned":
        basis = "no_logarithm"  # the model would be asked without the best trainings
    expectations = _learn(run, complete[is_usable], patterns, guessing) if basis == "model" else None
    everything = _list_patterns(complete, patterns, objective, expectations, failed, is_geometric)
    ranked = sorted(everything, key=lambda each: each.order)
    first = patterns.iloc[0]
    gains = _Gains(expectations, ranked[0].key, {str(key): row for row, key in enumerate(patterns["key"])})
    template = next((each for each in ranked[1:] if each.template), None)
    return Found(
        budget=str(first["budget"]),
        layers=int(first["layers"]),
        regime=None if pd.isna(first["regime"]) else str(first["regime"]),
        objective=objective,
        basis=basis,
        ranked=tuple(ranked),
        tried=tuple(
            Tried(str(name), int(rows["key"].nunique()), len(rows))
            for name, rows in complete.groupby(complete["strategy"].fillna("unknown"), sort=False)
        ),
        log=ranked[0].over_log,
        template=template,
        over_template=gains.over(template),
        random=gains.over_random(complete),
        telling={} if expectations is None else expectations.telling,
        learning=learning,
    )


def _find_costs(complete: pd.DataFrame, objective: Objective, guessing: Guessing) -> "pd.Series[float]":
    n_images = guessing.n_images or 1
    costs = [objective.find_cost(float(value), n_images) for value in complete[objective.outcome]]
    return pd.Series(costs, complete.index, dtype=np.float64)


def _choose_basis(usable: pd.DataFrame, objective: Objective, guessing: Guessing, learning: Learning | None) -> Basis:
    if learning is not None and not learning.is_better:
        return "unlearned"
    if objective.is_share and guessing.n_images is None:
        return "unknown"
    if len(usable["connections"].unique()) > 1:
        return "unequal"
    if len(usable) > MAX_TRAININGS:
        return "many"
    return "model" if usable["key"].nunique() >= ENOUGH_PATTERNS else "few"


def _learn(run: Run, usable: pd.DataFrame, patterns: pd.DataFrame, guessing: Guessing) -> Expectations:
    objective = read_objective(run)
    trained = [parse_sources(sources) for sources in patterns["sources"]]
    numbers = {str(key): row for row, key in enumerate(patterns["key"])}
    costs = Costs(
        np.array([numbers[key] for key in usable["key"]], np.int64),
        np.array(usable["seed"].tolist(), np.int64),
        np.array(_find_costs(usable, objective, guessing).tolist(), np.float64),
    )
    transition = str(run.config.get("transition", "log"))
    return learn_expectations(
        trained,
        _draw(str(patterns["budget"].iloc[0]), trained[0].depth),
        costs,
        Scales(objective, guessing.n_images or 1),
        _find_reads(transition, trained[0]),
    )


def _find_reads(transition: str, pattern: ConnectionPattern) -> Reads | None:
    """Return what the classifier reads, where that is the same for every pattern."""
    return classifier_reads(transition, pattern) if transition in ("all", "last") else None


def _draw(budget: str, layers: int) -> list[ConnectionPattern]:
    """Return N_DRAWS uniform draws, the same for every run of a budget; none where its caps refuse nearly all."""
    try:
        parsed, generator = parse_budget(budget, layers), derive_generator(0, "random draws", budget, layers)
        drawn = [sample_uniform(parsed, generator) for _ in range(N_DRAWS)]
    except InputError:  # or another program's word for a budget
        return []
    return drawn


def _list_patterns(
    complete: pd.DataFrame,
    patterns: pd.DataFrame,
    objective: Objective,
    expectations: Expectations | None,
    failed: Mapping[Any, int],
    is_geometric: bool,
) -> Iterable[RankedPattern]:
    outcome, last = objective.outcome, list_shown(complete)[-1]
    by_key = {str(key): rows.sort_values("seed")[outcome].dropna() for key, rows in complete.groupby("key")}
    logs = [number for number, name in enumerate(patterns["template"].fillna("")) if name == "log"]
    for number, (_, row) in enumerate(patterns.iterrows()):
        outcomes = tuple(map(float, by_key[row["key"]]))
        observed = _average(outcomes, objective, is_geometric)
        # Without the model one lucky seed must not outrank a mean.
        order = (not row["all_seeds"], observed if is_lower_better(outcome) else -observed)
        if expectations is not None:
            order = (False, expectations.cost(number))
        yield RankedPattern(
            key=row["key"],
            template=None if pd.isna(row["template"]) else str(row["template"]),
            strategy="unknown" if pd.isna(row["strategy"]) else str(row["strategy"]),
            n_trainings=len(outcomes),
            n_failed=failed.get((row["budget"], row["layers"], row["key"]), 0),
            mean_bd=float(row["mean_bd"]),
            walk_length=None if pd.isna(row["walk_length"]) else float(row["walk_length"]),
            sources=row["sources"],
            objective=objective,
            outcomes=outcomes,
            observed=observed,
            expected=None if expectations is None else expectations.expect(number),
            over_log=_compare(expectations, number, logs),
            order=(*order, _rank(row[last], last), row["key"]),
        )


def _compare(expectations: Expectations | None, row: int, logs: Sequence[int]) -> Gain | None:
    """Compare a pattern with template `log`; None for that itself, and where there is none or no model."""
    if expectations is None or not logs or row == logs[0]:
        return None
    return expectations.compare(row, logs[0])


def _average(outcomes: Sequence[float], objective: Objective, is_geometric: bool) -> float:
    """Return the mean of outcomes, plain or geometric; the worst there is without any."""
    if not outcomes:
        return 0.0 if objective.is_share else float("-inf" if objective.outcome.maximize else "inf")
    values = np.array(outcomes)
    return float(np.exp(np.log(values).mean())) if is_geometric else float(values.mean())


def _rank(value: float, outcome: OutcomeName) -> float:
    """Return what a mean is sorted by, the best first; without one last."""
    return float(np.nan_to_num(value if is_lower_better(outcome) else -value, nan=np.inf))


@dataclass(frozen=True, slots=True)
class _Gains:
    """What the pick gained over others; None without the model.

    Args:
        pick: key of the pick.
        numbers: key of each trained pattern -> its number among the expectations.
    """

    expectations: Expectations | None
    pick: str
    numbers: Mapping[str, int]

    def over(self, other: RankedPattern | None) -> Gain | None:
        """Compare the pick with another trained pattern; None where there is none, or it is the pick."""
        if self.expectations is None or other is None or other.key == self.pick:
            return None
        return self.expectations.compare(self.numbers[self.pick], self.numbers[other.key])

    def over_random(self, complete: pd.DataFrame) -> RandomDraw | None:
        """Compare the pick with uniform draws: those that the run trained, or where they are few, predicted ones."""
        if self.expectations is None:
            return None
        sampled = complete.loc[(complete["strategy"] == "random").fillna(False), "key"].unique().tolist()
        others = [self.numbers[key] for key in sampled]
        are_trained = len(others) >= ENOUGH_PATTERNS
        if not are_trained:
            first = self.expectations.n_trained
            others = [*range(first, first + self.expectations.n_drawn)]
        if not others:
            return None
        return RandomDraw(
            self.expectations.compare_with_mean(self.numbers[self.pick], others), len(others), are_trained
        )
