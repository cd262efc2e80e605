"""Strategies: each is a function of the history that keeps the budget and asks for no training twice."""

from collections import Counter
from collections.abc import Callable, Sequence
from importlib.util import find_spec

import numpy as np
import pytest

from nas.search.space import MAX_MOVES, OpenSpace
from nas.search.strategies.evolution import POPULATION, RETRAIN_EVERY
from nas.search.strategies.registry import STRATEGIES, create_strategy
from nas.search.strategy import Proposal, Strategy, Training
from search_spaces.budget import Budget, log_budget
from search_spaces.distance import backprop_distance
from search_spaces.errors import InputError
from search_spaces.pattern import ConnectionPattern
from search_spaces.sampling.draw import sample_uniform, sample_wide
from search_spaces.sampling.optimal import shortest_walk
from search_spaces.seeds import derive_generator
from search_spaces.templates import find_template, iterate_templates

Cost = Callable[[ConnectionPattern], float | None]


def by_distance(pattern: ConnectionPattern) -> float:
    return backprop_distance(pattern).mean


def finish(proposal: Proposal, cost: Cost = by_distance) -> Training:
    value = cost(proposal.pattern)
    return Training(proposal.pattern, proposal.seed, value, "failed" if value is None else "finished")


def start(budget: Budget, seeds: int = 1, cost: Cost = by_distance) -> list[Training]:
    named = [pattern for _, pattern in iterate_templates(budget)]
    return [finish(Proposal(pattern, seed), cost) for pattern in named for seed in range(seeds)]


def hide_latest(history: Sequence[Training], n: int) -> list[Training]:
    """Show the last n trainings as a run does that may have them in training."""
    n_shown = max(0, len(history) - n)
    hidden = (Training(training.pattern, training.seed, None, "pending") for training in history[n_shown:])
    return [*history[:n_shown], *hidden]


def run(
    strategy: Strategy, n: int, history: Sequence[Training] = (), cost: Cost = by_distance, n_hidden: int = 0
) -> list[Training]:
    """Return the history after n more trainings; fewer where the strategy ends."""
    trainings = list(history)
    for _ in range(n):
        proposal = strategy.propose(hide_latest(trainings, n_hidden))
        if proposal is None:
            break
        trainings.append(finish(proposal, cost))
    return trainings


def make(name: str, budget: Budget, seed: int = 0, seeds: int = 1) -> Strategy:
    return create_strategy(name, OpenSpace(budget), seed, seeds)


# The contract of all strategies, ours and samplers of Optuna.

CONTRACT = (*STRATEGIES, "optuna:tpe")
WITH_CMAES = pytest.mark.skipif(find_spec("cmaes") is None, reason="the library cmaes is not installed")
SLOW = [
    pytest.param("optuna:gp", marks=pytest.mark.slow),
    pytest.param("optuna:cmaes", marks=[pytest.mark.slow, WITH_CMAES]),
]


@pytest.mark.parametrize("name", [name for name in CONTRACT if name != "model"])  # it never ends
def test_every_pattern_of_a_small_space_is_trained_and_then_none(name: str) -> None:
    budget = Budget(6, total=7)
    trainings = run(make(name, budget, seed=3), 100)
    assert len({training.pattern for training in trainings}) == budget.n_patterns == 15
    assert len(trainings) < 30  # it ended by itself


@pytest.mark.parametrize("name", [*CONTRACT, *SLOW])
@pytest.mark.parametrize("n_hidden", [0, 3])
def test_where_seeds_are_few_every_pattern_is_trained_with_no_others_and_then_none(name: str, n_hidden: int) -> None:
    budget = Budget(5, total=6)
    strategy = create_strategy(name, OpenSpace(budget), 3, 1, seeds_at_most=2)
    trainings = run(strategy, 100, n_hidden=n_hidden)
    assert len({training.pattern for training in trainings}) == budget.n_patterns == 10
    assert len({(training.pattern, training.seed) for training in trainings}) == len(trainings) <= 20
    assert {training.seed for training in trainings} <= {0, 1}


@pytest.mark.parametrize("name", [*CONTRACT, *SLOW])
@pytest.mark.parametrize("budget", [log_budget(12), Budget(12, total=30), Budget(9, total=18, max_out=4)], ids=str)
@pytest.mark.parametrize(("seeds", "n_hidden"), [(1, 0), (3, 4)])
def test_proposals_keep_the_budget_and_ask_for_nothing_twice(
    name: str, budget: Budget, seeds: int, n_hidden: int
) -> None:
    trainings = run(make(name, budget, seeds=seeds), 16, start(budget, seeds), n_hidden=n_hidden)
    assert all(budget.is_met_by(training.pattern) for training in trainings)
    assert len({(training.pattern, training.seed) for training in trainings}) == len(trainings)


@pytest.mark.parametrize("name", [*CONTRACT, *SLOW])
def test_a_proposal_depends_on_the_history_only(name: str) -> None:
    """So it does not depend on the order in which trainings ended, and a run that was killed goes on as it would."""
    budget = Budget(9, total=20)
    used = make(name, budget, seed=2)
    whole = run(used, 16, start(budget), n_hidden=2)
    for length in (3, 15, 9, 4, 12):  # asked again in any order, and of a strategy made anew
        shown = hide_latest(whole[:length], 2)
        fresh = make(name, budget, seed=2).propose(shown)
        assert fresh is not None
        assert used.propose(shown) == fresh
        if length >= len(start(budget)):
            assert fresh == Proposal(whole[length].pattern, whole[length].seed)


