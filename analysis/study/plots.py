"""The figure of a study: outcome against one measure, coloured by another."""

from collections.abc import Sequence
from typing import Any

import matplotlib as mpl
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import ListedColormap, Normalize
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from analysis.page.figure_style import (
    FAINT,
    GREY,
    INK,
    Label,
    add_caption,
    add_colour_bar,
    clean_text,
    describe_mark,
    draw_errors,
    floats,
    label_outcome,
    label_places,
    lay_out,
    name_mark,
    new_figure,
    style_axes,
)
from analysis.page.wording import capitalise, name_measure
from analysis.stats.intervals import range_of, seed_error

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
SHADES = ListedColormap(mpl.colormaps["viridis"](tuple(0.9 * i / 31 for i in range(32))), "measure")


def plot_outcome(patterns: pd.DataFrame, outcome: str, x: str, colour: str, caption: str = "") -> Figure:
    """Draw an outcome against one measure: colour shows another one, shape the strategy; templates are named.

    Args:
        patterns: rows of average_patterns, one stratum; those without the outcome or a measure are left out.
        outcome: column of the outcome.
        x, colour: columns of measures.
    """
    rows = patterns.dropna(subset=[outcome, x, colour])
    figure = new_figure(4.7)
    axes = figure.subplots()
    style_axes(axes)
    axes.set(xlabel=clean_text(capitalise(name_measure(x))), ylabel=label_outcome(outcome))
    norm = _measure_norm(rows, colour)
    _draw_patterns(axes, rows, outcome, x, [norm(value) for value in floats(rows[colour])])
    add_colour_bar(figure, ScalarMappable(norm, SHADES), axes, clean_text(name_measure(colour)), aspect=32)
    _add_legend(figure, rows)
    add_caption(figure, caption)
    lay_out(figure)
    _label_templates(axes, rows, outcome, x)
    return figure


def _measure_norm(rows: pd.DataFrame, measure: str) -> Normalize:
    values = floats(rows[measure]) or [1.0]
    low, high = min(values), max(values)
    return Normalize(low, high) if low < high else Normalize(low - 0.5, high + 0.5)


def _draw_patterns(axes: Axes, rows: pd.DataFrame, outcome: str, x: str, shades: Sequence[float]) -> None:
    """Draw one artist for each pattern, since each carries its own text; shades are from 0 to 1."""
    deviation = f"{outcome}_centred_sd"  # the marks have each seed's own mean taken out
    errors = seed_error(rows, deviation).fillna(0.0)
    draw_errors(axes, floats(rows[x]), floats(rows[outcome]), floats(errors), FAINT, range_of(outcome))
    for number, ((_, row), shade) in enumerate(zip(rows.iterrows(), shades, strict=True)):
        kind = _kind(row)
        marker, size, _ = SHAPES[kind]
        (mark,) = axes.plot(
            row[x], row[outcome], marker, color=SHADES(shade), markersize=size, markeredgecolor=INK,
            markeredgewidth=0.8 if kind in SINGLED_OUT else 0.35,
            zorder=3 + list(SHAPES).index(kind) / len(SHAPES),
        )  # fmt: skip
        name_mark(mark, str(number), describe_mark(row, outcome, deviation))


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


def _label_templates(axes: Axes, rows: pd.DataFrame, outcome: str, x: str) -> None:
    places = list(zip(floats(rows[x]), floats(rows[outcome]), strict=True))
    named = zip(rows["template"], places, strict=True)
    label_places(axes, [Label(name, *place, INK) for name, place in named if not pd.isna(name)], places)
