"""Search strategies replayed on a table of trainings, without training."""

import multiprocessing
import signal
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from itertools import compress

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from nas.search.strategy import Proposal, Strategy, Training
from search_spaces.budget import Budget
from search_spaces.errors import InputError
from search_spaces.pattern import ConnectionPattern
from search_spaces.seeds import derive_generator, derive_seed

NOTHING = -1  # in place of a row: the search had ended
MAX_RANDOM = 10  # times as many trainings as others have, a random search goes on: to see when it is as far
N_NEAR = 5  # least number of patterns that a mutation chooses from
RANDOM, WIDE, MODEL = "random", "random:wide", "model"


class ListedSpace:
    """The patterns of a table, as the space that strategies propose from.

    Args:
        budget: the budget that all of them spend.
        patterns: patterns of the table, each once.
        uniform: whether each is a uniform draw from the budget; every one is, if the table has all that there are.
        wide: whether each was drawn widely.
        named: places of the named templates among them, in the order in which a search starts with them.
    """

    def __init__(
        self,
        budget: Budget,
        patterns: Sequence[ConnectionPattern],
        uniform: Iterable[bool],
        wide: Iterable[bool] = (),
        named: Iterable[int] = (),
    ) -> None:
        self.budget = budget
        self.patterns = tuple(patterns)
        self.rows = {pattern: row for row, pattern in enumerate(self.patterns)}
        self.uniform = tuple(compress(self.patterns, uniform))
        self.wide = tuple(compress(self.patterns, wide))
        self.named = tuple(self.patterns[place] for place in named)
        self._connections = np.stack([_mark_connections(pattern) for pattern in self.patterns])

    def draw(self, generator: np.random.Generator, known: Set[str]) -> ConnectionPattern | None:
        """Draw one of the uniform draws whose key is not known; None if none is left."""
        return _draw_unknown(self.uniform, generator, known)

    def draw_wide(self, generator: np.random.Generator, known: Set[str]) -> ConnectionPattern | None:
        """Draw one of the wide draws whose key is not known; None if none is left."""
        return _draw_unknown(self.wide, generator, known)

    def pool(self, seed: int) -> tuple[ConnectionPattern, ...]:  # noqa: ARG002  the same for every search
        """Return all patterns."""
        return self.patterns

    def mutate(self, pattern: ConnectionPattern, generator: np.random.Generator) -> ConnectionPattern:
        """Draw another pattern from the N_NEAR with fewest connections moved, and those as near as the last of them."""
        n_moved = self.budget.n_connections - self._connections @ _mark_connections(pattern)
        others = np.flatnonzero(n_moved > 0)
        if not len(others):
            return pattern
        farthest = np.sort(n_moved[others])[:N_NEAR][-1]
        return self.patterns[int(generator.choice(others[n_moved[others] <= farthest]))]


