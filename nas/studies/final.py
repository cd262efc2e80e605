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
from nas.model.candidate import Candidate
from nas.model.config import TrainingConfig
from nas.records.checked import validate
from nas.records.database import FINAL, check_data
from nas.records.plan import SCHEMA, VERSION, hash_plan, read_plan, write_plan
from nas.run.directory import RENEWED, announce, describe_run, hold_run, train_all
from nas.run.ledger import Ledger, record_test
from nas.run.lock import lock_run
from nas.run.source import Assignment, Listener
from nas.settings.resume import mend_older, settle_config
from nas.settings.search import ALL, SearchConfig
from nas.settings.study import StudyConfig
from nas.studies.plan import describe_training
from nas.studies.study import Study
from nas.workers.trainer import Trainer
from search_spaces.budget import parse_budget
from search_spaces.errors import ConflictError
from search_spaces.pattern import ConnectionPattern

FIRST_SEED = 10_000  # a search has seeds 0, 1, ...: what was chosen by their luck must not have it here too


@dataclass(frozen=True, slots=True)
class Chosen:
    """A pattern to be measured on the test images.

    Args:
        template: the name of its template, or None.
        strategy: its strategy in the run.
        budget: its budget in the command line's form.
        regime: the regime of the study that it was chosen in; None in a search.
        training: the run's training, with the changes asked for.
    """

    pattern: ConnectionPattern
    template: str | None
    strategy: str
    budget: str
    regime: str | None
    training: TrainingConfig

    @property
    def stratum(self) -> tuple[int, str, str | None]:
        """Depth, budget and regime."""
        return self.pattern.depth, self.budget, self.regime


def settings_of_final(config: SearchConfig, changes: Mapping[str, Any]) -> SearchConfig:
    """Return the settings of a run's final trainings: its network, data and schedule, on all training images.

    Args:
        config: settings of the run, a search or a study.
        changes: settings of the final trainings by name, as seeds and epochs; None: not changed.

    Raises:
        InputError: the settings cannot be used.
    """
    own = {name: getattr(config, name) for name in SearchConfig.model_fields}
    own |= {
        "strategy": "templates",
        "trainings": None,
        "trials": 1,
        "seeds": 5,
        "halving": False,
        "templates": True,
        "proxies": False,
    }
    own |= {"train_examples": None, "validation_examples": None, "pattern": None}
    own |= {"from_table": None, "table_sha256": None}
    if changes.get("device") not in (None, config.device):
        own |= {"engine": "auto", "gpus_per_worker": None}  # the run's may not fit the other device
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
    given = settings_of_final(own, changes).model_dump()
    if changes.get("log") is None and (run / FINAL).exists():
        given["log"] = None  # what was begun keeps its trackers
    if given["train_examples"] is None:
        given["train_examples"] = ALL
    settings = settle_config(run / FINAL, None, given, SearchConfig)
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
    """Train the chosen patterns in RUN/final, or continue that, until each is measured with every seed.

    RUN/final/plan.json says before the first training which patterns are trained how, and the run's study records that
    its test images were looked at.

    Args:
        config, chosen: from plan_final.
        listener: see run_search.

    Raises:
        InputError: the data cannot be used.
        ConflictError: the data are not the run's, other patterns were measured before, or another process uses the run
            or RUN/final.
        Interrupted: a signal came; the same call continues.
    """
    data = load_data(config.dataset, config.data)
    split = split_final(data, FIRST_SEED, config.train_examples, "cpu")
    n_train, n_test = len(split.train_labels), len(split.validation_labels)
    announce(data, f"{n_train:,} to train on, {n_test:,} for the test")
    plan = _lay_out(chosen, config)
    folder = run / FINAL
    # A search that continued meanwhile would end with other patterns than those chosen here.
    with lock_run(run), hold_run(folder, config) as check_stop:
        sha256, existing = hash_plan(plan), read_plan(folder)
        if existing is not None and existing[1] != sha256:
            raise ConflictError(
                f"the test images were already used for the patterns in {folder / 'plan.json'}, and these patterns or "
                "their training differ: a choice after a look at the test images depends on them. Repeat the earlier "
                f"--top and settings, or move {folder} away and say so where you report the figures"
            )
        check_data(run, data.sha256)
        sizes = {"n_train": n_train, "n_test": n_test}
        largest = share_of_largest(data.labels[data.test])
        attributes = describe_run(config, data, len(plan["order"]), sizes, largest)
        attributes |= {"plan": sha256, "measured_on": "test", "kind": "final"}
        deepest = max(measured.pattern.depth for measured in chosen)
        ledger = Ledger(folder / "study.db", attributes, RENEWED, deepest, value_name="test_accuracy")
        study = Study(_list_assignments(chosen, plan, config, data), ledger, listener, config.attempts)
        record_test(run, {"at": datetime.now(UTC).isoformat(timespec="seconds"), "plan": sha256})
        if existing is None:
            write_plan(folder, plan)
        train_all(ledger, study, Trainer(data, config, folder.resolve(), is_final=True), check_stop)


def _lay_out(chosen: Sequence[Chosen], config: SearchConfig) -> dict[str, Any]:
    """Return the plan of the final trainings."""
    trainings = {measured.stratum: measured.training for measured in chosen}
    strata = list(trainings)
    return {
        "schema": SCHEMA,
        "version": VERSION,
        "protocol": {"measured_on": "test", "trained_on": "all other images"},
        "settings": {"seeds": config.seeds, "train_examples": config.train_examples},
        "strata": [
            {"layers": depth, "budget": budget, "regime": regime, "training": describe_training(training)}
            for (depth, budget, regime), training in trainings.items()
        ],
        "cells": [],
        "patterns": [
            {
                "layers": measured.pattern.depth,
                "key": measured.pattern.key,
                "strategy": measured.strategy,
                "template": measured.template,
                "sources": [list(inputs) for inputs in measured.pattern.sources],
            }
            for measured in chosen
        ],
        "order": [
            [strata.index(measured.stratum), number, FIRST_SEED + k]
            for k in range(config.seeds)
            for number, measured in enumerate(chosen)
        ],
    }


def _list_assignments(
    chosen: Sequence[Chosen], plan: Mapping[str, Any], config: SearchConfig, data: DataSet
) -> list[Assignment]:
    assignments = []
    for place, number, seed in plan["order"]:
        measured = chosen[number]
        pattern, training = measured.pattern, TrainingConfig(**plan["strata"][place]["training"])
        network = config.with_pattern_depth(pattern.depth).network(data.n_classes, data.image)
        candidate = Candidate(pattern, network, seed, measured.template, training)
        budget = parse_budget(measured.budget, pattern.depth)
        assignments.append(Assignment(candidate, measured.strategy, budget, {"regime": measured.regime}))
    return assignments
