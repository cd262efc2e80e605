"""Earlier outcomes: averaged as in an analysis of variance, and evidence of another level, never certain."""

from dataclasses import replace

import numpy as np
import pytest

from search_spaces.surrogate.choice import choose, value_again
from search_spaces.surrogate.earlier import EarlierTraining, average_earlier
from search_spaces.surrogate.evidence import MEAN_VARIANCE, fit, lose
from search_spaces.surrogate.posterior import Earlier, Floats, Observations, Posterior
from tests.support.observed import MIXED, covary_by_loops, observe_some
from tests.support.synthetic_table import list_patterns

PATTERNS = list_patterns()
EARLIER = Earlier(
    rows=np.array([0, 6, 7, 7, 1]),
    settings=np.array([0, 0, 0, 1, 1]),
    costs=np.array([0.3, -1.2, 0.9, 5.1, 4.2]),
    counts=np.array([1, 2, 3, 4, 1]),
)


def observe_both(n_pending: int = 2) -> Observations:
    """Trainings of patterns 0 to 5, and earlier outcomes of two of them, of 6 and of 7."""
    observations = observe_some(n_pending=n_pending)
    more = np.random.default_rng(5).normal(size=(2, 4))
    return replace(observations, points=np.vstack([observations.points, more]), earlier=EARLIER)


def make_trainings(costs: Floats, setting: str = "") -> list[EarlierTraining]:
    """Trainings of the first patterns, shape (patterns, seeds)."""
    return [
        EarlierTraining(PATTERNS[row], setting, seed, float(costs[row, seed])) for row, seed in np.ndindex(costs.shape)
    ]


def test_outcomes_are_those_of_a_two_way_analysis_without_the_seeds() -> None:
    costs = np.random.default_rng(0).normal(size=(7, 3))
    outcomes = average_earlier(make_trainings(costs))
    assert {outcome.count for outcome in outcomes} == {3}
    by_pattern = {outcome.pattern: outcome.cost for outcome in outcomes}
    # Least squares of a pattern's and a seed's effect, the seeds' adding up to nothing.
    design = np.array([[*(row == np.arange(7)), *(seed == np.arange(3))] for row, seed in np.ndindex(7, 3)], float)
    design = np.vstack([design, [*[0] * 7, *[1] * 3]])
    effects = np.linalg.lstsq(design, np.append(costs.ravel(), 0.0), rcond=None)[0]
    assert [by_pattern[PATTERNS[row]] for row in range(7)] == pytest.approx(effects[:7])
    assert [outcome.cost for outcome in outcomes] == sorted(outcome.cost for outcome in outcomes)


def test_a_seed_that_only_some_patterns_had_does_not_make_them_better() -> None:
    costs = np.array([[0.0, -5.0], [0.0, -5.0], [1.0, -4.0]])
    trainings = [each for each in make_trainings(costs) if (each.pattern, each.seed) != (PATTERNS[1], 1)]
    costs_by_pattern = {each.pattern: each.cost for each in average_earlier(trainings)}
    assert abs(costs_by_pattern[PATTERNS[0]] - costs_by_pattern[PATTERNS[1]]) < 2.51  # of plain means 2.5
    unknown = [replace(each, seed=None) for each in trainings]
    assert {each.pattern: each.cost for each in average_earlier(unknown)}[PATTERNS[0]] == -2.5


def test_of_many_the_best_are_kept_and_the_others_thinned_out_evenly() -> None:
    costs = np.arange(36.0)[:, None]
    trainings = [*make_trainings(costs, "a"), *make_trainings(-costs, "b")]
    outcomes = average_earlier(trainings, most=24)
    assert len(outcomes) == len({(each.pattern, each.setting) for each in outcomes}) == 24
    of_a = [each.cost for each in outcomes if each.setting == "a"]
    assert of_a[:3] == [0, 1, 2]
    assert of_a[-1] == 35
    assert np.ptp(np.diff(of_a[3:])) <= 1
    assert len(average_earlier(trainings)) == 72


