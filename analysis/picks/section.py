"""What a report says of what a search found: the pick, what it gained, and the patterns next to it."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from analysis.charts.intervals import Level, draw_levels
from analysis.data.outcomes import Objective, is_lower_better
from analysis.page.captions import name_file
from analysis.page.document import Block, Heading, Paragraph, Picture, Table
from analysis.page.wording import NONE, UNITS, count_nouns, label_outcome
from analysis.picks.found import Found, RankedPattern
from analysis.picks.words import (
    answer_found,
    describe_gain,
    describe_measures,
    describe_random,
    describe_tried,
    format_chance,
    format_outcome,
    name_found,
)
from nas.records.shown import describe_seeding

N_SHOWN = 10  # patterns in the table, and in the figure next to the named templates
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
    for found in picks:
        part = name_found(found) if len(picks) > 1 else ""
        if part:
            yield Heading(3, part)
            yield Paragraph(answer_found(found))
        yield from _build_one(found, caption, part)
    if any(found.basis == "model" for found in picks):
        of = _name_expected(picks[0].objective)
        yield Paragraph(
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
    others = found.template is not None and found.template.template != "log" and found.log is not None
    if others and found.template is not None and found.over_template is not None:
        over = describe_gain(found.over_template, f"template {found.template.name}", found.objective)
        sentences.append(f"Next to the best named template: {over}.")
    sentences.append(describe_random(found))
    for text in (" ".join(filter(None, sentences)), describe_measures(found)):
        if text:
            yield Paragraph(text)
    if found.basis == "model":
        yield _draw(found, caption, part)
    yield _tabulate(found)


def _draw(found: Found, caption: str, part: str) -> Picture:
    templates = [each for each in found.ranked[N_SHOWN:] if each.template][:N_TEMPLATES]
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
        for each in (*found.ranked[:N_SHOWN], *templates)
        if each.expected is not None
    ]
    if found.random is not None:
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
    chart = draw_levels(rows, label_outcome(outcome), lower_is_better=is_lower_better(outcome), caption=caption)
    return chart.show(
        name_file("found", part),
        "What is expected at a new seed, with 95 % intervals, of the best patterns and the named templates. Grey "
        "dots are single trainings; those far outside are left out.",
        "Interval plot",
    )


def _tabulate(found: Found) -> Table:
    unit = f" ({UNITS[found.objective.outcome]})" if found.objective.outcome in UNITS else ""
    header: tuple[str, ...] = (
        "", "pattern", "trainings", f"observed {found.objective}{unit}", "expected", "95 % interval", "mean BD",
        "walk length",
    )  # fmt: skip
    rows: list[tuple[str, ...]] = [_row(place, each) for place, each in enumerate(found.ranked[:N_SHOWN], start=1)]
    if any(each.chance_better_than_log is not None for each in found.ranked):
        header += ("better than log",)
        chances = [format_chance(each.chance_better_than_log) for each in found.ranked[:N_SHOWN]]
        rows = [(*row, chance) for row, chance in zip(rows, chances, strict=True)]
    return Table(header, tuple(rows))


def _row(place: int, ranked: RankedPattern) -> tuple[str, ...]:
    expected, objective = ranked.expected, ranked.objective
    low, high = (None, None) if expected is None else (expected.low, expected.high)
    interval = NONE
    if low is not None and high is not None:
        interval = f"{format_outcome(low, objective)} to {format_outcome(high, objective)}"
    return (
        str(place),
        f"{ranked.template} ({ranked.key[:12]})" if ranked.template else ranked.key[:12],
        str(ranked.n_trainings) + (f" ({ranked.n_failed} failed)" if ranked.n_failed else ""),
        format_outcome(ranked.observed, objective),
        NONE if expected is None else format_outcome(expected.value, objective),
        interval,
        f"{ranked.mean_bd:.3f}",
        NONE if ranked.walk_length is None else f"{ranked.walk_length:.2f}",
    )
