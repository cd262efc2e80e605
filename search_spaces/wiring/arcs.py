"""Pattern -> arc diagram (SVG)."""

from collections.abc import Mapping
from xml.sax.saxutils import escape

from search_spaces.distance import backprop_distance
from search_spaces.errors import InputError
from search_spaces.pattern import ConnectionPattern

MARGIN = 28.0
ARC_HEIGHT = 0.36  # of an arc's width; flatter than a half circle, so that deep patterns stay readable
CHAIN_COLOUR = "#8a8f98"
SHORT_COLOUR = (86, 180, 233)  # a skip of span 2
LONG_COLOUR = (0, 48, 118)  # a skip of span L
STRENGTH_COLOUR = "#003076"  # one for all skips where width and opacity already tell them apart
WIDTHS = (0.6, 4.6)  # pixels: of the weakest connection and of the strongest, where there is room
OPACITIES = (0.35, 0.9)
Strengths = Mapping[tuple[int, int], float]  # (source, target) -> relative strength
Pens = Mapping[tuple[int, int], str]  # (source, target) -> attributes of its line


def draw_arcs(
    pattern: ConnectionPattern, title: str | None = None, width: float = 720.0, strengths: Strengths | None = None
) -> str:
    """An arc diagram: nodes 0..L on a line, an arc for every skip, darker the longer; a node's size shows its readers.

    Args:
        pattern: what to draw.
        title: shown top left, before the numbers; no more than a few words.
        width: of the picture, in pixels; its height follows from the longest skip.
        strengths: of strongest.relative_strengths, or means of them; every line's width and opacity then show its
            connection's, the chain's too, and a second line of text says so.

    Returns:
        A self-contained SVG document on a white ground.

    Raises:
        InputError: strengths of other connections than the pattern's, or one that is negative or not finite.
    """
    step = (width - 2 * MARGIN) / pattern.depth
    pens = None if strengths is None else _choose_pens(pattern, strengths, step)
    longest = max(target - source for source, target in pattern.connections)
    baseline = (44 if strengths is None else 64) + ARC_HEIGHT * longest * step
    height = baseline + 40

    def x(node: int) -> float:
        return MARGIN + node * step

    caption = _caption(pattern, title)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height:.0f}" width="{width:.0f}" '
        f'height="{height:.0f}" role="img" font-family="Helvetica, Arial, sans-serif">',
        f"<title>{escape(caption)}</title>",
        f'<rect width="{width:.0f}" height="{height:.0f}" fill="#ffffff"/>',
        f'<text x="{MARGIN:.0f}" y="22" font-size="14" fill="#22262b">{escape(caption)}</text>',
        *_legend(strengths),
        *(_line(x(s), x(t), baseline, pen) for s, t, pen in _chain(pattern, pens)),
        *(
            _arc(x(s), x(t), baseline, _plain(t - s, pattern.depth) if pens is None else pens[s, t])
            for s, t in _longest_first(pattern)
        ),
        *_nodes(pattern, x(0), step, baseline),
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def _caption(pattern: ConnectionPattern, title: str | None) -> str:
    distance = backprop_distance(pattern)
    numbers = (
        f"{pattern.depth} layers, {pattern.n_connections} connections, mean BD {distance.mean:.3f}, MBD {distance.max}"
    )
    shown = "".join(character for character in title or "" if character.isprintable())  # XML has no control characters
    return f"{shown}: {numbers}" if shown else numbers


def _choose_pens(pattern: ConnectionPattern, strengths: Strengths, step: float) -> Pens:
    others = set(strengths) ^ set(pattern.connections)
    if others:
        raise InputError(f"strengths and pattern differ in the connections {sorted(others)[:3]}: give one for each")
    if not all(0 <= strength < float("inf") for strength in strengths.values()):
        raise InputError("strengths must be finite and not negative: they are means of absolute weights")
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
    """What the lines' widths say, under the caption."""
    if strengths is None:
        return []
    low, high = min(strengths.values()), max(strengths.values())
    return [
        f'<text x="{MARGIN:.0f}" y="40" font-size="12" fill="#5a616b">wider and darker: stronger, {low:.2f} to '
        f"{high:.2f} of the layer's mean weight</text>"
    ]


def _chain(pattern: ConnectionPattern, pens: Pens | None) -> list[tuple[int, int, str]]:
    """Ends and pen of its lines: one for all of it, or one for each connection where they differ."""
    if pens is None:
        return [(0, pattern.depth, f'stroke="{CHAIN_COLOUR}" stroke-width="2"')]
    return [(layer - 1, layer, pens[layer - 1, layer]) for layer in range(1, pattern.depth + 1)]


def _line(left: float, right: float, baseline: float, pen: str) -> str:
    return f'<line x1="{left:.1f}" y1="{baseline:.1f}" x2="{right:.1f}" y2="{baseline:.1f}" {pen}/>'


def _longest_first(pattern: ConnectionPattern) -> list[tuple[int, int]]:
    """Skips in drawing order, so that short ones lie on top."""
    skips = [(source, target) for source, target in pattern.connections if target - source > 1]
    return sorted(skips, key=lambda skip: skip[0] - skip[1])


def _plain(span: int, depth: int) -> str:
    """The pen of a skip whose strength is not shown."""
    share = (span - 2) / max(depth - 2, 1)
    red, green, blue = (round(a + (b - a) * share) for a, b in zip(SHORT_COLOUR, LONG_COLOUR, strict=True))
    return f'stroke="#{red:02x}{green:02x}{blue:02x}" stroke-width="1.4" stroke-opacity="0.75"'


def _arc(left: float, right: float, baseline: float, pen: str) -> str:
    radius = (right - left) / 2
    return (
        f'<path d="M {left:.1f} {baseline:.1f} A {radius:.1f} {2 * ARC_HEIGHT * radius:.1f} 0 0 1 {right:.1f} '
        f'{baseline:.1f}" fill="none" {pen}/>'
    )


def _nodes(pattern: ConnectionPattern, first_x: float, step: float, baseline: float) -> list[str]:
    """Circles with area in proportion to out-degree, and a number under every few of them."""
    out_degrees = pattern.out_degrees
    largest = min(0.42 * step, 9.0)
    every = max(1, round(22 / step))
    parts = []
    for node in range(pattern.depth + 1):
        centre = first_x + node * step
        radius = max(largest * (out_degrees[node] / max(out_degrees)) ** 0.5, 1.6)
        parts.append(f'<circle cx="{centre:.1f}" cy="{baseline:.1f}" r="{radius:.1f}" fill="#22262b"/>')
        if (node % every == 0 and node <= pattern.depth - every) or node == pattern.depth:
            parts.append(
                f'<text x="{centre:.1f}" y="{baseline + 26:.1f}" font-size="11" fill="#5a616b" '
                f'text-anchor="middle">{node}</text>'
            )
    return parts
