"""What a table gains a search: the committed replays are what the pages say, and can be made again."""

import csv
import sys

import pytest
from scipy.stats import ttest_1samp

from analysis.replays.catalogue import FOLDER
from analysis.replays.table import read_trained
from tests.support.small import ROOT

COMMITTED = FOLDER / "total-40" / "seeded.csv"


def read_rows() -> list[dict[str, float]]:
    with COMMITTED.open() as stream:
        return [{name: float(value) for name, value in row.items()} for row in csv.DictReader(stream)]


@pytest.mark.parametrize("n_trainings", [10, 20])
def test_the_page_says_what_the_replays_give(n_trainings: int) -> None:
    rows = [row for row in read_rows() if row["trainings"] == n_trainings]
    test = ttest_1samp([row["seeded"] - row["unseeded"] for row in rows], 0)
    low, high = test.confidence_interval(0.95)
    mean = (low + high) / 2
    page = (ROOT / "docs" / "tables" / "README.md").read_text()
    assert f"| {n_trainings} | {mean:+.3f} [{low:+.3f}, {high:+.3f}] |" in page
    assert f"{len(rows)} paired replays" in page


@pytest.mark.slow
def test_a_replay_can_be_made_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    sys.modules.pop("seeded_search", None)
    import seeded_search

    table = read_trained(FOLDER / "total-40.csv", "loss")
    made = seeded_search.replay(table, 0, 1.0, 0.0)
    committed = read_rows()[:2]
    assert [row["trainings"] for row in made] == [10, 20]
    for row, expected in zip(made, committed, strict=True):
        assert row == pytest.approx(expected, abs=1e-5)
    other_level = seeded_search.replay(table, 0, 9.0, 0.0)
    assert other_level == made
