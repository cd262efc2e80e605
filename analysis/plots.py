"""numbers -> matplotlib Figure; no maths, no files."""

import io
from collections.abc import Iterator, Sequence

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from matplotlib.text import Annotation
from matplotlib.transforms import Bbox

from analysis.results import average_curves

# Okabe and Ito's palette, which colour-blind readers tell apart; grey for all that is not singled out.
COLOURS = ("#d55e00", "#0072b2", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
MARKERS = ("s", "D", "^", "v", "P", "X")
INK, GREY, FAINT, GRID = "#22262b", "#7b828c", "#b9bec6", "#e6e8eb"
WIDTH = 7.2  # inches: 720 px at the screen's 100 dots an inch
LABELS = {
    "validation_accuracy": "validation accuracy",
    "validation_loss": "validation loss (nats)",
    "train_loss": "training loss (nats)",
}


def choose_styles(templates: Sequence[str]) -> dict[str, tuple[str, str]]:
    """A colour and a marker for each template name, the same in every figure; both repeat only after 30 names.

    >>> choose_styles(["log", "dense", "log"])
    {'dense': ('#d55e00', 's'), 'log': ('#0072b2', 'D')}
    """
    names = sorted(set(templates))
    n = len(COLOURS)
    return {name: (COLOURS[i % n], MARKERS[(i + i // n) % n]) for i, name in enumerate(names)}


def plot_distance_accuracy(
    patterns: pd.DataFrame,
    candidates: pd.DataFrame,
    uniform_range: tuple[float, float] | None = None,
    caption: str = "",
) -> Figure:
    """Validation accuracy and validation loss against mean BD, one panel each.

    Args:
        patterns: rows of average_patterns, one stratum.
        candidates: the same stratum's rows of read_run; single trainings are drawn faintly.
        uniform_range: mean BD between which 98 % of uniformly random patterns lie, shaded.
        caption: one line at the foot: n, seeds, data, device.
    """
    outcomes = [name for name in ("validation_accuracy", "validation_loss") if patterns[name].notna().any()]
    figure = _new_figure(0.7 + 2.9 * len(outcomes))
    panels = figure.subplots(len(outcomes), 1, sharex=True, squeeze=False)[:, 0]
    for axes, outcome in zip(panels, outcomes, strict=True):
        _style_axes(axes)
        axes.set_ylabel(LABELS[outcome])
        if uniform_range is not None:
            axes.axvspan(*uniform_range, color="#f0f2f4", zorder=0)
        _draw_patterns(axes, patterns, candidates, outcome)
    panels[-1].set_xlabel("mean backprop distance (hops)")
    if uniform_range is not None:
        _name_range(panels[0], uniform_range)
    if caption:
        figure.supxlabel(caption, fontsize=8, color=GREY, x=0.01, ha="left")
    figure.get_layout_engine().execute(figure)  # type: ignore[union-attr]
    for axes, outcome in zip(panels, outcomes, strict=True):
        _label_templates(axes, patterns, outcome)
    return figure


def plot_curves(
    curves: pd.DataFrame, candidates: pd.DataFrame, best_key: str | None = None, caption: str = ""
) -> Figure:
    """Training loss by epoch: every candidate a thin line, templates and the best pattern as means over seeds.

    Args:
        curves, candidates: of read_run; candidates that failed are drawn as far as they came.
        best_key: the pattern to single out beside the templates.
        caption: one line at the foot.
    """
    figure = _new_figure(3.9)
    axes = figure.subplots()
    _style_axes(axes)
    axes.set(xlabel="epoch", ylabel=LABELS["train_loss"])
    for _, line in curves[curves["metric"] == "train_loss"].groupby("number"):
        axes.plot(_floats(line["epoch"]), _floats(line["value"]), color=FAINT, linewidth=0.6, alpha=0.6)
    measured = curves[curves["metric"] == "validation_loss"]
    axes.scatter(_floats(measured["epoch"]), _floats(measured["value"]), s=10, color=FAINT, alpha=0.6, linewidths=0)
    averages = average_curves(candidates, curves)
    ends = list(_draw_singled_out(axes, averages, candidates, best_key))
    if len(measured):
        axes.scatter([], [], s=22, facecolor="white", edgecolor=INK, label="validation loss")
    axes.plot([], [], color=FAINT, linewidth=1, label="one candidate")
    axes.legend(frameon=False, fontsize=8, loc="upper right")
    if caption:
        figure.supxlabel(caption, fontsize=8, color=GREY, x=0.01, ha="left")
    _label_ends(axes, ends)
    return figure


def plot_depths(depths: pd.DataFrame) -> Figure:
    """Mean BD against depth at one budget, as multiples of the proven bound.

    Args:
        depths: one row a depth: layers, bound, and mean BDs log, nearest_log_i, evenly_log_i, random and optimum.
    """
    figure = _new_figure(3.6)
    axes = figure.subplots()
    _style_axes(axes)
    axes.set(xlabel="layers", ylabel="mean BD / proven bound", xscale="log")
    axes.set_xticks([8, 12, 24, 52, 100], ["8", "12", "24", "52", "100"])
    axes.minorticks_off()
    names = {"nearest_log_i": "nearest", "log": "log (V1)", "evenly_log_i": "evenly", "random": "random (median)"}
    colours = dict(zip(names, COLOURS, strict=False)) | {"random": GREY, "optimum": INK}
    ends = []
    for column, name in (names | {"optimum": "optimum found"}).items():
        shares = _floats(depths[column] / depths["bound"])
        axes.plot(
            _floats(depths["layers"]), shares, color=colours[column], linewidth=2.4 if column == "optimum" else 1.6
        )
        ends.append((_floats(depths["layers"])[-1], shares[-1], name, colours[column]))
    axes.axhline(1.0, color=FAINT, linestyle="--", linewidth=1)
    axes.set_ylim(0.96, None)
    _label_ends(axes, ends)
    return figure


def draw_svg(figure: Figure) -> str:
    """The figure as an SVG document; the same figure gives the same text."""
    import matplotlib as mpl

    stream = io.StringIO()
    with mpl.rc_context({"svg.hashsalt": "skipsearch"}):  # fixed ids, and no date
        figure.savefig(stream, format="svg", metadata={"Date": None})
    return stream.getvalue()


def _new_figure(height: float) -> Figure:
    figure = Figure(figsize=(WIDTH, height), dpi=100, layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)  # measures text, which placing labels needs
    return figure


def _style_axes(axes: Axes) -> None:
    axes.grid(color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(colors=GREY, labelcolor=INK, labelsize=9, length=3)
    for side, spine in axes.spines.items():
        spine.set_visible(side in ("left", "bottom"))
        spine.set_color(FAINT)


def _draw_patterns(axes: Axes, patterns: pd.DataFrame, candidates: pd.DataFrame, outcome: str) -> None:
    single = candidates.dropna(subset=[outcome])
    axes.scatter(_floats(single["mean_bd"]), _floats(single[outcome]), s=7, color=FAINT, alpha=0.7, linewidths=0)
    errors = patterns[f"{outcome}_sd"] / patterns["n_seeds"] ** 0.5
    styles = choose_styles(patterns["template"].dropna().tolist())
    unnamed = patterns["template"].isna()
    groups = [(patterns[unnamed], GREY, "o", 4.5)]
    groups += [(patterns[patterns["template"] == name], *style, 7.0) for name, style in styles.items()]
    for rows, colour, marker, size in groups:
        axes.errorbar(
            _floats(rows["mean_bd"]),
            _floats(rows[outcome]),
            yerr=_floats(errors.loc[rows.index].fillna(0)),
            fmt=marker,
            color=colour,
            markersize=size,
            markeredgecolor="white",
            markeredgewidth=0.6,
            elinewidth=0.8,
            zorder=3 if colour == GREY else 4,
        )


def _name_range(axes: Axes, uniform_range: tuple[float, float]) -> None:
    text = "98 % of uniformly random patterns"
    middle = sum(uniform_range) / 2
    axes.annotate(
        text, (middle, 1.0), xycoords=("data", "axes fraction"), xytext=(0, 3), textcoords="offset points",
        ha="center", va="bottom", fontsize=8, color=GREY,
    )  # fmt: skip


def _label_templates(axes: Axes, patterns: pd.DataFrame, outcome: str) -> None:
    """Name every template beside its mark, at the first place around it that covers no other name or mark."""
    rows = patterns.dropna(subset=["template", outcome])
    names: list[str] = rows["template"].tolist()
    styles = choose_styles(names)
    places = list(zip(_floats(rows["mean_bd"]), _floats(rows[outcome]), strict=True))
    marks = [Bbox.from_bounds(x - 6, y - 6, 12, 12) for x, y in map(axes.transData.transform, places)]
    taken = list(marks)
    for name, place, own in zip(names, places, marks, strict=True):
        for offset, align in _offsets():
            text = _annotate(axes, name, place, offset, align, styles[name][0])
            box = text.get_window_extent()
            inside = axes.bbox.y0 <= box.y0 and axes.bbox.x0 <= box.x0 and box.x1 <= axes.bbox.x1
            if inside and not any(box.overlaps(other) for other in taken if other is not own):
                taken.append(box)
                break
            text.remove()
        else:  # too crowded everywhere: an overlapping name is still better than a mark without one
            _annotate(axes, name, place, (8, 0), "left", styles[name][0])


def _annotate(
    axes: Axes, name: str, place: tuple[float, float], offset: tuple[float, float], align: str, colour: str
) -> Annotation:
    leader = {"arrowstyle": "-", "color": colour, "linewidth": 0.6} if abs(offset[1]) > 14 else None
    return axes.annotate(
        name, place, xytext=offset, textcoords="offset points", ha=align, va="center", fontsize=9, color=colour,
        path_effects=[withStroke(linewidth=3, foreground="white")], zorder=5, arrowprops=leader,
    )  # fmt: skip


def _offsets() -> Iterator[tuple[tuple[float, float], str]]:
    """Offsets from a mark in points, the nearest first, with the text's alignment."""
    for dy in (0, 10, -10, 20, -20, 32, -32, 44, -44):
        yield (8, dy), "left"
        yield (-8, dy), "right"


def _draw_singled_out(
    axes: Axes, averages: pd.DataFrame, candidates: pd.DataFrame, best_key: str | None
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
        train, measured = (own[own["metric"] == metric] for metric in ("train_loss", "validation_loss"))
        if not len(train):
            continue
        axes.plot(_floats(train["epoch"]), _floats(train["value"]), color=colour, linewidth=1.8)
        axes.plot(
            _floats(measured["epoch"]), _floats(measured["value"]), marker, color=colour, markerfacecolor="white",
            markersize=6,
        )  # fmt: skip
        yield _floats(train["epoch"])[-1], _floats(train["value"])[-1], name, colour


def _label_ends(axes: Axes, ends: list[tuple[float, float, str, str]]) -> None:
    """Name lines right of their ends, pushed apart where they would overlap."""
    low, high = axes.get_ylim()
    axes.set_ylim(low, high)
    gap = 0.058 * (high - low)
    height = low - gap
    for x, y, name, colour in sorted(ends, key=lambda end: end[1]):
        height = max(y, height + gap)
        axes.annotate(
            name, (x, y), xytext=(1.02, height), textcoords=("axes fraction", "data"), va="center", fontsize=9,
            color=colour, annotation_clip=False, arrowprops={"arrowstyle": "-", "color": colour, "linewidth": 0.5},
        )  # fmt: skip


def _floats(column: "pd.Series[float]") -> list[float]:
    return column.astype("float64").tolist()
