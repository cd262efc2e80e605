"""What the report and the terminal say of a search: what was found, and never more than the intervals."""

from dataclasses import replace

import pytest

from analysis.data.outcomes import OUTCOMES, Objective
from analysis.data.results import Run
from analysis.page.document import Block, Heading, Paragraph, Picture, Table, walk_blocks
from analysis.picks.expect import Expected, Gain
from analysis.picks.found import Found, judge_search
from analysis.picks.section import N_SHOWN, build_picks
from analysis.picks.words import answer_found, describe_gain, list_answers
from analysis.report.report import compose_report
from analysis.study.stratum import analyse_candidates
from analysis.tradeoff.contenders import FOUND, list_contenders
from tests.support.synthetic_run import Proposal, propose
from tests.support.synthetic_search import make_search, plant_loss

NAMED = propose(14, ["log", "nearest_log_i"])
N_SEEDS = [3, 1, 1, 1, 4, 2, *[1] * 10]


def _steer(proposals: list[Proposal]) -> list[Proposal]:
    return [(name, "model" if name is None else strategy, pattern) for name, strategy, pattern in proposals]


def _train(proposals: list[Proposal], **config: object) -> Run:
    losses = {
        place: [plant_loss(pattern, seed) for seed in range(n)]
        for place, ((_, _, pattern), n) in enumerate(zip(proposals, N_SEEDS, strict=False))
    }
    return make_search(proposals, losses, **config)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def steered() -> Run:
    return _train(_steer(NAMED), objective="loss", strategy="model")


@pytest.fixture(scope="module")
def found(steered: Run) -> Found:
    (only,) = judge_search(steered)
    return only


def _texts(blocks: list[Block]) -> str:
    return " ".join(block.text for block in walk_blocks(blocks) if isinstance(block, Heading | Paragraph))


def test_the_answer_names_the_pick_and_what_it_gained(found: Found) -> None:
    answer = answer_found(found)
    expected = found.pick.expected
    assert expected is not None
    assert answer.startswith(f"The search found {found.pick.name if found.pick.template is None else 'template'}")
    assert f"{expected.value:.3f} [{expected.low:.3f}, {expected.high:.3f}]" in answer
    assert "template log" in answer
    assert "a random draw" in answer
    assert list_answers([found]) == [answer]
    assert list_answers([found, found])[0] == f"8 layers, log: {answer}"


OF = Expected(0.5, 0.4, 0.6)


@pytest.mark.parametrize(
    ("gain", "words"),
    [
        (Gain(-0.1, -0.2, -0.05, 0.99, OF), "10 % [5, 20] lower loss than X, chance 99 %"),
        (Gain(-0.1, -0.2, 0.01, 0.96, OF), "not told apart from X: 10 % [-1, 20] lower loss, chance 96 %"),
        (Gain(0.1, 0.05, 0.2, 0.001, OF), "10 % [5, 20] higher loss than X, chance under 1 %"),
        (Gain(0.1, -0.05, 0.2, 0.2, OF), "not told apart from X: 10 % [-5, 20] higher loss, chance 20 %"),
    ],
)
def test_a_difference_whose_interval_holds_none_is_not_claimed(gain: Gain, words: str) -> None:
    assert describe_gain(gain, "X", Objective(OUTCOMES[0])) == words


def test_a_pick_that_is_log_is_not_compared_with_itself(steered: Run) -> None:
    is_log = steered.candidates["template"] == "log"
    better = steered.candidates["validation_loss"].where(~is_log.fillna(False), 0.01)
    (found,) = judge_search(replace(steered, candidates=steered.candidates.assign(validation_loss=better)))
    assert found.pick.template == "log"
    assert found.pick.chance_better_than_log is None
    assert "The search found template log: " in answer_found(found)
    assert "than template log" not in answer_found(found)


def test_what_another_seed_changes_is_called_assumed_where_no_pattern_was_trained_twice(found: Found) -> None:
    once = replace(found, ranked=tuple(replace(each, n_trainings=1) for each in found.ranked))
    assert "no pattern was trained twice" in answer_found(once)
    assert "no pattern was trained twice" not in answer_found(found)


