"""The strategy model: a Gaussian model of costs over graph measures chooses each training."""

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from itertools import cycle, islice
from typing import NamedTuple

import numpy as np
from threadpoolctl import ThreadpoolController

from nas.search.space import Space
from nas.search.strategy import Proposal, Training
from search_spaces.measures.measure import Reads
from search_spaces.pattern import ConnectionPattern
from search_spaces.seeds import derive_generator
from search_spaces.surrogate.choice import rank, value_again, value_new
from search_spaces.surrogate.earlier import EarlierOutcome
from search_spaces.surrogate.evidence import fit
from search_spaces.surrogate.features import Measured, Scale
from search_spaces.surrogate.posterior import NO_EARLIER, Earlier, Floats, Observations, Posterior, square_distances

SHARED_SEED = 0  # of every pattern, so that patterns are compared at the same seed
N_FIRST = 8  # patterns, named ones among them and those of earlier outcomes, before the model is asked
N_RETRAINED = 4  # patterns of earlier outcomes, the best by them, that are trained before the model is asked
N_PARENTS = 5  # best patterns by the model, which are changed
N_MUTANTS = 100  # patterns made from them for each proposal


class _Trained(NamedTuple):
    trainings: list[Training]  # those that have not failed
    patterns: list[ConnectionPattern]  # theirs, each once, then those that have only earlier outcomes
    next_seeds: list[int]  # of each pattern, one that it has not been trained with
    is_barred: list[bool]  # whether each failed whenever it was trained


class ModelStrategy:
    """Proposes what is expected to improve the choice at the end most: a new pattern, or a trained one at a new seed.

    The first patterns lie far apart in their measures. Then the knowledge gradient of a Gaussian model decides, so that
    a search may end or go on at any training: it needs no plan of how many there will be.

    With outcomes of earlier trainings it knows something at once, and their best patterns come first. It counts them as
    outcomes of other settings, and only what it trained itself can be its choice.

    Args:
        space: patterns to choose from.
        seed: seed of the pool and of the mutants.
        reads: nodes that the classifier reads; None for those of transition `log`.
        seeds_at_most: most trainings of one pattern; None: any number.
        earlier: outcomes of patterns of the space's budget.
    """

    learns = True

    def __init__(
        self,
        space: Space,
        seed: int,
        reads: Reads | None = None,
        seeds_at_most: int | None = None,
        earlier: Sequence[EarlierOutcome] = (),
    ) -> None:
        self._space = space
        self._seed = seed
        self._measured = Measured(reads)
        self._seeds_at_most = math.inf if seeds_at_most is None else seeds_at_most
        self._earlier = tuple(earlier)
        self._earlier_patterns = {outcome.pattern.key: outcome.pattern for outcome in earlier}

    def propose(self, history: Sequence[Training]) -> Proposal | None:
        """Return the next training; None where no pattern is left to compare."""
        # On matrices this small the threads of BLAS mostly wait, for each other and for the cores that train.
        with self._blas.limit(limits=1):
            return self._propose(history)

    def _propose(self, history: Sequence[Training]) -> Proposal | None:
        known = {training.pattern.key: training.pattern for training in history}
        met = known | self._earlier_patterns
        unknown = [pattern for pattern in self._pool if pattern.key not in met]
        is_finished = any(training.state == "finished" for training in history)
        trained = self._list_trained(history, known)
        promising = self._ranked_earlier[: N_RETRAINED if is_finished else None]
        left = [pattern for pattern in promising if pattern.key not in known]
        if left:
            return Proposal(left[0], SHARED_SEED)
        if unknown and (len(met) < N_FIRST or not is_finished):
            return Proposal(self._find_far(list(met.values()), unknown), SHARED_SEED)
        if is_finished:
            return self._improve_most(trained, unknown, set(met))
        usable = [row for row, is_barred in enumerate(trained.is_barred) if not is_barred]
        if len(usable) < 2:
            return None
        return self._repeat(trained, min(usable, key=lambda row: trained.next_seeds[row]))

    @cached_property
    def _ranked_earlier(self) -> list[ConnectionPattern]:
        """The patterns of earlier outcomes, by what these alone let expect of them, the best first."""
        if not self._earlier:
            return []
        trained = self._list_trained((), {})
        return [trained.patterns[row] for row in rank(self._fit(trained))]

    def _list_trained(self, history: Sequence[Training], known: Mapping[str, ConnectionPattern]) -> _Trained:
        usable = [training for training in history if training.state != "failed"]
        trained = {training.pattern.key: training.pattern for training in usable}
        patterns = {**trained, **self._earlier_patterns}
        counts = Counter(training.pattern.key for training in history)  # one that failed has used its seed too
        is_barred = [key in known and key not in trained for key in patterns]
        return _Trained(usable, list(patterns.values()), [counts[key] for key in patterns], is_barred)

    def _fit(self, trained: _Trained) -> Posterior:
        points = self._place(trained.patterns)
        return fit(observe(trained.trainings, trained.patterns, points, self._earlier))

    @cached_property
    def _blas(self) -> ThreadpoolController:
        return ThreadpoolController()

    @cached_property
    def _pool(self) -> tuple[ConnectionPattern, ...]:
        return self._space.pool(self._seed)

    @cached_property
    def _scale(self) -> Scale:
        return Scale.of(self._measured.table(self._pool))

    def _place(self, patterns: Sequence[ConnectionPattern]) -> Floats:
        """Return standardised measures of patterns; shape (n, measures that vary over the pool)."""
        return self._scale.standardise(self._measured.table(patterns))

    def _find_far(self, known: list[ConnectionPattern], unknown: list[ConnectionPattern]) -> ConnectionPattern:
        """Return the pattern farthest from all known ones, or nearest to the centre where none is known."""
        points = self._place(unknown)
        if not known:
            return unknown[int(np.square(points).sum(axis=1).argmin())]
        return unknown[int(square_distances(points, self._place(known)).min(axis=1).argmax())]

    def _improve_most(self, trained: _Trained, unknown: list[ConnectionPattern], known: set[str]) -> Proposal | None:
        """Return the training with the largest knowledge gradient: of a new pattern, or of a trained one again."""
        patterns = trained.patterns
        posterior = self._fit(trained)
        is_left = (np.array(trained.next_seeds) < self._seeds_at_most) & ~np.array(trained.is_barred)
        again = np.where(is_left, value_again(posterior, trained.next_seeds), -np.inf)
        best = int(again.argmax())
        parents = [patterns[row] for row in rank(posterior)[:N_PARENTS]]
        taken = known | {pattern.key for pattern in unknown}
        generator = derive_generator(self._seed, "mutants", len(known), sum(trained.next_seeds))
        candidates = [*unknown, *self._mutate(parents, taken, generator)]
        if candidates:
            new = value_new(posterior, self._place(candidates), SHARED_SEED)
            if new.max() >= again[best]:
                return Proposal(candidates[int(new.argmax())], SHARED_SEED)
        return self._repeat(trained, best) if len(patterns) > 1 else None

    def _repeat(self, trained: _Trained, row: int) -> Proposal | None:
        """Return another training of a pattern; None where it can have no more."""
        seed, is_barred = trained.next_seeds[row], trained.is_barred[row]
        return None if is_barred or seed >= self._seeds_at_most else Proposal(trained.patterns[row], seed)

    def _mutate(
        self, parents: Sequence[ConnectionPattern], taken: set[str], generator: np.random.Generator
    ) -> Iterable[ConnectionPattern]:
        """Return different patterns a few moves away from the parents, none of the keys taken."""
        mutants = {}
        for parent in islice(cycle(parents), N_MUTANTS):
            mutant = self._space.mutate(parent, generator)
            if mutant.key not in taken:
                mutants[mutant.key] = mutant
        return mutants.values()


