"""Trainings made up for the surrogate: measures, seeds and costs drawn from its own model."""

import numpy as np

from search_spaces.surrogate.posterior import Floats, Observations, Variances

MIXED = Variances(mean=4.0, linear=0.5, own=0.2, seed=0.3, noise=0.4, curved=0.6, length=1.7)


def observe_some(n_patterns: int = 6, n_trainings: int = 11, n_pending: int = 3, seed: int = 0) -> Observations:
    """Return trainings of random patterns at seeds 0 to 2 with random costs; each pattern has one at least."""
    generator = np.random.default_rng(seed)
    rows = np.append(np.arange(n_patterns), generator.integers(n_patterns, size=n_trainings - n_patterns))
    return Observations(
        generator.normal(size=(n_patterns, 4)),
        rows,
        generator.integers(3, size=n_trainings),
        generator.normal(size=n_trainings),
        generator.integers(n_patterns, size=n_pending),
        generator.integers(4, size=n_pending),
    )


def covary_by_loops(points: Floats, rows: list[int], seeds: list[int], variances: Variances, noisy: bool) -> Floats:
    """Compute the prior covariance of trainings one pair at a time; seed -1 is one that nothing else has.

    Args:
        points: measures of all patterns.
        rows, seeds: the pattern and the seed of each training.
        noisy: whether a training's own noise and seed count, as they do not for what is to be expected.
    """
    n = len(rows)
    covariance = np.zeros((n, n))
    for a in range(n):
        for b in range(n):
            left, right = points[rows[a]], points[rows[b]]
            distance = sum((x - y) ** 2 for x, y in zip(left, right, strict=True))
            covariance[a, b] = variances.mean + variances.linear * sum(left * right) / len(left)
            covariance[a, b] += variances.curved * np.exp(-distance / (2 * variances.length**2))
            covariance[a, b] += variances.own * (rows[a] == rows[b])
            if seeds[a] == seeds[b] >= 0:
                covariance[a, b] += variances.seed
            if noisy and a == b:
                covariance[a, b] += variances.noise
    return covariance
