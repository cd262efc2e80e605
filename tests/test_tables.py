import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import scipy.stats

from analysis.reliability import measure_mean_reliability
from analysis.tables import correlate_table
from search_spaces.errors import InputError

KEYS = ["measure", "n", "patterns", "spearman", "spearman_low", "spearman_high", "kendall", "quadratic_r2",
        "p_permutation", "ceiling"]  # fmt: skip


def _write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "table.csv"
    path.write_text(text, encoding="utf-8")
    return path


def _frame(n: int = 30, repeats: int = 1) -> pd.DataFrame:
    generator = np.random.default_rng(1)
    x = np.repeat(generator.normal(size=n).round(1), repeats)
    return pd.DataFrame(
        {
            "x": x,
            "flat": 3,
            "group": np.where(np.repeat(np.arange(n), repeats) < n // 2, "a", "b"),
            "name": np.repeat([f"p{i}" for i in range(n)], repeats),
            "y": x**2 + x + generator.normal(size=n * repeats),
        }
    )


def test_every_number_by_a_second_computation(tmp_path: Path) -> None:
    frame = _frame()
    path = _write(tmp_path, frame.to_csv(index=False))
    first, flat = correlate_table(path, ["x", "flat"], "y")
    assert list(first) == list(flat) == KEYS
    assert (first["measure"], first["n"], first["patterns"]) == ("x", 30, 30)
    assert first["spearman"] == pytest.approx(scipy.stats.spearmanr(frame["x"], frame["y"]).statistic)
    assert first["kendall"] == pytest.approx(scipy.stats.kendalltau(frame["x"], frame["y"]).statistic)
    residual = frame["y"] - np.polyval(np.polyfit(frame["x"], frame["y"], 2), frame["x"])
    assert first["quadratic_r2"] == pytest.approx(1 - residual.var() / frame["y"].var())
    assert first["spearman_low"] < first["spearman"] < first["spearman_high"]
    assert first["p_permutation"] == pytest.approx(
        scipy.stats.permutation_test(
            (frame["x"].to_numpy(),), lambda a: scipy.stats.spearmanr(a, frame["y"]).statistic,
            permutation_type="pairings", n_resamples=999, rng=0, vectorized=False,
        ).pvalue, abs=0.06,
    )  # fmt: skip
    assert first["ceiling"] is None
    assert {key: flat[key] for key in KEYS[3:]} == dict.fromkeys(KEYS[3:])
    assert json.loads(json.dumps([first, flat], allow_nan=False)) == correlate_table(path, ["x", "flat"], "y")


def test_repeats_are_averaged_and_give_the_ceiling(tmp_path: Path) -> None:
    frame = _frame(20, 3)
    path = _write(tmp_path, frame.to_csv(index=False))
    (found,) = correlate_table(path, ["x"], "y", group="group", pattern="name")
    means = frame.groupby("name", sort=False)[["x", "y"]].mean()
    assert (found["n"], found["patterns"]) == (60, 20)
    assert found["spearman"] == pytest.approx(scipy.stats.spearmanr(means["x"], means["y"]).statistic)
    f_value = scipy.stats.f_oneway(*frame["y"].to_numpy().reshape(20, 3)).statistic
    assert found["ceiling"] == pytest.approx((1 - 1 / f_value) ** 0.5)


def test_reliability_of_unequal_repeats() -> None:
    rows = np.array([0, 0, 0, 1, 1, 2, 2, 2, 2, 3])
    generator = np.random.default_rng(0)
    values = generator.normal(size=4)[rows] * 2 + generator.normal(size=10)
    within = sum(((values[rows == i] - values[rows == i].mean()) ** 2).sum() for i in range(4)) / 6
    between = sum((rows == i).sum() * (values[rows == i].mean() - values.mean()) ** 2 for i in range(4)) / 3
    assert between / within == pytest.approx(scipy.stats.f_oneway(*(values[rows == i] for i in range(4))).statistic)
    variance = (between - within) / ((10 - (9 + 4 + 16 + 1) / 10) / 3)
    error = within * (1 / 3 + 1 / 2 + 1 / 4 + 1) / 4
    assert measure_mean_reliability(values, rows) == pytest.approx(variance / (variance + error))
    assert measure_mean_reliability(values, np.arange(10)) is None
    assert measure_mean_reliability(np.ones(10), rows) is None


def test_reliability_of_unequal_repeats_is_right_on_average() -> None:
    generator = np.random.default_rng(5)
    rows = np.repeat(np.arange(200), generator.integers(1, 5, 200))
    found = [
        measure_mean_reliability(generator.normal(size=200)[rows] + generator.normal(size=len(rows)), rows)
        for _ in range(20)
    ]
    true = 1 / (1 + (1 / np.bincount(rows)).mean())
    assert np.mean(np.array(found, dtype=float)) == pytest.approx(true, abs=0.03)


def test_rows_that_lack_a_value_are_left_out_measure_by_measure(tmp_path: Path) -> None:
    text = "\ufeffx, z,y,who\n1,1,1,a\n2,NA,2,b\n,3,3,c\n4,4,NaN,d\n5,5,5,e\n\n6,6,6,\n7,7,7.5,f\n"
    path = _write(tmp_path, text)
    found = correlate_table(path, ["x", "z"], "y")
    assert [one["n"] for one in found] == [5, 5]
    assert [one["n"] for one in correlate_table(path, ["x", "z"], "y", pattern="who")] == [4, 4]
    assert found[0]["spearman"] == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "empty"),
        ("x,y\n1,2\n", "1 usable patterns of 1 rows"),
        ("x,y,group,name\n1,2,a,p\n2,3,a,q\n,,a,r\n", "1 rows lacking a value; at least 3"),
        ("mean_bd,y\n1,2\n", "no column 'x'; it has mean_bd, y"),
        ("xx,y\n1,2\n", "no column 'x'; it has xx"),
        ("x,y,x\n1,2,3\n", "2 columns 'x'"),
        ("x,y,z,z\n1,2,3,4\n", "2 columns 'z'"),
        ("x,y\n1,2\n2,oops\n3,4\n", "column y holds 'oops' in data row 2"),
        ("x,y\n1,2\n-inf,3\n3,4\n", "column x holds '-inf' in data row 2"),
        ("x,y\n1,2\n1e999,3\n3,4\n", "holds '1e999'"),
        ("x,y\n1,2\n2\n3,4\n", "line 3: 1 fields under a header of 2"),
        ("x,y\n1,2,3\n", "line 2: 3 fields"),
        ('x,y\n1,"2\n', "not a CSV"),
    ],
)
def test_bad_tables_are_refused_in_words(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(InputError) as caught:
        correlate_table(_write(tmp_path, text), ["x"], "y")
    assert words in str(caught.value)


def test_bad_files_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match="no table at"):
        correlate_table(tmp_path / "absent.csv", ["x"], "y")
    with pytest.raises(InputError, match="Is a directory"):
        correlate_table(tmp_path, ["x"], "y")
    binary = tmp_path / "binary.csv"
    binary.write_bytes(bytes(range(256)))
    with pytest.raises(InputError, match="not a CSV"):
        correlate_table(binary, ["x"], "y")
    with pytest.raises(InputError, match="no measure"):
        correlate_table(binary, [], "y")
    monkeypatch.setattr("analysis.tables.MAX_BYTES", 10)
    with pytest.raises(InputError, match="has 256 bytes, and at most 10"):
        correlate_table(binary, ["x"], "y")


