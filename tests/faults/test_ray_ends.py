"""A run's own Ray, from outside: who can reach it, what stays of it, and what the run says when a part of it dies."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.driving import load_trials
from tests.support.small import ROOT

pytest.importorskip("ray")
SEARCH = (
    "--engine eager --layers 6 --strategy random --trials 1 --seeds 2 --no-templates --train-examples 300 --device cpu "
    "--checkpoint-seconds 0"
)
LOOPBACK = {"0100007F", "0000000000000000FFFF00000100007F", "00000000000000000000000001000000"}  # as /proc has it


class Started:
    """A search of two workers on a Ray of its own, in folders of its own, once one is in training."""

    def __init__(self, folder: Path, base: Path, epochs: int = 60) -> None:
        self.run = folder / "run"
        self.base = base
        self.home = folder / "home"
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
        self.environment = {**inherited, "HOME": str(self.home), "RAY_TMPDIR": str(base)}
        self.flags = [*SEARCH.split(), "--epochs", str(epochs), "--workers", "2"]
        self.process = self._start()
        try:
            self._wait(lambda: any(self.run.glob("checkpoints/*.pt")))
        except AssertionError:
            self.process.kill()
            raise

    def _start(self) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, str(ROOT / "run_search.py"), "search", "--run", str(self.run), *self.flags],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=self.environment,
        )

    def _wait(self, found: Callable[[], bool], seconds: float = 300) -> None:
        deadline = time.monotonic() + seconds
        while not found():
            assert self.process.poll() is None, self.process.communicate()
            assert time.monotonic() < deadline, "it took too long"
            time.sleep(0.05)

    def descendants(self) -> dict[int, str]:
        """Names of the processes that the driver has started, and theirs, by pid."""
        parents, names = {}, {}
        for status in Path("/proc").glob("[0-9]*/stat"):
            try:
                head, _, rest = status.read_text().rpartition(")")
            except OSError:
                continue
            pid, _, name = head.partition(" (")
            parents[int(pid)], names[int(pid)] = int(rest.split()[1]), name
        found = {self.process.pid}
        while more := {pid for pid, parent in parents.items() if parent in found} - found:
            found |= more
        return {pid: names[pid] for pid in found}

    def kill(self, name: str) -> None:
        """SIGKILL the one process of that name among them."""
        (pid,) = (pid for pid, own in self.descendants().items() if own == name)
        os.kill(pid, signal.SIGKILL)

    def go_on(self) -> tuple[int, str, str]:
        """The same command again, to its end."""
        self.process = self._start()
        return self.end()

    def end(self) -> tuple[int, str, str]:
        """Exit code and what it said."""
        out, error = self.process.communicate(timeout=600)
        return self.process.returncode, out, error


@pytest.fixture
def base() -> Iterator[Path]:
    """For Ray's folders; short, for sockets lie in it."""
    base = Path(tempfile.mkdtemp(prefix="re-", dir="/tmp"))
    yield base
    shutil.rmtree(base)


def _listening_on(pids: set[int]) -> list[str]:
    """Local addresses, in /proc's form, at which these processes take connections."""
    inodes = set()
    for pid in pids:
        for descriptor in Path(f"/proc/{pid}/fd").iterdir():
            try:
                inodes.add(str(descriptor.readlink()))
            except OSError:
                continue
    rows = [line.split() for name in ("tcp", "tcp6") for line in Path(f"/proc/net/{name}").read_text().splitlines()[1:]]
    return [row[1].partition(":")[0] for row in rows if row[3] == "0A" and f"socket:[{row[9]}]" in inodes]


@pytest.mark.slow
def test_nobody_else_can_reach_a_runs_own_ray_and_nothing_of_it_stays(tmp_path: Path, base: Path) -> None:
    started = Started(tmp_path, base)
    addresses = _listening_on(set(started.descendants()))
    assert len(addresses) >= 5  # driver, head, node, two workers
    assert set(addresses) <= LOOPBACK
    (folder,) = base.iterdir()
    assert folder.stat().st_mode & 0o777 == 0o700
    started.process.send_signal(signal.SIGTERM)
    code, _, error = started.end()
    assert code == 143, error
    assert not list(base.iterdir())
    assert not list(started.run.glob(".*"))
    assert not (started.home / ".ray").exists()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["raylet", "gcs_server"])
def test_ray_killed_under_a_run_is_told_and_costs_nobody_an_attempt(tmp_path: Path, base: Path, name: str) -> None:
    started = Started(tmp_path, base)
    started.kill(name)
    code, out, error = started.end()
    assert code == 3, error
    assert "to continue: python run_search.py search --run" in out
    assert error.startswith("error: Ray's ")
    assert name.removesuffix("_server") in error.lower()
    assert "Traceback" not in out + error
    assert len(error.splitlines()) == 1
    assert {trial.state.name for trial in load_trials(started.run)} == {"RUNNING"}
    code, _, error = started.go_on()
    assert code == 0, error
    trials = load_trials(started.run)
    assert [trial.state.name for trial in trials] == ["COMPLETE"] * 2
    assert not any(trial.user_attrs.get("~attempts", {}).get("lost") for trial in trials)
    assert max(trial.user_attrs["~outcome"]["resumed_epoch"] for trial in trials) >= 1
    assert not list(base.iterdir())


@pytest.mark.slow
def test_the_folder_of_a_killed_driver_goes_with_the_next_start(tmp_path: Path, base: Path) -> None:
    started = Started(tmp_path, base, epochs=12)
    others = set(started.descendants()) - {started.process.pid}
    (folder,) = base.iterdir()
    started.process.kill()
    started.process.communicate()
    deadline = time.monotonic() + 60
    while any(Path(f"/proc/{pid}").exists() for pid in others) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert folder.exists()
    code, _, error = started.go_on()
    assert code == 0, error
    assert not list(base.iterdir())


@pytest.mark.slow
def test_a_long_tmpdir_is_refused_before_a_run_begins(tmp_path: Path) -> None:
    long = tmp_path / ("x" * 80)
    long.mkdir()
    command = [sys.executable, str(ROOT / "run_search.py"), "search", "--run", str(tmp_path / "run"), *SEARCH.split()]
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    process = subprocess.run(
        [*command, "--workers", "2"],
        capture_output=True,
        text=True,
        env={**inherited, "TMPDIR": str(long)},
        check=False,
        timeout=120,
    )
    assert process.returncode == 3
    assert f"TMPDIR is {long}" in process.stderr
    assert "RAY_TMPDIR=" in process.stderr
    assert process.stdout == ""
    assert not list(long.iterdir())
    assert not (tmp_path / "run").exists()
