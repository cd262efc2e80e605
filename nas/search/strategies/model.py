"""The strategy model: a Gaussian model of costs over graph measures chooses each training."""

import math
from collections import Counter
from collections.abc import Iterable, Sequence
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
from search_spaces.surrogate.evidence import fit
from search_spaces.surrogate.features import Measured, Scale
from search_spaces.surrogate.posterior import Floats, Observations, square_distances

SHARED_SEED = 0  # of every pattern, so that patterns are compared at the same seed
N_FIRST = 8  # patterns, named ones among them, before the model is asked
N_PARENTS = 5  # best patterns by the model, which are changed
N_MUTANTS = 100  # patterns made from them for each proposal


class _Trained(NamedTuple):
    trainings: list[Training]  # those that have not failed
    patterns: list[ConnectionPattern]  # theirs, each once
    next_seeds: list[int]  # of each pattern, one that it has not been trained with


class ModelStrategy:
    """Proposes what is expected to improve the choice at the end most: a new pattern, or a trained one at a new seed.

    The first patterns lie far apart in their measures. Then the knowledge gradient of a Gaussian model decides, so that
    a search may end or go on at any training: it needs no plan of how many there will be.

    Args:
        space: patterns to choose from.
        seed: seed of the pool and of the mutants.
        reads: nodes that the classifier reads; None for those of transition `log`.
        seeds_at_most: most trainings of one pattern; None: any number.
    """

    learns = True

    def __init__(self, space: Space, seed: int, reads: Reads | None = None, seeds_at_most: int | None = None) -> None:
        self._space = space
        self._seed = seed
        self._measured = Measured(reads)
        self._seeds_at_most = math.inf if seeds_at_most is None else seeds_at_most

    def propose(self, history: Sequence[Training]) -> Proposal | None:
        """Return the next training; None where no pattern is left to compare."""
        # On matrices this small the threads of BLAS mostly wait, for each other and for the cores that train.
        with self._blas.limit(limits=1):
            return self._propose(history)

    def _propose(self, history: Sequence[Training]) -> Proposal | None:
        known = {training.pattern.key: training.pattern for training in history}
        unknown = [pattern for pattern in self._pool if pattern.key not in known]
        is_finished = any(training.state == "finished" for training in history)
        if unknown and (len(known) < N_FIRST or not is_finished):
            return Proposal(self._find_far(list(known.values()), unknown), SHARED_SEED)
        usable = [training for training in history if training.state != "failed"]
        trained = list({training.pattern.key: training.pattern for training in usable}.values())
        counts = Counter(training.pattern.key for training in history)
        seeds = [counts[pattern.key] for pattern in trained]  # one that failed has used its seed too
        if is_finished:
            return self._improve_most(_Trained(usable, trained, seeds), unknown, set(known))
        return self._repeat(trained, seeds, seeds.index(min(seeds))) if len(trained) > 1 else None

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
        posterior = fit(observe(trained.trainings, patterns, self._place(patterns)))
        is_left = np.array(trained.next_seeds) < self._seeds_at_most
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
        return self._repeat(patterns, trained.next_seeds, best) if len(patterns) > 1 else None

    def _repeat(self, patterns: list[ConnectionPattern], next_seeds: list[int], row: int) -> Proposal | None:
        """Return another training of a pattern; None where it can have no more."""
        return Proposal(patterns[row], next_seeds[row]) if next_seeds[row] < self._seeds_at_most else None

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


def observe(trainings: Sequence[Training], patterns: Sequence[ConnectionPattern], points: Floats) -> Observations:
    """Return what trainings that did not fail say about patterns.

    Args:
        trainings: finished and pending trainings of the patterns.
        patterns: different patterns, and
        points: their standardised measures; shape (patterns, measures).
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
    )
