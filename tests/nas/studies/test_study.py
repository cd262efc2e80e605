"""A study: interrupted anywhere it ends with what its plan says, and only by that plan."""

import json
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import optuna
import pandas as pd
import pytest
from optuna.storages import InMemoryStorage

from analysis.data.adherence import check_adherence
from analysis.data.results import read_run
from nas.model.candidate import Candidate
from nas.records.database import STUDY_NAME
from nas.records.metrics import image_metrics
from nas.records.plan import PLAN_FILE, list_crossings, read_plan, write_plan
from nas.records.trial import Outcome, Trial
from nas.run.ledger import Ledger
from nas.run.proxies import ProxyRecorder
from nas.run.source import Assignment
from nas.settings.resume import settle_config
from nas.settings.search import SearchConfig
from nas.settings.study import StudyConfig
from nas.settings.toml import format_toml
from nas.studies.plan import list_assignments, name_stratum
from nas.studies.study import Study, estimate_seconds, run_study
from nas.workers.jobs import Job, failed
from nas.workers.trainer import Trainer
from search_spaces.errors import ConflictError, InputError
from tests.support.command_line import run_command
from tests.support.memory_search import MemoryLedger, new_storage, trials_in
from tests.support.small import ROOT
from tests.support.small_study import DIGITS, PROTOCOL, TINY, tiny, wide

FLAGS = [
    part
    for name, value in TINY.items()
    for one in (value if isinstance(value, tuple) else (value,))
    for part in (f"--{name.replace('_', '-')}", str(one))
]
Identity = tuple[str, int, str]


def open_study(storage: InMemoryStorage, tasks: list[Assignment], max_attempts: int = 3) -> Study:
    return Study(tasks, MemoryLedger(storage), lambda *_: None, max_attempts)


def make_outcome(candidate: Candidate) -> Outcome:
    """Made up, but fixed by the candidate."""
    assert candidate.training is not None
    accuracy = int(candidate.pattern.key[:4], 16) / 2**17 + candidate.seed / 100 + candidate.training.lr / 10
    return Outcome(image_metrics(accuracy, 1 - accuracy), candidate.training.epochs, 0.0)


def load_trials(path: Path) -> list[optuna.trial.FrozenTrial]:
    return optuna.load_study(study_name=STUDY_NAME, storage=f"sqlite:///{path}").trials


def identify(trial: optuna.trial.FrozenTrial) -> Identity:
    candidate = trial.user_attrs.get("~candidate") or trial.user_attrs["candidate"]  # of an older version
    return candidate["key"], candidate["seed"], candidate["regime"]


def results_of(held: Path | InMemoryStorage) -> dict[Identity, tuple[str, float | None]]:
    trials = load_trials(held) if isinstance(held, Path) else trials_in(held)
    results = {identify(trial): (trial.state.name, trial.value) for trial in trials}
    assert len(results) == len(trials), "a candidate was entered twice"
    return results


def finish(study: Study) -> list[int]:
    numbers = []
    while (task := study.ask()) is not None:
        study.tell(task.number, make_outcome(task.candidate))
        numbers.append(task.number)
    return numbers


@pytest.fixture(scope="module")
def whole() -> dict[Identity, tuple[str, float | None]]:
    """What an uninterrupted study holds."""
    storage = new_storage()
    config, plan = tiny()
    study = open_study(storage, list_assignments(plan, config, DIGITS))
    assert (study.n_finished, study.n_asked) == (0, 20)
    assert finish(study) == list(range(20))
    assert (study.n_finished, study.n_asked) == (20, 20)
    return results_of(storage)


def test_a_study_trains_all_of_its_plan_in_its_order(whole: dict[Identity, Any]) -> None:
    _, plan = tiny()
    assert list(whole) == [
        (plan["patterns"][number]["key"], seed, plan["strata"][place]["regime"])
        for place, number, seed in plan["order"]
    ]


