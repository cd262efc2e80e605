"""A small run's settings, and the type of a function that runs the command line."""

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
SMALL: dict[str, Any] = {
    "layers": 5,
    "strategy": "random",
    "trials": 2,
    "seeds": 2,
    "epochs": 1,
    "train_examples": 64,
    "workers": 1,
    "device": "cpu",
}

CommandLine = Callable[..., subprocess.CompletedProcess[str]]
