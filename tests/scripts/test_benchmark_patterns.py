"""The patterns of a benchmark table that no strategy draws."""

import sys
from pathlib import Path

import pytest

from nas.records.template import read_pattern
from search_spaces.budget import Budget, log_budget
from search_spaces.errors import InputError
from search_spaces.pattern import ConnectionPattern
from search_spaces.sampling.draw import sample_uniform
from search_spaces.seeds import derive_generator
from tests.support.small import ROOT
from tests.support.synthetic_run import make_run

sys.path.insert(0, str(ROOT / "scripts"))
import benchmark_patterns

sys.path.pop(0)

PATTERNS = [sample_uniform(log_budget(9), derive_generator("trained", number)) for number in range(14)]


def _make(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> None:
    monkeypatch.setattr(sys, "argv", ["benchmark_patterns.py", *map(str, arguments)])
    benchmark_patterns.main()


def _read(folder: Path, kind: str) -> list[ConnectionPattern]:
    files = sorted(folder.iterdir())
    assert [file.name for file in files] == [f"{kind}-{number:03d}.json" for number in range(len(files))]
    return [read_pattern(file) for file in files]


def test_spread_patterns_are_written_as_template_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _make(monkeypatch, "--layers", 9, "--budget", "total:18", "--count", 20, "--to", tmp_path / "first")
    _make(monkeypatch, "--layers", 9, "--budget", "total:18", "--count", 20, "--to", tmp_path / "again")
    patterns = _read(tmp_path / "first", "spread")
    assert 15 <= len(patterns) <= 20
    assert len(set(patterns)) == len(patterns)
    assert all(map(Budget(9, total=18).is_met_by, patterns))
    assert _read(tmp_path / "again", "spread") == patterns


def test_neighbours_are_those_of_the_least_losses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of two runs, in which ten patterns are better than four; the first of all has one training only, a lucky one."""
    proposals = [(None, "random", pattern) for pattern in PATTERNS]
    lucky = make_run(tmp_path / "lucky", proposals[:1], lambda place, seed: 0.99, (0,))  # noqa: ARG005
    run = make_run(tmp_path / "run", proposals[1:], lambda place, seed: (90 - (place + 1) % 13 - seed) / 100, (0, 1))
    _make(monkeypatch, lucky, run, "--count", 25, "--to", tmp_path / "to")
    patterns = _read(tmp_path / "to", "neighbour")
    assert len(set(patterns)) == 25
    assert not set(patterns) & set(PATTERNS)
    parents = set()
    for number, pattern in enumerate(patterns):
        moved = [len(set(pattern.connections) - set(other.connections)) for other in PATTERNS]
        assert 1 <= min(moved) <= 4
        parents.add((number % 10, moved.index(min(moved))))
    best = [13, *range(1, 10)]  # (place + 1) % 13 rises in this order
    assert parents == set(enumerate(best))


def test_runs_of_several_budgets_have_no_common_neighbours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = sample_uniform(Budget(9, total=18), derive_generator(0))
    proposals = [(None, "random", PATTERNS[0]), (None, "random", other)]
    run = make_run(tmp_path / "run", proposals, lambda place, seed: 0.5, budgets=("log", "total:18"))  # noqa: ARG005
    with pytest.raises(InputError, match="at 2 budgets"):
        _make(monkeypatch, run, "--to", tmp_path / "to")
