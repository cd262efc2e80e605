"""What a report says of one stratum: what its seeds see, what goes with the outcome, levels, patterns, curves."""

import math
from collections.abc import Collection, Iterator, Mapping
from typing import Any

import pandas as pd

from analysis.charts.intervals import Level, draw_levels
from analysis.data.outcomes import OutcomeName, is_lower_better, is_of_images, list_shown
from analysis.data.protocol import SAMPLED
from analysis.data.results import parse_sources
from analysis.page.captions import name_file
from analysis.page.document import Block, Fold, Heading, Paragraph, Picture, Table
from analysis.page.wording import (
    NONE,
    capitalise,
    describe_mean,
    enumerate_words,
    format_mean,
    format_with_error,
    head_outcome,
    label_outcome,
    name_briefly,
    name_measure,
    name_outcome,
    share_digits,
    share_mean_digits,
    shorten_outcome,
)
from analysis.study.overview import fold_effects
from analysis.study.plots import choose_curves, draw_distances, draw_learning, draw_outcome
from analysis.study.stratum import Reach
from analysis.study.tables import fold_noise, fold_pairs, fold_rivals, fold_tests
from analysis.study.verdict import word_judgement
from analysis.study.view import N_BEST, View
from search_spaces.budget import Budget, parse_budget
from search_spaces.sampling.bounds import certify
from search_spaces.wiring.arcs import draw_arcs

N_DRAWN = 2
STAND_INS = ("span", "mean_bd")  # for colour, where a study declares one measure only
GROUP_NAMES = {
    "optimum": "shortest found",
    "control": "their controls",
    "random": "uniform random",
    "design": "crossed design",
    "reversal": "reversals",
}


def build_stratum(view: View, caption: str, said: Collection[str] = (), *, is_first: bool = True) -> Iterator[Block]:
    """Show everything about one stratum, under its name where there are several.

    Args:
        caption: line at the foot of its figures.
        said: sentences that the page has shown already.
        is_first: whether it stays open; all but the first of several strata are folded behind what they found.
    """
    level = 3 if view.name else 2
    if view.name:
        yield Heading(2, capitalise(view.label))
        yield Paragraph(view.stratum.verdict.sentence, "finding")
        said = {view.stratum.verdict.sentence}
    body = _build_body(view, caption, level, said, N_DRAWN if is_first else 1)
    if is_first:
        yield from body
    else:
        yield Fold(f"Figures, statistics and patterns of {view.label}", tuple(body))


def _build_body(view: View, caption: str, level: int, said: Collection[str], n_drawn: int) -> Iterator[Block]:
    stratum = view.stratum
    if stratum.verdict.status == "not_trained":  # then nothing else is said
        yield from _draw_curves(view, caption, level)
        return
    yield Heading(level, "What goes with the outcome?")
    has_sample = view.is_planned or stratum.n_patterns > 0
    if has_sample:
        sentences = [word_judgement(each, stratum.learning, stratum.primary).sentence for each in stratum.judgements]
        yield from (
            Paragraph(text) for text in dict.fromkeys([stratum.verdict.sentence, *sentences]) if text not in said
        )
    yield from _draw_outcome(view, caption) if view.is_planned else _draw_distances(view, caption)
    if has_sample:
        yield from _fold_statistics(view)
    else:
        yield Paragraph(
            "No correlation is computed: none of these patterns was drawn at random, and those that a search proposes "
            "because of earlier outcomes are no sample. The setting --strategy random draws one.",
            kind="note",
        )
    if view.rivals:
        yield fold_rivals(
            view.rivals, next((each.outcome for each in stratum.judgements if each.outcome), stratum.primary)
        )
    if not view.name:
        yield from fold_effects([view])
    yield Heading(level, "The best patterns")
    yield from _draw_best(view, n_drawn)
    if view.is_planned:  # what a search found has a section of its own
        yield from _tabulate_best(view)
    if view.levels and (view.patterns["template"].notna().any() or len(view.levels) > 1):
        yield Heading(level, "Templates at equal budget")
        yield from _draw_levels(view)
        yield from _tabulate_templates(view)
    yield from _draw_curves(view, caption, level)


def _fold_statistics(view: View) -> Iterator[Block]:
    """Fold what the sentences rest on, each fold behind what it comes to."""
    stratum = view.stratum
    yield fold_noise(stratum)
    yield fold_tests(stratum)
    if stratum.pairs:
        yield fold_pairs(stratum.pairs)


def _draw_distances(view: View, caption: str) -> Iterator[Block]:
    shaded = (view.uniform.low, view.uniform.high) if view.uniform else None
    yield draw_distances(view.patterns, view.candidates, shaded, caption, view.name).show(
        name_file("distance", view.name),
        "Large marks: patterns, mean over seeds with one standard error; small dots: single trainings.",
        "Scatter plot",
    )
    if view.uniform:
        n = view.uniform.n_patterns
        yield Paragraph(f"Uniform random sampling, {n} draws at this budget: {_describe(view.uniform)}.", "note")
    if view.stratum.reach:
        reach = _describe(view.stratum.reach)
        yield Paragraph(f"Reach of the sample: {reach}. Outside that range it says nothing.", "note")


