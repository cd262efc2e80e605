"""Whole networks drawn: every read and every transition once, and nothing where there would be too much to see."""

import xml.etree.ElementTree as ET
from collections import Counter

import pytest

from nas.presets.registry import find_preset
from search_spaces.templates import find_template
from search_spaces.wiring.blocks import Widths, Wiring, global_distance, wire_within
from search_spaces.wiring.network_arcs import READ_COLOUR, TRANSITION_COLOUR, draw_wiring, is_worth_drawing

SVG = "{http://www.w3.org/2000/svg}"
NAMES = ["densenet-121", "log-densenet-v1-12-16", "log-densenet-v2-12-16", "loglog-densenet-12-16"]


def wiring_of(name: str) -> Wiring:
    return find_preset(name).candidate.wiring


@pytest.mark.parametrize("name", NAMES)
def test_every_read_is_an_arc_and_every_node_a_mark(name: str) -> None:
    wiring = wiring_of(name)
    root = ET.fromstring(draw_wiring(wiring, name))  # noqa: S314  our own text
    arcs = Counter(path.get("stroke") for path in root.iter(f"{SVG}path"))
    assert arcs[READ_COLOUR] == sum(len(nodes) for block in wiring.blocks for nodes in block.sources)
    n_passed = sum(len(transition.reads) for block in wiring.blocks for transition in block.transitions)
    assert arcs[TRANSITION_COLOUR] == n_passed + len(wiring.read)
    assert len(list(root.iter(f"{SVG}circle"))) == sum(len(block.sources) for block in wiring.blocks)
    squares = [mark for mark in root.iter(f"{SVG}rect") if mark.get("stroke") == TRANSITION_COLOUR]
    assert len(squares) == sum(len(block.inputs) for block in wiring.blocks)
    caption = next(root.iter(f"{SVG}title")).text or ""
    assert f"mean BD {global_distance(wiring).mean:.3f}" in caption


@pytest.mark.parametrize("name", NAMES)
def test_arcs_end_at_nodes_inside_the_picture(name: str) -> None:
    root = ET.fromstring(draw_wiring(wiring_of(name), name))  # noqa: S314  our own text
    width, height = float(root.get("width", 0)), float(root.get("height", 0))
    nodes = {mark.get("cx") for mark in root.iter(f"{SVG}circle")}
    inner = {f"{float(mark.get('x', 0)) + float(mark.get('width', 0)) / 2:.1f}" for mark in root.iter(f"{SVG}rect")}
    for path in root.iter(f"{SVG}path"):
        _, left, down, _, radius, depth, *_, right, _ = (path.get("d") or "").split()
        assert 0 < float(left) < float(right) < width
        assert float(down) - float(depth) > 0
        assert float(down) + float(depth) < height - 20
        assert left in nodes or any(abs(float(left) - float(centre)) < 0.11 for centre in inner)
        assert float(right) - float(left) == pytest.approx(2 * float(radius), abs=0.2)


def test_a_strange_title_stays_text() -> None:
    root = ET.fromstring(draw_wiring(wiring_of("log-densenet-v2-12-16"), "<b>\x07&"))  # noqa: S314  our own text
    assert (next(root.iter(f"{SVG}title")).text or "").startswith("<b>&: 3 blocks")


def test_one_block_and_huge_networks_are_not_drawn() -> None:
    log = find_template("log")
    assert not is_worth_drawing(wire_within([log.build(12)], [(12,)], Widths(1, 1)))
    assert is_worth_drawing(wire_within([log.build(12)] * 2, [(12,)] * 2, Widths(1, 1)))
    assert not is_worth_drawing(wire_within([log.build(1000)] * 4, [(1000,)] * 4, Widths(1, 1)))
    assert is_worth_drawing(wiring_of("log-densenet-v1-52-32"))
