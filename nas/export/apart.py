"""A stranger's folder verified in a process of its own, which gets so much memory and time and no more."""

import json
import os
import re
import resource
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from nas.export.export import verify_template
from nas.export.manifest import FILES, MANIFEST
from nas.export.verify import Verified, count_values, verify_folder
from nas.model.candidate import Candidate
from nas.model.cost import predict_cost
from nas.records.template import COMPANIONS
from search_spaces.errors import InputError

SECONDS = 900  # that a folder may take
SPARE_BYTES = 2 * 2**30  # beside what the libraries have taken: for texts, and for what a network needs anyhow
N_COPIES = 8  # of the weights: in the file, in each form, and while they are read
N_IMAGES = 6  # whose values are held at a time, at most
NAMES = (MANIFEST, "template.json")  # by which a folder is known for one that can be checked
CHILD = "import sys; sys.path[:] = sys.argv[2:]; from nas.export.apart import answer; answer(sys.argv[1])"
TRUST = "if you trust who wrote it, give --trust"


def verify_apart(folder: Path, seconds: int = SECONDS) -> Verified:
    """Check an exported folder as verify_folder does, in another process with limits of memory and time.

    A network that keeps to the sizes that it claims needs less. What needs more is a false claim.

    Raises:
        InputError: it is no exported folder.
    """
    command = [sys.executable, "-c", CHILD, str(folder), *sys.path]
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=seconds, check=False)
    except subprocess.TimeoutExpired:
        return Verified({"time": f"to check it took more than {seconds} s; {TRUST}"}, [])
    if done.returncode < 0:
        name = signal.Signals(-done.returncode).name
        return Verified({"memory": f"to check it ended the process that did so ({name}); {TRUST}"}, [])
    if done.returncode:
        raise RuntimeError(f"verification ended with exit status {done.returncode}:\n{done.stderr.decode()[-3000:]}")
    answered: dict[str, Any] = json.loads(done.stdout)
    if "refused" in answered:
        raise InputError(answered["refused"])
    return Verified(answered["false"], answered["notes"])


def find_verifiable(folder: Path) -> list[Path]:
    """Return the folder itself where it holds a manifest, else those in it that hold a manifest or a template.

    Raises:
        InputError: there is none.
    """
    if os.path.lexists(folder / MANIFEST):
        return [folder]
    own = [name for name in FILES if os.path.lexists(folder / name)]
    inner = [path for path in sorted(folder.iterdir()) if path.is_dir() and not path.is_symlink()]
    places = [] if own else [path for path in inner if any(os.path.lexists(path / name) for name in NAMES)]
    if not places:
        raise InputError(
            f"{folder} holds no {MANIFEST}, so `export` did not write it as it stands, and no folders with templates "
            "either; verify FILE checks a template file alone"
        )
    return places


def verify_all(folder: Path, places: Sequence[Path], trust: bool = False) -> Verified:
    """Check folders that find_verifiable found; in one of several, claims and notes begin with its name.

    Args:
        trust: see verify_folder; what nobody is trusted for is checked in a process of its own.
    """
    if list(places) == [folder]:
        return verify_folder(folder, trust=True) if trust else verify_apart(folder)
    false, notes = dict[str, str](), list[str]()
    for place in places:
        try:
            found = _verify_place(place, trust)
        except InputError as error:
            found = Verified({"template.json": str(error)}, [])
        false |= {f"{place.name}/{name}": f"{place.name}: {said}" for name, said in found.false.items()}
        notes += [f"{place.name}: {note}" for note in found.notes]
    skipped = sorted({path.name for path in folder.iterdir()} - {path.name for path in places})
    notes += [f"not checked, for it is no folder with a template: {name!r:.80}" for name in skipped]
    return Verified(false, notes)


def _verify_place(place: Path, trust: bool) -> Verified:
    """An exported folder; or one that `sample` writes, of a template file and its drawings alone."""
    held = {name for name in (MANIFEST, *FILES) if os.path.lexists(place / name)}
    if held <= {"template.json", *COMPANIONS}:
        return Verified(verify_template(place / "template.json"), [])
    return verify_folder(place, trust=True) if trust else verify_apart(place)


def answer(folder: str) -> None:
    """Verify a folder and print what was found as JSON: what the other process does."""
    stdout = os.dup(1)
    os.dup2(2, 1)  # what libraries print is no answer
    signal.alarm(2 * SECONDS)  # if nobody waits any more
    _limit_memory(SPARE_BYTES)
    try:
        found = verify_folder(Path(folder), prepare=_limit_to_need)
        answered: dict[str, Any] = {"false": found.false, "notes": found.notes}
    except InputError as error:
        answered = {"refused": str(error)}
    except (MemoryError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and not re.search("allocate memory|bad.alloc", str(error)):
            raise
        answered = {"false": {"memory": f"to check it takes more memory than its size tells; {TRUST}"}, "notes": []}
    with os.fdopen(stdout, "w") as stream:
        json.dump(answered, stream)


def _limit_to_need(candidate: Candidate) -> None:
    n_values = N_COPIES * predict_cost(candidate).params + N_IMAGES * count_values(candidate)
    _limit_memory(SPARE_BYTES + 4 * n_values)


def _limit_memory(n_bytes: int) -> None:
    """Let this process take so many bytes more than it has now. Threads' stacks count, files that are mapped do not."""
    try:
        held = re.search(r"VmData:\s+(\d+) kB", Path("/proc/self/status").read_text())
    except OSError:
        return  # not Linux: the limit of time is left
    if held is not None:
        hard = resource.getrlimit(resource.RLIMIT_DATA)[1]
        limit = 1024 * int(held[1]) + n_bytes
        resource.setrlimit(resource.RLIMIT_DATA, (limit if hard < 0 else min(limit, hard), hard))
