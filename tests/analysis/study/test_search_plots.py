import itertools
import re
import xml.etree.ElementTree as ET
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import same_color
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.text import Annotation, Text
from matplotlib.transforms import Bbox

from analysis.data.averages import average_patterns
from analysis.data.results import read_run
from analysis.page.figure_style import choose_styles, draw_png, draw_svg, name_marks
from analysis.page.interval_plots import Effect, Level, plot_forest, plot_templates
from analysis.study.plots import SPAN_COLOURS, SlopeLine, plot_outcome_by_span, plot_span_bands
from analysis.study.search_plots import plot_curves, plot_distance_accuracy
from tests.support.synthetic_run import make_candidates, make_run, propose

TEMPLATES = ("log", "nearest_log_i", "evenly_log_i")


def _annotations(figure: Figure, panel: int) -> list[Annotation]:
    found = [child for child in figure.axes[panel].get_children() if isinstance(child, Annotation)]
    return [one for one in found if one.get_text()]


def _candidates(n_random: int) -> pd.DataFrame:
    """Of a search of TEMPLATES and random patterns at two seeds, the later the better."""
    proposals = propose(n_random, TEMPLATES)
    return make_candidates(proposals, lambda place, _seed: 0.5 + 0.001 * place, ["log"] * len(proposals))


def test_styles_tell_thirty_templates_apart_in_any_order() -> None:
    names = [f"t{i:02}" for i in range(30)]
    styles = choose_styles(names)
    assert len(set(styles.values())) == 30
    assert choose_styles(names[::-1]) == styles


@pytest.mark.parametrize("n_random", [0, 1, 12])
def test_every_template_is_named_in_both_panels_and_names_do_not_overlap(n_random: int) -> None:
    candidates = _candidates(n_random)
    figure = plot_distance_accuracy(average_patterns(candidates), candidates, (1.3, 1.5), "12 patterns")
    assert [axes.get_ylabel() for axes in figure.axes] == ["validation accuracy", "validation loss (nats)"]
    for panel in (0, 1):
        labels = [one for one in _annotations(figure, panel) if one.get_text() in TEMPLATES]
        assert sorted(one.get_text() for one in labels) == sorted(TEMPLATES)
        assert not _overlaps(labels)


def test_a_run_without_losses_has_one_panel() -> None:
    candidates = _candidates(2).assign(validation_loss=float("nan"))
    assert len(plot_distance_accuracy(average_patterns(candidates), candidates).axes) == 1


def test_curves_draw_a_line_a_candidate_and_name_templates_and_the_best(tmp_path: Path) -> None:
    run = read_run(make_run(tmp_path / "run", propose(2, TEMPLATES), lambda p, s: "no" if (p, s) == (4, 1) else 0.5))
    best = run.candidates["key"].iloc[-2]
    figure = plot_curves(run.curves, run.candidates, best)
    assert {one.get_text() for one in _annotations(figure, 0)} == {*TEMPLATES, "best"}
    thin = [line for line in figure.axes[0].get_lines() if line.get_linewidth() == 0.6]
    assert len(thin) == 10
    named = plot_curves(run.curves, run.candidates, run.candidates["key"].iloc[0])
    assert "log (best)" in {one.get_text() for one in _annotations(named, 0)}


BANDS = [(3.3, 3.7), (4.4, 4.8), (5.8, 6.2)]
NAMED = {"log": (2.31, 4.6), "nearest_log_i": (2.69, 3.4), "evenly_log_i": (1.95, 6.1), "star": (2.68, 3.45)}


def _patterns(n: int = 140) -> pd.DataFrame:
    """Invented means over three seeds: loss rises with mean BD and falls with span."""
    generator = np.random.default_rng(0)
    strategies = np.array(["design", "random", "control", "reversal", "tpe", "strange"])[np.arange(n) % 6].tolist()
    mean_bd = [*generator.uniform(1.7, 2.7, n), *(place[0] for place in NAMED.values()), 1.72]
    span = [*generator.choice([3.5, 4.6, 6.0], n), *(place[1] for place in NAMED.values()), 4.6]
    loss = 0.9 + 0.12 * (np.array(mean_bd) - 2.2) - 0.06 * np.array(span) + generator.normal(0, 0.05, len(span))
    rows = pd.DataFrame(
        {
            "key": [f"{number:064x}" for number in range(len(span))],
            "template": pd.array([*[pd.NA] * n, *NAMED, pd.NA], dtype="string"),
            "strategy": pd.array([*strategies, *["templates"] * len(NAMED), "optimum"], dtype="string"),
            "mean_bd": mean_bd,
            "span": span,
            "validation_loss": loss,
            "validation_loss_centred_sd": 0.03,
            "n_seeds": 3,
        }
    )
    return rows.assign(validation_accuracy=1 - loss / 3, validation_accuracy_centred_sd=0.01)