@pytest.mark.parametrize("n_before", [0, 9, 18])
def test_interrupted_anywhere_the_final_set_is_the_same(whole: dict[Identity, Any], n_before: int) -> None:
    """Two trainings at a time, as with two workers; the older one is lost, the younger one finished."""
    config, plan = tiny()
    tasks = list_assignments(plan, config, DIGITS)
    storage = new_storage()
    study = open_study(storage, tasks)
    for _ in range(n_before):
        asked = study.ask()
        assert asked is not None
        study.tell(asked.number, make_outcome(asked.candidate))
    lost = [study.ask(), study.ask()]
    if lost[1] is not None:
        study.tell(lost[1].number, make_outcome(lost[1].candidate))
    resumed = open_study(storage, tasks)
    n_done = n_before + (lost[1] is not None)
    assert (resumed.n_finished, resumed.n_asked) == (n_done, 20)
    numbers = finish(resumed)
    assert len(numbers) == 20 - n_done
    if lost[0] is not None:
        assert numbers[0] == lost[0].number == n_before  # what was running comes first, under its own number
    assert results_of(storage) == whole
    assert finish(open_study(storage, tasks)) == []


def test_a_failed_training_is_finished_and_not_repeated() -> None:
    config, plan = tiny()
    tasks = list_assignments(plan, config, DIGITS)
    storage = new_storage()
    study = open_study(storage, tasks)
    asked = study.ask()
    assert asked is not None
    study.tell(asked.number, failed("training loss not finite at step 3 of 8"))
    resumed = open_study(storage, tasks)
    assert resumed.n_finished == 1
    following = resumed.ask()
    assert following is not None
    assert following.number == 1


def test_a_training_that_kills_its_run_comes_last_and_is_not_given_up() -> None:
    config, plan = tiny()
    storage = new_storage()
    tasks = list_assignments(plan, config, DIGITS)[:2]
    for _ in range(2):
        asked = open_study(storage, tasks, max_attempts=2).ask()
        assert asked is not None
        assert asked.number == 0
    study = open_study(storage, tasks, max_attempts=2)
    assert study.n_finished == 0
    assert finish(study) == [1, 0]
    assert [trial.state.name for trial in trials_in(storage)] == ["COMPLETE", "COMPLETE"]


def test_a_pattern_in_two_regimes_or_seeds_is_different_trainings(whole: dict[Identity, Any]) -> None:
    keys = {key for key, _, _ in whole}
    assert len(keys) == 5
    assert set(whole) == {(key, seed, regime) for key in keys for seed in (0, 1) for regime in ("gentle", "steep")}


def test_the_listener_hears_each_outcome() -> None:
    config, plan = tiny()
    heard: list[tuple[int, int]] = []
    tasks = list_assignments(plan, config, DIGITS)[:3]
    finish(Study(tasks, MemoryLedger(new_storage()), lambda _, done, asked: heard.append((done, asked)), 3))
    assert heard == [(1, 3), (2, 3), (3, 3)]


# --- what the ledger holds ------------------------------------------------------------------------------------------


def test_trials_carry_regime_bins_match_and_stratum() -> None:
    """Of several depths and regimes, all trials have one search space: Optuna can say which parameter matters."""
    config, plan = wide()
    n_tasks = 24
    tasks = list_assignments(plan, config, DIGITS)[:n_tasks]
    assert {task.candidate.pattern.depth for task in tasks} == {10, 12}
    storage = new_storage()
    finish(open_study(storage, tasks))
    trials = trials_in(storage)
    names = sorted(map(name_stratum, plan["strata"]))
    for trial, (place, number, seed) in zip(trials, plan["order"], strict=False):
        described, attributes = plan["patterns"][number], trial.user_attrs["~candidate"]
        for name in ("key", "strategy", "template", "cell", "matched", "sources"):
            assert attributes[name] == described[name]
        assert attributes["seed"] == seed
        assert attributes["regime"] == plan["strata"][place]["regime"]
        assert attributes["budget"] == "total:28"
        assert trial.params["stratum"] == name_stratum(plan["strata"][place])
        assert trial.distributions["stratum"] == optuna.distributions.CategoricalDistribution(names)
        assert trial.distributions["mean_bd"] == optuna.distributions.FloatDistribution(1, 12)
    space = optuna.search_space.intersection_search_space(trials)
    assert set(space) == {"mean_bd", "span", "stratum"}


