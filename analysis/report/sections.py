"""findings -> the report's sections, as a document."""

from collections.abc import Iterator

import pandas as pd

from analysis.comparisons.final import build_final
from analysis.page.captions import describe_data
from analysis.page.document import Block, Heading, Paragraph, Table
from analysis.page.provenance import build_provenance
from analysis.page.wording import (
    NONE,
    capitalise,
    enumerate_words,
    format_interval,
    format_p,
    format_percent,
    format_signed,
    format_value,
    name_budgets,
    name_pattern,
)
from analysis.report.findings import Findings
from analysis.report.overview import build_overview, build_plan
from analysis.stats.guessing import describe_guessing, read_guessing
from analysis.stats.inference import Primary
from analysis.strengths.section import build_strengths
from analysis.study.sections import build_stratum
from analysis.study.verdict import NOT_LEARNED
from analysis.study.view import View
from analysis.tradeoff.section import build_tradeoff

N_FAILURES = 20


def build_blocks(findings: Findings) -> Iterator[Block]:
    """Everything the report says, in order: the answer first."""
    yield Heading(1, title(findings))
    yield from _notices(findings)
    # A search at several budgets answers another question; without a sample it has nothing to say of this one.
    is_asked = not findings.tradeoffs or any(
        view.stratum.primary or view.stratum.verdict.status == NOT_LEARNED for view in findings.views
    )
    yield Paragraph(capitalise(findings.verdict.sentence) + ".", kind="answer" if is_asked else "plain")
    yield from _headline(findings, is_asked)
    if findings.final is not None:
        yield from build_final(findings.final)
    for tradeoff in findings.tradeoffs:
        yield from build_tradeoff(findings, tradeoff)
    if len(findings.views) > 1:
        yield from build_overview(findings)
    for view in findings.views:
        yield from build_stratum(findings, view)
        yield from build_strengths(findings, view)
    if findings.adherence is not None:
        yield Heading(2, "Planned and done")
        yield from build_plan(findings)
    if findings.status["failed"]:
        yield Heading(2, "Failures")
        yield from _failure_section(findings.candidates)
    yield Heading(2, "Provenance, and how to do it again")
    yield from build_provenance(findings.run, findings.status)


def title(findings: Findings) -> str:
    """The report's heading."""
    strata = [view.stratum for view in findings.views]
    depths = enumerate_words([*map(str, dict.fromkeys(one.layers for one in strata))])
    return f"Skip connections of {depths} layers, {name_budgets([one.budget for one in strata])}"


def _notices(findings: Findings) -> Iterator[Block]:
    status = findings.status
    n_left = (status["asked"] or 0) - sum(status[state] for state in ("complete", "failed", "pruned", "running"))
    missing = [f"{status[state]} {state}" for state in ("failed", "running") if status[state]]
    missing += [f"{n_left} not begun"] if n_left > 0 else []
    if missing:
        asked = f" of {status['asked']} asked for" if status["asked"] else ""
        yield Paragraph(
            f"Incomplete: {status['complete']} candidates{asked} are complete ({', '.join(missing)}). What follows "
            "rests on the complete ones alone.", kind="notice",
        )  # fmt: skip
    if status["pruned"]:
        yield Paragraph(
            f"Halving dropped {status['pruned']} candidates early: the proposed patterns that are left were picked by "
            "their accuracy, and are no random sample.", kind="notice",
        )  # fmt: skip
    if findings.adherence is not None and findings.adherence.deviations:
        told = "; ".join(findings.adherence.deviations)
        yield Paragraph(f"Not as planned: {told}.", kind="notice")
    strata = [view.stratum for view in findings.views]
    if findings.adherence is None and len(strata) > 1:
        told = (
            f"This run mixes {len(strata)} strata, which never compare with one another: each has its own part."
            if not findings.tradeoffs
            else f"This run has {len(strata)} budgets, whose networks differ in cost. What distance has to do with the "
            "outcome is asked inside each budget alone; accuracy against cost has a part of its own."
        )
        yield Paragraph(told, kind="notice")
    for view in findings.views:
        params = view.patterns["params"].dropna()
        if len(params) and params.min() < params.max():
            of = f" of {view.name}" if view.name else ""
            yield Paragraph(
                f"The networks{of} differ in cost, {params.min():,} to {params.max():,} parameters: a difference in "
                "accuracy may be one of size. With stem and transitions of growth channels all would cost the same.",
                kind="notice",
            )


