"""Searches and studies from Python, and the runs that they leave."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any, get_type_hints

import pandas as pd
import pytest

import skipsearch
from analysis.data.averages import average_patterns
from search_spaces.errors import ConflictError, InputError, NothingUsableError
from skipsearch.settings import SearchSettings, StudySettings
from skipsearch.training import REPEATED
from tests.support.small import ROOT

CELL = """
OFFSET = 0.5


def objective(trial, *, weight: float = 1.0):
    if FAILS and trial.seed + len(trial.pattern.sources) > 10**6:
        raise OSError
    loss = OFFSET + weight * trial.pattern.span / (1 + trial.seed)
    for epoch in range(1, trial.epochs + 1):
        trial.report(epoch, loss=loss + 1 / epoch)
    return {"loss": loss}


FAILS = True
"""
SETTINGS: dict[str, Any] = {"layers": 5, "budget": "total:8", "epochs": 2, "workers": 1, "progress": False}


@pytest.fixture(scope="module")
def main(tmp_path_factory: pytest.TempPathFactory) -> Any:
    module, path = ModuleType("__main__"), tmp_path_factory.mktemp("cells") / "cell.py"
    path.write_text(CELL)
    exec(compile(CELL, str(path), "exec"), vars(module))  # noqa: S102
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "__main__", module)
        yield module


@pytest.fixture(scope="module")
def run(main: Any, tmp_path_factory: pytest.TempPathFactory) -> skipsearch.Run:
    folder = tmp_path_factory.mktemp("face") / "run"
    return skipsearch.search(main.objective, run=folder, trainings=10, set={"weight": 0.25}, **SETTINGS)


def test_a_search_of_a_function_is_a_run(run: skipsearch.Run) -> None:
    assert run.kind == "search"
    assert run.status["complete"] == run.status["asked"] == 10
    row = run.candidates.iloc[0]
    assert row["loss"] == pytest.approx(0.5 + 0.25 * row["span"] / (1 + row["seed"]))  # by hand
    assert (run.path / "report" / "index.html").exists()
    assert [*run.path.glob("templates/*/template.json")]
    assert run.curves.groupby("number").size().eq(2).all()


def test_its_best_is_the_reports(run: skipsearch.Run) -> None:
    best = run.best
    assert best is not None
    first = run.summary["picks"][0]["ranked"][0]
    assert best.pattern.key == first["key"] == run.patterns["key"].iloc[0]
    assert best.expected == first["expected"]["value"]
    assert best.low is not None and best.expected is not None and best.high is not None
    assert best.low <= best.expected <= best.high
    means = average_patterns(run.candidates).set_index("key")
    assert best.observed == means.loc[best.pattern.key, "loss"]
    assert run.pattern(best.pattern.key[:12]) == best.pattern
    assert run.verdict == run.summary["conclusion"]["sentence"]


def test_it_shows_itself(run: skipsearch.Run, tmp_path: Path) -> None:
    for figure in run.figures.values():
        assert figure._repr_svg_().rstrip().endswith("</svg>")
    assert run.figures["curves"].save(tmp_path / "curves.svg").read_text() == run.figures["curves"].svg
    page = run._repr_html_()
    assert "<table" in page and "<svg" in page
    assert run.verdict in repr(run)


def test_the_same_call_continues_it_and_another_task_does_not(run: skipsearch.Run, main: Any) -> None:
    before = run.candidates
    again = skipsearch.search(main.objective, run=run.path, trainings=12, progress=False)
    pd.testing.assert_frame_equal(again.candidates.head(10), before)
    assert again.status["complete"] == 12
    with pytest.MonkeyPatch.context() as patch, pytest.raises(ConflictError, match=r"task\.py"):
        patch.setattr(main, "OFFSET", 0.75)
        skipsearch.search(main.objective, run=run.path, trainings=13, progress=False)
    assert skipsearch.load_run(run.path).status["complete"] == 12


@pytest.mark.slow
@pytest.mark.ci
def test_the_command_line_continues_it(run: skipsearch.Run, command_line: Any) -> None:
    done = command_line("search", "--run", run.path, "--trainings", 14)
    assert done.returncode == 0, done.stderr
    assert skipsearch.load_run(run.path).status["complete"] == 14


@pytest.mark.slow
def test_a_bar_counts(run: skipsearch.Run, capfd: pytest.CaptureFixture[str]) -> None:
    skipsearch.search(run=run.path, trainings=15)
    assert "15/15" in capfd.readouterr().err


def test_a_misspelt_setting_leaves_nothing(main: Any, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="did you mean train_examples"):
        skipsearch.search(run=tmp_path / "run", trian_examples=3)  # type: ignore[call-arg]
    with pytest.raises(InputError, match="did you mean trainings"):
        skipsearch.search(main.objective, run=tmp_path / "run", tarinings=3)  # type: ignore[call-arg]
    assert not (tmp_path / "run").exists()


def test_one_text_is_a_list_of_one(main: Any, tmp_path: Path) -> None:
    types = {**get_type_hints(SearchSettings), **get_type_hints(StudySettings)}
    lists = (Sequence[str] | None, Sequence[str | Path] | None)
    assert {name for name, given in types.items() if given in lists} | {"set"} == set(REPEATED)
    with pytest.raises(InputError, match="no_such_tracker"):
        skipsearch.search(main.objective, run=tmp_path / "run", log="no_such_tracker", **SETTINGS)
    with pytest.raises(InputError, match="no_such_pattern"):
        skipsearch.search(main.objective, run=tmp_path / "run", pattern="no_such_pattern", **SETTINGS)


NOTEBOOK = """
import sys, types

