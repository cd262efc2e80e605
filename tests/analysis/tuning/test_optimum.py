"""Each pattern's best learning rate: planted ones are found, by other formulas, at the edge and next to divergence."""

import math
from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

from analysis.data.results import COLUMNS
from analysis.stats.guessing import ACCURACY
from analysis.tuning.optimum import LOSS, Optimum, find_optimum, tune_candidates
from analysis.tuning.rates import TUNED, Rates

RATES = np.array([0.05, 0.1, 0.2, 0.4, 0.8])
NAN = math.nan
Losses = NDArray[np.float64]
STUDY = Rates(24, "log", tuple(f"lr {rate:g}" for rate in RATES), tuple(RATES.tolist()), 162, {})


def valley(best: float, least: float = 0.3, bend: float = 0.4) -> Losses:
    """Losses whose logarithm is a parabola in the logarithm of the rate."""
    losses: Losses = least * np.exp(bend * np.log(RATES / best) ** 2)
    return losses


def find(losses: Losses) -> Optimum:
    optimum = find_optimum(RATES, losses)
    assert optimum is not None
    assert optimum.weights.sum() == pytest.approx(1)
    return optimum


def value_at_best(optimum: Optimum, losses: Losses) -> float:
    """The tuned loss of one seed."""
    used = optimum.weights != 0
    return math.exp(float(np.log(losses[used]) @ optimum.weights[used]))


@pytest.mark.parametrize("best", [0.06, 0.13, 0.2, 0.28, 0.7])
def test_a_planted_least_is_found(best: float) -> None:
    losses = valley(best)[None]
    optimum = find(losses)
    assert optimum.lr == pytest.approx(best)
    assert optimum.edge is None
    assert value_at_best(optimum, losses[0]) == pytest.approx(0.3)
    assert optimum.seed_lrs == pytest.approx([best])


def test_a_second_formula_gives_the_same_least() -> None:
    losses = valley(0.25) * np.exp(np.random.default_rng(0).normal(scale=0.1, size=(3, 5)))
    optimum = find(losses)
    means = np.log(losses).mean(axis=0)
    square, linear, constant = np.polyfit(np.log(RATES), means, 2, w=np.exp(means.min() - means))
    assert optimum.lr == pytest.approx(math.exp(-linear / (2 * square)))
    mean = np.mean([math.log(value_at_best(optimum, own)) for own in losses])
    assert mean == pytest.approx(constant - linear**2 / (4 * square))
    assert np.log(optimum.seed_lrs).mean() == pytest.approx(math.log(optimum.lr))


def test_a_seed_sees_its_own_best_rate() -> None:
    """Seeds whose valleys lie a little apart: to first order each is found."""
    losses = np.stack([valley(0.2 * math.exp(shift)) for shift in (-0.05, 0.0, 0.05)])
    assert np.log(find(losses).seed_lrs / 0.2) == pytest.approx([-0.05, 0.0, 0.05], abs=0.005)


@pytest.mark.parametrize(("best", "edge", "lr"), [(0.02, "lowest", 0.05), (2.0, "highest", 0.8)])
def test_a_least_beyond_the_rates_is_flagged(best: float, edge: str, lr: float) -> None:
    optimum = find(np.stack([valley(best), 1.1 * valley(best)]))
    assert optimum.edge == edge
    assert optimum.lr == pytest.approx(lr)
    assert optimum.seed_lrs == pytest.approx([lr, lr])
    assert value_at_best(optimum, valley(best)) == pytest.approx(valley(best)[lr == RATES][0])


def test_a_rate_at_which_one_seed_diverges_counts_for_none() -> None:
    losses = np.stack([valley(0.2), valley(0.2)])
    losses[1, 4] = NAN
    optimum = find(losses)
    assert optimum.lr == pytest.approx(0.2)
    assert optimum.weights[4] == 0
    assert optimum.edge is None


def test_a_least_next_to_divergence_is_flagged() -> None:
    losses = valley(2.0)[None]
    losses[0, 3:] = NAN
    optimum = find(losses)
    assert optimum.edge == "diverged"
    assert optimum.lr == pytest.approx(0.2)


@pytest.mark.parametrize(("row", "best"), [((0.5, 0.4, NAN, NAN, NAN), 0.1), ((NAN, NAN, 0.6, NAN, NAN), 0.2)])
def test_fewer_than_three_rates_give_the_best_of_them(row: tuple[float, ...], best: float) -> None:
    optimum = find(np.array([row]))
    assert (optimum.lr, optimum.edge) == (best, "diverged")


def test_where_all_diverged_there_is_none() -> None:
    assert find_optimum(RATES, np.full((2, 5), NAN)) is None
    crossed = np.array([[0.5, NAN, 0.5, NAN, 0.5], [NAN, 0.5, NAN, 0.5, NAN]])
    assert find_optimum(RATES, crossed) is None


def test_a_hill_has_no_least_inside() -> None:
    optimum = find(0.1 / valley(0.15)[None])
    assert (optimum.lr, optimum.edge) == (0.8, "highest")


