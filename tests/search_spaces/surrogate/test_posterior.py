"""The posterior: dense Gaussian conditioning, one covariance at a time."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from search_spaces.surrogate.posterior import Floats, Observations, Posterior, Variances
from tests.support.observed import MIXED, covary_by_loops, observe_some


def condition(observations: Observations, new: Floats, variances: Variances) -> tuple[Floats, Floats]:
    """Condition the expected costs of old and new patterns on the trainings by matrix inverses."""
    points = np.vstack([observations.points, new])
    n_patterns, n_finished = len(points), len(observations.rows)
    rows = [*range(n_patterns), *observations.rows, *observations.pending_rows]
    seeds = [-1] * n_patterns + [*observations.seeds, *observations.pending_seeds]
    prior = covary_by_loops(points, rows, seeds, variances, noisy=False)
    results = slice(n_patterns, None)
    noisy = prior[results, results] + variances.noise * np.eye(len(rows) - n_patterns)
    shared = prior[:n_patterns, results]
    centre = observations.costs.mean()
    finished = np.linalg.inv(noisy[:n_finished, :n_finished])
    mean = centre + shared[:, :n_finished] @ finished @ (observations.costs - centre)
    return mean, prior[:n_patterns, :n_patterns] - shared @ np.linalg.inv(noisy) @ shared.T


@pytest.mark.parametrize("variances", [MIXED, replace(MIXED, curved=0.0), replace(MIXED, own=1e-6, linear=3.0)])
@pytest.mark.parametrize("n_pending", [0, 3])
def test_means_and_covariances_are_those_of_dense_conditioning(variances: Variances, n_pending: int) -> None:
    observations = observe_some(n_pending=n_pending)
    new = np.random.default_rng(1).normal(size=(5, 4))
    mean, covariance = condition(observations, new, variances)
    posterior = Posterior(observations, variances)
    assert posterior.mean == pytest.approx(mean[:6])
    assert posterior.covariance == pytest.approx(covariance[:6, :6])
    predicted = posterior.predict(new)
    assert predicted.mean == pytest.approx(mean[6:])
    assert predicted.sd**2 == pytest.approx(np.diag(covariance)[6:])


def test_a_pending_training_moves_no_mean_and_lowers_what_is_uncertain() -> None:
    pending = observe_some()
    without = replace(pending, pending_rows=np.array([], np.int64), pending_seeds=np.array([], np.int64))
    expected, posterior = Posterior(without, MIXED), Posterior(pending, MIXED)
    assert posterior.mean == pytest.approx(expected.mean)
    assert np.all(np.diag(posterior.covariance) < np.diag(expected.covariance))


def test_the_order_of_the_trainings_does_not_matter() -> None:
    observations = observe_some()
    order = np.random.default_rng(2).permutation(len(observations.rows))
    shuffled = replace(
        observations,
        rows=observations.rows[order],
        seeds=observations.seeds[order],
        costs=observations.costs[order],
    )
    one, other = Posterior(observations, MIXED), Posterior(shuffled, MIXED)
    assert other.mean == pytest.approx(one.mean)
    assert other.covariance == pytest.approx(one.covariance)


@pytest.mark.parametrize("seed", [1, 7])  # one that trainings have used, and one that none has
def test_a_response_is_how_far_the_means_move_with_one_more_result(seed: int) -> None:
    observations = observe_some(n_pending=0)
    new = np.random.default_rng(1).normal(size=(2, 4))
    posterior = Posterior(observations, MIXED)
    fresh = posterior.respond(new, seed)
    again = posterior.respond_again([seed] * 6)
    for row in range(8):
        points = np.vstack([observations.points, new])
        means = []
        for cost in (0.0, 1.0):
            more = replace(
                observations,
                points=points,
                rows=np.append(observations.rows, row),
                seeds=np.append(observations.seeds, seed),
                costs=np.append(observations.costs, cost),
            )
            means.append(condition(more, np.empty((0, 4)), MIXED)[0])
        per_unit = means[1] - means[0]
        # The result's own standard deviation, by the law of total variance.
        rows, seeds = [*observations.rows, row], [*observations.seeds, seed]
        prior = covary_by_loops(points, rows, seeds, MIXED, noisy=True)
        sd = np.sqrt(prior[-1, -1] - prior[-1, :-1] @ np.linalg.inv(prior[:-1, :-1]) @ prior[:-1, -1])
        # The centre is the mean of the costs: with a mean that may be anything it makes no difference beyond 2 %.
        response = again if row < 6 else fresh
        column = row if row < 6 else row - 6
        itself = response.itself[column]
        assert response.trained[:, column] == pytest.approx(per_unit[:6] * sd, abs=0.02)
        assert itself == pytest.approx(per_unit[row] * sd, abs=0.02)


def test_telling_measures_are_those_that_drive_costs_with_their_sign() -> None:
    generator = np.random.default_rng(4)
    points = generator.normal(size=(60, 5))
    costs = 2 * points[:, 3] - points[:, 1] + 0.1 * generator.normal(size=60)
    none = np.array([], np.int64)
    observations = Observations(points, np.arange(60), np.zeros(60, np.int64), costs, none, none)
    variances = Variances(mean=100.0, linear=5.0, own=0.01, seed=0.01, noise=0.01)
    telling = Posterior(observations, variances).tell(["a", "b", "c", "d", "e"])
    assert list(telling)[:2] == ["d", "b"]
    slopes = np.linalg.lstsq(np.column_stack([np.ones(60), points]), costs, rcond=None)[0][1:]
    assert telling["d"] == pytest.approx(slopes[3] * points[:, 3].std(), rel=0.02)
    assert telling["b"] == pytest.approx(slopes[1] * points[:, 1].std(), rel=0.02)
    assert all(abs(before) >= abs(after) for before, after in pairwise(telling.values()))
