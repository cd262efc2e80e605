"""A database on the disk: what was written is read, or it is said to be damaged; nothing changes in silence."""

import json
import os
import random
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
import pytest

from analysis.data.results import read_run
from analysis.picks.order import summarise_status
from commands.runs import status
from commands.terminal import make_console, show_progress
from nas.data.readers import load_data
from nas.records.database import STUDY_NAME, read_attributes, read_kind
from nas.records.metrics import image_metrics
from nas.records.trial import HASH, Outcome, check_trials
from nas.run.ledger import Ledger
from nas.run.lock import lock_run
from nas.search.loop import run_search
from nas.settings.resume import settle_config
from nas.settings.search import SearchConfig
from nas.workers.jobs import Job
from nas.workers.trainer import Trainer
from search_spaces.errors import ConflictError, InputError, MachineError
from tests.support.small import SMALL

DIGITS = load_data("digits", None)
SETTINGS: dict[str, Any] = {**SMALL, "epochs": 3, "trials": 4, "halving": True, "budget": ("log", "total:9")}


@dataclass(frozen=True)
class FakeTrainer(Trainer):
    """Trains nothing; one candidate fails, and what it gives is fixed by the candidate."""

    def train(self, job: Job, check_stop: Callable[[], None] = lambda: None) -> Outcome:  # noqa: ARG002
        last = job.pause_after or self.config.epochs
        if job.number == 3:
            return Outcome({}, 1, 0.5, (), "training loss not finite at step 3 of 8")
        accuracy = int(job.candidate.pattern.key[:6], 16) / 16**6
        curve = tuple({"epoch": epoch, "train_loss": 1 / epoch} for epoch in range(1, last + 1))
        strengths = ((0.5,) * job.candidate.pattern.n_connections,)
        return Outcome(
            image_metrics(accuracy, 1 - accuracy),
            last,
            1.0,
            curve,
            None,
            job.pause_after is not None,
            strengths=strengths,
        )


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run; not to be changed."""
    run = tmp_path_factory.mktemp("finished") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("nas.search.loop.Trainer", FakeTrainer)
        run_search(run, settle_config(run, None, SETTINGS, SearchConfig), lambda *_: None)
    return run


def _tell(run: Path) -> list[object]:
    """All that status, report and a search that goes on read of a run."""
    settled = settle_config(run, None, {}, SearchConfig)
    entries = Ledger(run / "study.db", {}, frozenset()).entries()
    read = read_run(run)
    tables = [table.to_json(double_precision=15) for table in (read.candidates, read.curves)]
    held = [read.asked, read.config, read.environment, read.data, dict(read.strengths), read.tested_at]
    return [settled, entries, *tables, *held, summarise_status(read)]


def _flip(path: Path, place: int) -> None:
    content = bytearray(path.read_bytes())
    content[place // 8] ^= 1 << place % 8
    path.write_bytes(content)


@pytest.mark.parametrize(("seed", "n_flips"), [(0, 10), pytest.param(1, 600, marks=pytest.mark.slow)])
def test_a_flipped_bit_changes_nothing_or_is_said_to_be_damage(
    finished: Path, tmp_path: Path, seed: int, n_flips: int
) -> None:
    before = _tell(finished)
    chance = random.Random(seed)  # noqa: S311  of no secret
    n_bits = 8 * (finished / "study.db").stat().st_size
    counts = {"unchanged": 0, "said": 0}
    wrong = {}
    run = tmp_path / "run"
    run.mkdir()
    shutil.copy(finished / "config.toml", run)
    for _ in range(n_flips):
        place = chance.randrange(n_bits)
        shutil.copy(finished / "study.db", run)
        _flip(run / "study.db", place)
        try:
            if _tell(run) == before:
                counts["unchanged"] += 1
            else:
                wrong[place] = "changed in silence"
        except (ConflictError, MachineError) as error:
            assert "study.db" in str(error)
            counts["said"] += 1
        except Exception as error:
            wrong[place] = repr(error)
    print(counts)  # noqa: T201
    assert wrong == {}
    assert sum(counts.values()) == n_flips
    assert counts["said"] > 0


def _statements() -> Iterator[tuple[str, str]]:
    change = "UPDATE trial_user_attributes SET value_json = replace(value_json, {}) WHERE key = '{}' AND trial_id = 3"
    yield "a seed", change.format("'\"seed\": 1', '\"seed\": 2'", "~candidate")
    yield "a loss", change.format("'\"validation_loss\": 0', '\"validation_loss\": 1'", "~outcome")
    yield "an outcome that is no JSON", change.format("'{', '['", "~outcome")
    yield "an accuracy", "UPDATE trial_values SET value = value / 2 WHERE trial_id = 3"
    yield "a distance", "UPDATE trial_params SET param_value = param_value + 1e-12 WHERE trial_id = 3"
    yield "no outcome", "DELETE FROM trial_user_attributes WHERE key = '~outcome' AND trial_id = 3"
    yield "a name", change.format("'seed', 'seeds'", "Name")
    yield "a measurement at a rung", "UPDATE trial_intermediate_values SET intermediate_value = 0.5"
    yield "a state", "UPDATE trials SET state = 'CMPLETE' WHERE trial_id = 3"
    yield "a trial of no study", "UPDATE trials SET study_id = 7 WHERE trial_id = 3"
    yield "the numbers asked for", "UPDATE study_user_attributes SET value_json = '5' WHERE key = 'asked'"
    yield "the settings", "UPDATE study_user_attributes SET key = 'confih' WHERE key = 'config'"


@pytest.mark.parametrize(("what", "statement"), list(_statements()), ids=[what for what, _ in _statements()])
def test_what_is_changed_is_named_and_refused_by_all_who_read(
    finished: Path, tmp_path: Path, what: str, statement: str
) -> None:
    run = shutil.copytree(finished, tmp_path / "run")
    with closing(sqlite3.connect(run / "study.db")) as connection:
        assert connection.execute(statement).rowcount > 0, what
        connection.commit()

    def open_ledger(run: Path) -> None:
        Ledger(run / "study.db", {}, frozenset()).entries()

    readers: tuple[Callable[[Path], object], ...] = (read_run, open_ledger)
    for read in readers:
        with pytest.raises(ConflictError, match=r"study\.db is damaged") as caught:
            read(run)
        assert caught.value.exit_code == 4
        if "trial_id = 3" in statement and "study_id" not in statement and "state" not in statement:
            assert "trial 2 " in str(caught.value)  # Optuna's own numbers begin at 1


def test_a_run_without_hashes_is_read_and_gone_on_with(finished: Path, tmp_path: Path) -> None:
    """As all were that were made before there were hashes."""
    before = read_run(finished)
    run = tmp_path / "run"
    run.mkdir()
    shutil.copy(finished / "config.toml", run)
    held = optuna.load_study(study_name=STUDY_NAME, storage=f"sqlite:///{finished / 'study.db'}")
    study = optuna.create_study(study_name=STUDY_NAME, storage=f"sqlite:///{run / 'study.db'}", direction="maximize")
    for name, value in held.user_attrs.items():
        if name not in (HASH, "kind"):
            study.set_user_attr(name, value)
    for trial in held.trials[:-1]:
        trial.user_attrs = {name[1:]: each for name, each in trial.user_attrs.items() if name.startswith("~")}
        for attribute in trial.user_attrs.values():
            attribute.pop(HASH)
        study.add_trial(trial)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("nas.search.loop.Trainer", FakeTrainer)
        run_search(run, settle_config(run, None, {}, SearchConfig), lambda *_: None)
    after = read_run(run)
    assert after.candidates.equals(before.candidates)
    assert read_attributes(run / "study.db")["kind"] == "search"
    trials = optuna.load_study(study_name=STUDY_NAME, storage=f"sqlite:///{run / 'study.db'}").trials
    assert ["~outcome" in trial.user_attrs for trial in trials] == [False] * (len(trials) - 1) + [True]
    check_trials(trials, run / "study.db")
    assert _tell(run)


@pytest.mark.parametrize(
    ("attributes", "kind"),
    [
        ({"config": {"trials": 8}}, "search"),
        ({"config": {"per_cell": 3}, "plan": "0f"}, "study"),
        ({"config": {"trials": 8}, "plan": "0f", "measured_on": "test"}, "final"),
        ({"config": {"networks": ["dense"]}}, "comparison"),
        ({"config": "damaged"}, "search"),
    ],
)
def test_a_runs_kind_is_recorded_and_that_of_an_older_run_follows_from_its_attributes(
    attributes: dict[str, Any], kind: str
) -> None:
    assert read_kind(attributes) == kind
    assert read_kind({**attributes, "kind": "study"}) == "study"
    assert read_kind({**attributes, "kind": "unknown"}) == kind


def test_a_new_run_records_its_kind(finished: Path) -> None:
    assert read_attributes(finished / "study.db")["kind"] == read_run(finished).kind == "search"


def _status(run: Path, capsys: pytest.CaptureFixture[str], as_json: bool = False) -> str:
    status(run, as_json)
    return capsys.readouterr().out


def test_status_says_whether_a_run_is_driven_and_how_to_go_on(
    finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "next: skipsearch report --run" in _status(finished, capsys)
    run = tmp_path / "run"
    settings = {**SETTINGS, "halving": False, "seeds": 1, "budget": "log"}

    class Killed(BaseException):
        pass

    @dataclass(frozen=True)
    class KilledTrainer(FakeTrainer):
        def train(self, job: Job, check_stop: Callable[[], None] = lambda: None) -> Outcome:
            if job.number == 2:
                raise Killed
            return super().train(job, check_stop)

    for _ in range(4):
        with pytest.MonkeyPatch.context() as patch, pytest.raises(Killed):
            patch.setattr("nas.search.loop.Trainer", KilledTrainer)
            run_search(run, settle_config(run, None, settings, SearchConfig), lambda *_: None)
    told = " ".join(_status(run, capsys).split())
    assert "cut short 1" in told
    assert "running 1" not in told
    assert "the driver died 3 times while candidate 2 was in training" in told
    assert f"no driver is running next: skipsearch search --run {run}" in told
    values = json.loads(_status(run, capsys, as_json=True))
    assert (values["driver"], values["driver_deaths"], values["running"]) == (None, {"2": 3}, 1)
    with lock_run(run):
        told = " ".join(_status(run, capsys).split())
        assert "running 1" in told
        assert f"driven by pid {os.getpid()} on " in told
        assert "no driver" not in told


def test_what_is_done_already_is_not_announced(capsys: pytest.CaptureFixture[str]) -> None:
    for n_finished in (0, 3, 5):
        with show_progress(make_console(), "training 5 patterns") as listener:
            listener(None, n_finished, 5)
    first, resumed, done = capsys.readouterr().out.splitlines()
    assert first == "training 5 patterns"
    assert resumed == "training 5 patterns; 3 of 5 are done already"
    assert "training 5 patterns" not in done
    assert "all 5 trainings are done" in done


@pytest.mark.parametrize("content", [b"", b"no database" * 99])
def test_an_emptied_or_foreign_database_is_said_to_be_so(finished: Path, tmp_path: Path, content: bytes) -> None:
    run = tmp_path / "run"
    run.mkdir()
    shutil.copy(finished / "config.toml", run)
    (run / "study.db").write_bytes(content)
    for read in (read_run, lambda run: settle_config(run, None, {}, SearchConfig)):
        with pytest.raises(ConflictError, match=r"study\.db is (empty|damaged)"):
            read(run)
    assert (run / "study.db").read_bytes() == content


def test_a_lost_database_is_no_missing_run(finished: Path, tmp_path: Path) -> None:
    run = shutil.copytree(finished, tmp_path / "run")
    (run / "study.db").unlink()
    with pytest.raises(ConflictError, match=r"has lost its study\.db"):
        read_run(run)
    (run / "report").mkdir()
    with pytest.raises(ConflictError, match=r"has lost its study\.db.*report is left"):
        settle_config(run, None, {}, SearchConfig)
    (run / "config.toml").unlink()
    with pytest.raises(InputError, match=r"has no study\.db"):
        read_run(run)
