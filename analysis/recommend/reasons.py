"""Why to take a pattern, in words: what it is, and what the committed studies say of such a choice."""

import math
from collections.abc import Callable, Sequence

from analysis.page.wording import enumerate_words, format_interval, format_signed
from analysis.recommend.evidence import DISTANCE, MODEL, WALK, LossChange, MeanOverData, Merit, read_lessons
from analysis.recommend.options import Option, Options
from search_spaces.budget import Budget
from search_spaces.sampling.bounds import certify, find_extreme_walk

SHORTEST_WALK = "shortest_walk"  # the template
LEGEND = (
    "Expected: the loss by the model, in standard deviations of a setting's patterns. Beats: the share of the patterns "
    "drawn in a setting (data, layers, budget) that lost more. Loss: compared with their mean. Intervals are 95 %: of "
    "a setting over seeds, otherwise over data sets. Walk: the mean number of layers that a random walk back from the "
    "output visits. Mean BD: the mean backprop distance, in hops. Gap: how far that is above a proven bound."
)


def recommend_first(options: Options) -> str:
    """Say in a few sentences what to take, and on what evidence."""
    best, pooled = options.options[0], read_lessons().shares[MODEL]
    taken = best.label if best.name is not None else f"the {best.label}"
    if _is_only(options.budget):
        return f"Take {taken}: no other pattern has this budget, so there is nothing to choose."
    return (
        f"Take {taken}: a model that learned from the committed studies expects the lowest loss of it. In "
        f"{pooled.n_settings} settings of {pooled.n_data} data sets, each new to the model, its choice among "
        f"those trained there beats {describe_beaten(pooled)} of the drawn patterns. "
        f"{_place(options.budget)}"
    )


def _is_only(budget: Budget) -> bool:
    """Return whether a budget leaves no choice, as that of the chain does."""
    return budget.count_up_to(2) == 1


def list_caveats() -> list[str]:
    """Say what the advice does not rest on."""
    lessons = read_lessons()
    unresolved = [setting.name for setting in lessons.settings.values() if not setting.is_resolved]
    low, rho = [setting.rho for setting in lessons.undertrained if setting.is_resolved], lessons.rho
    return [
        "Train at a good learning rate. The model prefers short random walks from output to input. The rank "
        f"correlation of walk length with the loss is {format_signed(rho.value)} {_bracket(rho.low, rho.high, 2)} in "
        f"these settings, but {format_interval(min(low), max(low))} at rate 0.05, the lowest that was tried.",
        f"All these networks were small. In {enumerate_words(unresolved)} the seeds could not tell patterns apart.",
    ]


def _place(budget: Budget) -> str:
    """Say whether this depth and budget were measured."""
    lessons = read_lessons()
    settings = [each for each in lessons.settings.values() if each.is_resolved]
    settings += lessons.checked.values()
    alike = [setting for setting in settings if setting.layers == budget.depth]
    same = [setting.name for setting in alike if setting.budget == str(budget)]
    if same:
        return f"This depth and budget were measured: {enumerate_words(list(dict.fromkeys(same)))}."
    if alike:
        names = enumerate_words(list(dict.fromkeys(setting.name for setting in alike)))
        return f"Nothing was measured at this budget, but at this depth: {names}."
    depths = enumerate_words([str(depth) for depth in sorted({setting.layers for setting in settings})])
    return f"Nothing was measured at {budget.depth} layers, only at {depths}."


def give_reason(option: Option, options: Options) -> str:
    """Say why a pattern is where it is in the list."""
    if _is_only(options.budget):
        return "It is the only pattern of this budget."
    parts = [_ROLES[role](option, options.budget) for role in option.roles]
    if option.name == SHORTEST_WALK:
        parts.append(_describe_walk(options.budget))
    parts.append(f"Shorter walks than {100 * option.shorter:.0f} % of uniform draws.")
    lessons = read_lessons()
    if option.name is not None:
        parts.append(_describe_trainings(lessons.list_merits(option.name), options.budget))
    checks = [merit for merit in lessons.checks if merit.choice in (option.name, *option.roles)]
    if checks:
        parts.append(f"Checked in {'; '.join(_describe_check(merit) for merit in checks)}.")
    return " ".join(parts)


def _describe_walk(budget: Budget) -> str:
    proven = find_extreme_walk(budget, -1) is not None
    least = "No pattern of this budget has shorter walks." if proven else "The shortest walks found."
    lessons = read_lessons()
    return (
        f"{least} The shortest walk of those trained beats {describe_beaten(lessons.shares[WALK])} of the drawn "
        f"patterns, that is {_points(lessons.model_less_walk)} compared with the model's choice: not told apart."
        + (" At such a budget by layer, those trained had longer walks than this one." if proven else "")
    )


def _describe_distance(option: Option, budget: Budget) -> str:
    certificate, pooled = certify(option.pattern, budget), read_lessons().shares[DISTANCE]
    proven = "proven" if certificate.gap == 0 else f"{100 * certificate.gap:.1f} % above a proven bound"
    return (
        f"The shortest mean backprop distance found, {proven}. Such a choice beats {describe_beaten(pooled)} of the "
        "drawn patterns: that short distances help is not shown."
    )


def _describe_model(option: Option, budget: Budget) -> str:  # noqa: ARG001  all roles share one form
    return "The least expected loss that a short search found."


_ROLES: dict[str, Callable[[Option, Budget], str]] = {DISTANCE: _describe_distance, MODEL: _describe_model}


def _describe_trainings(merits: Sequence[Merit], budget: Budget) -> str:
    """Say how a template did where it was trained."""
    if not merits:
        return "It was trained in none of the settings."
    settings = read_lessons().settings
    is_same = any(settings[each.setting].budget == str(budget) for each in merits)
    places = [f"{each.setting}: {describe_merit(each)}" for each in merits]
    return f"Trained{'' if is_same else ', though at other budgets,'} in {'; '.join(places)}."


def _describe_check(merit: Merit) -> str:
    compared = f", or {_change(merit.from_log)} compared with log" if merit.choice == MODEL and merit.from_log else ""
    return f"{merit.setting}: {describe_merit(merit)}{compared}"


def describe_merit(merit: Merit) -> str:
    """Say how many of the draws a choice beat, and how its loss compared with their mean."""
    return f"beats {100 * (1 - merit.share):.0f} %, loss {_change(merit.from_draws)}"


def _change(change: LossChange) -> str:
    """Return a difference of log losses as a change in per cent, with its interval."""
    low, high = (None if end is None else 100 * math.expm1(end) for end in (change.low, change.high))
    return f"{format_signed(100 * math.expm1(change.value), 0)} % {_bracket(low, high)}"


def describe_beaten(share: MeanOverData) -> str:
    """Return the share of draws that a choice beats, given the share that beats it."""
    low, high = (None if end is None else 100 * (1 - end) for end in (share.high, share.low))
    interval = "" if low is None or high is None else f" [{low:.0f}, {high:.0f}]"
    return f"{100 * (1 - share.value):.0f} %{interval}"


def _points(apart: MeanOverData) -> str:
    """Return how many more of the draws the second of two choices beats, given how many more beat the first."""
    low, high = (None if end is None else 100 * end for end in (apart.low, apart.high))
    return f"{format_signed(100 * apart.value, 0)} points {_bracket(low, high)}"


def _bracket(low: float | None, high: float | None, digits: int = 0) -> str:
    return "" if low is None or high is None else f"[{format_signed(low, digits)}, {format_signed(high, digits)}]"
