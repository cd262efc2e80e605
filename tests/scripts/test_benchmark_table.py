import hashlib
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from analysis.replays.table import read_trained
from search_spaces.budget import log_budget
from search_spaces.errors import InputError
from tests.support.small import ROOT
from tests.support.synthetic_run import make_run
from tests.support.synthetic_table import list_patterns

sys.path.insert(0, str(ROOT / "scripts"))
import benchmark_table

sys.path.pop(0)

CONFIG = {"dataset": "digits", "epochs": 9, "seeds": 2, "seed": 0, "workers": 2, "device": "cpu", "data": "/somewhere"}
PATTERNS = list_patterns(log_budget(4))


def _run(path: Path, places: range, **changes: Any) -> Path:
    proposals = [(None, "random", PATTERNS[place]) for place in places]
    attributes: dict[str, Any] = {"config": CONFIG | changes, "environment": {"device": "a CPU", "commit": "abc"}}
    score = lambda place, seed: (places[place] + seed) / 70 + 1e-9  # noqa: E731
    return make_run(path, proposals, score, (0, 1), **attributes, data={"sha256": "d" * 64})


def _make(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> None:
    monkeypatch.setattr(sys, "argv", ["benchmark_table.py", *map(str, arguments)])
    benchmark_table.main()


def test_two_runs_become_one_table_with_its_provenance(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = _run(tmp_path / "first", range(4))
    second = _run(tmp_path / "second", range(3, 6), seed=1, workers=1)
    file = tmp_path / "table.csv"
    _make(monkeypatch, first, second, "--to", file)
    table = read_trained(file, "loss")
    assert (table.budget, table.seeds) == (log_budget(4), (0, 1))
    expected = {PATTERNS[place].key: round(place / 70 + 1e-9, 6) for place in range(6)}
    keys = [pattern.key for pattern in table.patterns]
    assert dict(zip(keys, table.accuracies[:, 0].tolist(), strict=True)) == expected
    told = json.loads(file.with_suffix(".json").read_text())
    assert told["sha256"] == hashlib.sha256(file.read_bytes()).hexdigest()
    assert (told["trainings"], told["repeated"], told["data"]) == (12, 2, {"sha256": "d" * 64})
    assert told["config"] == {"dataset": "digits", "epochs": 9, "device": "cpu"}
    assert told["environment"]["commit"] == "abc"
    assert "/somewhere" not in file.with_suffix(".json").read_text()


def test_runs_that_trained_otherwise_are_not_mixed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = _run(tmp_path / "first", range(2))
    second = _run(tmp_path / "second", range(2, 4), epochs=3)
    with pytest.raises(InputError, match="were trained differently: epochs"):
        _make(monkeypatch, first, second, "--to", tmp_path / "table.csv")
    assert not (tmp_path / "table.csv").exists()
