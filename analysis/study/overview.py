"""What a report says of all strata together: the answer, the strata side by side, short runs against long ones."""

import re
from collections.abc import Iterator, Sequence

from analysis.charts.drawing import HEAD_WIDTH
from analysis.charts.intervals import Effect, draw_effects
from analysis.page.document import Block, Fold, Heading, Paragraph, Picture, Table
from analysis.page.wording import (
    NONE,
    capitalise,
    enumerate_words,
    format_correlation,
    format_p,
    format_signed,
    name_in_sentence,
    name_measure,
    name_outcome,
    name_side,
    refer_to,
)
from analysis.stats.reliability import Fidelity
from analysis.study.verdict import (
    IN_WORDS,
    Verdict,
    find_weakest,
    format_range,
    name_held,
    read_estimate,
    summarise_verdicts,
    word_judgement,
)
from analysis.study.view import View
from analysis.verdict.controls import ControlledEffect
from analysis.verdict.pooled import Pooled, PooledEffect
from search_spaces.errors import InputError
from search_spaces.measures.registry import find_measure


def advise(verdicts: Sequence[Verdict]) -> str:
    """Say what it would take to know more; empty where nothing would help.

    Args:
        verdicts: one for each declared measure.
    """
    advice: dict[str, list[str]] = {}
    for each in verdicts:
        if each.more:
            advice.setdefault(each.more, []).append(name_in_sentence(each.measure))
    if len(advice) <= 1:
        return "".join(f"To know more: {more}" for more in advice)
    parts = (f"{capitalise(enumerate_words(names))}: {more[:1].lower()}{more[1:]}" for more, names in advice.items())
    return f"To know more. {' '.join(parts)}"


def judge_others(views: Sequence[View], pooled: Sequence[Pooled]) -> tuple[Verdict, ...]:
    """Return the verdicts on all declared measures but the first, over all strata that the study declared."""
    declared = [view.stratum for view in views]
    known = {each.measure: each for each in pooled}
    verdicts = []
    for place, measure in enumerate(declared[0].measures[1:], start=1):
        worded = {
            stratum.name: word_judgement(stratum.judgements[place], stratum.learning, stratum.primary)
            for stratum in declared
            if len(stratum.judgements) > place
        }
        if worded:
            verdicts.append(summarise_verdicts(worded, known.get(measure)))
    return tuple(verdicts)


def define_measures(measures: Sequence[str]) -> Iterator[Block]:
    """Say what the declared measures are, in the words of their definitions."""
    parts = []
    for measure in measures:
        try:
            definition = find_measure(measure).definition
        except InputError:  # of a package that is not installed here, or a column of a table
            continue
        head, colon, rest = re.sub(r"(: \w)?\.$", "", definition).partition(": ")  # without its symbol
        head = head[:1].lower() + head[1:]
        parts.append(f"{capitalise(name_measure(measure))}{', ' if colon else ': '}{head}{colon}{rest}.")
    if parts:
        yield Fold("What the measures are", tuple(map(Paragraph, parts)))


def build_verdicts(views: Sequence[View], pooled: Sequence[Pooled] = ()) -> Iterator[Block]:
    """Show what every stratum says of every declared measure, and all together; what is exploratory is folded."""
    measures = list(dict.fromkeys(measure for view in views for measure in view.stratum.measures))
    header = ("setting", *map(name_measure, measures), "F test p", "noise ceiling", "patterns x seeds")
    declared = [view for view in views if not view.stratum.is_exploratory] or views
    rows = [_format_strata(pooled, measures)] if pooled else []
    yield Table(header, (*rows, *(_format_stratum(view, measures) for view in declared)))
    yield Paragraph(
        "Each cell: the verdict, and the range of the measure's partial rank correlations under its controls; above 0, "
        "more of it goes with a higher outcome. The F test asks whether the seeds can tell the patterns apart; the "
        "noise ceiling is what a perfect predictor would show at these seeds. A correlation shows no cause.",
        kind="note",
    )
    if len(declared) < len(views):
        others = [view for view in views if view.stratum.is_exploratory]
        yield Fold(
            f"The same at each single learning rate: {len(others)} settings, exploratory",
            (
                Table(header, tuple(_format_stratum(view, measures) for view in others)),
                Paragraph(
                    "Tuned, above: each pattern at its own best learning rate. Settings of a single rate are "
                    "exploratory: their tests are adjusted for one another only, and they are no part of all together.",
                    kind="note",
                ),
            ),
        )


def fold_pooled(pooled: Sequence[Pooled]) -> Iterator[Block]:
    """Show every declared measure over all strata, under each control; nothing where nothing was pooled."""
    resolved = [each for each in pooled if each.status != "unresolved"]
    if not resolved:
        return
    header = ("measure", "with this held", "pooled correlation [95 %]", "p (Holm)", "do settings differ? (Q, p)")
    parts = [
        f"{name_measure(each.measure)} {format_range([effect.value for effect in each.effects])}" for each in resolved
    ]
    yield Fold(
        f"Over all settings, with other measures held, correlation of {'; '.join(parts)}",
        (
            Table(header, tuple(row for each in resolved for row in _format_pooled(each))),
            Paragraph(
                "Partial rank correlations, averaged over settings by Fisher's z and inverse variance; settings that "
                "share patterns draw them together.",
                kind="note",
            ),
        ),
    )


