"""The figure of accuracy against multiply-adds, by exit and where easy images leave early."""

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.transforms import ScaledTranslation, Transform

from analysis.exits.anytime import Anytime, Spot
from analysis.page.figure_style import (
    COLOURS,
    GREY,
    INK,
    MARKERS,
    add_caption,
    lay_out,
    name_mark,
    new_figure,
    style_axes,
    wrap_text,
)
from analysis.page.wording import LABELS, format_count

ASIDE = 3.0  # points between the intervals of two patterns


def plot_anytime(patterns: Sequence[Anytime], caption: str = "") -> Figure:
    """Draw a line through the exits of each pattern, with intervals, and a dashed one where images leave early."""
    figure = new_figure(4.0)
    axes = figure.subplots()
    style_axes(axes)
    for number, pattern in enumerate(patterns):
        aside = ScaledTranslation(ASIDE * (number - (len(patterns) - 1) / 2) / 72, 0, figure.dpi_scale_trans)
        _draw(axes, pattern, (COLOURS[number], MARKERS[number]), axes.transData + aside, str(number))
    # What is moved aside does not enter the limits that matplotlib finds.
    spots = [spot for pattern in patterns for spot in (*pattern.exits, *pattern.adaptive)]
    ends = [end for spot in spots for end in (spot.low, spot.accuracy, spot.high) if end is not None]
    room = 0.05 * (max(ends) - min(ends)) or 0.01
    axes.set(xlim=(0, 1.04 * max(spot.macs for spot in spots)), ylim=(min(ends) - room, max(ends) + room))
    axes.set_xlabel("multiply-adds of an image", fontsize=10)
    axes.set_ylabel(LABELS["validation_accuracy"], fontsize=10)
    axes.xaxis.set_major_formatter(lambda value, _: format_count(round(value)))
    names = ["".join(wrap_text(pattern.name)) for pattern in patterns]
    names[0] += " (best)"
    handles = [
        Line2D([], [], color=colour, marker=marker, markersize=6, label=name)
        for name, colour, marker in zip(names, COLOURS, MARKERS, strict=False)
    ]
    handles += [
        Line2D([], [], color=GREY, linestyle="-", label="all leave at an exit"),
        Line2D([], [], color=GREY, linestyle=(0, (3, 2)), label="the confident leave early"),
    ]
    figure.legend(
        handles=handles, loc="outside upper left", ncols=3, frameon=False, fontsize=8.5, handlelength=2.4,
        labelcolor=INK,
    )  # fmt: skip
    add_caption(figure, caption)
    lay_out(figure)
    return figure


def _draw(axes: Axes, pattern: Anytime, style: tuple[str, str], moved: Transform, name: str) -> None:
    """Draw a pattern's lines and marks, moved a little aside so that intervals do not cover each other.

    Args:
        style: colour and marker.
        name: part of all ids, unique in the figure.
    """
    colour, marker = style
    axes.plot(
        [spot.macs for spot in pattern.exits], [spot.accuracy for spot in pattern.exits], color=colour, linewidth=1.6,
        zorder=3, transform=moved, gid=f"exits-{name}",
    )  # fmt: skip
    axes.plot(
        [spot.macs for spot in pattern.adaptive], [spot.accuracy for spot in pattern.adaptive], color=colour,
        linewidth=1.4, linestyle=(0, (3, 2)), zorder=3, transform=moved, gid=f"adaptive-{name}",
    )  # fmt: skip
    for place, spot in enumerate(pattern.exits):
        if spot.low is not None and spot.high is not None:
            axes.plot(
                [spot.macs] * 2, [spot.low, spot.high], color=colour, linewidth=1, transform=moved,
                gid=f"interval-{name}-{place}",
            )  # fmt: skip
        (mark,) = axes.plot(
            spot.macs, spot.accuracy, marker, color=colour, markersize=6, markeredgecolor="white", markeredgewidth=0.5,
            zorder=4, transform=moved,
        )  # fmt: skip
        name_mark(mark, f"{name}-{place}", f"{pattern.name}, exit {place + 1}: {_describe(spot)}")


def _describe(spot: Spot) -> str:
    interval = "" if spot.low is None or spot.high is None else f" [{100 * spot.low:.2f}, {100 * spot.high:.2f}]"
    return f"accuracy {100 * spot.accuracy:.2f} %{interval}, {format_count(round(spot.macs))} multiply-adds"
