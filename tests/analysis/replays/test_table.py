import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from analysis.replays.table import JudgedBy, describe_provenance, read_trained
from search_spaces.errors import InputError
from tests.support.synthetic_table import BUDGET, list_patterns, make_table, write_table

ACCURACIES = np.random.default_rng(1).uniform(0.4, 0.6, (36, 3)).round(6)


def test_outcomes_by_key_and_seed_whatever_the_order_of_rows(tmp_path: Path) -> None:
    table = make_table(ACCURACIES, seeds=[4, 0, 2]).sample(frac=1, random_state=0)
    result = read_trained(write_table(tmp_path / "table.csv", table), "loss")
    assert (result.budget, result.seeds, result.provenance) == (BUDGET, (0, 2, 4), None)
    assert list(result.patterns) == list_patterns()
    assert (result.accuracies == ACCURACIES[:, [1, 2, 0]]).all()
    assert result.list_judged("loss") == pytest.approx(-result.accuracies)
    assert (result.list_costs("loss") == result.list_judged("loss")).all()
    assert result.list_judged("accuracy") == pytest.approx(1 - result.accuracies)
    assert result.is_exhaustive
    assert result.is_uniform.all()
    assert not result.is_wide.any()
    assert result.list_named() == []


def test_a_sampled_table_says_what_was_drawn_how(tmp_path: Path) -> None:
    table = make_table(ACCURACIES).iloc[: 3 * 30]
    table["strategy"] = np.repeat(["random", "random:wide", "near", "templates"], [30, 30, 21, 9])
    table["template"] = [pd.NA] * 81 + ["geometric"] * 3 + ["mine.json"] * 3 + ["log"] * 3
    result = read_trained(write_table(tmp_path / "table.csv", table.sample(frac=1, random_state=1)), "loss")
    assert not result.is_exhaustive
    assert np.flatnonzero(result.is_uniform).tolist() == list(range(10))
    assert np.flatnonzero(result.is_wide).tolist() == list(range(10, 20))
    assert result.templates[27:] == ("geometric", "mine.json", "log")
    assert result.list_named() == [29, 27]  # as a search trains them: the templates, then the families
    assert list(result.patterns) == list_patterns()[:30]


def test_a_share_of_errors_has_a_logarithm_where_there_are_none(tmp_path: Path) -> None:
    path = write_table(tmp_path / "table.csv", make_table(np.ones((36, 2))))
    assert read_trained(path, "accuracy").list_costs("accuracy") == pytest.approx(np.full((36, 2), np.log(0.5 / 1000)))
    path.with_suffix(".json").write_text(json.dumps({"data": {"n_validation": 200}}))
    assert read_trained(path, "accuracy").list_costs("accuracy") == pytest.approx(np.full((36, 2), np.log(0.5 / 200)))


def _change(table: pd.DataFrame, column: str, rows: slice, value: str | float) -> pd.DataFrame:
    table[column] = table[column].astype(object) if column in table else ""
    table.loc[table.index[rows], column] = value
    return table


