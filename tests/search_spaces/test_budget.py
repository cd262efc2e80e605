"""Budgets: what is refused, the size of the space by enumeration, texts and back."""

import itertools
import math
from collections import Counter
from typing import Any

import pytest

from search_spaces.budget import Budget, log_budget, parse_budget
from search_spaces.errors import InputError
from search_spaces.pattern import ConnectionPattern
from search_spaces.templates import find_template
from tests.support.patterns import every_pattern


@pytest.mark.parametrize(
    ("text", "depth", "expected"),
    [
        ("log", 9, Budget(9, per_layer=(1, 2, 2, 3, 3, 3, 3, 4, 4))),
        ("log", 1, Budget(1, per_layer=(1,))),
        (" log\n", 2, Budget(2, per_layer=(1, 2))),
        ("total:4", 4, Budget(4, total=4)),
        ("total: 10", 4, Budget(4, total=10)),
        ("layers:1,1,3", 3, Budget(3, per_layer=(1, 1, 3))),
        ("layers: 1, 2, 2", 3, Budget(3, per_layer=(1, 2, 2))),
    ],
)
def test_each_form_is_read(text: str, depth: int, expected: Budget) -> None:
    assert parse_budget(text, depth) == expected


@pytest.mark.parametrize(
    ("text", "said"),
    [
        *((text, f"'{text}' is not of a known form") for text in ("", "LOG", "log:", "log:2", "94", "per_layer:1,2,2")),
        ("total", "'' is not made of whole numbers"),
        ("total:", "'' is not made of whole numbers"),
        ("total:x", "'x' is not made of whole numbers"),
        ("total:4.0", "'4.0' is not made of whole numbers"),
        ("total:4:4", "'4:4' is not made of whole numbers"),
        ("layers:", "'' is not made of whole numbers"),
        ("layers:1,2,", "'1,2,' is not made of whole numbers"),
        ("layers:1,2,b", "'1,2,b' is not made of whole numbers"),
        ("layers:1,2", "3 in-degrees, not 2"),
        ("layers:1,2,2,2", "3 in-degrees, not 4"),
        ("layers:1,2,4", "layer 3 cannot have 4 inputs"),
        ("layers:1,0,2", "layer 2 cannot have 0 inputs"),
        ("layers:2,3,-1", r"layer 1 cannot have 2 inputs: .* \(3 layers"),
        ("total:2", "total:2 .* 3 layers: .* total:3 to total:6"),
        ("total:7", "total:7 .* 3 layers: .* total:3 to total:6"),
        ("total:-4", "total:-4 "),
    ],
)
def test_a_text_that_no_pattern_of_three_layers_meets_is_refused(text: str, said: str) -> None:
    with pytest.raises(InputError, match=said):
        parse_budget(text, 3)


