"""Run directories of a task that is no classification of images: metrics of its own, invented outcomes."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from analysis.data.protocol import describe_protocol
from nas.data.readers import load_data
from nas.model.candidate import Candidate
from nas.model.config import NetworkConfig
from nas.model.cost import predict_cost
from nas.records.checked import validate
from nas.records.metrics import Metric, Metrics
from nas.records.plan import write_plan
from nas.records.trial import Outcome
from nas.run.ledger import Ledger
from nas.settings.study import StudyConfig
from nas.studies.plan import list_assignments, make_plan
from nas.studies.study import Study
from search_spaces.budget import parse_budget
from search_spaces.sampling.draw import sample_uniform
from search_spaces.seeds import derive_generator
from search_spaces.templates import iterate_templates
from tests.support.synthetic_study import SETTINGS

LAYERS = 8
TASK: Metrics = (Metric("loss"), Metric("bits_per_character"))
SCORED: Metrics = (Metric("f1", maximize=True),)
Gives = Callable[[Candidate], Mapping[str, float]]  # what a training gives; nothing: it failed
ABOUT: dict[str, Any] = {
    "environment": {"device": "a CPU", "commit": "abc123", "python": "3.11"},
    "data": {"name": "songs", "n_train": 64},
}


def give_losses(candidate: Candidate) -> dict[str, float]:
    """A loss that falls with span, with a little noise of pattern and seed, and its bits."""
    noise = derive_generator("noise", candidate.pattern.key, candidate.seed).normal(scale=0.01)
    loss = 3.0 * float(np.exp(-0.2 * candidate.pattern.span + 0.05 * candidate.seed + noise))
    return {"loss": loss, "bits_per_character": loss / float(np.log(2))}


def give_scores(candidate: Candidate) -> dict[str, float]:
    """A score that rises with span."""
    return {"f1": 1 - give_losses(candidate)["loss"] / 10}


def make_search(
    run: Path,
    give: Gives = give_losses,
    metrics: Metrics = TASK,
    budgets: Sequence[str] = ("total:16",),
    n_drawn: int = 12,
    **config: Any,
) -> Path:
    """A run directory of a search: the templates and uniform draws of each budget, with two seeds each."""
    run.mkdir(parents=True)
    settings = {
        "strategy": "random",
        "layers": LAYERS,
        "seeds": 2,
        "epochs": 3,
        "transition": "log",
        "seed": 0,
        **config,
    }
    attributes = {"asked": 0, "kind": "search", "config": settings, **ABOUT}
    ledger = Ledger(run / "study.db", attributes, frozenset({"asked"}), LAYERS, metrics=metrics)
    ledger.accept()
    for text in budgets:
        budget, generator = parse_budget(text, LAYERS), derive_generator("drawn", text)
        named = [(pattern, name) for name, pattern in iterate_templates(budget)]
        drawn = {pattern.key: pattern for pattern in (sample_uniform(budget, generator) for _ in range(n_drawn))}
        known = {pattern.key for pattern, _ in named}
        for pattern, name in [*named, *((each, None) for key, each in drawn.items() if key not in known)]:
            for seed in range(2):
                candidate = Candidate(pattern, NetworkConfig(layers=LAYERS), seed, name)
                number = ledger.enter(candidate, "templates" if name else "random", budget, predict_cost(candidate))
                ledger.finish(number, end(give(candidate)))
    return run


def make_study(run: Path, give: Gives = give_losses, metrics: Metrics = TASK, **settings: Any) -> Path:
    """A run directory of a study that was trained to its end."""
    config = validate(StudyConfig, {**SETTINGS, **settings})
    run.mkdir(parents=True)
    plan = make_plan(config, describe_protocol(config.measures[:1], metrics))
    tasks = list_assignments(plan, config, load_data("digits", None))
    attributes = {
        "plan": write_plan(run, plan),
        "asked": len(tasks),
        "config": config.model_dump(mode="json"),
        **ABOUT,
    }
    ledger = Ledger(run / "study.db", attributes, frozenset(), config.deepest, metrics=metrics)
    ledger.accept()
    study = Study(tasks, ledger, lambda *_: None, config.attempts)
    while (task := study.ask()) is not None:
        study.tell(task.number, end(give(task.candidate)))
    return run


def end(values: Mapping[str, float]) -> Outcome:
    """Return the outcome of a training of three epochs that gave these values."""
    if not values:
        return Outcome({}, 1, 0.1, (), "the task raised ValueError: no")
    curve = tuple(
        {"epoch": epoch, **{name: value * (4 - epoch) for name, value in values.items()}} for epoch in (1, 2, 3)
    )
    return Outcome(values, 3, 0.2, curve)
