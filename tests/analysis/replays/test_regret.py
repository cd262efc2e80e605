import json
import math
from collections.abc import Sequence
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
    RANDOM,
    WORSE,
    Regrets,
    find_first,
    measure_noise,
    measure_regret,
)
from analysis.replays.searches import Course, Searches, judge_searches
from analysis.replays.wording import choose_grid, describe_comparison, describe_noise, tabulate_regret
from nas.records.written import RECORD
from nas.search.replay import ListedSpace
from nas.search.strategy import Proposal, Strategy, Training
from search_spaces.errors import InputError
from search_spaces.seeds import derive_generator
from tests.support.synthetic_table import deterministic_accuracies, make_table, write_table

Array = NDArray[np.float64]


def _search(
    values: Array, kinds: dict[str, str], n_replays: int, n_trainings: int, n_visible: int = 3, n_random: int = 0
) -> Searches:
    """Strategies that are random, that climb by what they see, or that try the truly best or worst first.

    Each trains a pattern once, and picks the best that it saw.
    """
    generator = np.random.default_rng(int(1e6 * abs(values[0, 0])))
    n, n_seeds = values.shape
    is_visible = np.zeros((n_replays, n_seeds), dtype=bool)
    order = np.argsort(values.mean(axis=1))
    trained: dict[str, list[list[int]]] = {name: [] for name in kinds}
    picked: dict[str, list[list[int]]] = {name: [] for name in kinds}
    for number in range(n_replays):
        columns = generator.choice(n_seeds, n_visible, replace=False)
        is_visible[number, columns] = True
        seen = values[:, columns].mean(axis=1)
        for name, kind in kinds.items():
            length = max(n_random, n_trainings) if name == RANDOM else n_trainings
            if kind in ("best", "worst"):
                chosen = order[:: 1 if kind == "best" else -1]
            else:
                chosen = generator.permutation(n) if kind == "random" else _climb(seen, generator, length)
            chosen = chosen[:length]
            best = np.minimum.accumulate(seen[chosen])
            trained[name].append(chosen.tolist())
            is_new = np.append(True, best[1:] < best[:-1])
            picked[name].append(chosen[np.maximum.accumulate(np.where(is_new, np.arange(length), 0))].tolist())
    courses = {name: Course(np.array(trained[name]), np.array(picked[name])) for name in kinds}
    return Searches(values, np.ones(n, dtype=bool), is_visible, courses)


def _climb(seen: Array, generator: np.random.Generator, n_trainings: int) -> NDArray[np.int64]:
    """The neighbours by number of the best so far."""
    chosen = [int(generator.integers(len(seen)))]
    while len(chosen) < n_trainings:
        best = min(chosen, key=lambda row: seen[row])
        left = [row for row in range(len(seen)) if row not in chosen]
        chosen.append(min(left, key=lambda row: abs(row - best)))
    return np.array(chosen)


def _measure(values: Array, kinds: dict[str, str], n_replays: int, n_trainings: int, n_random: int = 0) -> Regrets:
    return measure_regret(_search(values, kinds, n_replays, n_trainings, n_random=n_random))


def test_curves_are_those_of_a_plain_loop() -> None:
    values = np.random.default_rng(6).normal(size=(25, 5))
    searches = _search(values, {"random": "random", "climb": "climb"}, 6, 8, n_visible=2, n_random=11)
    curves = measure_regret(searches).curves.set_index(["strategy", "trainings"])
    assert len(curves) == 16
    expected: dict[tuple[str, int], list[float]] = {}
    for name, course in searches.by_strategy.items():
        for n in range(1, 9):
            regret, gain = 0.0, 0.0
            for number in range(6):
                judges = [s for s in range(5) if not searches.is_visible[number, s]]
                of_pattern = [sum(values[row, s] for s in judges) / 3 for row in range(25)]
                value = of_pattern[course.picked[number, n - 1]]
                regret += (value - min(of_pattern)) / 6
                gain += (sum(of_pattern) / 25 - value) / 6
            expected[name, n] = [regret, gain]
    for place, (regret, gain) in expected.items():
        assert curves["regret"][place] == pytest.approx(regret)
        assert curves["gain"][place] == pytest.approx(gain)
        if place[0] == "climb":
            random = expected["random", place[1]][0]
            assert curves["difference_to_random"][place] == pytest.approx(regret - random)


