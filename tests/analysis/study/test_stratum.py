from typing import Any

import numpy as np
import pandas as pd
import pytest
import scipy.stats
from statsmodels.stats.multitest import multipletests

from analysis.data.averages import average_patterns
from analysis.data.results import COLUMNS
from analysis.stats.reliability import measure_fidelity, measure_reliability
from analysis.study.levels import compare_pairs, compare_templates
from analysis.study.stratum import analyse_candidates, measure_reach, measure_uniform_reach
from search_spaces.budget import Budget, log_budget
from search_spaces.distance import backprop_distance
from search_spaces.errors import InputError
from search_spaces.sampling.draw import sample_uniform
from search_spaces.seeds import derive_generator
from tests.support.synthetic_run import make_candidates, propose


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


def _sampled(n: int = 40, n_seeds: int = 3, **columns: Any) -> pd.DataFrame:
    """Complete candidates of one crossed design, whose loss grows with mean BD, as read_table gives them."""
    generator = np.random.default_rng(3)
    cells = np.arange(n) * 12 // n
    mean_bd, span = (
        1.8 + 0.2 * (cells % 4) + generator.uniform(0, 0.1, n),
        3.5 + cells // 4 + generator.uniform(0, 0.1, n),
    )
    patterns: dict[str, Any] = {
        "key": [f"{place:064x}" for place in range(n)],
        "mean_bd": mean_bd,
        "span": span,
        "cell": [f"{cell % 4},{cell // 4}" for cell in cells],
        "max_bd": generator.integers(2, 6, n),
        "max_out_degree": generator.integers(4, 12, n),
        **{name: mean_bd + generator.normal(size=n) for name in ("from_output_mean", "to_input_mean", "out_degree_sd")},
        "random_walk_depth": span + generator.normal(size=n),
        "params": np.full(n, 1000),
        "flops": np.full(n, 10**9),
        "nn_mass": np.full(n, 7.25),
    }
    table = pd.DataFrame({name: np.repeat(values, n_seeds) for name, values in patterns.items()})
    table["seed"] = np.tile(np.arange(n_seeds), n)
    table["validation_loss"] = table["mean_bd"] + table["seed"] + 0.1 * generator.normal(size=len(table))
    table["validation_accuracy"] = 1 / (1 + table["validation_loss"])
    fixed: dict[str, Any] = {"state": "complete", "strategy": "design", "budget": "log", "layers": 24}
    table = table.assign(**fixed | columns)
    absent: dict[str, Any] = {
        name: pd.Series(pd.NA, index=table.index, dtype="string") for name in COLUMNS if name not in table
    }
    return table.assign(**absent)[list(COLUMNS)].astype(COLUMNS)


def test_only_random_and_designed_patterns_enter() -> None:
    proposals = propose(14, ["log", "nearest_log_i"])
    proposals[-1] = (None, "tpe", proposals[-1][2])
    proposals[-2] = (None, "design", proposals[-2][2])
    numbers = [backprop_distance(pattern).mean for _, _, pattern in proposals]

    def score(place: int, seed: int) -> float:  # what is left out would turn the correlation round
        sign = 1 if proposals[place][1] in ("templates", "tpe") else -1
        return 0.5 + sign * 0.1 * numbers[place] + 0.01 * seed

    table = make_candidates(proposals, score, ["log"] * len(proposals))
    (stratum,) = analyse_candidates(table).strata
    assert stratum.used == {"random": 12, "design": 1}
    assert stratum.left_out == {"templates": 2, "tpe": 1}
    found = {(one.measure, one.outcome, one.method): one.estimate.value for one in stratum.effects}
    assert found["mean_bd", "validation_loss", "spearman"] == pytest.approx(1.0)
    assert found["mean_bd", "validation_accuracy", "kendall"] == pytest.approx(-1.0)
    used = average_patterns(table[table["strategy"].isin(["random", "design"])])
    reference = scipy.stats.spearmanr(used["span"], used["validation_loss"].round(9)).statistic
    assert found["span", "validation_loss", "spearman"] == pytest.approx(reference)
    assert stratum.collinearity["span"] == pytest.approx(scipy.stats.spearmanr(used["mean_bd"], used["span"]).statistic)
    (judgement,) = stratum.judgements
    assert [effect.partial.value for effect in judgement.effects] == pytest.approx([1.0])  # only span is known
    assert analyse_candidates(table).strata == (stratum,)