def condition(observations: Observations) -> tuple[Floats, Floats]:
    """Dense conditioning on earlier and own trainings, one pair of results at a time."""
    earlier, variances, n = observations.earlier, MIXED, len(observations.points)
    n_before, n_own = len(earlier.rows), len(observations.rows)
    rows = [*range(n), *earlier.rows, *observations.rows, *observations.pending_rows]
    labels = [-1] * n + [100 + setting for setting in earlier.settings]
    labels += [*observations.seeds, *observations.pending_seeds]
    prior = covary_by_loops(observations.points, rows, labels, variances, noisy=False)
    noisy = prior[n:, n:] + variances.noise * np.eye(len(rows) - n)
    for a in range(n_before):
        noisy[a, a] += variances.noise / earlier.counts[a] - variances.noise
        for b in range(n_before):
            if earlier.settings[a] == earlier.settings[b]:
                noisy[a, b] += variances.mean + (variances.own if earlier.rows[a] == earlier.rows[b] else 0)
    shared, n_known = prior[:n, n:], n_before + n_own
    costs = np.concatenate([earlier.costs, observations.costs])
    mean = costs.mean() + shared[:, :n_known] @ np.linalg.inv(noisy[:n_known, :n_known]) @ (costs - costs.mean())
    return mean, prior[:n, :n] - shared @ np.linalg.inv(noisy) @ shared.T


@pytest.mark.parametrize("n_pending", [0, 2])
def test_means_and_covariances_are_those_of_dense_conditioning(n_pending: int) -> None:
    observations = observe_both(n_pending)
    mean, covariance = condition(observations)
    posterior = Posterior(observations, MIXED)
    assert posterior.mean == pytest.approx(mean)
    assert posterior.covariance == pytest.approx(covariance)


def test_the_level_of_another_setting_changes_nothing_and_its_order_does() -> None:
    observations = observe_both()
    moved = replace(EARLIER, costs=EARLIER.costs + np.array([40.0, 40.0, 40.0, -9.0, -9.0]))
    other = replace(EARLIER, costs=EARLIER.costs[[1, 0, 2, 3, 4]])
    first, same, changed = (fit(replace(observations, earlier=earlier)) for earlier in (EARLIER, moved, other))
    assert same.mean == pytest.approx(first.mean, abs=1e-9)
    assert same.covariance == pytest.approx(first.covariance, abs=1e-9)
    assert np.abs(changed.mean - first.mean).max() > 1e-3


def test_any_number_of_earlier_trainings_leaves_a_pattern_uncertain() -> None:
    observations = observe_both()
    many = replace(EARLIER, counts=np.full(5, 10**9))
    variance = np.diag(Posterior(replace(observations, earlier=many), MIXED).covariance)[6:]
    # Two independent deviations of equal variance: one known sum leaves each with half of it.
    assert (variance > 0.49 * MIXED.own).all()


def test_only_patterns_with_trainings_here_can_be_chosen() -> None:
    earlier = replace(EARLIER, costs=np.array([0.3, -99.0, 0.9, 5.1, 4.2]))
    posterior = Posterior(replace(observe_both(), earlier=earlier), MIXED)
    assert int(posterior.mean.argmin()) == 6
    assert choose(posterior).row < 6


def test_a_first_training_here_also_makes_a_pattern_one_that_can_be_chosen() -> None:
    observations = observe_both(0)
    posterior = Posterior(observations, MIXED)
    seeds = [3] * 6 + [0] * 2
    values = value_again(posterior, seeds)
    moves = posterior.respond_again(seeds).trained
    generator = np.random.default_rng(0)
    scores = generator.normal(size=200_000)
    for row in range(8):
        can_be = [*range(6), *([row] if row >= 6 else [])]
        after = (posterior.mean[can_be][:, None] + np.outer(moves[can_be, row], scores)).min(axis=0).mean()
        assert values[row] == pytest.approx(posterior.mean[:6].min() - after, abs=5e-3)


def test_the_slopes_of_the_evidence_are_those_of_differences_with_levels_too() -> None:
    generator = np.random.default_rng(3)
    costs, group = generator.normal(size=9), np.repeat(np.arange(3), 3)
    parts = np.stack([np.diag(1 / np.arange(1.0, 10)), np.equal.outer(group, group).astype(float)])
    level = np.full((9, 9), MEAN_VARIANCE)
    level[:4, :4] *= 2
    arguments = (costs, parts, np.log([0.5, 0.1]), np.array([0.7, 0.7]), level)
    logs = np.array([-0.3, 0.4])
    slopes = lose(logs, *arguments).gradient
    for place, step in enumerate(1e-5 * np.eye(2)):
        difference = (lose(logs + step, *arguments).loss - lose(logs - step, *arguments).loss) / 2e-5
        assert slopes[place] == pytest.approx(difference, rel=1e-4)