def _describe(reach: Reach) -> str:
    text = f"mean BD {reach.low:.2f} to {reach.high:.2f} (1 % to 99 %); no pattern is below {reach.bound:.2f}"
    if reach.farthest is not None and reach.share is not None:
        text += f" and the farthest has {reach.farthest:.2f}, so this covers {100 * reach.share:.0f} % of that range"
    return text


def _draw_outcome(view: View, caption: str) -> Iterator[Block]:
    (outcome,) = view.outcomes
    known = [name for name in (*view.stratum.measures, *STAND_INS) if _is_known(view.patterns, name)]
    x, colour = list(dict.fromkeys(known))[:2]
    yield draw_outcome(view.patterns, outcome, x, colour, caption, view.name).show(
        name_file("outcome", view.name),
        "Each mark is a pattern, its mean over seeds, each seed's own mean taken out; bars: one standard error. "
        f"Colour: {name_measure(colour)}. Point at a mark for its name.",
        "Scatter plot",
    )
    sampled = view.patterns[view.patterns["strategy"].isin(SAMPLED)]
    ranges = [
        f"{name_measure(name)} {sampled[name].min():.2f} to {sampled[name].max():.2f}"
        for name in view.stratum.measures
        if _is_known(sampled, name)
    ]
    if ranges:
        yield Paragraph(f"The sample covers {enumerate_words(ranges)}; outside that it says nothing.", "note")


def _is_known(patterns: pd.DataFrame, measure: str) -> bool:
    return measure in patterns and len(patterns) > 0 and bool(patterns[measure].notna().all())


def _draw_levels(view: View) -> Iterator[Block]:
    if not view.levels:
        return
    named = view.patterns.dropna(subset=["template"])
    keys = dict(zip(named["template"].tolist(), named["key"].tolist(), strict=True))
    rows = [
        Level(
            label=GROUP_NAMES.get(level.name, level.name) + (f" ({level.n_patterns})" if level.n_patterns > 1 else ""),
            value=level.value,
            low=level.low,
            high=level.high,
            note=f"mean BD {level.mean_bd:.2f}",
            key=keys.get(level.name),
            is_reference=level.name == "random",
        )
        for level in view.levels
    ]
    outcome = view.levels[0].outcome
    yield draw_levels(rows, label_outcome(outcome), lower_is_better=is_lower_better(outcome)).show(
        name_file("levels", view.name),
        "Means with 95 % intervals, each seed's own mean taken out: of a template over its seeds, of a group over "
        "its patterns. A template is one pattern: by itself it says little of its rule.",
        "Interval plot",
    )


def _tabulate_templates(view: View) -> Iterator[Block]:
    """Show every template with its distance, and how far it is from the best one, in the figure's order."""
    if all(template.n_patterns > 1 for template in view.comparisons):
        return
    outcome = list_shown(view.patterns)[0]
    is_share = is_of_images(view.patterns)
    header = (
        "template", head_outcome(outcome), "less the best" + (" (points)" if is_share else ""), "mean BD",
        "above the bound", "walk length",
    )  # fmt: skip
    budget = parse_budget(view.stratum.budget, view.stratum.layers)
    by_name = {row["template"]: row for _, row in view.patterns.dropna(subset=["template"]).iterrows()}
    sign = 1 if is_lower_better(view.levels[0].outcome) else -1
    drawn = {level.name: sign * level.value for level in view.levels}
    scale = 100 if is_share else 1
    digits = [
        share_digits([(-scale * error, scale * error) for error in errors if error], 1 if is_share else 3)
        for errors in (
            [template.standard_error for template in view.comparisons],
            [template.difference_error for template in view.comparisons],
        )
    ]
    rows, keys = [], []
    for template in sorted(view.comparisons, key=lambda template: drawn.get(template.name, math.inf)):
        row = by_name.get(template.name)
        less = template.difference
        rows.append(
            (
                GROUP_NAMES.get(template.name, template.name),
                _format_level(template.mean, template.standard_error, scale, digits[0]),
                NONE if less is None else _difference(less, template.difference_error, scale, digits[1]),
                *((NONE, NONE, NONE) if row is None else _describe_template(row, budget)),
            )
        )
        keys.append(None if row is None else str(row["key"]))
    yield Fold(
        "The templates in numbers",
        (
            Table(header, tuple(rows), tuple(keys)),
            Paragraph(
                "Mean and one standard error over seeds; the differences are paired by seed, to the template whose "
                "mean is best. It was picked by this number; a difference below twice its error is not evidence. No "
                "pattern of this budget has a mean BD below the bound; optimal: none has a lower one.",
                kind="note",
            ),
        ),
    )


