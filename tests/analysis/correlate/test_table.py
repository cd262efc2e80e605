import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import scipy.stats

from analysis.correlate.table import correlate_table
from analysis.stats.reliability import measure_mean_reliability
from search_spaces.errors import InputError

NUMBERS = ["spearman", "spearman_low", "spearman_high", "kendall", "quadratic_r2", "p_permutation", "ceiling"]
KEYS = ["measure", "n", "patterns", *NUMBERS, "groups", "strata", "by_group", "note"]


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
            permutation_type="pairings", n_resamples=499, rng=0, vectorized=False,
        ).pvalue, abs=0.06,
    )  # fmt: skip
    assert first["ceiling"] is None
    assert {key: flat[key] for key in NUMBERS} == dict.fromkeys(NUMBERS)
    assert flat["note"].startswith("flat is constant")
    assert first["note"] is first["groups"] is first["by_group"] is None
    assert json.loads(json.dumps([first, flat], allow_nan=False)) == correlate_table(path, ["x", "flat"], "y")


def test_repeats_are_averaged_and_give_the_ceiling(tmp_path: Path) -> None:
    frame = _frame(20, 3)
    path = _write(tmp_path, frame.to_csv(index=False))
    (result,) = correlate_table(path, ["x"], "y", group="group", pattern="name")
    means = frame.groupby("name", sort=False)[["x", "y"]].mean()
    assert (result["n"], result["patterns"], result["groups"]) == (60, 20, 2)
    halves = [scipy.stats.spearmanr(*half.to_numpy().T).statistic for half in (means.iloc[:10], means.iloc[10:])]
    assert result["spearman"] == pytest.approx(np.tanh(np.arctanh(halves).mean()))
    f_values = [scipy.stats.f_oneway(*part.reshape(10, 3)).statistic for part in np.split(frame["y"].to_numpy(), 2)]
    ceilings = [max(1 - 1 / f_value, 0) ** 0.5 for f_value in f_values]
    assert result["by_group"] == [
        {"group": name, "patterns": 10, "spearman": pytest.approx(rho), "ceiling": pytest.approx(ceiling)}
        for name, rho, ceiling in zip("ab", halves, ceilings, strict=True)
    ]
    (plain,) = correlate_table(path, ["x"], "y", pattern="name")
    assert plain["spearman"] == pytest.approx(scipy.stats.spearmanr(means["x"], means["y"]).statistic)
    f_value = scipy.stats.f_oneway(*frame["y"].to_numpy().reshape(20, 3)).statistic
    assert plain["ceiling"] == pytest.approx((1 - 1 / f_value) ** 0.5)
    assert result["ceiling"] < plain["ceiling"]  # the groups differ


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
    result = [
        measure_mean_reliability(generator.normal(size=200)[rows] + generator.normal(size=len(rows)), rows)
        for _ in range(20)
    ]
    true = 1 / (1 + (1 / np.bincount(rows)).mean())
    assert np.mean(np.array(result, dtype=float)) == pytest.approx(true, abs=0.03)


