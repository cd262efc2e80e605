"""Two small studies and their plans."""

from functools import cache
from typing import Any

from nas.data.readers import load_data
from nas.records.checked import validate
from nas.settings.study import StudyConfig
from nas.studies.plan import make_plan

DIGITS = load_data("digits", None)
# Two depths, two regimes, checks: 4 main strata and 4 of checks.
WIDE: dict[str, Any] = {
    "layers": 10,
    "also_layers": (12,),
    "budget": "total:28",
    "cross": "mean_bd,span",
    "bins": "2,2",
    "per_cell": 1,
    "optima": 2,
    "trials": 3,
    "seeds": 3,
    "regime": ("gentle=lr:0.05,epochs:1", "steep=lr:0.3,epochs:2"),
    "check_epochs": 3,
    "check_patterns": 5,
    "train_examples": 64,
    "workers": 1,
    "device": "cpu",
}
# Hardly anything: the pattern of shortest walks, two cells and their reversals.
TINY: dict[str, Any] = {
    "layers": 10,
    "budget": "total:26",
    "cross": "mean_bd,span",
    "bins": "1.6:2.0:2,3.0:3.6:1",
    "per_cell": 1,
    "optima": 0,
    "trials": 0,
    "seeds": 2,
    "regime": ("gentle=lr:0.05,epochs:1", "steep=lr:0.2,epochs:1"),
    "train_examples": 64,
    "workers": 1,
    "device": "cpu",
}
PROTOCOL = {"hypotheses": ["shorter is better"], "alpha": 0.05}


@cache
def wide() -> tuple[StudyConfig, dict[str, Any]]:
    """Return the settings and the plan of WIDE."""
    config = validate(StudyConfig, WIDE)
    return config, make_plan(config, PROTOCOL)


@cache
def tiny() -> tuple[StudyConfig, dict[str, Any]]:
    """Return the settings and the plan of TINY: 20 trainings."""
    config = validate(StudyConfig, TINY)
    return config, make_plan(config, PROTOCOL)
