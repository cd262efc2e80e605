"""How a correlation turns with training: planted signs and crossings, by other formulas and by simulation."""

import math

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import linregress, rankdata, spearmanr
from sklearn.isotonic import IsotonicRegression

from analysis.tuning.turning import Turning, cross_zero, make_rising, measure_turnings, rank_rows

AMOUNTS = tuple(162 * rate for rate in (0.05, 0.1, 0.2, 0.4, 0.8))
LOGS = np.log2(AMOUNTS)
CELLS = np.repeat(np.arange(12), 4)
N = len(CELLS)
STRAIGHT = (-0.6, -0.3, 0.0, 0.3, 0.6)
SATURATED = (-0.5, 0.2, 0.6, 0.65, 0.65)
FALLING_BACK = (-0.6, -0.1, 0.4, 0.6, 0.2)  # the highest rate is too high
Losses = NDArray[np.float64]


def draw_losses(x: Losses, rho: tuple[float, ...], generator: np.random.Generator, seeds: int = 2) -> Losses:
    """Losses of shape (seeds, n, amounts) whose correlation with x is rho; rates share some of the rest."""
    shared = generator.normal(size=(len(x), 1))
    own = 0.7 * shared + math.sqrt(0.51) * generator.normal(size=(len(x), len(rho)))
    means: Losses = np.multiply.outer(x, rho) + np.sqrt(1 - np.square(rho)) * own
    noisy: Losses = means + 1e-6 * generator.normal(size=(seeds, *means.shape))
    return noisy


def turn(x: Losses, losses: Losses, seed: int = 0) -> Turning:
    (turning,) = measure_turnings({"w": x}, losses, AMOUNTS, CELLS, np.random.default_rng(seed))
    return turning


def test_every_number_has_a_second_formula() -> None:
    generator = np.random.default_rng(1)
    x = generator.normal(size=N)
    losses = draw_losses(x, STRAIGHT, generator, seeds=3) + generator.normal(size=(3, 1, 5))
    losses += 0.5 * generator.normal(size=losses.shape)
    turning = turn(x, losses)
    expected = [float(spearmanr(x, losses.mean(axis=0)[:, k])[0]) for k in range(5)]
    assert [effect.value for effect in turning.effects] == pytest.approx(expected)
    assert turning.slope.value == pytest.approx(linregress(LOGS, expected).slope)
    of_seeds = [[float(spearmanr(x, seed[:, k])[0]) for k in range(5)] for seed in losses]
    assert turning.seed_slopes == pytest.approx([linregress(LOGS, own).slope for own in of_seeds])
    assert turning.amounts == pytest.approx(AMOUNTS)
    assert turning.n_patterns == (N,) * 5
    rising = IsotonicRegression().fit_transform(LOGS, expected)
    assert turning.crossing is not None
    assert turning.crossing.value == pytest.approx(2 ** float(np.interp(0, rising, LOGS)))
    assert turning.is_shown


def test_rising_rows_are_those_of_isotonic_regression() -> None:
    rows = np.random.default_rng(0).normal(size=(50, 6))
    expected = [IsotonicRegression().fit_transform(np.arange(6), row) for row in rows]
    assert make_rising(rows) == pytest.approx(np.array(expected))


@pytest.mark.parametrize(
    ("row", "crossing"),
    [
        ((-2.0, -1.0, 1.0), 1.5),
        ((0.5, 1.0, 2.0), -math.inf),
        ((-3.0, -2.0, -1.0), math.inf),
        ((-1.0, 0.0, 1.0), 1.0),
        ((2.0, -4.0, 3.0), 1.25),  # the first two level out at -1
        ((-4.0, 3.0, 1.0), 2 / 3),  # the last two level out at 2
    ],
)
def test_a_crossing_is_read_between_the_amounts(row: tuple[float, ...], crossing: float) -> None:
    found = float(cross_zero(np.arange(3.0), np.array([row]))[0])
    assert found == (pytest.approx(crossing) if math.isfinite(crossing) else -math.inf if row[0] > 0 else math.inf)


def test_the_other_sign_turns_the_other_way() -> None:
    generator = np.random.default_rng(2)
    x = generator.normal(size=N)
    losses = draw_losses(x, STRAIGHT, generator)
    up, down = turn(x, losses), turn(-x, losses)
    assert up.slope.value == pytest.approx(-(down.slope.value or 0))
    assert up.crossing is not None
    assert down.crossing is not None
    assert (down.crossing.value, down.crossing.low) == pytest.approx((up.crossing.value, up.crossing.low))


def test_a_correlation_that_keeps_its_sign_does_not_cross() -> None:
    generator = np.random.default_rng(3)
    x = generator.normal(size=N)
    turning = turn(x, draw_losses(x, (0.3, 0.5, 0.6, 0.7, 0.8), generator))
    assert turning.crossing is None
    assert turning.is_shown