def _headline(findings: Findings, is_asked: bool) -> Iterator[Block]:
    if len(findings.views) > 1 and is_asked:
        header = (
            "stratum", "verdict", "partial rho", "95 % interval", "p (Holm)", "noise ceiling",
            "patterns x seeds",
        )  # fmt: skip
        yield Table(header, tuple(map(_verdict_row, findings.views)))
        yield Paragraph(
            "A positive rho, given span and its square, says that a shorter distance goes with a lower validation "
            "loss. Each stratum stands for itself; p is adjusted over the primary tests of all of them. The noise "
            "ceiling is what a perfect predictor would reach at these seeds: a relation shows no further than that."
        )
    yield Paragraph(f"Trained: {describe_data(findings)}.")
    if guessing := describe_guessing(read_guessing(findings.run)):
        yield Paragraph(capitalise(guessing) + ".")
    if findings.run.plan is not None:
        regimes = {stratum["regime"]: stratum["training"] for stratum in findings.run.plan["strata"]}
        told = [
            f"{name}: {one['epochs']} epochs, learning rate {one['lr']:g}, batches of {one['batch_size']}, weight "
            f"decay {one['weight_decay']:g}"
            for name, one in regimes.items()
        ]
        yield Paragraph(f"Regimes: {'; '.join(told)}.")
    environment = findings.run.environment
    told = [f"{name} {environment[name]}" for name in ("python", "torch", "optuna", "commit") if environment.get(name)]
    if told:
        yield Paragraph(f"Versions: {', '.join(told)}.")
    if len(findings.views) == 1:
        view = findings.views[0]
        best = view.patterns.iloc[0]
        seeds = f"{best['n_seeds']} seed{'s' if best['n_seeds'] > 1 else ''}"
        yield Paragraph(
            f"Best pattern by mean validation accuracy: {name_pattern(best)}, mean backprop distance "
            f"{best['mean_bd']:.3f}, accuracy {format_percent(best, 'validation_accuracy')} % over {seeds}. The best "
            f"of {len(view.patterns)} was picked by this number, so expect less of it on new data."
        )


def _verdict_row(view: View) -> tuple[str, ...]:
    stratum = view.stratum
    size = f"{stratum.n_patterns} x {stratum.n_seeds}"
    primary: Primary | None = stratum.primary
    if primary is None or primary.partial.value is None:
        return (view.name, stratum.verdict.words, NONE, NONE, NONE, NONE, size)
    partial, p_holm = primary.partial, primary.test("distance").p_holm
    ceiling = stratum.ceiling(primary.outcome)
    return (
        view.name,
        stratum.verdict.words,
        format_signed(partial.value),
        format_interval(partial.low, partial.high),
        format_p(p_holm),
        NONE if ceiling is None else f"{ceiling:.2f}",
        size,
    )


def _failure_section(candidates: pd.DataFrame) -> Iterator[Block]:
    failed = candidates[candidates["state"] == "failed"]
    header = ("candidate", "state", "pattern", "seed", "reason")
    columns = ("number", "state", "key", "seed", "error")
    rows = []
    for _, row in failed.head(N_FAILURES).iterrows():
        cells = {name: format_value(row[name]) for name in columns} | {"key": name_pattern(row)}
        rows.append(tuple(cells[name] for name in columns))
    yield Table(header, tuple(rows))
    if len(failed) > N_FAILURES:
        yield Paragraph(f"And {len(failed) - N_FAILURES} more: see candidates.csv.")
