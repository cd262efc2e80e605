"""Caps on degrees: feasible exactly where a maximum flow says so, spent by the example, written and read back."""

import itertools
from collections import defaultdict

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nas.search.loop import count_asked
from nas.search.space import OpenSpace
from nas.search.strategies.registry import create_strategy
from nas.settings.search import SearchConfig
from search_spaces.budget import Budget, log_budget, parse_budget
from search_spaces.errors import InputError
from search_spaces.families import iterate_families
from search_spaces.seeds import derive_generator
from search_spaces.templates import iterate_templates
from tests.support.budgets import assert_spent, is_feasible, most_connections
from tests.support.patterns import every_pattern

Caps = tuple[int | None, int | None]


def refusal_of(**arguments: object) -> str:
    with pytest.raises(InputError) as refusal:
        Budget(**arguments)  # type: ignore[arg-type]
    return str(refusal.value)


caps = st.none() | st.integers(1, 6)


@settings(max_examples=150, deadline=None, derandomize=True)
@given(st.integers(1, 9), caps, caps)
def test_totals_are_feasible_up_to_the_maximum_flow(depth: int, max_in: int | None, max_out: int | None) -> None:
    most = most_connections(depth, max_in, max_out)
    for total in range(depth, most + 1):
        assert_spent(Budget(depth, total, None, max_in, max_out).example(), Budget(depth, total, None, max_in, max_out))
    for total in (depth - 1, most + 1):
        said = refusal_of(depth=depth, total=total, max_in=max_in, max_out=max_out)
        assert f"give total:{depth} to total:{most}" in said
        assert ("max-in:" in said, "max-out:" in said) == (max_in is not None, max_out is not None)


@st.composite
def degree_choices(draw: st.DrawFn) -> tuple[int, ...]:
    depth = draw(st.integers(1, 10))
    return tuple(draw(st.integers(1, layer)) for layer in range(1, depth + 1))


@settings(max_examples=300, deadline=None, derandomize=True)
@given(degree_choices(), caps, caps)
def test_budgets_by_layer_are_feasible_where_the_maximum_flow_fills_them(
    per_layer: tuple[int, ...], max_in: int | None, max_out: int | None
) -> None:
    depth = len(per_layer)
    if is_feasible(depth, per_layer, max_in, max_out):
        budget = Budget(depth, None, per_layer, max_in, max_out)
        assert_spent(budget.example(), budget)
    else:
        refusal_of(depth=depth, per_layer=per_layer, max_in=max_in, max_out=max_out)


def test_sparse_budgets_by_layer_near_their_limit_are_feasible_where_the_flow_says_so() -> None:
    generator = derive_generator("near the limit")
    verdicts = []
    for _ in range(300):
        depth = int(generator.integers(3, 12))
        max_out = int(generator.integers(2, 5))
        per_layer = tuple(int(generator.integers(1, min(layer, max_out + 2) + 1)) for layer in range(1, depth + 1))
        verdicts.append(is_feasible(depth, per_layer, None, max_out))
        if verdicts[-1]:
            budget = Budget(depth, per_layer=per_layer, max_out=max_out)
            assert_spent(budget.example(), budget)
        else:
            assert "give a larger max-out" in refusal_of(depth=depth, per_layer=per_layer, max_out=max_out)
    assert 60 < sum(verdicts) < 240


