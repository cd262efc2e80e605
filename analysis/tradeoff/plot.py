"""The figure of accuracy against connections, parameters and FLOPs."""

import math
from collections.abc import Sequence
from typing import Literal

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.transforms import ScaledTranslation

from analysis.page.figure_style import (
    GREY,
    INK,
    add_caption,
    choose_styles,
    lay_out,
    name_mark,
    new_figure,
    style_axes,
    wrap_text,
)
from analysis.page.wording import LABELS, count_nouns, format_count
from analysis.tradeoff.contenders import FOUND, RANDOM
from analysis.tradeoff.points import Point

COST_LABELS = {"connections": "connections", "params": "parameters", "flops": "FLOPs"}
STEP = 2.4  # points between the intervals of two families at one budget, which would cover each other;
SPREAD = 22  # but no more than so many from the first to the last
LETTER = 0.045  # share of a panel's width that a letter of its ticks' labels takes, as does the gap between two


def plot_tradeoff(points: Sequence[Point], caption: str = "") -> Figure:
    """Draw accuracy against what connections cost, with a panel and a logarithmic axis for each kind of cost.

    A family with several budgets is a line, its intervals moved a little aside from its neighbours'; one with a single
    budget is a mark. FOUND is drawn bold, RANDOM dashed.

    Args:
        points: those of a Tradeoff, in its order; a panel leaves out those whose cost is not known.
    """
    families = list(dict.fromkeys(point.family for point in points))
    costs = [cost for cost in COST_LABELS if any(getattr(point, cost) is not None for point in points)]
    figure = new_figure(3.6 + 0.2 * math.ceil(len(families) / 5))
    panels = figure.subplots(1, len(costs), sharey=True, squeeze=False)[0]
    styles = _choose_styles(families)
    for axes, cost in zip(panels, costs, strict=True):
        style_axes(axes)
        axes.set_xscale("log")
        axes.set_xlabel(COST_LABELS[cost], fontsize=10)
        _set_ticks(axes, points, cost)
        for number, family in enumerate(families):
            shift = min(STEP, SPREAD / len(families)) * (number - (len(families) - 1) / 2)
            own = [point for point in points if point.family == family and getattr(point, cost) is not None]
            if own:
                _draw_family(axes, own, cost, styles[family], shift, f"{cost}-{number}")
    panels[0].set_ylabel(LABELS["validation_accuracy"], fontsize=10)
    panels[0].set_ylim(
        *_limits([end for point in points for end in (point.low, point.accuracy, point.high) if end is not None])
    )
    figure.legend(
        handles=[_make_handle(family, styles[family], points) for family in families], loc="outside upper left",
        ncols=min(5, len(families)), frameon=False, fontsize=8.5, handlelength=2.2, columnspacing=1.4, labelcolor=INK,
    )  # fmt: skip
    add_caption(figure, caption)
    lay_out(figure)
    return figure


def _choose_styles(families: Sequence[str]) -> dict[str, tuple[str, str]]:
    """Choose a colour and a marker for each family."""
    special = {FOUND: (INK, "o"), RANDOM: (GREY, "o")}
    return choose_styles([family for family in families if family not in special]) | special


def _draw_family(
    axes: Axes, points: Sequence[Point], cost: str, style: tuple[str, str], shift: float, name: str
) -> None:
    """Draw a family's line, intervals and marks; each mark carries its own text.

    Args:
        shift: points by which all of them are moved to the right.
        name: part of their ids, so unique in the figure.
    """
    figure = axes.get_figure()
    assert isinstance(figure, Figure)
    moved = axes.transData + ScaledTranslation(shift / 72, 0, figure.dpi_scale_trans)
    colour, marker = style
    x, y = [getattr(point, cost) for point in points], [point.accuracy for point in points]
    family = points[0].family
    is_bold = family == FOUND
    order = 4 if is_bold else 3
    if len(points) > 1:
        axes.plot(
            x, y, _line_style(family), color=colour, linewidth=2.4 if is_bold else 1.4, transform=moved,
            zorder=order, gid=f"line-{name}",
        )  # fmt: skip
    for place, point in enumerate(points):
        if point.low is not None and point.high is not None:
            axes.plot(
                [x[place]] * 2, [point.low, point.high], color=colour, linewidth=1.6 if is_bold else 0.9,
                transform=moved, zorder=order - 1, gid=f"interval-{name}-{place}",
            )  # fmt: skip
        (mark,) = axes.plot(
            x[place], y[place], marker, color=colour, markersize=6.5 if is_bold else 5.5, markeredgecolor="white",
            markeredgewidth=0.5, transform=moved, zorder=order + 1,
        )  # fmt: skip
        name_mark(mark, f"{name}-{place}", _describe(point))


def _describe(point: Point) -> str:
    interval = "" if point.low is None or point.high is None else f" [{100 * point.low:.2f}, {100 * point.high:.2f}]"
    costs = [
        f"{getattr(point, cost):,} {word}" for cost, word in COST_LABELS.items() if getattr(point, cost) is not None
    ]
    accuracy = f"accuracy {100 * point.accuracy:.2f} %{interval}, {count_nouns(point.n_seeds, 'seed')}"
    return f"{point.family} ({point.pattern}): {', '.join(costs)}; {accuracy}"


def _set_ticks(axes: Axes, points: Sequence[Point], cost: str) -> None:
    """Set ticks at the budgets' own costs; label the largest, and below it as many as there is room for."""
    by_budget: dict[str, list[int]] = {}
    for point in points:
        if getattr(point, cost) is not None:
            by_budget.setdefault(point.budget, []).append(getattr(point, cost))
    values = sorted({sorted(costs)[len(costs) // 2] for costs in by_budget.values()})
    everything = [value for costs in by_budget.values() for value in costs]
    low, high = _limits([math.log(value) for value in everything], 0.12)
    axes.set_xlim(math.exp(low), math.exp(high))
    labels = {values[-1]: format_count(values[-1])}
    for value in values[:-1]:
        text = format_count(value)
        if all(
            abs(math.log(value / other)) >= LETTER * (1 + (len(text) + len(label)) / 2) * (high - low)
            for other, label in labels.items()
        ):
            labels[value] = text
    axes.set_xticks(values, [labels.get(value, "") for value in values])
    axes.minorticks_off()


def _limits(values: Sequence[float], margin: float = 0.05) -> tuple[float, float]:
    """Return limits a little beyond the least and the greatest value, of some width even for a single one."""
    low, high = min(values), max(values)
    room = margin * (high - low) or 0.01
    return low - room, high + room


def _make_handle(family: str, style: tuple[str, str], points: Sequence[Point]) -> Line2D:
    is_lone = sum(point.family == family for point in points) == 1
    return Line2D(
        [], [], linestyle="" if is_lone else _line_style(family), linewidth=2.4 if family == FOUND else 1.4,
        marker=style[1], color=style[0], markeredgecolor="white", label="".join(wrap_text(family, 24)),
    )  # fmt: skip


def _line_style(family: str) -> Literal["-", "--"]:
    return "--" if family == RANDOM else "-"
