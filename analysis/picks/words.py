"""What a search found, in words for the report and the terminal: never more than the intervals say."""

import math
from collections.abc import Iterator, Sequence

from analysis.data.outcomes import Objective, is_lower_better
from analysis.page.wording import (
    UNITS,
    capitalise,
    choose_digits,
    count_digits,
    count_nouns,
    enumerate_words,
    name_outcome,
    relate,
)
from analysis.picks.expect import Expected, Gain
from analysis.picks.found import ENOUGH_PATTERNS, MAX_TRAININGS, Found, RankedPattern

UNLEARNED = "No pattern is recommended: the networks have learned nothing."
REASONS = {
    "few": "it takes {least} patterns to say what to expect at a new seed, and there are {patterns}",
    "many": "what to expect at a new seed is said of at most {most:,} trainings, and there are {trainings:,}",
    "unequal": "patterns of different numbers of connections do not say what to expect of one another",
    "no_logarithm": "some losses are not above 0, and what to expect at a new seed is said of logarithms",
    "unknown": "the run does not say how many validation images it has, which it takes to say what to expect",
}


def list_answers(picks: Sequence[Found]) -> list[str]:
    """Say of every budget what a search found, one sentence each."""
    if len(picks) == 1:
        return [answer_found(picks[0])]
    return [f"{name_found(found)}: {answer_found(found)}" for found in picks]


def name_found(found: Found) -> str:
    """Return the name of a budget of a search with several."""
    return f"{found.layers} layers, {found.regime or found.budget}"


def answer_found(found: Found) -> str:
    """Say what a search found at one budget, and what it gained over `log` and over a random draw."""
    pick = found.pick
    if found.basis == "unlearned":
        return UNLEARNED
    name = f"template {pick.template}" if pick.template else pick.key[:12]
    if pick.expected is None:
        trainings = count_nouns(pick.n_trainings, "training")
        return (
            f"The best mean is that of {name}: {format_observed(pick)} over {trainings}. It was picked by this number, "
            f"so expect less of it. Nothing more is said: {_give_reason(found)}."
        )
    clauses = [f"The search found {name}: {format_expected(pick.expected, found.objective)} at a new seed"]
    clauses += _list_gains(found)
    if all(each.n_trainings < 2 for each in found.ranked):
        clauses.append("no pattern was trained twice, so what another seed changes is assumed, not measured")
    return f"{'; '.join(clauses)}."


def _give_reason(found: Found) -> str:
    n_trainings = sum(each.n_trainings for each in found.ranked)
    numbers = {"least": ENOUGH_PATTERNS, "most": MAX_TRAININGS, "patterns": len(found.ranked), "trainings": n_trainings}
    return REASONS[found.basis].format(**numbers)


def _list_gains(found: Found) -> Iterator[str]:
    if found.log is not None:
        yield describe_gain(found.log, "template log", found.objective)
    elif found.over_template is not None and found.template is not None:
        yield describe_gain(found.over_template, f"template {found.template.name}", found.objective)
    if found.random is not None:
        yield describe_gain(found.random.gain, "a random draw", found.objective)


def describe_over_template(found: Found) -> str:
    """Say how the pick compares with the best named template; empty where that is `log`, which the answer names."""
    if found.over_template is None or found.template is None or found.log is None or found.template.template == "log":
        return ""
    over = describe_gain(found.over_template, f"template {found.template.name}", found.objective)
    return f"Next to the best named template: {over}."


