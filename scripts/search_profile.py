"""Measure when a `search` has its first result and its report, and where its time goes; write docs/search-profile.md.

    python scripts/search_profile.py [--workers 1,2] [--rounds N] [--write] [-- FLAGS OF SEARCH]

Without flags it is the search of the README. Rounds also run scripts/hand_written.py, with as many trainings and
processes. The first round is dropped if there are several: it fills caches.
"""

import argparse
import builtins
import contextlib
import functools
import importlib
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import ModuleType
from typing import Any

ROOT = Path(__file__).parents[1]  # not from shared.py, whose imports would count as the search's
DOCUMENT = ROOT / "docs" / "search-profile.md"
HAND_WRITTEN = ROOT / "scripts" / "hand_written.py"
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
    "nas.workers.ray_start:start_ray": "Ray's start",
    "nas.workers.ray_executor:_fit": EXECUTOR,
    "ray:shutdown": "Ray's end",
    "analysis.data.results:read_run": "report",
    "analysis.report.report:compose_report": "report",
    "analysis.report.report:save_report": "report",
    "nas.export.runs:export_run": "templates",
}
IMPORTS, OTHER, BEFORE, AFTER = "imports", "all else", "start of the interpreter", "end of the interpreter"
# Of the time inside Ray's executor, with several workers.
FIRST, BETWEEN, LAST = "workers' start", "between trainings", "after the last training"
ROWS = (
    BEFORE, IMPORTS, "settings and data", "opening the ledger", "Ray's start", FIRST, "trainings", BETWEEN,
    "proposals and ledger", LAST, "Ray's end", "report", "templates", OTHER, AFTER,
)  # fmt: skip


DEFAULT_TRAININGS = 60  # of a search
LOOK_SECONDS = 0.1


@dataclass(frozen=True, slots=True)
class Course:
    """One run as its user sees it: seconds from its start, and what all of its processes computed.

    Args:
        first: wall-clock seconds to the line of the first training on the screen.
        report: wall-clock seconds to the line that says where the report is; None: it writes none.
        end: wall-clock seconds to the end of the process.
        processor: seconds of processor time; None: not known on this system.
        phases: wall-clock seconds by row of the second table; none of a script of others.
    """

    first: float
    report: float | None
    end: float
    processor: float | None
    phases: dict[str, float] = field(default_factory=dict)


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


class Meter(threading.Thread):
    """Adds up the processor time of all processes of a session, which it looks at every LOOK_SECONDS.

    What a parent knows of its children is too little: Ray's node process ignores the end of its workers.
    """

    def __init__(self, session: int) -> None:
        super().__init__(daemon=True)
        self._session = session
        self._ticks: dict[int, int] = {}
        self._has_ended = threading.Event()

    def run(self) -> None:
        while not self._has_ended.wait(LOOK_SECONDS):
            for file in Path("/proc").glob("[0-9]*/stat"):
                with contextlib.suppress(OSError):  # it has just ended
                    fields = file.read_text().rpartition(")")[2].split()
                    if int(fields[3]) == self._session:
                        self._ticks[int(file.parent.name)] = int(fields[11]) + int(fields[12])

    def read(self) -> float | None:
        """Stop, and return the seconds so far; None where there is no /proc."""
        self._has_ended.set()
        self.join()
        return sum(self._ticks.values()) / os.sysconf("SC_CLK_TCK") if self._ticks else None


def follow(command: list[str]) -> Course:
    """Run a command, and note when it prints what."""
    started = time.time()
    first = report = None
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True) as process:
        meter = Meter(process.pid)
        meter.start()
        assert process.stdout is not None
        for line in process.stdout:
            if first is None and line.startswith("1/"):
                first = time.time() - started
            if line.startswith("report: "):
                report = time.time() - started
    end = time.time() - started
    assert process.returncode == 0 and first is not None, f"{command} ended with {process.returncode}"
    return Course(first, report, end, meter.read())


def profile(n_workers: int, more: list[str]) -> Course:
    """Return the course of one search in a fresh folder, with its phases."""
    with tempfile.TemporaryDirectory() as folder:
        times = Path(folder) / "times.json"
        search = ["search", "--run", f"{folder}/run", "--workers", str(n_workers), *more]
        started = time.time()
        course = follow([sys.executable, __file__, "--watched", str(started), str(times), *search])
        result = json.loads(times.read_text())
    seconds: dict[str, float] = {**result["seconds"], AFTER: started + course.end - result["ended"]}
    if result["marks"]["fit"]:
        seconds = divide_executor(seconds, result["marks"], n_workers)
    assert abs(sum(seconds.values()) - course.end) < 0.1, "a second was lost or counted twice"
    assert set(seconds) <= set(ROWS), f"no row for {set(seconds) - set(ROWS)}"
    return replace(course, phases=seconds)


def divide_executor(seconds: dict[str, float], marks: dict[str, list[float]], n_workers: int) -> dict[str, float]:
    """Divide the time in the executor into parts; workers train while the driver proposes and writes."""
    began, ended = marks["fit"]
    trained = sum(marks["trained"]) / n_workers
    first = min(end - duration for end, duration in zip(marks["ended"], marks["trained"], strict=True))
    last = marks["ended"][-1]
    parts = {FIRST: first - began, "trainings": trained, BETWEEN: last - first - trained, LAST: ended - last}
    return {**{name: value for name, value in seconds.items() if name != EXECUTOR}, **parts}


