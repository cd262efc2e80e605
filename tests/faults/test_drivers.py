"""Four drivers at once on a fresh directory: one runs, the others leave at once and say who holds it."""

import subprocess
import sys
from pathlib import Path

import pytest

from nas.run.lock import lock_run
from tests.support.small import ROOT


@pytest.mark.slow
@pytest.mark.parametrize("n_rounds", [pytest.param(1, marks=pytest.mark.ci), 10])
def test_of_four_drivers_started_at_once_exactly_one_runs(
    tmp_path: Path, small_flags: list[str], n_rounds: int
) -> None:
    for number in range(n_rounds):
        run = tmp_path / str(number)
        command = [sys.executable, str(ROOT / "run_search.py"), "search", "--run", str(run), *small_flags]
        drivers = [
            subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) for _ in range(4)
        ]
        ended = {driver.pid: driver.communicate()[1] for driver in drivers}
        codes = {driver.pid: driver.returncode for driver in drivers}
        assert sorted(codes.values()) == [0, 4, 4, 4], ended
        (holder,) = (pid for pid, code in codes.items() if code == 0)
        for pid, code in codes.items():
            if code == 4:
                assert f"is being searched by pid {holder} on " in ended[pid]
                assert "Traceback" not in ended[pid]
        assert (run / "report" / "index.html").exists()


TELL_LIBRARIES = """
import atexit, sys, run_search
atexit.register(lambda: print(sorted({"torch", "optuna", "ray", "pandas", "matplotlib"} & set(sys.modules))))
run_search.main()
"""


def _drive(*arguments: object) -> subprocess.CompletedProcess[str]:
    """The command line, which prints at its end the libraries that it has loaded."""
    command = [sys.executable, "-c", TELL_LIBRARIES, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)


@pytest.mark.parametrize("command", [pytest.param("search", marks=[pytest.mark.slow, pytest.mark.ci]), "study"])
def test_a_second_driver_leaves_before_the_libraries_are_loaded(tmp_path: Path, command: str) -> None:
    """Torch, optuna and pandas take seconds, all the more where four drivers load them."""
    with lock_run(tmp_path):
        process = _drive(command, "--run", tmp_path)
    assert (process.returncode, process.stdout) == (4, "[]\n"), process.stderr


@pytest.mark.parametrize("command", ["search", pytest.param("study", marks=[pytest.mark.slow, pytest.mark.ci])])
def test_a_wrong_setting_is_told_before_the_libraries_are_loaded(tmp_path: Path, command: str) -> None:
    process = _drive(command, "--run", tmp_path / "run", "--epochs", -1)
    assert (process.returncode, process.stdout) == (2, "[]\n"), process.stderr
    assert list(tmp_path.iterdir()) == []
