"""The final measurement: chosen patterns trained again on all but the test images and measured on those, once."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from nas.data.data_set import DataSet
from nas.data.readers import load_data
from nas.data.splits import share_of_largest, split_final
from nas.model.candidate import Candidate, TrainingConfig
from nas.records.checked import validate
from nas.records.database import FINAL, check_data
from nas.records.plan import SCHEMA, VERSION, hash_plan, read_plan, write_plan
from nas.run.directory import RENEWED, announce, describe_run, hold_run, train_all
from nas.run.ledger import Ledger, record_test
from nas.run.lock import lock_run
from nas.run.source import Listener, Task
from nas.settings.resume import mend_older, settle_config
from nas.settings.search import SearchConfig
from nas.settings.study import StudyConfig
from nas.studies.plan import describe_training
from nas.studies.study import Study
from nas.workers.trainer import Trainer
from search_spaces.budget import parse_budget
from search_spaces.errors import ConflictError
from search_spaces.pattern import ConnectionPattern

FIRST_SEED = (
    10_000  # of the final trainings: a search's are 0, 1, ..., and what was picked by their luck gets none of it
)


@dataclass(frozen=True, slots=True)
class Chosen:
    """A pattern to be measured on the test images.

    Args:
        template: the name of the rule that gave it, or None.
        strategy: who proposed it, as the run says it.
        budget: in the command line's form.
        regime: of a study, which it was chosen in; None in a search.
        training: how it is trained: as in the run, but for the changes that were given.
    """

    pattern: ConnectionPattern
    template: str | None
    strategy: str
    budget: str
    regime: str | None
    training: TrainingConfig


def settings_of_final(config: SearchConfig, changes: Mapping[str, Any]) -> SearchConfig:
    """The settings of the final trainings of a run: its own network, data and schedule, on all training images.

    Args:
        config: of the run, a study's too.
        changes: settings given for the final trainings by name: seeds, epochs and the like; None: not given.

    Raises:
        InputError: the settings cannot be used.
    """
    own = {name: getattr(config, name) for name in SearchConfig.model_fields}
    own |= {"strategy": "templates", "trials": 1, "seeds": 5, "halving": False, "templates": True}
    own |= {"train_examples": None, "validation_examples": None, "pattern": None}
    if changes.get("device") not in (None, config.device):
        own |= {"engine": "auto", "gpus_per_worker": None}  # the run's may not be for that device
    return validate(SearchConfig, own | {name: value for name, value in changes.items() if value is not None})


def plan_final(
    run: Path,
    recorded: Mapping[str, Any],
    plan: Mapping[str, Any] | None,
    rows: Iterable[Mapping[str, Any]],
    changes: Mapping[str, Any],
) -> tuple[SearchConfig, list[Chosen]]:
    """Return the settings of a run's final trainings, resolved, and the patterns that they measure.

    Args:
        recorded: the run's settings as its study has them.
        plan: the run's plan, if it is a study.
        rows: the patterns, as rows of average_patterns.
        changes: see settings_of_final; epochs and lr among them hold for every regime.

    Raises:
        InputError: the settings cannot be used.
        ConflictError: RUN/final was begun with other settings.
    """
    own = validate(SearchConfig if plan is None else StudyConfig, mend_older(dict(recorded)))
    settings = settle_config(run / FINAL, None, settings_of_final(own, changes).model_dump(), SearchConfig)
    schedule = {name: getattr(own, name) for name in TrainingConfig.model_fields}
    regimes = {stratum["regime"]: stratum["training"] for stratum in plan["strata"]} if plan else {}
    chosen = []
    for row in rows:
        template, regime = (row[name] if isinstance(row[name], str) else None for name in ("template", "regime"))
        training = change_training(TrainingConfig(**regimes.get(regime, schedule)), changes)
        pattern = ConnectionPattern.from_sources(json.loads(row["sources"]))
        chosen.append(Chosen(pattern, template, row["strategy"], row["budget"], regime, training))
    return settings, chosen


def change_training(training: TrainingConfig, changes: Mapping[str, Any]) -> TrainingConfig:
    """Return a training with those changes that are of a training and not None."""
    new = {name: value for name, value in changes.items() if name in TrainingConfig.model_fields and value is not None}
    return validate(TrainingConfig, {**training.model_dump(), **new})


def run_final(run: Path, config: SearchConfig, chosen: Sequence[Chosen], listener: Listener) -> None:
    """Train the chosen patterns in RUN/final, or go on with that, until each has been measured with every seed.

    Which patterns, and how they are trained, is laid down in RUN/final/plan.json before the first training, and the
    run's study records that its test images were looked at.

    Args:
        config: from settings_of_final, resolved.
        listener: see LedgerSource; also called once at the start with neither candidate nor outcome.

    Raises:
        InputError: the data cannot be used.
        ConflictError: the data are not the run's, the test images were looked at by another choice of patterns, or
            another process is at it, or at the run's search.
        Interrupted: a signal came; the same call goes on.
    """
    data = load_data(config.dataset, config.data)
    split = split_final(data, FIRST_SEED, config.train_examples, "cpu")
    n_train, n_test = len(split.train_labels), len(split.validation_labels)
    announce(data, f"{n_train:,} training images, {n_test:,} test images")
    plan = _lay_out(chosen, config)
    folder = run / FINAL
    # A search that went on meanwhile would end with other patterns than those chosen here.
    with lock_run(run), hold_run(folder, config) as check_stop:
        held = read_plan(folder)
        if held is not None and held[1] != hash_plan(plan):
            raise ConflictError(
                f"the test images were looked at for the patterns in {folder / 'plan.json'}, and these are others or "
                "trained otherwise: to choose again after a look at them is to choose by them. Give the --top and "
                f"settings of then, or move {folder} away and say so where you report the figures"
            )
        check_data(run, data.sha256)
        sizes = {"n_train": n_train, "n_test": n_test}
        largest = share_of_largest(data.labels[data.test])
        attributes = describe_run(config, data, len(plan["order"]), sizes, largest)
        attributes |= {"plan": hash_plan(plan), "measured_on": "test", "kind": "final"}
        deepest = max(one.pattern.depth for one in chosen)
        ledger = Ledger(folder / "study.db", attributes, RENEWED, deepest, metric="test_accuracy")
        study = Study(_list_tasks(chosen, plan, config, data), ledger, listener, config.attempts)
        looked = {"at": datetime.now(UTC).isoformat(timespec="seconds"), "plan": hash_plan(plan)}
        record_test(run, looked)
        if held is None:
            write_plan(folder, plan)
        train_all(ledger, study, Trainer(data, config, folder.resolve(), is_final=True), check_stop)


def _lay_out(chosen: Sequence[Chosen], config: SearchConfig) -> dict[str, Any]:
    """The plan of the final trainings: what is trained how, in which order."""
    strata = list(dict.fromkeys((one.pattern.depth, one.budget, one.regime) for one in chosen))
    trainings = {(one.pattern.depth, one.budget, one.regime): one.training for one in chosen}
    patterns = [
        {
            "layers": one.pattern.depth,
            "key": one.pattern.key,
            "strategy": one.strategy,
            "template": one.template,
            "sources": [list(inputs) for inputs in one.pattern.sources],
        }
        for one in chosen
    ]
    places = [strata.index((one.pattern.depth, one.budget, one.regime)) for one in chosen]
    return {
        "schema": SCHEMA,
        "version": VERSION,
        "protocol": {"measured_on": "test", "trained_on": "all other images"},
        "settings": {"seeds": config.seeds, "train_examples": config.train_examples},
        "strata": [
            {
                "layers": depth,
                "budget": budget,
                "regime": regime,
                "training": describe_training(trainings[depth, budget, regime]),
            }
            for depth, budget, regime in strata
        ],
        "cells": [],
        "patterns": patterns,
        "order": [
            [places[number], number, FIRST_SEED + k] for k in range(config.seeds) for number in range(len(chosen))
        ],
    }


def _list_tasks(chosen: Sequence[Chosen], plan: Mapping[str, Any], config: SearchConfig, data: DataSet) -> list[Task]:
    tasks = []
    for place, number, seed in plan["order"]:
        one, stratum = chosen[number], plan["strata"][place]
        network = config.with_pattern_depth(one.pattern.depth).network(data.n_classes, data.image)
        candidate = Candidate(one.pattern, network, seed, one.template, TrainingConfig(**stratum["training"]))
        budget = parse_budget(one.budget, one.pattern.depth)
        tasks.append(Task(candidate, one.strategy, budget, {"regime": one.regime}))
    return tasks
