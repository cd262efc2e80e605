"""Arc diagrams of patterns as pixels, for what shows no SVG."""

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from search_spaces.pattern import ConnectionPattern
from search_spaces.wiring.arcs import ARC_HEIGHT, CHAIN_COLOUR, INK, LONG_COLOUR, MARGIN, SHORT_COLOUR

FINER = 2  # drawn so much larger, then made smaller, because arcs are drawn without smooth edges


def draw_pixels(pattern: ConnectionPattern, width: int = 720) -> NDArray[np.uint8]:
    """Draw nodes 0..L on a line and an arc for every skip, darker the longer, as `draw_arcs` does.

    Returns:
        (height, width, 3); the height follows from the longest skip.
    """
    margin, step = FINER * MARGIN, FINER * (width - 2 * MARGIN) / pattern.depth
    skips = sorted(pattern.connections, key=lambda skip: skip[0] - skip[1])  # short ones lie on top
    longest = max(target - source for source, target in skips)
    baseline = margin + ARC_HEIGHT * longest * step
    image = Image.new("RGB", (FINER * width, round(baseline + margin)), "white")
    pen = ImageDraw.Draw(image)
    for source, target in skips:
        left, right = margin + source * step, margin + target * step
        if target - source == 1:
            pen.line((left, baseline, right, baseline), fill=CHAIN_COLOUR, width=2 * FINER)
            continue
        height = ARC_HEIGHT * (right - left)
        share = (target - source - 2) / max(pattern.depth - 2, 1)
        colour = tuple(round(a + (b - a) * share) for a, b in zip(SHORT_COLOUR, LONG_COLOUR, strict=True))
        pen.arc((left, baseline - height, right, baseline + height), 180, 360, fill=colour, width=round(1.4 * FINER))
    most = max(pattern.out_degrees)
    for node, n_readers in enumerate(pattern.out_degrees):
        centre = margin + node * step
        radius = FINER * max(min(0.42 * step / FINER, 9.0) * (n_readers / most) ** 0.5, 1.6)
        pen.ellipse((centre - radius, baseline - radius, centre + radius, baseline + radius), fill=INK)
    return np.asarray(image.reduce(FINER), dtype=np.uint8)
