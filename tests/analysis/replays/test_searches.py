import numpy as np
import pytest
from numpy.typing import NDArray

from analysis.data.protocol import N_RESAMPLES
from analysis.replays.searches import Searches, find_picks, judge_picks

GENERATOR = np.random.default_rng(3)
ACCURACIES = GENERATOR.normal(0.5, 0.1, (30, 5))
N_REPLAYS, N_PATTERNS = 4, 12


def _searches(accuracies: NDArray[np.float64], n_replays: int = N_REPLAYS, n_visible: int = 2) -> Searches:
    generator = np.random.default_rng(8)
    n, n_seeds = accuracies.shape
    is_visible = np.zeros((n_replays, n_seeds), dtype=bool)
    for row in is_visible:
        row[generator.choice(n_seeds, n_visible, replace=False)] = True
    proposed = np.stack([[generator.permutation(n)[:N_PATTERNS] for _ in range(n_replays)] for _ in range(2)])
    return Searches(("random", "other"), accuracies, is_visible, proposed)


def test_picks_and_their_accuracies_by_plain_loops() -> None:
    searches = _searches(ACCURACIES)
    picked, best, average = judge_picks(searches, np.random.default_rng(0))
    assert picked.shape == (2, 1 + N_RESAMPLES, N_PATTERNS)
    assert best.shape == average.shape == (1 + N_RESAMPLES, 1)
    for strategy in range(2):
        for count in range(1, N_PATTERNS + 1):
            total, total_best, total_average = 0.0, 0.0, 0.0
            for number in range(N_REPLAYS):
                sees = [s for s in range(5) if searches.is_visible[number, s]]
                judges = [s for s in range(5) if s not in sees]
                seen = {row: sum(ACCURACIES[row, s] for s in sees) for row in range(30)}
                judged = {row: sum(ACCURACIES[row, s] for s in judges) / 3 for row in range(30)}
                tried = searches.proposed[strategy, number, :count].tolist()
                pick = max(tried, key=lambda row: seen[row])
                assert find_picks(searches)[strategy, number, count - 1] == pick
                total += judged[pick]
                total_best += max(judged.values())
                total_average += sum(judged.values()) / 30
            assert picked[strategy, 0, count - 1] == pytest.approx(total / N_REPLAYS)
        assert best[0, 0] == pytest.approx(total_best / N_REPLAYS)
        assert average[0, 0] == pytest.approx(total_average / N_REPLAYS)


def test_the_first_of_equals_is_picked_and_an_ended_search_keeps_its_pick() -> None:
    accuracies = np.array([[0.5], [0.75], [0.75], [0.25]]) + np.zeros((4, 2))
    proposed = np.array([[[0, 2, 1, 3], [3, 0, -1, -1]]])
    searches = Searches(("random",), accuracies, np.array([[True, False], [False, True]]), proposed)
    assert find_picks(searches).tolist() == [[[0, 2, 2, 2], [3, 0, 0, 0]]]


def test_resamples_scatter_as_replays_and_seeds_do() -> None:
    """Where only replays differ, or only seeds, the spread is that of the mean over them, or up to 1.4 times it."""
    generator = np.random.default_rng(5)
    # A pick of its own for each replay, as accurate with every seed.
    by_pattern = np.repeat(generator.normal(size=(30, 1)), 5, axis=1)
    searches = _searches(by_pattern, n_replays=30)
    searches = Searches(("random",), by_pattern, searches.is_visible, np.arange(30)[None, :, None])
    picked, *_ = judge_picks(searches, generator)
    expected = by_pattern[:, 0].std(ddof=1) / 30**0.5
    assert 0.95 * expected < picked[0, 1:, 0].std() < 1.41 * expected
    # The same pick in every replay, and seeds that differ: a judge counts as often as it judges.
    by_seed = np.repeat(generator.normal(size=(1, 20)), 30, axis=0)
    searches = _searches(by_seed, n_replays=400, n_visible=2)
    searches = Searches(("random",), by_seed, searches.is_visible, np.zeros((1, 400, 1), dtype=np.int64))
    picked, *_ = judge_picks(searches, generator)
    assert picked[0, 1:, 0].std() == pytest.approx(by_seed[0].std(ddof=1) / 20**0.5, rel=0.15)


def test_the_best_of_the_table_is_the_judges_best_in_each_replay() -> None:
    searches = _searches(ACCURACIES, n_replays=1)
    judges = ~searches.is_visible[0]
    _, best, average = judge_picks(searches, np.random.default_rng(0))
    assert best[0, 0] == pytest.approx(ACCURACIES[:, judges].mean(axis=1).max())
    assert average[0, 0] == pytest.approx(ACCURACIES[:, judges].mean())
