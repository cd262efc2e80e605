"""The heat map of connection strengths, a matrix of source by target layers for each pattern."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import ListedColormap, Normalize
from matplotlib.figure import Figure
from matplotlib.patches import PathPatch, Polygon
from matplotlib.path import Path

from analysis.page.figure_style import FAINT, GREY, INK, WIDTH, add_caption, add_colour_bar, new_figure, wrap_text

N_COLOURS = 24  # few enough steps to keep the file small
# Viridis from pale to dark, which grey print keeps; without its palest end, which is lost on white.
STRENGTH_COLOURS = ListedColormap(
    mpl.colormaps["viridis"]([0.93 * (1 - i / (N_COLOURS - 1)) for i in range(N_COLOURS)])
)
MAX_ACROSS = 3  # panels
MAX_LINED = 30  # layers, up to which white lines part the cells


class Panel(NamedTuple):
    """One pattern of the heat map: its title, layers L, and (source, target) -> relative strength, at least one."""

    title: str
    depth: int
    strengths: Mapping[tuple[int, int], float]


def plot_strengths(panels: Sequence[Panel], caption: str = "") -> Figure:
    """Draw the heat map of DenseNet's figure 5 (arXiv:1608.06993); pairs that are not connected are hatched."""
    every = [strength for panel in panels for strength in panel.strengths.values()]
    low, high = min(every), max(every)
    norm = Normalize(low, high) if low < high else Normalize(low - 0.5, high + 0.5)
    n_columns = min(MAX_ACROSS, max(2, len(panels)))  # a single one would fill the page
    n_rows = -(-len(panels) // n_columns)
    figure = new_figure(0.6 + n_rows * (0.2 + (WIDTH - 0.9) / n_columns))
    all_axes = figure.subplots(n_rows, n_columns, squeeze=False).ravel().tolist()
    for place, (axes, panel) in enumerate(zip(all_axes, panels, strict=False)):
        _draw_matrix(axes, panel, norm, str(place))
        axes.set_title("".join(wrap_text(panel.title, 28)), fontsize=9.5, color=INK, loc="left")
    for axes in all_axes[len(panels) :]:
        axes.set_axis_off()
    scale = ScalarMappable(norm, STRENGTH_COLOURS)
    add_colour_bar(figure, scale, all_axes[: len(panels)], "relative strength (1: its layer's mean)", aspect=22)
    add_caption(figure, caption)
    return figure


def _draw_matrix(axes: Axes, panel: Panel, norm: Normalize, name: str) -> None:
    """Draw a square for each connection over all possible pairs, which are hatched; `name` is part of their ids."""
    depth = panel.depth
    axes.set(xlim=(0.5, depth + 0.5), ylim=(depth - 0.5, -0.5), aspect="equal")
    axes.set_xlabel("target layer", fontsize=9)
    axes.set_ylabel("source layer", fontsize=9)
    stairs = [(target - 0.5 + step, target - 0.5) for target in range(1, depth + 1) for step in (0, 1)]
    hatched = Polygon([*stairs, (depth + 0.5, -0.5), (0.5, -0.5)], facecolor="white", edgecolor=FAINT, hatch="////")
    hatched.set(linewidth=0.6, gid=f"unread-{name}")
    axes.add_patch(hatched)
    by_colour: dict[int, list[tuple[int, int]]] = {}
    for connection, strength in panel.strengths.items():
        by_colour.setdefault(min(int(norm(strength) * N_COLOURS), N_COLOURS - 1), []).append(connection)
    for colour, connections in sorted(by_colour.items()):
        squares = Path.make_compound_path(*(_square(*connection) for connection in connections))
        patch = PathPatch(squares, facecolor=STRENGTH_COLOURS(colour), linewidth=0.8 if depth <= MAX_LINED else 0)
        patch.set(edgecolor="white", gid=f"read-{name}-{colour}", antialiased=depth <= MAX_LINED)
        axes.add_patch(patch)
    step = next(step for step in (1, 2, 5, 10, 20, 50, 100, depth) if depth / step <= 10)
    axes.set_xticks([*range(step, depth + 1, step)])
    axes.set_yticks([*range(0, depth, step)])
    axes.tick_params(colors=GREY, labelcolor=INK, labelsize=8, length=2)
    for spine in axes.spines.values():
        spine.set_visible(False)


def _square(source: int, target: int) -> Path:
    corners = [(target - 0.5, source - 0.5), (target + 0.5, source - 0.5), (target + 0.5, source + 0.5)]
    return Path([*corners, (target - 0.5, source + 0.5), corners[0]], closed=True)
