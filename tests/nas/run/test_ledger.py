"""The ledger: what is told is on the disk, what contradicts it is refused."""

import os
import sqlite3
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import optuna
import pytest
import sqlalchemy

from nas.model.candidate import Candidate
from nas.model.config import NetworkConfig
from nas.model.cost import Cost, predict_cost
from nas.records.database import STUDY_NAME, check_database, read_attributes
from nas.records.metrics import IMAGE_METRICS, Metric, Metrics, image_metrics, write_metrics
from nas.records.trial import DRIVER_ENDED, HASH, SCHEMA, Attempts, Outcome, is_sealed
from nas.run.directory import sweep
from nas.run.ledger import Ledger
from nas.workers.jobs import failed
from search_spaces.budget import log_budget
from search_spaces.errors import ConflictError, MachineError
from search_spaces.templates import find_template
from tests.support.measured import SECOND
from tests.support.small import ROOT

CANDIDATE = Candidate(find_template("log").build(5), NetworkConfig(layers=5), 1, "log")
OUTCOME = Outcome(image_metrics(0.75, 0.5), 1, 2.0, ({"epoch": 1, "train_loss": 1.0},), None)
BUDGET = log_budget(5)


def _open(path: Path, **attributes: object) -> Ledger:
    ledger = Ledger(path, attributes, renewed=frozenset({"asked"}))
    ledger.accept()
    return ledger


def _enter(ledger: Ledger) -> int:
    return ledger.enter(CANDIDATE, "templates", BUDGET, predict_cost(CANDIDATE))


def test_an_entry_is_a_running_trial_with_achieved_descriptors(tmp_path: Path) -> None:
    ledger = _open(tmp_path / "study.db")
    assert [_enter(ledger), _enter(ledger)] == [0, 1]
    study = optuna.load_study(study_name=STUDY_NAME, storage=f"sqlite:///{tmp_path / 'study.db'}")
    trial = study.trials[0]
    assert study.metric_names == ["validation_accuracy"]
    assert study.direction == optuna.study.StudyDirection.MAXIMIZE
    assert trial.state == optuna.trial.TrialState.RUNNING
    assert trial.params == {"mean_bd": pytest.approx(19 / 15), "span": pytest.approx(21 / 11)}
    entered = dict(trial.user_attrs["~candidate"])
    assert is_sealed(entered, 0, trial.params)
    del entered[HASH]
    shown = {name: value for name, value in trial.user_attrs.items() if name != "~candidate"}
    assert shown.pop("Name") == "log, seed 1"
    assert shown == {name: value for name, value in entered.items() if name not in ("sources", "nn_mass")}
    assert sorted(trial.user_attrs)[-1] == "~candidate"  # the long one: the dashboard sorts by name
    assert entered == {
        "key": CANDIDATE.pattern.key,
        "template": "log",
        "strategy": "templates",
        "seed": 1,
        "max_bd": 2,
        "params": predict_cost(CANDIDATE).params,
        "flops": predict_cost(CANDIDATE).flops,
        # The classifier reads nodes 2, 4 and 5, of which the walks to node 0 have these mean numbers of layers.
        "walk_length": pytest.approx((1.5 + (1 + (0 + 1.5 + 2.25) / 3) + (1 + (1 + 2.25 + 2.25) / 3)) / 3),
        "visit_evenness": pytest.approx(SECOND["visit_evenness"](CANDIDATE.pattern, (2, 4, 5))),
        "ntk_trace": pytest.approx(SECOND["ntk_trace"](CANDIDATE.pattern, (2, 4, 5))),
        "nn_mass": pytest.approx(6 / 10 * 4 * 5),  # 11 connections, 5 of them the chain, 10 skips possible
        "budget": "log",
        "sources": [[0], [0, 1], [1, 2], [0, 2, 3], [1, 3, 4]],
    }


