"""docs/race: what it says of the reports' claims is what was measured, by a formula that planted claims obey."""

import json
import math
import sys

import numpy as np
import pytest

from tests.support.small import ROOT

sys.path.insert(0, str(ROOT / "scripts"))
from strategy_race import measure_miss, summarise_claims

FOLDER = ROOT / "docs" / "race"
LEVEL, GEOMETRIC = "expected loss of the pick", "pick less geometric"


def test_a_miss_counts_the_errors_of_claim_and_judges() -> None:
    miss, sd = measure_miss(np.array([0.5, 0.5 - 1.96 * 0.3, 0.5 + 1.96 * 0.3]), np.array([0.0, 0.2, 0.4]))
    assert miss == pytest.approx(0.3)
    assert sd == pytest.approx(math.sqrt(0.3**2 + 0.2**2 / 3), rel=1e-4)


def test_of_claims_with_right_intervals_19_in_20_hold() -> None:
    generator = np.random.default_rng(0)
    misses = [measure_miss(np.array([claim, claim - 1.96, claim + 1.96]), generator.normal(size=50))
              for claim in generator.normal(size=400)]  # fmt: skip
    summary = summarise_claims(misses)
    assert 0.92 < summary["held"] / summary["claims"] < 0.98
    assert summary["scaled_miss"] == pytest.approx(1, abs=0.1)
    assert summarise_claims([(miss + 3, sd) for miss, sd in misses])["held"] < 0.3 * summary["claims"]


def test_the_page_says_what_was_measured() -> None:
    page = " ".join((FOLDER / "README.md").read_text().split())
    both = [json.loads((FOLDER / f"{name}.json").read_text())["claims"] for name in ("total-40", "total-60-32")]
    held, made = (sum(claims[LEVEL][what] for claims in both) for what in ("held", "claims"))
    assert f"In {held} of {made} searches (12 of each setting)" in page
    held, made = (sum(claims[GEOMETRIC][what] for claims in both) for what in ("held", "claims"))
    assert f"held too, in {held} of {made}" in page
    first, second = (f"{claims[LEVEL]['scaled_miss']:.1f}" for claims in both)
    assert f"the misses were {first} and {second} standard deviations" in page
    assert {f"{claims[LEVEL]['mean_miss']:.2f}" for claims in both} == {"0.07"} and "0.07 too high" in page
