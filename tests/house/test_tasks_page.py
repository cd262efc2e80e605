"""The page on tasks: its example is the file, it is short, and it trains."""

import re
from pathlib import Path

from nas.tasks.loaded import load_task
from tests.support.own_tasks import SPIRALS, train_once
from tests.support.small import ROOT

PAGE = (ROOT / "docs" / "tutorials" / "own-network.md").read_text()
CLASS, OBJECTIVE = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)


def test_the_example_is_the_file() -> None:
    assert SPIRALS.read_text() == CLASS
    assert sum(bool(line.strip()) for line in CLASS.splitlines()) <= 40


def test_the_class_of_the_page_learns() -> None:
    outcome = train_once(load_task(f"{SPIRALS}:Spirals", ["width=16"]), epochs=8)
    assert outcome.metrics["accuracy"] > 0.6  # 0.5 by guessing


def test_the_objective_of_the_page_trains(tmp_path: Path) -> None:
    path = tmp_path / "own.py"
    path.write_text(OBJECTIVE.replace("= ...", "= 1 / epoch, 0.5"))
    outcome = train_once(load_task(f"{path}:objective", ["width=32"]), epochs=3)
    assert outcome.metrics == {"loss": 1 / 3, "accuracy": 0.5}
    assert len(outcome.curve) == 3
