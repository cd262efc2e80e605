"""The loop: an interrupted run ends with what an uninterrupted one would hold."""

from pathlib import Path
from typing import Any

import optuna
import pytest
from conftest import SMALL

from nas.config import Candidate, SearchConfig, format_toml
from nas.data import DataSet
from nas.ledger import STUDY_NAME, Ledger
from nas.readers import load_data
from nas.run_directory import settle_config
from nas.search import Search, count_asked, run_search
from nas.train import Outcome
from search_spaces.errors import ConflictError, InputError

NAMED = ["log", "nearest_log_i", "evenly_log_i", "greedy", "annealed"]
DIGITS = load_data("digits", None)


def _search(path: Path, config: SearchConfig, data: DataSet = DIGITS) -> Search:
    return Search(config, data, Ledger(path, {}, frozenset()), lambda *_: None)


def _outcome(candidate: Candidate) -> Outcome:
    """Made up, but fixed by the candidate."""
    return Outcome(int(candidate.pattern.key[:4], 16) / 2**16, 1.0 + candidate.seed, 1, 0.0)


def _trials(path: Path) -> dict[tuple[str, int], tuple[str, float | None]]:
    study = optuna.load_study(study_name=STUDY_NAME, storage=f"sqlite:///{path}")
    return {(t.user_attrs["key"], t.user_attrs["seed"]): (t.state.name, t.value) for t in study.trials}


def _finish(search: Search) -> int:
    n_trained = 0
    while (task := search.ask()) is not None:
        search.tell(task[0], _outcome(task[1]))
        n_trained += 1
    return n_trained


def test_templates_come_first_then_proposals_each_with_every_seed(tmp_path: Path) -> None:
    search = _search(tmp_path / "study.db", SearchConfig(**SMALL))
    plan = []
    while (task := search.ask()) is not None:
        plan.append((task[1].template, task[1].pattern.key, task[1].seed))
        search.tell(task[0], _outcome(task[1]))
    assert [name for name, _, _ in plan] == [*(name for name in NAMED for _ in range(2)), None, None, None, None]
    assert [seed for _, _, seed in plan] == [0, 1] * 7
    assert len({key for _, key, _ in plan}) == 7


@pytest.mark.parametrize("n_before", (0, 3, 8, 14))
def test_interrupted_anywhere_the_final_set_is_the_same(tmp_path: Path, n_before: int) -> None:
    """Two candidates at a time, as with two workers; the older one is lost, the younger one finished."""
    config = SearchConfig(**SMALL)
    whole, cut = tmp_path / "whole.db", tmp_path / "cut.db"
    assert _finish(_search(whole, config)) == count_asked(config) == 14
    search = _search(cut, config)
    for _ in range(n_before):
        task = search.ask()
        assert task is not None
        search.tell(task[0], _outcome(task[1]))
    lost = [search.ask(), search.ask()]
    if lost[1] is not None:
        search.tell(lost[1][0], _outcome(lost[1][1]))
    resumed = _search(cut, config)
    assert resumed.n_finished == min(n_before + (lost[1] is not None), 14)
    _finish(resumed)
    assert _trials(cut) == _trials(whole)


def test_more_trials_or_seeds_extend_a_run(tmp_path: Path) -> None:
    path = tmp_path / "study.db"
    small = SearchConfig(**SMALL)
    assert _finish(_search(path, small)) == 14
    large = small.model_copy(update={"trials": 4, "seeds": 3})
    assert _finish(_search(path, large)) == count_asked(large) - 14 == 13
    direct = tmp_path / "direct.db"
    _finish(_search(direct, large))
    assert _trials(path) == _trials(direct)


def test_a_failed_candidate_counts_as_finished_and_is_not_trained_again(tmp_path: Path) -> None:
    path = tmp_path / "study.db"
    search = _search(path, SearchConfig(**SMALL))
    task = search.ask()
    assert task is not None
    search.tell(task[0], Outcome(None, None, 0, 0.0, (), "training loss not finite at step 3 of 8"))
    assert _finish(_search(path, SearchConfig(**SMALL))) == 13


def test_the_strategy_templates_trains_templates_alone(tmp_path: Path) -> None:
    config = SearchConfig(**{**SMALL, "strategy": "templates"})
    assert count_asked(config) == 10
    search = _search(tmp_path / "study.db", config)
    names = []
    while (task := search.ask()) is not None:
        names.append(task[1].template)
        search.tell(task[0], _outcome(task[1]))
    assert names == [name for name in NAMED for _ in range(2)]
    with pytest.raises(InputError, match="no named template spends budget total:7"):
        count_asked(SearchConfig(layers=5, budget="total:7", strategy="templates"))


def test_a_space_too_small_for_the_trials_is_refused() -> None:
    with pytest.raises(InputError, match="has 31 patterns of 5 layers beside the named templates"):
        count_asked(SearchConfig(layers=5, trials=32))
    assert count_asked(SearchConfig(layers=5, trials=31, seeds=1)) == 36


def test_a_run_keeps_its_settings(tmp_path: Path) -> None:
    config = settle_config(tmp_path, None, SMALL, SearchConfig)
    (tmp_path / "config.toml").write_text(format_toml(config))
    assert settle_config(tmp_path, None, {}, SearchConfig) == config
    assert settle_config(tmp_path, None, {"trials": 9, "workers": 2}, SearchConfig).trials == 9
    changes: list[dict[str, Any]] = [{"layers": 6}, {"seed": 1}, {"lr": 0.1}, {"budget": "total:8"}]
    for change in changes:
        (name,) = change
        with pytest.raises(ConflictError, match=f"{name} .* there, .* now"):
            settle_config(tmp_path, None, change, SearchConfig)


def test_a_whole_search_trains_and_a_second_call_has_nothing_to_do(tmp_path: Path, small_config: SearchConfig) -> None:
    calls: list[tuple[int, int]] = []

    def listen(candidate: Candidate | None, outcome: Outcome | None, n_finished: int, n_asked: int) -> None:
        assert (candidate is None) == (outcome is None)
        calls.append((n_finished, n_asked))

    run_search(tmp_path / "run", small_config, listen)
    assert calls == [(n, 14) for n in range(15)]
    values = _trials(tmp_path / "run" / "study.db")
    assert {state for state, _ in values.values()} == {"COMPLETE"}
    calls.clear()
    run_search(tmp_path / "run", small_config, listen)
    assert calls == [(14, 14)]
    assert _trials(tmp_path / "run" / "study.db") == values
    run_search(tmp_path / "again", small_config, lambda *_: None)
    assert _trials(tmp_path / "again" / "study.db") == values
