"""Bounds: no enumerated pattern beats one, known counts of certificates, second computations of every part."""

import heapq
import itertools
import json
import math
from collections import Counter, defaultdict
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from search_spaces.budget import Budget, log_budget
from search_spaces.distance import backprop_distance
from search_spaces.errors import InputError
from search_spaces.pattern import ConnectionPattern
from search_spaces.sampling.bounds import SMALLEST_WITHIN_2, bound_max, bound_sum, certify, connections_within_2
from search_spaces.sampling.kernels import batch_distances
from search_spaces.templates import TEMPLATES, find_template
from tests.support.patterns import every_pattern, patterns_of, random_pattern

SHORTEST_29 = Path(__file__).parents[3] / "docs" / "patterns" / "shortest-29.json"

# The fewest connections of MBD 2 on n = 1..16 nodes, proven by a solver elsewhere.
SIZES_WITHIN_2 = (0, 1, 2, 4, 6, 8, 10, 13, 16, 19, 22, 25, 28, 31, 34, 38)


def n_pairs(depth: int) -> int:
    return depth * (depth + 1) // 2


def sums_and_maxima(patterns: list[ConnectionPattern]) -> list[tuple[int, int]]:
    """Of each pattern, the sum of BD over all pairs and its maximum."""
    batch = batch_distances(patterns)
    sums = np.rint(batch.mean * n_pairs(patterns[0].depth)).astype(int)
    return list(zip(sums.tolist(), batch.max.tolist(), strict=True))


# --- exhaustive --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("depth", [5, 6, 7])
def test_no_pattern_of_the_log_budget_beats_a_bound(depth: int) -> None:
    budget = log_budget(depth)
    found = sums_and_maxima(patterns_of(log_budget(depth)))
    assert min(total for total, _ in found) == bound_sum(budget)  # at these depths some pattern meets both
    assert min(largest for _, largest in found) == bound_max(budget)


def test_a_pattern_of_29_layers_meets_the_bound() -> None:
    content = json.loads(SHORTEST_29.read_text(encoding="utf-8"))
    pattern = ConnectionPattern.from_sources(content["sources"])
    assert pattern.in_degrees == tuple(math.floor(math.log2(layer)) + 1 for layer in range(1, 30))
    inputs = [{node} | set(pattern.sources[node - 1]) if node else {0} for node in range(30)]
    for layer in range(1, 30):  # all nodes below are inputs or inputs of inputs
        assert set().union(*(inputs[node] for node in pattern.sources[layer - 1])) == set(range(layer))
    assert certify(pattern, log_budget(29)).status == "optimal"


@pytest.mark.parametrize(("depth", "n_patterns", "n_optimal"), [(5, 36, 33), (6, 360, 245), (7, 5_400, 1_931)])
def test_optimal_certificates_of_the_log_budget_are_as_many_as_known(
    depth: int, n_patterns: int, n_optimal: int
) -> None:
    patterns = patterns_of(log_budget(depth))
    certificates = [certify(pattern, log_budget(depth)) for pattern in patterns]
    assert len(certificates) == n_patterns
    assert Counter(certificate.status for certificate in certificates)["optimal"] == n_optimal
    best = min(total for total, _ in sums_and_maxima(patterns))
    for certificate, (total, _) in zip(certificates, sums_and_maxima(patterns), strict=True):
        assert (certificate.status == "optimal") == (total == best) == (certificate.gap == 0)
        assert certificate.bound * n_pairs(depth) == pytest.approx(best)


@pytest.mark.parametrize("depth", [1, 2, 3, 4, 5])
def test_no_pattern_of_a_total_budget_beats_a_bound(depth: int) -> None:
    patterns = list(every_pattern(depth))
    least: defaultdict[int, list[tuple[int, int]]] = defaultdict(list)
    for pattern, found in zip(patterns, sums_and_maxima(patterns), strict=True):
        least[pattern.n_connections].append(found)
    assert sorted(least) == list(range(depth, n_pairs(depth) + 1))
    for total, of_total in least.items():
        budget = Budget(depth, total=total)
        assert bound_sum(budget) <= min(hops for hops, _ in of_total)
        assert bound_max(budget) <= min(largest for _, largest in of_total)


