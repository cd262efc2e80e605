"""The verdict in words: one sentence for everybody, the numbers behind it, and what it would take to know more."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from analysis.data.outcomes import OUTCOMES, is_lower_better
from analysis.data.protocol import ALPHA, CONFIDENCE, MARGIN, MIN_PATTERNS, POWER
from analysis.page.wording import (
    NONE,
    capitalise,
    format_interval,
    format_p,
    format_signed,
    name_in_sentence,
    name_measure,
    refer_to,
    relate,
)
from analysis.stats.guessing import Learning, explain_unlearned
from analysis.verdict.controls import ControlledEffect
from analysis.verdict.noise import Resolution
from analysis.verdict.pooled import Pooled, PooledEffect
from analysis.verdict.power import count_for_negligible, count_seeds
from analysis.verdict.rules import Judgement
from nas.records.metrics import shorten

IN_WORDS = {
    "not_trained": "not trained",
    "unresolved": "unresolved",
    "u_shaped": "u-shaped",
    "nothing_left": "nothing left to explain",
    "supported": "supported",
    "reversed": "reversed",
    "depends": "depends on what is held",
    "negligible": "negligible",
    "inconclusive": "inconclusive",
    "mixed": "mixed",
}
MOST_WORDS = 20  # of a verdict's sentence
AnyEffect = ControlledEffect | PooledEffect


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a stratum, or all of them together, say of one measure.

    Args:
        status: one of protocol.STATUSES, or mixed for strata that differ.
        sentence: the verdict for a reader who knows no statistics, at most MOST_WORDS words.
        numbers: the estimates that it rests on; empty where there are none.
        basis: patterns, seeds and what the seeds see, which is the same for all measures of a stratum.
        more: what it would take to know more; empty where nothing would help.
        measure: column of the measure.
        outcome: outcome that it is judged by.
    """

    status: str
    sentence: str
    numbers: str = ""
    basis: str = ""
    more: str = ""
    measure: str = ""
    outcome: str = OUTCOMES[0]


def word_judgement(judgement: Judgement, learning: Learning | None = None, primary: str = OUTCOMES[0]) -> Verdict:
    """Return what one stratum says of a measure, in words.

    Args:
        learning: accuracy next to what guessing reaches, which the status not_trained rests on.
        primary: the outcome that it would be judged by, where no pattern has any.
    """
    outcome = judgement.outcome or primary
    return Verdict(
        status=judgement.status,
        sentence=_say(judgement, outcome),
        numbers=_count(judgement, outcome, learning),
        basis=_describe_basis(judgement),
        more=_advise(judgement),
        measure=judgement.measure,
        outcome=outcome,
    )


def word_pooled(pooled: Pooled, statuses: Sequence[str], outcome: str) -> Verdict:
    """Return what several strata together say of a measure, in words.

    Args:
        statuses: status of the measure in each stratum.
        outcome: outcome that they are judged by.
    """
    return Verdict(
        status=pooled.status,
        sentence=_say_pooled(pooled, statuses, outcome),
        numbers=_count_pooled(pooled, outcome),
        more=_advise_pooled(pooled),
        measure=pooled.measure,
        outcome=outcome,
    )


def summarise_verdicts(verdicts: Mapping[str, Verdict], pooled: Pooled | None = None) -> Verdict:
    """Return the verdict on one measure over several strata: the pooled one where there is one.

    Args:
        verdicts: name of a stratum -> its verdict on the measure.
        pooled: the measure over all strata.

    Raises:
        ValueError: no stratum.
    """
    if not verdicts:
        raise ValueError("there is no stratum to summarise; give at least one")
    first, statuses = next(iter(verdicts.values())), [verdict.status for verdict in verdicts.values()]
    if len(verdicts) == 1:
        return first
    if pooled is not None:
        return word_pooled(pooled, statuses, first.outcome)
    listed = "; ".join(f"{name}: {IN_WORDS[verdict.status]}" for name, verdict in verdicts.items())
    if len(set(statuses)) == 1:
        return replace(first, numbers=f"The same in each of {len(verdicts)} settings.", basis="")
    sentence = f"The {len(verdicts)} settings give different answers."
    return Verdict("mixed", sentence, numbers=f"{listed}.", measure=first.measure, outcome=first.outcome)


def _name(outcome: str) -> str:
    return refer_to(shorten(outcome))


def _say(judgement: Judgement, outcome: str) -> str:
    name, status = name_in_sentence(judgement.measure), judgement.status
    if status == "inconclusive":
        return _say_nothing(judgement, name, outcome)
    if status == "u_shaped" and judgement.shape is not None:
        is_low = judgement.shape.middle_is_best == is_lower_better(outcome)
        ends = "lowest at middling {} and rises" if is_low else "highest at middling {} and falls"
        return f"{capitalise(_name(outcome))} is {ends.format(name)} towards both ends."
    if status in ("supported", "reversed"):
        return f"{capitalise(relate(judgement.measure, status, outcome))}, in every comparison made."
    if status == "depends":
        return _say_depends(judgement.measure, judgement.effects, outcome)
    return {
        "not_trained": "These networks have learned nothing, so where connections go cannot be judged.",
        "unresolved": "These seeds cannot tell the patterns apart, so there is nothing to explain yet.",
        "nothing_left": f"Once other measures are held equal, these seeds see nothing left for {name} to explain.",
        "negligible": f"{capitalise(name)} hardly matters to {_name(outcome)} once other measures are held equal.",
    }[status]


