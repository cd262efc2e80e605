"""The strategy tpe: Optuna's TPE sampler over distances and span."""

from collections.abc import Set
from functools import cache

import optuna
from optuna.distributions import FloatDistribution
from optuna.trial import TrialState, create_trial

from nas.search.strategy import draw_unknown, walk_to_unknown
from search_spaces.budget import Budget
from search_spaces.distance import describe
from search_spaces.pattern import ConnectionPattern
from search_spaces.sampling.cells import Cell, find_reach, sample_towards
from search_spaces.sampling.goals import Band
from search_spaces.seeds import derive_generator, derive_seed

TARGETS = ("mean_bd", "span", "from_output_mean")
HALF_WIDTH = 0.02  # of the band around a target, as a share of the range that the budget reaches
N_STARTUP = 10  # patterns with an outcome before the sampler is used
MAX_RATIO = 2.0  # largest target distance over the least; most of the range lies beyond, without patterns of interest
N_DRAWS = 5  # chains towards one target, until one ends at a new pattern


class TpeStrategy:
    """Tree-structured Parzen estimator (Bergstra et al., NeurIPS 2011) over mean BD, span and from-output distance.

    Optuna's sampler draws a target, given the measures and accuracies of earlier patterns. Annealing then finds a
    pattern of exactly the budget that meets the target, or comes near it. The first N_STARTUP patterns are random.
    """

    learns = True

    def __init__(self, budget: Budget, seed: int) -> None:
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self._budget = budget
        self._seed = seed
        self._study = optuna.create_study(direction="maximize")
        self._n_told = 0

    def ask(self, number: int, known: Set[str]) -> ConnectionPattern | None:
        if self._n_told < N_STARTUP:
            return draw_unknown(self._budget, known, derive_generator(self._seed, "tpe", number))
        cell = self._draw_target(number)
        for draw in range(N_DRAWS):
            generator = derive_generator(self._seed, "tpe", number, draw)
            pattern = sample_towards(self._budget, cell, generator)
            if pattern.key not in known:
                return pattern
        return walk_to_unknown(pattern, self._budget, known, generator)

    def _draw_target(self, number: int) -> Cell:
        """Return a narrow band around each of the sampler's values."""
        # A new sampler for each proposal: the generator of a shared one would be lost with the process.
        seed = derive_seed(self._seed, "tpe", number) % 2**32
        self._study.sampler = optuna.samplers.TPESampler(n_startup_trials=N_STARTUP, seed=seed)
        window = _find_window(self._budget)
        trial = self._study.ask({**window})
        self._study.tell(trial, state=TrialState.FAIL)  # the sampler ignores failed trials
        half = {name: HALF_WIDTH * (target.high - target.low) for name, target in window.items()}
        return Cell({name: Band(value - half[name], value + half[name]) for name, value in trial.params.items()})

    def tell(self, pattern: ConnectionPattern, validation_accuracy: float | None) -> None:
        if validation_accuracy is None:
            return
        row = describe(pattern)
        window = _find_window(self._budget)
        # Optuna refuses values outside the range, which patterns may have: the end of the range replaces them.
        params = {name: min(max(row[name], window[name].low), window[name].high) for name in TARGETS}
        self._study.add_trial(create_trial(value=validation_accuracy, params=params, distributions={**window}))
        self._n_told += 1


@cache
def _find_window(budget: Budget) -> dict[str, FloatDistribution]:
    """Return the range of each target."""
    window = {}
    for name, (low, high) in find_reach(budget, TARGETS).items():
        high = high if name == "span" else min(high, MAX_RATIO * low)
        window[name] = FloatDistribution(low, max(high, low + 1e-9))  # Optuna refuses an empty range
    return window
