"""What all figures share: colours, sizes, words, and labels that keep out of each other's way."""

import io
import math
import re
from collections.abc import Iterator, Sequence
from textwrap import wrap
from typing import Any
from xml.sax.saxutils import escape

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Annotation, Text
from matplotlib.transforms import Bbox

from analysis.page.wording import format_with_error
from analysis.stats.intervals import Range, clip, seed_error

SVG_STYLE: dict[Any, Any] = {
    "svg.hashsalt": "skipsearch",  # fixed ids
    "svg.fonttype": "none",  # text stays text; Verdana has DejaVu Sans's widths, by which labels were placed
    "font.sans-serif": ["DejaVu Sans", "Verdana"],
}

# Okabe and Ito's palette, which colour-blind readers tell apart; grey for all that is not singled out.
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


def choose_styles(templates: Sequence[str]) -> dict[str, tuple[str, str]]:
    """A colour and a marker for each template name, the same in every figure; both repeat only after 30 names.

    >>> choose_styles(["log", "dense", "log"])
    {'dense': ('#d55e00', 's'), 'log': ('#0072b2', 'D')}
    """
    names = sorted(set(templates))
    n = len(COLOURS)
    return {name: (COLOURS[i % n], MARKERS[(i + i // n) % n]) for i, name in enumerate(names)}


def new_figure(height: float) -> Figure:
    """An empty figure, WIDTH inches wide and `height` inches high."""
    figure = Figure(figsize=(WIDTH, height), dpi=100, layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)  # measures text, which placing labels needs
    return figure


def style_axes(axes: Axes) -> None:
    """Faint grid, two spines, small ticks."""
    axes.grid(color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(colors=GREY, labelcolor=INK, labelsize=9, length=3)
    for side, spine in axes.spines.items():
        spine.set_visible(side in ("left", "bottom"))
        spine.set_color(FAINT)


def add_caption(figure: Figure, caption: str) -> None:
    """Lines at the foot; nothing for an empty text."""
    if caption:
        lines = wrap_text(caption, CAPTION_WIDTH, 4)
        figure.supxlabel("\n".join(lines), fontsize=8, color=GREY, x=0.01, ha="left")


def lay_out(figure: Figure) -> None:
    """Give every axes its final place, so that labels put afterwards know how much room there is."""
    figure.get_layout_engine().execute(figure)  # type: ignore[union-attr]


def clean_text(text: str) -> str:
    r"""Text that is shown as it stands: no control characters, which XML forbids, and no formulas between dollars.

    >>> clean_text("a\x00 $b$")
    'a \\$b\\$'
    """
    return "".join(character for character in text if character.isprintable()).replace("$", r"\$")


def wrap_text(text: str, width: int = NAME_WIDTH, max_lines: int = 1) -> list[str]:
    r"""Clean lines of a text that may be of any length; each is cleaned by itself, for a cut between \ and $ undoes it.

    >>> wrap_text("too long for so little room", 15)
    ['too long ...']
    """
    return [clean_text(line) for line in wrap(text, width, max_lines=max_lines, placeholder=" ...")]


def name_mark(artist: Artist, name: str, text: str) -> None:
    """Give a mark the text that an SVG shows under the pointer; `name` is its id, unique in the figure."""
    artist.set_gid(f"mark-{name}")
    artist.set_label("".join(character for character in text[:400] if character.isprintable()))


def describe_mark(row: "pd.Series[Any]", outcome: str, deviation: str) -> str:
    """What the pointer shows on a pattern.

    Args:
        row: one of average_patterns.
        outcome: its column drawn; an accuracy is a share of 1.
        deviation: the column of its standard deviation between seeds.
    """
    name = row["key"][:12] if pd.isna(row["template"]) else row["template"]
    error = seed_error(row, deviation)
    seeds = f"{row['n_seeds']} seed{'' if row['n_seeds'] == 1 else 's'}"
    value = format_with_error(row[outcome], None if pd.isna(error) else error, 4)
    strategy = "" if pd.isna(row["strategy"]) else f" ({row['strategy']})"
    return f"{name}{strategy}: mean BD {row['mean_bd']:.3f}, span {row['span']:.2f}, {LABELS[outcome]} {value}, {seeds}"


def draw_errors(
    axes: Axes, x: Sequence[float], y: Sequence[float], errors: Sequence[float], colour: str, bounds: Range
) -> None:
    """Draw vertical bars of y +- error, as one line with gaps: a fifth of the SVG that a line each would take.

    Args:
        bounds: least and greatest possible y, where bars end.
    """
    bars = [
        (place, (clip(value - error, bounds), clip(value + error, bounds)))
        for place, value, error in zip(x, y, errors, strict=True)
    ]
    heights = [height for _, (low, high) in bars for height in (low, high, math.nan)]
    axes.plot([place for place, _ in bars for _ in range(3)], heights, color=colour, linewidth=0.8, zorder=2)


def label_places(
    axes: Axes, labels: Sequence[tuple[str, float, float, str]], marks: Sequence[tuple[float, float]] = ()
) -> None:
    """Name marks beside themselves, where no other name or named mark is covered, and few other marks.

    Args:
        axes: laid out.
        labels: name, x, y in data units, and colour of each.
        marks: x, y of all marks drawn.
    """
    pixels = axes.transData.transform(np.reshape(marks, (-1, 2)))
    own_boxes = [
        Bbox.from_bounds(px - 6, py - 6, 12, 12) for px, py in (axes.transData.transform(o[1:3]) for o in labels)
    ]
    taken = list(own_boxes)
    for (name, x, y, colour), own in zip(labels, own_boxes, strict=True):
        found: list[tuple[float, tuple[float, float], str, Bbox]] = []
        for order, (offset, align) in enumerate(_offsets()):
            box = _measure(_annotate(axes, name, (x, y), offset, align, colour))
            inside = axes.bbox.y0 <= box.y0 and axes.bbox.x0 <= box.x0 and box.x1 <= axes.bbox.x1
            if inside and not any(box.overlaps(other) for other in taken if other is not own):
                low, high = box.padded(3).get_points()
                n_covered = int(((low <= pixels) & (pixels <= high)).all(axis=1).sum())
                found.append((n_covered + order / 3, offset, align, box))  # three steps away weigh as much as a mark
        # Too crowded everywhere: an overlapping name is still better than a mark without one.
        _, offset, align, box = min(found, key=lambda one: one[0], default=(0.0, (8.0, 0.0), "left", own))
        _annotate(axes, name, (x, y), offset, align, colour)
        taken.append(box)


def _measure(text: Annotation) -> Bbox:
    """The box of the words alone, without the line that leads to them; the text is taken away again."""
    text.get_window_extent()  # gives the text its place
    box = Text.get_window_extent(text)
    text.remove()
    return box


def _annotate(
    axes: Axes, name: str, place: tuple[float, float], offset: tuple[float, float], align: str, colour: str
) -> Annotation:
    leader = {"arrowstyle": "-", "color": colour, "linewidth": 0.6} if abs(offset[1]) > 14 else None
    # A box rather than an outline around the letters, which would turn the SVG's text into shapes.
    ground = {"facecolor": "white", "alpha": 0.7, "linewidth": 0, "boxstyle": "round,pad=0.08"}
    return axes.annotate(
        "".join(wrap_text(name)), place, xytext=offset, textcoords="offset points", ha=align, va="center", fontsize=9,
        color=colour, bbox=ground, zorder=5, arrowprops=leader,
    )  # fmt: skip


def _offsets() -> Iterator[tuple[tuple[float, float], str]]:
    """Offsets from a mark in points, the nearest first, with the text's alignment."""
    for dy in (0, 10, -10, 20, -20, 32, -32, 44, -44):
        yield (8, dy), "left"
        yield (-8, dy), "right"


def floats(column: "pd.Series[float]") -> list[float]:
    """A column as plain numbers, missing ones as NaN."""
    return column.astype("float64").tolist()


def draw_svg(figure: Figure) -> str:
    """The figure as an SVG document; the same figure gives the same text.

    Every mark named by name_mark holds its text as a <title>, which browsers show under the pointer.
    """
    stream = io.StringIO()
    with mpl.rc_context(SVG_STYLE):
        figure.savefig(stream, format="svg", metadata={"Date": None})
    texts = name_marks(figure)
    return re.sub(
        r'<g id="(mark-[^"]+)">', lambda found: f"{found[0]}<title>{escape(texts[found[1]])}</title>", stream.getvalue()
    )


def draw_png(figure: Figure) -> bytes:
    """The figure as a PNG of 144 dots an inch; the same figure gives the same bytes."""
    stream = io.BytesIO()
    figure.savefig(stream, format="png", dpi=144, metadata={"Software": None})
    return stream.getvalue()


def name_marks(figure: Figure) -> dict[str, str]:
    """Id -> text of every mark that name_mark was given."""
    artists = figure.findobj(lambda artist: (artist.get_gid() or "").startswith("mark-"))
    return {str(artist.get_gid()): str(artist.get_label()) for artist in artists}
