"""What a report says of one stratum: outcome against distance, levels, patterns, curves."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pandas as pd

from analysis.data.results import parse_sources
from analysis.page.captions import describe_data, name_file
from analysis.page.document import Block, Heading, Paragraph, Picture, Table
from analysis.page.wording import (
    NONE,
    capitalise,
    format_interval,
    format_percent,
    format_signed,
    format_value,
    format_with_error,
    name_briefly,
    name_pattern,
)
from analysis.report.findings import Findings
from analysis.stats.intervals import seed_error
from analysis.study.reach import Reach
from analysis.study.tables import build_statistics
from analysis.study.view import N_BEST, View
from search_spaces.budget import parse_budget
from search_spaces.sampling.bounds import certify
from search_spaces.wiring.arcs import draw_arcs

if TYPE_CHECKING:
    from analysis.study.plots import Slope as Line

N_DRAWN = 2
GROUP_NAMES = {
    "optimum": "shortest found",
    "control": "their controls",
    "random": "uniform random",
    "design": "crossed design",
    "reversal": "reversals",
}


def build_stratum(findings: Findings, view: View) -> Iterator[Block]:
    """Everything about one stratum, under its name where there are several."""
    level = 3 if view.name else 2
    if view.name:
        yield Heading(2, capitalise(view.name))
        yield Paragraph(capitalise(view.stratum.verdict.sentence) + ".", kind="answer")
    yield Heading(level, "Outcome against distance")
    yield from _distance_section(findings, view)
    if view.patterns["template"].notna().any() or (view.patterns["strategy"] == "optimum").any():
        yield Heading(level, "Templates at equal budget")
        yield from _level_section(view)
    yield Heading(level, "The best patterns")
    yield from _best_section(view)
    yield Heading(level, "Does distance explain the outcome?")
    yield from build_statistics(view)
    yield Heading(level, "Learning curves")
    yield from _curve_section(findings, view)


def _distance_section(findings: Findings, view: View) -> Iterator[Block]:
    from analysis.page.figure_style import draw_png, draw_svg
    from analysis.study.plots import plot_outcome_by_span, plot_span_bands
    from analysis.study.search_plots import plot_distance_accuracy  # matplotlib: half a second

    caption = describe_data(findings, view)
    uniform = view.uniform
    if findings.run.plan is None:
        shaded = (uniform.low, uniform.high) if uniform else None
        figure = plot_distance_accuracy(view.patterns, view.candidates, shaded, caption)
        description = "Large marks: patterns, mean over seeds with one standard error; small dots: single trainings."
        yield Picture(name_file(view, "distance"), draw_svg(figure), description, png=draw_png(figure))
    else:
        outcome = view.stratum.primary.outcome if view.stratum.primary else "validation_loss"
        figure = plot_outcome_by_span(view.patterns, outcome, caption)
        description = (
            "Each mark is a pattern, its mean over seeds, each seed's own mean taken out; bars: one standard error of "
            "it. Colour shows its span. Point at a mark for its name."
        )
        yield Picture(name_file(view, "distance"), draw_svg(figure), description, png=draw_png(figure))
        cells = next(one for one in findings.run.plan["cells"] if one["layers"] == view.stratum.layers)
        bands = [(low, high) for low, high in cells["span_bands"]]
        lines = [line for line in (_line(view, place) for place in range(len(bands))) if line]
        figure = plot_span_bands(view.patterns, bands, outcome, lines, caption)
        unit = "nats" if outcome == "validation_loss" else "points"
        description = (
            "The same, one panel a band of spans: within a panel distance varies and span hardly does. Lines: least "
            f"squares, their slopes in {unit} a hop; shaded the slope's 95 % interval about the middle."
        )
        yield Picture(name_file(view, "bands"), draw_svg(figure), description, png=draw_png(figure))
    if uniform:
        yield Paragraph(f"Uniform random sampling, {uniform.n_patterns} draws at this budget: {_describe(uniform)}.")
    if view.stratum.reach:
        yield Paragraph(f"Reach of the sample: {_describe(view.stratum.reach)}. Outside that range it says nothing.")


def _line(view: View, place: int) -> "Line | None":
    """The fitted line of one span band, as plot_span_bands takes it; None where there is none."""
    outcome = view.stratum.primary.outcome if view.stratum.primary else "validation_loss"
    for slope in view.stratum.slopes:
        if slope.outcome == outcome and slope.band == place:
            scale = 0.01 if slope.unit == "points" else 1.0
            steps = [x - slope.x_mean for x in (slope.x_low, slope.x_mean, slope.x_high)]
            ends = [(scale * slope.low * step, scale * slope.high * step) for step in steps]
            middle = view.patterns.loc[(view.patterns["span_bin"] == place).fillna(False), outcome].mean()
            return {
                "band": place,
                "x": [slope.x_low, slope.x_mean, slope.x_high],
                "y": [middle + scale * slope.value * step for step in steps],
                "low": [middle + min(pair) for pair in ends],
                "high": [middle + max(pair) for pair in ends],
                "label": f"slope {format_signed(slope.value)} ({format_interval(slope.low, slope.high)})",
            }
    return None


def _describe(reach: Reach) -> str:
    text = f"mean BD {reach.low:.3f} to {reach.high:.3f} (1 % to 99 %); no pattern is below {reach.bound:.3f}"
    if reach.farthest is not None and reach.share is not None:
        text += f" and the farthest has {reach.farthest:.3f}, so this covers {100 * reach.share:.1f} % of that range"
    return text


def _level_section(view: View) -> Iterator[Block]:
    from analysis.page.figure_style import draw_png, draw_svg
    from analysis.page.interval_plots import Level, plot_templates

    if view.levels:
        rows = [
            Level(
                label=GROUP_NAMES.get(one.name, one.name) + (f" ({one.n_patterns})" if one.n_patterns > 1 else ""),
                value=one.value,
                low=one.low,
                high=one.high,
                note=f"mean BD {one.mean_bd:.3f}",
                is_reference=one.name == "random",
            )
            for one in view.levels
        ]
        figure = plot_templates(rows, outcome=view.levels[0].outcome)
        yield Picture(
            name_file(view, "levels"),
            draw_svg(figure),
            "Means with 95 % intervals, each seed's own mean taken out: of a template over its seeds, of a group over "
            "its patterns. A template is one pattern: by itself it says little of its rule.",
            png=draw_png(figure),
        )
    yield from _certificate_table(view)
    yield from _template_table(view)


def _certificate_table(view: View) -> Iterator[Block]:
    budget = parse_budget(view.stratum.budget, view.stratum.layers)
    named = view.patterns[view.patterns["template"].notna() | (view.patterns["strategy"] == "optimum").fillna(False)]
    rows = []
    for _, row in named.sort_values(["mean_bd", "key"]).iterrows():
        found = certify(parse_sources(row["sources"]), budget)
        distances = (f"{row['mean_bd']:.4f}", f"{found.bound:.4f}", f"{100 * found.gap:.1f}")
        name = f"{row['strategy']} ({row['key'][:12]})" if row["template"] is pd.NA else row["template"]
        rows.append((name, *distances, format_value(row["max_bd"]), f"{row['span']:.2f}", found.status))
    yield Table(("pattern", "mean BD", "proven bound", "above it (%)", "MBD", "span", "certificate"), tuple(rows))
    yield Paragraph(
        "No pattern of this budget has a mean BD below the bound. Optimal: none has a lower mean; max-optimal: none "
        "has a lower maximum."
    )


def _template_table(view: View) -> Iterator[Block]:
    if not view.comparisons:
        return
    header = ("template", "seeds", "accuracy (%)", "difference to the best template (points)", "shared seeds")
    rows = [
        (
            one.name,
            str(one.n_seeds),
            format_with_error(100 * one.mean, None if one.standard_error is None else 100 * one.standard_error, 2),
            NONE if one.difference is None else _difference(one.difference, one.difference_error),
            str(one.n_shared_seeds) if one.difference is not None else NONE,
        )
        for one in view.comparisons
    ]
    yield Table(header, tuple(rows))
    yield Paragraph(
        "Mean and one standard error over seeds. The differences are paired: each seed gives every pattern the same "
        "split, initial weights and data order. The best template was picked by this number; a difference below twice "
        "its error is not evidence."
    )


def _difference(value: float, error: float | None) -> str:
    _, *with_error = format_with_error(100 * value, None if error is None else 100 * error, 2).partition(" ")
    return format_signed(100 * value) + "".join(with_error)


def _best_section(view: View) -> Iterator[Block]:
    header = ("", "pattern", "strategy", "mean BD", "MBD", "span", "seeds", "accuracy (%)", "loss (nats)")
    top = [row for _, row in view.patterns.head(N_BEST).iterrows()]
    yield Table(header, tuple(_best_row(place, row) for place, row in enumerate(top, start=1)))
    yield Paragraph(
        "Means over seeds with one standard error. Patterns trained at every seed come first, then higher accuracy, "
        "then lower loss; neighbours in this list are often within the noise."
    )
    named = [row for _, row in view.patterns.dropna(subset=["template"]).iterrows()]
    shortest = [row for _, row in view.patterns[(view.patterns["strategy"] == "optimum").fillna(False)].iterrows()]
    full = view.patterns[view.patterns["all_seeds"]]
    worst = [full.iloc[-1]] if len(full) > N_BEST else []
    drawn = {row["key"]: row for row in (*top[:N_DRAWN], *worst, *shortest[:1], *named)}
    parts = {top[0]["key"]: "best", **{row["key"]: "worst" for row in worst}}
    parts |= {row["key"]: "shortest found" for row in shortest[:1]}
    for key, row in drawn.items():
        picture = draw_arcs(parse_sources(row["sources"]), parts.get(key, name_briefly(row)), width=460)
        accuracy = format_percent(row, "validation_accuracy")
        text = f"{capitalise(parts[key]) + ': ' if key in parts else ''}{name_pattern(row)}, accuracy {accuracy} %"
        yield Picture(name_file(view, f"arcs_{key[:12]}"), picture, text, is_small=True)


def _best_row(place: int, row: "pd.Series[Any]") -> tuple[str, ...]:
    return (
        str(place),
        name_pattern(row),
        format_value(row["strategy"]),
        f"{row['mean_bd']:.3f}",
        format_value(row["max_bd"]),
        f"{row['span']:.2f}",
        str(row["n_seeds"]),
        format_percent(row, "validation_accuracy"),
        format_with_error(row["validation_loss"], seed_error(row, "validation_loss_sd"), 3),
    )


def _curve_section(findings: Findings, view: View) -> Iterator[Block]:
    from analysis.page.figure_style import draw_png, draw_svg
    from analysis.study.search_plots import plot_curves

    curves = findings.run.curves[findings.run.curves["number"].isin(view.candidates["number"])]
    if curves.empty:
        yield Paragraph("This study holds no learning curves.")
        return
    best = view.patterns["key"].iloc[0]
    figure = plot_curves(curves, view.candidates, best, describe_data(findings, view))
    description = "Training loss by epoch; templates and the best pattern: means over seeds."
    yield Picture(name_file(view, "curves"), draw_svg(figure), description, png=draw_png(figure))
