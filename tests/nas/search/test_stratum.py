"""Strata: several budgets in one run, and proposals that depend on the order of arrival alone."""

import copy
import json
import math
import random
import tomllib
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from nas.records.checked import validate
from nas.records.trial import Outcome
from nas.search.loop import count_asked
from nas.search.stratum import check_patterns, count_trainings, iterate_named, list_budgets
from nas.settings.search import SearchConfig
from nas.settings.study import StudyConfig
from nas.settings.toml import format_toml
from nas.workers.jobs import Job
from search_spaces.budget import log_budget, parse_budget
from search_spaces.errors import ConflictError, InputError
from search_spaces.families import iterate_families
from search_spaces.templates import find_template
from tests.support.learning import install_learning
from tests.support.memory_search import make_accuracy, make_outcome, new_storage, open_search, train_all, trials_in
from tests.support.small import SMALL

BUDGETS = ("total:8", "log", "total:13")  # of 5 layers; log takes 11
EVOLVE: dict[str, Any] = {**SMALL, "layers": 7, "trials": 10, "epochs": 9, "strategy": "evolve"}
Trained = dict[tuple[str, str, int], float | None]


def train(job: Job) -> Outcome:
    """Made up, but fixed by what was trained; one in seven fails."""
    key, seed = job.candidate.pattern.key, job.candidate.seed
    epochs = job.pause_after or 9
    accuracy = make_accuracy(key, seed, epochs)
    if job.pause_after is None and int(key[:4], 16) % 7 == seed:
        return Outcome({}, 1, 0.0, (), "training loss not finite")
    return make_outcome(accuracy, epochs, paused=job.pause_after is not None)


def run(config: SearchConfig, n_workers: int = 1, order: int | None = None) -> Trained:
    storage = new_storage()
    chance = None if order is None else random.Random(order)  # noqa: S311  of no secret
    train_all(open_search(storage, config), n_workers, chance, train)
    return trained(storage)


def trained(storage: Any) -> Trained:
    trials = trials_in(storage)
    assert not any(one.state.name == "RUNNING" for one in trials)
    return {
        (
            one.user_attrs["~candidate"]["budget"],
            one.user_attrs["~candidate"]["key"],
            one.user_attrs["~candidate"]["seed"],
        ): one.value
        for one in trials
    }