def test_outcomes_are_kept_and_failures_have_no_value(tmp_path: Path) -> None:
    ledger = _open(tmp_path / "study.db")
    for outcome in (OUTCOME, failed("out of memory"), Outcome(image_metrics(float("inf"), 0.1), 1, 1.0)):
        ledger.finish(_enter(ledger), outcome)
    _enter(ledger)
    study = optuna.load_study(study_name=STUDY_NAME, storage=f"sqlite:///{tmp_path / 'study.db'}")
    assert [trial.state.name for trial in study.trials] == ["COMPLETE", "FAIL", "FAIL", "RUNNING"]
    assert study.trials[0].value == 0.75
    outcome = study.trials[0].user_attrs["~outcome"]
    shown = {name: study.trials[0].user_attrs[name] for name in ("validation_loss", "epochs", "seconds")}
    assert shown == {"validation_loss": 0.5, "epochs": 1, "seconds": 2.0}
    assert study.trials[1].user_attrs["error"] == "out of memory"
    assert {name: value for name, value in outcome.items() if name != HASH} == {
        "validation_loss": 0.5,
        "epochs": 1,
        "seconds": 2.0,
        "curve": [{"epoch": 1, "train_loss": 1.0}],
        "error": None,
        "paused": False,
        "resumed_epoch": 0,
        "checkpoint_error": None,
        "strengths": [],
    }
    assert study.trials[1].user_attrs["~outcome"]["error"] == "out of memory"
    entries = _open(tmp_path / "study.db").entries()
    assert [entry.running for entry in entries] == [False, False, False, True]
    assert [entry.value for entry in entries] == [0.75, None, None, None]
    assert {entry.pattern for entry in entries} == {CANDIDATE.pattern}


def test_a_candidate_takes_at_most_12_synchronised_writes(tmp_path: Path) -> None:
    """Counted by SQLite's own change counter, which every transaction that writes adds one to."""
    path = tmp_path / "study.db"
    ledger = _open(path)
    ledger.finish(_enter(ledger), OUTCOME)

    def n_commits() -> int:
        return int.from_bytes(path.read_bytes()[24:28], "big")

    before = n_commits()
    ledger.finish(_enter(ledger), OUTCOME)
    n_fsyncs_a_commit = 4  # rollback journal: journal twice, database, directory
    assert (n_commits() - before) * n_fsyncs_a_commit <= 12


def test_an_outcome_is_written_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "study.db"
    ledger = _open(path)
    number = _enter(ledger)
    full = sqlalchemy.exc.OperationalError("", None, sqlite3.OperationalError("database or disk is full"))

    def refuse(*_: object) -> None:
        raise full

    for place, tell, outcome in (
        ("optuna.storages.RDBStorage.set_trial_state_values", ledger.finish, OUTCOME),
        ("nas.run.ledger.write_shown", ledger.finish, OUTCOME),
        ("nas.run.ledger.write_shown", ledger.pause, _paused(0.5, 1)),
    ):
        before = path.read_bytes()
        with monkeypatch.context() as patch:
            patch.setattr(place, refuse)
            with pytest.raises(MachineError, match="database or disk is full"):
                tell(number, outcome)
        assert path.read_bytes() == before
    ledger.finish(number, OUTCOME)
    (entry,) = _open(path).entries()
    assert (entry.running, entry.value) == (False, OUTCOME.metrics["validation_accuracy"])


def test_another_study_in_the_same_place_is_refused_and_nothing_changed(tmp_path: Path) -> None:
    path = tmp_path / "study.db"
    _open(path, data="a", asked=1)
    _open(path, data="a", asked=2)
    before = path.read_bytes()
    with pytest.raises(ConflictError, match="'a', and now it is 'b'"):
        _open(path, data="b", asked=3)
    assert path.read_bytes() == before
    study = optuna.load_study(study_name=STUDY_NAME, storage=f"sqlite:///{path}")
    held = study.user_attrs
    assert held.pop(HASH).keys() == held.keys()
    assert held.pop("metrics") == write_metrics(IMAGE_METRICS)
    assert held == {"schema": SCHEMA, "data": "a", "asked": 2}


