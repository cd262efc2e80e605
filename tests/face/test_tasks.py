"""A task in memory becomes a file of source that defines the same, or is refused by name."""

import math
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from nas.tasks.loaded import load_task
from search_spaces.errors import ConflictError, InputError
from skipsearch.tasks import Task, keep_task, write_source
from tests.support.own_tasks import train_once
from tests.support.small import ROOT

CELL = """
import math
import os.path as paths
import xml.dom
import xml.dom.minidom
from math import floor as down

SHIFT = {"by": (1, -2.5)}
UNUSED = object()


def half(value):
    return value / 2


class Base:
    scale = 4.0


class Inner(Base):
    def reach(self, value):
        return super().__init__() or half(value) + self.scale + down(math.pi) + xml.dom.minidom.Node.TEXT_NODE


def objective(trial, *, width: int = 3):
    local = [SHIFT["by"][0] for UNUSED in range(2)]
    if trial.seed > 10**9:
        return objective(trial)
    return {"loss": Inner().reach(width) + len(local) + len(paths.sep)}


objective.metrics = ("loss",)
objective.helper = UNUSED
"""


@pytest.fixture
def main(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """What `__main__` is to a notebook: a module without a file, whose cells are in files."""
    module = ModuleType("__main__")
    monkeypatch.setitem(sys.modules, "__main__", module)
    run_cell(module, tmp_path / "cell_1.py", CELL)
    return module


def run_cell(module: ModuleType, path: Path, text: str) -> None:
    path.write_text(text)
    exec(compile(text, str(path), "exec"), vars(module))  # noqa: S102


def test_a_task_is_written_with_all_that_it_uses(main: ModuleType, tmp_path: Path) -> None:
    text = write_source(main.objective)
    names: dict[str, Any] = {"__name__": "apart"}
    exec(compile(text, "apart", "exec"), names)  # noqa: S102
    (tmp_path / "kept.py").write_text(text)
    loaded = load_task(f"{tmp_path / 'kept.py'}:objective", ["width=5"])
    expected = 5 / 2 + 4.0 + 3 + 3 + 2 + 1  # by hand
    assert train_once(loaded, epochs=1).metrics == {"loss": expected}
    assert names["objective"].metrics == ("loss",)
    assert "UNUSED =" not in text and "helper" not in text
    assert write_source(main.objective) == text


def test_a_later_cell_counts(main: ModuleType, tmp_path: Path) -> None:
    before = write_source(main.objective)
    run_cell(main, tmp_path / "cell_2.py", "def half(value):\n    return value / 3\n")
    assert "value / 3" in write_source(main.objective) and "value / 3" not in before


@pytest.mark.parametrize(
    ("cell", "offender"),
    [
        ("table = [object()]\ndef objective(trial):\n    return table", "table"),
        ("def outer():\n    held = 3\n    def objective(trial):\n        return held\n    return objective\n"
         "objective = outer()", "held"),
        ("objective = lambda trial: 1", "lambda"),
        ("import functools\nobjective = functools.partial(print)", "partial"),
        ("nothing = float('nan')\ndef objective(trial):\n    return nothing", "nothing"),
    ],
)  # fmt: skip
def test_what_source_cannot_say_is_named(main: ModuleType, tmp_path: Path, cell: str, offender: str) -> None:
    run_cell(main, tmp_path / "cell_2.py", cell)
    with pytest.raises(InputError, match=offender), keep_task(main.objective, tmp_path):
        pass
    assert not (tmp_path / "task.py").exists()


def test_source_that_python_does_not_know_is_refused(main: ModuleType) -> None:
    exec("def objective(trial):\n    return 1", vars(main))  # noqa: S102
    with pytest.raises(InputError, match="objective"):
        write_source(main.objective)


def test_a_run_keeps_the_source_that_it_was_begun_with(main: ModuleType, tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    with keep_task(main.objective, run) as reference:
        assert reference == f"{run.resolve()}/task.py:objective"
        (run / "config.toml").touch()
        (run / "study.db").touch()
    kept = (run / "task.py").read_text()
    with keep_task(main.objective, run):
        pass
    run_cell(main, tmp_path / "cell_2.py", "SHIFT = {'by': (2,)}")
    with pytest.raises(ConflictError, match=r"task\.py"), keep_task(main.objective, run):
        pass
    assert (run / "task.py").read_text() == kept


def test_a_task_of_a_module_stands_for_its_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "own_module_of_a_user.py").write_text("def objective(trial):\n    return 1\n")
    monkeypatch.syspath_prepend(tmp_path)
    import own_module_of_a_user  # type: ignore[import-not-found]

    with keep_task(own_module_of_a_user.objective, tmp_path) as reference:
        assert reference == f"{tmp_path / 'own_module_of_a_user.py'}:objective"
    with keep_task("text", tmp_path) as reference:
        assert reference == "text"


class Derived(Task):
    width: int = 2

    def build(self, pattern: Any, seed: int) -> Any:
        import torch

        torch.manual_seed(seed)
        return torch.nn.Linear(2, self.width + 0 * pattern.depth)

    def data(self, seed: int) -> Any:
        import torch

        points = torch.rand(20, 2, generator=torch.Generator().manual_seed(seed))
        return (points[:10], torch.arange(10) % 2), (points[10:], torch.arange(10) % 2)


def test_a_class_may_be_derived_from_task() -> None:
    outcome = train_once(load_task(f"{__file__}:Derived"), epochs=1)
    assert math.isfinite(outcome.metrics["loss"]) and outcome.error is None


def test_a_script_that_searches_as_it_is_read_does_not_call_itself(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "import skipsearch.tasks\nfrom pathlib import Path\n\ndef objective(trial):\n    return {'loss': 1.0}\n\n"
        "with skipsearch.tasks.keep_task(objective, Path('.')) as reference:\n    print(reference)\n"
        "    print(Path('task.py').read_text())\n"
    )
    done = subprocess.run(
        [sys.executable, str(script)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
        env={"PYTHONPATH": str(ROOT)},
    )
    assert "keep_task" not in done.stdout
    assert "def objective(trial):" in done.stdout
