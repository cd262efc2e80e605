"""A driver killed at any moment: what it acknowledged is there once, and the run ends as if nothing had been."""

import itertools
import os
import random
import signal
from dataclasses import replace
from pathlib import Path

import pytest

from nas.data.readers import load_data
from nas.layouts.condensed import CondenseNet
from nas.model.candidate import Candidate
from nas.records.trial import Outcome
from nas.settings.search import SearchConfig
from nas.training.checkpoints import slot_path
from nas.workers.jobs import Job
from nas.workers.trainer import Trainer
from search_spaces.templates import find_template
from tests.support.driving import (
    CONTEXT,
    HALVING,
    TINY,
    Acknowledged,
    list_leftovers,
    load_results,
    search_undisturbed,
    start,
)

# 4 steps an epoch; of 20 steps, condensing stages begin at 4, 7 and 10.
CONDENSED = SearchConfig(
    layers=2, blocks=3, growth=4, transition="all", surroundings=CondenseNet(), train_examples=64, epochs=5,
    device="cpu", checkpoint_seconds=0,
)  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("n_kills", [pytest.param(8, marks=pytest.mark.ci), 100])
def test_killed_at_random_moments_nothing_acknowledged_is_lost_or_doubled(tmp_path: Path, n_kills: int) -> None:
    run = tmp_path / "run"
    settings = {**TINY, "trials": 3 * n_kills, "seeds": 3, "epochs": 1, "attempts": 1000}
    moments = random.Random(n_kills)  # noqa: S311  no secret
    acknowledged: Acknowledged = {}
    codes = []
    for _ in range(n_kills):
        driver = start(run, settings)
        codes.append(driver.kill_after(moments.randrange(9), moments.uniform(0, 0.1)))
        assert not acknowledged.keys() & driver.acknowledged.keys(), "trained again after it was acknowledged"
        acknowledged |= driver.acknowledged
    assert codes == [-signal.SIGKILL] * n_kills
    assert len(acknowledged) >= n_kills  # the kills fell into the work
    last = start(run, settings)
    assert last.wait() == 0
    assert not acknowledged.keys() & last.acknowledged.keys()
    results = load_results(run)
    assert {state for state, _ in results.values()} == {"COMPLETE"}
    assert len(results) == 3 * (3 * n_kills + 7)  # with the named templates
    assert {identity: results[identity] for identity in acknowledged} == acknowledged
    assert not list_leftovers(run)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "n_kills"), [("evolve", 8), ("model", 8)])
def test_killed_at_random_moments_a_search_that_learns_proposes_what_it_would_have(
    tmp_path: Path, name: str, n_kills: int
) -> None:
    n_trainings = 2 * (3 * n_kills + 7)  # with the named templates
    settings = {**TINY, "strategy": name, "trainings": n_trainings, "seeds": 2, "epochs": 1, "attempts": 1000}
    undisturbed = start(tmp_path / "undisturbed", settings)
    assert undisturbed.wait() == 0
    run = tmp_path / "run"
    moments = random.Random(n_kills)  # noqa: S311  no secret
    n_acknowledged = 0
    for _ in range(n_kills):
        driver = start(run, settings)
        assert driver.kill_after(moments.randrange(1, 6), moments.uniform(0, 0.1)) == -signal.SIGKILL
        n_acknowledged += len(driver.acknowledged)
    assert n_acknowledged > 2 * 7  # some proposals were made after templates, and after kills
    assert start(run, settings).wait() == 0
    assert len(load_results(run)) == n_trainings
    assert list(load_results(run).items()) == list(load_results(tmp_path / "undisturbed").items())
    assert not list_leftovers(run)


def _check_going_on(run: Path, killed: Acknowledged, results: Acknowledged) -> None:
    resumed = start(run, HALVING)
    assert resumed.wait() == 0, f"{run.name}: it does not go on"
    assert load_results(run) == results, run.name
    assert not killed.keys() & resumed.acknowledged.keys()
    assert not list_leftovers(run)


@pytest.mark.slow
@pytest.mark.parametrize("stride", [pytest.param(101, marks=pytest.mark.ci), 7])
def test_killed_before_any_of_its_writes_the_run_ends_the_same(tmp_path: Path, stride: int) -> None:
    """Every SQL statement, commit, file opened for writing, rename, removal: ask, rung, result, tell, sweep."""
    results, n_steps = search_undisturbed()
    points = range(1, n_steps + 1, stride)
    assert len(points) > 200 / stride
    for point in points:
        run = tmp_path / f"killed at {point}"
        killed = start(run, HALVING, point)
        assert killed.wait() == -signal.SIGKILL, run.name
        _check_going_on(run, killed.acknowledged, results)


@pytest.mark.slow
def test_killed_twice_in_a_row_at_any_two_writes_the_run_ends_the_same(tmp_path: Path) -> None:
    results, n_steps = search_undisturbed()
    points = range(5, n_steps, 97)
    for first, second in itertools.product(points, points):
        run = tmp_path / f"killed at {first}, then at {second}"
        assert start(run, HALVING, first).wait() == -signal.SIGKILL
        again = start(run, HALVING, second)
        again.wait()  # it may end before its second kill
        _check_going_on(run, again.acknowledged, results)


def train_condensed(run: Path | None, die_at: int | None = None) -> Outcome:
    """Train a CondenseNet with one thread.

    Args:
        die_at: number of the step before which the process is killed; None: it is not.
    """
    steps = itertools.count()

    def check_stop() -> None:
        if next(steps) == die_at:
            os.kill(os.getpid(), signal.SIGKILL)

    pattern = find_template("dense").build(CONDENSED.pattern_depth)
    candidate = Candidate(pattern, CONDENSED.network(10, (1, 8, 8)), 0)
    outcome = Trainer(load_data("digits", None), CONDENSED, run).train(Job(0, candidate), check_stop)
    return replace(outcome, seconds=0.0)


@pytest.mark.slow
@pytest.mark.parametrize(("steps", "epoch"), [((5,), 1), ((8,), 2), ((11,), 2), ((5, 5, 6), 3)])
def test_a_condensing_training_killed_in_or_between_stages_ends_the_same(
    tmp_path: Path, steps: tuple[int, ...], epoch: int
) -> None:
    whole = train_condensed(None)
    assert (whole.error, whole.epochs) == (None, 5)
    for step in steps:  # counted from the last checkpoint, which an epoch's end writes
        process = CONTEXT.Process(target=train_condensed, args=(tmp_path, step))
        process.start()
        process.join()
        assert process.exitcode == -signal.SIGKILL
        assert slot_path(tmp_path, 0).exists()
    resumed = train_condensed(tmp_path)
    assert resumed.resumed_epoch == epoch
    assert replace(resumed, resumed_epoch=0) == whole
