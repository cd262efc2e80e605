"""Measure the cost of ledger, search and report a training, and its growth; write docs/growth-candidates.*.

`python scripts/ledger_growth.py`; with a strategy, a number of candidates and a number of seeds, it prints the figures
of one such run as JSON.
"""

import gc
import json
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from shared import DOCS, fit_exponent, format_csv, format_row

from nas.data.readers import load_data
from nas.records.metrics import image_metrics
from nas.records.safe_files import write_atomic
from nas.records.trial import Outcome
from nas.run.directory import execute, hold_run, open_ledger
from nas.search.loop import Search, count_asked
from nas.settings.environment import describe_versions
from nas.settings.search import SearchConfig
from nas.workers.jobs import Job
from nas.workers.trainer import Trainer
from search_spaces.seeds import derive_generator

STRATEGIES = ("random", "evolve")
SIZES = (10, 100, 1000)
SEEDS = (1, 3)  # trainings of a pattern; 3 is the default of a search
AT_ENDS = 100  # trainings that count as a search's first and last
MAX_FSYNCS, MAX_MS = 12, 20  # limits of a training's cost, among SIZES[-1]


@dataclass(slots=True)
class Clock:
    """CPU time of this process without that of the fake trainings.

    Args:
        marks: time in seconds at which each training was handed out.
    """

    marks: list[float] = field(default_factory=list)
    _fake_seconds: float = 0.0

    def read(self) -> float:
        """Return the seconds so far."""
        return time.process_time() - self._fake_seconds

    def leave_out(self, seconds: float) -> None:
        """Subtract a fake training's own seconds."""
        self._fake_seconds += seconds


@dataclass(frozen=True)
class FakeTrainer(Trainer):
    """Trains nothing; its outcomes are fixed by pattern and seed, and as large as those of real trainings."""

    clock: Clock = field(default_factory=Clock)

    def train(self, job: Job, check_stop: Callable[[], None] = lambda: None) -> Outcome:  # noqa: ARG002  Trainer's form
        began = time.process_time()
        self.clock.marks.append(self.clock.read())
        pattern = job.candidate.pattern
        generator = derive_generator("fake", pattern.key, job.candidate.seed)
        accuracy = float(np.clip(0.5 + 0.02 * pattern.span + generator.normal(scale=0.03), 0, 1))
        curve: list[dict[str, float]] = [
            {"epoch": epoch, "train_loss": 2.3 * 0.8**epoch} for epoch in range(1, self.config.epochs + 1)
        ]
        curve[-1] |= {"validation_loss": 2 - 2 * accuracy, "validation_accuracy": accuracy}
        strengths = (tuple(generator.uniform(0.05, 1.0, pattern.n_connections).tolist()),)
        outcome = Outcome(
            image_metrics(accuracy, 2 - 2 * accuracy), self.config.epochs, 0.5, tuple(curve), strengths=strengths
        )
        self.clock.leave_out(time.process_time() - began)
        return outcome


