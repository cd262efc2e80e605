"""What is said of a choice is what the committed evidence says, and no more."""

import pytest

from analysis.recommend.evidence import DISTANCE, MODEL, WALK, read_lessons
from analysis.recommend.options import find_options
from analysis.recommend.reasons import give_reason, list_caveats, recommend_first
from search_spaces.budget import parse_budget
from search_spaces.sampling.bounds import certify


def test_the_order_is_what_the_evidence_supports() -> None:
    """The sentences say so without a condition: if the evidence changes, they must."""
    lessons = read_lessons()
    walk, distance, apart = lessons.shares[WALK], lessons.shares[DISTANCE], lessons.model_less_walk
    model = lessons.shares[MODEL]
    assert model.high is not None and model.high < 0.5  # shown to be better than an average draw
    assert walk.high is not None and walk.high < 0.5
    assert distance.high is not None and distance.high > 0.5  # not shown
    assert apart.low is not None and apart.high is not None and apart.low < 0 < apart.high  # neither is better
    assert all(merit.from_draws.value < 0 for merit in lessons.list_merits(WALK))
    assert lessons.rho.low is not None and lessons.rho.low > 0
    assert min(setting.rho for setting in lessons.undertrained) < 0


def test_the_advice_has_its_interval() -> None:
    share = read_lessons().shares[MODEL]
    said = recommend_first(find_options(parse_budget("log", 5)))
    assert f"{100 * (1 - share.value):.0f} % [{100 * (1 - (share.high or 0)):.0f}, 100]" in said


@pytest.mark.parametrize(
    ("layers", "budget", "said"),
    [
        (5, "log", "Nothing was measured at 5 layers, only at 12, 24, 40 and 52."),
        (12, "total:28", "Nothing was measured at this budget, but at this depth: text 12 total:26 and digits 12"),
        (12, "total:26", "This depth and budget were measured: text 12 total:26."),
    ],
)
def test_what_was_not_measured_is_said(layers: int, budget: str, said: str) -> None:
    assert said in recommend_first(find_options(parse_budget(budget, layers)))


@pytest.mark.parametrize(("layers", "budget"), [(1, "log"), (2, "log"), (6, "total:6"), (6, "total:21")])
def test_nothing_is_claimed_for_a_choice_of_one(layers: int, budget: str) -> None:
    options = find_options(parse_budget(budget, layers))
    (option,) = options.options
    for said in (recommend_first(options), give_reason(option, options)):
        assert "beats" not in said
        assert "expect" not in said
    assert "no other pattern" in recommend_first(options)


def test_every_row_has_a_reason_of_its_own() -> None:
    options = find_options(parse_budget("total:28", 12))
    reasons = {option.label: give_reason(option, options) for option in options.options}
    assert len(set(reasons.values())) == len(options.options)
    for option in options.options:
        for merit in read_lessons().list_merits(option.name or ""):
            assert f"{merit.setting}: beats {100 * (1 - merit.share):.0f} %" in reasons[option.label]
        if option.name is not None:
            assert "at other budgets" in reasons[option.label] or "none of the settings" in reasons[option.label]
        if DISTANCE in option.roles:
            assert certify(option.pattern, options.budget).gap == 0
            assert "proven" in reasons[option.label]
    assert "not told apart" in reasons["shortest_walk"]


@pytest.mark.parametrize(("budget", "said"), [("log", "No pattern of this budget has"), ("total:8", "The shortest")])
def test_only_a_budget_by_layer_proves_the_shortest_walk(budget: str, said: str) -> None:
    options = find_options(parse_budget(budget, 5))
    (walk,) = [option for option in options.options if option.name == "shortest_walk"]
    assert said in give_reason(walk, options)


def test_what_could_not_be_told_is_said() -> None:
    caveats = " ".join(list_caveats())
    assert "colour images 24 log" in caveats
    assert f"{read_lessons().rho.value:+.2f} [" in caveats


def test_what_was_trained_afterwards_is_what_the_page_says() -> None:
    lessons = read_lessons()
    checks = {(merit.choice, merit.setting): merit for merit in lessons.checks}
    own = [checks[MODEL, setting] for setting in lessons.checked]
    assert list(lessons.checked) == ["digits 24 log", "digits 40 log", "digits 40 total:60"]
    assert all(merit.from_log is None or (merit.from_log.high or 0) < 0 for merit in own)
    assert [(merit.from_draws.high or 0) < 0 for merit in own] == [False, False, True]
    walks = [checks["shortest_walk", setting].from_draws for setting in lessons.checked]
    assert [(change.high or 0) < 0 for change in walks] == [False, False, True]
