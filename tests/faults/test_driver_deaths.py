"""Drivers killed again and again, attempts at their default: no candidate fails by it, and nothing is lost.

KILLS=200 python -m pytest -n 0 -m slow tests/faults/test_driver_deaths.py kills so many drivers in each way of
training; -k serial, cohort, halving or ray picks one.
"""

import contextlib
import os
import random
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from tests.support.driving import TINY, Acknowledged, Driver, list_leftovers, load_results, load_trials, start

N_KILLS = int(os.environ.get("KILLS", 6))
WAYS: dict[str, dict[str, Any]] = {
    "serial": {},
    "cohort": {"cohort": 4},
    "halving": {"halving": True, "cohort": 2},
    "ray": {"workers": 2, "cohort": 2},
}


def _await_checkpoint(run: Path, driver: Driver) -> None:
    """Wait until the driver has written a checkpoint."""
    started = time.time()
    while driver.process.is_alive():
        with contextlib.suppress(FileNotFoundError):  # a training ended in between
            if any(path.stat().st_mtime >= started for path in run.glob("checkpoints/*.pt")):
                return
        time.sleep(0.001)


@pytest.mark.slow
@pytest.mark.parametrize("way", WAYS)
def test_however_often_the_driver_dies_no_candidate_fails_and_nothing_is_lost(tmp_path: Path, way: str) -> None:
    n_trials = max(9, (5 if way == "halving" else 2) * N_KILLS)  # more than the drivers end before they are killed
    settings = {**TINY, "trials": n_trials, "seeds": 2, "epochs": 45, "cohort": 1, **WAYS[way]}
    run = tmp_path / "run"
    moments = random.Random(way)  # noqa: S311  no secret
    acknowledged: Acknowledged = {}
    for number in range(N_KILLS):
        driver = start(run, settings)
        # Half of them in the first trainings: they hit the same candidates again and again.
        if number % 2 == 0:
            _await_checkpoint(run, driver)
        n_acknowledged = moments.randrange(1, 9) if number % 2 else 0
        assert driver.kill_after(n_acknowledged, moments.uniform(0, 0.02)) == -signal.SIGKILL
        assert not acknowledged.keys() & driver.acknowledged.keys(), "trained again after it was acknowledged"
        acknowledged |= driver.acknowledged
    assert start(run, settings).wait() == 0
    results = load_results(run)
    assert {state for state, _ in results.values()} == ({"COMPLETE", "PRUNED"} if way == "halving" else {"COMPLETE"})
    assert len(results) == 2 * (settings["trials"] + 7)  # with the named templates
    for identity, (state, value) in acknowledged.items():
        assert results[identity][0] == state
        assert state == "PRUNED" or results[identity][1] == value
    undisturbed = start(tmp_path / "undisturbed", {**settings, "workers": 1})
    assert undisturbed.wait() == 0
    assert results == load_results(tmp_path / "undisturbed")
    assert not list_leftovers(run)
    attempts = [trial.user_attrs.get("~attempts", {}) for trial in load_trials(run)]
    assert not any(held.get("lost") for held in attempts)
    deaths = [held.get("driver_deaths", 0) for held in attempts]
    print(f"{way}: {N_KILLS} kills, {sum(deaths)} trainings hit, one of them {max(deaths)} times")  # noqa: T201
    assert max(deaths) > 0