def test_an_exhaustive_search_without_noise_ends_at_regret_0_and_the_largest_gain() -> None:
    values = 1 - deterministic_accuracies(4)
    result = _measure(values, {"random": "random", "climb": "climb"}, 5, 36)
    ends = result.curves[result.curves["trainings"] == 36]
    assert ends["regret"].tolist() == ends["regret_high"].tolist() == [0.0, 0.0]
    assert ends["gain"].tolist() == pytest.approx([values.mean() - values.min()] * 2)
    assert ends["patterns"].tolist() == [36, 36]
    regrets = result.curves.pivot_table(index="trainings", columns="strategy", values="regret")
    assert (regrets.diff().iloc[1:] <= 0).all(axis=None)


def test_random_search_has_the_regret_of_sampling_without_replacement() -> None:
    values = np.sort(np.random.default_rng(2).normal(0.5, 0.1, 40))
    result = _measure(np.repeat(values[:, None], 4, axis=1), {"random": "random"}, 3000, 40).curves
    regrets = result.set_index("trainings")["regret"]
    for count in (1, 3, 10, 25):
        # P(the best of `count` draws has rank r): r is drawn, and none before it.
        chances = [math.comb(40 - rank, count) / math.comb(40, count) for rank in range(41)]
        expected = sum((chances[r] - chances[r + 1]) * (values[r] - values[0]) for r in range(40))
        assert regrets[count] == pytest.approx(expected, rel=0.06)


def test_good_and_bad_strategies_are_told_from_random() -> None:
    generator = np.random.default_rng(4)
    values = 0.5 + 0.02 * generator.normal(size=(200, 1)) + 0.01 * generator.normal(size=(200, 8))
    kinds = {"random": "random", "oracle": "best", "contrary": "worst", "again": "random"}
    result = _measure(values, kinds, 50, 30, n_random=90)
    verdicts = {comparison.strategy: comparison.verdict for comparison in result.comparisons}
    assert verdicts == {"oracle": BETTER, "contrary": WORSE, "again": NOT_TOLD_APART}
    oracle, contrary, _ = result.comparisons
    assert oracle.match == (1, 1, 1)
    assert contrary.match == (None, None, None)
    curves = result.curves.set_index(["strategy", "trainings"])
    difference = curves["regret"]["oracle"] - curves["regret"]["random"]
    assert curves["difference_to_random"]["oracle"].tolist() == pytest.approx(difference.tolist())
    assert difference.mean() == pytest.approx(oracle.difference.value)
    assert curves["gain"]["random"].tolist() == pytest.approx((curves["gain"]["oracle"] + difference).tolist())
    assert curves["difference_to_random"]["random"].isna().all()
    for name in ("regret", "gain"):
        assert (curves[f"{name}_low"] <= curves[name]).all()
        assert (curves[name] <= curves[f"{name}_high"]).all()
    ranks = {name: proposals.rank.value or 0 for name, proposals in result.proposals.items()}
    assert ranks["oracle"] < 0.2 < 0.45 < ranks["random"] < 0.55 < 0.8 < ranks["contrary"]
    medians = {name: proposals.median.value or 0 for name, proposals in result.proposals.items()}
    assert medians["oracle"] < 0.48 < medians["random"] < 0.52 < medians["contrary"]


def test_random_needs_as_many_trainings_as_its_own_curve_says() -> None:
    generator = np.random.default_rng(7)
    values = np.repeat(generator.normal(size=(200, 1)), 6, axis=1)
    searches = _search(values, {"random": "random", "again": "random", "oracle": "best"}, 400, 20, n_random=120)
    result = measure_regret(searches)
    assert result.n_random == 120
    curves = result.curves.set_index(["strategy", "trainings"])
    assert curves["random_needs"]["random"].isna().all()
    judged = judge_searches(searches, derive_generator(0, "regret"))
    regret = [float(value) for value in (judged.picked["random"] - judged.best)[0]]
    for name in ("again", "oracle"):
        for n in (1, 5, 20):
            down = [place for place, value in enumerate(regret, 1) if value <= curves["regret"][name, n]]
            need = curves["random_needs"][name, n]
            assert need == down[0] if down else math.isnan(need)
    # A second random search needs about what it had; the best at once needs more than most of the table.
    low, high = (curves[f"random_needs_{end}"]["again", 20] for end in ("low", "high"))
    assert 14 <= low <= curves["random_needs"]["again", 20] <= high <= 30
    assert low <= 22
    assert math.isnan(curves["random_needs"]["oracle", 1])


def test_the_first_training_that_is_as_good() -> None:
    curve = np.array([[3.0, 1.0, 2.0], [3.0, 2.0, 1.0]])
    assert find_first(curve, np.array([2.5, 0.5])) == (2, None, None)
    assert find_first(curve, np.array([0.5, 2.0])) == (None, 2, 2)


