"""Two-sided permutation tests inside groups: p-values, levels and power."""

import itertools

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis.stats.correlations import METHODS, correlate, weighted_ranks
from analysis.stats.grouped import correlate_spearman
from analysis.stats.inference import permute_wald
from analysis.stats.resampling import share_as_far, share_as_large
from tests.support.resamples import use_resamples

ALPHA, SLOPE = 0.05, 0.5
GROUPS = np.repeat([0, 1, 2, 3], 15)
LEVELS = np.array([0.0, 2.0, 0.0, 2.0])[GROUPS]  # of both columns in each group; no line or parabola fits them


def _enumerate_orders(groups: np.ndarray) -> np.ndarray:
    """All orders of the rows, (orders, n), that keep each row inside its group; groups must be contiguous."""
    blocks = [np.flatnonzero(groups == group) for group in np.unique(groups)]
    products = itertools.product(*(itertools.permutations(block) for block in blocks))
    return np.array([list(itertools.chain(*parts)) for parts in products])


def _p_by_enumeration(x: np.ndarray, y: np.ndarray, groups: np.ndarray, method: str) -> float:
    """Share of all orders whose correlation is as far from the mean of all orders as the sample's."""
    if method == "spearman":
        ranks_x, ranks_y = scipy.stats.rankdata(x), scipy.stats.rankdata(y)
        values = np.array([ranks_x @ ranks_y[order] for order in _enumerate_orders(groups)])
    else:
        signs_x, signs_y = (np.sign(np.subtract.outer(column, column)) for column in (x, y))
        values = np.array([(signs_x * signs_y[np.ix_(order, order)]).sum() for order in _enumerate_orders(groups)])
    distances = abs(values - values.mean())  # the first order is the sample's own
    return float((distances >= distances[0] - 1e-6).mean())


@settings(max_examples=15, deadline=None)
@given(st.data())
def test_p_values_inside_groups_are_those_of_all_orders(data: st.DataObject) -> None:
    sizes = data.draw(st.lists(st.integers(1, 4), min_size=1, max_size=3))
    groups = np.repeat(np.arange(len(sizes)), sizes)
    values = st.lists(st.integers(-3, 3), min_size=len(groups), max_size=len(groups))  # with ties
    x, y = (np.array(data.draw(values), dtype=np.float64) + 2 * groups for _ in range(2))
    together = np.zeros_like(groups)
    result = correlate({"x": x}, y, together, {"x": groups}, np.random.default_rng(0))
    for method in METHODS:
        p_value = result["x", method].p_value
        if p_value is None:
            assert np.ptp(x) == 0 or np.ptp(y) == 0
            continue
        expected = _p_by_enumeration(x, y, groups, method)
        assert p_value == pytest.approx(expected, abs=5 * (expected * (1 - expected) / 2000) ** 0.5 + 1 / 2001)


def test_distance_is_from_the_centre_and_mirrored_values_are_ties() -> None:
    drawn = np.array([9.0, 10.0, 11.0, 12.0] * 25)
    assert share_as_far(12.0, drawn, centre=10.0) == pytest.approx(26 / 101)
    assert share_as_far(8.0, drawn, centre=10.0) == pytest.approx(26 / 101)
    assert share_as_far(0.1 + 0.2, np.array([0.3, -0.3, 0.0]), centre=0.0) == 0.75
    assert share_as_far(1e-17, np.array([0.0, 1.0, -1.0]), centre=0.0) == 1.0  # 0 but for rounding
    assert share_as_large(3.0, np.array([1e15, 3.0, 2.9])) == 0.75


def _draw_columns(slope: float, generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Both columns rise with the group; inside a group y has the slope on x."""
    own = generator.normal(size=len(LEVELS))
    return LEVELS + own, LEVELS + slope * own + generator.normal(size=len(LEVELS))


def _count_found(slope: float, n_draws: int, monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """How many of the draws each test finds at level ALPHA."""
    use_resamples(monkeypatch, 199)  # enough: (1 + k) / 200 <= ALPHA has exactly the level
    result: dict[str, int] = dict.fromkeys((*METHODS, "alone", "primary"), 0)
    for draw in range(n_draws):
        generator = np.random.default_rng([draw, int(10 * slope) + 10])
        x, y = _draw_columns(slope, generator)
        together = correlate({"x": x}, y, GROUPS, {"x": GROUPS}, generator)
        p_values: dict[str, float | None] = {method: together["x", method].p_value for method in METHODS}
        p_values["alone"] = correlate_spearman(x, y, GROUPS, GROUPS, generator).p_value
        p_values["primary"] = _test_given_span(x, y, generator)
        for name, p_value in p_values.items():
            assert p_value is not None
            result[name] += p_value <= ALPHA
    return result


def _test_given_span(x: np.ndarray, y: np.ndarray, generator: np.random.Generator) -> float | None:
    """The primary test of x where the groups are bands of span: ranks of span and their squares are nuisance."""
    span = GROUPS + generator.uniform(0, 0.3, len(GROUPS))
    ranks_x, ranks_y, ranks = (weighted_ranks(column, np.ones((1, len(x))))[0] for column in (x, y, span))
    nuisance = np.stack([np.ones(len(x)), ranks, ranks**2], axis=1)
    return permute_wald(ranks_x[:, None], nuisance, ranks_y, GROUPS, generator)[1]


def _check_two_sided(n_draws: int, monkeypatch: pytest.MonkeyPatch) -> None:
    null, up, down = (_count_found(slope, n_draws, monkeypatch) for slope in (0.0, SLOPE, -SLOPE))
    low, high = (scipy.stats.binom.ppf(share, n_draws, ALPHA) for share in (0.0005, 0.9995))
    for name in null:
        assert low <= null[name] <= high, (name, null)
        assert min(up[name], down[name]) > 0.7 * n_draws, (name, up, down)
        if name == "alone":  # ranked inside groups: a slope down is a slope up in the mirror
            table = np.array([[count, n_draws - count] for count in (up[name], down[name])])
            assert scipy.stats.fisher_exact(table).pvalue > 0.001, (name, up, down)
        # Ranks over all groups are no mirror images of each other, so the power may differ by a few in a hundred.
        assert abs(up[name] - down[name]) <= 0.1 * n_draws + 4 * (2 * 0.1 * n_draws) ** 0.5, (name, up, down)


def test_slopes_up_and_down_are_found_equally_often(monkeypatch: pytest.MonkeyPatch) -> None:
    _check_two_sided(40, monkeypatch)


@pytest.mark.slow
def test_slopes_up_and_down_are_found_equally_often_in_many_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    _check_two_sided(2000, monkeypatch)
