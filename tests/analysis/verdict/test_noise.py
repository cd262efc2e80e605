"""F test and ceilings, against analyses of variance by other programs."""

import numpy as np
import pandas as pd
import pytest
import scipy.stats
import statsmodels.api as sm
import statsmodels.formula.api as smf

from analysis.verdict.noise import measure_resolution, square_ranks


def draw_table(seed: int, n: int = 14, k: int = 4) -> np.ndarray:
    """Outcomes with levels of patterns and of seeds."""
    generator = np.random.default_rng(seed)
    return np.asarray(generator.normal(size=(n, 1)) + 3 * generator.normal(size=k) + generator.normal(size=(n, k)))


def test_a_full_table_is_scipys_one_way_analysis_less_the_seeds() -> None:
    table = draw_table(1)
    n, k = table.shape
    found = measure_resolution(table)
    assert found is not None
    centred = table - table.mean(axis=0)
    one_way = scipy.stats.f_oneway(*centred)  # the seeds' means, taken out, cost k - 1 of its degrees of freedom
    f = one_way.statistic * (n * (k - 1) - (k - 1)) / (n * (k - 1))
    assert found.f == pytest.approx(f)
    assert (found.freedom, found.noise_freedom) == (n - 1, (n - 1) * (k - 1))
    assert found.p_value == pytest.approx(scipy.stats.f.sf(f, n - 1, (n - 1) * (k - 1)))
    assert found.reliability == pytest.approx(1 - 1 / f)
    assert found.single_seed == pytest.approx((f - 1) / (f - 1 + k))
    ends = [1 - scipy.stats.f.ppf(q, n - 1, (n - 1) * (k - 1)) / f for q in (0.975, 0.025)]
    assert [found.low, found.ceiling, found.high] == pytest.approx(
        [max(end, 0) ** 0.5 for end in (ends[0], 1 - 1 / f, ends[1])]
    )


def test_missing_trainings_are_a_type_three_test() -> None:
    table = draw_table(2, 10, 3)
    table[[0, 3, 5], [1, 2, 0]] = np.nan
    found = measure_resolution(table)
    assert found is not None
    rows = pd.DataFrame([{"pattern": i, "seed": j, "y": y} for (i, j), y in np.ndenumerate(table) if np.isfinite(y)])
    fit = smf.ols("y ~ C(pattern) + C(seed)", rows).fit()
    expected = sm.stats.anova_lm(fit, typ=3).loc["C(pattern)"]
    assert found.f == pytest.approx(expected["F"])
    assert found.p_value == pytest.approx(expected["PR(>F)"])
    assert found.n_seeds == pytest.approx(2.7)


@pytest.mark.parametrize("missing", [False, True])
def test_what_is_held_is_taken_out_of_the_patterns(missing: bool) -> None:
    table = draw_table(3, 20)
    if missing:
        table[[1, 4], [0, 3]] = np.nan
    span = np.random.default_rng(0).normal(size=20)
    ranks = scipy.stats.rankdata(span)
    found = measure_resolution(table, square_ranks([span]))
    assert found is not None
    rows = pd.DataFrame(
        [{"pattern": i, "seed": j, "y": y, "r": ranks[i]} for (i, j), y in np.ndenumerate(table) if np.isfinite(y)]
    )
    held, full = (smf.ols(f"y ~ C(seed) + {own}", rows).fit() for own in ("r + I(r**2)", "C(pattern)"))
    compared = sm.stats.anova_lm(held, full).iloc[1]
    assert found.f == pytest.approx(compared["F"])
    assert found.p_value == pytest.approx(compared["Pr(>F)"])
    assert found.freedom == 20 - 3
    if not missing:
        means = table.mean(axis=1)
        left = means - np.polyval(np.polyfit(ranks, means, 2), ranks)
        msr, mse = 4 * left @ left / (20 - 3), full.mse_resid
        assert found.ceiling == pytest.approx(max(1 - mse / msr, 0) ** 0.5)


def test_the_interval_of_the_ceiling_covers_the_true_one() -> None:
    generator = np.random.default_rng(7)
    true = (1 / (1 + 1 / 4)) ** 0.5
    covered = 0
    for _ in range(400):
        found = measure_resolution(generator.normal(size=(30, 1)) + generator.normal(size=(30, 4)))
        assert found is not None
        covered += found.low <= true <= found.high
    assert 0.92 < covered / 400 < 0.98


def test_what_has_no_noise_to_measure_gives_nothing() -> None:
    table = draw_table(4)
    assert measure_resolution(table[:, :1]) is None
    assert measure_resolution(table[:1]) is None
    assert measure_resolution(np.ones((5, 3))) is None
    assert measure_resolution(np.full((5, 3), np.nan)) is None
    diagonal = np.where(np.eye(4) == 1, table[:4, :4], np.nan)
    assert measure_resolution(diagonal) is None
    certain = measure_resolution(np.arange(6.0)[:, None] + np.zeros((6, 3)))
    assert certain is not None
    assert (certain.p_value, certain.ceiling, certain.low) == (0.0, 1.0, 1.0)
    noise = measure_resolution(np.arange(3.0)[None] + np.array([[0, 1, 0], [1, 0, 0], [0, 0, 1.0]]))
    assert noise is not None
    assert (noise.ceiling, noise.low) == (0.0, 0.0)


@pytest.mark.parametrize("scale", [1e-150, 1e150])
def test_the_unit_of_the_outcome_changes_nothing(scale: float) -> None:
    table = draw_table(5)
    plain, scaled = measure_resolution(table), measure_resolution(table * scale)
    assert plain is not None
    assert scaled is not None
    assert scaled.f == pytest.approx(plain.f)