def test_an_interval_that_leaves_the_trained_amounts_is_open_there() -> None:
    generator = np.random.default_rng(4)
    x = generator.normal(size=N)
    turning = turn(x, draw_losses(x, (-0.05, 0.2, 0.3, 0.5, 0.6), generator))
    assert turning.crossing is not None
    assert turning.crossing.low is None
    assert turning.crossing.high is not None


def test_a_diverged_training_is_the_worst_and_one_to_come_is_left_out() -> None:
    generator = np.random.default_rng(5)
    x = generator.normal(size=N)
    losses = draw_losses(x, STRAIGHT, generator)
    losses[1, :3, 4] = math.inf
    losses[:, 5, 2] = math.nan
    losses[0, 6, 2] = math.nan  # the other seed is there
    turning = turn(x, losses)
    assert turning.n_patterns == (N, N, N - 1, N, N)
    worst = losses.mean(axis=0)[:, 4].copy()
    worst[:3] = 10.0
    assert turning.effects[4].value == pytest.approx(float(spearmanr(x, worst)[0]))


def test_a_constant_measure_has_no_turning() -> None:
    turning = turn(np.ones(N), draw_losses(np.ones(N), STRAIGHT, np.random.default_rng(6)))
    assert turning.slope.value is None
    assert turning.crossing is None
    assert not turning.is_shown


def plant_seeds(spread: float, generator: np.random.Generator, x: Losses, seeds: int = 4) -> Losses:
    """Losses that do not turn on average, each seed with a turn of its own of that spread."""
    turns = spread * generator.normal(size=(seeds, 1, 1))
    steps = np.linspace(-1, 1, 5)
    shared = generator.normal(size=(1, N, 5))
    losses: Losses = turns * x[None, :, None] * steps + shared + 0.7 * generator.normal(size=(seeds, N, 5))
    return losses


def test_seeds_that_differ_are_drawn_too() -> None:
    generator = np.random.default_rng(9)
    x = generator.normal(size=N)
    apart, alike = turn(x, plant_seeds(1.0, generator, x)), turn(x, plant_seeds(0.0, generator, x))
    assert (apart.has_random_seeds, alike.has_random_seeds) == (True, False)
    assert np.ptp(apart.seed_slopes) > 3 * np.ptp(alike.seed_slopes)


def test_ranks_of_drawn_rows_are_those_of_scipy() -> None:
    generator = np.random.default_rng(10)
    values, weights = generator.normal(size=(20, 9)), generator.integers(0, 4, size=(20, 9)).astype(np.float64)
    values[:, :2] = np.inf
    for row, own, ranks in zip(values, weights.astype(int), rank_rows(values, weights), strict=True):
        repeated = rankdata(np.repeat(row, own)) - (own.sum() + 1) / 2
        assert np.repeat(ranks, own) == pytest.approx(repeated)


@pytest.mark.slow
def test_turns_of_single_seeds_are_not_claimed_for_all() -> None:
    """With the patterns only, an interval of the slope leaves 0 out in half of these draws and more."""
    claims = 0
    for draw in range(100):
        generator = np.random.default_rng((draw, 11))
        x = generator.normal(size=N)
        claims += turn(x, plant_seeds(0.7, generator, x), draw).is_shown
    assert claims <= 12


def _cover(rho: tuple[float, ...], n_draws: int) -> tuple[int, int]:
    """Count how often the intervals of the crossing and of the slope contain the truth."""
    of_ranks = 6 / math.pi * np.arcsin(np.array(rho) / 2)
    rising = IsotonicRegression().fit_transform(LOGS, of_ranks)
    truth, slope = 2 ** float(np.interp(0, rising, LOGS)), linregress(LOGS, of_ranks).slope
    crossings = slopes = 0
    for draw in range(n_draws):
        generator = np.random.default_rng((draw, 7))
        x = generator.normal(size=N)
        turning = turn(x, draw_losses(x, rho, generator), draw)
        if turning.crossing is not None:
            crossings += (turning.crossing.low or 0.0) <= truth <= (turning.crossing.high or math.inf)
        assert turning.slope.low is not None
        assert turning.slope.high is not None
        slopes += int(turning.slope.low <= slope <= turning.slope.high)
    return crossings, slopes


@pytest.mark.slow
@pytest.mark.parametrize(
    "rho",
    [STRAIGHT, SATURATED, pytest.param(FALLING_BACK, marks=pytest.mark.ci)],
    ids=["straight", "saturated", "falling back"],
)
def test_intervals_cover_a_planted_turn(rho: tuple[float, ...]) -> None:
    """At 95 %, fewer than 88 of 100 come by chance once in 200."""
    crossings, slopes = _cover(rho, 100)
    assert crossings >= 88
    assert slopes >= 88


@pytest.mark.slow
def test_a_turn_is_claimed_at_its_level_where_there_is_none() -> None:
    claims = 0
    for draw in range(100):
        generator = np.random.default_rng((draw, 8))
        x = generator.normal(size=N)
        claims += turn(x, draw_losses(x, (0.0,) * 5, generator), draw).is_shown
    assert claims <= 12
