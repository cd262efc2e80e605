"""Partial rank correlations under several controls, their tests and intervals, by other programs."""

import numpy as np
import pytest
import scipy.stats
import statsmodels.api as sm

from analysis.stats.inference import permute_slope, regress
from analysis.verdict.controls import compare_with_margin, correlate_given, estimate_effects, measure_effects
from analysis.verdict.noise import measure_resolution
from analysis.verdict.sample import Sample
from tests.support.planted import Truth, plant
from tests.support.resamples import use_resamples

GIVEN = ("span", "walk_length")


def _partial(x: np.ndarray, y: np.ndarray, held: list[np.ndarray]) -> float:
    """Correlate residuals of ranks on the ranks held and their squares, by statsmodels."""
    ranks = [scipy.stats.rankdata(column) - (len(x) + 1) / 2 for column in (x, y, *held)]
    columns = [power for rank in ranks[2:] for power in (rank, rank**2)]
    nuisance = np.column_stack([np.ones(len(x)), *columns])
    residuals = [sm.OLS(rank, nuisance).fit().resid for rank in ranks[:2]]
    return float(np.corrcoef(residuals)[0, 1])


def test_the_partial_correlation_is_that_of_the_ranks_residuals() -> None:
    sample = plant(Truth(lambda ranks: ranks["mean_bd"]), "naive", 0, n=40)
    columns = {name: column.round(1) for name, column in sample.columns.items()}  # with ties
    sample = Sample.from_arrays(sample.values, columns)
    weights = np.concatenate([np.ones((1, 40)), np.random.default_rng(1).multinomial(40, np.full(40, 1 / 40), size=3)])
    found = correlate_given(sample, [("mean_bd", GIVEN)], weights, None)["mean_bd", GIVEN]
    expected = []
    for row in weights.astype(int):
        drawn = {name: np.repeat(column, row) for name, column in columns.items()}
        expected.append(_partial(drawn["mean_bd"], np.repeat(sample.means, row), [drawn[name] for name in GIVEN]))
    assert found == pytest.approx(expected)


def test_drawn_seeds_average_the_outcome_again() -> None:
    sample = plant(Truth(), "naive", 1, n=30, k=4)
    values = sample.values.copy()
    values[3, 1] = values[5, 2] = np.nan
    sample = Sample.from_arrays(values.round(1), sample.columns)
    counts = np.array([[2.0, 1, 0, 0], [0, 0, 1, 2]])
    found = correlate_given(sample, [("mean_bd", ("span",))], np.ones((2, 30)), counts)["mean_bd", ("span",)]
    for result, row in zip(found, counts, strict=True):
        used = np.where(np.isfinite(sample.centred), row, 0)
        means = (np.nan_to_num(sample.centred) * used).sum(axis=1) / used.sum(axis=1)
        assert result == pytest.approx(_partial(sample.columns["mean_bd"], means.round(12), [sample.columns["span"]]))


def test_what_is_held_may_say_nothing_or_everything() -> None:
    generator = np.random.default_rng(2)
    x, other = generator.normal(size=(2, 30))
    sample = Sample.from_arrays(
        generator.normal(size=(30, 3)), {"x": x, "flat": np.ones(30), "same": 2 * x, "z": other}
    )
    ones = np.ones((1, 30))
    found = correlate_given(sample, [("x", ("flat",)), ("x", ("same",)), ("flat", ("z",))], ones, None)
    assert found["x", ("flat",)][0] == pytest.approx(scipy.stats.spearmanr(x, sample.means).statistic)
    assert np.isnan(found["x", ("same",)][0])
    assert np.isnan(found["flat", ("z",)][0])


