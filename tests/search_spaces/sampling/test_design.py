"""The crossed design: every pattern lies where its member says, by networkx, and no pattern is there twice."""

import itertools
import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cache

import numpy as np
import pytest

from search_spaces.budget import Budget, log_budget, parse_budget
from search_spaces.distance import backprop_distance
from search_spaces.errors import InputError
from search_spaces.measures.compiled import COMPILED, measure_batch
from search_spaces.measures.registry import measure
from search_spaces.pattern import ConnectionPattern
from search_spaces.sampling.bounds import certify
from search_spaces.sampling.cells import Crossed, find_reach
from search_spaces.sampling.design import Design, Layout, Member, lay_out
from search_spaces.sampling.draw import sample_uniform
from search_spaces.sampling.goals import Band, measure_spreads
from search_spaces.sampling.optimal import optimize
from search_spaces.seeds import derive_generator
from search_spaces.templates import iterate_templates
from tests.support.patterns import measure_means

BD_BY_SPAN = (Crossed("mean_bd", 4), Crossed("span", 3))
MANY = Layout(BD_BY_SPAN, per_cell=2, optima=3, uniform=5, reversals=True, optimum_seconds=1.0)
FEW = Layout(
    (Crossed("mean_bd", 2), Crossed("span", 2)), per_cell=1, optima=2, uniform=2, reversals=True, optimum_seconds=0.3
)  # fmt: skip
CROSSINGS = {
    "": BD_BY_SPAN,
    "from_output_mean": (Crossed("from_output_mean", 4), Crossed("span", 3)),
    "walks": (Crossed("walk_length", 3), Crossed("visit_evenness", 2), Crossed("mean_bd", 2)),
}
CASES = [
    "total:37", "log", "total:28", "total:37 from_output_mean", "total:37;max-in:5;max-out:6 from_output_mean",
    "log walks", "total:30 walks",
]  # fmt: skip
HAIR = 1e-9


@cache
def design_of(case: str) -> Design:
    """At 12 layers, with the named templates."""
    text, _, crossing = case.partition(" ")
    budget = parse_budget(text, 12)
    return lay_out(budget, replace(MANY, crossed=CROSSINGS[crossing]), list(iterate_templates(budget)))


def cross(n_distances: int, distances: tuple[float, float], n_spans: int, spans: tuple[float, float]) -> Layout:
    """FEW with windows given."""
    crossed = Crossed("mean_bd", n_distances, Band(*distances)), Crossed("span", n_spans, Band(*spans))
    return replace(FEW, crossed=crossed)


def members(design: Design, strategy: str) -> list[Member]:
    return [member for member in design.members if member.strategy == strategy]


def by_key(design: Design) -> dict[str, Member]:
    return {member.pattern.key: member for member in design.members}


def correlate(patterns: list[ConnectionPattern], names: Sequence[str]) -> np.ndarray:
    """Correlations of measures, of shape (n, n)."""
    columns = measure_batch(patterns, names)
    return np.corrcoef([columns[name] for name in names])


