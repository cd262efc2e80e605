import json
import math
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import optuna
import pandas as pd
import pytest

from analysis.data.averages import average_curves, average_patterns
from analysis.data.csv_files import read_table
from analysis.data.results import COLUMNS, read_run
from analysis.picks.order import summarise_status
from search_spaces.distance import describe
from search_spaces.errors import ConflictError, InputError
from search_spaces.pattern import ConnectionPattern
from tests.support.measured import SECOND
from tests.support.synthetic_run import make_run, propose, weigh_by


def test_candidates_hold_what_the_study_holds(tmp_path: Path) -> None:
    proposals = propose(3, ["log"])
    scores: dict[tuple[int, int], float | str | None] = {(0, 0): 0.5, (0, 1): "exploded", (1, 0): None}
    run = read_run(make_run(tmp_path / "run", proposals, lambda p, s: scores.get((p, s), 0.25), asked=9))
    table = run.candidates
    assert list(table.columns) == list(COLUMNS)
    assert table["state"].tolist() == ["complete", "failed", "running", *["complete"] * 5]
    assert table.loc[1, "error"] == "exploded"
    assert table["validation_accuracy"].isna().tolist() == [False, True, True, *[False] * 5]
    assert table.loc[0, "validation_loss"] == 1.0
    assert table["template"].isna().tolist() == [False, False, *[True] * 6]
    for number, row in table.iterrows():
        pattern = proposals[int(str(number)) // 2][2]
        assert {name: row[name] for name in describe(pattern)} == describe(pattern)
        assert json.loads(row["sources"]) == [list(inputs) for inputs in pattern.sources]
    assert (run.asked, run.config, run.environment, run.data) == (9, {}, {}, {})


def test_curves_are_long_and_averaged_over_complete_candidates(tmp_path: Path) -> None:
    proposals = propose(1)
    scores: list[float | str] = [0.5, 0.7, "no"]
    run = read_run(make_run(tmp_path / "run", proposals, lambda _p, s: scores[s], seeds=(0, 1, 2)))
    assert len(run.curves) == 4 + 4 + 1
    means = average_curves(run.candidates, run.curves).set_index(["epoch", "metric"])["value"]
    assert means[2, "validation_accuracy"] == pytest.approx(0.6)
    assert means[1, "train_loss"] == 2.0


def test_missing_and_foreign_ledgers_are_refused_and_left_alone(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no run directory"):
        read_run(tmp_path / "absent")
    with pytest.raises(InputError, match=r"has no study\.db"):
        read_run(tmp_path)
    assert list(tmp_path.iterdir()) == []
    ledger = tmp_path / "study.db"
    ledger.write_text("no database " * 100)
    with pytest.raises(ConflictError, match="file is not a database"):
        read_run(tmp_path)
    ledger.unlink()
    with closing(sqlite3.connect(ledger)) as connection:
        connection.execute("CREATE TABLE other (a)")
        connection.commit()
    before = ledger.read_bytes()
    with pytest.raises(ConflictError, match="holds no study of a run"):
        read_run(tmp_path)
    assert ledger.read_bytes() == before
    ledger.unlink()
    optuna.create_study(storage=f"sqlite:///{ledger}", study_name="another")
    with pytest.raises(ConflictError, match="holds no study of a run"):
        read_run(tmp_path)


def test_an_empty_study_has_the_columns_and_no_best(tmp_path: Path) -> None:
    run = read_run(make_run(tmp_path / "run", [], lambda _p, _s: 0.5))
    assert list(run.candidates.columns) == list(COLUMNS)
    status = summarise_status(run)
    assert status["best"] is None
    assert status["patterns"] == 0


WALKED = ("walk_length", "visit_evenness", "ntk_trace")


@pytest.mark.parametrize(("config", "reads"), [({}, (1, 5, 7, 8)), ({"transition": "last"}, (8,))])
def test_a_run_that_recorded_no_walks_has_those_of_its_connections(
    tmp_path: Path, config: dict[str, str], reads: tuple[int, ...]
) -> None:
    proposals = propose(2, ["log"])
    run = read_run(make_run(tmp_path / "run", proposals, lambda _p, _s: 0.5, config=config))
    for number, row in run.candidates.iterrows():
        expected = {name: SECOND[name](proposals[int(str(number)) // 2][2], reads) for name in WALKED}
        assert {name: row[name] for name in WALKED} == pytest.approx(expected)
    means = average_patterns(run.candidates).set_index("key")
    assert means.loc[proposals[0][2].key, "walk_length"] == pytest.approx(SECOND["walk_length"](proposals[0][2], reads))


@pytest.mark.parametrize("config", [{"networks": "log"}, {"transition": "rule"}])
def test_walks_are_missing_or_refused_where_what_the_classifier_reads_is_not_known(
    tmp_path: Path, config: dict[str, Any]
) -> None:
    run = make_run(tmp_path / "run", propose(1), lambda _p, _s: 0.5, config=config, asked=1)
    if "transition" in config:
        with pytest.raises(InputError, match="no named template"):
            read_run(run)
    else:
        _set_fact(run, "walk_length", 2.5)
        table = read_run(run).candidates
        assert table["walk_length"].tolist() == [2.5, 2.5]
        assert table["ntk_trace"].isna().all()


def test_a_recorded_walk_that_the_connections_do_not_give_is_refused(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", propose(1), lambda _p, _s: 0.5)
    _set_fact(run, "visit_evenness", 1.25)
    with pytest.raises(InputError, match=r"records visit_evenness 1\.25"):
        read_run(run)


def test_a_table_without_walks_gets_them_from_its_sources(tmp_path: Path) -> None:
    proposals = propose(3)
    table = read_run(make_run(tmp_path / "run", proposals, lambda _p, _s: 0.5)).candidates
    path = tmp_path / "table.csv"
    lacking = table.drop(columns=["walk_length", "ntk_trace"])
    lacking.loc[1:, "visit_evenness"] = math.nan
    lacking.loc[0, "visit_evenness"] = 9.0
    lacking.to_csv(path, index=False)
    again = read_table(path)
    pd.testing.assert_series_equal(again["walk_length"], table["walk_length"])
    pd.testing.assert_series_equal(again["ntk_trace"], table["ntk_trace"])
    assert again["visit_evenness"].tolist() == pytest.approx([9.0, *table["visit_evenness"][1:]])
    spoilt = table.drop(columns=list(WALKED)).assign(sources=["", "[", "7", "[[1]]", "[[0], [0]]", "null"])
    spoilt.to_csv(path, index=False)
    assert read_table(path)["walk_length"].isna().all()


def _set_fact(run: Path, name: str, value: float) -> None:
    """Give every trial of a run one more attribute, as the first schema has its facts."""
    with closing(sqlite3.connect(run / "study.db")) as connection:
        trials = connection.execute("SELECT trial_id FROM trials").fetchall()
        rows = [(trial, name, json.dumps(value)) for (trial,) in trials]
        connection.executemany("INSERT INTO trial_user_attributes (trial_id, key, value_json) VALUES (?, ?, ?)", rows)
        connection.commit()


def _edit(run: Path, sql: str) -> None:
    with closing(sqlite3.connect(run / "study.db")) as connection:
        assert connection.execute(sql).rowcount > 0
        connection.commit()


@pytest.mark.parametrize(
    ("sql", "message"),
    [
        ("UPDATE trial_params SET param_value = 1.5 WHERE param_name = 'mean_bd'", "records mean_bd 1.5"),
        ("UPDATE trial_user_attributes SET value_json = '\"00\"' WHERE key = 'key'", "records key 00"),
        ("DELETE FROM trial_user_attributes WHERE key = 'sources'", "has no connections"),
        ("UPDATE trial_user_attributes SET value_json = '[[0], [0]]' WHERE key = 'sources'", "chain is mandatory"),
    ],
)
def test_a_record_that_contradicts_networkx_raises(tmp_path: Path, sql: str, message: str) -> None:
    run = make_run(tmp_path / "run", propose(1), lambda _p, _s: 0.5)
    _edit(run, sql)
    with pytest.raises(InputError, match=message):
        read_run(run)


def test_strengths_are_read_by_number_and_stay_out_of_the_table(tmp_path: Path) -> None:
    proposals, weigh = propose(2), weigh_by(-0.1, n_blocks=2)
    scores: dict[tuple[int, int], str | None] = {(0, 1): "no", (1, 0): None}
    run = read_run(make_run(tmp_path / "run", proposals, lambda p, s: scores.get((p, s), 0.5), weigh=weigh))
    expected = {number: tuple(map(tuple, weigh(proposals[number // 2][2], number % 2))) for number in (0, 3)}
    assert run.strengths == expected
    assert len(run.strengths[0]) == 2
    assert list(run.candidates.columns) == list(COLUMNS)
    assert (
        not run.candidates.astype(str).apply(lambda column: column.str.contains(str(expected[0][0][1]))).any(axis=None)
    )


def test_runs_without_strengths_are_read_as_they_were(tmp_path: Path) -> None:
    older = read_run(make_run(tmp_path / "older", propose(2), lambda _p, _s: 0.5))
    large = read_run(make_run(tmp_path / "large", propose(2), lambda _p, _s: 0.5, weigh=lambda _pattern, _seed: []))
    assert older.strengths == large.strengths == {}
    pd.testing.assert_frame_equal(older.candidates, large.candidates)


@pytest.mark.parametrize(
    "strengths",
    [
        "3", '"0.1"', "{}", "true", "[1.0]", "[{}]", '["111"]', "[[]]", "[[1, 1]]", "[[1, 1, 1], [1, 1]]",
        "[[1, 1, -1]]", "[[1, 1, NaN]]", "[[1, 1, Infinity]]", '[[1, 1, "1"]]', "[[1, 1, true]]", "[[1, 1, null]]",
        "[[1, 1, [1]]]", f"[[1, 1, {'9' * 400}]]",
    ],
)  # fmt: skip
def test_strengths_that_are_not_the_patterns_are_refused(tmp_path: Path, strengths: str) -> None:
    pattern = ConnectionPattern(2, ((0,), (0, 1)))
    proposals = [(None, "random", pattern)]
    run = make_run(tmp_path / "run", proposals, lambda _p, _s: 0.5, (0,), weigh=lambda _pattern, _seed: [[1.0, 2, 3]])
    assert read_run(run).strengths == {0: ((1.0, 2.0, 3.0),)}
    change = f"value_json = replace(value_json, '[[1.0, 2, 3]]', '{strengths}')"
    _edit(run, f"UPDATE trial_user_attributes SET {change} WHERE key = 'outcome'")  # noqa: S608 - our own text
    with pytest.raises(InputError, match=r"trial 0 records strengths .*, but its pattern has 3 connections"):
        read_run(run)


def test_kept_shares_are_read_by_number_and_refused_where_they_are_not_the_patterns(tmp_path: Path) -> None:
    proposals = [(None, "random", ConnectionPattern(2, ((0,), (0, 1))))]
    run = make_run(tmp_path / "run", proposals, lambda _p, _s: 0.5, (0,), keep=lambda _pattern, _seed: [[1.0, 0.5, 0]])
    assert (read_run(run).kept, read_run(run).strengths) == ({0: ((1.0, 0.5, 0.0),)}, {})
    change = "value_json = replace(value_json, '[[1.0, 0.5, 0]]', '[[1.0]]')"
    _edit(run, f"UPDATE trial_user_attributes SET {change} WHERE key = 'outcome'")  # noqa: S608 - our own text
    with pytest.raises(InputError, match=r"trial 0 records kept .*, but its pattern has 3 connections"):
        read_run(run)


def test_a_table_survives_the_round_trip_with_awkward_names(tmp_path: Path) -> None:
    names = ["None", "NA", "null", 'a,"b', None]
    proposals = [(name, "templates", pattern) for name, (_, _, pattern) in zip(names, propose(5), strict=True)]
    run = read_run(make_run(tmp_path / "run", proposals, lambda p, _s: 0.1 * p))
    path = tmp_path / "table.csv"
    run.candidates.to_csv(path, index=False)
    pd.testing.assert_frame_equal(read_table(path), run.candidates)


def test_bins_of_distance_and_span_in_an_older_table_are_a_cell(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", propose(3), lambda *_: 0.5)
    table = read_run(run).candidates.drop(columns="cell")
    n_rows = len(table)
    table["distance_bin"] = pd.array([2, 0, *[pd.NA] * (n_rows - 2)], dtype="Int64")
    table["span_bin"] = pd.array([1, pd.NA, *[pd.NA] * (n_rows - 2)], dtype="Int64")
    table.to_csv(tmp_path / "older.csv", index=False)
    read = read_table(tmp_path / "older.csv")
    assert read["cell"].iloc[0] == "2,1"
    assert read["cell"].iloc[1:].isna().all()
    assert "distance_bin" not in read


def test_a_table_without_what_statistics_need_is_refused(tmp_path: Path) -> None:
    table = read_run(make_run(tmp_path / "run", propose(1), lambda _p, _s: 0.5)).candidates
    path = tmp_path / "table.csv"
    for absent, message in [
        (["mean_bd", "seed"], "seed, mean_bd"),
        (["validation_loss", "validation_accuracy"], "validation_loss or"),
    ]:
        table.drop(columns=absent).to_csv(path, index=False)
        with pytest.raises(InputError, match=message):
            read_table(path)
    table.drop(columns=["params", "error"]).to_csv(path, index=False)
    assert read_table(path)["params"].isna().all()
    table.assign(span="wide").to_csv(path, index=False)
    with pytest.raises(InputError, match="column span"):
        read_table(path)
    table.assign(span=float("inf")).to_csv(path, index=False)
    with pytest.raises(InputError, match="infinite"):
        read_table(path)
    table.assign(state="COMPLETE").to_csv(path, index=False)
    with pytest.raises(InputError, match="state is COMPLETE"):
        read_table(path)
    with pytest.raises(InputError, match="no table at"):
        read_table(tmp_path / "absent.csv")
    path.write_text("")
    with pytest.raises(InputError, match="not a CSV"):
        read_table(path)


def test_one_lucky_seed_does_not_outrank_an_average(tmp_path: Path) -> None:
    scores: dict[tuple[int, int], float | str] = {
        (0, 0): 0.99,
        (0, 1): "no",
        (1, 0): 0.5,
        (1, 1): 0.7,
        (2, 0): 0.7,
        (2, 1): 0.7,
    }
    proposals = propose(3)
    run = read_run(make_run(tmp_path / "run", proposals, lambda p, s: scores[p, s]))
    patterns = average_patterns(run.candidates)
    keys = [pattern.key for _, _, pattern in proposals]
    assert patterns["key"].tolist() == [keys[2], keys[1], keys[0]]
    assert patterns["all_seeds"].tolist() == [True, True, False]
    assert patterns["validation_accuracy"].tolist() == pytest.approx([0.7, 0.6, 0.99])
    assert patterns["validation_accuracy_sd"].iloc[1] == pytest.approx(0.1 * 2**0.5)
    # Seed means over the two full patterns are 0.6 and 0.7.
    assert patterns["validation_accuracy_centred"].tolist() == pytest.approx([0.05, -0.05, 0.39])
    # Of (0.1, 0) and (-0.1, 0); one seed has none.
    assert patterns["validation_accuracy_centred_sd"].tolist()[:2] == pytest.approx([0.1 / 2**0.5] * 2)
    assert patterns["validation_accuracy_centred_sd"].isna().tolist() == [False, False, True]
    assert summarise_status(run) == {
        "complete": 5,
        "failed": 1,
        "pruned": 0,
        "running": 0,
        "asked": None,
        "patterns": 3,
        "best": {
            "key": keys[2],
            "mean_bd": describe(proposals[2][2])["mean_bd"],
            "value": pytest.approx(0.7),
            "objective": "accuracy",
            "n_trainings": 2,
            **dict.fromkeys(("expected", "interval", "chance_better_than_log")),
        },
    }
    json.dumps(summarise_status(run))


def test_one_pattern_under_two_budgets_is_two_rows(tmp_path: Path) -> None:
    table = read_run(make_run(tmp_path / "run", propose(2), lambda _p, _s: 0.5)).candidates
    other = table.assign(budget="total:21", validation_accuracy=0.9)
    patterns = average_patterns(pd.concat([table, other], ignore_index=True))
    assert patterns["validation_accuracy"].tolist() == pytest.approx([0.9, 0.9, 0.5, 0.5])
    assert patterns["validation_accuracy_centred"].tolist() == pytest.approx([0.0] * 4)
