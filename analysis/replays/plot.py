"""The figure of search strategies' regret."""

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.page.figure_style import COLOURS, GREY, add_caption, clean_text, floats, new_figure, style_axes
from analysis.replays.regret import RANDOM


def plot_regret(curves: pd.DataFrame, unit: str, caption: str = "") -> Figure:
    """Draw regret against trainings, and next to it the difference to random search, each with its 95 % band.

    Args:
        curves: curves of measure_regret.
        unit: what regret is measured in.
        caption: text at the foot.
    """
    figure = new_figure(3.6)
    regret, difference = figure.subplots(1, 2)
    learned = [name for name in curves["strategy"].unique() if name != RANDOM]
    colours = dict(zip(learned, (COLOURS[i % len(COLOURS)] for i in range(len(learned))), strict=True))
    for name in (RANDOM, *learned):
        rows = curves[curves["strategy"] == name]
        colour = colours.get(name, GREY)
        _draw_line(regret, rows, "regret", colour, name)
        if name != RANDOM:
            _draw_line(difference, rows, "difference_to_random", colour, name)
    difference.axhline(0, color=GREY, linewidth=1.6, zorder=1)
    for axes, title in (
        (regret, f"regret ({unit})"),
        (difference, "difference to random; below 0 is better"),
    ):
        style_axes(axes)
        axes.set_title(title, fontsize=9.5, loc="left")
        axes.set_xlabel("trainings", fontsize=10)
        axes.set_xlim(0, None)
    regret.set_ylim(0, None)
    regret.legend(frameon=False, fontsize=9, loc="upper right")
    add_caption(figure, caption)
    return figure


def _draw_line(axes: Axes, rows: pd.DataFrame, column: str, colour: str, name: str) -> None:
    trainings = floats(rows["trainings"])
    low, high = (floats(rows[f"{column}_{end}"]) for end in ("low", "high"))
    axes.fill_between(trainings, low, high, color=colour, alpha=0.15, linewidth=0, zorder=1)
    axes.plot(trainings, floats(rows[column]), color=colour, linewidth=1.8, label=clean_text(name), zorder=2)
