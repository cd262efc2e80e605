"""A search seeded with a table: learns from it, counts none of it as its own, and no longer needs the file."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pandas as pd
import pytest

from analysis.data.csv_files import format_table
from analysis.data.results import read_run
from analysis.page.document import Paragraph
from analysis.picks.found import judge_search
from analysis.picks.section import build_picks
from nas.records.database import read_attributes
from nas.search.loop import run_search
from nas.search.space import OpenSpace
from nas.search.strategies.model import N_RETRAINED, ModelStrategy
from nas.search.strategy import Training
from nas.search.stratum import TABLE
from nas.settings.resume import settle_config
from nas.settings.search import SearchConfig
from nas.settings.table import TABLE_COPY
from search_spaces.budget import Budget
from search_spaces.errors import ConflictError, InputError, Interrupted
from search_spaces.pattern import ConnectionPattern
from search_spaces.sampling.draw import sample_uniform
from search_spaces.seeds import derive_generator
from search_spaces.surrogate.earlier import EarlierTraining, average_earlier
from tests.support.driving import FakeTrainer
from tests.support.small import SMALL
from tests.support.synthetic_table import deterministic_accuracies, make_table, write_table

BUDGET = Budget(9, total=18)
FLAGS: dict[str, Any] = {
    **{name: value for name, value in SMALL.items() if name not in ("trials", "seeds", "strategy")},
    "trainings": 12,
    "lookahead": 2,
}


def cost_of(pattern: ConnectionPattern) -> float:
    return int(pattern.key[:6], 16) / 16**6


def draw_earlier(n: int = 20, level: float = 0.0) -> list[EarlierTraining]:
    generator = derive_generator(0, "earlier")
    patterns = {sample_uniform(BUDGET, generator): None for _ in range(n)}
    return [EarlierTraining(pattern, "", seed, cost_of(pattern) + level) for pattern in patterns for seed in range(2)]


def make(level: float = 0.0, seed: int = 1) -> ModelStrategy:
    return ModelStrategy(OpenSpace(BUDGET), seed, earlier=average_earlier(draw_earlier(level=level)))


def run(strategy: ModelStrategy, n: int, n_hidden: int = 0, fails: Sequence[int] = ()) -> list[Training]:
    history = list[Training]()
    for number in range(n):
        shown = hide(history, n_hidden)
        proposal = strategy.propose(shown)
        assert proposal is not None
        state, cost = ("failed", None) if number in fails else ("finished", cost_of(proposal.pattern))
        history.append(Training(proposal.pattern, proposal.seed, cost, state))  # type: ignore[arg-type]
    return history


def hide(history: Sequence[Training], n: int) -> list[Training]:
    n_shown = max(0, len(history) - n)
    return [*history[:n_shown], *(Training(each.pattern, each.seed, None, "pending") for each in history[n_shown:])]


# --- the strategy ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n_hidden", [0, 3])
def test_the_best_of_the_table_come_first_and_nothing_is_asked_for_twice(n_hidden: int) -> None:
    history = run(make(), 14, n_hidden)
    table = {each.pattern for each in draw_earlier()}
    assert {each.pattern for each in history[:N_RETRAINED]} <= table
    best = min(table, key=cost_of)
    assert best in {each.pattern for each in history[:N_RETRAINED]}
    assert any(each.pattern not in table for each in history)
    assert len({(each.pattern, each.seed) for each in history}) == len(history)
    assert all(BUDGET.is_met_by(each.pattern) for each in history)


def test_a_proposal_depends_on_the_history_only_and_not_on_the_level_of_the_table() -> None:
    whole = run(make(), 10, 2)
    elsewhere = make(level=7.5)
    for length in (8, 2, 5):
        shown = hide(whole[:length], 2)
        for strategy in (make(), elsewhere):
            proposal = strategy.propose(shown)
            assert proposal is not None
            assert (proposal.pattern, proposal.seed) == (whole[length].pattern, whole[length].seed)


def test_a_pattern_of_the_table_that_fails_here_is_left_alone() -> None:
    history = run(make(), 10, fails=range(3))
    failed = {each.pattern for each in history[:3]}
    assert failed.isdisjoint(each.pattern for each in history[3:])
    assert len({(each.pattern, each.seed) for each in run(make(), 24, fails=range(24))}) == 24


# --- whole searches ----------------------------------------------------------------------------------------------


@pytest.fixture
def table(tmp_path: Path) -> Path:
    return write_table(tmp_path / "elsewhere" / "before.csv", make_table(deterministic_accuracies(2))[:40])


@pytest.fixture(autouse=True)
def fake(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("nas.search.loop.Trainer", FakeTrainer)
    (tmp_path / "elsewhere").mkdir()


def search(path: Path, table: Path | None = None, **changes: Any) -> None:
    flags = {**FLAGS, **({} if table is None else {"from_table": str(table)}), **changes}
    run_search(path, settle_config(path, None, flags, SearchConfig), lambda *_: None)


def list_trials(path: Path) -> list[tuple[Any, ...]]:
    study = optuna.load_study(study_name="skipsearch", storage=f"sqlite:///{path / 'study.db'}")
    table = read_run(path).candidates
    assert len(study.trials) == len(table)
    return list(table[["key", "seed", "strategy", "validation_loss"]].itertuples(index=False, name=None))


def test_a_table_is_no_training_of_the_run_and_the_report_says_what_it_was(table: Path, tmp_path: Path) -> None:
    path = tmp_path / "run"
    search(path, table)
    trials = list_trials(path)
    assert len(trials) == FLAGS["trainings"]
    keys = set(pd.read_csv(table)["key"])
    assert {strategy for key, _, strategy, _ in trials if key in keys} <= {TABLE, "templates"}
    assert TABLE in {strategy for _, _, strategy, _ in trials}
    sha256 = hashlib.sha256(table.read_bytes()).hexdigest()
    recorded = read_attributes(path / "study.db")["table"]
    assert (recorded["name"], recorded["sha256"], recorded["trainings"], recorded["patterns"]) == (
        *("before.csv", sha256),
        *(40, 20),
    )
    (found,) = judge_search(read_run(path))
    blocks = build_picks([replace(found, basis="unlearned")], "", read_run(path).table)
    said = next(block.text for block in blocks if isinstance(block, Paragraph))
    assert f"seeded with 40 earlier trainings of 20 patterns from before.csv (sha256 {sha256[:12]})" in said
    assert "does not say with which settings" in said
    assert {ranked.key for ranked in found.ranked} == {key for key, *_ in trials}
    assert sum(ranked.n_trainings for ranked in found.ranked) == len(trials)


@pytest.mark.parametrize("after", [1, 5, 9])
def test_a_killed_run_goes_on_as_it_would_have_without_the_file(
    after: int, table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    search(tmp_path / "whole", table)
    n_trained, train_cohort = 0, FakeTrainer.train_cohort

    def interrupt(self: FakeTrainer, jobs: Any, *rest: Any) -> Any:
        nonlocal n_trained
        n_trained += 1
        if n_trained > after:
            raise Interrupted(2)
        return train_cohort(self, jobs, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(FakeTrainer, "train_cohort", interrupt)
        with pytest.raises(Interrupted):
            search(tmp_path / "run", table)
    table.unlink()
    search(tmp_path / "run", table if after == 5 else None)  # the same command, and one without the flag
    assert list_trials(tmp_path / "run") == list_trials(tmp_path / "whole")


def test_a_changed_table_is_refused_and_so_is_one_for_a_run_that_had_none(table: Path, tmp_path: Path) -> None:
    path = tmp_path / "run"
    search(path, table)
    assert (path / TABLE_COPY).read_bytes() == table.read_bytes()
    before = list_trials(path)
    table.write_text(table.read_text() + "\n")
    with pytest.raises(ConflictError, match="begun with a table of sha256"):
        search(path, table, trainings=14)
    search(path)  # the copy is what counts
    assert list_trials(path) == before
    (path / TABLE_COPY).write_bytes(table.read_bytes())
    with pytest.raises(ConflictError, match=TABLE_COPY):
        search(path)
    search(tmp_path / "other")
    with pytest.raises(ConflictError, match="begun with no table"):
        search(tmp_path / "other", table)
    assert not (tmp_path / "other" / TABLE_COPY).exists()


def test_rows_of_other_budgets_are_counted_and_a_table_of_nothing_else_is_refused(table: Path, tmp_path: Path) -> None:
    rows = pd.read_csv(table)
    other = rows.assign(sources=json.dumps([[0], [1], [2]]), layers=3, key="")
    lost = rows.assign(validation_loss=np.nan)[:3]
    pd.concat([rows, other[:5], lost, rows[:2].assign(state="failed")]).to_csv(table, index=False)
    search(tmp_path / "run", table)
    recorded = read_attributes(tmp_path / "run" / "study.db")["table"]
    assert (recorded["trainings"], recorded["other"], recorded["unusable"]) == (40, 5, 3)
    other.to_csv(table, index=False)
    with pytest.raises(InputError, match="40 are of another depth or budget"):
        search(tmp_path / "refused", table)
    assert not (tmp_path / "refused" / "study.db").exists()


def test_a_runs_own_table_says_its_settings(tmp_path: Path) -> None:
    search(tmp_path / "first")
    candidates = tmp_path / "first" / "report" / "candidates.csv"
    candidates.parent.mkdir()
    candidates.write_text(format_table(read_run(tmp_path / "first").candidates))
    search(tmp_path / "second", candidates, lr=0.05)
    assert "lr 0.15 there and 0.05 here" in read_attributes(tmp_path / "second" / "study.db")["table"]["setting"]
    search(tmp_path / "third", candidates)
    assert "settings of this run" in read_attributes(tmp_path / "third" / "study.db")["table"]["setting"]