def test_where_nothing_is_held_it_is_the_plain_rank_correlation(monkeypatch: pytest.MonkeyPatch) -> None:
    use_resamples(monkeypatch, 199)
    sample = plant(Truth(lambda ranks: ranks["mean_bd"]), "naive", 3, n=40)
    (found,) = estimate_effects(sample, [("mean_bd", ())], np.random.default_rng(0))
    (effect,) = found.effects
    expected = scipy.stats.spearmanr(sample.columns["mean_bd"], sample.means)
    assert effect.partial.value == pytest.approx(expected.statistic)
    assert effect.partial.p_value == pytest.approx(expected.pvalue, abs=0.06)
    resolution = measure_resolution(sample.values)
    assert resolution is not None
    assert effect.resolution is not None
    assert effect.resolution.f == pytest.approx(resolution.f)


def test_slope_and_error_are_those_of_statsmodels_hc3() -> None:
    generator = np.random.default_rng(3)
    x, *held = generator.normal(size=(3, 50))
    y = x + generator.normal(size=50) * (1 + abs(x))
    slope = regress(x, np.stack(held, axis=1), y)
    fit = sm.OLS(y, sm.add_constant(np.column_stack([*held, x]))).fit(cov_type="HC3", use_t=True)
    assert slope.value == pytest.approx(fit.params[-1])
    assert slope.variance**0.5 == pytest.approx(fit.bse[-1])
    assert slope.freedom == 50 - 4
    assert regress(np.ones(50), np.stack(held, axis=1), y).value == 0


def test_a_p_value_goes_on_below_what_permutations_can_say(monkeypatch: pytest.MonkeyPatch) -> None:
    use_resamples(monkeypatch, 199)
    generator = np.random.default_rng(4)
    x, held = generator.normal(size=(2, 60))
    for strength, low, high in ((0.0, 0.01, 1.0), (0.8, 1e-8, 0.005), (9.0, 1e-12, 1e-12)):
        y = strength * x + generator.normal(size=60) * (strength < 9)
        p_value = permute_slope(x, held[:, None], y, generator)
        assert p_value is not None
        assert low <= p_value <= high
        if 0 < strength < 9:
            fit = sm.OLS(y, sm.add_constant(np.column_stack([held, x]))).fit(cov_type="HC3", use_t=True)
            assert p_value == pytest.approx(fit.pvalues[-1], rel=1e-6)
    assert permute_slope(held, held[:, None], x, generator) is None


def test_intervals_cover_the_true_correlation(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a normal sample without effect the true partial correlation is 0."""
    use_resamples(monkeypatch, 199)
    covered = 0
    for number in range(40):
        (effects,) = measure_effects(plant(Truth(), "crossed", number, n=40), ("mean_bd",), np.random.default_rng(0))
        low, high = effects.effects[0].partial.low, effects.effects[0].partial.high
        assert low is not None
        assert high is not None
        covered += low <= 0 <= high
    assert covered >= 33  # at a coverage of .93, fewer come once in 100 times


def test_the_margin_is_met_at_the_ceiling() -> None:
    inside, outside = compare_with_margin(0.0, (-0.1, 0.09), 0.6), compare_with_margin(0.0, (-0.1, 0.09), 0.4)
    assert inside is not None
    assert outside is not None
    assert (inside.low, inside.high) == pytest.approx((-0.1 / 0.6, 0.15))
    assert inside.is_negligible
    assert not outside.is_negligible
    assert compare_with_margin(0.0, (-0.1, 0.1), 0.0) is compare_with_margin(0.0, None, 0.5) is None


def test_missing_trainings_of_good_patterns_do_not_move_the_seeds_levels() -> None:
    generator = np.random.default_rng(6)
    pattern, seed = generator.normal(size=(20, 1)), np.array([0.0, 5.0, -3.0])
    values = pattern + seed
    full = Sample.from_arrays(values, {}).means
    assert full == pytest.approx((pattern - pattern.mean())[:, 0], abs=1e-9)
    values[np.argsort(pattern[:, 0])[:12], 1] = np.nan
    assert np.ptp(Sample.from_arrays(values, {}).means - full) == pytest.approx(0.0, abs=1e-9)
