"""What all figures share: colours, sizes, words, and labels that do not overlap."""

import io
import re
from collections.abc import Sequence
from textwrap import wrap
from typing import Any
from xml.sax.saxutils import escape

import matplotlib as mpl
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.cm import ScalarMappable
from matplotlib.figure import Figure

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
