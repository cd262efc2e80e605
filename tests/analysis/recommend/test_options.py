"""What is offered spends the budget, and the order and the shortest pattern are as claimed."""

import numpy as np
import pytest

from analysis.recommend.comparable import FARTHEST, draw_uniform, standardise
from analysis.recommend.evidence import DISTANCE, MODEL, read_lessons
from analysis.recommend.options import Options, find_options
from search_spaces.budget import Budget, parse_budget
from search_spaces.errors import InputError
from search_spaces.measures.registry import measure
from search_spaces.surrogate.features import PREDICTORS
from tests.support.patterns import by_layer_order


@pytest.fixture(scope="module")
def offered() -> Options:
    return find_options(parse_budget("total:28", 12))


@pytest.mark.parametrize("text", ["total:13;max-in:3;max-out:5", "layers:1,1,2,2,1,3", "total:6", "total:21"])
def test_what_is_offered_spends_the_budget_and_is_different(text: str) -> None:
    budget = parse_budget(text, 6)
    patterns = [option.pattern for option in find_options(budget).options]
    assert all(budget.is_met_by(pattern) for pattern in patterns)
    assert len({pattern.key for pattern in patterns}) == len(patterns) >= 1


def test_the_least_expected_loss_comes_first(offered: Options) -> None:
    expected = [option.expected for option in offered.options]
    assert expected == sorted(expected)
    assert "shortest_walk" in [option.name for option in offered.options]


def test_the_shortest_is_no_longer_than_any_other(offered: Options) -> None:
    (shortest,) = [option for option in offered.options if DISTANCE in option.roles]
    pairs = {option.pattern.key: by_layer_order(option.pattern) for option in offered.options}
    distances = {key: sum(own.values()) / len(own) for key, own in pairs.items()}
    assert distances[shortest.pattern.key] == pytest.approx(2 - 28 / 78)  # met: every two layers within two hops
    assert min(distances.values()) == pytest.approx(distances[shortest.pattern.key])


def test_what_is_expected_is_a_weighted_sum_of_standardised_measures() -> None:
    budget = parse_budget("total:8", 5)
    uniform, weights = draw_uniform(budget), read_lessons().weights
    scale = np.array([[measure(pattern, PREDICTORS)[name] for name in PREDICTORS] for pattern in uniform])
    options = find_options(budget).options
    expected = {option.pattern: option.expected for option in options}
    (chosen,) = [option.pattern for option in options if MODEL in option.roles]
    for pattern in (chosen, options[-1].pattern, *uniform[:9]):
        own, total = measure(pattern, PREDICTORS), 0.0
        for name, column in zip(PREDICTORS, scale.T, strict=True):
            if column.std() > 1e-9:
                total += weights[name] * min(max((own[name] - column.mean()) / column.std(), -6), 6)
        assert total == pytest.approx(expected.get(pattern, total), abs=1e-9)
        assert total >= expected[chosen] - 1e-9  # it begins with these draws


def test_the_scale_leaves_out_what_does_not_vary_and_ends() -> None:
    budget = Budget(12, total=28)
    chain_like = find_options(parse_budget("total:28", 12)).options[-1].pattern
    one = draw_uniform(budget)[:1]
    assert not standardise(one, one).any()
    two = draw_uniform(budget)[:2]
    points = standardise([chain_like], two)
    assert np.abs(points).max() == FARTHEST


def test_depths_far_from_all_that_was_measured_are_refused() -> None:
    with pytest.raises(InputError, match="257"):
        find_options(parse_budget("total:300", 257))
