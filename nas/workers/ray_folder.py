"""The folder that a run's own Ray writes in: private, noted in the run directory, removed when the run ends."""

import os
import re
import secrets
import shutil
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

from nas.records.safe_files import write_atomic
from search_spaces.errors import MachineError

PREFIX = "ss-"  # short: see LONGEST_BASE
MARK = "skipsearch"  # the file in the folder that holds what the note in the run directory says
# Ray's sockets lie in the folder, and the operating system takes no longer path for one.
LONGEST_SOCKET = 103 if sys.platform == "darwin" else 107
_BELOW = f"/{PREFIX}01234567/ray/session_2026-01-01_00-00-00_000000_4194304/sockets/plasma_store"
LONGEST_BASE = LONGEST_SOCKET - len(_BELOW)  # bytes


@contextmanager
def own_ray_folder(run: Path | None) -> Iterator[Path]:
    """Have the Ray that is started within the block write in a folder of this run's own, and give it a token.

    Nobody else can read the folder. The token is in this process's environment, which Ray's processes inherit: Ray
    itself would write one into the home directory, for everybody on the machine to read.

    Args:
        run: the run directory, whose next start removes the folder if this process is killed; None: nobody does.

    Raises:
        MachineError: the path is too long for sockets.
        OSError: the folder cannot be made.
    """
    base = _find_base()
    folder = base / f"{PREFIX}{secrets.token_hex(4)}"
    key = secrets.token_hex(16)
    note = None if run is None else run / f".{folder.name}.ray"
    if note is not None:
        write_atomic(note, f"{folder}\n{key}\n")
    given = {"RAY_TMPDIR": str(folder)}
    if "RAY_AUTH_TOKEN" not in os.environ and "RAY_AUTH_TOKEN_PATH" not in os.environ:
        given["RAY_AUTH_TOKEN"] = _token()
    before = {name: os.environ.get(name) for name in given}
    try:
        folder.mkdir(mode=0o700)
        write_atomic(folder / MARK, key)
        os.environ.update(given)
        yield folder
    finally:
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value
        shutil.rmtree(folder, ignore_errors=True)
        if note is not None and not folder.exists():  # else a process that just ends has written into it meanwhile
            note.unlink(missing_ok=True)


def sweep_ray_folders(run: Path) -> None:
    """Remove the folders of killed drivers of this run, as far as no Ray lives in them."""
    for note in run.glob(f".{PREFIX}*.ray"):
        said = re.fullmatch(rf"(/.*/({PREFIX}[0-9a-f]{{8}}))\n([0-9a-f]{{32}})\n", note.read_text(errors="replace"))
        if said is None or note.name != f".{said[2]}.ray":
            continue  # it is no note of ours
        folder = Path(said[1])
        if _is_ours(folder, said[3]):
            if _has_life(folder):
                continue
            shutil.rmtree(folder, ignore_errors=True)
            if folder.exists():  # as above
                continue
        note.unlink(missing_ok=True)


def _find_base() -> Path:
    """Where Ray would put its folder."""
    names = ("RAY_TMPDIR", "TMPDIR") if sys.platform.startswith("linux") else ("RAY_TMPDIR",)
    name = next((name for name in names if os.environ.get(name)), None)
    base = Path(os.environ[name] if name else "/tmp").absolute()  # noqa: S108  as Ray does
    n_bytes = len(os.fsencode(base))
    if n_bytes > LONGEST_BASE:
        raise MachineError(
            f"{name} is {base}, of {n_bytes} bytes, and Ray's sockets lie below it, whose paths cannot be so long: set "
            f"RAY_TMPDIR to a folder of at most {LONGEST_BASE} bytes, as RAY_TMPDIR=/tmp, or give --workers 1"
        )
    return base


@cache
def _token() -> str:
    """One a process: Ray reads it once."""
    return secrets.token_hex(32)


def _is_ours(folder: Path, key: str) -> bool:
    """Whether the folder is there and holds the note's key: a note alone may be a stranger's, and name anything."""
    try:
        is_own = folder.lstat().st_uid == os.geteuid() and not folder.is_symlink()
        return is_own and (folder / MARK).read_text() == key
    except (OSError, UnicodeDecodeError):
        return False


def _has_life(folder: Path) -> bool:
    """Whether a Ray answers on one of the sockets in the folder."""
    for path in folder.glob("ray/session_*/sockets/*"):
        with socket.socket(socket.AF_UNIX) as client:
            try:
                client.connect(str(path))
            except OSError:
                continue
            return True
    return False