def test_a_designed_stratum_says_everything() -> None:
    (stratum,) = analyse_candidates(_sampled()).strata
    assert (stratum.regime, stratum.measures, stratum.n_patterns, stratum.n_seeds) == (None, ("mean_bd",), 40, 3)
    assert stratum.constant == ("params", "flops", "nn_mass")
    assert stratum.absent == ("mean_inverse_bd", "walk_length", "visit_evenness", "ntk_trace")
    assert stratum.verdict.status == "supported"
    effects = {(one.measure, one.outcome, one.method): one for one in stratum.effects}
    assert len(effects) == 7 * 2 * 2
    ceiling = stratum.ceiling("validation_loss")
    best = effects["mean_bd", "validation_loss", "spearman"]
    assert ceiling is not None
    assert best.estimate.value is not None
    assert best.share_of_ceiling == pytest.approx(best.estimate.value / ceiling)
    assert effects["mean_bd", "validation_loss", "kendall"].share_of_ceiling is None
    for method in ("spearman", "kendall"):
        same = [one for one in stratum.effects if one.method == method]
        expected = multipletests([one.estimate.p_value for one in same], method="holm")[1]
        assert [one.p_holm for one in same] == pytest.approx(expected.tolist())
    assert len(stratum.fits) == 4
    assert {one.measure for one in stratum.precision} == {"mean_bd", "max_bd", "from_output_mean", "to_input_mean"}
    assert [one.name for one in stratum.baselines] == ["distances", "all measures"]
    assert stratum.pairs == ()


def test_strata_are_never_pooled_and_checks_are_left_out() -> None:
    table = _sampled(n=20)
    parts = [
        table.assign(regime="long"),
        table.assign(regime="short", budget="total:94"),
        table.iloc[:12].assign(budget="total:21"),
        table.assign(regime="check"),
    ]
    together = pd.concat(parts).astype(COLUMNS)
    analysis = analyse_candidates(together, checks=("check",))
    strata = analysis.strata
    assert [(one.budget, one.regime, one.n_patterns) for one in strata] == [
        ("log", "long", 20),
        ("total:94", "short", 20),
        ("total:21", None, 4),
    ]
    assert strata[2].verdict.status == "inconclusive"
    assert ": 4, and it takes 12" in strata[2].verdict.sentence
    (alone,) = analyse_candidates(parts[0].astype(COLUMNS)).strata[0].judgements
    (own,) = strata[0].judgements
    (effect,), (effect_alone,) = own.effects, alone.effects  # this table has no walk to hold
    p_value = effect.partial.p_value
    assert p_value == effect_alone.partial.p_value
    assert p_value is not None
    assert effect_alone.p_holm == pytest.approx(2 * p_value)  # with the shape
    assert analysis.n_tests == 3 + 2 + 1  # effects of two strata and pooled, shapes of three
    (pooled,) = analysis.pooled
    assert pooled.strata == ("24 layers at log, long", "24 layers at total:94, short")


def test_the_declared_measures_are_chosen_beforehand() -> None:
    (stratum,) = analyse_candidates(_sampled(), measures=("from_output_mean", "span")).strata
    assert [judgement.measure for judgement in stratum.judgements] == ["from_output_mean", "span"]
    assert [effect.given for effect in stratum.judgements[1].effects] == [("mean_bd",)]
    assert "from the output" in stratum.verdict.sentence
    with pytest.raises(InputError, match="no_such"):
        analyse_candidates(_sampled(), measures=("no_such",))


def test_equal_outcomes_are_not_defined() -> None:
    (stratum,) = analyse_candidates(_sampled(validation_loss=0.3, validation_accuracy=0.5)).strata
    assert stratum.verdict.status == "inconclusive"
    assert "does not vary" in stratum.verdict.sentence
    assert set(stratum.resolution.values()) == {None}
    assert not stratum.fits + stratum.baselines


