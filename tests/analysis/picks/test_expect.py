"""What is expected of patterns, against a second computation: the joint Gaussian written out, and draws from it."""

import json
import math

import numpy as np
import pytest

from analysis.data.outcomes import OUTCOMES, Objective
from analysis.picks.expect import Costs, Scales, learn_expectations
from analysis.picks.found import Found, judge_search
from search_spaces.measures.registry import measure
from search_spaces.seeds import derive_generator
from search_spaces.surrogate.evidence import clip_costs, fit
from search_spaces.surrogate.features import PREDICTORS
from search_spaces.surrogate.posterior import Observations
from tests.support.synthetic_run import propose
from tests.support.synthetic_search import make_search, plant_loss

PROPOSALS = propose(11, ["log", "nearest_log_i"])
SEEDS = [3 if place in (2, 5, 0) else 1 + place % 2 for place in range(len(PROPOSALS))]
LOSSES = {place: [plant_loss(PROPOSALS[place][2], seed) for seed in range(n)] for place, n in enumerate(SEEDS)}


class _Gaussian:
    """Mean and covariance of expected costs by Gaussian conditioning of all parts, each written out by itself."""

    def __init__(self, points: np.ndarray, rows: list[int], seeds: list[int], costs: np.ndarray) -> None:
        nothing = np.empty(0, np.int64)
        known = Observations(points, np.array(rows), np.array(seeds), costs, nothing, nothing)
        parts = fit(known).variances
        n, m = len(points), points.shape[1]
        prior = np.empty((n, n))
        for i in range(n):
            for j in range(n):
                prior[i, j] = parts.mean + parts.linear / m * float(points[i] @ points[j]) + parts.own * (i == j)
        noise = np.diag(np.full(len(rows), parts.noise))
        shared = np.array([[parts.seed * (one == other) for other in seeds] for one in seeds])
        results = prior[np.ix_(rows, rows)] + shared + noise
        gain = prior[:, rows] @ np.linalg.inv(results)
        centred = clip_costs(costs) - costs.mean()
        self.mean = costs.mean() + gain @ centred
        self.covariance = prior - gain @ prior[rows, :]


Joint = tuple[_Gaussian, list[str], int]


@pytest.fixture(scope="module")
def found() -> Found:
    (only,) = judge_search(make_search(PROPOSALS, LOSSES, objective="loss"))
    assert only.basis == "model"
    return only


@pytest.fixture(scope="module")
def gaussian() -> Joint:
    """The same without the program's own tables: patterns in another order, measures one by one, all drawn ones too."""
    from analysis.picks.found import _draw

    trained = [pattern for _, _, pattern in PROPOSALS]
    everything = [*trained, *_draw("log", trained[0].depth)]
    table = np.array([list(measure(pattern, PREDICTORS).values()) for pattern in everything])
    varies = np.ptp(table, axis=0) > 1e-9
    points = (table[:, varies] - table[:, varies].mean(axis=0)) / table[:, varies].std(axis=0)
    rows = [place for place, losses in LOSSES.items() for _ in losses]
    seeds = [seed for losses in LOSSES.values() for seed in range(len(losses))]
    costs = np.log([loss for losses in LOSSES.values() for loss in losses])
    return _Gaussian(points, rows, seeds, costs), [pattern.key for pattern in trained], len(everything)


def test_expectations_and_intervals_are_those_of_the_joint_gaussian(found: Found, gaussian: Joint) -> None:
    joint, keys, _ = gaussian
    assert len(found.ranked) == len(PROPOSALS)
    for ranked in found.ranked:
        row = keys.index(ranked.key)
        mean, sd = joint.mean[row], math.sqrt(joint.covariance[row, row])
        assert ranked.expected is not None
        assert ranked.expected.value == pytest.approx(math.exp(mean), rel=1e-5)
        assert ranked.expected.low == pytest.approx(math.exp(mean - 1.96 * sd), rel=1e-4)
        assert ranked.expected.high == pytest.approx(math.exp(mean + 1.96 * sd), rel=1e-4)
        assert ranked.observed == pytest.approx(math.prod(LOSSES[row]) ** (1 / len(LOSSES[row])))
    expected = [each.expected.value for each in found.ranked if each.expected]
    assert expected == sorted(expected)


