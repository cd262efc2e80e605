"""What a report says of a study's plan: planned against done, and by which rules it was judged."""

from collections.abc import Iterator
from typing import Any

from analysis.data.adherence import Adherence, Progress
from analysis.data.protocol import list_rules
from analysis.page.document import Block, Fold, Heading, Link, Paragraph, Table
from analysis.page.wording import name_measure
from analysis.study.verdict import IN_WORDS
from nas.records.metrics import IMAGE_METRICS, Metrics
from nas.records.plan import list_crossings

CHECKLIST_LINK = Link("the checklist for studies of architecture search", "checklist.md")


def build_plan(adherence: Adherence, plan: dict[str, Any], metrics: Metrics = IMAGE_METRICS) -> Iterator[Block]:
    """Show what was planned and done, and by which rules it was judged: those for the metrics of the task."""
    yield Heading(2, "Planned and done")
    outcome = "departed from its plan, as said above" if adherence.deviations else "kept to its plan"
    so_far = f" so far; {adherence.n_missing} trainings are still to come" if adherence.n_missing else ""
    yield Paragraph(
        f"The plan, its hypotheses and its tests were laid out in plan.json and hashed before the first training "
        f"(SHA-256 {adherence.sha256}); the run {outcome}{so_far}."
    )
    yield Paragraph("What such a study should report, and where this one does:", link=CHECKLIST_LINK)
    header = (
        "stratum", "trainings done", "failed", "patterns done", "cells without any training", "patterns not found"
    )  # fmt: skip
    done = sum(progress.complete for progress in adherence.progress)
    planned = sum(progress.planned for progress in adherence.progress)
    crossings = [
        Paragraph(
            f"{crossing.layers} layers: {crossing.describe(name_measure)}. Every pattern was to be trained with every "
            "seed, in an order shuffled within each seed."
        )
        for crossing in list_crossings(plan)
    ]
    progress = Table(header, tuple(map(_format_progress, adherence.progress)))
    yield Fold(f"What was laid out and trained: {done} of {planned} trainings", (progress, *crossings))
    hypotheses = plan["protocol"]["hypotheses"]
    yield Fold(f"The hypotheses ({len(hypotheses)})", (Paragraph(f"{'; '.join(hypotheses)}."),))
    rules = "; ".join(f"{IN_WORDS[status]}: {rule}" for status, rule in list_rules(metrics).items())
    rules = f"The verdict is the first of these whose rule holds. {rules[:1].upper()}{rules[1:]}."
    yield Fold("The rules of the verdict", (Paragraph(rules),))


def _format_progress(progress: Progress) -> tuple[str, ...]:
    checks = f" (checks {progress.checks})" if progress.checks else ""
    return (
        f"{progress.layers} layers, {progress.regime}{checks}",
        f"{progress.complete} of {progress.planned}",
        str(progress.failed),
        f"{progress.complete_patterns} of {progress.planned_patterns}",
        str(len(progress.missing_cells)),
        str(sum(missing.n for missing in progress.lacking_cells)),
    )
