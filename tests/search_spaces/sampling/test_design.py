"""The crossed design: every pattern lies where its member says, by networkx, and no pattern is there twice."""

import itertools
import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from functools import cache

import numpy as np
import pytest

from search_spaces.budget import Budget, log_budget, parse_budget
from search_spaces.distance import backprop_distance
from search_spaces.errors import InputError
from search_spaces.pattern import ConnectionPattern
from search_spaces.sampling.bounds import certify
from search_spaces.sampling.design import BAND_HALF_WIDTH, FARTHEST, NEAREST, Design, Layout, Member, lay_out
from search_spaces.sampling.draw import sample_uniform
from search_spaces.sampling.optimal import optimize
from search_spaces.seeds import derive_generator
from search_spaces.templates import iterate_templates
from tests.support.patterns import measure_means

MANY = Layout(
    n_distance_bins=4, n_span_bins=3, per_cell=2, optima=3, uniform=5, reversals=True, optimum_seconds=1.0
)  # fmt: skip
FEW = Layout(
    n_distance_bins=2, n_span_bins=2, per_cell=1, optima=2, uniform=2, reversals=True, optimum_seconds=0.3
)  # fmt: skip
CASES = ["total:37", "log", "total:28", "total:37 from_output", "total:37;max-in:5;max-out:6 from_output"]
HAIR = 1e-9


@cache
def design_of(case: str) -> Design:
    """At 12 layers, with the named templates."""
    text, _, distance = case.partition(" ")
    budget = parse_budget(text, 12)
    return lay_out(budget, replace(MANY, distance=distance or "mean_bd"), list(iterate_templates(budget)))


def members(design: Design, strategy: str) -> list[Member]:
    return [member for member in design.members if member.strategy == strategy]


def by_key(design: Design) -> dict[str, Member]:
    return {member.pattern.key: member for member in design.members}


def correlate(patterns: list[ConnectionPattern]) -> float:
    rows = [measure_means(pattern) for pattern in patterns]
    return float(np.corrcoef([row["mean_bd"] for row in rows], [row["span"] for row in rows])[0, 1])


