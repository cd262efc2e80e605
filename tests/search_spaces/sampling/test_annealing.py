"""Moves of connections: states stay true to their pattern, budgets hold, energies are honest, walks are uniform."""

import itertools
import math
from collections import Counter
from collections.abc import Callable, Sequence

import networkx as nx
import numpy as np
import pytest
from scipy import stats

from search_spaces.budget import Budget, log_budget
from search_spaces.pattern import ConnectionPattern
from search_spaces.sampling.annealing import FROM_OUTPUT, MAX_OUT_DEGREE, SUM_BD, SUM_SPAN, Bands, State, anneal, wander
from search_spaces.sampling.draw import sample_uniform
from search_spaces.seeds import derive_generator
from search_spaces.templates import find_template
from tests.support.patterns import every_pattern, measure_sums, patterns_of, random_pattern


def energy_of(pattern: ConnectionPattern, bands: Bands) -> float:
    outside = (
        max(low - m, m - high, 0) for m, low, high in zip(measure_sums(pattern), bands.low, bands.high, strict=True)
    )
    return sum(weight * distance for weight, distance in zip(bands.weights, outside, strict=True) if distance)


def assert_consistent(state: State) -> None:
    """Every array of a state says the same as its pattern."""
    pattern, depth = state.pattern(), state.budget.depth
    assert state.budget.is_met_by(pattern)
    graph = pattern.gradient_graph()
    assert state.degrees.tolist() == [0, *pattern.in_degrees]
    assert [state.sources[i, 0] for i in range(1, depth + 1)] == list(range(depth))  # the chain's first
    assert state.members.tolist() == [[graph.has_edge(i, j) for j in range(depth + 1)] for i in range(depth + 1)]
    assert state.readers.tolist() == list(pattern.out_degrees)
    skips = sorted((target, source) for source, target in pattern.connections if target - source > 1)
    assert sorted(map(tuple, state.skips.tolist())) == skips
    rows = dict(nx.all_pairs_shortest_path_length(graph))
    for i in range(depth + 1):
        assert state.rows[i, :i].tolist() == [rows[i][j] for j in range(i)]
        assert state.sums[i] == sum(rows[i].values())
    assert state.measure() == measure_sums(pattern)


def start(budget: Budget, seed: int = 0) -> State:
    capped = budget.max_in is not None or budget.max_out is not None
    return State.of(budget.example() if capped else sample_uniform(budget, derive_generator("start", seed)), budget)


SHORT = Bands().limit(SUM_BD, -math.inf, 0, 1.0)
BUDGETS = [
    log_budget(5),
    log_budget(12),
    log_budget(24),
    Budget(12, total=30),
    Budget(24, total=94),
    Budget(24, total=30),
    Budget(12, total=34, max_in=4, max_out=5),
    Budget(24, total=94, max_in=5),
    Budget(24, total=94, max_out=5),
    Budget(16, per_layer=log_budget(16).per_layer, max_out=5),
    Budget(16, per_layer=log_budget(16).per_layer, max_in=5),
]
by_budget = pytest.mark.parametrize("budget", BUDGETS, ids=lambda b: f"{b.depth}-{b}")
BANDS = {
    "short": SHORT,
    "long": Bands().limit(SUM_BD, 10**9, math.inf, 0.5),
    "span": Bands().limit(SUM_SPAN, 60, 64, 2.0),
    "few readers": Bands().limit(SUM_BD, -math.inf, 0, 1.0).limit(MAX_OUT_DEGREE, -math.inf, 2, 3.0),
    "from output": Bands().limit(FROM_OUTPUT, 40, 42, 1.0).limit(SUM_BD, 400, 500, 0.25).limit(SUM_SPAN, 0, 300, 0.1),
}


@by_budget
@pytest.mark.parametrize("wanted", BANDS)
def test_after_annealing_all_is_consistent_and_the_energy_is_the_pattern_s(budget: Budget, wanted: str) -> None:
    bands, state = BANDS[wanted], start(budget)
    generator = derive_generator("anneal", wanted, str(budget))
    assert_consistent(state)
    for n_moves, temperatures in ((1, (5.0, 5.0)), (2, (0.0, 0.0)), (257, (9.0, 0.1)), (3_000, (3.0, 0.3))):
        energy, n_tried = anneal(state, bands, n_moves, temperatures, generator)
        assert_consistent(state)
        assert energy == pytest.approx(energy_of(state.pattern(), bands), rel=1e-12)
        assert n_tried == n_moves or (energy == 0 and n_tried < n_moves)