def describe_gain(gain: Gain, whom: str, objective: Objective) -> str:
    """Say how the pick compares with something else; a clause.

    >>> from analysis.data.outcomes import OUTCOMES
    >>> of = Expected(0.2, 0.1, 0.3)
    >>> loss, accuracy = map(Objective, OUTCOMES)
    >>> describe_gain(Gain(-0.14, -0.22, -0.05, 0.9982, of), "template log", loss)
    '14 % [5, 22] lower loss than template log, chance over 99 %'
    >>> describe_gain(Gain(-0.0197, -0.0376, -0.0018, 0.982, of), "template log", loss)
    '2.0 % [0.2, 3.8] lower loss than template log, chance 98 %'
    >>> describe_gain(Gain(-0.06, -0.131, 0.019, 0.93, of), "a random draw", accuracy)
    'not told apart from a random draw: 6 % [-2, 13] fewer errors, chance 93 %'
    """
    scale = 100 if objective.is_ratio else 1
    less = -scale * gain.change
    low, high = (-scale * gain.high, -scale * gain.low) if less >= 0 else (scale * gain.low, scale * gain.high)
    if objective.is_ratio:
        digits = count_digits(low, high)
        amount = f"{abs(less):.{digits}f} % [{low:z.{digits}f}, {high:z.{digits}f}]"
    else:
        amount = f"{abs(less):.3g} [{low:.3g}, {high:.3g}]"
    size, chance = f"{amount} {_name_change(objective, is_better=less >= 0)}", format_chance(gain.chance)
    if gain.is_shown:
        return f"{size} than {whom}, chance {chance}"
    return f"not told apart from {whom}: {size}, chance {chance}"


def _name_change(objective: Objective, is_better: bool) -> str:
    if objective.is_share:
        return "fewer errors" if is_better else "more errors"
    return f"{'lower' if is_better == is_lower_better(objective.outcome) else 'higher'} {objective}"


def format_chance(chance: float | None) -> str:
    """Return a chance in per cent, never as certain.

    >>> format_chance(0.931), format_chance(0.998), format_chance(0.001), format_chance(None)
    ('93 %', 'over 99 %', 'under 1 %', '-')
    """
    if chance is None:
        return "-"
    percent = 100 * chance
    return "over 99 %" if percent > 99 else "under 1 %" if percent < 1 else f"{percent:.0f} %"


def format_expected(expected: Expected, objective: Objective) -> str:
    """Return an expected outcome and its interval.

    >>> from analysis.data.outcomes import OUTCOMES
    >>> loss, accuracy = map(Objective, OUTCOMES)
    >>> format_expected(Expected(0.12345, 0.1, 0.15), loss), format_expected(Expected(0.912, 0.9, 0.923), accuracy)
    ('expected loss 0.123 [0.100, 0.150]', 'expected accuracy 91.2 % [90.0, 92.3]')
    """
    interval = f"[{format_outcome(expected.low, objective)}, {format_outcome(expected.high, objective)}]"
    percent = " %" if objective.is_share else ""
    return f"expected {objective} {format_outcome(expected.value, objective)}{percent} {interval}"


def format_observed(ranked: RankedPattern) -> str:
    """Return a pattern's mean outcome with its name."""
    percent = " %" if ranked.objective.is_share else ""
    return f"{ranked.objective} {format_outcome(ranked.observed, ranked.objective)}{percent}"


def format_outcome(value: float, objective: Objective) -> str:
    """Return a loss in nats, an accuracy in per cent, or another metric with four digits; without its unit."""
    if objective.is_share:
        return f"{100 * value:.1f}"
    return f"{value:.3f}" if objective.outcome in UNITS else f"{value:.{choose_digits(value)}f}"


def describe_tried(found: Found) -> str:
    """Say what was tried, and how often."""
    parts = [
        f"{count_nouns(tried.n_patterns, 'pattern')} by {tried.strategy} in "
        f"{count_nouns(tried.n_trainings, 'training')}"
        for tried in found.tried
    ]
    return f"Tried: {enumerate_words(parts)}."


def describe_measures(found: Found) -> str:
    """Say which measures the model leans on; empty where none says much."""
    parts = [
        f"{relate(measure, 'supported' if change > 0 else 'reversed', found.objective.outcome)} "
        f"(by {_format_change(abs(change), found.objective)} for a standard deviation)"
        for measure, change in found.telling.items()
    ]
    if not parts:
        return ""
    together = ". Measures that go together share what they explain" if len(parts) > 1 else ""
    return f"The model leans most on this: {'; '.join(parts)}{together}."


def _format_change(change: float, objective: Objective) -> str:
    return f"{100 * math.expm1(change):.0f} %" if objective.is_ratio else f"{change:.2g}"


def describe_random(found: Found) -> str:
    """Say what stands for a random draw; empty without one."""
    if found.random is None:
        return ""
    of = "those that this run trained" if found.random.are_trained else "predicted by the model"
    expected = format_expected(found.random.gain.expected, found.objective)
    return f"{capitalise(f'a random draw: {expected}')}, over {found.random.n_patterns} uniform draws, {of}."