def test_equal_distances_and_missing_losses_are_survived() -> None:
    (stratum,) = analyse_candidates(_sampled(mean_bd=2.0)).strata
    assert stratum.verdict.status == "inconclusive"
    (stratum,) = analyse_candidates(_sampled(validation_loss=np.nan)).strata
    assert stratum.judgements[0].outcome == "validation_accuracy"
    assert stratum.verdict.status == "supported"
    assert "a higher accuracy" in stratum.verdict.sentence
    assert {one.outcome for one in stratum.effects} == {"validation_accuracy"}


def test_optima_and_reversals_are_compared_pair_by_pair() -> None:
    losses = {
        ("optimum", "o1", None): [1.0, 2.0],
        ("optimum", "o2", None): [1.0, 2.5],
        ("control", "c1", "o1"): [1.5, 2.75],
        ("control", "c2", "o1"): [1.5, 2.25],
        ("control", "c3", "o2"): [1.25, 2.5],
        ("control", "c4", "gone"): [9.0, 9.0],
        ("design", "d1", None): [1.0, 2.0],
        ("reversal", "r1", "d1"): [1.25, 2.25],
    }
    rows = [
        {"strategy": strategy, "key": key, "matched": matched, "seed": seed, "validation_loss": loss}
        for (strategy, key, matched), values in losses.items()
        for seed, loss in enumerate(values)
    ]
    table = pd.DataFrame(rows).assign(validation_accuracy=np.nan).astype({"strategy": "string", "matched": "string"})
    optimum, reversal = compare_pairs(table)
    differences = [-0.5, -0.125]  # o1 less the mean of c1 and c2; o2 less c3
    assert (optimum.name, optimum.outcome, optimum.n_pairs) == ("optimum - control", "validation_loss", 2)
    bounds = scipy.stats.t.interval(0.95, 1, np.mean(differences), scipy.stats.sem(differences))
    assert (optimum.mean, optimum.low, optimum.high) == pytest.approx((np.mean(differences), *bounds))
    assert optimum.p_wilcoxon == pytest.approx(0.5)
    assert (reversal.n_pairs, reversal.mean, reversal.low, reversal.high) == (1, 0.25, None, None)


def test_fidelity_is_the_rank_correlation_of_pattern_means() -> None:
    short, long = _sampled().assign(regime="short"), _sampled(n_seeds=2).assign(regime="long")
    long["validation_loss"] = long["validation_loss"] + np.repeat(np.random.default_rng(9).normal(size=40) / 5, 2)
    table = pd.concat([short, long.iloc[10:]]).astype(COLUMNS)  # the first five were trained short alone
    loss, accuracy = measure_fidelity(table, "short", "long")
    assert (loss.outcome, accuracy.outcome, loss.n_patterns) == ("validation_loss", "validation_accuracy", 35)
    means = [rows.groupby("key")["validation_loss"].mean() for rows in (short, long.iloc[10:])]
    reference = scipy.stats.spearmanr(*pd.concat(means, axis=1).dropna().to_numpy().T).statistic
    assert loss.estimate.value == pytest.approx(reference)
    assert loss.estimate.low is not None
    assert loss.estimate.low < reference
    assert measure_fidelity(table, "short", "other") == ()


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


def test_templates_are_compared_by_seed() -> None:
    proposals = propose(2, ["log", "nearest_log_i"])
    level = [0.50, 0.60, 0.40, 0.30]
    noise = {(1, 0): 0.02, (1, 2): -0.02}
    score = lambda place, seed: level[place] + 0.1 * seed + noise.get((place, seed), 0.0)  # noqa: E731
    table = make_candidates(proposals, score, ["log"] * 4, (0, 1, 2))
    best, log, random = compare_templates(table)
    assert (best.name, best.difference, best.n_shared_seeds) == ("nearest_log_i", None, 0)
    assert log.difference == pytest.approx(-0.1)
    assert log.difference_error == pytest.approx(scipy.stats.sem([-0.12, -0.1, -0.08]))
    assert log.standard_error == pytest.approx(scipy.stats.sem([0.5, 0.6, 0.7]))
    assert random.name == "random (mean of 2)"
    assert random.mean == pytest.approx(0.45)