@by_budget
def test_single_moves_change_at_most_one_connection_and_all_is_consistent(budget: Budget) -> None:
    state, generator = start(budget), derive_generator("single", str(budget))
    before = set(state.pattern().connections)
    n_changed = 0
    for _ in range(150):
        anneal(state, SHORT, 1, (1e9, 1e9), generator)
        after = set(state.pattern().connections)
        assert len(before - after) == len(after - before) <= 1
        n_changed += before != after
        before = after
        assert state.budget.is_met_by(state.pattern())
    assert_consistent(state)
    assert n_changed > 10


@by_budget
@pytest.mark.parametrize("wanted", BANDS)
def test_at_temperature_zero_the_energy_never_rises(budget: Budget, wanted: str) -> None:
    bands, state = BANDS[wanted], start(budget, 1)
    generator = derive_generator("cold", str(budget))
    energies = [energy_of(state.pattern(), bands)]
    for _ in range(120):
        anneal(state, bands, 1, (0.0, 0.0), generator)
        energies.append(energy_of(state.pattern(), bands))
    assert energies == sorted(energies, reverse=True)


def test_a_hot_walk_goes_up_as_well_as_down() -> None:
    state, generator = start(log_budget(12)), derive_generator("hot")
    energies = []
    for _ in range(200):
        anneal(state, SHORT, 1, (50.0, 50.0), generator)
        energies.append(state.measure()[SUM_BD])
    steps = np.diff(energies)
    assert (steps > 0).sum() > 20
    assert (steps < 0).sum() > 20


@pytest.mark.parametrize("temperature", [0.5, 2.0])
def test_at_a_fixed_temperature_patterns_are_visited_as_boltzmann_says(temperature: float) -> None:
    budget = log_budget(5)
    bands = Bands().limit(SUM_BD, -math.inf, 10, 1.0)  # below all of them, so it never stops
    space = patterns_of(budget)
    weights = np.exp([-energy_of(pattern, bands) / temperature for pattern in space])
    state, generator = start(budget), derive_generator("boltzmann")
    counts: Counter[ConnectionPattern] = Counter()
    for _ in range(3_600):
        anneal(state, bands, 150, (temperature, temperature), generator)
        counts[state.pattern()] += 1
    expected = 3_600 * weights / weights.sum()
    p_value = stats.chisquare([counts[pattern] for pattern in space], expected).pvalue
    assert 0.001 < p_value < 0.999


def test_annealing_stops_where_nothing_lies_outside() -> None:
    state = start(log_budget(12))
    everything = Bands()
    assert anneal(state, everything, 1_000, (1.0, 0.1), derive_generator(0)) == (0.0, 0)
    bands = Bands().limit(SUM_BD, -math.inf, 125, 1.0)
    energy, n_tried = anneal(state, bands, 10**6, (0.6, 0.15), derive_generator(0))
    assert energy == 0
    assert n_tried < 10**6
    assert measure_sums(state.pattern())[SUM_BD] <= 125


@by_budget
def test_a_generator_fixes_the_walk_and_another_gives_another(budget: Budget) -> None:
    ends = []
    for name in ("one", "one", "two"):
        state = start(budget)
        ends.append((anneal(state, SHORT, 2_000, (3.0, 0.5), derive_generator(name)), state.pattern()))
    assert ends[0] == ends[1]
    if budget.depth > 5:
        assert ends[0][1] != ends[2][1]


# --- walks inside bands ------------------------------------------------------------------------------------------


def neighbours(pattern: ConnectionPattern, by_layer: bool) -> list[frozenset[tuple[int, int]]]:
    """The connections of all patterns that differ by one skip: another source, or, under a total, anywhere."""
    connections = frozenset(pattern.connections)
    free = [(s, t) for t in range(1, pattern.depth + 1) for s in range(t) if (s, t) not in connections]
    return [
        connections - {(source, target)} | {(s, t)}
        for source, target in connections
        if target - source > 1
        for s, t in free
        if t == target or not by_layer
    ]


def component(
    begin: ConnectionPattern, budget: Budget, inside: Callable[[ConnectionPattern], bool]
) -> list[ConnectionPattern]:
    """All patterns that single moves reach without leaving budget and bands."""
    space = {
        frozenset(pattern.connections): pattern
        for pattern in every_pattern(budget.depth)
        if budget.is_met_by(pattern) and inside(pattern)
    }
    graph: nx.Graph[frozenset[tuple[int, int]]] = nx.Graph()
    graph.add_nodes_from(space)
    for pattern in space.values():
        here = frozenset(pattern.connections)
        graph.add_edges_from((here, n) for n in neighbours(pattern, budget.per_layer is not None) if n in space)
    return [space[node] for node in nx.node_connected_component(graph, frozenset(begin.connections))]


