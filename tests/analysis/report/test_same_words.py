"""Every place that says what came out of a run says the same sentence, whatever the kind of run."""

import html
import json
import re
import shutil
import sys
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest

import skipsearch
from analysis.data.results import read_run
from analysis.report.conclusion import PICKED, conclude
from analysis.study.verdict import MOST_WORDS
from commands.runs import annotate
from nas.records.database import FINAL
from nas.records.plan import SCHEMA, VERSION, write_plan
from search_spaces.seeds import derive_generator
from tests.support import other_task
from tests.support.command_line import run_command
from tests.support.resamples import use_resamples
from tests.support.synthetic_budgets import OF_BUDGET, PROPOSALS, plant_losses
from tests.support.synthetic_lineup import make_lineup
from tests.support.synthetic_run import make_run, propose

IMAGES: dict[str, Any] = {
    "data": {"name": "digits", "n_train": 64, "n_validation": 400, "classes": 10, "image": [1, 8, 8]},
    "config": {"seed": 0, "layers": 8, "objective": "loss"},
    "largest_class": 0.1,
}
Make = Callable[[Path], Path]


def _score(step: float, base: float = 0.6) -> Callable[[int, int], float]:
    """An accuracy that rises with the place among the proposals, with a seed's own part and noise."""

    def score(place: int, seed: int) -> float:
        return base + step * place + 0.005 * seed + 0.004 * float(derive_generator("noise", place, seed).normal())

    return score


def _search(step: float, n_random: int = 9, **changes: Any) -> Make:
    proposals = propose(n_random, ["log", "nearest_log_i"])
    return lambda run: make_run(run, proposals, _score(step, **changes), **IMAGES)


def _make_final(run: Path) -> Path:
    proposals = propose(4, ["log", "nearest_log_i"])
    make_run(run, proposals, _score(0.01), test_looked_at={"at": "2026-01-02T03:04:05+00:00"}, **IMAGES)
    plan: dict[str, Any] = {
        "schema": SCHEMA,
        "version": VERSION,
        "protocol": {},
        "settings": {},
        "cells": [],
        "patterns": [],
    }
    plan |= {"strata": [{"training": {"epochs": 7}}], "order": [[0, 0, 0]] * 9}
    attributes: dict[str, Any] = {
        "measured_on": "test",
        "data": {"n_train": 1000, "n_test": 400, "classes": 10},
        "plan": "later",
    }
    chosen = [proposals[0], proposals[1], proposals[5]]
    final = make_run(run / FINAL, chosen, _score(0.02, 0.9), (10, 11, 12), **attributes)
    study = optuna.load_study(study_name="skipsearch", storage=f"sqlite:///{final}/study.db")
    study.set_user_attr("plan", write_plan(final, plan))
    return run


def _compare(run: Path) -> Path:
    noise = np.random.default_rng(3).normal(scale=0.05, size=100)
    return make_lineup(run, lambda name, seed: float(0.7 + noise[(3 * len(name) + seed) % 100]))


RUNS: dict[str, Make] = {
    "search": _search(0.02),
    "search that tells nothing apart": _search(0.0),
    "search of few patterns": _search(0.02, n_random=1),
    "search that learned nothing": _search(0.0, base=0.1),
    "search at several budgets": lambda run: make_run(run, PROPOSALS, plant_losses(0.001), budgets=OF_BUDGET, **IMAGES),
    "comparison": _compare,
    "final measurement": _make_final,
    "search of an own task": other_task.make_search,
    "search of an own task at several budgets": lambda run: other_task.make_search(
        run, budgets=("total:12", "total:16")
    ),
    "study of an own task": other_task.make_study,
}


@pytest.fixture
def notes(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, str]]:
    """The notes that optuna-dashboard would show, by their studies' names; trials' are left out."""
    written: dict[str, str] = {}

    def save_note(noted: Any, text: str) -> None:
        if isinstance(noted, optuna.Study):
            written[noted.study_name] = text

    module = types.ModuleType("optuna_dashboard")
    module.save_note = save_note  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "optuna_dashboard", module)
    yield written


def _unescape(markdown: str) -> str:
    return re.sub(r"\\(.)", r"\1", markdown)


def _check(run: Path, notes: dict[str, str]) -> str:
    """Write a run's report, and check that all places say the same; returns what they say."""
    done = run_command("report", "--run", run)
    assert done.returncode == 0, done.stderr
    said = json.loads((run / "report" / "summary.json").read_text())["conclusion"]
    sentence: str = said["sentence"]
    assert 0 < len(sentence.split()) <= MOST_WORDS
    assert done.stdout.splitlines()[1] == sentence
    for number in (row["trainings"] for row in said["rows"]):
        assert re.search(rf"\b{number}\b", done.stdout)
    loaded = skipsearch.load_run(run)
    assert (PICKED in done.stdout) == (loaded.kind == "study"), "the best of many means is too good"
    assert loaded.verdict == sentence
    annotate(run, loaded.conclusion)
    assert set(notes) >= {"skipsearch"}
    assert len(notes) >= 2
    for note in notes.values():
        assert _unescape(note.partition("\n\n")[0]) == f"**{sentence}**"
    for name in set(notes) - {"skipsearch"}:
        study = optuna.load_study(study_name=name, storage=f"sqlite:///{run}/optuna/patterns.db")
        assert study.user_attrs["verdict"] == sentence
    head = (run / "report" / "report.md").read_text().partition("\n## ")[0]
    assert f"**{sentence}**" in _unescape(head)
    assert html.escape(sentence, quote=False) in (run / "report" / "index.html").read_text()
    return sentence


@pytest.mark.slow
@pytest.mark.parametrize("kind", RUNS)
def test_all_places_say_the_same(
    kind: str, tmp_path: Path, notes: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    use_resamples(monkeypatch, 99)
    _check(RUNS[kind](tmp_path / "run"), notes)


@pytest.mark.slow
def test_all_places_say_the_same_of_a_study(
    study_run: Path, tmp_path: Path, notes: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    use_resamples(monkeypatch, 99)
    _check(Path(shutil.copytree(study_run, tmp_path / "run")), notes)


@pytest.mark.slow
def test_a_final_measurement_says_what_its_run_says(tmp_path: Path) -> None:
    run = _make_final(tmp_path / "run")
    assert conclude(read_run(run / FINAL)) == conclude(read_run(run))
    assert skipsearch.load_run(run / FINAL).verdict.startswith("On 400 test images, ")
