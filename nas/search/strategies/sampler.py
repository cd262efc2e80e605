"""Samplers of Optuna as strategies: one suggests values of measures, and the pattern nearest to them is trained."""

import inspect
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from importlib import import_module
from itertools import cycle, islice
from statistics import fmean

import numpy as np
import optuna
from numpy.typing import NDArray
from optuna.distributions import FloatDistribution
from optuna.samplers import BaseSampler
from optuna.trial import FrozenTrial, TrialState, create_trial

from nas.search.space import SPREAD_MEASURES, Space
from nas.search.strategy import Proposal, Training, complete_seeds, group_by_pattern
from nas.settings.search import OPTUNA
from search_spaces.errors import InputError
from search_spaces.measures.compiled import measure_batch
from search_spaces.pattern import ConnectionPattern
from search_spaces.seeds import derive_generator, derive_seed

SAMPLERS = {
    "tpe": "optuna.samplers:TPESampler",
    "gp": "optuna.samplers:GPSampler",
    "cmaes": "optuna.samplers:CmaEsSampler",
    "random": "optuna.samplers:RandomSampler",
}
N_SOURCES = 10  # complete trials before CmaEsSampler begins from the best tenth of them
N_NEAREST = 5  # patterns nearest to what is suggested, which are changed
N_CHANGED = 100  # patterns made from them for each proposal
MakeSampler = Callable[[int, Sequence[FrozenTrial]], BaseSampler]  # by a seed and the trials that are complete


