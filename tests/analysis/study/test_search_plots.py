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
from analysis.study.plots import SHADES, plot_outcome
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


@pytest.mark.parametrize(
    ("outcome", "x", "colour"),
    [("validation_loss", "mean_bd", "span"), ("validation_accuracy", "walk_length", "mean_bd")],
)
def test_every_pattern_is_a_mark_whose_shape_is_its_strategy_and_colour_a_measure(
    outcome: str, x: str, colour: str
) -> None:
    patterns = _patterns().assign(walk_length=lambda rows: 9 - rows["span"])
    figure = plot_outcome(patterns, outcome, x, colour, "145 patterns")
    assert figure.axes[0].get_xlabel() == {"mean_bd": "Mean BD", "walk_length": "Walk length"}[x]
    marks = _marks(figure)
    places = [(mark.get_xdata()[0], mark.get_ydata()[0]) for mark in marks]  # type: ignore[index]
    assert places == list(zip(patterns[x], patterns[outcome], strict=True))
    shapes = {strategy: set() for strategy in patterns["strategy"]}  # type: dict[str, set[object]]
    for mark, strategy in zip(marks, patterns["strategy"], strict=True):
        shapes[strategy].add(mark.get_marker())
    assert all(len(used) == 1 for used in shapes.values())
    assert len(set.union(*shapes.values())) == len(shapes)
    low, high = patterns[colour].min(), patterns[colour].max()
    for mark, value in zip(marks, patterns[colour], strict=True):
        assert same_color(mark.get_color(), SHADES((value - low) / (high - low)))
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
    bars = next(line for line in plot_outcome(patterns, "validation_loss", "mean_bd", "span").axes[0].get_lines())
    ends = np.asarray(bars.get_ydata()).reshape(-1, 3)
    np.testing.assert_allclose(ends[:, :2].mean(axis=1), patterns["validation_loss"])
    np.testing.assert_allclose(ends[:, 1] - ends[:, 0], 2 * 0.03 / 3**0.5)
    assert np.isnan(ends[:, 2]).all()


@pytest.mark.parametrize("column", ["span", "template", "strategy", "validation_loss_centred_sd"])
def test_a_study_may_lack_variety(column: str) -> None:
    constant: Any = {"span": 4.0, "template": pd.NA, "strategy": pd.NA, "validation_loss_centred_sd": float("nan")}[
        column
    ]
    figure = plot_outcome(_patterns(4).assign(**{column: constant}), "validation_loss", "mean_bd", "span")
    assert len(_marks(figure)) == 9
    draw_svg(figure)


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


@pytest.mark.parametrize(("n_groups", "n_rows"), [(1, 1), (2, 4), (6, 8), (13, 3)])
def test_a_forest_has_a_line_for_every_measure_and_a_mark_for_every_stratum(n_groups: int, n_rows: int) -> None:
    effects = _effects(n_groups, n_rows)
    figure = plot_forest(effects, "rank correlation", "caption")
    axes = figure.axes[0]
    figure.draw_without_rendering()
    labels = [" ".join(label.get_text().split()) for label in axes.get_yticklabels()]
    assert set(labels) == {" ".join(effect["label"].split()) for effect in effects}
    assert len(labels) == n_rows
    assert labels[0] == effects[0]["label"].strip()
    bold = [label.get_fontweight() == "bold" for label in axes.get_yticklabels()]
    assert bold == [True] + [False] * (n_rows - 1)
    assert not _overlaps([*axes.get_yticklabels(), *_annotations(figure, 0)])
    assert min(_box(label).x0 for label in axes.get_yticklabels()) >= 0
    defined = [effect for effect in effects if effect["value"] is not None]
    marks = _marks(figure)
    drawn = [float(np.asarray(mark.get_xdata())[0]) for mark in marks]
    assert sorted(drawn) == sorted(float(effect["value"] or 0) for effect in defined)
    looks = {(mark.get_color(), mark.get_marker()) for mark in marks}
    assert len(looks) == n_groups
    if n_groups > 1:
        assert len(figure.legends[0].get_texts()) == n_groups
        assert not any("[" in text.get_text() for text in figure.legends[0].get_texts())
    else:
        assert max(_box(one).x1 for one in _annotations(figure, 0)) <= figure.bbox.x1


def test_a_forest_puts_the_larger_effects_first_after_the_primary_ones() -> None:
    figure = plot_forest(_effects(2, 8))
    values = [abs(0.1 * row - 0.2) for row in range(8)]
    order = sorted(range(1, 8), key=lambda row: -values[row])
    rows = [int(label.get_text().split()[1]) for label in figure.axes[0].get_yticklabels()]
    assert rows[0] == 0
    assert rows[1:3] == order[:2]
    assert plot_forest(_effects(6, 8)).get_figheight() > figure.get_figheight() + 1


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
    figure = plot_outcome(patterns, "validation_loss", "mean_bd", "span", "caption")
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
    once, again = (plot_outcome(_patterns(9), "validation_loss", "mean_bd", "span") for _ in range(2))
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
