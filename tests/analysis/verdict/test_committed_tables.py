"""F tests and ceilings of the earlier studies, which the first protocol planned, by other formulas.

The figures are those that showed what the first protocol did not see.
"""

import sys

import numpy as np
import pandas as pd
import pytest
import scipy.stats

from analysis.verdict.noise import measure_resolution, square_ranks
from analysis.verdict.rules import gather_evidence, judge_strata
from analysis.verdict.sample import build_samples
from tests.support.resamples import use_resamples
from tests.support.small import ROOT

sys.path.insert(0, str(ROOT / "scripts"))
from earlier import read_study

# study, layers, regime: p of the F test, ceiling, and the partial ceiling given span and its square with its interval
QUOTED = {
    ("digits", 24, "high-lr"): (0.0, 0.83, 0.68, (0.51, 0.79)),
    ("digits", 52, "high-lr"): (0.0, 0.88, 0.63, (0.41, 0.76)),
    ("digits", 52, "low-lr"): (0.011, 0.56, 0.27, (0.0, 0.59)),
    ("fashion", 24, "low-lr"): (0.0, 0.77, 0.56, (0.17, 0.73)),
    ("fashion", 24, "high-lr"): (0.81, 0.0, 0.0, (0.0, 0.45)),
    ("gpu", 24, "lr0.15"): (0.15, 0.48, 0.50, (0.0, 0.75)),
}


def _read(study: str, layers: int, regime: str) -> pd.DataFrame:
    table = read_study(study)
    chosen = table["strategy"].isin(["random", "design"]) & (table["layers"] == layers) & (table["regime"] == regime)
    return table[chosen]


def _compute(rows: pd.DataFrame) -> tuple[float, float, float]:
    """p of the F test, ceiling and partial ceiling: by a one-way analysis of variance and by a QR projection."""
    wide = rows.pivot_table(index="key", columns="seed", values="validation_loss").sort_index()
    table = wide.to_numpy()
    n, k = table.shape
    one_way = scipy.stats.f_oneway(*(table - table.mean(axis=0)))
    f = one_way.statistic * (n - 1) * (k - 1) / (n * (k - 1))  # the seeds' means cost k - 1 degrees of freedom
    p_value = scipy.stats.f.sf(f, n - 1, (n - 1) * (k - 1))
    span = scipy.stats.rankdata(rows.groupby("key")["span"].first().loc[wide.index])
    q, _ = np.linalg.qr(np.column_stack([np.ones(n), span, span**2]))
    means = table.mean(axis=1)
    left = means - q @ (q.T @ means)
    mse = k * means.var(ddof=1) / f
    msr = k * left @ left / (n - 3)
    return float(p_value), max(1 - 1 / f, 0) ** 0.5, max(1 - mse / msr, 0) ** 0.5


@pytest.mark.parametrize(("study", "layers", "regime"), QUOTED)
def test_what_the_seeds_see_is_what_was_quoted_and_what_another_formula_gives(
    study: str, layers: int, regime: str
) -> None:
    rows = _read(study, layers, regime)
    (sample,) = build_samples({"only": rows}, ("mean_bd",), 0).values()
    whole = measure_resolution(sample.values)
    partial = measure_resolution(sample.values, square_ranks([sample.columns["span"]]))
    assert whole is not None
    assert partial is not None
    assert _compute(rows) == pytest.approx((whole.p_value, whole.ceiling, partial.ceiling))
    p_value, ceiling, partial_ceiling, (low, high) = QUOTED[study, layers, regime]
    assert whole.p_value == pytest.approx(p_value, abs=0.005)
    assert [whole.ceiling, partial.ceiling] == pytest.approx([ceiling, partial_ceiling], abs=0.005)
    assert [partial.low, partial.high] == pytest.approx([low, high], abs=0.005)


def test_what_the_seeds_cannot_tell_apart_is_unresolved(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first protocol called Fashion-MNIST at the high rate negligible."""
    use_resamples(monkeypatch, 199)
    for study, layers, regime in (("fashion", 24, "high-lr"), ("gpu", 24, "lr0.15")):
        samples = build_samples({"only": _read(study, layers, regime)}, ("mean_bd",), 0)
        evidence = gather_evidence(samples["only"], ("mean_bd",), None, np.random.default_rng(0))
        assert judge_strata({"only": evidence}).strata["only"][0].status == "unresolved"


def test_walk_length_is_detected_under_every_control_where_mean_bd_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    use_resamples(monkeypatch, 199)
    rows = _read("digits", 24, "high-lr")
    samples = build_samples({"only": rows}, ("walk_length", "mean_bd"), 0)
    evidence = gather_evidence(samples["only"], ("walk_length", "mean_bd"), None, np.random.default_rng(0))
    walk, distance = judge_strata({"only": evidence}).strata["only"]
    assert walk.status == "supported"  # shorter walks, lower loss
    assert distance.status == "inconclusive"
    assert len(distance.effects) == 4
