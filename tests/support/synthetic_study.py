"""A small study's run directory: a real plan in a real ledger, invented outcomes."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from analysis.data.protocol import describe_protocol
from nas.data.readers import load_data
from nas.model.candidate import Candidate
from nas.records.checked import validate
from nas.records.metrics import image_metrics
from nas.records.plan import write_plan
from nas.records.trial import Outcome
from nas.run.ledger import Ledger
from nas.settings.study import StudyConfig
from nas.studies.plan import list_assignments, make_plan
from nas.studies.study import Study
from search_spaces.distance import backprop_distance
from search_spaces.seeds import derive_generator
from tests.support.synthetic_run import Weigh

SETTINGS: dict[str, Any] = {
    "layers": 12,
    "cross": "mean_bd,span",
    "bins": "3,2",
    "per_cell": 5,
    "optima": 2,
    "trials": 5,
    "seeds": 2,
    "train_examples": 64,
    "epochs": 2,
    "device": "cpu",
    "workers": 1,
}
Score = Callable[[Candidate], float]  # a candidate's validation loss, or nan: its training failed


def score_by_span(candidate: Candidate) -> float:
    """A loss that falls with span, with a little noise of pattern and seed."""
    noise = derive_generator("noise", candidate.pattern.key, candidate.seed).normal(scale=0.01)
    return 1.0 - 0.05 * candidate.pattern.span + 0.1 * candidate.seed + float(noise)


def score_by_distance(candidate: Candidate) -> float:
    """A loss that rises with mean BD, with a little noise of pattern and seed."""
    noise = derive_generator("noise", candidate.pattern.key, candidate.seed).normal(scale=0.01)
    return 0.5 + 0.2 * backprop_distance(candidate.pattern).mean + 0.1 * candidate.seed + float(noise)


def make_study(
    run: Path, score: Score, n_trained: int | None = None, weigh: Weigh | None = None, **settings: Any
) -> Path:
    """A run directory of a study that was trained to its end, or cut after n_trained trainings and one begun.

    weigh: strengths of finished trainings; otherwise none.
    """
    config = validate(StudyConfig, {**SETTINGS, **settings})
    run.mkdir(parents=True)
    plan = make_plan(config, describe_protocol(config.measures[:1]))
    data = load_data("digits", None)
    tasks = list_assignments(plan, config, data)
    attributes = {
        "plan": write_plan(run, plan),
        "asked": len(tasks),
        "config": config.model_dump(mode="json"),
        "environment": {"device": "a CPU", "commit": "abc123", "python": "3.11"},
        "data": {"name": "digits", "n_train": 64, "classes": 10, "image": [1, 8, 8]},
    }
    ledger = Ledger(run / "study.db", attributes, frozenset(), config.deepest)
    ledger.accept()
    study = Study(tasks, ledger, lambda *_: None, config.attempts)
    while (task := study.ask()) is not None:
        if study.n_finished == n_trained:
            break
        outcome = _outcome(score(task.candidate))
        if weigh is not None and outcome.error is None:
            by_block = weigh(task.candidate.pattern, task.candidate.seed)
            outcome = replace(outcome, strengths=tuple(map(tuple, by_block)))
        study.tell(task.number, outcome)
    return run


def _outcome(loss: float) -> Outcome:
    if loss != loss:
        return Outcome({}, 1, 0.1, ({"epoch": 1, "train_loss": 2.0},), "training loss not finite at step 3 of 8")
    accuracy = 1 - loss / 3
    last = {"epoch": 2, "train_loss": loss, "validation_loss": loss, "validation_accuracy": accuracy}
    return Outcome(image_metrics(accuracy, loss), 2, 0.2, ({"epoch": 1, "train_loss": 2.0}, last))
