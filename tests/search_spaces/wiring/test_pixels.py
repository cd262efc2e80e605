"""The picture of pixels has a line where the arc diagram has one."""

import re

import numpy as np
import pytest

from search_spaces.templates import find_template
from search_spaces.wiring.arcs import ARC_HEIGHT, MARGIN, draw_arcs
from search_spaces.wiring.pixels import draw_pixels

WHITE = 255


@pytest.mark.parametrize("name", ["log", "midpoint", "chain", "dense"])
@pytest.mark.parametrize("depth", [1, 6, 24])
def test_each_arc_of_the_svg_is_painted_at_its_top(name: str, depth: int) -> None:
    pattern = find_template(name).build(depth)
    pixels = draw_pixels(pattern)
    dark = np.asarray((pixels < WHITE).any(axis=2))
    # The SVG's own numbers: where each arc begins and ends, its height, and the baseline of all.
    svg = draw_arcs(pattern)
    arcs = re.findall(r'd="M ([\d.]+) ([\d.]+) A [\d.]+ ([\d.]+) 0 0 1 ([\d.]+)', svg)
    assert len(arcs) == pattern.n_connections - depth
    baseline = pixels.shape[0] - 1 - MARGIN
    for left, _, height, right in arcs:
        row, column = round(baseline - float(height)), round((float(left) + float(right)) / 2)
        assert dark[row - 2 : row + 3, column].any()
    longest = max(target - source for source, target in pattern.connections)
    top = round(baseline - ARC_HEIGHT * longest * (pixels.shape[1] - 2 * MARGIN) / depth)
    assert not dark[: max(top - 2, 0)].any()  # nothing is above the longest
    if not arcs:
        assert not dark[: round(baseline) - 10].any()


def test_two_patterns_have_two_pictures() -> None:
    log, midpoint = (draw_pixels(find_template(name).build(24)) for name in ("log", "midpoint"))
    assert not np.array_equal(log, midpoint)
    assert log.shape[1] == 720