CELLS = [
    (log_budget(5), Bands(), 36),
    (log_budget(5), Bands().limit(SUM_BD, 19, 19, 1.0), 33),
    (log_budget(5), Bands().limit(SUM_SPAN, 19, 21, 1.0), None),
    (
        log_budget(5),
        Bands().limit(SUM_BD, 19, 19, 1.0).limit(FROM_OUTPUT, 7, 7, 1.0).limit(SUM_SPAN, 20, 22, 1.0),
        None,
    ),
    (Budget(4, total=7), Bands(), 20),
    (Budget(5, total=7), Bands().limit(SUM_BD, 25, 27, 1.0), None),
    (Budget(5, total=8), Bands().limit(MAX_OUT_DEGREE, -math.inf, 2, 1.0), None),
    (Budget(5, total=8, max_out=2), Bands(), None),
    (Budget(5, total=8, max_in=2), Bands(), None),
    (Budget(5, per_layer=(1, 2, 2, 3, 3), max_out=3), Bands(), None),
]


@pytest.mark.parametrize(("budget", "bands", "n_patterns"), CELLS, ids=str)
def test_a_walk_visits_all_that_it_can_get_to_equally_often(
    budget: Budget, bands: Bands, n_patterns: int | None
) -> None:
    def inside(pattern: ConnectionPattern) -> bool:
        return energy_of(pattern, bands) == 0

    begin = next(p for p in every_pattern(budget.depth) if budget.is_met_by(p) and inside(p))
    space = component(begin, budget, inside)
    assert len(space) > 3
    assert n_patterns in (None, len(space))
    state, generator = State.of(begin, budget), derive_generator("wander", str(budget), str(bands))
    counts: Counter[ConnectionPattern] = Counter()
    for _ in range(60 * len(space)):
        wander(state, bands, 300, generator)
        counts[state.pattern()] += 1
    assert set(counts) == set(space)
    p_value = stats.chisquare([counts[pattern] for pattern in space]).pvalue
    assert 0.001 < p_value < 0.999  # neither lopsided nor evener than chance
    assert_consistent(state)


@by_budget
def test_a_walk_stays_inside_its_bands_and_counts_what_it_moves(budget: Budget) -> None:
    state, generator = start(budget, 2), derive_generator("stay", str(budget))
    sum_bd, sum_span, from_output, max_out = measure_sums(state.pattern())
    bands = Bands().limit(SUM_BD, sum_bd - 8, sum_bd + 8, 1.0).limit(SUM_SPAN, sum_span - 8, sum_span + 8, 1.0)
    bands = bands.limit(FROM_OUTPUT, from_output - 3, from_output + 3, 1.0).limit(MAX_OUT_DEGREE, 0, max_out, 1.0)
    total = 0
    for _ in range(60):
        before = state.pattern()
        n_made = wander(state, bands, 1, generator)
        assert n_made == (state.pattern() != before)
        total += n_made
        assert energy_of(state.pattern(), bands) == 0
    assert 0 < wander(state, bands, 500, generator) + total <= 560
    assert_consistent(state)
    assert energy_of(state.pattern(), bands) == 0


# --- degenerate spaces -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("pattern", "budget"),
    [
        (find_template("chain").build(1), Budget(1, total=1)),
        (find_template("chain").build(1), log_budget(1)),
        (find_template("chain").build(2), Budget(2, total=2)),
        (find_template("dense").build(2), Budget(2, total=3)),
        (find_template("dense").build(2), log_budget(2)),
        (find_template("chain").build(9), Budget(9, total=9)),
        (find_template("chain").build(9), Budget(9, per_layer=(1,) * 9)),
        (find_template("dense").build(9), Budget(9, total=45)),
        (find_template("dense").build(9), Budget(9, per_layer=tuple(range(1, 10)))),
    ],
    ids=lambda value: str(value) if isinstance(value, Budget) else str(value.depth),
)
def test_where_nothing_can_move_nothing_does(pattern: ConnectionPattern, budget: Budget) -> None:
    state = State.of(pattern, budget)
    assert_consistent(state)
    energy, n_tried = anneal(state, SHORT, 500, (1.0, 0.1), derive_generator(0))
    assert energy == measure_sums(pattern)[SUM_BD]
    assert n_tried in (0, 500)
    assert wander(state, Bands(), 500, derive_generator(0)) == 0
    assert state.pattern() == pattern
    assert_consistent(state)