def format_page(rounds: list[dict[str, Course]], more: list[str]) -> str:
    """Return the page: medians over rounds of what users see, and of seconds and shares by phase.

    Args:
        rounds: courses of each round by their heading; those of searches have phases.
        more: flags of the search.
    """
    from nas.settings.environment import describe_versions  # not above: the watched process must import it itself

    names = ("torch", "optuna", "ray")
    versions = ", ".join(f"{name} {value}" for name, value in describe_versions(names).items() if name != "commit")
    by_heading = {heading: [courses[heading] for courses in rounds] for heading in rounds[0]}
    n_rounds = f"medians of {len(rounds)} round{'s' if len(rounds) > 1 else ''}, in turn"
    return "\n".join(
        [
            "# Where the time of a search goes",
            "",
            f"`{' '.join(['search', '--run', 'FOLDER', *more])}` in a fresh folder, next to `scripts/hand_written.py`, "
            "a search with Optuna and PyTorch that trains as many networks of the same cost, and writes no report. "
            f"Seconds from the start of the process, {n_rounds}; {platform.machine()} CPU, {versions}; by "
            "`scripts/search_profile.py`.",
            "",
            *_list_courses(by_heading),
            "",
            *_list_phases({heading: courses for heading, courses in by_heading.items() if courses[0].phases}),
        ]
    )


def _list_courses(by_heading: dict[str, list[Course]]) -> Iterator[str]:
    yield "| | first result | report | end | processor time, all processes |"
    yield "|---|--:|--:|--:|--:|"
    for heading, courses in by_heading.items():
        rows = [(course.first, course.report, course.end, course.processor) for course in courses]
        columns = ([value for value in column if value is not None] for column in zip(*rows, strict=True))
        cells = [f"{statistics.median(known):.1f}" if known else "-" for known in columns]
        yield f"| {heading} | {' | '.join(cells)} |"


def _list_phases(by_heading: dict[str, list[Course]]) -> Iterator[str]:
    yield (
        "Where a search's wall-clock time goes. With several workers trainings are the workers' seconds in them over "
        "the number of workers; proposals and the ledger's writes happen meanwhile, in the driver, and are in the "
        "time between trainings as far as a worker waits."
    )
    yield ""
    yield "| | " + " | ".join(f"{heading}: s | %" for heading in by_heading) + " |"
    yield "|---|" + "--:|--:|" * len(by_heading)
    for row in ROWS:
        cells = []
        for courses in by_heading.values():
            if any(row not in course.phases for course in courses):
                cells.append("- | -")
                continue
            seconds = statistics.median(course.phases[row] for course in courses)
            share = statistics.median(100 * course.phases[row] / course.end for course in courses)
            cells.append(f"{seconds:.2f} | {share:.1f}")
        yield f"| {row} | {' | '.join(cells)} |"
    ends = [statistics.median(course.end for course in courses) for courses in by_heading.values()]
    yield f"| all | {' | '.join(f'{end:.2f} | 100' for end in ends)} |"
    yield ""
    for heading, courses in by_heading.items():
        shares = [100 * course.phases["trainings"] / course.end for course in courses]
        yield (
            f"Training is {statistics.median(shares):.1f} % ({min(shares):.1f} to {max(shares):.1f}) of the time of "
            f"{heading}."
        )
    yield ""


def count_trainings(more: list[str]) -> int:
    """Return the number of trainings of a search with these flags."""
    given = [more[place + 1] for place, flag in enumerate(more) if flag in ("--trainings", "--trials")]
    return int(given[-1]) if given else DEFAULT_TRAININGS


def take_round(numbers: list[int], more: list[str]) -> dict[str, Course]:
    """Run search and the script by hand with each number of workers."""
    courses = {}
    for n in numbers:
        workers = f"{n} worker{'s' if n > 1 else ''}"
        courses[f"search, {workers}"] = profile(n, more)
        flags = ["--processes", str(n), "--trainings", str(count_trainings(more))]
        courses[f"by hand, {workers}"] = follow([sys.executable, str(HAND_WRITTEN), *flags])
    return courses


def main() -> None:
    """Take rounds of all numbers of workers in turn; print the page, and write it if asked to."""
    if sys.argv[1:2] == ["--watched"]:
        run_watched(float(sys.argv[2]), Path(sys.argv[3]), sys.argv[4:])
        return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--workers", default=f"1,{os.cpu_count()}", metavar="N,...", help="how many trainings at a time"
    )
    parser.add_argument("--rounds", type=int, default=1, metavar="N", help="runs of each")
    parser.add_argument("--write", action="store_true", help=f"write {DOCUMENT.relative_to(ROOT)} too")
    parser.add_argument("more", nargs="*", metavar="FLAG", help="after --: flags of search")
    arguments = parser.parse_args()
    numbers = [int(number) for number in arguments.workers.split(",")]
    rounds = [take_round(numbers, arguments.more) for _ in range(arguments.rounds)]
    page = format_page(rounds[1:] or rounds, arguments.more)
    print(page)  # noqa: T201
    if arguments.write:
        from nas.records.safe_files import write_atomic

        write_atomic(DOCUMENT, page)


if __name__ == "__main__":
    main()
