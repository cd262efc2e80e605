"""Where the time of a `search` goes, told by time stamps around its calls: docs/search-profile.md.

python scripts/search_profile.py [--workers 1,2] [--rounds N] [--write] [-- MORE FLAGS OF SEARCH]
"""

import argparse
import builtins
import functools
import importlib
import json
import platform
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

ROOT = Path(__file__).parents[1]
DOCUMENT = ROOT / "docs" / "search-profile.md"
SETTINGS = "--layers 24 --growth 4 --train-examples 300 --epochs 9 --trials 24 --seeds 3"  # the README's first search
EXECUTOR = "Ray's executor"
# What a call counts as, and the name by which its caller finds it, once the module there is loaded.
CALLS = {
    "nas.settings.resume:settle_config": "settings and data",
    "nas.search.loop:prepare_data": "settings and data",
    "nas.search.loop:check_patterns": "settings and data",
    "nas.search.loop:open_ledger": "opening the ledger",
    "nas.search.loop:Search.ask": "proposals and ledger",
    "nas.search.loop:Search.tell": "proposals and ledger",
    "nas.workers.trainer:train_cohort": "trainings",
    "nas.workers.ray_executor:start_ray": "Ray's start",
    "nas.workers.ray_executor:_fit": EXECUTOR,
    "ray:shutdown": "Ray's end",
    "analysis.data.results:read_run": "report",
    "analysis.report.report:write_report": "report",
    "nas.export.export:export_run": "templates",
}
IMPORTS, OTHER, BEFORE, AFTER = "imports", "all else", "start of the interpreter", "end of the interpreter"
# Of the time inside Ray's executor, with several workers.
FIRST, BETWEEN, LAST = "workers' start", "between trainings", "after the last training"
ROWS = (
    BEFORE, IMPORTS, "settings and data", "opening the ledger", "Ray's start", FIRST, "trainings", BETWEEN,
    "proposals and ledger", LAST, "Ray's end", "report", "templates", OTHER, AFTER,
)  # fmt: skip


class Clock:
    """Seconds by what the main thread was at, each second counted once: for the innermost call."""

    def __init__(self) -> None:
        self.seconds: defaultdict[str, float] = defaultdict(float)
        self._stack = [OTHER]
        self._since = time.time()

    def enter(self, phase: str) -> None:
        """What follows counts as this; in Ray's executor, where much goes on at a time, all counts as that."""
        self._settle()
        self._stack.append(EXECUTOR if EXECUTOR in self._stack else phase)

    def leave(self) -> None:
        """Back to what was before."""
        self._settle()
        self._stack.pop()

    def _settle(self) -> None:
        now = time.time()
        self.seconds[self._stack[-1]] += now - self._since
        self._since = now

    @property
    def is_importing(self) -> bool:
        """Whether an import is under way."""
        return self._stack[-1] == IMPORTS


