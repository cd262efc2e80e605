"""What all figures share: colours, sizes, words, and labels that do not overlap."""

import io
import math
import re
from collections.abc import Sequence
from textwrap import wrap
from typing import Any, NamedTuple
from xml.sax.saxutils import escape

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.cm import ScalarMappable
from matplotlib.figure import Figure
from matplotlib.text import Annotation, Text
from matplotlib.transforms import Bbox

from analysis.page.wording import count_nouns, format_with_error, name_outcome
from analysis.stats.intervals import Range, clip, seed_error

SVG_STYLE: dict[Any, Any] = {
    "svg.hashsalt": "skipsearch",  # fixed ids
    "svg.fonttype": "none",  # text stays text; Verdana has DejaVu Sans's widths, by which labels were placed
    "font.sans-serif": ["DejaVu Sans", "Verdana"],
}

# Okabe and Ito's palette, which colour-blind readers can distinguish; grey for all that is not singled out.
COLOURS = ("#d55e00", "#0072b2", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
MARKERS = ("s", "D", "^", "v", "P", "X")
INK, GREY, MUTED, FAINT, GRID = "#22262b", "#646b75", "#868d97", "#b9bec6", "#e6e8eb"
NAME_WIDTH, CAPTION_WIDTH = 40, 116  # characters
WIDTH = 7.2  # inches: 720 px at the screen's 100 dots an inch
LABELS = {
    "validation_accuracy": "validation accuracy",
    "validation_loss": "validation loss (nats)",
    "train_loss": "training loss (nats)",
}
DISTANCE = "mean backprop distance (hops)"
Offset = tuple[float, float]  # from a mark to its name, in points
OFFSETS: tuple[Offset, ...] = tuple(  # the nearest first
    (side, height) for height in (0, 10, -10, 20, -20, 32, -32, 44, -44) for side in (8, -8)
)


class Label(NamedTuple):
    """A name to be written next to its mark: x and y in data units."""

    name: str
    x: float
    y: float
    colour: str


def label_outcome(outcome: str) -> str:
    """Return what the axis of an outcome is called."""
    return LABELS.get(outcome, name_outcome(outcome))


def choose_styles(templates: Sequence[str]) -> dict[str, tuple[str, str]]:
    """Return a colour and a marker for each template name, the same in every figure; pairs repeat after 30 names.

    >>> choose_styles(["log", "dense", "log"])
    {'dense': ('#d55e00', 's'), 'log': ('#0072b2', 'D')}
    """
    names = sorted(set(templates))
    n = len(COLOURS)
    return {name: (COLOURS[i % n], MARKERS[(i + i // n) % n]) for i, name in enumerate(names)}


def new_figure(height: float) -> Figure:
    """Return an empty figure, WIDTH inches wide and `height` inches high."""
    figure = Figure(figsize=(WIDTH, height), dpi=100, layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)  # to measure text, which placing labels needs
    return figure


def style_axes(axes: Axes) -> None:
    """Give axes a faint grid, two spines and small ticks."""
    axes.grid(color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(colors=GREY, labelcolor=INK, labelsize=9, length=3)
    for side, spine in axes.spines.items():
        spine.set_visible(side in ("left", "bottom"))
        spine.set_color(FAINT)


def add_caption(figure: Figure, caption: str) -> None:
    """Write a caption at the foot of a figure; an empty one takes no room."""
    if caption:
        lines = wrap_text(caption, CAPTION_WIDTH, 4)
        figure.supxlabel("\n".join(lines), fontsize=8, color=GREY, x=0.01, ha="left")


def lay_out(figure: Figure) -> None:
    """Give all axes their final place, so that labels added afterwards know how much room there is."""
    figure.get_layout_engine().execute(figure)  # type: ignore[union-attr]


def clean_text(text: str) -> str:
    r"""Return a text without control characters, which XML forbids, and with its dollars escaped.

    >>> clean_text("a\x00 $b$")
    'a \\$b\\$'
    """
    return "".join(character for character in text if character.isprintable()).replace("$", r"\$")


def wrap_text(text: str, width: int = NAME_WIDTH, max_lines: int = 1) -> list[str]:
    r"""Return the clean lines of a text of any length; a cut between \ and $ would undo cleaning before wrapping.

    >>> wrap_text("too long for so little room", 15)
    ['too long ...']
    """
    return [clean_text(line) for line in wrap(text, width, max_lines=max_lines, placeholder=" ...")]


def name_mark(artist: Artist, name: str, text: str) -> None:
    """Give a mark the text that an SVG shows under the pointer, and an id that is unique in the figure."""
    artist.set_gid(f"mark-{name}")
    artist.set_label("".join(character for character in text[:400] if character.isprintable()))


def describe_mark(row: "pd.Series[Any]", outcome: str, deviation: str) -> str:
    """Return what the pointer shows on a pattern.

    Args:
        row: one row of average_patterns.
        outcome: column that is drawn; an accuracy is a share of 1.
        deviation: column of the standard deviation between seeds.
    """
    name = row["key"][:12] if pd.isna(row["template"]) else row["template"]
    error = seed_error(row, deviation)
    seeds = count_nouns(row["n_seeds"], "seed")
    value = format_with_error(row[outcome], None if pd.isna(error) else error, 4)
    strategy = "" if pd.isna(row["strategy"]) else f" ({row['strategy']})"
    graph = f"mean BD {row['mean_bd']:.3f}, span {row['span']:.2f}"
    return f"{name}{strategy}: {graph}, {label_outcome(outcome)} {value}, {seeds}"


def draw_errors(
    axes: Axes, x: Sequence[float], y: Sequence[float], errors: Sequence[float], colour: str, bounds: Range
) -> None:
    """Draw vertical bars of y +- error as one line with gaps, which takes a fifth of the SVG of separate lines.

    Args:
        bounds: least and greatest possible y, where bars end.
    """
    bars = [
        (place, (clip(value - error, bounds), clip(value + error, bounds)))
        for place, value, error in zip(x, y, errors, strict=True)
    ]
    heights = [height for _, (low, high) in bars for height in (low, high, math.nan)]
    axes.plot([place for place, _ in bars for _ in range(3)], heights, color=colour, linewidth=0.8, zorder=2)


def label_places(axes: Axes, labels: Sequence[Label], marks: Sequence[tuple[float, float]] = ()) -> None:
    """Write names next to their marks where they cover no other name or named mark, and few other marks.

    Args:
        axes: axes after lay_out.
        labels: names to write.
        marks: x, y of all marks drawn.
    """
    pixels = axes.transData.transform(np.reshape(marks, (-1, 2)))
    places = axes.transData.transform(np.reshape([(label.x, label.y) for label in labels], (-1, 2)))
    own_boxes = [Bbox.from_bounds(x - 6, y - 6, 12, 12) for x, y in places]
    taken = list(own_boxes)
    for label, own in zip(labels, own_boxes, strict=True):
        choices: list[tuple[float, Offset, Bbox]] = []
        for order, offset in enumerate(OFFSETS):
            box = _measure(_annotate(axes, label, offset))
            inside = axes.bbox.y0 <= box.y0 and axes.bbox.x0 <= box.x0 and box.x1 <= axes.bbox.x1
            if inside and not any(box.overlaps(other) for other in taken if other is not own):
                low, high = box.padded(3).get_points()
                n_covered = int(((low <= pixels) & (pixels <= high)).all(axis=1).sum())
                choices.append((n_covered + order / 3, offset, box))  # three steps away weigh as much as a mark
        # Where all places are crowded, an overlapping name is still better than a mark without one.
        _, offset, box = min(choices, key=lambda choice: choice[0], default=(0.0, OFFSETS[0], own))
        _annotate(axes, label, offset)
        taken.append(box)


def _measure(text: Annotation) -> Bbox:
    """Return the box of the words, without the line that leads to them, and remove the text."""
    text.get_window_extent()  # gives the text its place
    box = Text.get_window_extent(text)
    text.remove()
    return box


def _annotate(axes: Axes, label: Label, offset: Offset) -> Annotation:
    leader = {"arrowstyle": "-", "color": label.colour, "linewidth": 0.6} if abs(offset[1]) > 14 else None
    # A box rather than an outline around the letters, which would turn the SVG's text into shapes.
    ground = {"facecolor": "white", "alpha": 0.7, "linewidth": 0, "boxstyle": "round,pad=0.08"}
    return axes.annotate(
        "".join(wrap_text(label.name)), (label.x, label.y), xytext=offset, textcoords="offset points",
        ha="left" if offset[0] > 0 else "right", va="center", fontsize=9, color=label.colour, bbox=ground, zorder=5,
        arrowprops=leader,
    )  # fmt: skip


def floats(column: "pd.Series[float]") -> list[float]:
    """Return a column as plain numbers, with NaN for missing ones."""
    return column.astype("float64").tolist()


def draw_svg(figure: Figure) -> str:
    """Return a figure as an SVG document; the same figure gives the same text.

    Every mark named by name_mark contains its text as a <title>, which browsers show under the pointer.
    """
    stream = io.StringIO()
    with mpl.rc_context(SVG_STYLE):
        figure.savefig(stream, format="svg", metadata={"Date": None})
    texts = name_marks(figure)
    return re.sub(
        r'<g id="(mark-[^"]+)">', lambda found: f"{found[0]}<title>{escape(texts[found[1]])}</title>", stream.getvalue()
    )


def draw_png(figure: Figure) -> bytes:
    """Return a figure as a PNG of 144 dots an inch; the same figure gives the same bytes."""
    stream = io.BytesIO()
    figure.savefig(stream, format="png", dpi=144, metadata={"Software": None})
    return stream.getvalue()


def name_marks(figure: Figure) -> dict[str, str]:
    """Return the text of every mark that was named, by its id."""
    artists = figure.findobj(lambda artist: (artist.get_gid() or "").startswith("mark-"))
    return {str(artist.get_gid()): str(artist.get_label()) for artist in artists}


def add_colour_bar(figure: Figure, scale: ScalarMappable, axes: Axes | list[Axes], label: str, aspect: int) -> None:
    """Add a colour bar beside the axes; `aspect` is its height over its width."""
    bar = figure.colorbar(scale, ax=axes, aspect=aspect, pad=0.02)
    bar.set_label(label, fontsize=9)
    bar.ax.tick_params(labelsize=9, colors=GREY, labelcolor=INK, length=3)
    assert bar.solids is not None
    bar.solids.set_edgecolor("face")  # no white lines between the steps
    bar.outline.set_visible(False)
