"""One stratum with the rows behind it."""

import dataclasses
import json
from dataclasses import dataclass
from typing import Any

import pandas as pd

from analysis.data.averages import average_patterns
from analysis.data.protocol import OUTCOMES
from analysis.data.results import Run
from analysis.stats.intervals import RANGES
from analysis.strengths.trends import Strengths, analyse_strengths
from analysis.study.levels import Comparison, Level, compare_templates, measure_levels
from analysis.study.reach import Reach, measure_uniform_reach
from analysis.study.stratum import Stratum
from search_spaces.budget import parse_budget
from search_spaces.errors import InputError
from search_spaces.seeds import derive_generator

N_BEST = 10


@dataclass(frozen=True, slots=True)
class View:
    """One stratum with the rows behind it.

    Args:
        name: as figures and headings call it; empty where the run has one stratum alone.
        patterns: rows of average_patterns, best first; outcomes levelled: each seed's own mean taken out, the
            stratum's put back, so that patterns trained at different seeds compare.
        candidates: rows of read_run, of every state.
        comparisons: templates and random sample by accuracy; levels: groups of patterns by the primary outcome.
        uniform: reach of uniform random sampling at its budget; None if the budget's text is not ours.
        strengths: of its trained connections; None where none were measured.
    """

    name: str
    stratum: Stratum
    patterns: pd.DataFrame
    candidates: pd.DataFrame
    comparisons: tuple[Comparison, ...]
    levels: tuple[Level, ...]
    uniform: Reach | None
    strengths: Strengths | None


def _view(run: Run, stratum: Stratum, run_seed: int, is_named: bool) -> View:
    table = run.candidates
    is_regime = table["regime"].isna() if stratum.regime is None else table["regime"] == stratum.regime
    chosen = (table["budget"] == stratum.budget) & (table["layers"] == stratum.layers) & is_regime
    candidates = table[chosen.fillna(False)]
    complete = candidates[candidates["state"] == "complete"]
    try:
        uniform = measure_uniform_reach(parse_budget(stratum.budget, stratum.layers), run_seed)
    except InputError:  # a foreign study's word for its budget
        uniform = None
    generator = derive_generator(run_seed, "strengths", stratum.budget, stratum.layers, stratum.regime or "")
    return View(
        name=name_stratum(stratum) if is_named else "",
        stratum=stratum,
        patterns=_level_outcomes(average_patterns(complete)),
        candidates=candidates,
        comparisons=compare_templates(complete),
        levels=measure_levels(complete),
        uniform=uniform,
        strengths=analyse_strengths(complete, run.strengths, generator),
    )


def name_stratum(stratum: Stratum) -> str:
    """What figures and headings call a stratum."""
    return f"{stratum.layers} layers, {stratum.regime or stratum.budget}"


def _level_outcomes(patterns: pd.DataFrame) -> pd.DataFrame:
    levelled = {}
    for outcome in OUTCOMES:
        full = patterns.loc[patterns["all_seeds"], outcome].mean()
        # Of a pattern that lacks seeds the level may come out where no outcome can be.
        level = (patterns[f"{outcome}_centred"] + full).clip(*RANGES[outcome])
        levelled[outcome] = level.fillna(patterns[outcome])
    return patterns.assign(**levelled)


def _summarise_view(view: View) -> dict[str, Any]:
    columns = ["key", "template", "strategy", "mean_bd", "max_bd", "span", "n_seeds", "all_seeds"]
    columns += ["validation_accuracy", "validation_accuracy_sd", "validation_loss", "sources"]
    best = view.patterns[columns].head(N_BEST).to_dict("records")
    return {
        "statistics": dataclasses.asdict(view.stratum),
        "is_learned": None if view.stratum.learning is None else view.stratum.learning.is_better,
        "uniform_reach": dataclasses.asdict(view.uniform) if view.uniform else None,
        "templates": [dataclasses.asdict(one) for one in view.comparisons],
        "levels": [dataclasses.asdict(one) for one in view.levels],
        "strength_trends": [{**dataclasses.asdict(one), "status": one.status} for one in view.strengths.trends]
        if view.strengths
        else None,
        "best_patterns": [{**row, "sources": json.loads(row["sources"])} for row in best],
    }
