"""The strata of a run, each with the rows that its part of the report shows."""

import dataclasses
import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from analysis.data.averages import average_patterns
from analysis.data.outcomes import OutcomeName, list_outcomes, list_shown, take_logarithms
from analysis.data.protocol import CONTROLS, SAMPLED, UNSTEERED, list_declared
from analysis.data.results import Run
from analysis.picks.found import Found
from analysis.picks.order import sort_found
from analysis.stats.guessing import read_guessing
from analysis.stats.intervals import range_of
from analysis.stats.reliability import Fidelity, measure_fidelity
from analysis.study.levels import OutcomeLevel, TemplateComparison, compare_templates, measure_levels
from analysis.study.stratum import Reach, Stratum, analyse_candidates, measure_uniform_reach
from analysis.study.tables import Rival, compare_rivals
from analysis.verdict.pooled import Pooled
from search_spaces.budget import parse_budget
from search_spaces.errors import InputError
from search_spaces.seeds import derive_generator

N_BEST = 10


@dataclass(frozen=True, slots=True)
class View:
    """One stratum with the rows behind it.

    Args:
        name: its name in figures and headings; empty where the run has only one stratum.
        patterns: rows of average_patterns, best first: a search's as it ranks them. Each seed's own mean is taken out
            of the outcomes and the stratum's put back, so that patterns trained at different seeds compare; not where a
            strategy chose what to train again, for then few patterns have all seeds, and they are the best ones.
        candidates, curves: rows of read_run, of candidates in every state.
        is_planned: whether a study's plan laid it out.
        comparisons, levels: templates and groups of patterns, by accuracy and by the primary outcome; empty where
            outcomes chose the seeds.
        uniform: reach of uniform random sampling at its budget; None for a budget in another program's words.
        rivals: zero-cost proxies next to some measures, of the sampled patterns; empty where none were recorded.
    """

    name: str
    stratum: Stratum
    patterns: pd.DataFrame
    candidates: pd.DataFrame
    curves: pd.DataFrame
    is_planned: bool
    comparisons: tuple[TemplateComparison, ...]
    levels: tuple[OutcomeLevel, ...]
    uniform: Reach | None
    rivals: tuple[Rival, ...]

    @property
    def outcomes(self) -> tuple[OutcomeName, ...]:
        """What its scatter plot shows: of a study the outcome that its measures are judged by, otherwise all."""
        shown = list_shown(self.patterns)
        if not self.is_planned:
            return shown
        judged = next((each.outcome for each in self.stratum.judgements if each.outcome), self.stratum.primary)
        return tuple(name for name in shown if name == judged)

    @property
    def label(self) -> str:
        """Its name in words, with what a reader must know of every figure."""
        name = self.name or f"{self.stratum.layers} layers"
        return f"{name} ({self.stratum.fault})" if self.stratum.fault else name


@dataclass(frozen=True, slots=True)
class Views:
    """The strata of a run in the report's order, and what they say together.

    Args:
        strata: one for each stratum that has a complete candidate; regimes that only check others have none.
        pooled: one a declared measure; empty where fewer than two strata can be pooled.
        n_tests: number of declared tests that p-values are adjusted over.
    """

    strata: tuple[View, ...]
    pooled: tuple[Pooled, ...]
    n_tests: int


def view_strata(
    run: Run,
    run_seed: int,
    exploratory: Collection[str] = (),
    faults: Mapping[tuple[int, str | None], str] | None = None,
    picks: Sequence[Found] = (),
) -> Views:
    """Analyse the strata of a run: a study's in its plan's order, others by layers and connections.

    Args:
        run_seed: seed of the bootstrap, the permutations and the uniform sample.
        exploratory, faults: as analyse_candidates takes them.
        picks: what a search found; nothing for a study.
    """
    analysis = analyse_candidates(
        take_logarithms(run.candidates),
        run_seed,
        list_declared(run.plan),
        tuple(_list_checks(run)),
        read_guessing(run),
        exploratory,
        faults,
    )
    views = [_view_stratum(run, stratum, run_seed, len(analysis.strata) > 1, picks) for stratum in analysis.strata]
    if run.kind == "search":
        views.sort(key=lambda view: (view.stratum.layers, view.patterns["connections"].min()))
    elif run.plan is not None:
        places = {(planned["layers"], planned["regime"]): place for place, planned in enumerate(run.plan["strata"])}
        views.sort(key=lambda view: places.get((view.stratum.layers, view.stratum.regime), -1))  # tuned ones first
    return Views(tuple(views), analysis.pooled, analysis.n_tests)