def _marks(figure: Figure, panel: int = 0) -> list[Line2D]:
    return [line for line in figure.axes[panel].get_lines() if (line.get_gid() or "").startswith("mark-")]


def _box(text: Text) -> Bbox:
    """Of the words alone, without an annotation's line."""
    text.get_window_extent()  # places them
    return Text.get_window_extent(text)


def _overlaps(texts: Sequence[Text]) -> list[tuple[str, str]]:
    boxes = [(one.get_text(), _box(one)) for one in texts]
    return [(a[0], b[0]) for a, b in itertools.combinations(boxes, 2) if a[1].overlaps(b[1])]


@pytest.mark.parametrize("outcome", ["validation_loss", "validation_accuracy"])
def test_every_pattern_is_a_mark_whose_shape_is_its_strategy_and_colour_its_span(outcome: str) -> None:
    patterns = _patterns()
    figure = plot_outcome_by_span(patterns, outcome, "145 patterns")
    marks = _marks(figure)
    places = [(mark.get_xdata()[0], mark.get_ydata()[0]) for mark in marks]  # type: ignore[index]
    assert places == list(zip(patterns["mean_bd"], patterns[outcome], strict=True))
    shapes = {strategy: set() for strategy in patterns["strategy"]}  # type: dict[str, set[object]]
    for mark, strategy in zip(marks, patterns["strategy"], strict=True):
        shapes[strategy].add(mark.get_marker())
    assert all(len(used) == 1 for used in shapes.values())
    assert len(set.union(*shapes.values())) == len(shapes)
    low, high = patterns["span"].min(), patterns["span"].max()
    for mark, span in zip(marks, patterns["span"], strict=True):
        assert same_color(mark.get_color(), SPAN_COLOURS((span - low) / (high - low)))
    words = {text.get_text() for text in figure.legends[0].get_texts()}
    assert words == {
        "design",
        "random",
        "control",
        "reversal",
        "tpe",
        "other",
        "template",
        "optimum",
        "one standard error",
    }
    assert {one.get_text() for one in _annotations(figure, 0)} == {*NAMED}
    assert not _overlaps(_annotations(figure, 0))


def test_one_standard_error_is_drawn_on_both_sides() -> None:
    patterns = _patterns(3)
    bars = next(line for line in plot_outcome_by_span(patterns, "validation_loss").axes[0].get_lines())
    ends = np.asarray(bars.get_ydata()).reshape(-1, 3)
    np.testing.assert_allclose(ends[:, :2].mean(axis=1), patterns["validation_loss"])
    np.testing.assert_allclose(ends[:, 1] - ends[:, 0], 2 * 0.03 / 3**0.5)
    assert np.isnan(ends[:, 2]).all()


@pytest.mark.parametrize("column", ["span", "template", "strategy", "validation_loss_centred_sd"])
def test_a_study_may_lack_variety(column: str) -> None:
    constant: Any = {"span": 4.0, "template": pd.NA, "strategy": pd.NA, "validation_loss_centred_sd": float("nan")}[
        column
    ]
    figure = plot_outcome_by_span(_patterns(4).assign(**{column: constant}), "validation_loss")
    assert len(_marks(figure)) == 9
    draw_svg(figure)


