"""Search strategies replayed on a table that holds the accuracy of every pattern, so that nothing is trained."""

import multiprocessing
import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from nas.search.strategies import create_strategy
from nas.search.strategy import Strategy
from search_spaces.budget import Budget
from search_spaces.errors import InputError
from search_spaces.pattern import ConnectionPattern
from search_spaces.seeds import derive_generator, derive_seed

CreateStrategy = Callable[[str, Budget, int], Strategy]
LITTLE, FEW, MANY = 1, 3, 6  # seeds that a search sees by default: FEW where there are MANY, LITTLE elsewhere
NOTHING = -1  # in place of a row: the strategy found no pattern left


@dataclass(frozen=True, slots=True)
class ReplayPlan:
    """What is replayed.

    Args:
        budget: whose patterns the table holds, all of them.
        strategies: names that create_strategy knows.
        n_replays: searches of each strategy.
        n_patterns: that each search trains, at most as many as there are.
        n_visible: seeds that a search sees; the others judge what it picks.
        lookahead: a pattern is proposed knowing the outcomes up to the lookahead-th before it, as where so many are
            trained at a time; 1 knows all.
        run_seed: of the draws of seeds and of the strategies.

    Raises:
        InputError: a number out of its range.
    """

    budget: Budget
    strategies: tuple[str, ...]
    n_replays: int
    n_patterns: int
    n_visible: int
    lookahead: int = 1
    run_seed: int = 0

    def __post_init__(self) -> None:
        least = min(self.n_replays, self.n_patterns, self.n_visible, self.lookahead)
        if least < 1:
            raise InputError(f"replays, patterns, visible seeds and lookahead count from 1, not {least}")
        if self.n_patterns > self.budget.n_patterns:
            raise InputError(
                f"a search cannot train {self.n_patterns} patterns where the budget has {self.budget.n_patterns}: give "
                f"at most so many"
            )


@dataclass(frozen=True, slots=True)
class Replays:
    """What the searches did; replay r of every strategy saw the same seeds and had the same seed of its own.

    Args:
        is_visible: shape (replays, seeds): the seeds whose mean accuracy the search was told.
        proposed: shape (strategies, replays, patterns): rows of the table in order of proposal, NOTHING after a
            strategy found none left.
    """

    plan: ReplayPlan
    is_visible: NDArray[np.bool_]
    proposed: NDArray[np.int64]


def choose_n_visible(n_seeds: int) -> int:
    """How many of the table's seeds a search sees by default.

    >>> choose_n_visible(2), choose_n_visible(12)
    (1, 3)
    """
    return FEW if n_seeds >= MANY else LITTLE


def replay(
    plan: ReplayPlan,
    keys: Sequence[str],
    accuracies: NDArray[np.float64],
    n_workers: int = 1,
    listen: Callable[[int], None] = lambda _: None,
    create: CreateStrategy = create_strategy,
) -> Replays:
    """Let every strategy search the table plan.n_replays times.

    Args:
        keys: of all patterns of the budget, each once: the rows.
        accuracies: shape (patterns, seeds).
        n_workers: processes; the replays are the same for any number.
        listen: called with the number of replays done.
        create: makes a strategy; sent to the processes, so a module's own function.

    Raises:
        InputError: no seed is left to judge, or create does not know a strategy.
    """
    n_seeds = accuracies.shape[1]
    if plan.n_visible >= n_seeds:
        raise InputError(
            f"a search that sees {plan.n_visible} of {n_seeds} seeds leaves none to judge it without its own noise: "
            f"give fewer visible seeds" + ("" if n_seeds > 1 else ", from a table of at least 2 seeds")
        )
    for name in plan.strategies:
        create(name, plan.budget, 0)  # an unknown name is told before any process starts
    is_visible = np.stack([_draw_visible(plan, number, n_seeds) for number in range(plan.n_replays)])
    search = partial(_search_all, plan, create, tuple(keys))
    found = []
    for proposed in _spread(search, [accuracies[:, visible].mean(axis=1) for visible in is_visible], n_workers):
        found.append(proposed)
        listen(len(found))
    return Replays(plan, is_visible, np.stack(found, axis=1))


def _draw_visible(plan: ReplayPlan, number: int, n_seeds: int) -> NDArray[np.bool_]:
    is_visible = np.zeros(n_seeds, dtype=bool)
    generator = derive_generator(plan.run_seed, "visible", number)
    is_visible[generator.choice(n_seeds, plan.n_visible, replace=False)] = True
    return is_visible


def _spread(
    search: Callable[[int, NDArray[np.float64]], NDArray[np.int64]], told: list[NDArray[np.float64]], n_workers: int
) -> Iterator[NDArray[np.int64]]:
    """The replays in order, here or in processes of their own."""
    if n_workers == 1:
        yield from map(search, range(len(told)), told)
        return
    # A fork would copy the locks of this process's threads.
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(min(n_workers, len(told)), context, initializer=_leave_interrupts)
    try:
        yield from pool.map(search, range(len(told)), told)
    finally:
        pool.shutdown(cancel_futures=True)


def _leave_interrupts() -> None:
    """Ctrl-C reaches every process of a terminal; the one that started the others ends them."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _search_all(
    plan: ReplayPlan, create: CreateStrategy, keys: tuple[str, ...], number: int, told: NDArray[np.float64]
) -> NDArray[np.int64]:
    """One replay of every strategy: rows proposed, shape (strategies, patterns)."""
    rows = {key: row for row, key in enumerate(keys)}
    seed = derive_seed(plan.run_seed, "replay", number)
    strategies = (create(name, plan.budget, seed) for name in plan.strategies)
    return np.stack([_search(strategy, plan, rows, told) for strategy in strategies])


def _search(strategy: Strategy, plan: ReplayPlan, rows: dict[str, int], told: NDArray[np.float64]) -> NDArray[np.int64]:
    proposed = np.full(plan.n_patterns, NOTHING)
    patterns: list[ConnectionPattern] = []
    known: set[str] = set()
    for number in range(plan.n_patterns):
        if number >= plan.lookahead:
            finished = patterns[number - plan.lookahead]
            strategy.tell(finished, float(told[rows[finished.key]]))
        pattern = strategy.ask(number, known)
        if pattern is None:
            break
        assert pattern.key not in known, f"pattern {pattern.key} was proposed twice"
        known.add(pattern.key)
        patterns.append(pattern)
        proposed[number] = rows[pattern.key]
    return proposed