def wrap(clock: Clock, phase: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """The function, its time counted."""

    @functools.wraps(function)
    def timed(*args: Any, **kwargs: Any) -> Any:
        clock.enter(phase)
        try:
            return function(*args, **kwargs)
        finally:
            clock.leave()

    return timed


def watch(clock: Clock, marks: dict[str, list[float]]) -> None:
    """Wrap imports, and CALLS as soon as their modules are there; note trainings and the executor's life in marks."""
    plain = builtins.__import__
    waiting = dict(CALLS)

    def patch() -> None:
        for place in list(waiting):
            module, _, name = place.partition(":")
            loaded = sys.modules.get(module)
            holder, _, name = name.rpartition(".")
            owner: Any = getattr(loaded, holder, None) if holder else loaded
            if owner is not None and hasattr(owner, name):
                function = wrap(clock, waiting.pop(place), getattr(owner, name))
                setattr(owner, name, note(place, function))

    def note(place: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def noted(*args: Any, **kwargs: Any) -> Any:
            if place.endswith(".tell"):
                marks["told"].append(time.time())
                marks["trained"].append(args[2].seconds)
            if not place.endswith(":_fit"):
                return function(*args, **kwargs)
            marks["fit"].append(time.time())
            try:
                return function(*args, **kwargs)
            finally:
                marks["fit"].append(time.time())

        return functools.wraps(function)(noted)

    def timed_import(*args: Any, **kwargs: Any) -> ModuleType:
        if clock.is_importing or threading.current_thread() is not threading.main_thread():
            return plain(*args, **kwargs)
        clock.enter(IMPORTS)
        try:
            return plain(*args, **kwargs)
        finally:
            clock.leave()
            patch()

    builtins.__import__ = timed_import


def run_watched(started: float, told: Path, arguments: list[str]) -> None:
    """In a process of its own: the command line, watched; what was found goes to a file."""
    clock = Clock()
    clock.seconds[BEFORE] = time.time() - started
    marks: dict[str, list[float]] = {"told": [], "trained": [], "fit": []}
    watch(clock, marks)
    sys.argv = ["run_search.py", *arguments]
    try:
        importlib.import_module("run_search").main()
    except SystemExit as end:
        assert end.code in (0, None), f"the command ended with {end.code}"
    clock.enter(AFTER)
    told.write_text(json.dumps({"seconds": clock.seconds, "marks": marks, "ended": time.time()}))


def profile(n_workers: int, more: list[str]) -> dict[str, float]:
    """Wall-clock seconds of one search in a fresh folder, by row."""
    with tempfile.TemporaryDirectory() as folder:
        told = Path(folder) / "told.json"
        command = ["search", "--run", f"{folder}/run", *SETTINGS.split(), "--workers", str(n_workers), *more]
        started = time.time()
        subprocess.run(
            [sys.executable, __file__, "--watched", str(started), str(told), *command],
            check=True,
            stdout=subprocess.DEVNULL,
        )
        ended = time.time()
        found = json.loads(told.read_text())
    seconds: dict[str, float] = {**found["seconds"], AFTER: ended - found["ended"]}
    if found["marks"]["fit"]:
        seconds = divide_executor(seconds, found["marks"], n_workers)
    assert abs(sum(seconds.values()) - (ended - started)) < 0.1, "a second was lost or counted twice"
    assert set(seconds) <= set(ROWS), f"no row for {set(seconds) - set(ROWS)}"
    return seconds


def divide_executor(seconds: dict[str, float], marks: dict[str, list[float]], n_workers: int) -> dict[str, float]:
    """The time in the executor, from its parts: workers train while the driver proposes and writes."""
    began, ended = marks["fit"]
    trained = sum(marks["trained"]) / n_workers
    first = min(told - one for told, one in zip(marks["told"], marks["trained"], strict=True))
    last = marks["told"][-1]
    parts = {FIRST: first - began, "trainings": trained, BETWEEN: last - first - trained, LAST: ended - last}
    return {**{name: value for name, value in seconds.items() if name != EXECUTOR}, **parts}


def format_table(found: dict[int, list[dict[str, float]]], more: list[str]) -> str:
    """Markdown: seconds and shares by row, medians over the rounds, for each number of workers."""
    from nas.records.environment import (
        describe_versions,  # not above: the process that is watched is to import it itself
    )

    totals = {n: [sum(one.values()) for one in rounds] for n, rounds in found.items()}
    shares = {
        n: [100 * one["trainings"] / total for one, total in zip(rounds, totals[n], strict=True)]
        for n, rounds in found.items()
    }
    versions = ", ".join(
        f"{name} {value}" for name, value in describe_versions(("torch", "optuna", "ray")).items() if name != "commit"
    )
    n_rounds = len(next(iter(found.values())))
    headings = " | ".join(f"{n} worker{'s' if n > 1 else ''}: s | %" for n in found)
    lines = [
        "# Where the time of a search goes",
        "",
        f"`search {' '.join([*SETTINGS.split(), *more])}` in a fresh folder, from the start of the process to its end: "
        f"wall-clock seconds and their share, medians of {n_rounds} run{'s' if n_rounds > 1 else ''}; "
        f"{platform.machine()} CPU, {versions}; by `scripts/search_profile.py`. With several workers trainings are "
        "the workers' seconds in them over the number of workers; proposals and the ledger's writes happen meanwhile, "
        "in the driver, and are in the time between trainings as far as a worker waits.",
        "",
        f"| | {headings} |",
        "|---|" + "--:|--:|" * len(found),
    ]
    for row in ROWS:
        cells = []
        for n, rounds in found.items():
            values = [one.get(row) for one in rounds]
            if None in values:
                cells.append("- | -")
                continue
            seconds = statistics.median(value for value in values if value is not None)
            share = statistics.median(
                100 * (value or 0) / total for value, total in zip(values, totals[n], strict=True)
            )
            cells.append(f"{seconds:.2f} | {share:.1f}")
        lines.append(f"| {row} | {' | '.join(cells)} |")
    sums = " | ".join(f"{statistics.median(one):.2f} | 100" for one in totals.values())
    lines += [f"| all | {sums} |", ""]
    lines += [
        f"Training is {statistics.median(one):.1f} % ({min(one):.1f} to {max(one):.1f}) of the time with {n} "
        f"worker{'s' if n > 1 else ''}."
        for n, one in shares.items()
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Rounds of all numbers of workers in turn; prints the table, and writes it if asked to."""
    if sys.argv[1:2] == ["--watched"]:
        run_watched(float(sys.argv[2]), Path(sys.argv[3]), sys.argv[4:])
        return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers", default="1,2", metavar="N,...", help="how many trainings at a time")
    parser.add_argument("--rounds", type=int, default=1, metavar="N", help="runs of each")
    parser.add_argument("--write", action="store_true", help=f"write {DOCUMENT.relative_to(ROOT)} too")
    parser.add_argument("more", nargs="*", metavar="FLAG", help="after --: further flags of search, which win")
    given = parser.parse_args()
    numbers = [int(number) for number in given.workers.split(",")]
    rounds = [{n: profile(n, given.more) for n in numbers} for _ in range(given.rounds)]
    table = format_table({n: [one[n] for one in rounds] for n in numbers}, given.more)
    print(table)  # noqa: T201
    if given.write:
        from nas.records.safe_files import write_atomic

        write_atomic(DOCUMENT, table)


if __name__ == "__main__":
    main()