@pytest.mark.parametrize("depth", [1, 2, 3, 4, 5])
def test_feasible_is_what_some_pattern_of_a_small_depth_meets(depth: int) -> None:
    totals: defaultdict[Caps, set[int]] = defaultdict(set)
    degrees: defaultdict[Caps, set[tuple[int, ...]]] = defaultdict(set)
    choices = list(itertools.product((None, *range(1, depth + 1)), repeat=2))
    for pattern in every_pattern(depth):
        most_in, most_out = max(pattern.in_degrees), max(pattern.out_degrees)
        for max_in, max_out in choices:
            if most_in <= (max_in or depth) and most_out <= (max_out or depth):
                totals[max_in, max_out].add(pattern.n_connections)
                degrees[max_in, max_out].add(pattern.in_degrees)
    every_degrees = list(itertools.product(*(range(1, layer + 1) for layer in range(1, depth + 1))))
    for max_in, max_out in choices:
        for total in range(depth * (depth + 1) // 2 + 2):
            if total in totals[max_in, max_out]:
                Budget(depth, total, None, max_in, max_out)
            else:
                refusal_of(depth=depth, total=total, max_in=max_in, max_out=max_out)
        for per_layer in every_degrees:
            if per_layer in degrees[max_in, max_out]:
                Budget(depth, None, per_layer, max_in, max_out)
            else:
                refusal_of(depth=depth, per_layer=per_layer, max_in=max_in, max_out=max_out)


@pytest.mark.parametrize("max_in", [None, 1, 2, 3])
@pytest.mark.parametrize("max_out", [None, 1, 2, 3])
def test_exactly_the_patterns_within_the_caps_meet_a_budget(max_in: int | None, max_out: int | None) -> None:
    budget = Budget(4, 4, None, max_in, max_out)
    wider = [Budget(4, total, None, max_in, max_out) for total in range(5, most_connections(4, max_in, max_out) + 1)]
    for pattern in every_pattern(4):
        within = max(pattern.in_degrees) <= (max_in or 4) and max(pattern.out_degrees) <= (max_out or 4)
        assert any(each.is_met_by(pattern) for each in [budget, *wider]) == within
        if within:
            by_layer = Budget(4, None, pattern.in_degrees, max_in, max_out)
            assert by_layer.is_met_by(pattern)


@pytest.mark.parametrize(
    ("text", "budget"),
    [
        ("total:20;max-in:4", Budget(8, total=20, max_in=4)),
        ("total:20;max-out:5", Budget(8, total=20, max_out=5)),
        ("total:16;max-in:3;max-out:4", Budget(8, total=16, max_in=3, max_out=4)),
        ("log;max-out:6", Budget(8, per_layer=log_budget(8).per_layer, max_out=6)),
        ("layers:1,2,2,2,2,2,2,2;max-in:2", Budget(8, per_layer=(1, 2, 2, 2, 2, 2, 2, 2), max_in=2)),
    ],
)
def test_caps_are_written_after_the_budget_and_read_back(text: str, budget: Budget) -> None:
    assert str(budget) == text
    assert parse_budget(text, 8) == budget


def test_caps_are_read_in_either_order() -> None:
    assert parse_budget("total:16;max-out:4;max-in:3", 8) == Budget(8, total=16, max_in=3, max_out=4)


@settings(max_examples=100, deadline=None, derandomize=True)
@given(degree_choices(), caps, caps)
def test_texts_read_back_as_the_same_capped_budget(
    per_layer: tuple[int, ...], max_in: int | None, max_out: int | None
) -> None:
    depth = len(per_layer)
    budgets = [Budget(depth, most_connections(depth, max_in, max_out), None, max_in, max_out)]
    if is_feasible(depth, per_layer, max_in, max_out):
        budgets.append(Budget(depth, None, per_layer, max_in, max_out))
    for budget in budgets:
        assert parse_budget(str(budget), depth) == budget
        assert parse_budget(f" {budget}\n", depth) == budget


def test_different_caps_are_different_texts() -> None:
    budgets = [Budget(6, 6, None, *both) for both in itertools.product((None, 1, 2, 3), repeat=2)]
    assert len({str(budget) for budget in budgets}) == len(set(budgets)) == 16


@pytest.mark.parametrize(
    "cap", ["", "max-in", "max-in:", "max-in:x", "max_in:3", "max-on:3", "most:3", "3", "max-in:3;max-in:4"]
)
def test_a_cap_of_another_form_or_given_twice_is_refused_by_name(cap: str) -> None:
    for budget in ("total:8", "log"):
        with pytest.raises(InputError, match=f"{cap.split(';')[-1]!r} is not max-in:K or max-out:K"):
            parse_budget(f"{budget};{cap}", 6)


@pytest.mark.parametrize("cap", [0, -1])
def test_a_cap_below_one_is_refused(cap: int) -> None:
    for name in ("max-in", "max-out"):
        with pytest.raises(InputError, match="below 1 leaves no room for the chain"):
            parse_budget(f"total:6;{name}:{cap}", 6)


def test_caps_are_whole_numbers() -> None:
    assert "whole numbers" in refusal_of(depth=4, total=5, max_in=2.5)
    assert "whole numbers" in refusal_of(depth=4, total=5, max_out=True)


def test_a_budget_by_layer_above_max_in_is_refused_with_both_numbers() -> None:
    said = refusal_of(depth=24, per_layer=log_budget(24).per_layer, max_in=4)
    assert "layer 16 cannot have 5 inputs under max-in:4" in said


def test_a_refusal_by_layer_says_how_many_inputs_there_is_room_for() -> None:
    said = refusal_of(depth=4, per_layer=(1, 2, 3, 3), max_out=2)
    assert "layer 3 cannot have 3 inputs under max-out:2" in said
    assert "give it 1 to 2" in said
    Budget(4, per_layer=(1, 2, 2, 1), max_out=2)


def test_a_search_takes_a_capped_budget() -> None:
    config = SearchConfig(layers=8, budget="log;max-out:5", strategy="random", trials=4)
    budget = parse_budget("log;max-out:5", 8)
    named = {pattern.key for _, pattern in (*iterate_templates(budget), *iterate_families(budget))}
    assert count_asked(config) == 3 * (4 + len(named))
    proposal = create_strategy("random", OpenSpace(budget), 0, 3).propose([])
    assert proposal is not None
    assert max(proposal.pattern.out_degrees) <= 5


def test_patterns_under_caps_are_not_counted() -> None:
    for budget in (Budget(5, total=8, max_in=2), Budget(5, total=8, max_out=3)):
        with pytest.raises(InputError, match="caps leave no closed form"):
            _ = budget.n_patterns


def test_examples_at_many_layers_spend_their_budget() -> None:
    for depth, max_in, max_out in ((60, 5, 5), (60, None, 4), (60, 4, None), (100, 9, 7), (20, None, None)):
        most = most_connections(depth, max_in, max_out)
        for total in (depth, depth + 1, (depth + most) // 2, most):
            budget = Budget(depth, total, None, max_in, max_out)
            assert_spent(budget.example(), budget)
    for max_out in (7, 8, 12):
        budget = Budget(52, per_layer=log_budget(52).per_layer, max_out=max_out)
        assert_spent(budget.example(), budget)
