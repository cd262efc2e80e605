"""A study: the trainings of a plan, and no others."""

import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from nas.model.cost import Cost
from nas.records.database import read_attributes
from nas.records.plan import hash_plan, read_plan, write_plan
from nas.run.directory import find_task, hold_run, open_ledger, prepare_data, train_all
from nas.run.ledger import Ledger
from nas.run.proxies import ProxyRecorder
from nas.run.source import Assignment, LedgerSource, Listener
from nas.settings.resume import mend_crossing
from nas.settings.study import StudyConfig
from nas.studies.plan import describe_settings, list_assignments, make_plan
from nas.tasks.task import OwnTask, Task
from nas.workers.jobs import Job
from nas.workers.trainer import Trainer
from search_spaces.errors import ConflictError


class Study(LedgerSource):
    """The trainings of a plan that are not done yet, in order.

    Args:
        assignments: the plan's trainings.
        ledger, listener, max_attempts: see LedgerSource.
        task: what costs are asked of; None: what the candidates' networks cost.

    Raises:
        ConflictError: the ledger has a training that is not planned.
    """

    def __init__(
        self,
        assignments: list[Assignment],
        ledger: Ledger,
        listener: Listener,
        max_attempts: int,
        task: Task | None = None,
    ) -> None:
        super().__init__(ledger, listener, len(assignments), max_attempts)
        self._task = task
        self._costs: dict[tuple[int, str], Cost | None] = {}
        by_identity = {_identify(assignment): assignment for assignment in assignments}
        entries = {(e.budget, e.pattern.key, e.seed, e.regime): e for e in self._read_entries()}
        foreign = [entry.number for identity, entry in entries.items() if identity not in by_identity]
        if foreign:
            raise ConflictError(f"trial {foreign[0]} is not in plan.json: restore the run, or give another --run")
        self._left = deque(assignment for assignment in assignments if _identify(assignment) not in entries)
        self._resume((entry, by_identity[identity]) for identity, entry in entries.items())

    def _next_assignment(self) -> Assignment | None:
        if not self._left:
            return None
        assignment = self._left.popleft()
        candidate, cost = assignment.candidate, self._find_cost(assignment)
        expected = self._costs.setdefault((candidate.pattern.depth, str(assignment.budget)), cost)
        must_be_equal = (self._task or candidate.network).has_equal_cost
        assert cost == expected or not must_be_equal, f"candidates of one stratum cost {cost} and {expected}"
        return assignment

    def _find_cost(self, assignment: Assignment) -> Cost | None:
        if self._task is None:
            return super()._find_cost(assignment)
        return self._task.find_cost(assignment.candidate, assignment.budget)


def _identify(assignment: Assignment) -> tuple[str, str, int, str | None]:
    """Return what no other assignment of a plan has: budget, pattern, seed and regime."""
    return (
        str(assignment.budget),
        assignment.candidate.pattern.key,
        assignment.candidate.seed,
        assignment.details["regime"],
    )


def run_study(run: Path, config: StudyConfig, protocol: Mapping[str, Any], listener: Listener) -> None:
    """Start or continue a study until every training of its plan has an outcome.

    Args:
        run, config, listener: see run_search; the plan is laid out and hashed before the first training.
        protocol: hypotheses and tests, which the plan repeats.

    Raises:
        InputError: the data cannot be used, contradict the settings, or the settings cannot be laid out.
        ConflictError: another process or another run uses the directory, or its plan was changed or lost.
        Interrupted: a signal came; the same call continues the study.
    """
    data = prepare_data(config, config.depths)
    with hold_run(run, config) as check_stop:
        existing = read_plan(run)
        if existing is None and (run / "study.db").exists() and "plan" in read_attributes(run / "study.db"):
            raise ConflictError(f"{run} has lost its plan.json, by which its trainings were planned: restore it")
        if existing is not None:
            plan, sha256 = existing
        else:
            with check_stop.at_once():
                plan = make_plan(config, protocol, check_stop)
            sha256 = hash_plan(plan)
        planned = mend_crossing(plan["settings"])
        # A plan of an older version lacks settings that were added later.
        own = {name: value for name, value in describe_settings(config).items() if name in planned}
        if planned != own:
            raise ConflictError(f"the plan.json in {run} belongs to a study with other settings: restore the right one")
        ledger = open_ledger(run, config, data, len(plan["order"]), plan=sha256)
        assignments = list_assignments(plan, config, data)
        study = Study(assignments, ledger, listener, config.attempts, find_task(config, data))
        if existing is None:
            write_plan(run, plan)
        train_all(ledger, study, Trainer(data, config, run.resolve()), check_stop)


def estimate_seconds(plan: Mapping[str, Any], config: StudyConfig) -> float:
    """Estimate the wall-clock seconds of a plan's trainings by two short ones of each stratum in this process.

    The first, of one epoch, warms up; the second, of at most two, is extrapolated. A task that trains by itself
    is timed once, whole. The start of Ray and what workers cost each other are not included; a cluster, whose size is
    not known here, counts as one worker. Proxies are measured by the driver, whatever the number of workers.
    """
    data = prepare_data(config, config.depths)
    trainer = Trainer(data, config)
    assignments = list_assignments(plan, config, data)
    seconds = {}
    strata = {
        (assignment.candidate.pattern.depth, assignment.candidate.training): assignment.candidate
        for assignment in assignments
    }
    for stratum, candidate in strata.items():
        assert candidate.training is not None, "a plan says how each stratum is trained"
        whole = candidate.training.epochs
        is_objective = isinstance(data, OwnTask) and data.loaded.is_objective  # which may not heed the epochs
        for n_epochs in (whole,) if is_objective else (1, min(2, whole)):
            short = replace(candidate, training=candidate.training.model_copy(update={"epochs": n_epochs}))
            started = time.perf_counter()
            trainer.train(Job(0, short))
            seconds[stratum] = (time.perf_counter() - started) * whole / n_epochs
    n_workers = 1 if config.workers == "auto" else config.workers
    total = sum(
        seconds[assignment.candidate.pattern.depth, assignment.candidate.training] for assignment in assignments
    )
    proxies = 0.0
    if config.proxies and not isinstance(data, OwnTask):
        proxies = _estimate_proxies(assignments, ProxyRecorder(data, config))
    return total / n_workers + proxies


def _estimate_proxies(assignments: Sequence[Assignment], recorder: ProxyRecorder) -> float:
    """Estimate the seconds that proxies take, by one network of each depth; regimes share them."""
    measured = {
        (assignment.candidate.pattern, assignment.candidate.seed): assignment.candidate for assignment in assignments
    }
    seconds = {}
    for depth, candidate in {candidate.pattern.depth: candidate for candidate in measured.values()}.items():
        started = time.perf_counter()
        recorder.measure(candidate)
        seconds[depth] = time.perf_counter() - started
    return sum(seconds[pattern.depth] for pattern, _ in measured)
