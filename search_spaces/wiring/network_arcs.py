"""Wiring of a whole network -> arc diagram (SVG): its blocks side by side, and what passes between them."""

from collections.abc import Iterator
from xml.sax.saxutils import escape

from search_spaces.wiring.arcs import ARC_HEIGHT, CHAIN_COLOUR, MARGIN
from search_spaces.wiring.blocks import Block, Wiring, global_distance

LAYER_COLOUR = "#22262b"
READ_COLOUR = "#0072b2"
TRANSITION_COLOUR = "#d55e00"
MAX_STEPS = 10**7  # nodes x reads of what is drawn: its distances take some seconds then
GAP = 1.6  # between two blocks, in steps between nodes
WIDTH = 1080.0
MAX_RADIUS = 6.0


def is_worth_drawing(wiring: Wiring) -> bool:
    """Whether there are several blocks, and not too many of their nodes and reads to be seen."""
    n_nodes = sum(block.n_nodes for block in wiring.blocks)
    n_reads = sum(len(nodes) for block in wiring.blocks for nodes in block.sources)
    return len(wiring.blocks) > 1 and n_nodes * n_reads <= MAX_STEPS


def draw_wiring(wiring: Wiring, title: str) -> str:
    """An arc diagram of all blocks in a row: arcs above are what layers read, those below what transitions read.

    Squares are inputs of a block, circles layers, the diamond the classifier; a number under a node is the node of the
    pattern that it stands for.

    Args:
        title: shown top left, before the distances; a few words.

    Returns:
        A self-contained SVG document on a white ground.
    """
    places, n_steps = _place_nodes(wiring)
    step = (WIDTH - 2 * MARGIN) / n_steps
    x = [[MARGIN + place * step for place in block] for block in places]
    end = MARGIN + n_steps * step
    reads = [
        (x[number][source], x[number][node])
        for number, block in enumerate(wiring.blocks)
        for node, nodes in enumerate(block.sources, start=len(block.inputs))
        for source in nodes
    ]
    passed = [
        (x[number][source], x[number + 1][index])
        for number, block in enumerate(wiring.blocks[:-1])
        for index, transition in enumerate(block.transitions)
        for source in transition.reads
    ]
    passed += [(x[-1][source], end) for source in wiring.read]
    baseline = 44 + ARC_HEIGHT * max(right - left for left, right in reads)
    height = baseline + ARC_HEIGHT * max(right - left for left, right in passed) + 56
    distance = global_distance(wiring)
    caption = (
        f"{_printable(title)}: {len(wiring.blocks)} blocks, {sum(len(one.sources) for one in wiring.blocks)} layers, "
        f"through transitions mean BD {distance.mean:.3f}, MBD {distance.max}"
    )
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH:.0f} {height:.0f}" width="{WIDTH:.0f}" '
        f'height="{height:.0f}" role="img" font-family="Helvetica, Arial, sans-serif">',
        f"<title>{escape(caption)}</title>",
        f'<rect width="{WIDTH:.0f}" height="{height:.0f}" fill="#ffffff"/>',
        f'<text x="{MARGIN:.0f}" y="22" font-size="14" fill="#22262b">{escape(caption)}</text>',
        *(_arc(left, right, baseline, READ_COLOUR, above=True) for left, right in reads),
        *(_arc(left, right, baseline, TRANSITION_COLOUR, above=False) for left, right in passed),
        *_draw_nodes(wiring, x, end, baseline, min(0.36 * step, MAX_RADIUS)),
        *_draw_key(height),
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def _place_nodes(wiring: Wiring) -> tuple[list[list[float]], float]:
    """Where the nodes of each block stand, in steps, and where the classifier does."""
    places = []
    start = 0.0
    for block in wiring.blocks:
        places.append([start + node for node in range(block.n_nodes)])
        start += block.n_nodes - 1 + GAP
    return places, start


def _arc(left: float, right: float, baseline: float, colour: str, *, above: bool) -> str:
    radius = (right - left) / 2
    sweep = 1 if above else 0
    return (
        f'<path d="M {left:.1f} {baseline:.1f} A {radius:.1f} {2 * ARC_HEIGHT * radius:.1f} 0 0 {sweep} {right:.1f} '
        f'{baseline:.1f}" fill="none" stroke="{colour}" stroke-width="1.1" stroke-opacity="0.6"/>'
    )


def _draw_nodes(wiring: Wiring, x: list[list[float]], end: float, baseline: float, radius: float) -> Iterator[str]:
    for block, centres in zip(wiring.blocks, x, strict=True):
        yield (
            f'<line x1="{centres[0]:.1f}" y1="{baseline:.1f}" x2="{centres[-1]:.1f}" y2="{baseline:.1f}" '
            f'stroke="{CHAIN_COLOUR}" stroke-width="1"/>'
        )
        labelled = _labelled(block, radius)
        for node, centre in enumerate(centres):
            if node < len(block.inputs):
                yield (
                    f'<rect x="{centre - radius:.1f}" y="{baseline - radius:.1f}" width="{2 * radius:.1f}" '
                    f'height="{2 * radius:.1f}" fill="#ffffff" stroke="{TRANSITION_COLOUR}" stroke-width="1.5"/>'
                )
            else:
                yield f'<circle cx="{centre:.1f}" cy="{baseline:.1f}" r="{radius:.1f}" fill="{LAYER_COLOUR}"/>'
            if node in labelled:
                yield (
                    f'<text x="{centre:.1f}" y="{baseline + radius + 11:.1f}" font-size="9" fill="#5a616b" '
                    f'text-anchor="middle">{block.places[node]}</text>'
                )
    corners = ((end - radius, baseline), (end, baseline - radius), (end + radius, baseline), (end, baseline + radius))
    points = " ".join(f"{across:.1f},{down:.1f}" for across, down in corners)
    yield f'<polygon points="{points}" fill="{TRANSITION_COLOUR}"/>'


def _labelled(block: Block, radius: float) -> set[int]:
    """The nodes that get a number: so many that the numbers keep out of each other's way."""
    every = max(1, round(6 / radius))
    last = block.n_nodes - 1
    return {node for node in range(last) if node % every == 0 and node <= last - every} | {last}


def _draw_key(height: float) -> Iterator[str]:
    below = "below: what transitions and the classifier read"
    told = (("above: what layers read", READ_COLOUR), (below, TRANSITION_COLOUR))
    for number, (text, colour) in enumerate(told):
        yield (
            f'<text x="{MARGIN + 200 * number:.0f}" y="{height - 10:.0f}" font-size="11" fill="{colour}">{text}</text>'
        )


def _printable(text: str) -> str:
    return "".join(character for character in text if character.isprintable())  # XML has no control characters
