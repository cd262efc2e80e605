"""The evidence behind recommend: recomputed from the committed tables by other formulas."""

import json
import math
import sys
from typing import Any

import numpy as np
import pandas as pd
import pytest
import scipy.stats

from analysis.recommend.evidence import FILE, MODEL, WALK, Merit, Setting, read_lessons
from search_spaces.surrogate.features import PREDICTORS
from tests.support.patterns import random_pattern
from tests.support.small import ROOT

sys.path.insert(0, str(ROOT / "scripts"))
from recommend import (
    PAGE,
    Trained,
    format_merits,
    gather,
    judge,
    learn,
    read_checks,
    read_settings,
    read_undertrained,
    scale,
)

READ = {"text 24 total:52": ("docs/text/layers-24/candidates.csv", "loss", "design")}
READ |= {"digits 24 total:40": ("docs/tables/total-40.csv", "validation_loss", "random")}


def walk_length(sources: list[list[int]]) -> float:
    """Solve for the mean visits of the walk, which starts at the layers L + 1 - 2^k."""
    depth = len(sources)
    moves = np.zeros((depth + 1, depth + 1))
    for layer, inputs in enumerate(sources, start=1):
        moves[layer, inputs] = 1 / len(inputs)
    starts = [depth + 1 - 2**k for k in range(20) if 2**k <= depth + 1]
    first = np.zeros(depth + 1)
    first[starts] = 1 / len(starts)
    return float(np.linalg.solve(np.eye(depth + 1) - moves.T, first)[1:].sum())


@pytest.mark.parametrize("name", READ)
def test_the_shortest_walk_is_what_the_table_says(name: str) -> None:
    file, loss, drawn = READ[name]
    rows = pd.read_csv(ROOT / file)
    rows = rows[~rows["template"].fillna("").str.startswith("neighbour")].assign(log=np.log(rows[loss]))
    first = rows.drop_duplicates("key")
    best = min(zip(first["sources"], first["key"], strict=True), key=lambda pair: walk_length(json.loads(pair[0])))[1]
    (merit,) = [each for each in read_lessons().list_merits(WALK) if each.setting == name]
    assert merit.key == best
    means = rows.groupby("key")["log"].mean()
    draws = rows[rows["strategy"] == drawn]
    assert merit.share == (means[draws["key"].unique()] < means[best]).mean()
    apart = rows[rows["key"] == best].set_index("seed")["log"] - draws.groupby("seed")["log"].mean()
    change = merit.from_draws
    assert change.value == pytest.approx(apart.mean())
    ends = scipy.stats.t.interval(0.95, len(apart) - 1, apart.mean(), scipy.stats.sem(apart))
    assert (change.low, change.high) == pytest.approx(ends)
    setting = read_lessons().settings[name]
    walks = first[first["strategy"] == drawn].set_index("key")["sources"].map(json.loads).map(walk_length)
    assert setting.rho == pytest.approx(scipy.stats.spearmanr(walks, means[walks.index]).statistic)
    assert (setting.n_draws, setting.n_seeds) == (len(walks), draws["seed"].nunique())


def test_means_are_over_data_sets_of_settings_that_say_anything() -> None:
    lessons = read_lessons()
    assert [name for name, each in lessons.settings.items() if not each.is_resolved] == ["colour images 24 log"]
    for choice, pooled in lessons.shares.items():
        merits = lessons.list_merits(choice)
        data = pd.Series([lessons.settings[each.setting].data for each in merits])
        means = pd.Series([each.share for each in merits]).groupby(data).mean()
        assert (pooled.n_settings, pooled.n_data) == (len(merits), len(means))
        assert pooled.value == pytest.approx(means.mean())
        if len(means) > 1:
            half = scipy.stats.t.ppf(0.975, len(means) - 1) * means.std() / math.sqrt(len(means))
            ends = (max(means.mean() - half, 0), min(means.mean() + half, 1))
            assert (pooled.low, pooled.high) == pytest.approx(ends)


def test_the_page_shows_the_file() -> None:
    lessons = read_lessons()
    for heading, merits in (("choice", lessons.merits), ("row", lessons.checks)):
        assert format_merits(heading, merits) in PAGE.read_text()


def _make(name: str, data: str, sign: float, seed: int) -> Trained:
    """Return a setting of 30 patterns whose cost rises, or falls, with the first measure."""
    generator = np.random.default_rng(seed)
    points = generator.standard_normal((30, len(PREDICTORS)))
    costs = sign * points[:, [0]] + 0.1 * generator.standard_normal((30, 3))
    patterns = tuple(random_pattern(9, 100 * seed + number) for number in range(30))
    setting = Setting(name, data, 9, "total:20", 30, 3, 0.001, 0.5)
    return Trained(setting, patterns, ("design",) * 30, np.ones(30, bool), costs, points)


def _find(merits: list[Merit], choice: str) -> Merit:
    return next(each for each in merits if each.choice == choice)


def test_the_model_learns_from_other_data_sets_only() -> None:
    own, alike, other = (_make("a", "one", 1, 1), _make("b", "one", 1, 2), _make("c", "two", -1, 3))
    chosen = _find([*judge(own, [own, alike, other])], MODEL)
    assert chosen.share > 0.8


def test_weights_are_those_of_a_ridge_regression() -> None:
    """X'W(y - Xw) = r w with one r for all measures."""
    settings = [_make("a", "one", 1, 1), _make("b", "two", 1, 2)]
    weights = learn(settings)
    points = np.concatenate([each.points - each.points.mean(axis=0) for each in settings])
    left = points.T @ (np.concatenate([scale(each.means) for each in settings]) - points @ weights)
    ratio = left @ weights / (weights @ weights)
    assert ratio > 0
    assert left == pytest.approx(ratio * weights, abs=1e-4 * np.abs(left).max())


@pytest.mark.slow
def test_the_file_is_what_the_program_says() -> None:
    found = gather([*read_settings()], [*read_checks()], [*read_undertrained()])
    assert _round(found) == _round(json.loads(FILE.read_text()))


def _round(value: Any) -> Any:
    """Return a value with its numbers rounded: another library's sums differ in the last digits."""
    if isinstance(value, dict):
        return {name: _round(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [_round(each) for each in value]
    return float(f"{value:.6g}") if isinstance(value, float) else value
