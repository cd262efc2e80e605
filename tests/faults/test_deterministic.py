"""The same study whatever the order of completion, and with a kill in between."""

import random
from pathlib import Path
from typing import Any

import pytest
import torch

from nas.data.readers import load_data
from nas.records.trial import HASH
from nas.run.directory import hold_run, open_ledger
from nas.search.loop import Search, count_asked
from nas.settings.search import SearchConfig
from nas.workers.jobs import Job
from nas.workers.trainer import Trainer
from tests.support.driving import HALVING, load_trials

DIGITS = load_data("digits", None)
SETTINGS = {**HALVING, "trials": 4, "seeds": 2, "deterministic": True}
AT_A_TIME = 3


def _train_shuffled(run: Path, shuffle: random.Random | None, n_most: int | None = None) -> None:
    """Real trainings, three under way at a time and ended in any order; left at once after so many."""
    config = SearchConfig(**SETTINGS)
    with hold_run(run, config):
        trainer = Trainer(DIGITS, config, run)
        search = Search(config, DIGITS, open_ledger(run, config, DIGITS, count_asked(config)), lambda *_: None)
        jobs: list[Job] = []
        n_told = 0
        while n_told != n_most:
            while len(jobs) < AT_A_TIME and (job := search.ask()) is not None:
                jobs.append(job)
            if not jobs:
                return
            job = jobs.pop(0 if shuffle is None else shuffle.randrange(len(jobs)))
            search.tell(job.number, trainer.train(job))
            n_told += 1


def _describe(run: Path) -> list[dict[str, Any]]:
    """All that a study holds but times, and what was lost on the way."""
    described = []
    for trial in load_trials(run):
        attributes = {name: value for name, value in trial.user_attrs.items() if name not in ("~attempts", "seconds")}
        for name in ("seconds", "resumed_epoch", HASH):  # the hash is of the times too
            del attributes["~outcome"][name]
        described.append(
            {
                "number": trial.number,
                "state": trial.state,
                "value": trial.value,
                "params": trial.params,
                "rungs": trial.intermediate_values,
                "attributes": attributes,
            }
        )
    return described


@pytest.mark.slow
@pytest.mark.parametrize("n_orders", [pytest.param(2, marks=pytest.mark.ci), 12])
def test_shuffled_and_killed_the_study_is_the_same(tmp_path: Path, n_orders: int) -> None:
    try:
        _train_shuffled(tmp_path / "in order", None)
        expected = _describe(tmp_path / "in order")
        assert len(expected) == 8
        assert {trial["state"].name for trial in expected} == {"COMPLETE", "PRUNED"}
        for seed in range(n_orders):
            shuffle = random.Random(seed)  # noqa: S311  no secret
            run = tmp_path / str(seed)
            _train_shuffled(run, shuffle, n_most=shuffle.randrange(1, 10))
            _train_shuffled(run, shuffle)
            assert _describe(run) == expected, f"order {seed}"
    finally:
        torch.use_deterministic_algorithms(False)
