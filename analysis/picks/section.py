"""What a report says of what a search found: the pick, what it gained, and the patterns next to it."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from analysis.charts.drawing import CHART_WIDTH, HEAD_WIDTH
from analysis.charts.intervals import Level, draw_levels
from analysis.data.outcomes import Objective, is_lower_better
from analysis.data.results import parse_sources
from analysis.page.captions import name_file
from analysis.page.document import Block, Fold, Heading, Paragraph, Picture, Table
from analysis.page.wording import NONE, UNITS, count_nouns, format_estimate, label_outcome, share_digits
from analysis.picks.found import Found, RankedPattern
from analysis.picks.words import (
    answer_found,
    describe_measures,
    describe_over_template,
    describe_random,
    describe_tried,
    format_chance,
    format_outcome,
    name_found,
)
from nas.records.shown import describe_seeding
from search_spaces.wiring.arcs import draw_arcs

N_SHOWN = 10  # patterns in the table, and in the figure next to the named templates
N_FIRST = 5  # patterns on the first screen
N_TEMPLATES = 8  # named templates in the figure


def build_picks(picks: Sequence[Found], caption: str = "", table: Mapping[str, Any] | None = None) -> Iterator[Block]:
    """Show what a search found at each budget; nothing for a study.

    Args:
        caption: line at the foot of the figures.
        table: where earlier outcomes come from that the search's model was seeded with; None or empty without.
    """
    if picks:
        yield Heading(2, "What was found")
        if table:
            yield Paragraph(describe_seeding(table))
    for number, found in enumerate(picks):
        part = name_found(found) if len(picks) > 1 else ""
        if part:
            yield Heading(3, part)
            yield Paragraph(answer_found(found), "finding")
        body = _build_one(found, caption, part)
        if number == 0:
            yield from body
        else:
            yield Fold(f"Figure and table of {part}", tuple(body))
    if any(found.basis == "model" for found in picks):
        yield Fold("How the expected outcome is computed", (_explain_expected(picks[0].objective),))


def _explain_expected(objective: Objective) -> Paragraph:
    of = _name_expected(objective)
    return Paragraph(
        f"Expected: the mean over seeds that a pattern was not trained with, {of}. It comes from a model of all "
        "trainings: the pattern's measures, what it has of its own, the seed's effect and noise. So a pattern of "
        "few trainings is drawn towards what its measures predict, and the luckiest one is not taken for the best. "
        "The 95 % intervals and the chances are the model's. Observed: the plain mean, which depends on the seeds "
        "too.",
        kind="note",
    )


def _name_expected(objective: Objective) -> str:
    if objective.outcome in UNITS:
        return "of the logarithm of its loss or of its share of errors, so that of a loss it is the geometric mean"
    return f"of the logarithm of its {objective}: the geometric mean" if objective.is_loss else f"of its {objective}"


def _build_one(found: Found, caption: str, part: str) -> Iterator[Block]:
    sentences = [describe_tried(found)]
    if found.basis == "unlearned":
        yield Paragraph(" ".join([*sentences, *(() if part else (answer_found(found),))]))
        return
    sentences.append(describe_over_template(found))
    sentences.append(describe_random(found))
    if found.basis == "model":
        yield _draw(found, caption, part)
    yield _tabulate(found)
    details = [text for text in (" ".join(filter(None, sentences)), describe_measures(found)) if text]
    yield Fold("What was tried, and what the model leans on", tuple(map(Paragraph, details)))


def _draw(found: Found, caption: str, part: str) -> Picture:
    templates = [each for each in found.ranked[N_SHOWN:] if each.template][:N_TEMPLATES]
    text = (
        "What is expected at a new seed, with 95 % intervals, of the best patterns and the named templates. Grey dots "
        "are single trainings; those far outside are left out."
    )
    return _draw_levels(found, (*found.ranked[:N_SHOWN], *templates), name_file("found", part), text, caption)


def _draw_levels(
    found: Found, patterns: Sequence[RankedPattern], file: str, text: str, caption: str = "", width: float = CHART_WIDTH
) -> Picture:
    rows = [
        Level(
            label=each.name + (" (the pick)" if each is found.pick else ""),
            value=each.expected.value,
            low=each.expected.low,
            high=each.expected.high,
            note=count_nouns(each.n_trainings, "training"),
            key=each.key,
            observed=each.outcomes,
        )
        for each in patterns
        if each.expected is not None
    ]
    if found.random is not None:
        text += " Dashed: a random draw."
        expected, n = found.random.gain.expected, found.random.n_patterns
        rows.append(
            Level(
                label="a random draw",
                value=expected.value,
                low=expected.low,
                high=expected.high,
                note=count_nouns(n, "draw"),
                is_reference=True,
            )
        )
    outcome = found.objective.outcome
    chart = draw_levels(
        rows, label_outcome(outcome), lower_is_better=is_lower_better(outcome), caption=caption, width=width
    )
    return chart.show(
        file,
        text,
        "Interval plot",
    )


def draw_pick(found: Found, budget: str = "") -> Picture:
    """Draw the pattern to take.

    Args:
        budget: budget that it is taken at; empty where the run has only one.
    """
    pick = found.pick
    svg = draw_arcs(parse_sources(pick.sources), pick.name, width=460)
    of = f" at budget {budget}" if budget else ""
    return Picture("best.svg", svg, f"{pick.name}, the pattern to take{of}", "Arc diagram", is_small=True)


def draw_first(found: Found) -> Picture:
    """Draw what is expected of the best few patterns, of template `log` and of a random draw."""
    logs = [each for each in found.ranked[N_FIRST:] if each.template == "log"]
    text = "Expected at a new seed, with 95 % intervals. Grey dots are single trainings."
    return _draw_levels(found, (*found.ranked[:N_FIRST], *logs), "first.svg", text, width=HEAD_WIDTH)


def _tabulate(found: Found) -> Table:
    unit = f" ({UNITS[found.objective.outcome]})" if found.objective.outcome in UNITS else ""
    shown = found.ranked[:N_SHOWN]
    header: tuple[str, ...] = ("", "pattern")
    digits = _share_digits(shown)
    columns = [[str(place) for place in range(1, len(shown) + 1)], [each.name for each in shown]]
    if any(each.expected is not None for each in shown):
        header += (f"expected {found.objective}{unit} [95 %]",)
        columns.append([_format_expected(each, digits) for each in shown])
    if any(each.over_log is not None for each in shown):
        header += ("better than log",)
        columns.append([format_chance(each.chance_better_than_log) for each in shown])
    header += (f"observed {found.objective}{unit}", "trainings", "mean BD", "walk length")
    columns += map(list, zip(*(_describe(each, digits) for each in shown), strict=True))
    return Table(header, tuple(zip(*columns, strict=True)), tuple(each.key for each in shown))


def _share_digits(shown: Sequence[RankedPattern]) -> int | None:
    """Return how many decimals expected and observed outcomes have in a table; None where nothing is expected."""
    scale = 100 if shown and shown[0].objective.is_share else 1
    intervals = [(scale * each.expected.low, scale * each.expected.high) for each in shown if each.expected is not None]
    return share_digits(intervals) if intervals else None


def _format_expected(ranked: RankedPattern, digits: int | None) -> str:
    expected, scale = ranked.expected, 100 if ranked.objective.is_share else 1
    if expected is None:
        return NONE
    return format_estimate(scale * expected.value, scale * expected.low, scale * expected.high, digits)


def _describe(ranked: RankedPattern, digits: int | None) -> tuple[str, ...]:
    observed = format_outcome(ranked.observed, ranked.objective)
    if digits is not None:
        observed = f"{(100 if ranked.objective.is_share else 1) * ranked.observed:.{digits}f}"
    return (
        observed,
        str(ranked.n_trainings) + (f" ({ranked.n_failed} failed)" if ranked.n_failed else ""),
        f"{ranked.mean_bd:.2f}",
        NONE if ranked.walk_length is None else f"{ranked.walk_length:.2f}",
    )
