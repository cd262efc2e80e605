"""Estimates with their intervals, one line each: named patterns and groups, and effects by stratum."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from analysis.charts.drawing import (
    CHART_WIDTH,
    LINE,
    SHAPES,
    Chart,
    choose_looks,
    clean,
    close_chart,
    cut_text,
    draw_arrow,
    draw_below,
    draw_line,
    measure_text,
    write,
    write_foot,
)
from analysis.charts.scales import Scale, fit_scale
from analysis.page.wording import format_correlation, format_estimate, share_digits

LABEL_WIDTH = 40  # characters; longer labels take several lines
MOST_OUTSIDE = 0.5  # how far outside all intervals a single outcome is drawn, as a share of their range
STEP_HEIGHT = 13.0  # pixels between the estimates of a line with several
TOP, RIGHT = 8.0, 12.0


@dataclass(frozen=True, slots=True)
class Level:
    """The mean outcome of a named pattern or of a group of patterns.

    Args:
        low, high: interval; None where none was computed.
        note: text at the right, such as the number of trainings.
        key: the pattern's key, by which the page's script knows it; None for a group.
        is_reference: whether a dashed line marks the value, for comparison with all others.
        observed: single outcomes, drawn faintly where they lie not far outside the intervals.
    """

    label: str
    value: float
    low: float | None
    high: float | None
    note: str
    key: str | None = None
    is_reference: bool = False
    observed: tuple[float, ...] = ()

    @property
    def ends(self) -> list[float]:
        """The value and the interval's ends, as far as there are any."""
        return [end for end in (self.low, self.value, self.high) if end is not None]


