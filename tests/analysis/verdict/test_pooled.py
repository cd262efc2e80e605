"""One estimate over strata: weights, covariance of shared patterns, heterogeneity."""

import dataclasses

import numpy as np
import pandas as pd
import pytest
import scipy.stats
from statsmodels.stats.meta_analysis import combine_effects

from analysis.data.results import COLUMNS
from analysis.verdict.pooled import average_estimates, compare_estimates
from analysis.verdict.sample import build_samples
from tests.support.planted import Truth, judge_planted, plant
from tests.support.resamples import use_resamples


def test_independent_estimates_are_pooled_as_statsmodels_does() -> None:
    z, variances = np.array([0.1, 0.5, 0.3]), np.array([0.01, 0.02, 0.05])
    mean, heterogeneity = average_estimates(z, np.diag(variances)), compare_estimates(z, np.diag(variances))
    expected = combine_effects(z, variances)
    assert mean.value == pytest.approx(expected.mean_effect_fe)
    assert mean.variance**0.5 == pytest.approx(expected.sd_eff_w_fe)
    assert heterogeneity.q == pytest.approx(expected.q)
    assert heterogeneity.p_value == pytest.approx(scipy.stats.chi2.sf(expected.q, 2))


def test_estimates_that_go_together_differ_by_less() -> None:
    covariance = np.array([[1.0, 0.9], [0.9, 1.0]])
    assert average_estimates(np.array([0.0, 1.0]), covariance).variance == pytest.approx(0.95)
    assert compare_estimates(np.array([0.0, 1.0]), covariance).q == pytest.approx(1 / 0.2)  # variance of a difference


def test_strata_of_the_same_patterns_say_no_more_than_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same numbers twice: drawn together, the pooled interval is as wide as that of one."""
    use_resamples(monkeypatch, 399)
    one, other = (plant(Truth(lambda ranks: ranks["mean_bd"], partial=0.4), "crossed", number) for number in (0, 1))
    apart = dataclasses.replace(other, draw_seed=("another",))
    widths = {}
    for name, second in (("same", one), ("apart", apart)):
        (pooled,) = judge_planted({"a": one, "b": second}).pooled
        widths[name] = np.arctanh(pooled.effects[0].high) - np.arctanh(pooled.effects[0].low)
        assert pooled.strata == ("a", "b")
    (alone,) = judge_planted({"a": one}).strata["a"]
    low, high = alone.effects[0].partial.low, alone.effects[0].partial.high
    assert low is not None
    assert high is not None
    assert widths["same"] == pytest.approx(np.arctanh(high) - np.arctanh(low), rel=0.15)
    assert widths["apart"] == pytest.approx(widths["same"] / 2**0.5, rel=0.2)


def test_weak_strata_are_detected_together(monkeypatch: pytest.MonkeyPatch) -> None:
    use_resamples(monkeypatch, 199)
    truth = Truth(lambda ranks: ranks["mean_bd"], ("span", "walk_length", "visit_evenness"), partial=0.33)
    samples = {
        str(number): dataclasses.replace(plant(truth, "crossed", number), draw_seed=(number,)) for number in range(5)
    }
    judged = judge_planted(samples)
    assert {judgements[0].status for judgements in judged.strata.values()} != {"supported"}
    (pooled,) = judged.pooled
    assert pooled.status == "supported"
    assert judged.n_tests == 5 * 5 + 4
    assert all(effect.q_p_value > 0.01 for effect in pooled.effects)


def test_strata_that_contradict_one_another_depend_on_the_stratum(monkeypatch: pytest.MonkeyPatch) -> None:
    use_resamples(monkeypatch, 199)
    others = ("span", "walk_length", "visit_evenness")
    up = plant(Truth(lambda ranks: ranks["mean_bd"], others, partial=0.7), "crossed", 0)
    down = plant(Truth(lambda ranks: -ranks["mean_bd"], others, partial=0.7), "crossed", 1)
    (pooled,) = judge_planted({"up": up, "down": dataclasses.replace(down, draw_seed=("down",))}).pooled
    assert (pooled.status, pooled.differs) == ("depends", True)
    assert all(effect.q_p_value < 0.001 for effect in pooled.effects)


def _rows(budget: str, regime: str, keys: list[int]) -> pd.DataFrame:
    generator = np.random.default_rng(len(keys))
    table = pd.DataFrame({"key": [f"{key:064x}" for key in keys for _ in range(2)], "seed": [0, 1] * len(keys)})
    table = table.assign(strategy="random", budget=budget, layers=24, regime=regime, state="complete")
    table["mean_bd"] = [float(int(key, 16)) for key in table["key"]]
    table["validation_loss"] = generator.normal(size=len(table))
    absent = {name: pd.Series(pd.NA, index=table.index, dtype="string") for name in COLUMNS if name not in table}
    return table.assign(**absent)[list(COLUMNS)].astype(COLUMNS)


def test_shared_patterns_are_drawn_together_and_others_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    use_resamples(monkeypatch, 50)
    strata = {
        "one": _rows("log", "a", list(range(20))),
        "two": _rows("log", "b", list(range(5, 25))),
        "three": _rows("total:94", "a", list(range(20))),
    }
    samples = build_samples(strata, ("mean_bd",), 0)
    weights = {
        name: dict(zip(sample.keys, np.concatenate([each.patterns for each in sample.draw()]).T.tolist(), strict=True))
        for name, sample in samples.items()
    }
    shared = [f"{key:064x}" for key in range(5, 20)]
    assert all(weights["one"][key] == weights["two"][key] for key in shared)
    assert not any(weights["one"][key] == weights["three"][key] for key in shared)
    assert samples["one"].columns.keys() == {"mean_bd"}
    assert samples["one"].is_full.shape == (20,)
    assert build_samples({"none": strata["one"].iloc[:0]}, ("mean_bd",), 0) == {}
