"""What the pages say of the study on text follows from its trainings, by other formulas than the program's."""

import json
import re

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray
from scipy.stats import f as f_distribution
from scipy.stats import rankdata

from nas.records.trial import hash_plain
from tests.support.small import ROOT

FOLDER = ROOT / "docs" / "text" / "layers-12"
PAGE = " ".join((ROOT / "docs" / "text" / "README.md").read_text().split())


def _sample() -> pd.DataFrame:
    table = pd.read_csv(FOLDER / "candidates.csv")
    sample = table[table["strategy"] == "design"].copy()
    sample["centred"] = np.log(sample["loss"])
    sample["centred"] -= sample.groupby("seed")["centred"].transform("mean")
    return sample


def _regress_out(values: NDArray[np.float64], held: list[NDArray[np.float64]]) -> NDArray[np.float64]:
    columns = [np.ones(len(values)), *held, *(np.square(each - each.mean()) for each in held)]
    basis, _ = np.linalg.qr(np.column_stack(columns))
    residual: NDArray[np.float64] = values - basis @ (basis.T @ values)
    return residual


@pytest.mark.parametrize(
    ("measure", "held", "words"),
    [
        ("walk_length", ("visit_evenness", "mean_bd"), "visit evenness and mean BD held"),
        ("mean_bd", ("walk_length", "visit_evenness"), "walk length and visit evenness held"),
    ],
)
def test_the_partial_correlations_are_those_of_the_trainings(measure: str, held: tuple[str, str], words: str) -> None:
    patterns = _sample().groupby("key")[["centred", measure, *held]].mean()
    assert len(patterns) == 72
    ranks = {name: rankdata(patterns[name]) for name in patterns}
    own, outcome = (_regress_out(ranks[name], [ranks[each] for each in held]) for name in (measure, "centred"))
    value = float(own @ outcome / np.sqrt((own @ own) * (outcome @ outcome)))
    said = re.escape(f"{value:+.2f}") + r" \[[^]]*\]"
    for page in (PAGE, " ".join((ROOT / "README.md").read_text().split())):
        assert re.search(rf"{words}[:,] {said}|{said} over 72 patterns x 3 seeds, {words}", page)


def test_its_reliability_is_that_of_the_trainings() -> None:
    values = _sample().pivot_table(index="key", columns="seed", values="centred").to_numpy()
    n_patterns, n_seeds = values.shape
    between = n_seeds * values.mean(axis=1).var(ddof=1)
    left = values - values.mean(axis=1, keepdims=True) - values.mean(axis=0)
    within = np.square(left).sum() / ((n_patterns - 1) * (n_seeds - 1))
    share = (between - within) / (between + (n_seeds - 1) * within)
    assert f"reliability of one training {share:.2f}" in PAGE
    assert f_distribution.sf(between / within, n_patterns - 1, (n_patterns - 1) * (n_seeds - 1)) < 0.001
    losses = _sample().groupby("key")["loss"].mean()
    assert f"from {losses.min():.2f} to {losses.max():.2f} nats, median {losses.median():.2f}" in PAGE


def test_every_planned_training_is_there_by_the_plan_that_was_hashed() -> None:
    recorded = json.loads((FOLDER / "plan.json").read_text())
    table = pd.read_csv(FOLDER / "candidates.csv")
    assert hash_plain(recorded["plan"]) == recorded["sha256"]
    assert len(table) == len(recorded["plan"]["order"]) == 273
    assert set(table["state"]) == {"complete"}