def test_strategies_are_not_told_apart_on_noise_alone() -> None:
    for number in range(4):
        values = np.random.default_rng(100 + number).normal(0.6, 0.02, (100, 8))
        result = _measure(values, {"random": "random", "climb": "climb"}, 40, 30)
        assert result.comparisons[0].verdict == NOT_TOLD_APART
        assert result.noise is not None
        assert result.noise.judges < 0.4
        # A search that is judged by what it saw would show 0.02 here.
        gain = result.curves["gain"][result.curves["trainings"] == 30]
        assert (gain.abs() < 0.008).all()


@pytest.mark.slow
def test_noise_alone_is_called_better_or_worse_in_no_more_than_1_table_of_20() -> None:
    verdicts = []
    for number in range(100):
        values = np.random.default_rng(number).normal(0.6, 0.02, (100, 8))
        result = _measure(values, {"random": "random", "climb": "climb"}, 100, 30)
        verdicts.append(result.comparisons[0].verdict)
    # Binomial(100, 0.05) exceeds 10 with probability 0.01.
    assert 100 - verdicts.count(NOT_TOLD_APART) <= 10


def test_noise_of_a_table_by_analysis_of_variance() -> None:
    generator = np.random.default_rng(0)
    values = 0.5 + 0.01 * generator.normal(size=(300, 1)) + 0.02 * generator.normal(size=(300, 6))
    values += generator.normal(size=6)  # a seed's own level is no noise
    noise = measure_noise(values, 2)
    assert noise is not None
    assert not noise.is_all
    residual = values - values.mean(axis=0) - values.mean(axis=1, keepdims=True) + values.mean()
    mean_square = float((residual**2).sum() / (299 * 5))
    between = 6 * values.mean(axis=1).var(ddof=1)
    assert noise.training_sd == pytest.approx(mean_square**0.5)
    assert noise.pattern_sd == pytest.approx(((between - mean_square) / 6) ** 0.5)
    assert noise.p_value == pytest.approx(scipy.stats.f.sf(between / mean_square, 299, 299 * 5))
    assert noise.pattern_sd == pytest.approx(0.01, rel=0.15)
    assert noise.training_sd == pytest.approx(0.02, rel=0.05)
    for reliability, count in ((noise.visible, 2), (noise.judges, 4)):
        assert reliability == pytest.approx(noise.pattern_sd**2 / (noise.pattern_sd**2 + mean_square / count))
    assert "has reliability 0.3" in describe_noise(noise, 2, 4)


def test_a_table_without_differences_says_so() -> None:
    assert measure_noise(np.full((10, 4), 0.5), 1) is None
    assert "all patterns have the same" in describe_noise(None, 1, 3)
    result = measure_noise(np.random.default_rng(1).normal(0.5, 0.1, (30, 4)), 1)
    assert result is not None
    assert result.is_all
    assert "do not tell the patterns apart" in describe_noise(result, 1, 3)
    certain = measure_noise(deterministic_accuracies(3), 1)
    assert certain is not None
    assert (certain.training_sd, certain.p_value) == (0.0, 0.0)
    assert (certain.visible, certain.judges) == pytest.approx((1.0, 1.0))


def test_the_grid_ends_with_the_search() -> None:
    assert choose_grid(360)[-1] == 360
    assert choose_grid(30) == (5, 10, 20, 30)
    assert {20, 50} <= set(choose_grid(60))


class Nearing:
    """Draws at random, or moves on from the best; a stand-in for the strategies proper."""

    def __init__(self, name: str, space: ListedSpace, seed: int) -> None:
        self.learns = name != RANDOM
        self._space, self._seed = space, seed

    def propose(self, history: Sequence[Training]) -> Proposal | None:
        generator = derive_generator(self._seed, len(history))
        known = {training.pattern.key for training in history}
        finished = [training for training in history if training.cost is not None]
        if self.learns and finished:
            near = self._space.mutate(min(finished, key=lambda training: training.cost or 0).pattern, generator)
            if near.key not in known:
                return Proposal(near, 0)
        pattern = self._space.draw(generator, known)
        return None if pattern is None else Proposal(pattern, 0)


def _create(name: str, space: ListedSpace, seed: int, seeds: int, seeds_at_most: int) -> Strategy:
    assert (seeds, seeds_at_most) == (1, 1)
    return Nearing(name, space, seed)


