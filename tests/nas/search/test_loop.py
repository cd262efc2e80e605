"""The loop: an interrupted run ends with what an uninterrupted one would hold."""

import copy
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.storages import InMemoryStorage

from nas.records.database import STUDY_NAME
from nas.records.metrics import image_metrics
from nas.records.trial import Outcome, Trial
from nas.run.directory import execute
from nas.run.ledger import Ledger
from nas.search.loop import Search, count_asked, run_search
from nas.settings.resume import settle_config
from nas.settings.search import SearchConfig
from nas.settings.toml import format_toml
from nas.training.checkpoints import slot_path
from nas.workers.jobs import Job
from nas.workers.stop import StopFlag
from nas.workers.trainer import Trainer
from search_spaces.errors import ConflictError, InputError, Interrupted
from tests.support.memory_search import (
    DIGITS,
    MemoryLedger,
    make_accuracy,
    new_storage,
    open_search,
    survive,
    train_all,
    train_to_rung,
    trials_in,
)
from tests.support.small import SMALL

NAMED = ["log", "nearest_log_i", "evenly_log_i", "greedy", "annealed", "shortest_walk", "geometric"]


def _trials(path: Path) -> dict[tuple[str, int], tuple[str, float | None]]:
    study = optuna.load_study(study_name=STUDY_NAME, storage=f"sqlite:///{path}")
    return {
        (t.user_attrs["~candidate"]["key"], t.user_attrs["~candidate"]["seed"]): (t.state.name, t.value)
        for t in study.trials
    }


def _results_in(storage: InMemoryStorage) -> dict[tuple[str, int], tuple[str, float | None]]:
    return {
        (one.user_attrs["~candidate"]["key"], one.user_attrs["~candidate"]["seed"]): (one.state.name, one.value)
        for one in trials_in(storage)
    }


def test_templates_come_first_then_proposals_each_with_every_seed() -> None:
    jobs = train_all(open_search(new_storage(), SearchConfig(**SMALL)))
    plan = [(job.candidate.template, job.candidate.pattern.key, job.candidate.seed) for job in jobs]
    assert [name for name, _, _ in plan] == [*(name for name in NAMED for _ in range(2)), None, None, None, None]
    assert [seed for _, _, seed in plan] == [0, 1] * 9
    assert len({key for _, key, _ in plan}) == 9


@pytest.mark.parametrize("n_before", (0, 3, 8, 18))
def test_interrupted_anywhere_the_final_set_is_the_same(n_before: int) -> None:
    """Two candidates at a time, as with two workers; the older one is lost, the younger one finished."""
    config = SearchConfig(**SMALL)
    whole, cut = new_storage(), new_storage()
    assert len(train_all(open_search(whole, config))) == count_asked(config) == 18
    search = open_search(cut, config)
    for _ in range(n_before):
        job = search.ask()
        assert job is not None
        search.tell(job.number, train_to_rung(job))
    lost = [search.ask(), search.ask()]
    if lost[1] is not None:
        search.tell(lost[1].number, train_to_rung(lost[1]))
    resumed = open_search(cut, config)
    assert resumed.n_finished == min(n_before + (lost[1] is not None), 18)
    train_all(resumed)
    assert _results_in(cut) == _results_in(whole)


def test_more_trials_or_seeds_extend_a_run() -> None:
    extended, direct = new_storage(), new_storage()
    small = SearchConfig(**SMALL)
    assert len(train_all(open_search(extended, small))) == 18
    large = small.model_copy(update={"trials": 4, "seeds": 3})
    assert len(train_all(open_search(extended, large))) == count_asked(large) - 18 == 15
    train_all(open_search(direct, large))
    assert _results_in(extended) == _results_in(direct)


def test_a_failed_candidate_counts_as_finished_and_is_not_trained_again() -> None:
    storage = new_storage()
    search = open_search(storage, SearchConfig(**SMALL))
    job = search.ask()
    assert job is not None
    search.tell(job.number, Outcome({}, 0, 0.0, (), "training loss not finite at step 3 of 8"))
    assert len(train_all(open_search(storage, SearchConfig(**SMALL)))) == 17


