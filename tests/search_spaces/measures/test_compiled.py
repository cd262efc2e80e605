"""Compiled measures against their definitions, and the kernel as an annealing loop calls it."""

import numpy as np
import pytest

from search_spaces.budget import Budget, log_budget
from search_spaces.errors import InputError
from search_spaces.measures.compiled import COMPILED, choose_groups, evaluate, make_scratch, measure_batch
from search_spaces.measures.registry import measure
from search_spaces.sampling.annealing import Bands, State, anneal
from search_spaces.sampling.draw import sample_uniform
from tests.support.patterns import every_pattern, random_pattern

BUDGETS = [Budget(1, total=1), Budget(5, total=9), Budget(12, total=30), log_budget(24), Budget(24, total=40)]


def test_the_measures_asked_for_are_compiled() -> None:
    assert set(COMPILED) >= {
        *("mean_bd", "max_bd", "from_output_mean", "to_input_mean", "from_loss_mean", "span", "walk_length"),
        *("visit_evenness", "ntk_trace", "layer_walk", "least_visit", "out_degree_sd", "in_degree_sd"),
    }


@pytest.mark.parametrize("budget", BUDGETS, ids=str)
def test_a_batch_is_what_the_definitions_give(budget: Budget) -> None:
    generator = np.random.default_rng(budget.n_connections)
    patterns = [sample_uniform(budget, generator) for _ in range(12)]
    for reads in (None, (budget.depth,), tuple(range(budget.depth + 1))):
        batch = measure_batch(patterns, COMPILED, reads)
        for number, pattern in enumerate(patterns):
            row = {name: column[number] for name, column in batch.items()}
            assert row == pytest.approx(measure(pattern, COMPILED, reads), rel=1e-11, abs=1e-11)


def test_a_batch_of_several_depths_and_of_measures_that_are_not_compiled() -> None:
    patterns = [*every_pattern(4), random_pattern(30, 1), random_pattern(7, 2), random_pattern(300, 3)]
    batch = measure_batch(patterns, ["log_paths", "walk_length", "mean_bd"])
    for number, pattern in enumerate(patterns):
        expected = measure(pattern, batch)
        assert {name: column[number] for name, column in batch.items()} == pytest.approx(expected)
    assert measure_batch([], ["mean_bd"])["mean_bd"].shape == (0,)


def test_the_kernel_follows_the_state_of_an_annealing() -> None:
    budget = log_budget(24)
    generator = np.random.default_rng(5)
    state = State.draw(budget, generator)
    scratch, values = make_scratch(24), np.zeros(len(COMPILED))
    reads = np.array([17, 21, 23, 24, 9])  # in any order
    for _ in range(5):
        anneal(state, Bands(low=(1000, 0, 0, 0)), 30, (0.0, 0.0), generator)
        evaluate(state.sources, state.degrees, reads, choose_groups(COMPILED), scratch, values)
        expected = measure(state.pattern(), COMPILED, tuple(reads.tolist()))
        assert dict(zip(COMPILED, values, strict=True)) == pytest.approx(expected, rel=1e-11)


@pytest.mark.parametrize("name", COMPILED)
def test_the_kernel_writes_the_groups_asked_for_and_no_other(name: str) -> None:
    state = State.of(random_pattern(10, 1), Budget(10, total=random_pattern(10, 1).n_connections))
    values = np.full(len(COMPILED), -7.0)
    groups = choose_groups([name])
    evaluate(state.sources, state.degrees, np.array([10]), groups, make_scratch(10), values)
    expected = measure(state.pattern(), COMPILED, (10,))
    for other, value in zip(COMPILED, values, strict=True):
        assert value == (pytest.approx(expected[other]) if choose_groups([other]) == groups else -7.0)


def test_other_names_and_reads_are_refused() -> None:
    with pytest.raises(InputError, match="'log_paths' is not compiled"):
        choose_groups(["span", "log_paths"])
    with pytest.raises(InputError, match="'spam'"):
        measure_batch([random_pattern(3, 0)], ["spam"])
    with pytest.raises(InputError, match=r"\[0, 2\]"):
        measure_batch([random_pattern(3, 0)], ["span"], (0, 2))