@pytest.fixture(scope="module", autouse=True)
def _few_moves() -> Iterator[None]:
    """Give up sooner than in a study."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("search_spaces.sampling.cells.MAX_MOVES", 200_000)
        patch.setattr("search_spaces.sampling.cells.CORNER_MOVES", 30_000)
        patch.setattr("search_spaces.sampling.design.PART_MOVES", 50_000)
        patch.setattr("search_spaces.sampling.design.CONTROL_MOVES", 100_000)
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
    if case.startswith("log"):
        assert {member.pattern.in_degrees for member in design.members} == {(1, 2, 2, 3, 3, 3, 3, 4, 4, 4, 4, 4)}


@each_case
def test_designed_patterns_lie_in_their_cell_by_the_definitions_of_its_measures(case: str) -> None:
    design = design_of(case)
    for member in members(design, "design"):
        assert member.cell is not None
        row = measure(member.pattern, design.measures)
        for name, bins, place in zip(design.measures, design.bins, member.cell, strict=True):
            low, high = bins[place]
            assert low - HAIR <= row[name] <= high + HAIR
    others = [member for member in design.members if member.strategy != "design"]
    assert {member.cell for member in others} == {None}


@each_case
def test_each_cell_has_what_was_asked_or_is_listed_as_lacking(case: str) -> None:
    design = design_of(case)
    counts = Counter(member.cell for member in members(design, "design"))
    lacking = {lack.cell: lack.n for lack in design.lacking}
    assert 0 not in lacking.values()
    for cell in itertools.product(*(range(len(bins)) for bins in design.bins)):
        assert counts[cell] + lacking.get(cell, 0) == 2
    assert sum(lacking.values()) <= 2


@each_case
def test_bins_tile_their_window_and_it_lies_within_reach(case: str) -> None:
    design = design_of(case)
    reach = find_reach(design.budget, design.measures)
    for name, bins in zip(design.measures, design.bins, strict=True):
        for lower, upper in itertools.pairwise(bins):
            assert lower.high == upper.low
            assert upper.high - upper.low == pytest.approx(lower.high - lower.low)
        assert reach[name].low < bins[0].low < bins[-1].high < reach[name].high


def test_windows_are_wider_than_what_uniform_draws_show() -> None:
    design = design_of("log walks")
    uniform = [sample_uniform(log_budget(12), derive_generator("width", number)) for number in range(300)]
    for name, bins in zip(design.measures, design.bins, strict=True):
        values = measure_batch(uniform, [name])[name]
        assert bins[-1].high - bins[0].low > np.ptp(np.quantile(values, [0.1, 0.9]))


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
    design = lay_out(budget, cross(2, (1.6, 2.0), 2, (3.0, 4.0)), [])
    assert certify(longer.pattern, budget).gap > 0
    assert [member.pattern for member in members(design, "optimum")] == [shortest.pattern]


def test_where_the_bound_is_not_met_each_optimum_is_the_best_of_its_search() -> None:
    budget = Budget(12, total=24)
    design = lay_out(budget, cross(2, (1.9, 2.8), 2, (2.0, 4.0)), [])
    optima = members(design, "optimum")
    assert 1 <= len(optima) <= 2
    for member in optima:
        assert certify(member.pattern, budget).gap > 0
        assert measure_means(member.pattern)["mean_bd"] < 1.85


@pytest.mark.parametrize("case", CASES[:3])
def test_controls_have_their_optimums_span_and_visit_evenness_and_more_distance(case: str) -> None:
    design = design_of(case)
    controls = members(design, "control")
    assert len(controls) >= 2
    assert len({member.matched for member in controls}) == len(controls)
    for member in controls:
        assert member.matched is not None
        matched = by_key(design)[member.matched].pattern
        optimum, row = measure_means(matched), measure_means(member.pattern)
        assert row["span"] == pytest.approx(optimum["span"], rel=0.02)
        assert row["mean_bd"] >= 1.07 * optimum["mean_bd"] - HAIR
        ends = [measure(each, ["visit_evenness"])["visit_evenness"] for each in (matched, member.pattern)]
        spread = measure_spreads(design.budget, ["visit_evenness"])["visit_evenness"]
        assert abs(ends[1] - ends[0]) <= 0.1 * spread.sd + HAIR


@each_case
def test_reversals_keep_distance_and_span_and_swap_degrees(case: str) -> None:
    design = design_of(case)
    turned = members(design, "reversal")
    assert bool(turned) == (not case.startswith("log"))
    cells = []
    for member in turned:
        assert member.matched is not None
        original = by_key(design)[member.matched]
        assert original.strategy == "design"
        cells.append(original.cell)
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
    assert len(named) == 6
    assert [(member.template, member.pattern) for member in design.members[:6]] == named
    assert {member.strategy for member in design.members[:6]} == {"templates"}
    assert {member.template for member in design.members[6:]} == {None}
    order = ["templates", "optimum", "control", "design", "reversal", "random"]
    assert [name for name, _ in itertools.groupby(member.strategy for member in design.members)] == order


def test_a_template_that_is_an_optimum_stays_a_template() -> None:
    design = design_of("total:28")
    midpoint, walk = members(design, "templates")
    assert (midpoint.template, walk.template) == ("midpoint", "shortest_walk")
    assert midpoint.pattern.key in {member.matched for member in members(design, "control")}


@each_case
def test_as_many_uniform_patterns_as_asked_for(case: str) -> None:
    assert len(members(design_of(case), "random")) == 5


def test_a_seed_fixes_the_design_and_another_gives_another() -> None:
    budget = Budget(10, total=26)
    one, again, other = (lay_out(budget, replace(FEW, seed=seed), []) for seed in (1, 1, 2))
    assert one == again
    assert not {m.pattern for m in one.members if m.strategy == "design"} & {m.pattern for m in other.members}


@pytest.mark.parametrize("case", ["log", "log walks"])
def test_crossing_parts_measures_that_go_together_in_a_uniform_sample(case: str) -> None:
    design = design_of(case)
    designed = correlate([member.pattern for member in members(design, "design")], design.measures)
    uniform = [sample_uniform(log_budget(12), derive_generator("crossing", number)) for number in range(300)]
    apart = ~np.eye(len(designed), dtype=bool)
    assert abs(designed[apart]).max() < 0.25
    assert abs(correlate(uniform, design.measures)[apart]).max() > 0.4


def test_patterns_of_a_cell_are_spread_over_it() -> None:
    """Four patterns, each in its own quarter of the cell by every measure."""
    crossed = Crossed("walk_length", 1, Band(3.0, 4.2)), Crossed("mean_bd", 1, Band(1.8, 2.2))
    layout = Layout(crossed, per_cell=4, optima=0, uniform=0)
    design = lay_out(log_budget(24), layout, [])
    patterns = [member.pattern for member in design.members]
    assert len(patterns) == 4
    for name, values in measure_batch(patterns, design.measures).items():
        low, high = {"walk_length": (3.0, 4.2), "mean_bd": (1.8, 2.2)}[name]
        quarters = 4 * (np.sort(values) - low) / (high - low)
        assert (quarters >= np.arange(4) - HAIR).all()
        assert (quarters <= np.arange(1, 5) + HAIR).all()


@pytest.mark.slow
@pytest.mark.ci
def test_the_default_crossing_fills_all_its_cells_at_24_layers() -> None:
    design = lay_out(log_budget(24), Layout(optima=0, uniform=0), [])
    assert design.lacking == ()
    assert Counter(member.cell for member in design.members) == dict.fromkeys(
        itertools.product(range(3), range(3), range(2)), 4
    )
    correlations = correlate([member.pattern for member in design.members], design.measures)
    assert abs(correlations[~np.eye(3, dtype=bool)]).max() < 0.15


# --- windows and what cannot be -------------------------------------------------------------------------------------


def test_windows_given_are_used_as_they_are() -> None:
    design = lay_out(log_budget(10), replace(cross(2, (1.6, 2.0), 1, (2.5, 4.0)), optima=1), [])
    assert design.bins == (((1.6, 1.8), (1.8, 2.0)), ((2.5, 4.0),))
    assert not members(design, "reversal")


def test_a_window_given_stays_and_the_others_are_found_around_it() -> None:
    crossed = Crossed("mean_bd", 2, Band(1.6, 1.8)), Crossed("walk_length", 2)
    design = lay_out(log_budget(12), replace(FEW, crossed=crossed, optima=0), [])
    assert np.array(design.bins[0]) == pytest.approx(np.array([(1.6, 1.7), (1.7, 1.8)]))
    assert len(design.bins[1]) == 2
    assert design.lacking == ()


@pytest.mark.parametrize("name", ["log_paths", "largest_eigenvalue"])
def test_measures_that_are_not_compiled_are_crossed_too(name: str) -> None:
    assert name not in COMPILED
    crossed = Crossed(name, 2), Crossed("span", 1, Band(2.0, 3.5))
    design = lay_out(Budget(8, total=16), Layout(crossed, per_cell=1, optima=0, uniform=0), [])
    assert len(design.members) == 2
    for member in design.members:
        assert member.cell is not None
        low, high = design.bins[0][member.cell[0]]
        assert low - HAIR <= measure(member.pattern, [name])[name] <= high + HAIR


def test_cells_without_patterns_are_listed() -> None:
    """All 55 connections of 10 layers: there is one pattern, and all its distances are 1."""
    layout = replace(cross(1, (1.5, 3.0), 2, (2.0, 4.0)), per_cell=2)
    design = lay_out(Budget(10, total=55), layout, [])
    assert [member.strategy for member in design.members] == ["optimum"]
    assert design.lacking == (((0, 0), 2), ((0, 1), 2))


@pytest.mark.parametrize(
    ("budget", "names"),
    [
        (Budget(10, total=10), ("mean_bd", "span")),  # one pattern
        (log_budget(8), ("mean_bd", "skip_density")),  # the second is fixed by the budget
    ],
    ids=str,
)
def test_a_budget_without_room_to_cross_is_refused_with_cause_and_cure(budget: Budget, names: tuple[str, ...]) -> None:
    layout = replace(FEW, crossed=tuple(Crossed(name, 2) for name in names))
    with pytest.raises(InputError, match=f"cannot be crossed with .* at budget {budget} and {budget.depth} layers"):
        lay_out(budget, layout, [])


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
    layout = replace(cross(2, (1.0, 1.3), 2, (1.5, 2.0)), uniform=50, optima=0)
    design = lay_out(Budget(4, total=9), layout, [])
    assert len(design.members) == math.comb(6, 5)
    assert members(design, "optimum") == []
    assert len(members(design, "design")) >= 1  # what is known already is not drawn again


def test_controls_have_a_longer_mean_bd_whatever_is_crossed() -> None:
    layout = replace(FEW, crossed=CROSSINGS["from_output_mean"], optima=4, seed=1)
    design = lay_out(Budget(12, total=28), layout, [])
    means = {member.pattern.key: backprop_distance(member.pattern).mean for member in design.members}
    controls = [member for member in design.members if member.strategy == "control"]
    assert controls
    for member in controls:
        assert member.matched is not None
        assert means[member.pattern.key] >= 1.07 * means[member.matched] - 1e-9
