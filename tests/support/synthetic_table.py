"""Small tables that hold every pattern of a budget, their accuracies invented."""

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from search_spaces.budget import Budget, log_budget
from search_spaces.distance import describe
from search_spaces.pattern import ConnectionPattern
from tests.support.patterns import patterns_of

BUDGET = log_budget(5)  # 36 patterns


def list_patterns(budget: Budget = BUDGET) -> list[ConnectionPattern]:
    """All patterns of a budget by layer, in order of key."""
    return sorted(patterns_of(budget), key=lambda pattern: pattern.key)


def make_table(accuracies: NDArray[np.float64], seeds: Sequence[int] | None = None) -> pd.DataFrame:
    """Rows of a run's candidates.csv, of list_patterns() with each seed: shape (patterns, seeds).

    The logarithm of the loss is the accuracy with a minus.
    """
    patterns = list_patterns()
    rows = []
    for pattern, of_pattern in zip(patterns, accuracies.tolist(), strict=True):
        numbers = describe(pattern)
        fixed: dict[str, Any] = {name: numbers[name] for name in ("connections", "mean_bd", "span", "max_out_degree")}
        fixed |= {"key": pattern.key, "sources": json.dumps(pattern.sources, separators=(",", ":"))}
        fixed |= {"state": "complete", "strategy": "random", "budget": "log", "layers": pattern.depth}
        for seed, accuracy in zip(seeds or range(len(of_pattern)), of_pattern, strict=True):
            rows.append(
                {**fixed, "seed": seed, "validation_accuracy": accuracy, "validation_loss": math.exp(-accuracy)}
            )
    return pd.DataFrame(rows)


def write_table(path: Path, table: pd.DataFrame) -> Path:
    """The table as CSV."""
    path.write_text(table.to_csv(index=False), encoding="utf-8")
    return path


def deterministic_accuracies(n_seeds: int) -> NDArray[np.float64]:
    """Of list_patterns(): the shorter mean BD, the more accurate, in steps that binary fractions hold exactly."""
    of_pattern = [round(512 - 256 * float(describe(pattern)["mean_bd"]) + 512) / 1024 for pattern in list_patterns()]
    return np.repeat(np.array(of_pattern)[:, None], n_seeds, axis=1)
