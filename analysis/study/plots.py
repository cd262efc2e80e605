"""Figures of a study: outcome against mean BD, together and by band of spans."""

from collections.abc import Iterator, Sequence
from itertools import count
from typing import Any, NotRequired, TypedDict

import matplotlib as mpl
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import ListedColormap, Normalize
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from analysis.page.figure_style import (
    DISTANCE,
    FAINT,
    GREY,
    INK,
    LABELS,
    Label,
    add_caption,
    add_colour_bar,
    clean_text,
    describe_mark,
    draw_errors,
    floats,
    label_places,
    lay_out,
    name_mark,
    new_figure,
    style_axes,
)
from analysis.stats.intervals import RANGES, seed_error

# strategy -> marker, size in points, word in the legend; in drawing order, the few over the many
SHAPES = {
    "design": ("o", 5.0, "design"),
    "random": ("^", 4.5, "random"),
    "tpe": ("v", 5.0, "tpe"),
    "evolve": ("P", 5.5, "evolve"),
    "other": ("p", 5.5, "other"),
    "control": ("D", 5.0, "control"),
    "reversal": ("X", 6.5, "reversal"),
    "templates": ("s", 7.0, "template"),
    "optimum": ("*", 12.0, "optimum"),
}
SINGLED_OUT = ("control", "reversal", "templates", "optimum")
# Viridis without its palest end, which is lost on white; few enough steps to keep the file small.
SPAN_COLOURS = ListedColormap(mpl.colormaps["viridis"](tuple(0.9 * i / 31 for i in range(32))), "span")
MAX_COLUMNS = 3


class SlopeLine(TypedDict):
    """A fitted line inside one band of spans, at several mean BDs.

    Args:
        band: its place among the bands, from 0.
        x, y: mean BD (hops) and fitted outcome.
        low, high: the line's interval at x; absent where none was computed.
        label: text under the panel's title.
    """

    band: int
    x: list[float]
    y: list[float]
    low: NotRequired[list[float] | None]
    high: NotRequired[list[float] | None]
    label: NotRequired[str]


def plot_outcome_by_span(patterns: pd.DataFrame, outcome: str, caption: str = "") -> Figure:
    """Draw an outcome against mean BD: colour shows span, shape the strategy; templates are named.

    Args:
        patterns: rows of average_patterns, one stratum; those without the outcome are left out.
        outcome: validation_loss (nats) or validation_accuracy (share of 1).
    """
    rows = patterns.dropna(subset=[outcome])
    figure = new_figure(4.7)
    axes = figure.subplots()
    style_axes(axes)
    axes.set(xlabel=DISTANCE, ylabel=LABELS[outcome])
    norm = _span_norm(rows)
    _draw_patterns(axes, rows, outcome, norm, count())
    scale = ScalarMappable(norm, SPAN_COLOURS)
    add_colour_bar(figure, scale, axes, "span (mean layers a connection crosses)", aspect=32)
    _add_legend(figure, rows)
    add_caption(figure, caption)
    lay_out(figure)
    _label_templates(axes, rows, outcome)
    return figure


