"""run -> all that its report says, computed once."""

import dataclasses
import math
from dataclasses import dataclass
from typing import Any

import pandas as pd

from analysis.comparisons.accuracy import Final, measure_final
from analysis.data.adherence import Adherence, check_adherence
from analysis.data.averages import summarise_status
from analysis.data.results import Run
from analysis.stats.guessing import read_guessing
from analysis.stats.reliability import Fidelity, measure_fidelity
from analysis.study.stratum import analyse_candidates
from analysis.study.verdict import Verdict, summarise_verdicts
from analysis.study.view import View, _summarise_view, _view
from analysis.tradeoff.points import Tradeoff, measure_tradeoffs
from nas.records.database import COMMANDS
from nas.records.shown import quote
from search_spaces.errors import NothingUsableError


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
    if run.kind == "search":
        views = tuple(sorted(views, key=lambda view: (view.stratum.layers, view.patterns["connections"].min())))
    adherence = check_adherence(run) if run.kind == "study" else None
    verdict = summarise_verdicts([view.stratum for view in views])
    tradeoffs = measure_tradeoffs(run.candidates, guessing) if run.kind == "search" else ()
    return Findings(run, status, verdict, views, adherence, tuple(fidelity), tradeoffs, measure_final(run))


def _explain_nothing(run: Run, status: dict[str, Any]) -> str:
    reasons = run.candidates.loc[run.candidates["state"] == "failed", ["number", "error"]].head(3)
    told = "; ".join(f"trial {n}: {e}" for n, e in zip(reasons["number"], reasons["error"], strict=True))
    return (
        f"no candidate of {run.path} is complete ({status['failed']} failed, {status['running']} running, "
        f"{status['pruned']} pruned), so there is nothing to report"
        + (f"; first reasons: {told}" if told else f"; `{COMMANDS[run.kind]} --run {quote(run.path)}` goes on with it")
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


def _clean(value: Any) -> Any:
    """Lists, dicts and plain values alone; what is missing or not finite becomes None."""
    if isinstance(value, dict):
        return {str(name): _clean(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_clean(inner) for inner in value]
    if value is None or value is pd.NA or (isinstance(value, float) and not math.isfinite(value)):
        return None
    return value if isinstance(value, str | bool | int | float) else str(value)