def test_compare_strategies_on_the_command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nas.search.strategies.registry.create_strategy", _create)
    generator = np.random.default_rng(9)
    accuracies = (deterministic_accuracies(4) + 0.05 * generator.normal(size=(36, 4))).clip(0, 1)
    path = write_table(tmp_path / "table.csv", make_table(accuracies))
    path.with_suffix(".json").write_text(json.dumps({"config": {"dataset": "digits", "epochs": 9}}))
    arguments = ["compare-strategies", "--table", str(path), "--replays", "4", "--trainings", "12", "--workers", "1"]
    arguments += ["--strategy", "evolve"]
    done = CliRunner().invoke(run_search.app, [*arguments, "--json", "--to", str(tmp_path / "regret")])
    assert done.exit_code == 0, done.output
    assert "digits, epochs 9" in done.stderr
    rows = json.loads(done.stdout)
    assert [(row["strategy"], row["trainings"]) for row in rows] == [
        ("random", 5), ("random", 10), ("random", 12), ("evolve", 5), ("evolve", 10), ("evolve", 12)
    ]  # fmt: skip
    assert rows[0]["difference_to_random"] is rows[0]["random_needs"] is rows[0]["verdict"] is None
    assert rows[3]["difference_to_random"] == pytest.approx(rows[3]["regret"] - rows[0]["regret"])
    assert rows[3]["verdict"] in (BETTER, WORSE, NOT_TOLD_APART)
    assert {row["random_trainings"] for row in rows} == {36}
    folder = tmp_path / "regret"
    written = pd.read_csv(folder / "regret.csv")
    assert len(written) == 24
    assert written["regret"].iloc[-1] == pytest.approx(rows[5]["regret"])
    assert json.loads((folder / "regret.json").read_text()) == rows
    names = {"regret.csv", "regret.json", "regret.svg", "regret.png"}
    assert {file.name for file in folder.iterdir()} == {RECORD, *names}
    shown = CliRunner().invoke(run_search.app, arguments)
    assert shown.exit_code == 0
    half = sorted((row["regret_high"] - row["regret_low"]) / 2 for row in rows)[3]
    digits = next(few for few in range(6) if 10.0**-few <= half / 2)
    numbers = [f"{rows[5][name]:.{digits}f}" for name in ("regret", "regret_low", "regret_high")]
    assert "{} ({} to {})".format(*numbers) in shown.output
    assert f"evolve: {rows[5]['verdict']}" in shown.output
    assert "proposals of random: better than" in shown.output
    assert "36 patterns of 5 layers at budget log, all there are" in shown.output
    assert "in log validation loss" in shown.output
    # The logarithm of these losses is the accuracy with a minus, so a unit of one is a unit of the other.
    by_accuracy = CliRunner().invoke(run_search.app, [*arguments, "--objective", "accuracy", "--json"])
    assert [row["regret"] for row in json.loads(by_accuracy.stdout)] == pytest.approx([row["regret"] for row in rows])


def test_a_sampled_table_on_the_command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nas.search.strategies.registry.create_strategy", _create)
    table = make_table(deterministic_accuracies(4)).iloc[: 4 * 30]
    table["strategy"] = np.repeat(["random", "near"], 60)
    path = write_table(tmp_path / "table.csv", table)
    arguments = ["compare-strategies", "--table", str(path), "--replays", "3", "--trainings", "20", "--workers", "1"]
    done = CliRunner().invoke(run_search.app, arguments)
    assert done.exit_code == 0, done.output
    assert "30 patterns of 5 layers at budget log, random draws from 15" in done.output
    assert "random:wide" not in done.output  # of which the table has none
    assert "model: " in done.output
    refused = CliRunner().invoke(run_search.app, [*arguments, "--strategy", "random:wide"])
    assert isinstance(refused.exception, InputError)  # which main turns into exit code 2
    assert "no rows of strategy random:wide" in str(refused.exception)
    done = CliRunner().invoke(run_search.app, [*arguments, "--draws", "near", "--draws", "random"])
    assert "random draws from 30" in done.output
    write_table(path, table[table["strategy"] == "near"])
    refused = CliRunner().invoke(run_search.app, arguments)
    assert "no rows of strategy random that" in str(refused.exception)
    assert "only of near" in str(refused.exception)
    done = CliRunner().invoke(run_search.app, [*arguments, "--draws", "all"])
    assert "random draws from 15" in done.output


def test_rows_hold_nothing_that_json_lacks() -> None:
    result = _measure(1 - deterministic_accuracies(4), {"random": "random", "best": "best"}, 3, 36)
    rows = tabulate_regret(result)
    assert json.loads(json.dumps(rows, allow_nan=False)) == rows
    assert [row["trainings"] for row in rows] == [5, 10, 20, 30, 36] * 2
    assert describe_comparison(result.comparisons[0]).startswith(f"best: {result.comparisons[0].verdict}, mean regret")