def test_fallbacks_say_why(steered: Run) -> None:
    (few,) = judge_search(_train(NAMED[:5], objective="loss"))
    assert "it takes 8 patterns to say what to expect at a new seed, and there are 5" in answer_found(few)
    assert f"The best mean is that of {'template ' if few.pick.template else ''}" in answer_found(few)
    (unlearned,) = judge_search(replace(steered, largest_class=0.99))
    assert answer_found(unlearned) == "No pattern is recommended: the networks have learned nothing."
    assert not any(isinstance(block, Table | Picture) for block in build_picks([unlearned]))
    (many,) = judge_search(steered)
    assert "at most 3,000 trainings" in answer_found(
        replace(many, basis="many", ranked=(replace(many.pick, expected=None), *many.ranked[1:]))
    )


def test_the_table_has_the_best_ten_in_order(found: Found) -> None:
    blocks = list(build_picks([found]))
    (table,) = [block for block in blocks if isinstance(block, Table)]
    assert len(table.rows) == N_SHOWN
    for row, ranked in zip(table.rows, found.ranked, strict=False):
        assert ranked.key[:12] in row[1]
        assert ranked.expected is not None
        assert float(row[2].partition(" ")[0]) == pytest.approx(ranked.expected.value, abs=0.005)
        assert row[-3] == str(ranked.n_trainings)
    assert table.header[3] == "better than log"
    assert table.keys == tuple(ranked.key for ranked in found.ranked[:N_SHOWN])
    assert "2 patterns by templates in 4 trainings and 14 patterns by model in" in _texts(blocks)


def test_the_figure_has_the_best_the_templates_and_a_random_draw(found: Found) -> None:
    (picture,) = [block for block in build_picks([found]) if isinstance(block, Picture)]
    assert picture.file == "found.svg"
    for ranked in found.ranked[:N_SHOWN]:
        assert ranked.name in picture.svg
    assert "nearest_log_i" in picture.svg
    assert "a random draw" in picture.svg


@pytest.mark.slow
def test_a_page_of_a_search_that_learned_computes_no_correlation(steered: Run) -> None:
    report = compose_report(steered)
    text = _texts(list(report.blocks))
    first = next(block for block in report.blocks if isinstance(block, Paragraph) and block.kind == "answer")
    assert first.text == report.conclusion.sentence
    assert "What was found" in text
    assert "No correlation is computed" in text
    assert "Too few patterns" not in text
    assert "Templates at equal budget" not in text  # their seeds differ in what else was trained with them


def test_only_uniform_draws_are_a_sample() -> None:
    """Proposals of a model and wide draws are left out of every statistic of a stratum, and counted."""
    proposals = propose(12, ["log"])
    mixed = [
        (
            name,
            {0: "model", 1: "random:wide", 2: "random halved"}.get(place % 6, strategy) if name is None else strategy,
            p,
        )
        for place, (name, strategy, p) in enumerate(proposals)
    ]
    losses = {place: [plant_loss(pattern, seed) for seed in (0, 1)] for place, (_, _, pattern) in enumerate(mixed)}
    (stratum,) = analyse_candidates(make_search(mixed, losses).candidates).strata
    assert set(stratum.used) == {"random"}
    assert stratum.n_patterns == stratum.used["random"] == 6
    assert set(stratum.left_out) == {"templates", "model", "random:wide", "random halved"}


def test_where_outcomes_chose_the_seeds_the_pick_stands_for_what_was_found(steered: Run, found: Found) -> None:
    complete = steered.candidates
    series = {each.family: each for each in list_contenders(complete, complete, [found])}
    best = next(ranked for ranked in found.ranked if ranked.template is None)
    assert series[FOUND].pattern == best.key[:12]
    assert series[FOUND].is_own_mean
    own = complete.loc[complete["key"] == best.key, "validation_accuracy"]
    assert series[FOUND].picked == pytest.approx(float(own.mean()))
    assert "random (mean)" not in series