@dataclass(frozen=True, slots=True)
class Effect:
    """One estimate among those of several measures and strata.

    Args:
        label, group: names of the measure and of the stratum.
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


@dataclass(frozen=True, slots=True)
class _Row:
    """Lines of a label at the left, and where they stand."""

    lines: tuple[str, ...]
    top: float
    height: float

    @property
    def middle(self) -> float:
        return self.top + self.height / 2

    def draw(self, right: float, kind: str) -> Iterator[str]:
        first = self.middle - LINE * (len(self.lines) - 1) / 2
        for number, line in enumerate(self.lines):
            yield write(right, first + LINE * number, line, kind, "end")


def draw_levels(
    levels: Sequence[Level], label: str, *, lower_is_better: bool, caption: str = "", width: float = CHART_WIDTH
) -> Chart:
    """Draw mean outcomes with their intervals by name, the best on top.

    Args:
        levels: in any order, at least one.
        label: name and unit of the outcome.
        caption: text at the foot.
        width: pixels; fewer for a picture that phones show whole.
    """
    ordered = sorted(levels, key=lambda level: level.value, reverse=not lower_is_better)
    rows = _stack([level.label for level in ordered], TOP, [0.0] * len(ordered))
    left = 16 + max(measure_text(line) for row in rows for line in row.lines)
    right = width - RIGHT - max(measure_text(level.note) + 10 for level in ordered)
    ends = [end for level in ordered for end in level.ends]
    room = MOST_OUTSIDE * (max(ends) - min(ends))
    dots = [dot for level in ordered for dot in level.observed if min(ends) - room <= dot <= max(ends) + room]
    x = fit_scale([*ends, *dots], left, right)
    bottom = rows[-1].top + rows[-1].height + 4
    parts = [*draw_below(x, TOP, bottom, label)]
    parts += [
        draw_line(x.place(level.value), TOP, x.place(level.value), bottom, "reference")
        for level in ordered
        if level.is_reference and x.covers(level.value)
    ]
    for level, row, text in zip(ordered, rows, _format_levels(ordered), strict=True):
        parts += _draw_level(level, text, row, x, (right, width))
    foot = write_foot(bottom + 56, caption)
    svg = close_chart([*parts, *foot], bottom + 44 + (LINE * len(foot) + 8 if foot else 0), "Intervals", width=width)
    far = [level for level in ordered if not x.covers(level.value)]
    note = f"An arrow at an edge, with its value, is an estimate farther out ({len(far)} here)." if far else ""
    return Chart(svg, note)


def _stack(labels: Sequence[str], top: float, least: Sequence[float]) -> list[_Row]:
    """Return a row for each label, one below the other, each as high as its lines and what is drawn on it need."""
    rows = []
    for label, height in zip(labels, least, strict=True):
        lines = tuple(cut_text(label, LABEL_WIDTH, 3))
        rows.append(_Row(lines, top, max(LINE * len(lines) + 6, height)))
        top += rows[-1].height
    return rows


def _draw_level(level: Level, numbers: str, row: _Row, x: Scale, ends: tuple[float, float]) -> Iterator[str]:
    """Draw a line of text, single outcomes, interval and mean as one group; `ends` are the axis' and the picture's."""
    text, (right, width) = f"{level.label}: {numbers}; {level.note}", ends
    known = "" if level.key is None else f' data-key="{level.key}"'
    kind = "row reference" if level.is_reference else "row"
    yield f'<g class="{kind}" role="img"{known}><title>{clean(text)}</title>'
    yield f'<rect class="hit" y="{row.top:.1f}" width="{width:.0f}" height="{row.height:.1f}"/>'
    yield from row.draw(x.start - (8 if x.below is None else 44), "")
    dots = "".join(f"M{x.place(dot):.1f} {row.middle:.1f}h0" for dot in level.observed if x.covers(dot))
    if dots:
        yield f'<path class="singles" d="{dots}"/>'
    yield from _draw_interval(level, numbers, row.middle, x)
    yield write(right + 10, row.middle, level.note, "soft")
    yield "</g>"


def _draw_interval(each: Level | Effect, text: str, y: float, x: Scale, shape: str = "circle") -> Iterator[str]:
    """Draw a mark on its interval; a hollow one without an interval, one with an arrow and its numbers off the axis."""
    value, low, high = each.value, each.low, each.high
    assert value is not None
    if low is not None and high is not None and x.covers(value):
        yield draw_line(x.place(max(low, x.low)), y, x.place(min(high, x.high)), y, "interval")
    kind = "mean" if low is not None and high is not None else "mean hollow"
    place = x.place(value)
    yield f'<path class="{kind}" transform="translate({place:.1f} {y:.1f})" d="{SHAPES[shape]}"/>'
    if not x.covers(value):
        is_right = value > x.high
        yield draw_arrow(place, y, "right" if is_right else "left")
        near, anchor = (place - 9, "end") if is_right else (place + 9, "start")
        yield write(near, y, text, "soft small", anchor)


def draw_effects(effects: Sequence[Effect], label: str, caption: str = "", width: float = CHART_WIDTH) -> Chart:
    """Draw a line for each measure with the estimates of all strata on it, the declared measures first.

    Measures whose estimates are larger come before others.

    Args:
        effects: in any order, at least one, at most one for each label and group.
        label: name and unit of the effects.
        caption: text at the foot.
        width: pixels; fewer for a picture that phones show whole.
    """
    groups = list(dict.fromkeys(effect.group for effect in effects))
    by_label: dict[str, list[Effect]] = {}
    for effect in effects:
        by_label.setdefault(effect.label, []).append(effect)
    ordered = sorted(by_label.items(), key=lambda item: (not item[1][0].is_primary, -_size(item[1])))
    legend, top = _draw_groups(groups) if len(groups) > 1 else ([], TOP)
    rows = _stack([name for name, _ in ordered], top, [8 + STEP_HEIGHT * len(groups)] * len(ordered))
    left = 16 + 1.06 * max(measure_text(line) for row in rows for line in row.lines)
    texts = {effect: _format_effect(effect) for effect in effects}
    right = width - RIGHT - (max(map(measure_text, texts.values())) + 10 if len(groups) == 1 else 0)
    ends = [end for effect in effects for end in (effect.value, effect.low, effect.high) if end is not None]
    x = fit_scale([0.0, *ends], left, right)
    bottom = rows[-1].top + rows[-1].height
    parts = [*legend]
    parts += [
        f'<rect class="tint" y="{row.top:.1f}" width="{width:.0f}" height="{row.height:.1f}"/>' for row in rows[1::2]
    ]
    parts += [*draw_below(x, top, bottom, label), draw_line(x.place(0), top, x.place(0), bottom, "axis")]
    looks = choose_looks(groups) if len(groups) > 1 else {groups[0]: ("c1", "circle")}
    for (_, own), row in zip(ordered, rows, strict=True):
        parts += row.draw(left - 8, "bold" if own[0].is_primary else "")
        for effect in own:
            y = row.middle + STEP_HEIGHT * (groups.index(effect.group) - (len(groups) - 1) / 2)
            parts += _draw_effect(effect, texts[effect], y, x, looks[effect.group])
            if len(groups) == 1:
                parts.append(write(right + 10, y, texts[effect], "bold" if effect.is_primary else ""))
    foot = write_foot(bottom + 56, caption)
    return Chart(
        close_chart([*parts, *foot], bottom + 44 + (LINE * len(foot) + 8 if foot else 0), "Intervals", width=width)
    )


def _size(effects: Sequence[Effect]) -> float:
    values = [abs(effect.value) for effect in effects if effect.value is not None]
    return sum(values) / len(values) if values else -1.0


def _draw_groups(groups: Sequence[str]) -> tuple[list[str], float]:
    """Return a legend of the strata in two columns, and where it ends."""
    looks, parts = choose_looks(groups), []
    for number, group in enumerate(groups):
        colour, shape = looks[group]
        x, y = (12.0 if number % 2 == 0 else CHART_WIDTH / 2), 12 + LINE * (number // 2)
        parts.append(f'<path class="{colour}" transform="translate({x:.0f} {y:.0f})" d="{SHAPES[shape]}"/>')
        parts.append(write(x + 12, y, cut_text(group, 48)[0]))
    return parts, TOP + 8 + LINE * ((len(groups) + 1) // 2)


def _draw_effect(effect: Effect, text: str, y: float, x: Scale, look: tuple[str, str]) -> Iterator[str]:
    if effect.value is None:
        return
    colour, shape = look
    yield f'<g class="effect {colour}" role="img"><title>{clean(f"{effect.group}, {effect.label}: {text}")}</title>'
    yield from _draw_interval(effect, text, y, x, shape)
    yield "</g>"


def _format_effect(effect: Effect) -> str:
    if effect.value is None:
        return ""
    return format_correlation(effect.value, effect.low, effect.high).replace("-", "\u2212")


def _format_levels(levels: Sequence[Level]) -> list[str]:
    """Return each value and its interval, all rounded to the noise of most of them."""
    digits = share_digits((level.low, level.high) for level in levels)
    return [format_estimate(each.value, each.low, each.high, digits).replace("-", "\u2212") for each in levels]
