"""The report's part on connection strengths: found where it was planted, and only where trainings have them."""

import re
import xml.etree.ElementTree as ET
from itertools import product

import pytest

from analysis.page.document import Block, Heading, Picture, format_markdown
from analysis.strengths.section import answer_strengths, build_strengths
from analysis.strengths.trends import ConnectionStrengths, Trend, analyse_strengths, summarise_trends
from search_spaces.seeds import derive_generator
from tests.support.synthetic_run import Proposal, Weigh, make_candidates, propose, weigh_by


def measure(weigh: Weigh, proposals: list[Proposal] | None = None) -> ConnectionStrengths:
    """Of a search of 12 patterns and log, 8 layers, 2 seeds; the earlier a proposal, the better."""
    proposals = proposals or propose(12, ["log"])
    score = lambda place, seed: 0.6 - 0.01 * place + 0.01 * seed  # noqa: E731
    candidates = make_candidates(proposals, score, ["log"] * len(proposals))
    trainings = enumerate(product((pattern for _, _, pattern in proposals), (0, 1)))
    weighed = {number: weigh(pattern, seed) for number, (pattern, seed) in trainings}
    recorded = {number: tuple(map(tuple, blocks)) for number, blocks in weighed.items() if blocks}
    strengths = analyse_strengths(candidates, recorded, derive_generator("section"))
    assert strengths is not None
    return strengths


@pytest.fixture(scope="module")
def falling() -> ConnectionStrengths:
    return measure(weigh_by(-0.2, n_blocks=3))


@pytest.fixture(scope="module")
def blocks(falling: ConnectionStrengths) -> list[Block]:
    return [*build_strengths(falling, "a caption")]


def test_a_planted_fall_is_said_with_its_interval_patterns_and_seeds(
    falling: ConnectionStrengths, blocks: list[Block]
) -> None:
    report = format_markdown(blocks)
    span = falling.trends[0]
    assert (span.measure, span.given, span.status) == ("span", None, "falls")
    interval = f"{span.low:+.2f} to {span.high:+.2f}"
    assert (
        "Among skips that end at the same layer, over 12 sampled patterns (2 seeds each): Strength falls with span "
        f"(rank correlation {span.value:+.2f}, 95 % interval {interval})." in report
    )
    assert f"| span | {span.value:+.2f} \\[{span.low:+.2f}, {span.high:+.2f}\\] | falls | 12 | 0 | 5 |" in report
    assert re.search(r"\| detour, given span \| .* \| (not detected|too few) \|", report)
    assert "is no effect on accuracy" in report


def test_where_nothing_was_planted_nothing_is_detected() -> None:
    # In one of 12 patterns no trend with detour is defined, and 11 are too few to say anything of it.
    strengths = measure(weigh_by(0.0, chain=2.0), propose(16, ["log"]))
    assert [trend.status for trend in strengths.trends] == ["not_detected"] * 4
    answer = answer_strengths(strengths)
    assert "(2 seeds each): No trend with span is detected (rank correlation" in answer
    assert not re.search(r"strength (falls|rises) with", answer, re.IGNORECASE)


def test_pictures_are_of_the_best_pattern_and_log(falling: ConnectionStrengths, blocks: list[Block]) -> None:
    heat_map, arcs = (block for block in blocks if isinstance(block, Picture))
    assert (heat_map.file, arcs.file) == ("strengths.svg", "strength_arcs.svg")
    words = " ".join("".join(text.itertext()) for text in ET.fromstring(heat_map.svg).iter())  # noqa: S314
    assert "log (best)" in words  # the first proposal scores best
    assert "a caption" in words
    assert falling.shown[["template", "n_seeds"]].to_numpy().tolist() == [["log", 2]]
    best = propose(0, ["log"])[0][2]
    assert arcs.svg.count("<path") == best.n_connections - best.depth
    assert "wider and darker: stronger" in arcs.svg


def test_a_run_that_went_on_with_strengths_shows_the_patterns_that_have_them() -> None:
    proposals = propose(4)
    newer = {pattern.key for _, _, pattern in proposals[2:]}
    weigh = weigh_by(0.0)
    strengths = measure(lambda pattern, seed: weigh(pattern, seed) if pattern.key in newer else [], proposals)
    assert "Too few to say whether strength falls with span or detour: 2 sampled patterns (2 seeds each)." in (
        answer_strengths(strengths)
    )
    heat_map, arcs = (block.svg for block in build_strengths(strengths, "") if isinstance(block, Picture))
    assert f"<title>{proposals[2][2].key[:12]}: 8 layers" in arcs
    assert "(best)" not in arcs + heat_map


def test_each_stratum_of_a_study_has_its_own(falling: ConnectionStrengths) -> None:
    blocks = [*build_strengths(falling, "", "12 layers, one", is_planned=True)]
    assert blocks[0] == Heading(3, "Connection strengths")
    files = [block.file for block in blocks if isinstance(block, Picture)]
    assert files == ["strengths_12-layers-one.svg", "strength_arcs_12-layers-one.svg"]
    assert "nor were these tests declared" in format_markdown(blocks)


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
def test_every_status_has_its_words(falling: ConnectionStrengths, one: Trend, words: str) -> None:
    trends = (trend(-0.2, 0.2, "span"), one)
    strengths = ConnectionStrengths({}, {"a": 1, "b": 3}, ("a", "b"), trends, None, falling.shown, "a")
    answer = answer_strengths(strengths)
    assert answer.startswith("Among skips that end at the same layer, over 2 sampled patterns (1 to 3 seeds each)")
    assert words in answer


def test_the_summary_has_every_trend(falling: ConnectionStrengths) -> None:
    summary = summarise_trends(falling)
    assert summary is not None
    assert [each["value"] for each in summary] == [trend.value for trend in falling.trends]
    assert [each["status"] for each in summary] == [trend.status for trend in falling.trends]
    assert summarise_trends(None) is None
