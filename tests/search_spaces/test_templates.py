"""Templates: known sizes and distances, every rule against a second definition, names and their errors."""

import itertools
import math
import re
from collections.abc import Callable
from fractions import Fraction

import pytest

from search_spaces.budget import Budget, log_budget, log_in_degree
from search_spaces.distance import backprop_distance
from search_spaces.errors import InputError
from search_spaces.templates import TEMPLATES, build_named, find_template

# template, depth, connections, maximum and mean BD, decimals of the mean that are known
KNOWN = [
    ("chain", 12, 12, 12, 4.667, 3),
    ("dense", 12, 78, 1, 1.000, 3),
    ("log", 12, 37, 3, 1.6282, 4),
    ("nearest_log_i", 12, 37, 4, 1.769, 3),
    ("nearest_log_L", 12, 42, 3, 1.590, 3),
    ("evenly_log_L", 12, 42, 3, 1.500, 3),
    ("nearest_half", 12, 42, 4, 1.718, 3),
    ("odd_even", 12, 42, 2, 1.462, 3),
    ("half_and_log", 12, 60, 2, 1.231, 3),
    ("nearest_4", 12, 42, 3, 1.590, 3),
    ("harmonic", 12, 22, 5, 2.179, 3),
    ("mini_dense", 12, 25, 5, 2.282, 3),
    ("loglog", 12, 30, 3, 1.769, 3),
    ("midpoint", 12, 28, 2, 1.641, 3),
    ("evenly_log_i", 12, 37, 3, 1.58, 2),
    ("log", 24, 94, 4, 1.9933, 4),
    ("nearest_log_i", 24, 94, 7, 2.497, 3),
    ("harmonic", 24, 46, 7, 2.913, 3),
    ("midpoint", 24, 74, 2, 1.753, 3),
    ("greedy", 12, 37, 3, 1.538, 3),
    ("greedy", 24, 94, 3, 1.717, 3),
    ("annealed", 12, 37, 2, 1.5256, 4),
    ("shortest_walk", 24, 94, 20, 5.69, 2),
]


@pytest.mark.parametrize(("name", "depth", "n_connections", "max_bd", "mean_bd", "decimals"), KNOWN)
def test_sizes_and_distances_are_as_known(
    name: str, depth: int, n_connections: int, max_bd: int, mean_bd: float, decimals: int
) -> None:
    pattern = find_template(name).build(depth)
    distance = backprop_distance(pattern)
    assert (pattern.n_connections, distance.max) == (n_connections, max_bd)
    assert round(distance.mean, decimals) == mean_bd


def test_every_template_has_known_values() -> None:
    assert {name for name, *_ in KNOWN} == set(TEMPLATES)


# Each rule once more, as a question about one pair: does layer i of depth layers read node j?


def reads_evenly(j: int, i: int, m: int) -> bool:
    return j in {i - 1 - math.floor(k * Fraction(i, m)) for k in range(m)}


def reads_half_and_log(j: int, i: int) -> bool:
    # p -> (p - 1) // 2 is the step to the parent in a binary heap: numbered from 1, a shift to the right.
    start = i // 2
    return j >= start or j + 1 in {(start + 1) >> k for k in range(1, 10)}


def reads_midpoint(j: int, i: int, first: int, last: int) -> bool:
    hub = (first + last) // 2
    if i < hub:
        return reads_midpoint(j, i, first, hub - 1)
    if j > hub:
        return reads_midpoint(j, i, hub + 1, last)
    return hub in (i, j)


def reads_mini_dense(j: int, i: int, first: int, last: int) -> bool:
    if i - j <= 2:
        return True
    n_lower = (last - first + 1) // 2  # of an odd number of nodes, the upper half has one more
    if i == last:
        return j == first + n_lower - 1 and i - j > 2
    half = (first, first + n_lower - 1) if i < first + n_lower else (first + n_lower, last)
    return reads_mini_dense(j, i, *half)


