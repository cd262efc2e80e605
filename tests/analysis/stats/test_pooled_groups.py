"""Correlations inside groups, pooled over them, against scipy and statsmodels."""

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import scipy.stats
import statsmodels.api as sm
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st

from analysis.correlate.exact import explain_exactly
from analysis.correlate.table import correlate_table
from analysis.stats.grouped import compare_groups, pooled_kendall, pooled_spearman
from analysis.stats.reliability import measure_mean_reliability
from tests.support.resamples import use_resamples

by_luck = settings(max_examples=40, deadline=None)  # compiling takes a second
few = settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
TABLES = st.tuples(st.lists(st.integers(1, 9), min_size=1, max_size=5), st.integers(0, 2**32 - 1), st.integers(2, 9))


def _draw_table(sizes: list[int], seed: int, n_values: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Columns x and y with ties, and each row's group; the rows in no order of groups."""
    generator = np.random.default_rng(seed)
    groups = generator.permutation(np.repeat(np.arange(len(sizes)), sizes))
    x, y = (generator.integers(0, n_values, len(groups)) + 10.0 * groups for _ in range(2))
    return x, y, groups


def _split(x: np.ndarray, y: np.ndarray, groups: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
    """The groups' own columns, without the groups in which one is constant."""
    parts = [(x[groups == group], y[groups == group]) for group in np.unique(groups)]
    return [(a, b) for a, b in parts if np.ptp(a) > 0 and np.ptp(b) > 0]


def _pool_by_scipy(parts: list[tuple[np.ndarray, np.ndarray]], n_groups: int) -> float:
    """Fisher's z of the groups' own rho, each cut off half of its smallest step below 1, weighted by n - 3."""
    own = [(len(x), scipy.stats.spearmanr(x, y).statistic) for x, y in parts]
    if n_groups == 1:
        return own[0][1] if own else np.nan
    own = [(n, rho) for n, rho in own if n > 3]
    if not own:
        return np.nan
    ends = [1 - 6 / (n**3 - n) for n, _ in own]
    weights = [n - 3 for n, _ in own]
    if all(abs(rho) >= end for (_, rho), end in zip(own, ends, strict=True)) and len({rho > 0 for _, rho in own}) == 1:
        return float(np.sign(own[0][1]))
    z = [np.arctanh(min(max(rho, -end), end)) for (_, rho), end in zip(own, ends, strict=True)]
    return float(np.tanh(np.average(z, weights=weights)))


@by_luck
@given(TABLES)
def test_spearman_is_that_of_scipys_ranks_inside_groups(table: tuple[list[int], int, int]) -> None:
    x, y, groups = _draw_table(*table)
    result = pooled_spearman(x, y, groups, np.ones((1, len(x))))[0]
    assert result == pytest.approx(_pool_by_scipy(_split(x, y, groups), len(np.unique(groups))), nan_ok=True, abs=1e-9)


@by_luck
@given(TABLES)
@example(([1, 6], 0, 3))  # no row of the second group is drawn
def test_weights_are_rows_that_occur_more_than_once(table: tuple[list[int], int, int]) -> None:
    x, y, groups = _draw_table(*table)
    counts = np.random.default_rng(table[1]).integers(0, 3, len(x))
    assume(counts.any())
    first, second, third = (np.repeat(column, counts) for column in (x, y, groups))
    expected = pooled_spearman(first, second, third, np.ones((1, counts.sum())))
    assert pooled_spearman(x, y, groups, counts[None].astype(float)) == pytest.approx(expected, nan_ok=True, abs=1e-12)


@by_luck
@given(TABLES)
def test_kendall_is_over_the_pairs_inside_groups(table: tuple[list[int], int, int]) -> None:
    x, y, groups = _draw_table(*table)
    signs = [[np.sign(np.subtract.outer(column, column)) for column in part] for part in _split(x, y, groups)]
    result = pooled_kendall(x, y, groups)
    if not signs:
        assert result is None
        return
    both, square_x, square_y = (
        sum(float((one[i] * one[j]).sum()) for one in signs) for i, j in ((0, 1), (0, 0), (1, 1))
    )
    assert result == pytest.approx(both / (square_x * square_y) ** 0.5)


@by_luck
@given(st.integers(0, 2**32 - 1), st.integers(3, 30), st.integers(2, 9))
def test_one_group_is_scipys_own(seed: int, n: int, n_values: int) -> None:
    x, y, groups = _draw_table([n], seed, n_values)
    assume(np.ptp(x) > 0 and np.ptp(y) > 0)
    assert pooled_spearman(x, y, groups, np.ones((1, n)))[0] == pytest.approx(scipy.stats.spearmanr(x, y).statistic)
    assert pooled_kendall(x, y, groups) == pytest.approx(scipy.stats.kendalltau(x, y).statistic)


@by_luck
@given(st.integers(0, 2**32 - 1), st.integers(-200, 200), st.integers(-200, 200))
def test_shares_inside_groups_are_statsmodels_with_a_level_a_group_at_any_scale(
    seed: int, first: int, second: int
) -> None:
    x, y, groups = _draw_table([9, 5, 7], seed, 50)
    levels = (groups[:, None] == np.unique(groups)).astype(float)
    within_x, within_y = (column - levels @ (levels.T @ column / levels.sum(axis=0)) for column in (x, y))
    fit = sm.OLS(y, np.column_stack([levels, within_x, within_x**2])).fit()
    exact_x, exact_y = (
        [Fraction(int(value)) * Fraction(10) ** power for value in column]
        for column, power in ((x, first), (y, second))
    )
    result = explain_exactly(exact_x, exact_y, groups)
    assert result == pytest.approx(1 - fit.ssr / (within_y @ within_y), abs=1e-9)


def test_reliability_inside_groups_is_that_of_a_nested_analysis_of_variance() -> None:
    generator = np.random.default_rng(3)
    group_of = np.repeat([0, 1, 2], [6, 4, 5])  # of each pattern
    rows = np.repeat(np.arange(15), 3)
    values = 100.0 * group_of[rows] + generator.normal(size=15)[rows] + generator.normal(size=45)
    groups, patterns = ((column[:, None] == np.unique(column)).astype(float) for column in (group_of[rows], rows))
    by_group, by_pattern = (sm.OLS(values, columns).fit() for columns in (groups, patterns))
    between = (by_group.ssr - by_pattern.ssr) / (15 - 3)
    expected = 1 - by_pattern.ssr / (45 - 15) / between
    assert measure_mean_reliability(values, rows, group_of[rows]) == pytest.approx(expected)
    assert measure_mean_reliability(values, rows) == pytest.approx(1.0, abs=1e-3)  # the groups' difference
    assert measure_mean_reliability(values[:3], rows[:3], np.zeros(3, dtype=np.int64)) is None


def test_reliability_inside_groups_of_unequal_repeats_is_right_on_average() -> None:
    generator = np.random.default_rng(5)
    group_of = generator.integers(0, 20, 200)
    rows = np.repeat(np.arange(200), generator.integers(1, 5, 200))
    result = [
        measure_mean_reliability(
            (10 * group_of + generator.normal(size=200))[rows] + generator.normal(size=len(rows)), rows, group_of[rows]
        )
        for _ in range(20)
    ]
    true = 1 / (1 + (1 / np.bincount(rows)).mean())
    assert np.mean(np.array(result, dtype=float)) == pytest.approx(true, abs=0.03)


@few
@given(TABLES, st.integers(1, 3), st.integers(-250, 250), st.integers(-250, 250))
def test_a_table_of_any_scale_with_repeats_and_groups(
    tmp_path: Path, table: tuple[list[int], int, int], repeats: int, first: int, second: int
) -> None:
    sizes, seed, n_values = table
    assume(sum(sizes) >= 3)
    x, _, groups = _draw_table(sizes, seed, n_values)
    y = np.random.default_rng(seed + 1).integers(0, n_values, (len(x), repeats)) + 10 * groups[:, None]
    rows = [f"{int(x[i])}e{first},{value}e{second},p{i},g{groups[i]}" for i in range(len(x)) for value in y[i].tolist()]
    path = tmp_path / "table.csv"
    path.write_text("\n".join(["x,y,name,g", *np.random.default_rng(seed).permutation(rows).tolist()]))
    with pytest.MonkeyPatch.context() as patch:
        use_resamples(patch, 19)
        (result,) = correlate_table(path, ["x"], "y", group="g", pattern="name")
    means = y.sum(axis=1).astype(float)
    parts = _split(x, means, groups)
    assert (result["n"], result["patterns"], result["groups"]) == (len(rows), len(x), len(parts))
    if not parts:
        assert result["spearman"] is result["kendall"] is result["quadratic_r2"] is None
        return
    expected = _pool_by_scipy(parts, len(np.unique(groups)))
    assert result["spearman"] == (None if np.isnan(expected) else pytest.approx(expected, abs=1e-9))
    within = [np.concatenate([part[i] - part[i].mean() for part in parts]) for i in (0, 1)]
    if len(within[0]) >= len(parts) + 3:
        levels = np.repeat(np.eye(len(parts)), [len(part[0]) for part in parts], axis=0)
        columns = np.column_stack([levels, within[0], within[0] ** 2])
        left = within[1] - columns @ np.linalg.lstsq(columns, within[1])[0]  # statsmodels warns where x has two values
        assert result["quadratic_r2"] == pytest.approx(1 - left @ left / (within[1] @ within[1]), abs=1e-9)


def test_groups_that_disagree_are_told_by_q() -> None:
    generator = np.random.default_rng(4)
    groups = np.repeat([0, 1, 2], 40)
    x = generator.normal(size=120)
    alike, apart = x + generator.normal(size=120), x * np.repeat([1, 1, -1], 40) + generator.normal(size=120)
    for y, low, high in ((alike, 0.05, 1.0), (apart, 0.0, 1e-6)):
        result = compare_groups(x, y, groups)
        rho = [scipy.stats.spearmanr(x[groups == g], y[groups == g]).statistic for g in range(3)]
        assert result.values.tolist() == pytest.approx(rho)
        z = np.arctanh(rho)
        q = 37 / 1.06 * ((z - z.mean()) ** 2).sum()
        assert result.q_p_value is not None
        assert result.q_p_value == pytest.approx(scipy.stats.chi2.sf(q, 2))
        assert low <= result.q_p_value <= high


def test_few_rows_that_agree_perfectly_do_not_outweigh_many() -> None:
    generator = np.random.default_rng(1)
    x, y = generator.normal(size=(2, 104))
    x[100:] = y[100:] = [1, 2, 3, 4]
    groups = np.repeat([0, 1], [100, 4])
    assert abs(pooled_spearman(x, y, groups, np.ones((1, 104)))[0]) < 0.2
