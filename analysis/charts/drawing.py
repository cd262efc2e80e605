"""What all charts are drawn with: text, shapes, axes, and the document around them."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from textwrap import wrap
from xml.sax.saxutils import escape, quoteattr

from analysis.charts.scales import Scale
from analysis.page.document import Picture
from analysis.web.frame import read_asset

CHART_WIDTH = 720.0  # pixels
HEAD_WIDTH = 520.0  # pixels of a picture in the head of a page, which phones show whole
LINE = 16.0  # pixels for one line of text
FONT, SMALL = 12.0, 10.5  # pixels
FOOT_WIDTH = 118  # characters
NARROW, BROAD = frozenset("ijltfr.,:;'|!()[]I "), frozenset("mwMW@%")
N_LOOKS = 6  # classes c0 to c5 of the style sheet: Okabe and Ito's colours
N_SHADES = 8  # classes s0 to s7: steps of viridis
# name -> path around 0, 0, about 10 pixels wide
SHAPES = {
    "square": "M-4.3-4.3h8.6v8.6h-8.6z",
    "diamond": "M0-5.8 5.8 0 0 5.8-5.8 0z",
    "up": "M0-5.6 5.4 4.2H-5.4z",
    "down": "M0 5.6 5.4-4.2H-5.4z",
    "plus": "M-1.8-5.4h3.6v3.6h3.6v3.6h-3.6v3.6h-3.6v-3.6h-3.6v-3.6h3.6z",
    "cross": "M-5.1-2.5-2.5-5.1 0-2.6 2.5-5.1 5.1-2.5 2.6 0 5.1 2.5 2.5 5.1 0 2.6-2.5 5.1-5.1 2.5-2.6 0z",
    "circle": "M-4 0a4 4 0 1 0 8 0a4 4 0 1 0-8 0z",
    "dot": "M-3 0a3 3 0 1 0 6 0a3 3 0 1 0-6 0z",
    "star": "M0-7.5 2.2-2.6 7.5-2 3.6 1.6 4.6 6.8 0 4.2-4.6 6.8-3.6 1.6-7.5-2-2.2-2.6z",
}


@dataclass(frozen=True, slots=True)
class Chart:
    """A drawing, and what its caption has to say of it.

    Args:
        note: sentences on what stands at an edge or was left out; empty where nothing does.
    """

    svg: str
    note: str = ""

    def show(self, file: str, text: str, alt: str) -> Picture:
        """Return it as a block of a document, with its note after the caption's text."""
        return Picture(file, self.svg, f"{text} {self.note}".strip(), alt)


def measure_text(text: str, size: float = FONT) -> float:
    """Return about how many pixels a text is wide in a wide plain font.

    >>> measure_text("log") < measure_text("random") < measure_text("random", 14)
    True
    """
    return size * sum(0.36 if c in NARROW else 0.95 if c in BROAD else 0.72 if c.isupper() else 0.63 for c in text)


def clean(text: str) -> str:
    """Return a text as XML has it, without the control characters that it forbids."""
    return escape("".join(character for character in text if character.isprintable()))


def cut_text(text: str, width: int, lines: int = 1) -> list[str]:
    """Return a text in lines, the last one cut where it is too long.

    >>> cut_text("too long for so little room", 15)
    ['too long ...']
    """
    return wrap(text, width, max_lines=lines, placeholder=" ...") or [""]


def write(x: float, y: float, text: str, kind: str = "", anchor: str = "start") -> str:
    """Return a line of text; `kind` is its classes of the style sheet, y the middle of its letters."""
    classes = f' class="{kind}"' if kind else ""
    side = "" if anchor == "start" else f' text-anchor="{anchor}"'
    return f'<text x="{x:.1f}" y="{y + 0.35 * FONT:.1f}"{classes}{side}>{clean(text)}</text>'


def turn_text(x: float, y: float, text: str) -> str:
    """Return a line of text that runs upwards, its middle at a place."""
    return f'<text transform="translate({x:.1f} {y:.1f}) rotate(-90)" text-anchor="middle">{clean(text)}</text>'