def _say_nothing(judgement: Judgement, name: str, outcome: str) -> str:
    n = judgement.n_patterns
    if n == 0:
        return f"Whether {name} matters is unknown: no pattern was drawn at random or laid out, as a study does."
    if n < MIN_PATTERNS:
        return f"Too few patterns to say whether {name} matters: {n}, and it takes {MIN_PATTERNS}."
    if not judgement.effects:
        return f"Whether {name} matters is unknown, because some patterns come without it."
    if all(effect.partial.value is None for effect in judgement.effects):
        return f"{capitalise(name)} or the outcome does not vary here beyond other measures, so nothing is said."
    return f"This study cannot say whether {name} matters to {_name(outcome)}."


def _say_depends(measure: str, effects: Sequence[AnyEffect], outcome: str) -> str:
    signs = {effect.sign for effect in effects if effect.is_detected}
    if len(signs) > 1:
        return (
            f"{capitalise(name_in_sentence(measure))} goes with {_name(outcome)} in opposite directions, depending on "
            "which other measures are held equal."
        )
    status = "supported" if (signs == {1}) == is_lower_better(outcome) else "reversed"
    return f"Whether {relate(measure, status, outcome)} depends on which other measures are held equal."


def _say_pooled(pooled: Pooled, statuses: Sequence[str], outcome: str) -> str:
    name, status = name_in_sentence(pooled.measure), pooled.status
    if pooled.differs:
        return f"{capitalise(name)} goes with {_name(outcome)} in opposite directions in different settings."
    if status in ("supported", "reversed"):
        where = "in every setting judged" if set(statuses) == {status} else "over all settings together"
        return f"{capitalise(relate(pooled.measure, status, outcome))}, {where}."
    if status == "depends":
        return _say_depends(pooled.measure, pooled.effects, outcome)
    return {
        "unresolved": "In no setting can these seeds tell the patterns apart, so there is nothing to explain yet.",
        "negligible": f"On average, {name} hardly matters to {_name(outcome)} once other measures are held equal.",
    }.get(status, f"Over all settings together, this study cannot say whether {name} matters to {_name(outcome)}.")


def _count(judgement: Judgement, outcome: str, learning: Learning | None) -> str:
    if judgement.status == "not_trained" and learning is not None:
        return f"{capitalise(explain_unlearned(learning))}."
    parts = []
    if judgement.status == "u_shaped" and (shape := judgement.shape) is not None:
        parts.append(
            f"It turns where {name_measure(judgement.measure)} is {shape.turning_point:.2f}; the slopes on both sides "
            f"are opposite under every control, p {format_p(shape.p_holm)} (Holm)"
        )
    if judgement.status == "nothing_left":
        left = [each for each in judgement.effects if each.has_nothing_left and each.resolution is not None]
        parts += [
            f"F test of the patterns with {name_held(each)} held: p {format_p(each.resolution.p_value)}"
            for each in left
            if each.resolution is not None
        ]
    if summary := _summarise(judgement.measure, judgement.effects, outcome):
        parts.append(summary)
    return f"{'. '.join(parts)}." if parts and judgement.status != "unresolved" else ""


def _count_pooled(pooled: Pooled, outcome: str) -> str:
    summary = _summarise(pooled.measure, pooled.effects, outcome)
    if pooled.status == "unresolved" or not summary:
        return ""
    least = min(effect.q_p_value for effect in pooled.effects)
    differ = "differ from one another" if least <= ALPHA else "do not visibly differ"
    return f"{summary}; the {len(pooled.strata)} settings pooled {differ} (Q test, least p {format_p(least)})."


def _describe_basis(judgement: Judgement) -> str:
    text, noise = f"{judgement.n_patterns} patterns x {judgement.n_seeds} seeds", judgement.resolution
    if noise is not None:
        text += (
            f"; F test of whether they differ: p {format_p(noise.p_value)}; a perfect predictor would show a "
            f"correlation of {noise.ceiling:.2f} [{noise.low:.2f}, {noise.high:.2f}] at these seeds"
        )
    return f"{text}."


def _summarise(measure: str, effects: Sequence[AnyEffect], outcome: str) -> str:
    """Return the range of a measure's correlations under its controls, and the weakest with its interval."""
    known = [effect for effect in effects if read_estimate(effect).value is not None]
    weakest = find_weakest(effects)
    if weakest is None:
        return ""
    own = read_estimate(weakest)
    values = [read_estimate(effect).value for effect in known]
    several = f"{format_range(values)} under {len(known)} controls; the weakest " if len(known) > 1 else ""
    return (
        f"{capitalise(name_measure(measure))}, partial rank correlation with {refer_to(outcome)}: {several}"
        f"{format_signed(own.value)} with {name_held(weakest)} held, {100 * CONFIDENCE:.0f} % interval "
        f"{format_interval(own.low, own.high)}, p {format_p(weakest.p_holm)} (Holm)"
    )


