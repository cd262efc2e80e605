"""The committed reports: their p-values have a second computation, and they are what the program says today."""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.stats import rankdata

from tests.support.small import ROOT

sys.path.insert(0, str(ROOT / "scripts"))
from recompute import recompute

STUDIES = ("digits", "fashion", "gpu-study")
MEASURES = ("mean_bd", "to_input_mean", "span", "random_walk_depth", "out_degree_sd")


def _strata(study: str) -> list[dict[str, Any]]:
    summary = json.loads((ROOT / "docs" / study / "summary.json").read_text())
    return [one["statistics"] for one in summary["strata"]]


def _permute_inside(ranks: Any, bands: Any, generator: np.random.Generator) -> Any:
    """Shuffle inside bands: sort by band, then by a random key."""
    order = np.lexsort((generator.random(len(ranks)), bands))
    shuffled = np.empty_like(ranks)
    shuffled[np.argsort(bands, kind="stable")] = ranks[order]
    return shuffled


@pytest.mark.parametrize("study", STUDIES)
def test_p_values_inside_bands_are_two_sided_about_the_centre_of_their_null(study: str) -> None:
    table = pd.read_csv(ROOT / "docs" / study / "candidates.csv")
    generator = np.random.default_rng(0)
    for stratum in _strata(study):
        rows = table[
            table["strategy"].isin(["random", "design"])
            & (table["regime"] == stratum["regime"])
            & (table["layers"] == stratum["layers"])
        ].copy()
        rows["loss"] = rows["validation_loss"] - rows.groupby("seed")["validation_loss"].transform("mean")
        patterns = rows.groupby("key").agg(
            {"loss": "mean", "span_bin": "first", "distance_bin": "first", **dict.fromkeys(MEASURES, "first")}
        )
        assert len(patterns) == stratum["n_patterns"]
        ranks = rankdata(patterns["loss"].round(12))
        told = {
            one["measure"]: one["estimate"]["p_value"]
            for one in stratum["effects"]
            if (one["outcome"], one["method"]) == ("validation_loss", "spearman")
        }
        for measure in MEASURES:
            bands = patterns["distance_bin" if measure == "span" else "span_bin"].fillna(-1).to_numpy()
            x = rankdata(patterns[measure].round(12))
            null = np.array([x @ _permute_inside(ranks, bands, generator) for _ in range(600)])
            p_value = np.mean(abs(null - null.mean()) >= abs(x @ ranks - null.mean()))
            assert told[measure] == pytest.approx(p_value, abs=0.08), (stratum["regime"], measure)


@pytest.mark.parametrize("report", sorted((ROOT / "docs").rglob("report.md")), ids=lambda path: path.parent.name)
def test_a_committed_report_says_what_was_recomputed_and_has_no_signed_zero(report: Path) -> None:
    text = report.read_text()
    assert text.split("\n\n")[2].startswith("> Recomputed from candidates.csv")
    assert not [cell for line in text.splitlines() for cell in line.split(" ") if cell in ("-0.00", "-0.000", "+0.00")]
    assert "of the validation images right (chance, 1 of 10 classes: 10.0 %)" in text


@pytest.mark.slow
@pytest.mark.parametrize("folder", [*STUDIES, "networks/digits", "networks/fashion"])
def test_a_committed_report_is_what_the_program_says_today(folder: str) -> None:
    for name, text in recompute(ROOT / "docs" / folder).items():
        if not name.endswith(".svg"):  # whose bytes may differ between versions of matplotlib
            assert text == (ROOT / "docs" / folder / name).read_text()
