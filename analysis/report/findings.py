"""All values that a report shows, each computed once by its own finding."""

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from analysis.comparisons.accuracy import Final, measure_final
from analysis.data.adherence import Adherence, check_adherence
from analysis.data.results import Run
from analysis.exits.anytime import Exits, analyse_exits, summarise_exits
from analysis.picks.found import Found, judge_search
from analysis.picks.order import summarise_found, summarise_status
from analysis.segmentation.answers import Segmentation, analyse_segmentation, summarise_segmentation
from analysis.stats.guessing import read_guessing
from analysis.stats.reliability import Fidelity
from analysis.strengths.trends import ConnectionStrengths, analyse_strengths, summarise_trends
from analysis.study.verdict import Verdict, summarise_verdicts
from analysis.study.view import View, compare_lengths, list_best, summarise_view, view_strata
from analysis.tradeoff.points import Tradeoff, measure_tradeoffs
from analysis.tuning.rates import list_exploratory
from analysis.tuning.tuned import Tuning, add_tuned, analyse_tunings, summarise_tuning
from analysis.verdict.pooled import Pooled
from nas.records.database import COMMANDS
from nas.records.shown import name_program, quote
from search_spaces.errors import NothingUsableError
from search_spaces.seeds import derive_generator


@dataclass(frozen=True, slots=True)
class Findings:
    """What the report of a search or a study puts in order.

    Args:
        views: strata in the report's order; at least one.
        pooled: what all strata say together of each declared measure; empty for a single one.
        strengths: connection strengths of each view's stratum; None where none were measured.
        exits: what the exits of each view's networks give; None where they have only one.
        segmentations: what the networks of each view's stratum answered; None where they segment no images.
        adherence: how a study kept to its plan; None for a search.
        fidelity: agreement of short with long runs, where a study checked it.
        tunings: one for each depth at which a study tuned the learning rate.
        tradeoffs: one for each depth that was searched at several budgets.
        final: what was measured on the test images, where they were looked at.
        picks: what a search found at each depth and budget; empty for a study.
    """

    run: Run
    status: dict[str, Any]
    verdict: Verdict
    views: tuple[View, ...]
    pooled: tuple[Pooled, ...]
    strengths: tuple[ConnectionStrengths | None, ...]
    exits: tuple[Exits | None, ...]
    segmentations: tuple[Segmentation | None, ...]
    adherence: Adherence | None
    fidelity: tuple[Fidelity, ...]
    tunings: tuple[Tuning, ...]
    tradeoffs: tuple[Tradeoff, ...]
    final: Final | None
    picks: tuple[Found, ...]


def find(run: Run) -> Findings:
    """Compute what the report of a search or a study shows.

    Raises:
        NothingUsableError: no candidate is complete.
    """
    picks = judge_search(run)
    status = summarise_status(run, picks)
    seed = run.config.get("seed")
    run_seed = seed if isinstance(seed, int) else 0
    tunings = analyse_tunings(run, run_seed)
    exploratory = list_exploratory(run)
    faults: dict[tuple[int, str | None], str] = {
        (each.layers, each.regime): each.fault for tuning in tunings for each in tuning.far
    }
    views = view_strata(add_tuned(run), run_seed, exploratory, faults, picks) if status["complete"] else None
    if views is None or not views.strata:
        raise NothingUsableError(_explain_nothing(run, status))
    declared = [view for view in views.strata if not view.stratum.is_exploratory] or views.strata
    return Findings(
        run=run,
        status=status,
        verdict=summarise_verdicts(
            {view.stratum.name: view.stratum.verdict for view in declared}, next(iter(views.pooled), None)
        ),
        views=views.strata,
        pooled=views.pooled,
        strengths=tuple(_analyse_strengths(run, view, run_seed, picks) for view in views.strata),
        exits=tuple(analyse_exits(view.candidates, run.details, picks) for view in views.strata),
        segmentations=tuple(analyse_segmentation(run, view.candidates, picks) for view in views.strata),
        adherence=check_adherence(run) if run.kind == "study" else None,
        fidelity=compare_lengths(run, run_seed),
        tunings=tunings,
        tradeoffs=measure_tradeoffs(run.candidates, read_guessing(run), picks) if run.kind == "search" else (),
        final=measure_final(run),
        picks=picks,
    )


def _analyse_strengths(run: Run, view: View, run_seed: int, picks: Sequence[Found]) -> ConnectionStrengths | None:
    stratum = view.stratum
    generator = derive_generator(run_seed, "strengths", stratum.budget, stratum.layers, stratum.regime or "")
    return analyse_strengths(view.candidates, run.strengths, generator, picks)


def _explain_nothing(run: Run, status: dict[str, Any]) -> str:
    failed = run.candidates.loc[run.candidates["state"] == "failed", ["number", "error"]].head(3)
    reasons = "; ".join(f"trial {n}: {e}" for n, e in zip(failed["number"], failed["error"], strict=True))
    return (
        f"no candidate of {run.path} is complete ({status['failed']} failed, {status['running']} running, "
        f"{status['pruned']} pruned), so there is nothing to report"
        + (
            f"; first reasons: {reasons}"
            if reasons
            else f"; `{name_program()} {COMMANDS[run.kind]} --run {quote(run.path)}` continues it"
        )
    )


def summarise(findings: Findings) -> dict[str, Any]:
    """Return the report's numbers as JSON values: finite or null."""
    summary = {
        "status": findings.status,
        "verdict": dataclasses.asdict(findings.verdict),
        "pooled": [dataclasses.asdict(each) for each in findings.pooled],
        "strata": [
            {
                **summarise_view(view),
                "strength_trends": summarise_trends(strengths),
                "best_patterns": list_best(view),
                **({} if segmentation is None else {"segmentation": summarise_segmentation(segmentation)}),
                **({} if exits is None else {"exits": summarise_exits(exits)}),
            }
            for view, strengths, segmentation, exits in zip(
                findings.views, findings.strengths, findings.segmentations, findings.exits, strict=True
            )
        ],
        "adherence": dataclasses.asdict(findings.adherence) if findings.adherence else None,
        "fidelity": [dataclasses.asdict(each) for each in findings.fidelity],
        "tunings": [summarise_tuning(tuning) for tuning in findings.tunings],
        "tradeoffs": [dataclasses.asdict(tradeoff) for tradeoff in findings.tradeoffs],
        "final": dataclasses.asdict(findings.final) if findings.final else None,
        "picks": [summarise_found(found) for found in findings.picks],
        "config": findings.run.config,
        "environment": findings.run.environment,
        "data": findings.run.data,
        "guessing": dataclasses.asdict(read_guessing(findings.run)),
    }
    clean: dict[str, Any] = _clean(summary)
    return clean


def _clean(value: Any) -> Any:
    """Return a value made of JSON's types; what is missing or not finite becomes None."""
    if isinstance(value, dict):
        return {str(name): _clean(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_clean(inner) for inner in value]
    if value is None or value is pd.NA or (isinstance(value, float) and not math.isfinite(value)):
        return None
    return value if isinstance(value, str | bool | int | float) else str(value)