def test_one_stratum_is_no_parameter() -> None:
    config, plan = tiny()
    one = {**plan, "strata": plan["strata"][:1], "order": [entry for entry in plan["order"] if entry[0] == 0]}
    storage = new_storage()
    finish(open_study(storage, list_assignments(one, config, DIGITS)[:2]))
    trials = trials_in(storage)
    assert [set(trial.params) for trial in trials] == [{"mean_bd", "span"}] * 2
    assert {trial.user_attrs["~candidate"]["regime"] for trial in trials} == {"gentle"}


# --- run directories ------------------------------------------------------------------------------------------------


class StoppedError(Exception):
    pass


def fake_training(patch: pytest.MonkeyPatch, most: int) -> list[Candidate]:
    """Outcomes without training; gives the list of what is trained, and the next training after the most raises."""
    done: list[Candidate] = []

    def train(_: Trainer, job: Job, check_stop: Callable[[], None] = lambda: None) -> Outcome:
        check_stop()
        if len(done) == most:
            raise StoppedError
        done.append(job.candidate)
        return make_outcome(job.candidate)

    patch.setattr(Trainer, "train", train)
    return done


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[Candidate]:
    """What is trained in the test, without training it."""
    return fake_training(monkeypatch, 20)


def start(run: Path, **changes: Any) -> None:
    run_study(run, settle_config(run, None, {**TINY, **changes}, StudyConfig), PROTOCOL, lambda *_: None)


def go_on(run: Path, **changes: Any) -> None:
    run_study(run, settle_config(run, None, changes, StudyConfig), PROTOCOL, lambda *_: None)


@pytest.fixture(scope="module")
def stopped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("stopped") / "run"
    with pytest.MonkeyPatch.context() as patch:
        done = fake_training(patch, 10)
        with pytest.raises(StoppedError):
            start(run)
    assert len(done) == 10
    return run


@pytest.fixture
def half(tmp_path: Path, stopped: Path, trained: list[Candidate]) -> Path:  # noqa: ARG001  before any training
    """A run directory, of the test's own, of a study that stopped at its eleventh training."""
    return shutil.copytree(stopped, tmp_path / "run")


def test_the_plan_is_written_and_hashed_before_the_first_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "run"
    seen: list[Any] = []

    def train(*_: object) -> Outcome:
        study = optuna.load_study(study_name=STUDY_NAME, storage=f"sqlite:///{run / 'study.db'}")
        held = read_plan(run)
        assert held is not None
        seen.append((study.user_attrs["plan"] == held[1], study.user_attrs["asked"], len(study.trials)))
        raise StoppedError

    monkeypatch.setattr(Trainer, "train", train)
    with pytest.raises(StoppedError):
        start(run)
    assert seen == [(True, 20, 1)]
    assert sorted(path.name for path in run.iterdir()) == ["config.toml", "plan.json", "study.db"]


def test_no_trial_is_entered_where_the_plan_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> str:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("nas.studies.study.write_plan", refuse)
        with pytest.raises(OSError, match="No space"):
            start(tmp_path / "run")
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == ["study.db"]
    assert load_trials(tmp_path / "run" / "study.db") == []
    monkeypatch.setattr(Trainer, "train", lambda _self, job, *_: make_outcome(job.candidate))
    start(tmp_path / "run", seeds=1)  # other settings than those that came to nothing
    assert len(load_trials(tmp_path / "run" / "study.db")) == 10