def conclude_found(found: Found) -> str:
    """Say in one short sentence which pattern to take at one budget, and what it gains over `log` or another."""
    pick = found.pick
    if found.basis == "unlearned":
        return UNLEARNED
    name = name_ranked(pick)
    if pick.expected is None:
        return _conclude_observed(found, name)
    if pick.template == "log":
        return "Template log comes first: no other pattern tried is expected to do better."
    rival = _choose_rival(found)
    if rival is None:
        return f"{capitalise(name)} comes first of {len(found.ranked)}; there is no template to compare it with."
    gain, whom = rival
    if gain.is_shown and gain.change < 0:
        low, high = (-gain.high, -gain.low)
        return f"Take {name}: expect {format_change(-gain.change, low, high, found.objective)} than {whom}."
    return f"{capitalise(name)} is not told apart from {whom}: {format_span(gain.low, gain.high, found.objective)}."


def _conclude_observed(found: Found, name: str) -> str:
    """Say which mean is the best, where nothing is said of new seeds, and why it is not.

    Patterns that lack seeds come after all others, whatever their means.
    """
    n_full = sum(not each.order[0] for each in found.ranked)
    if len(found.ranked) == 1:
        return f"{capitalise(name)} is the only pattern trained, so there is nothing to compare it with."
    if n_full == 1:
        return f"{capitalise(name)} is the only pattern trained with all seeds: too few to say more."
    which = f"Of {n_full} patterns" + (" with all seeds" if n_full < len(found.ranked) else "")
    best = f"{which}, {name} has the best mean {name_outcome(found.objective)}"
    if found.basis == "few":
        return f"{best}: too few to say more."
    return f"{best}, but they differ in size." if found.basis == "unequal" else f"{best}, so expect less of it."


def _choose_rival(found: Found) -> tuple[Gain, str] | None:
    """Return what the pick is compared with first: `log`, or else the best template, or else a random draw."""
    if found.log is not None:
        return found.log, "template log"
    if found.over_template is not None and found.template is not None:
        return found.over_template, name_ranked(found.template)
    return None if found.random is None else (found.random.gain, "a random draw")


def name_ranked(ranked: RankedPattern) -> str:
    """Return what a pattern is called in a sentence."""
    return f"template {ranked.template}" if ranked.template else f"pattern {ranked.key[:12]}"


def format_change(value: float, low: float, high: float, objective: Objective) -> str:
    """Return a gain, as a share where the objective is a ratio, and its interval; rounded to its noise.

    >>> from analysis.data.outcomes import OUTCOMES
    >>> loss, accuracy = map(Objective, OUTCOMES)
    >>> format_change(0.303, 0.181, 0.392, loss), format_change(0.0123, 0.007, 0.0176, accuracy)
    ('30 % lower loss (18 to 39 %)', '1.2 % fewer errors (0.7 to 1.8 %)')
    """
    scale, unit = (100, " %") if objective.is_ratio else (1, "")
    digits = count_digits(scale * low, scale * high)
    size, least, most = (f"{scale * each:.{digits}f}" for each in (value, low, high))
    return f"{size}{unit} {_name_change(objective, is_better=True)} ({least} to {most}{unit})"


def format_span(low: float, high: float, objective: Objective) -> str:
    """Return an interval of changes, less is better, that has 0 inside: from the worst case to the best.

    >>> from analysis.data.outcomes import OUTCOMES
    >>> loss, accuracy = map(Objective, OUTCOMES)
    >>> format_span(-0.131, 0.019, loss), format_span(-0.131, 0.019, accuracy)
    ('between 2 % higher and 13 % lower loss', 'between 2 % more and 13 % fewer errors')
    """
    scale, unit = (100, " %") if objective.is_ratio else (1, "")
    digits = count_digits(scale * low, scale * high)
    worse, better = (f"{scale * abs(end):.{digits}f}{unit}" for end in (high, low))
    side = _name_change(objective, is_better=False).partition(" ")[0]
    return f"between {worse} {side} and {better} {_name_change(objective, is_better=True)}"
