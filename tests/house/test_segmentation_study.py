"""What the pages say of the study on segmentation follows from its trainings, by other formulas than the program's."""

import json

import numpy as np
import pandas as pd
from scipy.stats import t as student

from nas.records.trial import hash_plain
from tests.support.partial import find_partial
from tests.support.small import ROOT

FOLDER = ROOT / "docs" / "segmentation" / "layers-20"
PAGE, README = (" ".join((ROOT / path).read_text().split()) for path in ("docs/segmentation/README.md", "README.md"))
TABLE = pd.read_csv(FOLDER / "candidates.csv")


def test_the_partial_correlations_are_those_of_the_trainings() -> None:
    sample = TABLE[TABLE["strategy"] == "design"].copy()
    sample["centred"] = sample["miou"] - sample.groupby("seed")["miou"].transform("mean")
    patterns = sample.groupby("key")[["centred", "miou", "walk_length", "visit_evenness", "mean_bd", "span"]].mean()
    assert len(patterns) == 72
    first = find_partial(patterns, "walk_length", "centred", ("visit_evenness", "mean_bd"))
    second = find_partial(patterns, "mean_bd", "centred", ("walk_length", "visit_evenness"))
    spanned = find_partial(patterns, "walk_length", "centred", ("span",))
    assert f"visit evenness and mean BD held | {first:+.2f} [" in PAGE
    assert f"walk length and visit evenness held | {second:+.2f} [" in PAGE
    assert f"walk length, span held | {spanned:+.2f} [" in PAGE
    assert f"a lower mIoU, {first:+.2f} [" in README
    miou = patterns["miou"]
    assert f"| {miou.min():.2f} to {miou.max():.2f}, median {miou.median():.3f} |" in PAGE


def _format_less(first: pd.Series, second: pd.Series, digits: int) -> str:
    """How much less the second has, paired by seed, with its 95 % interval, as the pages write it."""
    less = (first - second).to_numpy()
    half = student.ppf(0.975, len(less) - 1) * less.std(ddof=1) / np.sqrt(len(less))
    return f"{less.mean():.{digits}f} [{less.mean() - half:.{digits}f}, {less.mean() + half:.{digits}f}]"


def test_the_nearest_layers_are_as_far_from_log_as_the_pages_say() -> None:
    by_template = TABLE[TABLE["template"].notna()].pivot_table(index="seed", columns="template", values="miou")
    log, nearest = by_template["log"], by_template["nearest_log_i"]
    assert f"by {_format_less(log, nearest, 3)}" in PAGE
    assert f"by {_format_less(log, nearest, 2)} mIoU" in README


def test_the_figures_of_photographs_are_those_of_the_trainings() -> None:
    photos = pd.read_csv(FOLDER.parent / "camvid.csv")
    miou = photos.set_index(["name", "lr", "seed"]).sort_index()["test_miou"]
    log, nearest, paper = miou["log", 0.2], miou["nearest", 0.2], miou["fc-densenet", 0.05]
    assert f"test mIoU of `log` is {_format_less(log, 0 * log, 3)}, of the nearest" in PAGE
    assert f"layers {_format_less(log, nearest, 3)} less, paired by seed" in PAGE
    assert f"it reached {_format_less(paper, 0 * paper, 3)}, which is {_format_less(log, paper, 3)} less" in PAGE
    assert f"by {_format_less(log, nearest, 3)} on small photographs" in README
    diverged = photos[photos["error"].notna()]
    assert list(zip(diverged["name"], diverged["lr"], strict=True)) == [("fc-densenet", 0.2)] * 2
    assert f"reached {miou['fc-densenet', 0.2, 0]:.3f} with the third" in PAGE
    assert len(photos) == 12


def test_every_planned_training_is_there_by_the_plan_that_was_hashed() -> None:
    recorded = json.loads((FOLDER / "plan.json").read_text())
    assert hash_plain(recorded["plan"]) == recorded["sha256"]
    assert recorded["sha256"][:12] in PAGE
    assert len(TABLE) == len(recorded["plan"]["order"]) == 234
    assert set(TABLE["state"]) == {"complete"}
    assert TABLE["params"].nunique() == TABLE["flops"].nunique() == 1
