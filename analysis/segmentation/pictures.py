"""The figure of a segmentation: image, truth and answers next to each other, and what each colour means."""

from collections.abc import Iterator, Sequence

import numpy as np
from PIL import Image

from analysis.charts.drawing import CHART_WIDTH, LINE, SMALL, close_chart, cut_text, measure_text, write, write_foot
from analysis.segmentation.answers import Pixels, Segmentation

# Tol's "muted" colours and three of Okabe and Ito's: distinct with the usual kinds of colour blindness.
CLASS_COLOURS = (
    "#88ccee", "#332288", "#ddcc77", "#117733", "#cc6677", "#44aa99", "#882255", "#999933", "#aa4499", "#e69f00",
    "#f0e442", "#0072b2",
)  # fmt: skip
BACKGROUND, GROUND = "background", "#000000"  # a class of this name, and its colour
VOID_COLOUR = "#bbbbbb"
N_LEVELS = 24  # colours of a photograph, which are few so that the file is small
MARGIN, GAP = 8.0, 8.0  # pixels
LARGEST = 140.0  # pixels: width of a picture
SWATCH = 10.0  # pixels


def draw_answers(segmentation: Segmentation, caption: str) -> str:
    """Draw a row for each image: the image, the truth and each pattern's answer; return an SVG document."""
    colours = colour_classes(segmentation.classes)
    titles = ["image", "truth", *(answers.name for answers in segmentation.patterns)]
    n_columns = len(titles)
    width = min(LARGEST, (CHART_WIDTH - 2 * MARGIN - (n_columns - 1) * GAP) / n_columns)
    parts = []
    heads = [cut_text(title, int(width / 8), 2) for title in titles]
    n_lines = max(map(len, heads))
    for column, lines in enumerate(heads):
        top = MARGIN + 8 + LINE * (n_lines - len(lines))
        parts += [
            write(MARGIN + column * (width + GAP), top + LINE * place, line, "bold") for place, line in enumerate(lines)
        ]
    y = MARGIN + n_lines * LINE + 6
    present: set[int] = set()
    for row, (image, truth) in enumerate(zip(segmentation.images, segmentation.truth, strict=True)):
        rows, columns = truth.shape
        masks = [truth, *(answers.masks[row] for answers in segmentation.patterns)]
        parts += _draw_raster(*_take_shades(image), MARGIN, y, width / columns)
        for column, mask in enumerate(masks, start=1):
            present |= set(np.unique(mask).tolist())
            parts += _draw_raster(mask, colours, MARGIN + column * (width + GAP), y, width / columns)
        y += width * rows / columns + GAP
    y += LINE / 2
    legend, y = _draw_legend(segmentation.classes, sorted(present), colours, y)
    foot = write_foot(y + 6, caption)
    return close_chart([*parts, *legend, *foot], y + 6 + LINE * len(foot), "Images, truth and answers")


def colour_classes(classes: Sequence[str]) -> list[str]:
    """Return a colour for each number that a mask may have; they repeat after as many classes as there are colours.

    >>> colour_classes(["background", "road"])[:2], colour_classes(["sky"])[255]
    (['#000000', '#88ccee'], '#bbbbbb')
    """
    colours, n_used = [VOID_COLOUR] * 256, 0
    for label, name in enumerate(classes):
        if name == BACKGROUND:
            colours[label] = GROUND
            continue
        colours[label] = CLASS_COLOURS[n_used % len(CLASS_COLOURS)]
        n_used += 1
    return colours


def _take_shades(image: Pixels) -> tuple[Pixels, list[str]]:
    """Return an image as numbers (height, width) of at most N_LEVELS colours, and these."""
    if image.shape[2] == 1:
        levels = np.round(image[..., 0] / 255 * (N_LEVELS - 1)).astype(np.uint8)
        return levels, ["#" + f"{round(level * 255 / (N_LEVELS - 1)):02x}" * 3 for level in range(N_LEVELS)]
    quantised = Image.fromarray(image).quantize(N_LEVELS, dither=Image.Dither.NONE)
    palette = quantised.getpalette() or []
    return np.asarray(quantised), ["#" + bytes(palette[k : k + 3]).hex() for k in range(0, len(palette), 3)]


def _draw_raster(numbers: Pixels, colours: Sequence[str], x: float, y: float, scale: float) -> Iterator[str]:
    """Draw numbers (height, width) in their colours, equal neighbours of a row as one line as high as the row."""
    yield (
        f'<g transform="translate({x:.1f} {y:.1f}) scale({scale:.3f})" stroke-width="1.02" '
        'shape-rendering="crispEdges">'
    )
    lines: dict[str, list[str]] = {}
    for row, values in enumerate(numbers):
        starts = np.flatnonzero(np.diff(values, prepend=np.int16(-1)))
        for start, end in zip(starts, [*starts[1:], len(values)], strict=True):
            lines.setdefault(colours[int(values[start])], []).append(f"M{start} {row}.5h{end - start}")
    for colour, runs in sorted(lines.items()):
        yield f'<path stroke="{colour}" d="{"".join(runs)}"/>'
    yield "</g>"


def _draw_legend(
    classes: Sequence[str], present: Sequence[int], colours: Sequence[str], y: float
) -> tuple[list[str], float]:
    """Return a swatch and a name for each class that the pictures have, and for void, and where they end."""
    parts, x = [], MARGIN
    for label in present:
        name = classes[label] if label < len(classes) else "void"
        width = SWATCH + 5 + measure_text(name, SMALL) + 14
        if x + width > CHART_WIDTH - MARGIN and x > MARGIN:
            x, y = MARGIN, y + LINE
        parts.append(f'<path stroke="{colours[label]}" stroke-width="{SWATCH:.0f}" d="M{x:.1f} {y:.1f}h{SWATCH:.0f}"/>')
        parts.append(write(x + SWATCH + 5, y, name, "small"))
        x += width
    return parts, y + LINE
