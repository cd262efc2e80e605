"""Figures of estimates with their intervals: effects by stratum, and named templates."""

from collections.abc import Sequence
from itertools import groupby
from typing import Any, NotRequired, TypedDict

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.page.figure_style import (
    COLOURS,
    GREY,
    INK,
    LABELS,
    add_caption,
    clean_text,
    name_mark,
    new_figure,
    style_axes,
    wrap_text,
)
from analysis.page.wording import format_signed

LINE = 0.21  # inches of height for one line of text
LABEL_WIDTH = 42  # characters; longer labels take several lines
ESTIMATE = COLOURS[1]


class Effect(TypedDict):
    """One estimate of a forest plot.

    Args:
        label, group: name of the effect, and of its stratum.
        value: None where it is not defined.
        low, high: interval; None where none was computed.
        is_primary: whether it is printed in bold.
    """

    label: str
    group: str
    value: float | None
    low: float | None
    high: float | None
    is_primary: bool


class Level(TypedDict):
    """The mean outcome of a named pattern or of a group of patterns.

    Args:
        label: name of the pattern or group.
        value: mean outcome.
        low, high: interval; None where none was computed.
        note: text at the right, such as the mean BD.
        is_reference: whether a dashed line marks the value, for comparison with all others.
    """

    label: str
    value: float
    low: float | None
    high: float | None
    note: str
    is_reference: NotRequired[bool]


def plot_forest(
    rows: Sequence[Effect], margin: float | None = None, caption: str = "", axis_label: str = "effect"
) -> Figure:
    """Draw effects with their intervals against the zero line, by group; each row adds to the height.

    Args:
        rows: effects from top to bottom; those of one group follow each other.
        margin: half width of a grey band of effects too small to matter; None for no band.
        caption: text at the foot.
        axis_label: name and unit of the effects.
    """
    lines: list[tuple[str, Effect | None]] = []
    for group, members in groupby(rows, key=lambda row: row["group"]):
        lines.append((group, None))
        lines += [(row["label"], row) for row in members]
    axes, places = _new_list(
        [("" if row is None else text, row) for text, row in lines], 0.9 + 0.25 * bool(margin is not None)
    )
    if margin is not None:
        axes.axvspan(-margin, margin, color="#eceef1", zorder=0, gid="margin")
        axes.annotate(
            f"too small to matter: within \u00b1{margin:g}", (0, 1), xycoords=("data", "axes fraction"), xytext=(0, 4),
            textcoords="offset points", ha="center", va="bottom", fontsize=8, color=GREY,
        )  # fmt: skip
    axes.axvline(0, color=GREY, linewidth=1, zorder=1)
    for number, ((text, row), place) in enumerate(zip(lines, places, strict=True)):
        if row is None:
            _write_heading(axes, text, place)
        else:
            _draw_effect(axes, row, place, number)
    axes.set_xlabel(clean_text(axis_label), fontsize=10)
    for tick, (_, row) in zip(axes.get_yticklabels(), lines, strict=True):
        tick.set_fontweight("bold" if row is not None and row["is_primary"] else "normal")
    return _finish(axes, caption)


def plot_templates(rows: Sequence[Level], caption: str = "", outcome: str = "validation_loss") -> Figure:
    """Draw mean outcomes with their intervals by name, the best on top, each with its note at the right.

    Args:
        rows: levels in any order.
        caption: text at the foot.
        outcome: validation_loss (lower is better) or validation_accuracy (higher is better).
    """
    ordered = sorted(rows, key=lambda row: row["value"], reverse=outcome == "validation_accuracy")
    axes, places = _new_list([(row["label"], row) for row in ordered], 0.75)
    for number, (row, place) in enumerate(zip(ordered, places, strict=True)):
        colour = GREY if row.get("is_reference") else ESTIMATE
        _draw_interval(axes, row["value"], row["low"], row["high"], place, colour, 1.6)
        text = f"{row['label']}: {_format_interval(row['value'], row['low'], row['high'])}; {row['note']}"
        name_mark(axes.get_lines()[-1], str(number), text)
        _write_right(axes, row["note"], place, "normal")
        if row.get("is_reference"):
            axes.axvline(row["value"], color=GREY, linewidth=1, linestyle="--", zorder=1)
    axes.set_xlabel(LABELS[outcome], fontsize=10)
    return _finish(axes, caption)


