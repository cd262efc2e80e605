import itertools
import xml.etree.ElementTree as ET
from dataclasses import replace

import numpy as np
import pytest
from matplotlib.colors import same_color
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.text import Text

from analysis.page.figure_style import GREY, INK, draw_svg, name_marks
from analysis.tradeoff.plot import plot_tradeoff
from analysis.tradeoff.points import Point

COSTS = {"connections": "connections", "params": "parameters", "flops": "FLOPs"}
CONNECTIONS = {"total:24": 24, "total:40": 40, "log": 94, "total:160": 160, "total:300": 300}


def make_points(families: dict[str, int], n_budgets: int = 5) -> list[Point]:
    """Points of families that rise by connections; families: name -> number of its budgets."""
    points = []
    for place, (family, n) in enumerate(families.items()):
        for budget, connections in list(CONNECTIONS.items())[n_budgets - n : n_budgets]:
            accuracy = 0.8 + 0.02 * np.log(connections) - 0.004 * place
            points.append(
                Point(
                    family, budget, family, connections, 12_345 + 45 * connections, 10**6 * connections, 1, 3,
                    accuracy, accuracy - 0.01, accuracy + 0.01, None, None,
                )
            )  # fmt: skip
    return points


FAMILIES = {"evenly": 5, "geometric": 5, "nearest": 5, "found": 4, "random (mean)": 4, "log": 1}
MANY = {f"family {i}": 2 + i % 3 for i in range(14)}


def _lines(figure: Figure, panel: int, kind: str, family: str) -> list[Line2D]:
    """Of one family, by its place in the legend."""
    place = [text.get_text() for text in figure.legends[0].get_texts()].index(family)
    start = f"{kind}-{list(COSTS)[panel]}-{place}"
    lines = figure.axes[panel].get_lines()
    return [line for line in lines if line.get_gid() == start or (line.get_gid() or "").startswith(f"{start}-")]


def _data(line: Line2D) -> tuple[list[float], list[float]]:
    return np.asarray(line.get_xdata()).tolist(), np.asarray(line.get_ydata()).tolist()


@pytest.mark.parametrize("panel", [0, 1, 2])
def test_a_family_is_a_line_through_its_budgets_with_an_interval_at_each(panel: int) -> None:
    points = make_points(FAMILIES)
    figure = plot_tradeoff(points, "caption")
    cost = list(COSTS)[panel]
    assert figure.axes[panel].get_xlabel() == list(COSTS.values())[panel]
    for family, n in FAMILIES.items():
        own = [point for point in points if point.family == family]
        x, y = [getattr(point, cost) for point in own], [point.accuracy for point in own]
        lines = _lines(figure, panel, "line", family)
        assert len(lines) == (1 if n > 1 else 0)  # one budget is a lone mark
        for line in lines:
            assert _data(line) == (x, y)
        intervals = _lines(figure, panel, "interval", family)
        assert [_data(line) for line in intervals] == [
            ([place, place], [point.low, point.high]) for place, point in zip(x, own, strict=True)
        ]
    marks = [line for line in figure.axes[panel].get_lines() if (line.get_gid() or "").startswith("mark-")]
    assert len(marks) == len(points)


def test_what_was_found_is_bold_and_the_random_mean_dashed() -> None:
    figure = plot_tradeoff(make_points(FAMILIES))
    (found,), (random,), (other,) = (_lines(figure, 0, "line", name) for name in ("found", "random (mean)", "evenly"))
    assert same_color(found.get_color(), INK)
    assert same_color(random.get_color(), GREY)
    assert found.get_linewidth() > 1.5 * other.get_linewidth()
    assert [line.get_linestyle() for line in (found, random, other)] == ["-", "--", "-"]
    colours = {_lines(figure, 0, "line", name)[0].get_color() for name, n in FAMILIES.items() if n > 1}
    assert len(colours) == 5


@pytest.mark.parametrize("families", [FAMILIES, MANY])
def test_the_panels_share_the_accuracy_axis_and_nothing_leaves_it(families: dict[str, int]) -> None:
    points = make_points(families)
    figure = plot_tradeoff(points)
    (limits,) = {axes.get_ylim() for axes in figure.axes}
    assert limits[0] < min(point.low or 1 for point in points)
    assert limits[1] > max(point.high or 0 for point in points)
    for axes in figure.axes:
        for line in axes.get_lines():
            x = line.get_transform().transform(np.column_stack(_data(line)))[:, 0]
            assert axes.bbox.x0 <= x.min()
            assert x.max() <= axes.bbox.x1


