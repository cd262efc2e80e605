"""Patterns to test with, and their distances by computations of the tests' own."""

import itertools
from collections.abc import Iterator

import networkx as nx

from search_spaces.budget import Budget
from search_spaces.pattern import ConnectionPattern
from search_spaces.seeds import derive_generator
from search_spaces.wiring.blocks import GlobalDistance

Pairs = dict[tuple[int, int], int]  # (i, j) -> BD(i, j), i > j


def every_pattern(depth: int) -> Iterator[ConnectionPattern]:
    """Enumerate all 2^(L(L-1)/2) patterns of a depth: the chain with every subset of the skips."""
    chain = [(layer - 1, layer) for layer in range(1, depth + 1)]
    skips = [(source, target) for target in range(2, depth + 1) for source in range(target - 1)]
    for chosen in itertools.product((False, True), repeat=len(skips)):
        yield ConnectionPattern.from_connections(depth, chain + list(itertools.compress(skips, chosen)))


def patterns_of(budget: Budget) -> list[ConnectionPattern]:
    """Enumerate all patterns that meet a budget."""
    depth = budget.depth
    if budget.per_layer is None:
        chain = [(layer - 1, layer) for layer in range(1, depth + 1)]
        skips = [(source, target) for target in range(2, depth + 1) for source in range(target - 1)]
        choices = itertools.combinations(skips, budget.n_connections - depth)
        patterns = [ConnectionPattern.from_connections(depth, [*chain, *chosen]) for chosen in choices]
    else:
        others = (itertools.combinations(range(i), degree - 1) for i, degree in enumerate(budget.per_layer))
        layers = itertools.product(*others)
        patterns = [ConnectionPattern.from_sources((*inputs, i) for i, inputs in enumerate(each)) for each in layers]
    return [pattern for pattern in patterns if budget.is_met_by(pattern)]


def random_pattern(depth: int, seed: int) -> ConnectionPattern:
    """Draw a pattern that has each skip with one probability, which is drawn too."""
    generator = derive_generator("test_distance", depth, seed)
    share = generator.uniform(0, 0.5)
    is_kept = generator.random((depth + 1, depth + 1)) < share
    return ConnectionPattern.from_sources(
        (*(s for s in range(t - 1) if is_kept[t, s]), t - 1) for t in range(1, depth + 1)
    )


def by_layer_order(pattern: ConnectionPattern) -> Pairs:
    """Compute D[i] = 1 + elementwise minimum over the inputs u of D[u], D[i][i] = 0."""
    infinite = pattern.depth + 1
    rows = [[infinite] * (pattern.depth + 1) for _ in range(pattern.depth + 1)]
    rows[0][0] = 0
    for i, inputs in enumerate(pattern.sources, start=1):
        rows[i] = [1 + min(column) for column in zip(*(rows[u] for u in inputs), strict=True)]
        rows[i][i] = 0
    return {(i, j): rows[i][j] for i in range(1, pattern.depth + 1) for j in range(i)}


def measure_sums(pattern: ConnectionPattern) -> tuple[int, int, int, int]:
    """Return the four measures of annealing (sums of BD, span, BD from the output; most readers) by networkx."""
    rows = dict(nx.all_pairs_shortest_path_length(pattern.gradient_graph()))
    sum_bd = sum(rows[i][j] for i in range(1, pattern.depth + 1) for j in range(i))
    sum_span = sum(target - source for source, target in pattern.graph().edges)
    return sum_bd, sum_span, sum(rows[pattern.depth].values()), max(pattern.out_degrees)


def measure_means(pattern: ConnectionPattern) -> dict[str, float]:
    """Return mean BD, MBD, mean distance from the output, and span, by networkx."""
    hops = dict(nx.all_pairs_shortest_path_length(pattern.gradient_graph()))
    sum_bd, sum_span, from_output, _ = measure_sums(pattern)
    return {
        "mean_bd": sum_bd / (pattern.depth * (pattern.depth + 1) / 2),
        "max_bd": max(max(row.values()) for row in hops.values()),
        "from_output": from_output / pattern.depth,
        "span": sum_span / pattern.graph().number_of_edges(),
    }


def by_whole_graph(pattern: ConnectionPattern, n_blocks: int, read: tuple[int, ...]) -> GlobalDistance:
    """Measure one networkx graph of all blocks: node (b, 0) is the stem's output or that of the transition before b."""
    graph: nx.DiGraph[tuple[int, int]] = nx.DiGraph()
    for block in range(n_blocks):
        graph.add_edges_from(((block, target), (block, source)) for source, target in pattern.connections)
        graph.add_edges_from(((block + 1, 0), (block, node)) for node in read)
    classifier = (n_blocks, 0)
    rows = dict(nx.all_pairs_shortest_path_length(graph))
    nodes = sorted(set(graph) - {classifier})
    assert len(nodes) == n_blocks * (pattern.depth + 1)
    distances = [rows[late][early] for early, late in itertools.combinations(nodes, 2)]
    from_loss = [rows[classifier][node] for node in nodes]
    return GlobalDistance(sum(distances) / len(distances), max(distances), sum(from_loss) / len(from_loss))


def by_closed_formula(pattern: ConnectionPattern, n_blocks: int, read: tuple[int, ...]) -> GlobalDistance:
    """Compute BD((b,i),(a,j)) = BD(i,0) + sum over a < c < b of out(0) + out(j), pair by pair."""
    pairs = by_layer_order(pattern)
    hops = {**pairs, **{(i, i): 0 for i in range(pattern.depth + 1)}}

    def out(j: int) -> int:
        return 1 + min(hops[t, j] for t in read if t >= j)

    nodes = list(itertools.product(range(n_blocks), range(pattern.depth + 1)))
    distances = [
        hops[i, j] if a == b else hops[i, 0] + sum(out(0) for _ in range(a + 1, b)) + out(j)
        for (a, j), (b, i) in itertools.combinations(nodes, 2)
    ]
    from_loss = [sum(out(0) for _ in range(a + 1, n_blocks)) + out(j) for a, j in nodes]
    return GlobalDistance(sum(distances) / len(distances), max(distances), sum(from_loss) / len(from_loss))
