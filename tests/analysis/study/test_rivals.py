"""Zero-cost proxies next to graph measures: rank correlations of made-up patterns, against scipy."""

from typing import Any

import numpy as np
import pandas as pd
import pytest
import scipy.stats

from analysis.data.averages import average_patterns
from analysis.page.document import Fold, Table
from analysis.study.tables import compare_rivals, fold_rivals
from tests.support.synthetic_run import make_candidates, propose

OUTCOME = "validation_loss"


def make_patterns(n: int = 14, **proxies: Any) -> pd.DataFrame:
    """Patterns whose loss falls from the first to the last, each with its proxies."""
    candidates = make_candidates(propose(n), lambda place, seed: 0.3 + 0.03 * place + 0.01 * seed, ["log"] * n)
    places = candidates["key"].map({key: place for place, key in enumerate(candidates["key"].unique())})
    return average_patterns(candidates.assign(**{name: places.map(values) for name, values in proxies.items()}))


def draw(n: int = 14) -> dict[int, float]:
    return dict(enumerate(np.random.default_rng(1).normal(size=n).tolist()))


def test_correlations_are_those_of_scipy_the_strongest_first() -> None:
    ranked = {place: -(float(place) ** 3) for place in range(14)}
    patterns = make_patterns(proxy_zen=draw(), proxy_synflow=ranked)
    rivals = compare_rivals(patterns, OUTCOME, np.random.default_rng(0), ("mean_bd", "span", "params"))
    found = {rival.name: rival.estimate for rival in rivals}
    assert set(found) == {"proxy_zen", "proxy_synflow", "mean_bd", "span"}  # all have the same number of parameters
    for name, estimate in found.items():
        expected = scipy.stats.spearmanr(patterns[name], patterns[OUTCOME].round(9)).statistic
        assert estimate.value == pytest.approx(expected, abs=1e-12)
        assert estimate.low is not None
        assert estimate.high is not None
        assert estimate.low <= expected + 1e-12
        assert expected <= estimate.high + 1e-12
    assert found["proxy_synflow"].value == pytest.approx(1.0)
    assert rivals[0].name == "proxy_synflow"
    sizes = [abs(rival.estimate.value or 0) for rival in rivals]
    assert sizes == sorted(sizes, reverse=True)
    assert [rival.is_proxy for rival in rivals] == [rival.name.startswith("proxy_") for rival in rivals]


def test_a_proxy_that_some_patterns_lack_is_judged_by_the_others() -> None:
    lacking = {place: value for place, value in draw().items() if place >= 2}
    few = {place: value for place, value in draw().items() if place >= 6}
    patterns = make_patterns(proxy_zen=lacking, proxy_naswot=few, proxy_snip=dict.fromkeys(range(14), 1.0))
    rivals = {rival.name: rival for rival in compare_rivals(patterns, OUTCOME, np.random.default_rng(0), ())}
    known = patterns.dropna(subset=["proxy_zen"])
    expected = scipy.stats.spearmanr(known["proxy_zen"], known[OUTCOME].round(9)).statistic
    assert (rivals["proxy_zen"].n_patterns, rivals["proxy_naswot"].n_patterns) == (12, 8)
    assert rivals["proxy_zen"].estimate.value == pytest.approx(expected)
    assert rivals["proxy_naswot"].estimate.value is None
    assert rivals["proxy_snip"].estimate.value is None


def test_the_table_names_proxies_and_measures() -> None:
    patterns = make_patterns(proxy_grad_norm=draw())
    rivals = compare_rivals(patterns, OUTCOME, np.random.default_rng(0), ("mean_bd",))
    fold = fold_rivals(rivals, OUTCOME)
    assert isinstance(fold, Fold)
    table = fold.blocks[0]
    assert isinstance(table, Table)
    assert f"the strongest is {table.rows[0][0]}" in fold.summary
    assert {row[:2] for row in table.rows} == {("grad_norm", "zero-cost proxy"), ("mean BD", "graph measure")}
    assert {row[3] for row in table.rows} == {"14"}


def test_without_proxies_there_is_nothing() -> None:
    assert compare_rivals(make_patterns(), OUTCOME, np.random.default_rng(0)) == ()
