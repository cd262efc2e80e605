"""Proposals: the budget is met, nothing comes twice, a number gives the same pattern again."""

import pytest

from nas.proposals import create_strategy, iterate_templates
from search_spaces.budget import Budget, log_budget
from search_spaces.errors import InputError
from search_spaces.templates import find_template


def test_every_pattern_of_a_small_space_is_found_once_and_then_none() -> None:
    budget = log_budget(5)
    strategy = create_strategy("random", budget, seed=3)
    known: set[str] = set()
    for number in range(budget.n_patterns):
        pattern = strategy.ask(number, known)
        assert pattern is not None
        assert budget.is_met_by(pattern)
        assert pattern.key not in known
        known.add(pattern.key)
    assert len(known) == 36
    assert strategy.ask(36, known) is None


@pytest.mark.parametrize("budget", [log_budget(24), Budget(24, total=80)], ids=str)
def test_a_number_gives_the_same_pattern_again_and_another_seed_another(budget: Budget) -> None:
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
    ]
    assert [name for name, _ in iterate_templates(Budget(12, total=42))] == [
        "nearest_log_L",
        "nearest_half",
        "evenly_log_L",
        "odd_even",
    ]  # nearest_4 is nearest_log_L there
    assert list(iterate_templates(Budget(12, total=43))) == []
    ((name, pattern),) = iterate_templates(Budget(12, total=78))
    assert (name, pattern) == ("dense", find_template("dense").build(12))


def test_an_unknown_strategy_is_refused() -> None:
    with pytest.raises(InputError, match="no strategy 'annealed'"):
        create_strategy("annealed", log_budget(5), 0)
