"""What the pages say of the study on segmentation follows from its trainings, by other formulas than the program's."""

import json

import numpy as np
import pandas as pd
import pytest
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


@pytest.mark.parametrize(("template", "said"), [("nearest_log_i", "by 0.148 [0.068, 0.229]")])
def test_a_template_is_as_far_from_log_as_the_page_says(template: str, said: str) -> None:
    by_template = TABLE[TABLE["template"].notna()].pivot_table(index="seed", columns="template", values="miou")
    less = (by_template["log"] - by_template[template]).to_numpy()
    half = student.ppf(0.975, len(less) - 1) * less.std(ddof=1) / np.sqrt(len(less))
    assert f"by {less.mean():.3f} [{less.mean() - half:.3f}, {less.mean() + half:.3f}]" == said
    assert said in PAGE
    assert f"by {less.mean():.2f} [{less.mean() - half:.2f}, {less.mean() + half:.2f}] mIoU" in README


def test_every_planned_training_is_there_by_the_plan_that_was_hashed() -> None:
    recorded = json.loads((FOLDER / "plan.json").read_text())
    assert hash_plain(recorded["plan"]) == recorded["sha256"]
    assert recorded["sha256"][:12] in PAGE
    assert len(TABLE) == len(recorded["plan"]["order"]) == 234
    assert set(TABLE["state"]) == {"complete"}
    assert TABLE["params"].nunique() == TABLE["flops"].nunique() == 1
