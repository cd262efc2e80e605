"""The report's sections in their order: the answer first."""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import pandas as pd

from analysis.comparisons.final import build_final
from analysis.data.adherence import Adherence
from analysis.data.outcomes import is_of_images
from analysis.data.protocol import VERSION
from analysis.data.results import Run
from analysis.exits.section import build_exits
from analysis.page.captions import describe_data
from analysis.page.document import Block, Fold, Heading, Paragraph, Table
from analysis.page.provenance import build_provenance
from analysis.page.wording import (
    capitalise,
    count_nouns,
    enumerate_words,
    format_value,
    name_budgets,
    name_pattern,
)
from analysis.picks.section import build_picks
from analysis.report.conclusion import Conclusion
from analysis.report.findings import Findings
from analysis.report.head import build_head, draw_head, explain_head
from analysis.report.planned import build_plan
from analysis.segmentation.section import build_segmentation
from analysis.stats.guessing import describe_guessing, read_guessing
from analysis.strengths.section import build_strengths
from analysis.study.overview import (
    build_fidelity,
    build_verdicts,
    fold_effects,
    fold_pooled,
)
from analysis.study.sections import build_stratum
from analysis.study.view import View
from analysis.tradeoff.section import build_tradeoff
from analysis.tuning.section import build_tuning

N_FAILURES = 20

INNER_PATHS = frozenset({"highway"})  # kinds of surroundings whose layers have an identity path of their own


def build_blocks(findings: Findings, conclusion: Conclusion) -> Iterator[Block]:
    """Put the sections of a search or a study in order; a note on how to read something comes only once."""
    yield from _drop_repeated(_build_all(findings, conclusion), set())


def _drop_repeated(blocks: Iterable[Block], said: set[str]) -> Iterator[Block]:
    for block in blocks:
        if isinstance(block, Paragraph) and block.kind == "note":
            if block.text in said:
                continue
            said.add(block.text)
        yield replace(block, blocks=tuple(_drop_repeated(block.blocks, said))) if isinstance(block, Fold) else block


def _build_all(findings: Findings, conclusion: Conclusion) -> Iterator[Block]:
    """Build the sections; each takes the value that it shows."""
    run, views, tradeoffs = findings.run, findings.views, findings.tradeoffs
    declared = [view for view in views if not view.stratum.is_exploratory] or views
    caption = describe_data(run, pd.concat([view.patterns for view in declared]))
    yield Heading(1, _title(views))
    yield from _list_cuts(findings.status, findings.adherence)
    yield from _list_costs(views, run.config)
    yield from _list_inner_paths(run.config)
    yield from build_head(conclusion, draw_head(findings), explain_head(findings, declared))
    if findings.final is not None:
        yield from build_final(findings.final)
    strategies = run.candidates["strategy"].dropna().unique().tolist()
    for number, tradeoff in enumerate(tradeoffs):
        part = f"{tradeoff.layers} layers" if len(tradeoffs) > 1 else ""
        yield from build_tradeoff(tradeoff, caption, part, strategies, is_in_head=number == 0)
    yield from build_picks(findings.picks, caption, run.table)
    if len(views) > 1:
        yield from _build_together(findings, declared)
    for number, tuning in enumerate(findings.tunings):
        part = f"{tuning.best.rates.layers} layers" if len(findings.tunings) > 1 else ""
        yield from build_tuning(tuning, describe_data(run, tuning.patterns), part, is_first=number == 0)
    yield from _build_strata(findings, declared, [conclusion.sentence, *conclusion.numbers])
    if findings.adherence is not None and run.plan is not None:
        yield from build_plan(findings.adherence, run.plan, run.metrics)
    if findings.status["failed"]:
        yield from _list_failures(run.candidates)
    yield Heading(2, "Provenance, and how to do it again")
    yield from _describe_trainings(run, caption)
    yield from build_provenance(run, findings.status)


def _build_together(findings: Findings, declared: Sequence[View]) -> Iterator[Block]:
    """Show what all strata say together, where they were asked the same."""
    is_asked = any(
        judgement.effects or judgement.status == "not_trained"
        for view in findings.views
        for judgement in view.stratum.judgements
    )
    if findings.run.kind == "study" or (is_asked and not findings.tradeoffs):
        yield Heading(2, "All settings together")
        yield from build_verdicts(findings.views, findings.pooled)
        yield from fold_pooled(findings.pooled)
        yield from fold_effects(declared)
    yield from build_fidelity(findings.fidelity)


def _build_strata(findings: Findings, declared: Sequence[View], said: Collection[str]) -> Iterator[Block]:
    """Show each declared stratum; the tables and figures of all settings have the others."""
    is_first = True
    measured = zip(findings.strengths, findings.segmentations, findings.exits, strict=True)
    for view, (strengths, segmentation, exits) in zip(findings.views, measured, strict=True):
        if not any(view is each for each in declared):
            continue
        fault = f", {view.stratum.fault}" if view.stratum.fault else ""
        caption = describe_data(findings.run, view.patterns) + fault
        yield from build_stratum(view, caption, said, is_first=is_first)
        if exits is not None:
            yield from build_exits(exits, describe_data(findings.run, exits.shown), view.name)
        if segmentation is not None:
            own = describe_data(findings.run, segmentation.shown)
            yield from build_segmentation(segmentation, own, view.name, has_pictures=is_first)
        if strengths is not None:
            own = describe_data(findings.run, strengths.shown)
            is_planned = findings.run.kind == "study"
            yield from build_strengths(strengths, own, view.name, is_planned, has_arcs=is_first)
        is_first = False