@pytest.mark.parametrize("depth", [3, 4, 5])
def test_no_pattern_under_caps_beats_a_bound(depth: int) -> None:
    patterns = list(every_pattern(depth))
    least: dict[tuple[int, int, int], tuple[int, int]] = {}
    least_by_layer: dict[tuple[tuple[int, ...], int], tuple[int, int]] = {}
    for pattern, (hops, largest) in zip(patterns, sums_and_maxima(patterns), strict=True):
        max_in, max_out = max(pattern.in_degrees), max(pattern.out_degrees)
        for cap in range(max_in, depth + 1):
            key = (pattern.n_connections, cap, max_out)
            old = least.get(key, (10**9, 10**9))
            least[key] = (min(old[0], hops), min(old[1], largest))
        by_layer = (pattern.in_degrees, max_out)
        old = least_by_layer.get(by_layer, (10**9, 10**9))
        least_by_layer[by_layer] = (min(old[0], hops), min(old[1], largest))
    for (total, max_in, max_out), (hops, largest) in least.items():
        for budget in (Budget(depth, total, None, max_in, max_out), Budget(depth, total, None, max_in)):
            assert bound_sum(budget) <= hops
            assert bound_max(budget) <= largest
    for (degrees, max_out), (hops, largest) in least_by_layer.items():
        budget = Budget(depth, per_layer=degrees, max_out=max_out)
        assert bound_sum(budget) <= hops
        assert bound_max(budget) <= largest


def test_a_cap_on_inputs_sharpens_the_bound_of_a_total() -> None:
    free, capped = Budget(60, total=119), Budget(60, total=119, max_in=2)
    assert bound_sum(capped) > bound_sum(free)
    assert bound_max(capped) > bound_max(free)


@pytest.fixture(scope="module")
def six_layers() -> tuple[list[ConnectionPattern], list[tuple[int, int]]]:
    patterns = list(every_pattern(6))
    return patterns, sums_and_maxima(patterns)


def test_every_pattern_of_six_layers_keeps_the_bounds_of_its_total(
    six_layers: tuple[list[ConnectionPattern], list[tuple[int, int]]],
) -> None:
    patterns, found = six_layers
    assert len(patterns) == 2**15
    bounds = {total: (bound_sum(b), bound_max(b)) for total in range(6, 22) for b in [Budget(6, total=total)]}
    for pattern, (hops, largest) in zip(patterns, found, strict=True):
        least_sum, least_max = bounds[pattern.n_connections]
        assert least_sum <= hops
        assert least_max <= largest


def test_two_of_the_patterns_of_ten_connections_over_six_layers_are_certified() -> None:
    ten = patterns_of(Budget(6, total=10))
    assert len(ten) == 1_365
    assert sum(certify(pattern, Budget(6, total=10)).status == "optimal" for pattern in ten) == 2


# --- connections within 2 hops -----------------------------------------------------------------------------------


