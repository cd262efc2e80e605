"""The power that a dry run promises, against simulation and closed forms."""

import math
from typing import Any

import numpy as np
import pytest
from scipy import stats

from analysis.data.protocol import describe_protocol
from analysis.verdict.power import (
    correct_attenuation,
    count_for_negligible,
    count_pattern_strata,
    count_seeds,
    count_tests,
    describe_power,
    detectable_correlation,
)

N_STUDIES = 1500


def share_detected(n_patterns: int, n_tests: int, rank_correlation: float, seed: int) -> float:
    """Of simulated studies: rank correlation of two normal variables, given the ranks of two others, squared too."""
    generator = np.random.default_rng(seed)
    # Of a bivariate normal distribution, Pearson's from Spearman's.
    pearson = 2 * math.sin(math.pi * rank_correlation / 6)
    distance, noise, span, walk = generator.standard_normal((4, N_STUDIES, n_patterns))
    outcome = pearson * distance + math.sqrt(1 - pearson**2) * noise
    ranks = [stats.rankdata(values, axis=1) - (n_patterns + 1) / 2 for values in (distance, outcome, span, walk)]
    of_distance, of_outcome, of_span, of_walk = ranks
    held = [np.ones_like(of_span), of_span, of_span**2, of_walk, of_walk**2]
    nuisance, _ = np.linalg.qr(np.stack(held, axis=2))  # (studies, patterns, 5)
    both = np.stack([of_distance, of_outcome], axis=2)
    left = both - nuisance @ (nuisance.transpose(0, 2, 1) @ both)
    products = left.transpose(0, 2, 1) @ left
    partial = products[:, 0, 1] / np.sqrt(products[:, 0, 0] * products[:, 1, 1])
    n_free = n_patterns - 2 - 4
    p_values = 2 * stats.t.sf(abs(partial) * np.sqrt(n_free / (1 - partial**2)), n_free)
    return float((p_values <= 0.05 / n_tests).mean())


@pytest.mark.parametrize(("n_patterns", "n_tests"), [(20, 1), (40, 1), (40, 6), (100, 12)])
def test_the_detectable_correlation_is_detected_four_times_in_five(n_patterns: int, n_tests: int) -> None:
    """A standard error of 0.01, and a little more than promised: without any effect ranks vary less than 1.06 says."""
    detectable = detectable_correlation(n_patterns, n_tests)
    assert detectable is not None
    assert 0.77 < share_detected(n_patterns, n_tests, detectable, seed=n_patterns + n_tests) < 0.86


def test_the_simulation_notices_a_correlation_that_is_promised_wrongly() -> None:
    detectable = detectable_correlation(40, 1)
    assert detectable is not None
    assert share_detected(40, 1, 0.85 * detectable, seed=0) < 0.74
    assert share_detected(40, 1, 1.15 * detectable, seed=0) > 0.86


@pytest.mark.parametrize("n_patterns", [10, 25, 60, 367])
@pytest.mark.parametrize("n_tests", [1, 3, 12])
def test_the_detectable_correlation_has_a_closed_form(n_patterns: int, n_tests: int) -> None:
    """Fisher's transformation with the variance 1.06 / (n - 3 - 4) of ranks, four nuisance columns."""
    normal = stats.norm()
    distance = normal.isf(0.025 / n_tests) + normal.isf(0.2)
    assert detectable_correlation(n_patterns, n_tests) == pytest.approx(
        math.tanh(distance * (1.06 / (n_patterns - 7)) ** 0.5)
    )


def test_few_patterns_detect_nothing_and_more_detect_more() -> None:
    assert [detectable_correlation(n) for n in (0, 1, 7)] == [None] * 3
    result = [detectable_correlation(n) for n in range(8, 200)]
    values = [value for value in result if value is not None]
    assert len(values) == 192
    assert values == sorted(values, reverse=True)
    assert 0 < values[-1] < values[0] < 1
    by_tests = [detectable_correlation(40, n) or 0 for n in (1, 2, 6, 20)]
    assert by_tests == sorted(by_tests)


@pytest.mark.parametrize(("reliability", "n_seeds"), [(0.1, 3), (0.3, 5), (1.0, 1), (0.02, 50)])
def test_attenuation_is_undone(reliability: float, n_seeds: int) -> None:
    """Pattern variance r, seed variance 1 - r: the mean of k seeds has the reliability r / (r + (1 - r) / k)."""
    of_mean = reliability / (reliability + (1 - reliability) / n_seeds)
    for true in (0.1, 0.5, 0.99):
        assert correct_attenuation(true * math.sqrt(of_mean), reliability, n_seeds) == pytest.approx(true)
    assert correct_attenuation(1.01 * math.sqrt(of_mean), reliability, n_seeds) is None


def test_attenuation_against_simulation() -> None:
    generator = np.random.default_rng(0)
    n, true, reliability, n_seeds = 200_000, 0.6, 0.2, 3
    distance, left = generator.standard_normal((2, n))
    quality = true * distance + math.sqrt(1 - true**2) * left
    noise = generator.standard_normal((n_seeds, n)) * math.sqrt((1 - reliability) / reliability)
    observed = float(np.corrcoef(distance, (quality + noise).mean(axis=0))[0, 1])
    assert correct_attenuation(observed, reliability, n_seeds) == pytest.approx(true, abs=0.02)