def test_the_strategy_templates_trains_only_templates() -> None:
    config = SearchConfig(**{**SMALL, "strategy": "templates"})
    assert count_asked(config) == 14
    jobs = train_all(open_search(new_storage(), config))
    assert [job.candidate.template for job in jobs] == [name for name in NAMED for _ in range(2)]
    # Searched templates end at 256 layers, and the families break the cap.
    capped = "layers:" + "1," * 298 + "2,40;max-out:2"
    with pytest.raises(InputError, match="budget layers:1,1,"):
        count_asked(SearchConfig(layers=300, budget=capped, strategy="templates"))


def test_a_space_too_small_for_the_trials_is_refused() -> None:
    with pytest.raises(InputError, match="has 29 patterns of 5 layers"):
        count_asked(SearchConfig(layers=5, strategy="random", trials=32))
    assert count_asked(SearchConfig(layers=5, strategy="random", trials=29, seeds=1)) == 36


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


def test_a_whole_search_trains_and_a_second_call_has_nothing_to_do(tmp_path: Path) -> None:
    config = SearchConfig(**{**SMALL, "templates": False, "train_examples": 32})
    calls: list[tuple[int, int]] = []

    def listen(trial: Trial | None, n_finished: int, n_asked: int) -> None:
        assert trial is None or not trial.running
        calls.append((n_finished, n_asked))

    run_search(tmp_path / "run", config, listen)
    assert calls == [(n, 4) for n in range(5)]
    values = _trials(tmp_path / "run" / "study.db")
    assert {state for state, _ in values.values()} == {"COMPLETE"}
    calls.clear()
    run_search(tmp_path / "run", config, listen)
    assert calls == [(4, 4)]
    assert _trials(tmp_path / "run" / "study.db") == values
    run_search(tmp_path / "again", config, lambda *_: None)
    assert _trials(tmp_path / "again" / "study.db") == values


# A rung at epoch 3; three brackets of 3 patterns, and one of 2.
RUNG = 3
HALVED = SearchConfig(**{**SMALL, "epochs": 9, "trials": 11, "halving": True})
ONE_SEED = HALVED.model_copy(update={"seeds": 1, "templates": False})
FOUR = HALVED.model_copy(update={"trials": 4, "templates": False})


def _results(trials: list[optuna.trial.FrozenTrial]) -> list[tuple[object, ...]]:
    """All of each trial but its times, and how often it was attempted, in order of numbers."""
    return [
        (
            one.number,
            one.state.name,
            one.values,
            one.params,
            one.intermediate_values,
            {name: value for name, value in one.user_attrs.items() if name != "~attempts"},
        )
        for one in trials
    ]


def _lost(trials: list[optuna.trial.FrozenTrial]) -> dict[int, list[str]]:
    """Why attempts were lost, by number, where any was."""
    lost = {one.number: one.user_attrs.get("~attempts", {}).get("lost", []) for one in trials}
    return {number: reasons for number, reasons in lost.items() if reasons}


def _run_whole(config: SearchConfig) -> list[tuple[object, ...]]:
    storage = new_storage()
    train_all(open_search(storage, config))
    return _results(trials_in(storage))


def _expect_halved(
    trials: list[optuna.trial.FrozenTrial], n_seeds: int, failed: frozenset[tuple[str, int, int]] = frozenset()
) -> None:
    """Compare the proposals of a whole run with the plain computation of successive halving."""
    proposed = [one for one in trials if one.user_attrs["~candidate"]["strategy"] != "templates"]
    keys = list(dict.fromkeys(one.user_attrs["~candidate"]["key"] for one in proposed))
    accuracies = {
        place: None if place in failed else make_accuracy(*place)
        for place in ((key, seed, RUNG) for key in keys for seed in range(n_seeds))
    }
    winners, dropped = survive(keys, n_seeds, (RUNG,), accuracies)
    for one in proposed:
        key, seed = one.user_attrs["~candidate"]["key"], one.user_attrs["~candidate"]["seed"]
        is_lost_before = (key, seed, RUNG) in failed
        is_lost_after = (key, seed, HALVED.epochs) in failed and key in winners
        assert one.intermediate_values == ({} if is_lost_before else {RUNG: make_accuracy(key, seed, RUNG)})
        if is_lost_before or is_lost_after:
            assert (one.state.name, one.value) == ("FAIL", None)
        elif key in winners:
            assert (one.state.name, one.value) == ("COMPLETE", make_accuracy(key, seed, HALVED.epochs))
            assert one.user_attrs["~outcome"]["paused"] is False
        else:
            assert (one.state.name, one.last_step, dropped[key]) == ("PRUNED", RUNG, RUNG)
            assert one.user_attrs["~outcome"]["epochs"] == RUNG


