from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import scipy.stats
from statsmodels.stats.multitest import multipletests
from synthetic_run import make_run, propose

from analysis.comparison import compare_templates
from analysis.correlations import (
    Estimate,
    Method,
    adjust_holm,
    correlate,
    correlate_given,
    weighted_kendall,
    weighted_spearman,
)
from analysis.reach import measure_reach, measure_uniform_reach
from analysis.results import average_patterns, read_run
from analysis.statistics import Correlation, analyse_candidates, judge, measure_reliability
from search_spaces.budget import Budget, log_budget
from search_spaces.distance import backprop_distance
from search_spaces.sampling import derive_generator, sample_uniform


def _draw(seed: int, n: int, slope: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    x = generator.integers(0, 6, n).astype(float)  # with ties, as mean BD has
    return x, slope * x + generator.normal(size=n).round(1)


@pytest.mark.parametrize("seed", range(4))
def test_weighted_correlations_agree_with_scipy_on_the_repeated_rows(seed: int) -> None:
    x, y = _draw(seed, 12, 0.5)
    counts = np.random.default_rng(seed).multinomial(12, np.full(12, 1 / 12), size=5)
    rho, tau = weighted_spearman(x, y, counts.astype(float)), weighted_kendall(x, y, counts.astype(float))
    for row, one_rho, one_tau in zip(counts, rho, tau, strict=True):
        repeated_x, repeated_y = np.repeat(x, row), np.repeat(y, row)
        assert one_rho == pytest.approx(scipy.stats.spearmanr(repeated_x, repeated_y).statistic)
        assert one_tau == pytest.approx(scipy.stats.kendalltau(repeated_x, repeated_y).statistic)


@pytest.mark.parametrize("method", ["spearman", "kendall"])
def test_p_value_agrees_with_a_plain_permutation_test_by_scipy(method: Method) -> None:
    x, y = _draw(3, 15, 0.35)

    def statistic(a: np.ndarray) -> float:
        found = scipy.stats.spearmanr(a, y) if method == "spearman" else scipy.stats.kendalltau(a, y)
        return float(found.statistic)

    generator = np.random.default_rng(1)
    permuted = [abs(statistic(generator.permutation(x))) for _ in range(2000)]
    found = correlate(x, y, method, generator)
    assert found.value == pytest.approx(statistic(x))
    expected = np.mean(np.array(permuted) >= abs(statistic(x)) - 1e-9)
    assert found.p_value == pytest.approx(expected, abs=0.05)  # both are estimates, with standard error 0.01 each


def test_partial_correlation_is_that_of_the_ranks_residuals() -> None:
    generator = np.random.default_rng(5)
    z = generator.normal(size=40)
    x, y = z + generator.normal(size=40), z + generator.normal(size=40)
    ranks = [scipy.stats.rankdata(column) for column in (x, y, z)]
    residuals = [column - np.polyval(np.polyfit(ranks[2], column, 1), ranks[2]) for column in ranks[:2]]
    found = correlate_given(x, y, z, generator)
    assert found.value == pytest.approx(np.corrcoef(residuals)[0, 1])
    assert found.low is not None
    assert found.high is not None
    assert found.low < found.value < found.high  # type: ignore[operator]


def test_bootstrap_intervals_hold_the_true_correlation_about_as_often_as_they_say() -> None:
    rho, n_trials, covered = 0.5, 120, 0
    true = 6 / np.pi * np.arcsin(rho / 2)  # Spearman's rho of a bivariate normal
    generator = np.random.default_rng(11)
    for _ in range(n_trials):
        x, y = generator.multivariate_normal([0, 0], [[1, rho], [rho, 1]], size=40).T
        found = correlate(x, y, "spearman", generator)
        assert found.low is not None
        assert found.high is not None
        covered += found.low <= true <= found.high
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
    found = correlate(x, y, "kendall", np.random.default_rng(0))
    assert found.low == pytest.approx(reference.low, abs=0.04)
    assert found.high == pytest.approx(reference.high, abs=0.04)


def test_constant_columns_are_not_defined_and_degenerate_resamples_are_counted() -> None:
    constant, y = np.ones(6), np.arange(6.0)
    assert correlate(constant, y, "spearman", np.random.default_rng(0)) == Estimate(None, None, None, None, 0)
    nearly = np.array([0.0, 0, 0, 0, 0, 1])
    found = correlate(nearly, y, "kendall", np.random.default_rng(0))
    # A resample misses the one odd row with probability (5/6)^6 = 0.335.
    assert found.n_degenerate / 2000 == pytest.approx((5 / 6) ** 6, abs=0.05)


def test_holm_agrees_with_statsmodels() -> None:
    p_values = [0.02, 0.5, 0.001, 0.04, 0.013, 0.041]
    assert adjust_holm([*p_values]) == pytest.approx(multipletests(p_values, method="holm")[1].tolist())


def _two_way_table(seed: int) -> np.ndarray:
    generator = np.random.default_rng(seed)
    return np.asarray(generator.normal(size=(7, 1)) + 3 * generator.normal(size=(1, 4)) + generator.normal(size=(7, 4)))


def test_reliability_agrees_with_sums_of_squares() -> None:
    table = _two_way_table(2)
    rows = [{"key": f"k{i}", "seed": j, "validation_loss": value} for (i, j), value in np.ndenumerate(table)]
    found = measure_reliability(pd.DataFrame(rows), "validation_loss")
    n, k = table.shape
    grand = table.mean()
    rows_sum = sum(k * (row.mean() - grand) ** 2 for row in table)
    columns_sum = sum(n * (column.mean() - grand) ** 2 for column in table.T)
    total = ((table - grand) ** 2).sum()
    between, within = rows_sum / (n - 1), (total - rows_sum) / (n * (k - 1))
    residual = (total - rows_sum - columns_sum) / ((n - 1) * (k - 1))
    assert found.single_seed == pytest.approx((between - within) / (between + (k - 1) * within))
    assert found.paired_mean == pytest.approx(1 - residual / between)
    assert found.ceiling == pytest.approx((1 - residual / between) ** 0.5)
    f_test = scipy.stats.f_oneway(*table)
    assert between / within == pytest.approx(f_test.statistic)


def test_only_random_and_designed_patterns_enter(tmp_path: Path) -> None:
    proposals = propose(12, ["log", "nearest_log_i"])
    proposals[-1] = (None, "tpe", proposals[-1][2])
    proposals[-2] = (None, "design", proposals[-2][2])
    numbers = [backprop_distance(pattern).mean for _, _, pattern in proposals]

    def score(place: int, seed: int) -> float:  # what is left out would turn the correlation round
        sign = 1 if proposals[place][1] in ("templates", "tpe") else -1
        return 0.5 + sign * 0.1 * numbers[place] + 0.01 * seed

    table = read_run(make_run(tmp_path / "run", proposals, score)).candidates
    (stratum,) = analyse_candidates(table)
    assert stratum.used == {"random": 10, "design": 1}
    assert stratum.left_out == {"templates": 2, "tpe": 1}
    found = {
        (one.distance, one.outcome, one.method): one.estimate.value for one in stratum.correlations if not one.given
    }
    assert found["mean_bd", "validation_loss", "spearman"] == pytest.approx(1.0)
    assert found["mean_bd", "validation_accuracy", "kendall"] == pytest.approx(-1.0)
    used = average_patterns(table[table["strategy"].isin(["random", "design"])])
    reference = scipy.stats.spearmanr(used["span"], used["validation_loss"].round(9)).statistic
    assert found["span", "validation_loss", "spearman"] == pytest.approx(reference)
    assert stratum.collinearity["span"] == pytest.approx(scipy.stats.spearmanr(used["mean_bd"], used["span"]).statistic)
    assert stratum.verdict.status == "detected"
    assert "longer mean BD goes with higher validation loss" in stratum.verdict.sentence
    assert analyse_candidates(table) == (stratum,)


def test_budgets_are_never_pooled(tmp_path: Path) -> None:
    table = read_run(make_run(tmp_path / "run", propose(6), lambda p, _s: 0.1 * p)).candidates
    strata = analyse_candidates(pd.concat([table, table.iloc[:4].assign(budget="total:21")]))
    assert [(one.budget, one.n_patterns) for one in strata] == [("log", 6), ("total:21", 2)]
    assert strata[1].verdict.status == "too few"
    assert "2 sampled" in strata[1].verdict.sentence
    assert "at least 5" in strata[1].verdict.sentence


def test_equal_outcomes_are_not_defined(tmp_path: Path) -> None:
    table = read_run(make_run(tmp_path / "run", propose(6), lambda _p, _s: 0.3)).candidates
    (stratum,) = analyse_candidates(table)
    assert stratum.verdict.status == "not defined"
    assert all(one.ceiling is None for one in stratum.reliability)


def _judge(low: float, high: float, p_value: float, span_rho: float | None = 0.9) -> tuple[str, str]:
    estimate = Estimate((low + high) / 2, low, high, p_value, 0)
    one = Correlation("mean_bd", "validation_loss", None, "spearman", 40, estimate, p_value)
    verdict = judge((one,), span_rho, 40)
    return verdict.status, verdict.sentence


def test_verdict_wording() -> None:
    status, sentence = _judge(-0.2, 0.35, 0.4)
    assert status == "not detected"
    assert "n=40" in sentence
    assert "stronger than ±0.35 are excluded" in sentence
    assert _judge(0.01, 0.6, 0.08)[0] == "not detected"
    assert "not detected" in _judge(0.01, 0.6, 0.08)[1]
    status, sentence = _judge(-0.7, -0.2, 0.001)
    assert status == "detected"
    assert "goes with lower validation loss" in sentence
    assert "confounded with span (rho=+0.90)" in sentence
    assert "confounded" not in _judge(-0.7, -0.2, 0.001, span_rho=0.1)[1]
    for low, high in ((-0.2, 0.3), (0.2, 0.5)):
        assert "no effect" not in _judge(low, high, 0.01)[1]
        assert "helps" not in _judge(low, high, 0.01)[1]


def test_reach_against_the_known_extremes() -> None:
    reach = measure_reach(np.array([1.7, 1.9]), log_budget(24))
    assert reach.bound == pytest.approx(2 - 94 / 300)
    assert reach.farthest == pytest.approx(5.69)
    assert reach.share == pytest.approx((1.898 - 1.702) / (5.69 - reach.bound))
    assert measure_reach(np.array([1.7, 1.9]), Budget(24, total=94)).share is None


def test_uniform_reach_is_that_of_networkx_on_fewer_draws() -> None:
    found = measure_uniform_reach(log_budget(8))
    generator = derive_generator("another stream")
    means = [backprop_distance(sample_uniform(log_budget(8), generator)).mean for _ in range(400)]
    assert found.low == pytest.approx(np.quantile(means, 0.01), abs=0.06)
    assert found.high == pytest.approx(np.quantile(means, 0.99), abs=0.12)


def test_templates_are_compared_by_seed(tmp_path: Path) -> None:
    proposals = propose(2, ["log", "nearest_log_i"])
    level = [0.50, 0.60, 0.40, 0.30]
    noise = {(1, 0): 0.02, (1, 2): -0.02}
    run = make_run(
        tmp_path / "run", proposals, lambda p, s: level[p] + 0.1 * s + noise.get((p, s), 0.0), seeds=(0, 1, 2)
    )
    table = read_run(run).candidates
    best, log, random = compare_templates(table)
    assert (best.name, best.difference, best.n_shared_seeds) == ("nearest_log_i", None, 0)
    assert log.difference == pytest.approx(-0.1)
    assert log.difference_error == pytest.approx(scipy.stats.sem([-0.12, -0.1, -0.08]))
    assert log.standard_error == pytest.approx(scipy.stats.sem([0.5, 0.6, 0.7]))
    assert random.name == "random (mean of 2)"
    assert random.mean == pytest.approx(0.45)