def measure(strategy: str, n_candidates: int, n_seeds: int) -> dict[str, Any]:
    """Return CPU milliseconds a training, in a run of about so many fake ones, named templates included."""
    data = load_data("digits", None)
    settings = {"strategy": strategy, "seeds": n_seeds, "trials": n_candidates, "workers": 1, "device": "cpu"}
    config = SearchConfig.model_validate(settings)
    n_named = count_asked(config) // n_seeds - n_candidates
    config = config.model_copy(update={"trials": max(1, round(n_candidates / n_seeds) - n_named)})
    n_candidates = count_asked(config)
    clock = Clock()
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "run"
        began = clock.read()
        with hold_run(run, config) as check_stop:
            search = Search(config, data, open_ledger(run, config, data, n_candidates), lambda *_: None)
            execute(search, FakeTrainer(data, config, run, clock=clock), check_stop, n_candidates)
        searched = clock.read()
        assert search.n_finished == n_candidates
        from analysis.report.report import write_report

        write_report(run)
        reported = clock.read()
    n_at_ends = min(AT_ENDS, n_candidates // 2)
    marks = [*clock.marks, searched]
    return {
        "candidates": n_candidates,
        "search_ms": 1000 * (searched - began) / n_candidates,
        "first_ms": 1000 * (marks[n_at_ends] - marks[0]) / n_at_ends,
        "last_ms": 1000 * (marks[-1] - marks[-1 - n_at_ends]) / n_at_ends,
        "report_ms": 1000 * (reported - searched) / n_candidates,
    }


def run_one(strategy: str, n_candidates: int, n_seeds: int) -> dict[str, Any]:
    """Return a row: times of one process, and system calls of another, since counting slows it down."""
    command = [sys.executable, __file__, strategy, str(n_candidates), str(n_seeds)]
    timed = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    return {"strategy": strategy, "seeds": n_seeds, "fsyncs": _count_fsyncs(command) / timed["candidates"], **timed}


def _count_fsyncs(command: Sequence[str]) -> float:
    """Count fsync and fdatasync calls of a process and its threads; nan without strace."""
    strace = shutil.which("strace")
    if strace is None:
        return float("nan")
    with tempfile.NamedTemporaryFile("r") as calls:
        counting = [strace, "-f", "-c", "-e", "trace=fsync,fdatasync", "-o", calls.name]
        subprocess.run([*counting, *command], capture_output=True, check=True)
        lines = [line.split() for line in calls]
    return sum(int(words[3]) for words in lines if words and words[-1] in ("fsync", "fdatasync"))


def fit_growth(rows: Sequence[Mapping[str, Any]], column: str) -> float:
    """Return the exponent of all trainings' milliseconds by their number, over the two largest."""
    sizes, times = zip(*sorted((row["candidates"], row["candidates"] * row[column]) for row in rows), strict=True)
    return fit_exponent(sizes[-2:], times[-2:])


def format_table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return the page: a row a run, and the exponents."""
    versions = describe_versions(("torch", "optuna", "sqlalchemy", "numpy", "pandas"))
    lines = [
        "# What ledger, search and report cost a training, against the number of candidates",
        "",
        "Of trainings that are fake and give a plausible outcome at once: log budget, 24 layers; with one seed every "
        "training has a pattern of its own to be proposed, measured by networkx, entered and analysed, which is the "
        "most work, with three it has a third of one, as searches have by default; run and report as the command line "
        "does them, one worker. CPU milliseconds a training (user and system) of one run each, the fake trainings, "
        "imports at the start and the data left out; fsyncs are system calls counted by strace, those at opening and "
        f"of the report's files included. Required: at most {MAX_FSYNCS} fsyncs and {MAX_MS} ms among {SIZES[-1]} "
        f"candidates, and no growth. {platform.machine()} CPU, "
        + ", ".join(f"{name} {version}" for name, version in versions.items())
        + "; by `scripts/ledger_growth.py`.",
        "",
        "| strategy | seeds | candidates | fsyncs | search | its first | its last | report | search and report |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        times = [row["search_ms"], row["first_ms"], row["last_ms"], row["report_ms"]]
        times.append(row["search_ms"] + row["report_ms"])
        figures = (f"{figure:.1f}" for figure in (row["fsyncs"], *times))
        lines.append(format_row(row["strategy"], row["seeds"], row["candidates"], *figures))
    lines += [
        "",
        f"First, last: {AT_ENDS} trainings, or half of them where that is fewer. What the report takes of few "
        "candidates it takes in any case: libraries, figures, resampling. Exponent b of time ~ candidates^b from "
        f"{SIZES[-2]} to {SIZES[-1]} candidates, where 1 is no growth a training:",
        "",
        "| strategy | seeds | search | report |",
        "|---|---|---|---|",
    ]
    for strategy, n_seeds in ((strategy, n_seeds) for strategy in STRATEGIES for n_seeds in SEEDS):
        own = [row for row in rows if (row["strategy"], row["seeds"]) == (strategy, n_seeds)]
        slopes = (f"{fit_growth(own, column):.2f}" for column in ("search_ms", "report_ms"))
        lines.append(format_row(strategy, n_seeds, *slopes))
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measure and write both files; or measure one run for the process that asked."""
    if len(sys.argv) > 1:
        gc.set_threshold(50_000)  # as run_search does
        print(json.dumps(measure(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))))  # noqa: T201
        return
    rows = [run_one(strategy, n, n_seeds) for strategy in STRATEGIES for n_seeds in SEEDS for n in SIZES]
    rounded = [{name: round(v, 3) if isinstance(v, float) else v for name, v in row.items()} for row in rows]
    text = format_table(rows)  # before writing, which makes the tree dirty
    write_atomic(DOCS / "growth-candidates.csv", format_csv(rounded))
    write_atomic(DOCS / "growth-candidates.md", text)
    print(text)  # noqa: T201


if __name__ == "__main__":
    main()