def plot_span_bands(
    patterns: pd.DataFrame,
    bands: Sequence[tuple[float, float]],
    outcome: str,
    slopes: Sequence[SlopeLine] = (),
    caption: str = "",
) -> Figure:
    """Draw an outcome against mean BD, with one panel for each band of spans and shared axes.

    Args:
        patterns, outcome: as plot_outcome_by_span takes them; patterns outside every band are counted at the foot.
        bands: lowest and highest span of each, both included; a pattern belongs to the first that contains its span.
        slopes: fitted lines, at most one for each band.
    """
    rows = patterns.dropna(subset=[outcome])
    parts, n_outside = _split_bands(rows, bands)
    n_columns = min(MAX_COLUMNS, len(bands))
    n_rows = -(-len(bands) // n_columns)
    figure = new_figure(1.3 + 2.7 * n_rows)
    panels = figure.subplots(n_rows, n_columns, sharex=True, sharey=True, squeeze=False).ravel().tolist()
    norm, numbers = _span_norm(rows), count()
    for place, (axes, band, part) in enumerate(zip(panels, bands, parts, strict=False)):
        _style_panel(axes, band, len(part), next((slope for slope in slopes if slope["band"] == place), None))
        _draw_patterns(axes, part, outcome, norm, numbers)
        if place + n_columns >= len(bands):  # nothing below it
            axes.set_xlabel("mean BD (hops)")
            axes.tick_params(labelbottom=True)
    for axes in panels[len(bands) :]:
        axes.remove()
    figure.supylabel(LABELS[outcome], fontsize=10)
    _add_legend(figure, rows)
    outside = f"{n_outside} patterns outside these bands are not drawn" if n_outside else ""
    add_caption(figure, "; ".join(filter(None, (caption, outside))))
    lay_out(figure)
    for axes, part in zip(panels, parts, strict=False):
        _label_templates(axes, part, outcome)
    return figure


def _split_bands(rows: pd.DataFrame, bands: Sequence[tuple[float, float]]) -> tuple[list[pd.DataFrame], int]:
    """Return the patterns of each band, and how many are in none."""
    places = [next((i for i, (low, high) in enumerate(bands) if low <= span <= high), -1) for span in rows["span"]]
    band_of = pd.Series(places, index=rows.index, dtype="int64")
    return [rows[band_of == place] for place in range(len(bands))], int((band_of == -1).sum())


def _style_panel(axes: Axes, band: tuple[float, float], n_patterns: int, slope: SlopeLine | None) -> None:
    style_axes(axes)
    axes.locator_params(axis="x", nbins=4)
    title = f"span {band[0]:.1f} to {band[1]:.1f} (n={n_patterns})"
    axes.set_title(title, fontsize=9.5, color=INK, loc="left", pad=18 if slope else 6)
    if slope is None:
        return
    low, high = slope.get("low"), slope.get("high")
    if low is not None and high is not None:
        axes.fill_between(slope["x"], low, high, color=INK, alpha=0.13, linewidth=0, zorder=1)
    axes.plot(slope["x"], slope["y"], color=INK, linewidth=1.6, zorder=2, gid="slope")
    axes.annotate(
        clean_text(slope.get("label", "")), (0, 1), xycoords="axes fraction", xytext=(0, 5),
        textcoords="offset points", fontsize=8, color=GREY, va="bottom",
    )  # fmt: skip


def _span_norm(rows: pd.DataFrame) -> Normalize:
    spans = floats(rows["span"]) or [1.0]
    low, high = min(spans), max(spans)
    return Normalize(low, high) if low < high else Normalize(low - 0.5, high + 0.5)


def _draw_patterns(axes: Axes, rows: pd.DataFrame, outcome: str, norm: Normalize, numbers: Iterator[int]) -> None:
    """Draw one artist for each pattern, since each carries its own text; `numbers` keep their ids apart in a figure."""
    deviation = f"{outcome}_centred_sd"  # the marks have each seed's own mean taken out
    errors = seed_error(rows, deviation).fillna(0.0)
    x, y = floats(rows["mean_bd"]), floats(rows[outcome])
    draw_errors(axes, x, y, floats(errors), FAINT, RANGES[outcome])
    for _, row in rows.iterrows():
        kind = _kind(row)
        marker, size, _ = SHAPES[kind]
        (mark,) = axes.plot(
            row["mean_bd"], row[outcome], marker, color=SPAN_COLOURS(norm(row["span"])), markersize=size,
            markeredgecolor=INK, markeredgewidth=0.8 if kind in SINGLED_OUT else 0.35,
            zorder=3 + list(SHAPES).index(kind) / len(SHAPES),
        )  # fmt: skip
        name_mark(mark, str(next(numbers)), describe_mark(row, outcome, deviation))


def _kind(row: "pd.Series[Any]") -> str:
    """Return a pattern's key in SHAPES: its strategy, or `templates` for a named pattern that is not singled out."""
    strategy = "other" if pd.isna(row["strategy"]) else row["strategy"]
    if strategy in SINGLED_OUT:
        return str(strategy)
    return "templates" if not pd.isna(row["template"]) else strategy if strategy in SHAPES else "other"


def _add_legend(figure: Figure, rows: pd.DataFrame) -> None:
    kinds = {_kind(row) for _, row in rows.iterrows()}
    handles = [
        Line2D([], [], linestyle="", marker=marker, markersize=size, color=GREY, markeredgecolor="white", label=word)
        for kind, (marker, size, word) in SHAPES.items()
        if kind in kinds
    ]
    handles.append(Line2D([], [], color=FAINT, linewidth=1.2, label="one standard error"))
    figure.legend(
        handles=handles, loc="outside upper left", ncols=len(handles), frameon=False, fontsize=8.5,
        handletextpad=0.4, handlelength=1.4, columnspacing=1.2, labelcolor=INK,
    )  # fmt: skip


def _label_templates(axes: Axes, rows: pd.DataFrame, outcome: str) -> None:
    places = list(zip(floats(rows["mean_bd"]), floats(rows[outcome]), strict=True))
    named = zip(rows["template"], places, strict=True)
    label_places(axes, [Label(name, *place, INK) for name, place in named if not pd.isna(name)], places)
