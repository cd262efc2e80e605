"""One record of a candidate: what is stored is read back, of every schema, and nothing else is taken for one."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from optuna.distributions import FloatDistribution
from optuna.trial import FrozenTrial, TrialState, create_trial

from nas.records.metrics import IMAGE_METRICS, Metric, Metrics, image_metrics
from nas.records.trial import DRIVER_ENDED, HASH, SCHEMA, Attempts, Outcome, Trial, check_trials, show_records
from search_spaces.errors import ConflictError, InputError
from search_spaces.templates import find_template

PATTERN = find_template("log").build(5)
ENTERED = Trial(
    number=3,
    pattern=PATTERN,
    template=None,
    strategy="random",
    seed=2,
    budget="log",
    facts={"key": PATTERN.key, "max_bd": 2, "params": 7, "nn_mass": 0.1, "regime": "slow"},
    descriptors={"mean_bd": 1.25, "span": 1.5},
)
STATES = {
    "running": TrialState.RUNNING,
    "complete": TrialState.COMPLETE,
    "failed": TrialState.FAIL,
    "pruned": TrialState.PRUNED,
}


def _store(trial: Trial, attributes: Mapping[str, Any] | None = None) -> FrozenTrial:
    """What Optuna would load of a trial."""
    stored = create_trial(
        state=STATES[trial.state],
        value=trial.value,
        params=dict(trial.descriptors),
        distributions=dict.fromkeys(trial.descriptors, FloatDistribution(1, 5)),
        user_attrs=dict(trial.to_attributes() if attributes is None else attributes),
        intermediate_values=dict(trial.rungs),
    )
    stored.number = trial.number
    return stored


SHARES = st.floats(0, 1)
COUNTS = st.integers(0, 9)
DECLARED = (IMAGE_METRICS, (Metric("loss"),), (Metric("f1", maximize=True), Metric("bits"), Metric("seconds")))
ATTEMPTS = st.builds(Attempts, st.lists(st.text()).map(tuple), COUNTS, COUNTS, st.none() | st.text(), COUNTS)


@st.composite
def trials(draw: st.DrawFn) -> Trial:
    """Draw what a ledger may come to write."""
    state: Any = draw(st.sampled_from(["running", "complete", "failed", "pruned"]))
    epochs = draw(st.lists(st.integers(1, 9), unique=True, min_size=1 if state == "pruned" else 0))
    rungs = {epoch: draw(SHARES) for epoch in epochs}
    declared = draw(st.sampled_from(DECLARED))
    value = {"complete": draw(SHARES), "failed": None}.get(state, rungs[max(rungs)] if rungs else None)
    n_connections = PATTERN.n_connections
    blocks = st.lists(st.lists(SHARES, min_size=n_connections, max_size=n_connections).map(tuple), max_size=2)
    curve = ({"epoch": 1.0, "train_loss": draw(SHARES)},)
    error = "diverged" if state == "failed" else None
    others = [metric.name for metric in declared[1:]]
    metrics = {} if value is None else {declared[0].name: value, **{name: draw(SHARES) for name in others}}
    strengths, kept = draw(blocks.map(tuple)), draw(blocks.map(tuple))
    outcome = Outcome(metrics, 3, 0.5, curve, error, bool(rungs), strengths=strengths, kept=kept)
    measured = epochs if declared != IMAGE_METRICS else draw(st.sampled_from([(), epochs]))  # none in older runs
    return replace(
        ENTERED,
        state=state,
        rungs=rungs,
        rung_metrics={epoch: {name: draw(SHARES) for name in others} for epoch in measured},
        declared=declared,
        outcome=outcome if state != "running" or rungs else None,
        attempts=draw(ATTEMPTS.filter(lambda attempts: DRIVER_ENDED not in attempts.lost)),
        returned=draw(st.booleans()),
        pause_after=draw(st.none() | st.integers(1, 9)),
    )


@settings(max_examples=40)
@given(trials(), st.sampled_from([1, 2, 3, SCHEMA]))
def test_what_is_stored_is_read_back_of_every_schema(trial: Trial, schema: int) -> None:
    trial = replace(trial, schema=schema)
    stored = _store(trial)
    check_trials([_store(replace(ENTERED, number=number)) for number in range(3)] + [stored], Path("study.db"))
    read = Trial.from_optuna(stored, trial.declared)
    assert (read, read.schema) == (trial, schema)
    assert read.to_attributes() == stored.user_attrs


def test_a_candidate_that_was_handed_out_once_has_one_attribute() -> None:
    (name,) = ENTERED.to_attributes()
    assert name == "~candidate"
    assert Trial.from_optuna(_store(ENTERED)) == ENTERED


def test_a_training_on_images_is_stored_as_before_metrics_had_names() -> None:
    outcome = Outcome(image_metrics(0.5, 0.25), 3, 0.5, paused=True)
    rungs: dict[str, Any] = {"rungs": {3: 0.5}, "rung_metrics": {3: {"validation_loss": 0.25}}}
    stored = replace(ENTERED, outcome=outcome, **rungs).to_attributes()["~outcome"]
    assert {name: value for name, value in stored.items() if name != HASH} == {
        "validation_loss": 0.25,
        "epochs": 3,
        "seconds": 0.5,
        "curve": [],
        "error": None,
        "paused": True,
        "resumed_epoch": 0,
        "checkpoint_error": None,
        "strengths": [],
        "rung_losses": {"3": 0.25},
    }


def test_a_network_that_is_not_condensed_is_stored_without_what_was_kept() -> None:
    outcome = Outcome({"validation_accuracy": 0.5}, 3, 0.5, strengths=((1.0,),))
    assert "kept" not in outcome.to_dict()
    condensed = replace(outcome, kept=((0.25,),))
    assert condensed.to_dict()["kept"] == [[0.25]]
    assert [Outcome.from_dict(each.to_dict()) for each in (outcome, condensed)] == [outcome, condensed]


def test_a_drivers_death_in_an_older_run_costs_no_attempt() -> None:
    attempts = {"lost": ["worker died", DRIVER_ENDED], "returned": True}
    error = "worker died; given up after 3 attempts"
    outcome = {"validation_loss": None, "epochs": 0, "seconds": 1.0, "error": error}
    attributes = {"attempts": attempts, "outcome": outcome, **replace(ENTERED, schema=2).to_attributes()}
    read = Trial.from_optuna(_store(replace(ENTERED, state="failed"), attributes))
    assert read.attempts == Attempts(("worker died", "worker died"), driver_deaths=1, given_up_after=3)
    assert (read.returned, read.pause_after) == (True, 0)
    assert read.outcome == Outcome({}, 0, 1.0, (), error)


def test_names_that_a_later_version_adds_are_left_alone() -> None:
    trial = replace(ENTERED, state="failed", outcome=Outcome({}, 1, 0.5), schema=2)
    attributes = trial.to_attributes()
    for name in ("candidate", "outcome"):
        attributes[name] = {key: value for key, value in attributes[name].items() if key != HASH} | {"later": 1}
    read = Trial.from_optuna(_store(trial, attributes))
    assert replace(read, facts=trial.facts) == trial


@pytest.mark.parametrize("absent", ["sources", "seed", "strategy", "budget", "template"])
def test_a_trial_of_another_program_is_no_record(absent: str) -> None:
    attributes = replace(ENTERED, schema=1).to_attributes()
    del attributes[absent]
    with pytest.raises(InputError, match=f"trial 3 .*{absent}"):
        Trial.from_optuna(_store(ENTERED, attributes))


def test_a_trial_that_is_missing_is_damage() -> None:
    with pytest.raises(ConflictError, match="trial 1 is missing"):
        check_trials([_store(replace(ENTERED, number=number)) for number in (0, 2)], Path("study.db"))


@pytest.mark.parametrize("name", ["~candidate", "~outcome", "~attempts"])
def test_a_record_that_is_not_what_was_sealed_is_damage(name: str) -> None:
    outcome = Outcome(image_metrics(0.5, 0.25), 1, 0.5)
    trial = replace(ENTERED, number=0, state="complete", outcome=outcome, attempts=Attempts(("lost",)))
    attributes = trial.to_attributes()
    for changed in ({**attributes[name], "added": 1}, "no record"):
        with pytest.raises(ConflictError, match="trial 0 is not what was written"):
            check_trials([_store(trial, attributes | {name: changed})], Path("study.db"))
    del attributes["~outcome"]
    with pytest.raises(ConflictError, match="trial 0 has lost its outcome"):
        check_trials([_store(trial, attributes)], Path("study.db"))


@pytest.mark.parametrize("metrics", [IMAGE_METRICS, (Metric("bits"), Metric("f1", maximize=True))])
def test_what_is_shown_is_what_the_records_say_or_damage(metrics: Metrics) -> None:
    values = {metric.name: 0.25 for metric in metrics}
    trial = replace(ENTERED, number=0, state="complete", outcome=Outcome(values, 1, 0.5), declared=metrics)
    shown = show_records(trial.to_attributes())
    assert shown == {
        "Name": f"{PATTERN.key[:12]}, seed 2",
        **{name: trial.facts[name] for name in ("key", "max_bd", "params", "regime")},
        "strategy": "random",
        "seed": 2,
        "budget": "log",
        metrics[1].name: 0.25,
        "epochs": 1,
        "seconds": 0.5,
    }
    check_trials([_store(trial, trial.to_attributes() | shown | {"mine": 1})], Path("study.db"))
    for name in shown:
        with pytest.raises(ConflictError, match=f"trial 0 is not what was written .{name}"):
            check_trials([_store(trial, trial.to_attributes() | shown | {name: "another"})], Path("study.db"))
    assert show_records(replace(trial, schema=3).to_attributes()) == {}
