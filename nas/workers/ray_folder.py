"""The private folder of the Ray that a run starts: noted in the run directory, removed when the run ends."""

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

import search_spaces
from nas.records.safe_files import write_atomic
from search_spaces.errors import MachineError

PREFIX = "ss-"  # short, because of LONGEST_BASE
_KEY_FILE = "skipsearch"  # in the folder; its content is also in the note in the run directory
# Ray's sockets lie in the folder, and the operating system refuses longer paths for them.
LONGEST_SOCKET = 103 if sys.platform == "darwin" else 107
_BELOW = f"/{PREFIX}01234567/ray/session_2026-01-01_00-00-00_000000_4194304/sockets/plasma_store"
LONGEST_BASE = LONGEST_SOCKET - len(_BELOW)  # bytes


@contextmanager
def own_ray_folder(run: Path | None) -> Iterator[Path]:
    """Give the Ray that is started inside the block a token, a folder that nobody else can read, and our packages.

    Ray's processes inherit the token from this process's environment: Ray itself would write one into the home
    directory, for everybody on the machine to read.

    Args:
        run: the run directory, whose next start removes the folder if this process is killed; or None.

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
    variables = {"RAY_TMPDIR": str(folder), **_find_packages()}
    if "RAY_AUTH_TOKEN" not in os.environ and "RAY_AUTH_TOKEN_PATH" not in os.environ:
        variables["RAY_AUTH_TOKEN"] = _token()
    before = {name: os.environ.get(name) for name in variables}
    try:
        folder.mkdir(mode=0o700)
        write_atomic(folder / _KEY_FILE, key)
        os.environ.update(variables)
        yield folder
    finally:
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value
        shutil.rmtree(folder, ignore_errors=True)
        if note is not None and not folder.exists():  # a process that is just ending may have written into it again
            note.unlink(missing_ok=True)


def sweep_ray_folders(run: Path) -> None:
    """Remove the folders that killed drivers of this run left, except where a Ray still runs in them."""
    for note in run.glob(f".{PREFIX}*.ray"):
        match = re.fullmatch(rf"(/.*/({PREFIX}[0-9a-f]{{8}}))\n([0-9a-f]{{32}})\n", note.read_text(errors="replace"))
        if match is None or note.name != f".{match[2]}.ray":
            continue  # not written by own_ray_folder
        folder = Path(match[1])
        if _is_ours(folder, match[3]):
            if _has_ray(folder):
                continue
            shutil.rmtree(folder, ignore_errors=True)
            if folder.exists():  # see own_ray_folder
                continue
        note.unlink(missing_ok=True)


def _find_base() -> Path:
    """Return the folder in which Ray would put its own."""
    names = ("RAY_TMPDIR", "TMPDIR") if sys.platform.startswith("linux") else ("RAY_TMPDIR",)
    name = next((name for name in names if os.environ.get(name)), None)
    base = Path(os.environ[name] if name else "/tmp").absolute()  # noqa: S108  as Ray does
    n_bytes = len(os.fsencode(base))
    if n_bytes > LONGEST_BASE:
        raise MachineError(
            f"{name} is {base}, {n_bytes} bytes long, too long for the paths of Ray's sockets below it: set "
            f"RAY_TMPDIR to a folder of at most {LONGEST_BASE} bytes, as RAY_TMPDIR=/tmp, or give --workers 1"
        )
    return base


def _find_packages() -> dict[str, str]:
    """Return the variable by which workers find the packages of this process, and not another version's.

    Workers load them before Ray tells them this process's own path. A folder of installed packages is on that of every
    process, and before Python's own modules it could hide some.
    """
    folder = Path(search_spaces.__file__).resolve().parents[1]
    if folder.name in ("site-packages", "dist-packages"):
        return {}
    return {"PYTHONPATH": os.pathsep.join(filter(None, [str(folder), os.environ.get("PYTHONPATH")]))}


@cache
def _token() -> str:
    """Draw a token, the same for the whole process: Ray reads it once."""
    return secrets.token_hex(32)


def _is_ours(folder: Path, key: str) -> bool:
    """Return whether the folder holds the note's key: a stranger's note could name any folder."""
    try:
        is_own = folder.lstat().st_uid == os.geteuid() and not folder.is_symlink()
        return is_own and (folder / _KEY_FILE).read_text() == key
    except (OSError, UnicodeDecodeError):
        return False


def _has_ray(folder: Path) -> bool:
    """Return whether a Ray answers on one of the sockets in the folder."""
    for path in folder.glob("ray/session_*/sockets/*"):
        with socket.socket(socket.AF_UNIX) as client:
            try:
                client.connect(str(path))
            except OSError:
                continue
            return True
    return False
