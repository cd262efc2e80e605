"""Variances of most evidence: scipy's Gaussian, planted variances, and what must not break them."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.optimize import approx_fprime, minimize
from scipy.stats import multivariate_normal, norm

from search_spaces.surrogate.evidence import (
    LENGTHS,
    MEAN_VARIANCE,
    MIN_CURVED,
    PRIORS,
    clip_costs,
    fit,
    lose,
    maximise_evidence,
)
from search_spaces.surrogate.posterior import Observations, Variances
from tests.support.observed import covary_by_loops, observe_some

LOGS = np.log([0.4, 0.2, 0.5, 0.9])


def take_parts(observations: Observations) -> np.ndarray:
    """The covariance of each part by itself."""
    units = [Variances(0, 0, 0, 0, 1), Variances(0, 0, 1, 0, 0), Variances(0, 0, 0, 1, 0), Variances(0, 1, 0, 0, 0)]
    rows, seeds = observations.rows.tolist(), observations.seeds.tolist()
    return np.stack([covary_by_loops(observations.points, rows, seeds, unit, noisy=True) for unit in units])


def test_the_loss_is_minus_the_logarithm_of_evidence_and_prior() -> None:
    observations = observe_some()
    parts = take_parts(observations)
    medians, sds = np.array([PRIORS[name] for name in ("noise", "own", "seed", "linear")]).T

    def expect(logs: np.ndarray) -> float:
        noise, own, seed, linear = np.exp(logs)
        covariance = noise * (parts[0] + own * parts[1] + seed * parts[2] + linear * parts[3]) + MEAN_VARIANCE
        evidence = multivariate_normal(np.zeros(len(covariance)), covariance).logpdf(observations.costs)
        return float(-evidence - norm(np.log(medians), sds).logpdf(logs).sum())

    def compute(logs: np.ndarray) -> float:
        return lose(logs, observations.costs, parts, np.log(medians), sds).loss

    assert compute(LOGS) - compute(LOGS + 0.3) == pytest.approx(expect(LOGS) - expect(LOGS + 0.3), abs=1e-8)
    gradient = lose(LOGS, observations.costs, parts, np.log(medians), sds).gradient
    assert gradient == pytest.approx(approx_fprime(LOGS, compute, 1e-6), abs=1e-4)


def test_the_curvature_is_the_average_information_by_whole_matrices() -> None:
    observations = observe_some()
    parts = take_parts(observations)
    sds = np.array([PRIORS[name][1] for name in ("noise", "own", "seed", "linear")])
    noise, *ratios = np.exp(LOGS)
    covariance = noise * (parts[0] + sum(ratio * part for ratio, part in zip(ratios, parts[1:], strict=True)))
    inverse = np.linalg.inv(covariance + MEAN_VARIANCE)
    # Derivatives of the covariance by each logarithm: all of it grows with the noise.
    slopes = [covariance, *(noise * ratio * part for ratio, part in zip(ratios, parts[1:], strict=True))]
    costs = observations.costs
    expected = [[costs @ inverse @ a @ inverse @ b @ inverse @ costs / 2 for a in slopes] for b in slopes]
    curvature = lose(LOGS, costs, parts, np.zeros(4), sds).curvature
    np.testing.assert_allclose(curvature, np.array(expected) + np.diag(sds**-2.0), rtol=1e-9)


@pytest.mark.parametrize("n_seeds", [1, 3])
def test_the_most_likely_variances_are_those_of_a_general_minimiser(n_seeds: int) -> None:
    observations = plant(Variances(1.0, linear=0.5, own=0.02, seed=0.05, noise=0.1), 12, n_seeds)
    parts = dict(zip(("noise", "own", "seed", "linear"), take_parts(observations), strict=True))
    costs = observations.costs / observations.costs.std()
    medians, sds = np.array([PRIORS[name] for name in parts]).T
    best = maximise_evidence(costs, parts)

    def compute(logs: np.ndarray) -> tuple[float, np.ndarray]:
        return lose(logs, costs, np.stack(list(parts.values())), np.log(medians), sds)[:2]

    found = minimize(compute, np.log(medians), jac=True, method="BFGS")
    assert found.success
    assert best.loss == pytest.approx(compute(best.logs)[0], abs=1e-9)
    assert best.loss < found.fun + 1e-3


def plant(variances: Variances, n_patterns: int, n_seeds: int, seed: int = 0) -> Observations:
    """Draw costs of random patterns, each at every seed, from the model itself."""
    generator = np.random.default_rng(seed)
    points = generator.normal(size=(n_patterns, 3))
    rows, seeds = np.repeat(np.arange(n_patterns), n_seeds), np.tile(np.arange(n_seeds), n_patterns)
    covariance = covary_by_loops(points, rows.tolist(), seeds.tolist(), variances, noisy=True)
    costs = np.linalg.cholesky(covariance) @ generator.normal(size=len(rows)) - 3
    none = np.array([], np.int64)
    return Observations(points, rows, seeds, costs, none, none)


def test_planted_variances_are_found() -> None:
    variances = fit(plant(Variances(1.0, linear=0.5, own=0.02, seed=0.05, noise=0.1), 30, 6)).variances
    assert variances.noise == pytest.approx(0.1, rel=0.25)
    assert variances.linear == pytest.approx(0.5, rel=0.8)
    assert 0.005 < variances.own < 0.06
    assert 0.01 < variances.seed < 0.2
    assert variances.curved == 0


def test_a_curved_part_is_mixed_in_where_patterns_are_many_and_it_is_there() -> None:
    planted = Variances(1.0, linear=0.1, own=0.001, seed=0.01, noise=0.02, curved=0.5, length=1.5)
    assert fit(plant(planted, MIN_CURVED - 1, 1)).variances.curved == 0
    assert fit(plant(planted, MIN_CURVED, 1)).variances.curved > 0.1


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("planted", [0.5, 1.0])
def test_the_length_is_about_as_likely_as_the_best_of_all_when_each_is_optimised(planted: float, seed: int) -> None:
    variances = Variances(1.0, linear=0.02, own=0.001, seed=0.01, noise=0.02, curved=1.0, length=planted * 6**0.5)
    observations = plant(variances, 80, 1, seed)
    points = observations.points
    equal = np.ones((80, 80))
    parts = {"noise": np.eye(80), "own": np.eye(80), "seed": equal, "linear": points @ points.T / 3}
    distances = np.square(points[:, None] - points).sum(axis=2)
    costs = clip_costs(observations.costs)
    standard = (costs - costs.mean()) / costs.std()
    losses = {}
    for factor in LENGTHS:
        length = factor * np.sqrt(distances.mean())
        mixture = {**parts, "curved": np.exp(-distances / (2 * length**2))}
        losses[length] = maximise_evidence(standard, mixture).loss
    assert max(losses.values()) > min(losses.values()) + 3  # so that a wrong one can be told
    chosen = fit(observations).variances.length
    assert losses[min(losses, key=lambda length: abs(length - chosen))] < min(losses.values()) + 1


def test_a_fit_is_the_same_again_and_in_any_order() -> None:
    observations = plant(Variances(1.0, linear=0.5, own=0.02, seed=0.05, noise=0.1), 12, 2)
    order = np.random.default_rng(5).permutation(24)
    shuffled = replace(
        observations, rows=observations.rows[order], seeds=observations.seeds[order], costs=observations.costs[order]
    )
    assert fit(observations).variances == fit(observations).variances
    assert fit(shuffled).mean == pytest.approx(fit(observations).mean, abs=1e-3)


def test_how_badly_a_training_diverged_does_not_matter() -> None:
    observations = plant(Variances(1.0, linear=0.5, own=0.02, seed=0.05, noise=0.1), 12, 2)
    means = []
    for cost in (8.0, 1e6):
        costs = observations.costs.copy()
        costs[3] = cost
        means.append(fit(replace(observations, costs=costs)).mean)
    assert means[0] == pytest.approx(means[1])


def test_only_costs_far_above_are_cut_off() -> None:
    costs = np.array([-9.0, 0.0, 1.0, 2.0, 3.0, 4.0, 99.0])
    clipped = clip_costs(costs)
    assert np.array_equal(clipped[:-1], costs[:-1])
    assert 4 < clipped[-1] < 12


@pytest.mark.parametrize("costs", [[-1.0], [-1.0, -1.0], [-1.0, -1.0, -1.0, 5.0]])
def test_few_or_equal_costs_give_finite_beliefs(costs: list[float]) -> None:
    n = len(costs)
    none = np.array([], np.int64)
    for n_measures in (0, 2):
        points = np.zeros((n, n_measures))
        posterior = fit(Observations(points, np.arange(n), np.zeros(n, np.int64), np.array(costs), none, none))
        assert np.isfinite(posterior.mean).all()
        assert (np.diag(posterior.covariance) > 0).all()
        assert posterior.mean[0] == pytest.approx(-1.0, abs=0.2 if n < 4 else 1.5)
