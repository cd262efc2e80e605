"""Pattern -> arc diagram (SVG)."""

from xml.sax.saxutils import escape

from search_spaces.distance import backprop_distance
from search_spaces.pattern import ConnectionPattern

MARGIN = 28.0
ARC_HEIGHT = 0.36  # of an arc's width; flatter than a half circle, so that deep patterns stay readable
CHAIN_COLOUR = "#8a8f98"
SHORT_COLOUR = (86, 180, 233)  # a skip of span 2
LONG_COLOUR = (0, 48, 118)  # a skip of span L


def draw_arcs(pattern: ConnectionPattern, title: str | None = None, width: float = 720.0) -> str:
    """An arc diagram: nodes 0..L on a line, an arc for every skip, darker the longer; a node's size shows its readers.

    Args:
        pattern: what to draw.
        title: shown top left, before the numbers; no more than a few words.
        width: of the picture, in pixels; its height follows from the longest skip.

    Returns:
        A self-contained SVG document on a white ground.
    """
    step = (width - 2 * MARGIN) / pattern.depth
    longest = max(target - source for source, target in pattern.connections)
    baseline = 44 + ARC_HEIGHT * longest * step
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
        f'<line x1="{x(0):.1f}" y1="{baseline:.1f}" x2="{x(pattern.depth):.1f}" y2="{baseline:.1f}" '
        f'stroke="{CHAIN_COLOUR}" stroke-width="2"/>',
        *(_arc(x(s), x(t), baseline, t - s, pattern.depth) for s, t in _longest_first(pattern)),
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


def _longest_first(pattern: ConnectionPattern) -> list[tuple[int, int]]:
    """Skips in drawing order, so that short ones lie on top."""
    skips = [(source, target) for source, target in pattern.connections if target - source > 1]
    return sorted(skips, key=lambda skip: skip[0] - skip[1])


def _arc(left: float, right: float, baseline: float, span: int, depth: int) -> str:
    share = (span - 2) / max(depth - 2, 1)
    red, green, blue = (round(a + (b - a) * share) for a, b in zip(SHORT_COLOUR, LONG_COLOUR, strict=True))
    radius = (right - left) / 2
    return (
        f'<path d="M {left:.1f} {baseline:.1f} A {radius:.1f} {2 * ARC_HEIGHT * radius:.1f} 0 0 1 {right:.1f} '
        f'{baseline:.1f}" fill="none" stroke="#{red:02x}{green:02x}{blue:02x}" stroke-width="1.4" '
        'stroke-opacity="0.75"/>'
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
