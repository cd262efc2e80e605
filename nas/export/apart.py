"""Verification of a stranger's folder in another process with limited memory and time."""

import json
import os
import re
import resource
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from nas.export.manifest import FILES, MANIFEST, WEIGHTS_FILES
from nas.export.verify import Verified, count_values, verify_file, verify_folder
from nas.model.candidate import Candidate
from nas.model.cost import predict_cost
from nas.records.template import COMPANIONS
from search_spaces.errors import InputError

SECONDS = 900  # time limit for one folder
SPARE_BYTES = 2 * 2**30  # for texts and for the small parts of a network, beyond what the libraries have taken
_N_COPIES = 8  # of the weights: in the file, in each form, and while they are read
_N_IMAGES = 6  # images whose values are in memory at a time, at most
_NAMES = (MANIFEST, "template.json")  # a folder with one of these can be checked
_CHILD = "import sys; sys.path[:] = sys.argv[2:]; from nas.export.apart import answer; answer(sys.argv[1])"
_TRUST = "if you trust its author, give --trust"


def verify_apart(folder: Path, seconds: int = SECONDS) -> Verified:
    """Check an exported folder as verify_folder does, in another process with limited memory and time.

    A network of the size that it claims stays below the limits; exceeding them is a false claim.

    Raises:
        InputError: it is not an exported folder.
    """
    command = [sys.executable, "-c", _CHILD, str(folder), *sys.path]
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=seconds, check=False)
    except subprocess.TimeoutExpired:
        return Verified({"time": f"checking it took more than {seconds} s; {_TRUST}"}, [])
    if done.returncode < 0:
        name = signal.Signals(-done.returncode).name
        return Verified({"memory": f"checking it killed the process ({name}); {_TRUST}"}, [])
    if done.returncode:
        raise RuntimeError(f"verification ended with exit status {done.returncode}:\n{done.stderr.decode()[-3000:]}")
    reply: dict[str, Any] = json.loads(done.stdout)
    if "refused" in reply:
        raise InputError(reply["refused"])
    return Verified(reply["false"], reply["notes"], reply["checked"])


def find_verifiable(folder: Path) -> list[Path]:
    """Return the folder itself if it has a manifest, else its subfolders with a manifest or a template.

    Raises:
        InputError: there are none.
    """
    if os.path.lexists(folder / MANIFEST):
        return [folder]
    own = [name for name in FILES if os.path.lexists(folder / name)]
    inner = [path for path in sorted(folder.iterdir()) if path.is_dir() and not path.is_symlink()]
    places = [] if own else [path for path in inner if any(os.path.lexists(path / name) for name in _NAMES)]
    if not places:
        raise InputError(
            f"{folder} has neither a {MANIFEST}, as `export` writes one, nor subfolders with templates; verify FILE "
            "checks a single template file"
        )
    return places


def verify_all(folder: Path, places: Sequence[Path], trust: bool = False) -> Verified:
    """Check the folders that find_verifiable returned; with several, claims and notes begin with the folder's name.

    Args:
        trust: see verify_folder; without trust each folder is checked in another process.
    """
    if list(places) == [folder]:
        return verify_folder(folder, trust=True) if trust else verify_apart(folder)
    false, checked, noted = dict[str, str](), dict[str, list[str]](), dict[str, list[str]]()
    for place in places:
        try:
            verified = _verify_place(place, trust)
        except InputError as error:
            verified = Verified({"template.json": str(error)}, [])
        false |= {f"{place.name}/{name}": f"{place.name}: {problem}" for name, problem in verified.false.items()}
        for note in verified.notes:
            noted.setdefault(note, []).append(place.name)
        for kind, names in verified.checked.items():
            checked.setdefault(kind, []).extend(f"{place.name}/{name}" for name in names)
    skipped = sorted({path.name for path in folder.iterdir()} - {path.name for path in places})
    notes = [f"{names[0] if len(names) == 1 else f'{len(names)} folders'}: {note}" for note, names in noted.items()]
    notes += [f"not checked, because it is not a folder with a template: {name!r:.80}" for name in skipped]
    return Verified(false, notes, checked)


def _verify_place(place: Path, trust: bool) -> Verified:
    """Check an exported folder, or one of `sample`, which has a template file and its drawings only."""
    present = {name for name in (MANIFEST, *FILES, *WEIGHTS_FILES.values()) if os.path.lexists(place / name)}
    if present <= {"template.json", *COMPANIONS}:
        return verify_file(place / "template.json")
    return verify_folder(place, trust=True) if trust else verify_apart(place)


def answer(folder: str) -> None:
    """Verify a folder and print the result as JSON, as the other process does."""
    stdout = os.dup(1)
    os.dup2(2, 1)  # libraries may print, and must not spoil the JSON
    signal.alarm(2 * SECONDS)  # in case the parent is gone
    _limit_memory(SPARE_BYTES)
    try:
        verified = verify_folder(Path(folder), prepare=_limit_to_need)
        reply: dict[str, Any] = asdict(verified)
    except InputError as error:
        reply = {"refused": str(error)}
    except (MemoryError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and not re.search("allocate memory|bad.alloc", str(error)):
            raise
        excess = f"checking it takes more memory than its size suggests; {_TRUST}"
        reply = asdict(Verified({"memory": excess}, []))
    with os.fdopen(stdout, "w") as stream:
        json.dump(reply, stream)


def _limit_to_need(candidate: Candidate) -> None:
    n_values = _N_COPIES * predict_cost(candidate).params + _N_IMAGES * count_values(candidate)
    _limit_memory(SPARE_BYTES + 4 * n_values)


def _limit_memory(n_bytes: int) -> None:
    """Limit this process to n_bytes more than it has now. Threads' stacks count, mapped files do not."""
    try:
        current = re.search(r"VmData:\s+(\d+) kB", Path("/proc/self/status").read_text())
    except OSError:
        return  # not Linux: only time is limited
    if current is not None:
        hard = resource.getrlimit(resource.RLIMIT_DATA)[1]
        limit = 1024 * int(current[1]) + n_bytes
        resource.setrlimit(resource.RLIMIT_DATA, (limit if hard < 0 else min(limit, hard), hard))
