import os
from collections.abc import Set

import numpy as np
import pytest

from nas.search.replay import NOTHING, ReplayPlan, replay
from nas.search.strategies import STRATEGIES
from nas.search.strategy import RandomStrategy, Strategy
from search_spaces.budget import Budget, log_budget
from search_spaces.errors import InputError
from search_spaces.pattern import ConnectionPattern
from tests.support.synthetic_table import BUDGET, deterministic_accuracies, list_patterns

PATTERNS = list_patterns()
KEYS = [pattern.key for pattern in PATTERNS]
NOISE = np.random.default_rng(0).normal(0.5, 0.1, (36, 4))


class InOrder:
    """Proposes patterns in order of key, and notes what it knows at each proposal."""

    learns = True
    calls: list[tuple[int, int, int]] = []  # noqa: RUF012  number, known, told
    told: list[tuple[str, float | None]] = []  # noqa: RUF012

    def __init__(self, last: int) -> None:
        self._last = last
        self._n_told = 0

    def ask(self, number: int, known: Set[str]) -> ConnectionPattern | None:
        InOrder.calls.append((number, len(known), self._n_told))
        return PATTERNS[number] if number < self._last else None

    def tell(self, pattern: ConnectionPattern, validation_accuracy: float | None) -> None:
        self._n_told += 1
        InOrder.told.append((pattern.key, validation_accuracy))


def _create(name: str, budget: Budget, seed: int) -> Strategy:
    return RandomStrategy(budget, seed) if name == "random" else InOrder(int(name))


@pytest.fixture(autouse=True)
def _forget() -> None:
    InOrder.calls.clear()
    InOrder.told.clear()


def _plan(*strategies: str, n_replays: int = 2, n_patterns: int = 6, n_visible: int = 1, **more: int) -> ReplayPlan:
    return ReplayPlan(BUDGET, strategies, n_replays, n_patterns, n_visible, **more)


@pytest.mark.parametrize("lookahead", [1, 3, 9])
def test_a_search_is_told_the_visible_means_in_order_and_as_late_as_lookahead_says(lookahead: int) -> None:
    done = replay(_plan("36", n_replays=1, n_visible=2, lookahead=lookahead), KEYS, NOISE, create=_create)
    assert [(number, known) for number, known, _ in InOrder.calls] == [(n, n) for n in range(6)]
    assert [told for *_, told in InOrder.calls] == [max(0, n + 1 - lookahead) for n in range(6)]
    n_told = max(0, 6 - lookahead)
    assert done.is_visible.sum() == 2
    expected = [sum(x for x, seen in zip(NOISE[n], done.is_visible[0], strict=True) if seen) / 2 for n in range(n_told)]
    assert [key for key, _ in InOrder.told] == KEYS[:n_told]
    assert [accuracy for _, accuracy in InOrder.told] == pytest.approx(expected)
    assert done.proposed[0, 0].tolist() == [0, 1, 2, 3, 4, 5]


def test_strategies_of_a_replay_share_its_seeds_and_replays_differ() -> None:
    plan = _plan("random", "36", n_replays=30)
    done = replay(plan, KEYS, NOISE, create=_create)
    assert done.is_visible.shape == (30, 4)
    assert (done.is_visible.sum(axis=1) == 1).all()
    assert set(done.is_visible.argmax(axis=1)) == {0, 1, 2, 3}
    assert len({tuple(rows) for rows in done.proposed[0].tolist()}) == 30
    alone = replay(_plan("random", n_replays=30), KEYS, NOISE, create=_create)
    assert (alone.proposed[0] == done.proposed[0]).all()
    assert (alone.is_visible == done.is_visible).all()
    other = replay(_plan("random", n_replays=30, run_seed=1), KEYS, NOISE, create=_create)
    assert (other.proposed != alone.proposed).any()


def test_more_replays_go_on_where_fewer_ended() -> None:
    few, many = (replay(_plan("random", n_replays=n), KEYS, NOISE) for n in (2, 5))
    assert (many.proposed[:, :2] == few.proposed).all()
    assert (many.is_visible[:2] == few.is_visible).all()


def test_a_strategy_that_finds_nothing_left_ends_its_search() -> None:
    done = replay(_plan("4", n_replays=1), KEYS, NOISE, create=_create)
    assert done.proposed[0, 0].tolist() == [0, 1, 2, 3, NOTHING, NOTHING]


@pytest.mark.parametrize(("strategy", "n_patterns"), [("random", 36), ("tpe", 8), ("evolve", 36)])
def test_every_strategy_proposes_new_patterns_of_the_table(strategy: str, n_patterns: int) -> None:
    assert strategy in STRATEGIES
    plan = _plan(strategy, n_replays=1, n_patterns=n_patterns, lookahead=2)
    rows = replay(plan, KEYS, deterministic_accuracies(2)).proposed[0, 0].tolist()
    assert len(set(rows)) == n_patterns
    assert set(rows) <= set(range(36))


@pytest.mark.slow
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_every_strategy_finds_every_pattern_of_a_small_budget(strategy: str) -> None:
    done = replay(_plan(strategy, n_replays=1, n_patterns=36), KEYS, NOISE)
    assert sorted(done.proposed[0, 0].tolist()) == list(range(36))


@pytest.mark.slow
def test_processes_change_nothing() -> None:
    plan = _plan("random", "9", n_replays=3)
    counts: list[int] = []
    here, there = (replay(plan, KEYS, NOISE, n, counts.append, _create) for n in (1, 2))
    assert (here.proposed == there.proposed).all()
    assert (here.is_visible == there.is_visible).all()
    assert counts == [1, 2, 3, 1, 2, 3]


def _die(_: str, __: Budget, seed: int) -> Strategy:
    if seed:
        os._exit(3)
    return RandomStrategy(BUDGET, seed)


@pytest.mark.slow
def test_a_process_that_dies_is_an_error() -> None:
    with pytest.raises(RuntimeError):
        replay(_plan("random"), KEYS, NOISE, 2, create=_die)


@pytest.mark.parametrize(
    ("numbers", "words"),
    [
        ({"n_replays": 0}, "count from 1"),
        ({"lookahead": 0}, "count from 1"),
        ({"n_patterns": 37}, "37 patterns of a budget that has 36"),
        ({"n_visible": 4}, "4 of 4 seeds leaves none to judge"),
    ],
)
def test_what_cannot_be_replayed_is_refused(numbers: dict[str, int], words: str) -> None:
    with pytest.raises(InputError, match=words):
        replay(_plan("random", **numbers), KEYS, NOISE)


def test_an_unknown_strategy_is_refused_before_anything_is_replayed() -> None:
    with pytest.raises(InputError, match="no strategy 'sideways'"):
        replay(_plan("random", "sideways"), KEYS, NOISE, n_workers=2)


def test_the_space_of_the_benchmark_has_the_number_of_patterns_that_its_table_must_hold() -> None:
    found = list_patterns(log_budget(6))
    assert len({pattern.key for pattern in found}) == log_budget(6).n_patterns == 360
    assert all(log_budget(6).is_met_by(pattern) for pattern in found)