def _mark_connections(pattern: ConnectionPattern) -> NDArray[np.float32]:
    """Return 1 for each connection that the pattern has and 0 for others, shape (L (L + 1) / 2,)."""
    marks = np.zeros(pattern.depth * (pattern.depth + 1) // 2, dtype=np.float32)  # float: numpy multiplies it faster
    marks[[target * (target - 1) // 2 + source for source, target in pattern.connections]] = 1
    return marks


def _draw_unknown(
    patterns: Sequence[ConnectionPattern], generator: np.random.Generator, known: Set[str]
) -> ConnectionPattern | None:
    left = [pattern for pattern in patterns if pattern.key not in known]
    return left[generator.integers(len(left))] if left else None


# Makes a strategy from its name, space, seed, trainings of each pattern, and the most trainings a pattern can have.
CreateStrategy = Callable[[str, ListedSpace, int, int, int], Strategy]
Pick = Callable[[Sequence[Training]], ConnectionPattern]  # the pattern that a search answers with, by its history
PreparePick = Callable[[ListedSpace], Pick]


def pick_observed(history: Sequence[Training]) -> ConnectionPattern:
    """Return the pattern of least mean cost, the first of equal ones."""
    costs: dict[ConnectionPattern, list[float]] = {}
    for training in history:
        if training.cost is not None:
            costs.setdefault(training.pattern, []).append(training.cost)
    return min(costs, key=lambda pattern: sum(costs[pattern]) / len(costs[pattern]))


def by_observed(space: ListedSpace) -> Pick:  # noqa: ARG001  a PreparePick
    """Pick by the best observed mean."""
    return pick_observed


def by_posterior(space: ListedSpace) -> Pick:
    """Pick the trained pattern of least expected cost by the model's posterior."""
    from nas.search.strategies.model import observe  # numba: 0.5 s
    from search_spaces.surrogate.choice import choose
    from search_spaces.surrogate.evidence import fit
    from search_spaces.surrogate.features import Measured, Scale

    measured = Measured()
    scale = Scale.of(measured.table(space.pool(0)))

    def pick(history: Sequence[Training]) -> ConnectionPattern:
        usable = [training for training in history if training.state != "failed"]
        patterns = list(dict.fromkeys(training.pattern for training in usable))
        points = scale.standardise(measured.table(patterns))
        return patterns[choose(fit(observe(usable, patterns, points))).row]

    return pick


@dataclass(frozen=True, slots=True)
class ReplayPlan:
    """What is replayed.

    Args:
        strategies: names that the function `create` of `replay` knows.
        n_replays: number of searches by each strategy.
        n_trainings: number of trainings in each search.
        n_visible: number of the table's seeds that a search can train with; the others judge its choice.
        n_random: number of trainings in each random search, which may go on for longer than the others.
        seeds: number of trainings of each pattern, where the strategy does not choose it.
        lookahead: number of trainings at a time: a proposal does not know the last lookahead - 1 costs.
        run_seed: seed of the choice of visible seeds and of the strategies.
        picks: how searches of a strategy pick; others by the best observed mean.

    Raises:
        InputError: a number is out of its range.
    """

    strategies: tuple[str, ...]
    n_replays: int
    n_trainings: int
    n_visible: int
    n_random: int = 1
    seeds: int = 1
    lookahead: int = 1
    run_seed: int = 0
    picks: Mapping[str, PreparePick] = field(default_factory=dict)

    def __post_init__(self) -> None:
        counts = (self.n_replays, self.n_trainings, self.n_visible, self.n_random, self.seeds, self.lookahead)
        if min(counts) < 1:
            raise InputError(f"replays, trainings, seeds and lookahead count from 1, not {min(counts)}")
        if self.seeds > self.n_visible:
            raise InputError(
                f"a search cannot train a pattern {self.seeds} times: it sees {self.n_visible} of the table's seeds, "
                "the others judge it; give fewer seeds, or a table of more"
            )

    def count_trainings(self, strategy: str) -> int:
        """Return the number of trainings in a search of that strategy."""
        return max(self.n_random, self.n_trainings) if strategy == RANDOM else self.n_trainings


@dataclass(frozen=True, slots=True)
class Replayed:
    """What the searches of one strategy did.

    Args:
        trained: row of the table of each training, shape (replays, trainings); NOTHING once a search had ended.
        picked: row that the search would pick after each training, the last pick once it had ended; the same shape.
        n_named: number of trainings at the start that were of named templates.
    """

    trained: NDArray[np.int64]
    picked: NDArray[np.int64]
    n_named: int


@dataclass(frozen=True, slots=True)
class Replays:
    """What all searches did; replay r saw the same seeds, and had the same seed, for every strategy.

    Args:
        is_visible: the table's seeds that a search saw, shape (replays, seeds).
        by_strategy: what searches did, by name.
    """

    plan: ReplayPlan
    is_visible: NDArray[np.bool_]
    by_strategy: Mapping[str, Replayed]


def choose_n_visible(n_seeds: int) -> int:
    """Return how many of the table's seeds a search sees by default: 3 of 6 or more, else 1.

    >>> choose_n_visible(2), choose_n_visible(12)
    (1, 3)
    """
    return 3 if n_seeds >= 6 else 1


def replay(
    plan: ReplayPlan,
    space: ListedSpace,
    costs: NDArray[np.float64],
    create: CreateStrategy,
    n_workers: int = 1,
    listen: Callable[[int], None] = lambda _: None,
) -> Replays:
    """Let every strategy search the table plan.n_replays times, one training after the other.

    Args:
        costs: cost of each training, shape (patterns of the space, seeds); lower is better.
        create: function that makes a strategy, of a module: it is pickled.
        n_workers: number of processes; it does not change the replays.
        listen: called with the number of finished replays.

    Raises:
        InputError: no seed is left to judge, there is nothing that a strategy may draw, or create does not know one.
    """
    n_seeds = costs.shape[1]
    if plan.n_visible >= n_seeds:
        raise InputError(
            f"a search that sees {plan.n_visible} of {n_seeds} seeds leaves none to judge it by: give fewer visible "
            "seeds" + ("" if n_seeds > 1 else ", from a table of at least 2 seeds")
        )
    for name in plan.strategies:
        if not {RANDOM: space.uniform, WIDE: space.wide}.get(name, space.patterns):
            raise InputError(f"strategy {name} has no patterns to draw: the table has no rows of strategy {name}")
        create(name, space, 0, plan.seeds, plan.n_visible)  # refuses an unknown name before any process starts
    visible = np.stack([_draw_visible(plan, number, n_seeds) for number in range(plan.n_replays)])
    search = partial(_search_all, plan, create, space)
    results: list[tuple[Replayed, ...]] = []
    for of_replay in _map(search, [costs[:, columns] for columns in visible], n_workers):
        results.append(of_replay)
        listen(len(results))
    is_visible = np.zeros((plan.n_replays, n_seeds), dtype=bool)
    np.put_along_axis(is_visible, visible, True, axis=1)
    by_strategy = {
        name: Replayed(
            np.stack([result.trained for result in of_replays]),
            np.stack([result.picked for result in of_replays]),
            of_replays[0].n_named,
        )
        for name, of_replays in zip(plan.strategies, zip(*results, strict=True), strict=True)
    }
    return Replays(plan, is_visible, by_strategy)


def _draw_visible(plan: ReplayPlan, number: int, n_seeds: int) -> NDArray[np.int64]:
    """Draw the seeds that a replay sees, in the order in which it counts them from 0."""
    return derive_generator(plan.run_seed, "visible", number).choice(n_seeds, plan.n_visible, replace=False)


def _map(
    search: Callable[[int, NDArray[np.float64]], tuple[Replayed, ...]],
    visible: list[NDArray[np.float64]],
    n_workers: int,
) -> Iterator[tuple[Replayed, ...]]:
    """Give the replays in order, computed here or in other processes."""
    if n_workers == 1:
        yield from map(search, range(len(visible)), visible)
        return
    context = multiprocessing.get_context("spawn")  # a fork would copy the locks of this process's threads
    pool = ProcessPoolExecutor(min(n_workers, len(visible)), context, initializer=_ignore_interrupts)
    try:
        yield from pool.map(search, range(len(visible)), visible)
    finally:
        pool.shutdown(cancel_futures=True)


def _ignore_interrupts() -> None:
    """Ignore Ctrl-C, which reaches every process of a terminal: the parent ends its children."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _search_all(
    plan: ReplayPlan, create: CreateStrategy, space: ListedSpace, number: int, costs: NDArray[np.float64]
) -> tuple[Replayed, ...]:
    """Run one replay of every strategy, on the costs of the visible seeds, shape (patterns, visible seeds)."""
    seed = derive_seed(plan.run_seed, "replay", number)
    strategies = {name: create(name, space, seed, plan.seeds, plan.n_visible) for name in plan.strategies}
    with threadpool_limits(1, "blas"):  # see ModelStrategy.propose
        return tuple(_search(name, strategy, plan, space, costs) for name, strategy in strategies.items())


def list_starts(strategy: str, space: ListedSpace, seeds: int) -> list[Proposal]:
    """Return the trainings that a search starts with, as a live one: named templates, but for random draws none.

    The strategy `model` has each trained once, others with all their seeds.
    """
    named = () if strategy in (RANDOM, WIDE) else space.named
    return [Proposal(pattern, seed) for pattern in named for seed in range(1 if strategy == MODEL else seeds)]


def _search(
    name: str, strategy: Strategy, plan: ReplayPlan, space: ListedSpace, costs: NDArray[np.float64]
) -> Replayed:
    """Run one search; the arrays have one number a training."""
    length = plan.count_trainings(name)
    starts = list_starts(name, space, plan.seeds)[:length]
    trained, picked = np.full(length, NOTHING), np.full(length, NOTHING)
    pick = plan.picks.get(name, by_observed)(space)
    history: list[Training] = []
    asked: set[Proposal] = set()
    for number in range(length):
        proposal = starts[number] if number < len(starts) else strategy.propose(_hide(history, plan.lookahead - 1))
        if proposal is None:
            break
        assert proposal not in asked, f"{name} asked twice for pattern {proposal.pattern.key} and seed {proposal.seed}"
        assert 0 <= proposal.seed < plan.n_visible, f"{name} asked for seed {proposal.seed} of {plan.n_visible}"
        asked.add(proposal)
        row = space.rows[proposal.pattern]
        cost = float(costs[row, proposal.seed])
        history.append(Training(proposal.pattern, proposal.seed, cost, "finished"))
        trained[number], picked[number:] = row, space.rows[pick(history)]
    assert history, f"{name} found no pattern in a table of {len(space.patterns)}"
    return Replayed(trained, picked, len(starts))


def _hide(history: list[Training], n_pending: int) -> list[Training]:
    """Return the history as it is while the last n_pending trainings are going on."""
    n_known = max(0, len(history) - n_pending)
    pending = (Training(training.pattern, training.seed, None, "pending") for training in history[n_known:])
    return [*history[:n_known], *pending]
