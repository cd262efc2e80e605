import importlib
import sys
from operator import attrgetter
from typing import Any

import pytest

from tests.support.small import ROOT

sys.path.insert(0, str(ROOT / "scripts"))
import search_profile
from search_profile import BETWEEN, EXECUTOR, FIRST, IMPORTS, LAST, OTHER, Clock

sys.path.pop(0)


@pytest.fixture
def ticking(monkeypatch: pytest.MonkeyPatch) -> None:
    """A clock by which every look is a second after the last."""
    times = iter(range(100))
    monkeypatch.setattr("search_profile.time.time", lambda: float(next(times)))


@pytest.mark.usefixtures("ticking")
def test_each_second_counts_once_for_the_innermost_call() -> None:
    clock = Clock()
    inner = search_profile.wrap(clock, "trainings", lambda: 7)
    assert search_profile.wrap(clock, "report", lambda: inner() + inner())() == 14
    assert clock.seconds == {OTHER: 1, "report": 3, "trainings": 2}


@pytest.mark.usefixtures("ticking")
def test_a_call_that_fails_is_counted_too_and_ends() -> None:
    clock = Clock()
    with pytest.raises(ZeroDivisionError):
        search_profile.wrap(clock, "report", lambda: 1 / 0)()
    clock.enter("templates")
    assert clock.seconds == {OTHER: 2, "report": 1}


@pytest.mark.usefixtures("ticking")
def test_all_inside_the_executor_is_the_executors() -> None:
    clock = Clock()
    for phase in (EXECUTOR, IMPORTS):
        clock.enter(phase)
    for _ in range(2):
        clock.leave()
    assert clock.seconds == {OTHER: 1, EXECUTOR: 3}


def test_the_parts_of_the_executor_add_up_to_it() -> None:
    marks = {"fit": [10.0, 30.0], "ended": [16.0, 17.0, 28.0], "trained": [4.0, 4.0, 10.0]}
    found = search_profile.divide_executor({"report": 1.0, EXECUTOR: 20.0}, marks, n_workers=2)
    assert found == {"report": 1.0, FIRST: 2.0, "trainings": 9.0, BETWEEN: 7.0, LAST: 2.0}


def test_the_table_has_every_second_and_the_share_of_training() -> None:
    seconds: dict[str, Any] = dict.fromkeys(search_profile.ROWS, 1.0) | {"trainings": 86.0}
    table = search_profile.format_table({1: [seconds]}, ["--trials", "2"])
    assert f"| all | {sum(seconds.values()):.2f} | 100 |" in table
    assert "Training is 86.0 % (86.0 to 86.0) of the time with 1 worker." in table
    assert "--seeds 3 --trials 2`" in table


def test_every_call_that_is_clocked_exists() -> None:
    for place in search_profile.CALLS:
        module, _, path = place.partition(":")
        assert callable(attrgetter(path)(importlib.import_module(module))), place
