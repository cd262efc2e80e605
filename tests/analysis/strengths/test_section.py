"""The report's part on connection strengths: found where it was planted, and only where trainings have them."""

import json
import re
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import pytest

from analysis.data.results import read_run
from analysis.page.document import Heading, Picture, format_markdown
from analysis.report.findings import find, summarise
from analysis.report.report import write_report
from analysis.report.sections import build_blocks
from analysis.strengths.section import answer
from analysis.strengths.trends import Strengths, Trend
from tests.support.synthetic_run import Weigh, make_run, propose, weigh_by
from tests.support.synthetic_study import make_study, score_by_distance

HEADING = "Connection strengths"


def write(run: Path, weigh: Weigh | None, n_random: int = 12) -> dict[str, str]:
    """The texts of the report of a search of 12 patterns and log, 8 layers, 2 seeds."""
    make_run(run, propose(n_random, ["log"]), lambda p, s: 0.6 - 0.01 * p + 0.01 * s, weigh=weigh)
    return {path.name: path.read_text() for path in write_report(run) if path.suffix != ".png"}


@pytest.fixture(scope="module")
def falling(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return write(tmp_path_factory.mktemp("falling") / "run", weigh_by(-0.2, n_blocks=3))


def test_a_planted_fall_is_said_with_its_interval_patterns_and_seeds(falling: dict[str, str]) -> None:
    report = falling["report.md"]
    summary = json.loads(falling["summary.json"])
    span = summary["strata"][0]["strength_trends"][0]
    assert (span["measure"], span["given"], span["status"]) == ("span", None, "falls")
    told = f"{span['value']:+.2f}, 95 % interval {span['low']:+.2f} to {span['high']:+.2f}"
    assert (
        "Among skips that end at the same layer, over 12 sampled patterns (2 seeds each): Strength falls with span "
        f"(rank correlation {told})." in report
    )
    assert f"| span | {span['value']:+.2f} | {span['low']:+.2f} to {span['high']:+.2f} | falls | 12 | 0 | 5 |" in report
    assert re.search(r"\| detour, given span \| .* \| (not detected|too few) \|", report)
    assert "is no effect on accuracy" in report


def test_where_nothing_was_planted_nothing_is_detected(tmp_path: Path) -> None:
    report = write(tmp_path / "run", weigh_by(0.0, chain=2.0))["report.md"]
    assert "(2 seeds each): No trend with span is detected (rank correlation" in report
    assert not re.search(r"strength (falls|rises) with", report, re.IGNORECASE)


def test_pictures_are_of_the_best_pattern_and_log(falling: dict[str, str]) -> None:
    assert {name for name in falling if name.startswith("strength")} == {"strengths.svg", "strength_arcs.svg"}
    heat_map = " ".join("".join(text.itertext()) for text in ET.fromstring(falling["strengths.svg"]).iter())  # noqa: S314
    best = json.loads(falling["summary.json"])["strata"][0]["best_patterns"][0]
    assert best["template"] == "log"  # the first proposal scores best
    assert "log (best)" in heat_map
    assert "1 pattern x 2 seeds" in heat_map  # of the picture, not of the stratum
    assert falling["strength_arcs.svg"].count("<path") == sum(len(inputs) - 1 for inputs in best["sources"])
    assert "wider and darker: stronger" in falling["strength_arcs.svg"]
    assert "wider and darker" not in falling[f"arcs_{best['key'][:12]}.svg"]
    assert falling["report.md"].index("Learning curves") < falling["report.md"].index(HEADING)


def test_nothing_is_said_where_no_training_has_strengths(tmp_path: Path) -> None:
    for name, weigh in (("older", None), ("large", lambda _pattern, _seed: [])):
        texts = write(tmp_path / name, weigh, n_random=1)
        assert HEADING not in texts["report.md"] + texts["index.html"]
        assert not any(file.startswith("strength") for file in texts)
        assert json.loads(texts["summary.json"])["strata"][0]["strength_trends"] is None


def test_a_run_that_went_on_with_strengths_shows_the_patterns_that_have_them(tmp_path: Path) -> None:
    proposals = propose(4)
    newer = {pattern.key for _, _, pattern in proposals[2:]}
    weigh = weigh_by(0.0)
    run = tmp_path / "run"
    make_run(
        run, proposals, lambda p, _s: 0.6 - 0.01 * p, weigh=lambda p, seed: weigh(p, seed) if p.key in newer else []
    )
    texts = {path.name: path.read_text() for path in write_report(run) if path.suffix != ".png"}
    assert (
        "Too few to say whether strength falls with span or detour: 2 sampled patterns (2 seeds each)."
        in (texts["report.md"])
    )
    assert f"<title>{proposals[2][2].key[:12]}: 8 layers" in texts["strength_arcs.svg"]
    assert "(best)" not in texts["strength_arcs.svg"] + texts["strengths.svg"]


def test_each_stratum_of_a_study_has_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings: dict[str, Any] = {"regime": ("one=lr:0.1", "two=lr:0.05"), "per_cell": 2, "optima": 1, "seeds": 1}
    findings = find(read_run(make_study(tmp_path / "run", score_by_distance, weigh=weigh_by(-0.1), **settings)))
    monkeypatch.setattr("analysis.report.sections.build_stratum", lambda _, view: [Heading(2, view.name)])
    blocks = [*build_blocks(findings)]
    headings = [block.text for block in blocks if isinstance(block, Heading)]
    assert headings[2:6] == ["12 layers, one", HEADING, "12 layers, two", HEADING]
    files = [block.file for block in blocks if isinstance(block, Picture) and block.file.startswith("strength")]
    names = ("strengths_12-layers", "strength_arcs_12-layers")
    assert files == [f"{name}-{regime}.svg" for regime in ("one", "two") for name in names]
    report = format_markdown(blocks)
    assert report.count("nor were these tests declared") == report.count(f"### {HEADING}") == 2
    for view in findings.views:
        assert view.strengths is not None
        assert view.strengths.trends[0].status == "falls"
        assert len(view.strengths.sampled) == view.stratum.n_patterns < len(view.patterns)


def trend(low: float | None, high: float | None, given: str | None = None) -> Trend:
    value = None if low is None or high is None else (low + high) / 2
    return Trend("detour", given, value, low, high, 12, 0, 9)


@pytest.mark.parametrize(
    ("one", "words"),
    [
        (trend(-0.4, -0.2), "Strength falls with detour (rank correlation -0.30, 95 % interval -0.40 to -0.20)"),
        (trend(0.2, 0.4, "span"), "Given span, strength rises with detour (rank correlation +0.30, 95 % interval"),
        (trend(-0.1, 0.3), "No trend with detour is detected (rank correlation +0.10, 95 % interval -0.10 to +0.30)"),
        (trend(None, None), "Too few to say whether strength falls with detour."),
    ],
)
def test_every_status_has_its_words(one: Trend, words: str) -> None:
    keys = ("a", "b")
    found = Strengths({}, {"a": 1, "b": 3}, keys, (trend(-0.2, 0.2, "span"), one), None)
    assert answer(found).startswith(
        "Among skips that end at the same layer, over 2 sampled patterns (1 to 3 seeds each)"
    )
    assert words in answer(found)


def test_trends_of_the_summary_are_those_of_the_findings(tmp_path: Path) -> None:
    make_run(tmp_path / "run", propose(10), lambda p, _s: 0.5 + 0.01 * p, weigh=weigh_by(-0.2))
    findings = find(read_run(tmp_path / "run"))
    (view,) = findings.views
    assert view.strengths is not None
    told = summarise(findings)["strata"][0]["strength_trends"]
    assert [one["value"] for one in told] == [trend.value for trend in view.strengths.trends]
    assert [one["status"] for one in told] == [trend.status for trend in view.strengths.trends]
