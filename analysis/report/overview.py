"""What a report says of all strata together: effects side by side, planned against done."""

from collections.abc import Iterator

from analysis.data.adherence import Progress
from analysis.data.protocol import MARGIN, name_distance
from analysis.page.document import Block, Heading, Link, Paragraph, Picture, Table
from analysis.page.interval_plots import Effect
from analysis.page.wording import format_interval, format_signed, name_measure
from analysis.report.findings import Findings
from analysis.study.view import View

CHECKLIST = Link("the checklist for studies of architecture search", "checklist.md")
FOREST_MEASURES = (
    "mean_bd", "from_output_mean", "to_input_mean", "span", "random_walk_depth", "out_degree_sd", "mean_inverse_bd",
)  # fmt: skip


def build_overview(findings: Findings) -> Iterator[Block]:
    """The effects of all strata in one picture, and whether short runs stand for long ones."""
    from analysis.page.figure_style import draw_png, draw_svg  # matplotlib: half a second
    from analysis.page.interval_plots import plot_forest

    rows = [row for view in findings.views for row in _forest_rows(view)]
    if rows:
        yield Heading(2, "All effects side by side")
        outcome = next(view.stratum.primary.outcome for view in findings.views if view.stratum.primary)
        figure = plot_forest(rows, MARGIN, axis_label=f"rank correlation with {outcome.replace('_', ' ')}")
        yield Picture(
            "effects.svg",
            draw_svg(figure),
            "Bold: the primary test of each stratum, distance given span and its square. Below it each measure alone "
            "(Spearman). 95 % intervals from a bootstrap over patterns inside cells. Right of 0: more of it goes with "
            "a higher loss.",
            png=draw_png(figure),
        )
    if findings.fidelity:
        yield Heading(2, "Do short runs rank patterns as long ones do?")
        header = ("stratum", "short", "long", "outcome", "Spearman", "95 % interval", "patterns")
        yield Table(
            header,
            tuple(
                (
                    f"{one.layers} layers",
                    one.short_regime,
                    one.long_regime,
                    one.outcome.replace("_", " "),
                    "not defined" if one.estimate.value is None else format_signed(one.estimate.value),
                    format_interval(one.estimate.low, one.estimate.high),
                    str(one.n_patterns),
                )
                for one in findings.fidelity
            ),
        )
        yield Paragraph(
            "Agreement is bounded by the noise of both runs: compare it with the product of their ceilings, not with 1."
        )


def _forest_rows(view: View) -> Iterator[Effect]:
    stratum = view.stratum
    if stratum.primary is None:
        return
    partial = stratum.primary.partial
    name = f"{name_distance(stratum.distance)}, given span and span squared"
    yield Effect(label=name, group=view.name, value=partial.value, low=partial.low, high=partial.high, is_primary=True)
    alone = {
        one.measure: one.estimate
        for one in stratum.effects
        if one.method == "spearman" and one.outcome == stratum.primary.outcome
    }
    for measure in FOREST_MEASURES:
        if measure in alone:
            one = alone[measure]
            yield Effect(
                label=name_measure(measure), group=view.name, value=one.value, low=one.low, high=one.high,
                is_primary=False,
            )  # fmt: skip


def build_plan(findings: Findings) -> Iterator[Block]:
    """Planned against done, and by which rules it was judged."""
    adherence, plan = findings.adherence, findings.run.plan
    assert adherence is not None
    assert plan is not None
    kept = "kept to its plan" if not adherence.deviations else "departed from its plan, as said above"
    so_far = f" so far; {adherence.n_missing} trainings are still to come" if adherence.n_missing else ""
    yield Paragraph(
        f"The plan, its hypotheses and its tests were laid out in plan.json and hashed before the first training "
        f"(SHA-256 {adherence.sha256}); the run {kept}{so_far}."
    )
    header = (
        "stratum",
        "trainings done",
        "failed",
        "patterns done",
        "cells without any training",
        "patterns not found",
    )
    yield Table(header, tuple(map(_progress_row, adherence.progress)))
    for cells in plan["cells"]:
        bins, bands = cells["distance_bins"], cells["span_bands"]
        yield Paragraph(
            f"{cells['layers']} layers: {len(bins)} bins of {name_measure(cells['distance'])} from {bins[0][0]:.3f} to "
            f"{bins[-1][1]:.3f}, crossed with spans of about "
            + ", ".join(f"{sum(band) / 2:.2f}" for band in bands)
            + ". Every pattern was to be trained with every seed, in an order shuffled within each seed."
        )
    protocol = plan["protocol"]
    yield Paragraph("Hypotheses: " + "; ".join(protocol["hypotheses"]) + ".")
    yield Paragraph("The verdict follows the first rule that holds: " + "; ".join(protocol["verdict"]["rules"]) + ".")
    yield Paragraph(
        "These rules are asked only of networks that learned something. Where the mean accuracy of a stratum is not "
        "shown to be above that of always answering the largest class, its verdict is that nothing was learned, "
        "whatever the tests say."
    )
    yield Paragraph("What such a study should report, and where this one does:", link=CHECKLIST)


def _progress_row(one: Progress) -> tuple[str, ...]:
    n_lacking = sum(n for _, _, n in one.lacking_cells)
    return (
        f"{one.layers} layers, {one.regime}" + (f" (checks {one.checks})" if one.checks else ""),
        f"{one.complete} of {one.planned}",
        str(one.failed),
        f"{one.complete_patterns} of {one.planned_patterns}",
        str(len(one.missing_cells)),
        str(n_lacking),
    )