def test_halving_completes_survivors_and_templates_and_prunes_the_others_at_their_rung() -> None:
    storage = new_storage()
    jobs = train_all(open_search(storage, HALVED))
    trials = trials_in(storage)
    assert len(trials) == count_asked(HALVED) == 36
    _expect_halved(trials, n_seeds=2)
    states = [one.state.name for one in trials]
    assert states[:14] == ["COMPLETE"] * 14  # the templates
    assert (states[14:].count("COMPLETE"), states[14:].count("PRUNED")) == (4 * 2, 7 * 2)
    best = optuna.load_study(study_name=STUDY_NAME, storage=storage).best_trial
    assert best.state.name == "COMPLETE"
    # No training went beyond its rung, and none was handed out twice to the same one.
    handed_out = [(job.number, job.pause_after) for job in jobs]
    assert len(set(handed_out)) == len(handed_out)
    for one in trials:
        stages = [pause_after for number, pause_after in handed_out if number == one.number]
        rungs = sorted(one.intermediate_values)
        assert stages == [*rungs, *([None] if one.state.name == "COMPLETE" else [])]
    n_epochs = sum(one.user_attrs["~outcome"]["epochs"] for one in trials[14:])
    assert n_epochs == 2 * (7 * 3 + 4 * 9)  # of 2 * 11 * 9 without halving


def test_a_pruned_candidate_has_no_accuracy_in_the_ledger_and_none_is_left_running() -> None:
    storage = new_storage()
    train_all(open_search(storage, ONE_SEED))
    entries = MemoryLedger(storage, Path("nowhere")).entries()
    assert not any(entry.running for entry in entries)
    with_value = {entry.number for entry in entries if entry.value is not None}
    assert with_value == {one.number for one in trials_in(storage) if one.state.name == "COMPLETE"}
    assert len(with_value) == 4


def test_on_the_disk_and_reopened_between_the_ledger_holds_the_same(tmp_path: Path) -> None:
    path = tmp_path / "study.db"

    def open_on_disk() -> Search:
        return Search(ONE_SEED, DIGITS, Ledger(path, {}, frozenset()), lambda *_: None)

    search = open_on_disk()
    n_told = 0
    while (job := search.ask()) is not None:
        search.tell(job.number, train_to_rung(job))
        n_told += 1
        if n_told in (2, 3, 4, 9, 14):  # before a bracket's decision, after it, after its end, in the third, the last
            search = open_on_disk()
    assert search.n_finished == search.n_asked == 11
    study = optuna.load_study(study_name=STUDY_NAME, storage=f"sqlite:///{path}")
    assert _results(study.trials) == _run_whole(ONE_SEED)
    assert _lost(study.trials) == {}
    assert n_told == 11 + 4


@pytest.mark.parametrize("n_workers", [1, 3])
def test_killed_before_any_write_a_halved_run_ends_with_the_same(
    monkeypatch: pytest.MonkeyPatch, n_workers: int
) -> None:
    moments: list[InMemoryStorage] = []

    def keep_before(name: str) -> Callable[..., Any]:
        original = getattr(Ledger, name)

        def write(*arguments: Any) -> Any:
            moments.append(copy.deepcopy(storage))
            return original(*arguments)

        return write

    storage = new_storage()
    with monkeypatch.context() as patch:
        for name in ("enter", "pause", "restart", "prune", "finish"):
            patch.setattr(Ledger, name, keep_before(name))
        train_all(open_search(storage, FOUR), n_workers)
    whole = _results(trials_in(storage))
    assert len(moments) == 8 + 8 + 4 + 4 + 4  # each is written as a whole
    for moment in moments:
        search = open_search(moment, FOUR)
        train_all(search, n_workers)
        assert search.n_finished == search.n_asked == 8
        assert _results(trials_in(moment)) == whole