def _make_of_schema(path: Path, schema: int) -> None:
    """A ledger with one finished trial, written as a schema before hashes does."""
    ledger = _open(path)
    ledger.finish(_enter(ledger), OUTCOME)
    storage = f"sqlite:///{path}"
    trial = optuna.load_study(study_name=STUDY_NAME, storage=storage).trials[0]
    optuna.delete_study(study_name=STUDY_NAME, storage=storage)
    study = optuna.create_study(study_name=STUDY_NAME, storage=storage, direction="maximize")
    study.set_user_attr("schema", schema)
    records = {name: trial.user_attrs[f"~{name}"] for name in ("candidate", "outcome")}
    if schema < 3:
        for record in records.values():
            del record[HASH]
    if schema == 1:
        records |= records.pop("candidate")
    trial.user_attrs = records
    study.add_trial(trial)


@pytest.mark.parametrize("schema", [1, 2, 3])
def test_a_run_of_an_older_schema_is_read_and_gone_on_with(tmp_path: Path, schema: int) -> None:
    path = tmp_path / "study.db"
    _make_of_schema(path, schema)
    ledger = _open(path)
    ledger.finish(_enter(ledger), OUTCOME)
    older, newer = _open(path).entries()
    assert replace(older, number=newer.number) == newer
    study = optuna.load_study(study_name=STUDY_NAME, storage=f"sqlite:///{path}")
    assert study.user_attrs["schema"] == SCHEMA


def test_a_run_of_a_newer_schema_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "study.db"
    _make_of_schema(path, SCHEMA + 1)
    with pytest.raises(ConflictError, match=f"schema {SCHEMA + 1}, and now it is {SCHEMA}"):
        _open(path)