def test_one_layer_out_of_range_is_not_counted() -> None:
    with pytest.raises(InputError) as refusal:
        Budget(3, per_layer=(1, 3, 2))
    assert "layer 2 cannot have 3 inputs" in str(refusal.value)
    assert "out of range" not in str(refusal.value)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"depth": 3}, "exactly one"),
        ({"depth": 3, "total": 4, "per_layer": (1, 2, 1)}, "exactly one"),
        ({"depth": 0, "total": 0}, "at least 1 layer, not 0"),
        ({"depth": -1, "per_layer": ()}, "at least 1 layer, not -1"),
    ],
)
def test_a_budget_is_one_of_two_things_for_at_least_one_layer(arguments: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        Budget(**arguments)
    with pytest.raises(InputError, match="not 0"):
        parse_budget("log", 0)


@pytest.mark.parametrize("depth", [1, 2, 3, 4, 5])
def test_sizes_are_those_of_the_enumeration(depth: int) -> None:
    patterns = list(every_pattern(depth))
    by_total = Counter(pattern.n_connections for pattern in patterns)
    most = depth * (depth + 1) // 2
    assert {total: Budget(depth, total=total).n_patterns for total in range(depth, most + 1)} == by_total
    by_degrees = Counter(pattern.in_degrees for pattern in patterns)
    every_choice = itertools.product(*(range(1, layer + 1) for layer in range(1, depth + 1)))
    assert {degrees: Budget(depth, per_layer=degrees).n_patterns for degrees in every_choice} == by_degrees


@pytest.mark.parametrize(("depth", "n_patterns"), [(5, 36), (6, 360), (7, 5_400), (8, 189_000)])
def test_log_budgets_have_their_known_sizes(depth: int, n_patterns: int) -> None:
    assert log_budget(depth).n_patterns == n_patterns


def test_larger_spaces_have_their_known_sizes() -> None:
    assert Budget(6, total=10).n_patterns == 1_365
    assert math.log10(log_budget(12).n_patterns) == pytest.approx(13, abs=0.5)
    assert math.log10(log_budget(24).n_patterns) == pytest.approx(53, abs=0.5)


@pytest.mark.parametrize("depth", [1, 2, 3, 4])
def test_exactly_the_patterns_that_spend_a_budget_meet_it(depth: int) -> None:
    patterns = [pattern for d in range(1, 5) for pattern in every_pattern(d)]
    for budget in [
        *(Budget(depth, total=total) for total in range(depth, depth * (depth + 1) // 2 + 1)),
        *(Budget(depth, per_layer=degrees) for degrees in {p.in_degrees for p in patterns if p.depth == depth}),
    ]:
        meeting = [pattern for pattern in patterns if budget.is_met_by(pattern)]
        assert len(meeting) == budget.n_patterns
        assert {pattern.depth for pattern in meeting} == {depth}
        assert {pattern.graph().number_of_edges() for pattern in meeting} == {budget.n_connections}


def test_the_same_total_spread_otherwise_does_not_meet_a_budget_by_layer() -> None:
    pattern = ConnectionPattern(4, ((0,), (1,), (1, 2), (0, 1, 3)))
    assert Budget(4, total=7).is_met_by(pattern)
    assert Budget(4, per_layer=(1, 1, 2, 3)).is_met_by(pattern)
    assert not Budget(4, per_layer=(1, 2, 2, 2)).is_met_by(pattern)


@pytest.mark.parametrize("depth", range(1, 41))
def test_the_log_budget_is_what_the_log_template_spends(depth: int) -> None:
    log = find_template("log").build(depth)
    assert log_budget(depth).per_layer == log.in_degrees
    assert log_budget(depth).n_connections == log.n_connections
    assert log_budget(depth).is_met_by(log)


@pytest.mark.parametrize("depth", [1, 2, 3, 4])
def test_texts_read_back_as_the_same_budget_and_differ_between_budgets(depth: int) -> None:
    degrees = itertools.product(*(range(1, layer + 1) for layer in range(1, depth + 1)))
    budgets = [
        *(Budget(depth, total=total) for total in range(depth, depth * (depth + 1) // 2 + 1)),
        *(Budget(depth, per_layer=choice) for choice in degrees),
    ]
    assert [parse_budget(str(budget), depth) for budget in budgets] == budgets
    assert len({str(budget) for budget in budgets}) == len(budgets)


def test_a_budget_prints_as_on_the_command_line() -> None:
    budgets = (Budget(24, total=94), Budget(4, per_layer=(1, 2, 2, 3)), Budget(4, per_layer=(1, 2, 2, 4)))
    assert [str(budget) for budget in budgets] == ["total:94", "log", "layers:1,2,2,4"]


@pytest.mark.parametrize("text", ["log", "total:9", "total:15", "total:20", "total:21", "layers:1,2,3,3,2,1"])
def test_counting_up_to_a_number_agrees_with_counting_all(text: str) -> None:
    budget = parse_budget(text, 6)
    for most in (1, 2, 7, 100, 10**9):
        assert budget.count_up_to(most) == min(budget.n_patterns, most)


def test_a_number_of_patterns_that_no_memory_holds_is_counted_up_to_a_limit() -> None:
    assert parse_budget("total:4000000", 4096).count_up_to(10**6) == 10**6


def test_a_cap_of_more_digits_than_python_reads_is_refused() -> None:
    with pytest.raises(InputError, match="max-in"):
        parse_budget("log;max-in:" + "9" * 5000, 24)
