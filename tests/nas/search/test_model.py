"""The strategy model: a function of the history that finds what is planted."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from nas.search.strategies.model import N_FIRST, ModelStrategy
from nas.search.strategy import Proposal, Training
from search_spaces.budget import Budget
from search_spaces.measures.registry import measure
from search_spaces.pattern import ConnectionPattern
from search_spaces.sampling.draw import sample_uniform
from search_spaces.seeds import derive_generator
from tests.support.patterns import patterns_of

BUDGET = Budget(8, total=13)
Outcome = Callable[[ConnectionPattern, int], float | None]


@dataclass
class FakeSpace:
    """A pool of some uniform draws, and mutants that are uniform draws too."""

    budget: Budget
    n: int = 60

    def draw(self, generator: np.random.Generator, known: Any) -> ConnectionPattern | None:
        raise AssertionError(f"the model proposes from the pool and mutants: {generator} {len(known)}")

    draw_wide = draw

    def pool(self, seed: int) -> tuple[ConnectionPattern, ...]:
        if self.budget.n_patterns <= self.n:
            return tuple(patterns_of(self.budget))
        generator = derive_generator(seed, "fake")
        return tuple(dict.fromkeys(sample_uniform(self.budget, generator) for _ in range(self.n)))

    def mutate(self, pattern: ConnectionPattern, generator: np.random.Generator) -> ConnectionPattern:
        assert self.budget.is_met_by(pattern)
        return sample_uniform(self.budget, generator)


def fail(_pattern: ConnectionPattern, _seed: int) -> None:
    return None


def cost_half(_pattern: ConnectionPattern, _seed: int) -> float:
    return 0.5


def cost_walks(pattern: ConnectionPattern, seed: int) -> float:
    """A cost that rises with walk length, with noise of a third of its spread and an effect of the seed."""
    values = measure(pattern, ["walk_length", "visit_evenness"])
    generator = derive_generator(pattern.key, seed)
    shift = derive_generator("seed", seed).normal()
    return 0.3 * values["walk_length"] - 0.5 * values["visit_evenness"] + 0.05 * generator.normal() + 0.05 * shift


def train(proposal: Proposal, outcome: Outcome = cost_walks) -> Training:
    cost = outcome(proposal.pattern, proposal.seed)
    return Training(proposal.pattern, proposal.seed, cost, "failed" if cost is None else "finished")


def search(
    strategy: ModelStrategy, n: int, outcome: Outcome = cost_walks, history: Sequence[Training] = ()
) -> list[Training]:
    trainings = list(history)
    while len(trainings) < n and (proposal := strategy.propose(trainings)) is not None:
        trainings.append(train(proposal, outcome))
    return trainings


def test_nothing_is_trained_twice_and_new_patterns_share_a_seed() -> None:
    history = search(ModelStrategy(FakeSpace(BUDGET), 1), 16)
    assert len({(training.pattern.key, training.seed) for training in history}) == 16
    assert all(BUDGET.is_met_by(training.pattern) for training in history)
    seeds: dict[str, list[int]] = {}
    for training in history:
        seeds.setdefault(training.pattern.key, []).append(training.seed)
    assert all(each == list(range(len(each))) for each in seeds.values())


def test_a_proposal_is_a_function_of_space_seed_and_history() -> None:
    history = search(ModelStrategy(FakeSpace(BUDGET), 1), 12)
    for n in (3, 9, 12):
        fresh = ModelStrategy(FakeSpace(BUDGET), 1).propose(history[:n])
        used = ModelStrategy(FakeSpace(BUDGET), 1)
        used.propose(history[:5])
        assert used.propose(history[:n]) == fresh
        if n < 12:
            assert fresh == Proposal(history[n].pattern, history[n].seed)
    assert search(ModelStrategy(FakeSpace(BUDGET), 2), 3) != history[:3]


def test_pending_trainings_spread_the_proposals() -> None:
    strategy = ModelStrategy(FakeSpace(BUDGET), 1)
    history = search(strategy, 10)
    proposals = []
    for _ in range(4):
        proposal = strategy.propose(history)
        assert proposal is not None
        proposals.append((proposal.pattern.key, proposal.seed))
        history.append(Training(proposal.pattern, proposal.seed, None, "pending"))
    assert len(set(proposals)) == 4
    assert len({key for key, _ in proposals}) > 1


def test_the_first_patterns_lie_far_apart_in_measures() -> None:
    def least_distance(patterns: Sequence[ConnectionPattern]) -> float:
        names = ["walk_length", "span", "mean_bd", "in_degree_sd"]
        rows = np.array([list(measure(pattern, names).values()) for pattern in patterns])
        gaps = np.linalg.norm((rows[:, None] - rows) / rows.std(axis=0), axis=2)
        return float(gaps[np.triu_indices(len(rows), 1)].mean())

    space = FakeSpace(BUDGET)
    first = [training.pattern for training in search(ModelStrategy(space, 1), N_FIRST)]
    assert least_distance(first) > least_distance(space.pool(1)) * 1.1


def test_a_planted_truth_is_found_in_fewer_trainings_than_by_chance() -> None:
    def expect(pattern: ConnectionPattern) -> float:
        values = measure(pattern, ["walk_length", "visit_evenness"])
        return 0.3 * values["walk_length"] - 0.5 * values["visit_evenness"]

    better = 0
    for seed in range(2):
        space = FakeSpace(BUDGET, 80)
        history = search(ModelStrategy(space, seed), 16)
        found = min(expect(training.pattern) for training in history)
        generator = derive_generator(seed, "chance")
        better += found < min(expect(sample_uniform(BUDGET, generator)) for _ in range(16))
    assert better == 2


@pytest.mark.parametrize("outcome", [cost_half, cost_walks])
def test_a_small_space_is_used_up_and_then_its_patterns_are_compared(outcome: Outcome) -> None:
    budget = Budget(3, total=4)
    assert budget.n_patterns == 3
    history = search(ModelStrategy(FakeSpace(budget), 0), 9, outcome)
    assert len({training.pattern.key for training in history[:3]}) == 3
    assert len(history) == 9


def test_a_space_without_a_choice_ends() -> None:
    assert len(search(ModelStrategy(FakeSpace(Budget(3, total=3)), 0), 5)) == 1


def test_a_small_space_in_training_is_trained_again_meanwhile() -> None:
    space = FakeSpace(Budget(3, total=4))
    history = [Training(pattern, 0, None, "pending") for pattern in space.pool(0)]
    assert ModelStrategy(space, 0).propose(history) == Proposal(history[0].pattern, 1)


def test_failed_patterns_are_not_trained_again() -> None:
    history = search(ModelStrategy(FakeSpace(BUDGET), 1), 12, fail)
    assert len({training.pattern.key for training in history}) == 12
    some = search(
        ModelStrategy(FakeSpace(BUDGET), 1),
        14,
        lambda pattern, seed: None if pattern.sources[3][0] else cost_walks(pattern, seed),
    )
    failed = [training.pattern.key for training in some if training.state == "failed"]
    assert failed
    assert len(failed) == len(set(failed))
    all_failed = FakeSpace(Budget(3, total=4))
    assert len(search(ModelStrategy(all_failed, 0), 9, fail)) == 3
