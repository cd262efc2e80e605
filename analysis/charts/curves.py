"""Learning curves: every pattern faintly, the templates and the best one by name."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from analysis.charts.drawing import (
    CHART_WIDTH,
    LINE,
    SHAPES,
    Chart,
    clean,
    close_chart,
    cut_text,
    draw_below,
    draw_left,
    draw_line,
    measure_text,
    write,
    write_foot,
)
from analysis.charts.labels import spread
from analysis.charts.scales import Scale, fit_scale

LEFT, TOP, HEIGHT = 66.0, 28.0, 300.0
MAX_POINTS = 60  # of a line: more do not show, and make a large file
NAME_WIDTH = 26  # characters
Points = tuple[tuple[float, float], ...]  # epoch, value


@dataclass(frozen=True, slots=True)
class Curve:
    """The mean curve of a pattern that is named.

    Args:
        key: the pattern's key, by which the page's script knows it.
        line: what is drawn as a line.
        measured: points of the outcome that is marked on it.
        colour, shape: a class of the style sheet, and one of SHAPES for the marks.
    """

    key: str
    name: str
    line: Points
    measured: Points
    colour: str
    shape: str


@dataclass(frozen=True, slots=True)
class Faint:
    """The curves of one pattern's trainings; or their mean, which shows only when the pattern is pointed at."""

    key: str
    lines: tuple[Points, ...]
    is_hidden: bool = False


@dataclass(frozen=True, slots=True)
class Curves:
    """What a chart of learning curves shows.

    Args:
        label: name and unit of what is drawn as lines.
        band: epoch, lower and upper end of what holds most of the curves; empty where the faint ones are drawn.
        measured: name of the outcome that is marked; empty without.
        is_log: whether the axis is logarithmic, as losses are compared.
        caption: text at the foot.
    """

    label: str
    named: tuple[Curve, ...]
    faint: tuple[Faint, ...]
    band: tuple[tuple[float, float, float], ...] = ()
    measured: str = ""
    is_log: bool = False
    caption: str = ""


def draw_curves(curves: Curves) -> Chart:
    """Draw curves over epochs, with names right of their ends."""
    names = [cut_text(curve.name, NAME_WIDTH)[0] for curve in curves.named]
    right = CHART_WIDTH - 24 - max(map(measure_text, names), default=0.0)
    bottom = TOP + HEIGHT
    lines = [curve.line for curve in curves.named] + [line for faint in curves.faint for line in faint.lines]
    points = [point for line in lines for point in line]
    ends = [end for _, *both in curves.band for end in both]
    y = fit_scale([value for _, value in points] + ends, bottom, TOP, curves.is_log)
    epochs = [epoch for epoch, _ in points] or [0.0, 1.0]
    x = Scale(min(epochs), max(epochs) if max(epochs) > min(epochs) else min(epochs) + 1, LEFT, right)
    parts = [*_draw_legend(curves), *draw_below(x, TOP, bottom, "epoch"), *draw_left(y, LEFT, right, curves.label)]
    parts += [
        '<clipPath id="panel">',
        f'<rect x="{LEFT:.0f}" y="{TOP - 4:.0f}" width="{right - LEFT + 6:.1f}" '
        f'height="{HEIGHT + 8:.0f}"/></clipPath><g clip-path="url(#panel)">',
    ]
    if curves.band:
        parts.append(_draw_band(curves.band, x, y))
    for faint in curves.faint:
        kind = "faint hidden" if faint.is_hidden else "faint"
        path = "".join(_trace(line, x, y) for line in faint.lines)
        parts.append(f'<path class="{kind}" data-key="{faint.key}" d="{path}"/>')
    parts += ["</g>", *_draw_named(curves.named, names, x, y, right)]
    foot = write_foot(bottom + 56, curves.caption)
    return Chart(close_chart([*parts, *foot], bottom + 44 + (LINE * len(foot) + 8 if foot else 0), "Learning curves"))


def _trace(line: Points, x: Scale, y: Scale) -> str:
    """Return a line as a path of at most MAX_POINTS points; one on which nothing is finite is empty."""
    usable = [(epoch, value) for epoch, value in line if math.isfinite(value) and (value > 0 or not y.is_log)]
    step = max(1, math.ceil(len(usable) / MAX_POINTS))
    kept = usable[::step] + (usable[-1:] if usable[::step][-1:] != usable[-1:] else [])
    pixels = [(round(x.place(epoch), 1), round(_reach(value, y), 1)) for epoch, value in kept]
    steps = [(x1 - x0, y1 - y0) for (x0, y0), (x1, y1) in pairwise(pixels)]  # shorter than places, and exact to 0.1
    return "".join([*(f"M{a:g} {b:g}" for a, b in pixels[:1]), *(f"l{a:.4g} {b:.4g}" for a, b in steps)])


def _reach(value: float, y: Scale) -> float:
    """Return a value's pixel; one beyond the axis a little outside, where the line leaves the panel."""
    if y.covers(value):
        return y.place(value)
    return y.start + 30 if value < y.low else y.end - 30


def _draw_band(band: Sequence[tuple[float, float, float]], x: Scale, y: Scale) -> str:
    upper = [(epoch, high) for epoch, _, high in band]
    lower = [(epoch, low) for epoch, low, _ in reversed(band)]
    path = " ".join(f"{x.place(epoch):.1f} {_reach(value, y):.1f}" for epoch, value in [*upper, *lower])
    return f'<path class="band" d="M{path}z"/>'


def _draw_named(named: Sequence[Curve], names: Sequence[str], x: Scale, y: Scale, right: float) -> Iterator[str]:
    drawn = [(curve, name) for curve, name in zip(named, names, strict=True) if _trace(curve.line, x, y)]
    ends = [min(max(_reach(curve.line[-1][1], y), TOP), TOP + HEIGHT) for curve, _ in drawn]
    places = spread(ends, LINE - 2, TOP, TOP + HEIGHT)
    for (curve, name), end, place in zip(drawn, ends, places, strict=True):
        yield f'<g class="curve {curve.colour}" role="img" data-key="{curve.key}"><title>{clean(curve.name)}</title>'
        yield f'<path class="line" d="{_trace(curve.line, x, y)}"/>'
        for epoch, value in curve.measured[:: max(1, len(curve.measured) // 12)]:
            if y.covers(value):
                place_of = f"translate({x.place(epoch):.1f} {y.place(value):.1f})"
                yield f'<path class="hollow" transform="{place_of}" d="{SHAPES[curve.shape]}"/>'
        yield draw_line(x.place(curve.line[-1][0]), end, right + 8, place, "lead")
        yield write(right + 11, place, name)
        yield "</g>"


def _draw_legend(curves: Curves) -> Iterator[str]:
    left = LEFT
    words = "95 % of the candidates" if curves.band else "one training"
    yield f'<path class="{"band" if curves.band else "faint"}" d="M{left:.0f} 11.5h16v3h-16z"/>'
    yield write(left + 22, 12.5, words, "soft")
    left += 44 + measure_text(words)
    if curves.measured:
        yield f'<path class="hollow" transform="translate({left:.0f} 12.5)" d="{SHAPES["circle"]}"/>'
        yield write(left + 10, 12.5, f"{curves.measured}, mean over seeds", "soft")