def draw_line(x1: float, y1: float, x2: float, y2: float, kind: str) -> str:
    """Return a line from one point to another."""
    return f'<path class="{kind}" d="M{x1:.1f} {y1:.1f}L{x2:.1f} {y2:.1f}"/>'


def choose_looks(names: Sequence[str]) -> dict[str, tuple[str, str]]:
    """Return a colour's class and a shape for each name, the same for the same set; pairs repeat after 36.

    >>> choose_looks(["log", "dense", "log"])
    {'dense': ('c0', 'square'), 'log': ('c1', 'diamond')}
    """
    shapes = list(SHAPES)[:N_LOOKS]
    return {
        name: (f"c{i % N_LOOKS}", shapes[(i + i // N_LOOKS) % N_LOOKS]) for i, name in enumerate(sorted(set(names)))
    }


def draw_below(scale: Scale, top: float, bottom: float, label: str) -> Iterator[str]:
    """Draw a horizontal axis under a panel, with lines up through it; without a label, also without numbers."""
    for value, text in scale.ticks():
        x = scale.place(value)
        yield draw_line(x, top, x, bottom, "grid")
        if label:
            yield write(x, bottom + 14, text, "soft", "middle")
    yield draw_line(min(scale.start, scale.end), bottom, max(scale.start, scale.end), bottom, "axis")
    for strip, end in ((scale.below, scale.start), (scale.above, scale.end)):
        if strip is not None:
            yield f'<path class="axis" d="M{end - 3:.1f} {bottom + 5:.1f}l6-10M{end + 2:.1f} {bottom + 5:.1f}l6-10"/>'
    if label:
        yield write((scale.start + scale.end) / 2, bottom + 34, label, "", "middle")


def draw_left(scale: Scale, left: float, right: float, label: str) -> Iterator[str]:
    """Draw a vertical axis left of a panel, with lines across it."""
    for value, text in scale.ticks():
        y = scale.place(value)
        yield draw_line(left, y, right, y, "grid")
        yield write(left - 6, y, text, "soft", "end")
    for strip, end in ((scale.below, scale.start), (scale.above, scale.end)):
        if strip is not None:
            yield f'<path class="axis" d="M{left - 5:.1f} {end + 3:.1f}l10-6M{left - 5:.1f} {end + 8:.1f}l10-6"/>'
    yield turn_text(13, (scale.start + scale.end) / 2, label)


def draw_arrow(x: float, y: float, direction: str) -> str:
    """Return a small arrow's head next to a mark that stands for something farther out."""
    turn = {"right": 0, "down": 90, "left": 180, "up": 270}[direction]
    kind = "far" if direction in ("left", "right") else "far upright"
    return f'<path class="{kind}" transform="translate({x:.1f} {y:.1f}) rotate({turn})" d="M8-3.5 13 0 8 3.5z"/>'


def write_foot(y: float, caption: str) -> list[str]:
    """Return the lines of a caption at the foot of a chart."""
    lines = cut_text(caption, FOOT_WIDTH, 3) if caption else []
    return [write(8, y + LINE * number, line, "soft small") for number, line in enumerate(lines)]


def close_chart(
    parts: Sequence[str],
    height: float,
    title: str,
    attributes: Mapping[str, str] | None = None,
    width: float = CHART_WIDTH,
) -> str:
    """Return a whole SVG document, which has its own style: on a page it takes the page's colours.

    Args:
        title: kind of picture, for readers who cannot see it.
        attributes: more attributes of the document, for the page's script.
    """
    more = "".join(f" {name}={quoteattr(value)}" for name, value in (attributes or {}).items())
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" class="chart" role="group" viewBox="0 0 {width:.0f} '
            f'{height:.0f}" width="{width:.0f}" height="{height:.0f}"{more}>',
            f"<title>{clean(title)}</title>",
            f"<style>{escape(read_asset('charts.css'))}</style>",
            f'<rect class="ground" width="{width:.0f}" height="{height:.0f}"/>',
            *parts,
            "</svg>\n",
        ]
    )