def test_intervals_at_one_budget_stand_apart_by_less_than_two_budgets_do() -> None:
    figure = plot_tradeoff(make_points(FAMILIES))
    places = {
        family: [
            float(line.get_transform().transform((_data(line)[0][0], 0.9))[0])
            for line in _lines(figure, 0, "interval", family)
        ]
        for family in FAMILIES
    }
    last = sorted(own[-1] for own in places.values())
    assert min(b - a for a, b in itertools.pairwise(last)) > 2  # dots
    assert last[-1] - last[0] < places["evenly"][1] - places["evenly"][0]


@pytest.mark.parametrize("families", [FAMILIES, MANY, {"evenly": 2}])
def test_the_legend_names_every_family_and_covers_nothing(families: dict[str, int]) -> None:
    figure = plot_tradeoff(make_points(families), "n, seeds, data")
    figure.draw_without_rendering()  # places the legend
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == list(families)
    boxes = [text.get_window_extent() for text in legend.get_texts()]
    assert not any(a.overlaps(b) for a, b in itertools.combinations(boxes, 2))
    box = legend.get_window_extent()
    assert figure.bbox.x0 <= box.x0
    assert box.x1 <= figure.bbox.x1
    assert box.y1 <= figure.bbox.y1
    assert all(axes.get_tightbbox().y1 <= box.y0 for axes in figure.axes)  # type: ignore[union-attr]


def _tick_labels(figure: Figure, panel: int) -> list[Text]:
    return [label for label in figure.axes[panel].get_xticklabels() if label.get_text()]


def test_ticks_are_the_budgets_own_numbers_and_do_not_overlap() -> None:
    figure = plot_tradeoff(make_points(FAMILIES))
    assert [label.get_text() for label in _tick_labels(figure, 0)] == ["24", "40", "94", "160", "300"]
    assert list(figure.axes[0].get_xticks()) == [24, 40, 94, 160, 300]
    assert {label.get_text() for label in _tick_labels(figure, 2)} >= {"24M", "300M"}
    for panel in range(3):
        boxes = [label.get_window_extent() for label in _tick_labels(figure, panel)]
        assert len(boxes) >= 2
        assert not any(a.overlaps(b) for a, b in itertools.combinations(boxes, 2))


def test_budgets_side_by_side_are_labelled_as_far_as_there_is_room() -> None:
    points = [
        replace(point, connections=100 + place, budget=str(place))
        for place, point in enumerate(make_points({"evenly": 5, "nearest": 5}))
    ]
    boxes = [label.get_window_extent() for label in _tick_labels(plot_tradeoff(points), 0)]
    assert 2 <= len(boxes) < 10
    assert not any(a.overlaps(b) for a, b in itertools.combinations(boxes, 2))


def test_a_cost_that_is_not_known_has_no_panel_and_no_interval_no_bar() -> None:
    points = [replace(point, params=None, low=None, high=None) for point in make_points(FAMILIES)]
    figure = plot_tradeoff(points)
    assert [axes.get_xlabel() for axes in figure.axes] == ["connections", "FLOPs"]
    assert not [line for line in figure.axes[0].get_lines() if (line.get_gid() or "").startswith("interval-")]
    draw_svg(figure)


def test_a_foreign_name_is_shown_as_it_stands() -> None:
    figure = plot_tradeoff([replace(point, family="<a & $b$>\x00") for point in make_points({"evenly": 2})])
    texts = {text.text for text in ET.fromstring(draw_svg(figure)).iter() if text.text}  # noqa: S314 - our own
    assert "<a & $b$>" in texts
    assert any(text.startswith("<a & $b$> (evenly): 160 connections") for text in texts)


def test_budgets_of_equal_cost_are_drawn_too() -> None:
    points = [replace(point, connections=94, params=1_000) for point in make_points({"evenly": 2})]
    assert [label.get_text() for label in _tick_labels(plot_tradeoff(points), 0)] == ["94"]


def test_every_mark_says_its_numbers_under_the_pointer_and_the_svg_is_the_same_each_time() -> None:
    points = make_points({"evenly": 5, "found": 4, "log": 1})
    once, again = plot_tradeoff(points, "a"), plot_tradeoff(points, "a")
    texts = name_marks(once)
    assert len(texts) == 3 * len(points)
    assert texts["mark-params-0-2"] == (
        "evenly (evenly): 94 connections, 16,575 parameters, 94,000,000 FLOPs; accuracy 89.09 % [88.09, 90.09], 3 seeds"
    )
    svg = draw_svg(once)
    ids = [element.get("id") for element in ET.fromstring(svg).iter() if element.get("id")]  # noqa: S314 - our own
    assert len(ids) == len(set(ids))
    assert svg == draw_svg(again)
    assert svg.count("<title>") == len(texts)
