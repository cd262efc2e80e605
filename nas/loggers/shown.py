"""What a logger was shown already, in RUN/trackers/NAME.txt, so that a continued run does not show it twice."""

import threading
import uuid
from pathlib import Path

from nas.records.safe_files import write_atomic

PLACE = "trackers"
ID = "id.txt"
_lock = threading.Lock()


def read_id(run: Path) -> str:
    """Return the name that trackers know a run by, wherever its directory is moved; drawn when first asked for."""
    path = run / PLACE / ID
    with _lock:  # each logger has a thread
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            write_atomic(path, f"{uuid.uuid4().hex[:16]}\n")
        return path.read_text(encoding="ascii").strip()


class Shown:
    """The trainings that one logger was shown: a line each, with number and state.

    A training whose state changed, because it was given up and trained again, counts as not shown.

    Args:
        run: the run directory.
        name: the logger's name.
    """

    def __init__(self, run: Path, name: str) -> None:
        self._path = run / PLACE / f"{name}.txt"
        text = self._path.read_text(encoding="ascii", errors="replace") if self._path.exists() else ""
        whole, _, torn = text.rpartition("\n")
        self._lines = set(whole.splitlines())
        if torn:  # the run was killed in the middle of a line
            write_atomic(self._path, whole + "\n" if whole else "")

    def has(self, number: int, state: str) -> bool:
        """Return whether a training was shown with this state."""
        return f"{number} {state}" in self._lines

    def note(self, number: int, state: str) -> None:
        """Record that a training was shown."""
        self._lines.add(f"{number} {state}")
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._path.open("a", encoding="ascii") as file:
            file.write(f"{number} {state}\n")
