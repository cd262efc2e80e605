"""Outcomes against a measure: one mark a pattern, over single trainings."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from analysis.charts.drawing import (
    CHART_WIDTH,
    LINE,
    N_SHADES,
    SHAPES,
    Chart,
    clean,
    close_chart,
    draw_arrow,
    draw_below,
    draw_left,
    measure_text,
    turn_text,
    write,
    write_foot,
)
from analysis.charts.labels import Box, Name, place_names
from analysis.charts.scales import Scale, fit_scale
from analysis.stats.intervals import UNBOUNDED, Range, clip

LEFT, RIGHT, GAP = 66.0, 20.0, 22.0  # pixels left of panels, right of them, and between them
RAMP = 74.0  # pixels at the right for a ramp of shades
TALL, LOW = 300.0, 220.0  # height of a panel: of the only one, and of one of several


@dataclass(frozen=True, slots=True)
class Mark:
    """A pattern in a panel.

    Args:
        key: its key, by which the page's script knows it.
        x, y: its measure and its mean outcome.
        error: standard error of y; NaN for one seed.
        text: what is shown under the pointer.
        shape, colour: one of SHAPES, and a class of the style sheet.
        name: written next to it; empty for most.
    """

    key: str
    x: float
    y: float
    error: float
    text: str
    shape: str = "dot"
    colour: str = "plain"
    name: str = ""


@dataclass(frozen=True, slots=True)
class ScatterPanel:
    """One outcome.

    Args:
        outcome: its column, by which the page's script knows it.
        label: name and unit.
        marks: patterns, the later over the earlier.
        singles: x and y of single trainings.
        bounds: least and greatest possible outcome.
    """

    outcome: str
    label: str
    marks: tuple[Mark, ...]
    singles: tuple[tuple[float, float], ...] = ()
    bounds: Range = UNBOUNDED


@dataclass(frozen=True, slots=True)
class Ramp:
    """What the shades of the marks mean: a measure, from its least to its greatest value."""

    label: str
    low: float
    high: float

    def shade(self, value: float) -> str:
        """Return the class of a value's shade.

        >>> [Ramp("span", 1.0, 3.0).shade(value) for value in (1.0, 2.0, 3.0)]
        ['s0', 's4', 's7']
        """
        share = (value - self.low) / (self.high - self.low) if self.high > self.low else 0.5
        return f"s{min(int(share * N_SHADES), N_SHADES - 1)}"


@dataclass(frozen=True, slots=True)
class Scatter:
    """Panels with one measure in common.

    Args:
        group: name of the stratum, by which the page's script finds its outcomes.
        measure: name and unit of the measure.
        shaded: range of the measure to set apart, and its name.
        legend: shapes with their words.
        caption: text at the foot.
    """

    panels: tuple[ScatterPanel, ...]
    measure: str
    group: str = ""
    shaded: tuple[Range, str] | None = None
    legend: tuple[tuple[str, str], ...] = ()
    ramp: Ramp | None = None
    caption: str = ""
    title: str = field(default="Scatter plot")


def draw_scatter(scatter: Scatter) -> Chart:
    """Draw the panels one below the other, with one axis of the measure."""
    right = CHART_WIDTH - (RIGHT if scatter.ramp is None else RAMP)
    x = fit_scale([mark.x for panel in scatter.panels for mark in panel.marks], LEFT, right)
    first = (8 + LINE if scatter.legend else 6) + (LINE if scatter.shaded else 0)
    height = TALL if len(scatter.panels) == 1 else LOW
    rooms = [
        Box(LEFT, first + number * (height + GAP), right, first + number * (height + GAP) + height)
        for number in range(len(scatter.panels))
    ]
    scales = [_fit_outcomes(panel, room) for panel, room in zip(scatter.panels, rooms, strict=True)]
    parts = [*_draw_legend(scatter.legend)]
    for panel, y, room in zip(scatter.panels, scales, rooms, strict=True):
        parts += _draw_range(scatter, x, room, with_name=room is rooms[0])
        label = scatter.measure if room is rooms[-1] else ""
        parts += draw_below(x, room.top, room.bottom, label)
        parts += _draw_panel(panel, x, y, room)
    bottom = rooms[-1].bottom
    if scatter.ramp is not None:
        parts += _draw_ramp(scatter.ramp, right + 14, first, bottom)
    foot = write_foot(bottom + 56, scatter.caption)
    attributes = {
        "data-group": scatter.group,
        "data-measure": scatter.measure,
        "data-x": f"{x.origin:.9g} {x.slope:.9g}",
    }
    svg = close_chart([*parts, *foot], bottom + 44 + (LINE * len(foot) + 8 if foot else 0), scatter.title, attributes)
    return Chart(svg, _explain(scatter, x, scales))


def _fit_outcomes(panel: ScatterPanel, room: Box) -> Scale:
    ends = [end for mark in panel.marks for end in _reach(mark, panel.bounds)]
    return fit_scale([*ends, *(value for _, value in panel.singles)], room.bottom, room.top)


def _reach(mark: Mark, bounds: Range) -> tuple[float, float]:
    error = mark.error if math.isfinite(mark.error) else 0.0
    return clip(mark.y - error, bounds), clip(mark.y + error, bounds)


def _draw_panel(panel: ScatterPanel, x: Scale, y: Scale, room: Box) -> Iterator[str]:
    """Draw a group that says how outcomes become pixels: axis, single trainings, marks, and names over all of them."""
    yield (
        f'<g class="panel" data-outcome="{clean(panel.outcome)}" data-y="{y.origin:.9g} {y.slope:.9g}" '
        f'data-room="{room.left:.0f} {room.top:.0f} {room.right:.0f} {room.bottom:.0f}">'
    )
    yield from ('<g class="y">', *draw_left(y, room.left, room.right, panel.label), "</g>")
    dots = "".join(f"M{x.place(a):.0f} {y.place(b):.0f}h0" for a, b in panel.singles if x.covers(a) and y.covers(b))
    yield f'<path class="singles" d="{dots}"/>'
    names, pixels = [], []
    for mark in panel.marks:
        place = x.place(mark.x), y.place(mark.y)
        pixels.append(place)
        yield _draw_mark(mark, place, x, y, panel.bounds)
        beyond = [f"{value:.4g}" for value, scale in ((mark.x, x), (mark.y, y)) if not scale.covers(value)]
        if mark.name or beyond:
            names.append(Name(mark.key, " ".join([mark.name, *beyond]).strip(), *place))
    yield from place_names(names, pixels, room)
    yield "</g>"


def _draw_mark(mark: Mark, place: tuple[float, float], x: Scale, y: Scale, bounds: Range) -> str:
    """Return a mark with its error's bar; one beyond an axis has an arrow instead."""
    inside = ""
    if y.covers(mark.y):
        low, high = (min(max(end, y.low), y.high) for end in _reach(mark, bounds))
        if low < high:
            inside = f'<path class="error" d="M0 {y.place(low) - place[1]:.1f}V{y.place(high) - place[1]:.1f}"/>'
    else:
        inside = draw_arrow(0, 0, "up" if mark.y > y.high else "down")
    if not x.covers(mark.x):
        inside += draw_arrow(0, 0, "right" if mark.x > x.high else "left")
    return (
        f'<g class="mark {mark.colour}" data-key="{mark.key}" data-x="{mark.x:.6g}" '
        f'transform="translate({place[0]:.1f} {place[1]:.1f})"><title>{clean(mark.text)}</title>{inside}'
        f'<path d="{SHAPES[mark.shape]}"/></g>'
    )


