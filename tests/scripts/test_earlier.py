"""docs/earlier: its trainings are whole, its table is what the program says, and its numbers other formulas' too."""

import re
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import scipy.stats
import statsmodels.api as sm

from analysis.data.results import parse_sources
from analysis.replays.table import read_trained
from search_spaces.distance import describe
from tests.support.small import ROOT

sys.path.insert(0, str(ROOT / "scripts"))
from earlier import FOLDER, NAMES, RATES, STUDIES, format_strata, judge_study, read_study, write_tables

PAGE = (FOLDER / "README.md").read_text()
PLACES = [("digits", 24, "high-lr"), ("digits", 24, "low-lr"), ("digits", 52, "high-lr"), ("digits", 52, "low-lr"),
          ("fashion", 24, "high-lr"), ("fashion", 24, "low-lr"), ("gpu", 24, "lr0.15")]  # fmt: skip


def test_its_strata_are_tables_that_strategies_can_be_replayed_on(tmp_path: Path) -> None:
    write_tables(tmp_path)
    assert len(list(tmp_path.glob("*.csv"))) == len(PLACES)
    table = read_trained(tmp_path / "fashion-24-lr0.05.csv", "loss", ("all",))
    assert (len(table.patterns), len(table.seeds), len(table.list_named())) == (110, 3, 5)
    rows = read_study("fashion")
    rows = rows[(rows["regime"] == "low-lr") & (rows["seed"] == 2)]
    expected = dict(zip(rows["sources"].map(parse_sources), rows["validation_loss"], strict=True))
    found = dict(zip(table.patterns, table.losses[:, table.seeds.index(2)].tolist(), strict=True))
    assert found == pytest.approx(expected)


def test_every_pattern_was_trained_at_every_seed_and_rate() -> None:
    patterns, trainings = (pd.read_csv(FOLDER / f"{name}.csv") for name in ("patterns", "trainings"))
    for study, key, layers, sources in patterns[["study", "key", "layers", "sources"]].itertuples(index=False):
        pattern = parse_sources(sources)
        assert (pattern.key[:12], pattern.depth) == (key, layers), study
    told = re.findall(r"^\| .*? images?, .*? \| (\d+)[^|]* \| (\d) \| (.*) \| ([\d,]+) \|$", PAGE, re.MULTILINE)
    for study, (n_patterns, n_seeds, regimes, n_trainings) in zip(STUDIES, told, strict=True):
        own = patterns[patterns["study"] == study]
        rows = trainings[trainings["study"] == study]
        assert set(Counter(own["layers"]).values()) == {int(n_patterns)}
        counts = Counter(zip(rows["key"], rows["regime"], strict=True))
        assert set(counts.values()) == {int(n_seeds)}
        assert len(counts) == len(own) * (regimes.count(" and ") + 1)
        assert len(rows) == int(n_trainings.replace(",", ""))
        assert not rows[["validation_accuracy", "validation_loss"]].isna().any(axis=None)


@pytest.mark.slow
@pytest.mark.ci
def test_its_table_is_what_the_program_says() -> None:
    strata = [stratum for study in STUDIES for stratum in judge_study(study)]
    assert format_strata(strata) in PAGE
    statuses = Counter(stratum.judgement.status for stratum in strata)
    assert statuses["unresolved"] == 2
    assert not {"supported", "negligible"} & set(statuses)
    (effect,) = (effect for stratum in strata for effect in stratum.judgement.effects if effect.is_detected)
    partial = effect.partial
    assert effect.given == ("walk_length",)
    told = f"({partial.value:+.2f} [{partial.low:+.2f}, {partial.high:+.2f}], p (Holm) {effect.p_holm:.3f})"
    assert told in PAGE


@pytest.mark.parametrize(("study", "layers", "regime"), PLACES)
def test_its_correlations_are_those_of_another_formula(study: str, layers: int, regime: str) -> None:
    rows = read_study(study)
    chosen = rows["strategy"].isin(["random", "design"]) & (rows["layers"] == layers) & (rows["regime"] == regime)
    patterns = rows[chosen].groupby("key").first()
    loss = rows[chosen].groupby("key")["validation_loss"].mean().loc[patterns.index]
    described = [describe(parse_sources(text)) for text in patterns["sources"]]
    distance, span = ([each[name] for each in described] for name in ("mean_bd", "span"))
    ranks = [scipy.stats.rankdata(np.round(column, 12)) / len(loss) for column in (distance, loss, span)]
    held = sm.add_constant(np.column_stack([ranks[2], ranks[2] ** 2]))
    left = [sm.OLS(rank, held).fit().resid for rank in ranks[:2]]
    expected = [np.corrcoef(left)[0, 1]]
    expected += [scipy.stats.spearmanr(patterns[name].round(12), loss)[0] for name in ("walk_length", "visit_evenness")]
    label = f"{NAMES[study]}, {layers} layers, lr {RATES[regime]}"
    (line,) = (line for line in PAGE.splitlines() if line.startswith(f"| {label} |"))
    cells = line.split(" | ")
    told = [float(cells[place].split(" [")[0]) for place in (4, 6, 7)]
    assert told == pytest.approx(expected, abs=0.0051)
    assert len(patterns) == (47 if study == "gpu" else 93)