def test_chances_and_gains_are_those_of_draws_from_the_joint_gaussian(found: Found, gaussian: Joint) -> None:
    joint, keys, _ = gaussian
    drawn = derive_generator("draws").multivariate_normal(joint.mean, joint.covariance, 40_000, method="eigh")
    pick, log = keys.index(found.pick.key), keys.index(PROPOSALS[0][2].key)
    for ranked in found.ranked:
        own = keys.index(ranked.key)
        chance = None if own == log else (drawn[:, own] < drawn[:, log]).mean()
        assert ranked.chance_better_than_log == (None if chance is None else pytest.approx(chance, abs=0.01))
    assert found.log is not None
    ratios = np.exp(drawn[:, pick] - drawn[:, log]) - 1
    assert found.log.change == pytest.approx(float(np.median(ratios)), abs=0.005)
    assert (found.log.low, found.log.high) == pytest.approx(tuple(np.quantile(ratios, (0.025, 0.975))), abs=0.01)
    assert found.log.chance == pytest.approx(float((ratios < 0).mean()), abs=0.01)
    # A random draw: the trained uniform ones, of which another sample would have another mean.
    assert found.random is not None
    assert found.random.are_trained
    uniform = drawn[:, [keys.index(pattern.key) for _, strategy, pattern in PROPOSALS if strategy == "random"]]
    scatter = uniform.var(axis=1, ddof=1).mean() / uniform.shape[1]
    difference = drawn[:, pick] - uniform.mean(axis=1)
    sd = math.sqrt(difference.var() + scatter)
    assert math.log1p(found.random.gain.change) == pytest.approx(float(difference.mean()), abs=0.005)
    assert math.log1p(found.random.gain.high) == pytest.approx(float(difference.mean() + 1.96 * sd), abs=0.01)


def test_a_search_without_uniform_trainings_is_compared_with_predicted_draws(gaussian: Joint) -> None:
    joint, keys, n = gaussian
    proposals = [
        (name, "model" if strategy == "random" else strategy, pattern) for name, strategy, pattern in PROPOSALS
    ]
    (found,) = judge_search(make_search(proposals, LOSSES, objective="loss"))
    assert found.random is not None
    assert (found.random.are_trained, found.random.n_patterns) == (False, n - len(keys))
    assert found.random.gain.expected.value == pytest.approx(math.exp(joint.mean[len(keys) :].mean()), rel=1e-4)


def test_accuracies_are_told_as_accuracies() -> None:
    (found,) = judge_search(make_search(PROPOSALS, LOSSES, objective="accuracy"))
    assert found.pick.expected is not None
    assert 0 < found.pick.expected.low < found.pick.expected.value < found.pick.expected.high < 1
    assert found.pick.expected.value == pytest.approx(found.pick.observed, abs=0.03)
    assert found.pick.outcomes == tuple(1 - loss / 2 for loss in LOSSES[_place(found.pick.sources)])


def _place(sources: str) -> int:
    return [[list(inputs) for inputs in pattern.sources] for _, _, pattern in PROPOSALS].index(json.loads(sources))


def test_variances_of_many_trainings_come_from_a_part_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    patterns = [pattern for _, _, pattern in propose(30)]
    rows = np.repeat(np.arange(30), 3)
    seeds = np.tile(np.arange(3), 30)
    values = np.log([plant_loss(patterns[row], int(seed)) for row, seed in zip(rows, seeds, strict=True)])
    costs = Costs(rows, seeds, values)
    whole = learn_expectations(patterns, [], costs, Scales(Objective(OUTCOMES[0])))
    monkeypatch.setattr("analysis.picks.expect.MAX_FITTED", 60)
    part = learn_expectations(patterns, [], costs, Scales(Objective(OUTCOMES[0])))
    assert [part.cost(row) for row in range(30)] != [whole.cost(row) for row in range(30)]
    assert [part.cost(row) for row in range(30)] == pytest.approx([whole.cost(row) for row in range(30)], abs=0.05)


def test_what_planted_is_told(found: Found) -> None:
    """Losses rise with walk length, so that a measure of walks is named, and more of it costs more."""
    walks = {name: change for name, change in found.telling.items() if "walk" in name}
    assert walks
    assert min(walks.values()) > 0
