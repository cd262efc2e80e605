"""The pattern files in docs: made by the tool's writer, checked by its own checks, and what they are said to be."""

from nas.export.export import verify_template
from nas.records.template import read_pattern
from tests.support.small import ROOT

SKIP = ROOT / "docs" / "patterns" / "skip-4-7.json"


def test_the_one_skip_is_from_layer_four_to_layer_seven() -> None:
    pattern = read_pattern(SKIP)
    assert [(source, target) for source, target in pattern.connections if source != target - 1] == [(4, 7)]
    assert pattern.depth == 12


def test_every_claim_of_the_file_holds() -> None:
    assert verify_template(SKIP) == {}
