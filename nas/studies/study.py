"""A study: the trainings of a plan, and no others."""

import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from nas.model.cost import Cost, predict_cost
from nas.records.database import read_attributes
from nas.records.plan import hash_plan, read_plan, write_plan
from nas.run.directory import hold_run, open_ledger, prepare_data, train_all
from nas.run.ledger import Ledger
from nas.run.proxies import ProxyRecorder
from nas.run.source import LedgerSource, Listener, Task
from nas.settings.resume import mend_crossing
from nas.settings.study import StudyConfig
from nas.studies.plan import describe_settings, list_tasks, make_plan
from nas.workers.jobs import Job
from nas.workers.trainer import Trainer
from search_spaces.errors import ConflictError


class Study(LedgerSource):
    """The trainings of a plan that are not done yet, in order.

    Args:
        tasks: the plan's trainings.
        ledger, listener, max_attempts: see LedgerSource.

    Raises:
        ConflictError: the ledger has a training that is not planned.
    """

    def __init__(self, tasks: list[Task], ledger: Ledger, listener: Listener, max_attempts: int) -> None:
        super().__init__(ledger, listener, len(tasks), max_attempts)
        self._costs: dict[tuple[int, str], Cost] = {}
        by_identity = {_identify(task): task for task in tasks}
        entries = {(e.budget, e.pattern.key, e.seed, e.regime): e for e in self._read_entries()}
        foreign = [entry.number for identity, entry in entries.items() if identity not in by_identity]
        if foreign:
            raise ConflictError(f"trial {foreign[0]} is not in plan.json: restore the run, or give another --run")
        self._left = deque(task for task in tasks if _identify(task) not in entries)
        self._resume((entry, by_identity[identity]) for identity, entry in entries.items())

    def _next_task(self) -> Task | None:
        if not self._left:
            return None
        task = self._left.popleft()
        cost = predict_cost(task.candidate)
        expected = self._costs.setdefault((task.candidate.pattern.depth, str(task.budget)), cost)
        is_equal = cost == expected or not task.candidate.network.has_equal_cost
        assert is_equal, f"candidates of one stratum cost {cost} and {expected}"
        return task


def _identify(task: Task) -> tuple[str, str, int, str | None]:
    """Return what no other task of a plan has: budget, pattern, seed and regime."""
    return str(task.budget), task.candidate.pattern.key, task.candidate.seed, task.details["regime"]


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
        tasks = list_tasks(plan, config, data)
        study = Study(tasks, ledger, listener, config.attempts)
        if existing is None:
            write_plan(run, plan)
        train_all(ledger, study, Trainer(data, config, run.resolve()), check_stop)


def estimate_seconds(plan: Mapping[str, Any], config: StudyConfig) -> float:
    """Estimate the wall-clock seconds of a plan's trainings by two short ones of each stratum in this process.

    The first, of one epoch, warms up; the second, of at most two, is extrapolated. The start of Ray and what workers
    cost each other are not included; a cluster, whose size is not known here, counts as one worker. Proxies are
    measured by the driver, whatever the number of workers.
    """
    data = prepare_data(config, config.depths)
    trainer = Trainer(data, config)
    tasks = list_tasks(plan, config, data)
    seconds = {}
    strata = {(task.candidate.pattern.depth, task.candidate.training): task.candidate for task in tasks}
    for stratum, candidate in strata.items():
        assert candidate.training is not None, "a plan says how each stratum is trained"
        for n_epochs in (1, min(2, candidate.training.epochs)):
            short = replace(candidate, training=candidate.training.model_copy(update={"epochs": n_epochs}))
            started = time.perf_counter()
            trainer.train(Job(0, short))
            seconds[stratum] = (time.perf_counter() - started) * candidate.training.epochs / n_epochs
    n_workers = 1 if config.workers == "auto" else config.workers
    total = sum(seconds[task.candidate.pattern.depth, task.candidate.training] for task in tasks)
    return total / n_workers + (_estimate_proxies(tasks, ProxyRecorder(data, config)) if config.proxies else 0.0)


def _estimate_proxies(tasks: Sequence[Task], recorder: ProxyRecorder) -> float:
    """Estimate the seconds that proxies take, by one network of each depth; regimes share them."""
    measured = {(task.candidate.pattern, task.candidate.seed): task.candidate for task in tasks}
    seconds = {}
    for depth, candidate in {candidate.pattern.depth: candidate for candidate in measured.values()}.items():
        started = time.perf_counter()
        recorder.measure(candidate)
        seconds[depth] = time.perf_counter() - started
    return sum(seconds[pattern.depth] for pattern, _ in measured)
