"""What the pages say of the study on text follows from its trainings, by other formulas than the program's."""

import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.stats import f as f_distribution

from nas.records.trial import hash_plain
from tests.support.partial import find_partial
from tests.support.small import ROOT

DEPTHS = (12, 24)
PAGES = [
    " ".join((ROOT / path).read_text().split()) for path in ("docs/text/README.md", "docs/explanation/transformers.md")
]
ROWS = {
    line.split("|")[1].strip(): dict(zip(DEPTHS, line.split("|")[2:4], strict=True))
    for line in (ROOT / "docs" / "text" / "README.md").read_text().splitlines()
    if line.count("|") == 4
}
INTERVAL = r"\[[+-]0\.\d\d, [+-]0\.\d\d\]"


def _folder(layers: int) -> Path:
    return ROOT / "docs" / "text" / f"layers-{layers}"


def _sample(layers: int) -> pd.DataFrame:
    table = pd.read_csv(_folder(layers) / "candidates.csv")
    sample = table[table["strategy"] == "design"].copy()
    sample["centred"] = np.log(sample["loss"])
    sample["centred"] -= sample.groupby("seed")["centred"].transform("mean")
    return sample


@pytest.mark.parametrize("layers", DEPTHS)
@pytest.mark.parametrize(
    ("test", "measure", "held"),
    [("T1", "walk_length", ("visit_evenness", "mean_bd")), ("T2", "mean_bd", ("walk_length", "visit_evenness"))],
)
def test_the_partial_correlations_are_those_of_the_trainings(
    layers: int, test: str, measure: str, held: tuple[str, str]
) -> None:
    patterns = _sample(layers).groupby("key")[["centred", measure, *held]].mean()
    assert len(patterns) == 72
    value = find_partial(patterns, measure, "centred", held)
    (row,) = (cells for heading, cells in ROWS.items() if heading.startswith(f"{test}:"))
    (said,) = re.findall(rf"[+-]0\.\d\d {INTERVAL}", row[layers])
    assert said.startswith(f"{value:+.2f} ")
    assert said in PAGES[1]
    report = (_folder(layers) / "report.md").read_text()
    assert said.replace("[", "\\[").replace("]", "\\]") in report


@pytest.mark.parametrize("layers", DEPTHS)
def test_its_reliability_is_that_of_the_trainings(layers: int) -> None:
    values = _sample(layers).pivot_table(index="key", columns="seed", values="centred").to_numpy()
    n_patterns, n_seeds = values.shape
    between = n_seeds * values.mean(axis=1).var(ddof=1)
    left = values - values.mean(axis=1, keepdims=True) - values.mean(axis=0)
    within = np.square(left).sum() / ((n_patterns - 1) * (n_seeds - 1))
    share = (between - within) / (between + (n_seeds - 1) * within)
    assert ROWS["reliability of one training"][layers].strip() == f"{share:.2f}"
    assert f_distribution.sf(between / within, n_patterns - 1, (n_patterns - 1) * (n_seeds - 1)) < 0.001
    losses = _sample(layers).groupby("key")["loss"].mean()
    said = ROWS["losses of the 72 patterns, nats"][layers].strip()
    assert said == f"{losses.min():.2f} to {losses.max():.2f}, median {losses.median():.2f}"


@pytest.mark.parametrize("layers", DEPTHS)
def test_every_planned_training_is_there_by_the_plan_that_was_hashed(layers: int) -> None:
    recorded = json.loads((_folder(layers) / "plan.json").read_text())
    table = pd.read_csv(_folder(layers) / "candidates.csv")
    assert hash_plain(recorded["plan"]) == recorded["sha256"]
    assert len(table) == len(recorded["plan"]["order"]) == 273
    assert set(table["state"]) == {"complete"}
