import importlib
import sys
from operator import attrgetter

import pytest

from tests.support.small import ROOT

sys.path.insert(0, str(ROOT / "scripts"))
import search_profile
from search_profile import BETWEEN, EXECUTOR, FIRST, IMPORTS, LAST, OTHER, Clock, Course

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


def test_the_page_has_every_second_the_share_of_training_and_what_users_see() -> None:
    phases: dict[str, float] = dict.fromkeys(search_profile.ROWS, 1.0) | {"trainings": 86.0}
    whole = sum(phases.values())
    search = [Course(first, 90.0, whole, 2 * whole, phases) for first in (3.0, 5.0, 4.0)]
    by_hand = [Course(6.0, None, 200.0, None)] * 3
    rounds = [{"search, 1 worker": a, "by hand, 1 worker": b} for a, b in zip(search, by_hand, strict=True)]
    page = search_profile.format_page(rounds, ["--trials", "2"])
    assert f"| search, 1 worker | 4.0 | 90.0 | {whole:.1f} | {2 * whole:.1f} |" in page
    assert "| by hand, 1 worker | 6.0 | - | 200.0 | - |" in page
    assert f"| all | {whole:.2f} | 100 |" in page
    assert f"Training is {86 / whole:.1%}".replace("%", " %") in page
    assert "`search --run FOLDER --trials 2`" in page


def test_a_run_is_followed_by_its_lines_and_processes() -> None:
    busy = "import time; [None for _ in iter(lambda: time.process_time() < 0.3, False)]"
    code = f"import subprocess, sys; print('1/2 a', flush=True); subprocess.run([sys.executable, '-c', {busy!r}])"
    course = search_profile.follow([sys.executable, "-c", f"{code}; print('report: here')"])
    assert course.report is not None
    assert course.first < course.report <= course.end
    assert course.report - course.first > 0.3
    assert course.processor is None or 0.2 < course.processor < 1.5


def test_the_flags_say_how_many_trainings_are_made_by_hand() -> None:
    assert search_profile.count_trainings(["--layers", "12"]) == 60
    assert search_profile.count_trainings(["--trainings", "8", "--layers", "12"]) == 8


def test_every_call_that_is_clocked_exists() -> None:
    for place in search_profile.CALLS:
        module, _, path = place.partition(":")
        assert callable(attrgetter(path)(importlib.import_module(module))), place