def reads_loglog(j: int, i: int, first: int, last: int) -> bool:
    length = last - first + 1
    if i - j == 1 or length <= 2:
        return i - j == 1
    step = math.floor(math.sqrt(length))
    keys = [key for key in range(first, last + 1) if key == first or (last - key) % step == 0]
    below = max(key for key in keys if key < i)
    above = min(key for key in keys if key >= i)
    if j in keys and (i in keys or j == below):
        return True
    return j >= below and reads_loglog(j, i, below, above)


def floor_log2(number: int) -> int:
    return math.floor(math.log2(number))


READS: dict[str, Callable[[int, int, int], bool]] = {
    "chain": lambda j, i, _: i - j == 1,
    "dense": lambda _j, _i, _: True,
    "log": lambda j, i, _: (i - j).bit_count() == 1,
    "nearest_log_i": lambda j, i, _: i - j <= floor_log2(i) + 1,
    "nearest_log_L": lambda j, i, depth: i - j <= floor_log2(depth + 1) + 1,
    "nearest_4": lambda j, i, _: i - j <= 4,
    "nearest_half": lambda j, i, _: 2 * (i - j) <= i + 1,
    "evenly_log_i": lambda j, i, _: reads_evenly(j, i, floor_log2(i) + 1),
    "evenly_log_L": lambda j, i, depth: reads_evenly(j, i, floor_log2(depth + 1) + 1),
    "odd_even": lambda j, i, _: (i + j) % 2 == 1,
    "half_and_log": lambda j, i, _: reads_half_and_log(j, i),
    "mini_dense": lambda j, i, depth: reads_mini_dense(j, i, 0, depth),
    "loglog": lambda j, i, depth: reads_loglog(j, i, 0, depth),
    "harmonic": lambda j, i, _: (i - j).bit_count() == 1 and i % (i - j) == 0,
    "midpoint": lambda j, i, depth: reads_midpoint(j, i, 0, depth),
}


@pytest.mark.parametrize("name", READS)
def test_every_depth_gives_the_pattern_of_the_rule(name: str) -> None:
    for depth in range(1, 41):
        pattern = TEMPLATES[name].build(depth)
        assert pattern.depth == depth
        assert pattern.sources == tuple(
            tuple(j for j in range(i) if READS[name](j, i, depth)) for i in range(1, depth + 1)
        )


@pytest.mark.parametrize("name", READS)
def test_the_transition_reads_what_the_next_layer_would(name: str) -> None:
    for depth in range(1, 41):
        # Where the number of inputs follows L, it is the block's that counts.
        n_layers = depth if name.endswith("_log_L") else depth + 1
        expected = tuple(j for j in range(depth + 1) if READS[name](j, depth + 1, n_layers))
        assert TEMPLATES[name].inputs_after(depth) == expected


@pytest.mark.parametrize("depth", range(1, 41))
def test_after_log_the_layers_at_powers_of_two_from_the_end_are_read(depth: int) -> None:
    expected = [depth + 1 - 2**k for k in range(10) if 2**k <= depth + 1]
    assert find_template("log").inputs_after(depth) == tuple(sorted(expected))


def test_mini_dense_by_hand() -> None:
    """Nine nodes 0..8: the parts [0, 9), [4, 9), [6, 9), ... end with 8, of which [0, 9) is the largest: 4 - 1 = 3.

    Layer 3 ends [0, 4), whose middle 2 is only one layer before; no other part is large enough.
    """
    chain_and_skip = ((0,), (0, 1), (1, 2), (2, 3), (3, 4), (4, 5), (5, 6))
    assert find_template("mini_dense").build(8).sources == (*chain_and_skip, (3, 6, 7))
    # Seventeen nodes: [0, 8) ends with 7, middle 4; [8, 17) ends with 16 as all do.
    assert [i for i, d in enumerate(find_template("mini_dense").build(16).in_degrees, start=1) if d == 3] == [7, 16]


def test_midpoint_has_the_minimal_sizes() -> None:
    minimal = [0, 1, 2, 4, 6, 8, 10, 13, 16, 19, 22, 25, 28, 31, 34, 38]  # by n = L + 1 nodes, from n = 1
    assert [find_template("midpoint").build(depth).n_connections for depth in range(1, 16)] == minimal[1:]