def _finish(axes: Axes, caption: str) -> Figure:
    figure = axes.get_figure()
    assert isinstance(figure, Figure)
    add_caption(figure, caption)
    return figure


def _new_list(lines: Sequence[tuple[str, Any]], extra: float) -> tuple[Axes, list[float]]:
    """Return axes with a label at the left of each line, as high as the labels need, and each line's place."""
    labels = [wrap_text(text, LABEL_WIDTH, 3) or [""] for text, _ in lines]
    places, top = [], 0.0
    for label in labels:
        height = 0.25 + len(label)
        places.append(top + height / 2)
        top += height
    figure = new_figure(extra + LINE * max(top, 2))
    axes = figure.subplots()
    style_axes(axes)
    axes.grid(visible=False, axis="y")
    axes.spines["left"].set_visible(False)
    axes.set_yticks(places, ["\n".join(label) for label in labels])
    axes.tick_params(axis="y", length=0)
    axes.locator_params(axis="x", nbins=6)
    axes.set_ylim(top, 0)
    return axes, places


def _draw_effect(axes: Axes, row: Effect, place: float, number: int) -> None:
    weight = "bold" if row["is_primary"] else "normal"
    if row["value"] is None:
        _write_right(axes, "not defined", place, weight)
        return
    colour = ESTIMATE if row["is_primary"] else INK
    _draw_interval(axes, row["value"], row["low"], row["high"], place, colour, 2.4 if row["is_primary"] else 1.3)
    text = _format_interval(row["value"], row["low"], row["high"], sign="+")
    name_mark(axes.get_lines()[-1], str(number), f"{row['group']}, {row['label']}: {text}")
    _write_right(axes, text, place, weight)


def _draw_interval(
    axes: Axes, value: float, low: float | None, high: float | None, place: float, colour: str, width: float
) -> None:
    """Draw a dot on its interval, the dot last; a hollow dot where there is no interval."""
    if low is not None and high is not None:
        axes.hlines(place, low, high, colour, linewidth=width, zorder=2)
    face = "white" if low is None or high is None else colour
    axes.plot(value, place, "o", color=colour, markerfacecolor=face, markersize=4.5 + width, zorder=3)


def _write_heading(axes: Axes, text: str, place: float) -> None:
    heading = axes.annotate(
        "".join(wrap_text(text, 100)), (0.01, place), xycoords=("figure fraction", "data"), va="center_baseline",
        fontsize=9.5, color=GREY, fontweight="bold", annotation_clip=False,
    )  # fmt: skip
    heading.set_in_layout(False)  # a heading starts at the figure's edge and must not push the axes


def _write_right(axes: Axes, text: str, place: float, weight: str) -> None:
    axes.annotate(
        clean_text(text), (1, place), xycoords=("axes fraction", "data"), xytext=(8, 0), textcoords="offset points",
        va="center_baseline", fontsize=8.5, color=INK, fontweight=weight, annotation_clip=False,
    )  # fmt: skip


def _format_interval(value: float, low: float | None, high: float | None, sign: str = "") -> str:
    """Return a value and its interval with three decimals: losses and accuracies differ in the second and third."""
    value_text, *ends = (
        "" if number is None else format_signed(number, 3) if sign else f"{number:.3f}" for number in (value, low, high)
    )
    text = f"{value_text} [{ends[0]}, {ends[1]}]" if all(ends) else value_text
    return text.replace("-", "\u2212")
