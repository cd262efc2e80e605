"""run -> all that its report says, computed once."""

import dataclasses
import json
import math
from dataclasses import dataclass
from typing import Any

import pandas as pd

from analysis.comparison import Comparison, compare_templates
from analysis.reach import Reach, measure_uniform_reach
from analysis.results import Run, average_patterns, summarise_status
from analysis.statistics import Stratum, analyse_candidates
from search_spaces.budget import parse_budget
from search_spaces.errors import InputError, NothingUsableError

N_BEST = 10


@dataclass(frozen=True, slots=True)
class Findings:
    """All that a report says, computed once.

    Args:
        patterns, comparisons: of the first of strata, best first; the sections show that one.
        uniform: reach of uniform random sampling at its budget; None if the budget's text is not ours.
    """

    run: Run
    status: dict[str, Any]
    strata: tuple[Stratum, ...]
    patterns: pd.DataFrame
    candidates: pd.DataFrame
    comparisons: tuple[Comparison, ...]
    uniform: Reach | None


def find(run: Run) -> Findings:
    """Compute what the report of a run says.

    Raises:
        NothingUsableError: no candidate is complete.
    """
    status = summarise_status(run)
    complete = run.candidates[run.candidates["state"] == "complete"]
    if complete.empty:
        raise NothingUsableError(_explain_nothing(run, status))
    run_seed = run.config.get("seed")
    run_seed = run_seed if isinstance(run_seed, int) else 0
    strata = analyse_candidates(run.candidates, run_seed)
    budget, layers = strata[0].budget, strata[0].layers
    chosen = (run.candidates["budget"] == budget) & (run.candidates["layers"] == layers)
    candidates = run.candidates[chosen.fillna(False)]
    complete = candidates[candidates["state"] == "complete"]
    try:
        uniform = measure_uniform_reach(parse_budget(budget, layers), run_seed)
    except InputError:  # a foreign study's word for its budget
        uniform = None
    comparisons = compare_templates(complete)
    return Findings(run, status, strata, average_patterns(complete), candidates, comparisons, uniform)


def _explain_nothing(run: Run, status: dict[str, Any]) -> str:
    reasons = run.candidates.loc[run.candidates["state"] == "failed", ["number", "error"]].head(3)
    told = "; ".join(f"trial {n}: {e}" for n, e in zip(reasons["number"], reasons["error"], strict=True))
    return (
        f"no candidate of {run.path} is complete ({status['failed']} failed, {status['running']} running, "
        f"{status['pruned']} pruned), so there is nothing to report"
        + (f"; first reasons: {told}" if told else f"; `search --run {run.path}` goes on with it")
    )


def summarise(findings: Findings) -> dict[str, Any]:
    """The report's numbers as JSON values: finite or null."""
    columns = ["key", "template", "strategy", "mean_bd", "max_bd", "span", "n_seeds", "all_seeds"]
    columns += ["validation_accuracy", "validation_accuracy_sd", "validation_loss", "sources"]
    best = findings.patterns[columns].head(N_BEST).to_dict("records")
    summary = {
        "status": findings.status,
        "statistics": [dataclasses.asdict(stratum) for stratum in findings.strata],
        "uniform_reach": dataclasses.asdict(findings.uniform) if findings.uniform else None,
        "templates": [dataclasses.asdict(one) for one in findings.comparisons],
        "best_patterns": [{**row, "sources": json.loads(row["sources"])} for row in best],
        "config": findings.run.config,
        "environment": findings.run.environment,
        "data": findings.run.data,
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
