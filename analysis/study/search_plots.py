"""Figures of a search: outcomes against mean BD, and learning curves."""

from collections.abc import Iterator

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.data.averages import average_curves
from analysis.data.outcomes import is_of_images, list_outcomes, list_shown
from analysis.page.figure_style import (
    DISTANCE,
    FAINT,
    GREY,
    INK,
    LABELS,
    MUTED,
    Label,
    add_caption,
    choose_styles,
    describe_mark,
    draw_errors,
    floats,
    label_outcome,
    label_places,
    lay_out,
    name_mark,
    new_figure,
    style_axes,
    wrap_text,
)
from analysis.page.wording import name_outcome
from analysis.stats.intervals import range_of, seed_error

MAX_LINES = 120  # more of them are a smear, and a large file
MAX_TEXTS = 300  # patterns without a name that carry a text: more hide one another, and each takes a millisecond


def plot_distance_accuracy(
    patterns: pd.DataFrame,
    candidates: pd.DataFrame,
    uniform_range: tuple[float, float] | None = None,
    caption: str = "",
) -> Figure:
    """Draw every outcome against mean BD, one panel each.

    Args:
        patterns: rows of average_patterns, one stratum.
        candidates: the same stratum's rows of read_run; single trainings are drawn faintly.
        uniform_range: mean BDs between which 98 % of uniformly random patterns lie, shaded.
    """
    outcomes = [name for name in list_shown(patterns) if patterns[name].notna().any()]
    styles = choose_styles(patterns["template"].dropna().tolist())
    figure = new_figure(0.7 + 2.9 * len(outcomes))
    panels = figure.subplots(len(outcomes), 1, sharex=True, squeeze=False)[:, 0]
    for axes, outcome in zip(panels, outcomes, strict=True):
        style_axes(axes)
        axes.set_ylabel(label_outcome(outcome))
        if uniform_range is not None:
            axes.axvspan(*uniform_range, color="#f0f2f4", zorder=0)
        _draw_patterns(axes, patterns, candidates, outcome, styles)
    panels[-1].set_xlabel(DISTANCE)
    if uniform_range is not None:
        _name_range(panels[0], uniform_range)
    add_caption(figure, caption)
    lay_out(figure)
    for axes, outcome in zip(panels, outcomes, strict=True):
        rows = patterns.dropna(subset=[outcome])
        places = list(zip(floats(rows["mean_bd"]), floats(rows[outcome]), strict=True))
        named = [(name, *place) for name, place in zip(rows["template"], places, strict=True) if not pd.isna(name)]
        label_places(axes, [Label(name, x, y, styles[name][0]) for name, x, y in named], places)
    return figure


def plot_curves(
    curves: pd.DataFrame, candidates: pd.DataFrame, best_key: str | None = None, caption: str = ""
) -> Figure:
    """Draw training loss by epoch: a thin line for each candidate, and means of the templates and the best pattern.

    Where a task reports no training loss, its primary outcome is drawn. Where candidates are many, a band that contains
    95 % of them stands for the lines.

    Args:
        curves, candidates: rows of read_run; candidates that failed are drawn as far as they came.
        best_key: the pattern to single out besides the templates.
    """
    figure = new_figure(3.9)
    axes = figure.subplots()
    style_axes(axes)
    drawn, outcome = choose_curves(curves, candidates)
    label = LABELS["train_loss"] if is_of_images(candidates) else name_outcome(drawn)
    axes.set(xlabel="epoch", ylabel=label)
    trained = curves[curves["metric"] == drawn]
    measured = curves[curves["metric"] == outcome] if outcome != drawn else curves.iloc[:0]
    if trained["number"].nunique() <= MAX_LINES:
        for _, line in trained.groupby("number"):
            axes.plot(floats(line["epoch"]), floats(line["value"]), color=FAINT, linewidth=0.6, alpha=0.6)
        axes.scatter(floats(measured["epoch"]), floats(measured["value"]), s=10, color=FAINT, alpha=0.6, linewidths=0)
        axes.plot([], [], color=FAINT, linewidth=1, label="one candidate")
    else:
        by_epoch = trained.groupby("epoch")["value"]
        ends_of_band = floats(by_epoch.quantile(0.025)), floats(by_epoch.quantile(0.975))
        label = "95 % of the candidates"
        axes.fill_between(sorted(by_epoch.groups), *ends_of_band, color=FAINT, alpha=0.5, linewidth=0, label=label)
    averages = average_curves(candidates, curves)
    averages = averages[averages["metric"].isin([drawn, outcome])]
    ends = list(_draw_singled_out(axes, averages, candidates, best_key, drawn))
    if len(measured):
        axes.scatter([], [], s=22, facecolor="white", edgecolor=INK, label=name_outcome(outcome))
    axes.legend(frameon=False, fontsize=8, loc="upper right")
    add_caption(figure, caption)
    _label_ends(axes, ends)
    return figure


