"""Arc diagrams of patterns, as SVG."""

from collections.abc import Mapping
from xml.sax.saxutils import escape

from search_spaces.distance import backprop_distance
from search_spaces.errors import InputError
from search_spaces.pattern import ConnectionPattern
from search_spaces.wiring.strongest import check_strengths

MARGIN = 28.0
ARC_HEIGHT = 0.36  # of an arc's width; flatter than a half circle, so that deep patterns stay readable
INK = "#22262b"
GREY = "#5a616b"
CHAIN_COLOUR = "#8a8f98"
SHORT_COLOUR = (86, 180, 233)  # a skip of span 2
LONG_COLOUR = (0, 48, 118)  # a skip of span L
STRENGTH_COLOUR = "#003076"  # of all skips where width and opacity tell them apart
WIDTHS = (0.6, 4.6)  # pixels: the weakest connection and the strongest, where there is room
OPACITIES = (0.35, 0.9)
Strengths = Mapping[tuple[int, int], float]  # (source, target) -> relative strength
Pens = Mapping[tuple[int, int], str]  # (source, target) -> attributes of its line


def draw_arcs(
    pattern: ConnectionPattern, title: str | None = None, width: float = 720.0, strengths: Strengths | None = None
) -> str:
    """Draw nodes 0..L on a line and an arc for every skip, darker the longer; a node's size shows its readers.

    Args:
        pattern: pattern to draw.
        title: a few words shown top left, before the numbers.
        width: width of the picture in pixels; its height follows from the longest skip.
        strengths: relative strengths, or means of them. The width and opacity of every line, the chain's too, then
            show the strength of its connection, and a second line of text says so.

    Returns:
        A self-contained SVG document on a white ground.

    Raises:
        InputError: the strengths are of other connections than the pattern's, or one is negative or not finite.
    """
    step = (width - 2 * MARGIN) / pattern.depth
    skips = [(source, target) for source, target in pattern.connections if target - source > 1]
    skips.sort(key=lambda skip: skip[0] - skip[1])  # the longest first, so that short ones lie on top
    longest = max(target - source for source, target in pattern.connections)
    pens: Pens
    if strengths is None:
        pens = {(source, target): _choose_pen(target - source, pattern.depth) for source, target in skips}
    else:
        pens = _choose_pens(pattern, strengths, step)
    baseline = (44 if strengths is None else 64) + ARC_HEIGHT * longest * step
    height = baseline + 40

    def x(node: int) -> float:
        return MARGIN + node * step

    parts = [
        *open_svg(width, height, _caption(pattern, title)),
        *_legend(strengths),
        *(_line(x(s), x(t), baseline, pen) for s, t, pen in _chain(pattern, pens)),
        *(draw_arc(x(source), x(target), baseline, pens[source, target]) for source, target in skips),
        *_nodes(pattern, x(0), step, baseline),
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def open_svg(width: float, height: float, caption: str) -> list[str]:
    """Return the first lines of a picture: a white ground with a caption top left."""
    return [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height:.0f}" width="{width:.0f}" '
        f'height="{height:.0f}" role="img" font-family="Helvetica, Arial, sans-serif">',
        f"<title>{escape(caption)}</title>",
        f'<rect width="{width:.0f}" height="{height:.0f}" fill="#ffffff"/>',
        f'<text x="{MARGIN:.0f}" y="22" font-size="14" fill="{INK}">{escape(caption)}</text>',
    ]


def draw_arc(left: float, right: float, baseline: float, pen: str, *, below: bool = False) -> str:
    """Return an arc between two places of the baseline, above it or below it."""
    radius = (right - left) / 2
    return (
        f'<path d="M {left:.1f} {baseline:.1f} A {radius:.1f} {2 * ARC_HEIGHT * radius:.1f} 0 0 {int(not below)} '
        f'{right:.1f} {baseline:.1f}" fill="none" {pen}/>'
    )


