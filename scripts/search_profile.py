"""Measure where the time of a `search` goes, by time stamps around its calls; write docs/search-profile.md.

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

ROOT = Path(__file__).parents[1]  # not from shared.py, whose imports would count as the search's
DOCUMENT = ROOT / "docs" / "search-profile.md"
SETTINGS = "--layers 24 --growth 4 --train-examples 300 --epochs 9 --strategy random --trials 24 --seeds 3"
EXECUTOR = "Ray's executor"
# Phase of each call, by the name under which its caller finds it once that module is loaded.
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
    "nas.export.runs:export_run": "templates",
}
IMPORTS, OTHER, BEFORE, AFTER = "imports", "all else", "start of the interpreter", "end of the interpreter"
# Of the time inside Ray's executor, with several workers.
FIRST, BETWEEN, LAST = "workers' start", "between trainings", "after the last training"
ROWS = (
    BEFORE, IMPORTS, "settings and data", "opening the ledger", "Ray's start", FIRST, "trainings", BETWEEN,
    "proposals and ledger", LAST, "Ray's end", "report", "templates", OTHER, AFTER,
)  # fmt: skip


class Clock:
    """Seconds by the main thread's phase, each second counted once, for the innermost call."""

    def __init__(self) -> None:
        self.seconds: defaultdict[str, float] = defaultdict(float)
        self._stack = [OTHER]
        self._since = time.time()

    def enter(self, phase: str) -> None:
        """Count from now on for a phase; inside Ray's executor, where much happens at once, all counts as that."""
        self._settle()
        self._stack.append(EXECUTOR if EXECUTOR in self._stack else phase)

    def leave(self) -> None:
        """Return to the phase before."""
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
    """Return the function with its time counted."""

    @functools.wraps(function)
    def timed(*args: Any, **kwargs: Any) -> Any:
        clock.enter(phase)
        try:
            return function(*args, **kwargs)
        finally:
            clock.leave()

    return timed


def watch(clock: Clock, marks: dict[str, list[float]]) -> None:
    """Wrap imports, and CALLS once their modules are loaded; note trainings and the executor's life in marks."""
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
                marks["ended"].append(time.time())
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


def run_watched(started: float, to: Path, arguments: list[str]) -> None:
    """Run the command line in this process and write its times to a file."""
    clock = Clock()
    clock.seconds[BEFORE] = time.time() - started
    marks: dict[str, list[float]] = {"ended": [], "trained": [], "fit": []}
    watch(clock, marks)
    sys.argv = ["run_search.py", *arguments]
    try:
        importlib.import_module("run_search").main()
    except SystemExit as end:
        assert end.code in (0, None), f"the command ended with {end.code}"
    clock.enter(AFTER)
    to.write_text(json.dumps({"seconds": clock.seconds, "marks": marks, "ended": time.time()}))


def profile(n_workers: int, more: list[str]) -> dict[str, float]:
    """Return the wall-clock seconds of one search in a fresh folder, by row."""
    with tempfile.TemporaryDirectory() as folder:
        times = Path(folder) / "times.json"
        command = ["search", "--run", f"{folder}/run", *SETTINGS.split(), "--workers", str(n_workers), *more]
        started = time.time()
        subprocess.run(
            [sys.executable, __file__, "--watched", str(started), str(times), *command],
            check=True,
            stdout=subprocess.DEVNULL,
        )
        ended = time.time()
        result = json.loads(times.read_text())
    seconds: dict[str, float] = {**result["seconds"], AFTER: ended - result["ended"]}
    if result["marks"]["fit"]:
        seconds = divide_executor(seconds, result["marks"], n_workers)
    assert abs(sum(seconds.values()) - (ended - started)) < 0.1, "a second was lost or counted twice"
    assert set(seconds) <= set(ROWS), f"no row for {set(seconds) - set(ROWS)}"
    return seconds


def divide_executor(seconds: dict[str, float], marks: dict[str, list[float]], n_workers: int) -> dict[str, float]:
    """Divide the time in the executor into parts; workers train while the driver proposes and writes."""
    began, ended = marks["fit"]
    trained = sum(marks["trained"]) / n_workers
    first = min(end - duration for end, duration in zip(marks["ended"], marks["trained"], strict=True))
    last = marks["ended"][-1]
    parts = {FIRST: first - began, "trainings": trained, BETWEEN: last - first - trained, LAST: ended - last}
    return {**{name: value for name, value in seconds.items() if name != EXECUTOR}, **parts}


def format_table(by_workers: dict[int, list[dict[str, float]]], more: list[str]) -> str:
    """Return the page: seconds and shares by row, medians over the rounds, for each number of workers."""
    from nas.settings.environment import describe_versions  # not above: the watched process must import it itself

    totals = {n: [sum(seconds.values()) for seconds in rounds] for n, rounds in by_workers.items()}
    shares = {
        n: [100 * seconds["trainings"] / total for seconds, total in zip(rounds, totals[n], strict=True)]
        for n, rounds in by_workers.items()
    }
    versions = ", ".join(
        f"{name} {value}" for name, value in describe_versions(("torch", "optuna", "ray")).items() if name != "commit"
    )
    n_rounds = len(next(iter(by_workers.values())))
    headings = " | ".join(f"{n} worker{'s' if n > 1 else ''}: s | %" for n in by_workers)
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
        "|---|" + "--:|--:|" * len(by_workers),
    ]
    for row in ROWS:
        cells = []
        for n, rounds in by_workers.items():
            values = [seconds.get(row) for seconds in rounds]
            if None in values:
                cells.append("- | -")
                continue
            seconds = statistics.median(value for value in values if value is not None)
            share = statistics.median(
                100 * (value or 0) / total for value, total in zip(values, totals[n], strict=True)
            )
            cells.append(f"{seconds:.2f} | {share:.1f}")
        lines.append(f"| {row} | {' | '.join(cells)} |")
    sums = " | ".join(f"{statistics.median(seconds):.2f} | 100" for seconds in totals.values())
    lines += [f"| all | {sums} |", ""]
    lines += [
        f"Training is {statistics.median(share):.1f} % ({min(share):.1f} to {max(share):.1f}) of the time with {n} "
        f"worker{'s' if n > 1 else ''}."
        for n, share in shares.items()
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Take rounds of all numbers of workers in turn; print the table, and write it if asked to."""
    if sys.argv[1:2] == ["--watched"]:
        run_watched(float(sys.argv[2]), Path(sys.argv[3]), sys.argv[4:])
        return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers", default="1,2", metavar="N,...", help="how many trainings at a time")
    parser.add_argument("--rounds", type=int, default=1, metavar="N", help="runs of each")
    parser.add_argument("--write", action="store_true", help=f"write {DOCUMENT.relative_to(ROOT)} too")
    parser.add_argument("more", nargs="*", metavar="FLAG", help="after --: further flags of search, which win")
    arguments = parser.parse_args()
    numbers = [int(number) for number in arguments.workers.split(",")]
    rounds = [{n: profile(n, arguments.more) for n in numbers} for _ in range(arguments.rounds)]
    table = format_table({n: [by_workers[n] for by_workers in rounds] for n in numbers}, arguments.more)
    print(table)  # noqa: T201
    if arguments.write:
        from nas.records.safe_files import write_atomic

        write_atomic(DOCUMENT, table)


if __name__ == "__main__":
    main()
