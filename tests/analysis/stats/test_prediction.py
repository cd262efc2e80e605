import math

import numpy as np
import pandas as pd
import pytest
import scipy.stats
from sklearn.linear_model import RidgeCV

from analysis.stats.prediction import (
    PENALTIES,
    explain,
    fit_parabolas,
    learn_baselines,
    measure_precision,
    predict_left_out,
)


def _patterns(n: int = 40, slope: float = 1.0) -> pd.DataFrame:
    generator = np.random.default_rng(4)
    mean_bd = np.linspace(1.8, 2.6, n)
    span_bin = np.arange(n) % 2
    noise = generator.normal(size=n) * 0.05
    return pd.DataFrame(
        {
            "mean_bd": mean_bd,
            "span": 4.0 + span_bin,
            "cell": [f"{place * 4 // n},{place % 2}" for place in range(n)],
            "strategy": "design",
            "validation_loss_centred": slope * mean_bd + span_bin + noise,
            "validation_accuracy_centred": -0.1 * mean_bd + 0.1 * noise,
        }
    )


def test_left_out_predictions_agree_with_a_plain_loop() -> None:
    generator = np.random.default_rng(0)
    features = generator.normal(size=(14, 3)) * [1.0, 100.0, 0.01]
    y = features @ [1.0, 0.01, 0.0] + generator.normal(size=14)
    expected = []
    for i in range(14):
        rest = np.arange(14) != i
        mean, sd = features[rest].mean(axis=0), features[rest].std(axis=0)
        model = RidgeCV(alphas=PENALTIES).fit((features[rest] - mean) / sd, y[rest])
        expected.append(float(model.predict((features[[i]] - mean) / sd)[0]) - y[rest].mean())
    assert predict_left_out(features, y) == pytest.approx(np.array(expected))


def test_predicting_the_mean_of_the_others_shows_no_correlation() -> None:
    generator = np.random.default_rng(1)
    result = []
    for _ in range(8):
        features, y = generator.normal(size=(25, 2)), generator.normal(size=25)
        others = (y.sum() - y) / 24
        assert scipy.stats.spearmanr(others, y).statistic == pytest.approx(-1.0)
        result.append(float(scipy.stats.spearmanr(predict_left_out(features, y), y).statistic))
    assert -0.5 < np.mean(result) < 0.2  # leaving out keeps a bias of its own, far from -1


def test_baseline_finds_what_its_measures_know() -> None:
    patterns = _patterns()
    sets = {"distances": ["mean_bd"], "all measures": ["mean_bd", "span"], "none": []}
    single, both = learn_baselines(patterns, "mean_bd", sets, np.random.default_rng(0))
    assert (single.name, both.name) == ("distances", "all measures")
    assert single.outcome == "validation_loss"
    assert both.measures == ("mean_bd", "span")
    assert single.estimate.value is not None
    assert both.estimate.value is not None
    assert both.estimate.value > 0.95 > single.estimate.value
    assert both.estimate.low is not None
    assert both.estimate.low <= both.estimate.value
    assert learn_baselines(patterns.head(9), "mean_bd", sets, np.random.default_rng(0)) == ()


def test_precision_at_the_top_by_counting() -> None:
    patterns = _patterns(60)
    (loss, accuracy) = measure_precision(
        patterns, ["mean_bd"], ("validation_loss", "validation_accuracy"), np.random.default_rng(0)
    )
    shortest = set(patterns["mean_bd"].nsmallest(6).index)
    hits = len(shortest & set(patterns["validation_loss_centred"].nsmallest(6).index))
    assert (loss.n_top, loss.n_hits, loss.share, loss.chance) == (6, hits, hits / 6, 0.1)
    assert accuracy.n_hits == len(shortest & set(patterns["validation_accuracy_centred"].nlargest(6).index))
    ways = sum(math.comb(6, k) * math.comb(54, 6 - k) for k in range(hits, 7))
    assert loss.p_value == pytest.approx(ways / math.comb(60, 6))


def test_ties_at_the_top_are_broken_by_lot() -> None:
    patterns = _patterns(40).assign(max_bd=3).sort_values("validation_loss_centred", ignore_index=True)
    generator = np.random.default_rng(0)
    shares = [
        measure_precision(patterns, ["max_bd"], ("validation_loss",), generator)[0].share for _ in range(300)
    ]  # fmt: skip
    assert np.mean(shares) == pytest.approx(5 / 40, abs=0.04)


def test_shares_explained_are_those_of_polyfit() -> None:
    generator = np.random.default_rng(2)
    x = generator.normal(size=30) + 100
    y = (x - 100) ** 2 + generator.normal(size=30)
    for degree, result in zip((1, 2), explain(x, y), strict=True):
        residual = y - np.polyval(np.polyfit(x - 100, y, degree), x - 100)
        assert result == pytest.approx(1 - residual.var() / y.var())
    for power in (-200.0, 200.0):
        assert explain(x * 10**power, y * 10**-power) == pytest.approx(explain(x, y))
    assert explain(np.ones(9), y[:9]) == explain(x[:9], np.ones(9)) == (None, None)
    fits = fit_parabolas(_patterns(), ("mean_bd", "span"))
    assert [(fit.measure, fit.outcome) for fit in fits][:2] == [
        ("mean_bd", "validation_loss"),
        ("span", "validation_loss"),
    ]
    assert all(0 <= fit.linear_r2 <= fit.quadratic_r2 + 1e-12 <= 1 + 1e-12 for fit in fits)
