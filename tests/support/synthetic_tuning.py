"""A study that tunes the learning rate, without a ledger: a real plan, invented outcomes with a planted best rate."""

import json
import math
from pathlib import Path
from typing import Any

import pandas as pd

from analysis.data.protocol import describe_protocol
from analysis.data.results import COLUMNS, CURVE_COLUMNS, RIVALS, Run
from nas.data.readers import load_data
from nas.model.candidate import Candidate
from nas.records.checked import validate
from nas.settings.study import StudyConfig
from nas.studies.plan import list_assignments, make_plan
from search_spaces.distance import describe
from search_spaces.measures.registry import measure
from search_spaces.pattern import ConnectionPattern
from search_spaces.seeds import derive_generator

SETTINGS: dict[str, Any] = {
    "layers": 12,
    "cross": "mean_bd,span",
    "bins": "2,2",
    "per_cell": 3,
    "optima": 0,
    "trials": 2,
    "seeds": 2,
    "train_examples": 64,
    "epochs": 2,
    "tune_lr": ".05:.8:5",
    "device": "cpu",
    "workers": 1,
}
STEPS = 8  # 2 epochs of 64 images in batches of 16
BEST_AT, PER_LAYER = 0.2, 0.3  # best rate at a span of 3, and by how much its logarithm falls for each layer of span
FLOOR, FLOOR_PER_LAYER, BEND, SEED_STEP = 0.2, 0.2, 0.4, 0.2
DIVERGES = "loglog"  # at the highest rate


def score_by_rate(candidate: Candidate) -> float:
    """A valley about the best rate. Long spans have a lower one and end worse; nan: the training diverged."""
    assert candidate.training is not None
    lr, beyond = candidate.training.lr, candidate.pattern.span - 3
    if candidate.template == DIVERGES and lr > 0.5:
        return math.nan
    noise = derive_generator("noise", candidate.pattern.key, candidate.seed, f"{lr:g}").normal(scale=0.01)
    floor = FLOOR_PER_LAYER * beyond + SEED_STEP * candidate.seed
    away = math.log(lr / BEST_AT) + PER_LAYER * beyond
    return FLOOR * math.exp(floor + BEND * away**2 + float(noise))


def make_tuned_run(n_trained: int | None = None, **settings: Any) -> Run:
    """The run of a study that was trained to its end, or as far as n_trained trainings."""
    config = validate(StudyConfig, {**SETTINGS, **settings})
    plan = make_plan(config, describe_protocol(config.measures))
    tasks = list_assignments(plan, config, load_data("digits", None))
    described: dict[ConnectionPattern, dict[str, Any]] = {}
    rows: list[dict[str, Any]] = []
    for task in tasks[:n_trained]:
        pattern = task.candidate.pattern
        fixed = described.setdefault(pattern, _describe(pattern))
        loss = score_by_rate(task.candidate)
        own = {"number": len(rows), "seed": task.candidate.seed, "strategy": task.strategy, "budget": str(task.budget)}
        rows.append({**fixed, **task.details, **own, "template": task.candidate.template, **_outcome(loss)})
    return Run(
        path=Path("run"),
        candidates=pd.DataFrame(rows, columns=list(COLUMNS)).astype(COLUMNS),
        curves=pd.DataFrame(columns=list(CURVE_COLUMNS)).astype(CURVE_COLUMNS),
        asked=len(tasks),
        config=config.model_dump(mode="json"),
        environment={},
        data={"name": "digits", "n_train": 64, "n_validation": 479, "classes": 10},
        plan=plan,
        plan_sha256="0" * 64,
        kind="study",
    )


def _describe(pattern: ConnectionPattern) -> dict[str, Any]:
    sources = json.dumps([list(inputs) for inputs in pattern.sources])
    own = {"key": pattern.key, "layers": pattern.depth, "sources": sources, "params": 1000, "flops": 50_000}
    return {**describe(pattern), **measure(pattern, RIVALS), **own}


def _outcome(loss: float) -> dict[str, Any]:
    if math.isnan(loss):
        return {"state": "failed", "error": "training loss not finite at step 3 of 8"}
    return {"state": "complete", "validation_loss": loss, "validation_accuracy": 1 - loss / 3}
