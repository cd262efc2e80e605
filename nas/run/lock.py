"""One driver a run: the run directory held by one process."""

import contextlib
import errno
import fcntl
import os
import re
import socket
import time
from collections.abc import Iterator
from pathlib import Path

from search_spaces.errors import ConflictError, InputError

SIGNED_WITHIN = 100  # hundredths of a second that who has taken a lock needs at most to say so
LOOKED_WITHIN = 5  # hundredths of a second that who only looks for a driver holds its lock at most
OWN = re.compile(rb"(pid \d+ on [^\n]*\n?)?")  # what a lock holds: who took it, or nothing yet
_held: set[Path] = set()  # by this process, which may hold a run from before its libraries are loaded to its report


@contextlib.contextmanager
def lock_run(run: Path) -> Iterator[None]:
    """Hold the run directory for this process alone, until the block ends or the process dies.

    Folders that are missing are made, and taken away again if the block leaves nothing in them. A process that holds
    the directory already goes on holding it.

    Raises:
        InputError: the path is a file.
        ConflictError: another driver holds it; its pid and host are named. Or its lock is a link, or a user's file.
    """
    key = run.resolve()
    if key in _held:
        yield
        return
    missing = [folder for folder in (run, *run.parents) if not folder.exists()]
    descriptor = _acquire(run)
    _held.add(key)
    try:
        yield
    finally:
        _held.discard(key)
        # Unlinked while still locked: who opened it meanwhile sees in _acquire that it is no longer the run's.
        with contextlib.suppress(FileNotFoundError):
            (run / "lock").unlink()
        with contextlib.suppress(OSError):  # not empty: there is a run now
            for folder in missing:
                folder.rmdir()
        os.close(descriptor)


def _acquire(run: Path) -> int:
    """An open descriptor of the run's lock file, locked."""
    while True:
        try:
            run.mkdir(parents=True, exist_ok=True)
        except (FileExistsError, NotADirectoryError):
            raise InputError(
                f"--run {run} is a file, a link that leads nowhere, or inside such a one: give a folder, or a name "
                "that is free"
            ) from None
        try:
            # A link would lead to a file of somebody else's, to be emptied below.
            descriptor = os.open(run / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
        except FileNotFoundError:  # the folder was taken away in between
            continue
        except OSError as error:
            if error.errno != errno.ELOOP:
                raise
            raise ConflictError(
                f"{run / 'lock'} is a link, which no run makes: remove it, or give another --run"
            ) from None
        try:
            _lock(descriptor)
        except BlockingIOError:
            holder = _read_holder(descriptor)
            os.close(descriptor)
            raise ConflictError(f"{run} is being searched by {holder}: wait for it, or give another --run") from None
        if _is_current(run / "lock", descriptor):
            if not OWN.fullmatch(os.pread(descriptor, 500, 0)):
                os.close(descriptor)
                raise ConflictError(f"{run / 'lock'} is a file that no run wrote: move it away, or give another --run")
            _sign(run / "lock", descriptor)
            return descriptor
        os.close(descriptor)


def _lock(descriptor: int) -> None:
    for _ in range(LOOKED_WITHIN):
        with contextlib.suppress(BlockingIOError):  # who only looks for a driver holds it for a moment
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        time.sleep(0.01)
    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)


def find_driver(run: Path) -> str | None:
    """Return who drives a run, by pid and host, or None where nobody does; nothing is written."""
    try:
        descriptor = os.open(run / "lock", os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:  # none, or a link, which no run makes
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)  # let go when the file is closed
    except BlockingIOError:
        return _read_holder(descriptor)
    finally:
        os.close(descriptor)
    return None


def _read_holder(descriptor: int) -> str:
    """Who holds the lock, by what it holds: nothing for a moment, when it has just been taken."""
    for _ in range(SIGNED_WITHIN):
        if holder := os.pread(descriptor, 200, 0).decode(errors="replace").strip():
            return holder
        time.sleep(0.01)
    return "another process"


def _sign(path: Path, descriptor: int) -> None:
    """Write who holds the lock into it, for others to name."""
    try:
        os.ftruncate(descriptor, 0)
        os.write(descriptor, f"pid {os.getpid()} on {socket.gethostname()}\n".encode())
    except OSError as error:
        path.unlink(missing_ok=True)
        os.close(descriptor)
        raise OSError(error.errno, error.strerror, str(path)) from error  # a full disk's names no file


def _is_current(path: Path, descriptor: int) -> bool:
    """Whether the path still names the open file."""
    try:
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False