def test_killed_after_any_outcome_a_halved_run_ends_with_the_same_and_no_attempt_is_lost() -> None:
    storage = new_storage()
    moments = [copy.deepcopy(storage)]
    config = ONE_SEED.model_copy(update={"templates": True, "attempts": 1})
    search = open_search(storage, config)
    while (job := search.ask()) is not None:
        search.tell(job.number, train_to_rung(job))
        moments.append(copy.deepcopy(storage))
    whole = _results(trials_in(storage))
    assert len(moments) == 1 + 7 + (11 + 4)
    for moment in moments:
        train_all(open_search(moment, config))
        assert _results(trials_in(moment)) == whole
        assert _lost(trials_in(moment)) == {}


@pytest.mark.parametrize("order", range(4))
def test_killed_again_and_again_a_halved_run_ends_with_the_same(order: int) -> None:
    chance = random.Random(order)  # noqa: S311  of no secret
    storage = new_storage()
    config = HALVED.model_copy(update={"attempts": 1000})
    search = open_search(storage, config)
    flying: list[Job] = []
    n_kills = 0
    while True:
        while len(flying) < 3 and (job := search.ask()) is not None:
            flying.append(job)
        if not flying:
            break
        job = flying.pop(chance.randrange(len(flying)))
        if chance.random() < 0.8:
            search.tell(job.number, train_to_rung(job))
        else:
            search = open_search(storage, config)
            flying.clear()
            n_kills += 1
    assert n_kills >= 5
    assert _results(trials_in(storage)) == _run_whole(HALVED)


