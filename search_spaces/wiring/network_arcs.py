"""Arc diagrams of whole networks, as SVG: blocks side by side, and what passes between them."""

from collections.abc import Iterator

from search_spaces.wiring.arcs import ARC_HEIGHT, CHAIN_COLOUR, GREY, INK, MARGIN, draw_arc, open_svg, printable
from search_spaces.wiring.blocks import Block, Wiring, global_distance

READ_COLOUR = "#0072b2"
TRANSITION_COLOUR = "#d55e00"
KEY = '<text x="{x:.0f}" y="{y:.0f}" font-size="11" fill="{colour}">{text}</text>'
BELOW = "below: what transitions and the classifier read"
PEN = 'stroke="{}" stroke-width="1.1" stroke-opacity="0.6"'
MAX_STEPS = 10**7  # nodes x reads; the distances of a network of so many take some seconds
GAP = 1.6  # between two blocks, in steps from node to node
WIDTH = 1080.0
MAX_RADIUS = 6.0


def is_worth_drawing(wiring: Wiring) -> bool:
    """Return whether there are several blocks, with few enough nodes and reads to be seen."""
    n_nodes = sum(block.n_nodes for block in wiring.blocks)
    n_reads = sum(len(nodes) for block in wiring.blocks for nodes in block.sources)
    return len(wiring.blocks) > 1 and n_nodes * n_reads <= MAX_STEPS


def draw_wiring(wiring: Wiring, title: str) -> str:
    """Draw all blocks in a row: arcs above are what layers read, arcs below what transitions read.

    Squares are inputs of a block, circles are layers, the diamond is the classifier; a number under a node is the node
    of the pattern that it stands for.

    Args:
        wiring: network to draw.
        title: a few words shown top left, before the distances.

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
    n_layers = sum(len(block.sources) for block in wiring.blocks)
    caption = (
        f"{printable(title)}: {len(wiring.blocks)} blocks, {n_layers} layers, "
        f"through transitions mean BD {distance.mean:.3f}, MBD {distance.max}"
    )
    parts = [
        *open_svg(WIDTH, height, caption),
        *(draw_arc(left, right, baseline, PEN.format(READ_COLOUR)) for left, right in reads),
        *(draw_arc(left, right, baseline, PEN.format(TRANSITION_COLOUR), below=True) for left, right in passed),
        *_draw_nodes(wiring, x, end, baseline, min(0.36 * step, MAX_RADIUS)),
        KEY.format(x=MARGIN, y=height - 10, colour=READ_COLOUR, text="above: what layers read"),
        KEY.format(x=MARGIN + 200, y=height - 10, colour=TRANSITION_COLOUR, text=BELOW),
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def _place_nodes(wiring: Wiring) -> tuple[list[list[float]], float]:
    """Return the places of the nodes of each block, in steps, and the place of the classifier."""
    places = []
    start = 0.0
    for block in wiring.blocks:
        places.append([start + node for node in range(block.n_nodes)])
        start += block.n_nodes - 1 + GAP
    return places, start


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
                yield f'<circle cx="{centre:.1f}" cy="{baseline:.1f}" r="{radius:.1f}" fill="{INK}"/>'
            if node in labelled:
                yield (
                    f'<text x="{centre:.1f}" y="{baseline + radius + 11:.1f}" font-size="9" fill="{GREY}" '
                    f'text-anchor="middle">{block.places[node]}</text>'
                )
    corners = ((end - radius, baseline), (end, baseline - radius), (end + radius, baseline), (end, baseline + radius))
    points = " ".join(f"{across:.1f},{down:.1f}" for across, down in corners)
    yield f'<polygon points="{points}" fill="{TRANSITION_COLOUR}"/>'


def _labelled(block: Block, radius: float) -> set[int]:
    """Return the nodes that get a number, few enough for the numbers to stay apart."""
    every = max(1, round(6 / radius))
    last = block.n_nodes - 1
    return {node for node in range(last) if node % every == 0 and node <= last - every} | {last}
