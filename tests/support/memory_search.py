"""Searches whose ledger is in memory and whose outcomes are made up, and a second computation of halving."""

import contextlib
import hashlib
import random
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from fractions import Fraction
from pathlib import Path
from types import MappingProxyType
from typing import Any

import optuna
import pytest
from optuna.storages import InMemoryStorage

import nas.run.ledger
from nas.data.readers import load_data
from nas.records.database import STUDY_NAME
from nas.records.metrics import image_metrics
from nas.records.trial import Outcome, show_records
from nas.run.ledger import Ledger
from nas.run.source import LedgerSource, Listener
from nas.search.loop import Search
from nas.settings.search import SearchConfig
from nas.workers.jobs import Job

DIGITS = load_data("digits", None)
EPOCHS = 9  # of a whole training
Accuracies = Mapping[tuple[str, int, int], float | None]  # (pattern, seed, rung): None where the training failed


class MemoryLedger(Ledger):
    """A ledger whose study is in memory, where it can be copied as it is at any moment."""

    def __init__(self, storage: InMemoryStorage, run: Path = Path("nowhere")) -> None:
        study = optuna.load_study(study_name=STUDY_NAME, storage=storage)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(nas.run.ledger, "open_study", lambda *_: (storage, study))
            super().__init__(run / "study.db", {}, frozenset(), 12)

    def _one_commit(self) -> AbstractContextManager[None]:
        return contextlib.nullcontext()

    def _show(
        self, trial_id: int, records: Mapping[str, Any], rungs: Mapping[int, float] = MappingProxyType({})
    ) -> None:
        for name, value in show_records(records).items():
            self._storage.set_trial_user_attr(trial_id, name, value)
        for epoch, value in rungs.items():
            self._storage.set_trial_intermediate_value(trial_id, epoch, value)


def new_storage() -> InMemoryStorage:
    """Return a storage with an empty study."""
    storage = InMemoryStorage()
    optuna.create_study(study_name=STUDY_NAME, storage=storage, direction="maximize")
    return storage


def open_search(
    storage: InMemoryStorage, config: SearchConfig, listener: Listener = lambda *_: None, run: Path = Path("nowhere")
) -> Search:
    """Start a search in a storage, or continue the one that is there."""
    return Search(config, DIGITS, MemoryLedger(storage, run), listener)


def trials_in(storage: InMemoryStorage) -> list[optuna.trial.FrozenTrial]:
    """Return the trials of a storage."""
    return optuna.load_study(study_name=STUDY_NAME, storage=storage).trials


def make_accuracy(key: str, seed: int, epoch: int) -> float:
    """Make up an accuracy, fixed by what was trained."""
    return int(hashlib.sha256(f"{key} {seed} {epoch}".encode()).hexdigest()[:8], 16) / 16**8


def train_to_rung(job: Job) -> Outcome:
    """Make up the outcome of a training to its next pause or its end."""
    epochs = job.pause_after or EPOCHS
    accuracy = make_accuracy(job.candidate.pattern.key, job.candidate.seed, epochs)
    return make_outcome(accuracy, epochs, paused=job.pause_after is not None)


def make_outcome(accuracy: float, epochs: int, paused: bool) -> Outcome:
    """Return an outcome whose loss ranks as its accuracy does."""
    curve = ({"epoch": epochs, "validation_loss": 1 - accuracy, "validation_accuracy": accuracy},)
    return Outcome(image_metrics(accuracy, 1 - accuracy), epochs, 0.0, curve, paused=paused)


def train_all(
    source: LedgerSource,
    n_workers: int = 1,
    chance: random.Random | None = None,
    train: Callable[[Job], Outcome] = train_to_rung,
) -> list[Job]:
    """Run to the end, n_workers at a time; return the jobs in the order in which they were handed out."""
    jobs: list[Job] = []
    flying: list[Job] = []
    while True:
        while len(flying) < n_workers and (job := source.ask()) is not None:
            flying.append(job)
            jobs.append(job)
        if not flying:
            return jobs
        job = flying.pop(chance.randrange(len(flying)) if chance else 0)
        source.tell(job.number, train(job))


def survive(
    keys: Sequence[str], n_seeds: int, rungs: Sequence[int], accuracies: Accuracies
) -> tuple[set[str], dict[str, int]]:
    """Return the patterns that are trained to the end, and of the others the last rung that they reached.

    A second, independent computation: all accuracies at hand, bracket by bracket.
    """
    size = 3 ** len(rungs)
    winners: set[str] = set()
    dropped: dict[str, int] = {}
    for start in range(0, len(keys), size):
        alive = list(keys[start : start + size])
        for place, rung in enumerate(rungs):
            means = {}
            for key in alive:
                sound = [
                    seed
                    for seed in range(n_seeds)
                    if all(accuracies[key, seed, reached] is not None for reached in rungs[: place + 1])
                ]
                if sound:
                    means[key] = sum(Fraction(accuracies[key, seed, rung] or 0) for seed in sound) / len(sound)
            best = sorted(means, key=lambda key: (-means[key], keys.index(key)))[: -(-len(alive) // 3)]
            dropped |= {key: rung for key in alive if key not in best}
            alive = best
        winners |= set(alive)
    return winners, dropped