def _format_strata(pooled: Sequence[Pooled], measures: Sequence[str]) -> tuple[str, ...]:
    known = {each.measure: each for each in pooled}
    cells = [_format_cell(known[name].status, known[name].effects) if name in known else NONE for name in measures]
    return ("all together", *cells, NONE, NONE, NONE)


def _format_stratum(view: View, measures: Sequence[str]) -> tuple[str, ...]:
    judged = {judgement.measure: judgement for judgement in view.stratum.judgements}
    cells = [_format_cell(judged[name].status, judged[name].effects) if name in judged else NONE for name in measures]
    noise = next((judgement.resolution for judgement in judged.values()), None)
    return (
        view.label,
        *cells,
        NONE if noise is None else format_p(noise.p_value),
        NONE if noise is None else f"{noise.ceiling:.2f}",
        f"{view.stratum.n_patterns} x {view.stratum.n_seeds}",
    )


def _format_cell(status: str, effects: Sequence[ControlledEffect] | Sequence[PooledEffect]) -> str:
    text = format_range([read_estimate(effect).value for effect in effects])
    return IN_WORDS[status] + (f" ({text})" if text != NONE and status not in ("not_trained", "unresolved") else "")


def _format_pooled(pooled: Pooled) -> Iterator[tuple[str, ...]]:
    for effect in pooled.effects:
        yield (
            name_measure(pooled.measure),
            " and ".join(map(name_measure, effect.given)),
            format_correlation(effect.value, effect.low, effect.high),
            format_p(effect.p_holm),
            format_p(effect.q_p_value),
        )


def draw_weakest(views: Sequence[View], pooled: Sequence[Pooled]) -> Iterator[Picture]:
    """Draw every declared measure's weakest correlation under its controls; nothing where none was measured.

    Args:
        views: strata that the study declared.
        pooled: what they say together, which is drawn where there is any.
    """
    resolved = [each for each in pooled if each.status != "unresolved"]
    rows = []
    for each in resolved or views[0].stratum.judgements:
        weakest = find_weakest(each.effects)
        if weakest is not None:
            own = read_estimate(weakest)
            label = f"{name_measure(each.measure)}, {name_held(weakest)} held"
            rows.append(Effect(label=label, group="", value=own.value, low=own.low, high=own.high, is_primary=False))
    if rows:
        outcome = next((each.outcome for each in views[0].stratum.judgements if each.outcome), views[0].stratum.primary)
        where = "" if resolved or not views[0].name else f" Of {views[0].label}."
        yield draw_effects(rows, f"rank correlation with {name_outcome(outcome)}", width=HEAD_WIDTH).show(
            "first.svg",
            "Correlation of each measure under the control that leaves the least of it, with 95 % intervals. Right of "
            f"0: more of it goes with {name_side('higher', outcome)}.{where}",
            "Forest plot",
        )


def fold_effects(views: Sequence[View]) -> Iterator[Block]:
    """Show the correlation of every measure by itself, the strata side by side; nothing where no stratum has any."""
    effects = [(view, effect) for view in views for effect in view.stratum.effects if effect.method == "spearman"]
    names = dict.fromkeys(name for view in views for name in view.stratum.resolution)  # the primary one first
    outcome = next((name for name in names if any(effect.outcome == name for _, effect in effects)), None)
    if outcome is None:
        return
    rows = [
        Effect(
            label=name_measure(effect.measure),
            group=view.label,
            value=effect.estimate.value,
            low=effect.estimate.low,
            high=effect.estimate.high,
            is_primary=effect.measure in view.stratum.measures,
        )
        for view, effect in effects
        if effect.outcome == outcome
    ]
    known = [(abs(effect.estimate.value), effect) for _, effect in effects if effect.estimate.value is not None]
    strongest = max(known, key=lambda pair: pair[0])[1] if known else None
    best = (
        ""
        if strongest is None
        else (f": {name_measure(strongest.measure)} goes with it most, {format_signed(strongest.estimate.value)}")
    )
    picture = draw_effects(rows, f"rank correlation with {name_outcome(outcome)}").show(
        "effects.svg",
        f"Rank correlation of each measure by itself with {refer_to(outcome)}, 95 % intervals over patterns, nothing "
        "held; in bold the declared measures. Right of 0: more of it goes with a higher outcome.",
        "Forest plot",
    )
    yield Fold(f"Every measure by itself, nothing held{best}", (picture,))


def build_fidelity(fidelity: Sequence[Fidelity]) -> Iterator[Block]:
    """Show whether short runs rank patterns as long ones do; nothing where the study did not check it."""
    if not fidelity:
        return
    yield Heading(2, "Do short runs rank patterns as long ones do?")
    header = ("stratum", "short", "long", "outcome", "Spearman [95 %]", "patterns")
    rows = [
        (
            f"{each.layers} layers",
            each.short_regime,
            each.long_regime,
            name_outcome(each.outcome),
            "not defined"
            if each.estimate.value is None
            else format_correlation(each.estimate.value, each.estimate.low, each.estimate.high),
            str(each.n_patterns),
        )
        for each in fidelity
    ]
    yield Table(header, tuple(rows))
    yield Paragraph(
        "Agreement is bounded by the noise of both runs: compare it with the product of their ceilings, not with 1.",
        kind="note",
    )