@pytest.fixture(scope="module", autouse=True)
def _few_moves() -> Iterator[None]:
    """Look for the ends of what a budget reaches by fewer moves than in a study."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("search_spaces.sampling.design.REACH_MOVES", 60_000)
        yield


each_case = pytest.mark.parametrize("case", CASES)


@each_case
def test_every_pattern_spends_the_budget_and_is_there_once(case: str) -> None:
    design = design_of(case)
    assert len({member.pattern for member in design.members}) == len(design.members)
    for member in design.members:
        assert member.pattern.depth == 12
        assert design.budget.is_met_by(member.pattern)
        if case.startswith("total"):
            assert member.pattern.n_connections == int(case[6:8])
        if "max" in case:
            assert max(member.pattern.in_degrees) <= 5
            assert max(member.pattern.out_degrees) <= 6
    if case == "log":
        assert {member.pattern.in_degrees for member in design.members} == {(1, 2, 2, 3, 3, 3, 3, 4, 4, 4, 4, 4)}


@each_case
def test_designed_patterns_lie_in_their_bin_and_band(case: str) -> None:
    design = design_of(case)
    name = case.partition(" ")[2] or "mean_bd"
    for member in members(design, "design"):
        row = measure_means(member.pattern)
        assert member.distance_bin is not None
        assert member.span_bin is not None
        low, high = design.distance_bins[member.distance_bin]
        assert low - HAIR <= row[name] <= high + HAIR
        low, high = design.span_bands[member.span_bin]
        assert low - HAIR <= row["span"] <= high + HAIR
    others = [member for member in design.members if member.strategy != "design"]
    assert {(member.distance_bin, member.span_bin) for member in others} == {(None, None)}


@each_case
def test_each_cell_has_what_was_asked_or_is_listed_as_lacking(case: str) -> None:
    design = design_of(case)
    counts = Counter((member.distance_bin, member.span_bin) for member in members(design, "design"))
    lacking = {(distance, span): n for distance, span, n in design.lacking}
    assert 0 not in lacking.values()
    for place in itertools.product(range(4), range(3)):
        assert counts[place] + lacking.get(place, 0) == 2
    assert sum(counts.values()) >= 18


@each_case
def test_bins_tile_the_window_and_bands_are_narrow_and_in_equal_ratios(case: str) -> None:
    design = design_of(case)
    assert len(design.distance_bins) == 4
    for lower, upper in itertools.pairwise(design.distance_bins):
        assert lower[1] == upper[0]
        assert upper[1] - upper[0] == pytest.approx(lower[1] - lower[0])
    centres = [(low + high) / 2 for low, high in design.span_bands]
    assert centres[1] / centres[0] == pytest.approx(centres[2] / centres[1])
    assert centres[2] >= 1.2 * centres[0]
    for (low, high), centre in zip(design.span_bands, centres, strict=True):
        assert (low, high) == pytest.approx(((1 - BAND_HALF_WIDTH) * centre, (1 + BAND_HALF_WIDTH) * centre))


@pytest.mark.parametrize("case", [case for case in CASES if "from_output" not in case])
def test_the_window_starts_just_above_the_least_distance(case: str) -> None:
    design = design_of(case)
    least = min(measure_means(member.pattern)["mean_bd"] for member in design.members)
    assert design.distance_bins[0][0] == pytest.approx(NEAREST * least)
    assert any(design.distance_bins[-1][1] == pytest.approx(factor * least) for factor in FARTHEST)


@pytest.mark.parametrize("case", CASES[:3])
def test_optima_are_certified_where_the_bound_is_met(case: str) -> None:
    """At these budgets two hops are enough between any two layers."""
    design = design_of(case)
    budget = design.budget
    optima = members(design, "optimum")
    matched = {member.matched for member in members(design, "control")}
    assert len(optima) >= 2
    assert {member.pattern.key for member in optima} & matched
    for key in {member.pattern.key for member in optima} | {key for key in matched if key is not None}:
        pattern = by_key(design)[key].pattern
        assert measure_means(pattern)["max_bd"] == 2
        assert measure_means(pattern)["mean_bd"] == pytest.approx(2 - budget.n_connections / 78)
        assert certify(pattern, budget).status == "optimal"


def test_where_the_bound_is_met_longer_patterns_are_no_optima(monkeypatch: pytest.MonkeyPatch) -> None:
    """A second search that ends short of the bound."""
    budget = Budget(10, total=26)
    shortest = optimize(budget)
    longer = replace(shortest, pattern=sample_uniform(budget, derive_generator("longer")))
    found = iter([shortest, longer])
    monkeypatch.setattr("search_spaces.sampling.design.optimize", lambda *_: next(found))
    monkeypatch.setattr("search_spaces.sampling.design._draw_certified", lambda *_: None)
    design = lay_out(budget, replace(FEW, distance_window=(1.6, 2.0), span_window=(3.0, 4.0)), [])
    assert certify(longer.pattern, budget).gap > 0
    assert [member.pattern for member in members(design, "optimum")] == [shortest.pattern]


def test_where_the_bound_is_not_met_each_optimum_is_the_best_of_its_search() -> None:
    budget = Budget(12, total=24)
    design = lay_out(budget, replace(FEW, distance_window=(1.9, 2.8), span_window=(2.0, 4.0)), [])
    optima = members(design, "optimum")
    assert 1 <= len(optima) <= 2
    for member in optima:
        assert certify(member.pattern, budget).gap > 0
        assert measure_means(member.pattern)["mean_bd"] < 1.85


@pytest.mark.parametrize("case", CASES[:3])
def test_controls_have_their_optimums_span_and_more_distance(case: str) -> None:
    design = design_of(case)
    controls = members(design, "control")
    assert len(controls) == 3
    assert len({member.matched for member in controls}) == 3
    for member in controls:
        assert member.matched is not None
        optimum, row = measure_means(by_key(design)[member.matched].pattern), measure_means(member.pattern)
        assert row["span"] == pytest.approx(optimum["span"], rel=0.02)
        assert row["mean_bd"] >= design.distance_bins[1][0] - HAIR > optimum["mean_bd"]


@each_case
def test_reversals_keep_distance_and_span_and_swap_degrees(case: str) -> None:
    design = design_of(case)
    turned = members(design, "reversal")
    assert bool(turned) == (case != "log")
    cells = []
    for member in turned:
        assert member.matched is not None
        original = by_key(design)[member.matched]
        assert original.strategy == "design"
        cells.append((original.distance_bin, original.span_bin))
        before, after = measure_means(original.pattern), measure_means(member.pattern)
        for name in ("mean_bd", "max_bd", "span"):
            assert after[name] == pytest.approx(before[name])
        assert member.pattern.n_connections == original.pattern.n_connections
        in_degrees, out_degrees = (0, *original.pattern.in_degrees), original.pattern.out_degrees
        assert (0, *member.pattern.in_degrees) == out_degrees[::-1]
        assert member.pattern.out_degrees == in_degrees[::-1]
    assert len(set(cells)) == len(cells)


def test_no_reversals_unless_asked_for() -> None:
    layout = replace(FEW, reversals=False, optima=1)
    assert not members(lay_out(Budget(10, total=26), layout, []), "reversal")


def test_named_templates_come_first_under_their_names() -> None:
    design = design_of("total:37")
    named = list(iterate_templates(design.budget))
    assert len(named) == 5
    assert [(member.template, member.pattern) for member in design.members[:5]] == named
    assert {member.strategy for member in design.members[:5]} == {"templates"}
    assert {member.template for member in design.members[5:]} == {None}
    order = ["templates", "optimum", "control", "design", "reversal", "random"]
    assert [name for name, _ in itertools.groupby(member.strategy for member in design.members)] == order


def test_a_template_that_is_an_optimum_stays_a_template() -> None:
    design = design_of("total:28")
    (midpoint,) = members(design, "templates")
    assert midpoint.template == "midpoint"
    assert midpoint.pattern.key in {member.matched for member in members(design, "control")}


@each_case
def test_as_many_uniform_patterns_as_asked_for(case: str) -> None:
    assert len(members(design_of(case), "random")) == 5


def test_a_seed_fixes_the_design_and_another_gives_another() -> None:
    budget = Budget(10, total=26)
    one, again, other = (lay_out(budget, replace(FEW, seed=seed), []) for seed in (1, 1, 2))
    assert one == again
    assert not {m.pattern for m in one.members if m.strategy == "design"} & {m.pattern for m in other.members}


def test_crossing_parts_distance_from_span_where_a_uniform_sample_does_not() -> None:
    designed = [member.pattern for member in members(design_of("log"), "design")]
    uniform = [sample_uniform(log_budget(12), derive_generator("crossing", number)) for number in range(300)]
    assert abs(correlate(designed)) < 0.2
    assert correlate(uniform) > 0.5


# --- windows and what cannot be -------------------------------------------------------------------------------------


def test_windows_given_are_used_as_they_are() -> None:
    layout = replace(FEW, distance_window=(1.6, 2.0), span_window=(2.5, 4.0), optima=1)
    design = lay_out(log_budget(10), layout, [])
    assert design.distance_bins == ((1.6, 1.8), (1.8, 2.0))
    assert np.array(design.span_bands) == pytest.approx(np.array([(2.45, 2.55), (3.92, 4.08)]))
    assert not members(design, "reversal")


def test_one_span_band_lies_in_the_middle() -> None:
    layout = replace(FEW, distance_window=(1.6, 2.0), span_window=(2.0, 4.5), n_span_bins=1, optima=1)
    (band,) = lay_out(log_budget(10), layout, []).span_bands
    assert band == pytest.approx((2.94, 3.06))


def test_cells_without_patterns_are_listed() -> None:
    """All 55 connections of 10 layers: there is one pattern, and all its distances are 1."""
    layout = replace(FEW, n_distance_bins=1, distance_window=(1.5, 3.0), span_window=(2.0, 4.0), per_cell=2)
    design = lay_out(Budget(10, total=55), layout, [])
    assert [member.strategy for member in design.members] == ["optimum"]
    assert design.lacking == ((0, 0, 2), (0, 1, 2))


@pytest.mark.parametrize("budget", [Budget(10, total=10), log_budget(4)], ids=str)
def test_a_budget_without_room_to_cross_is_refused_with_cause_and_cure(budget: Budget) -> None:
    with pytest.raises(InputError, match=f"cannot be crossed with span at budget {budget} and {budget.depth} layers"):
        lay_out(budget, FEW, [])


def test_the_design_can_be_stopped_between_steps() -> None:
    calls = itertools.count(1)

    class StoppedError(Exception):
        pass

    def check_stop() -> None:
        if next(calls) == 3:
            raise StoppedError

    with pytest.raises(StoppedError):
        lay_out(Budget(10, total=26), FEW, [], check_stop)
    assert next(calls) == 4


def test_random_draws_end_where_there_are_no_more_patterns() -> None:
    """9 connections over 4 layers: all but one of six skips, in six ways."""
    layout = replace(FEW, distance_window=(1.0, 1.3), span_window=(1.5, 2.0), uniform=50, optima=0)
    design = lay_out(Budget(4, total=9), layout, [])
    assert len(design.members) == math.comb(6, 5)
    assert members(design, "optimum") == []
    assert len(members(design, "design")) >= 1  # what is known already is not drawn again


def test_controls_have_a_longer_mean_bd_whatever_is_crossed() -> None:
    layout = replace(FEW, distance="from_output", n_distance_bins=4, n_span_bins=3, optima=4, seed=1)
    design = lay_out(Budget(12, total=28), layout, [])
    means = {member.pattern.key: backprop_distance(member.pattern).mean for member in design.members}
    controls = [member for member in design.members if member.strategy == "control"]
    assert controls
    for member in controls:
        assert member.matched is not None
        assert means[member.pattern.key] >= 1.07 * means[member.matched] - 1e-9
