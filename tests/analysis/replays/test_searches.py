import numpy as np
import pytest
from numpy.typing import NDArray

from analysis.data.protocol import N_RESAMPLES
from analysis.replays.searches import Course, Searches, count_distinct, judge_searches

GENERATOR = np.random.default_rng(3)
VALUES = GENERATOR.normal(0.5, 0.1, (30, 5))
N_REPLAYS, N_TRAININGS = 4, 12


def _see(n_replays: int, n_seeds: int, n_visible: int) -> NDArray[np.bool_]:
    generator = np.random.default_rng(8)
    is_visible = np.zeros((n_replays, n_seeds), dtype=bool)
    for row in is_visible:
        row[generator.choice(n_seeds, n_visible, replace=False)] = True
    return is_visible


def _searches(values: NDArray[np.float64], n_replays: int = N_REPLAYS, n_visible: int = 2) -> Searches:
    generator = np.random.default_rng(9)
    n, n_seeds = values.shape
    courses = {}
    for name, length in (("random", N_TRAININGS + 3), ("other", N_TRAININGS)):
        trained = np.stack([generator.integers(0, n, length) for _ in range(n_replays)])
        picked = np.stack([generator.integers(0, n, length) for _ in range(n_replays)])
        courses[name] = Course(trained, picked, 0 if name == "random" else 2)
    return Searches(values, np.arange(n) % 3 == 0, _see(n_replays, n_seeds, n_visible), courses)


def test_picks_and_proposals_judged_by_plain_loops() -> None:
    searches = _searches(VALUES)
    assert searches.n_trainings == N_TRAININGS
    judged = judge_searches(searches, np.random.default_rng(0))
    judges = [[s for s in range(5) if not searches.is_visible[number, s]] for number in range(N_REPLAYS)]
    for name, course in searches.by_strategy.items():
        assert judged.picked[name].shape == (1 + N_RESAMPLES, course.trained.shape[1])
        for place in range(course.trained.shape[1]):
            rows = course.picked[:, place].tolist()
            total = sum(VALUES[row, s] / 3 for row, of_replay in zip(rows, judges, strict=True) for s in of_replay)
            assert judged.picked[name][0, place] == pytest.approx(total / N_REPLAYS)
        ranks, medians = [], []
        for number in range(N_REPLAYS):
            proposed = {*course.trained[number].tolist()[course.n_named : N_TRAININGS]}
            for s in judges[number]:
                ranks += [sum(sum(VALUES[:, s] < VALUES[row, s]) / 29 for row in proposed) / len(proposed)]
                ordered = sorted(VALUES[row, s] for row in proposed)
                medians += [(ordered[(len(ordered) - 1) // 2] + ordered[len(ordered) // 2]) / 2]
        assert judged.ranks[name].shape == judged.medians[name].shape == (1 + N_RESAMPLES,)
        assert judged.ranks[name][0] == pytest.approx(sum(ranks) / len(ranks))
        assert judged.medians[name][0] == pytest.approx(sum(medians) / len(medians))
    bests = [min(sum(VALUES[row, s] for s in of_replay) / 3 for row in range(30)) for of_replay in judges]
    averages = [sum(VALUES[row, s] / 3 for row in range(0, 30, 3) for s in of_replay) / 10 for of_replay in judges]
    assert judged.best.shape == judged.average.shape == (1 + N_RESAMPLES, 1)
    assert judged.best[0, 0] == pytest.approx(sum(bests) / N_REPLAYS)
    assert judged.average[0, 0] == pytest.approx(sum(averages) / N_REPLAYS)


def test_equal_values_share_their_rank_and_an_ended_search_proposes_no_more() -> None:
    values = np.array([[0.5], [0.25], [0.25], [0.75]]) + np.zeros((4, 2))
    trained = np.array([[1, 3, -1], [2, -1, -1]])
    course = Course(trained, np.abs(trained))
    searches = Searches(values, np.ones(4, dtype=bool), np.array([[True, False], [False, True]]), {"random": course})
    judged = judge_searches(searches, np.random.default_rng(0))
    assert judged.ranks["random"][0] == pytest.approx(((0.5 + 3) / 2 + 0.5) / 2 / 3)
    assert judged.medians["random"][0] == pytest.approx((0.5 + 0.25) / 2)
    assert count_distinct(course).tolist() == [1.0, 1.5, 1.5]


def test_a_search_that_only_trained_named_templates_proposed_nothing() -> None:
    course = Course(np.array([[1, 3]]), np.array([[1, 3]]), n_named=2)
    seen = np.array([[True, False, False, False, False]])
    judged = judge_searches(Searches(VALUES, np.ones(30, dtype=bool), seen, {"random": course}), GENERATOR)
    assert np.isnan(judged.ranks["random"]).all()


def test_a_pattern_trained_again_is_one_pattern() -> None:
    trained = np.array([[4, 4, 5, 4, 7], [4, 5, 6, 7, 8]])
    assert count_distinct(Course(trained, trained)).tolist() == [1, 1.5, 2.5, 3, 4]


def test_resamples_scatter_as_replays_and_seeds_do() -> None:
    """Where only replays differ, or only seeds, the spread is that of the mean over them, or up to 1.4 times it."""
    generator = np.random.default_rng(5)
    everything = np.ones(30, dtype=bool)
    # A pick of its own for each replay, as good with every seed.
    by_pattern = np.repeat(generator.normal(size=(30, 1)), 5, axis=1)
    rows = np.arange(30)[:, None]
    searches = Searches(by_pattern, everything, _see(30, 5, 2), {"random": Course(rows, rows)})
    picked = judge_searches(searches, generator).picked["random"]
    expected = by_pattern[:, 0].std(ddof=1) / 30**0.5
    assert 0.95 * expected < picked[1:, 0].std() < 1.41 * expected
    # The same pick in every replay, and seeds that differ: a judge counts as often as it judges.
    by_seed = np.repeat(generator.normal(size=(1, 20)), 30, axis=0)
    rows = np.zeros((400, 1), dtype=np.int64)
    searches = Searches(by_seed, everything, _see(400, 20, 2), {"random": Course(rows, rows)})
    picked = judge_searches(searches, generator).picked["random"]
    assert picked[1:, 0].std() == pytest.approx(by_seed[0].std(ddof=1) / 20**0.5, rel=0.15)
