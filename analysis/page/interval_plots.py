"""Figures of estimates with their intervals: effects by stratum, and named templates."""

from collections.abc import Sequence
from typing import Any, NotRequired, TypedDict

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.data.outcomes import is_lower_better
from analysis.page.figure_style import (
    COLOURS,
    FAINT,
    GREY,
    INK,
    MARKERS,
    add_caption,
    clean_text,
    label_outcome,
    name_mark,
    new_figure,
    style_axes,
    wrap_text,
)
from analysis.page.wording import format_signed

LINE = 0.21  # inches of height for one line of text
MOST_OUTSIDE = 0.5  # how far outside all intervals a single outcome is drawn, as a share of their range
LABEL_WIDTH = 42  # characters; longer labels take several lines
ESTIMATE = COLOURS[1]


class Effect(TypedDict):
    """One estimate of a forest plot.

    Args:
        label, group: name of the measure, and of the stratum.
        value: None where it is not defined.
        low, high: interval; None where none was computed.
        is_primary: whether the label is printed in bold.
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
        observed: single outcomes, drawn faintly where they lie not far outside the intervals.
    """

    label: str
    value: float
    low: float | None
    high: float | None
    note: str
    is_reference: NotRequired[bool]
    observed: NotRequired[Sequence[float]]


def plot_forest(rows: Sequence[Effect], axis_label: str = "effect", caption: str = "") -> Figure:
    """Draw one line a label, with the estimates of all groups on it; labels whose estimates are larger come first.

    Args:
        rows: effects in any order, at most one for each label and group; primary ones come before all others.
        axis_label: name and unit of the effects.
        caption: text at the foot.
    """
    groups = list(dict.fromkeys(row["group"] for row in rows))
    by_label: dict[str, list[Effect]] = {}
    for row in rows:
        by_label.setdefault(row["label"], []).append(row)
    ordered = sorted(by_label.items(), key=lambda item: (not item[1][0]["is_primary"], -_size(item[1])))
    step = min(1.0, 0.55 + 0.05 * len(groups)) if len(groups) > 1 else 1.0
    texts = [wrap_text(label, LABEL_WIDTH, 3) or [""] for label, _ in ordered]
    heights = [max(0.25 + len(lines), 0.5 + step * len(groups)) for lines in texts]
    figure = new_figure(1.0 + LINE * (sum(heights) + -(-len(groups) // 2) * (len(groups) > 1)))
    axes = figure.subplots()
    style_axes(axes)
    axes.grid(visible=False, axis="y")
    axes.axvline(0, color=GREY, linewidth=1, zorder=1)
    top, number, places = 0.0, 0, []
    for place, ((_, own), height) in enumerate(zip(ordered, heights, strict=True)):
        if place % 2:
            axes.axhspan(top, top + height, color="#f5f6f8", zorder=0)
        places.append(top + height / 2)
        for row in own:
            shift = step * (groups.index(row["group"]) - (len(groups) - 1) / 2)
            _draw_one_of_several(axes, row, places[-1] + shift, number, groups)
            number += 1
        top += height
    axes.set_yticks(places, ["\n".join(lines) for lines in texts])
    for tick, (_, own) in zip(axes.get_yticklabels(), ordered, strict=True):
        tick.set_fontweight("bold" if own[0]["is_primary"] else "normal")
    axes.tick_params(axis="y", length=0)
    axes.set_ylim(top, 0)
    axes.set_xlabel(clean_text(axis_label), fontsize=10)
    if len(groups) > 1:
        names = ["".join(wrap_text(group, 50)) for group in groups]
        handles = [axes.plot([], [], _marker(place), color=_colour(place))[0] for place in range(len(groups))]
        figure.legend(
            handles, names, loc="outside upper left", ncols=2, frameon=False, fontsize=8.5, labelcolor=INK
        )  # fmt: skip
    return _finish(axes, caption)


def _size(rows: Sequence[Effect]) -> float:
    values = [abs(row["value"]) for row in rows if row["value"] is not None]
    return sum(values) / len(values) if values else -1.0


def _colour(place: int) -> str:
    return COLOURS[place % len(COLOURS)]


def _marker(place: int) -> str:
    return MARKERS[(place + place // len(COLOURS)) % len(MARKERS)]


def _draw_one_of_several(axes: Axes, row: Effect, place: float, number: int, groups: Sequence[str]) -> None:
    if row["value"] is None:
        return
    own = groups.index(row["group"])
    colour, marker = (_colour(own), _marker(own)) if len(groups) > 1 else (ESTIMATE, "o")
    if row["low"] is not None and row["high"] is not None:
        axes.hlines(place, row["low"], row["high"], colour, linewidth=1.3, zorder=2)
    (mark,) = axes.plot(row["value"], place, marker, color=colour, markersize=5, zorder=3)
    text = _format_interval(row["value"], row["low"], row["high"], sign="+")
    name_mark(mark, str(number), f"{row['group']}, {row['label']}: {text}")
    if len(groups) == 1:
        _write_right(axes, text, place, "bold" if row["is_primary"] else "normal")


def plot_templates(rows: Sequence[Level], caption: str = "", outcome: str = "validation_loss") -> Figure:
    """Draw mean outcomes with their intervals by name, the best on top, each with its note at the right.

    Args:
        rows: levels in any order.
        caption: text at the foot.
        outcome: column of the outcome; by its name it is known which way is better.
    """
    ordered = sorted(rows, key=lambda row: row["value"], reverse=not is_lower_better(outcome))
    axes, places = _new_list([(row["label"], row) for row in ordered], 0.75)
    _draw_observed(axes, ordered, places)
    for number, (row, place) in enumerate(zip(ordered, places, strict=True)):
        colour = GREY if row.get("is_reference") else ESTIMATE
        _draw_interval(axes, row["value"], row["low"], row["high"], place, colour, 1.6)
        text = f"{row['label']}: {_format_interval(row['value'], row['low'], row['high'])}; {row['note']}"
        name_mark(axes.get_lines()[-1], str(number), text)
        _write_right(axes, row["note"], place, "normal")
        if row.get("is_reference"):
            axes.axvline(row["value"], color=GREY, linewidth=1, linestyle="--", zorder=1)
    axes.set_xlabel(label_outcome(outcome), fontsize=10)
    return _finish(axes, caption)


def _draw_observed(axes: Axes, rows: Sequence[Level], places: Sequence[float]) -> None:
    """Draw single outcomes under the intervals; one far away would leave these no room."""
    ends = [end for row in rows for end in (row["value"], row["low"], row["high"]) if end is not None]
    room = MOST_OUTSIDE * (max(ends) - min(ends))
    dots = [
        (value, place)
        for row, place in zip(rows, places, strict=True)
        for value in row.get("observed", ())
        if min(ends) - room <= value <= max(ends) + room
    ]
    if dots:
        x, y = zip(*dots, strict=True)
        axes.scatter(x, y, s=12, color=FAINT, linewidths=0, zorder=1.5)


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


def _draw_interval(
    axes: Axes, value: float, low: float | None, high: float | None, place: float, colour: str, width: float
) -> None:
    """Draw a dot on its interval, the dot last; a hollow dot where there is no interval."""
    if low is not None and high is not None:
        axes.hlines(place, low, high, colour, linewidth=width, zorder=2)
    face = "white" if low is None or high is None else colour
    axes.plot(value, place, "o", color=colour, markerfacecolor=face, markersize=4.5 + width, zorder=3)


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