def test_a_rate_near_divergence_hardly_moves_the_least() -> None:
    """A parabola without weights moves by half a step."""
    losses = valley(0.2)[None].copy()
    losses[0, 4] = 20.0
    assert find(losses).lr == pytest.approx(0.2, rel=0.1)
    square, linear, _ = np.polyfit(np.log(RATES), np.log(losses[0]), 2)
    assert abs(math.log(math.exp(-linear / (2 * square)) / 0.2)) > 0.3


def test_units_do_not_matter() -> None:
    losses = valley(0.25) * np.exp(np.random.default_rng(1).normal(scale=0.1, size=(2, 5)))
    optimum, scaled = find(losses), find_optimum(10 * RATES, 7 * losses)
    assert scaled is not None
    assert scaled.lr == pytest.approx(10 * optimum.lr)
    assert scaled.weights == pytest.approx(optimum.weights)


def test_a_loss_of_zero_is_no_accident() -> None:
    losses = valley(0.2)[None].copy()
    losses[0, 2] = 0.0
    assert find(losses).lr == pytest.approx(0.2, rel=1e-3)


def tabulate(losses: dict[str, Losses]) -> pd.DataFrame:
    """Candidates of patterns with losses of shape (seeds, rates): nan diverged, inf still running."""
    rows: list[dict[str, Any]] = []
    for key, own in losses.items():
        for (seed, place), loss in np.ndenumerate(own):
            state = "failed" if math.isnan(loss) else "complete" if math.isfinite(loss) else "running"
            fixed = {"key": key, "strategy": "random", "budget": "log", "layers": 24, "mean_bd": 2.0, "seed": seed}
            error = "training loss not finite at step 3 of 8" if state == "failed" else None
            outcome = {LOSS: loss, ACCURACY: 1 - loss / 3} if state == "complete" else {}
            rows.append({**fixed, "regime": STUDY.regimes[place], "state": state, "error": error, **outcome})
    return pd.DataFrame(rows, columns=list(COLUMNS)).assign(number=range(len(rows))).astype(COLUMNS)


def test_tuned_candidates_average_to_the_optimum_of_their_pattern() -> None:
    generator = np.random.default_rng(2)
    losses = {key: valley(0.25) * np.exp(generator.normal(scale=0.1, size=(3, 5))) for key in ("a", "b")}
    candidates = tabulate(losses)
    tuned = tune_candidates(candidates, STUDY)
    assert tuned[["key", "seed"]].to_numpy().tolist() == [[key, seed] for key in ("a", "b") for seed in (0, 1, 2)]
    assert set(tuned["regime"]) == {TUNED}
    assert set(tuned["state"]) == {"complete"}
    assert tuned["number"].isna().all()
    assert tuned["mean_bd"].tolist() == [2.0] * 6
    assert tuned.dtypes[candidates.columns].equals(candidates.dtypes)
    for key, own in losses.items():
        optimum, rows = find(own), tuned[tuned["key"] == key]
        assert rows[LOSS].tolist() == pytest.approx([value_at_best(optimum, seed) for seed in own])
        assert rows[ACCURACY].tolist() == pytest.approx(((1 - own / 3) @ optimum.weights).tolist())
        assert rows["best_lr"].tolist() == pytest.approx(optimum.seed_lrs.tolist())


def test_a_seed_counts_once_it_was_tried_at_every_rate() -> None:
    losses = np.stack([valley(0.2), 1.2 * valley(0.2)])
    losses[1, 2] = math.inf  # still running
    losses[0, 4] = NAN
    tuned = tune_candidates(tabulate({"a": losses, "b": np.full((2, 5), math.inf)}), STUDY)
    assert tuned[["key", "seed"]].to_numpy().tolist() == [["a", 0]]
    assert tuned[LOSS].tolist() == pytest.approx([0.3])


def test_a_training_that_failed_otherwise_is_still_to_come() -> None:
    candidates = tabulate({"a": np.stack([valley(0.2), valley(0.2)])})
    lost = (candidates["seed"] == 0) & (candidates["regime"] == "lr 0.1")
    state, error = candidates["state"].mask(lost, "failed"), candidates["error"].mask(lost, "its worker died")
    tuned = tune_candidates(candidates.assign(state=state, error=error), STUDY)
    assert tuned["seed"].tolist() == [1]


def test_other_depths_budgets_and_regimes_are_left_out() -> None:
    candidates = tabulate({"a": valley(0.2)[None]})
    for change in ({"layers": 12}, {"budget": "total:30"}, {"regime": "other"}):
        other = candidates.assign(**change).astype(COLUMNS)
        assert tune_candidates(other, STUDY).empty
        both = tune_candidates(pd.concat([candidates, other.assign(validation_loss=0.01)], ignore_index=True), STUDY)
        assert both[LOSS].tolist() == pytest.approx([0.3])


def test_noise_of_seeds_does_not_shift_the_least() -> None:
    """Over many draws: no bias of the best rate, and less than 2 % of the loss."""
    generator = np.random.default_rng(3)
    found = [find(valley(0.25) * np.exp(generator.normal(scale=0.1, size=(2, 5)))) for _ in range(400)]
    assert np.log([optimum.lr / 0.25 for optimum in found]).mean() == pytest.approx(0, abs=0.03)
    noiseless = [value_at_best(optimum, valley(0.25)) for optimum in found]
    assert np.mean(noiseless) == pytest.approx(0.3, rel=0.02)