@pytest.mark.parametrize("n_pruned", range(7))
def test_killed_between_the_prunes_of_one_decision_a_run_ends_with_the_same(
    monkeypatch: pytest.MonkeyPatch, n_pruned: int
) -> None:
    """Of 7 in all: 2 at the decision of each bracket of three, and 1 at that of the last."""
    storage = new_storage()
    heard: list[int] = []
    n_calls = 0
    prune = Ledger.prune

    def fail(ledger: Ledger, number: int) -> Trial:
        nonlocal n_calls
        n_calls += 1
        if n_calls > n_pruned:
            raise KeyboardInterrupt
        return prune(ledger, number)

    with monkeypatch.context() as patch:
        patch.setattr(Ledger, "prune", fail)
        with pytest.raises(KeyboardInterrupt):
            train_all(open_search(storage, ONE_SEED, lambda _, n_finished, __: heard.append(n_finished)))
    assert sum(one.state.name == "PRUNED" for one in trials_in(storage)) == n_pruned
    search = open_search(storage, ONE_SEED, lambda _, n_finished, __: heard.append(n_finished))
    # What was decided is done at once, the prunes of a bracket; each of those before has a winner that is complete.
    assert search.n_finished == len(heard) == min(3 * (n_pruned // 2) + 2, 10)
    train_all(search)
    assert heard == list(range(1, 12))
    assert search.n_finished == 11
    assert _results(trials_in(storage)) == _run_whole(ONE_SEED)
    assert _lost(trials_in(storage)) == {}


@pytest.mark.parametrize("n_workers", [1, 3])
def test_a_killed_run_counts_as_a_death_for_what_was_in_training_and_not_for_what_waited(n_workers: int) -> None:
    """After every hand-out: to the rung, and to the end."""
    storage = new_storage()
    search = open_search(storage, ONE_SEED)
    flying: list[Job] = []
    moments: list[tuple[InMemoryStorage, list[Job]]] = []
    while True:
        while len(flying) < n_workers and (job := search.ask()) is not None:
            flying.append(job)
            moments.append((copy.deepcopy(storage), list(flying)))
        if not flying:
            break
        job = flying.pop(0)
        search.tell(job.number, train_to_rung(job))
    assert len(moments) == 11 + 4
    whole = _results(trials_in(storage))
    wrong = {}
    for moment, in_training in moments:
        train_all(open_search(moment, ONE_SEED))
        assert _results(trials_in(moment)) == whole
        assert _lost(trials_in(moment)) == {}
        deaths = {one.number: one.user_attrs.get("~attempts", {}).get("driver_deaths", 0) for one in trials_in(moment)}
        expected = {number: int(number in {job.number for job in in_training}) for number in deaths}
        if deaths != expected:
            wrong[tuple((job.number, job.pause_after) for job in in_training)] = deaths
    assert wrong == {}


def test_a_candidate_that_kills_its_run_on_the_way_to_the_end_is_not_given_up_either() -> None:
    config = ONE_SEED.model_copy(update={"trials": 1, "attempts": 1})
    storage = new_storage()
    search = open_search(storage, config)
    job = search.ask()
    assert job is not None
    search.tell(job.number, train_to_rung(job))
    for _ in range(5):
        job = search.ask()
        assert job is not None
        assert job.pause_after is None
        search = open_search(storage, config)  # and the process before it is gone
    assert len(train_all(search)) == 1
    (trial,) = trials_in(storage)
    assert trial.state.name == "COMPLETE"
    assert trial.user_attrs["~attempts"]["driver_deaths"] == 5


@pytest.mark.parametrize("order", range(8))
def test_completed_in_any_order_a_halved_run_ends_with_the_same(order: int) -> None:
    storage = new_storage()
    search = open_search(storage, HALVED)
    train_all(search, n_workers=3, chance=random.Random(order))  # noqa: S311  of no secret
    assert search.n_finished == search.n_asked == 36
    assert _results(trials_in(storage)) == _run_whole(HALVED)


@pytest.mark.parametrize("order", range(4))
def test_lost_on_the_way_to_a_rung_a_candidate_is_trained_to_it_again(order: int) -> None:
    storage = new_storage()
    search = open_search(storage, FOUR)
    chance = random.Random(order)  # noqa: S311  of no secret
    flying: list[Job] = []
    lost: set[tuple[int, int | None]] = set()
    while True:
        while len(flying) < 3 and (job := search.ask()) is not None:
            flying.append(job)
        if not flying:
            break
        job = flying.pop(chance.randrange(len(flying)))
        stage = job.number, job.pause_after
        if stage not in lost and chance.random() < 0.5 and sum(number == job.number for number, _ in lost) < 2:
            lost.add(stage)
            search.lose(job.number, f"worker died on the way to {job.pause_after}")
        else:
            search.tell(job.number, train_to_rung(job))
    assert len(lost) >= 4
    assert _results(trials_in(storage)) == _run_whole(FOUR)
    found = {(number, reason) for number, reasons in _lost(trials_in(storage)).items() for reason in reasons}
    assert found == {(number, f"worker died on the way to {pause_after}") for number, pause_after in lost}


@pytest.mark.parametrize("objective", ["loss", "accuracy"])
@pytest.mark.parametrize("epoch", [RUNG, HALVED.epochs])
@pytest.mark.parametrize("way", ["lost", "failed"])
def test_a_pattern_is_judged_without_the_seed_that_was_given_up_or_failed(epoch: int, way: str, objective: str) -> None:
    """On its way to the rung, or beyond it, after the decision: what it measured there stays, for a resumed run too."""
    storage = new_storage()
    config = HALVED.model_copy(update={"attempts": 1, "templates": False, "objective": objective})
    search = open_search(storage, config)
    failed: set[tuple[str, int, int]] = set()
    while (job := search.ask()) is not None:
        key, seed = job.candidate.pattern.key, job.candidate.seed
        # Some patterns lose one seed and some both.
        if (job.pause_after or HALVED.epochs) == epoch and job.number < 18 and job.number % 7 in (0, 1, 4):
            failed.add((key, seed, epoch))
            if way == "lost":
                search.lose(job.number, "worker died")
            else:
                search.tell(job.number, Outcome({}, 0, 0.0, (), "training loss not finite at step 3 of 8"))
        else:
            search.tell(job.number, train_to_rung(job))
    trials = trials_in(storage)
    assert search.n_finished == search.n_asked == len(trials) == 22
    assert failed
    assert {one.state.name for one in trials} == {"COMPLETE", "PRUNED", "FAIL"}
    _expect_halved(trials, 2, frozenset(failed))
    before = _results(trials)
    again = open_search(storage, config)
    assert again.ask() is None
    assert again.n_finished == 22
    assert _results(trials_in(storage)) == before


def test_killed_after_any_failure_a_halved_run_ends_with_the_same() -> None:
    def train(job: Job) -> Outcome:
        if (job.number + (job.pause_after or 9)) % 3 == 0:
            return Outcome({}, 0, 0.0, (), "training loss not finite at step 3 of 8")
        return train_to_rung(job)

    storage = new_storage()
    search = open_search(storage, FOUR)
    moments = []
    while (job := search.ask()) is not None:
        search.tell(job.number, train(job))
        moments.append(copy.deepcopy(storage))
    whole = _results(trials_in(storage))
    assert {one.state.name for one in trials_in(storage)} == {"COMPLETE", "PRUNED", "FAIL"}
    for moment in moments:
        train_all(open_search(moment, FOUR), train=train)
        assert _results(trials_in(moment)) == whole


def test_what_a_halved_run_gives_back_when_asked_to_end_costs_nothing(tmp_path: Path) -> None:
    """Asked to end in every training, each of which is then done by the next run."""

    class Interrupting(Trainer):
        def train(self, job: Job, check_stop: Callable[[], None] = lambda: None) -> Outcome:  # noqa: ARG002
            trained.append((job.number, job.pause_after))
            if len(trained) == 2:
                raise Interrupted(15)
            return train_to_rung(job)

    storage = new_storage()
    config = ONE_SEED.model_copy(update={"attempts": 1})
    for n_told in range(11 + 4 - 1):
        trained: list[tuple[int, int | None]] = []
        search = open_search(storage, config, run=tmp_path)
        with pytest.raises(Interrupted):
            execute(search, Interrupting(DIGITS, config), StopFlag(), search.n_asked - search.n_finished)
        attempts = [trials_in(storage)[number].user_attrs.get("~attempts", {}) for number, _ in trained]
        assert attempts[1]["returned"] is True
        if n_told < 2:  # the first three are not decided: what was trained waits, and was not given back
            assert attempts[0].get("returned", False) is False
    train_all(open_search(storage, config))
    assert _lost(trials_in(storage)) == {}
    assert _results(trials_in(storage)) == _run_whole(ONE_SEED)


def test_the_listener_hears_of_every_candidate_once_when_it_ends() -> None:
    heard: list[tuple[tuple[str, int], Outcome, int, int]] = []

    def listen(trial: Trial | None, n_finished: int, n_asked: int) -> None:
        assert trial is not None
        assert trial.outcome is not None
        assert not trial.running
        heard.append(((trial.pattern.key, trial.seed), trial.outcome, n_finished, n_asked))

    storage = new_storage()
    search = open_search(storage, HALVED, listen)
    for _ in range(19):
        job = search.ask()
        assert job is not None
        search.tell(job.number, train_to_rung(job))
        assert search.n_finished == len(heard)
    assert len(heard) == 14  # the templates: proposals wait at their rung
    search = open_search(storage, HALVED, listen)
    assert search.n_finished == 14
    train_all(search, n_workers=3)
    assert [(n_finished, n_asked) for _, _, n_finished, n_asked in heard] == [(n, 36) for n in range(1, 37)]
    assert len({one for one, _, _, _ in heard}) == 36
    states = {
        (one.user_attrs["~candidate"]["key"], one.user_attrs["~candidate"]["seed"]): one.state.name
        for one in trials_in(storage)
    }
    for one, outcome, _, _ in heard:
        assert outcome.paused == (states[one] == "PRUNED")
        assert outcome.metrics.get("validation_accuracy") == make_accuracy(*one, outcome.epochs)


def test_checkpoints_are_kept_while_a_candidate_waits_and_removed_when_it_ends(tmp_path: Path) -> None:
    (tmp_path / "checkpoints").mkdir()
    storage = new_storage()

    def train(job: Job) -> Outcome:
        slot_path(tmp_path, job.number).touch()
        return train_to_rung(job)

    def held() -> set[int]:
        return {int(path.stem) for path in (tmp_path / "checkpoints").iterdir()}

    search = open_search(storage, ONE_SEED, run=tmp_path)
    while (job := search.ask()) is not None:
        search.tell(job.number, train(job))
        assert held() == {one.number for one in trials_in(storage) if one.state.name == "RUNNING"}
    slot_path(tmp_path, 3).touch()  # as a worker leaves it that outlived its driver
    open_search(storage, ONE_SEED, run=tmp_path)
    assert held() == set()


def test_a_halved_run_keeps_its_trials_and_seeds(tmp_path: Path) -> None:
    config = settle_config(tmp_path, None, {**SMALL, "epochs": 9, "halving": True}, SearchConfig)
    (tmp_path / "config.toml").write_text(format_toml(config))
    for change in ({"trials": 3}, {"trials": 1}, {"seeds": 3}, {"halving": False}):
        (name,) = change
        with pytest.raises(ConflictError, match=f"{name} .* there, .* now"):
            settle_config(tmp_path, None, change, SearchConfig)
    same = {"trials": config.trials, "seeds": config.seeds, "halving": True}
    assert settle_config(tmp_path, None, same, SearchConfig) == config


@pytest.mark.parametrize("halving", [False, True])
def test_how_a_run_is_run_may_be_changed(tmp_path: Path, halving: bool) -> None:
    config = settle_config(tmp_path, None, {**SMALL, "epochs": 9, "halving": halving}, SearchConfig)
    (tmp_path / "config.toml").write_text(format_toml(config))
    changes = {"workers": 2, "attempts": 7, "trial_timeout": 60.0, "checkpoint_seconds": 0.0, "ray_address": "a:1"}
    changes |= {"hours": 2.5, "patience": 9}
    if not halving:
        changes |= {"trials": 3, "seeds": 5}
        with pytest.raises(ConflictError, match="halving False there, True now"):
            settle_config(tmp_path, None, {"halving": True}, SearchConfig)
    settled = settle_config(tmp_path, None, changes, SearchConfig)
    assert settled == config.model_copy(update=changes)
    with pytest.raises(ConflictError, match="deterministic False there, True now"):
        settle_config(tmp_path, None, {"deterministic": True}, SearchConfig)


def test_survivors_of_halving_end_with_the_numbers_of_a_run_without_it(tmp_path: Path) -> None:
    """With trainings: three patterns to a rung after epoch 1, one of them further, and a bracket of one."""
    config = SearchConfig(**{**SMALL, "epochs": 3, "trials": 4, "seeds": 1, "templates": False})
    run_search(tmp_path / "whole", config, lambda *_: None)
    run_search(tmp_path / "halved", config.model_copy(update={"halving": True}), lambda *_: None)
    whole, halved = (_trials(tmp_path / name / "study.db") for name in ("whole", "halved"))
    assert halved.keys() == whole.keys()
    assert sorted(state for state, _ in halved.values()) == ["COMPLETE", "COMPLETE", "PRUNED", "PRUNED"]
    for one, (state, value) in halved.items():
        assert state == "PRUNED" or whole[one] == (state, value)
    assert [path for path in (tmp_path / "halved").rglob("*") if path.suffix == ".pt"] == []


def test_halving_keeps_what_the_objective_says() -> None:
    """Made up so that the more accurate a network is, the larger is its loss."""

    def train(job: Job) -> Outcome:
        epochs = job.pause_after or HALVED.epochs
        accuracy = make_accuracy(job.candidate.pattern.key, job.candidate.seed, epochs)
        return Outcome(image_metrics(accuracy, 0.1 + accuracy), epochs, 0.0, paused=job.pause_after is not None)

    kept = {}
    for objective, sign in (("accuracy", 1), ("loss", -1)):
        storage = new_storage()
        train_all(open_search(storage, ONE_SEED.model_copy(update={"objective": objective})), 3, train=train)
        trials = trials_in(storage)
        keys = [one.user_attrs["~candidate"]["key"] for one in trials]
        worth = {(key, 0, RUNG): sign * make_accuracy(key, 0, RUNG) for key in keys}
        kept[objective] = {key for key, one in zip(keys, trials, strict=True) if one.state.name == "COMPLETE"}
        assert kept[objective] == survive(keys, 1, (RUNG,), worth)[0]
    assert kept["accuracy"].isdisjoint(kept["loss"])
