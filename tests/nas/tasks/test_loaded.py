"""A task loaded from a file or module, and what becomes of one that goes wrong."""

import pickle
import subprocess
import sys
from pathlib import Path

import pytest

from nas.records.metrics import Metric
from nas.tasks.loaded import load_task, make_task
from nas.tasks.reference import read_source, resolve_reference
from search_spaces.errors import InputError
from tests.support.own_tasks import QUICK, SPIRALS, WRONG, load_from, train_once, write_task
from tests.support.small import ROOT


def test_an_objective_is_loaded_with_its_settings_and_metrics(tmp_path: Path) -> None:
    task = load_from(tmp_path, "objective", QUICK, "width=3")
    assert task.is_objective
    assert task.settings == {"width": 3, "spoil": ""}
    assert task.metrics == (Metric("loss"), Metric("accuracy", maximize=True))
    assert task.describe()["name"] == "own.py:objective"
    outcome = train_once(task)
    assert outcome.error is None
    assert outcome.metrics == {"loss": outcome.curve[1]["loss"], "accuracy": outcome.curve[1]["accuracy"]}
    assert [row["epoch"] for row in outcome.curve] == [1, 2]


def test_a_class_is_loaded_with_its_settings_metrics_and_defaults() -> None:
    task = load_task(f"{SPIRALS}:Spirals", ["width=4"])
    assert not task.is_objective
    assert task.target.width == 4
    assert task.metrics == (Metric("loss"), Metric("accuracy", maximize=True))
    assert task.defaults == {"epochs": 8, "lr": 0.05}


def test_a_module_is_imported_and_hashed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "own_package").mkdir()
    (tmp_path / "own_package" / "helper.py").write_text("loss = 0.25\n")
    text = "from .helper import loss\n\ndef objective(trial):\n    return {'loss': loss}\n"
    write_task(tmp_path / "own_package", text, "tasks.py")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    task = load_task("own_package.tasks:objective")
    assert train_once(task).metrics == {"loss": 0.25}
    assert task.source.text.decode() == text


def test_a_file_finds_what_lies_next_to_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [*sys.path])
    (tmp_path / "own_helper.py").write_text("loss = 0.125\n")
    task = load_from(tmp_path, "objective", "import own_helper\ndef objective(t): return {'loss': own_helper.loss}\n")
    assert train_once(task).metrics == {"loss": 0.125}


def test_workers_get_the_file_as_it_was(tmp_path: Path) -> None:
    task = load_from(tmp_path, "objective", QUICK, "width=3")
    expected = train_once(task).metrics
    sent = pickle.dumps(task)
    write_task(tmp_path, "raise RuntimeError('another file')")
    program = (
        "import pickle, sys; from tests.support.own_tasks import train_once;"
        "print('metrics', train_once(pickle.load(sys.stdin.buffer)).metrics)"
    )
    done = subprocess.run([sys.executable, "-c", program], input=sent, cwd=ROOT, capture_output=True, check=True)
    assert f"metrics {expected}" in done.stdout.decode()


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("raises", r"ValueError: no such layer \(own.py:4\)"),
        ("leaves", "SystemExit: gone"),
        ("nothing", "returned nothing"),
        ("number", "returned 0.5"),
        ("other", "no loss, only los"),
        ("more", "'f1'"),
        ("text", "'low' as loss"),
        ("nan", "loss is nan"),
        ("reports_nan", "loss is inf after epoch 1"),
    ],
)
def test_a_task_that_goes_wrong_has_failed_with_the_reason(tmp_path: Path, name: str, reason: str) -> None:
    outcome = train_once(load_from(tmp_path, name, WRONG))
    assert outcome.metrics == {}
    with pytest.raises(AssertionError, match=reason):
        raise AssertionError(outcome.error)


def test_a_full_memory_is_not_the_tasks_outcome(tmp_path: Path) -> None:
    with pytest.raises(MemoryError):
        train_once(load_from(tmp_path, "full", WRONG))


@pytest.mark.parametrize(
    ("reference", "named"),
    [
        ("nowhere.py:objective", "nowhere.py"),
        ("no_such_module:objective", "no_such_module"),
        ("objective", "'objective'"),
        ("own.py:", "'own.py:'"),
    ],
)
def test_a_reference_that_leads_nowhere_is_refused(reference: str, named: str) -> None:
    with pytest.raises(InputError, match=named):
        read_source(reference)


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("def other(trial): ...", "it has other"),
        ("objective = 3", "int"),
        ("def objective(): ...", "no trial"),
        ("1 +", "SyntaxError"),
        ("raise ValueError('early')", r"early \(own.py:1\)"),
        ("import no_such_library", "no_such_library"),
        ("class objective:\n    def build(self, pattern, seed): ...", "no data"),
        ("def objective(trial): ...\nobjective.metrics = ('epoch',)", "'epoch'"),
        ("def objective(trial): ...\nobjective.metrics = ('a',)\nobjective.maximize = ('b',)", "names b"),
        (
            "class objective:\n    metrics = {'loss': 'down'}\n    def build(self, pattern, seed): ...\n"
            "    def data(self, seed): ...",
            "'down'",
        ),
        (
            "class objective:\n    defaults = {'lrr': 1}\n    def build(self, pattern, seed): ...\n"
            "    def data(self, seed): ...",
            "lrr",
        ),
    ],
)
def test_a_file_that_has_no_such_task_is_refused(tmp_path: Path, text: str, named: str) -> None:
    with pytest.raises(InputError, match=named):
        load_from(tmp_path, "objective", text)


@pytest.mark.parametrize(
    ("error", "said"),
    [
        ("InputError", r"cannot be made with its settings: blocks is 4$"),
        ("ValueError", r"cannot be made with its settings: ValueError: blocks is 4$"),
    ],
)
def test_a_class_that_refuses_its_settings_is_quoted(tmp_path: Path, error: str, said: str) -> None:
    text = (
        "from dataclasses import dataclass\nfrom search_spaces.errors import InputError\n@dataclass\nclass task:\n"
        f"    blocks: int = 4\n    def __post_init__(self): raise {error}('blocks is 4')\n"
        "    def build(self, pattern, seed): ...\n    def data(self, seed): ...\n"
    )
    with pytest.raises(InputError, match=said):
        load_from(tmp_path, "task", text)


def test_a_reference_is_kept_with_its_whole_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert resolve_reference("own.py:objective") == f"{tmp_path / 'own.py'}:objective"
    assert resolve_reference("package.module:Task") == "package.module:Task"


def test_what_a_task_prints_is_not_on_standard_output(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    text = "import os\nprint('by python')\nos.system('echo by a child')\ndef objective(trial): ...\n"
    make_task(read_source(f"{write_task(tmp_path, text)}:objective"), ())
    printed = capfd.readouterr()
    assert printed.out == ""
    assert set(printed.err.split("\n")) >= {"by python", "by a child"}
