import json
import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import scipy.stats
from numpy.typing import NDArray
from typer.testing import CliRunner

import run_search
from analysis.replays.regret import (
    BETTER,
    NOT_TOLD_APART,
    WORSE,
    Regrets,
    StrategyComparison,
    choose_grid,
    describe_comparison,
    describe_noise,
    measure_noise,
    measure_regret,
    tabulate_regret,
)
from analysis.replays.searches import Searches
from analysis.stats.reliability import Reliability, measure_reliability
from nas.records.written import RECORD
from nas.search.replay import ReplayPlan, replay
from search_spaces.errors import InputError
from tests.support.synthetic_table import BUDGET, deterministic_accuracies, list_patterns, make_table, write_table

Array = NDArray[np.float64]
OUTCOME = "validation_accuracy"


def _long(accuracies: Array) -> pd.DataFrame:
    n, k = accuracies.shape
    return pd.DataFrame(
        {"key": np.repeat(np.arange(n), k), "seed": np.tile(np.arange(k), n), OUTCOME: accuracies.ravel()}
    )


def _measure(accuracies: Array, kinds: dict[str, str], n_replays: int, n_patterns: int, n_visible: int = 3) -> Regrets:
    """Strategies that are random, that climb by what they see, or that try the truly best or worst first."""
    generator = np.random.default_rng(int(1e6 * accuracies[0, 0]))
    n, n_seeds = accuracies.shape
    is_visible = np.zeros((n_replays, n_seeds), dtype=bool)
    proposed = np.zeros((len(kinds), n_replays, n_patterns), dtype=np.int64)
    order = np.argsort(-accuracies.mean(axis=1))
    for number in range(n_replays):
        is_visible[number, generator.choice(n_seeds, n_visible, replace=False)] = True
        seen = accuracies[:, is_visible[number]].mean(axis=1)
        for place, kind in enumerate(kinds.values()):
            if kind in ("best", "worst"):
                chosen = order[:: 1 if kind == "best" else -1]
            elif kind == "random":
                chosen = generator.permutation(n)
            else:
                chosen = _climb(seen, generator, n_patterns)
            proposed[place, number] = chosen[:n_patterns]
    searches = Searches(tuple(kinds), accuracies, is_visible, proposed)
    return measure_regret(searches, measure_reliability(_long(accuracies), OUTCOME))


def _climb(seen: Array, generator: np.random.Generator, n_patterns: int) -> NDArray[np.int64]:
    """The neighbours by number of the best so far."""
    chosen = [int(generator.integers(len(seen)))]
    while len(chosen) < n_patterns:
        best = max(chosen, key=lambda row: seen[row])
        left = [row for row in range(len(seen)) if row not in chosen]
        chosen.append(min(left, key=lambda row: abs(row - best)))
    return np.array(chosen)


def test_an_exhaustive_search_without_noise_ends_at_regret_0_and_the_largest_gain() -> None:
    accuracies = deterministic_accuracies(4)
    plan = ReplayPlan(BUDGET, ("random", "evolve"), 5, 36, 1)
    done = replay(plan, [pattern.key for pattern in list_patterns()], accuracies)
    searches = Searches(plan.strategies, accuracies, done.is_visible, done.proposed)
    result = measure_regret(searches, measure_reliability(_long(accuracies), OUTCOME))
    ends = result.curves[result.curves["patterns"] == 36]
    assert ends["regret"].tolist() == ends["regret_high"].tolist() == [0.0, 0.0]
    assert ends["gain"].tolist() == pytest.approx([accuracies.max() - accuracies.mean()] * 2)
    assert ends["trainings"].tolist() == [36, 36]
    regrets = result.curves.pivot_table(index="patterns", columns="strategy", values="regret")
    assert (regrets.diff().iloc[1:] <= 0).all(axis=None)
    # evolve begins with the templates and the shortest pattern, and here the shorter is the better.
    assert (regrets["evolve"] == 0).loc[:8].any()


def test_random_search_has_the_regret_of_sampling_without_replacement() -> None:
    values = np.sort(np.random.default_rng(2).normal(0.5, 0.1, 40))[::-1]
    accuracies = np.repeat(values[:, None], 4, axis=1)
    result = _measure(accuracies, {"random": "random"}, 3000, 40).curves.set_index("patterns")
    for count in (1, 3, 10, 25):
        # P(the best of `count` draws has rank r): r is drawn, and none before it.
        chances = [math.comb(40 - rank, count) / math.comb(40, count) for rank in range(41)]
        expected = sum((chances[r] - chances[r + 1]) * (values[0] - values[r]) for r in range(40))
        assert result["regret"][count] == pytest.approx(expected, rel=0.06)


