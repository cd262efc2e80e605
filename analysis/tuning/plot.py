"""Figures of tuned learning rates: the loss of each pattern against the rate, and how a correlation turns."""

import math
from collections.abc import Sequence

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import ListedColormap, Normalize
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, NullFormatter, ScalarFormatter

from analysis.page.figure_style import (
    COLOURS,
    GREY,
    INK,
    MARKERS,
    add_caption,
    add_colour_bar,
    clean_text,
    lay_out,
    name_mark,
    new_figure,
    style_axes,
)
from analysis.page.wording import LABELS, format_interval, format_signed, name_briefly, name_measure
from analysis.tuning.turning import Turning

# Viridis without its palest end, which is lost on white; few enough steps to keep the file small.
MEASURE_COLOURS = ListedColormap(mpl.colormaps["viridis"](tuple(0.9 * i / 31 for i in range(32))), "measure")
DODGE = 0.035  # shift of a measure's marks from its neighbour's, as a share of a factor of e


def plot_losses(losses: pd.DataFrame, patterns: pd.DataFrame, measure: str, caption: str = "") -> Figure:
    """Draw the loss of each pattern against the learning rate, one thin line a pattern, its least marked.

    Args:
        losses: mean loss by key and rate; nan, which interrupts the line, where a training diverged.
        patterns: rows of a Tuning, with best_lr and edge; those at an edge have a hollow mark.
        measure: column that colours the lines.
    """
    figure = new_figure(4.6)
    axes = figure.subplots()
    style_axes(axes)
    axes.set(xlabel="learning rate", ylabel=LABELS["validation_loss"], xscale="log", yscale="log")
    values = patterns[measure].to_numpy(np.float64)
    norm = Normalize(float(values.min()), float(values.max()))
    for number, (_, row) in enumerate(patterns.iterrows()):
        colour = MEASURE_COLOURS(norm(float(row[measure])))
        own = losses.loc[row["key"]]
        axes.plot(own.index, own.to_numpy(), color=colour, linewidth=0.8, alpha=0.65, zorder=2)
        _mark_best(axes, row, measure, colour, number)
    _tick_rates(axes, [float(rate) for rate in losses.columns])
    _tick_losses(axes)
    scale = ScalarMappable(norm, MEASURE_COLOURS)
    add_colour_bar(figure, scale, axes, name_measure(measure), aspect=32)
    add_caption(figure, caption)
    lay_out(figure)
    return figure


def _mark_best(axes: Axes, row: "pd.Series[float]", measure: str, colour: tuple[float, ...], number: int) -> None:
    is_inside = pd.isna(row["edge"])
    (mark,) = axes.plot(
        row["best_lr"], row["validation_loss"], "o", color=colour, markersize=5, zorder=3, markeredgewidth=0.9,
        markeredgecolor="white" if is_inside else colour, markerfacecolor=colour if is_inside else "white",
    )  # fmt: skip
    where = "" if is_inside else " or beyond"
    text = f"{name_briefly(row)}: {name_measure(measure)} {row[measure]:.3g}, best rate {row['best_lr']:.3g}{where}"
    name_mark(mark, f"best-{number}", f"{text}, loss there {row['validation_loss']:.3g}")


def _tick_rates(axes: Axes, rates: Sequence[float]) -> None:
    axes.xaxis.set_major_locator(FixedLocator(list(rates)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda rate, _: f"{rate:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.minorticks_off()


def _tick_losses(axes: Axes) -> None:
    low, high = axes.get_ylim()
    steps = (1, 2, 5) if high / low > 10 else (1, 1.2, 1.5, 2, 2.5, 3, 4, 5, 6, 8)
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    axes.yaxis.set_major_locator(FixedLocator([step * 10.0**k for k in decades for step in steps]))
    axes.yaxis.set_major_formatter(ScalarFormatter())
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.set_ylim(low, high)


def plot_turnings(turnings: Sequence[Turning], rates: Sequence[float], caption: str = "") -> Figure:
    """Draw the rank correlation of measures with the loss against the amount of training, with intervals.

    A bar on the zero line is the interval of where a correlation changes its sign.

    Args:
        turnings: at least one, all of the same amounts.
        rates: learning rates of the amounts.
    """
    figure = new_figure(4.2)
    axes = figure.subplots()
    style_axes(axes)
    axes.set(xscale="log", ylim=(-1.05, 1.05))
    axes.set_xlabel("amount of training: learning rate x weight updates (below: the learning rate)")
    axes.set_ylabel("rank correlation with the loss")
    axes.axhline(0, color=GREY, linewidth=1, zorder=1)
    for number, turning in enumerate(turnings):
        shift = math.exp(DODGE * (number - (len(turnings) - 1) / 2))
        _draw_turning(axes, turning, shift, number)
    amounts = turnings[0].amounts
    axes.set_xlim(amounts[0] / 1.35, amounts[-1] * 1.35)
    axes.xaxis.set_major_locator(FixedLocator(list(amounts)))
    labels = {amount: f"{amount:.3g}\n({rate:g})" for amount, rate in zip(amounts, rates, strict=True)}
    axes.set_xticks(list(amounts), list(labels.values()))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.minorticks_off()
    figure.legend(
        handles=[_make_handle(turning, number) for number, turning in enumerate(turnings)], loc="outside upper left",
        ncols=3, frameon=False, fontsize=9, labelcolor=INK,
    )  # fmt: skip
    add_caption(figure, caption)
    lay_out(figure)
    return figure


def _draw_turning(axes: Axes, turning: Turning, shift: float, number: int) -> None:
    colour, marker = _style(number)
    places = [amount * shift for amount in turning.amounts]
    values = [math.nan if effect.value is None else effect.value for effect in turning.effects]
    axes.plot(places, values, color=colour, linewidth=1.4, zorder=2)
    for place, amount, effect, n in zip(places, turning.amounts, turning.effects, turning.n_patterns, strict=True):
        if effect.value is None:
            continue
        if effect.low is not None and effect.high is not None:
            axes.plot([place, place], [effect.low, effect.high], color=colour, linewidth=1.1, zorder=2)
        (mark,) = axes.plot(place, effect.value, marker, color=colour, markersize=6, markeredgecolor="white", zorder=3)
        text = f"{name_measure(turning.measure)} at {amount:.3g}: {format_signed(effect.value)}"
        name_mark(
            mark, f"turn-{number}-{amount:g}", f"{text} ({format_interval(effect.low, effect.high)}), {n} patterns"
        )
    if turning.crossing is not None and turning.is_shown:
        low = turning.crossing.low or turning.amounts[0] / 1.35
        high = turning.crossing.high or turning.amounts[-1] * 1.35
        axes.plot([low, high], [0, 0], color=colour, linewidth=5, alpha=0.35, solid_capstyle="butt", zorder=1.5)
        (mark,) = axes.plot(turning.crossing.value, 0, "|", color=colour, markersize=13, markeredgewidth=2, zorder=4)
        name_mark(mark, f"crossing-{number}", f"{name_measure(turning.measure)}: zero at {turning.crossing.value:.3g}")


def _make_handle(turning: Turning, number: int) -> Line2D:
    colour, marker = _style(number)
    label = clean_text(name_measure(turning.measure))
    return Line2D([], [], color=colour, marker=marker, markeredgecolor="white", label=label)


def _style(number: int) -> tuple[str, str]:
    return COLOURS[number % len(COLOURS)], MARKERS[number % len(MARKERS)]
