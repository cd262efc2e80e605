"""Sets of near nodes equal networkx's after every move, the rise of a move is foretold, seeds fix patterns."""

import itertools
import math
from typing import Any

import networkx as nx
import numpy as np
import pytest

from search_spaces.budget import Budget, log_budget
from search_spaces.distance import backprop_distance
from search_spaces.pattern import ConnectionPattern
from search_spaces.sampling import cooling
from search_spaces.sampling.bounds import bound_sum
from search_spaces.sampling.cooling import LONGEST, Neighbours
from search_spaces.sampling.draw import sample_uniform
from search_spaces.seeds import derive_generator
from tests.support.budgets import assert_spent
from tests.support.patterns import patterns_of, random_pattern

# Budgets of every shape: words of 64 nodes full and not, padded inputs and hubs, a cap on readers.
BUDGETS = [
    *(log_budget(depth) for depth in (3, 4, 12, 24, 63, 64, 65, 66, 129)),
    Budget(20, per_layer=(1,) * 12 + (2,) * 8),
    Budget(40, per_layer=tuple(random_pattern(40, 2).in_degrees)),
    Budget(30, per_layer=tuple(min(layer, 2) for layer in range(1, 31))),
    Budget(24, per_layer=log_budget(24).per_layer, max_out=5),
]


def capped_sum(pattern: ConnectionPattern) -> int:
    """Sum over all pairs of min(BD, LONGEST), by networkx."""
    return sum(min(hops, LONGEST) * n for hops, n in enumerate(backprop_distance(pattern).histogram))


def expected_sets(pattern: ConnectionPattern) -> dict[tuple[int, int], set[int]]:
    """Of each node and place: nodes within 1, 2, 3 hops below it, then layers within 1, 2, 3 above it."""
    rows = dict(nx.all_pairs_shortest_path_length(pattern.gradient_graph()))
    nodes = range(pattern.depth + 1)
    below = {(i, k - 1): {j for j in nodes if j < i and rows[i][j] <= k} for i in nodes for k in (1, 2, 3)}
    above = {(j, k + 2): {i for i in nodes if j < i and rows[i][j] <= k} for j in nodes for k in (1, 2, 3)}
    return below | above


