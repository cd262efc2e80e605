"""Optimal patterns: bounds met where they can be, tie-breakers, constructions against slow second ones, any budget."""

import itertools
import math
from collections.abc import Iterable

import networkx as nx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from search_spaces.budget import Budget, log_budget
from search_spaces.distance import backprop_distance
from search_spaces.errors import InputError
from search_spaces.pattern import ConnectionPattern
from search_spaces.sampling import optimal
from search_spaces.sampling.annealing import State
from search_spaces.sampling.bounds import bound_sum, certify
from search_spaces.sampling.draw import sample_uniform
from search_spaces.sampling.kernels import batch_distances
from search_spaces.sampling.optimal import anneal_template, optimize, row_greedy, spanner
from search_spaces.seeds import derive_generator
from search_spaces.templates import find_template
from tests.support.budgets import assert_spent, budgets, most_connections
from tests.support.patterns import measure_sums, patterns_of, random_pattern

LONG = 3_600.0  # seconds: never what ends a search here


def midpoint_size(depth: int) -> int:
    return sum(math.floor(math.log2(i)) for i in range(1, depth + 2))


def preferred(pattern: ConnectionPattern) -> tuple[int, int, int]:
    """Summed distance, from the output, largest out-degree: less is better, in this order."""
    sum_bd, _, from_output, max_out = measure_sums(pattern)
    return sum_bd, from_output, max_out


# --- bounds met --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("depth", "mean"), [(12, 1.5256), (24, 1.6867)])
def test_the_log_budget_s_optimum_is_reached_and_proven(depth: int, mean: float) -> None:
    found = optimize(log_budget(depth), seconds=LONG, max_rounds=4)
    distance = backprop_distance(found.pattern)
    assert distance.mean == pytest.approx(mean, abs=5e-5)
    assert distance.max == 2
    assert found.certificate == certify(found.pattern, log_budget(depth))
    assert (found.certificate.status, found.certificate.gap, found.by_clock) == ("optimal", 0.0, False)
    assert_spent(found.pattern, log_budget(depth))


@pytest.mark.slow
@pytest.mark.parametrize("depth", range(3, 29))
def test_the_log_budget_s_optimum_is_proven_up_to_28_layers(depth: int) -> None:
    found = optimize(log_budget(depth), seconds=LONG, max_rounds=4)
    assert found.certificate.status == "optimal"
    assert backprop_distance(found.pattern).max == 2