def find_weakest(effects: Sequence[AnyEffect]) -> AnyEffect | None:
    """Return the effect under the control that leaves the least of it; None where none is known."""
    known = [effect for effect in effects if read_estimate(effect).value is not None]
    return min(known, key=lambda effect: abs(read_estimate(effect).value or 0.0), default=None)


class Shown(NamedTuple):
    """A correlation with its interval, of one stratum or pooled."""

    value: float | None
    low: float | None
    high: float | None


def read_estimate(effect: AnyEffect) -> Shown:
    """Return the correlation of an effect with its interval."""
    own = effect.partial if isinstance(effect, ControlledEffect) else effect
    return Shown(own.value, own.low, own.high)


def format_range(values: Sequence[float | None]) -> str:
    """Return the least and the largest of several correlations, or the only one.

    >>> format_range([0.25, None, -0.5]), format_range([0.25]), format_range([None])
    ('-0.50 to +0.25', '+0.25', '-')
    """
    known = sorted({format_signed(value): value for value in values if value is not None}.values())
    if len(known) < 2:
        return format_signed(known[0]) if known else NONE
    return format_interval(known[0], known[-1])


def name_held(effect: AnyEffect) -> str:
    """Return the measures that are held, in words."""
    return " and ".join(map(name_measure, effect.given))


def _advise(judgement: Judgement) -> str:
    """Say what it would take to know more of a measure in one stratum."""
    status = judgement.status
    if status == "unresolved" and judgement.resolution is not None:
        return _advise_seeds(judgement.resolution)
    if status == "nothing_left":
        left = [each.resolution for each in judgement.effects if each.has_nothing_left and each.resolution is not None]
        return _advise_seeds(min(left, key=lambda each: each.single_seed)) if left else ""
    if status == "inconclusive":
        return _advise_patterns(judgement)
    if status == "u_shaped" and judgement.shape is not None:
        return f"More patterns on both sides of {judgement.shape.turning_point:.2f} would place the turn better."
    return _advise_by_status(status, judgement.effects, name_in_sentence(judgement.measure))


def _advise_pooled(pooled: Pooled) -> str:
    if pooled.differs:
        return "What decides the direction takes settings that differ in one thing, such as only the learning rate."
    if pooled.status == "unresolved":
        return "More seeds of each pattern, or longer training; each setting's part says how many seeds."
    if pooled.status == "inconclusive":
        return (
            f"An effect of 0 takes at least {count_for_negligible()} patterns, summed over settings, to be shown "
            "negligible; less noise, by more seeds, brings the number down to this."
        )
    return _advise_by_status(pooled.status, pooled.effects, name_in_sentence(pooled.measure))


def _advise_by_status(status: str, effects: Sequence[AnyEffect], name: str) -> str:
    if status == "depends":
        lost = [effect for effect in effects if not effect.is_detected]
        held = name_held(lost[0]) if lost else ""
        return f"Patterns in which {name} varies while {held} does not, by 'study --cross'." if held else ""
    return {
        "not_trained": "Longer training, or another learning rate: 'study --tune-lr' tries several.",
        "supported": "Whether it holds elsewhere takes other depths, budgets, data and learning rates.",
        "reversed": "Whether it holds elsewhere takes other depths, budgets, data and learning rates.",
        "negligible": f"Effects smaller than \u00b1{MARGIN:g} of what can be explained would take more patterns.",
    }.get(status, "")


def _advise_seeds(noise: Resolution) -> str:
    """Say how many seeds it takes until the F test finds that patterns differ."""
    n_seeds = count_seeds(noise.single_seed, noise.n_patterns)
    if n_seeds is None:
        return (
            "More seeds may not do: by the best estimate hardly any of the variance is the patterns'. Longer training "
            "or patterns that differ more may."
        )
    return (
        f"About {max(n_seeds, round(noise.n_seeds) + 1)} seeds of each pattern would tell them apart with "
        f"{100 * POWER:.0f} % chance, if {100 * noise.single_seed:.0f} % of the variance of one training is the "
        "pattern's, as estimated here."
    )


def _advise_patterns(judgement: Judgement) -> str:
    if judgement.n_patterns < MIN_PATTERNS:
        return f"At least {MIN_PATTERNS} patterns, drawn at random or by a design; {count_for_negligible()} say more."
    if all(each.partial.value is None for each in judgement.effects):
        return ""
    ceilings = [each.resolution.ceiling for each in judgement.effects if each.resolution is not None]
    least = min(ceilings, default=0.0)
    if least <= 0:
        return "Repeats: only several seeds of each pattern tell patterns from noise."
    return (
        f"About {count_for_negligible(least)} patterns, summed over settings, would show an effect of 0 to be "
        f"negligible at this noise; there are {judgement.n_patterns}."
    )
