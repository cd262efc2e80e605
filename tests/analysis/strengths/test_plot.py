"""The heat map: every connection a square in its place, darker the stronger, all other pairs hatched."""

import itertools
import re
from collections.abc import Mapping

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.patches import PathPatch, Polygon

from analysis.page.figure_style import draw_png, draw_svg
from analysis.page.inline_svg import inline_svg
from analysis.strengths.plot import N_COLOURS, STRENGTH_COLOURS, Panel, plot_strengths
from search_spaces.pattern import ConnectionPattern
from search_spaces.templates import find_template

Strengths = Mapping[tuple[int, int], float]


def weigh(pattern: ConnectionPattern) -> dict[tuple[int, int], float]:
    """Falling with span, all different."""
    return {(source, target): 1.5 / (target - source) + target / 1000 for source, target in pattern.connections}


def squares(axes: Axes) -> dict[tuple[int, int], tuple[float, float, float]]:
    """(source, target) -> colour of each unit square drawn, by its middle."""
    found = {}
    for patch in axes.patches:
        if isinstance(patch, PathPatch):
            for corners in map(np.asarray, patch.get_path().to_polygons()):
                low, high = corners.min(axis=0), corners.max(axis=0)
                assert (high - low).tolist() == [1, 1]
                target, source = (low + high) / 2
                assert (int(source), int(target)) not in found
                found[int(source), int(target)] = to_rgb(patch.get_facecolor())
    return found


def lightness(colour: tuple[float, float, float]) -> float:
    """As grey print shows it."""
    return float(np.dot(colour, (0.299, 0.587, 0.114)))


@pytest.mark.parametrize(("name", "depth"), [("log", 5), ("dense", 12), ("log", 52), ("chain", 1)])
def test_connections_are_squares_in_their_places_and_darker_the_stronger(name: str, depth: int) -> None:
    pattern = find_template(name).build(depth)
    strengths = weigh(pattern)
    figure = plot_strengths([Panel("a", depth, strengths)])
    axes = figure.axes[0]
    drawn = squares(axes)
    assert set(drawn) == set(pattern.connections)
    ordered = [lightness(drawn[one]) for one in sorted(drawn, key=strengths.__getitem__)]
    assert ordered == sorted(ordered, reverse=True)
    assert len(ordered) == 1 or ordered[0] - ordered[-1] > 0.5
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("target layer", "source layer")
    assert axes.get_xlim() == (0.5, depth + 0.5)
    assert axes.get_ylim() == (depth - 0.5, -0.5)  # the block's input on top, as in the paper


def test_colours_lose_lightness_step_by_step_and_none_is_near_white() -> None:
    steps = [lightness(to_rgb(STRENGTH_COLOURS(place))) for place in range(N_COLOURS)]
    assert steps == sorted(set(steps), reverse=True)
    assert steps[0] < 0.85


def test_all_pairs_that_could_be_read_are_hatched_behind_the_squares() -> None:
    axes = plot_strengths([Panel("a", 4, weigh(find_template("log").build(4)))]).axes[0]
    first = axes.patches[0]
    assert isinstance(first, Polygon)
    assert first.get_hatch() == "////"
    pairs = {(s, t) for t in range(5) for s in range(5) if first.get_path().contains_point((t, s))}
    assert pairs == {(s, t) for t in range(1, 5) for s in range(t)}


def test_panels_share_colours_and_one_bar_that_says_what_they_mean() -> None:
    log, dense = (find_template(name).build(8) for name in ("log", "dense"))
    figure = plot_strengths(
        [Panel("log (best)", 8, weigh(log)), Panel("dense", 8, {pair: 9 * v for pair, v in weigh(dense).items()})],
        "4 patterns",
    )
    first, second, bar = figure.axes
    assert [first.get_title("left"), second.get_title("left")] == ["log (best)", "dense"]
    assert bar.get_ylabel() == "relative strength (1: its layer's mean)"
    assert bar.get_ylim() == (min(weigh(log).values()), 9 * max(weigh(dense).values()))
    assert min(map(lightness, squares(first).values())) > max(lightness(squares(second)[i, i + 1]) for i in range(8))
    assert figure.get_supxlabel() == "4 patterns"


@pytest.mark.parametrize("n_panels", [1, 2, 3, 4])
def test_every_panel_is_square_named_and_inside_the_picture(n_panels: int) -> None:
    pattern = find_template("log").build(24)
    figure = plot_strengths(
        [Panel(f"pattern {place} $x$", 24, weigh(pattern)) for place in range(n_panels)], "a caption"
    )
    figure.draw_without_rendering()
    panels = [axes for axes in figure.axes if axes.get_title("left")]
    assert len(panels) == n_panels
    for axes in panels:
        box = axes.get_tightbbox()
        assert box is not None
        assert 0 <= box.x0 < box.x1 <= figure.bbox.x1
        assert 0 <= box.y0 < box.y1 <= figure.bbox.y1
        assert axes.bbox.width == pytest.approx(axes.bbox.height, rel=0.01)
        assert axes.bbox.width > 150
        labels = [label.get_window_extent() for label in axes.get_xticklabels()]
        assert not any(a.overlaps(b) for a, b in itertools.pairwise(labels))


def test_the_svg_has_distinct_ids_goes_into_a_page_and_is_the_same_again() -> None:
    panels = [Panel(name, 12, weigh(find_template(name).build(12))) for name in ("log", "dense")]
    svg = draw_svg(plot_strengths(panels, "caption"))
    assert svg == draw_svg(plot_strengths(panels, "caption"))
    ids = re.findall(r'id="([^"]+)"', svg)
    assert len(ids) == len(set(ids))
    assert "<svg" in inline_svg(svg, "p-", "strengths")
    assert draw_png(plot_strengths(panels)).startswith(b"\x89PNG")


def test_a_deep_dense_pattern_stays_a_small_file() -> None:
    pattern = find_template("dense").build(52)
    assert len(draw_svg(plot_strengths([Panel("dense", 52, weigh(pattern))]))) < 150 * pattern.n_connections


def test_equal_strengths_are_drawn_alike() -> None:
    pattern = find_template("log").build(6)
    axes = plot_strengths([Panel("a", 6, dict.fromkeys(pattern.connections, 1.0))]).axes[0]
    assert len(set(squares(axes).values())) == 1
