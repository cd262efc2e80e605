"""Accuracy against connections: planted truths are found, numbers have a second computation, noise settles nothing."""

import math
import statistics
from collections.abc import Callable
from dataclasses import replace

import pandas as pd
import pytest
from scipy.stats import t

from analysis.tradeoff.points import KEPT_MARGIN, Point, Tradeoff, measure_tradeoffs
from tests.support.synthetic_budgets import OF_BUDGET, PLANTED, PROPOSALS, plant_losses
from tests.support.synthetic_run import make_candidates

SEEDS = (0, 1, 2)


def measure(score: Callable[[int, int], float | str | None], seeds: tuple[int, ...] = SEEDS) -> Tradeoff:
    (tradeoff,) = measure_tradeoffs(make_candidates(PROPOSALS, score, OF_BUDGET, seeds))
    return tradeoff


def point_of(tradeoff: Tradeoff, family: str, connections: int) -> Point:
    (found,) = (one for one in tradeoff.points if (one.family, one.connections) == (family, connections))
    return found


def test_what_was_planted_is_read_off() -> None:
    tradeoff = measure(plant_losses(0.0005))
    told = {one.family: (one.largest, one.fewest, one.stopped, one.status) for one in tradeoff.answers}
    assert told == {
        "nearest": (30, 30, 21, "lost"),
        "evenly": (30, 21, 12, "lost"),
        "geometric": (30, 12, None, None),
        "found": (30, 21, 12, "lost"),
    }
    for family, losses in PLANTED.items():
        for connections, lost in losses.items():
            point = point_of(tradeoff, family or "random (mean)", connections)
            assert point.accuracy == pytest.approx(0.92 - lost / 100, abs=0.002)
            assert (point.difference is None) == (connections == 30)
    families = list(dict.fromkeys(one.family for one in tradeoff.points))
    assert families == ["evenly", "geometric", "nearest", "found", "random (mean)", "log"]
    assert [one.connections for one in tradeoff.points] == [12, 21, 30] * 5 + [21]
    assert {(one.params, one.flops) for one in tradeoff.points if one.connections == 21} == {(920, 21_000)}


def _interval(values: list[float]) -> tuple[float, float, float]:
    """Mean and 95 % interval by textbook formulas."""
    mean = statistics.fmean(values)
    half = float(t.ppf(0.975, len(values) - 1)) * statistics.stdev(values) / math.sqrt(len(values))
    return mean, mean - half, mean + half


def test_differences_and_intervals_have_a_second_computation() -> None:
    score = plant_losses(0.01)
    tradeoff = measure(score)
    series: dict[tuple[str, int], list[float]] = {}
    for place, (name, _, pattern) in enumerate(PROPOSALS):
        if name is not None:
            series[name, pattern.n_connections] = [score(place, seed) for seed in SEEDS]
    for n in (12, 21, 30):
        own = [p for p, one in enumerate(PROPOSALS) if one[0] is None and one[2].n_connections == n]
        series["random (mean)", n] = [statistics.fmean(score(p, seed) for p in own) for seed in SEEDS]
        series["found", n] = [
            score(max(own, key=lambda p: sum(score(p, other) for other in SEEDS if other != seed)), seed)
            for seed in SEEDS
        ]
        picked = max(own, key=lambda p: sum(score(p, seed) for seed in SEEDS))
        found = point_of(tradeoff, "found", n)
        assert found.picked == pytest.approx(statistics.fmean(score(picked, seed) for seed in SEEDS))
        assert found.pattern == PROPOSALS[picked][2].key[:12]
    assert len(tradeoff.points) == len(series)
    of_seed = [statistics.fmean(one[seed] for one in series.values()) for seed in SEEDS]
    correction = math.sqrt(len(series) / (len(series) - 1))
    for (family, n), values in series.items():
        point = point_of(tradeoff, family, n)
        assert point.accuracy == pytest.approx(statistics.fmean(values))
        centred = [value - of for value, of in zip(values, of_seed, strict=True)]
        middle, low, _ = _interval(centred)
        assert point.high is not None
        assert point.high - point.accuracy == pytest.approx(correction * (middle - low))
        if n < 30 and family != "log":
            differences = [a - b for a, b in zip(values, series[family, 30], strict=True)]
            assert point.difference is not None
            told = (point.difference.mean, point.difference.low, point.difference.high)
            assert told == pytest.approx(_interval(differences))