@pytest.mark.parametrize("content", [b"", b"not a database" * 100])
def test_a_file_that_is_no_database_is_refused_or_empty(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "study.db"
    path.write_bytes(content)
    if content:
        with pytest.raises(ConflictError, match="damaged or no SQLite database"):
            _open(path)
        assert path.read_bytes() == content
    else:  # what a kill right after creation leaves
        assert _open(path).entries() == []


def test_a_database_of_something_else_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "study.db"
    optuna.create_study(study_name="another", storage=f"sqlite:///{path}")
    before = path.read_bytes()
    with pytest.raises(ConflictError, match="holds no study of a run"):
        _open(path)
    assert path.read_bytes() == before


OPEN_AND_DIE = """
import os, signal, sys, time
from pathlib import Path
from nas.run.ledger import Ledger
for number in range(25):
    path = Path(sys.argv[1]) / str(number) / "study.db"
    path.parent.mkdir()
    child = os.fork()
    if child == 0:
        Ledger(path, {}, frozenset())
        os._exit(0)
    time.sleep(0.02 * 1.2**number)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
"""


@pytest.mark.slow
def test_killed_while_it_is_made_a_ledger_can_be_opened_all_the_same(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-c", OPEN_AND_DIE, str(tmp_path)], cwd=ROOT, check=True, timeout=120)
    cut = [folder for folder in tmp_path.iterdir() if not (folder / "study.db").exists()]
    assert len(cut) >= 3
    for folder in tmp_path.iterdir():
        assert _open(folder / "study.db").entries() == []
        assert [path.name for path in folder.iterdir()] == ["study.db"]


def test_sweeping_a_run_leaves_a_users_hidden_files(tmp_path: Path) -> None:
    names = [".notes.tmp", ".config.toml.17.tmp", ".tune/mine", ".study.db.backup", "checkpoints/.mine.tmp"]
    ours = [".skipsearch-tune/x", "checkpoints/.000001.stack.skipsearch-tmp", ".config.toml.17.skipsearch-tmp"]
    ours += [".study.db.17.skipsearch-tmp-journal"]
    for name in (*names, *ours):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("mine")
    sweep(tmp_path)
    left = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()}
    assert left == set(names)
    _open(tmp_path / "study.db")
    assert {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()} == {*names, "study.db"}


def test_an_overwritten_page_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "study.db"
    ledger = _open(path)
    for _ in range(3):
        ledger.finish(_enter(ledger), OUTCOME)
    check_database(path)
    with sqlite3.connect(path) as connection:
        (page,) = connection.execute("SELECT rootpage FROM sqlite_master WHERE name = 'trials'").fetchone()
        (size,) = connection.execute("PRAGMA page_size").fetchone()
    connection.close()
    with path.open("r+b") as stream:
        stream.seek((page - 1) * size)
        stream.write(os.urandom(size))
    with pytest.raises(ConflictError, match="damaged"):
        check_database(path)


CUT_SHORT = """
import os, sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("BEGIN")
connection.execute("PRAGMA cache_size = 1")  # so that pages go to the file before the commit
connection.execute("CREATE TABLE other AS WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 99999)"
                   " SELECT i FROM n")
os.kill(os.getpid(), 9)
"""


def test_what_a_kill_left_half_written_is_rolled_back(tmp_path: Path) -> None:
    path = tmp_path / "study.db"
    ledger = _open(path)
    ledger.finish(_enter(ledger), OUTCOME)
    before = path.read_bytes()
    subprocess.run([sys.executable, "-c", CUT_SHORT, str(path)], check=False)
    assert path.read_bytes() != before
    assert path.with_name("study.db-journal").stat().st_size > 0
    (entry,) = _open(path).entries()
    assert entry.value == OUTCOME.metrics["validation_accuracy"]
    assert path.read_bytes() == before


@pytest.mark.parametrize("name", ["a?mode=memory", "b#c", "d%20e", "f g", "../h/i:j@k"])
def test_a_name_leads_to_that_folder_alone(tmp_path: Path, name: str) -> None:
    folder = tmp_path / "runs" / name
    folder.mkdir(parents=True)
    _enter(_open(folder / "study.db"))
    assert [path.resolve() for path in tmp_path.rglob("study.db")] == [(folder / "study.db").resolve()]
    assert {path for path in tmp_path.rglob("*") if path.is_file()} == set(tmp_path.rglob("study.db"))
    assert len(_open(folder / "study.db").entries()) == 1


def test_cost_is_recorded_as_given(tmp_path: Path) -> None:
    ledger = _open(tmp_path / "study.db")
    ledger.enter(CANDIDATE, "random", BUDGET, Cost(params=7, flops=9))
    study = optuna.load_study(study_name=STUDY_NAME, storage=f"sqlite:///{tmp_path / 'study.db'}")
    entered = study.trials[0].user_attrs["~candidate"]
    assert (entered["params"], entered["flops"]) == (7, 9)


def _paused(accuracy: float, epochs: int) -> Outcome:
    curve = tuple({"epoch": epoch + 1, "train_loss": 1 / (epoch + 1)} for epoch in range(epochs))
    return Outcome(
        image_metrics(accuracy, 0.25 * epochs),
        epochs,
        1.5,
        curve,
        paused=True,
        resumed_epoch=epochs - 1,
        checkpoint_error="why",
    )


def test_a_paused_candidate_stays_running_with_its_measurements_at_rungs(tmp_path: Path) -> None:
    path = tmp_path / "study.db"
    ledger = _open(path)
    number = _enter(ledger)
    assert (ledger.entries()[0].outcome, dict(ledger.entries()[0].rungs)) == (None, {})
    ledger.pause(number, _paused(0.5, 1))
    (entry,) = _open(path).entries()
    assert (entry.running, entry.value, entry.outcome) == (True, None, _paused(0.5, 1))
    ledger.restart(number, Attempts(), 3)
    ledger.pause(number, _paused(0.25, 3))
    (entry,) = _open(path).entries()
    assert (entry.running, entry.pause_after, entry.outcome) == (True, 3, _paused(0.25, 3))
    assert dict(entry.rungs) == {1: 0.5, 3: 0.25}
    assert dict(entry.rung_metrics) == {1: {"validation_loss": 0.25}, 3: {"validation_loss": 0.75}}
    assert entry.metrics_at(3) == {"validation_accuracy": 0.25, "validation_loss": 0.75}
    study = optuna.load_study(study_name=STUDY_NAME, storage=f"sqlite:///{path}")
    assert study.trials[0].state == optuna.trial.TrialState.RUNNING
    assert study.trials[0].intermediate_values == {1: 0.5, 3: 0.25}


def test_a_pruned_candidate_is_never_complete_and_a_finished_one_keeps_its_rungs(tmp_path: Path) -> None:
    path = tmp_path / "study.db"
    ledger = _open(path)
    pruned, finished, failing = (_enter(ledger) for _ in range(3))
    for number, accuracy in ((pruned, 0.9), (finished, 0.5), (failing, 0.6)):
        ledger.pause(number, _paused(accuracy, 1))
    ledger.prune(pruned)
    ledger.finish(finished, OUTCOME)
    ledger.finish(failing, failed("worker died"))
    study = optuna.load_study(study_name=STUDY_NAME, storage=f"sqlite:///{path}")
    assert [trial.state.name for trial in study.trials] == ["PRUNED", "COMPLETE", "FAIL"]
    assert study.trials[pruned].last_step == 1
    assert study.trials[pruned].user_attrs["~outcome"]["paused"] is True
    assert study.best_trial.number == finished
    entries = _open(path).entries()
    assert [entry.running for entry in entries] == [False, False, False]
    assert [entry.value for entry in entries] == [None, 0.75, None]
    assert [dict(entry.rungs) for entry in entries] == [{1: 0.9}, {1: 0.5}, {1: 0.6}]
    assert [dict(entry.rung_metrics) for entry in entries] == [{1: {"validation_loss": 0.25}}] * 3


def test_how_many_a_run_ended_with_is_recorded_sealed_and_may_change(tmp_path: Path) -> None:
    path = tmp_path / "study.db"
    renewed = frozenset({"asked"})
    ledger = Ledger(path, {"asked": 9}, renewed)
    ledger.accept()
    ledger.record(asked=5)
    assert read_attributes(path)["asked"] == 5  # which checks its hash
    Ledger(path, {"asked": 12}, renewed).accept()
    assert read_attributes(path)["asked"] == 12


def test_attempts_are_held_until_the_next(tmp_path: Path) -> None:
    path = tmp_path / "study.db"
    ledger = _open(path)
    number = _enter(ledger)
    assert (ledger.entries()[0].attempts, ledger.entries()[0].returned) == (Attempts(), False)
    once, twice = Attempts(("worker died",), 3, 2, "a1"), Attempts(("worker died", "again"))
    ledger.restart(number, once, 1)
    (entry,) = _open(path).entries()
    assert (entry.attempts, entry.returned, entry.pause_after) == (once, False, 1)
    ledger.give_back(number, once, 3)
    (entry,) = _open(path).entries()
    assert (entry.attempts, entry.returned, entry.pause_after) == (once, True, 3)
    ledger.restart(number, twice, None)
    (entry,) = _open(path).entries()
    assert (entry.attempts, entry.returned, entry.pause_after) == (twice, False, None)


def test_who_was_given_up_is_told_apart_and_can_be_opened_again(tmp_path: Path) -> None:
    path = tmp_path / "study.db"
    ledger = _open(path)
    given_up, itself, again = (_enter(ledger) for _ in range(3))
    attempts = Attempts(("worker died",) * 3, given_up_after=3)
    for number in (given_up, again):
        ledger.give_up(number, failed("worker died; given up after 3 attempts"), attempts, None)
    ledger.finish(itself, failed("training loss not finite at step 3 of 8"))
    assert [entry.attempts.given_up_after for entry in _open(path).entries()] == [3, 0, 3]
    ledger.reopen(again, replace(attempts, given_up_after=0), None)
    assert [entry.running for entry in _open(path).entries()] == [False, False, True]
    ledger.finish(again, OUTCOME)
    entry = _open(path).entries()[again]
    assert (entry.value, entry.attempts.lost) == (OUTCOME.metrics["validation_accuracy"], ("worker died",) * 3)
    study = optuna.load_study(study_name=STUDY_NAME, storage=f"sqlite:///{path}")
    assert [trial.state.name for trial in study.trials] == ["FAIL", "FAIL", "COMPLETE"]


def test_an_older_run_tells_by_its_error_who_was_given_up(tmp_path: Path) -> None:
    """There a driver's death was an attempt, and the last one was told in the error alone."""
    path = tmp_path / "study.db"
    _open(path)
    study = optuna.load_study(study_name=STUDY_NAME, storage=f"sqlite:///{path}")
    made = _open(tmp_path / "another.db")
    made.finish(_enter(made), OUTCOME)
    trial = optuna.load_study(study_name=STUDY_NAME, storage=f"sqlite:///{tmp_path / 'another.db'}").trials[0]
    candidate = {name: value for name, value in trial.user_attrs["~candidate"].items() if name != HASH}
    lost = {"lost": ["worker died", DRIVER_ENDED, "worker died"], "returned": False, "pause_after": None}
    for reason in (DRIVER_ENDED, "out of memory: a line\nand another"):
        outcome = failed(f"{reason}; given up after 4 attempts").to_dict()
        attributes = {"candidate": candidate, "attempts": lost, "outcome": outcome}
        study.add_trial(optuna.trial.create_trial(state=optuna.trial.TrialState.FAIL, user_attrs=attributes))
    by_driver, by_worker = (entry.attempts for entry in _open(path).entries())
    assert by_driver == Attempts(("worker died", "worker died"), driver_deaths=2, given_up_after=4)
    last = "out of memory: a line\nand another"
    assert by_worker == Attempts(("worker died", "worker died", last), driver_deaths=1, given_up_after=4)


TASK: Metrics = (Metric("bits"), Metric("f1", maximize=True))


def test_a_task_of_other_metrics_has_the_first_as_its_value_in_its_direction(tmp_path: Path) -> None:
    path = tmp_path / "study.db"
    ledger = Ledger(path, {}, frozenset(), metrics=TASK)
    ledger.accept()
    finished, halved, broken = (_enter(ledger) for _ in range(3))
    ledger.finish(finished, Outcome({"bits": 2, "f1": 0.5}, 1, 1.0))
    ledger.pause(halved, Outcome({"bits": 3.0, "f1": 0.25}, 1, 1.0, paused=True))
    ledger.finish(broken, Outcome({"bits": 1.0, "f1": float("nan")}, 1, 1.0))
    study = optuna.load_study(study_name=STUDY_NAME, storage=f"sqlite:///{path}")
    assert (study.metric_names, study.direction) == (["bits"], optuna.study.StudyDirection.MINIMIZE)
    assert study.user_attrs["metrics"] == [{"name": "bits", "maximize": False}, {"name": "f1", "maximize": True}]
    assert [trial.value for trial in study.trials] == [2.0, None, None]
    assert study.trials[halved].intermediate_values == {1: 3.0}
    first, second, third = Ledger(path, {}, frozenset(), metrics=TASK).entries()
    assert (first.value, first.metrics) == (2.0, {"bits": 2.0, "f1": 0.5})
    assert (second.metrics, second.metrics_at(1)) == ({}, {"bits": 3.0, "f1": 0.25})
    assert third.outcome is not None
    assert (third.state, third.metrics, third.outcome.error) == ("failed", {}, "f1 is nan, which is not finite")


def test_a_run_keeps_its_metrics_and_an_older_one_has_those_of_images(tmp_path: Path) -> None:
    for name, attributes, other in (("new", {}, IMAGE_METRICS), ("older", {"metrics": None}, TASK)):
        path = tmp_path / name / "study.db"
        path.parent.mkdir()
        ledger = Ledger(path, {}, frozenset(), metrics=TASK if name == "new" else IMAGE_METRICS)
        if attributes:
            del ledger._accepted["metrics"]  # as versions wrote it that knew no other metrics
        ledger.accept()
        with pytest.raises(ConflictError, match=r"metrics.*bits"):
            Ledger(path, {}, frozenset(), metrics=other)
    ledger = _open(path)
    assert ledger.metrics == IMAGE_METRICS