def observe(
    trainings: Sequence[Training],
    patterns: Sequence[ConnectionPattern],
    points: Floats,
    earlier: Sequence[EarlierOutcome] = (),
) -> Observations:
    """Return what trainings that did not fail, and earlier outcomes, say about patterns.

    Args:
        trainings: finished and pending trainings of the patterns.
        patterns: different patterns, and
        points: their standardised measures; shape (patterns, measures).
        earlier: earlier outcomes of some of the patterns.
    """
    rows = {pattern.key: row for row, pattern in enumerate(patterns)}
    finished = [(training, training.cost) for training in trainings if training.cost is not None]
    pending = [training for training in trainings if training.cost is None]
    return Observations(
        points,
        np.array([rows[training.pattern.key] for training, _ in finished], np.int64),
        np.array([training.seed for training, _ in finished], np.int64),
        np.array([cost for _, cost in finished], np.float64),
        np.array([rows[training.pattern.key] for training in pending], np.int64),
        np.array([training.seed for training in pending], np.int64),
        _number(earlier, rows) if earlier else NO_EARLIER,
    )


def _number(earlier: Sequence[EarlierOutcome], rows: Mapping[str, int]) -> Earlier:
    settings = {name: number for number, name in enumerate(dict.fromkeys(outcome.setting for outcome in earlier))}
    return Earlier(
        np.array([rows[outcome.pattern.key] for outcome in earlier], np.int64),
        np.array([settings[outcome.setting] for outcome in earlier], np.int64),
        np.array([outcome.cost for outcome in earlier], np.float64),
        np.array([outcome.count for outcome in earlier], np.int64),
    )