def _draw_patterns(
    axes: Axes, patterns: pd.DataFrame, candidates: pd.DataFrame, outcome: str, styles: dict[str, tuple[str, str]]
) -> None:
    """Draw one artist for each pattern, which carries its text, over faint errors and single trainings.

    Patterns without a name beyond the MAX_TEXTS best are one artist without a text.
    """
    single = candidates.dropna(subset=[outcome])
    axes.scatter(floats(single["mean_bd"]), floats(single[outcome]), s=7, color=FAINT, alpha=0.7, linewidths=0)
    rows = patterns.dropna(subset=[outcome])
    errors = seed_error(rows, f"{outcome}_sd").fillna(0.0)
    draw_errors(axes, floats(rows["mean_bd"]), floats(rows[outcome]), floats(errors), MUTED, range_of(outcome))
    has_text = rows["template"].notna() | (rows["template"].isna().cumsum() <= MAX_TEXTS)
    if not has_text.all():
        rest = rows[~has_text]
        axes.scatter(
            floats(rest["mean_bd"]), floats(rest[outcome]), s=4.5**2, color=MUTED, edgecolors="white", linewidths=0.6,
            zorder=2.5,
        )  # fmt: skip
    for place, (_, row) in enumerate(rows[has_text].iterrows()):
        is_named = not pd.isna(row["template"])
        colour, marker = styles[row["template"]] if is_named else (MUTED, "o")
        (mark,) = axes.plot(
            row["mean_bd"], row[outcome], marker, color=colour, markersize=7.0 if is_named else 4.5,
            markeredgecolor="white", markeredgewidth=0.6, zorder=4 if is_named else 3,
        )  # fmt: skip
        name_mark(mark, f"{outcome}-{place}", describe_mark(row, outcome, f"{outcome}_sd"))


def _name_range(axes: Axes, uniform_range: tuple[float, float]) -> None:
    text = "98 % of uniformly random patterns"
    middle = sum(uniform_range) / 2
    axes.annotate(
        text, (middle, 1.0), xycoords=("data", "axes fraction"), xytext=(0, 3), textcoords="offset points",
        ha="center", va="bottom", fontsize=8, color=GREY,
    )  # fmt: skip


def _draw_singled_out(
    axes: Axes, averages: pd.DataFrame, candidates: pd.DataFrame, best_key: str | None, drawn: str
) -> Iterator[tuple[float, float, str, str]]:
    """Draw the templates' and the best pattern's means; yield each line's end, name and colour."""
    named = candidates.dropna(subset=["template"]).drop_duplicates("template")
    names: dict[str, str] = dict(zip(named["key"].tolist(), named["template"].tolist(), strict=True))
    styles = choose_styles([*names.values()])
    lines = [(key, name, *styles[name]) for key, name in names.items() if key != best_key]
    if best_key in names:
        lines.append((best_key, f"{names[best_key]} (best)", *styles[names[best_key]]))
    elif best_key is not None:
        lines.append((best_key, "best", INK, "o"))
    for key, name, colour, marker in lines:
        own = averages[averages["key"] == key]
        train, measured = own[own["metric"] == drawn], own[own["metric"] != drawn]
        if not len(train):
            continue
        axes.plot(floats(train["epoch"]), floats(train["value"]), color=colour, linewidth=1.8)
        axes.plot(
            floats(measured["epoch"]), floats(measured["value"]), marker, color=colour, markerfacecolor="white",
            markersize=6,
        )  # fmt: skip
        yield floats(train["epoch"])[-1], floats(train["value"])[-1], name, colour


def choose_curves(curves: pd.DataFrame, candidates: pd.DataFrame) -> tuple[str, str]:
    """Return the metric that is drawn as lines, and the outcome that is marked on them, of a task's curves."""
    primary = list_outcomes(candidates)[0]
    names = set(curves["metric"])
    return ("train_loss" if is_of_images(candidates) or "train_loss" in names else str(primary)), str(primary)


def _label_ends(axes: Axes, ends: list[tuple[float, float, str, str]]) -> None:
    """Name lines right of their ends, pushed apart where they would overlap."""
    low, high = axes.get_ylim()
    axes.set_ylim(low, high)
    gap = 0.058 * (high - low)
    height = low - gap
    for x, y, name, colour in sorted(ends, key=lambda end: end[1]):
        height = max(y, height + gap)
        axes.annotate(
            "".join(wrap_text(name)), (x, y), xytext=(1.02, height), textcoords=("axes fraction", "data"), va="center",
            fontsize=9, color=colour, annotation_clip=False,
            arrowprops={"arrowstyle": "-", "color": colour, "linewidth": 0.5},
        )  # fmt: skip