def fewest_within_2_by_kernel(depth: int, found: list[tuple[int, int]], patterns: list[ConnectionPattern]) -> int:
    assert len(patterns) == 2 ** (depth * (depth - 1) // 2)
    return min(pattern.n_connections for pattern, (_, hops) in zip(patterns, found, strict=True) if hops <= 2)


def fewest_within_2_by_bits(n_nodes: int) -> int:
    """All sets of skips at once, one bit a skip: a pair is within 2 hops if connected, or through one node between."""
    skips = [(i, j) for i in range(n_nodes) for j in range(i - 1)]
    sets = np.arange(2 ** len(skips), dtype=np.uint32)

    def connected(i: int, j: int) -> NDArray[np.bool_]:
        if i - j == 1:
            return np.ones(len(sets), np.bool_)
        return (sets >> np.uint32(skips.index((i, j))) & np.uint32(1)).astype(np.bool_)

    within = np.ones(len(sets), np.bool_)
    for i, j in skips:
        near = connected(i, j)
        for middle in range(j + 1, i):
            near |= connected(i, middle) & connected(middle, j)
        within &= near
    return n_nodes - 1 + min(int(chosen).bit_count() for chosen in sets[within])


@pytest.mark.parametrize("n_nodes", [2, 3, 4, 5, 6])
def test_the_fewest_connections_within_2_hops_are_those_of_all_patterns(n_nodes: int) -> None:
    patterns = list(every_pattern(n_nodes - 1))
    fewest = fewest_within_2_by_kernel(n_nodes - 1, sums_and_maxima(patterns), patterns)
    assert SMALLEST_WITHIN_2[n_nodes - 1] == fewest == fewest_within_2_by_bits(n_nodes)


def test_the_fewest_connections_within_2_hops_on_seven_nodes(
    six_layers: tuple[list[ConnectionPattern], list[tuple[int, int]]],
) -> None:
    patterns, found = six_layers
    fewest = fewest_within_2_by_kernel(6, found, patterns)
    assert SMALLEST_WITHIN_2[6] == fewest == fewest_within_2_by_bits(7) == 10


@pytest.mark.slow
def test_the_fewest_connections_within_2_hops_on_eight_nodes() -> None:
    assert SMALLEST_WITHIN_2[7] == fewest_within_2_by_bits(8) == 13


def test_the_table_of_fewest_connections_is_the_known_one() -> None:
    assert SIZES_WITHIN_2[: len(SMALLEST_WITHIN_2)] == SMALLEST_WITHIN_2
    assert [connections_within_2(n) for n in range(1, 9)] == list(SMALLEST_WITHIN_2)


def test_the_bound_on_connections_never_exceeds_what_a_pattern_of_mbd_2_has() -> None:
    for n, size in enumerate(SIZES_WITHIN_2, start=1):
        assert connections_within_2(n) <= size
    for n in range(2, 201):
        midpoint = find_template("midpoint").build(n - 1)
        assert midpoint.n_connections == sum(math.floor(math.log2(i)) for i in range(1, n + 1))
        assert connections_within_2(n - 1) < connections_within_2(n) <= midpoint.n_connections


def test_the_bound_on_connections_is_no_worse_than_the_best_of_all_cuts() -> None:
    least = list(SMALLEST_WITHIN_2)
    for n in range(9, 201):
        least.append(max(least[m - 1] + least[n - m - 1] + min(m, n - m) for m in range(1, n)))
        assert connections_within_2(n) == least[-1]


# --- second computations -----------------------------------------------------------------------------------------


def reaches(degrees: tuple[int, ...]) -> list[list[int]]:
    """M_k(i) for k = 0, 1, ..., from its definition, until all is reached."""
    depth = len(degrees)
    table = [[0] * (depth + 1)]
    while any(table[-1][i] < i for i in range(depth + 1)):
        last = table[-1]
        table.append([0])
        for i in range(1, depth + 1):
            others = heapq.nlargest(degrees[i - 1] - 1, last[: i - 1])
            table[-1].append(min(i, degrees[i - 1] + last[i - 1] + sum(others)))
    return table


def least_sum_by_definition(depth: int, n_connections: int, degrees: tuple[int, ...]) -> int:
    by_count = 2 * n_pairs(depth) - n_connections + max(0, connections_within_2(depth + 1) - n_connections)
    return max(by_count, sum(i - m for row in reaches(degrees) for i, m in enumerate(row)))


PER_LAYER = [
    *(log_budget(depth) for depth in (1, 2, 3, 5, 8, 12, 24, 30, 31, 52, 100)),
    *(Budget(depth, per_layer=random_pattern(depth, seed).in_degrees) for depth in (9, 24, 40) for seed in range(4)),
    Budget(20, per_layer=(1,) * 20),
    Budget(20, per_layer=tuple(min(i, 2) for i in range(1, 21))),
    Budget(20, per_layer=tuple(1 + (i > 3) for i in range(20))),
]


@pytest.mark.parametrize("budget", PER_LAYER, ids=lambda b: f"{b.depth}-{b.n_connections}")
def test_bounds_of_budgets_by_layer_equal_their_definition(budget: Budget) -> None:
    assert budget.per_layer is not None
    assert bound_sum(budget) == least_sum_by_definition(budget.depth, budget.n_connections, budget.per_layer)
    n_reaches = len(reaches(budget.per_layer)) - 1
    by_count = 2 if budget.n_connections >= connections_within_2(budget.depth + 1) else 3
    dense = budget.n_connections == n_pairs(budget.depth)
    assert bound_max(budget) == (1 if dense else max(n_reaches, by_count))


@pytest.mark.parametrize("max_in", [1, 2, 3, 5, 12])
@pytest.mark.parametrize("depth", [2, 6, 12, 33])
def test_bounds_of_totals_under_a_cap_on_inputs_equal_their_definition(depth: int, max_in: int) -> None:
    degrees = tuple(min(i, max_in) for i in range(1, depth + 1))
    for total in {depth, (depth + sum(degrees)) // 2, sum(degrees)}:
        budget = Budget(depth, total=total, max_in=max_in)
        assert bound_sum(budget) == least_sum_by_definition(depth, total, degrees)


@pytest.mark.parametrize(("depth", "mean"), [(12, 1.5256), (24, 1.6867)])
def test_bounds_of_the_log_budget_are_the_known_ones(depth: int, mean: float) -> None:
    assert bound_sum(log_budget(depth)) / n_pairs(depth) == pytest.approx(mean, abs=5e-5)
    assert bound_max(log_budget(depth)) == 2


def test_the_log_budget_allows_mbd_2_up_to_30_layers_only() -> None:
    assert [bound_max(log_budget(depth)) for depth in range(1, 3)] == [1, 1]
    assert {bound_max(log_budget(depth)) for depth in range(3, 31)} == {2}
    assert {bound_max(log_budget(depth)) for depth in range(31, 80)} == {3}


def test_no_bound_is_below_the_universal_one_or_above_a_pattern_of_the_budget() -> None:
    for depth in (1, 2, 7, 12, 24, 52):
        patterns = [template.build(depth) for template in TEMPLATES.values()]
        for pattern in [*patterns, *(random_pattern(depth, seed) for seed in range(6))]:
            distance = backprop_distance(pattern)
            hops = sum(k * n for k, n in enumerate(distance.histogram))
            for budget in (
                Budget(depth, total=pattern.n_connections),
                Budget(depth, per_layer=pattern.in_degrees),
                Budget(depth, pattern.n_connections, None, max(pattern.in_degrees), max(pattern.out_degrees)),
            ):
                least = bound_sum(budget)
                assert 2 * n_pairs(depth) - pattern.n_connections <= least <= hops
                assert bound_max(budget) <= distance.max
                if distance.max <= 2:
                    assert least == hops


def test_a_budget_by_layer_is_bounded_at_least_as_its_total_is() -> None:
    for budget in PER_LAYER:
        assert bound_sum(budget) >= bound_sum(Budget(budget.depth, total=budget.n_connections))


# --- certificates ------------------------------------------------------------------------------------------------


def test_a_certificate_says_what_distance_and_bound_say() -> None:
    statuses = set()
    for depth in (1, 3, 6, 12, 24, 40):
        for pattern in [*(t.build(depth) for t in TEMPLATES.values()), *(random_pattern(depth, s) for s in range(4))]:
            for budget in (Budget(depth, total=pattern.n_connections), Budget(depth, per_layer=pattern.in_degrees)):
                found = certify(pattern, budget)
                statuses.add(found.status)
                mean = Fraction(sum(k * n for k, n in enumerate(backprop_distance(pattern).histogram)), n_pairs(depth))
                bound = Fraction(bound_sum(budget), n_pairs(depth))
                assert found.bound == pytest.approx(float(bound), rel=1e-12)
                assert found.gap == pytest.approx(float((mean - bound) / bound), rel=1e-12, abs=0)
                if mean == bound:
                    assert found.status == "optimal"
                elif backprop_distance(pattern).max == bound_max(budget):
                    assert found.status == "max-optimal"
                else:
                    assert found.status == "bounded"
    assert statuses == {"optimal", "max-optimal", "bounded"}


@pytest.mark.parametrize(
    "budget",
    [
        Budget(6, total=12),
        Budget(7, total=14),
        Budget(6, per_layer=(1, 2, 2, 2, 3, 3)),
        Budget(6, total=13, max_in=3),
        Budget(6, total=13, max_out=3),
    ],
    ids=["fewer", "other depth", "other degrees", "more inputs", "more readers"],
)
def test_nothing_is_certified_of_a_pattern_of_another_budget(budget: Budget) -> None:
    pattern = ConnectionPattern(6, ((0,), (0, 1), (0, 1, 2), (0, 3), (4,), (1, 3, 4, 5)))
    assert pattern.n_connections == 13
    certify(pattern, Budget(6, total=13))
    with pytest.raises(InputError, match="no claim"):
        certify(pattern, budget)


def test_a_reversed_pattern_has_the_same_certificate_at_its_total() -> None:
    for depth, seed in itertools.product((6, 12, 24), range(3)):
        pattern = random_pattern(depth, seed)
        turned = ConnectionPattern.from_connections(depth, [(depth - t, depth - s) for s, t in pattern.connections])
        budget = Budget(depth, total=pattern.n_connections)
        assert certify(turned, budget) == certify(pattern, budget)
