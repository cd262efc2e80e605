"""Arc diagrams: well-formed SVG whose arcs are the skips and whose circles are the nodes."""

import itertools
import re
import xml.etree.ElementTree as ET

import pytest

from search_spaces.arcs import draw_arcs
from search_spaces.pattern import ConnectionPattern
from search_spaces.templates import find_template

SVG = "{http://www.w3.org/2000/svg}"
ARC = re.compile(r"M (\S+) (\S+) A (\S+) (\S+) 0 0 1 (\S+) (\S+)")
PATTERNS = [
    ConnectionPattern(1, ((0,),)),
    ConnectionPattern(2, ((0,), (0, 1))),
    *(find_template(name).build(depth) for name, depth in (("chain", 7), ("log", 24), ("midpoint", 52), ("dense", 9))),
]
by_pattern = pytest.mark.parametrize("pattern", PATTERNS, ids=lambda p: f"{p.depth}-{p.n_connections}")


def parse(svg: str) -> ET.Element:
    return ET.fromstring(svg)  # noqa: S314 - our own text


def arcs_of(root: ET.Element) -> list[tuple[float, float, float]]:
    """Left end, right end and height of every arc, in drawing order."""
    arcs = []
    for path in root.iter(f"{SVG}path"):
        match = ARC.fullmatch(path.attrib["d"])
        assert match is not None
        left, start, radius, height, right, end = map(float, match.groups())
        assert start == end
        assert radius == pytest.approx((right - left) / 2, abs=0.11)  # coordinates have one decimal
        arcs.append((left, right, height))
    return arcs


def spans_of(root: ET.Element, n_layers: int) -> list[int]:
    """Layers between the ends of every arc, in drawing order."""
    centres = [float(circle.attrib["cx"]) for circle in root.iter(f"{SVG}circle")]
    step = (centres[-1] - centres[0]) / n_layers
    return [round((right - left) / step) for left, right, _ in arcs_of(root)]


@by_pattern
def test_arcs_are_the_skips_and_circles_the_nodes(pattern: ConnectionPattern) -> None:
    root = parse(draw_arcs(pattern))
    assert root.tag == f"{SVG}svg"
    centres = [circle.attrib["cx"] for circle in root.iter(f"{SVG}circle")]
    assert len(set(centres)) == len(centres) == pattern.depth + 1
    assert sorted(centres, key=float) == centres
    arcs = [ARC.fullmatch(path.attrib["d"]) for path in root.iter(f"{SVG}path")]
    drawn = [(centres.index(match[1]), centres.index(match[5])) for match in arcs if match]
    assert sorted(drawn) == sorted((s, t) for s, t in pattern.connections if t - s > 1)
    assert len(drawn) == len(arcs) == pattern.n_connections - pattern.depth


@by_pattern
def test_everything_lies_within_the_picture(pattern: ConnectionPattern) -> None:
    root = parse(draw_arcs(pattern, width=500))
    _, _, width, height = map(float, root.attrib["viewBox"].split())
    assert width == 500
    baselines = {circle.attrib["cy"] for circle in root.iter(f"{SVG}circle")}
    assert len(baselines) == 1
    baseline = float(baselines.pop())
    for circle in root.iter(f"{SVG}circle"):
        assert float(circle.attrib["cx"]) >= float(circle.attrib["r"])
        assert float(circle.attrib["cx"]) + float(circle.attrib["r"]) <= width
        assert baseline + float(circle.attrib["r"]) <= height
    caption_baseline = 22
    assert all(baseline - arc_height > caption_baseline for _, _, arc_height in arcs_of(root))
    assert all(float(text.attrib["y"]) <= height for text in root.iter(f"{SVG}text"))


def test_longer_arcs_are_higher_darker_and_drawn_first() -> None:
    root = parse(draw_arcs(find_template("dense").build(8)))
    spans = spans_of(root, 8)
    assert spans == sorted(spans, reverse=True)
    assert set(spans) == set(range(2, 9))
    lightness, heights = {}, {}
    for span, path, (_, _, height) in zip(spans, root.iter(f"{SVG}path"), arcs_of(root), strict=True):
        lightness[span] = sum(bytes.fromhex(path.attrib["stroke"].removeprefix("#")))
        heights[span] = height
    assert [lightness[span] for span in range(2, 9)] == sorted(lightness.values(), reverse=True)
    assert [heights[span] for span in range(2, 9)] == sorted(set(heights.values()))
    assert len(set(lightness.values())) == 7


def test_areas_of_circles_are_in_proportion_to_readers() -> None:
    pattern = find_template("dense").build(6)
    radii = [float(circle.attrib["r"]) for circle in parse(draw_arcs(pattern)).iter(f"{SVG}circle")]
    areas = [(radius / radii[0]) ** 2 for radius in radii]
    expected = [readers / 6 for readers in pattern.out_degrees[:-1]]
    assert areas[:-1] == pytest.approx(expected, abs=0.03)  # radii have one decimal
    assert radii[-1] > 0  # the last layer has no reader in the block, and is still seen


@pytest.mark.parametrize("depth", [1, 7, 24, 100])
def test_numbers_under_the_line_stand_at_their_nodes_and_keep_apart(depth: int) -> None:
    root = parse(draw_arcs(find_template("chain").build(depth)))
    centres = [circle.attrib["cx"] for circle in root.iter(f"{SVG}circle")]
    labels = [(text.text, text.attrib["x"]) for text in root.iter(f"{SVG}text")][1:]
    assert labels[0][0] == "0"
    assert labels[-1][0] == str(depth)
    assert all(x == centres[int(number or -1)] for number, x in labels)
    positions = [float(x) for _, x in labels]
    assert all(right - left >= 16 for left, right in itertools.pairwise(positions))


@pytest.mark.parametrize(
    "title", ["plain", "a < b & c > d", "\"quotes\" and 'others'", "]]>", "</svg><script/>", "é ∀"]
)
def test_a_title_is_shown_as_given(title: str) -> None:
    root = parse(draw_arcs(find_template("log").build(4), title=title))
    caption = f"{title}: 4 layers, 8 connections, mean BD 1.200, MBD 2"
    assert root.findtext(f"{SVG}title") == caption
    assert root.findtext(f"{SVG}text") == caption
    assert root.find(f".//{SVG}script") is None


def test_without_a_title_the_numbers_stand_alone() -> None:
    root = parse(draw_arcs(find_template("chain").build(3)))
    assert root.findtext(f"{SVG}title") == "3 layers, 3 connections, mean BD 1.667, MBD 3"


@pytest.mark.parametrize("title", ["a\x1b[31mb", "a\x00b", "a\x08b"])
def test_control_characters_in_a_title_leave_the_picture_well_formed(title: str) -> None:
    root = parse(draw_arcs(find_template("log").build(4), title=title))
    assert "4 layers" in (root.findtext(f"{SVG}title") or "")