def test_of_two_points_the_drawn_intervals_are_the_paired_one() -> None:
    """Morey's correction is right where it is largest: twice a half squared is the difference's half squared."""
    places = [place for place, one in enumerate(PROPOSALS) if one[0] == "nearest" and one[2].n_connections != 21]
    score = plant_losses(0.01)
    candidates = make_candidates(
        [PROPOSALS[place] for place in places], lambda p, s: score(places[p], s), [OF_BUDGET[p] for p in places], SEEDS
    )
    first, last = measure_tradeoffs(candidates)[0].points
    assert first.high is not None
    assert last.high is not None
    assert first.difference is not None
    assert first.difference.high is not None
    halves = (first.high - first.accuracy, last.high - last.accuracy)
    assert math.hypot(*halves) == pytest.approx(first.difference.high - first.difference.mean)


@pytest.mark.parametrize(
    ("losses", "status"),
    [
        ((0.2, 0.3, 0.4), "kept"),
        ((1.4, 1.5, 1.6), "lost"),
        ((0.0, 1.0, 2.0), "unsettled"),
        ((0.0, 0.0, 0.0), "unsettled"),  # no spread, so no interval
        ((1.4, 1.4, 1.4), "unsettled"),
    ],
)
def test_a_status_is_where_the_interval_lies_to_the_margin(losses: tuple[float, ...], status: str) -> None:
    def score(place: int, seed: int) -> float:
        is_smaller = PROPOSALS[place][2].n_connections == 21
        return 0.9 - is_smaller * losses[seed] / 100

    difference = point_of(measure(score), "nearest", 21).difference
    assert difference is not None
    assert difference.status == status
    assert KEPT_MARGIN == 0.01


def test_one_seed_settles_nothing_and_has_no_interval() -> None:
    tradeoff = measure(plant_losses(0.001), (0,))
    assert {(one.low, one.high) for one in tradeoff.points} == {(None, None)}
    assert {one.difference.status for one in tradeoff.points if one.difference} == {"unsettled"}
    assert {(one.fewest, one.stopped, one.status, one.n_seeds) for one in tradeoff.answers} == {
        (30, 21, "unsettled", 1)
    }
    assert all(one.accuracy == pytest.approx(one.picked) for one in tradeoff.points if one.picked is not None)


def test_an_answer_ends_at_the_first_budget_that_is_not_kept() -> None:
    """A smaller budget that looks kept after one that was lost is not the answer."""

    def score(place: int, seed: int) -> float:
        lost = 0.05 + 0.001 * seed if PROPOSALS[place][2].n_connections == 21 else 0.0
        return 0.9 - lost + 0.0001 * seed * (place + 1)

    (answer,) = (one for one in measure(score).answers if one.family == "nearest")
    assert (answer.fewest, answer.stopped, answer.status) == (30, 21, "lost")


def test_a_half_trained_run_compares_over_the_seeds_that_both_have() -> None:
    """The largest budget lacks a seed whose data are easier: levelled, and no difference is invented."""

    def score(place: int, seed: int) -> float | None:
        name, _, pattern = PROPOSALS[place]
        if name == "evenly" and pattern.n_connections == 30 and seed == 2:
            return None
        own = 1e-4 * (-1) ** seed if (name, pattern.n_connections) == ("evenly", 12) else 0.0  # 0 over two seeds
        return 0.9 + 0.03 * seed + own

    tradeoff = measure(score)
    last = point_of(tradeoff, "evenly", 30)
    assert last.n_seeds == 2
    assert last.accuracy == pytest.approx(0.93, abs=1e-5)
    for connections, status in ((12, "kept"), (21, "unsettled")):  # equal at both seeds, which show no spread
        difference = point_of(tradeoff, "evenly", connections).difference
        assert difference is not None
        assert (difference.n_seeds, difference.status) == (2, status)
        assert difference.mean == pytest.approx(0.0, abs=1e-12)


def test_what_is_not_complete_in_a_regime_or_of_one_budget_is_left_out() -> None:
    candidates = make_candidates(PROPOSALS, plant_losses(0.01), OF_BUDGET)
    expected = measure_tradeoffs(candidates)
    pruned = candidates.assign(state="pruned", validation_accuracy=float("nan"), key="0" * 64)
    other = candidates.assign(regime="high-lr", validation_accuracy=1.0)
    twice = candidates.assign(validation_accuracy=1.0)  # of a candidate that was trained twice the first counts
    assert measure_tradeoffs(pd.concat([candidates, pruned, other, twice], ignore_index=True)) == expected
    assert measure_tradeoffs(candidates[candidates["budget"] == "log"]) == ()
    assert measure_tradeoffs(other) == ()


def test_depths_are_apart() -> None:
    candidates = make_candidates(PROPOSALS, plant_losses(0.01), OF_BUDGET)
    deeper = candidates.assign(layers=9, budget=candidates["budget"].str.replace("total", "t"))
    first, second = measure_tradeoffs(pd.concat([candidates, deeper], ignore_index=True))
    assert (first.layers, second.layers) == (8, 9)
    assert [replace(one, budget="") for one in second.points] == [replace(one, budget="") for one in first.points]
