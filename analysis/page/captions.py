"""Captions, file names and pictures of figures."""

import hashlib
from typing import TYPE_CHECKING

import pandas as pd

from analysis.data.results import Run
from analysis.page.document import Picture
from analysis.page.wording import count_nouns, enumerate_words, name_budgets
from nas.records.metrics import IMAGE_METRICS

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MAX_SLUG = 48  # characters


def describe_data(run: Run, patterns: pd.DataFrame) -> str:
    """Return a caption that gives n, seeds, budgets, layers, data and device.

    Args:
        patterns: rows of average_patterns, of one stratum or of several.
    """
    seeds = patterns["n_seeds"]
    span = str(seeds.max()) if seeds.min() == seeds.max() else f"{seeds.min()} to {seeds.max()}"
    n_patterns = patterns["key"].nunique()
    depths = enumerate_words([str(layers) for layers in patterns["layers"].unique().tolist()])
    budgets = name_budgets([str(budget) for budget in patterns["budget"].tolist()])
    parts = [
        f"{count_nouns(n_patterns, 'pattern')} x {span} seed{'' if span == '1' else 's'}",
        f"{budgets}, {depths} layers",
    ]
    if regimes := patterns["regime"].dropna().unique().tolist():
        parts.append(" and ".join(regimes))
    task = str(run.config.get("task", "")).rpartition("/")[2]  # a task of the user's own has the path of its file
    if name := run.data.get("name") or task:
        n_train = run.data.get("n_train")
        what = "images" if run.metrics == IMAGE_METRICS else "examples"
        parts.append(f"{name}" + (f" ({n_train} training {what})" if n_train else ""))
    if run.config.get("epochs") and run.kind == "search":
        parts.append(count_nouns(run.config["epochs"], "epoch"))
    if run.environment.get("device"):
        parts.append(str(run.environment["device"]))
    return ", ".join(parts)


def name_file(name: str, part: str = "") -> str:
    """Return a picture's file name, followed by the name of the report's part where there are several.

    >>> name_file("curves"), name_file("curves", "8 layers, total:12")
    ('curves.svg', 'curves_8-layers-total-12.svg')
    """
    slug = "".join(c if c.isalnum() else "-" for c in part.lower())
    if len(slug) > MAX_SLUG:  # a budget may list an in-degree for each layer
        slug = f"{slug[:MAX_SLUG]}-{hashlib.sha256(part.encode()).hexdigest()[:8]}"
    return f"{name}{'_' if slug else ''}{slug}.svg".replace("--", "-")


def make_picture(figure: "Figure", file: str, text: str, alt: str) -> Picture:
    """Return a figure as a block of a document, in both of its formats; its caption and alt text are Picture's."""
    from analysis.page.figure_style import draw_png, draw_svg  # matplotlib: half a second

    return Picture(file, draw_svg(figure), text, alt, png=draw_png(figure))
