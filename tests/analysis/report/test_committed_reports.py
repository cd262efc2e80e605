"""The committed reports are what the program says today."""

import sys

import pytest

from tests.support.small import ROOT

sys.path.insert(0, str(ROOT / "scripts"))
from recompute import recompute


@pytest.mark.parametrize("folder", ["networks/digits", "networks/fashion"])
def test_a_committed_report_says_what_was_recomputed_and_has_no_signed_zero(folder: str) -> None:
    text = (ROOT / "docs" / folder / "report.md").read_text()
    assert text.split("\n\n")[2].startswith("> Recomputed from candidates.csv")
    assert not [cell for line in text.splitlines() for cell in line.split(" ") if cell in ("-0.00", "-0.000", "+0.00")]
    assert "of the validation images right (chance, 1 of 10 classes: 10.0 %)" in text


@pytest.mark.slow
@pytest.mark.parametrize("folder", ["budgets", "networks/digits", "networks/fashion"])
def test_a_committed_report_is_what_the_program_says_today(folder: str) -> None:
    for name, text in recompute(ROOT / "docs" / folder).items():
        if not name.endswith(".svg"):  # whose bytes may differ between versions of matplotlib
            assert text == (ROOT / "docs" / folder / name).read_text()