@pytest.mark.parametrize("depth", [*range(1, 34), 52, 100])
def test_midpoint_has_its_size_by_formula_and_no_distance_above_two(depth: int) -> None:
    pattern = find_template("midpoint").build(depth)
    assert pattern.n_connections == sum(floor_log2(i) for i in range(1, depth + 2))
    distance = backprop_distance(pattern)
    assert distance.max == min(depth, 2)
    n_pairs = depth * (depth + 1) // 2
    assert distance.mean == pytest.approx(2 - pattern.n_connections / n_pairs, rel=1e-12)


@pytest.mark.parametrize("name", ["nearest_log_i", "evenly_log_i"])
def test_templates_of_the_log_budget_give_every_layer_its_in_degree(name: str) -> None:
    assert find_template(name).build(52).in_degrees == find_template("log").build(52).in_degrees


def test_log_in_degree_is_one_more_than_the_whole_part_of_the_logarithm() -> None:
    assert [log_in_degree(i) for i in range(1, 300)] == [floor_log2(i) + 1 for i in range(1, 300)]


def reads_log_base(depth: int, base: tuple[int, int], coefficient: tuple[int, int]) -> tuple[tuple[int, ...], ...]:
    """{i - 1 - floor((b^k - 1) / c)} while b^k <= L c, in whole numbers: b = p / q, c = r / s."""
    (p, q), (r, s) = base, coefficient
    gaps = {
        1 + s * (p**k - q**k) // (q**k * r)
        for k in itertools.takewhile(lambda k: p**k * s <= depth * r * q**k, itertools.count())
    }
    return tuple(tuple(j for j in range(i) if i - j in gaps or i - j == 1) for i in range(1, depth + 1))


@pytest.mark.parametrize(
    ("name", "base", "coefficient"),
    [
        ("log:b=2,c=1", (2, 1), (1, 1)),
        ("log:b=2", (2, 1), (1, 1)),
        ("log:b=4,c=1", (4, 1), (1, 1)),
        ("log:c=2", (2, 1), (2, 1)),
        ("log:c=4,b=2", (2, 1), (4, 1)),
        ("log: b = 3 , c = 2", (3, 1), (2, 1)),
        ("log:b=1.5,c=0.5", (3, 2), (1, 2)),
        ("log:b=5/4,c=1/3", (5, 4), (1, 3)),
        ("log:b=1.1,c=0.001", (11, 10), (1, 1000)),
        ("log:b=1.01,c=10", (101, 100), (10, 1)),
    ],
)
def test_log_with_base_and_coefficient_follows_its_rule(
    name: str, base: tuple[int, int], coefficient: tuple[int, int]
) -> None:
    template = find_template(name)
    assert template.name == name
    for depth in (1, 2, 5, 12, 24, 40):
        assert template.build(depth).sources == reads_log_base(depth, base, coefficient)


def test_log_with_base_two_is_log() -> None:
    for depth in range(1, 41):
        assert find_template("log:b=2,c=1").build(depth) == find_template("log").build(depth)


@pytest.mark.parametrize(
    "name",
    [
        "log:",
        "log:b",
        "log:2",
        "log:b=",
        "log:b=two",
        "log:b=2,",
        "log:b=2;c=1",
        "log:b=1/0",
        "log:b=nan",
        "log:c=inf",
        "log:d=2",
        "log:b=2,c=1,d=3",
        "log:b=2,b=3",
        "log:b=1",
        "log:b=1.009",
        "log:b=-2",
        "log:c=0",
        "log:c=-1",
        "log:c=1e99999999",
        "log:b=1.01,c=1e30",
        "log:c=99999",
    ],
)
def test_a_bad_base_or_coefficient_is_refused_with_the_form(name: str) -> None:
    with pytest.raises(InputError, match=re.escape(repr(name))):
        find_template(name)


