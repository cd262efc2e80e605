"""The whole way from outcomes to a status, on samples whose truth is planted (72 patterns, 4 seeds)."""

import dataclasses
from collections.abc import Callable

import numpy as np
import pytest

from tests.support.planted import MEASURES, Column, Columns, Truth, count_statuses, judge_planted, plant
from tests.support.resamples import use_resamples

N_DRAWS, N_FEW = 100, 12
N_RESAMPLES = 199  # of the few draws: (1 + k) / 200 <= 0.05 has exactly that level
CLAIMS = ("supported", "reversed", "depends", "u_shaped")


def _others(measure: str) -> tuple[str, ...]:
    return tuple(name for name in MEASURES if name != measure)


def _follow(measure: str, sign: int) -> Callable[[Columns], Column]:
    return lambda ranks: sign * ranks[measure]


BEYOND = _others("mean_bd")
PLANTED = {
    **{(f"lower {name} is better", name): Truth(_follow(name, 1), _others(name)) for name in MEASURES},
    **{(f"lower {name} is worse", name): Truth(_follow(name, -1), _others(name)) for name in MEASURES},
}
TURNED = {
    "middle is best": Truth(lambda ranks: ranks["mean_bd"] ** 2, BEYOND, partial=0.85),
    "middle is worst": Truth(lambda ranks: -(ranks["mean_bd"] ** 2), BEYOND, partial=0.85),
}
CONVEX = {
    "exponential": Truth(lambda ranks: np.exp(3 * ranks["mean_bd"]), BEYOND, partial=0.75),
    "flat, then rising": Truth(lambda ranks: np.maximum(ranks["mean_bd"] + 0.2, 0) ** 2, BEYOND, partial=0.75),
}
DRIVEN_BY_OTHERS = {
    "walk length": Truth(lambda ranks: ranks["walk_length"], ("span",), partial=0.7),
    "walk length squared": Truth(lambda ranks: ranks["walk_length"] ** 2, ("span",), partial=0.7),
    "span": Truth(lambda ranks: -ranks["span"], ("walk_length",)),
}
NULLS = {
    "patterns differ": Truth(),
    "noise varies": Truth(noise=lambda ranks: 1 + 3 * np.abs(np.sin(1e3 * ranks["span"]))),
    "noise grows with distance": Truth(own=0.5, noise=lambda ranks: 2.5 + 1.5 * ranks["mean_bd"]),
    "seeds have slopes of half a residual": Truth(seed_slope=0.5),
    "seeds have slopes and patterns hardly differ": Truth(own=0.3, seed_slope=0.5),
}
DESIGNS = ("crossed", "naive")


def _count(truth: Truth, design: str, measure: str, n_draws: int, statuses: tuple[str, ...]) -> int:
    counts = count_statuses(truth, design, measure, n_draws)
    print(design, measure, counts)  # noqa: T201  shown where a test fails
    return sum(counts.get(status, 0) for status in statuses)


FEW = [
    (PLANTED["lower mean_bd is better", "mean_bd"], "crossed", "mean_bd", "supported"),
    (PLANTED["lower walk_length is worse", "walk_length"], "naive", "walk_length", "reversed"),
    (TURNED["middle is best"], "crossed", "mean_bd", "u_shaped"),
    (CONVEX["exponential"], "crossed", "mean_bd", "supported"),
    (Truth(own=0.0), "naive", "mean_bd", "unresolved"),
]


