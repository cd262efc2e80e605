from pathlib import Path

import pytest
from matplotlib.figure import Figure
from matplotlib.text import Annotation
from synthetic_run import make_run, propose

from analysis.plots import choose_styles, plot_curves, plot_distance_accuracy
from analysis.results import average_patterns, read_run

TEMPLATES = ("log", "nearest_log_i", "evenly_log_i")


def _annotations(figure: Figure, panel: int) -> list[Annotation]:
    found = [child for child in figure.axes[panel].get_children() if isinstance(child, Annotation)]
    return [one for one in found if one.get_text()]


def test_styles_tell_thirty_templates_apart_in_any_order() -> None:
    names = [f"t{i:02}" for i in range(30)]
    styles = choose_styles(names)
    assert len(set(styles.values())) == 30
    assert choose_styles(names[::-1]) == styles


@pytest.mark.parametrize("n_random", [0, 1, 12])
def test_every_template_is_named_in_both_panels_and_names_do_not_overlap(tmp_path: Path, n_random: int) -> None:
    run = read_run(make_run(tmp_path / "run", propose(n_random, TEMPLATES), lambda p, _s: 0.5 + 0.001 * p))
    figure = plot_distance_accuracy(average_patterns(run.candidates), run.candidates, (1.3, 1.5), "12 patterns")
    assert [axes.get_ylabel() for axes in figure.axes] == ["validation accuracy", "validation loss (nats)"]
    for panel in (0, 1):
        labels = [one for one in _annotations(figure, panel) if one.get_text() in TEMPLATES]
        assert sorted(one.get_text() for one in labels) == sorted(TEMPLATES)
        boxes = [one.get_window_extent() for one in labels]
        assert not any(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[:i])


def test_a_run_without_losses_has_one_panel(tmp_path: Path) -> None:
    run = read_run(make_run(tmp_path / "run", propose(2), lambda _p, _s: 0.5, seeds=(0,)))
    candidates = run.candidates.assign(validation_loss=float("nan"))
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
