"""run -> all that its report says, computed once."""

import dataclasses
import json
import math
from dataclasses import dataclass
from typing import Any

import pandas as pd

from analysis.adherence import Adherence, check_adherence
from analysis.averages import average_patterns, summarise_status
from analysis.comparison import Comparison, compare_templates
from analysis.final import Final, measure_final
from analysis.guessing import read_guessing
from analysis.intervals import RANGES
from analysis.levels import Level, measure_levels
from analysis.protocol import OUTCOMES
from analysis.reach import Reach, measure_uniform_reach
from analysis.reliability import Fidelity, measure_fidelity
from analysis.results import Run
from analysis.statistics import Stratum, analyse_candidates
from analysis.strengths import Strengths, analyse_strengths
from analysis.tradeoff import Tradeoff, measure_tradeoffs
from analysis.verdict import Verdict, summarise_verdicts
from search_spaces.budget import parse_budget
from search_spaces.errors import InputError, NothingUsableError
from search_spaces.sampling import derive_generator
from search_spaces.shown import quote

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


@dataclass(frozen=True, slots=True)
class Findings:
    """All that a report says, computed once.

    Args:
        verdict: over all strata.
        views: one a stratum; a study's in the plan's order, others by layers and connections; at least one.
        adherence: of a study to its plan; None for a search.
        fidelity: agreement of short with long runs, where a study checked it.
        tradeoffs: accuracy against connections, one a depth that was searched at several budgets.
        final: what was measured on the test images, where they were looked at.
    """

    run: Run
    status: dict[str, Any]
    verdict: Verdict
    views: tuple[View, ...]
    adherence: Adherence | None
    fidelity: tuple[Fidelity, ...]
    tradeoffs: tuple[Tradeoff, ...]
    final: Final | None

    @property
    def candidates(self) -> pd.DataFrame:
        """Of all states and strata."""
        return self.run.candidates


def find(run: Run) -> Findings:
    """Compute what the report of a run says.

    Raises:
        NothingUsableError: no candidate is complete.
    """
    status = summarise_status(run)
    if not status["complete"]:
        raise NothingUsableError(_explain_nothing(run, status))
    run_seed = run.config.get("seed")
    run_seed = run_seed if isinstance(run_seed, int) else 0
    planned = run.plan["strata"] if run.plan else []
    checks = {one["regime"]: one["checks"] for one in planned if one["checks"] is not None}
    distance = run.plan["cells"][0]["distance"] if run.plan and run.plan["cells"] else "mean_bd"
    guessing = read_guessing(run)
    strata = analyse_candidates(run.candidates, run_seed, distance, tuple(checks), guessing)
    if not strata:
        raise NothingUsableError(_explain_nothing(run, status))
    fidelity = [
        one
        for long_regime, short_regime in checks.items()
        for one in measure_fidelity(run.candidates, short_regime, long_regime, run_seed)
    ]
    places = {(one["layers"], one["regime"]): place for place, one in enumerate(planned)}
    strata = tuple(sorted(strata, key=lambda one: places.get((one.layers, one.regime), len(places))))
    views = tuple(_view(run, stratum, run_seed, len(strata) > 1) for stratum in strata)
    if run.plan is None:
        views = tuple(sorted(views, key=lambda view: (view.stratum.layers, view.patterns["connections"].min())))
    adherence = check_adherence(run) if run.plan else None
    verdict = summarise_verdicts([view.stratum for view in views])
    tradeoffs = measure_tradeoffs(run.candidates, guessing) if run.plan is None else ()
    return Findings(run, status, verdict, views, adherence, tuple(fidelity), tradeoffs, measure_final(run))


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


def _explain_nothing(run: Run, status: dict[str, Any]) -> str:
    reasons = run.candidates.loc[run.candidates["state"] == "failed", ["number", "error"]].head(3)
    told = "; ".join(f"trial {n}: {e}" for n, e in zip(reasons["number"], reasons["error"], strict=True))
    command = "study" if run.plan else "search"
    return (
        f"no candidate of {run.path} is complete ({status['failed']} failed, {status['running']} running, "
        f"{status['pruned']} pruned), so there is nothing to report"
        + (f"; first reasons: {told}" if told else f"; `{command} --run {quote(run.path)}` goes on with it")
    )


def summarise(findings: Findings) -> dict[str, Any]:
    """The report's numbers as JSON values: finite or null."""
    summary = {
        "status": findings.status,
        "verdict": dataclasses.asdict(findings.verdict),
        "strata": [_summarise_view(view) for view in findings.views],
        "adherence": dataclasses.asdict(findings.adherence) if findings.adherence else None,
        "fidelity": [dataclasses.asdict(one) for one in findings.fidelity],
        "tradeoffs": [dataclasses.asdict(one) for one in findings.tradeoffs],
        "final": dataclasses.asdict(findings.final) if findings.final else None,
        "config": findings.run.config,
        "environment": findings.run.environment,
        "data": findings.run.data,
        "guessing": dataclasses.asdict(read_guessing(findings.run)),
    }
    clean: dict[str, Any] = _clean(summary)
    return clean


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


def _clean(value: Any) -> Any:
    """Lists, dicts and plain values alone; what is missing or not finite becomes None."""
    if isinstance(value, dict):
        return {str(name): _clean(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_clean(inner) for inner in value]
    if value is None or value is pd.NA or (isinstance(value, float) and not math.isfinite(value)):
        return None
    return value if isinstance(value, str | bool | int | float) else str(value)
