import numpy as np
import pytest
import scipy.stats
import statsmodels.api as sm
from statsmodels.stats.multitest import multipletests

from analysis.stats.correlations import (
    UNDEFINED,
    Estimate,
    Method,
    _statistics,
    adjust_holm,
    correlate,
    weighted_ranks,
    weighted_spearman,
)
from analysis.stats.grouped import correlate_spearman
from analysis.stats.inference import permute_wald
from analysis.stats.resampling import (
    bootstrap,
    draw_weights,
    number_groups,
    permute,
    pool_single,
    quantile_bands,
    share_as_far,
)
from tests.support.resamples import use_resamples


def _draw(seed: int, n: int, slope: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    x = generator.integers(0, 6, n).astype(float)  # with ties, as mean BD has
    return x, slope * x + generator.normal(size=n).round(1)


def _one(x: np.ndarray, y: np.ndarray, method: Method, generator: np.random.Generator) -> Estimate:
    together = np.zeros(len(x), dtype=np.int64)
    return correlate({"x": x}, y, together, {"x": together}, generator)["x", method]


@pytest.mark.parametrize("seed", range(4))
def test_weighted_correlations_agree_with_scipy_on_the_repeated_rows(seed: int) -> None:
    x, y = _draw(seed, 12, 0.5)
    counts = np.random.default_rng(seed).multinomial(12, np.full(12, 1 / 12), size=5)
    rho, tau = _statistics({"x": x}, ["x"], y, counts.astype(float))
    assert (rho == weighted_spearman(x, y, counts.astype(float))).all()
    for row, one_rho, one_tau in zip(counts, rho, tau, strict=True):
        repeated_x, repeated_y = np.repeat(x, row), np.repeat(y, row)
        assert one_rho == pytest.approx(scipy.stats.spearmanr(repeated_x, repeated_y).statistic)
        assert one_tau == pytest.approx(scipy.stats.kendalltau(repeated_x, repeated_y).statistic)


def test_weighted_ranks_are_scipys_mid_ranks_of_the_repeated_rows() -> None:
    x, _ = _draw(1, 9)
    counts = np.array([2, 0, 1, 1, 3, 0, 1, 1, 1])
    expected = scipy.stats.rankdata(np.repeat(x, counts))
    result = np.repeat(weighted_ranks(x, counts[None].astype(float))[0], counts)
    assert result == pytest.approx(expected - expected.mean())


@pytest.mark.parametrize("method", ["spearman", "kendall"])
def test_p_value_agrees_with_a_plain_permutation_test_by_scipy(method: Method) -> None:
    x, y = _draw(3, 15, 0.35)

    def statistic(a: np.ndarray) -> float:
        result = scipy.stats.spearmanr(a, y) if method == "spearman" else scipy.stats.kendalltau(a, y)
        return float(result.statistic)

    generator = np.random.default_rng(1)
    permuted = [abs(statistic(generator.permutation(x))) for _ in range(600)]
    result = _one(x, y, method, generator)
    assert result.value == pytest.approx(statistic(x))
    expected = np.mean(np.array(permuted) >= abs(statistic(x)) - 1e-9)
    assert result.p_value == pytest.approx(expected, abs=0.05)  # both are estimates, with standard errors below 0.02


def test_permutations_inside_groups_do_not_take_the_groups_for_an_effect() -> None:
    generator = np.random.default_rng(8)
    groups = np.repeat([0, 1], 20)
    x, y = 5 * groups + generator.normal(size=40), 5 * groups + generator.normal(size=40)
    within = correlate_spearman(x, y, groups, groups, generator)
    across = correlate_spearman(x, y, groups, np.zeros(40, dtype=np.int64), generator)
    assert across.value == pytest.approx(scipy.stats.spearmanr(x, y).statistic)
    own = [scipy.stats.spearmanr(x[groups == group], y[groups == group]).statistic for group in (0, 1)]
    assert within.value == pytest.approx(np.tanh(np.arctanh(own).mean()))  # of groups of one size
    assert across.p_value == pytest.approx(1 / 2001)
    assert within.p_value is not None
    assert within.p_value > 0.05


def test_one_measure_alone_is_as_all_together() -> None:
    x, y = _draw(4, 25, 0.3)
    cells, groups = np.repeat(np.arange(5), 5), np.zeros(25, dtype=np.int64)
    together = correlate({"x": x, "z": x**2}, y, cells, {"x": groups, "z": groups}, np.random.default_rng(0))
    single = correlate_spearman(x, y, cells, groups, np.random.default_rng(0))
    assert together["x", "spearman"].value == single.value
    assert together["x", "spearman"].low == pytest.approx(single.low)
    assert together["x", "spearman"].p_value == pytest.approx(single.p_value, abs=0.05)
    assert together["z", "kendall"].value == pytest.approx(scipy.stats.kendalltau(x, y).statistic)


def test_bootstrap_intervals_hold_the_true_correlation_about_as_often_as_they_say(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    use_resamples(monkeypatch, 499)
    rho, n_trials, covered = 0.5, 120, 0
    true = 6 / np.pi * np.arcsin(rho / 2)  # Spearman's rho of a bivariate normal
    generator = np.random.default_rng(11)
    together = np.zeros(40, dtype=np.int64)
    for _ in range(n_trials):
        x, y = generator.multivariate_normal([0, 0], [[1, rho], [rho, 1]], size=40).T
        result = correlate_spearman(x, y, together, together, generator)
        assert result.low is not None
        assert result.high is not None
        covered += result.low <= true <= result.high
    assert 0.87 <= covered / n_trials < 1.0  # 95 % nominal; 0.87 is four standard errors below


def test_interval_agrees_with_scipys_bootstrap() -> None:
    x, y = _draw(7, 30, 0.3)
    reference = scipy.stats.bootstrap(
        (x, y),
        lambda a, b: scipy.stats.kendalltau(a, b).statistic,
        paired=True,
        vectorized=False,
        method="percentile",
        n_resamples=1000,
        rng=1,
    ).confidence_interval
    result = _one(x, y, "kendall", np.random.default_rng(0))
    assert result.low == pytest.approx(reference.low, abs=0.04)
    assert result.high == pytest.approx(reference.high, abs=0.04)


def test_constant_columns_are_not_defined_and_degenerate_resamples_are_counted() -> None:
    constant, y = np.ones(6), np.arange(6.0)
    assert _one(constant, y, "spearman", np.random.default_rng(0)) == UNDEFINED
    nearly = np.array([0.0, 0, 0, 0, 0, 1])
    result = _one(nearly, y, "kendall", np.random.default_rng(0))
    # Five draws from six rows miss the one odd row with probability (5/6)^5 = 0.402.
    assert result.n_degenerate / 2000 == pytest.approx((5 / 6) ** 5, abs=0.05)


def test_holm_agrees_with_statsmodels() -> None:
    p_values = [0.02, 0.5, 0.001, 0.04, 0.013, 0.041]
    assert adjust_holm([*p_values]) == pytest.approx(multipletests(p_values, method="holm")[1].tolist())


def test_bootstrap_of_a_stratified_mean_has_the_textbook_variance() -> None:
    generator = np.random.default_rng(3)
    groups = np.repeat([0, 1, 2, 3], [3, 3, 2, 7])
    y = generator.normal(size=15) * (1 + groups)
    weights = draw_weights(groups, 40_000, generator)
    sizes = np.bincount(groups)
    for group in range(4):
        assert weights[:, groups == group].sum(axis=1) == pytest.approx(sizes[group])
    expected = sum((n / 15) ** 2 * y[groups == group].var(ddof=1) / n for group, n in enumerate(sizes))
    assert (weights @ y / 15).var() == pytest.approx(expected, rel=0.03)  # a plain bootstrap: a third less


def test_bootstrap_in_chunks_has_all_resamples(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("analysis.stats.resampling.MAX_CHUNK", 70)
    resampled = bootstrap(lambda weights: weights.sum(axis=1), np.zeros(10, dtype=np.int64), np.random.default_rng(0))
    assert resampled == pytest.approx(np.full(2000, 10.0))
    estimate = Estimate.from_resamples(2.0, np.array([np.nan, 1.0, 1.0]), None)
    assert estimate == Estimate(2.0, 1.0, 1.0, None, 1)


def test_permutations_stay_inside_groups_and_reach_every_order() -> None:
    groups = np.array([0, 1, 0, 1, 1])
    orders = permute(groups, 4000, np.random.default_rng(0))
    assert (groups[orders] == groups).all()
    assert (np.sort(orders, axis=1) == np.arange(5)).all()
    result, counts = np.unique(orders, axis=0, return_counts=True)
    assert len(result) == 12  # 2! x 3!
    assert counts.min() > 250  # 333 expected, sd 17


def test_groups_of_one_are_pooled() -> None:
    assert pool_single(number_groups("aabbcde")).tolist() == [0, 0, 1, 1, 2, 2, 2]
    assert pool_single(number_groups("a")).tolist() == [0]
    assert share_as_far(1.0, np.zeros(99), 0.0) == 0.01


def test_quantile_bands_keep_ties_together_and_are_never_small() -> None:
    generator = np.random.default_rng(0)
    for n in (4, 9, 10, 24, 25, 60, 61):
        values = generator.normal(size=n)
        bands = quantile_bands(values)
        sizes = np.bincount(bands)
        assert len(sizes) == max(1, min(5, n // 5))
        assert n < 10 or sizes.min() >= 5
        assert np.ptp(sizes) <= 1
    tied = quantile_bands(np.repeat([1.0, 2.0, 3.0], [40, 6, 14]))
    assert np.bincount(tied).min() >= 5
    assert len(set(tied[:40])) == 1


def _regression(seed: int, n: int, slope: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    nuisance = np.column_stack([np.ones(n), generator.normal(size=(n, 2))])
    tested = generator.normal(size=(n, 2)) + nuisance[:, 1:]
    y = nuisance @ [1.0, 2.0, -1.0] + slope * tested[:, 0] + generator.normal(size=n) * (1 + abs(tested[:, 0]))
    return tested, nuisance, y


@pytest.mark.parametrize("n_tested", [1, 2])
def test_wald_statistic_and_its_p_value_are_statsmodels_hc3_at_large_n(n_tested: int) -> None:
    for seed, slope in ((0, 0.0), (1, 0.08), (2, 0.15)):
        tested, nuisance, y = _regression(seed, 600, slope)
        tested = tested[:, :n_tested]
        fit = sm.OLS(y, np.column_stack([tested, nuisance])).fit(cov_type="HC3")
        reference = fit.wald_test(np.eye(n_tested, nuisance.shape[1] + n_tested), use_f=False, scalar=True)
        together = np.zeros(600, dtype=np.int64)
        statistic, p_value = permute_wald(tested, nuisance, y, together, np.random.default_rng(seed))
        assert statistic == pytest.approx(float(reference.statistic), rel=1e-6)
        assert p_value == pytest.approx(float(reference.pvalue), abs=0.05)


def test_collinear_or_exhausted_columns_are_not_tested() -> None:
    tested, nuisance, y = _regression(0, 30, 0.0)
    together, generator = np.zeros(30, dtype=np.int64), np.random.default_rng(0)
    assert permute_wald(nuisance[:, 1:], nuisance, y, together, generator) == (None, None)
    assert permute_wald(tested, nuisance, nuisance @ [1.0, 2.0, 3.0], together, generator) == (None, None)
    doubled = np.column_stack([tested[:, 0], tested[:, 0]])
    once = permute_wald(tested[:, :1], nuisance, y, together, np.random.default_rng(1))
    assert permute_wald(doubled, nuisance, y, together, np.random.default_rng(1)) == pytest.approx(once)
    exact = permute_wald(tested[:, :1], nuisance, tested[:, 0], together, generator)
    assert exact[1] == pytest.approx(1 / 2001)
