"""Search strategies replayed on a table of every pattern's accuracy, without training."""

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
NOTHING = -1  # in place of a row: the strategy found no more patterns


@dataclass(frozen=True, slots=True)
class ReplayPlan:
    """What is replayed.

    Args:
        budget: the budget whose patterns, all of them, are in the table.
        strategies: names for create_strategy.
        n_replays: number of searches by each strategy.
        n_patterns: number of patterns that each search trains.
        n_visible: number of seeds that a search sees; the others judge its choice.
        lookahead: number of patterns in training at a time: a proposal does not know the last lookahead - 1 outcomes.
        run_seed: seed of the choice of visible seeds and of the strategies.

    Raises:
        InputError: a number is out of its range.
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
                f"a search cannot train {self.n_patterns} patterns of a budget that has {self.budget.n_patterns}: give "
                "at most that many"
            )


@dataclass(frozen=True, slots=True)
class Replays:
    """What the searches proposed; replay r saw the same seeds, and had the same seed, for every strategy.

    Args:
        is_visible: seeds whose mean accuracy the search saw, shape (replays, seeds).
        proposed: rows of the table in order of proposal, shape (strategies, replays, patterns); NOTHING once a
            strategy found no more patterns.
    """

    plan: ReplayPlan
    is_visible: NDArray[np.bool_]
    proposed: NDArray[np.int64]


def choose_n_visible(n_seeds: int) -> int:
    """Return how many of the table's seeds a search sees by default: 3 of 6 or more, else 1.

    >>> choose_n_visible(2), choose_n_visible(12)
    (1, 3)
    """
    return 3 if n_seeds >= 6 else 1


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
        keys: keys of all patterns of the budget, one a row.
        accuracies: validation accuracies, shape (patterns, seeds).
        n_workers: number of processes; it does not change the replays.
        listen: called with the number of finished replays.
        create: function that makes a strategy, of a module: it is pickled.

    Raises:
        InputError: no seed is left to judge, or create does not know a strategy.
    """
    n_seeds = accuracies.shape[1]
    if plan.n_visible >= n_seeds:
        raise InputError(
            f"a search that sees {plan.n_visible} of {n_seeds} seeds leaves none to judge it by: give fewer visible "
            "seeds" + ("" if n_seeds > 1 else ", from a table of at least 2 seeds")
        )
    for name in plan.strategies:
        create(name, plan.budget, 0)  # refuses an unknown name before any process starts
    is_visible = np.stack([_draw_visible(plan, number, n_seeds) for number in range(plan.n_replays)])
    search = partial(_search_all, plan, create, tuple(keys))
    proposed = []
    for rows in _map(search, [accuracies[:, visible].mean(axis=1) for visible in is_visible], n_workers):
        proposed.append(rows)
        listen(len(proposed))
    return Replays(plan, is_visible, np.stack(proposed, axis=1))


def _draw_visible(plan: ReplayPlan, number: int, n_seeds: int) -> NDArray[np.bool_]:
    is_visible = np.zeros(n_seeds, dtype=bool)
    generator = derive_generator(plan.run_seed, "visible", number)
    is_visible[generator.choice(n_seeds, plan.n_visible, replace=False)] = True
    return is_visible


def _map(
    search: Callable[[int, NDArray[np.float64]], NDArray[np.int64]], visible: list[NDArray[np.float64]], n_workers: int
) -> Iterator[NDArray[np.int64]]:
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
    plan: ReplayPlan, create: CreateStrategy, keys: tuple[str, ...], number: int, means: NDArray[np.float64]
) -> NDArray[np.int64]:
    """Run one replay of every strategy; return the proposed rows, shape (strategies, patterns)."""
    rows = {key: row for row, key in enumerate(keys)}
    seed = derive_seed(plan.run_seed, "replay", number)
    strategies = (create(name, plan.budget, seed) for name in plan.strategies)
    return np.stack([_search(strategy, plan, rows, means) for strategy in strategies])


def _search(
    strategy: Strategy, plan: ReplayPlan, rows: dict[str, int], means: NDArray[np.float64]
) -> NDArray[np.int64]:
    proposed = np.full(plan.n_patterns, NOTHING)
    patterns: list[ConnectionPattern] = []
    known: set[str] = set()
    for number in range(plan.n_patterns):
        if number >= plan.lookahead:
            finished = patterns[number - plan.lookahead]
            strategy.tell(finished, float(means[rows[finished.key]]))
        pattern = strategy.ask(number, known)
        if pattern is None:
            break
        assert pattern.key not in known, f"pattern {pattern.key} was proposed twice"
        known.add(pattern.key)
        patterns.append(pattern)
        proposed[number] = rows[pattern.key]
    return proposed