def test_good_and_bad_strategies_are_told_from_random() -> None:
    generator = np.random.default_rng(4)
    accuracies = 0.5 + 0.02 * generator.normal(size=(200, 1)) + 0.01 * generator.normal(size=(200, 8))
    kinds = {"random": "random", "oracle": "best", "contrary": "worst", "again": "random"}
    result = _measure(accuracies, kinds, 50, 30)
    verdicts = {comparison.strategy: comparison.verdict for comparison in result.comparisons}
    assert verdicts == {"oracle": BETTER, "contrary": WORSE, "again": NOT_TOLD_APART}
    oracle, contrary, _ = result.comparisons
    assert oracle.difference < 0 < contrary.difference
    assert oracle.match == 3  # one pattern of 3 seeds
    assert (oracle.match_low, oracle.match_high) == (3, 3)
    assert contrary.match is None
    curves = result.curves.set_index(["strategy", "patterns"])
    difference = curves["regret"]["oracle"] - curves["regret"]["random"]
    assert curves["difference_to_random"]["oracle"].tolist() == pytest.approx(difference.tolist())
    assert difference.mean() == pytest.approx(oracle.difference)
    assert curves["gain"]["random"].tolist() == pytest.approx((curves["gain"]["oracle"] + difference).tolist())
    assert curves["difference_to_random"]["random"].isna().all()
    for name in ("regret", "gain"):
        assert (curves[f"{name}_low"] <= curves[name]).all()
        assert (curves[name] <= curves[f"{name}_high"]).all()


def test_strategies_are_not_told_apart_on_noise_alone() -> None:
    for number in range(4):
        accuracies = np.random.default_rng(100 + number).normal(0.6, 0.02, (100, 8))
        result = _measure(accuracies, {"random": "random", "climb": "climb"}, 40, 30)
        assert result.comparisons[0].verdict == NOT_TOLD_APART
        assert result.noise is not None
        assert result.noise.judges < 0.4
        # A search that is judged by what it saw would show 0.02 here.
        gain = result.curves["gain"][result.curves["patterns"] == 30]
        assert (gain.abs() < 0.008).all()


@pytest.mark.slow
def test_noise_alone_is_called_better_or_worse_in_no_more_than_1_table_of_20() -> None:
    verdicts = []
    for number in range(100):
        accuracies = np.random.default_rng(number).normal(0.6, 0.02, (100, 8))
        result = _measure(accuracies, {"random": "random", "climb": "climb"}, 100, 30)
        verdicts.append(result.comparisons[0].verdict)
    # Binomial(100, 0.05) exceeds 10 with probability 0.01.
    assert 100 - verdicts.count(NOT_TOLD_APART) <= 10


def test_noise_by_a_second_computation() -> None:
    generator = np.random.default_rng(6)
    seeds = 0.03 * generator.normal(size=(1, 6))
    accuracies = 0.5 + 0.01 * generator.normal(size=(300, 1)) + 0.02 * generator.normal(size=(300, 6)) + seeds
    noise = measure_noise(accuracies, measure_reliability(_long(accuracies), OUTCOME), 2)
    assert noise is not None
    assert not noise.is_all
    residual = accuracies - accuracies.mean(axis=0) - accuracies.mean(axis=1, keepdims=True) + accuracies.mean()
    mean_square = float((residual**2).sum() / (299 * 5))
    between = 6 * accuracies.mean(axis=1).var(ddof=1)
    assert noise.training_sd == pytest.approx(mean_square**0.5)
    assert noise.pattern_sd == pytest.approx(((between - mean_square) / 6) ** 0.5)
    assert noise.p_value == pytest.approx(scipy.stats.f.sf(between / mean_square, 299, 299 * 5))
    assert noise.pattern_sd == pytest.approx(0.01, rel=0.15)
    assert noise.training_sd == pytest.approx(0.02, rel=0.05)
    for reliability, count in ((noise.visible, 2), (noise.judges, 4)):
        assert reliability == pytest.approx(noise.pattern_sd**2 / (noise.pattern_sd**2 + mean_square / count))
    assert "has reliability 0.3" in describe_noise(noise, 2, 4)