@pytest.mark.parametrize("depth", [*range(5, 65), pytest.param(1_024, marks=pytest.mark.slow)])
def test_totals_from_the_midpoint_s_size_on_are_optimal_without_a_move(
    depth: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(optimal, "POLISH_MOVES", 500)
    smallest, most = midpoint_size(depth), depth * (depth + 1) // 2
    for total in {smallest, smallest + 1, (smallest + most) // 2, most}:
        found = optimize(Budget(depth, total=total), seconds=LONG, max_rounds=1)
        assert (found.n_moves, found.by_clock) == (0, False)
        assert found.certificate.status == "optimal"
        assert_spent(found.pattern, Budget(depth, total=total))
        if depth <= 64:
            assert backprop_distance(found.pattern).max == (1 if total == most else 2)


@pytest.mark.parametrize("depth", [5, 12, 24])
def test_totals_below_the_midpoint_s_size_are_spent_exactly(depth: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(optimal, "FIRST_ROUND", 2**14)
    monkeypatch.setattr(optimal, "POLISH_MOVES", 2_000)
    for total in {depth, depth + 1, (depth + midpoint_size(depth)) // 2, midpoint_size(depth) - 1}:
        budget = Budget(depth, total=total)
        found = optimize(budget, seconds=LONG, max_rounds=1)
        assert_spent(found.pattern, budget)
        assert found.certificate == certify(found.pattern, budget)
        drawn = [sample_uniform(budget, derive_generator(seed)) for seed in "abcd"]
        assert measure_sums(found.pattern)[0] <= min(measure_sums(pattern)[0] for pattern in drawn)


@pytest.mark.parametrize("total", [7, 8, 9])
def test_totals_of_five_layers_reach_the_best_of_all_patterns(total: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(optimal, "FIRST_ROUND", 2**15)
    space = patterns_of(Budget(5, total=total))
    found = optimize(Budget(5, total=total), seconds=LONG, max_rounds=1)
    assert preferred(found.pattern) == min(map(preferred, space))


def test_the_chain_alone_is_found_where_nothing_else_is_left() -> None:
    for depth in (1, 2, 9):
        found = optimize(Budget(depth, total=depth), seconds=LONG, max_rounds=1)
        assert found.pattern == find_template("chain").build(depth)
        assert not found.by_clock


@pytest.mark.parametrize(
    "budget", [Budget(5, total=5), Budget(9, per_layer=(1,) * 9), Budget(6, total=6, max_out=1)], ids=str
)
def test_a_space_of_one_pattern_needs_no_time(budget: Budget) -> None:
    assert not optimize(budget, seconds=1.0).by_clock


# --- the same again, and when the clock ends it ------------------------------------------------------------------


@pytest.mark.parametrize("budget", [log_budget(24), Budget(24, total=60), Budget(16, total=44, max_out=5)], ids=str)
def test_a_seed_fixes_the_pattern(budget: Budget, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(optimal, "FIRST_ROUND", 2**15)
    monkeypatch.setattr(optimal, "POLISH_MOVES", 20_000)
    one, again, other = (optimize(budget, seed, LONG, max_rounds=2) for seed in (3, 3, 4))
    assert one == again
    assert one.pattern != other.pattern


def test_more_rounds_are_never_worse(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(optimal, "FIRST_ROUND", 2**12)
    monkeypatch.setattr(optimal, "POLISH_MOVES", 20_000)
    budget = log_budget(40)
    results = [optimize(budget, 1, LONG, max_rounds=n) for n in range(4)]
    sums = [measure_sums(result.pattern)[0] for result in results]
    assert sums == sorted(sums, reverse=True)
    assert [result.n_moves for result in results] == [0, 2**12, 2**12 + 2**15, 2**12 + 2**15 + 2**18]
    assert not any(result.by_clock for result in results)


def test_time_that_is_up_still_gives_a_pattern_of_the_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(optimal, "FIRST_ROUND", 2**12)
    found = optimize(log_budget(40), seconds=1e-9)
    assert found.by_clock
    assert 0 < found.n_moves <= 2**12
    assert_spent(found.pattern, log_budget(40))
    assert measure_sums(found.pattern)[0] <= measure_sums(row_greedy(log_budget(40)))[0]


def test_a_search_that_counts_its_rounds_needs_no_time_limit() -> None:
    found = optimize(Budget(6, total=10), seconds=math.inf, max_rounds=1)
    assert found.pattern == optimize(Budget(6, total=10), seconds=LONG, max_rounds=1).pattern
    assert not found.by_clock


@pytest.mark.parametrize("seconds", [0.0, -1.0, math.nan, math.inf])
def test_a_search_without_time_or_without_end_is_refused(seconds: float) -> None:
    with pytest.raises(InputError, match="give more than 0"):
        optimize(log_budget(5), seconds=seconds)


# --- tie-breakers ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("depth", [3, 4, 5, 6, 7])
def test_among_all_optima_of_the_log_budget_the_preferred_one_is_found(depth: int) -> None:
    space = patterns_of(log_budget(depth))
    batch = batch_distances(space)
    shortest = [p for p, mean in zip(space, batch.mean, strict=True) if mean == batch.mean.min()]
    best = min(map(preferred, shortest))
    for seed in range(2):
        found = optimize(log_budget(depth), seed, LONG, max_rounds=1)
        assert preferred(found.pattern) == best


def test_of_both_optima_of_six_layers_with_ten_connections_the_output_is_as_near_as_can_be() -> None:
    space = patterns_of(Budget(6, total=10))
    found = optimize(Budget(6, total=10), seconds=LONG, max_rounds=1)
    assert preferred(found.pattern)[:2] == min(map(preferred, space))[:2]  # no single move leads from one to the other
    assert found.certificate.status == "optimal"


@pytest.mark.parametrize("budget", [log_budget(12), log_budget(24), Budget(24, total=60)], ids=str)
def test_polishing_never_makes_anything_worse(budget: Budget, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(optimal, "POLISH_MOVES", 50_000)
    best = optimize(budget, 0, LONG, max_rounds=0).pattern
    for seed, pattern in enumerate([best, budget.example(), sample_uniform(budget, derive_generator("polish"))]):
        state = State.of(pattern, budget)
        polished = optimal._polish(state, derive_generator(seed))
        before, after = preferred(pattern), preferred(polished.pattern())
        assert after <= before
        assert after[0] <= before[0]
        assert_spent(polished.pattern(), budget)
        assert state.pattern() == pattern


def test_polishing_that_ends_too_hot_is_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    best = optimize(log_budget(12), 0, LONG, max_rounds=1).pattern
    monkeypatch.setattr(optimal, "POLISH_MOVES", 40)
    for seed in range(20):
        polished = optimal._polish(State.of(best, log_budget(12)), derive_generator(seed))
        assert preferred(polished.pattern()) <= preferred(best)


def test_polishing_brings_the_output_nearer_on_the_plateau() -> None:
    # MBD 2 and so of least mean, but the output reads two layers only beside the one before it.
    far = max((p for p in patterns_of(log_budget(6)) if measure_sums(p)[0] == bound_sum(log_budget(6))), key=preferred)
    state = optimal._polish(State.of(far, log_budget(6)), derive_generator(0))
    assert preferred(state.pattern()) < preferred(far)
    assert state.measure_distances() == preferred(state.pattern())


# --- constructions -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("hops", [1, 2, 3, 4, 5, 6])
def test_a_spanner_keeps_its_number_of_hops(hops: int) -> None:
    for depth in range(1, 121):
        pattern = spanner(depth, hops)
        assert batch_distances([pattern]).max[0] <= hops
        assert pattern.n_connections <= depth * (depth + 1) // 2
        if depth > hops >= 2:
            assert pattern.n_connections < depth * (depth + 1) // 2
        if depth <= hops:
            assert pattern == find_template("chain").build(depth)


@pytest.mark.parametrize("depth", [3, 17, 64, 120])
def test_a_spanner_s_hops_hold_by_networkx_too(depth: int) -> None:
    for hops in (2, 3, 4, 5):
        longest = nx.all_pairs_shortest_path_length(spanner(depth, hops).gradient_graph())
        assert max(max(row.values()) for _, row in longest) <= hops


def test_more_hops_take_fewer_connections_in_deep_blocks() -> None:
    for depth in (80, 120, 300):
        sizes = [spanner(depth, hops).n_connections for hops in (1, 2, 3, 4)]
        assert sizes == sorted(sizes, reverse=True)
        assert len(set(sizes)) == 4
        assert sizes[0] == depth * (depth + 1) // 2
        assert sizes[1] == midpoint_size(depth)


def summed_distance(sources: list[list[int]], layer: int) -> int:
    graph: nx.DiGraph[int] = nx.DiGraph()
    graph.add_edges_from((target, source) for target, inputs in enumerate(sources) for source in inputs)
    return sum(nx.single_source_shortest_path_length(graph, layer).values())


def greedy_by_networkx(degrees: Iterable[int]) -> ConnectionPattern:
    """Every candidate input tried by networkx; of equal ones the lowest."""
    sources: list[list[int]] = [[]]
    for layer, degree in enumerate(degrees, start=1):
        inputs = [layer - 1]
        sources.append(inputs)
        for _ in range(degree - 1):
            tried = {
                node: summed_distance([*sources[:-1], [*inputs, node]], layer)
                for node in range(layer - 1)
                if node not in inputs
            }
            inputs.append(min(tried, key=lambda node: (tried[node], node)))
    return ConnectionPattern.from_sources(sources[1:])


@pytest.mark.parametrize(("depth", "mean"), [(12, 1.538), (24, 1.717)])
def test_row_greedy_on_the_log_budget_is_the_known_one(depth: int, mean: float) -> None:
    pattern = row_greedy(log_budget(depth))
    assert pattern == greedy_by_networkx(log_budget(depth).per_layer or ())
    assert round(backprop_distance(pattern).mean, 3) == mean
    assert backprop_distance(pattern).max == 3
    assert find_template("greedy").build(depth) == pattern


@pytest.mark.parametrize("depth", [1, 2, 3, 8, 15])
def test_row_greedy_equals_a_slow_second_one_at_any_in_degrees(depth: int) -> None:
    for degrees in [
        (1,) * depth,
        tuple(range(1, depth + 1)),
        *(random_pattern(depth, seed).in_degrees for seed in range(4)),
    ]:
        budget = Budget(depth, per_layer=degrees)
        assert row_greedy(budget) == greedy_by_networkx(degrees)
        assert_spent(row_greedy(budget), budget)


@pytest.mark.parametrize("depth", [1, 2, 5, 12, 52])
def test_the_annealed_template_spends_the_log_budget_and_is_the_same_again(depth: int) -> None:
    pattern = anneal_template(depth)
    assert_spent(pattern, log_budget(depth))
    assert anneal_template(depth) == pattern == find_template("annealed").build(depth)
    greedy, log = (backprop_distance(find_template(name).build(depth)).mean for name in ("greedy", "log"))
    assert backprop_distance(pattern).mean <= min(greedy, log)


def test_padding_adds_connections_and_keeps_those_there() -> None:
    for depth, seed in itertools.product((4, 9, 16), range(3)):
        pattern = random_pattern(depth, seed)
        for total in range(pattern.n_connections, depth * (depth + 1) // 2 + 1, 3):
            padded = optimal._pad(pattern, Budget(depth, total=total))
            assert padded is not None
            assert padded.n_connections == total
            assert set(pattern.connections) <= set(padded.connections)


@pytest.mark.parametrize("caps", [(11, None), (None, 11), (11, 11)], ids=str)
def test_padding_keeps_caps_and_so_the_optimum(caps: tuple[int | None, int | None]) -> None:
    for total in range(midpoint_size(20), midpoint_size(20) + 90, 6):
        budget = Budget(20, total, None, *caps)
        padded = optimal._pad(find_template("midpoint").build(20), budget)
        assert padded is not None
        assert_spent(padded, budget)
        assert certify(padded, budget).status == "optimal"


def test_nothing_is_padded_that_breaks_a_cap_already() -> None:
    midpoint = find_template("midpoint").build(20)
    assert optimal._pad(midpoint, Budget(20, total=70, max_in=4)) is None
    assert optimal._pad(midpoint, Budget(20, total=70, max_out=4)) is None


# --- every budget ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def short_rounds() -> Iterable[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(optimal, "FIRST_ROUND", 2**12)
        patch.setattr(optimal, "POLISH_MOVES", 2_000)
        yield


@pytest.mark.usefixtures("short_rounds")
@settings(max_examples=60, deadline=None, derandomize=True)
@given(budgets(), st.integers(0, 2**32))
def test_any_budget_is_spent_and_the_same_for_a_seed(budget: Budget, seed: int) -> None:
    found = optimize(budget, seed, LONG, max_rounds=1)
    assert_spent(found.pattern, budget)
    assert optimize(budget, seed, LONG, max_rounds=1) == found
    assert found.certificate == certify(found.pattern, budget)
    assert measure_sums(found.pattern)[0] <= measure_sums(budget.example())[0]
    for hops in (2, 3):
        padded = optimal._pad(spanner(budget.depth, hops), budget) if budget.per_layer is None else None
        if padded is not None and hops == 2:
            assert found.certificate.status == "optimal"


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.integers(1, 10), st.none() | st.integers(1, 5), st.none() | st.integers(1, 5), st.integers(1, 9))
def test_what_cannot_be_spent_is_refused_with_the_feasible_range(
    depth: int, max_in: int | None, max_out: int | None, excess: int
) -> None:
    most = most_connections(depth, max_in, max_out)
    for total in (depth - excess, most + excess):
        with pytest.raises(InputError, match=f"give total:{depth} to total:{most}$"):
            optimize(Budget(depth, total, None, max_in, max_out))


@pytest.mark.usefixtures("short_rounds")
@pytest.mark.parametrize("caps", [(6, None), (None, 6), (6, 7)], ids=str)
@pytest.mark.parametrize("total", [True, False])
def test_caps_hold_at_24_layers_and_shorten_what_they_can(total: bool, caps: tuple[int | None, int | None]) -> None:
    log = log_budget(24)
    budget = Budget(24, log.n_connections, None, *caps) if total else Budget(24, None, log.per_layer, *caps)
    found = optimize(budget, 0, LONG, max_rounds=2)
    assert_spent(found.pattern, budget)
    assert measure_sums(found.pattern)[0] < measure_sums(budget.example())[0]


def test_the_clock_is_looked_at_after_few_moves_where_moves_are_dear() -> None:
    found = optimize(log_budget(300), seconds=1e-9)
    assert found.by_clock
    assert 0 < found.n_moves <= optimal.MOVES_A_LOOK