kernel = types.SimpleNamespace(config={"IPKernelApp": {}})
sys.modules["IPython"] = types.SimpleNamespace(get_ipython=lambda: kernel)
sys.modules["ipykernel.zmqshell"] = types.ModuleType("zmqshell")  # as tqdm knows a notebook
sys.modules["ipywidgets"] = None
import skipsearch

skipsearch.load_run(sys.argv[1])
"""


def test_a_notebook_without_ipywidgets_is_not_warned(run: skipsearch.Run) -> None:
    call = [sys.executable, "-c", NOTEBOOK, str(run.path)]
    done = subprocess.run(call, cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stderr == ""


def test_a_run_without_outcomes_says_so(main: Any, tmp_path: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(main, "OFFSET", "text")
        with pytest.raises(NothingUsableError):
            skipsearch.search(main.objective, run=tmp_path / "run", strategy="templates", seeds=1, **SETTINGS)
    failed = skipsearch.load_run(tmp_path / "run")
    assert failed.best is None and failed.status["failed"] == failed.status["asked"] > 0
    assert failed._repr_html_() == f"<p>0 of {failed.status['asked']} trainings are complete.</p>"
    with pytest.raises(NothingUsableError):
        _ = failed.figures


def test_a_run_belongs_to_the_main_thread(tmp_path: Path) -> None:
    with ThreadPoolExecutor(1) as pool, pytest.raises(InputError, match="main thread"):
        pool.submit(skipsearch.search, run=tmp_path / "run").result()
    assert not (tmp_path / "run").exists()


def test_there_is_no_run(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"skipsearch\.search\(run="):
        skipsearch.load_run(tmp_path / "run")


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, pytest.param(signal.SIGKILL, marks=pytest.mark.ci)])
def test_a_script_that_is_stopped_goes_on(tmp_path: Path, number: signal.Signals) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "import time\nimport skipsearch\n\ndef objective(trial):\n    time.sleep(0.5)\n"
        "    return {'loss': 1 + trial.pattern.span / (1 + trial.seed)}\n\n"
        "run = skipsearch.search(objective, run='run', layers=5, budget='total:8', trainings=9, workers=1)\n"
        "print(run.status['complete'])\n"
    )
    start = partial(
        subprocess.Popen, [sys.executable, str(script)], cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)}
    )
    with start(stderr=subprocess.PIPE, text=True) as process:
        until = time.monotonic() + 300
        while time.monotonic() < until:
            if (tmp_path / "run" / "study.db").exists() and skipsearch.load_run(tmp_path / "run").status["complete"]:
                break
            time.sleep(0.2)
        process.send_signal(number)
        said = process.communicate(timeout=120)[1]
    assert ("KeyboardInterrupt: what is finished is kept" in said) == (number == signal.SIGINT)
    stopped = skipsearch.load_run(tmp_path / "run")
    assert 0 < stopped.status["complete"] < 9
    with start(stdout=subprocess.PIPE, text=True) as process:
        assert process.communicate(timeout=300)[0].strip() == "9"
    done = skipsearch.load_run(tmp_path / "run").candidates
    n_before = stopped.status["complete"]
    pd.testing.assert_frame_equal(done.head(n_before), stopped.candidates.head(n_before))


@pytest.mark.slow
@pytest.mark.ci
def test_a_function_in_memory_is_trained_by_ray(main: Any, run: skipsearch.Run, tmp_path: Path) -> None:
    other = skipsearch.search(
        main.objective, run=tmp_path / "run", trainings=10, set={"weight": 0.25}, **{**SETTINGS, "workers": 2}
    )
    columns = ["key", "seed", "loss"]
    merged = other.candidates[columns].merge(run.candidates[columns], on=["key", "seed"])
    assert len(merged) >= 5 and (merged["loss_x"] == merged["loss_y"]).all()


@pytest.mark.slow
def test_a_study_of_a_function_has_a_verdict(main: Any, tmp_path: Path) -> None:
    settings = {**SETTINGS, "layers": 8, "budget": "total:14"}
    study = skipsearch.study(
        main.objective,
        run=tmp_path / "run",
        cross="walk_length,mean_bd",
        bins="2,2",
        per_cell=1,
        optima=0,
        trials=4,
        seeds=2,
        **settings,
    )
    assert study.kind == "study" and study.verdict == study.summary["conclusion"]["sentence"]
    assert study.best is not None and study.best.expected is None


def test_the_tables_are_correlated_as_the_command_does(command_line: Any, tmp_path: Path) -> None:
    import json

    table = skipsearch.tables.load("layers-12").head(60)
    rows = skipsearch.correlate(table, ["mean_bd", "span"], "validation_loss", pattern="key")
    table.to_csv(tmp_path / "table.csv", index=False)
    arguments = ("--measure", "mean_bd,span", "--outcome", "validation_loss", "--pattern", "key", "--json")
    told = json.loads(command_line("correlate", tmp_path / "table.csv", *arguments).stdout)
    assert rows[["measure", "spearman", "p_permutation"]].to_dict("records") == [
        {name: row[name] for name in ("measure", "spearman", "p_permutation")} for row in told
    ]
    with pytest.raises(InputError, match="nothing"):
        skipsearch.correlate(table, "nothing", "validation_loss")
    assert skipsearch.tables.list_tables() == sorted(path.stem for path in (ROOT / "docs" / "tables").glob("*.csv"))


@pytest.mark.parametrize(
    ("name", "words"), [("layers-12", "layers-12.csv"), ("layers-13", "there is no table layers-13")]
)
def test_a_table_to_learn_from_may_be_one_of_ours(name: str, words: str, tmp_path: Path) -> None:
    with pytest.raises(skipsearch.InputError, match=words):  # at 8 layers none of its rows is of use
        skipsearch.search(run=tmp_path / "run", layers=8, budget="total:14", from_table=name, workers=1)
