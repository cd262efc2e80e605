"""What a report says of connection strengths: heat maps, an arc diagram, and whether they fall with span or detour."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pandas as pd

from analysis.data.protocol import MIN_PATTERNS
from analysis.data.results import parse_sources
from analysis.page.captions import describe_data, name_file
from analysis.page.document import Block, Heading, Paragraph, Picture, Table
from analysis.page.wording import capitalise, format_interval, format_signed, name_briefly, name_pattern
from analysis.report.findings import Findings
from analysis.strengths.trends import MIN_LAYERS, Status, Strengths, Trend
from analysis.study.view import View
from search_spaces.wiring.arcs import draw_arcs

SHOWN = ("log", "dense")  # templates, beside the best pattern
IN_WORDS: dict[Status, str] = {
    "falls": "strength falls with {}",
    "rises": "strength rises with {}",
    "not_detected": "no trend with {} is detected",
    "too_few": "too few to say whether strength falls with {}",
}


def build_strengths(findings: Findings, view: View) -> Iterator[Block]:
    """Strengths of one stratum's trained connections; nothing where none were measured."""
    strengths = view.strengths
    if strengths is None:
        return
    yield Heading(3 if view.name else 2, "Connection strengths")
    yield Paragraph(answer(strengths))
    measured = view.patterns[view.patterns["key"].isin(list(strengths.by_pattern))]
    yield _heat_maps(findings, view, strengths, measured)
    yield _arcs(view, strengths, measured.iloc[0])
    yield _trend_table(strengths)
    yield Paragraph(_explain(strengths, is_planned=findings.run.kind == "study"))
    yield Paragraph(
        "This is about weights alone. A mean absolute weight is no effect on accuracy: a strong connection may be cut "
        "at no loss, and a weak one may matter. Batch normalisation scales each channel before it is weighed, which "
        "these numbers leave out. All weights begin alike, so the shorter the training, the more of a strength is "
        "chance."
    )


def answer(strengths: Strengths) -> str:
    """Whether strength falls with span and with detour, in sentences: with each alone, and with the other held."""
    statuses = {trend.status for trend in strengths.trends}
    n, seeds = len(strengths.sampled), _count_seeds(strengths)
    sample = f"{n} sampled pattern{'' if n == 1 else 's'}" + (f" ({seeds})" if n else "")
    if statuses == {"too_few"}:
        return (
            f"Too few to say whether strength falls with span or detour: {sample}. It takes {MIN_PATTERNS} patterns, "
            f"and {MIN_LAYERS} layers that read two skips or more."
        )
    told = [capitalise(_tell(trend)) for trend in strengths.trends]
    return f"Among skips that end at the same layer, over {sample}: {'. '.join(told)}."


def _count_seeds(strengths: Strengths) -> str:
    counts = sorted(strengths.n_seeds[key] for key in strengths.sampled)
    if not counts:
        return ""
    if counts[0] < counts[-1]:
        return f"{counts[0]} to {counts[-1]} seeds each"
    return f"{counts[0]} seed{'' if counts[0] == 1 else 's'} each"


def _tell(trend: Trend) -> str:
    given = "" if trend.given is None else f"given {trend.given}, "
    text = given + IN_WORDS[trend.status].format(trend.measure)
    if trend.value is None or trend.low is None or trend.high is None:
        return text
    interval = format_interval(trend.low, trend.high)
    return f"{text} (rank correlation {format_signed(trend.value)}, 95 % interval {interval})"


def _heat_maps(findings: Findings, view: View, strengths: Strengths, measured: pd.DataFrame) -> Picture:
    """Of the best of the patterns measured, and of the templates of SHOWN."""
    from analysis.page.figure_style import draw_png, draw_svg  # matplotlib: half a second
    from analysis.strengths.plot import plot_strengths

    drawn = pd.concat([measured.head(1), measured[measured["template"].isin(SHOWN)]]).drop_duplicates("key")
    panels = [(_name(view, row), int(row["layers"]), strengths.by_pattern[row["key"]]) for _, row in drawn.iterrows()]
    drawn = drawn.assign(n_seeds=drawn["key"].map(strengths.n_seeds))
    figure = plot_strengths(panels, describe_data(findings, replace(view, patterns=drawn)))
    description = (
        "How strongly each layer's convolution weighs what it reads: mean absolute weight over the mean of that "
        "layer's connections, averaged over blocks and seeds. Darker is stronger; hatched pairs are not connected; the "
        "lower edge is the chain. As in the DenseNet paper's figure 5."
    )
    return Picture(name_file(view, "strengths"), draw_svg(figure), description, png=draw_png(figure))


def _arcs(view: View, strengths: Strengths, row: "pd.Series[Any]") -> Picture:
    relative = strengths.by_pattern[row["key"]]
    picture = draw_arcs(parse_sources(row["sources"]), _name(view, row), strengths=relative)
    n = strengths.n_seeds[row["key"]]
    text = f"The same of {name_pattern(row)}, over {n} seed{'' if n == 1 else 's'}: the wider a line, the stronger."
    return Picture(name_file(view, "strength_arcs"), picture, text)


def _name(view: View, row: "pd.Series[Any]") -> str:
    """A pattern's brief name, and whether it is the best."""
    return name_briefly(row) + (" (best)" if row["key"] == view.patterns["key"].iloc[0] else "")


def _trend_table(strengths: Strengths) -> Table:
    header = (
        "strength against",
        "mean rank correlation",
        "95 % interval",
        "in words",
        "patterns",
        "left out",
        "layers",
    )
    rows = [
        (
            trend.measure + ("" if trend.given is None else f", given {trend.given}"),
            format_signed(trend.value),
            format_interval(trend.low, trend.high),
            trend.status.replace("_", " "),
            str(trend.n_patterns),
            str(trend.n_undefined),
            str(trend.n_layers),
        )
        for trend in strengths.trends
    ]
    return Table(header, tuple(rows))


def _explain(strengths: Strengths, is_planned: bool) -> str:
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
