"""Families: they spend the budget that they are fitted to, and are the named rules where those spend it too."""

import math

import pytest

from search_spaces.budget import Budget, log_budget
from search_spaces.families import FAMILIES, fit_family, iterate_families, spread_in_degrees
from search_spaces.templates import build_named, find_template

BUDGETS = [log_budget(12), *(Budget(12, total=total) for total in (12, 13, 29, 42, 60, 77, 78)), Budget(1, total=1)]


@pytest.mark.parametrize("budget", BUDGETS, ids=str)
def test_every_family_spends_every_budget(budget: Budget) -> None:
    found = dict(iterate_families(budget))
    assert list(found) == list(FAMILIES)
    assert all(map(budget.is_met_by, found.values()))


@pytest.mark.parametrize("total", range(12, 79))
def test_a_total_is_shared_out_as_evenly_as_can_be(total: int) -> None:
    degrees = spread_in_degrees(Budget(12, total=total))
    assert sum(degrees) == total
    assert all(1 <= degree <= layer for layer, degree in enumerate(degrees, start=1))
    # No layer with room has two inputs less than another, and of equals the later one has more.
    assert list(degrees) == sorted(degrees)
    assert all(degree >= min(layer, max(degrees) - 1) for layer, degree in enumerate(degrees, start=1))


@pytest.mark.parametrize(("family", "template"), [("nearest", "nearest_log_i"), ("evenly", "evenly_log_i")])
def test_at_the_budget_of_log_densenet_they_are_its_baselines(family: str, template: str) -> None:
    assert fit_family(family, log_budget(52)) == find_template(template).build(52)


def test_nearest_of_four_inputs_is_the_template() -> None:
    assert fit_family("nearest", Budget(12, total=42)) == find_template("nearest_4").build(12)


@pytest.mark.parametrize("name", FAMILIES)
def test_at_the_largest_budget_all_are_dense(name: str) -> None:
    assert fit_family(name, Budget(9, total=45)) == find_template("dense").build(9)


def test_geometric_is_log_densenet_where_a_layer_is_a_power_of_two() -> None:
    ours, theirs = fit_family("geometric", log_budget(64)), find_template("log").build(64)
    assert [ours.sources[i - 1] == theirs.sources[i - 1] for i in (1, 2, 4, 8, 16, 32, 64)] == [True] * 7


@pytest.mark.parametrize("budget", BUDGETS, ids=str)
def test_geometric_offsets_are_the_least_distinct_whole_numbers_above_equal_ratios(budget: Budget) -> None:
    """By floats, with a hair's width for their rounding, where the code takes only whole numbers."""
    for layer, sources in enumerate(fit_family("geometric", budget).sources, start=1):
        offsets = sorted(layer - source for source in sources)
        n = len(offsets)
        assert offsets[0] == 1
        for k in range(1, n):
            least = math.ceil(layer ** (k / (n - 1)) - 1e-9)
            assert offsets[k] == min(max(least, offsets[k - 1] + 1), layer - (n - 1 - k))


def test_a_family_that_breaks_a_cap_is_left_out() -> None:
    found = [name for name, _ in iterate_families(Budget(12, total=42, max_out=4))]
    assert found == ["nearest"]


@pytest.mark.parametrize("name", FAMILIES)
def test_a_family_has_a_name_on_the_command_line(name: str) -> None:
    budget = Budget(9, total=20)
    assert build_named(name, budget) == fit_family(name, budget)
