"""Choices by the posterior: Monte Carlo over what the model draws."""

import numpy as np
import pytest

from search_spaces.surrogate.choice import choose, expect_improvement, find_chance, rank, value_again, value_new
from search_spaces.surrogate.posterior import Observations, Posterior, Variances
from tests.support.observed import MIXED, observe_some

POSTERIOR = Posterior(observe_some(n_pending=0), MIXED)
NEW = np.random.default_rng(1).normal(size=(3, 4))


def test_the_chosen_one_has_the_least_expected_cost_and_not_the_least_observed() -> None:
    none = np.array([], np.int64)
    rows = np.array([0, 0, 0, 0, 1, 2, 3, 4, 5])
    costs = np.array([-1.0, -1.1, -0.9, -1.0, -1.15, 0.0, 0.0, 0.0, 0.0])  # four trainings against a lucky one
    observations = Observations(np.zeros((6, 1)), rows, np.arange(9), costs, none, none)
    posterior = Posterior(observations, Variances(mean=100.0, linear=1.0, own=0.04, seed=1e-6, noise=0.1))
    choice = choose(posterior)
    assert choice.row == 0
    assert rank(posterior)[0] == 0
    assert choice.low < choice.mean < choice.high
    sd = np.sqrt(posterior.covariance[0, 0])
    assert choice.high - choice.low == pytest.approx(2 * 1.96 * sd, rel=1e-4)


def test_a_pattern_that_is_only_pending_is_not_chosen() -> None:
    points = np.array([[0.0], [1.0], [2.0]])
    observations = Observations(
        points, np.array([0, 1]), np.array([0, 1]), np.array([0.0, -1.0]), np.array([2]), np.array([0])
    )
    posterior = Posterior(observations, Variances(100.0, linear=5.0, own=0.01, seed=0.001, noise=0.001))
    assert rank(posterior)[0] == 2
    assert choose(posterior).row == 1


def test_the_chance_to_be_better_is_that_of_joint_draws() -> None:
    draws = np.random.default_rng(0).multivariate_normal(POSTERIOR.mean, POSTERIOR.covariance, 200_000)
    for row, other in ((0, 1), (3, 2), (5, 0)):
        expected = (draws[:, row] < draws[:, other]).mean()
        assert find_chance(POSTERIOR, row, other) == pytest.approx(expected, abs=0.005)
    assert find_chance(POSTERIOR, 2, 2) == 0.5
    assert find_chance(POSTERIOR, 1, 4) + find_chance(POSTERIOR, 4, 1) == pytest.approx(1)


def test_expected_improvement_is_that_of_draws() -> None:
    mean, sd = POSTERIOR.predict(NEW)
    draws = mean + sd * np.random.default_rng(0).normal(size=(400_000, 3))
    expected = np.maximum(POSTERIOR.mean.min() - draws, 0).mean(axis=0)
    assert expect_improvement(POSTERIOR, NEW) == pytest.approx(expected, rel=0.02, abs=1e-4)


@pytest.mark.parametrize("seed", [1, 7])
def test_the_knowledge_gradient_is_that_of_results_drawn(seed: int) -> None:
    scores = np.random.default_rng(0).normal(size=20_000)
    scores = np.append(scores, -scores)
    fresh, again = POSTERIOR.respond(NEW, seed), POSTERIOR.respond_again([seed] * 6)
    now = POSTERIOR.mean.min()
    for column in range(3):
        later = POSTERIOR.mean[:, None] + fresh.trained[:, column, None] * scores
        itself = POSTERIOR.predict(NEW).mean[column] + fresh.itself[column] * scores
        expected = now - np.minimum(later.min(axis=0), itself).mean()
        assert value_new(POSTERIOR, NEW, seed)[column] == pytest.approx(expected, abs=0.004)
    for row in range(6):
        later = POSTERIOR.mean[:, None] + again.trained[:, row, None] * scores
        assert value_again(POSTERIOR, [seed] * 6)[row] == pytest.approx(now - later.min(axis=0).mean(), abs=0.004)
    assert (value_again(POSTERIOR, [seed] * 6) >= -1e-12).all()


def test_a_training_that_says_nothing_has_no_value() -> None:
    none = np.array([], np.int64)
    observations = Observations(np.zeros((2, 1)), np.array([0, 1]), np.array([0, 0]), np.array([0.0, -5.0]), none, none)
    posterior = Posterior(observations, Variances(100.0, linear=0.0, own=20.0, seed=0.0, noise=1e-6))
    values = value_again(posterior, [1, 1])
    assert values == pytest.approx([0, 0], abs=1e-9)
    assert value_new(posterior, np.zeros((1, 1)), 0)[0] > 0.1