def _describe_template(row: "pd.Series[Any]", budget: Budget) -> tuple[str, ...]:
    certificate = certify(parse_sources(row["sources"]), budget)
    above = "optimal" if certificate.status == "optimal" else f"{100 * certificate.gap:.1f} %"
    walk = row.get("walk_length")
    return f"{row['mean_bd']:.2f}", above, NONE if walk is None or pd.isna(walk) else f"{walk:.2f}"


def _format_level(value: float, error: float | None, scale: int, digits: int) -> str:
    """Return a mean with its error, both times a scale that makes per cent of a share."""
    return format_with_error(scale * value, None if error is None else scale * error, digits, is_shared=True)


def _difference(value: float, error: float | None, scale: int, digits: int) -> str:
    text = _format_level(value, error, scale, digits)
    return f"+{text}" if value > 0 and float(text.partition(" ")[0]) else text


def _tabulate_best(view: View) -> Iterator[Block]:
    outcomes = [*map(head_outcome, list_shown(view.patterns))]
    seeds = () if len(set(view.patterns["n_seeds"].head(N_BEST))) == 1 else ("seeds",)
    header = ("", "pattern", *outcomes, *seeds, "mean BD", "walk length")
    top = [row for _, row in view.patterns.head(N_BEST).iterrows()]
    digits = {name: share_mean_digits(view.patterns.head(N_BEST), name) for name in list_shown(view.patterns)}
    rows = tuple(_best_row(place, row, digits, bool(seeds)) for place, row in enumerate(top, start=1))
    yield Table(header, rows, tuple(str(row["key"]) for row in top))
    yield Paragraph(
        f"Means over seeds with one standard error. Patterns trained at every seed come first, "
        f"{_describe_order(view)}; neighbours in this list are often within the noise.",
        kind="note",
    )


def _describe_order(view: View) -> str:
    """Say by which outcomes patterns are sorted."""
    outcomes = list_shown(view.patterns)
    parts = [f"{'lower' if is_lower_better(name) else 'higher'} {shorten_outcome(name)}" for name in outcomes]
    return ", ".join(f"then {part}" for part in parts)


def draw_winner(view: View) -> Picture:
    """Draw a stratum's best pattern."""
    row = view.patterns.iloc[0]
    name = name_briefly(row)
    mean = describe_mean(row, list_shown(view.patterns)[0])
    where = f" of {view.label}" if view.name else ""
    svg = draw_arcs(parse_sources(row["sources"]), name, width=460)
    return Picture("best.svg", svg, f"The best pattern{where}: {name}, {mean}", "Arc diagram", is_small=True)


def _draw_best(view: View, n_drawn: int) -> Iterator[Block]:
    top = [row for _, row in view.patterns.head(n_drawn).iterrows()]
    shortest = [row for _, row in view.patterns[(view.patterns["strategy"] == "optimum").fillna(False)].iterrows()]
    full = view.patterns[view.patterns["all_seeds"]] if view.is_planned else view.patterns
    worst = [full.iloc[-1]] if len(full) > N_BEST and n_drawn == N_DRAWN else []
    drawn = {row["key"]: row for row in (*top, *worst, *shortest[:1])}
    parts = {top[0]["key"]: "best", **{row["key"]: "worst" for row in worst}}
    parts |= {row["key"]: "shortest found" for row in shortest[:1]}
    for key, row in drawn.items():
        picture = draw_arcs(parse_sources(row["sources"]), parts.get(key, name_briefly(row)), width=460)
        mean = describe_mean(row, list_shown(view.patterns)[0])
        text = f"{capitalise(parts[key]) + ': ' if key in parts else ''}{name_briefly(row)}, {mean}"
        yield Picture(name_file(f"arcs_{key[:12]}", view.name), picture, text, "Arc diagram", is_small=True)


def _best_row(
    place: int, row: "pd.Series[Any]", digits: Mapping[OutcomeName, int | None], has_seeds: bool
) -> tuple[str, ...]:
    walk = row.get("walk_length")
    return (
        str(place),
        name_briefly(row),
        *(format_mean(row, outcome, shown) for outcome, shown in digits.items()),
        *((str(row["n_seeds"]),) if has_seeds else ()),
        f"{row['mean_bd']:.2f}",
        NONE if walk is None or pd.isna(walk) else f"{walk:.2f}",
    )


def _draw_curves(view: View, caption: str, level: int) -> Iterator[Block]:
    if view.curves.empty:
        return
    yield Heading(level, "Learning curves")
    drawn = choose_curves(view.curves, view.candidates)[0]
    drawn = "training loss" if drawn == "train_loss" else name_outcome(drawn)
    yield draw_learning(view.curves, view.candidates, view.patterns["key"].iloc[0], caption).show(
        name_file("curves", view.name),
        f"{capitalise(drawn)} by epoch; templates and the best pattern: means over seeds.",
        "Line plot",
    )
