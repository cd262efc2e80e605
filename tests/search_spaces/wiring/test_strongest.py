"""The strongest connections: against enumeration on small patterns, budgets and caps kept."""

import itertools

import numpy as np
import pytest

from search_spaces.budget import Budget, log_budget
from search_spaces.errors import InputError
from search_spaces.pattern import ConnectionPattern
from search_spaces.seeds import derive_generator
from search_spaces.templates import find_template
from search_spaces.wiring.strongest import keep_strongest, relative_strengths
from tests.support.patterns import random_pattern

DENSE = find_template("dense").build(6)


def draw_strengths(pattern: ConnectionPattern, number: int) -> list[float]:
    return [float(drawn) for drawn in derive_generator("strengths", number).exponential(size=pattern.n_connections)]


@pytest.mark.parametrize("number", range(5))
def test_relative_strengths_average_to_one_in_every_layer(number: int) -> None:
    pattern = random_pattern(9, number)
    strengths = draw_strengths(pattern, number)
    relative = relative_strengths(pattern, strengths)
    assert list(relative) == list(pattern.connections)
    start = 0
    for layer, inputs in enumerate(pattern.sources, start=1):
        own = np.array(strengths[start : start + len(inputs)])
        np.testing.assert_allclose([relative[source, layer] for source in inputs], own / own.mean(), rtol=1e-12)
        start += len(inputs)


@pytest.mark.parametrize(
    "budget", [Budget(6, total=9), Budget(6, total=6), Budget(6, total=21), log_budget(6)], ids=str
)
@pytest.mark.parametrize("number", range(4))
def test_no_part_of_the_pattern_that_meets_the_budget_is_stronger(number: int, budget: Budget) -> None:
    strengths = draw_strengths(DENSE, number)
    relative = relative_strengths(DENSE, strengths)
    strongest = keep_strongest(DENSE, strengths, budget)
    assert budget.is_met_by(strongest)
    assert set(strongest.connections) <= set(DENSE.connections)

    def strength(pattern: ConnectionPattern) -> float:
        return sum(relative[connection] for connection in pattern.connections)

    chain = [(layer - 1, layer) for layer in range(1, 7)]
    skips = sorted(set(DENSE.connections) - set(chain))
    parts = (
        ConnectionPattern.from_connections(6, [*chain, *chosen])
        for chosen in itertools.combinations(skips, budget.n_connections - 6)
    )
    best = max((part for part in parts if budget.is_met_by(part)), key=strength)
    assert strength(strongest) == pytest.approx(strength(best), rel=1e-12)


def test_the_chain_stays_however_weak() -> None:
    strengths = [0.0 if target - source == 1 else 1.0 for source, target in DENSE.connections]
    strongest = keep_strongest(DENSE, strengths, Budget(6, total=8))
    assert {(layer - 1, layer) for layer in range(1, 7)} < set(strongest.connections)


def test_of_equals_the_shorter_stays() -> None:
    strongest = keep_strongest(DENSE, [1.0] * 21, Budget(6, total=11))
    assert {target - source for source, target in strongest.connections} == {1, 2}


@pytest.mark.parametrize("number", range(4))
def test_caps_hold(number: int) -> None:
    budget = Budget(6, total=9, max_in=2, max_out=2)
    strongest = keep_strongest(DENSE, draw_strengths(DENSE, number), budget)
    assert max(strongest.in_degrees) <= 2
    assert max(strongest.out_degrees) <= 2
    assert strongest.n_connections == 9


@pytest.mark.parametrize(
    ("strengths", "budget", "said"),
    [
        ([1.0] * 20, Budget(6, total=9), "20 strengths for a pattern of 21"),
        ([1.0] * 20 + [-0.1], Budget(6, total=9), "finite and not negative"),
        ([1.0] * 20 + [float("nan")], Budget(6, total=9), "finite and not negative"),
        ([1.0] * 20 + [float("inf")], Budget(6, total=9), "finite and not negative"),
        ([1.0] * 21, Budget(5, total=9), "5 layers for a pattern of 6"),
    ],
)
def test_refusals(strengths: list[float], budget: Budget, said: str) -> None:
    with pytest.raises(InputError, match=said):
        keep_strongest(DENSE, strengths, budget)


def test_a_pattern_without_connections_to_spare_is_refused() -> None:
    chain = find_template("chain").build(6)
    with pytest.raises(InputError, match=r"do not add up to budget total:8.*to spare"):
        keep_strongest(chain, [1.0] * 6, Budget(6, total=8))
