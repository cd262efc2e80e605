"""Outcomes of earlier trainings, of other settings too, as evidence about the patterns of a budget.

A pattern is not equally good in two settings, and a loss has another level in each. So an earlier outcome is taken as

    level of its setting + linear part + curved part + the pattern's own deviation + its deviation there + noise.

Nothing is assumed of the level: adding a number to all outcomes of a setting changes nothing. The linear part, the
curved part and the pattern's own deviation are those of this run's model. The deviation there belongs to that setting
only, with the variance of the own one, so that no number of earlier trainings makes a pattern certain.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

import numpy as np

from search_spaces.pattern import ConnectionPattern

MOST = 200  # patterns of a budget that a model takes: the time of a proposal grows with the third power
N_BEST = 50  # of them, the best; the others are spread evenly over the ranks of the rest


@dataclass(frozen=True, slots=True)
class EarlierTraining:
    """One finished training of before.

    Args:
        setting: name of what it was trained with; levels of different settings are not compared.
        seed: its seed; None where it is not known.
        cost: what it cost, by `target`.
    """

    pattern: ConnectionPattern
    setting: str
    seed: int | None
    cost: float


@dataclass(frozen=True, slots=True)
class EarlierOutcome:
    """What a pattern cost in one setting.

    Args:
        cost: mean over its trainings, without the seeds' own levels.
        count: number of its trainings.
    """

    pattern: ConnectionPattern
    setting: str
    cost: float
    count: int


def average_earlier(trainings: Sequence[EarlierTraining], most: int = MOST) -> tuple[EarlierOutcome, ...]:
    """Return the outcome of each pattern in each setting, the best of a setting first, and at most so many.

    A seed's level is the mean over its trainings of what each costs more than its pattern's mean. Where every pattern
    was trained with every seed, these are the effects of a two-way analysis of variance.
    """
    by_setting: dict[str, list[EarlierTraining]] = defaultdict(list)
    for training in trainings:
        by_setting[training.setting].append(training)
    share = most // max(len(by_setting), 1)
    averaged = (_average(name, of_setting) for name, of_setting in sorted(by_setting.items()))
    return tuple(outcome for outcomes in averaged for outcome in _thin_out(outcomes, share))


def _average(setting: str, trainings: Sequence[EarlierTraining]) -> list[EarlierOutcome]:
    by_pattern: dict[ConnectionPattern, list[EarlierTraining]] = defaultdict(list)
    for training in trainings:
        by_pattern[training.pattern].append(training)
    means = {pattern: fmean(each.cost for each in group) for pattern, group in by_pattern.items()}
    excess: dict[int | None, list[float]] = defaultdict(list)
    for training in trainings:
        excess[training.seed].append(training.cost - means[training.pattern])
    levels = {seed: 0.0 if seed is None else fmean(values) for seed, values in excess.items()}
    outcomes = [
        EarlierOutcome(pattern, setting, fmean(each.cost - levels[each.seed] for each in group), len(group))
        for pattern, group in by_pattern.items()
    ]
    return sorted(outcomes, key=lambda outcome: (outcome.cost, outcome.pattern.key))


def _thin_out(outcomes: list[EarlierOutcome], most: int) -> list[EarlierOutcome]:
    """Keep the best N_BEST, or a quarter where fewer are kept, and others at even distances in rank."""
    if len(outcomes) <= most:
        return outcomes
    n_best = min(N_BEST, most // 4)
    places = np.linspace(n_best, len(outcomes) - 1, most - n_best).round().astype(int).tolist()
    return [*outcomes[:n_best], *(outcomes[place] for place in places)]
