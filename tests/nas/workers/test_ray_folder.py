"""The folder of a run's own Ray: private, short enough for sockets, and removed, but for what is not the run's."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from nas.run.directory import sweep
from nas.workers.ray_folder import LONGEST_BASE, own_ray_folder, sweep_ray_folders
from search_spaces.errors import MachineError

# Ends as a driver that is killed does: its folder and its note stay.
KILLED = """
import os, signal, sys
from pathlib import Path
from nas.workers.ray_folder import own_ray_folder
with own_ray_folder(Path(sys.argv[1])) as folder:
    (folder / "ray/session_1/sockets").mkdir(parents=True)
    (folder / "ray/session_1/logs.txt").write_text("left")
    print(folder, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture
def base(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A short folder, which tmp_path is not, for Ray's files; empty again at the end."""
    base = Path(f"/tmp/{os.getpid()}")  # noqa: S108
    base.mkdir()
    monkeypatch.setenv("RAY_TMPDIR", str(base))
    (tmp_path / "run").mkdir()
    yield base
    base.rmdir()


def _kill(run: Path) -> Path:
    process = subprocess.run([sys.executable, "-c", KILLED, str(run)], capture_output=True, text=True, check=False)
    assert process.returncode == -signal.SIGKILL, process.stderr
    return Path(process.stdout.strip())


def test_the_folder_is_private_and_goes_with_the_block(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("RAY_AUTH_TOKEN", raising=False)
    monkeypatch.delenv("RAY_AUTH_TOKEN_PATH", raising=False)
    run = tmp_path / "run"
    before = dict(os.environ)
    with own_ray_folder(run) as folder:
        assert folder.parent == base
        assert folder.stat().st_mode & 0o777 == 0o700
        assert os.environ["RAY_TMPDIR"] == str(folder)
        assert len(os.environ["RAY_AUTH_TOKEN"]) >= 32
        assert os.environ["RAY_AUTH_TOKEN"] not in "".join(p.read_text() for p in tmp_path.rglob("*") if p.is_file())
    assert dict(os.environ) == before
    assert not list(run.iterdir())
    assert not (tmp_path / "home").exists()


def test_a_token_that_the_user_gave_is_kept(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", "/etc/token")
    with own_ray_folder(None) as folder:
        assert folder.parent == base
        assert "RAY_AUTH_TOKEN" not in os.environ
    assert os.environ["RAY_AUTH_TOKEN_PATH"] == "/etc/token"  # noqa: S105  a path


@pytest.mark.parametrize("name", ["RAY_TMPDIR", "TMPDIR"])
def test_a_base_too_long_for_sockets_is_refused_before_ray_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    long = tmp_path / ("x" * 80)
    long.mkdir()
    monkeypatch.delenv("RAY_TMPDIR", raising=False)
    monkeypatch.setenv(name, str(long))
    with pytest.raises(MachineError, match=f"{name} is {long}") as caught, own_ray_folder(tmp_path):
        pass
    assert caught.value.exit_code == 3
    assert list(tmp_path.iterdir()) == [long]
    assert not list(long.iterdir())


def test_the_longest_base_that_is_taken_leaves_room_for_rays_sockets(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    base = Path("/tmp/" + str(os.getpid()).rjust(LONGEST_BASE - 5, "x"))  # noqa: S108
    base.mkdir()
    monkeypatch.setenv("RAY_TMPDIR", str(base))
    with own_ray_folder(tmp_path) as folder:
        sockets = folder / "ray/session_2026-12-31_23-59-59_999999_4194304/sockets"
        sockets.mkdir(parents=True)
        for name in ("plasma_store", "raylet"):
            with socket.socket(socket.AF_UNIX) as server:
                server.bind(str(sockets / name))
    monkeypatch.setenv("RAY_TMPDIR", f"{base}x")
    with pytest.raises(MachineError), own_ray_folder(tmp_path):
        pass
    base.rmdir()


def test_the_next_start_removes_what_a_killed_driver_left(base: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    folder = _kill(run)
    assert (folder / "ray/session_1/logs.txt").read_text() == "left"
    assert len(list(run.iterdir())) == 1
    sweep(run)
    assert not list(base.iterdir())
    assert not list(run.iterdir())


def test_a_folder_in_which_a_ray_lives_stays_until_it_has_ended(base: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    folder = _kill(run)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(folder / "ray/session_1/sockets/raylet"))
        server.listen()
        sweep_ray_folders(run)
        assert (folder / "ray/session_1/logs.txt").exists()
    sweep_ray_folders(run)
    assert not list(base.iterdir())
    assert not list(run.iterdir())


def test_a_note_alone_removes_nothing(base: Path, tmp_path: Path) -> None:
    """A run directory may come from a stranger, or be a copy: what it names must hold its key."""
    theirs, run = tmp_path / "theirs", tmp_path / "run"
    theirs.mkdir()
    folder = _kill(theirs)
    (note,) = theirs.iterdir()
    path, key = note.read_text().splitlines()
    forged = run / note.name
    for text in (f"{path}\n{'0' * 32}\n", f"{base}\n{key}\n", f"{path}/../{folder.name}/ray\n{key}\n", "", "notes"):
        forged.write_text(text)
        sweep_ray_folders(run)
        assert (folder / "ray/session_1/logs.txt").exists(), text
    users = run / ".mine.ray"
    users.write_text(note.read_text())
    link = base / "ss-0123abcd"
    link.symlink_to(folder)
    (run / ".ss-0123abcd.ray").write_text(f"{link}\n{key}\n")
    sweep_ray_folders(run)
    assert users.exists()
    assert link.is_symlink()
    assert (folder / "ray/session_1/logs.txt").exists()
    link.unlink()
    sweep_ray_folders(theirs)
    assert not folder.exists()