def assert_sets_are_networkx_s(state: Neighbours) -> None:
    pattern = state.pattern()
    depth = pattern.depth
    words = state.near.reshape(depth + 1, -1, 8)
    expected = expected_sets(pattern)
    for (node, place), members in expected.items():
        shift = 1 if place >= 3 else 0
        held = {m for m in range(words.shape[1] * 64) if int(words[node, m // 64, place]) >> m % 64 & 1}
        assert {m + shift for m in held} == members
    lacking = {m + 1 for m in range(words.shape[1] * 64) if int(state.lacking[m // 64]) >> m % 64 & 1}
    assert lacking == {i for i in range(1, depth + 1) if len(expected[i, 2]) < i}
    assert state.readers.tolist() == list(pattern.out_degrees)
    assert {(s, t) for t, s in state.skips.tolist()} == {(s, t) for s, t in pattern.connections if t - s > 1}


def moves_from(state: Neighbours, generator: np.random.Generator, n: int) -> list[tuple[int, int, int]]:
    """n moves that are possible, as layer, source, new source."""
    pattern = state.pattern()
    possible = [
        (layer, source, new)
        for layer, inputs in enumerate(pattern.sources, start=1)
        for source in inputs[:-1]
        for new in range(layer - 1)
        if new not in inputs
    ]
    return [possible[k] for k in generator.permutation(len(possible))[:n]]


def measure(state: Neighbours, layer: int, source: int, new: int, most: int = 10**9) -> int:
    nodes = map(np.uint64, (layer, source, new))
    kernel: Any = cooling._measure_move
    return int(kernel(*state._sets, state.scratch, *nodes, most))


def moved(pattern: ConnectionPattern, layer: int, source: int, new: int) -> ConnectionPattern:
    sources = [set(inputs) for inputs in pattern.sources]
    sources[layer - 1] ^= {source, new}
    return ConnectionPattern.from_sources(sources)


@pytest.mark.parametrize("budget", BUDGETS, ids=lambda b: f"{b.depth}-{b.n_connections}-{b.max_out}")
def test_sets_and_total_are_networkx_s_before_and_after_moves(budget: Budget) -> None:
    generator = derive_generator("cooling", budget.depth)
    state = Neighbours.of(budget.example() if budget.is_capped else sample_uniform(budget, generator), budget)
    assert_sets_are_networkx_s(state)
    assert state.total == capped_sum(state.pattern())
    for temperature in (3.0, 0.3):  # hot first: every kind of change is made
        state.move(400, temperature, 0, generator)
        assert_sets_are_networkx_s(state)
        assert state.total == capped_sum(state.pattern())
        assert_spent(state.pattern(), budget)


@pytest.mark.parametrize("depth", range(4, 65, 3))
def test_the_rise_of_a_move_is_that_of_networkx(depth: int) -> None:
    budget = log_budget(depth)
    generator = derive_generator("rise", depth)
    state = Neighbours.of(sample_uniform(budget, generator), budget)
    for _ in range(2):
        pattern, before = state.pattern(), state.near.copy()
        for move in moves_from(state, generator, 8):
            rise = capped_sum(moved(pattern, *move)) - state.total
            assert measure(state, *move) == rise
            for most in (rise - 1, rise, 0):
                foretold = measure(state, *move, most)
                assert foretold == rise if rise <= most else most < foretold <= rise
        assert (state.near == before).all()  # nothing is moved by measuring
        state.move(3_000, 0.4, 0, generator)


def test_at_a_temperature_of_0_the_total_never_rises() -> None:
    state = Neighbours.of(sample_uniform(log_budget(30), derive_generator("cold")), log_budget(30))
    totals = [state.total]
    for seed in range(20):
        assert state.move(200, 0.0, 0, derive_generator(seed)) == 200
        totals.append(state.total)
    assert totals == sorted(totals, reverse=True)
    assert totals[-1] < totals[0]


def test_moves_end_where_the_total_is_met() -> None:
    budget = log_budget(12)
    state = Neighbours.of(sample_uniform(budget, derive_generator("met")), budget)
    n_tried = state.move(10**7, 0.3, bound_sum(budget), derive_generator("ends"))
    assert 0 < n_tried < 10**7
    assert state.total == bound_sum(budget) == capped_sum(state.pattern())
    assert state.move(5, 0.3, bound_sum(budget), derive_generator("ends")) == 0


def test_a_seed_fixes_the_moves() -> None:
    budget = log_budget(40)
    start = sample_uniform(budget, derive_generator("start"))
    one, again, other = (Neighbours.of(start, budget) for _ in range(3))
    for state, seed in ((one, 1), (again, 1), (other, 2)):
        state.move(2_000, 0.5, 0, derive_generator(seed))
    assert one.pattern() == again.pattern() != other.pattern()


@pytest.mark.parametrize("depth", [3, 24, 64])
def test_sets_of_one_word_move_as_they_do_where_there_may_be_more(depth: int, monkeypatch: pytest.MonkeyPatch) -> None:
    def move() -> tuple[list[int], int, int]:
        start = sample_uniform(log_budget(depth), derive_generator("words", depth))
        state = Neighbours.of(start, log_budget(depth))
        n_tried = state.move(20_000, 0.4, 0, derive_generator("words"))
        return state.near.tolist(), state.total, n_tried

    one_word = move()
    monkeypatch.setattr(cooling, "_several", np.uint64)
    assert move() == one_word


def test_every_pattern_is_as_likely_as_metropolis_rule_says() -> None:
    """At 5 layers all 36 patterns are visited by exp(-total / temperature): moves are as likely as their reverse."""
    budget, temperature = log_budget(5), 1.5
    space = patterns_of(budget)
    weights = np.exp([-capped_sum(pattern) / temperature for pattern in space])
    state, generator = Neighbours.of(space[0], budget), derive_generator("likely")
    visits = dict.fromkeys(space, 0)
    n_looks = 12_000
    for _ in range(n_looks):
        state.move(12, temperature, 0, generator)
        visits[ConnectionPattern.from_sources([set(inputs) for inputs in state.sources.tolist()[1:]])] += 1
    expected = n_looks * weights / weights.sum()
    deviations = (np.array(list(visits.values())) - expected) / np.sqrt(expected)
    assert np.abs(deviations).max() < 6  # successive looks are not quite independent


def test_a_cap_on_readers_is_kept() -> None:
    budget = Budget(30, per_layer=log_budget(30).per_layer, max_out=5)
    state = Neighbours.of(budget.example(), budget)
    for seed in range(5):
        state.move(5_000, 2.0, 0, derive_generator(seed))
        assert max(state.pattern().out_degrees) <= 5
        assert_spent(state.pattern(), budget)


def test_a_state_that_miscounts_raises() -> None:
    state = Neighbours.of(sample_uniform(log_budget(9), derive_generator("wrong")), log_budget(9))
    state.total -= 1
    with pytest.raises(AssertionError, match="by networkx"):
        state.pattern()


def test_moves_go_near_and_far() -> None:
    budget = Budget(40, per_layer=(1,) * 39 + (2,))
    far = Neighbours.of(ConnectionPattern.from_sources([{i} for i in range(39)] + [{39, 20}]), budget)
    steps = []
    for seed in range(400):
        before = int(far.skips[0, 1])
        far.move(1, math.inf, 0, derive_generator(seed))
        steps.append(int(far.skips[0, 1]) - before)
    near = [step for step in steps if 0 < abs(step) <= 3]
    assert set(near) == {-3, -2, -1, 1, 2, 3}
    assert 0.4 < len(near) / len([step for step in steps if step]) < 0.75
    assert max(map(abs, steps)) > 10
    assert all(a != b for a, b in itertools.pairwise(far.pattern().sources))
