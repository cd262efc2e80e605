"""Proposals: every strategy meets the budget, proposes nothing twice, and goes on from a history as it would have."""

from collections.abc import Callable

import numpy as np
import pytest

from nas.search.evolution import POPULATION
from nas.search.strategies import STRATEGIES, create_strategy
from nas.search.strategy import Strategy, walk_to_unknown
from search_spaces.budget import Budget, log_budget
from search_spaces.distance import backprop_distance
from search_spaces.errors import InputError
from search_spaces.pattern import ConnectionPattern
from search_spaces.sampling.draw import sample_uniform
from search_spaces.sampling.optimal import optimize, shortest_walk
from search_spaces.seeds import derive_generator
from search_spaces.templates import find_template, iterate_templates

Score = Callable[[ConnectionPattern], float | None]


def by_distance(pattern: ConnectionPattern) -> float:
    return 1 / backprop_distance(pattern).mean


def run(strategy: Strategy, n: int, score: Score = by_distance) -> list[ConnectionPattern]:
    """The first n proposals, each told before the next; fewer where the space ends."""
    found: list[ConnectionPattern] = []
    for number in range(n):
        pattern = strategy.ask(number, {one.key for one in found})
        if pattern is None:
            break
        found.append(pattern)
        strategy.tell(pattern, score(pattern))
    return found


@pytest.mark.parametrize("name", STRATEGIES)
def test_every_pattern_of_a_small_space_is_found_once_and_then_none(name: str) -> None:
    budget = Budget(6, total=7)
    found = run(create_strategy(name, budget, seed=3), budget.n_patterns + 1)
    assert len(found) == len({pattern.key for pattern in found}) == 15
    assert all(map(budget.is_met_by, found))


@pytest.mark.parametrize("name", STRATEGIES)
@pytest.mark.parametrize("budget", [log_budget(12), Budget(12, total=30), Budget(9, total=18, max_out=4)], ids=str)
def test_proposals_spend_the_budget_and_differ(name: str, budget: Budget) -> None:
    found = run(create_strategy(name, budget, seed=0), 14)
    assert len({pattern.key for pattern in found}) == 14
    assert all(map(budget.is_met_by, found))


@pytest.mark.parametrize("name", STRATEGIES)
def test_the_same_history_gives_the_same_proposals_and_another_seed_others(name: str) -> None:
    budget = log_budget(8)
    first = run(create_strategy(name, budget, seed=0), 14)
    assert run(create_strategy(name, budget, seed=0), 14) == first
    assert set(run(create_strategy(name, budget, seed=1), 14)) != set(first)


@pytest.mark.parametrize("name", STRATEGIES)
@pytest.mark.parametrize("cut", [5, 13])
def test_told_the_same_anew_a_strategy_goes_on_where_it_was(name: str, cut: int) -> None:
    """As a resumed run does: the outcomes so far are told to a new strategy, and nothing was asked of it before."""
    budget = Budget(9, total=20)
    whole = run(create_strategy(name, budget, seed=2), 16)
    resumed = create_strategy(name, budget, seed=2)
    for pattern in whole[:cut]:
        resumed.tell(pattern, by_distance(pattern))
    for number in range(cut, 16):
        assert resumed.ask(number, {one.key for one in whole[:number]}) == whole[number]
        resumed.tell(whole[number], by_distance(whole[number]))


@pytest.mark.parametrize("name", STRATEGIES)
def test_only_strategies_that_learn_propose_otherwise_after_other_outcomes(name: str) -> None:
    budget = log_budget(8)
    strategy = create_strategy(name, budget, seed=0)
    one = run(strategy, 20)
    other = run(create_strategy(name, budget, seed=0), 20, lambda pattern: -by_distance(pattern))
    assert (one != other) == strategy.learns


@pytest.mark.parametrize("name", STRATEGIES)
def test_patterns_that_all_failed_are_lived_with(name: str) -> None:
    found = run(create_strategy(name, log_budget(7), seed=0), 14, lambda _: None)
    assert len({pattern.key for pattern in found}) == 14


