"""Compare mean BD by depth at budget log: templates, uniform samples, the optimum found, the proven bound.

It takes the shorter of what `optimize` finds and what a SAT solver found (scripts/far_pairs.py), which is
in docs/patterns for some depths. All depths take about 20 minutes of a core that does nothing else.

python scripts/depths.py [--seconds S]    writes docs/depths.csv and docs/depths.svg
"""

import argparse

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from shared import DOCS

from analysis.page.figure_style import COLOURS, FAINT, GREY, INK, draw_svg, floats, new_figure, style_axes
from nas.records.safe_files import write_atomic
from nas.records.template import read_pattern
from search_spaces.budget import log_budget
from search_spaces.distance import backprop_distance
from search_spaces.sampling.bounds import bound_mean, certify
from search_spaces.sampling.draw import sample_uniform
from search_spaces.sampling.kernels import batch_distances
from search_spaces.sampling.optimal import optimize
from search_spaces.seeds import derive_generator
from search_spaces.templates import find_template

DEPTHS = (*range(8, 65), 80, 100)
TEMPLATES = ("log", "nearest_log_i", "evenly_log_i")
N_UNIFORM = 500


def plot_depths(depths: pd.DataFrame) -> Figure:
    """Draw mean BD against depth at one budget, as multiples of the proven bound.

    Args:
        depths: one row a depth: layers, bound, and mean BDs log, nearest_log_i, evenly_log_i, random and optimum.
    """
    figure = new_figure(3.6)
    axes = figure.subplots()
    style_axes(axes)
    axes.set(xlabel="layers", ylabel="mean BD / proven bound", xscale="log")
    axes.set_xticks([8, 12, 24, 52, 100], ["8", "12", "24", "52", "100"])
    axes.minorticks_off()
    names = {"nearest_log_i": "nearest", "log": "log (V1)", "evenly_log_i": "evenly", "random": "random (median)"}
    colours = dict(zip(names, COLOURS, strict=False)) | {"random": GREY, "optimum": INK}
    ends = []
    for column, name in (names | {"optimum": "optimum found"}).items():
        shares = floats(depths[column] / depths["bound"])
        axes.plot(
            floats(depths["layers"]), shares, color=colours[column], linewidth=2.4 if column == "optimum" else 1.6
        )
        ends.append((floats(depths["layers"])[-1], shares[-1], name, colours[column]))
    axes.axhline(1.0, color=FAINT, linestyle="--", linewidth=1)
    axes.set_ylim(0.96, None)
    _label_ends(axes, ends)
    return figure


def _label_ends(axes: Axes, ends: list[tuple[float, float, str, str]]) -> None:
    """Name lines right of their ends, pushed apart where they would overlap."""
    low, high = axes.get_ylim()
    axes.set_ylim(low, high)
    gap = 0.058 * (high - low)
    height = low - gap
    for x, y, name, colour in sorted(ends, key=lambda end: end[1]):
        height = max(y, height + gap)
        axes.annotate(
            name, (x, y), xytext=(1.02, height), textcoords=("axes fraction", "data"), va="center",
            fontsize=9, color=colour, annotation_clip=False,
            arrowprops={"arrowstyle": "-", "color": colour, "linewidth": 0.5},
        )  # fmt: skip


def main() -> None:
    """Compute and write; report progress on standard output."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=30.0, help="time limit of one optimisation")
    seconds = parser.parse_args().seconds
    rows = []
    for depth in DEPTHS:
        rows.append(_row(depth, seconds))
        print(rows[-1], flush=True)  # noqa: T201
    frame = pd.DataFrame(rows)
    write_atomic(DOCS / "depths.csv", frame.to_csv(index=False))
    write_atomic(DOCS / "depths.svg", draw_svg(plot_depths(frame)))


def _row(depth: int, seconds: float) -> dict[str, object]:
    budget = log_budget(depth)
    generator = derive_generator("depths", depth)
    uniform = batch_distances([sample_uniform(budget, generator) for _ in range(N_UNIFORM)]).mean
    optimum = optimize(budget, seconds=seconds)
    known = DOCS / "patterns" / f"shortest-{depth}.json"
    patterns = [optimum.pattern, *([read_pattern(known)] if known.exists() else [])]
    pattern = min(patterns, key=lambda pattern: backprop_distance(pattern).mean)
    certificate, distance = certify(pattern, budget), backprop_distance(pattern)
    return {
        "layers": depth,
        **{name: backprop_distance(find_template(name).build(depth)).mean for name in TEMPLATES},
        "random": float(np.median(uniform)),
        "optimum": distance.mean,
        "bound": bound_mean(budget),
        "status": certificate.status,
        "gap": certificate.gap,
        "max_bd": distance.max,
        "max_out_degree": max(pattern.out_degrees),
        "n_moves": optimum.n_moves,
    }


if __name__ == "__main__":
    main()