def make_plan(strategies: dict[str, int], n_seeds: int, checks: int = 0) -> dict[str, Any]:
    """Two main strata of one depth, and a check of the first pattern or more."""
    names = [name for name, n in strategies.items() for _ in range(n)]
    strata = [{"layers": 24, "regime": regime, "checks": None} for regime in ("a", "b")]
    strata += [{"layers": 24, "regime": "a long", "checks": "a"}] if checks else []
    order = [[place, number, seed] for seed in range(n_seeds) for place in (0, 1) for number in range(len(names))]
    order += [[2, number, seed] for seed in range(n_seeds) for number in range(checks)]
    return {
        "protocol": describe_protocol(),
        "settings": {"seeds": n_seeds},
        "strata": strata,
        "patterns": [{"strategy": name} for name in names],
        "order": order,
    }


def test_each_stratum_of_a_plan_is_described() -> None:
    counted = {"templates": 5, "optimum": 6, "control": 6, "design": 81, "reversal": 27, "random": 12}
    first, second, check = describe_power(make_plan(counted, n_seeds=3, checks=12))
    assert count_pattern_strata(make_plan(counted, n_seeds=3, checks=12)) == 2 * 93
    strata = [row["stratum"] for row in (first, second, check)]
    assert strata == ["24 layers, a", "24 layers, b", "24 layers, a long"]
    assert (first["trainings"], second["trainings"], check["trainings"]) == (411, 411, 36)
    assert first["patterns"] == counted
    assert check["patterns"] == {"templates": 5, "optimum": 6, "control": 1}
    assert check["sentence"] == "checks a"
    assert "detectable" not in check
    # Drawn without looking at outcomes: the designed and the random ones; 4 controls and the shape in each of
    # 2 main strata, and 4 controls pooled.
    assert first["n_sampled"] == 93
    assert first["detectable"] == detectable_correlation(93, 2 * 5 + 4)
    result = f"{first['detectable']:.2f}"
    true = correct_attenuation(first["detectable"], 0.3, 3)
    assert f"with 80 % chance a correlation of pattern means of {result}; " in first["sentence"]
    assert f"{true:.2f} if one seed's reliability is 0.3" in first["sentence"]


def test_a_plan_of_few_patterns_says_so() -> None:
    row = describe_power(make_plan({"templates": 40, "random": 5}, n_seeds=2))[0]
    assert row["n_sampled"] == 5
    assert row["detectable"] is None
    assert row["sentence"] == "too few patterns to detect any correlation"
    weak = describe_power(make_plan({"random": 8}, n_seeds=1))[0]
    assert "out of reach if one seed's reliability is 0.1" in weak["sentence"]


@pytest.mark.parametrize("ceiling", [1.0, 0.6])
def test_an_effect_of_0_is_negligible_four_times_in_five_from_the_number_named(ceiling: float) -> None:
    """Both one-sided tests of simulated estimates, whose Fisher z has the variance 1 / (n - 3 - 4)."""
    generator = np.random.default_rng(1)
    n = count_for_negligible(ceiling)
    for size, low, high in ((n, 0.79, 0.82), (n // 2, 0.0, 0.5)):
        error = 1 / math.sqrt(size - 7)
        z = generator.normal(0, error, 100_000)
        inside = (np.tanh(z - 1.644854 * error) > -0.2 * ceiling) & (np.tanh(z + 1.644854 * error) < 0.2 * ceiling)
        assert low < inside.mean() < high
    assert count_for_negligible() == 216


def test_the_family_counts_every_control_and_shape() -> None:
    assert [count_tests(1, 1), count_tests(1, 2), count_tests(3, 3)] == [5, 14, 57]


def test_single_rates_of_a_tuned_study_are_judged_as_one_stratum() -> None:
    plan = make_plan({"design": 60}, n_seeds=2)
    tuned = {**plan, "strata": [{**stratum, "tuned": True} for stratum in plan["strata"]]}
    assert [count_pattern_strata(each) for each in (plan, tuned)] == [120, 60]
    assert [describe_power(each)[0]["detectable"] for each in (plan, tuned)] == [
        detectable_correlation(60, n_tests) for n_tests in (14, 5)
    ]


@pytest.mark.parametrize("single_seed", [0.05, 0.2])
def test_the_f_test_sees_patterns_four_times_in_five_from_the_seeds_named(single_seed: float) -> None:
    """One-way tables of 40 patterns, drawn; seeds' own levels cost the same degrees of freedom as centring."""
    k = count_seeds(single_seed, 40)
    assert k is not None
    generator = np.random.default_rng(3)
    shares = []
    for n_seeds in (k, k - 1):
        own = single_seed**0.5 * generator.normal(size=(3000, 40, 1))
        table = own + (1 - single_seed) ** 0.5 * generator.normal(size=(3000, 40, n_seeds))
        table = table - table.mean(axis=1, keepdims=True)
        means = table.mean(axis=2)
        between = n_seeds * (means**2).sum(axis=1) / 39
        within = ((table - means[:, :, None]) ** 2).sum(axis=(1, 2)) / (39 * (n_seeds - 1))
        p_values = stats.f.sf(between / within, 39, 39 * (n_seeds - 1))
        shares.append(float((p_values <= 0.05).mean()))
    assert shares[0] > 0.78
    assert shares[1] < 0.82
    assert count_seeds(0.0, 40) is None
    assert count_seeds(1.0, 40) == 2
