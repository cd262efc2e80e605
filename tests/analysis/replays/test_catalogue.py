import re
import tomllib
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

from analysis.data.results import parse_sources
from analysis.replays import catalogue
from analysis.replays.catalogue import FOLDER, find_table, list_tables, load
from analysis.replays.regret import measure_noise
from analysis.replays.table import ANY, read_trained
from search_spaces.errors import InputError
from search_spaces.measures.registry import measure
from tests.support.small import ROOT
from tests.support.synthetic_table import deterministic_accuracies, make_table, write_table

DOCS = ROOT / "docs" / "tables"
CARD = (DOCS / "README.md").read_text()


def test_tables_are_found_by_name_and_others_by_path(tmp_path: Path) -> None:
    assert list_tables() == sorted(path.stem for path in DOCS.glob("*.csv"))
    for name in list_tables():
        assert find_table(Path(name)).resolve() == DOCS / f"{name}.csv"
    own = write_table(tmp_path / "layers-12", make_table(deterministic_accuracies(2)))
    assert find_table(own) == own
    assert find_table(Path("missing.csv")) == Path("missing.csv")  # its reader says that it is not there
    with pytest.raises(InputError, match="no table nowhere; give"):
        load("nowhere")


@pytest.mark.parametrize("name", list_tables())
def test_a_table_is_loaded_whole(name: str) -> None:
    table = load(name)
    written = pd.read_csv(DOCS / f"{name}.csv")
    assert len(table) == len(written)
    assert list(table["key"]) == list(written["key"])
    assert table["validation_loss"].tolist() == written["validation_loss"].tolist()
    first = table.iloc[0]
    pattern = parse_sources(first["sources"])
    assert pattern.key == first["key"]
    assert first["walk_length"] == pytest.approx(measure(pattern, ["walk_length"])["walk_length"])
    assert not table.drop(columns="template").isna().any(axis=None)


def test_a_changed_table_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(catalogue, "FOLDER", tmp_path)
    path = write_table(tmp_path / "small.csv", make_table(deterministic_accuracies(2)))
    assert load("small")["seed"].nunique() == 2
    path.with_suffix(".json").write_text('{"sha256": "0"}')
    with pytest.raises(InputError, match="describes a table of 0"):
        load("small")


def test_an_installed_package_has_all_tables_and_the_card() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    patterns = project["tool"]["setuptools"]["package-data"]["analysis.replays"]
    packed = {path.name for pattern in patterns for path in FOLDER.parent.glob(pattern)}
    assert packed == {path.name for path in DOCS.iterdir() if path.is_file()}


@pytest.mark.parametrize("name", list_tables())
def test_the_card_says_of_each_table_what_is_in_it(name: str) -> None:
    section = " ".join(re.split(rf"^## {name}$", CARD, flags=re.MULTILINE)[1].split("\n## ")[0].split())
    table = read_trained(DOCS / f"{name}.csv", "loss", (ANY,))
    assert f"{len(table.patterns)} patterns x {len(table.seeds)} seeds" in section
    for kind in sorted({*table.strategies}):
        assert f"`{kind}`: {table.strategies.count(kind)}" in section
    assert f"| log validation loss | {_tell_noise(table.list_judged('loss'))} |" in section
    assert f"| validation accuracy | {_tell_noise(table.list_judged('accuracy'))} |" in section


def _tell_noise(values: NDArray[np.float64]) -> str:
    noise = measure_noise(values, 1)
    assert noise is not None
    p_value = "<0.001" if noise.p_value < 0.001 else f"{noise.p_value:.3f}"
    return f"{noise.pattern_sd:.3f} | {noise.training_sd:.3f} | {noise.visible:.2f} | {p_value}"