def _draw_range(scatter: Scatter, x: Scale, room: Box, *, with_name: bool) -> Iterator[str]:
    if scatter.shaded is None:
        return
    (low, high), words = scatter.shaded
    left, right = (min(max(x.place(end), x.start), x.end) for end in (low, high))
    if right <= left:
        return
    height = room.bottom - room.top
    yield f'<rect class="tint" x="{left:.1f}" y="{room.top:.1f}" width="{right - left:.1f}" height="{height:.1f}"/>'
    if with_name:
        half = measure_text(words) / 2
        yield write(min(max((left + right) / 2, x.start + half), x.end - half), room.top - 9, words, "soft", "middle")


def _draw_legend(legend: Sequence[tuple[str, str]]) -> Iterator[str]:
    left = 10.0
    for shape, word in legend:
        if shape == "error":
            yield f'<path class="error" d="M{left + 5:.1f} 6v13"/>'
        else:
            yield f'<path class="key" transform="translate({left + 5:.1f} 12.5)" d="{SHAPES[shape]}"/>'
        yield write(left + 14, 12.5, word, "soft")
        left += 34 + measure_text(word)


def _draw_ramp(ramp: Ramp, left: float, top: float, bottom: float) -> Iterator[str]:
    """Draw the shades from the least value at the bottom to the greatest, with both numbers and the measure's name."""
    step = (bottom - top) / N_SHADES
    for number in range(N_SHADES):
        y = bottom - (number + 1) * step
        yield f'<rect class="s{number}" x="{left:.1f}" y="{y:.1f}" width="10" height="{step:.1f}"/>'
    for value, y in ((ramp.high, top + 6), (ramp.low, bottom - 6)):
        yield write(left + 14, y, f"{value:.2f}", "soft")
    yield turn_text(left + 24, (top + bottom) / 2, ramp.label)


def _explain(scatter: Scatter, x: Scale, scales: Sequence[Scale]) -> str:
    """Return what a reader has to know of marks at an edge, and of dots that are not there."""
    both = list(zip(scatter.panels, scales, strict=True))
    far = {mark.key for panel, y in both for mark in panel.marks if not (x.covers(mark.x) and y.covers(mark.y))}
    n_left_out = sum(not (x.covers(a) and y.covers(b)) for panel, y in both for a, b in panel.singles)
    sentences = []
    if far:
        sentences.append(f"An arrow at an edge, with its value, is a pattern farther out ({len(far)} here).")
    if n_left_out:
        sentences.append(f"Single trainings outside are left out ({n_left_out} here).")
    return " ".join(sentences)