def test_a_stopped_study_goes_on_by_its_run_directory_alone(
    half: Path, trained: list[Candidate], whole: dict[Identity, Any]
) -> None:
    go_on(half)
    assert len(trained) == 10
    assert results_of(half / "study.db") == whole


def test_the_plan_stays_the_first_one(half: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is laid out again: the protocol of the first call holds."""
    before = (half / PLAN_FILE).read_bytes()
    monkeypatch.setattr("nas.studies.study.make_plan", None)
    run_study(half, settle_config(half, None, {}, StudyConfig), {"alpha": 0.5}, lambda *_: None)
    assert (half / PLAN_FILE).read_bytes() == before


def test_a_study_of_an_older_version_goes_on(tmp_path: Path, trained: list[Candidate]) -> None:
    """It crossed distance from the output with span, and stopped at its sixth training."""
    run, older = tmp_path / "run", Path(__file__).parent / "older_study"
    run.mkdir()
    for name in (PLAN_FILE, "config.toml"):
        shutil.copy(older / name, run)
    with closing(sqlite3.connect(run / "study.db")) as database:
        database.executescript((older / "study.sql").read_text())
    before = results_of(run / "study.db")
    config = settle_config(run, None, {}, StudyConfig)
    assert (config.cross, config.bins) == ("from_output_mean,span", "1.3:2.5:2,2.8:3.8:1")
    go_on(run)
    after = results_of(run / "study.db")
    assert len(trained) == 20 - 5
    done = {identity: result for identity, result in before.items() if result[0] == "COMPLETE"}
    assert len(done) == 5
    assert done.items() <= after.items()
    assert Counter(state for state, _ in after.values()) == {"COMPLETE": 20}
    result = read_run(run)
    (crossing,) = list_crossings(result.plan or {})
    assert (crossing.measures, len(crossing.bins[0]), crossing.lacking) == (("from_output_mean", "span"), 2, ())
    designed = result.candidates[result.candidates["strategy"] == "design"]
    assert sorted(designed["cell"]) == 4 * ["0,0"] + 4 * ["1,0"]
    for _, row in designed.iterrows():
        low, high = crossing.bins[0][int(row["cell"][0])]
        assert low - 1e-9 <= row["from_output_mean"] <= high + 1e-9
    assert result.candidates["cell"].notna().sum() == len(designed)
    adherence = check_adherence(result)
    assert (adherence.n_missing, adherence.progress[0].missing_cells) == (0, ())
    with pytest.raises(ConflictError, match=r"cross .* there, .* now"):
        settle_config(run, None, {"cross": "mean_bd,span"}, StudyConfig)


def test_workers_and_attempts_may_change_and_nothing_else(half: Path) -> None:
    assert settle_config(half, None, {"workers": 3, "attempts": 1}, StudyConfig).workers == 3
    changes: list[dict[str, Any]] = [
        *({"seeds": 3}, {"trials": 2}, {"lr": 0.1}, {"per_cell": 2}, {"seed": 1}, {"check_epochs": 5}),
        *({"regime": ("gentle=lr:0.05,epochs:1",)}, {"cross": "from_output_mean,span"}, {"bins": "1,1"}),
    ]
    for change in changes:
        (name,) = change
        with pytest.raises(ConflictError, match=f"{name.replace('_', '-')} .* there, .* now"):
            settle_config(half, None, change, StudyConfig)


def _edit_seed(plan: dict[str, Any]) -> None:
    plan["order"][-1][2] = 0


def _drop_hypothesis(plan: dict[str, Any]) -> None:
    plan["protocol"]["hypotheses"] = []


@pytest.mark.parametrize("rehashed", [False, True])
@pytest.mark.parametrize("edit", [_edit_seed, _drop_hypothesis])
def test_an_edited_plan_is_refused_and_nothing_trained(
    half: Path, trained: list[Candidate], edit: Callable[[dict[str, Any]], None], rehashed: bool
) -> None:
    held = read_plan(half)
    assert held is not None
    plan, sha256 = held
    edit(plan)
    if rehashed:
        write_plan(half, plan)
    else:
        (half / PLAN_FILE).write_text(json.dumps({"sha256": sha256, "plan": plan}))
    before = {name: (half / name).read_bytes() for name in ("study.db", PLAN_FILE)}
    with pytest.raises(ConflictError, match="plan"):
        go_on(half)
    assert trained == []
    assert {name: (half / name).read_bytes() for name in before} == before
    with pytest.raises(ConflictError, match=r"plan\.json"):
        read_run(half)


def test_a_lost_plan_is_refused_and_nothing_trained(half: Path, trained: list[Candidate]) -> None:
    (half / PLAN_FILE).unlink()
    before = (half / "study.db").read_bytes()
    with pytest.raises(ConflictError, match=r"has lost its plan\.json, .*: restore it"):
        go_on(half)
    assert trained == []
    assert (half / "study.db").read_bytes() == before
    assert not (half / PLAN_FILE).exists()
    with pytest.raises(ConflictError, match="and it is missing: restore it"):
        read_run(half)


def test_a_plan_without_a_ledger_yet_is_used(half: Path, trained: list[Candidate]) -> None:
    """What a kill between the two leaves."""
    (half / "study.db").unlink()
    before = (half / PLAN_FILE).read_bytes()
    go_on(half)
    assert len(trained) == 20
    assert (half / PLAN_FILE).read_bytes() == before


def test_a_search_does_not_go_on_with_a_study_nor_the_reverse(half: Path, tmp_path: Path) -> None:
    with pytest.raises(ConflictError, match=r"holds a study, not a search: use `.*study --run .*`, or another --run"):
        settle_config(half, None, {}, SearchConfig)
    other = tmp_path / "other"
    other.mkdir()
    (other / "config.toml").write_text(format_toml(SearchConfig(workers=1, device="cpu")))
    with pytest.raises(ConflictError, match=r"holds a search, not a study: use `.*search --run .*`, or another --run"):
        settle_config(other, None, {}, StudyConfig)


def test_what_cannot_be_laid_out_leaves_no_plan(tmp_path: Path, trained: list[Candidate]) -> None:
    with pytest.raises(InputError, match="cannot be crossed with"):
        start(tmp_path / "run", layers=4, budget="total:4", cross="mean_bd,span", bins="2,2")
    assert trained == []
    assert not (tmp_path / "run" / PLAN_FILE).exists()
    assert not (tmp_path / "run" / "study.db").exists()


# --- real trainings -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run directory of a whole study, really trained."""
    run = tmp_path_factory.mktemp("real") / "run"
    calls: list[tuple[int, int]] = []

    def listen(trial: Trial | None, n_finished: int, n_asked: int) -> None:
        assert trial is None or not trial.running
        calls.append((n_finished, n_asked))

    run_study(run, settle_config(run, None, TINY, StudyConfig), PROTOCOL, listen)
    assert calls == [(n, 20) for n in range(21)]
    return run


def test_a_whole_study_trains_and_a_second_call_has_nothing_to_do(real: Path) -> None:
    before = results_of(real / "study.db")
    assert {state for state, _ in before.values()} == {"COMPLETE"}
    assert len(before) == 20
    calls: list[tuple[Any, ...]] = []
    run_study(real, settle_config(real, None, {}, StudyConfig), PROTOCOL, lambda *call: calls.append(call))
    assert calls == [(None, 20, 20)]
    assert results_of(real / "study.db") == before


def test_each_regime_trains_in_its_own_way(real: Path) -> None:
    results = results_of(real / "study.db")
    keys = {key for key, _, _ in results}
    pairs = [(results[key, seed, "gentle"][1], results[key, seed, "steep"][1]) for key in keys for seed in (0, 1)]
    assert sum(gentle != steep for gentle, steep in pairs) >= 8


def test_a_study_is_read_with_its_plan_and_its_columns(real: Path) -> None:
    run = read_run(real)
    held = read_plan(real)
    assert held is not None
    assert (run.plan, run.plan_sha256) == held
    assert run.asked == 20
    plan = held[0]
    running: dict[str, Any] = {
        "workers": 1, "attempts": 3, "trial_timeout": None, "checkpoint_seconds": 10.0, "gpus_per_worker": None,
        "ray_address": None, "memory_efficient": False, "cohort": 1, "hours": None, "log": [],
        "device": "cpu", "data": None,
    }  # fmt: skip
    # The plan has the network as older versions wrote it, the ledger as it is asked for now.
    network = {"layer": "bn-relu-conv", "merge": "concat", "drop_layers": 0.0, "drop_path": 0.0, "surroundings": None}
    network |= {"exits": "last", "exit_loss": "sum"}
    planned = {name: value for name, value in plan["settings"].items() if name != "bottleneck"}
    assert run.config == {**planned, **network, **running}
    by_key = {one["key"]: one for one in plan["patterns"]}
    table = run.candidates
    assert table["regime"].tolist() == [plan["strata"][place]["regime"] for place, _, _ in plan["order"]]
    assert table["seed"].tolist() == [seed for _, _, seed in plan["order"]]
    for name in ("strategy", "template", "matched", "layers"):
        values = [None if pd.isna(value) else value for value in table[name]]
        assert values == [by_key[key][name] for key in table["key"]]
    cells = [None if pd.isna(value) else list(map(int, value.split(","))) for value in table["cell"]]
    assert cells == [by_key[key]["cell"] for key in table["key"]]
    designed = table[table["strategy"] == "design"]
    assert sorted(set(designed["cell"])) == ["0,0", "1,0"]
    assert table["nn_mass"].to_list() == pytest.approx([16 / 45 * 4 * 10] * 20)  # 16 of 45 possible skips
    assert table["random_walk_depth"].between(1, 10).all()
    assert table["mean_inverse_bd"].between(0, 1).all()
    assert len(set(table["params"])) == len(set(table["flops"])) == 1


def test_a_search_has_no_plan(tmp_path: Path) -> None:
    Ledger(tmp_path / "study.db", {"asked": 1}, frozenset())
    run = read_run(tmp_path)
    assert (run.plan, run.plan_sha256) == (None, None)


@pytest.mark.slow
@pytest.mark.ci
def test_a_killed_study_goes_on_to_what_it_would_have_been(real: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    command = [sys.executable, "-u", str(ROOT / "run_search.py"), "study", "--run", str(run), *FLAGS]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith("7/20"):
            break
    process.send_signal(signal.SIGKILL)
    process.stdout.close()
    assert process.wait(timeout=60) == -signal.SIGKILL
    states = [trial.state.name for trial in load_trials(run / "study.db")]
    assert 7 <= states.count("COMPLETE") < 20
    assert states.count("RUNNING") <= 1
    before = read_plan(run)
    run_study(run, settle_config(run, None, {}, StudyConfig), PROTOCOL, lambda *_: None)
    assert read_plan(run) == before
    assert results_of(run / "study.db") == results_of(real / "study.db")


def test_time_is_estimated_for_all_trainings_and_shared_by_workers() -> None:
    config, plan = tiny()
    one = estimate_seconds(plan, config)
    many = estimate_seconds(plan, config.model_copy(update={"workers": 1000}))
    assert 0 < many < one / 20
    assert one < 600


def test_a_dry_run_counts_the_proxies_of_each_pattern_and_seed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """By a clock that only measuring moves, a tenth of a second a layer; more workers do not make it faster."""
    clock = [0.0]

    def measure(_: ProxyRecorder, candidate: Candidate) -> None:
        clock[0] += candidate.pattern.depth / 10

    monkeypatch.setattr(ProxyRecorder, "measure", measure)
    monkeypatch.setattr(Trainer, "train", lambda *_: None)
    monkeypatch.setattr("nas.studies.study.time", SimpleNamespace(perf_counter=lambda: clock[0]))
    config, plan = wide()
    assert estimate_seconds(plan, config) == 0.0
    depths = [described["layers"] for described in plan["patterns"]]
    for n_workers in (1, 5):
        with_proxies = config.model_copy(update={"proxies": True, "workers": n_workers})
        assert estimate_seconds(plan, with_proxies) == pytest.approx(3 * sum(depths) / 10)  # three seeds


# --- the command line -----------------------------------------------------------------------------------------------


def refuse_constant(text: str) -> None:
    raise AssertionError(f"{text} is no JSON")


def test_a_dry_run_prints_strict_json_and_writes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nas.studies.study.estimate_seconds", lambda *_: 720.0)
    done = run_command("study", "--run", tmp_path / "run", *FLAGS, "--dry-run", "--json")
    assert done.returncode == 0, done.stderr
    assert list(tmp_path.iterdir()) == []
    summary = json.loads(done.stdout, parse_constant=refuse_constant)
    assert set(summary) == {"sha256", "trainings", "hours", "strata", "pattern_strata", "negligible_from"}
    assert summary["trainings"] == 20
    assert summary["hours"] == pytest.approx(0.2)
    assert [one["stratum"] for one in summary["strata"]] == ["10 layers, gentle", "10 layers, steep"]
    assert len(summary["sha256"]) == 64


def test_a_study_in_the_surroundings_of_a_published_network_is_planned_if_cost_is_equal_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nas.studies.study.estimate_seconds", lambda *_: 720.0)
    study = ("study", "--run", tmp_path / "run", *FLAGS, "--dry-run", "--json")
    plain, residual = (run_command(*study, *more) for more in ((), ("--network", "resnet-32")))
    plans = [json.loads(done.stdout) for done in (plain, residual)]
    assert plans[0]["trainings"] == plans[1]["trainings"]
    assert plans[0]["sha256"] != plans[1]["sha256"]
    refused = run_command(*study, "--network", "densenet-40-12")
    assert refused.returncode == 2
    assert "equal cost" in refused.stderr


def test_a_dry_run_tells_trainings_hours_and_the_plans_hash(
    monkeypatch: pytest.MonkeyPatch, real: Path, tmp_path: Path
) -> None:
    """On a run directory it is the plan that is held there."""
    monkeypatch.setattr("nas.studies.study.estimate_seconds", lambda *_: 7200.0)
    run = tmp_path / "run"
    shutil.copytree(real, run)
    before = {path.name: path.read_bytes() for path in run.iterdir()}
    held = read_plan(run)
    assert held is not None
    said = " ".join(run_command("study", "--run", run, "--dry-run").stdout.split())
    assert "20 trainings, about 2.0 h, 1 at a time on cpu with fused layers; plan" in said
    assert f"plan {held[1][:12]}; nothing was written" in said
    assert "negligible from about 216 patterns, summed over strata, and more where seeds are noisy" in said
    assert "this plan has 4" in said
    assert "10 layers, gentle: 10 trainings; 1 templates, 2 design, 2 reversal" in said
    assert "10 layers: mean_bd in 2 bins from 1.600 to 2.000, crossed with span in 1 bins from 3.000 to 3.600" in said
    assert {path.name: path.read_bytes() for path in run.iterdir()} == before


def test_bad_flags_are_explained_all_at_once(tmp_path: Path) -> None:
    run = tmp_path / "run"
    flags = ["--bins", "5:0:3,3,2", "--regime", "gentle=lr:fast", "--check-epochs", "2", "--per-cell", "0"]
    done = run_command("study", "--run", run, *flags)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    for said in (
        "bins '5:0:3' of walk_length: give 1 to 100 bins, and LO below HI",
        "regime 'gentle=lr:fast': expected NAME=lr:F,epochs:N, as gentle=lr:0.05,epochs:9",
        "per-cell: expected a whole number from 1 to 100, got 0",
    ):
        assert said in done.stderr
    assert not done.stdout
    assert not run.exists()