@pytest.mark.parametrize(("truth", "design", "measure", "status"), FEW)
def test_a_planted_truth_is_mostly_found(
    truth: Truth, design: str, measure: str, status: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_resamples(monkeypatch, N_RESAMPLES)
    assert _count(truth, design, measure, N_FEW, (status,)) >= 9  # at .95 each, fewer come once in 400 times


@pytest.mark.parametrize(
    ("truth", "design"),
    [(NULLS["seeds have slopes of half a residual"], "crossed"), (NULLS["noise grows with distance"], "naive")],
)
def test_nothing_is_rarely_taken_for_something(truth: Truth, design: str, monkeypatch: pytest.MonkeyPatch) -> None:
    use_resamples(monkeypatch, N_RESAMPLES)
    assert _count(truth, design, "mean_bd", N_FEW, CLAIMS) <= 3


@pytest.mark.ci
@pytest.mark.slow
@pytest.mark.parametrize("truth", DRIVEN_BY_OTHERS.values(), ids=DRIVEN_BY_OTHERS)
def test_what_another_measure_does_is_not_called_an_effect_in_a_few_draws(
    truth: Truth, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_resamples(monkeypatch, N_RESAMPLES)
    assert _count(truth, "naive", "mean_bd", 20, ("supported", "reversed")) <= 2


@pytest.mark.slow
@pytest.mark.parametrize("design", DESIGNS)
@pytest.mark.parametrize(("name", "measure"), PLANTED, ids=[name for name, _ in PLANTED])
def test_an_effect_of_any_measure_is_found_in_90_of_100(name: str, measure: str, design: str) -> None:
    status = "supported" if name.endswith("better") else "reversed"
    assert _count(PLANTED[name, measure], design, measure, N_DRAWS, (status,)) >= 90


@pytest.mark.slow
@pytest.mark.parametrize("design", DESIGNS)
@pytest.mark.parametrize("name", TURNED)
def test_what_turns_is_called_u_shaped_in_90_of_100(name: str, design: str) -> None:
    assert _count(TURNED[name], design, "mean_bd", N_DRAWS, ("u_shaped",)) >= 90


@pytest.mark.slow
@pytest.mark.parametrize("design", DESIGNS)
@pytest.mark.parametrize("name", CONVEX)
def test_a_convex_rise_is_a_rise_in_90_of_100(name: str, design: str) -> None:
    assert _count(CONVEX[name], design, "mean_bd", N_DRAWS, ("supported",)) >= 90


@pytest.mark.slow
@pytest.mark.parametrize("design", DESIGNS)
@pytest.mark.parametrize("name", DRIVEN_BY_OTHERS)
def test_what_another_measure_does_is_called_an_effect_in_at_most_5_of_100(name: str, design: str) -> None:
    assert _count(DRIVEN_BY_OTHERS[name], design, "mean_bd", N_DRAWS, ("supported", "reversed")) <= 5


@pytest.mark.slow
@pytest.mark.parametrize("design", DESIGNS)
@pytest.mark.parametrize("name", NULLS)
def test_nothing_is_taken_for_something_in_at_most_10_of_100(name: str, design: str) -> None:
    """In 100 draws, a level of 5 % shows more than 10 once in 100 times."""
    assert _count(NULLS[name], design, "mean_bd", N_DRAWS, CLAIMS) <= 10


@pytest.mark.slow
@pytest.mark.parametrize("design", DESIGNS)
def test_noise_alone_is_unresolved_in_90_of_100(design: str) -> None:
    assert _count(Truth(own=0.0), design, "mean_bd", N_DRAWS, ("unresolved",)) >= 90


@pytest.mark.slow
def test_where_others_explain_all_nothing_is_left_in_90_of_100() -> None:
    truth = Truth(lambda ranks: ranks["walk_length"] + ranks["visit_evenness"], partial=0.9, own=0.0)
    assert _count(truth, "crossed", "mean_bd", N_DRAWS, ("nothing_left",)) >= 90


@pytest.mark.slow
def test_an_effect_of_0_is_negligible_in_90_of_100_large_studies() -> None:
    """432 patterns without noise of seeds to speak of: twice what count_for_negligible names for 80 of 100."""
    counts = count_statuses(Truth(own=4.0), "crossed", "mean_bd", N_DRAWS, n=432)
    print(counts)  # noqa: T201
    assert counts.get("negligible", 0) >= 90


@pytest.mark.slow
@pytest.mark.parametrize("is_shared", [True, False])
@pytest.mark.parametrize("name", ["patterns differ", "seeds have slopes of half a residual"])
def test_nothing_pooled_over_strata_is_taken_for_something_in_at_most_10_of_100(
    name: str, is_shared: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three strata of the same patterns and what these have of their own, or of others; each with its own noise."""
    use_resamples(monkeypatch, 499)
    statuses = []
    for number in range(N_DRAWS):
        first = plant(NULLS[name], "crossed", number)
        strata = {"0": first}
        for place in (1, 2):
            other = plant(NULLS[name], "crossed", 1000 * place + number)
            own = np.random.default_rng((place, number)).normal(size=first.values.shape)
            strata[str(place)] = (
                dataclasses.replace(first, values=first.values + own)
                if is_shared
                else dataclasses.replace(other, draw_seed=("apart", place))
            )
        (pooled,) = judge_planted(strata, number=number).pooled
        statuses.append(pooled.status)
    print({status: statuses.count(status) for status in set(statuses)})  # noqa: T201
    assert sum(status in CLAIMS for status in statuses) <= 10


@pytest.mark.slow
def test_an_effect_at_the_margin_is_called_negligible_in_at_most_10_of_100() -> None:
    """Each one-sided test errs in 5 of 100; the noise ceiling of these patterns is .89."""
    truth = Truth(lambda ranks: ranks["mean_bd"], BEYOND, partial=0.2 * 0.894)
    counts = count_statuses(truth, "crossed", "mean_bd", N_DRAWS, n=432)
    print(counts)  # noqa: T201
    assert counts.get("negligible", 0) <= 10
