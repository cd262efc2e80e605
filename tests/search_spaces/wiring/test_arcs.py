"""Arc diagrams: well-formed SVG whose arcs are the skips and whose circles are the nodes."""

import itertools
import re
import xml.etree.ElementTree as ET

import pytest

from search_spaces.errors import InputError
from search_spaces.pattern import ConnectionPattern
from search_spaces.templates import find_template
from search_spaces.wiring.arcs import draw_arcs

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


PLAIN = """<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 256 156" width="256" height="156" role="img" \
font-family="Helvetica, Arial, sans-serif">
<title>a: 2 layers, 3 connections, mean BD 1.000, MBD 1</title>
<rect width="256" height="156" fill="#ffffff"/>
<text x="28" y="22" font-size="14" fill="#22262b">a: 2 layers, 3 connections, mean BD 1.000, MBD 1</text>
<line x1="28.0" y1="116.0" x2="228.0" y2="116.0" stroke="#8a8f98" stroke-width="2"/>
<path d="M 28.0 116.0 A 100.0 72.0 0 0 1 228.0 116.0" fill="none" stroke="#56b4e9" stroke-width="1.4" \
stroke-opacity="0.75"/>
<circle cx="28.0" cy="116.0" r="9.0" fill="#22262b"/>
<text x="28.0" y="142.0" font-size="11" fill="#5a616b" text-anchor="middle">0</text>
<circle cx="128.0" cy="116.0" r="6.4" fill="#22262b"/>
<text x="128.0" y="142.0" font-size="11" fill="#5a616b" text-anchor="middle">1</text>
<circle cx="228.0" cy="116.0" r="1.6" fill="#22262b"/>
<text x="228.0" y="142.0" font-size="11" fill="#5a616b" text-anchor="middle">2</text>
</svg>
"""


def test_without_strengths_not_a_letter_changes() -> None:
    assert draw_arcs(PATTERNS[1], "a", width=256) == PLAIN  # templates that were exported hold it


def strengths_of(pattern: ConnectionPattern) -> dict[tuple[int, int], float]:
    """All different."""
    return {one: 0.5 + place / pattern.n_connections for place, one in enumerate(sorted(pattern.connections))}


def lines_of(root: ET.Element, n_layers: int) -> dict[tuple[int, int], tuple[float, float, str]]:
    """(source, target) -> width, opacity and colour of its line or arc."""
    centres = [float(circle.attrib["cx"]) for circle in root.iter(f"{SVG}circle")]
    assert len(centres) == n_layers + 1
    ends = [(float(line.attrib["x1"]), float(line.attrib["x2"])) for line in root.iter(f"{SVG}line")]
    ends += [(left, right) for left, right, _ in arcs_of(root)]
    found = {}
    for (left, right), element in zip(ends, (*root.iter(f"{SVG}line"), *root.iter(f"{SVG}path")), strict=True):
        pen = (float(element.attrib["stroke-width"]), float(element.attrib["stroke-opacity"]), element.attrib["stroke"])
        found[centres.index(left), centres.index(right)] = pen
    return found


@by_pattern
def test_lines_are_the_wider_and_darker_the_stronger_their_connection(pattern: ConnectionPattern) -> None:
    strengths = strengths_of(pattern)
    lines = lines_of(parse(draw_arcs(pattern, strengths=strengths)), pattern.depth)
    assert set(lines) == set(pattern.connections)
    order = sorted(lines, key=strengths.__getitem__)
    for ordered in ([lines[connection][0] for connection in order], [lines[connection][1] for connection in order]):
        assert ordered == sorted(ordered)
        assert ordered[0] > 0
        assert len(ordered) == 1 or ordered[-1] > 2 * ordered[0]
    assert max(width for width, _, _ in lines.values()) < 5
    assert len({colour for _, _, colour in lines.values()}) == (1 if pattern.n_connections == pattern.depth else 2)
    assert all((lines[s, t][2] == "#8a8f98") == (t - s == 1) for s, t in lines)


def test_a_second_line_of_text_says_what_the_widths_show() -> None:
    pattern = find_template("log").build(12)
    root = parse(draw_arcs(pattern, "log", strengths=strengths_of(pattern), width=460))
    caption, legend = [text.text for text in root.iter(f"{SVG}text")][:2]
    assert caption == root.findtext(f"{SVG}title")
    high = 0.5 + (pattern.n_connections - 1) / pattern.n_connections
    assert legend == f"wider and darker: stronger, 0.50 to {high:.2f} of the layer's mean weight"
    baseline = float(next(root.iter(f"{SVG}circle")).attrib["cy"])
    assert all(baseline - height > 44 for _, _, height in arcs_of(root))  # below both lines of text
    assert baseline + 40 == float(root.attrib["viewBox"].split()[3])


def test_lines_of_deep_patterns_leave_room_for_one_another() -> None:
    pattern = find_template("log").build(100)
    lines = lines_of(parse(draw_arcs(pattern, strengths=strengths_of(pattern), width=720)), 100)
    assert max(width for width, _, _ in lines.values()) < (720 - 56) / 100 / 3


def test_equal_strengths_are_drawn_alike() -> None:
    pattern = find_template("log").build(6)
    lines = lines_of(parse(draw_arcs(pattern, strengths=dict.fromkeys(pattern.connections, 1.0))), 6)
    assert len({pen[:2] for pen in lines.values()}) == 1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({(0, 3): None}, r"differ in the connections \[\(0, 3\)\]"),
        ({(0, 4): 1.0}, r"differ in the connections \[\(0, 4\)\]"),
        ({(0, 3): -0.1}, "not negative"),
        ({(0, 3): float("nan")}, "finite"),
        ({(0, 3): float("inf")}, "finite"),
    ],
)
def test_strengths_of_another_pattern_are_refused(changes: dict[tuple[int, int], float | None], message: str) -> None:
    pattern = ConnectionPattern(4, ((0,), (1,), (0, 2), (3,)))
    edited = {**dict.fromkeys(pattern.connections, 1.0), **changes}
    with pytest.raises(InputError, match=message):
        draw_arcs(pattern, strengths={one: value for one, value in edited.items() if value is not None})