def test_bands_hold_their_patterns_lines_and_intervals() -> None:
    patterns = _patterns()
    slopes: list[SlopeLine] = [
        {"band": 2, "x": [1.7, 2.7], "y": [0.5, 0.6], "low": [0.4, 0.5], "high": [0.6, 0.7], "label": "+0.10 per hop"},
        {"band": 0, "x": [1.7, 2.7], "y": [0.7, 0.8], "label": "no interval"},
    ]
    lacking = pd.concat([patterns, patterns.head(2).assign(span=9.0)], ignore_index=True)
    figure = plot_span_bands(lacking, BANDS, "validation_loss", slopes, "145 patterns")
    counts = [int(patterns["span"].between(*band).sum()) for band in BANDS]
    assert [len(_marks(figure, panel)) for panel in range(3)] == counts
    assert sum(counts) == len(patterns)
    assert [axes.get_title(loc="left") for axes in figure.axes] == [
        f"span {low} to {high} (n={n})" for (low, high), n in zip(BANDS, counts, strict=True)
    ]
    fitted = [[line for line in axes.get_lines() if line.get_gid() == "slope"] for axes in figure.axes]
    assert [[np.asarray(line.get_ydata()).tolist() for line in lines] for lines in fitted] == [
        [[0.7, 0.8]],
        [],
        [[0.5, 0.6]],
    ]
    assert [len(axes.collections) for axes in figure.axes] == [0, 0, 1]
    assert {axes.get_ylim() for axes in figure.axes} == {figure.axes[0].get_ylim()}
    assert "2 patterns outside" in figure.get_supxlabel().replace("\n", " ")
    for panel in range(3):
        assert not _overlaps(_annotations(figure, panel))


@pytest.mark.parametrize("n_bands", [1, 2, 4, 5])
def test_any_number_of_bands_has_a_panel_each_with_its_axis_named_at_the_foot(n_bands: int) -> None:
    bands = [(place, place + 0.9) for place in map(float, range(2, 2 + n_bands))]
    figure = plot_span_bands(_patterns(30), bands, "validation_accuracy")
    assert len(figure.axes) == n_bands
    assert sum(bool(axes.get_xlabel()) for axes in figure.axes) == min(n_bands, 3)


def _effects(n_groups: int, n_rows: int) -> list[Effect]:
    return [
        {
            "label": f"effect {row} " + "with a name that takes more than one line of text " * (row % 2),
            "group": f"{12 * (group + 1)} layers, high-lr",
            "value": None if row == 3 else 0.1 * row - 0.2,
            "low": None if row == 2 else 0.1 * row - 0.3,
            "high": None if row == 2 else 0.1 * row - 0.1,
            "is_primary": row == 0,
        }
        for group in range(n_groups)
        for row in range(n_rows)
    ]


@pytest.mark.parametrize(("n_groups", "n_rows"), [(1, 1), (2, 4), (4, 8)])
def test_a_forest_has_room_for_every_row(n_groups: int, n_rows: int) -> None:
    effects = _effects(n_groups, n_rows)
    figure = plot_forest(effects, 0.02, "caption", "effect (nats per hop)")
    axes = figure.axes[0]
    figure.draw_without_rendering()
    headings = [one.get_text() for one in _annotations(figure, 0) if "high-lr" in one.get_text()]
    assert headings == list(dict.fromkeys(effect["group"] for effect in effects))
    labels = [label for label in axes.get_yticklabels() if label.get_text()]
    assert [" ".join(label.get_text().split()) for label in labels] == [effect["label"].strip() for effect in effects]
    assert [label.get_fontweight() == "bold" for label in labels] == [effect["is_primary"] for effect in effects]
    assert not _overlaps([*labels, *_annotations(figure, 0)])
    assert min(_box(label).x0 for label in labels) >= 0
    assert max(_box(one).x1 for one in _annotations(figure, 0)) <= figure.bbox.x1
    values = [mark.get_xdata()[0] for mark in _marks(figure)]  # type: ignore[index]
    assert values == [effect["value"] for effect in effects if effect["value"] is not None]
    band = next(patch for patch in axes.patches if patch.get_gid() == "margin")
    assert band.get_extents().transformed(axes.transData.inverted()).intervalx == pytest.approx([-0.02, 0.02])


def test_a_forest_grows_and_says_what_is_not_defined() -> None:
    small, large = plot_forest(_effects(1, 2)), plot_forest(_effects(2, 5))
    assert large.get_figheight() > small.get_figheight() + 1
    texts = {one.get_text() for one in _annotations(large, 0)}
    assert {"not defined", "\u22120.200 [\u22120.300, \u22120.100]", "0.000"} <= texts
    assert not small.axes[0].patches


