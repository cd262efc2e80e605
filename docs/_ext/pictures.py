"""The pictures of the gallery's scripts: every figure that a script leaves behind, as SVG with its description."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sphinx_gallery.scrapers import figure_rst


def save_pictures(block: Any, block_vars: dict[str, Any], gallery_conf: dict[str, Any]) -> str:  # noqa: ARG001
    """Save what a block of a script drew, and return the pictures as reStructuredText.

    Raises:
        ValueError: a figure of Matplotlib has no description; `figure.set_label` gives it one.
    """
    import matplotlib.pyplot as plt

    pictures = []
    for description, write in _list_pictures(block_vars):
        path = Path(next(block_vars["image_path_iterator"])).with_suffix(".svg")
        write(path)
        pictures.append(figure_rst([str(path)], gallery_conf["src_dir"], fig_titles=" ".join(description.split())))
    plt.close("all")
    return "\n".join(pictures)


def _list_pictures(block_vars: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield each new picture's description and the function that writes it."""
    import matplotlib.pyplot as plt

    from skipsearch import Figure

    shown: list[Figure] = block_vars.setdefault("shown_pictures", [])
    values = [*block_vars["example_globals"].values()]
    for value in values + [each for some in values if isinstance(some, list) for each in some]:
        if isinstance(value, Figure) and not any(value is known for known in shown):
            shown.append(value)
            yield value.description, value.save
    for number in plt.get_fignums():
        figure = plt.figure(number)
        if not figure.get_label():
            raise ValueError("a figure without a description: call figure.set_label with what it shows")
        yield str(figure.get_label()), figure.savefig


def style_figures() -> None:
    """Give the figures of scripts the reports' colours."""
    import matplotlib as mpl
    from cycler import cycler

    from analysis.page.figure_style import COLOURS, FAINT, GRID, INK

    mpl.use("agg")
    mpl.rcParams |= {
        "axes.prop_cycle": cycler(color=COLOURS),
        "axes.grid": True,
        "axes.edgecolor": FAINT,
        "axes.labelcolor": INK,
        "axes.spines.right": False,
        "axes.spines.top": False,
        "figure.constrained_layout.use": True,
        "grid.color": GRID,
        "legend.frameon": False,
        "svg.hashsalt": "skipsearch",
        "xtick.color": INK,
        "ytick.color": INK,
    }
