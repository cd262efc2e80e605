"""One driver a run directory, whoever comes, and nothing left of one that wrote nothing."""

import fcntl
import multiprocessing
import os
import subprocess
import sys
from pathlib import Path

import pytest

from nas.run.lock import find_driver, lock_run
from search_spaces.errors import ConflictError, InputError
from tests.support.small import ROOT


def _try_lock(run: Path, answers: "multiprocessing.Queue[str]") -> None:
    try:
        with lock_run(run):
            answers.put("got it")
    except ConflictError as error:
        answers.put(str(error))


def test_only_one_process_holds_a_run(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    answers: multiprocessing.Queue[str] = context.Queue()

    def ask_another_process() -> str:
        process = context.Process(target=_try_lock, args=(tmp_path, answers))
        process.start()
        answer = answers.get(timeout=60)
        process.join()
        return answer

    with lock_run(tmp_path):
        assert f"pid {os.getpid()} on " in ask_another_process()
    assert ask_another_process() == "got it"


def test_a_users_file_called_lock_is_neither_emptied_nor_removed(tmp_path: Path) -> None:
    (tmp_path / "lock").write_text("pid of my own")
    with pytest.raises(ConflictError, match=str(tmp_path / "lock")), lock_run(tmp_path):
        pass
    assert (tmp_path / "lock").read_text() == "pid of my own"
    for left in ("", "pid 2999998 on a-host\n"):
        (tmp_path / "lock").write_text(left)
        with lock_run(tmp_path):
            pass
        assert not (tmp_path / "lock").exists()


def test_a_lock_that_is_a_link_is_not_followed(tmp_path: Path) -> None:
    """A stranger's run directory must not lead to a file of the user's."""
    (tmp_path / "own").write_text("precious")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "lock").symlink_to(tmp_path / "own")
    with pytest.raises(ConflictError, match="lock is a link"), lock_run(tmp_path / "run"):
        pytest.fail("it was taken")
    assert (tmp_path / "own").read_text() == "precious"
    assert (tmp_path / "run" / "lock").is_symlink()


def test_a_process_that_holds_a_run_goes_on_holding_it(tmp_path: Path) -> None:
    with lock_run(tmp_path / "run"):
        with lock_run(tmp_path / "x" / ".." / "run"):
            assert (tmp_path / "run" / "lock").exists()
        assert (tmp_path / "run" / "lock").exists()
    with lock_run(tmp_path / "run"):
        pass


def test_folders_that_stay_empty_are_taken_away_again(tmp_path: Path) -> None:
    (tmp_path / "given").mkdir()
    for run in (tmp_path / "given", tmp_path / "runs" / "new"):
        with lock_run(run):
            assert f"pid {os.getpid()} on " in (run / "lock").read_text()
    assert [path.name for path in tmp_path.iterdir()] == ["given"]
    with lock_run(tmp_path / "runs" / "new"):
        (tmp_path / "runs" / "new" / "study.db").touch()
    assert [path.name for path in (tmp_path / "runs" / "new").iterdir()] == ["study.db"]


def test_a_lock_that_was_unlinked_is_no_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Opened, and unlinked by its holder at its end, before it could be locked: it is opened anew."""
    opened = []
    open_file = os.open

    def open_and_lose(*arguments: object) -> int:
        descriptor = open_file(*arguments)  # type: ignore[arg-type]
        opened.append(descriptor)
        if len(opened) == 1:
            (tmp_path / "lock").unlink()
        return descriptor

    monkeypatch.setattr(os, "open", open_and_lose)
    with lock_run(tmp_path):
        assert len(opened) == 2
        assert (tmp_path / "lock").exists()


@pytest.mark.parametrize("inside", ["", "x", "x/y"])
def test_a_file_is_no_run_directory(inside: str, tmp_path: Path) -> None:
    (tmp_path / "run").touch()
    run = tmp_path / "run" / inside
    with pytest.raises(InputError, match=f"{run} is a file"), lock_run(run):
        pass


HOLD = """
import sys
from pathlib import Path
from nas.run.lock import lock_run
with lock_run(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_who_drives_a_run_is_found_without_taking_it(tmp_path: Path) -> None:
    assert find_driver(tmp_path / "nowhere") is None
    assert find_driver(tmp_path) is None
    assert list(tmp_path.iterdir()) == []
    command = [sys.executable, "-c", HOLD, str(tmp_path)]
    holder = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert holder.stdout is not None
    assert holder.stdout.readline() == b"held\n"
    (tmp_path / "lock").chmod(0o400)
    told = find_driver(tmp_path)
    assert told is not None
    assert told.startswith(f"pid {holder.pid} on ")
    holder.kill()
    holder.communicate()
    assert (tmp_path / "lock").exists()
    assert find_driver(tmp_path) is None
    assert (tmp_path / "lock").read_text() == f"{told}\n"
    with lock_run(tmp_path):
        assert (find_driver(tmp_path) or "").startswith(f"pid {os.getpid()} on ")
    (tmp_path / "lock").symlink_to(tmp_path / "elsewhere")
    assert find_driver(tmp_path) is None
    assert not (tmp_path / "elsewhere").exists()


def test_who_only_looks_for_a_driver_keeps_nobody_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A look holds the lock for a moment, and a driver that comes in it waits."""
    (tmp_path / "lock").touch()
    look = os.open(tmp_path / "lock", os.O_RDONLY)
    fcntl.flock(look, fcntl.LOCK_SH)
    monkeypatch.setattr("time.sleep", lambda _: fcntl.flock(look, fcntl.LOCK_UN))
    with lock_run(tmp_path):
        assert f"pid {os.getpid()} on " in (tmp_path / "lock").read_text()
    os.close(look)


@pytest.mark.parametrize(("kept", "is_said"), [(None, True), ("config.toml", False), ("study.db", False)])
def test_a_run_that_was_ended_before_it_had_settings_is_said_to_begin_again(
    kept: str | None, is_said: bool, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "lock").write_text("pid 77 on somewhere\n")
    if kept is not None:
        (tmp_path / kept).touch()
    with lock_run(tmp_path):
        pass
    assert [record.getMessage() for record in caplog.records if "pid 77 on somewhere" in record.getMessage()] == [
        record.getMessage() for record in caplog.records
    ]
    assert bool(caplog.records) == is_said
    caplog.clear()
    with lock_run(tmp_path / "new"):
        pass
    assert not caplog.records
