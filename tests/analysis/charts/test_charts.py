"""The charts as SVG: what stands where, under which name, by which order."""

import re
import xml.etree.ElementTree as ET
from itertools import combinations, pairwise

import pytest

from analysis.charts.curves import Curve, Curves, Faint, draw_curves
from analysis.charts.drawing import SHAPES, Chart, choose_looks, measure_text
from analysis.charts.intervals import Effect, Level, draw_effects, draw_levels
from analysis.charts.labels import Box, Name, place_names, spread
from analysis.charts.scatter import Mark, Ramp, Scatter, ScatterPanel, draw_scatter
from analysis.page.inline_svg import inline_svg

SVG = "{http://www.w3.org/2000/svg}"
EVIL = '<b> & "x"\x00'


def _read(chart: Chart) -> ET.Element:
    inline_svg(chart.svg, "p-", "d")  # what no page could contain would be refused
    return ET.fromstring(chart.svg)  # noqa: S314 - our own


def _find(root: ET.Element, kind: str) -> list[ET.Element]:
    return [each for each in root.iter() if kind in each.get("class", "").split()]


def _place(element: ET.Element) -> tuple[float, float]:
    found = re.match(r"translate\(([-\d.]+) ([-\d.]+)\)", element.get("transform", ""))
    assert found
    return float(found[1]), float(found[2])


def _line(element: ET.Element) -> list[float]:
    return [float(number) for number in re.findall(r"-?\d+(?:\.\d+)?", element.get("d", ""))]


def _scatter(values: list[tuple[float, float, float]], bounds: tuple[float, float] = (0.0, 1.0)) -> Scatter:
    marks = [Mark(f"{n:064x}", x, y, error, f"mark {n} {EVIL}") for n, (x, y, error) in enumerate(values)]
    panel = ScatterPanel("validation_accuracy", "validation accuracy", tuple(marks), (), bounds)
    return Scatter((panel,), "mean BD", "24 layers")


def test_axes_of_large_numbers_are_exact_too() -> None:
    values = [(1e9 + 1e7 * n, 3e8 + 1e6 * n, 0.0) for n in range(4)]
    root = _read(draw_scatter(_scatter(values, (float("-inf"), float("inf")))))
    x0, per_x = map(float, root.get("data-x", "").split())
    y0, per_y = map(float, _find(root, "panel")[0].get("data-y", "").split())
    for mark, (x, y, _) in zip(_find(root, "mark"), values, strict=True):
        assert _place(mark) == pytest.approx((x0 + per_x * x, y0 + per_y * y), abs=0.06)
        assert float(mark.get("data-x", "")) == x


def test_marks_stand_where_their_numbers_say() -> None:
    values = [(1.7, 0.5, 0.02), (1.9, 0.6, 0.0), (2.1, 0.55, float("nan"))]
    root = _read(draw_scatter(_scatter(values)))
    (panel,) = _find(root, "panel")
    x0, per_x = map(float, root.get("data-x", "").split())
    y0, per_y = map(float, panel.get("data-y", "").split())
    assert (root.get("data-group"), panel.get("data-outcome")) == ("24 layers", "validation_accuracy")
    marks = _find(root, "mark")
    assert [mark.get("data-key") for mark in marks] == [f"{n:064x}" for n in range(3)]
    for mark, (x, y, error) in zip(marks, values, strict=True):
        assert _place(mark) == pytest.approx((x0 + per_x * x, y0 + per_y * y), abs=0.06)
        bars = _find(mark, "error")
        assert len(bars) == (error > 0)
        for bar in bars:
            _, low, high = _line(bar)
            assert (low, high) == pytest.approx((-per_y * error, per_y * error), abs=0.11)
        assert mark[0].text == f'mark {marks.index(mark)} <b> & "x"'


def test_error_bars_end_where_outcomes_do() -> None:
    root = _read(draw_scatter(_scatter([(1.0, 0.99, 0.02), (2.0, 0.5, 0.1), (3.0, 0.01, 0.03)])))
    _, per_y = map(float, _find(root, "panel")[0].get("data-y", "").split())
    ends = [number / per_y for bar in _find(root, "error") for number in _line(bar)[1:]]
    assert ends == pytest.approx([-0.02, 0.01, -0.1, 0.1, -0.01, 0.03], abs=4e-4)


def test_a_far_pattern_is_an_arrow_at_the_edge_with_its_value_and_the_caption_says_so() -> None:
    near = [(1.7 + 0.02 * n, 0.5 + 0.01 * (n % 5), 0.0) for n in range(12)]
    chart = draw_scatter(_scatter([*near, (5.678, 0.5, 0.0)]))
    root = _read(chart)
    assert "arrow at an edge" in chart.note
    assert len(_find(root, "far")) == 1
    (far,) = [mark for mark in _find(root, "mark") if _find(mark, "far")]
    assert far.get("data-x") == "5.678"
    assert "5.678" in [text.text for text in root.iter(f"{SVG}text")]
    places = [_place(mark)[0] for mark in _find(root, "mark")]
    assert max(places[:-1]) - min(places[:-1]) > 0.8 * (places[-1] - min(places))
    assert draw_scatter(_scatter(near)).note == ""


