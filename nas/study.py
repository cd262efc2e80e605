"""A study: every training of a plan, then nothing else."""

import time
from collections import deque
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from nas.config import Candidate
from nas.cost import Cost, predict_cost
from nas.data import check_split
from nas.executors import Trainer
from nas.ledger import Ledger
from nas.plan import Task, list_tasks, make_plan, name_stratum
from nas.readers import load_data
from nas.run_directory import execute, hold_run, open_ledger
from nas.search import Listener
from nas.study_config import StudyConfig
from nas.train import Outcome
from search_spaces.errors import ConflictError
from search_spaces.plans import read_plan, write_plan


class Study:
    """A plan's trainings that are not done yet, in their order: a source for an executor.

    First what an interrupted run left running.

    Args:
        tasks: of the plan.
        strata: names of all strata.
        ledger: open.
        listener: called as (candidate, outcome, n_finished, n_asked) after every outcome.
    """

    def __init__(self, tasks: list[Task], strata: list[str], ledger: Ledger, listener: Listener) -> None:
        self._ledger = ledger
        self._listener = listener
        self._strata = strata
        self._costs: dict[str, Cost] = {}
        self._candidates: dict[int, Candidate] = {}
        by_identity = {task.identity: task for task in tasks}
        entered = {(entry.pattern.key, entry.seed, entry.regime): entry for entry in ledger.entries()}
        self._interrupted = deque(
            (entry.number, by_identity[identity]) for identity, entry in entered.items() if entry.running
        )
        self._left = deque(task for task in tasks if task.identity not in entered)
        self.n_asked = len(tasks)
        self.n_finished = self.n_asked - len(self._left) - len(self._interrupted)

    def ask(self) -> tuple[int, Candidate] | None:
        """See executors.Source."""
        if self._interrupted:
            number, task = self._interrupted.popleft()
        elif self._left:
            task = self._left.popleft()
            number = self._enter(task)
        else:
            return None
        self._candidates[number] = task.candidate
        return number, task.candidate

    def _enter(self, task: Task) -> int:
        cost = predict_cost(task.candidate)
        expected = self._costs.setdefault(str(task.candidate.pattern.depth), cost)
        assert cost == expected, f"candidates of one stratum cost {cost} and {expected}"
        others = [name for name in self._strata if name != task.stratum]
        strata = (task.stratum, *others) if others else ()
        return self._ledger.enter(task.candidate, task.strategy, task.budget, cost, task.details, strata)

    def tell(self, number: int, outcome: Outcome) -> None:
        """See executors.Source."""
        self._ledger.finish(number, outcome)
        self.n_finished += 1
        self._listener(self._candidates.pop(number), outcome, self.n_finished, self.n_asked)


def run_study(run: Path, config: StudyConfig, protocol: Mapping[str, Any], listener: Listener) -> None:
    """Run a study, or go on with one, until every training of its plan has an outcome.

    Args:
        run: the run directory, made if missing; the plan is laid out and hashed there before the first training.
        config: from settle_config.
        protocol: hypotheses and tests, kept in the plan.
        listener: see Study; also called once at the start with neither candidate nor outcome.

    Raises:
        InputError: the data cannot be used, or the settings contradict it or cannot be laid out.
        ConflictError: another process or another run holds the directory, or its plan was changed or lost.
        Interrupted: a signal came; the same call goes on.
    """
    data = load_data(config.dataset, config.data)
    check_split(data, config.seeds, config.train_examples)
    config.network(data.n_classes, data.image)
    with hold_run(run, config) as check_stop:
        held = read_plan(run)
        if held is None and (run / "study.db").exists():
            raise ConflictError(f"{run} has lost its plan.json, which its trainings were planned by: restore it")
        plan, sha256 = held or (plan := make_plan(config, protocol, check_stop), write_plan(run, plan))
        tasks = list_tasks(plan, config, data)
        ledger = open_ledger(run, config, data, len(tasks), plan=sha256)
        study = Study(tasks, [name_stratum(stratum) for stratum in plan["strata"]], ledger, listener)
        listener(None, None, study.n_finished, study.n_asked)
        execute(study, Trainer(data, config), check_stop, study.n_asked - study.n_finished)


def estimate_seconds(plan: Mapping[str, Any], config: StudyConfig) -> float:
    """Wall-clock seconds that a plan's trainings will take, from two short ones of each stratum in this process.

    The first of a stratum, of one epoch, warms up and is dropped; the second is of up to two epochs, and stretched.
    What Ray takes to start, and what workers take from each other, comes on top.
    """
    data = load_data(config.dataset, config.data)
    trainer = Trainer(data, config)
    tasks = list_tasks(plan, config, data)
    seconds = {}
    for stratum, candidate in {task.stratum: task.candidate for task in tasks}.items():
        assert candidate.training is not None, "a plan says how"
        for n_epochs in (1, min(2, candidate.training.epochs)):
            short = replace(candidate, training=candidate.training.model_copy(update={"epochs": n_epochs}))
            started = time.perf_counter()
            trainer.train(short)
            seconds[stratum] = (time.perf_counter() - started) * candidate.training.epochs / n_epochs
    assert isinstance(config.workers, int), "workers are resolved"
    return sum(seconds[task.stratum] for task in tasks) / config.workers