def printable(text: str) -> str:
    """Leave out control characters, which XML does not have."""
    return "".join(character for character in text if character.isprintable())


def _caption(pattern: ConnectionPattern, title: str | None) -> str:
    distance = backprop_distance(pattern)
    numbers = (
        f"{pattern.depth} layers, {pattern.n_connections} connections, mean BD {distance.mean:.3f}, MBD {distance.max}"
    )
    shown = printable(title or "")
    return f"{shown}: {numbers}" if shown else numbers


def _choose_pens(pattern: ConnectionPattern, strengths: Strengths, step: float) -> Pens:
    others = set(strengths) ^ set(pattern.connections)
    if others:
        raise InputError(f"strengths and pattern differ in the connections {sorted(others)[:3]}: give one for each")
    check_strengths(strengths.values())
    low, high = min(strengths.values()), max(strengths.values())
    widths = (WIDTHS[0], max(min(WIDTHS[1], step / 4), WIDTHS[0]))
    pens = {}
    for connection, strength in strengths.items():
        share = (strength - low) / (high - low) if high > low else 0.5
        width, opacity = (a + (b - a) * share for a, b in (widths, OPACITIES))
        colour = CHAIN_COLOUR if connection[1] - connection[0] == 1 else STRENGTH_COLOUR
        pens[connection] = f'stroke="{colour}" stroke-width="{width:.2f}" stroke-opacity="{opacity:.2f}"'
    return pens


def _legend(strengths: Strengths | None) -> list[str]:
    """Return the line under the caption that says what the widths of lines show."""
    if strengths is None:
        return []
    low, high = min(strengths.values()), max(strengths.values())
    return [
        f'<text x="{MARGIN:.0f}" y="40" font-size="12" fill="{GREY}">wider and darker: stronger, {low:.2f} to '
        f"{high:.2f} of the layer's mean weight</text>"
    ]


def _chain(pattern: ConnectionPattern, pens: Pens) -> list[tuple[int, int, str]]:
    """Return the ends and pens of the chain: one line for all of it, or one for each connection that has a pen."""
    if (0, 1) not in pens:
        return [(0, pattern.depth, f'stroke="{CHAIN_COLOUR}" stroke-width="2"')]
    return [(layer - 1, layer, pens[layer - 1, layer]) for layer in range(1, pattern.depth + 1)]


def _line(left: float, right: float, baseline: float, pen: str) -> str:
    return f'<line x1="{left:.1f}" y1="{baseline:.1f}" x2="{right:.1f}" y2="{baseline:.1f}" {pen}/>'


def _choose_pen(span: int, depth: int) -> str:
    """Return the pen of a skip whose strength is not shown."""
    share = (span - 2) / max(depth - 2, 1)
    red, green, blue = (round(a + (b - a) * share) for a, b in zip(SHORT_COLOUR, LONG_COLOUR, strict=True))
    return f'stroke="#{red:02x}{green:02x}{blue:02x}" stroke-width="1.4" stroke-opacity="0.75"'


def _nodes(pattern: ConnectionPattern, first_x: float, step: float, baseline: float) -> list[str]:
    """Return circles with area in proportion to out-degree, and a number under every few of them."""
    out_degrees = pattern.out_degrees
    largest = min(0.42 * step, 9.0)
    every = max(1, round(22 / step))
    parts = []
    for node in range(pattern.depth + 1):
        centre = first_x + node * step
        radius = max(largest * (out_degrees[node] / max(out_degrees)) ** 0.5, 1.6)
        parts.append(f'<circle cx="{centre:.1f}" cy="{baseline:.1f}" r="{radius:.1f}" fill="{INK}"/>')
        if (node % every == 0 and node <= pattern.depth - every) or node == pattern.depth:
            parts.append(
                f'<text x="{centre:.1f}" y="{baseline + 26:.1f}" font-size="11" fill="{GREY}" '
                f'text-anchor="middle">{node}</text>'
            )
    return parts
