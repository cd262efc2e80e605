"""A comparison of networks: a real ledger, invented outcomes."""

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

from nas.data.readers import load_data
from nas.records.checked import validate
from nas.records.metrics import image_metrics
from nas.records.trial import Outcome
from nas.run.ledger import Ledger
from nas.settings.comparison import LineupConfig
from nas.studies.comparison import Lineup
from nas.workers.jobs import failed

DIGITS = load_data("digits", None)
SETTINGS: dict[str, Any] = {"layers": 6, "blocks": 2, "growth": 6, "seeds": 4, "device": "cpu", "workers": 1}
Score = Callable[[str, int], float | None]


def make_lineup(run: Path, score: Score, n_told: int | None = None, **changes: Any) -> Path:
    """A comparison whose trainings were told and not made; None: it failed."""
    config = validate(LineupConfig, SETTINGS | changes)
    run.mkdir(parents=True)
    attributes = {
        "asked": len(config.networks) * config.seeds,
        "config": config.model_dump(mode="json"),
        "environment": {"device": "a CPU", "torch": "2.13"},
        "data": {"name": "digits", "n_train": 64, "n_validation": 400},
    }
    ledger = Ledger(run / "study.db", attributes, frozenset(), config.deepest)
    ledger.accept()
    lineup = Lineup(config, DIGITS, ledger, lambda *_: None)
    for number in itertools.count():
        task = lineup.ask() if number != n_told else None
        if task is None:
            return run
        name = str(lineup._unfinished[task.number].details["regime"])
        accuracy = score(name, task.candidate.seed)
        n_connections = task.candidate.pattern.n_connections
        strengths = tuple(tuple(1.0 + (k + block) % 3 for k in range(n_connections)) for block in range(2))
        outcome = Outcome(image_metrics(accuracy, 1.0), 1, 2.0, strengths=strengths)
        lineup.tell(task.number, failed("no luck") if accuracy is None else outcome)
    raise AssertionError("unreachable")
