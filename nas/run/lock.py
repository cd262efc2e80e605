"""The lock of a run directory, which one process at a time may drive."""

import contextlib
import errno
import fcntl
import logging
import os
import re
import socket
import time
from collections.abc import Iterator
from pathlib import Path

from nas.records.shown import show
from search_spaces.errors import ConflictError, InputError

SIGNED_WITHIN = 100  # hundredths of a second within which whoever takes a lock writes its name into it
LOOKED_WITHIN = 5  # hundredths of a second for which find_driver takes a lock at most
OWN = re.compile(rb"(pid \d+ on [^\n]*\n?)?")  # content of a lock: who took it, or nothing yet
_logger = logging.getLogger(__name__)
_locked: set[Path] = set()  # by this process, which locks a run from before it loads its libraries to its report


@contextlib.contextmanager
def lock_run(run: Path) -> Iterator[None]:
    """Lock the run directory for this process only, until the block ends or the process dies.

    Missing folders are made, and removed again if the block leaves nothing in them. Within a block a second one for
    the same directory does nothing.

    Raises:
        InputError: the path is a file.
        ConflictError: another driver has locked it, whose pid and host are named; or its lock is a link, or a user's
            file.
    """
    key = run.resolve()
    if key in _locked:
        yield
        return
    missing = [folder for folder in (run, *run.parents) if not folder.exists()]
    descriptor = _acquire(run)
    _locked.add(key)
    try:
        yield
    finally:
        _locked.discard(key)
        # Unlinked while still locked: whoever opened it meanwhile sees in _acquire that it is no longer the run's.
        with contextlib.suppress(FileNotFoundError):
            (run / "lock").unlink()
        with contextlib.suppress(OSError):  # not empty: there is a run now
            for folder in missing:
                folder.rmdir()
        os.close(descriptor)


def _acquire(run: Path) -> int:
    """Return an open descriptor of the run's lock file, locked."""
    while True:
        try:
            run.mkdir(parents=True, exist_ok=True)
        except (FileExistsError, NotADirectoryError):
            raise InputError(
                f"--run {run} is a file, a link that leads nowhere, or inside such a one: give a folder, or a name "
                "that is free"
            ) from None
        try:
            # A link could lead to a user's file, which is emptied below.
            descriptor = os.open(run / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
        except FileNotFoundError:  # the folder was removed in between
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
            left = os.pread(descriptor, 500, 0)
            if not OWN.fullmatch(left):
                os.close(descriptor)
                raise ConflictError(f"{run / 'lock'} is a file that no run wrote: move it away, or give another --run")
            if left and not any((run / name).exists() for name in ("config.toml", "study.db")):
                _logger.warning(
                    "warning: %s has no settings: %s was ended before it wrote them. This run begins with those "
                    "that are given now",
                    show(run),
                    show(left.decode().strip()),
                )
            _sign(run / "lock", descriptor)
            return descriptor
        os.close(descriptor)


def _lock(descriptor: int) -> None:
    for _ in range(LOOKED_WITHIN):
        with contextlib.suppress(BlockingIOError):  # find_driver takes it for a moment
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        time.sleep(0.01)
    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)


def find_driver(run: Path) -> str | None:
    """Return who drives a run, by pid and host, or None where nobody does; it writes nothing."""
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
    """Return who has taken the lock; it is empty for a moment when it has just been taken."""
    for _ in range(SIGNED_WITHIN):
        if holder := os.pread(descriptor, 200, 0).decode(errors="replace").strip():
            return holder
        time.sleep(0.01)
    return "another process"


def _sign(path: Path, descriptor: int) -> None:
    """Write into the lock who has taken it, for others to name."""
    try:
        os.ftruncate(descriptor, 0)
        os.write(descriptor, f"pid {os.getpid()} on {socket.gethostname()}\n".encode())
    except OSError as error:
        path.unlink(missing_ok=True)
        os.close(descriptor)
        raise OSError(error.errno, error.strerror, str(path)) from error  # a full disk's names no file


def _is_current(path: Path, descriptor: int) -> bool:
    """Return whether the path still names the open file."""
    try:
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False