def test_what_should_be_fixed_by_a_pattern_is_checked(tmp_path: Path) -> None:
    frame = _frame(8, 2)
    frame["x"] += np.arange(16) == 5
    with pytest.raises(InputError, match="x varies inside pattern 'p2'"):
        correlate_table(_write(tmp_path, frame.to_csv(index=False)), ["x"], "y", pattern="name")


def test_a_pattern_measured_in_two_groups_counts_in_each(tmp_path: Path) -> None:
    frame = _frame(8, 2)
    frame.loc[7, "group"] = "c"
    (found,) = correlate_table(_write(tmp_path, frame.to_csv(index=False)), ["x"], "y", pattern="name", group="group")
    assert (found["n"], found["patterns"]) == (16, 9)


def test_groups_of_the_permutations(tmp_path: Path) -> None:
    level = np.repeat([0.0, 10.0], 15)
    generator = np.random.default_rng(3)
    frame = pd.DataFrame({"x": level + generator.normal(size=30), "y": level + generator.normal(size=30)})
    path = _write(tmp_path, frame.assign(g=level).to_csv(index=False))
    (free,), (inside,) = correlate_table(path, ["x"], "y"), correlate_table(path, ["x"], "y", group="g")
    assert free["spearman"] == inside["spearman"]
    assert free["p_permutation"] < 0.01 < 0.05 < inside["p_permutation"]