def test_rows_that_lack_a_value_are_left_out_measure_by_measure(tmp_path: Path) -> None:
    text = "\ufeffx, z,y,who\n1,1,1,a\n2,NA,2,b\n,3,3,c\n4,4,NaN,d\n5,5,5,e\n\n6,6,6,\n7,7,7.5,f\n"
    path = _write(tmp_path, text)
    result = correlate_table(path, ["x", "z"], "y")
    assert [row["n"] for row in result] == [5, 5]
    assert [row["n"] for row in correlate_table(path, ["x", "z"], "y", pattern="who")] == [4, 4]
    assert result[0]["spearman"] == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "empty"),
        ("x,y\n1,2\n", "1 usable patterns of 1 rows"),
        ("x,y,group,name\n1,2,a,p\n2,3,a,q\n,,a,r\n", "1 rows lacking a value; at least 3"),
        ("mean_bd,y\n1,2\n", "no column 'x'; columns of numbers: mean_bd, y"),
        ("xx,y\n1,2\n", "no column 'x'; did you mean 'xx'?"),
        ("name,mean,y\np,1,2\nq,NA,3\n", "columns of numbers: mean, y; others: name"),
        ("\n\na,y\n1,2\n", "no column 'x'; columns of numbers: a, y"),
        ("\nx,y\n1,2\n3\n", "line 4: 1 fields under a header of 2"),
        ("x;y\n0,5;1\n1,5;2\n", "column x has '0,5' in data row 1; only numbers can be ranked, written with a point"),
        (
            'x,y\n"1,234",1\n2,2\n',
            "'1,234' in data row 1; only numbers can be ranked, written with a point for decimals and no",
        ),
        ("x,y,x\n1,2,3\n", "2 columns 'x'"),
        ("x,y\n1,2\n2,oops\n3,4\n", "column y has 'oops' in data row 2"),
        ("x,y\n1,2\n-inf,3\n3,4\n", "column x has '-inf' in data row 2"),
        ("x,y\n1,2\n1e999,3\n3,4\n", "has '1e999'"),
        ("x,y\n1,2\n2\n3,4\n", "line 3: 1 fields under a header of 2"),
        ("x,y\n1,2,3\n", "line 2: 3 fields"),
        ('x,y\n1,"2\n', "not a CSV"),
    ],
)
def test_bad_tables_are_refused_in_words(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(InputError) as caught:
        correlate_table(_write(tmp_path, text), ["x"], "y")
    assert words in str(caught.value)


@pytest.mark.parametrize("separator", [",", ";", "\t"])
@pytest.mark.parametrize("before", ["", "\n", " \n\r\n\n", "\ufeff\n", ",,,\n; ;\n\t\n"])
def test_blank_lines_separators_and_unused_twins_change_no_number(tmp_path: Path, separator: str, before: str) -> None:
    frame = _frame()
    plain = correlate_table(_write(tmp_path, frame.to_csv(index=False)), ["x"], "y", "group")
    lines = frame.assign(other=1).to_csv(index=False, sep=separator).replace("flat", "other").splitlines()
    lines.insert(3, "   ")
    path = _write(tmp_path, before + "\n".join([*lines, "", ""]))
    assert correlate_table(path, ["x"], "y", "group") == plain


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
    monkeypatch.setattr("analysis.correlate.columns.MAX_BYTES", 10)
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
    (result,) = correlate_table(_write(tmp_path, frame.to_csv(index=False)), ["x"], "y", pattern="name", group="group")
    assert (result["n"], result["patterns"]) == (16, 9)


def test_groups_of_the_permutations(tmp_path: Path) -> None:
    level = np.repeat([0.0, 10.0], 15)
    generator = np.random.default_rng(3)
    frame = pd.DataFrame({"x": level + generator.normal(size=30), "y": level + generator.normal(size=30)})
    path = _write(tmp_path, frame.assign(g=level).to_csv(index=False))
    (free,), (inside,) = correlate_table(path, ["x"], "y"), correlate_table(path, ["x"], "y", group="g")
    assert inside["spearman"] < 0.2 < 0.7 < free["spearman"]
    assert free["p_permutation"] < 0.01 < 0.05 < inside["p_permutation"]


def test_groups_are_pooled_after_ranking_inside_them(tmp_path: Path) -> None:
    steps, level = np.tile(np.arange(12), 3), np.repeat([0, 20, 40], 12)
    frame = pd.DataFrame({"group": level, "x": level + steps, "y": level + 12 - steps / 2})
    path = _write(tmp_path, frame.to_csv(index=False))
    (result,) = correlate_table(path, ["x"], "y", group="group")
    correlations = [result[name] for name in ("spearman", "spearman_low", "spearman_high", "kendall")]
    assert correlations == pytest.approx([-1] * 4)
    assert result["p_permutation"] == pytest.approx(1 / 2001)  # no other order is as far, up or down
    assert result["quadratic_r2"] == pytest.approx(1.0)
    (pooled,) = correlate_table(path, ["x"], "y")
    assert pooled["spearman"] > 0.6


def test_the_ceiling_of_groups_leaves_out_what_differs_between_them(tmp_path: Path) -> None:
    generator = np.random.default_rng(2)
    frame = pd.DataFrame({"name": np.repeat(np.arange(60), 3), "group": np.repeat(["a", "b"], 90)})
    frame["x"] = frame["name"].astype(float)
    frame["y"] = 10.0 * (frame["group"] == "b") + generator.normal(size=180)  # nothing but noise inside a group
    path = _write(tmp_path, frame.to_csv(index=False))
    (pooled,), (inside,) = (correlate_table(path, ["x"], "y", group=group, pattern="name") for group in (None, "group"))
    assert pooled["ceiling"] > 0.95
    assert inside["ceiling"] < 0.5


def test_groups_of_several_columns_and_those_that_add_nothing(tmp_path: Path) -> None:
    rows = [f"{i % 4},{(i * 7) % 5},{'ab'[i // 16]},{'cd'[i // 8 % 2]}" for i in range(32)]
    flat = [f"3,{i},e,c" for i in range(4)] + ["1,2,f,d"]
    path = _write(tmp_path, "\n".join(["x,y,first,second", *rows]))
    (expected,) = correlate_table(path, ["x"], "y", group="first,second")
    assert (expected["groups"], expected["note"]) == (4, None)
    (result,) = correlate_table(
        _write(tmp_path, "\n".join(["x,y,first,second", *rows, *flat])), ["x"], "y", group="first,second"
    )
    assert (result["groups"], result["patterns"]) == (4, 37)
    for name in ("spearman", "kendall", "quadratic_r2"):
        assert result[name] == pytest.approx(expected[name])
    assert "x or y is constant in 2 of 6 groups" in result["note"]
    assert "e, c; f, d" in result["note"]


def test_groups_of_three_rows_or_fewer_have_no_correlation_and_that_is_said(tmp_path: Path) -> None:
    path = _write(tmp_path, "x,y,g\n" + "".join(f"{i},{i * i % 7},{i // 2}\n" for i in range(10)))
    (result,) = correlate_table(path, ["x"], "y", group="g")
    assert result["spearman"] is result["spearman_low"] is result["p_permutation"] is None
    assert "3 rows or fewer" in result["note"]


def test_groups_that_differ_are_said_to(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    x = generator.normal(size=60)
    frame = pd.DataFrame({"x": x, "y": x * np.repeat([1, -1], 30) + generator.normal(size=60) / 2})
    path = _write(tmp_path, frame.assign(g=np.repeat(["a", "b"], 30)).to_csv(index=False))
    (result,) = correlate_table(path, ["x"], "y", group="g")
    assert result["note"].startswith("groups differ: rho of x is -")
    assert [each["spearman"] > 0 for each in result["by_group"]] == [True, False]


@pytest.mark.parametrize("measures", [["y"], ["x", "y"]])
def test_the_outcome_is_no_measure(tmp_path: Path, measures: list[str]) -> None:
    with pytest.raises(InputError, match="'y'"):
        correlate_table(_write(tmp_path, "x,y\n1,2\n2,3\n3,5\n"), measures, "y")


def test_where_p_and_interval_do_not_agree_it_is_said(tmp_path: Path) -> None:
    few, same = "x,y\n1,2\n2,3\n3,5\n", "x,y\n" + "".join(f"{i},{i}\n" for i in range(9))
    (result,) = correlate_table(_write(tmp_path, few), ["x"], "y")
    assert result["spearman_low"] == 1.0
    assert f"{result['p_permutation']:.3f}" in result["note"]
    assert correlate_table(_write(tmp_path, same), ["x"], "y")[0]["note"] is None


def test_columns_that_split_a_table_into_strata_are_named(tmp_path: Path) -> None:
    head, rows = "x,y,regime,layers,dataset", [f"{i},{i % 5},{'ab'[i % 2]},{24 + i // 6},digits" for i in range(12)]
    path = _write(tmp_path, "\n".join([head, *rows]))
    asked = {None: ["layers", "regime"], "regime": ["layers"], "layers,regime": [], "regime, layers": []}
    assert {group: correlate_table(path, ["x"], "y", group=group)[0]["strata"] for group in asked} == asked
    assert correlate_table(path, ["layers"], "y", group="regime")[0]["strata"] == []


def test_no_value_is_rounded_by_anothers_size(tmp_path: Path) -> None:
    losses = [f"{0.5 + 0.01 * i:.4f}" for i in range(39)]
    for largest in ("1e15", "1e300"):
        table = "x,y\n" + "".join(f"{i},{loss}\n" for i, loss in enumerate([*losses, largest]))
        (result,) = correlate_table(_write(tmp_path, table), ["x"], "y")
        assert [result[name] for name in ("spearman", "spearman_low", "spearman_high", "kendall")] == [1.0] * 4
        assert 0 < result["quadratic_r2"] < 1


@pytest.mark.parametrize("exponent", [-290, -200, -20, 20, 200, 290])
def test_no_size_of_a_column_changes_a_number(tmp_path: Path, exponent: int) -> None:
    x, y = [1, 2, 3, 4, 5, 6, 7, 8], [26, 17, 10, 5, 2, 1, 4, 4]

    def measure(first: int, second: int) -> dict[str, object]:
        rows = "".join(f"{a}e{first},{b}e{second},{i // 2}\n" for i, (a, b) in enumerate(zip(x, y, strict=True)))
        return correlate_table(_write(tmp_path, "x,y,name\n" + rows), ["x"], "y")[0]

    assert measure(exponent, -exponent) == measure(0, exponent) == measure(0, 0)


def test_whole_numbers_beyond_the_floats_keep_their_order(tmp_path: Path) -> None:
    table = "x,y\n" + "".join(f"{2**60 + i},{2**61 - i * i}\n" for i in range(9))
    (result,) = correlate_table(_write(tmp_path, table), ["x"], "y")
    assert result["spearman"] == result["kendall"] == -1.0
    assert result["quadratic_r2"] == pytest.approx(1.0)


def test_equal_means_of_repeats_are_ties(tmp_path: Path) -> None:
    table = "x,y,name\n1,0.1,a\n1,0.2,a\n1,0.3,a\n2,0.2,b\n2,0.2,b\n2,0.2,b\n3,0.3,c\n3,0.2,c\n3,0.1,c\n"
    (result,) = correlate_table(_write(tmp_path, table), ["x"], "y", pattern="name")
    assert result["spearman"] is None
    assert result["note"].startswith("y is constant")


def test_one_huge_measure_leaves_the_others_apart(tmp_path: Path) -> None:
    table = "x,y\n" + "".join(f"{i if i < 10 else '1e300'},{i * i}\n" for i in range(1, 11))
    (result,) = correlate_table(_write(tmp_path, table), ["x"], "y")
    i = np.arange(1.0, 10)
    left = i**2 - np.polyval(np.polyfit(i, i**2, 1), i)  # the parabola meets the far one and is a line for the others
    assert result["quadratic_r2"] == pytest.approx(1 - left @ left / (10 * np.var(np.append(i, 10) ** 2)))