def averaged_blocks(depth: int, dilation: int, period: int) -> list[list[int]]:
    """What blocks 1, 2, ... read, as the authors' code keeps it: one list of outputs for each residue of k."""
    kept: list[list[int]] = [[0], *([] for _ in range(dilation - 1))]
    reads = [[0]]
    for block in range(1, depth + 1):
        kept[block % dilation].append(block)
        reads.append(list(kept[block % dilation]) if block % period == 0 else [block])
    return reads


@pytest.mark.parametrize("dilation", [1, 2, 4, 9])
@pytest.mark.parametrize("period", [1, 3, 5, 9])
def test_denseformer_averages_every_kth_block_after_every_pth(dilation: int, period: int) -> None:
    template = find_template(f"denseformer:k={dilation},p={period}")
    for depth in range(1, 30):
        reads = tuple(map(tuple, averaged_blocks(depth, dilation, period)))
        assert template.build(depth).sources == reads[:-1]
        assert template.inputs_after(depth) == reads[-1]


def test_denseformer_with_a_period_of_five_by_hand() -> None:
    sources = find_template("denseformer:p=5,k=4").build(12).sources
    assert {layer: inputs for layer, inputs in enumerate(sources, start=1) if len(inputs) > 1} == {
        6: (1, 5),
        11: (2, 6, 10),
    }


def test_denseformer_without_dilation_and_period_is_dense() -> None:
    for name in ("denseformer:k=1,p=1", "denseformer:k=1", "denseformer:p=1"):
        assert find_template(name).build(12) == find_template("dense").build(12)


@pytest.mark.parametrize(
    "name",
    [
        "denseformer:",
        "denseformer:4",
        "denseformer:k=0",
        "denseformer:k=4,p=0",
        "denseformer:k=-1",
        "denseformer:k=1.5",
        "denseformer:k=2,k=3",
        "denseformer:k=2,q=3",
        "denseformer:k=2,",
        "denseformer:p=99999",
    ],
)
def test_a_bad_dilation_or_period_is_refused_with_the_form(name: str) -> None:
    with pytest.raises(InputError, match=re.escape(repr(name))):
        find_template(name)


@pytest.mark.parametrize("name", ["", "LOG", "logs", "denseformer", "nearest", "random:3", " log"])
def test_an_unknown_name_is_refused_with_the_names_there_are(name: str) -> None:
    with pytest.raises(InputError) as refusal:
        find_template(name)
    assert f"no template is named {name!r}" in str(refusal.value)
    for known in (*TEMPLATES, "log:b=B,c=C", "denseformer:k=K,p=P", "random:SEED"):
        assert known in str(refusal.value)


@pytest.mark.parametrize("name", [*READS, "log:b=3,c=2", "denseformer:k=2,p=3"])
@pytest.mark.parametrize("depth", [0, -3])
def test_no_template_has_a_pattern_of_no_layers(name: str, depth: int) -> None:
    with pytest.raises(InputError, match=f"depth is {depth}"):
        find_template(name).build(depth)


def test_names_lead_to_their_templates_and_each_has_an_origin() -> None:
    for name in TEMPLATES:
        template = find_template(name)
        assert template.name == name
        assert template.origin


@pytest.mark.parametrize("budget", [log_budget(24), Budget(24, total=60)], ids=str)
def test_random_names_spend_the_budget_and_differ_by_seed(budget: Budget) -> None:
    patterns = [build_named(f"random:{seed}", budget) for seed in range(20)]
    assert all(budget.is_met_by(pattern) for pattern in patterns)
    assert len(set(patterns)) == 20
    assert build_named("random:7", budget) == patterns[7]


def test_other_names_are_templates_at_the_depth_of_the_budget() -> None:
    for name in ("dense", "log:b=3,c=2", "denseformer:k=2,p=3"):
        assert build_named(name, Budget(9, total=12)) == find_template(name).build(9)


@pytest.mark.parametrize(
    ("name", "said"), [("random:", "as in random:7"), ("random:x", "'random:x'"), ("rand", "rand")]
)
def test_a_name_of_nothing_is_refused(name: str, said: str) -> None:
    with pytest.raises(InputError, match=said):
        build_named(name, log_budget(4))