@pytest.mark.parametrize(("name", "share"), [("tpe", 0.99), ("evolve", 0.75)])
def test_a_strategy_that_learns_finds_better_patterns_than_random(name: str, share: float) -> None:
    """Where accuracy is span, which neither starts from: the last ten of forty against a share of uniform draws."""
    budget = log_budget(12)
    found = run(create_strategy(name, budget, seed=0), 40, lambda pattern: pattern.span)
    uniform = [sample_uniform(budget, derive_generator("uniform", k)).span for k in range(200)]
    assert np.mean([pattern.span for pattern in found[-10:]]) > np.quantile(uniform, share)


def test_evolve_starts_from_the_templates_and_a_certified_optimum() -> None:
    budget = log_budget(12)
    named = [pattern for _, pattern in iterate_templates(budget)]
    found = run(create_strategy("evolve", budget, seed=0), len(named) + 1)
    assert found[:-1] == named
    assert backprop_distance(found[-1]).mean == pytest.approx(1.5256, abs=1e-4)
    assert optimize(budget).certificate.bound == pytest.approx(backprop_distance(found[-1]).mean)


def test_a_child_differs_from_a_member_of_the_population_by_one_connection() -> None:
    budget = log_budget(16)
    strategy = create_strategy("evolve", budget, seed=0)
    uniform = [sample_uniform(budget, derive_generator("members", k)) for k in range(POPULATION + 10)]
    for place, pattern in enumerate(uniform):
        strategy.tell(pattern, 1.0 if place < 10 else 0.01 * place)
    # The first ten, better than all others, are too old to have children.
    known = {pattern.key for _, pattern in iterate_templates(budget)} | {one.key for one in uniform}
    optimum = strategy.ask(0, known)
    assert optimum is not None
    for number in range(20):
        child = strategy.ask(number, known | {optimum.key})
        assert child is not None
        moved = [len(set(child.connections) - set(parent.connections)) for parent in uniform]
        assert min(moved) == 1
        assert moved.index(1) >= 10


def test_a_walk_meets_the_nearest_patterns_first() -> None:
    pattern = sample_uniform(log_budget(24), derive_generator(0))
    found = walk_to_unknown(pattern, log_budget(24), {pattern.key}, derive_generator(1))
    assert found is not None
    assert len(set(found.connections) - set(pattern.connections)) == 1


@pytest.mark.parametrize("budget", [log_budget(24), Budget(24, total=80)], ids=str)
def test_a_random_proposal_depends_on_its_number_alone(budget: Budget) -> None:
    strategy = create_strategy("random", budget, seed=0)
    first = [strategy.ask(number, set()) for number in range(5)]
    again = [create_strategy("random", budget, seed=0).ask(number, set()) for number in (4, 3, 2, 1, 0)]
    other = [create_strategy("random", budget, seed=1).ask(number, set()) for number in range(5)]
    assert first == again[::-1]
    assert len({*first, *other}) == 10


def test_templates_are_those_that_spend_the_budget() -> None:
    assert [name for name, _ in iterate_templates(log_budget(12))] == [
        "log",
        "nearest_log_i",
        "evenly_log_i",
        "greedy",
        "annealed",
        "shortest_walk",
    ]
    assert [name for name, _ in iterate_templates(Budget(12, total=42))] == [
        "nearest_log_L",
        "nearest_half",
        "evenly_log_L",
        "odd_even",
        "shortest_walk",
    ]  # nearest_4 is nearest_log_L there
    ((name, pattern),) = iterate_templates(Budget(12, total=43))
    assert (name, pattern) == ("shortest_walk", shortest_walk(Budget(12, total=43)))
    ((name, pattern),) = iterate_templates(Budget(12, total=78))
    assert (name, pattern) == ("dense", find_template("dense").build(12))


def test_an_unknown_strategy_is_refused() -> None:
    with pytest.raises(InputError, match="no strategy 'annealed'"):
        create_strategy("annealed", log_budget(5), 0)