def _title(views: Sequence[View]) -> str:
    depths = enumerate_words([*map(str, dict.fromkeys(view.stratum.layers for view in views))])
    return f"Skip connections of {depths} layers, {name_budgets([view.stratum.budget for view in views])}"


def _list_cuts(status: dict[str, Any], adherence: Adherence | None) -> Iterator[Block]:
    """Say first what is missing from the run, and where it departed from its plan."""
    n_left = (status["asked"] or 0) - sum(status[state] for state in ("complete", "failed", "pruned", "running"))
    missing = [f"{status[state]} {state}" for state in ("failed", "running") if status[state]]
    missing += [f"{n_left} not begun"] if n_left > 0 else []
    if missing:
        asked = f" of {status['asked']} asked for" if status["asked"] else ""
        yield Paragraph(
            f"Incomplete: {status['complete']} candidates{asked} are complete ({', '.join(missing)}). What follows "
            "rests only on the complete ones.", kind="notice",
        )  # fmt: skip
    if status["pruned"]:
        yield Paragraph(
            f"Halving dropped {status['pruned']} candidates early: the proposed patterns that are left were picked by "
            "their outcomes, and are no random sample.", kind="notice",
        )  # fmt: skip
    if adherence is not None and adherence.version < VERSION:
        yield Paragraph(
            f"Planned under earlier rules (protocol {adherence.version}) and judged by the present ones (protocol "
            f"{VERSION}): all that follows is exploratory.", kind="notice",
        )  # fmt: skip
    if adherence is not None and adherence.deviations:
        yield Paragraph(f"Not as planned: {'; '.join(adherence.deviations)}.", kind="notice")


def _list_inner_paths(config: Mapping[str, Any]) -> Iterator[Block]:
    """Say where a layer has an identity path of its own, which distances in layers do not know."""
    if (config.get("surroundings") or {}).get("kind") in INNER_PATHS:
        yield Paragraph(
            "Each layer of this network passes on what it reads, next to what it makes of it. So the gradient may "
            "cross many layers along the chain at once: the distances below count layers, and are not its distances.",
            kind="notice",
        )


def _list_costs(views: Sequence[View], config: Mapping[str, Any]) -> Iterator[Block]:
    """Say where the networks of a stratum do not compare, because they differ in cost."""
    # Surroundings and exits cost what single layers read, whatever the widths.
    is_plain = config.get("surroundings") is None and config.get("exits", "last") == "last"
    for view in views:
        params = view.patterns["params"].dropna()
        of = f" of {view.name}" if view.name else ""
        if params.empty and not is_of_images(view.patterns):
            yield Paragraph(
                f"What the networks{of} cost is not known to this program, so a difference in outcome may be one of "
                "size.", kind="notice",
            )  # fmt: skip
        elif sizes := _list_sizes(view.patterns):
            outcome, way_out = "outcome", ""
            if is_of_images(view.patterns):
                outcome = "accuracy"
                way_out = (
                    " With stem and transitions as wide as the growth, all would cost as much." if is_plain else ""
                )
            yield Paragraph(
                f"The networks{of} differ in cost, {' and '.join(sizes)}: a difference in {outcome} may be one of "
                f"size.{way_out}", kind="notice",
            )  # fmt: skip


def _list_sizes(patterns: pd.DataFrame) -> list[str]:
    """Return the range of parameters, and of FLOPs of an example, where networks differ in them."""
    sizes = {word: patterns[name].dropna() for name, word in (("params", "parameters"), ("flops", "FLOPs an example"))}
    return [
        f"{size.min():,} to {size.max():,} {word}"
        for word, size in sizes.items()
        if len(size) and size.min() < size.max()
    ]


def _describe_trainings(run: Run, caption: str) -> Iterator[Block]:
    guessing = describe_guessing(read_guessing(run))
    yield Paragraph(f"Trained: {caption}." + (f" {capitalise(guessing)}." if guessing else ""))
    parts = [*_describe_network(run.config)]
    if run.plan is not None:
        parts.append(f"Regimes: {_describe_regimes(run.plan)}.")
    names = [name for name in ("python", "torch", "optuna", "commit") if run.environment.get(name)]
    if names:
        parts.append(f"Versions: {', '.join(f'{name} {run.environment[name]}' for name in names)}.")
    if parts:
        yield Paragraph(" ".join(parts))


def _describe_network(config: Mapping[str, Any]) -> Iterator[str]:
    """Say what a network is that is not blocks in a row with one classifier, which the caption does not tell."""
    if config.get("surroundings"):
        yield f"Network: {config['surroundings']['kind']} of {count_nouns(config['blocks'], 'block')}."
    if config.get("exits", "last") != "last":
        yield f"Exits: {config['exits']}, trained by {config['exit_loss']}."


def _describe_regimes(plan: dict[str, Any]) -> str:
    """List the learning rates of a plan's regimes after what they share."""
    rates: dict[str, list[str]] = {}
    for name, training in {stratum["regime"]: stratum["training"] for stratum in plan["strata"]}.items():
        shared = (
            f"{count_nouns(training['epochs'], 'epoch')}, batches of {training['batch_size']}, weight decay "
            f"{training['weight_decay']:g}, learning rate"
        )
        rate = f"{training['lr']:g}"
        rates.setdefault(shared, []).append(rate if name == f"lr {rate}" else f"{rate} ({name})")
    return "; ".join(f"{shared} {enumerate_words(own)}" for shared, own in rates.items())


def _list_failures(candidates: pd.DataFrame) -> Iterator[Block]:
    yield Heading(2, "Failures")
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
