import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from analysis.replays.table import describe_provenance, read_exhaustive
from search_spaces.errors import InputError
from tests.support.synthetic_table import BUDGET, list_patterns, make_table, write_table

ACCURACIES = np.random.default_rng(1).uniform(0.4, 0.6, (36, 3)).round(6)


def test_accuracies_by_key_and_seed_whatever_the_order_of_rows(tmp_path: Path) -> None:
    table = make_table(ACCURACIES, seeds=[4, 0, 2]).sample(frac=1, random_state=0)
    result = read_exhaustive(write_table(tmp_path / "table.csv", table))
    assert (result.budget, result.seeds, result.provenance) == (BUDGET, (0, 2, 4), None)
    assert list(result.keys) == [pattern.key for pattern in list_patterns()]
    assert (result.accuracies == ACCURACIES[:, [1, 2, 0]]).all()
    assert len(result.complete) == 108


def _change(table: pd.DataFrame, column: str, rows: slice, value: str | float) -> pd.DataFrame:
    table[column] = table[column].astype(object)
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
        (lambda t: t.iloc[6:], "lacks 2 of the 36 patterns of budget log at 5 layers"),
        (lambda t: t.iloc[1:], "1 of 36 patterns lack some of the 3 seeds;"),
        (lambda t: _change(t, "state", slice(0, 4), "failed"), "lacks 1 of the 36"),
        (lambda t: _change(t, "state", slice(2, 4), "failed"), r"2 of 36 patterns .* 3 seeds \(2 rows are not"),
        (lambda t: _change(t, "state", slice(None), "failed"), "no complete training"),
        (lambda t: _change(t, "seed", FIRST, 7), "lack some of the 4 seeds"),
        (lambda t: _change(t, "seed", FIRST, ""), "without a seed"),
        (lambda t: pd.concat([t, t.iloc[:5]]), "5 trainings of a pattern and seed"),
        (lambda t: _change(t, "budget", FIRST, "total:9"), "several values of budget"),
        (lambda t: _change(t, "budget", slice(None), "total:9"), "is not a pattern of budget total:9"),
        (lambda t: _change(t, "budget", slice(None), ""), "does not say the budget"),
        (lambda t: _change(t, "budget", slice(None), "log;max-out:4"), "caps leave no closed form|is not a pattern"),
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
    with pytest.raises(InputError, match=words):
        read_exhaustive(path)


def test_no_table(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no table at"):
        read_exhaustive(tmp_path / "none.csv")


def test_provenance_is_read_and_its_hash_checked(tmp_path: Path) -> None:
    path = write_table(tmp_path / "table.csv", make_table(ACCURACIES))
    config = {"dataset": "digits", "epochs": 9, "train_examples": None}
    provenance = {"config": config, "environment": {"commit": "a" * 40}}
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    beside = path.with_suffix(".json")
    beside.write_text(json.dumps(provenance | {"sha256": sha256}))
    result = read_exhaustive(path).provenance
    assert result is not None
    assert describe_provenance(result) == f"digits, epochs 9, commit {'a' * 12}"
    beside.write_text(json.dumps(provenance | {"sha256": "0" * 64}))
    with pytest.raises(InputError, match="a table of 000000000000"):
        read_exhaustive(path)
    beside.write_text("[]")
    with pytest.raises(InputError, match="not a JSON object"):
        read_exhaustive(path)
    beside.write_text("{")
    with pytest.raises(InputError, match="is not JSON"):
        read_exhaustive(path)
