"""What a report says of connection strengths: heat maps, an arc diagram, and whether they fall with span or detour."""

from collections.abc import Iterator
from typing import Any

import pandas as pd

from analysis.data.protocol import MIN_PATTERNS
from analysis.data.results import parse_sources
from analysis.page.captions import make_picture, name_file
from analysis.page.document import Block, Fold, Heading, Paragraph, Picture, Table
from analysis.page.wording import (
    capitalise,
    count_nouns,
    format_correlation,
    format_interval,
    format_signed,
    name_briefly,
)
from analysis.strengths.trends import MIN_LAYERS, ConnectionStrengths, Trend, TrendStatus
from search_spaces.wiring.arcs import draw_arcs

TREND_WORDS: dict[TrendStatus, str] = {
    "falls": "strength falls with {}",
    "rises": "strength rises with {}",
    "not_detected": "no trend with {} is detected",
    "too_few": "too few to say whether strength falls with {}",
}


def build_strengths(
    strengths: ConnectionStrengths, caption: str, part: str = "", is_planned: bool = False, *, has_arcs: bool = True
) -> Iterator[Block]:
    """Show the strengths of one stratum's trained connections.

    Args:
        caption: line at the foot of the heat maps, about `strengths.shown`.
        part: the stratum's name; empty where the report has only one.
        is_planned: the run is a study, whose plan declared its tests.
        has_arcs: whether the best pattern's connections are drawn as arcs too; a page of several strata would be heavy.
    """
    yield Heading(3 if part else 2, "Connection strengths")
    is_known = any(trend.status != "too_few" for trend in strengths.trends)
    yield Paragraph(answer_strengths(strengths), "finding" if is_known else "note")
    yield _draw_heat_maps(strengths, caption, name_file("strengths", part))
    if has_arcs:
        yield _draw_arcs(strengths, name_file("strength_arcs", part))
    about = Paragraph(
        "This is about weights only. A mean absolute weight is no effect on accuracy: a strong connection may be cut "
        "at no loss, and a weak one may matter. Batch normalisation scales each channel before it is weighed, which "
        "these numbers leave out. All weights begin alike, so the shorter the training, the more of a strength is "
        "chance.",
        kind="note",
    )
    if is_known:
        explained = Paragraph(_explain(strengths, is_planned), kind="note")
        yield Fold("The trends in numbers, and what they do not say", (_tabulate_trends(strengths), explained, about))
    else:
        yield Fold("What a strength does not say", (about,))


def answer_strengths(strengths: ConnectionStrengths) -> str:
    """Say whether strength falls with span and with detour, each by itself and given the other."""
    statuses = {trend.status for trend in strengths.trends}
    n = len(strengths.sampled)
    sample = count_nouns(n, "sampled pattern") + (f" ({_count_seeds(strengths)})" if n else "")
    if statuses == {"too_few"}:
        return (
            f"Too few to say whether strength falls with span or detour: {sample}. It takes {MIN_PATTERNS} patterns, "
            f"and {MIN_LAYERS} layers that read two skips or more."
        )
    sentences = [capitalise(_describe_trend(trend)) for trend in strengths.trends]
    return f"Among skips that end at the same layer, over {sample}: {'. '.join(sentences)}."


def _count_seeds(strengths: ConnectionStrengths) -> str:
    counts = [strengths.n_seeds[key] for key in strengths.sampled]
    low, high = min(counts), max(counts)
    return f"{low} to {high} seeds each" if low < high else f"{count_nouns(low, 'seed')} each"


def _describe_trend(trend: Trend) -> str:
    given = "" if trend.given is None else f"given {trend.given}, "
    text = given + TREND_WORDS[trend.status].format(trend.measure)
    if trend.value is None or trend.low is None or trend.high is None:
        return text
    interval = format_interval(trend.low, trend.high)
    return f"{text} (rank correlation {format_signed(trend.value)}, 95 % interval {interval})"


def _draw_heat_maps(strengths: ConnectionStrengths, caption: str, file: str) -> Picture:
    from analysis.strengths.plot import Panel, plot_strengths  # matplotlib: half a second

    panels = [
        Panel(_name(strengths, row), int(row["layers"]), strengths.by_pattern[row["key"]])
        for _, row in strengths.shown.iterrows()
    ]
    description = (
        "How strongly each layer's convolution weighs what it reads: mean absolute weight over the mean of that "
        "layer's connections, averaged over blocks and seeds. Darker is stronger; hatched pairs are not connected; the "
        "lower edge is the chain. As in the DenseNet paper's figure 5."
    )
    return make_picture(plot_strengths(panels, caption), file, description, "Heat maps")


def _draw_arcs(strengths: ConnectionStrengths, file: str) -> Picture:
    row = strengths.shown.iloc[0]
    svg = draw_arcs(parse_sources(row["sources"]), _name(strengths, row), strengths=strengths.by_pattern[row["key"]])
    seeds = count_nouns(row["n_seeds"], "seed")
    return Picture(
        file, svg, f"The same of {name_briefly(row)}, over {seeds}: the wider a line, the stronger.", "Arc diagram"
    )


def _name(strengths: ConnectionStrengths, row: "pd.Series[Any]") -> str:
    return name_briefly(row) + (" (best)" if row["key"] == strengths.best else "")


def _tabulate_trends(strengths: ConnectionStrengths) -> Table:
    header = (
        "strength against", "mean rank correlation [95 %]", "in words", "patterns", "left out", "layers"
    )  # fmt: skip
    rows = [
        (
            trend.measure + ("" if trend.given is None else f", given {trend.given}"),
            format_correlation(trend.value, trend.low, trend.high),
            trend.status.replace("_", " "),
            str(trend.n_patterns),
            str(trend.n_undefined),
            str(trend.n_layers),
        )
        for trend in strengths.trends
    ]
    return Table(header, tuple(rows))


def _explain(strengths: ConnectionStrengths, is_planned: bool) -> str:
    sentences = [
        "Span: layers from a skip's source to its target. Detour: hops from its target back to its source without it, "
        "so the longer, the more the skip shortens.",
        "A pattern's rank correlation is taken among the skips that end at the same layer, all its layers together: "
        "each layer's strengths have mean 1, so between layers they do not compare. Left out: patterns where it is not "
        "defined, because no two such skips differ.",
        "Patterns trained at one seed begin with the same weights, so the intervals draw both patterns and layers "
        "again; they are not adjusted for one another" + (", nor were these tests declared." if is_planned else "."),
    ]
    if strengths.collinearity is not None:
        sentences.append(
            f"Span and detour go together with a rank correlation of {format_signed(strengths.collinearity)}: where "
            "that is strong, one cannot be told from the other."
        )
    return " ".join(sentences)