def compare_lengths(run: Run, run_seed: int) -> tuple[Fidelity, ...]:
    """Measure how well short runs agree with the long ones that a study's plan checks them by."""
    return tuple(
        fidelity
        for long_regime, short_regime in _list_checks(run).items()
        for fidelity in measure_fidelity(take_logarithms(run.candidates), short_regime, long_regime, run_seed)
    )


def _list_checks(run: Run) -> dict[str, str]:
    """Return each regime that only checks another -> the regime that it checks."""
    planned = run.plan["strata"] if run.plan else []
    return {stratum["regime"]: stratum["checks"] for stratum in planned if stratum["checks"] is not None}


def _view_stratum(run: Run, stratum: Stratum, run_seed: int, is_named: bool, picks: Sequence[Found]) -> View:
    table = run.candidates
    is_regime = table["regime"].isna() if stratum.regime is None else table["regime"] == stratum.regime
    is_own = (table["budget"] == stratum.budget) & (table["layers"] == stratum.layers) & is_regime
    candidates = table[is_own.fillna(False)]
    complete = candidates[candidates["state"] == "complete"]
    try:
        uniform = measure_uniform_reach(parse_budget(stratum.budget, stratum.layers), run_seed)
    except InputError:  # another program's word for its budget
        uniform = None
    patterns = sort_found(average_patterns(complete), picks)
    is_steered = is_seeded_by_outcomes(patterns)
    return View(
        name=f"{stratum.layers} layers, {stratum.regime or stratum.budget}" if is_named else "",
        stratum=stratum,
        patterns=patterns if is_steered else _level_outcomes(patterns),
        candidates=candidates,
        curves=run.curves[run.curves["number"].isin(candidates["number"])],
        is_planned=run.plan is not None,
        comparisons=() if is_steered else compare_templates(complete),
        levels=() if is_steered else measure_levels(complete),
        uniform=uniform,
        rivals=_compare_rivals(stratum, take_logarithms(complete), run_seed),
    )


def _compare_rivals(stratum: Stratum, complete: pd.DataFrame, run_seed: int) -> tuple[Rival, ...]:
    patterns = average_patterns(complete[complete["strategy"].isin(SAMPLED)])
    outcomes = list_outcomes(patterns)
    outcome = next((name for name in outcomes if patterns[name].notna().any()), outcomes[0])
    generator = derive_generator(run_seed, "rivals", stratum.budget, stratum.layers, stratum.regime or "")
    measures = [name for name in dict.fromkeys((*stratum.measures, *CONTROLS)) if name in patterns]
    return compare_rivals(patterns, outcome, generator, measures)


def is_seeded_by_outcomes(patterns: pd.DataFrame) -> bool:
    """Return whether a strategy chose what to train again, so that few patterns have all seeds, and the best ones."""
    return not patterns["strategy"].isin(UNSTEERED).all() and not bool(patterns["all_seeds"].all())


def _level_outcomes(patterns: pd.DataFrame) -> pd.DataFrame:
    levelled = {}
    for outcome in list_outcomes(patterns):
        full = patterns.loc[patterns["all_seeds"], outcome].mean()
        # Where a pattern lacks seeds, the level may come out where no outcome can be.
        level = (patterns[f"{outcome}_centred"] + full).clip(*range_of(outcome))
        levelled[outcome] = level.fillna(patterns[outcome])
    return patterns.assign(**levelled)


def summarise_view(view: View) -> dict[str, Any]:
    """Return a stratum's numbers, but for its patterns, as values for JSON."""
    return {
        "statistics": dataclasses.asdict(view.stratum),
        "is_learned": None if view.stratum.learning is None else view.stratum.learning.is_better,
        "uniform_reach": dataclasses.asdict(view.uniform) if view.uniform else None,
        "templates": [dataclasses.asdict(comparison) for comparison in view.comparisons],
        "proxies": [dataclasses.asdict(rival) for rival in view.rivals if rival.is_proxy],
        "levels": [dataclasses.asdict(level) for level in view.levels],
    }


def list_best(view: View) -> list[dict[str, Any]]:
    """Return the N_BEST best patterns of a stratum as values for JSON."""
    columns = ["key", "template", "strategy", "mean_bd", "max_bd", "span", "n_seeds", "all_seeds"]
    first, *others = list_shown(view.patterns)
    columns += [first, f"{first}_sd", *others, "sources"]
    rows = view.patterns[columns].head(N_BEST).to_dict("records")
    return [
        {**{str(name): value for name, value in row.items()}, "sources": json.loads(row["sources"])} for row in rows
    ]