class SamplerStrategy:
    """Proposes the pattern whose measures are nearest to what a sampler of Optuna suggests.

    The sampler searches a box: the range of each of SPREAD_MEASURES over the space's pool and what was trained. A
    pattern is one trial of it, with the values that the pattern has, not those that were suggested, and the mean cost
    over its seeds. For each proposal a new sampler, with a seed of its own, is given all trials: a sampler that keeps
    more than trials to go by does not learn.

    Args:
        space: patterns to choose from.
        seed: seed of the pool, the sampler and the mutants.
        seeds: number of trainings of each pattern.
        make: function that makes the sampler.
    """

    learns = True

    def __init__(self, space: Space, seed: int, seeds: int, make: MakeSampler) -> None:
        self._space = space
        self._seed = seed
        self._seeds = seeds
        self._make = make
        self._rows: dict[str, NDArray[np.float64]] = {}  # measures of patterns, by key

    def propose(self, history: Sequence[Training]) -> Proposal | None:
        tried = group_by_pattern(history)
        unfinished = complete_seeds(tried, self._seeds)
        if unfinished is not None:
            return unfinished
        generator = derive_generator(self._seed, "optuna mutants", len(tried))
        known = {pattern.key for pattern in tried}
        patterns = [*self._pool, *(pattern for pattern in tried if pattern.key not in self._pool_keys)]
        points = self._place(patterns)
        if len(points):
            target = self._suggest(tried, points)
            near = np.argsort(self._measure_distances(points, target), kind="stable")[:N_NEAREST]
            mutants = self._mutate([patterns[row] for row in near.tolist()], generator)
            candidates = [pattern for pattern in (*self._pool, *mutants) if pattern.key not in known]
            if candidates:
                distances = self._measure_distances(self._place(candidates), target)
                return Proposal(candidates[int(distances.argmin())], 0)
        # A space of listed patterns may draw some of them wide only.
        drawn = self._space.draw(generator, known) or self._space.draw_wide(generator, known)
        return None if drawn is None else Proposal(drawn, 0)

    @cached_property
    def _pool(self) -> tuple[ConnectionPattern, ...]:
        return self._space.pool(self._seed)

    @cached_property
    def _pool_keys(self) -> frozenset[str]:
        return frozenset(pattern.key for pattern in self._pool)

    @cached_property
    def _units(self) -> NDArray[np.float64]:
        """Standard deviation of each measure over the pool; 1 where it does not vary."""
        spread = self._place(self._pool).std(axis=0)
        return np.where(spread > 0, spread, 1.0)

    def _place(self, patterns: Sequence[ConnectionPattern]) -> NDArray[np.float64]:
        """Return SPREAD_MEASURES of patterns; shape (n, measures)."""
        new = [pattern for pattern in patterns if pattern.key not in self._rows]
        columns = measure_batch(new, SPREAD_MEASURES)
        table = np.column_stack([columns[name] for name in SPREAD_MEASURES])
        self._rows |= {pattern.key: row for pattern, row in zip(new, table, strict=True)}
        return np.array([self._rows[pattern.key] for pattern in patterns]).reshape(len(patterns), len(SPREAD_MEASURES))

    def _measure_distances(self, points: NDArray[np.float64], target: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray(np.square((points - target) / self._units).sum(axis=1), np.float64)

    def _suggest(
        self, tried: Mapping[ConnectionPattern, Sequence[Training]], points: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """Return the values of SPREAD_MEASURES that the sampler suggests, within the range of the points."""
        box = {
            name: FloatDistribution(float(low), float(high))
            for name, low, high in zip(SPREAD_MEASURES, points.min(axis=0), points.max(axis=0), strict=True)
        }
        rows = self._place(list(tried))
        trials = [_make_trial(box, row, done) for row, done in zip(rows, tried.values(), strict=True)]
        suggested = ask(self._make, derive_seed(self._seed, "optuna", len(tried)) % 2**32, trials, box)
        return np.array([suggested[name] for name in SPREAD_MEASURES])

    def _mutate(
        self, parents: Sequence[ConnectionPattern], generator: np.random.Generator
    ) -> Iterator[ConnectionPattern]:
        for parent in islice(cycle(parents), N_CHANGED):
            yield self._space.mutate(parent, generator)


def _make_trial(
    box: Mapping[str, FloatDistribution], row: NDArray[np.float64], trainings: Sequence[Training]
) -> FrozenTrial:
    """Return a pattern's trial: complete once a training has ended well, with their mean cost."""
    costs = [training.cost for training in trainings if training.cost is not None]
    is_pending = any(training.state == "pending" for training in trainings)
    state = TrialState.COMPLETE if costs else TrialState.RUNNING if is_pending else TrialState.FAIL
    params = dict(zip(box, row.tolist(), strict=True))
    return create_trial(state=state, value=fmean(costs) if costs else None, params=params, distributions=dict(box))


def ask(
    make: MakeSampler, seed: int, trials: Sequence[FrozenTrial], box: Mapping[str, FloatDistribution]
) -> dict[str, float]:
    """Return what a sampler suggests after these trials of a study that minimises."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that a part of Optuna is experimental was known when it was asked for
        complete = [trial for trial in trials if trial.state == TrialState.COMPLETE]
        study = optuna.create_study(sampler=make(seed, complete))
        study.add_trials(trials)
        return study.ask(dict(box)).params


def find_sampler(name: str) -> MakeSampler:
    """Return a function that makes the sampler of a name: one of SAMPLERS, or package.module:Class.

    It is called with a seed, and where it takes `source_trials`, as CmaEsSampler does, with the complete trials, once
    there are N_SOURCES: by these it learns, since the state that it keeps in trials is lost.

    Raises:
        InputError: there is no such sampler, it takes no seed, or it cannot suggest anything here.
    """
    place, colon, own = SAMPLERS.get(name, name).rpartition(":")
    if not colon:
        raise InputError(
            f"strategy {OPTUNA}{name}: expected {OPTUNA} and {', '.join(SAMPLERS)} or package.module:Class, a sampler "
            "of Optuna"
        )
    try:
        kind = getattr(import_module(place), own)
        arguments = inspect.signature(kind).parameters
    except Exception as error:  # of a stranger's module: anything
        raise InputError(f"strategy {OPTUNA}{name} cannot be loaded: {type(error).__name__}: {error}") from None
    if "seed" not in arguments:
        raise InputError(f"strategy {OPTUNA}{name}: {own} takes no seed, so no run with it could be repeated")

    def make(seed: int, complete: Sequence[FrozenTrial]) -> BaseSampler:
        is_warm = len(complete) >= N_SOURCES and "source_trials" in arguments
        sources = {"source_trials": list(complete)} if is_warm else {}
        sampler: BaseSampler = kind(seed=seed, **sources)
        return sampler

    _try_out(name, make)
    return make


def _try_out(name: str, make: MakeSampler) -> None:
    """Refuse a sampler that lacks a library, before a run depends on it."""
    box = {each: FloatDistribution(0.0, 1.0) for each in SPREAD_MEASURES}
    values = [number / N_SOURCES for number in range(N_SOURCES)]
    trials = [create_trial(value=each, params=dict.fromkeys(box, each), distributions=dict(box)) for each in values]
    try:
        ask(make, 0, trials, box)
    except Exception as error:
        hint = f"; install {error.name}" if isinstance(error, ModuleNotFoundError) else ""
        raise InputError(f"strategy {OPTUNA}{name} cannot be used: {type(error).__name__}: {error}{hint}") from None