@pytest.mark.parametrize("n", [3, 7, 30])
def test_names_do_not_overlap_and_few_are_all_there(n: int) -> None:
    names = [Name(f"{i:064x}", f"template_{i}", 300 + 9 * (i % 7), 150 + 7 * (i // 7)) for i in range(n)]
    parts = place_names(names, [(name.x, name.y) for name in names], Box(60, 10, 660, 300))
    assert len(parts) == n if n < 8 else 8 <= len(parts) <= n
    boxes = []
    for part in parts:
        found = re.search(r'<text x="([\d.]+)" y="([\d.]+)"([^>]*)>(.*?)</text>', part)
        assert found
        size = 10.5 if "small" in found[3] else 12.0
        width = measure_text(found[4], size)
        left = float(found[1]) - (width if 'anchor="end"' in found[3] else 0)
        boxes.append(Box(left, float(found[2]) - size, left + width, float(found[2])))
    assert not any(first.overlaps(second) for first, second in combinations(boxes, 2))


def test_ends_are_spread_in_their_order() -> None:
    places = spread([10.0, 11.0, 12.0, 95.0, 99.0], 14, 0, 100)
    gaps = [later - earlier for earlier, later in pairwise(places)]
    assert min(gaps) >= 14
    assert places[0] >= 0
    assert places[-1] <= 100


def test_shades_follow_the_measure() -> None:
    ramp = Ramp("span", 2.0, 2.0)
    assert ramp.shade(2.0) == "s4"
    panel = ScatterPanel("loss", "loss", (Mark("0" * 64, 1.0, 1.0, 0.0, "t", "star", Ramp("span", 0, 8).shade(8)),))
    root = _read(draw_scatter(Scatter((panel,), "x", ramp=Ramp("span", 0, 8))))
    (mark,) = _find(root, "mark")
    assert "s7" in mark.get("class", "").split()
    assert mark[-1].get("d") == SHAPES["star"]
    assert {"0.00", "8.00", "span"} <= {text.text for text in root.iter(f"{SVG}text")}


LEVELS = [
    Level("b", 0.5, 0.4, 0.6, "mean BD 2.00", None, is_reference=True),
    Level("a", 0.4, None, None, "mean BD 1.90", "a" * 64, observed=(0.38, 0.42, 9.0)),
    Level("c", 0.6, 0.5, 0.7, "mean BD 2.10", "c" * 64),
]


@pytest.mark.parametrize(("lower_is_better", "order"), [(True, "abc"), (False, "cba")])
def test_levels_stand_best_first_with_their_notes(lower_is_better: bool, order: str) -> None:
    root = _read(draw_levels(LEVELS, "loss", lower_is_better=lower_is_better, caption="n = 3"))
    rows = _find(root, "row")
    assert [row.get("data-key") for row in rows] == [{"b": None}.get(name, name * 64) for name in order]
    heights = [float(_find(row, "hit")[0].get("y", "")) for row in rows]
    assert heights == sorted(heights)
    for row, name in zip(rows, order, strict=True):
        level = next(level for level in LEVELS if level.label == name)
        texts = [text.text for text in row.iter(f"{SVG}text")]
        assert texts == [name, level.note]
        assert len(_find(row, "interval")) == (level.low is not None)
        assert len(_find(row, "hollow")) == (level.low is None)
    dots = _line(next(path for row in rows for path in _find(row, "singles")))
    assert len(dots) == 2 * 3  # x, y and h0 of two: the third lies far outside
    assert len([each for each in _find(root, "reference") if each.tag == f"{SVG}path"]) == 1
    assert "n = 3" in [text.text for text in root.iter(f"{SVG}text")]


def test_a_far_level_keeps_its_numbers() -> None:
    levels = [Level(f"p{n}", 0.1 + 0.001 * n, 0.09, 0.12, "1 training", f"{n:064x}") for n in range(19)]
    chart = draw_levels([*levels, Level("far", 0.9, 0.85, 0.95, "1 training", "f" * 64)], "loss", lower_is_better=True)
    texts = [text.text for text in _read(chart).iter(f"{SVG}text")]
    assert "0.900 [0.850, 0.950]" in texts
    assert "arrow at an edge" in chart.note


def _effects(n_groups: int, n_rows: int) -> list[Effect]:
    return [
        Effect(
            f"measure {row} " + "of a long name " * (row % 3),
            f"{8 * group} layers",
            None if (row, group) == (1, 1) else 0.1 * row - 0.2,
            None if row == 2 else 0.1 * row - 0.3,
            None if row == 2 else 0.1 * row - 0.1,
            row == 0,
        )
        for group in range(n_groups)
        for row in range(n_rows)
    ]


@pytest.mark.parametrize(("n_groups", "n_rows"), [(1, 1), (2, 4), (6, 8), (13, 3)])
def test_effects_have_a_line_for_every_measure_and_a_mark_for_every_stratum(n_groups: int, n_rows: int) -> None:
    effects = _effects(n_groups, n_rows)
    root = _read(draw_effects(effects, "rank correlation"))
    marks = _find(root, "effect")
    assert len(marks) == sum(effect.value is not None for effect in effects)
    assert len({mark.get("class") for mark in marks}) == min(n_groups, 6)
    assert len({(mark.get("class"), _find(mark, "mean")[0].get("d")) for mark in marks}) == n_groups
    texts = list(root.iter(f"{SVG}text"))
    bold = {text.text for text in texts if "bold" in text.get("class", "") and "measure" in (text.text or "")}
    assert bold == {"measure 0"}
    names = [text.text or "" for text in texts if (text.text or "").startswith("measure ")]
    assert names[0].split()[1] == "0"
    sizes = [abs(0.1 * int(name.split()[1]) - 0.2) for name in names[1:]]
    assert sizes == sorted(sizes, reverse=True)


def test_effects_have_marks_at_their_values_on_one_axis() -> None:
    effects = _effects(1, 5)
    marks = _find(_read(draw_effects(effects, "r")), "effect")
    values = [float((mark[0].text or "").split(": ")[1].split()[0].replace("\u2212", "-")) for mark in marks]
    places = [_place(_find(mark, "mean")[0])[0] for mark in marks]
    slope = (places[-1] - places[0]) / (values[-1] - values[0])
    assert places == pytest.approx([places[0] + slope * (value - values[0]) for value in values], abs=0.3)


def _curves(is_log: bool, *, is_hidden: bool = False) -> Curves:
    line = tuple((float(epoch), 2.0 * 10 ** -(epoch / 3)) for epoch in range(1, 10))
    names = enumerate(("log", EVIL, "best"))
    named = tuple(Curve(f"{n:064x}", name, line, ((9.0, 0.01),), f"c{n}", "square") for n, name in names)
    faint = (Faint("f" * 64, (line, line), is_hidden),)
    band = ((1.0, 0.9, 1.1), (9.0, 0.001, 0.002)) if is_hidden else ()
    return Curves("training loss (nats)", named, faint, band, "validation loss", is_log)


def test_a_constant_rate_of_decay_is_a_straight_line_on_a_logarithmic_axis() -> None:
    root = _read(draw_curves(_curves(True)))
    steps = _line(_find(root, "line")[0])[3::2]  # each point's distance from the last
    assert len(steps) == 8
    assert max(steps) - min(steps) < 0.25
    assert min(steps) > 0
    linear = _line(_find(_read(draw_curves(_curves(False))), "line")[0])[3::2]
    assert linear[0] > 10 * linear[-1]


def test_curves_are_known_by_their_patterns_and_named_at_their_ends() -> None:
    root = _read(draw_curves(_curves(True)))
    curves = _find(root, "curve")
    assert [curve.get("data-key") for curve in curves] == [f"{n:064x}" for n in range(3)]
    heights = [float(curve.find(f"{SVG}text").get("y", "")) for curve in curves]  # type: ignore[union-attr]
    assert min(abs(a - b) for a, b in combinations(heights, 2)) >= 13.9  # the lines end at one place
    (faint,) = [each for each in _find(root, "faint") if each.get("data-key")]
    assert (faint.get("d") or "").count("M") == 2
    assert not _find(root, "band")
    crowded = _read(draw_curves(_curves(True, is_hidden=True)))
    assert len(_find(crowded, "band")) == 2  # and in the legend
    assert [each.get("data-key") for each in _find(crowded, "hidden")] == ["f" * 64]


def test_what_is_not_finite_or_has_no_logarithm_is_left_out() -> None:
    line = ((1.0, 1.0), (2.0, float("nan")), (3.0, 0.0), (4.0, 0.1))
    curves = Curves("loss", (Curve("0" * 64, "log", line, (), "c0", "square"),), (), is_log=True)
    (drawn,) = _find(_read(draw_curves(curves)), "line")
    assert len(_line(drawn)) == 4
    assert "nan" not in draw_curves(curves).svg
    assert "<svg" in draw_curves(Curves("loss", (), ())).svg


def test_looks_tell_thirty_six_names_apart_in_any_order() -> None:
    names = [f"t{i:02}" for i in range(36)]
    looks = choose_looks(names)
    assert len(set(looks.values())) == 36
    assert choose_looks(names[::-1]) == looks