def test_a_table_without_differences_says_so() -> None:
    flat = np.full((10, 4), 0.5)
    assert measure_noise(flat, measure_reliability(_long(flat), OUTCOME), 1) is None
    assert "all patterns have the same" in describe_noise(None, 1, 3)
    noisy = np.random.default_rng(1).normal(0.5, 0.1, (30, 4))
    result = measure_noise(noisy, measure_reliability(_long(noisy), OUTCOME), 1)
    assert result is not None
    assert result.is_all
    assert "do not tell the patterns apart" in describe_noise(result, 1, 3)
    certain = measure_noise(deterministic_accuracies(3), Reliability(OUTCOME, 36, 3, 1.0, 1.0, 1.0), 1)
    assert certain is not None
    assert (certain.training_sd, certain.visible, certain.judges, certain.p_value) == (0.0, 1.0, 1.0, 0.0)


def test_verdicts_in_words() -> None:
    better = StrategyComparison("tpe", -0.002, -0.003, -0.001, BETTER, 90, 60, None)
    text = describe_comparison(better, 360)
    assert text.startswith("tpe: better than random, mean regret less random's -0.0020 (-0.0030 to -0.0010)")
    assert "90 trainings (60 to over 360)" in text


def test_the_grid_ends_with_the_search() -> None:
    assert choose_grid(360)[-1] == 360
    assert choose_grid(30) == (10, 20, 30)


def test_compare_strategies_on_the_command_line(tmp_path: Path) -> None:
    generator = np.random.default_rng(9)
    accuracies = (deterministic_accuracies(4) + 0.05 * generator.normal(size=(36, 4))).clip(0, 1)
    path = write_table(tmp_path / "table.csv", make_table(accuracies))
    path.with_suffix(".json").write_text(json.dumps({"config": {"dataset": "digits", "epochs": 9}}))
    arguments = ["compare-strategies", "--table", str(path), "--replays", "4", "--trials", "12", "--workers", "1"]
    arguments += ["--strategy", "evolve"]
    done = CliRunner().invoke(run_search.app, [*arguments, "--json", "--to", str(tmp_path / "regret")])
    assert done.exit_code == 0, done.output
    assert "digits, epochs 9" in done.stderr
    rows = json.loads(done.stdout)
    assert [(row["strategy"], row["patterns"], row["trainings"]) for row in rows] == [
        ("random", 10, 10), ("random", 12, 12), ("evolve", 10, 10), ("evolve", 12, 12)
    ]  # fmt: skip
    assert rows[0]["difference_to_random"] is None
    assert rows[2]["difference_to_random"] == pytest.approx(rows[2]["regret"] - rows[0]["regret"])
    assert rows[2]["verdict"] in (BETTER, WORSE, NOT_TOLD_APART)
    written = pd.read_csv(tmp_path / "regret" / "regret.csv")
    assert len(written) == 24
    assert written["regret"].iloc[-1] == pytest.approx(rows[3]["regret"])
    assert {file.name for file in (tmp_path / "regret").iterdir()} == {RECORD, "regret.csv", "regret.svg", "regret.png"}
    shown = CliRunner().invoke(run_search.app, arguments)
    assert shown.exit_code == 0
    assert f"{rows[3]['regret']:.4f} ({rows[3]['regret_low']:.4f} to {rows[3]['regret_high']:.4f})" in shown.output
    assert f"evolve: {rows[2]['verdict']}" in shown.output
    assert "noise: these seeds do not tell the patterns apart" in shown.output
    write_table(path, make_table(accuracies).iloc[4:])
    refused = CliRunner().invoke(run_search.app, arguments)
    assert isinstance(refused.exception, InputError)  # which main turns into exit code 2
    assert "lacks 1 of the 36 patterns" in str(refused.exception)


def test_rows_hold_nothing_that_json_lacks() -> None:
    accuracies = deterministic_accuracies(4)
    result = _measure(accuracies, {"random": "random", "best": "best"}, 3, 36)
    rows = tabulate_regret(result)
    assert json.loads(json.dumps(rows, allow_nan=False)) == rows
    assert [row["patterns"] for row in rows] == [10, 20, 30, 36] * 2