@pytest.mark.parametrize(("depth", "n_skips"), [(100, 40), (254, 1), (255, 1), (255, 40)])
def test_deep_states_stay_consistent(depth: int, n_skips: int) -> None:
    budget = Budget(depth, total=depth + n_skips)
    state = State.of(budget.example(), budget)
    assert state.rows.dtype == (np.uint8 if depth < 255 else np.int16)
    anneal(state, Bands().limit(SUM_BD, 10**9, math.inf, 1.0), 60, (1e9, 1e9), derive_generator("deep", depth))
    assert_consistent(state)


@pytest.mark.parametrize("depth", [253, 254, 255, 256])
def test_the_longest_distance_of_a_chain_fits_its_rows(depth: int) -> None:
    state = State.of(find_template("chain").build(depth), Budget(depth, total=depth))
    assert state.rows[depth, 0] == depth
    assert state.measure()[SUM_BD] == depth * (depth + 1) * (depth + 2) // 6
    assert state.measure()[FROM_OUTPUT] == depth * (depth + 1) // 2


@pytest.mark.parametrize("budget", [log_budget(12), Budget(12, total=30)], ids=str)
def test_no_node_is_left_marked_as_touched(budget: Budget) -> None:
    state = start(budget)
    assert not state.scratch[2].any()  # a node left marked has its readers scored again at every move
    anneal(state, SHORT, 500, (1.0, 0.1), derive_generator("touched"))
    assert not state.scratch[2].any()


# --- measures and bands ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("depth", [1, 2, 7, 24])
def test_measures_are_those_of_the_pattern(depth: int) -> None:
    for pattern in (find_template("log").build(depth), *(random_pattern(depth, seed) for seed in range(4))):
        state = State.of(pattern, Budget(depth, total=pattern.n_connections))
        assert state.measure() == measure_sums(pattern)
        sum_bd, _, from_output, max_out = measure_sums(pattern)
        assert state.measure_distances() == (sum_bd, from_output, max_out)
        assert state.pattern() == pattern


@pytest.mark.parametrize("chosen", range(4))
def test_limiting_one_measure_leaves_the_others(chosen: int) -> None:
    first: Sequence[float] = (1.0, 2.0, 3.0, 4.0)
    bands = Bands(low=(0, 1, 2, 3), high=(5, 6, 7, 8), weights=(1.0, 2.0, 3.0, 4.0))
    limited = bands.limit(chosen, -7, 70, 0.25)
    for field, new in (("low", -7), ("high", 70), ("weights", 0.25)):
        expected = [new if m == chosen else old for m, old in enumerate(getattr(bands, field))]
        assert list(getattr(limited, field)) == expected
    assert bands.weights == first


@pytest.mark.parametrize("low", [3, 5])
def test_a_lower_bound_alone_on_readers_counts_in_the_energy(low: int) -> None:
    bands = Bands().limit(MAX_OUT_DEGREE, low, math.inf, 1.0)
    state = State.of(ConnectionPattern(6, ((0,), (1,), (0, 2), (1, 3), (2, 4), (3, 5))), Budget(6, total=10))
    energy, _ = anneal(state, bands, 2_000, (1.0, 0.1), derive_generator("low", low))
    assert energy == energy_of(state.pattern(), bands)
    assert_consistent(state)


def test_all_measures_pull_at_once() -> None:
    budget = Budget(12, total=32)
    state = start(budget)
    bands = Bands().limit(SUM_BD, 130, 150, 1.0).limit(SUM_SPAN, 90, 95, 1.0)
    bands = bands.limit(FROM_OUTPUT, 22, 26, 1.0).limit(MAX_OUT_DEGREE, -math.inf, 5, 2.0)
    assert energy_of(state.pattern(), bands) > 0
    energy, _ = anneal(state, bands, 10**6, (2.0, 0.2), derive_generator("all"))
    assert energy == 0
    for m, low, high in zip(measure_sums(state.pattern()), bands.low, bands.high, strict=True):
        assert low <= m <= high


def test_moves_reach_every_place_of_a_total_budget() -> None:
    budget = Budget(4, total=5)
    state, generator = start(budget), derive_generator("places")
    seen = set()
    for _ in range(200):
        wander(state, Bands(), 20, generator)
        seen.add(next((s, t) for s, t in state.pattern().connections if t - s > 1))
    assert seen == {(s, t) for s, t in itertools.combinations(range(5), 2) if t - s > 1}