@pytest.mark.parametrize("name", [*CONTRACT, *SLOW])
def test_another_seed_gives_other_proposals(name: str) -> None:
    first, other = (
        {training.pattern for training in run(make(name, log_budget(9), seed=seed), 10)} for seed in range(2)
    )
    assert first != other


@pytest.mark.parametrize("name", [*CONTRACT, *SLOW])
def test_only_strategies_that_learn_propose_otherwise_after_other_costs(name: str) -> None:
    strategy = make(name, log_budget(9))
    first = run(strategy, 20)
    other = run(strategy, 20, cost=lambda pattern: -by_distance(pattern))
    assert ([t.pattern for t in first] != [t.pattern for t in other]) == strategy.learns


@pytest.mark.parametrize("name", [*CONTRACT, *SLOW])
@pytest.mark.parametrize("n_hidden", [0, 100], ids=["failed", "pending"])
def test_without_any_cost_there_are_proposals(name: str, n_hidden: int) -> None:
    trainings = run(make(name, log_budget(7)), 14, cost=lambda _: None, n_hidden=n_hidden)
    assert len({(training.pattern, training.seed) for training in trainings}) == 14


def test_an_unknown_strategy_is_refused() -> None:
    with pytest.raises(InputError, match="no strategy 'tpe'"):
        create_strategy("tpe", OpenSpace(log_budget(5)), 0, 1)


# Those that train each pattern with several seeds before the next.


@pytest.mark.parametrize("name", ["random", "random:wide", "evolve"])
def test_a_pattern_is_trained_with_all_seeds_before_the_next(name: str) -> None:
    trainings = run(make(name, Budget(9, total=18), seeds=3), 30)
    places = {training.pattern: place for place, training in reversed(list(enumerate(trainings)))}  # of the first
    assert len(places) >= 8
    for pattern, place in places.items():
        block = [(training.pattern, training.seed) for training in trainings[place : place + 3]]
        assert block == [(pattern, 0), (pattern, 1), (pattern, 2)][: len(block)]


@pytest.mark.parametrize("name", ["random", "random:wide", "evolve"])
def test_a_pattern_that_lacks_seeds_comes_first(name: str) -> None:
    first, other = (sample_uniform(log_budget(9), derive_generator(number)) for number in range(2))
    history = [finish(Proposal(*each)) for each in ((first, 0), (first, 2), (other, 0), (other, 1), (other, 2))]
    assert make(name, log_budget(9), seeds=3).propose(history) == Proposal(first, 1)


@pytest.mark.parametrize(("name", "sample"), [("random", sample_uniform), ("random:wide", sample_wide)])
def test_a_random_proposal_is_a_draw_of_its_own_stream(name: str, sample: Callable[..., ConnectionPattern]) -> None:
    budget = Budget(24, total=40)
    trainings = run(make(name, budget, seed=5), 4, start(budget))
    n_named = len(start(budget))
    drawn = [sample(budget, derive_generator(5, name, number)) for number in range(n_named, n_named + 4)]
    assert [training.pattern for training in trainings[n_named:]] == drawn


# Evolution.


def _moves(one: ConnectionPattern, other: ConnectionPattern) -> int:
    return len(set(one.connections) - set(other.connections))


def test_evolve_finds_better_patterns_than_random_where_cost_is_span() -> None:
    budget = log_budget(12)
    trainings = run(make("evolve", budget), 48, cost=lambda pattern: -pattern.span)
    uniform = [sample_uniform(budget, derive_generator("uniform", k)).span for k in range(200)]
    assert np.mean([training.pattern.span for training in trainings[-10:]]) > np.quantile(uniform, 0.75)


def test_a_child_is_a_near_mutant_of_a_young_member_of_the_population() -> None:
    budget = log_budget(16)
    patterns = [sample_uniform(budget, derive_generator("members", number)) for number in range(POPULATION + 10)]
    costs = {pattern: 0.0 if place < 10 else 1.0 + 0.01 * place for place, pattern in enumerate(patterns)}
    history = [Training(pattern, 0, costs[pattern], "finished") for pattern in patterns]
    parents: Counter[int] = Counter()
    for seed in range(20):
        proposal = make("evolve", budget, seed).propose(history)
        assert proposal is not None
        assert proposal.seed == 0
        moves = [_moves(pattern, proposal.pattern) for pattern in patterns]
        assert 1 <= min(moves) <= MAX_MOVES
        parents[moves.index(min(moves))] += 1
    # The first ten, better than all others, are too old to have children; of the rest the least cost wins tournaments.
    assert min(parents) >= 10
    assert np.mean(list(parents.elements())) < 10 + POPULATION / 2 - 2


def test_one_evolved_proposal_in_five_trains_the_best_mean_again() -> None:
    budget = log_budget(12)
    lucky, steady, *others = (sample_uniform(budget, derive_generator("champions", number)) for number in range(9))
    history = [Training(lucky, 0, 0.1, "finished"), Training(steady, 0, 0.3, "finished")]
    history += [Training(pattern, 0, 0.5, "finished") for pattern in others]
    strategy = make("evolve", budget)
    assert len(history) % RETRAIN_EVERY == RETRAIN_EVERY - 1
    assert strategy.propose(history) == Proposal(lucky, 1)
    history += [Training(lucky, 1, 0.9, "finished")]
    for _ in range(RETRAIN_EVERY - 1):
        proposal = strategy.propose(history)
        assert proposal is not None
        assert proposal.pattern not in {training.pattern for training in history}
        history.append(Training(proposal.pattern, proposal.seed, 0.8, "finished"))
    assert strategy.propose(history) == Proposal(steady, 1)  # lucky's mean is .5 by now


# What searches start from.


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