@pytest.mark.parametrize("name", ["evolve", "fake"])
@pytest.mark.parametrize("halving", [False, True])
def test_in_whatever_order_trainings_end_a_search_proposes_the_same(
    name: str, halving: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if name == "fake":
        install_learning(monkeypatch)
    config = SearchConfig(**{**EVOLVE, "halving": halving, "lookahead": 3})
    serial = run(config)
    assert len(serial) == count_asked(config)
    for n_workers, order in ((3, 0), (40, 1)):
        assert run(config, n_workers, order) == serial


@pytest.mark.parametrize("halving", [False, True])
def test_killed_after_any_outcome_a_search_goes_on_to_propose_the_same(
    halving: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    install_learning(monkeypatch)
    config = SearchConfig(**{**EVOLVE, "trials": 5, "halving": halving, "budget": ("log", "total:15"), "lookahead": 4})
    whole = run(config)
    storage = new_storage()
    search = open_search(storage, config)
    snapshots = []
    flying: list[Job] = []
    while True:
        while len(flying) < 3 and (job := search.ask()) is not None:
            flying.append(job)
        if not flying:
            break
        job = flying.pop()
        search.tell(job.number, train(job))
        snapshots.append(copy.deepcopy(storage))
    assert trained(storage) == whole
    for held in snapshots[3::11]:
        train_all(open_search(held, config), 2, None, train)
        assert trained(held) == whole


@pytest.mark.parametrize("lookahead", [1, 2, 4])
def test_a_proposal_waits_for_all_but_the_latest_trainings(lookahead: int, monkeypatch: pytest.MonkeyPatch) -> None:
    install_learning(monkeypatch)
    config = SearchConfig(**{**EVOLVE, "templates": False, "lookahead": lookahead})
    search = open_search(new_storage(), config)
    jobs = list(iter(search.ask, None))
    assert len(jobs) == lookahead
    for job in jobs[1:]:  # all but the first end: nothing more may be known
        search.tell(job.number, train(job))
        assert search.ask() is None
    search.tell(jobs[0].number, train(jobs[0]))
    assert search.ask() is not None


def test_random_proposals_wait_for_nothing() -> None:
    config = SearchConfig(**{**EVOLVE, "strategy": "random", "lookahead": 1})
    search = open_search(new_storage(), config)
    assert sum(1 for _ in iter(search.ask, None)) == count_asked(config)


@pytest.mark.parametrize("n_workers", [1, 5])
@pytest.mark.parametrize("halving", [False, True])
def test_a_strategy_is_shown_every_training_in_order_and_never_how_the_latest_ended(
    halving: bool, n_workers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever has ended by then; with halving nor any of its own bracket, three patterns of two seeds."""
    made = install_learning(monkeypatch, repeats=False)
    config = SearchConfig(**{**EVOLVE, "trials": 11, "lookahead": 4, "halving": halving})
    storage = new_storage()
    train_all(open_search(storage, config), n_workers, random.Random(0), train)  # noqa: S311  of no secret
    trials = trials_in(storage)
    candidates = [one.user_attrs["~candidate"] for one in trials]
    arrived = [(candidate["key"], candidate["seed"]) for candidate in candidates]
    n_named = len(trials) - 22
    (strategy,) = made
    assert [len(shown) for shown in strategy.shown] == [n_named + number for number in range(22)]
    n_failed = 0
    for number, shown in enumerate(strategy.shown):
        assert [(training.pattern.key, training.seed) for training in shown] == arrived[: len(shown)]
        n_known = min(len(shown) - 3, n_named + number - number % 6 if halving else len(shown))
        assert all(training.state == "pending" and training.cost is None for training in shown[n_known:])
        for one, training in zip(trials, shown[:n_known], strict=False):
            accuracy = one.intermediate_values[9 // 3] if one.state.name == "PRUNED" else one.value
            if one.state.name == "FAIL":
                n_failed += 1
                assert (training.state, training.cost) == ("failed", None)
            else:
                assert accuracy is not None
                assert training.state == "finished"
                assert training.cost == pytest.approx(math.log(1 - accuracy))
    assert n_failed > 0


def test_a_named_pattern_that_is_proposed_again_keeps_its_name_and_a_resumed_run_knows_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Here log, which is better than all others."""

    def train_best_log(job: Job) -> Outcome:
        accuracy = 0.9 if job.candidate.template == "log" else 0.1 + 0.5 * make_accuracy("", job.number, 1)
        return make_outcome(accuracy, 9, paused=False)

    install_learning(monkeypatch)
    config = SearchConfig(**{**SMALL, "strategy": "model", "trials": None, "trainings": 30, "lookahead": 2})
    storage = new_storage()
    search = open_search(storage, config)
    snapshots = []
    while (job := search.ask()) is not None:
        search.tell(job.number, train_best_log(job))
        snapshots.append(copy.deepcopy(storage))
    candidates = [one.user_attrs["~candidate"] for one in trials_in(storage)]
    assert len(candidates) == count_asked(config) == 30
    first, proposed = candidates[:7], candidates[7:]
    assert [(one["template"], one["seed"]) for one in first] == [(one["template"], 0) for one in first]
    log = find_template("log").build(5).key
    repeated = [one for one in proposed if one["key"] == log]
    assert [one["seed"] for one in repeated] == [*range(1, len(repeated) + 1)]
    assert len(repeated) > 3  # more often than settings.seeds says, which is not for the model
    assert {(one["strategy"], one["template"]) for one in repeated} == {("templates", "log")}
    others = [one for one in proposed if one["key"] != log]
    assert {(one["strategy"], one["template"]) for one in others} == {("model", None)}
    for held in (*snapshots[5::6], storage):
        again = open_search(held, config)
        n_left = 30 - again.n_finished
        assert len(train_all(again, 1, None, train_best_log)) == n_left
        assert trained(held) == trained(storage)


# --- how many ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("trainings", "seeds", "expected"),
    [
        (30, 3, 30),  # seven named patterns and three others, three times each
        (32, 3, 30),  # a pattern has all of its seeds, or is not begun
        (33, 3, 33),
        (8, 1, 8),
        (1000, 1, 36),  # there are no more patterns
        (None, 3, 60),
    ],
)
def test_random_search_trains_whole_patterns_up_to_the_number_asked_for(
    trainings: int | None, seeds: int, expected: int
) -> None:
    config = SearchConfig(layers=5, strategy="random", trainings=trainings, seeds=seeds)
    assert count_asked(config) == expected
    if expected < 40:
        jobs = train_all(open_search(new_storage(), config))
        assert len(jobs) == expected
        assert set(Counter(job.candidate.pattern.key for job in jobs).values()) == {seeds}


def test_the_model_makes_every_training_asked_for_and_trains_named_patterns_once_before(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    install_learning(monkeypatch)
    config = SearchConfig(layers=5, trainings=17, budget=("log", "total:9"))
    jobs = train_all(open_search(new_storage(), config))
    assert len(jobs) == count_asked(config) == 2 * 17
    for budget in list_budgets(config):
        named = {pattern.key for _, pattern in iterate_named(budget, config)}
        own = [job.candidate for job in jobs if job.candidate.pattern.n_connections == budget.n_connections]
        assert len(own) == 17
        assert {candidate.pattern.key for candidate in own[: len(named)]} == named
        assert {candidate.seed for candidate in own[: len(named)]} == {0}
    assert count_asked(SearchConfig(layers=5)) == 60


@pytest.mark.parametrize(
    ("values", "n_named"), [({"trainings": 7}, 7), ({"trainings": 21, "seeds": 3, "strategy": "random"}, 21)]
)
def test_so_few_trainings_that_none_is_left_for_proposals_are_refused(values: dict[str, Any], n_named: int) -> None:
    config = SearchConfig(layers=5, **values)
    with pytest.raises(InputError, match=rf"trainings {n_named}: the 7 named patterns.*take {n_named} of them"):
        count_asked(config)
    assert count_asked(config.model_copy(update={"templates": False})) == n_named
    seeds = 1 if config.strategy == "model" else 3
    assert count_asked(config.model_copy(update={"trainings": n_named + seeds})) == n_named + seeds


def test_a_run_that_is_asked_for_more_seeds_trains_the_missing_ones() -> None:
    storage = new_storage()
    config = SearchConfig(**SMALL)
    train_all(open_search(storage, config))
    before = set(trained(storage))
    jobs = train_all(open_search(storage, config.model_copy(update={"seeds": 4})))
    assert {(job.candidate.pattern.key, job.candidate.seed) for job in jobs} == {
        (key, seed) for _, key, _ in before for seed in (2, 3)
    }
    assert len(jobs) == 2 * len({key for _, key, _ in before})


def test_more_seeds_without_the_trainings_that_they_take_are_refused() -> None:
    """Of thirty trainings with three seeds three patterns are random, with four seeds one would be."""
    storage = new_storage()
    config = SearchConfig(layers=5, strategy="random", trainings=30, seeds=3)
    train_all(open_search(storage, config))
    with pytest.raises(ConflictError, match="give more --trainings"):
        open_search(storage, config.model_copy(update={"seeds": 4}))
    enough = config.model_copy(update={"seeds": 4, "trainings": 40})
    assert {job.candidate.seed for job in train_all(open_search(storage, enough))} == {3}


# --- several budgets -----------------------------------------------------------------------------------------------


def test_each_budget_is_a_stratum_with_the_proposals_that_it_would_have_alone() -> None:
    config = SearchConfig(**{**SMALL, "budget": BUDGETS, "templates": False, "trials": 4})
    together = run(config)
    assert len(together) == count_asked(config) == 3 * 4 * 2
    for text in BUDGETS:
        alone = run(config.model_copy(update={"budget": text}))
        assert {one for one in together if one[0] == text} == set(alone)


def test_several_budgets_train_the_families_fitted_to_each_and_so_does_one() -> None:
    storage = new_storage()
    config = SearchConfig(**{**SMALL, "budget": BUDGETS})
    train_all(open_search(storage, config))
    trials = trials_in(storage)
    assert len(trials) == count_asked(config)
    for text in BUDGETS:
        own = [one for one in trials if one.user_attrs["~candidate"]["budget"] == text]
        keys = {
            one.user_attrs["~candidate"]["key"]
            for one in own
            if one.user_attrs["~candidate"]["strategy"] == "templates"
        }
        assert {pattern.key for _, pattern in iterate_families(parse_budget(text, 5))} <= keys
        assert {one.params["stratum"] for one in own} == {text}
        assert len({one.user_attrs["~candidate"]["params"] for one in own}) == 1
        assert len({one.user_attrs["~candidate"]["key"] for one in own}) == len(own) / 2
    assert len({one.user_attrs["~candidate"]["params"] for one in trials}) == 3
    alone = new_storage()
    train_all(open_search(alone, SearchConfig(**SMALL)))
    named = [one.user_attrs["~candidate"] for one in trials_in(alone)][:14]
    # nearest_log_i and evenly_log_i are those two families at this budget: each pattern goes by one name.
    assert [one["template"] for one in named[::2]] == [
        "log",
        "nearest_log_i",
        "evenly_log_i",
        "greedy",
        "annealed",
        "shortest_walk",
        "geometric",
    ]
    assert {pattern.key for _, pattern in iterate_families(log_budget(5))} <= {one["key"] for one in named}
    assert len({one["key"] for one in named}) == 7


def test_budgets_take_turns() -> None:
    config = SearchConfig(**{**SMALL, "budget": BUDGETS, "templates": False, "seeds": 1})
    search = open_search(new_storage(), config)
    spent = []
    while (job := search.ask()) is not None:
        spent.append(job.candidate.pattern.n_connections)
    assert spent == [8, 11, 13] * 2


def test_a_pattern_that_spends_two_budgets_is_trained_in_both_strata() -> None:
    config = SearchConfig(**{**SMALL, "budget": ("log", "total:11"), "strategy": "templates"})
    log = find_template("log").build(5).key
    budgets = {budget for budget, key, _ in run(config) if key == log}
    assert budgets == {"log", "total:11"}


@pytest.mark.parametrize(
    ("budget", "told"),
    [
        (("log", "log"), "budget log is given twice"),
        (("total:11", "total:011"), "given twice"),
        (("log", "total:99"), "total:99 cannot be met"),
        (("log", "logs"), "budget: not of a known form"),
        ((), "budget: none is given"),
    ],
)
def test_budgets_that_cannot_be_are_refused(budget: tuple[str, ...], told: str) -> None:
    with pytest.raises(InputError, match=told):
        validate(SearchConfig, {**SMALL, "budget": budget})


def test_one_budget_in_a_list_is_that_budget() -> None:
    config = validate(SearchConfig, {"budget": ["total:60"]})
    assert config == SearchConfig(budget="total:60")
    assert config.budgets == ("total:60",)


def test_several_budgets_survive_the_config_file() -> None:
    config = SearchConfig(**{**SMALL, "budget": BUDGETS})
    held = {name.replace("-", "_"): value for name, value in tomllib.loads(format_toml(config)).items()}
    assert validate(SearchConfig, held) == config


# --- patterns of files ---------------------------------------------------------------------------------------------


def write_pattern(path: Path, sources: Any) -> str:
    path.write_text(json.dumps({"layers": len(sources), "sources": sources}))
    return str(path)


MINE = [[0], [0, 1], [0, 2], [1, 2, 3], [2, 3, 4]]  # the in-degrees of log


@pytest.mark.parametrize("templates", [True, False])
def test_patterns_of_files_are_trained_beside_the_named_ones(templates: bool, tmp_path: Path) -> None:
    mine = write_pattern(tmp_path / "mine.json", MINE)
    log = write_pattern(tmp_path / "theirs.json", [list(inputs) for inputs in find_template("log").build(5).sources])
    config = SearchConfig(layers=5, strategy="templates", templates=templates, pattern=(mine, log))
    check_patterns(config)
    named = dict(iterate_named(log_budget(5), config))
    assert named["mine.json"].sources == tuple(map(tuple, MINE))
    # A template's pattern goes by its own name, where templates are trained.
    assert ("theirs.json" in named) != templates
    assert ("log" in named) == templates
    assert count_trainings(log_budget(5), config) == 3 * len(named)  # by default three seeds


def test_of_several_budgets_a_file_s_pattern_belongs_to_its_own(tmp_path: Path) -> None:
    mine = write_pattern(tmp_path / "mine.json", MINE)
    config = SearchConfig(layers=5, budget=("total:9", "total:11"), pattern=(mine,))
    check_patterns(config)
    held = [dict(iterate_named(budget, config)) for budget in list_budgets(config)]
    assert ["mine.json" in named for named in held] == [False, True]


def test_pattern_files_that_would_not_be_trained_are_refused(tmp_path: Path) -> None:
    config = SearchConfig(layers=5, pattern=(write_pattern(tmp_path / "chain.json", [[0], [1], [2], [3], [4]]),))
    with pytest.raises(InputError, match=r"5 layers and 5 connections.*spends no budget.*give --budget total:5"):
        check_patterns(config)
    with pytest.raises(InputError, match=r"gone\.json"):
        check_patterns(SearchConfig(layers=5, pattern=(str(tmp_path / "gone.json"),)))
    (tmp_path / "b").mkdir()
    twice = (write_pattern(tmp_path / "mine.json", MINE), write_pattern(tmp_path / "b" / "mine.json", MINE))
    with pytest.raises(InputError, match=r"two pattern files are called mine\.json"):
        check_patterns(SearchConfig(layers=5, pattern=twice))


@pytest.mark.parametrize(
    ("model", "values", "told"),
    [
        (SearchConfig, {"transition": "rule", "strategy": "templates"}, "rule exists for named templates only"),
        (StudyConfig, {"layers": 24}, "a study's design says which patterns are trained"),
        (SearchConfig, {"pattern": ()}, "pattern: "),
    ],
)
def test_settings_that_have_no_place_for_pattern_files(model: Any, values: dict[str, Any], told: str) -> None:
    with pytest.raises(InputError, match=told):
        validate(model, {"pattern": ("mine.json",)} | values)