@pytest.mark.parametrize(("outcome", "best"), [("validation_loss", "a"), ("validation_accuracy", "c")])
def test_the_best_template_stands_on_top_with_its_note(outcome: str, best: str) -> None:
    levels: list[Level] = [
        {"label": "b", "value": 0.5, "low": 0.4, "high": 0.6, "note": "mean BD 2.00", "is_reference": True},
        {"label": "a", "value": 0.4, "low": None, "high": None, "note": "mean BD 1.90"},
        {"label": "c", "value": 0.6, "low": 0.5, "high": 0.7, "note": "mean BD 2.10"},
    ]
    figure = plot_templates(levels, "caption", outcome)
    axes = figure.axes[0]
    names = [label.get_text() for label in axes.get_yticklabels()]
    top = min(zip(axes.get_yticks(), names, strict=True))[1]
    assert axes.yaxis_inverted()
    assert (top, sorted(names)) == (best, ["a", "b", "c"])
    places = dict(zip(names, axes.get_yticks(), strict=True))
    assert {(one.get_text(), one.xy[1]) for one in _annotations(figure, 0)} == {
        (level["note"], places[level["label"]]) for level in levels
    }
    dashed = [line for line in axes.get_lines() if line.get_linestyle() == "--"]
    assert [np.asarray(line.get_xdata()).tolist() for line in dashed] == [[0.5, 0.5]]
    assert len(axes.collections) == 2


def test_an_svg_names_its_marks_under_the_pointer_and_stays_small() -> None:
    patterns = _patterns(150)
    patterns.loc[150, "template"] = "<a & b> $x$\x00"
    figure = plot_outcome_by_span(patterns, "validation_loss", "caption")
    svg = draw_svg(figure)
    assert len(svg) < 150_000
    root = ET.fromstring(svg)  # noqa: S314 - our own
    found = {
        group.get("id"): title.text
        for group in root.iter("{http://www.w3.org/2000/svg}g")
        for title in group.findall("{http://www.w3.org/2000/svg}title")
    }
    assert found == name_marks(figure)
    assert len(found) == len(patterns)
    row = patterns.iloc[0]
    expected = (
        f"{row['key'][:12]} (design): mean BD {row['mean_bd']:.3f}, span {row['span']:.2f}, validation loss (nats) "
    )
    assert found["mark-0"] == f"{expected}{row['validation_loss']:.4f} \u00b1 0.0173, 3 seeds"
    assert (found["mark-150"] or "").startswith("<a & b> $x$ (templates): mean BD 2.310")
    assert "<a & b> $x$" in {text.text for text in root.iter("{http://www.w3.org/2000/svg}text")}


def test_marks_of_two_panels_have_ids_of_their_own() -> None:
    candidates = _candidates(3)
    svg = draw_svg(plot_distance_accuracy(average_patterns(candidates), candidates))
    ids = re.findall(r'<g id="(mark-[^"]+)"><title>', svg)
    assert len(ids) == len(set(ids)) == 12


def test_drawings_are_the_same_every_time() -> None:
    once, again = (plot_span_bands(_patterns(9), BANDS, "validation_loss") for _ in range(2))
    assert draw_svg(once) == draw_svg(again)
    assert draw_png(once) == draw_png(again)
    assert draw_png(once).startswith(b"\x89PNG")
    assert b"Software" not in draw_png(once)


def test_of_many_patterns_the_best_and_the_named_carry_their_text(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("analysis.study.search_plots.MAX_TEXTS", 4)
    candidates = _candidates(9)
    patterns = average_patterns(candidates)
    figure = plot_distance_accuracy(patterns, candidates)
    for axes, outcome in zip(figure.axes, ("validation_accuracy", "validation_loss"), strict=True):
        named = patterns["template"].notna()
        told = pd.concat([patterns[~named].head(4), patterns[named]]).sort_index()
        marks = [line for line in axes.get_lines() if (line.get_gid() or "").startswith("mark-")]
        assert [float(np.asarray(mark.get_ydata())[0]) for mark in marks] == told[outcome].tolist()
        rest = np.asarray(axes.collections[-1].get_offsets())
        assert rest[:, 1].tolist() == patterns.drop(told.index)[outcome].tolist()