FIRST = slice(0, 1)
OTHER = json.dumps([list(inputs) for inputs in list_patterns()[5].sources])


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda t: t.drop(columns="state"), "lacks the columns state"),
        (lambda t: t.drop(columns="sources"), "not a list of each layer's inputs"),
        (lambda t: t.drop(columns="validation_accuracy"), "share of 1"),
        (lambda t: t.drop(columns="validation_loss"), "above 0"),
        (lambda t: t.iloc[1:], "1 of 36 patterns lack some of the 3 seeds;"),
        (lambda t: _change(t, "strategy", FIRST, "near"), "several strategies"),
        (lambda t: _change(t, "template", FIRST, "log"), "several strategies or templates"),
        (lambda t: _change(t, "strategy", slice(0, 3), ""), "without a strategy"),
        (lambda t: _change(t, "validation_loss", FIRST, 0.0), "above 0"),
        (lambda t: _change(t, "validation_loss", FIRST, ""), "above 0"),
        (lambda t: _change(t, "state", slice(2, 4), "failed"), r"2 of 36 patterns .* 3 seeds \(2 rows are not"),
        (lambda t: _change(t, "state", slice(None), "failed"), "no complete training"),
        (lambda t: _change(t, "seed", FIRST, 7), "lack some of the 4 seeds"),
        (lambda t: _change(t, "seed", FIRST, ""), "without a seed"),
        (lambda t: pd.concat([t, t.iloc[:5]]), "5 trainings of a pattern and seed"),
        (lambda t: _change(t, "budget", FIRST, "total:9"), "several values of budget"),
        (lambda t: _change(t, "budget", slice(None), "total:9"), "is not a pattern of budget total:9"),
        (lambda t: _change(t, "budget", slice(None), ""), "does not say the budget"),
        (lambda t: _change(t, "budget", slice(None), "log;max-out:4"), "is not a pattern of budget log;max-out:4"),
        (lambda t: _change(t, "layers", FIRST, 6), "several values of layers"),
        (lambda t: t.assign(regime=["a", "b"] * 54), "several values of regime"),
        (lambda t: _change(t, "sources", slice(0, 3), OTHER), "has the key"),
        (lambda t: _change(t, "sources", slice(0, 3), "[[0],[0]]"), "not a connection pattern"),
        (lambda t: _change(t, "sources", slice(0, 3), "7"), "not a list of each layer's inputs"),
        (lambda t: _change(t, "sources", slice(0, 3), "[" * 9000), "not a list of each layer's inputs"),
        (lambda t: _change(t, "validation_accuracy", FIRST, 60.0), "share of 1"),
        (lambda t: _change(t, "validation_accuracy", FIRST, ""), "share of 1"),
    ],
)
def test_bad_tables_are_refused_with_the_reason(
    damage: Callable[[pd.DataFrame], pd.DataFrame], words: str, tmp_path: Path
) -> None:
    path = write_table(tmp_path / "table.csv", damage(make_table(ACCURACIES)))
    objective: JudgedBy = "accuracy" if "share" in words else "loss"
    with pytest.raises(InputError, match=words):
        read_trained(path, objective)


def test_an_outcome_that_is_not_asked_for_may_be_missing(tmp_path: Path) -> None:
    path = write_table(tmp_path / "table.csv", make_table(ACCURACIES).drop(columns="validation_loss"))
    assert (read_trained(path, "accuracy").accuracies == ACCURACIES).all()
    path = write_table(tmp_path / "table.csv", make_table(ACCURACIES).drop(columns="validation_accuracy"))
    assert read_trained(path, "loss").list_costs("loss") == pytest.approx(-ACCURACIES)


def test_no_table(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no table at"):
        read_trained(tmp_path / "none.csv", "loss")


def test_provenance_is_read_and_its_hash_checked(tmp_path: Path) -> None:
    path = write_table(tmp_path / "table.csv", make_table(ACCURACIES))
    config = {"dataset": "digits", "epochs": 9, "train_examples": None}
    provenance = {"config": config, "environment": {"commit": "a" * 40}}
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    beside = path.with_suffix(".json")
    beside.write_text(json.dumps(provenance | {"sha256": sha256}))
    result = read_trained(path, "loss").provenance
    assert result is not None
    assert describe_provenance(result) == f"digits, epochs 9, commit {'a' * 12}"
    beside.write_text(json.dumps(provenance | {"sha256": "0" * 64}))
    with pytest.raises(InputError, match="a table of 000000000000"):
        read_trained(path, "loss")
    beside.write_text("[]")
    with pytest.raises(InputError, match="not a JSON object"):
        read_trained(path, "loss")
    beside.write_text("{")
    with pytest.raises(InputError, match="is not JSON"):
        read_trained(path, "loss")
